//! A log without a broker and without a disk, for measuring what is above it. Input is made when it is asked for, from its place alone, so that
//! it can be delivered again; what is committed is counted and dropped. A state changelog may be given, to be read back.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bellwether_core::event::Event;
use bellwether_engine::log::{
    Append, Lag, Log, LogError, Poll, Read, Receipt, Record, Topic, Transaction,
};
use bellwether_engine::topics::TopicNames;
use serde_json::json;

/// A key, a value, and a time in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fed {
    /// The record's key.
    pub key: Vec<u8>,
    /// The record's value.
    pub payload: Vec<u8>,
    /// The record's time.
    pub at_ms: i64,
}

/// An event as a producer sends it.
#[must_use]
pub fn fed(event: &Event) -> Fed {
    let payload = json!({
        "event_id": event.id.as_str(), "account_id": event.account.as_str(), "type": event.kind,
        "occurred_at": event.occurred_at.0, "value": event.value, "feature": event.feature,
        "member_id": event.member.as_ref().map(|member| member.as_str()), "member_role": event.role,
        "segment": event.segment,
    });
    Fed {
        key: event.account.as_str().as_bytes().to_vec(),
        payload: payload.to_string().into_bytes(),
        at_ms: event.occurred_at.0,
    }
}

/// Makes the record of a partition at an offset: always the same one.
pub type Make = Arc<dyn Fn(i32, i64) -> Fed + Send + Sync>;

/// The state changelog: how its records are made, and where each partition ends.
#[derive(Clone)]
pub struct Changelog {
    /// Makes a record.
    pub make: Make,
    /// By partition, the offset after the last record.
    pub ends: Vec<i64>,
}

impl fmt::Debug for Changelog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Changelog").field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl Changelog {
    /// One without records.
    #[must_use]
    pub fn empty(partitions: i32) -> Changelog {
        let nothing = |_: i32, _: i64| Fed { key: Vec::new(), payload: Vec::new(), at_ms: 0 };
        Changelog { make: Arc::new(nothing), ends: (0..partitions).map(|_| 0).collect() }
    }
}

/// What was committed so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Partitions whose records were asked for.
    pub started: usize,
    /// Records of input.
    pub inputs: i64,
    /// Transactions.
    pub transactions: u64,
    /// Records of both changelogs.
    pub changelog_records: u64,
    /// Bytes of their keys and values.
    pub changelog_bytes: u64,
    /// Records of all outputs.
    pub output_records: u64,
    /// Bytes of their keys, values and headers.
    pub output_bytes: u64,
}

/// Watches a feed from outside, and says how far it may go. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    counts: Arc<Mutex<Counts>>,
    allowed: Arc<AtomicI64>,
}

impl Watch {
    /// What was committed so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets every partition deliver its records up to this offset (exclusive).
    pub fn allow(&self, end: i64) {
        self.allowed.store(end, Ordering::Relaxed);
    }

    fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A key and a value.
type Pair = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Where a partition stands.
#[derive(Default)]
struct Place {
    started: bool,
    paused: bool,
    next: i64,
    committed: i64,
    /// Ends of the changelogs of state and of ids.
    ends: [i64; 2],
    /// What other partitions said of cohorts, and how much of it was delivered.
    told: Vec<Pair>,
    heard: usize,
}

/// The log.
pub struct Feed {
    events: Topic,
    changelogs: [Topic; 2],
    cohorts: Topic,
    input: Make,
    changelog: Changelog,
    places: Vec<Place>,
    assigned: bool,
    watch: Watch,
}

impl fmt::Debug for Feed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Feed").field("watch", &self.watch).finish_non_exhaustive()
    }
}

impl Feed {
    /// A log of the first topic of events. It delivers nothing before [`Watch::allow`].
    #[must_use]
    pub fn new(topics: &TopicNames, input: Make, changelog: Changelog) -> Feed {
        let topic = |name: &String| Topic::from(name.as_str());
        let place = |end: &i64| Place { ends: [*end, 0], ..Place::default() };
        Feed {
            events: topics.events.first().map_or_else(|| "events".into(), topic),
            changelogs: [&topics.state_changelog, &topics.seen_changelog].map(topic),
            cohorts: topic(&topics.cohort_stats),
            input,
            places: changelog.ends.iter().map(place).collect(),
            changelog,
            assigned: false,
            watch: Watch::default(),
        }
    }

    /// The same, whose partitions begin at this offset of their input: for stores that are so far already.
    #[must_use]
    pub fn beginning_at(mut self, offset: i64) -> Feed {
        for place in &mut self.places {
            (place.next, place.committed) = (offset, offset);
        }
        self.watch.count(|counts| counts.inputs = offset * self.places.len() as i64);
        self
    }

    /// Watches it.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    fn place(&mut self, partition: i32) -> Option<&mut Place> {
        self.places.get_mut(usize::try_from(partition).ok()?)
    }

    fn record(topic: &Topic, partition: i32, offset: i64, pair: Pair, at_ms: i64) -> Record {
        Record {
            topic: Arc::clone(topic),
            partition,
            offset,
            key: pair.0,
            payload: pair.1,
            headers: Vec::new(),
            timestamp_ms: at_ms,
        }
    }

    /// Delivers what one partition has, at most so many records of input.
    fn deliver(&mut self, partition: i32, inputs_max: usize, records: &mut Vec<Record>) {
        let (allowed, input) =
            (self.watch.allowed.load(Ordering::Relaxed), Arc::clone(&self.input));
        let (events, cohorts) = (Arc::clone(&self.events), Arc::clone(&self.cohorts));
        let Some(place) = self.place(partition) else { return };
        let mut at_ms = 0;
        let end = place.next.saturating_add_unsigned(inputs_max as u64).min(allowed);
        for offset in place.next..end {
            let fed = input(partition, offset);
            at_ms = fed.at_ms;
            let pair = (Some(fed.key), Some(fed.payload));
            records.push(Feed::record(&events, partition, offset, pair, at_ms));
        }
        place.next = end.max(place.next);
        for (offset, pair) in (0i64..).zip(&place.told).skip(place.heard) {
            records.push(Feed::record(&cohorts, partition, offset, pair.clone(), at_ms));
        }
        place.heard = place.told.len();
    }

    /// Counts a record, and keeps it where it is to be heard.
    fn append(&mut self, append: &Append, counts: &mut Counts) {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len) as u64;
        let headers = append.headers.iter().map(|(name, value)| (name.len() + value.len()) as u64);
        let bytes = of(&append.key) + of(&append.payload) + headers.sum::<u64>();
        let changelog = self.changelogs.iter().position(|topic| *topic == append.topic);
        let is_told = append.topic == self.cohorts;
        let Some(place) = self.place(append.partition) else { return };
        if let Some(changelog) = changelog {
            place.ends[changelog] += 1;
            counts.changelog_records += 1;
            counts.changelog_bytes += bytes;
        } else if is_told {
            place.told.push((append.key.clone(), append.payload.clone()));
        } else {
            counts.output_records += 1;
            counts.output_bytes += bytes;
        }
    }
}

impl Log for Feed {
    fn partitions(&self) -> i32 {
        i32::try_from(self.places.len()).unwrap_or(i32::MAX)
    }

    fn poll(&mut self, records_max: usize, _timeout: Duration) -> Result<Poll, LogError> {
        if !self.assigned {
            self.assigned = true;
            return Ok(Poll::Assigned((0..self.partitions()).collect()));
        }
        let is_open = |place: &&Place| place.started && !place.paused;
        let open = self.places.iter().filter(is_open).count();
        let mut records = Vec::new();
        for partition in 0..self.partitions() {
            if self.place(partition).is_some_and(|place| is_open(&&*place)) {
                self.deliver(partition, (records_max / open).max(1), &mut records);
            }
        }
        Ok(if records.is_empty() { Poll::Idle } else { Poll::Records(records) })
    }

    fn start(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        for partition in partitions {
            if let Some(place) = self.place(*partition) {
                place.started = true;
            }
        }
        self.watch.count(|counts| counts.started += partitions.len());
        Ok(())
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Receipt, LogError> {
        let mut counts = self.watch.counts();
        for append in &transaction.appends {
            self.append(append, &mut counts);
        }
        let mut receipt = Receipt::default();
        let mut partitions: Vec<i32> = Vec::new();
        for (topic, partition, next) in &transaction.offsets {
            let is_input = *topic == self.events;
            let Some(place) = self.place(*partition) else { continue };
            if is_input {
                counts.inputs += next - place.committed;
                place.committed = *next;
            }
            if !partitions.contains(partition) {
                partitions.push(*partition);
            }
        }
        let topics = self.changelogs.clone();
        for partition in partitions {
            let Some(place) = self.place(partition) else { continue };
            let ends = topics.iter().zip(place.ends);
            receipt.positions.extend(ends.map(|(topic, end)| (Arc::clone(topic), partition, end)));
        }
        counts.transactions += 1;
        self.watch.count(|all| *all = counts);
        Ok(receipt)
    }

    fn rewind(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        for partition in partitions {
            if let Some(place) = self.place(*partition) {
                (place.next, place.heard, place.paused) = (place.committed, 0, false);
            }
        }
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
        let ends = self.changelog.ends.get(usize::try_from(partition).unwrap_or(usize::MAX));
        let end = ends.copied().filter(|_| *topic == self.changelogs[0]).unwrap_or(0);
        // A store that was worked on before has all of it.
        let end = end.max(from);
        let next = from.saturating_add_unsigned(records_max as u64).min(end);
        for offset in from..next {
            let fed = (self.changelog.make)(partition, offset);
            let pair = (Some(fed.key), Some(fed.payload));
            each(Feed::record(topic, partition, offset, pair, fed.at_ms))?;
        }
        Ok(Read::of_this_call(next, end))
    }

    fn pause(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        for partition in partitions {
            if let Some(place) = self.place(*partition) {
                place.paused = true;
            }
        }
        Ok(())
    }

    fn resume(
        &mut self,
        partitions: &[i32],
        offsets: &[(Topic, i32, i64)],
    ) -> Result<(), LogError> {
        for partition in partitions {
            if let Some(place) = self.place(*partition) {
                place.paused = false;
            }
        }
        for (topic, partition, next) in offsets {
            let (is_input, is_told) = (*topic == self.events, *topic == self.cohorts);
            let Some(place) = self.place(*partition) else { continue };
            if is_input {
                place.next = *next;
            } else if is_told {
                place.heard = usize::try_from(*next).unwrap_or(0);
            }
        }
        Ok(())
    }

    fn lag(&mut self) -> Result<Vec<Lag>, LogError> {
        Ok(Vec::new())
    }
}
