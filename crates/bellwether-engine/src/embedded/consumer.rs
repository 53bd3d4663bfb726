//! The consumer of an embedded log: it owns every partition, and delivers fairly between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::{Embedded, READ_BYTES_MAX, Role, lock, record};
use crate::log::{Lag, Log, LogError, Poll, Read, Receipt, Record, Remedy, Topic, Transaction};

/// Where an input partition stands.
#[derive(Debug)]
struct Input {
    topic: Topic,
    partition: i32,
    /// The next offset to deliver; none before the start.
    next: Option<i64>,
}

/// The consumer. See [`Log`].
#[derive(Debug)]
pub struct EmbeddedLog {
    log: Embedded,
    role: Role,
    number: u64,
    partitions: i32,
    assigned: bool,
    inputs: Vec<Input>,
    paused: BTreeSet<i32>,
    /// The input at which the next poll begins.
    turn: usize,
}

impl EmbeddedLog {
    pub(super) fn open(
        log: Embedded,
        role: Role,
        topics: &[Topic],
    ) -> Result<EmbeddedLog, LogError> {
        let mut partitions = None;
        let mut inputs = Vec::new();
        for topic in topics {
            let found = log.partitions(topic)?;
            let expected = *partitions.get_or_insert(found);
            if found != expected {
                let message = format!(
                    "topic {topic} has {found} partitions and the first input {expected}; inputs must have equally many"
                );
                return Err(LogError::new(Remedy::Stop, message));
            }
            inputs.extend((0..found).map(|partition| Input {
                topic: Arc::clone(topic),
                partition,
                next: None,
            }));
        }
        let number = {
            let mut consumer = lock(log.consumer(role));
            *consumer += 1;
            *consumer
        };
        Ok(EmbeddedLog {
            log,
            role,
            number,
            partitions: partitions.unwrap_or(0),
            assigned: false,
            inputs,
            paused: BTreeSet::new(),
            turn: 0,
        })
    }

    fn check(&self, in_charge: u64) -> Result<(), LogError> {
        if in_charge == self.number {
            Ok(())
        } else {
            Err(LogError::new(
                Remedy::Fenced,
                "another consumer of this log was opened; read again",
            ))
        }
    }

    fn check_assigned(&self, partitions: &[i32]) -> Result<(), LogError> {
        let foreign = partitions.iter().find(|number| !(0..self.partitions).contains(*number));
        match foreign {
            None if self.assigned => Ok(()),
            None => Err(LogError::new(Remedy::Stop, "no partition was assigned yet; poll first")),
            Some(number) => {
                Err(LogError::new(Remedy::Stop, format!("partition {number} was never assigned")))
            }
        }
    }

    /// Takes what there is, round after round, so that no partition waits for another's backlog.
    fn collect(&mut self, records_max: usize) -> Result<Vec<Record>, LogError> {
        let active: Vec<usize> = (0..self.inputs.len())
            .map(|at| (self.turn + at) % self.inputs.len())
            .filter(|&at| {
                self.inputs.get(at).is_some_and(|input| {
                    input.next.is_some() && !self.paused.contains(&input.partition)
                })
            })
            .collect();
        let share = records_max.div_ceil(active.len().max(1));
        let mut bytes_left = READ_BYTES_MAX;
        let mut records = Vec::new();
        let mut found = true;
        while found && records.len() < records_max && bytes_left > 0 {
            found = false;
            for &at in &active {
                let quota = share.min(records_max - records.len());
                if quota == 0 || bytes_left == 0 {
                    break;
                }
                let Some(input) = self.inputs.get_mut(at) else { continue };
                let next = input.next.unwrap_or(0);
                let store = &self.log.inner.store;
                let page = store.read(&input.topic, input.partition, next, quota, bytes_left)?;
                input.next = Some(page.next);
                self.turn = at + 1;
                for stored in page.records {
                    found = true;
                    let bytes = stored.payload.as_ref().map_or(0, Vec::len);
                    bytes_left = bytes_left.saturating_sub(bytes);
                    records.push(record(&input.topic, input.partition, stored));
                }
            }
        }
        Ok(records)
    }
}

impl Log for EmbeddedLog {
    fn partitions(&self) -> i32 {
        self.partitions
    }

    fn poll(&mut self, records_max: usize, timeout: Duration) -> Result<Poll, LogError> {
        let deadline = Instant::now() + timeout;
        loop {
            self.check(*lock(self.log.consumer(self.role)))?;
            if !self.assigned {
                self.assigned = true;
                return Ok(Poll::Assigned((0..self.partitions).collect()));
            }
            // Counted before the look, so that what arrives after it ends the wait.
            let seen = *lock(&self.log.inner.arrivals);
            let records = self.collect(records_max)?;
            if !records.is_empty() {
                return Ok(Poll::Records(records));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let inner = &self.log.inner;
            let waited = inner
                .arrived
                .wait_timeout_while(lock(&inner.arrivals), left, |arrivals| *arrivals == seen)
                .unwrap_or_else(PoisonError::into_inner);
            if waited.1.timed_out() {
                return Ok(Poll::Idle);
            }
        }
    }

    fn start(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.check_assigned(partitions)?;
        for input in self.inputs.iter_mut().filter(|input| partitions.contains(&input.partition)) {
            if input.next.is_none() {
                let committed = self.log.committed(&input.topic, input.partition)?;
                input.next = Some(committed.unwrap_or(0));
            }
        }
        Ok(())
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Receipt, LogError> {
        let consumer = lock(self.log.consumer(self.role));
        self.check(*consumer)?;
        let offsets = self.log.write(&transaction.appends, &transaction.offsets)?;
        drop(consumer);
        // A producer that has found no room but does not wait yet holds this lock.
        drop(lock(&self.log.inner.admission));
        self.log.inner.room.notify_all();

        let mut positions = BTreeMap::new();
        for (append, offset) in transaction.appends.iter().zip(offsets) {
            positions.insert((Arc::clone(&append.topic), append.partition), offset + 1);
        }
        let positions = positions.into_iter();
        Ok(Receipt {
            positions: positions
                .map(|((topic, partition), next)| (topic, partition, next))
                .collect(),
        })
    }

    fn rewind(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.check_assigned(partitions)?;
        for input in self.inputs.iter_mut().filter(|input| partitions.contains(&input.partition)) {
            if input.next.is_some() {
                let committed = self.log.committed(&input.topic, input.partition)?;
                input.next = Some(committed.unwrap_or(0));
            }
        }
        self.paused.retain(|number| !partitions.contains(number));
        Ok(())
    }

    fn read(
        &mut self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError> {
        self.log.read(topic, partition, from, records_max, each)
    }

    fn pause(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.check_assigned(partitions)?;
        self.paused.extend(partitions);
        Ok(())
    }

    fn resume(
        &mut self,
        partitions: &[i32],
        offsets: &[(Topic, i32, i64)],
    ) -> Result<(), LogError> {
        self.check_assigned(partitions)?;
        for (topic, partition, next) in offsets {
            let input = self
                .inputs
                .iter_mut()
                .find(|input| input.topic == *topic && input.partition == *partition);
            match input {
                Some(input) if input.next.is_some() => input.next = Some(*next),
                Some(_) | None => {
                    let message = format!("partition {partition} of {topic} was not started");
                    return Err(LogError::new(Remedy::Stop, message));
                }
            }
        }
        self.paused.retain(|number| !partitions.contains(number));
        Ok(())
    }

    fn lag(&mut self) -> Result<Vec<Lag>, LogError> {
        let mut lags = Vec::new();
        for input in self.inputs.iter().filter(|_| self.assigned) {
            let next = match input.next {
                Some(next) => next,
                None => self.log.committed(&input.topic, input.partition)?.unwrap_or(0),
            };
            let end = self.log.end_offset(&input.topic, input.partition)?;
            lags.push(Lag {
                topic: Arc::clone(&input.topic),
                partition: input.partition,
                records: (end - next).max(0),
            });
        }
        Ok(lags)
    }
}
