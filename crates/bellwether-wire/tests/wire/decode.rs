//! Bytes in, typed values or typed rejects out.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use bellwether_core::calendar::Scope;
use bellwether_core::event::{Event, OutcomeKind};
use bellwether_core::reject::Reason;
use bellwether_core::time::Millis;
use bellwether_wire::decode::{DecodeError, Decoder, RECORD_BYTES_MAX};
use bellwether_wire::schema;
use proptest::prelude::*;

use crate::fake_registry::{FakeRegistry, nobody};

const MINIMAL: &str =
    r#"{"event_id":"e1","account_id":"acme","type":"login","occurred_at":"2026-03-01T09:30:00Z"}"#;

fn plain() -> Decoder {
    Decoder::new(None, RECORD_BYTES_MAX).expect("no registry, nothing to misconfigure")
}

fn json(text: &str) -> Result<Event, DecodeError> {
    plain().event(None, Some(text.as_bytes()))
}

fn reason<T: std::fmt::Debug>(result: Result<T, DecodeError>) -> Reason {
    match result {
        Err(DecodeError::Reject(reject)) => reject.reason,
        other => panic!("expected a reject, got {other:?}"),
    }
}

/// [`MINIMAL`] with one field set to a piece of JSON.
fn with(field: &str, value: &str) -> String {
    let mut fields = vec![
        ("event_id", r#""e1""#),
        ("account_id", r#""acme""#),
        ("type", r#""login""#),
        ("occurred_at", "1772357400000"),
    ];
    fields.retain(|(name, _)| *name != field);
    fields.push((field, value));
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

#[test]
fn json_with_the_schemas_names_is_read_field_by_field() {
    let event = json(
        r#" {"event_id":"e1","account_id":"acme","type":"session.ended","occurred_at":1772357400000,"member_id":"ann",
            "member_role":"admin","feature":"reports","segment":"smb","value":12.5,"text":"bye",
            "attributes":{"browser":"x"},"something_new":[{"a":1e999}]}"#,
    )
    .expect("a good event");
    assert_eq!(
        (event.id.as_str(), event.account.as_str(), event.kind.as_str()),
        ("e1", "acme", "session.ended")
    );
    assert_eq!(event.occurred_at, Millis(1_772_357_400_000));
    assert_eq!(event.member.as_ref().map(|member| member.as_str()), Some("ann"));
    assert_eq!((event.role.as_deref(), event.feature.as_deref()), (Some("admin"), Some("reports")));
    assert_eq!((event.segment.as_deref(), event.value), (Some("smb"), Some(12.5)));
    assert_eq!(json(MINIMAL).expect("a good event").occurred_at, Millis(1_772_357_400_000));
}

#[test]
fn json_with_the_evaluation_files_names_is_the_same_event() {
    let ours = r#"{"event_id":"1","account_id":"a","type":"commit","occurred_at":"2026-03-01","member_id":"m","feature":"f","segment":"s","value":1}"#;
    let theirs = r#"{"event_id":"1","account_id":"a","signal":"commit","occurred_at":"2026-03-01","user_id":"m","object":"f","cohort":"s","value":1}"#;
    assert_eq!(json(ours).expect("good"), json(theirs).expect("good"));
}

#[test]
fn nulls_and_empty_texts_are_unknown() {
    let event = json(&with("member_id", r#""""#)).expect("good");
    assert_eq!(event.member, None);
    assert_eq!(json(&with("value", "null")).expect("good").value, None);
}

#[test]
fn bad_json_is_rejected_with_its_reason() {
    let deep = format!("{{\"unknown\":{}", "[".repeat(500_000));
    let deep_list = format!("{{\"event_id\":{}", "[".repeat(500_000));
    let cases = [
        ("", Reason::Empty),
        ("   ", Reason::Malformed),
        ("garbage", Reason::Malformed),
        ("[1]", Reason::Malformed),
        ("{", Reason::Malformed),
        (&MINIMAL[..40], Reason::Malformed),
        (&format!("{MINIMAL}{MINIMAL}"), Reason::Malformed),
        (&deep, Reason::Malformed),
        (&deep_list, Reason::InvalidField),
        (r#"["e1","acme","login",0]"#, Reason::Malformed),
        ("{}", Reason::InvalidField),
        (&with("value", "NaN"), Reason::Malformed),
        (&with("value", "1e999"), Reason::OutOfRange),
        (&with("value", "-1e13"), Reason::OutOfRange),
        (&with("value", "\"12\""), Reason::InvalidField),
        (&with("occurred_at", "\"yesterday\""), Reason::InvalidField),
        (&with("occurred_at", "null"), Reason::InvalidField),
        (&with("occurred_at", "-1"), Reason::OutOfRange),
        (&with("occurred_at", "253370764800001"), Reason::OutOfRange),
        (&with("occurred_at", "18446744073709551615"), Reason::OutOfRange),
        (&with("occurred_at", "\"1969-12-31T23:59:59Z\""), Reason::OutOfRange),
        (&with("account_id", "\"\""), Reason::InvalidId),
        (&with("account_id", "\"a\\u0000b\""), Reason::InvalidId),
        (&with("event_id", &format!("\"{}\"", "x".repeat(300))), Reason::InvalidId),
        (&with("type", "\"\""), Reason::InvalidField),
        (&with("feature", &format!("\"{}\"", "x".repeat(300))), Reason::InvalidField),
    ];
    for (text, expected) in cases {
        let shown = &text[..text.len().min(80)];
        assert_eq!(reason(json(text)), expected, "{shown}");
    }
}

#[test]
fn no_payload_and_a_payload_over_the_limit_are_rejected() {
    assert_eq!(reason(plain().event(None, None)), Reason::Empty);
    assert_eq!(reason(plain().profile(None, None)), Reason::Empty);
    let large = with("text", &format!("\"{}\"", "x".repeat(10_000_000)));
    assert_eq!(reason(json(&large)), Reason::TooLarge);
}

#[test]
fn the_key_has_to_name_the_account_in_one_of_three_forms() {
    let mut decoder = plain();
    let mut framed = vec![0, 0, 0, 0, 9, 8];
    framed.extend(b"acme");
    for good in [&b"acme"[..], b"\"acme\"", &framed, &[0xff, 0xfe]] {
        assert!(decoder.event(Some(good), Some(MINIMAL.as_bytes())).is_ok(), "{good:?}");
    }
    framed[6] = b'A';
    for bad in [&b"other"[..], b"\"other\"", b"", b"acme ", &framed] {
        assert_eq!(
            reason(decoder.event(Some(bad), Some(MINIMAL.as_bytes()))),
            Reason::KeyMismatch,
            "{bad:?}"
        );
    }
}

#[test]
fn only_support_messages_without_a_value_get_one_from_their_text() {
    let message = |kind: &str, value: &str| {
        let text = format!(
            r#"{{"event_id":"1","account_id":"a","type":"{kind}","occurred_at":0,"value":{value},"text":"This is terrible, we are very frustrated"}}"#
        );
        json(&text).expect("good").value
    };
    assert!(message("support.message", "null").expect("computed") < -0.3);
    assert_eq!(message("support.message", "0.9"), Some(0.9));
    assert_eq!(message("comment", "null"), None);
}

#[test]
fn profiles_and_outcomes_are_read_and_checked() {
    let profile =
        br#"{"account_id":"acme","as_of":"2026-01-01","name":"Acme","time_zone":"Europe/Berlin",
        "started_on":"2024-02-29","annual_value_usd":12000,"entitlements":{"seats":50},"fiscal_year_end":"03-31"}"#;
    let profile = plain().profile(Some(b"acme"), Some(profile)).expect("good");
    assert_eq!(profile.started_on.map(|day| day.iso()).as_deref(), Some("2024-02-29"));
    assert_eq!((profile.entitlements["seats"], profile.renews_on), (50.0, None));
    assert_eq!(profile.fiscal_year_end.map(|end| end.to_string()).as_deref(), Some("03-31"));

    let outcome = br#"{"outcome_id":"o1","account_id":"acme","occurred_at":"2026-01-01","kind":"false_positive","alert_id":"x"}"#;
    let outcome = plain().outcome(None, Some(outcome)).expect("good");
    assert_eq!((outcome.kind, outcome.until), (OutcomeKind::FalsePositive, None));
    let snooze = br#"{"outcome_id":"o2","account_id":"acme","occurred_at":"2026-01-01","kind":"snoozed","alert_id":"x","until":"2026-01-08T09:00:00Z"}"#;
    let snooze = plain().outcome(None, Some(snooze)).expect("good");
    let until = snooze.until.map(|until| until.iso());
    assert_eq!(
        (snooze.kind, until.as_deref()),
        (OutcomeKind::Snoozed, Some("2026-01-08T09:00:00.000Z"))
    );
    for odd in [r#""kind":"snoozed""#, r#""kind":"resolved","until":5"#] {
        let odd = format!(
            r#"{{"outcome_id":"o","account_id":"a","occurred_at":0,"alert_id":"x",{odd}}}"#
        );
        assert_eq!(reason(plain().outcome(None, Some(odd.as_bytes()))), Reason::InvalidField);
    }

    let odd_year = br#"{"account_id":"acme","as_of":0,"fiscal_year_end":"02-30"}"#;
    let error = plain().profile(None, Some(odd_year)).expect_err("no year has such a day");
    assert!(error.to_string().contains("e.g. `03-31`"), "names what is allowed: {error}");
    let odd_day = br#"{"account_id":"acme","as_of":0,"started_on":"soon"}"#;
    assert_eq!(reason(plain().profile(None, Some(odd_day))), Reason::InvalidField);
    let odd_kind = br#"{"outcome_id":"o1","account_id":"acme","occurred_at":0,"kind":"vanished"}"#;
    let error = plain().outcome(None, Some(odd_kind)).expect_err("no such kind");
    assert!(error.to_string().contains("`churned`"), "names what is allowed: {error}");
}

#[test]
fn calendar_entries_are_read_checked_and_removed() {
    let read = |key: Option<&[u8]>, text: &str| plain().calendar(key, Some(text.as_bytes()));
    let holiday = r#"{"entry_id":"xmas","scope":"region","key":"DE-BY","from":"2026-12-24","to":"2026-12-26","kind":"holiday","note":"Christmas"}"#;
    let (id, entry) = read(Some(b"xmas"), holiday).expect("good");
    let entry = entry.expect("an entry");
    assert_eq!((id.as_str(), entry.scope), ("xmas", Scope::Region("DE-BY".to_owned())));
    assert_eq!(entry.span.to_string(), "2026-12-24 to 2026-12-26 (holiday, Christmas)");
    assert_eq!(reason(read(Some(b"other"), holiday)), Reason::KeyMismatch);
    for (from, to, reject) in [
        (r#""region","key":"DE-BY""#, r#""galaxy","key":"DE-BY""#, Reason::InvalidField),
        (r#","key":"DE-BY""#, "", Reason::InvalidField),
        (r#""region""#, r#""all""#, Reason::InvalidField),
        ("2026-12-26", "2026-12-23", Reason::OutOfRange),
        ("2026-12-26", "2027-12-25", Reason::OutOfRange),
        (r#""holiday""#, r#""""#, Reason::InvalidField),
    ] {
        assert_eq!(reason(read(None, &holiday.replace(from, to))), reject, "{from} as {to}");
    }
    let removed = plain().calendar(Some(b"xmas"), None).expect("a tombstone");
    assert_eq!(removed, (id, None));
    assert_eq!(reason(plain().calendar(None, None)), Reason::Empty);
}

#[test]
fn calendar_entries_are_read_from_avro() {
    let registry = FakeRegistry::start().with_schema(9, schema::CALENDAR_ENTRY.text());
    let fields = [
        ("entry_id", text("outage")),
        ("scope", text("all")),
        ("key", nullable(None)),
        ("from", Value::Date(20_447)),
        ("to", Value::Date(20_447)),
        ("kind", text("incident")),
        ("note", nullable(None)),
    ];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let bytes = framed(9, schema::CALENDAR_ENTRY.schema(), fields);
    let read = with_registry(&registry).calendar(Some(b"outage"), Some(&bytes)).expect("good");
    let entry = read.1.expect("an entry");
    assert_eq!((entry.scope, entry.span.from.0, entry.span.to.0), (Scope::All, 20_447, 20_447));
}

// ------------------------------------------------------------------------------------------------------------------

fn nullable(value: Option<Value>) -> Value {
    match value {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(value) => Value::Union(1, Box::new(value)),
    }
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// The fields of an event of our own schema.
fn event_fields(value: Option<f64>) -> Vec<(String, Value)> {
    let fields = [
        ("event_id", text("e1")),
        ("account_id", text("acme")),
        ("type", text("login")),
        ("occurred_at", Value::TimestampMillis(1_772_357_400_000)),
        ("member_id", nullable(Some(text("ann")))),
        ("member_role", nullable(None)),
        ("feature", nullable(None)),
        ("segment", nullable(Some(text("smb")))),
        ("value", nullable(value.map(Value::Double))),
        ("text", nullable(None)),
        ("attributes", Value::Map(HashMap::from([("browser".to_owned(), text("x"))]))),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn framed(id: u32, schema: &Schema, fields: Vec<(String, Value)>) -> Vec<u8> {
    let writer = GenericDatumWriter::builder(schema).build().expect("a schema");
    let datum =
        writer.write_value_to_vec(Value::Record(fields)).expect("the value fits the schema");
    [&[0], &id.to_be_bytes()[..], &datum].concat()
}

fn our_event(value: Option<f64>) -> Vec<u8> {
    framed(7, schema::USAGE_EVENT.schema(), event_fields(value))
}

fn with_registry(registry: &FakeRegistry) -> Decoder {
    Decoder::new(Some(&registry.config()), RECORD_BYTES_MAX).expect("a good address")
}

#[test]
fn framed_avro_of_our_schema_is_read_and_the_schema_is_fetched_once() {
    let registry = FakeRegistry::start().with_schema(7, schema::USAGE_EVENT.text());
    let mut decoder = with_registry(&registry);
    for _ in 0..3 {
        let event = decoder.event(Some(b"acme"), Some(&our_event(Some(2.5)))).expect("good");
        assert_eq!((event.value, event.segment.as_deref()), (Some(2.5), Some("smb")));
        assert_eq!((event.occurred_at, event.role), (Millis(1_772_357_400_000), None));
    }
    assert_eq!(registry.calls(), 1);
    assert_eq!(reason(decoder.event(None, Some(&our_event(Some(f64::NAN))))), Reason::NonFinite);
    assert_eq!(reason(decoder.event(None, Some(&our_event(Some(2e12))))), Reason::OutOfRange);
}

#[test]
fn older_newer_and_differently_typed_writers_are_resolved() {
    let older = r#"{"type":"record","name":"UsageEvent","namespace":"com.producer","fields":[
        {"name":"occurred_at","type":{"type":"long","logicalType":"timestamp-micros"}},
        {"name":"account_id","type":"string"},{"name":"event_id","type":"string"},{"name":"type","type":"string"},
        {"name":"value","type":["null","long"],"default":null},{"name":"feature","type":"string"},
        {"name":"added_later","type":{"type":"array","items":"int"},"default":[]}]}"#;
    let fields = vec![
        ("occurred_at".to_owned(), Value::TimestampMicros(1_772_357_400_000_999)),
        ("account_id".to_owned(), text("acme")),
        ("event_id".to_owned(), text("e1")),
        ("type".to_owned(), text("login")),
        ("value".to_owned(), nullable(Some(Value::Long(3)))),
        ("feature".to_owned(), text("reports")),
        ("added_later".to_owned(), Value::Array(vec![Value::Int(1)])),
    ];
    let registry = FakeRegistry::start().with_schema(8, older);
    let payload = framed(8, &Schema::parse_str(older).expect("a schema"), fields);
    let event = with_registry(&registry).event(None, Some(&payload)).expect("it resolves");
    assert_eq!(
        (event.value, event.feature.as_deref(), event.member),
        (Some(3.0), Some("reports"), None)
    );
    assert_eq!(event.occurred_at, Millis(1_772_357_400_000));
}

#[test]
fn a_truncated_record_is_never_taken_for_a_shorter_one() {
    let registry = FakeRegistry::start().with_schema(7, schema::USAGE_EVENT.text());
    let mut decoder = with_registry(&registry);
    let whole = our_event(None);
    assert!(decoder.event(None, Some(&whole)).is_ok());
    for length in 1..whole.len() {
        assert_eq!(
            reason(decoder.event(None, Some(&whole[..length]))),
            Reason::Malformed,
            "{length} bytes"
        );
    }
    assert_eq!(reason(decoder.event(None, Some(&[&whole[..], &[0]].concat()))), Reason::Malformed);
}

#[test]
fn huge_claimed_lengths_are_rejected_without_allocating_them() {
    let registry = FakeRegistry::start().with_schema(7, schema::USAGE_EVENT.text());
    let mut decoder = with_registry(&registry);
    // A string of 2^62 bytes, as a zigzag varint.
    let claim = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let payload = [&[0, 0, 0, 0, 7][..], &claim, b"abc"].concat();
    assert_eq!(reason(decoder.event(None, Some(&payload))), Reason::Malformed);
}

#[test]
fn schemas_that_cannot_be_used_are_rejected_for_good() {
    let recursive = r#"{"type":"record","name":"UsageEvent","fields":[
        {"name":"event_id","type":"string"},{"name":"account_id","type":"string"},{"name":"type","type":"string"},
        {"name":"occurred_at","type":"long"},{"name":"next","type":["null","UsageEvent"]}]}"#;
    let other = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"}]}"#;
    let registry =
        FakeRegistry::start().with_schema(1, recursive).with_schema(2, other).with_schema(3, "{");
    registry.answer(4, 200, r#"{"schemaType":"PROTOBUF","schema":"syntax = \"proto3\";"}"#);
    let mut decoder = with_registry(&registry);
    for id in 1..=4 {
        let payload = [&[0, 0, 0, 0, id][..], &[2; 100]].concat();
        for _ in 0..2 {
            assert_eq!(
                reason(decoder.event(None, Some(&payload))),
                Reason::IncompatibleSchema,
                "{id}"
            );
        }
    }
    assert_eq!(registry.calls(), 4);
}

/// Somebody may register the id at any time, so "unknown" is believed of records from before the question only.
#[test]
fn an_id_that_the_registry_does_not_know_is_rejected_and_asked_for_again() {
    let registry = FakeRegistry::start();
    let mut decoder = with_registry(&registry);
    decoder.set_received(1_700_000_000_000);
    for _ in 0..5 {
        assert_eq!(reason(decoder.event(None, Some(&our_event(None)))), Reason::UnknownSchema);
    }
    assert_eq!(registry.calls(), 1, "a backlog of old records costs one question");
    let good = serde_json::json!({ "schema": schema::USAGE_EVENT.text() });
    registry.answer(7, 200, &good.to_string());
    assert_eq!(reason(decoder.event(None, Some(&our_event(None)))), Reason::UnknownSchema);
    decoder.set_received(i64::MAX);
    assert!(decoder.event(None, Some(&our_event(None))).is_ok(), "a new record is a new question");
    assert_eq!(
        reason(plain().event(None, Some(&our_event(None)))),
        Reason::UnknownSchema,
        "no registry at all"
    );
}

/// Apicurio answers an id beyond Java's `int` with its web server's 404, which would have paused the partition for ever.
#[test]
fn an_id_that_no_registry_can_have_is_rejected_without_asking() {
    let registry = FakeRegistry::start();
    let garbage = [0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
    let result = with_registry(&registry).event(None, Some(&garbage));
    assert_eq!(reason(result), Reason::UnknownSchema);
    assert_eq!(registry.calls(), 0);
}

#[test]
fn a_registry_in_trouble_never_rejects_and_the_record_is_read_once_it_is_back() {
    let mut nowhere = Decoder::new(Some(&nobody()), RECORD_BYTES_MAX).expect("an address");
    let error = nowhere.event(None, Some(&our_event(None))).expect_err("nobody is there");
    assert!(
        matches!(&error, DecodeError::RegistryUnavailable(text) if text.contains("refused")),
        "{error}"
    );

    let registry = FakeRegistry::start();
    let troubles = [
        (500, r#"{"error_code":50001,"message":"Error in the backend datastore"}"#),
        (503, "<html>starting</html>"),
        (404, "<html>a proxy's page</html>"),
        (401, r#"{"error_code":401,"message":"Unauthorized"}"#),
        (200, "no json"),
        (0, "a time-out"),
    ];
    for (status, body) in troubles {
        registry.answer(7, status, body);
        let mut decoder = with_registry(&registry);
        let error = decoder.event(None, Some(&our_event(None))).expect_err(body);
        assert!(matches!(error, DecodeError::RegistryUnavailable(_)), "{status} {body}: {error}");
    }
    let mut decoder = with_registry(&registry);
    assert!(decoder.event(None, Some(&our_event(None))).is_err());
    let calls = registry.calls();
    assert!(decoder.event(None, Some(&our_event(None))).is_err());
    assert_eq!(registry.calls(), calls, "it is left alone for a moment");
    let good = serde_json::json!({ "schema": schema::USAGE_EVENT.text() });
    registry.answer(7, 200, &good.to_string());
    let started = std::time::Instant::now();
    while let Err(error) = decoder.event(None, Some(&our_event(None))) {
        assert!(matches!(error, DecodeError::RegistryUnavailable(_)), "{error}");
        assert!(started.elapsed() < std::time::Duration::from_secs(30), "it is asked again");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

proptest! {
    /// W1: no bytes make a decoder panic; what is accepted is within the documented ranges.
    #[test]
    fn random_bytes_and_mutated_records_never_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        start in 0usize..4,
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        thread_local! {
            static DECODER: std::cell::RefCell<Decoder> = {
                let registry = FakeRegistry::start().with_schema(7, schema::USAGE_EVENT.text());
                std::cell::RefCell::new(with_registry(&registry))
            };
        }
        let mut bytes = match start {
            0 => noise,
            1 => [&[0, 0, 0, 0, 7][..], &noise].concat(),
            2 => our_event(Some(1.0)),
            _ => with("value", "1").into_bytes(),
        };
        for (place, byte) in flips {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                // The schema id stays: the registry is not what is tested here.
                if !(1..5).contains(&place) || bytes[0] != 0 {
                    bytes[place] = byte;
                }
            }
        }
        // A first byte that became 0 turns JSON into a claim of some schema id.
        if bytes.first() == Some(&0) && bytes.len() > 5 {
            bytes[1..5].copy_from_slice(&[0, 0, 0, 7]);
        }
        DECODER.with_borrow_mut(|decoder| {
            if let Ok(event) = decoder.event(None, Some(&bytes)) {
                assert!(event.occurred_at >= Millis::MIN && event.occurred_at <= Millis::MAX);
                assert!(event.value.is_none_or(f64::is_finite));
            }
        });
    }
}
