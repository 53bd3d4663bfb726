use std::collections::BTreeSet;
use std::sync::LazyLock;

use bellwether_core::time::Millis;

use super::*;
use crate::delivery::key;
use crate::digest::Entry;
use crate::event::{Profile, sample};
use crate::policy::{Loaded, Mode};

const SINKS: &str = r#"
[[sink]]
name = "slack"
type = "slack"
url_env = "U"
[[sink]]
name = "teams"
type = "teams"
url_env = "U"
[[sink]]
name = "hook"
type = "webhook"
url = "https://hook.example/in"
secret_env = "K"
[[sink]]
name = "pagerduty"
type = "pagerduty"
url = "https://events.pagerduty.com/v2/enqueue"
secret_env = "K"
[[sink]]
name = "alertmanager"
type = "alertmanager"
url = "https://alertmanager.example/api/v2/alerts"
[[sink]]
name = "mail"
type = "email"
url = "smtps://mail.example"
from = "Bellwether <bellwether@example.com>"
to = ["cs@example.com"]
[[route]]
name = "all"
sinks = ["slack", "teams", "hook", "pagerduty", "alertmanager", "mail"]
mode = "immediate"
"#;
const ROUTING_KEY: &str = "0123456789abcdef0123456789abcdef";
const SIGNING_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// What breaks out of lines, strings and markup where it can.
const HOSTILE: &str = "<!channel> *x* [a](https://evil.example) \"}, {\"y\": 1 & \u{202e}\n<at>all</at>\r\u{0}\u{7}\u{1b}[31m";

mod hostile;
mod limits;
mod vendors;

static TEXTS: LazyLock<Loaded> = LazyLock::new(|| Loaded::parse(SINKS, "test").expect("sound"));

fn texts() -> &'static Texts {
    TEXTS.texts()
}

fn delivery(sink: &str, subject: Subject) -> Delivery {
    Delivery {
        key: key("event", sink),
        sink: sink.to_owned(),
        lane: "lane".to_owned(),
        subject,
        created_ms: 0,
        due_ms: 0,
        attempts: 0,
        excused: 0,
        first_due_ms: 0,
        sequence: 0,
        policy_version: "v".to_owned(),
    }
}

fn alert_with(change: impl FnOnce(&mut Alert, &mut Profile)) -> Subject {
    let (mut alert, mut profile) = sample(Millis(1_000));
    change(&mut alert, &mut profile);
    Subject::Alert { alert: Box::new(alert), profile, earlier: BTreeSet::new() }
}

fn sent(sink: &str, secret: Option<&str>, subject: Subject) -> (Vec<(String, String)>, Value) {
    let texts = texts();
    let of = texts.policy().sink(sink).expect("a sink");
    match parcel(texts, of, secret, &delivery(sink, subject), Millis(5_000)).expect("sendable") {
        Parcel::Http { headers, body } => (headers, serde_json::from_slice(&body).expect("JSON")),
        Parcel::Mail { .. } => panic!("not mail"),
    }
}

/// Alerts of every shape: plain, hostile, very long, without evidence.
fn shapes() -> Vec<Subject> {
    vec![
        alert_with(|_, _| {}),
        alert_with(|alert, _| {
            alert.account_name = Some(HOSTILE.to_owned());
            alert.title = HOSTILE.to_owned();
            alert.evidence.iter_mut().for_each(|line| line.text = HOSTILE.to_owned());
        }),
        alert_with(|alert, profile| {
            alert.account_name = Some("&".repeat(5_000));
            alert.title = "<".repeat(5_000);
            alert.groups = vec!["g".repeat(500); 40];
            let line = alert.evidence[0].clone();
            alert.evidence = vec![crate::event::Evidence { text: "é&".repeat(3_000), ..line }; 30];
            profile.owner = Some("o".repeat(5_000));
        }),
        alert_with(|alert, profile| {
            alert.evidence.clear();
            alert.groups.clear();
            alert.account_name = None;
            alert.kind = "of a newer version".to_owned();
            alert.severity = "apocalyptic".to_owned();
            *profile = Profile::default();
        }),
        alert_with(|alert, _| {
            alert.transition = "resolved".to_owned();
            alert.resolution = Some("recovered".to_owned());
        }),
    ]
}

/// A digest of so many alerts, so many of them shown at most.
fn digest_of(mode: Mode, count: usize, shown: usize, change: impl Fn(&mut Alert)) -> Subject {
    let entries = (0..count).map(|n| {
        let (mut alert, profile) = sample(Millis(n as i64));
        alert.account_id = format!("account-{n}");
        change(&mut alert);
        Entry { alert, profile, because: "daily".to_owned() }
    });
    Subject::Digest(Digest::of(mode, entries.collect(), shown))
}

fn digest(entries: usize) -> Subject {
    digest_of(Mode::Daily, entries, 200, |alert| alert.title = "<&>".repeat(200))
}

#[test]
fn pagerduty_events_go_on_under_one_key() {
    let actions =
        ["opened", "acknowledged", "snoozed", "resolved", "of a newer version"].map(|word| {
            let subject = alert_with(|alert, _| alert.transition = word.to_owned());
            let (_, event) = sent("pagerduty", Some(ROUTING_KEY), subject);
            assert_eq!(event["dedup_key"], "test");
            event["event_action"].as_str().expect("a word").to_owned()
        });
    assert_eq!(actions, ["trigger", "acknowledge", "acknowledge", "resolve", "trigger"]);
}

#[test]
fn alertmanager_is_told_of_the_end_of_an_alert_and_of_the_severity_before() {
    let (_, ended) =
        sent("alertmanager", None, alert_with(|alert, _| alert.transition = "resolved".to_owned()));
    assert_eq!(ended[0]["endsAt"], Millis(1_000).iso());
    let Subject::Alert { mut alert, profile, .. } = alert_with(|_, _| {}) else {
        panic!("an alert")
    };
    alert.severity = "critical".to_owned();
    let subject = Subject::Alert { alert, profile, earlier: ["high".to_owned()].into() };
    let (_, both) = sent("alertmanager", None, subject);
    assert_eq!(
        (&both[0]["labels"]["severity"], &both[0]["endsAt"]),
        (&json!("high"), &json!(Millis(1_000).iso()))
    );
    assert_eq!(both[1]["labels"]["severity"], "critical");
    assert_ne!(both[1]["endsAt"], both[0]["endsAt"]);
}

#[test]
fn an_alert_of_alertmanager_stays_the_same_whatever_becomes_of_its_account() {
    let labels = |owner: &str, earlier: &[&str]| {
        let mut subject = alert_with(|_, profile| {
            profile.owner = Some(owner.to_owned());
            profile.segment = Some(format!("of {owner}"));
            profile.region = Some(format!("near {owner}"));
        });
        if let Subject::Alert { earlier: of, .. } = &mut subject {
            of.extend(earlier.iter().map(|word| (*word).to_owned()));
        }
        let (_, alerts) = sent("alertmanager", None, subject);
        let alerts = alerts.as_array().expect("alerts").clone();
        assert!(alerts.iter().all(|alert| alert["annotations"]["owner"] == owner));
        alerts.into_iter().map(|alert| alert["labels"].clone()).collect::<Vec<Value>>()
    };
    assert_eq!(labels("ann", &[]), labels("bob", &[]));
    let all = labels("ann", &["critical", "medium", "high"]);
    let severity = |labels: &Value| labels["severity"].as_str().expect("a word").to_owned();
    let severities: Vec<String> = all.iter().map(severity).collect();
    let own = labels("ann", &[]).iter().map(severity).collect::<Vec<_>>();
    let mut expected: BTreeSet<String> = ["critical", "medium", "high"].map(str::to_owned).into();
    expected.extend(own);
    assert_eq!(severities.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(severities.len(), expected.len(), "each severity once");
}

#[test]
fn webhooks_carry_a_signature_that_a_receiver_can_check() {
    let secret = SIGNING_KEY;
    let texts = texts();
    let sink = texts.policy().sink("hook").expect("a sink");
    let delivery = delivery("hook", alert_with(|_, _| {}));
    let sent = parcel(texts, sink, Some(secret), &delivery, Millis(1_614_265_330_123));
    let Ok(Parcel::Http { headers, body }) = sent else { panic!("sendable") };
    let header = |name: &str| {
        headers
            .iter()
            .find(|(of, _)| of == name)
            .map(|(_, value)| value.as_str())
            .expect("a header")
    };
    assert_eq!(header("webhook-id"), format!("msg_{}", delivery.key));
    assert_eq!(header("webhook-timestamp"), "1614265330");
    let expected = signature::sign(secret, header("webhook-id"), 1_614_265_330, &body);
    assert_eq!(Ok(header("webhook-signature").to_owned()), expected);
    let document: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(document["type"], "alert.opened");
    assert_eq!(document["data"]["alert"]["id"], "test-1000");
    assert!(parcel(texts, sink, Some("no key"), &delivery, Millis(0)).is_err());
}

#[test]
fn mails_have_one_line_of_subject_and_no_markup_of_events() {
    let texts = texts();
    let sink = texts.policy().sink("mail").expect("a sink");
    for subject in shapes().into_iter().chain([digest(2), digest(300)]) {
        let sent = parcel(texts, sink, None, &delivery("mail", subject), Millis(0));
        let Ok(Parcel::Mail { subject, html, .. }) = sent else { panic!("sendable") };
        assert!(!subject.chars().any(char::is_control), "{subject}");
        assert!(!html.contains("<!channel") && !html.contains("<at>"), "{html}");
    }
}

#[test]
fn each_line_of_a_digest_leads_to_its_account() {
    let url = |n: usize| format!("http://127.0.0.1:8391/accounts/account-{n}");
    let of_two = || digest_of(Mode::Daily, 2, 2, |_| {});
    let (_, slack) = sent("slack", None, of_two());
    let (_, teams) = sent("teams", None, of_two());
    let texts = texts();
    let sink = texts.policy().sink("mail").expect("a sink");
    let sent = parcel(texts, sink, None, &delivery("mail", of_two()), Millis(0));
    let Ok(Parcel::Mail { text, html, .. }) = sent else { panic!("sendable") };
    for n in 0..2 {
        let section = slack["blocks"][1]["text"]["text"].as_str().expect("lines");
        assert!(section.contains(&format!("<{}|Account>", url(n))), "{section}");
        assert!(text.contains(&format!("\n  {}\n", url(n))), "{text}");
        assert!(html.contains(&format!("<a href=\"{}\">Account</a></li>", url(n))), "{html}");
    }
    let lines = &teams["attachments"][0]["content"]["body"].as_array().expect("a body")[1..];
    let links: Vec<&Value> =
        lines.iter().map(|line| &line["inlines"][1]["selectAction"]["url"]).collect();
    assert_eq!(links.len(), 2);
    assert!((0..2).all(|n| links.contains(&&json!(url(n)))), "{links:?}");
}

/// What an id may be at its longest leads nowhere rather than to half an address, and the line is shown all the same.
#[test]
fn a_link_that_is_too_long_is_left_out_of_a_digest_and_not_cut() {
    let long = digest_of(Mode::Daily, 1, 1, |alert| alert.account_id = "ä".repeat(500));
    for sink in ["slack", "teams"] {
        let (_, document) = sent(sink, None, long.clone());
        let text = document.to_string();
        assert!(text.contains("Churn risk, score 31.5"), "{sink}: {text}");
        assert!(!text.contains("%C3"), "{sink}: {text}");
    }
}

/// Whatever an alert is, no empty section stands in a message.
#[test]
fn what_there_is_nothing_to_say_of_is_no_section() {
    let band = || {
        alert_with(|alert, profile| {
            alert.kind = "at_risk_band".to_owned();
            alert.title = "at risk band: the score is 31.5, in the band At-Risk".to_owned();
            alert.groups.clear();
            alert.priority_parts.clear();
            alert.evidence.truncate(1);
            *profile = Profile::default();
        })
    };
    for sink in ["slack", "teams"] {
        let text = sent(sink, None, band()).1.to_string();
        assert!(text.contains("What changed") && text.contains("Next steps"), "{sink}: {text}");
        assert!(!text.contains("Why it matters") && !text.contains("Went quiet"), "{sink}: {text}");
    }
    let texts = texts();
    let sink = texts.policy().sink("mail").expect("a sink");
    let sent = parcel(texts, sink, None, &delivery("mail", band()), Millis(0));
    let Ok(Parcel::Mail { text, html, .. }) = sent else { panic!("sendable") };
    assert!(!text.contains("Why it matters") && !html.contains("Why it matters"), "{text}");
}
