//! Requests to send again what was parked (`bellwether notify parked replay`). They are records of the parking topic themselves: a copy of what
//! was parked, with a header that says so. So they outlive whoever asked, and whoever has the partition takes them.
//!
//! # Invariants
//! - The position behind a request is a row of the notifier's memory, committed with what comes of it: each request is taken once.
//! - At most a page of a partition is taken at once, and what is too much for a sink is parked again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bellwether_engine::log::{Log, LogError, Record, Topic};
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::OutputKind;

use super::rows::{self, REQUEST};
use crate::delivery::{Delivery, Parking, ROW_BYTES_MAX};
use crate::event::Alert;
use crate::planner::Planner;

/// Records looked at once.
const PAGE: usize = 200;

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
        for (partition, next) in &mut self.next {
            let mut stuck = None;
            let read = log.follow(&self.topic, *partition, *next, PAGE, &mut |record| {
                if stuck.is_none() && is_request(&record) {
                    let offset = record.offset;
                    if take(record, desk) {
                        desk.planner.set_redriven(*partition, offset + 1);
                    } else {
                        stuck = Some(offset);
                    }
                }
                Ok(())
            })?;
            // Where the registry is away it goes on from there the next time.
            *next = stuck.unwrap_or(read.next);
        }
        Ok(())
    }
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
