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
    assert_eq!(message.who, ["ann (admin, 16 days), bob (14 days), cem (14 days)"]);
    assert!(!message.what.concat().contains("ann"), "{:?}", message.what);
    assert!(
        message
            .why
            .contains("31.5 of 100 (at risk); 2 independent groups agree: logins, active members"),
        "{}",
        message.why
    );
    assert!(message.why.starts_with("This is a test: no account is in trouble. Health score"));
    assert_eq!(message.owner, "customer success manager, within 24 hours");
    assert_eq!(message.steps.len(), 4);
    assert!(plain_text(&message).contains("Draft to the customer"));
}

/// Everything that a reader of one message reads.
fn read(alert: &Alert) -> (Message, String) {
    let letter = Letter { alert, profile: &Profile::default() };
    let message = texts().message(Target::Plain, letter).expect("renders");
    let line = texts().digest_line(Target::Plain, letter).expect("renders");
    (message, line)
}

#[test]
fn no_fact_is_said_twice_in_a_message() {
    let (mut alert, _) = sample(Millis(0));
    alert.priority_parts.clear();
    alert.title = "churn risk: logins -38 %, active members -25 %".to_owned();
    let (message, line) = read(&alert);
    assert_eq!(
        message.why,
        "Health score 31.5 of 100 (at risk); 2 independent groups agree: logins, active members."
    );
    assert_eq!(
        line,
        "INFO Bellwether test account: Churn risk, score 31.5. logins -38 %, active members -25 %"
    );

    // A sink may be told how it goes on: the reason of the end stands in the title.
    alert.transition = "resolved".to_owned();
    for (resolution, title, beside) in [
        ("recovered", "churn risk: recovered", ""),
        (
            "rebaselined",
            "churn risk: rebaselined, what was found is what is normal now",
            "what was found is what is normal now. ",
        ),
    ] {
        alert.resolution = Some(resolution.to_owned());
        alert.title = title.to_owned();
        let (message, _) = read(&alert);
        assert_eq!(message.title.matches(resolution).count(), 1, "{}", message.title);
        assert!(message.why.starts_with(&format!("{beside}Health score")), "{}", message.why);
    }

    // Without evidence the title is all that there is.
    let (mut alert, _) = sample(Millis(0));
    alert.evidence.clear();
    alert.title = "usage decline: logins".to_owned();
    alert.kind = "usage_decline".to_owned();
    assert!(read(&alert).0.why.starts_with("logins. Health score"));

    let (mut alert, _) = sample(Millis(0));
    alert.kind = "at_risk_band".to_owned();
    alert.priority_parts.clear();
    alert.groups.truncate(1);
    alert.evidence.truncate(1);
    alert.evidence[0].text = "the score is 31.5, in the band At-Risk".to_owned();
    alert.title = format!("at risk band: {}", alert.evidence[0].text);
    let (message, line) = read(&alert);
    assert_eq!(message.why, "");
    assert!(!plain_text(&message).contains("Why it matters"));
    assert_eq!(plain_text(&message).matches("31.5").count(), 1, "{}", plain_text(&message));
    assert_eq!(line, "INFO Bellwether test account: Health is at risk, score 31.5");
}

#[test]
fn a_fleet_alert_says_what_is_held_back_and_leads_to_where_alerts_are_listed() {
    let (mut alert, _) = sample(Millis(0));
    (alert.kind, alert.account_id) = ("fleet".to_owned(), "*eu".to_owned());
    alert.account_name = Some("all eu accounts".to_owned());
    alert.priority_parts.clear();
    alert.groups.truncate(1);
    alert.evidence.truncate(1);
    let what = "logins of all eu accounts fell by 70 % at 14:00 UTC on 2026-02-15";
    alert.evidence[0].text = what.to_owned();
    alert.title = format!("{what}; 412 alerts of accounts held back");
    let (message, line) = read(&alert);
    assert_eq!(message.title, "INFO Whole cohort moved: all eu accounts");
    assert_eq!(message.why, "412 alerts of accounts held back. Mean health score 31.5 of 100.");
    assert_eq!(line, format!("INFO Whole cohort moved: {what}; 412 alerts of accounts held back"));
    let links: Vec<(&str, &str)> =
        message.links.iter().map(|link| (link.label, link.url.as_str())).collect();
    assert_eq!(links, [("Alerts", "http://127.0.0.1:8391/alerts")]);
    let letter = Letter { alert: &alert, profile: &Profile::default() };
    let own = "[templates]\nwhy = \"{{ links.account }} {{ links.acknowledge }}\"\n";
    let message = texts_of(own).message(Target::Plain, letter).expect("renders");
    assert_eq!(message.why, "http://127.0.0.1:8391/alerts http://127.0.0.1:8391/alerts");
    alert.title = what.to_owned();
    assert_eq!(read(&alert).0.why, "Mean health score 31.5 of 100.");
}

#[test]
fn addresses_that_are_the_same_are_one_link() {
    let (alert, _) = sample(Millis(0));
    let labels = |own: &str| {
        let texts = texts_of(own);
        let links = links(&texts.policy().links, &alert);
        links.into_iter().map(|link| link.label).collect::<Vec<_>>()
    };
    assert_eq!(labels(""), ["Account", "Acknowledge or give feedback"]);
    assert_eq!(
        labels("[links]\nfeedback = \"{base}/feedback/{alert}\"\n"),
        ["Account", "Acknowledge", "Feedback"]
    );
    let all =
        "[links]\nfeedback = \"{base}/x\"\nacknowledge = \"{base}/x\"\naccount = \"{base}/x\"\n";
    assert_eq!(labels(all), ["Account"]);
}

#[test]
fn a_small_number_is_not_rounded_away() {
    let own = "[templates]\nwhy = \"{{ evidence[0].observed | number }} {{ evidence[0].baseline | number }}\"\n";
    let (mut alert, profile) = sample(Millis(0));
    (alert.evidence[0].observed, alert.evidence[0].baseline) = (0.04, 450.4);
    let letter = Letter { alert: &alert, profile: &profile };
    assert_eq!(texts_of(own).message(Target::Plain, letter).expect("renders").why, "0.04 450");
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
