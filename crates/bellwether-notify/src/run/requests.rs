//! Requests to send again what was parked (`bellwether notify parked replay`). They are records of the parking topic themselves: a copy of what
//! was parked, with a header that says so. So they outlive whoever asked, and whoever has the partition takes them.
//!
//! # Invariants
//! - The position behind a request is a row of the notifier's memory, committed with what comes of it: each request is taken once.
//! - A look takes no more than so many requests and not much longer than so long; what is too much for a sink is parked again.
//! - A topic that was created anew, or lost records, is followed from its end: nothing is taken twice, and nothing stops.
//! - What memory does not know of an alert is looked up in the alerts ([`super::since`]) before a request of it is taken: what is over is told
//!   nobody. Sending goes on meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bellwether_engine::log::{Log, LogError, Record, Topic};
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::OutputKind;

use super::rows::{self, REQUEST};
use super::since::{Lookup, Wanted};
use crate::delivery::{Delivery, Parking, ROW_BYTES_MAX};
use crate::event::Alert;
use crate::planner::{Planner, Since, is_whole_digest};

/// Records read at once.
const PAGE: usize = 200;
/// Bytes of requests held at once, about; the rest is read again.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// Requests after which a look ends, so that what they ask for can go out before more is asked for.
const TAKEN_MAX: usize = 1_000;
/// For how long a look goes on.
const LOOK: Duration = Duration::from_secs(1);

/// Follows the parking topic.
#[derive(Debug)]
pub(super) struct Requests {
    topic: Topic,
    alerts: Topic,
    next: BTreeMap<i32, i64>,
    looked: Instant,
    /// What has to be looked up before the next requests of a partition can be taken.
    lookup: Option<(i32, Lookup)>,
}

/// What a request needs.
pub(super) struct Desk<'a> {
    pub(super) planner: &'a mut Planner,
    pub(super) decoder: &'a mut Decoder,
    pub(super) unreadable: &'a mut Vec<(Record, String)>,
    pub(super) now_ms: i64,
}

/// What a page came to.
enum Page {
    /// There is more.
    More,
    /// There is no more for now.
    Done,
    /// First these have to be looked up.
    Doubtful(Wanted),
}

/// What is asked for.
enum Asked {
    /// An event that could not be read when it came, and now can.
    Event(Box<Alert>),
    /// A delivery, and why it was parked.
    Delivery(Option<Parking>, Box<Delivery>),
    /// What nobody can send.
    Unreadable(String),
    /// The registry is away.
    NotNow,
}

impl Requests {
    /// `alerts`: where alerts are looked up.
    pub(super) fn new(topic: Topic, alerts: Topic) -> Requests {
        Requests { topic, alerts, next: BTreeMap::new(), looked: Instant::now(), lookup: None }
    }

    pub(super) fn drop_all(&mut self) {
        self.next.clear();
        self.lookup = None;
    }

    pub(super) fn assign(&mut self, partition: i32, next: i64) {
        self.next.insert(partition, next);
    }

    pub(super) fn revoke(&mut self, partition: i32) {
        self.next.remove(&partition);
        self.lookup.take_if(|(of, _)| *of == partition);
    }

    /// Takes what is new, where it is time, or goes on with what is looked up.
    pub(super) fn follow(
        &mut self,
        log: &mut dyn Log,
        desk: &mut Desk<'_>,
        every: Duration,
    ) -> Result<(), LogError> {
        let waits = self.lookup.as_ref().is_none_or(|(_, lookup)| lookup.is_stalled());
        if waits && self.looked.elapsed() < every {
            return Ok(());
        }
        self.looked = Instant::now();
        let mut known = self.lookup.take();
        if let Some((_, lookup)) = &mut known
            && !lookup.read(log, desk.decoder, LOOK)?
        {
            self.lookup = known;
            return Ok(());
        }
        // What was looked up is taken before anything else happens.
        let first = known.as_ref().map(|(partition, _)| *partition);
        let others = self.next.keys().copied().filter(|partition| Some(*partition) != first);
        let partitions: Vec<i32> = first.into_iter().chain(others).collect();
        let mut taken = 0;
        for partition in partitions {
            let lookup = known.as_ref().filter(|(of, _)| *of == partition).map(|(_, of)| of);
            while let Some(next) = self.next.get_mut(&partition) {
                match page(log, &self.topic, (partition, next), desk, (lookup, &mut taken))? {
                    Page::More => {}
                    Page::Done => break,
                    Page::Doubtful(wanted) => {
                        let lookup =
                            Lookup::new(self.alerts.clone(), partition, log.partitions(), wanted);
                        self.lookup = Some((partition, lookup));
                        return Ok(());
                    }
                }
                if taken >= TAKEN_MAX || self.looked.elapsed() >= LOOK {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Takes a page of a partition, as far as it is known what became of its alerts.
fn page(
    log: &mut dyn Log,
    topic: &Topic,
    (partition, next): (i32, &mut i64),
    desk: &mut Desk<'_>,
    (lookup, taken): (Option<&Lookup>, &mut usize),
) -> Result<Page, LogError> {
    let (mut requests, mut bytes, mut rest) = (Vec::new(), 0, None);
    let read = log.follow(topic, partition, *next, PAGE, &mut |record| {
        if is_request(&record) && rest.is_none() {
            bytes += record.bytes();
            if bytes > PAGE_BYTES_MAX && !requests.is_empty() {
                rest = Some(record.offset);
            } else {
                requests.push(record);
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
    let (mut stuck, mut wanted) = (None, Wanted::default());
    for record in requests {
        let (offset, asked) = (record.offset, asked(&record, desk.decoder));
        let doubts = doubts(&asked, partition, desk.planner, lookup);
        doubts.iter().for_each(|(alert, is_anywhere)| wanted.add(alert, *is_anywhere));
        if matches!(asked, Asked::NotNow) || !doubts.is_empty() {
            stuck = stuck.or(Some(offset));
        }
        if stuck.is_none() {
            take(record, asked, desk, lookup);
            *taken += 1;
            desk.planner.set_redriven(partition, offset + 1);
        } else if wanted.is_empty() || wanted.is_full() {
            break;
        }
    }
    *next = stuck.or(rest).unwrap_or(read.next);
    Ok(if !wanted.is_empty() {
        Page::Doubtful(wanted)
    } else if stuck.is_none() && *next < read.end {
        Page::More
    } else {
        // Where the registry is away it goes on from there the next time.
        Page::Done
    })
}

fn is_request(record: &Record) -> bool {
    record.headers.iter().any(|(name, _)| name == REQUEST)
}

/// Reads a request.
fn asked(record: &Record, decoder: &mut Decoder) -> Asked {
    let reason = rows::text(&record.headers, "reason").and_then(|word| Parking::named(&word));
    let payload = record.payload.as_deref().unwrap_or_default();
    if reason == Some(Parking::Undecodable) {
        // A newer version may read it.
        return match decoder.output_as::<Alert>(OutputKind::Alert, Some(payload)) {
            Ok(alert) => {
                let oversized = alert.oversized_id();
                oversized.map_or_else(|| Asked::Event(Box::new(alert)), Asked::Unreadable)
            }
            Err(DecodeError::RegistryUnavailable(_)) => Asked::NotNow,
            Err(DecodeError::Reject(reject)) => Asked::Unreadable(reject.to_string()),
        };
    }
    match serde_json::from_slice::<Delivery>(payload) {
        Ok(delivery) if payload.len() <= ROW_BYTES_MAX => {
            Asked::Delivery(reason, Box::new(delivery))
        }
        Ok(_) => Asked::Unreadable(format!("it has over {ROW_BYTES_MAX} bytes")),
        Err(error) => Asked::Unreadable(format!("it is no delivery: {error}")),
    }
}

/// The events of which it is not known what became of their alerts, and whether those may be of any partition.
fn doubts<'a>(
    asked: &'a Asked,
    partition: i32,
    planner: &Planner,
    lookup: Option<&Lookup>,
) -> Vec<(&'a Alert, bool)> {
    let (alerts, is_anywhere) = match asked {
        Asked::Event(alert) => (vec![alert.as_ref()], false),
        Asked::Delivery(reason, delivery) => {
            let doubtful = planner.doubtful(partition, *reason, delivery);
            (doubtful, is_whole_digest(*reason, delivery))
        }
        Asked::Unreadable(_) | Asked::NotNow => (Vec::new(), false),
    };
    let unknown = |alert: &&Alert| lookup.is_none_or(|lookup| !lookup.holds(alert));
    alerts.into_iter().filter(unknown).map(|alert| (alert, is_anywhere)).collect()
}

/// Takes a request of which is known what became of its alerts. What nobody can send is parked again.
fn take(record: Record, asked: Asked, desk: &mut Desk<'_>, lookup: Option<&Lookup>) {
    let since = |alert: &Alert| lookup.map_or_else(Since::default, |lookup| lookup.since(alert));
    match asked {
        Asked::Event(alert) => {
            desk.planner.redrive_event(record.partition, &alert, &since, desk.now_ms);
        }
        Asked::Delivery(reason, delivery) => {
            desk.planner.redrive(record.partition, reason, *delivery, &since, desk.now_ms);
        }
        Asked::Unreadable(detail) => {
            tracing::warn!(
                partition = record.partition,
                offset = record.offset,
                detail,
                "what was to be sent again cannot be read and is parked again"
            );
            desk.unreadable.push((record, detail));
        }
        Asked::NotNow => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::Suppressed;
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
            let requests = Requests::new("parked".into(), "alerts".into());
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
    /// An event of an alert, into a topic.
    fn event(scene: &Scene, topic: &str, alert: &Alert, headers: &[(&str, &str)]) {
        let headers = headers.iter();
        let headers = headers.map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        let record = Append {
            topic: topic.into(),
            partition: 0,
            key: Some(alert.account_id.as_bytes().to_vec()),
            payload: serde_json::to_vec(alert).ok(),
            headers: headers.collect(),
            timestamp_ms: None,
        };
        scene.log.append(&[record], Duration::from_secs(60)).expect("room");
    }

    #[test]
    fn an_event_that_can_be_read_by_now_is_told_nobody_where_its_alert_is_over() {
        let mut scene = Scene::new();
        scene.requests.assign(0, 0);
        let (sample, _) = crate::event::sample(bellwether_core::time::Millis(0));
        let of = |alert: &str, transition: &str| Alert {
            id: format!("{alert}-{transition}"),
            alert_id: alert.to_owned(),
            transition: transition.to_owned(),
            ..sample.clone()
        };
        for alert in [of("over", "opened"), of("open", "opened"), of("over", "resolved")] {
            event(&scene, "alerts", &alert, &[]);
        }
        let asked = [("bellwether.reason", "undecodable"), (REQUEST, "0/0")];
        for alert in ["over", "open"] {
            event(&scene, "parked", &of(alert, "opened"), &asked);
        }
        scene.look();
        assert_eq!(scene.planner.redriven_to(0), 0, "the alerts are looked up first");
        assert_eq!(scene.look(), 0);
        assert_eq!(scene.planner.redriven_to(0), 2);
        // The built-in policy has no routes: one came as far as that.
        let suppressed = [(Suppressed::NoRoute, 1), (Suppressed::Ended, 1)];
        assert_eq!(scene.planner.take_suppressed(), suppressed.into());
        // Nothing is looked up where nothing is in doubt.
        scene.append(1, true);
        assert_eq!(scene.look(), 1);
    }
}
