//! Output schemas and framed Avro against a real schema registry.

use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use bellwether_core::id::AccountId;
use bellwether_core::output::{Band, Maturity, Output, ScoreChanged};
use bellwether_core::points::Points;
use bellwether_core::reject::Reason;
use bellwether_core::time::Millis;
use bellwether_tests::{Registry, unique};
use bellwether_wire::decode::{DecodeError, Decoder, RECORD_BYTES_MAX};
use bellwether_wire::encode::{Encoder, OutputKind, OutputTopics};
use bellwether_wire::registry::{RegistryConfig, RegistryError};
use schema_registry_converter::blocking::schema_registry::{SrSettings, post_schema};
use schema_registry_converter::schema_registry_common::{SchemaType, SuppliedSchema};

/// The registry that the tests of this file share; subjects have unique names.
static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::start);

fn config() -> RegistryConfig {
    RegistryConfig::new(REGISTRY.url())
}

fn decoder() -> Decoder {
    Decoder::new(Some(&config()), RECORD_BYTES_MAX).expect("a good address")
}

/// Registers a schema as a producer would, and returns its id.
fn register(subject: &str, schema: &str) -> u32 {
    let settings = SrSettings::new(REGISTRY.url().to_owned());
    let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
    post_schema(&settings, subject.to_owned(), supplied).expect("the registry takes it").id
}

fn get(path: &str) -> String {
    let response = ureq::get(format!("{}{path}", REGISTRY.url())).call();
    response.expect("it answers").body_mut().read_to_string().expect("text")
}

fn change() -> Output {
    Output::ScoreChanged(Box::new(ScoreChanged {
        id: "0a1b".to_owned(),
        account_id: AccountId::new("acme").expect("an id"),
        sequence: 1,
        at: Millis(1_772_357_400_123),
        score: Points(4_105),
        previous_score: None,
        band: Band::AtRisk,
        previous_band: None,
        movements: Vec::new(),
        sub_scores: Vec::new(),
        maturity: Maturity::Established,
        policy_version: "p1".to_owned(),
        model_version: "m1".to_owned(),
    }))
}

#[test]
fn output_schemas_are_registered_once_and_bound_to_full_compatibility() {
    let names = ["changed", "current", "alerts", "shadow", "examples"].map(unique);
    let topics = OutputTopics {
        score_changed: &names[0],
        score_current: &names[1],
        alerts: &names[2],
        shadow: &names[3],
        examples: &names[4],
    };
    let encoder = Encoder::avro(&config(), &topics).expect("the registry takes them");
    let payload = encoder.encode(&change()).payload;
    let again = Encoder::avro(&config(), &topics).expect("and takes them again");
    assert_eq!(again.encode(&change()).payload, payload, "under the same ids");
    for name in &names {
        assert_eq!(get(&format!("/subjects/{name}-value/versions")), "[1]");
        assert!(get(&format!("/config/{name}-value")).contains("FULL_TRANSITIVE"));
    }
    let back =
        decoder().output(OutputKind::ScoreChanged, payload.as_deref()).expect("our own record");
    assert_eq!(back, change());
}

#[test]
fn a_subject_with_another_schema_refuses_ours_by_name() {
    let topic = unique("taken");
    let topics = OutputTopics {
        score_changed: &topic,
        score_current: &topic,
        alerts: &topic,
        shadow: &topic,
        examples: &topic,
    };
    // The second schema is not compatible with the first, which bound the subject.
    let error = Encoder::avro(&config(), &topics).expect_err("two schemas for one subject");
    assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
    assert!(error.to_string().contains(&format!("{topic}-value")), "{error}");
}

#[test]
fn events_of_producers_with_an_older_and_a_newer_schema_are_read() {
    let minimal = r#"{"name":"event_id","type":"string"},{"name":"account_id","type":"string"},
        {"name":"type","type":"string"},{"name":"occurred_at","type":{"type":"long","logicalType":"timestamp-millis"}}"#;
    let head = r#"{"type":"record","name":"UsageEvent","namespace":"io.bellwether.v1","fields":["#;
    let older = format!("{head}{minimal}]}}");
    let newer = format!(
        r#"{head}{minimal},{{"name":"from_v2","type":["null","string"],"default":null}}]}}"#
    );
    let mut decoder = decoder();
    for text in [older, newer] {
        let id = register(&format!("{}-value", unique("events")), &text);
        let schema = Schema::parse_str(&text).expect("a schema");
        let string = |text: &str| Value::String(text.to_owned());
        let mut fields = vec![
            ("event_id".to_owned(), string("e1")),
            ("account_id".to_owned(), string("acme")),
            ("type".to_owned(), string("login")),
            ("occurred_at".to_owned(), Value::TimestampMillis(1_772_357_400_000)),
        ];
        if text.contains("from_v2") {
            fields.push(("from_v2".to_owned(), Value::Union(1, Box::new(string("x")))));
        }
        let writer = GenericDatumWriter::builder(&schema).build().expect("a schema");
        let datum = writer.write_value_to_vec(Value::Record(fields)).expect("it fits");
        let payload = [&[0][..], &id.to_be_bytes(), &datum].concat();
        let event = decoder.event(Some(b"acme"), Some(&payload)).expect("it resolves");
        assert_eq!((event.kind.as_str(), event.value), ("login", None));
        let short = decoder.event(None, Some(&payload[..payload.len() - 1]));
        assert_eq!(reason(short), Reason::Malformed);
    }
}

#[test]
fn ids_that_the_registry_does_not_know_are_typed_rejects() {
    for id in [0_u32, 999_999, u32::MAX] {
        let payload = [&[0][..], &id.to_be_bytes(), b"whatever"].concat();
        assert_eq!(reason(decoder().event(None, Some(&payload))), Reason::UnknownSchema, "id {id}");
    }
}

#[test]
fn a_registry_that_went_away_pauses_and_fetched_schemas_still_serve() {
    let registry = Registry::start();
    let topic = unique("changed");
    let others = ["current", "alerts", "shadow", "examples"].map(unique);
    let topics = OutputTopics {
        score_changed: &topic,
        score_current: &others[0],
        alerts: &others[1],
        shadow: &others[2],
        examples: &others[3],
    };
    let config = RegistryConfig::new(registry.url());
    let encoder = Encoder::avro(&config, &topics).expect("the registry takes them");
    let payload = encoder.encode(&change()).payload;
    let mut warm = Decoder::new(Some(&config), RECORD_BYTES_MAX).expect("a good address");
    warm.output(OutputKind::ScoreChanged, payload.as_deref()).expect("our own record");
    drop(registry);
    warm.output(OutputKind::ScoreChanged, payload.as_deref()).expect("its schema is known");
    let mut cold = Decoder::new(Some(&config), RECORD_BYTES_MAX).expect("a good address");
    let error =
        cold.output(OutputKind::ScoreChanged, payload.as_deref()).expect_err("nobody is there");
    assert!(matches!(error, DecodeError::RegistryUnavailable(_)), "{error}");
}

fn reason<T: std::fmt::Debug>(result: Result<T, DecodeError>) -> Reason {
    match result {
        Err(DecodeError::Reject(reject)) => reject.reason,
        other => panic!("expected a reject, got {other:?}"),
    }
}
