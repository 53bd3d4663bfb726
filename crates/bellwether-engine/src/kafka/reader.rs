//! Reads a partition from an offset to its end: restores, and whatever follows a topic outside the group.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::context::ReaderContext;
use super::{classify, record};
use crate::kafka::KafkaOptions;
use crate::log::{LogError, Record, Remedy, Topic};

/// One request for a partition's ends.
const ENDS_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an open transaction is looked at again.
const OPEN_RETRY: Duration = Duration::from_millis(50);
/// The broker looks for transactions to abort every 10 s (`transaction.abort.timed.out.transaction.cleanup.interval.ms`).
const ABORT_SCAN: Duration = Duration::from_secs(10);
/// A read that brings nothing for this long has failed.
const STALL_MAX: Duration = Duration::from_secs(60);
/// One wait for a record.
const POLL: Duration = Duration::from_millis(100);

/// Two clients, because a client's isolation level is fixed: one reads committed records, one sees the true end.
pub(super) struct Reader {
    committed: BaseConsumer<ReaderContext>,
    uncommitted: BaseConsumer<ReaderContext>,
    open_wait: Duration,
}

impl Reader {
    /// Connects lazily; `group` only names the clients, they never join it.
    pub(super) fn new(options: &KafkaOptions, group: &str) -> Result<Reader, LogError> {
        let group = format!("{group}-reader");
        let create = |isolation: &str| {
            options
                .reader(&group, isolation)?
                .create_with_context(ReaderContext)
                .map_err(|error| classify::creation(&error))
        };
        Ok(Reader {
            committed: create("read_committed")?,
            uncommitted: create("read_uncommitted")?,
            open_wait: Duration::from_millis(options.transaction_timeout_ms.into())
                + ABORT_SCAN * 2,
        })
    }

    /// The oldest offset kept and the offset after the last record, committed or not.
    pub(super) fn ends(&self, topic: &str, partition: i32) -> Result<(i64, i64), LogError> {
        ends(&self.uncommitted, topic, partition)
    }

    /// See [`crate::log::Log::read`].
    pub(super) fn read(
        &self,
        topic: &Topic,
        partition: i32,
        from: i64,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<i64, LogError> {
        let (oldest, end) = self.ends(topic, partition)?;
        if from > end {
            return Err(LogError::new(
                Remedy::Stop,
                format!(
                    "{topic} [{partition}] ends at offset {end}, before position {from} that was read earlier: the topic lost \
                     records or was created anew; delete the local state of partition {partition} to build it again"
                ),
            ));
        }
        if from.max(oldest) >= end {
            return Ok(end);
        }
        self.wait_for_open_transactions(topic, partition, end)?;
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(topic, partition, Offset::Offset(from.max(oldest)))
            .and_then(|()| self.committed.assign(&assignment))
            .map_err(|error| {
                classify::uncommitted(&format!("cannot read {topic} [{partition}]"), &error)
            })?;
        let outcome = self.deliver(topic, partition, end, each);
        self.committed.unassign().map_err(|error| {
            classify::uncommitted(&format!("cannot leave {topic} [{partition}]"), &error)
        })?;
        outcome.map(|()| end)
    }

    /// Once the last stable offset has reached `end`, the first end-of-partition that a read meets lies at or after `end`.
    fn wait_for_open_transactions(
        &self,
        topic: &str,
        partition: i32,
        end: i64,
    ) -> Result<(), LogError> {
        let deadline = Instant::now() + self.open_wait;
        loop {
            let (_, stable) = ends(&self.committed, topic, partition)?;
            if stable >= end {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(LogError::new(
                    Remedy::Reopen,
                    format!(
                        "a transaction has been open at {topic} [{partition}] offset {stable} for too long: \
                             find and abort it with `kafka-transactions.sh find-hanging`"
                    ),
                ));
            }
            std::thread::sleep(OPEN_RETRY);
        }
    }

    fn deliver(
        &self,
        topic: &Topic,
        partition: i32,
        end: i64,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let mut last_progress = Instant::now();
        loop {
            match self.committed.poll(POLL) {
                Some(Ok(message)) => {
                    if message.offset() >= end {
                        return Ok(());
                    }
                    let last = message.offset() + 1 == end;
                    each(record(topic.clone(), &message))?;
                    if last {
                        return Ok(());
                    }
                    last_progress = Instant::now();
                }
                Some(Err(KafkaError::PartitionEOF(at))) if at == partition => return Ok(()),
                Some(Err(error)) => {
                    if let Some(error) = classify::polled(&error, topic) {
                        return Err(error);
                    }
                    tracing::warn!(%topic, partition, %error, "reading goes on after an error");
                }
                None => {}
            }
            if last_progress.elapsed() >= STALL_MAX {
                return Err(LogError::new(
                    Remedy::Reopen,
                    format!(
                        "reading {topic} [{partition}] brought nothing for {} s: check the brokers",
                        STALL_MAX.as_secs()
                    ),
                ));
            }
        }
    }
}

fn ends(
    client: &BaseConsumer<ReaderContext>,
    topic: &str,
    partition: i32,
) -> Result<(i64, i64), LogError> {
    client.fetch_watermarks(topic, partition, ENDS_TIMEOUT).map_err(|error| {
        classify::uncommitted(&format!("cannot find the ends of {topic} [{partition}]"), &error)
    })
}
