use std::sync::Arc;

use bellwether_core::time::Millis;
use proptest::prelude::*;

use super::*;
use crate::policy::Loaded;

/// Names as an attacker would send them.
const HOSTILE: [&str; 8] = [
    "<!channel> <@U123> <https://evil.example|click>",
    "*bold* _it_ ~s~ `code` @here #general",
    "{{ 7 * 7 }} {% raw %} {# x #}",
    "</td><script>alert(1)</script>",
    "\"}, {\"admin\": true",
    "[click](https://evil.example) <at>Everyone</at>",
    "line\nbreak\r\nBcc: x@evil.example\u{2028}\u{202e}gnp",
    "&lt;b&gt;",
];

fn hostile(name: &str) -> (Alert, Profile) {
    let (mut alert, mut profile) = sample(Millis(0));
    alert.account_name = Some(name.to_owned());
    alert.title = name.to_owned();
    alert.groups = vec![name.to_owned()];
    for evidence in &mut alert.evidence {
        evidence.text = name.to_owned();
    }
    profile.owner = Some(name.to_owned());
    (alert, profile)
}

fn texts() -> Arc<Texts> {
    texts_of("")
}

fn texts_of(own: &str) -> Arc<Texts> {
    Arc::clone(Loaded::parse(own, "own").expect("sound").texts())
}

fn all(message: &Message) -> String {
    let lists = [&message.what, &message.who, &message.steps].map(|lines| lines.join("\n"));
    [&message.title, &message.why, &message.outreach, &lists.join("\n")]
        .map(String::as_str)
        .join("\n")
}

#[test]
fn nothing_from_events_is_markup_where_it_is_read() {
    let texts = texts();
    for name in HOSTILE {
        let (alert, profile) = hostile(name);
        let letter = Letter { alert: &alert, profile: &profile };
        let mrkdwn = all(&texts.message(Target::Mrkdwn, letter).expect("renders"));
        for forbidden in ["<", ">", "*", "~", "`"] {
            assert!(!mrkdwn.contains(forbidden), "{forbidden} in {mrkdwn}");
        }
        let html = all(&texts.message(Target::Html, letter).expect("renders"));
        assert!(!html.contains('<') && !html.contains('"'), "{html}");
        let plain = texts.message(Target::Plain, letter).expect("renders");
        assert!(!plain.title.chars().any(char::is_control), "{}", plain.title);
        assert!(!all(&plain).contains("49"), "no template of an event is run: {}", all(&plain));
        assert!(!all(&plain).contains('\u{202e}'));
    }
}

#[test]
fn a_json_template_gives_the_document_that_its_author_wrote_whatever_events_carry() {
    let own = r#"
        [[sink]]
        name = "crm"
        type = "template"
        url = "https://crm.example/tasks"
        body = '{ "subject": {{ message.title }}, "account": {{ alert.account }}, "n": {{ alert.groups | length }}, "owner": {{ profile.owner }}, "plan": {{ profile.plan }}, "all": {{ evidence | tojson }} }'
        [[route]]
        name = "tasks"
        sinks = ["crm"]
        mode = "immediate"
    "#;
    let texts = texts_of(own);
    for name in HOSTILE {
        let (alert, profile) = hostile(name);
        let body =
            texts.body("crm", Letter { alert: &alert, profile: &profile }, "k").expect("JSON");
        let keys: Vec<&String> = body.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["account", "all", "n", "owner", "plan", "subject"]);
        assert_eq!(body["account"], json!(clean(name)));
        assert_eq!(body["plan"], Value::Null);
        assert_eq!(body["all"].as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn what_a_block_captures_is_escaped_once() {
    let own = "[templates]\ntitle = \"{% set x %}{{ alert.account }}{% endset %}{{ x }}\"\n";
    let texts = texts_of(own);
    let (alert, profile) = hostile("a < b");
    let letter = Letter { alert: &alert, profile: &profile };
    let message = texts.message(Target::Html, letter).expect("renders");
    assert_eq!(message.title, "a &lt; b");
}

#[test]
fn a_template_that_works_too_hard_is_refused() {
    let own = "[templates]\nwhy = \"{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}\"\n";
    let error = Loaded::parse(own, "own").expect_err("too much work").to_string();
    assert!(error.contains("templates.why"), "{error}");
}

#[test]
fn links_are_of_the_configured_server_and_encode_what_they_name() {
    let (mut alert, _) = sample(Millis(0));
    alert.account_id = "a/../b?c#d e".to_owned();
    let links = links(&Loaded::builtin().policy().links, &alert);
    assert_eq!(links[0].url, "http://127.0.0.1:8391/accounts/a%2F..%2Fb%3Fc%23d%20e");
    assert!(links.iter().all(|link| link.url.starts_with("http://127.0.0.1:8391/accounts/")));
}

#[test]
fn a_message_says_what_why_who_and_what_next() {
    let (alert, profile) = sample(Millis(0));
    let message = texts()
        .message(Target::Plain, Letter { alert: &alert, profile: &profile })
        .expect("renders");
    assert_eq!(message.title, "INFO Churn risk: Bellwether test account");
    assert_eq!(message.what.len(), 2);
    assert!(message.who[0].contains("ann, bob and cem"), "{:?}", message.who);
    assert!(
        message
            .why
            .contains("31.5 of 100 (at risk); 2 independent groups agree: logins, active members"),
        "{}",
        message.why
    );
    assert_eq!(message.owner, "customer success manager, within 24 hours");
    assert_eq!(message.steps.len(), 4);
    assert!(plain_text(&message).contains("Draft to the customer"));
}

#[test]
fn what_somebody_did_and_what_makes_it_pressing_stand_in_the_message() {
    let (mut alert, profile) = sample(Millis(0));
    alert.transition = "resolved".to_owned();
    alert.resolution = Some("manual".to_owned());
    alert.by = Some("ann".to_owned());
    alert.note = Some("they renewed".to_owned());
    let letter = Letter { alert: &alert, profile: &profile };
    let message = texts().message(Target::Plain, letter).expect("renders");
    assert_eq!(message.title, "INFO Churn risk: Bellwether test account (resolved: manual by ann)");
    assert!(message.why.contains("Account: renews in 0 days"), "{}", message.why);
    assert!(!message.why.contains("severity info"), "{}", message.why);
    assert!(message.why.ends_with("ann: they renewed"), "{}", message.why);
}

proptest! {
    /// Escaped text holds no mark of its target, whatever the text.
    #[test]
    fn escaped_text_has_no_marks(text in ".{0,80}") {
        let mrkdwn = escape(Target::Mrkdwn, &text);
        prop_assert!(!mrkdwn.contains(['<', '>', '*', '_', '~', '`']));
        let html = escape(Target::Html, &text);
        prop_assert!(!html.contains(['<', '>', '"', '\'']));
        prop_assert!(clean(&text).chars().count() <= VALUE_CHARS_MAX);
    }
}
