//! A model of Kafka's broker: partitions, transactions, one consumer group. Small enough to be believed, and held to the same
//! contract as the real one (`log_contract.rs`).

use std::collections::{BTreeMap, BTreeSet};

use bellwether_engine::log::{Append, Record, Topic};

/// A topic and a partition of it.
pub(crate) type Place = (Topic, i32);

#[derive(Debug, Clone)]
enum Entry {
    /// A record, and the transaction that wrote it, if one did.
    Record(Box<Record>, Option<u64>),
    /// The end of a transaction: it takes an offset and is never delivered.
    Marker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Committed,
    Aborted,
}

#[derive(Debug)]
struct Txn {
    state: State,
    /// Where it wrote, and its first offset there.
    places: BTreeMap<Place, i64>,
    offsets: Vec<(Place, i64)>,
    /// Input records whose outcome it holds, in the order in which they were processed.
    processed: Vec<(Place, i64)>,
    opened_ms: i64,
}

/// A request to end a transaction that is on its way.
#[derive(Debug, Clone)]
pub(crate) struct EndTxn {
    producer: String,
    epoch: u32,
    txn: u64,
}

/// A member of the consumer group.
#[derive(Debug, Default)]
struct Member {
    /// What it has heard that it owns.
    owned: BTreeSet<i32>,
    /// What it is to own.
    target: BTreeSet<i32>,
    /// The latest generation that it has heard of.
    generation: u32,
    seen_ms: i64,
}

/// A change of ownership that a member has not heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Revoked(Vec<i32>),
    Assigned(Vec<i32>),
}

/// Why the broker refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fenced;

/// Why the broker takes no input offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The producer or the member was replaced.
    Fenced,
    /// The member has not heard of the latest generation yet.
    OldGeneration,
}

/// The broker. Time is told to it.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    topics: BTreeMap<Topic, Vec<Vec<Entry>>>,
    inputs: Vec<Topic>,
    partitions: i32,
    txns: Vec<Txn>,
    open: BTreeSet<u64>,
    /// Epoch and open transaction, by transactional id.
    producers: BTreeMap<String, (u32, Option<u64>)>,
    members: BTreeMap<u64, Member>,
    generation: u32,
    next_member: u64,
    committed: BTreeMap<Place, i64>,
    in_flight: Vec<EndTxn>,
    /// Input records in the order in which committed transactions processed them.
    processed: Vec<(Place, i64)>,
    pub(crate) now_ms: i64,
    /// After so long the broker aborts a transaction.
    pub(crate) transaction_timeout_ms: i64,
}

impl Broker {
    pub(crate) fn new(inputs: &[Topic], others: &[Topic], partitions: i32) -> Broker {
        let width = usize::try_from(partitions).expect("a count");
        let topics = inputs.iter().chain(others);
        Broker {
            topics: topics.map(|topic| (topic.clone(), vec![Vec::new(); width])).collect(),
            inputs: inputs.to_vec(),
            partitions,
            transaction_timeout_ms: 30_000,
            ..Broker::default()
        }
    }

    // --- partitions ---

    fn entries(&self, place: &Place) -> &[Entry] {
        let index = usize::try_from(place.1).expect("a partition");
        &self.topics[&place.0][index]
    }

    /// How many partitions each topic has.
    pub(crate) fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Whether there is the partition that an append goes to.
    pub(crate) fn has(&self, append: &Append) -> bool {
        self.topics.contains_key(&append.topic) && (0..self.partitions).contains(&append.partition)
    }

    fn push(&mut self, place: &Place, entry: Entry) -> i64 {
        let index = usize::try_from(place.1).expect("a partition");
        let entries = &mut self.topics.get_mut(&place.0).expect("a topic")[index];
        entries.push(entry);
        entries.len() as i64 - 1
    }

    fn append(&mut self, append: &Append, txn: Option<u64>) -> i64 {
        let place = (append.topic.clone(), append.partition);
        let record = Record {
            topic: append.topic.clone(),
            partition: append.partition,
            offset: self.end(&place),
            key: append.key.clone(),
            payload: append.payload.clone(),
            headers: append.headers.clone(),
            timestamp_ms: append.timestamp_ms.unwrap_or(self.now_ms),
        };
        self.push(&place, Entry::Record(Box::new(record), txn))
    }

    /// Appends a plain producer's record.
    pub(crate) fn produce(&mut self, append: &Append) {
        self.append(append, None);
    }

    /// The offset after the last entry.
    pub(crate) fn end(&self, place: &Place) -> i64 {
        self.entries(place).len() as i64
    }

    /// The first offset that a reader of committed records cannot read yet.
    pub(crate) fn stable_end(&self, place: &Place) -> i64 {
        let open = self.open.iter().filter_map(|txn| self.txns[*txn as usize].places.get(place));
        open.min().copied().unwrap_or_else(|| self.end(place))
    }

    /// The committed record at an offset, if there is one.
    pub(crate) fn committed_record(&self, place: &Place, offset: i64) -> Option<&Record> {
        match self.entries(place).get(usize::try_from(offset).ok()?)? {
            Entry::Record(record, None) => Some(record),
            Entry::Record(record, Some(txn)) => {
                (self.txns[*txn as usize].state == State::Committed).then_some(record)
            }
            Entry::Marker => None,
        }
    }

    /// All committed records of a partition that can be read now.
    pub(crate) fn committed_records(&self, place: &Place) -> Vec<&Record> {
        (0..self.stable_end(place))
            .filter_map(|offset| self.committed_record(place, offset))
            .collect()
    }

    // --- transactions ---

    /// Fences earlier producers of this id and ends what they left open; the new epoch.
    pub(crate) fn init_producer(&mut self, id: &str) -> u32 {
        let (epoch, open) = self.producers.get(id).copied().unwrap_or_default();
        if let Some(txn) = open {
            self.end_txn(txn, false);
        }
        self.producers.insert(id.to_owned(), (epoch + 1, None));
        epoch + 1
    }

    fn producer(&self, id: &str, epoch: u32) -> Result<Option<u64>, Fenced> {
        match self.producers.get(id) {
            Some((current, open)) if *current == epoch => Ok(*open),
            Some(_) | None => Err(Fenced),
        }
    }

    /// Begins a transaction and appends to it; the offset of each record.
    pub(crate) fn append_in_txn(
        &mut self,
        id: &str,
        epoch: u32,
        appends: &[Append],
    ) -> Result<Vec<i64>, Fenced> {
        assert_eq!(self.producer(id, epoch)?, None, "one transaction at a time");
        let txn = self.txns.len() as u64;
        self.txns.push(Txn {
            state: State::Open,
            places: BTreeMap::new(),
            offsets: Vec::new(),
            processed: Vec::new(),
            opened_ms: self.now_ms,
        });
        self.open.insert(txn);
        self.producers.insert(id.to_owned(), (epoch, Some(txn)));
        let mut offsets = Vec::new();
        for append in appends {
            let offset = self.append(append, Some(txn));
            offsets.push(offset);
            let place = (append.topic.clone(), append.partition);
            self.txns[txn as usize].places.entry(place).or_insert(offset);
        }
        Ok(offsets)
    }

    /// Adds input offsets of a group member. One that was put out of the group is refused, and so is one that has not heard of
    /// the latest generation; `hears` tells it just in time, as a client's own thread may.
    pub(crate) fn add_offsets(
        &mut self,
        id: &str,
        epoch: u32,
        member: u64,
        hears: bool,
        offsets: &[(Place, i64)],
        processed: &[(Place, i64)],
    ) -> Result<(), Refused> {
        let open = self.producer(id, epoch).map_err(|Fenced| Refused::Fenced)?;
        let txn = open.ok_or(Refused::Fenced)?;
        let generation = self.generation;
        let member = self.members.get_mut(&member).ok_or(Refused::Fenced)?;
        if hears {
            member.generation = generation;
        }
        if member.generation != generation {
            return Err(Refused::OldGeneration);
        }
        let txn = &mut self.txns[txn as usize];
        txn.offsets.extend_from_slice(offsets);
        txn.processed.extend_from_slice(processed);
        Ok(())
    }

    /// The request to end the open transaction of a producer, not yet arrived.
    pub(crate) fn end_request(&self, id: &str, epoch: u32) -> Result<EndTxn, Fenced> {
        let txn = self.producer(id, epoch)?.ok_or(Fenced)?;
        Ok(EndTxn { producer: id.to_owned(), epoch, txn })
    }

    /// The request arrives and asks to commit.
    pub(crate) fn commit(&mut self, request: &EndTxn) -> Result<(), Fenced> {
        if self.producer(&request.producer, request.epoch)? != Some(request.txn) {
            return Err(Fenced);
        }
        self.producers.insert(request.producer.clone(), (request.epoch, None));
        self.end_txn(request.txn, true);
        Ok(())
    }

    /// A producer aborts its open transaction.
    pub(crate) fn abort(&mut self, id: &str, epoch: u32) {
        if let Ok(Some(txn)) = self.producer(id, epoch) {
            self.producers.insert(id.to_owned(), (epoch, None));
            self.end_txn(txn, false);
        }
    }

    /// The request is on its way for longer.
    pub(crate) fn delay(&mut self, request: EndTxn) {
        self.in_flight.push(request);
    }

    /// The oldest request that is on its way arrives. Whoever was fenced meanwhile is refused, as always.
    pub(crate) fn deliver_delayed(&mut self) {
        if !self.in_flight.is_empty() {
            let request = self.in_flight.remove(0);
            let _refused = self.commit(&request).is_err();
        }
    }

    /// Aborts what was open for too long, and fences its producer.
    pub(crate) fn expire_transactions(&mut self) {
        let late = |txn: &Txn| self.now_ms - txn.opened_ms > self.transaction_timeout_ms;
        let expired: Vec<(String, u32, u64)> = self
            .producers
            .iter()
            .filter_map(|(id, (epoch, open))| Some((id.clone(), *epoch, (*open)?)))
            .filter(|(_, _, txn)| late(&self.txns[*txn as usize]))
            .collect();
        for (id, epoch, txn) in expired {
            self.producers.insert(id, (epoch + 1, None));
            self.end_txn(txn, false);
        }
    }

    fn end_txn(&mut self, txn: u64, commit: bool) {
        let ended = &mut self.txns[txn as usize];
        assert_eq!(ended.state, State::Open, "a transaction ends once");
        ended.state = if commit { State::Committed } else { State::Aborted };
        self.open.remove(&txn);
        let places = std::mem::take(&mut ended.places);
        let offsets = std::mem::take(&mut ended.offsets);
        let processed = std::mem::take(&mut ended.processed);
        for place in places.keys() {
            self.push(place, Entry::Marker);
        }
        if commit {
            for (place, offset) in offsets {
                let before = self.committed.insert(place.clone(), offset).unwrap_or(0);
                assert!(before <= offset, "{place:?} went back from {before} to {offset}");
            }
            self.processed.extend(processed);
        }
    }

    /// Input records in the order in which committed transactions processed them.
    pub(crate) fn processed(&self) -> &[(Place, i64)] {
        &self.processed
    }

    // --- the group ---

    /// A new member; partitions are given out anew.
    pub(crate) fn join(&mut self) -> u64 {
        self.next_member += 1;
        let member = Member { seen_ms: self.now_ms, ..Member::default() };
        self.members.insert(self.next_member, member);
        self.rebalance();
        self.next_member
    }

    /// A member leaves, or is put out because nothing was heard of it.
    pub(crate) fn remove(&mut self, member: u64) {
        if self.members.remove(&member).is_some() {
            self.rebalance();
        }
    }

    /// Puts out members of which nothing was heard for so long.
    pub(crate) fn expire_members(&mut self, timeout_ms: i64) {
        for (id, member) in &self.members {
            if self.now_ms - member.seen_ms > timeout_ms {
                return self.remove(*id);
            }
        }
    }

    /// The members, oldest first.
    pub(crate) fn members(&self) -> Vec<u64> {
        self.members.keys().copied().collect()
    }

    pub(crate) fn is_member(&self, member: u64) -> bool {
        self.members.contains_key(&member)
    }

    /// A new generation, in which members keep what they have as far as the shares are even.
    pub(crate) fn rebalance(&mut self) {
        self.generation += 1;
        let Some(most) = (self.partitions as usize).checked_div(self.members.len()) else { return };
        let mut larger = self.partitions as usize % self.members.len();
        let mut free: BTreeSet<i32> = (0..self.partitions).collect();
        for member in self.members.values_mut() {
            let share = if member.target.len() > most && larger > 0 {
                larger -= 1;
                most + 1
            } else {
                most
            };
            member.target = std::mem::take(&mut member.target).into_iter().take(share).collect();
            free.retain(|partition| !member.target.contains(partition));
        }
        for member in self.members.values_mut() {
            while member.target.len() < most || (larger > 0 && member.target.len() == most) {
                let Some(partition) = free.pop_first() else { break };
                larger -= usize::from(member.target.len() == most);
                member.target.insert(partition);
            }
        }
        assert!(free.is_empty(), "every partition is somebody's");
    }

    /// The next change of ownership that a member hears of: what it has to give up, then what others have given up.
    pub(crate) fn take_change(&mut self, id: u64) -> Option<Change> {
        let (now_ms, generation) = (self.now_ms, self.generation);
        let taken: BTreeSet<i32> = self
            .members
            .iter()
            .filter(|(other, _)| **other != id)
            .flat_map(|(_, member)| member.owned.iter().copied())
            .collect();
        let member = self.members.get_mut(&id)?;
        member.seen_ms = now_ms;
        member.generation = generation;
        let revoked: Vec<i32> = member.owned.difference(&member.target).copied().collect();
        if !revoked.is_empty() {
            member.owned.retain(|partition| member.target.contains(partition));
            return Some(Change::Revoked(revoked));
        }
        let given: Vec<i32> = member.target.difference(&member.owned).copied().collect();
        let given: Vec<i32> =
            given.into_iter().filter(|partition| !taken.contains(partition)).collect();
        // Offsets in an open transaction are not stable: whoever needs them waits.
        let unstable = self.open.iter().any(|txn| {
            let offsets = &self.txns[*txn as usize].offsets;
            offsets.iter().any(|((_, partition), _)| given.contains(partition))
        });
        if unstable || given.is_empty() {
            return None;
        }
        let member = self.members.get_mut(&id)?;
        member.owned.extend(&given);
        Some(Change::Assigned(given))
    }

    /// The committed input position, if any.
    pub(crate) fn committed(&self, place: &Place) -> Option<i64> {
        self.committed.get(place).copied()
    }

    /// Whether every committed input record has been processed.
    pub(crate) fn is_worked_off(&self) -> bool {
        let places = self.inputs.iter().flat_map(|topic| {
            (0..self.partitions).map(move |partition| (topic.clone(), partition))
        });
        places.into_iter().all(|place| {
            let next = self.committed(&place).unwrap_or(0);
            (next..self.end(&place)).all(|offset| self.committed_record(&place, offset).is_none())
        }) && self.open.is_empty()
    }
}
