//! Where messages lead.

use crate::event::Alert;
use crate::policy::Links;

/// A link of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its label.
    pub label: &'static str,
    /// Its address.
    pub url: String,
}

/// The addresses of an alert by what they are for: `account`, `acknowledge`, `feedback`. A fleet alert is about no account and takes no
/// commands: all of its addresses are where alerts are listed.
#[must_use]
pub fn addresses(links: &Links, alert: &Alert) -> [(&'static str, String); 3] {
    let fill = |pattern: &str| {
        pattern
            .replace("{base}", links.base_url.trim_end_matches('/'))
            .replace("{account}", &percent_encode(&alert.account_id))
            .replace("{alert}", &percent_encode(&alert.alert_id))
    };
    let patterns = if alert.cohort().is_some() {
        [&links.fleet; 3]
    } else {
        [&links.account, &links.acknowledge, &links.feedback]
    };
    let [account, acknowledge, feedback] = patterns.map(|pattern| fill(pattern));
    [("account", account), ("acknowledge", acknowledge), ("feedback", feedback)]
}

/// The links of an alert as people see them, each address once; first the one to its account.
#[must_use]
pub fn shown(links: &Links, alert: &Alert) -> Vec<Link> {
    let [(_, account), (_, acknowledge), (_, feedback)] = addresses(links, alert);
    let label = if alert.cohort().is_some() { "Alerts" } else { "Account" };
    let mut shown = vec![Link { label, url: account }];
    let others = if acknowledge == feedback {
        vec![("Acknowledge or give feedback", acknowledge)]
    } else {
        vec![("Acknowledge", acknowledge), ("Feedback", feedback)]
    };
    for (label, url) in others {
        if shown.iter().all(|link| link.url != url) {
            shown.push(Link { label, url });
        }
    }
    shown
}

fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}
