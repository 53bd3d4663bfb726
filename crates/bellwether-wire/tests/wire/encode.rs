//! Outputs as consumers see them, and read back.

use bellwether_core::calendar::Span;
use bellwether_core::id::AccountId;
use bellwether_core::output::{
    AlertEvent, AlertState, Band, Beside, Category, Contribution, Evidence, Family, HealthRecord,
    LearningExample, Maturity, Movement, Output, Rebaselined, Resolution, ScoreChanged, Scored,
    Severity, ShadowLine, ShadowScore, SubScore, Transition,
};
use bellwether_core::points::Points;
use bellwether_core::priority::PriorityPart;
use bellwether_core::reject::{Reason, Reject};
use bellwether_core::time::{Day, Millis};
use bellwether_wire::dead_letter::DeadLetter;
use bellwether_wire::decode::{Decoder, RECORD_BYTES_MAX};
use bellwether_wire::encode::{Encoder, OutputKind, OutputTopics};
use bellwether_wire::registry::RegistryError;
use bellwether_wire::schema;

use crate::fake_registry::{FakeRegistry, nobody};

fn acme() -> AccountId {
    AccountId::new("acme").expect("an id")
}

fn evidence(change_pct: Option<f64>) -> Evidence {
    Evidence {
        signal: "logins".to_owned(),
        category: Category::Engagement,
        group: "activity".to_owned(),
        observed: 280.0,
        baseline: 450.1,
        unit: "logins/week".to_owned(),
        change_pct,
        z: -4.25,
        risk: true,
        onset: Day(20_500),
        window_days: 14,
        text: "Logins fell by 38 % since 2026-02-16 – “Grüße”".to_owned(),
    }
}

fn sub_scores() -> Vec<SubScore> {
    Category::ALL
        .map(|category| SubScore { category, score: Points(4321), points: Points(-250) })
        .to_vec()
}

/// An example, with every field set or every nullable one unset.
fn example(full: bool) -> LearningExample {
    let some = |text: &str| full.then(|| text.to_owned());
    LearningExample {
        id: "0e2f".to_owned(),
        account_id: acme(),
        segment: some("smb"),
        at: Millis(1_772_357_400_123),
        horizon_days: 28,
        step_days: 7,
        readings: vec![
            ("activity".to_owned(), full.then_some(0.25)),
            ("signal:logins".to_owned(), None),
        ],
        readings_version: "r1".to_owned(),
        policy_version: "p1".to_owned(),
    }
}

/// What a challenger says, with every field set or every nullable one unset.
fn shadow_score(full: bool) -> ShadowScore {
    let some = |text: &str| full.then(|| text.to_owned());
    ShadowScore {
        id: "0c1d".to_owned(),
        account_id: acme(),
        segment: some("smb"),
        shadow_id: "s1".to_owned(),
        sequence: 7,
        at: Millis(1_772_357_400_123),
        sides: Beside {
            champion: Scored { score: Points(4_105), band: Band::AtRisk },
            challenger: Scored { score: Points(7_000), band: Band::Healthy },
        },
        lines: vec![ShadowLine {
            name: "logins".to_owned(),
            category: full.then_some(Category::Engagement),
            champion: Points(-1_395),
            challenger: Points(1_500),
        }],
        maturity: Maturity::Established,
        policy_version: "p1".to_owned(),
        model_version: "m1".to_owned(),
        challenger_version: "m2".to_owned(),
    }
}

/// Every kind, with every field set, and again with every nullable one unset.
fn outputs() -> Vec<Output> {
    let mut outputs = Vec::new();
    for full in [true, false] {
        let some = |text: &str| full.then(|| text.to_owned());
        outputs.push(Output::ScoreChanged(Box::new(ScoreChanged {
            id: "0a1b".to_owned(),
            account_id: acme(),
            sequence: 7,
            at: Millis(1_772_357_400_123),
            score: Points(4_105),
            previous_score: full.then_some(Points(5_500)),
            band: Band::AtRisk,
            previous_band: full.then_some(Band::Healthy),
            movements: vec![Movement {
                name: "logins".to_owned(),
                category: full.then_some(Category::Engagement),
                delta: Points(-1_395),
                points: Points(-1_000),
            }],
            sub_scores: sub_scores(),
            maturity: Maturity::Established,
            policy_version: "p1".to_owned(),
            model_version: "m1".to_owned(),
        })));
        outputs.push(Output::Health(Box::new(HealthRecord {
            account_id: acme(),
            name: some("Acme"),
            segment: some("smb"),
            sequence: 7,
            at: Millis(1_772_357_400_123),
            score: Points(4_105),
            band: Band::Neutral,
            maturity: Maturity::Onboarding,
            contributions: vec![Contribution {
                name: "logins".to_owned(),
                category: full.then_some(Category::Adoption),
                points: Points(-12),
                observed: full.then_some(0.1),
                baseline: full.then_some(1.0 / 3.0),
                unit: "logins/week".to_owned(),
            }],
            sub_scores: sub_scores(),
            evidence: vec![evidence(full.then_some(-37.8))],
            masked: vec![Span {
                from: Day(20_447),
                to: Day(20_453),
                kind: "holiday".to_owned(),
                note: full.then(|| "Christmas".to_owned()),
            }],
            rebaselined: vec![Rebaselined {
                signal: "logins".to_owned(),
                since: Day(20_447),
                before: 450.1,
                now: 280.0,
                unit: "logins/week".to_owned(),
            }],
            open_alerts: vec!["a1".to_owned(), "a2".to_owned()],
            last_event_at: full.then_some(Millis(5)),
            policy_version: "p1".to_owned(),
            model_version: "m1".to_owned(),
        })));
        outputs.push(Output::Shadow(Box::new(shadow_score(full))));
        outputs.push(Output::Example(Box::new(example(full))));
        outputs.push(Output::Alert(Box::new(AlertEvent {
            id: "e1".to_owned(),
            alert_id: "a1".to_owned(),
            account_id: acme(),
            account_name: some("Acme"),
            kind: "churn_risk".to_owned(),
            transition: Transition::Resolved,
            severity: Severity::Critical,
            at: Millis(1_772_357_400_123),
            opened_at: Millis(1_772_000_000_000),
            state: AlertState::Resolved,
            until: full.then_some(Millis(1_772_400_000_000)),
            reopened: u32::from(full),
            by: some("kim"),
            note: some("called them"),
            resolution: full.then_some(Resolution::Rebaselined),
            title: "churn risk".to_owned(),
            evidence: if full { vec![evidence(None), evidence(Some(1.0))] } else { Vec::new() },
            groups: vec!["activity".to_owned()],
            family: full.then_some(Family::Decline),
            priority: 62,
            priority_parts: vec![PriorityPart {
                name: "severity".to_owned(),
                points: 62,
                text: "severity high".to_owned(),
            }],
            score: Points(0),
            band: Band::AtRisk,
            policy_version: "p1".to_owned(),
            model_version: "m1".to_owned(),
        })));
    }
    outputs
}

#[test]
fn json_reads_back_as_what_was_written() {
    let encoder = Encoder::json();
    let mut decoder = Decoder::new(None, RECORD_BYTES_MAX).expect("no registry");
    for output in outputs() {
        let encoded = encoder.encode(&output);
        let back = decoder
            .output(OutputKind::of(&output), encoded.payload.as_deref())
            .expect("our own record");
        assert_eq!(back, output);
        assert_eq!(encoder.encode(&output), encoded, "the same bytes again");
    }
}

#[test]
fn avro_reads_back_as_what_was_written() {
    let topics = OutputTopics {
        score_changed: "changed",
        score_current: "current",
        alerts: "alerts",
        shadow: "shadow",
        examples: "examples",
    };
    let registry = FakeRegistry::start()
        .with_subject("changed-value", 11, OutputKind::ScoreChanged.contract().text())
        .with_subject("current-value", 12, OutputKind::ScoreCurrent.contract().text())
        .with_subject("alerts-value", 13, OutputKind::Alert.contract().text())
        .with_subject("shadow-value", 14, OutputKind::Shadow.contract().text())
        .with_subject("examples-value", 15, OutputKind::Example.contract().text());
    let encoder = Encoder::avro(&registry.config(), &topics).expect("it takes them");
    let mut decoder = Decoder::new(Some(&registry.config()), RECORD_BYTES_MAX).expect("an address");
    for output in outputs() {
        let encoded = encoder.encode(&output);
        let payload = encoded.payload.as_deref().expect("no tombstone");
        assert_eq!(payload[..4], [0, 0, 0, 0], "magic byte and schema id");
        assert!((11..=15).contains(&payload[4]));
        let content_type = encoded.headers.iter().find(|(name, _)| name == "content-type");
        assert_eq!(content_type.map(|(_, value)| value.as_slice()), Some(&b"application/avro"[..]));
        let back = decoder
            .output(OutputKind::of(&output), encoded.payload.as_deref())
            .expect("our own record");
        assert_eq!(back, output);
    }
}

#[test]
fn json_says_the_same_as_the_schema() {
    for output in outputs() {
        let kind = OutputKind::of(&output);
        let encoded = Encoder::json().encode(&output);
        let record: serde_json::Value =
            serde_json::from_slice(encoded.payload.as_deref().unwrap_or_default()).expect("JSON");
        let schema: serde_json::Value = serde_json::from_str(kind.contract().text()).expect("JSON");
        assert_fields(&record, &schema);
    }
}

#[test]
fn the_view_of_a_dead_letter_is_as_its_schema_says() {
    let reject = Reject::new(Reason::Malformed, "breaks off");
    let letter = DeadLetter::new(&reject, "usage.events.v1", 3, 42);
    let record = serde_json::to_value(&letter).expect("JSON");
    let schema: serde_json::Value = serde_json::from_str(schema::DEAD_LETTER.text()).expect("JSON");
    assert_fields(&record, &schema);
}

/// A record has exactly its schema's fields, down to the records in its lists.
fn assert_fields(record: &serde_json::Value, schema: &serde_json::Value) {
    let fields = schema["fields"].as_array().expect("a record schema");
    let mut declared: Vec<&str> =
        fields.iter().filter_map(|field| field["name"].as_str()).collect();
    let mut present: Vec<&str> =
        record.as_object().expect("a record").keys().map(String::as_str).collect();
    declared.sort_unstable();
    present.sort_unstable();
    assert_eq!(present, declared);
    for field in fields {
        let items = &field["type"]["items"];
        if items["type"] == "record" {
            let name = field["name"].as_str().expect("fields have names");
            for item in record[name].as_array().expect("a list") {
                assert_fields(item, items);
            }
        }
    }
}

#[test]
fn times_and_days_are_iso_text_in_json() {
    let encoded = Encoder::json().encode(&outputs()[1]);
    let record: serde_json::Value =
        serde_json::from_slice(encoded.payload.as_deref().unwrap_or_default()).expect("JSON");
    assert_eq!(record["at"], "2026-03-01T09:30:00.123Z");
    assert_eq!(record["evidence"][0]["onset"], "2026-02-16");
    assert_eq!((&record["score"], &record["score_centipoints"]), (&41.05.into(), &4105.into()));
}

#[test]
fn headers_are_cloudevents_in_binary_mode() {
    let output = &outputs()[0];
    let headers = Encoder::json().encode(output).headers;
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), std::str::from_utf8(value).expect("text")))
        .collect();
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", "0a1b"),
        ("ce_source", "bellwether"),
        ("ce_type", "io.bellwether.score-changed.v1"),
        ("ce_time", "2026-03-01T09:30:00.123Z"),
        ("ce_subject", "acme"),
        ("content-type", "application/json"),
    ];
    assert_eq!(headers, expected);
}

#[test]
fn a_registry_that_fails_or_refuses_says_which_subject_and_what_to_do() {
    let topics = OutputTopics {
        score_changed: "changed",
        score_current: "current",
        alerts: "alerts",
        shadow: "shadow",
        examples: "examples",
    };
    let error = Encoder::avro(&nobody(), &topics).expect_err("nobody is there");
    assert!(matches!(error, RegistryError::Unavailable(_)), "{error}");
    // This one has no such path, and says so in a registry's words.
    let error = Encoder::avro(&FakeRegistry::start().config(), &topics).expect_err("refused");
    let text = error.to_string();
    assert!(text.contains("changed-value") && text.contains("schemas/README.md"), "{text}");
}

#[test]
fn a_password_does_not_reach_the_logs() {
    let mut config = nobody();
    config.password = Some("hunter2".to_owned());
    assert!(!format!("{config:?}").contains("hunter2"));
}
