//! What events carry is text wherever it is read: no markup, no link, no field of its own.

use super::*;

/// Where links may lead: as the policy says.
const BASE: &str = "http://127.0.0.1:8391/";

/// Every value in a document, with the keys that lead to it.
fn leaves<'a>(value: &'a Value, at: &str, found: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Array(items) => {
            items.iter().for_each(|item| leaves(item, &format!("{at}[]"), found));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, of)| leaves(of, &format!("{at}.{name}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.push((at.to_owned(), value));
        }
    }
}

/// Alerts and digests in which everything that a customer can choose is hostile, and what they would be with plain words.
fn pairs() -> Vec<(Subject, Subject)> {
    let alert = |text: &str| {
        alert_with(|alert, profile| {
            alert.account_name = Some(text.to_owned());
            alert.title = text.to_owned();
            alert.by = Some(text.to_owned());
            alert.note = Some(text.to_owned());
            alert.groups = vec![text.to_owned(), text.to_owned()];
            for line in &mut alert.evidence {
                (line.text, line.unit) = (text.to_owned(), text.to_owned());
            }
            for of in
                [&mut profile.owner, &mut profile.segment, &mut profile.region, &mut profile.plan]
            {
                *of = Some(text.to_owned());
            }
        })
    };
    let digest = |text: &str| {
        digest_of(Mode::Daily, 3, 3, |alert| {
            alert.account_name = Some(text.to_owned());
            alert.title = text.to_owned();
        })
    };
    vec![(alert(HOSTILE), alert("plain")), (digest(HOSTILE), digest("plain"))]
}

/// The keys of a document, each as often as it stands there.
fn keys(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    leaves(document, "", &mut found);
    found.into_iter().map(|(at, _)| at).collect()
}

#[test]
fn hostile_texts_change_no_field_of_a_document_and_bring_no_link() {
    for (hostile, plain) in pairs() {
        for (sink, secret) in [
            ("slack", None),
            ("teams", None),
            ("hook", Some(SIGNING_KEY)),
            ("pagerduty", Some(ROUTING_KEY)),
            ("alertmanager", None),
        ] {
            let (_, document) = sent(sink, secret, hostile.clone());
            assert_eq!(keys(&document), keys(&sent(sink, secret, plain.clone()).1), "{sink}");
            let mut found = Vec::new();
            leaves(&document, "", &mut found);
            for (at, value) in found {
                let is_address = ["url", "href", "client_url", "generatorURL"]
                    .iter()
                    .any(|name| at.ends_with(&format!(".{name}")));
                if let Some(address) = value.as_str().filter(|_| is_address) {
                    assert!(address.starts_with(BASE), "{sink} {at}: {address}");
                }
            }
        }
    }
}

/// What Teams reads as Markdown is in no element that knows Markdown, and mentions need entities, which there are none of.
#[test]
fn what_events_carry_stands_in_text_runs_of_teams() {
    for (hostile, _) in pairs() {
        let (_, document) = sent("teams", None, hostile);
        let card = &document["attachments"][0]["content"];
        assert_eq!(card["msteams"], Value::Null, "no entities");
        let mut found = Vec::new();
        leaves(&card["body"], "body", &mut found);
        let mut shown = 0;
        for (at, value) in found {
            let Some(text) = value.as_str() else { continue };
            assert!(at != "body[].type" || text == "RichTextBlock", "{at}: {text}");
            if text.contains("evil.example") {
                assert_eq!(at, "body[].inlines[].text", "{text}");
                shown += 1;
            }
        }
        assert!(shown > 0, "it is shown: {card}");
    }
}

/// Labels are what Alertmanager routes by: none of them is a customer's text, but for the id of the account.
#[test]
fn no_label_of_alertmanager_is_a_text_of_events() {
    for (hostile, plain) in pairs() {
        if matches!(hostile, Subject::Digest(_)) {
            continue;
        }
        let [hostile, plain] = [hostile, plain]
            .map(|subject| sent("alertmanager", None, subject).1[0]["labels"].clone());
        assert_eq!(hostile, plain);
    }
}

#[test]
fn a_mail_has_no_tag_and_no_line_that_is_not_ours() {
    let texts = texts();
    let sink = texts.policy().sink("mail").expect("a sink");
    let mail = |subject| match parcel(texts, sink, None, &delivery("mail", subject), Millis(0)) {
        Ok(Parcel::Mail { subject, text, html }) => (subject, text, html),
        other => panic!("a mail, not {other:?}"),
    };
    let tags = |html: &str| -> Vec<String> {
        let parts = html.split('<').skip(1);
        parts.filter_map(|part| Some(part.split_once('>')?.0.to_owned())).collect()
    };
    for (hostile, plain) in pairs() {
        let [hostile, plain] = [hostile, plain].map(mail);
        assert_eq!(tags(&hostile.2), tags(&plain.2), "{}", hostile.2);
        assert_eq!(hostile.1.lines().count(), plain.1.lines().count(), "{}", hostile.1);
        for text in [&hostile.0, &hostile.1, &hostile.2] {
            let disturbs = |char: char| char.is_control() && char != '\n' || char == '\u{202e}';
            assert!(!text.chars().any(disturbs), "{text:?}");
        }
        assert_eq!(hostile.0.lines().count(), 1);
    }
}
