//! Public holidays, for routes that are quiet on them: `account.calendar.v1`. Its records are keyed by entry, and any of them may concern any
//! account, so that every notifier reads all partitions.

use std::time::{Duration, Instant};

use bellwether_engine::log::{Log, LogError, Record, Topic};
use bellwether_wire::decode::{DecodeError, Decoder};

use crate::planner::Planner;

/// Records read at once.
const PAGE: usize = 1_000;

/// Follows the topic, where the policy heeds holidays.
#[derive(Debug)]
pub(super) struct Holidays {
    topic: Topic,
    is_wanted: bool,
    /// By partition.
    next: Vec<i64>,
    looked: Option<Instant>,
}

impl Holidays {
    pub(super) fn new(topic: Topic, is_wanted: bool) -> Holidays {
        Holidays { topic, is_wanted, next: Vec::new(), looked: None }
    }

    pub(super) fn drop_all(&mut self) {
        self.next.clear();
        self.looked = None;
    }

    /// Reads what is new, where it is time: the first time at once, so that no alert is planned without it.
    pub(super) fn follow(
        &mut self,
        log: &mut dyn Log,
        planner: &mut Planner,
        decoder: &mut Decoder,
        every: Duration,
    ) -> Result<(), LogError> {
        let is_time = self.looked.is_none_or(|looked| looked.elapsed() >= every);
        if !self.is_wanted || !is_time {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        self.next.resize(usize::try_from(log.partitions()).unwrap_or(0), 0);
        for (partition, next) in (0..).zip(&mut self.next) {
            let mut stuck = None;
            loop {
                let read = log.follow(&self.topic, partition, *next, PAGE, &mut |record| {
                    if stuck.is_none() && !take(&record, planner, decoder) {
                        stuck = Some(record.offset);
                    }
                    Ok(())
                })?;
                if read.next < *next {
                    tracing::warn!(topic = %self.topic, partition, "it lost records or was created anew and is read from its beginning");
                    *next = 0;
                    continue;
                }
                // Where the registry is away it goes on from there the next time.
                *next = stuck.unwrap_or(read.next);
                if stuck.is_some() || *next >= read.end {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Takes an entry. What cannot be read is the engine's dead letter already; false where the registry is away.
fn take(record: &Record, planner: &mut Planner, decoder: &mut Decoder) -> bool {
    decoder.set_received(record.timestamp_ms);
    match decoder.calendar(record.key.as_deref(), record.payload.as_deref()) {
        Ok((id, entry)) => planner.calendar(&id, entry),
        Err(DecodeError::Reject(_)) => {}
        Err(DecodeError::RegistryUnavailable(_)) => return false,
    }
    true
}
