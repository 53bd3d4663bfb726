//! What is known of accounts: `account.profiles.v1` as a table, of the partitions at hand. Owner, segment and region stand there and not in the
//! alerts, so that who is told follows who looks after an account now.
//!
//! The topic is read from its beginning when a partition is taken, and its end every now and then. It has as many partitions as the alerts, and
//! an account's profile and alerts are in the same one.
//!
//! Whoever writes profiles may leave a transaction open. That holds up what follows it there, and no alert: until it ends, accounts are told by
//! what was known of them before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bellwether_engine::log::{Log, LogError, Record, Topic};
use bellwether_wire::decode::{DecodeError, Decoder};

use crate::desk::Source;
use crate::event::Profile;
use crate::planner::Planner;

/// Records read at once.
const PAGE: usize = 1_000;

/// Follows the topic.
#[derive(Debug)]
pub(super) struct Follower {
    topic: Topic,
    next: BTreeMap<i32, i64>,
    looked: Instant,
}

impl Follower {
    pub(super) fn new(topic: Topic) -> Follower {
        Follower { topic, next: BTreeMap::new(), looked: Instant::now() }
    }

    pub(super) fn drop_all(&mut self) {
        self.next.clear();
    }

    pub(super) fn assign(&mut self, partition: i32) {
        self.next.insert(partition, 0);
    }

    pub(super) fn revoke(&mut self, partition: i32) {
        self.next.remove(&partition);
    }

    /// Reads what is new, where it is time.
    pub(super) fn follow(
        &mut self,
        log: &mut dyn Log,
        planner: &mut Planner,
        decoder: &mut Decoder,
        every: Duration,
    ) -> Result<(), LogError> {
        if self.looked.elapsed() < every {
            return Ok(());
        }
        self.looked = Instant::now();
        for partition in self.next.keys().copied().collect::<Vec<_>>() {
            self.read(log, partition, planner, decoder)?;
        }
        Ok(())
    }

    /// Reads a partition as far as it can be read now.
    pub(super) fn read(
        &mut self,
        log: &mut dyn Log,
        partition: i32,
        planner: &mut Planner,
        decoder: &mut Decoder,
    ) -> Result<(), LogError> {
        let mut next = self.next.get(&partition).copied().unwrap_or(0);
        loop {
            let mut stuck = None;
            let read = log.follow(&self.topic, partition, next, PAGE, &mut |record| {
                if stuck.is_none() && !take(&record, planner, decoder) {
                    stuck = Some(record.offset);
                }
                Ok(())
            })?;
            if read.next < next {
                tracing::warn!(topic = %self.topic, partition, "it lost records or was created anew and is read from its beginning");
                next = 0;
                continue;
            }
            // Where the registry is away it goes on from there the next time.
            next = stuck.unwrap_or(read.next);
            if stuck.is_some() {
                break;
            }
            if next >= read.end {
                planner.all_read(partition, Source::Profile);
                break;
            }
        }
        self.next.insert(partition, next);
        Ok(())
    }
}

/// Takes a profile. What cannot be read is the engine's dead letter already; false where the registry is away.
fn take(record: &Record, planner: &mut Planner, decoder: &mut Decoder) -> bool {
    if record.payload.is_none() {
        if let Ok(account) = Decoder::deletion(record.key.as_deref()) {
            planner.erase(record.partition, account.as_str(), record.timestamp_ms);
        }
        return true;
    }
    decoder.set_received(record.timestamp_ms);
    match decoder.profile(record.key.as_deref(), record.payload.as_deref()) {
        Ok(profile) => {
            planner.profile(record.partition, profile.account.as_str(), Profile::from(&profile));
            true
        }
        Err(DecodeError::Reject(_)) => true,
        Err(DecodeError::RegistryUnavailable(_)) => false,
    }
}
