//! Payloads against schemas: those that vendors publish and whose licence lets them lie here (`tests/schemas/vendor/README.md` says which,
//! from where), and ours, written by hand after the documentation of the others.

use jsonschema::Validator;

use super::*;

/// The schema of Adaptive Cards of a version.
fn adaptive_card(text: &str) -> Validator {
    let schema = serde_json::from_str(text).expect("a schema");
    jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema")
}

/// The schema of what is posted to Alertmanager, from its OpenAPI document.
fn postable_alerts() -> Validator {
    let text = include_str!("../../../tests/schemas/vendor/alertmanager-openapi.yaml");
    let api: Value = serde_yaml_ng::from_str(text).expect("YAML");
    let schema = json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "allOf": [{"$ref": "#/definitions/postableAlerts"}],
        "definitions": api["definitions"],
    });
    jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema")
}

fn ours(text: &str) -> Validator {
    let schema = serde_json::from_str(text).expect("a schema");
    jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema")
}

fn assert_valid(validator: &Validator, document: &Value) {
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:?} in {document:#}");
}

/// What is sent: each transition, digests and lists, the alert of `notify test`, hostile and very long texts, and next to nothing.
fn subjects() -> Vec<Subject> {
    let transitions = bellwether_core::output::Transition::ALL.map(|transition| {
        alert_with(|alert, _| {
            alert.transition = transition.as_str().to_owned();
            alert.by = Some("ann".to_owned());
            alert.note = Some("on it".to_owned());
        })
    });
    transitions.into_iter().chain(shapes()).collect()
}

fn with_digests() -> Vec<Subject> {
    let digests = [Mode::Daily, Mode::Weekly, Mode::Checkin].into_iter().flat_map(|mode| {
        [1, 300].map(|count| {
            digest_of(mode, count, 200, |alert| {
                alert.title = HOSTILE.repeat(20);
                alert.account_name = Some("🦀".repeat(5_000));
            })
        })
    });
    subjects().into_iter().chain(digests).collect()
}

#[test]
fn teams_messages_are_cards_by_microsofts_own_schema_in_a_workflows_envelope() {
    let published = [
        adaptive_card(include_str!("../../../tests/schemas/vendor/adaptive-card-1.4.0.json")),
        adaptive_card(include_str!("../../../tests/schemas/vendor/adaptive-card-1.5.0.json")),
    ];
    let ours = ours(include_str!("../../../tests/schemas/teams.json"));
    for subject in with_digests() {
        let (_, document) = sent("teams", None, subject);
        assert_valid(&ours, &document);
        let card = &document["attachments"][0]["content"];
        published.iter().for_each(|schema| assert_valid(schema, card));
        assert!(document.to_string().len() <= 28 << 10, "{} bytes", document.to_string().len());
    }
    let wrong = json!({"type": "AdaptiveCard", "version": "1.4", "body": [{"type": "RichTextBlock", "inlines": [{"type": "TextRun"}]}]});
    assert!(
        published.iter().all(|schema| !schema.is_valid(&wrong)),
        "the schemas refuse something"
    );
}

#[test]
fn alertmanager_is_told_by_its_own_schema() {
    let published = postable_alerts();
    let ours = ours(include_str!("../../../tests/schemas/alertmanager.json"));
    for subject in subjects() {
        let (_, document) = sent("alertmanager", None, subject);
        assert_valid(&published, &document);
        assert_valid(&ours, &document);
    }
    for wrong in [
        json!([{"annotations": {}}]),
        json!([{"labels": {"a": 1}}]),
        json!([{"labels": {}, "endsAt": "soon"}]),
    ] {
        assert!(!published.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn pagerduty_events_are_as_its_documentation_says() {
    let ours = ours(include_str!("../../../tests/schemas/pagerduty.json"));
    for subject in subjects() {
        assert_valid(&ours, &sent("pagerduty", Some(ROUTING_KEY), subject).1);
    }
}

#[test]
fn slack_messages_are_block_kit_as_its_reference_says() {
    let ours = ours(include_str!("../../../tests/schemas/slack.json"));
    for subject in with_digests() {
        let (_, document) = sent("slack", None, subject);
        assert_valid(&ours, &document);
        let text = document.to_string();
        assert!(!text.contains("<!") && !text.contains("<@"), "no mentions: {text}");
        assert!(
            !text.contains("evil.example>") && !text.contains("<https://evil"),
            "no links: {text}"
        );
    }
}

#[test]
fn webhooks_are_as_the_specification_of_standard_webhooks_recommends() {
    let ours = ours(include_str!("../../../tests/schemas/webhook.json"));
    for subject in with_digests() {
        assert_valid(&ours, &sent("hook", Some(SIGNING_KEY), subject).1);
    }
    let (_, document) = sent(
        "hook",
        Some(SIGNING_KEY),
        alert_with(|alert, _| alert.transition = "a b.c".to_owned()),
    );
    assert_eq!(document["type"], "alert.a_b_c");
}
