//! What became of alerts since events of theirs that were parked: read off the alerts themselves, where the notifier's memory does not say. That
//! is so for what an older version parked, for what stood in digests, and for events that nobody could read when they came.
//!
//! # Invariants
//! - Only a look-up that is level with the log answers ([`Level`]): every partition of it was read to the end as it was in the very call, also
//!   where a reading of an earlier call goes on. Whoever asks then, before anything else is taken from the log, knows all that the notifier has
//!   taken.
//! - It goes on from call to call, and no call takes much longer than it may. One that was level reads only what came since.
//! - Its memory is bounded by the events that it is asked for ([`EVENTS_MAX`]), however long the topic is: of each it keeps what has to be known
//!   and no events.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use bellwether_engine::log::{Log, LogError, Record, Topic};
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::OutputKind;

use crate::event::{Alert, Phase};
use crate::planner::Since;

/// Records read at once.
const PAGE: usize = 1_000;
/// Events that are looked up in one pass, about; more wait for the next one. So many take some 25 MB, and at most 80 MB with the ids that the
/// engine makes (32 bytes).
const EVENTS_MAX: usize = 100_000;
/// Later events of an alert in which it asked for attention: so many are known of each event, the latest. Of an alert that came back more often,
/// what an older version parked may be sent again though the sink heard of an earlier one of those: then it hears once more than it need, and
/// of nothing less.
const RAISED_MAX: usize = 8;

/// Events of alerts of which is to be known what came after them.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// By alert.
    events: HashMap<String, Vec<Track>>,
    count: usize,
    /// Hashes of their accounts: most records are of others, and need not be decoded. Some of another account pass, which does no harm.
    accounts: HashSet<u64>,
    /// The partitions in which they are.
    partitions: BTreeSet<i32>,
}

/// What came after an event.
#[derive(Debug)]
struct Track {
    id: Box<str>,
    at_ms: i64,
    /// Whether the event itself was met: what follows it there is later. Until then, by its time, as where it is kept no more.
    is_met: bool,
    has_ended: bool,
    /// The events in which the alert asked for attention again, oldest first.
    raised: VecDeque<Box<str>>,
}

/// The event that a delivery tells of: what closes an incident before it rings anew is no event of its own.
fn event_id(alert: &Alert) -> &str {
    alert.id.strip_suffix("/close").unwrap_or(&alert.id)
}

fn hash(account: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    account.hash(&mut hasher);
    hasher.finish()
}

impl Wanted {
    /// Asks for what came after an event of an alert that is in one of these partitions.
    pub(super) fn add(&mut self, alert: &Alert, partitions: impl Iterator<Item = i32>) {
        self.partitions.extend(partitions);
        let id = event_id(alert);
        let tracks = self.events.entry(alert.alert_id.clone()).or_default();
        if tracks.iter().any(|track| *track.id == *id) {
            return;
        }
        tracks.push(Track {
            id: id.into(),
            at_ms: alert.at.0,
            is_met: false,
            has_ended: false,
            raised: VecDeque::new(),
        });
        self.count += 1;
        self.accounts.insert(hash(alert.account_id.as_bytes()));
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_full(&self) -> bool {
        self.count >= EVENTS_MAX
    }
}

impl Track {
    /// Takes an event of its alert.
    fn take(&mut self, id: &str, at_ms: i64, phase: Phase) {
        if *self.id == *id && !self.is_met {
            self.is_met = true;
            self.forget();
        } else if self.is_met || at_ms > self.at_ms {
            match phase {
                Phase::Raised => {
                    self.has_ended = false;
                    if self.raised.len() == RAISED_MAX {
                        self.raised.pop_front();
                    }
                    self.raised.push_back(id.into());
                }
                Phase::Ended => self.has_ended = true,
                Phase::Held | Phase::Changed => {}
            }
        }
    }

    fn forget(&mut self) {
        self.has_ended = false;
        self.raised.clear();
    }
}

/// A look-up of events of alerts.
#[derive(Debug)]
pub(super) struct Lookup {
    topic: Topic,
    wanted: Wanted,
    /// Where to read on.
    next: BTreeMap<i32, i64>,
    is_stalled: bool,
}

/// A look-up that is level with the log: it knows all that came after the events that it was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level<'a>(&'a Wanted);

impl Lookup {
    /// Begins at the oldest events that are kept.
    pub(super) fn new(topic: Topic, wanted: Wanted) -> Lookup {
        let next = wanted.partitions.iter().map(|partition| (*partition, 0)).collect();
        Lookup { topic, wanted, next, is_stalled: false }
    }

    /// Whether it waits for the schema registry.
    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// Reads on, for so long, about. What it knows, once it is level with the log.
    pub(super) fn catch_up(
        &mut self,
        log: &mut dyn Log,
        decoder: &mut Decoder,
        limit: Duration,
    ) -> Result<Option<Level<'_>>, LogError> {
        let began = Instant::now();
        self.is_stalled = false;
        let Lookup { topic, wanted, next: all, .. } = self;
        let mut is_anew = false;
        'partitions: for (partition, next) in &mut *all {
            loop {
                let mut stuck = None;
                let read = log.follow(topic, *partition, *next, PAGE, &mut |record| {
                    if stuck.is_none() && !take(&record, wanted, decoder) {
                        stuck = Some(record.offset);
                    }
                    Ok(())
                })?;
                if read.next < *next {
                    is_anew = true;
                    break 'partitions;
                }
                *next = stuck.unwrap_or(read.next);
                if stuck.is_some() {
                    self.is_stalled = true;
                    return Ok(None);
                }
                if read.is_level() {
                    break;
                }
                if began.elapsed() >= limit {
                    return Ok(None);
                }
            }
        }
        if is_anew {
            // It was created anew, and what was read is of another one.
            for track in wanted.events.values_mut().flatten() {
                track.is_met = false;
                track.forget();
            }
            all.values_mut().for_each(|next| *next = 0);
            return Ok(None);
        }
        Ok(Some(Level(&self.wanted)))
    }
}

impl Level<'_> {
    fn track(&self, alert: &Alert) -> Option<&Track> {
        let id = event_id(alert);
        self.0.events.get(&alert.alert_id)?.iter().find(|track| *track.id == *id)
    }

    /// Whether an event is one of those that were looked up.
    pub(super) fn holds(&self, alert: &Alert) -> bool {
        self.track(alert).is_some()
    }

    /// What happened to an alert after an event of it. After one that was not looked up nothing did.
    pub(super) fn since(&self, alert: &Alert) -> Since {
        let Some(track) = self.track(alert) else { return Since::default() };
        let raised = track.raised.iter().map(|id| id.to_string()).collect();
        Since { has_ended: track.has_ended, raised }
    }
}

/// Takes an event of the alerts; false where the registry is away. What cannot be read is of no alert that was told: it is parked by itself.
fn take(record: &Record, wanted: &mut Wanted, decoder: &mut Decoder) -> bool {
    if record.key.as_ref().is_some_and(|key| !wanted.accounts.contains(&hash(key))) {
        return true;
    }
    match decoder.output_as::<Alert>(OutputKind::Alert, record.payload.as_deref()) {
        Ok(alert) => {
            let phase = alert.phase();
            for track in wanted.events.get_mut(&alert.alert_id).into_iter().flatten() {
                track.take(&alert.id, alert.at.0, phase);
            }
            true
        }
        Err(DecodeError::Reject(_)) => true,
        Err(DecodeError::RegistryUnavailable(_)) => false,
    }
}

#[cfg(test)]
pub(super) mod tests;
