//! Which accounts there are: the keys of `health.score-current.v1`, for the budget of alerts, which is so many for each hundred accounts.
//!
//! That topic gets a record with every movement of a score, so it is followed at a measured pace: a page at the start, and then a page of one
//! partition after the other. It is compacted, and an account that is passed over now is seen with its next record. Until a partition was read
//! to its end once, the number counts that was written before; where none was, it is read to its end at the start, before anything is decided.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bellwether_engine::log::{Log, LogError, Record, Topic};

use crate::desk::Source;
use crate::planner::Planner;

/// Records read at once.
const PAGE: usize = 2_000;

/// How long the start waits for one partition whose accounts were never counted: meanwhile nothing else is heard. What is left is read at the
/// measured pace, and until then the budget is one of fewer accounts.
const START_MAX: Duration = Duration::from_secs(10);

/// Follows the topic.
#[derive(Debug)]
pub(super) struct Scored {
    topic: Topic,
    next: BTreeMap<i32, i64>,
    /// The partition that was read last.
    turn: i32,
    looked: Instant,
    /// Partitions of which all was read that was there once.
    read_once: BTreeSet<i32>,
}

impl Scored {
    pub(super) fn new(topic: Topic) -> Scored {
        let (next, read_once) = (BTreeMap::new(), BTreeSet::new());
        Scored { topic, next, turn: 0, looked: Instant::now(), read_once }
    }

    pub(super) fn drop_all(&mut self) {
        self.next.clear();
        self.read_once.clear();
    }

    pub(super) fn revoke(&mut self, partition: i32) {
        self.next.remove(&partition);
        self.read_once.remove(&partition);
    }

    /// Begins with a partition.
    pub(super) fn assign(
        &mut self,
        log: &mut dyn Log,
        partition: i32,
        planner: &mut Planner,
    ) -> Result<(), LogError> {
        self.next.insert(partition, 0);
        self.read_once.remove(&partition);
        let began = Instant::now();
        self.read(log, partition, planner)?;
        while !planner.knows_accounts(partition)
            && !self.read_once.contains(&partition)
            && began.elapsed() < START_MAX
        {
            self.read(log, partition, planner)?;
        }
        Ok(())
    }

    /// Reads a page of the partition whose turn it is, where it is time.
    pub(super) fn follow(
        &mut self,
        log: &mut dyn Log,
        planner: &mut Planner,
        every: Duration,
    ) -> Result<(), LogError> {
        if self.looked.elapsed() < every {
            return Ok(());
        }
        self.looked = Instant::now();
        let after = self.next.range(self.turn + 1..).next().or_else(|| self.next.iter().next());
        let Some(partition) = after.map(|(partition, _)| *partition) else { return Ok(()) };
        self.turn = partition;
        self.read(log, partition, planner)
    }

    fn read(
        &mut self,
        log: &mut dyn Log,
        partition: i32,
        planner: &mut Planner,
    ) -> Result<(), LogError> {
        let from = self.next.get(&partition).copied().unwrap_or(0);
        let read = log.follow(&self.topic, partition, from, PAGE, &mut |record| {
            take(&record, planner);
            Ok(())
        })?;
        // A topic that was created anew, or lost records, is read from its beginning.
        self.next.insert(partition, if read.next < from { 0 } else { read.next });
        if read.next >= read.end && self.read_once.insert(partition) {
            planner.all_read(partition, Source::Score);
        }
        Ok(())
    }
}

fn take(record: &Record, planner: &mut Planner) {
    let account = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
    if let Some(account) = account {
        planner.scored(record.partition, account, record.payload.is_some());
    }
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

    /// A log with a topic of scores.
    fn log_of(dir: &std::path::Path, accounts: std::ops::Range<usize>) -> Embedded {
        let log = Embedded::open(dir, &Shared::new(8 << 20), 1_000_000).expect("a log");
        for topic in ["alerts", "scores"] {
            log.create_topic(topic, 1, Retention::Forever).expect("a new topic");
        }
        let record = |number: usize| Append {
            topic: "scores".into(),
            partition: 0,
            key: Some(format!("account-{number}").into_bytes()),
            payload: Some(b"?".to_vec()),
            headers: Vec::new(),
            timestamp_ms: None,
        };
        let records: Vec<Append> = accounts.map(record).collect();
        log.append(&records, Duration::from_secs(60)).expect("room");
        log
    }

    #[test]
    fn after_a_start_the_accounts_are_as_many_as_they_were_and_not_as_were_read_so_far() {
        const ACCOUNTS: usize = 3 * PAGE;
        let dir = tempfile::tempdir().expect("a directory");
        let log = log_of(dir.path(), 0..ACCOUNTS);
        let mut log = log.consume_as(Role::Notifier, &["alerts".into()]).expect("a log");
        let policy = Loaded::builtin();
        let start = |rows: &BTreeMap<String, Option<Vec<u8>>>| {
            let mut planner = Planner::new(Arc::clone(policy.texts()), policy.version());
            planner.assign(0);
            for (key, value) in rows {
                planner.restore(0, key, value.as_deref()).expect("readable");
            }
            planner.all_read(0, Source::Profile);
            planner
        };
        let mut rows = BTreeMap::new();
        let mut keep = |planner: &mut Planner| {
            let changes = planner.take_changes().into_iter();
            rows.extend(changes.map(|(_, key, value)| (key, value)));
            rows.clone()
        };
        let accounts = |planner: &Planner| planner.desks()[&0].accounts();

        // The first start knows no number, and reads all before it decides anything.
        let mut planner = start(&BTreeMap::new());
        let mut scored = Scored::new("scores".into());
        scored.assign(&mut log, 0, &mut planner).expect("read");
        assert_eq!(accounts(&planner), ACCOUNTS);
        let rows = keep(&mut planner);
        assert_eq!(rows.keys().collect::<Vec<_>>(), ["a/accounts"]);

        // The next one knows it, and reads at its pace.
        let mut planner = start(&rows);
        let mut scored = Scored::new("scores".into());
        scored.assign(&mut log, 0, &mut planner).expect("read");
        assert_eq!(accounts(&planner), ACCOUNTS);
        assert_eq!(scored.next[&0], i64::try_from(PAGE).expect("small"), "a page");
        planner.scored(0, "account-1", false);
        assert_eq!(accounts(&planner), ACCOUNTS, "it is not known yet which of them are left");
        while scored.next[&0] < i64::try_from(ACCOUNTS).expect("small") {
            scored.follow(&mut log, &mut planner, Duration::ZERO).expect("read");
        }
        assert_eq!(accounts(&planner), ACCOUNTS - 1);
        assert_eq!(keep(&mut planner).len(), 1);
    }

    #[test]
    fn a_topic_that_was_created_anew_is_read_from_its_beginning() {
        let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        let log = |dir: usize, accounts: &[&str]| {
            let shared = Shared::new(8 << 20);
            let log = Embedded::open(dirs[dir].path(), &shared, 1_000).expect("a log");
            for topic in ["alerts", "scores"] {
                log.create_topic(topic, 1, Retention::Forever).expect("a new topic");
            }
            let record = |account: &&str| Append {
                topic: "scores".into(),
                partition: 0,
                key: Some(account.as_bytes().to_vec()),
                payload: Some(b"?".to_vec()),
                headers: Vec::new(),
                timestamp_ms: None,
            };
            let records: Vec<Append> = accounts.iter().map(record).collect();
            log.append(&records, Duration::from_secs(60)).expect("room");
            log.consume_as(Role::Notifier, &["alerts".into()]).expect("a log")
        };
        let policy = Loaded::builtin();
        let mut planner = Planner::new(Arc::clone(policy.texts()), policy.version());
        planner.assign(0);
        let mut scored = Scored::new("scores".into());
        let mut before = log(0, &["a", "b", "c"]);
        scored.assign(&mut before, 0, &mut planner).expect("read");
        assert_eq!(planner.desks()[&0].accounts(), 3);
        let mut anew = log(1, &["d"]);
        for _ in 0..2 {
            scored.follow(&mut anew, &mut planner, Duration::ZERO).expect("read");
        }
        assert_eq!(planner.desks()[&0].accounts(), 4);
    }
}
