//! Alerts as the engine writes them, in both forms, and as a newer engine might.

use bellwether_core::id::AccountId;
use bellwether_core::output::{
    AlertEvent, AlertState, Band, Category, Evidence, Output, Resolution, Severity, Transition,
};
use bellwether_core::points::Points;
use bellwether_core::priority::PriorityPart;
use bellwether_core::time::{Day, Millis};
use bellwether_notify::event::{Alert, Phase};
use bellwether_wire::decode::{Decoder, RECORD_BYTES_MAX};
use bellwether_wire::encode::{Encoder, OutputKind, OutputTopics};
use serde_json::json;

#[path = "../../bellwether-wire/tests/wire/fake_registry.rs"]
#[expect(dead_code, reason = "what only the tests of the wire need")]
mod fake_registry;

use fake_registry::FakeRegistry;

fn written() -> Output {
    Output::Alert(Box::new(AlertEvent {
        id: "e1".to_owned(),
        alert_id: "a1".to_owned(),
        account_id: AccountId::new("acme").expect("an id"),
        account_name: Some("Acme".to_owned()),
        kind: "churn_risk".to_owned(),
        transition: Transition::Resolved,
        severity: Severity::Critical,
        at: Millis(1_772_357_400_123),
        opened_at: Millis(1_772_000_000_000),
        state: AlertState::Resolved,
        until: None,
        reopened: 1,
        by: Some("ann".to_owned()),
        note: Some("they answered".to_owned()),
        resolution: Some(Resolution::Recovered),
        title: "churn risk".to_owned(),
        evidence: vec![Evidence {
            signal: "logins".to_owned(),
            category: Category::Engagement,
            group: "activity".to_owned(),
            observed: 280.0,
            baseline: 450.0,
            unit: "logins/week".to_owned(),
            change_pct: Some(-37.8),
            z: -4.2,
            risk: true,
            onset: Day(20_500),
            window_days: 14,
            text: "logins fell".to_owned(),
        }],
        groups: vec!["activity".to_owned()],
        family: None,
        priority: 75,
        priority_parts: vec![PriorityPart {
            name: "severity".to_owned(),
            points: 75,
            text: "severity critical".to_owned(),
        }],
        score: Points(3_150),
        band: Band::AtRisk,
        policy_version: "p1".to_owned(),
        model_version: "m1".to_owned(),
    }))
}

fn assert_read(alert: &Alert) {
    assert_eq!(
        (alert.id.as_str(), alert.display_name(), alert.rank()),
        ("e1", "Acme", Severity::Critical)
    );
    assert_eq!((alert.at, alert.opened_at), (Millis(1_772_357_400_123), Millis(1_772_000_000_000)));
    assert_eq!((alert.phase(), alert.resolution.as_deref()), (Phase::Ended, Some("recovered")));
    assert_eq!((alert.state.as_str(), alert.reopened, alert.snoozed_until), ("resolved", 1, None));
    assert_eq!((alert.by.as_deref(), alert.note.as_deref()), (Some("ann"), Some("they answered")));
    assert_eq!((alert.priority, alert.priority_parts[0].points), (75, 75));
    assert_eq!((alert.score, alert.score_centipoints), (31.5, 3_150));
    assert_eq!((alert.evidence[0].onset, alert.evidence[0].change_pct), (Day(20_500), Some(-37.8)));
}

#[test]
fn alerts_are_read_in_both_forms_and_back_from_the_notifiers_own_memory() {
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
    let avro = Encoder::avro(&registry.config(), &topics).expect("it takes them");
    let mut decoder = Decoder::new(Some(&registry.config()), RECORD_BYTES_MAX).expect("an address");
    for encoder in [Encoder::json(), avro] {
        let payload = encoder.encode(&written()).payload;
        let alert: Alert =
            decoder.output_as(OutputKind::Alert, payload.as_deref()).expect("an alert");
        assert_read(&alert);
        let row = serde_json::to_vec(&alert).expect("JSON");
        assert_eq!(serde_json::from_slice::<Alert>(&row).expect("readable"), alert);
    }
}

#[test]
fn words_and_fields_of_a_newer_engine_are_no_reason_to_stop() {
    let mut decoder = Decoder::new(None, RECORD_BYTES_MAX).expect("no registry");
    let payload = Encoder::json().encode(&written()).payload.expect("no tombstone");
    let mut record: serde_json::Value = serde_json::from_slice(&payload).expect("JSON");
    record["transition"] = json!("pondered");
    record["severity"] = json!("apocalyptic");
    record["mood"] = json!({"of": ["people"]});
    let payload = record.to_string().into_bytes();
    let alert: Alert = decoder.output_as(OutputKind::Alert, Some(&payload)).expect("an alert");
    assert_eq!((alert.phase(), alert.rank()), (Phase::Changed, Severity::Medium));
    assert!(
        decoder.output(OutputKind::Alert, Some(&payload)).is_err(),
        "where the engine's own reader stops"
    );
}
