//! The model broker as a worker sees it, with faults.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_engine::log::{
    Append, Lag, Log, LogError, Poll, Read, Receipt, Record, Remedy, Topic, Transaction,
};

use bellwether_engine::topics::TopicNames;
use bellwether_store::task::clock_row;

use crate::broker::{Broker, Change, Fenced, Place, Refused};

/// What the message of a simulated power cut begins with.
pub(crate) const POWER_CUT: &str = "power cut";

/// Stands among processed records for event time that has passed.
pub(crate) const PASSED: &str = "(time)";

/// What happens to the calls of one worker.
#[derive(Debug)]
pub(crate) struct Faults {
    pub(crate) rng: fastrand::Rng,
    /// Of a thousand commits, so many meet each of the faults.
    pub(crate) per_mille: u32,
    /// The power was cut: nothing more is heard of the process.
    pub(crate) is_cut: bool,
    /// Commits that met a rebalance.
    pub(crate) rewinds: u64,
    /// Called for a power cut: what the process had on disk is as it is now.
    pub(crate) cut: PowerCut,
}

/// Cuts the power of a process.
#[derive(Clone)]
pub(crate) struct PowerCut(pub(crate) Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for PowerCut {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("PowerCut")
    }
}

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    CutBefore,
    CutWithin,
    CutAfter,
    Abort,
    PutOut,
    Rebalanced,
    AnswerLost,
    RequestLost,
    Delayed,
}

const FATES: [Fate; 9] = [
    Fate::CutBefore,
    Fate::CutWithin,
    Fate::CutAfter,
    Fate::Abort,
    Fate::PutOut,
    Fate::Rebalanced,
    Fate::AnswerLost,
    Fate::RequestLost,
    Fate::Delayed,
];

/// One worker's connection.
#[derive(Debug)]
pub(crate) struct ModelLog {
    broker: Arc<Mutex<Broker>>,
    faults: Arc<Mutex<Faults>>,
    inputs: Vec<Topic>,
    producer: String,
    epoch: u32,
    member: u64,
    started: BTreeSet<i32>,
    paused: BTreeSet<i32>,
    next: BTreeMap<Place, i64>,
    /// Delivered and not committed, in order.
    delivered: Vec<(Place, i64)>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fenced(_: Fenced) -> LogError {
    LogError::new(Remedy::Fenced, "another worker took over")
}

impl ModelLog {
    /// Fences the producer's predecessor and joins the group.
    pub(crate) fn open(
        broker: &Arc<Mutex<Broker>>,
        faults: &Arc<Mutex<Faults>>,
        inputs: &[Topic],
        producer: &str,
    ) -> ModelLog {
        let mut model = lock(broker);
        let epoch = model.init_producer(producer);
        let member = model.join();
        ModelLog {
            broker: Arc::clone(broker),
            faults: Arc::clone(faults),
            inputs: inputs.to_vec(),
            producer: producer.to_owned(),
            epoch,
            member,
            started: BTreeSet::new(),
            paused: BTreeSet::new(),
            next: BTreeMap::new(),
            delivered: Vec::new(),
        }
    }

    fn power_cut(&self) -> LogError {
        let cut = {
            let mut faults = lock(&self.faults);
            faults.is_cut = true;
            faults.cut.clone()
        };
        (cut.0)();
        LogError::new(Remedy::Stop, POWER_CUT)
    }

    fn fate(&self) -> Fate {
        let mut faults = lock(&self.faults);
        if faults.rng.u32(..1000) < faults.per_mille {
            faults.rng.choice(FATES).expect("there are fates")
        } else {
            Fate::Fine
        }
    }

    fn collect(&mut self, records_max: usize) -> Vec<Record> {
        let model = lock(&self.broker);
        let mut faults = lock(&self.faults);
        let mut places: Vec<Place> = Vec::new();
        for partition in self.started.difference(&self.paused) {
            places.extend(self.inputs.iter().map(|topic| (topic.clone(), *partition)));
        }
        let mut records = Vec::new();
        faults.rng.shuffle(&mut places);
        for place in places {
            // However much a fetch brings.
            let share = faults.rng.usize(0..=records_max);
            let end = model.stable_end(&place);
            let next = self.next.get_mut(&place).expect("set when it was started");
            for _ in 0..share {
                if *next >= end || records.len() >= records_max {
                    break;
                }
                if let Some(record) = model.committed_record(&place, *next) {
                    self.delivered.push((place.clone(), *next));
                    records.push(record.clone());
                }
                *next += 1;
            }
        }
        records
    }

    fn try_commit(&mut self, transaction: &Transaction, fate: Fate) -> Result<Receipt, LogError> {
        if fate == Fate::CutBefore {
            return Err(self.power_cut());
        }
        let broker = Arc::clone(&self.broker);
        let mut model = lock(&broker);
        let missing = transaction.appends.iter().find(|append| !model.has(append));
        if let Some(Append { topic, partition, .. }) = missing {
            let message = format!("there is no partition {partition} of {topic}");
            return Err(LogError::new(Remedy::Stop, message));
        }
        if fate == Fate::PutOut {
            model.remove(self.member);
        }
        if fate == Fate::Rebalanced {
            model.rebalance();
        }
        let appended = model
            .append_in_txn(&self.producer, self.epoch, &transaction.appends)
            .map_err(fenced)?;
        let offsets: Vec<(Place, i64)> = transaction
            .offsets
            .iter()
            .map(|(topic, partition, next)| ((topic.clone(), *partition), *next))
            .collect();
        let below = |(place, offset): &&(Place, i64)| {
            offsets.iter().any(|(committed, next)| committed == place && offset < next)
        };
        let processed: Vec<(Place, i64)> = self.delivered.iter().filter(below).cloned().collect();
        let processed = [processed, passed(transaction)].concat();
        let (id, epoch, hears) = (&self.producer, self.epoch, lock(&self.faults).rng.bool());
        if let Err(refused) = model.add_offsets(id, epoch, self.member, hears, &offsets, &processed)
        {
            model.abort(id, epoch);
            return Err(match refused {
                Refused::Fenced => fenced(Fenced),
                Refused::OldGeneration => {
                    lock(&self.faults).rewinds += 1;
                    LogError::new(Remedy::Rewind, "the group is being rebalanced")
                }
            });
        }
        let unknown = |what: &str| Err(LogError::new(Remedy::Unknown, what));
        let request = model.end_request(&self.producer, self.epoch).map_err(fenced)?;
        match fate {
            Fate::Abort => {
                model.abort(&self.producer, self.epoch);
                return Err(LogError::new(Remedy::Reopen, "the transaction was aborted"));
            }
            Fate::CutWithin => {
                drop(model);
                return Err(self.power_cut());
            }
            Fate::RequestLost => return unknown("the request was lost"),
            Fate::Delayed => {
                model.delay(request);
                return unknown("the request is on its way");
            }
            Fate::Fine
            | Fate::AnswerLost
            | Fate::CutAfter
            | Fate::CutBefore
            | Fate::PutOut
            | Fate::Rebalanced => {
                model.commit(&request).map_err(fenced)?;
            }
        }
        drop(model);
        self.delivered.retain(|delivered| !processed.contains(delivered));
        match fate {
            Fate::AnswerLost => unknown("the answer was lost"),
            Fate::CutAfter => Err(self.power_cut()),
            Fate::Fine
            | Fate::CutBefore
            | Fate::CutWithin
            | Fate::Abort
            | Fate::PutOut
            | Fate::Rebalanced
            | Fate::RequestLost
            | Fate::Delayed => Ok(receipt(transaction, appended)),
        }
    }
}

/// How far time has passed by what a transaction commits: where closes were cut, they come before whatever is processed next.
fn passed(transaction: &Transaction) -> Vec<(Place, i64)> {
    let state = TopicNames::default().state_changelog;
    let passed = transaction.appends.iter().filter(|append| *append.topic == *state);
    let passed = passed.filter_map(|append| {
        let (key, value) = (append.key.as_deref()?, append.payload.as_deref()?);
        let clock = clock_row(key, value).expect("a row that can be read")?;
        Some(((PASSED.into(), append.partition), clock.newest?.0))
    });
    passed.collect()
}

fn receipt(transaction: &Transaction, offsets: Vec<i64>) -> Receipt {
    let mut positions = BTreeMap::new();
    for (append, offset) in transaction.appends.iter().zip(offsets) {
        positions.insert((append.topic.clone(), append.partition), offset + 1);
    }
    let positions =
        positions.into_iter().map(|((topic, partition), next)| (topic, partition, next));
    Receipt { positions: positions.collect() }
}

impl Log for ModelLog {
    fn partitions(&self) -> i32 {
        lock(&self.broker).partitions()
    }

    fn poll(&mut self, records_max: usize, _timeout: Duration) -> Result<Poll, LogError> {
        let broker = Arc::clone(&self.broker);
        let mut model = lock(&broker);
        if !model.is_member(self.member) {
            return Err(fenced(Fenced));
        }
        match model.take_change(self.member) {
            Some(Change::Revoked(partitions)) => {
                let stays = |partition: &i32| !partitions.contains(partition);
                self.started.retain(stays);
                self.paused.retain(stays);
                self.next.retain(|(_, partition), _| stays(partition));
                self.delivered.retain(|((_, partition), _)| stays(partition));
                return Ok(Poll::Revoked(partitions));
            }
            Some(Change::Assigned(partitions)) => {
                for topic in &self.inputs {
                    for partition in &partitions {
                        let place = (topic.clone(), *partition);
                        let committed = model.committed(&place).unwrap_or(0);
                        self.next.insert(place, committed);
                    }
                }
                return Ok(Poll::Assigned(partitions));
            }
            None => {}
        }
        drop(model);
        let records = self.collect(records_max);
        Ok(if records.is_empty() { Poll::Idle } else { Poll::Records(records) })
    }

    fn start(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.started.extend(partitions);
        Ok(())
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Receipt, LogError> {
        if transaction.appends.is_empty() && transaction.offsets.is_empty() {
            return Ok(Receipt::default());
        }
        let fate = self.fate();
        self.try_commit(transaction, fate)
    }

    fn rewind(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        let model = lock(&self.broker);
        for (place, next) in &mut self.next {
            if partitions.contains(&place.1) {
                *next = model.committed(place).unwrap_or(0);
            }
        }
        self.delivered.retain(|((_, partition), _)| !partitions.contains(partition));
        self.paused.retain(|partition| !partitions.contains(partition));
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
        let mut model = lock(&self.broker);
        let place = (topic.clone(), partition);
        let end = model.end(&place);
        if model.stable_end(&place) < end {
            // A real reader waits; time passes meanwhile, and with it what keeps the transaction open.
            if lock(&self.faults).rng.bool() {
                model.deliver_delayed();
            }
            model.now_ms += model.transaction_timeout_ms + 1;
            model.expire_transactions();
        }
        let end = model.end(&place);
        let (mut next, mut left) = (from, records_max);
        while next < end && left > 0 {
            if let Some(record) = model.committed_record(&place, next) {
                each(record.clone())?;
                left -= 1;
            }
            next += 1;
        }
        Ok(Read::of_this_call(next.min(end), end))
    }

    fn pause(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.paused.extend(partitions);
        Ok(())
    }

    fn resume(
        &mut self,
        partitions: &[i32],
        offsets: &[(Topic, i32, i64)],
    ) -> Result<(), LogError> {
        for (topic, partition, offset) in offsets {
            let place = (topic.clone(), *partition);
            self.delivered.retain(|(of, delivered)| *of != place || delivered < offset);
            self.next.insert(place, *offset);
        }
        self.paused.retain(|partition| !partitions.contains(partition));
        Ok(())
    }

    fn lag(&mut self) -> Result<Vec<Lag>, LogError> {
        let model = lock(&self.broker);
        let lags = self.next.iter().map(|(place, next)| Lag {
            topic: place.0.clone(),
            partition: place.1,
            records: model.stable_end(place) - next,
        });
        Ok(lags.collect())
    }
}

impl Drop for ModelLog {
    fn drop(&mut self) {
        // After a power cut the member stays until the broker misses it.
        if !lock(&self.faults).is_cut {
            lock(&self.broker).remove(self.member);
        }
    }
}
