//! Requests to send again what was parked (`bellwether notify parked replay`). They are records of the parking topic themselves: a copy of what
//! was parked, with a header that says so. So they outlive whoever asked, and whoever has the partition takes them.
//!
//! # Invariants
//! - The position behind a request is a row of the notifier's memory, committed with what comes of it: each request is taken once.
//! - A look takes no more than so many requests and not much longer than so long; what is too much for a sink is parked again.
//! - A topic that was created anew, or lost records, is followed from its end: nothing is taken twice, and nothing stops.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bellwether_engine::log::{Log, LogError, Record, Topic};
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::OutputKind;

use super::rows::{self, REQUEST};
use crate::delivery::{Delivery, Parking, ROW_BYTES_MAX};
use crate::event::Alert;
use crate::planner::Planner;

/// Records read at once.
const PAGE: usize = 200;
/// Requests after which a look ends, so that what they ask for can go out before more is asked for.
const TAKEN_MAX: usize = 1_000;
/// For how long a look goes on.
const LOOK: Duration = Duration::from_secs(1);

/// Follows the parking topic.
#[derive(Debug)]
pub(super) struct Requests {
    topic: Topic,
    next: BTreeMap<i32, i64>,
    looked: Instant,
}

/// What a request needs.
pub(super) struct Desk<'a> {
    pub(super) planner: &'a mut Planner,
    pub(super) decoder: &'a mut Decoder,
    pub(super) unreadable: &'a mut Vec<(Record, String)>,
    pub(super) now_ms: i64,
}

impl Requests {
    pub(super) fn new(topic: Topic) -> Requests {
        Requests { topic, next: BTreeMap::new(), looked: Instant::now() }
    }

    pub(super) fn drop_all(&mut self) {
        self.next.clear();
    }

    pub(super) fn assign(&mut self, partition: i32, next: i64) {
        self.next.insert(partition, next);
    }

    pub(super) fn revoke(&mut self, partition: i32) {
        self.next.remove(&partition);
    }

    /// Takes what is new, where it is time.
    pub(super) fn follow(
        &mut self,
        log: &mut dyn Log,
        desk: &mut Desk<'_>,
        every: Duration,
    ) -> Result<(), LogError> {
        if self.looked.elapsed() < every {
            return Ok(());
        }
        self.looked = Instant::now();
        let mut taken = 0;
        for (partition, next) in &mut self.next {
            while page(log, &self.topic, (*partition, next), desk, &mut taken)? {
                if taken >= TAKEN_MAX || self.looked.elapsed() >= LOOK {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Takes a page of a partition. Returns whether there is more.
fn page(
    log: &mut dyn Log,
    topic: &Topic,
    (partition, next): (i32, &mut i64),
    desk: &mut Desk<'_>,
    taken: &mut usize,
) -> Result<bool, LogError> {
    let mut stuck = None;
    let read = log.follow(topic, partition, *next, PAGE, &mut |record| {
        if stuck.is_none() && is_request(&record) {
            let offset = record.offset;
            if take(record, desk) {
                *taken += 1;
                desk.planner.set_redriven(partition, offset + 1);
            } else {
                stuck = Some(offset);
            }
        }
        Ok(())
    })?;
    if read.next < *next {
        tracing::warn!(
            %topic, partition, position = *next, end = read.end,
            "the topic lost records or was created anew; requests to send again are taken from its end on"
        );
        desk.planner.set_redriven(partition, read.next);
    }
    // Where the registry is away it goes on from there the next time.
    *next = stuck.unwrap_or(read.next);
    Ok(stuck.is_none() && *next < read.end)
}

fn is_request(record: &Record) -> bool {
    record.headers.iter().any(|(name, _)| name == REQUEST)
}

/// Takes a request; false where the registry is away.
fn take(record: Record, desk: &mut Desk<'_>) -> bool {
    let reason = rows::text(&record.headers, "reason").and_then(|word| Parking::named(&word));
    let payload = record.payload.as_deref().unwrap_or_default();
    if reason == Some(Parking::Undecodable) {
        // An event that could not be read when it came: a newer version may.
        match desk.decoder.output_as::<Alert>(OutputKind::Alert, Some(payload)) {
            Ok(alert) => match alert.oversized_id() {
                None => desk.planner.alert(record.partition, &alert, desk.now_ms),
                Some(detail) => desk.unreadable.push((record, detail)),
            },
            Err(DecodeError::RegistryUnavailable(_)) => return false,
            Err(DecodeError::Reject(reject)) => desk.unreadable.push((record, reject.to_string())),
        }
        return true;
    }
    match serde_json::from_slice::<Delivery>(payload) {
        Ok(delivery) if payload.len() <= ROW_BYTES_MAX => {
            desk.planner.redrive(record.partition, reason, delivery, desk.now_ms);
        }
        Ok(_) => desk.unreadable.push((record, format!("it has over {ROW_BYTES_MAX} bytes"))),
        Err(error) => desk.unreadable.push((record, format!("it is no delivery: {error}"))),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Loaded;
    use bellwether_engine::embedded::{Embedded, Role};
    use bellwether_engine::log::Append;
    use bellwether_store::Shared;
    use bellwether_store::log_store::Retention;
    use std::sync::Arc;

    /// What a notifier without a partition of alerts has.
    struct Scene {
        log: Embedded,
        planner: Planner,
        requests: Requests,
        unreadable: Vec<(Record, String)>,
        _dir: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Scene {
            let dir = tempfile::tempdir().expect("a directory");
            let log = Embedded::open(dir.path(), &Shared::new(8 << 20), 1_000_000).expect("a log");
            for topic in ["alerts", "parked"] {
                log.create_topic(topic, 1, Retention::Forever).expect("a new topic");
            }
            let policy = Loaded::builtin();
            let mut planner = Planner::new(Arc::clone(policy.texts()), policy.version());
            planner.assign(0);
            let requests = Requests::new("parked".into());
            Scene { log, planner, requests, unreadable: Vec::new(), _dir: dir }
        }

        /// Appends records, requests or not. What they hold is no delivery, so that each request that is taken is unreadable.
        fn append(&self, count: usize, are_requests: bool) {
            let name = if are_requests { REQUEST } else { "bellwether.reason" };
            let record = Append {
                topic: "parked".into(),
                partition: 0,
                key: None,
                payload: Some(b"?".to_vec()),
                headers: vec![(name.to_owned(), b"0/0".to_vec())],
                timestamp_ms: None,
            };
            self.log.append(&vec![record; count], Duration::from_secs(60)).expect("room");
        }

        /// One look. Returns how many were taken so far.
        fn look(&mut self) -> usize {
            let mut log = self.log.consume_as(Role::Notifier, &["alerts".into()]).expect("a log");
            let mut decoder = Decoder::new(None, 1 << 20).expect("a decoder");
            let mut desk = Desk {
                planner: &mut self.planner,
                decoder: &mut decoder,
                unreadable: &mut self.unreadable,
                now_ms: 0,
            };
            self.requests.follow(&mut log, &mut desk, Duration::ZERO).expect("a look");
            self.unreadable.len()
        }
    }

    #[test]
    fn a_topic_that_was_created_anew_is_followed_from_its_end_and_the_row_says_so() {
        let mut scene = Scene::new();
        scene.planner.set_redriven(0, 50);
        scene.requests.assign(0, scene.planner.redriven_to(0));
        scene.append(1, true);
        assert_eq!(scene.look(), 0);
        assert_eq!(scene.planner.redriven_to(0), 1, "a start from here misses nothing");
        scene.append(1, true);
        assert_eq!(scene.look(), 1);
        assert_eq!(scene.planner.redriven_to(0), 2);
    }

    #[test]
    fn a_request_behind_pages_of_what_was_parked_is_found_at_once_and_few_enough_are_taken() {
        let mut scene = Scene::new();
        scene.requests.assign(0, 0);
        scene.append(2 * PAGE + 50, false);
        scene.append(1, true);
        assert_eq!(scene.look(), 1);
        scene.append(TAKEN_MAX + PAGE, true);
        let taken = scene.look();
        assert!(taken > PAGE && taken < TAKEN_MAX + PAGE, "{taken}");
    }
}
