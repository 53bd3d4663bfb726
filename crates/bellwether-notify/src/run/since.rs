//! What became of alerts since events of theirs that were parked: read off the alerts themselves, where the notifier's memory does not say. That
//! is so for what an older version parked, for what stood in digests, and for events that nobody could read when they came.
//!
//! # Invariants
//! - A look-up has come to its end only where every partition of it was read to its end within one call: whoever asks then, before anything else
//!   is taken from the log, knows all that the notifier has taken.
//! - It goes on from call to call, and no call takes much longer than it may.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use bellwether_engine::log::{Log, LogError, Record, Topic};
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::OutputKind;

use crate::event::{Alert, Phase};
use crate::planner::Since;

/// Records read at once.
const PAGE: usize = 1_000;
/// Alerts that are looked up at once, about; more wait for the next look-up.
const ALERTS_MAX: usize = 2_000;

/// Alerts that are to be looked up.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// By id, with their accounts.
    alerts: BTreeMap<String, String>,
    /// Whether they may be in any partition.
    is_anywhere: bool,
}

impl Wanted {
    pub(super) fn add(&mut self, alert: &Alert, is_anywhere: bool) {
        self.alerts.insert(alert.alert_id.clone(), alert.account_id.clone());
        self.is_anywhere |= is_anywhere;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.alerts.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.alerts.len() >= ALERTS_MAX
    }
}

/// An event of an alert.
#[derive(Debug)]
struct Mark {
    id: String,
    at_ms: i64,
    phase: Phase,
}

/// A look-up of alerts.
#[derive(Debug)]
pub(super) struct Lookup {
    topic: Topic,
    accounts: HashSet<Vec<u8>>,
    /// The events of each wanted alert in their order: an account's are in one partition.
    marks: HashMap<String, Vec<Mark>>,
    /// Where to read on.
    next: BTreeMap<i32, i64>,
    is_stalled: bool,
}

impl Lookup {
    /// Begins at the oldest events that are kept: of the partition, or of all.
    pub(super) fn new(topic: Topic, partition: i32, partitions: i32, wanted: Wanted) -> Lookup {
        let next = if wanted.is_anywhere {
            (0..partitions).map(|partition| (partition, 0)).collect()
        } else {
            BTreeMap::from([(partition, 0)])
        };
        Lookup {
            topic,
            accounts: wanted.alerts.values().map(|account| account.as_bytes().to_vec()).collect(),
            marks: wanted.alerts.into_keys().map(|alert| (alert, Vec::new())).collect(),
            next,
            is_stalled: false,
        }
    }

    /// Whether an alert is one of those that are looked up.
    pub(super) fn holds(&self, alert: &Alert) -> bool {
        self.marks.contains_key(&alert.alert_id)
    }

    /// Whether it waits for the schema registry.
    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// Reads on. Returns whether it has come to its end.
    pub(super) fn read(
        &mut self,
        log: &mut dyn Log,
        decoder: &mut Decoder,
        limit: Duration,
    ) -> Result<bool, LogError> {
        let began = Instant::now();
        self.is_stalled = false;
        let Lookup { topic, accounts, marks, next: all, .. } = self;
        for (partition, next) in all {
            loop {
                let mut stuck = None;
                let read = log.follow(topic, *partition, *next, PAGE, &mut |record| {
                    if stuck.is_none() && !take(&record, accounts, marks, decoder) {
                        stuck = Some(record.offset);
                    }
                    Ok(())
                })?;
                if read.next < *next {
                    // It was created anew, and what was read is of another one.
                    marks.values_mut().for_each(Vec::clear);
                    *next = 0;
                    continue;
                }
                *next = stuck.unwrap_or(read.next);
                if stuck.is_some() {
                    self.is_stalled = true;
                    return Ok(false);
                }
                if *next >= read.end {
                    break;
                }
                if began.elapsed() >= limit {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// What happened to an alert after an event of it. Of an alert that was not looked up nothing did.
    pub(super) fn since(&self, alert: &Alert) -> Since {
        let marks = self.marks.get(&alert.alert_id).map(Vec::as_slice).unwrap_or_default();
        // What closes an incident before it rings anew is no event of its own.
        let id = alert.id.strip_suffix("/close").unwrap_or(&alert.id);
        let after: Vec<&Mark> = match marks.iter().position(|mark| mark.id == id) {
            Some(at) => marks.iter().skip(at + 1).collect(),
            // It is kept no more.
            None => marks.iter().filter(|mark| mark.at_ms > alert.at.0).collect(),
        };
        let decisive = |mark: &&&Mark| matches!(mark.phase, Phase::Raised | Phase::Ended);
        let last = after.iter().rev().find(decisive);
        let raised = after.iter().filter(|mark| mark.phase == Phase::Raised);
        Since {
            has_ended: last.is_some_and(|mark| mark.phase == Phase::Ended),
            raised: raised.map(|mark| mark.id.clone()).collect(),
        }
    }
}

/// Takes an event of the alerts; false where the registry is away. What cannot be read is of no alert that was told: it is parked by itself.
fn take(
    record: &Record,
    accounts: &HashSet<Vec<u8>>,
    marks: &mut HashMap<String, Vec<Mark>>,
    decoder: &mut Decoder,
) -> bool {
    if record.key.as_ref().is_some_and(|key| !accounts.contains(key)) {
        return true;
    }
    match decoder.output_as::<Alert>(OutputKind::Alert, record.payload.as_deref()) {
        Ok(alert) => {
            if let Some(marks) = marks.get_mut(&alert.alert_id) {
                let phase = alert.phase();
                marks.push(Mark { id: alert.id, at_ms: alert.at.0, phase });
            }
            true
        }
        Err(DecodeError::Reject(_)) => true,
        Err(DecodeError::RegistryUnavailable(_)) => false,
    }
}
