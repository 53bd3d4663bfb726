//! Bytes to events, and outputs to bytes. Run with `cargo bench -p bellwether-benches --bench wire`.

use std::hint::black_box;
use std::sync::Arc;

use bellwether_benches::feed::fed;
use bellwether_benches::full_accounts;
use bellwether_core::event::{Event, Input};
use bellwether_core::output::Output;
use bellwether_core::policy::Compiled;
use bellwether_core::state::MemoryState;
use bellwether_core::step::Core;
use bellwether_wire::decode::{Decoder, RECORD_BYTES_MAX};
use bellwether_wire::encode::{Encoder, OutputKind, OutputTopics};
use bellwether_wire::schema;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fake_registry::FakeRegistry;

#[path = "../../crates/bellwether-wire/tests/wire/fake_registry.rs"]
#[expect(dead_code, reason = "tests ask more of it")]
mod fake_registry;

const TOPICS: OutputTopics<'_> = OutputTopics {
    score_changed: "changed",
    score_current: "current",
    alerts: "alerts",
    shadow: "shadow",
    examples: "examples",
};
/// Ids of our schema of events, and of another one: of an application that knows fewer fields, and one that we do not.
const IDS: (u32, u32) = (1, 2);
const OTHER_SCHEMA: &str = r#"{"type":"record","name":"UsageEvent","namespace":"io.bellwether.v1","fields":[
    {"name":"event_id","type":"string"},{"name":"account_id","type":"string"},{"name":"type","type":"string"},
    {"name":"occurred_at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"value","type":["null","double"],"default":null},{"name":"region","type":"string"}]}"#;

fn events() -> Vec<Event> {
    full_accounts(4, 14)
}

/// Writes an event in a format.
type Write<'a> = &'a dyn Fn(&Event) -> Vec<u8>;

/// An integer as Avro has it: zigzag, seven bits a byte.
fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn string(out: &mut Vec<u8>, text: &str) {
    long(out, text.len() as i64);
    out.extend_from_slice(text.as_bytes());
}

/// The second branch of a union with null, or the first.
fn optional<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    long(out, i64::from(value.is_some()));
    if let Some(value) = value {
        write(out, value);
    }
}

/// The fields that both schemas begin with, behind the magic byte and the schema's id.
fn head(event: &Event, id: u32) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&id.to_be_bytes());
    string(&mut out, event.id.as_str());
    string(&mut out, event.account.as_str());
    string(&mut out, &event.kind);
    long(&mut out, event.occurred_at.0);
    out
}

fn double(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// By our schema: `usage-event.avsc`.
fn avro(event: &Event) -> Vec<u8> {
    let mut out = head(event, IDS.0);
    optional(&mut out, event.member.as_ref(), |out, member| string(out, member.as_str()));
    optional(&mut out, event.role.as_ref(), |out, role| string(out, role));
    optional(&mut out, event.feature.as_ref(), |out, feature| string(out, feature));
    optional(&mut out, event.segment.as_ref(), |out, segment| string(out, segment));
    optional(&mut out, event.value, double);
    // No text, no attributes.
    long(&mut out, 0);
    long(&mut out, 0);
    out
}

/// By the other one.
fn other_avro(event: &Event) -> Vec<u8> {
    let mut out = head(event, IDS.1);
    optional(&mut out, event.value, double);
    string(&mut out, "eu-central");
    out
}

fn decode(criterion: &mut Criterion) {
    let events = events();
    let registry = FakeRegistry::start()
        .with_schema(IDS.0, schema::USAGE_EVENT.text())
        .with_schema(IDS.1, OTHER_SCHEMA);
    let mut decoder = Decoder::new(Some(&registry.config()), RECORD_BYTES_MAX).expect("an address");
    let json = |event: &Event| fed(event).payload;
    let formats: [(&str, Write<'_>); 3] =
        [("json", &json), ("avro", &avro), ("avro_of_another_schema", &other_avro)];
    let mut group = criterion.benchmark_group("decode");
    for (name, write) in formats {
        let written: Vec<Vec<u8>> = events.iter().map(write).collect();
        for (event, bytes) in events.iter().zip(&written) {
            let read = decoder.event(None, Some(bytes)).expect("a good event");
            assert_eq!((&read.id, read.value), (&event.id, event.value), "{name}");
        }
        group.throughput(Throughput::Elements(written.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for (event, bytes) in events.iter().zip(&written) {
                    let key = Some(event.account.as_str().as_bytes());
                    black_box(decoder.event(key, Some(bytes)).expect("a good event"));
                }
            });
        });
    }
    group.finish();
}

/// One output of each kind that comes of a history.
fn outputs() -> Vec<(&'static str, Output)> {
    let (core, mut state) =
        (Core::new(Arc::new(Compiled::default_policy())), MemoryState::default());
    let mut out = Vec::new();
    // The stories of the demo: some end badly, so there are alerts.
    for event in bellwether_benches::stories().1 {
        let at = event.occurred_at;
        let Ok(verdict) = core.apply(&mut state, Input::Event(event), at, &mut out);
        black_box(&verdict);
    }
    let kinds = [
        ("score_changed", OutputKind::ScoreChanged),
        ("health", OutputKind::ScoreCurrent),
        ("alert", OutputKind::Alert),
    ];
    let last = |kind| out.iter().rev().find(|output| OutputKind::of(output) == kind).cloned();
    kinds.map(|(name, kind)| (name, last(kind).expect("the stories have all kinds"))).to_vec()
}

fn encode(criterion: &mut Criterion) {
    let subjects = [
        ("changed-value", OutputKind::ScoreChanged),
        ("current-value", OutputKind::ScoreCurrent),
        ("alerts-value", OutputKind::Alert),
        ("shadow-value", OutputKind::Shadow),
    ];
    let registry = (1..).zip(subjects).fold(FakeRegistry::start(), |registry, (id, subject)| {
        registry.with_subject(subject.0, id, subject.1.contract().text())
    });
    let avro = Encoder::avro(&registry.config(), &TOPICS).expect("it takes all schemas");
    let mut group = criterion.benchmark_group("encode");
    for (kind, output) in outputs() {
        for (format, encoder) in [("json", Encoder::json()), ("avro", avro.clone())] {
            group.bench_function(format!("{kind}/{format}"), |bencher| {
                bencher.iter(|| encoder.encode(black_box(&output)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
