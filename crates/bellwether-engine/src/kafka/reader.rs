//! Reads a partition from an offset to its end: restores, and whatever follows a topic outside the group.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::context::ReaderContext;
use super::{classify, record};
use crate::kafka::KafkaOptions;
use crate::log::{AsOf, LogError, Read, Record, Remedy, Topic};

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
    /// A reading that was not at its end when its caller had enough.
    under_way: Option<Reading>,
}

/// A reading of one partition.
struct Reading {
    topic: Topic,
    partition: i32,
    next: i64,
    end: i64,
}

/// How far to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// To the last record, once it is known whether it is committed.
    Last,
    /// To what can be read now.
    Stable,
    /// The same. A log that ends before the position is no failure: the caller is told its end.
    StableOrBefore,
}

enum Begun {
    /// There is nothing to read.
    AtEnd(i64),
    Reading(Reading),
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
            under_way: None,
        })
    }

    /// The oldest offset kept and the offset after the last record, committed or not.
    pub(super) fn ends(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<(i64, i64), LogError> {
        ends(&self.uncommitted, topic, partition, timeout)
    }

    /// See [`crate::log::Log::read`].
    pub(super) fn read(
        &mut self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError> {
        self.read_to(End::Last, topic, partition, from, records_max, each)
    }

    /// See [`crate::standby::Follow::follow`].
    pub(super) fn follow(
        &mut self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError> {
        self.read_to(End::Stable, topic, partition, from, records_max, each)
    }

    /// See [`crate::log::Log::follow`].
    pub(super) fn follow_any(
        &mut self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError> {
        self.read_to(End::StableOrBefore, topic, partition, from, records_max, each)
    }

    fn read_to(
        &mut self,
        end: End,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError> {
        let under_way = self.under_way.take().filter(|reading| {
            reading.topic == *topic && reading.partition == partition && reading.next == from
        });
        let (mut reading, as_of) = match under_way {
            Some(reading) => (reading, AsOf::EarlierCall),
            None => match self.begin(end, topic, partition, from)? {
                Begun::AtEnd(end) => return Ok(Read::of_this_call(end, end)),
                Begun::Reading(reading) => (reading, AsOf::ThisCall),
            },
        };
        let outcome = self.deliver(&mut reading, records_max, each);
        let read = Read { next: reading.next, end: reading.end, as_of };
        if outcome.is_ok() && read.next < read.end {
            self.under_way = Some(reading);
            return Ok(read);
        }
        self.committed.unassign().map_err(|error| {
            classify::uncommitted(&format!("cannot leave {topic} [{partition}]"), &error)
        })?;
        outcome.map(|()| read)
    }

    fn begin(
        &self,
        up_to: End,
        topic: &Topic,
        partition: i32,
        from: i64,
    ) -> Result<Begun, LogError> {
        let (oldest, end) = match up_to {
            End::Last => self.ends(topic, partition, ENDS_TIMEOUT)?,
            End::Stable | End::StableOrBefore => {
                ends(&self.committed, topic, partition, ENDS_TIMEOUT)?
            }
        };
        if from > end && up_to != End::StableOrBefore {
            return Err(LogError::new(
                Remedy::Stop,
                format!(
                    "{topic} [{partition}] ends at offset {end}, before position {from} that was read earlier: the topic lost \
                     records or was created anew; delete the local state of partition {partition} to build it again"
                ),
            ));
        }
        let next = from.max(oldest);
        if next >= end {
            return Ok(Begun::AtEnd(end));
        }
        if up_to == End::Last {
            self.wait_for_open_transactions(topic, partition, end)?;
        }
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(topic, partition, Offset::Offset(next))
            .and_then(|()| self.committed.assign(&assignment))
            .map_err(|error| {
                classify::uncommitted(&format!("cannot read {topic} [{partition}]"), &error)
            })?;
        Ok(Begun::Reading(Reading { topic: topic.clone(), partition, next, end }))
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
            let (_, stable) = ends(&self.committed, topic, partition, ENDS_TIMEOUT)?;
            if stable >= end {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(LogError::new(
                    Remedy::Reopen,
                    format!(
                        "a transaction has been open at {topic} [{partition}] offset {stable} for too long: \
                             see `bellwether txn list`, and `txn abort`"
                    ),
                ));
            }
            std::thread::sleep(OPEN_RETRY);
        }
    }

    fn deliver(
        &self,
        reading: &mut Reading,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let Reading { topic, partition, .. } = &*reading;
        let (topic, partition) = (topic.clone(), *partition);
        let mut last_progress = Instant::now();
        let mut delivered = 0;
        while delivered < records_max && reading.next < reading.end {
            match self.committed.poll(POLL) {
                Some(Ok(message)) => {
                    if message.offset() >= reading.end {
                        reading.next = reading.end;
                        return Ok(());
                    }
                    each(record(topic.clone(), &message))?;
                    reading.next = message.offset() + 1;
                    delivered += 1;
                    last_progress = Instant::now();
                }
                // What is left are markers of transactions.
                Some(Err(KafkaError::PartitionEOF(at))) if at == partition => {
                    reading.next = reading.end;
                    return Ok(());
                }
                Some(Err(error)) => {
                    if let Some(error) = classify::polled(&error, &topic) {
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
        Ok(())
    }
}

fn ends(
    client: &BaseConsumer<ReaderContext>,
    topic: &str,
    partition: i32,
    timeout: Duration,
) -> Result<(i64, i64), LogError> {
    client.fetch_watermarks(topic, partition, timeout).map_err(|error| {
        let doing = format!("cannot find the ends of {topic} [{partition}]");
        // The client calls a partition unknown that has no leader, as while a broker fails over.
        let unknown =
            [RDKafkaErrorCode::UnknownPartition, RDKafkaErrorCode::UnknownTopicOrPartition];
        let is_unknown = error.rdkafka_error_code().is_some_and(|code| unknown.contains(&code));
        if is_unknown && !is_missing(client, topic, partition, timeout) {
            return LogError::new(Remedy::Reopen, format!("{doing}: it has no leader at present"));
        }
        classify::uncommitted(&doing, &error)
    })
}

/// Whether the brokers say that there is no such partition.
fn is_missing(
    client: &BaseConsumer<ReaderContext>,
    topic: &str,
    partition: i32,
    timeout: Duration,
) -> bool {
    let metadata = client.fetch_metadata(Some(topic), timeout);
    metadata.is_ok_and(|metadata| {
        let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        !partitions.any(|found| found.id() == partition)
    })
}
