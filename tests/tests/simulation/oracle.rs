//! What should have come out: the core, fed once with every input record in the order in which committed transactions took them,
//! on state in memory, by a process that never failed.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::cohort::Cohorts;
use bellwether_core::event::Input;
use bellwether_core::fleet::Message;
use bellwether_core::id::AccountId;
use bellwether_core::output::Output;
use bellwether_core::quality::Rejected;
use bellwether_core::reject::Reject;
use bellwether_core::state::{Clock, MemoryState, State};
use bellwether_core::step::Core;
use bellwether_core::time::Millis;
use bellwether_engine::embedded::partition_of;
use bellwether_engine::log::{Record, Topic};
use bellwether_engine::topics::TopicNames;
use bellwether_store::task::{Store, Stream};
use bellwether_tests::{assert_same, text};
use bellwether_wire::cohort_stats;
use bellwether_wire::dead_letter::DeadLetter;
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::Encoder;

use crate::broker::{Broker, Place};
use crate::log::{PASSED, lock};
use crate::world::{RECORD_BYTES_MAX, World, store_dir, store_options};

/// Key and value, as text, and headers.
type Published = (Option<String>, Option<String>, Vec<(String, Vec<u8>)>);

/// What was found, for a test that wants to know whether a schedule was worth its time.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) inputs: u64,
    pub(crate) outputs: u64,
    pub(crate) alerts: u64,
    pub(crate) dead_letters: u64,
    pub(crate) days_closed: u64,
    pub(crate) forgotten: u64,
    /// Closes that were committed apart from the record that they come before.
    pub(crate) cut_closes: u64,
    pub(crate) told: u64,
    /// Outputs that a promoted model scored.
    pub(crate) by_model: u64,
    /// Outputs of challengers.
    pub(crate) beside: u64,
    pub(crate) examples: u64,
    pub(crate) live_stores: u64,
    pub(crate) standby_copies: u64,
    /// Rejected records as processes counted them.
    pub(crate) rejected: u64,
}

impl std::ops::AddAssign for Found {
    fn add_assign(&mut self, other: Found) {
        self.inputs += other.inputs;
        self.outputs += other.outputs;
        self.alerts += other.alerts;
        self.dead_letters += other.dead_letters;
        self.days_closed += other.days_closed;
        self.forgotten += other.forgotten;
        self.cut_closes += other.cut_closes;
        self.told += other.told;
        self.by_model += other.by_model;
        self.beside += other.beside;
        self.examples += other.examples;
        self.live_stores += other.live_stores;
        self.standby_copies += other.standby_copies;
        self.rejected += other.rejected;
    }
}

/// Compares everything that was committed with what should have been.
pub(crate) fn verify(world: &World<'_>, core: &Core, topics: &TopicNames) -> Found {
    let broker = lock(&world.broker);
    every_record_once(&broker, topics, world.partitions);
    let mut found = Found::default();
    let mut rejected = BTreeMap::new();
    for partition in 0..world.partitions {
        let expected = Expected::of(&broker, core, topics, partition, &mut found);
        for (cohort, reason, records) in expected.rejected.iter() {
            let labels = format!("cohort=\"{cohort}\",reason=\"{}\"", reason.as_str());
            *rejected.entry(labels).or_default() += records;
        }
        for (name, records) in &expected.outputs {
            let place: Place = (name.as_str().into(), partition);
            let published: Vec<Published> =
                broker.committed_records(&place).into_iter().map(published).collect();
            assert_same(&format!("{name} [{partition}]"), &published, records);
            found.outputs += records.len() as u64;
        }
        for to in 0..world.partitions {
            let place: Place = (topics.cohort_stats.as_str().into(), to);
            let prefix = format!("{{\"source\":{partition},");
            let told: Vec<Option<String>> = broker
                .committed_records(&place)
                .into_iter()
                .map(|record| text(record.payload.as_deref()))
                .filter(|payload| payload.as_ref().is_some_and(|text| text.starts_with(&prefix)))
                .collect();
            let expected = expected.told.get(&to).cloned().unwrap_or_default();
            assert_same(&format!("told by {partition} to {to}"), &told, &expected);
        }
        found.alerts += expected.outputs[&topics.alerts].len() as u64;
        found.dead_letters += expected.outputs[&topics.dead_letters].len() as u64;
        let known = known(&expected.state);
        same_state("restored from the changelog", &restored(&broker, topics, partition), &known);
        let compared = live_stores(world, &broker, topics, partition, &known);
        found.live_stores += compared;
        // Only one process owns a partition: what others have of it is a copy.
        found.standby_copies += compared.saturating_sub(1);
    }
    found.rejected = rejected_once(world, &rejected);
    found
}

/// No record is counted twice, whatever was done again. What a process did not live to count is not counted.
fn rejected_once(world: &World<'_>, expected: &BTreeMap<String, u64>) -> u64 {
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for metrics in &world.metrics {
        let text = metrics.render().expect("metrics render");
        for line in text.lines() {
            let Some(series) = line.strip_prefix("bellwether_cohort_rejected_total{") else {
                continue;
            };
            let (labels, value) = series.split_once("} ").expect("a value");
            *counted.entry(labels.to_owned()).or_default() +=
                value.parse::<u64>().expect("a count");
        }
    }
    for (labels, records) in &counted {
        let most = expected.get(labels).copied().unwrap_or(0);
        assert!(*records <= most, "{labels}: {records} were counted, {most} were rejected");
    }
    counted.values().sum()
}

/// The dead letter of a record. Of a payload that is too large, the beginning is kept.
fn letter(reject: &Reject, record: &Record) -> Published {
    let letter = DeadLetter::new(reject, &record.topic, record.partition, record.offset);
    let mut headers = letter.headers(&record.headers);
    let kept = DeadLetter::keep(record.payload.as_deref(), RECORD_BYTES_MAX, &mut headers);
    (text(record.key.as_deref()), text(kept.as_deref()), headers)
}

fn published(record: &Record) -> Published {
    (text(record.key.as_deref()), text(record.payload.as_deref()), record.headers.clone())
}

/// Every committed input record was processed in one committed transaction, in its partition's order.
fn every_record_once(broker: &Broker, topics: &TopicNames, partitions: i32) {
    let mut by_place: BTreeMap<&Place, Vec<i64>> = BTreeMap::new();
    for (place, offset) in broker.processed().iter().filter(|(place, _)| *place.0 != *PASSED) {
        by_place.entry(place).or_default().push(*offset);
    }
    for topic in topics.inputs() {
        for partition in 0..partitions {
            let place: Place = (topic.as_str().into(), partition);
            let expected: Vec<i64> =
                broker.committed_records(&place).iter().map(|record| record.offset).collect();
            let processed = by_place.remove(&place).unwrap_or_default();
            assert_same(&format!("{topic} [{partition}], processed"), &processed, &expected);
        }
    }
    let strange: BTreeSet<&&Place> = by_place.keys().collect();
    assert!(strange.is_empty(), "processed, but no input: {strange:?}");
}

struct Expected {
    state: MemoryState,
    outputs: BTreeMap<String, Vec<Published>>,
    /// What the partition tells others of its cohorts, by the partition that it tells.
    told: BTreeMap<i32, Vec<Option<String>>>,
    rejected: Rejected,
}

impl Expected {
    fn of(
        broker: &Broker,
        core: &Core,
        topics: &TopicNames,
        partition: i32,
        found: &mut Found,
    ) -> Expected {
        let mut decoder = Decoder::new(None, RECORD_BYTES_MAX).expect("no registry");
        let encoder = Encoder::json();
        let kinds = [
            &topics.score_changed,
            &topics.score_current,
            &topics.alerts,
            &topics.shadow,
            &topics.examples,
            &topics.dead_letters,
        ];
        let mut expected = Expected {
            state: MemoryState::default(),
            outputs: kinds.map(|name| (name.clone(), Vec::new())).into(),
            told: BTreeMap::new(),
            rejected: Rejected::default(),
        };
        let partitions = broker.partitions();
        let core = core.clone().among(partitions);
        for (place, offset) in broker.processed().iter().filter(|(place, _)| place.1 == partition) {
            let mut out = Vec::new();
            let record = (*place.0 != *PASSED)
                .then(|| broker.committed_record(place, *offset).expect("it was processed"));
            found.inputs += u64::from(record.is_some());
            let verdict = match record.map(|record| (record, decode(&mut decoder, topics, record)))
            {
                None => {
                    let state = &mut expected.state;
                    let cut = state.clock().newest < Some(Millis(*offset));
                    found.cut_closes += u64::from(cut);
                    let Ok(swept) = core.close_to(state, Millis(*offset), u32::MAX, &mut out);
                    found.days_closed += u64::from(swept.days_closed);
                    Ok(())
                }
                Some((record, Ok(input))) => {
                    let at = Millis(record.timestamp_ms);
                    let Ok(verdict) = core.apply(&mut expected.state, input, at, &mut out);
                    let applied = verdict.map_err(|reject| (record, reject));
                    applied.map(|applied| found.days_closed += u64::from(applied.days_closed))
                }
                Some((record, Err(reject))) => Err((record, reject)),
            };
            let cohorts = expected.state.cohorts();
            for message in cohorts.outbox() {
                let payload = cohort_stats::encode(partition.cast_unsigned(), message);
                let to = match message {
                    Message::Part(_) => {
                        let adds_up = partition_of(message.key().as_bytes(), partitions);
                        adds_up..adds_up + 1
                    }
                    Message::Total(_)
                    | Message::Calendar(..)
                    | Message::Promotion(..)
                    | Message::Challenger(..)
                    | Message::Fact(_) => 0..partitions,
                };
                found.told += 1;
                for to in to {
                    expected.told.entry(to).or_default().push(text(Some(&payload)));
                }
            }
            cohorts.settle();
            for output in &out {
                found.forgotten += u64::from(matches!(output, Output::Forgotten(_)));
                found.beside += u64::from(matches!(output, Output::Shadow(_)));
                found.examples += u64::from(matches!(output, Output::Example(_)));
                found.by_model += u64::from(matches!(
                    output,
                    Output::ScoreChanged(change) if change.model_version.starts_with("times-")
                ));
                let name = match output {
                    Output::ScoreChanged(_) => &topics.score_changed,
                    Output::Health(_) | Output::Forgotten(_) => &topics.score_current,
                    Output::Alert(_) => &topics.alerts,
                    Output::Shadow(_) => &topics.shadow,
                    Output::Example(_) => &topics.examples,
                };
                let key = Some(output.account().as_str().to_owned());
                let encoded = encoder.encode(output);
                let published = (key, text(encoded.payload.as_deref()), encoded.headers);
                expected.outputs.get_mut(name).expect("a topic").push(published);
            }
            let Err((record, reject)) = verdict else { continue };
            let keyed = topics.events.iter().chain([&topics.profiles, &topics.outcomes]);
            let key =
                record.key.as_deref().filter(|_| keyed.clone().any(|name| **name == *record.topic));
            let account = key.and_then(|key| AccountId::new(std::str::from_utf8(key).ok()?).ok());
            let state = &mut expected.state;
            let Ok(()) = expected.rejected.count(state, account.as_ref(), reject.reason);
            if !reject.reason.intended() {
                let letters = expected.outputs.get_mut(&topics.dead_letters).expect("a topic");
                letters.push(letter(&reject, record));
            }
        }
        expected
    }
}

fn decode(decoder: &mut Decoder, topics: &TopicNames, record: &Record) -> Result<Input, Reject> {
    let (key, payload) = (record.key.as_deref(), record.payload.as_deref());
    let topic: &str = &record.topic;
    let input = if topic == topics.ticks {
        return Ok(Input::Tick);
    } else if topic == topics.cohort_stats {
        cohort_stats::decode(payload)
    } else if topic == topics.profiles && payload.is_none() {
        Decoder::deletion(key).map(Input::Forget)
    } else if topic == topics.profiles {
        decoder.profile(key, payload).map(Input::Profile)
    } else if topic == topics.outcomes {
        decoder.outcome(key, payload).map(Input::Outcome)
    } else if topic == topics.calendar {
        decoder.calendar(key, payload).map(|(id, entry)| Input::Calendar { id, entry })
    } else if topic == topics.models {
        decoder.promotion(key, payload)
    } else {
        decoder.event(key, payload).map(Input::Event)
    };
    input.map_err(|error| match error {
        DecodeError::Reject(reject) => reject,
        DecodeError::RegistryUnavailable(detail) => panic!("there is no registry: {detail}"),
    })
}

/// A store built from the changelogs alone.
fn restored(broker: &Broker, topics: &TopicNames, partition: i32) -> Known {
    let disk = bellwether_store::memory::MemoryDisk::default();
    let dir = store_dir(partition);
    let mut store =
        Store::open(&dir, "simulated", partition, &store_options(&disk, 1)).expect("a new store");
    for (stream, name) in changelogs(topics) {
        let place: Place = (name, partition);
        for record in broker.committed_records(&place) {
            let key = record.key.as_deref().unwrap_or_default();
            store
                .restore(stream, record.offset + 1, key, record.payload.as_deref())
                .expect("a changelog that can be read");
        }
    }
    store.finish_restore(&[]).expect("a write");
    contents(&store)
}

fn changelogs(topics: &TopicNames) -> [(Stream, Topic); 2] {
    [
        (Stream::State, topics.state_changelog.as_str().into()),
        (Stream::Seen, topics.seen_changelog.as_str().into()),
    ]
}

/// Accounts and rows of cohorts, as text (a value that is missing is a NaN, which equals nothing), and the clock.
type Known = (Vec<String>, Vec<String>, Clock);

fn of_cohorts(cohorts: &Cohorts) -> Vec<String> {
    cohorts.rows().map(|row| format!("{row:?}")).collect()
}

fn known(state: &MemoryState) -> Known {
    let accounts = state.accounts().values().map(|account| format!("{account:?}")).collect();
    (accounts, of_cohorts(state.known_cohorts()), state.clock())
}

fn contents(store: &Store) -> Known {
    let ids: Vec<_> = store.accounts().expect("readable").collect::<Result<_, _>>().expect("ids");
    let account = |id| format!("{:?}", store.get(id).expect("readable").expect("listed"));
    (ids.iter().map(account).collect(), of_cohorts(store.known_cohorts()), store.clock())
}

fn same_state(what: &str, found: &Known, expected: &Known) {
    assert_same(what, &found.0, &expected.0);
    assert_same(&format!("{what}: cohorts"), &found.1, &expected.1);
    assert_eq!(found.2, expected.2, "{what}: the clock");
}

/// Stores that workers left at the end of their changelog hold the same.
fn live_stores(
    world: &World<'_>,
    broker: &Broker,
    topics: &TopicNames,
    partition: i32,
    known: &Known,
) -> u64 {
    let mut compared = 0;
    for disk in world.disks() {
        let options = store_options(disk, 1);
        let Ok(store) = Store::open(&store_dir(partition), "simulated", partition, &options) else {
            // Damaged on purpose.
            continue;
        };
        let is_current = changelogs(topics).into_iter().all(|(stream, name)| {
            let place: Place = (name, partition);
            let last = broker.committed_records(&place).last().map_or(-1, |record| record.offset);
            store.position(stream).unwrap_or(0) > last
        });
        if is_current && world.trouble.damaged == 0 {
            same_state("as a worker left it", &contents(&store), known);
            compared += 1;
        }
    }
    compared
}
