//! What a delivery looks like on the wire, by type of sink. Documents are built as values, never as text, so nothing can break out of them.

use bellwether_core::output::Severity;
use bellwether_core::time::{DAY_MS, Millis};
use serde_json::{Value, json};

use crate::delivery::{Delivery, Subject};
use crate::digest::{Digest, Entry};
use crate::event::{Alert, Phase};
use crate::policy::{Sink, SinkType};
use crate::render::{
    Letter, Link, Message, RenderError, Target, Texts, addresses, clean, escape, links, plain_text,
};
use crate::signature;

mod slack;
mod teams;

/// PagerDuty takes a summary of so many characters, and an event of 512 KB.
const SUMMARY_CHARS_MAX: usize = 1024;
/// Of that, what one list of the details gets, and a line of it in characters.
const DETAIL_BYTES_MAX: usize = 64 << 10;
const DETAIL_CHARS_MAX: usize = 2_000;
/// The longest entity that escaping writes: `&quot;`.
const ENTITY_BYTES_MAX: usize = 6;
/// For how long Alertmanager shows an alert that nobody says has ended: 30 days.
const SHOWN_MS: i64 = 30 * DAY_MS;

/// Something to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parcel {
    /// By HTTP POST, as JSON.
    Http {
        /// Headers beside the content type.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// By SMTP.
    Mail {
        /// The subject: one line.
        subject: String,
        /// The text for readers of plain text.
        text: String,
        /// The same as HTML.
        html: String,
    },
}

/// Why nothing can be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// A template of the policy.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The sink's secret.
    #[error("{0}")]
    Secret(String),
}

/// Makes a delivery ready for its sink. `secret`: the sink's, if it has one.
///
/// # Errors
/// A template is at fault, or the secret is no key.
pub fn parcel(
    texts: &Texts,
    sink: &Sink,
    secret: Option<&str>,
    delivery: &Delivery,
    now: Millis,
) -> Result<Parcel, PayloadError> {
    lasting(texts, sink, secret, delivery, now, SHOWN_MS)
}

/// The same of an alert that ends by itself after so long, where the sink can be told that.
pub(crate) fn lasting(
    texts: &Texts,
    sink: &Sink,
    secret: Option<&str>,
    delivery: &Delivery,
    now: Millis,
    shown_ms: i64,
) -> Result<Parcel, PayloadError> {
    let mut headers = vec![("Idempotency-Key".to_owned(), delivery.key.clone())];
    let document = match sink.kind {
        SinkType::Slack => slack::document(texts, &delivery.subject)?,
        SinkType::Teams => teams::document(texts, &delivery.subject)?,
        SinkType::Pagerduty => pagerduty(texts, secret.unwrap_or_default(), &delivery.subject)?,
        SinkType::Alertmanager => alertmanager(texts, &delivery.subject, shown_ms)?,
        SinkType::Webhook => webhook(texts, delivery)?,
        SinkType::Template => {
            if let Some(secret) = secret {
                let header = sink.secret_header.as_deref().unwrap_or("Authorization");
                headers.push((header.to_owned(), secret.to_owned()));
            }
            headers.extend(sink.headers.clone());
            template(texts, sink, delivery)?
        }
        SinkType::Email => return Ok(mail(texts, &delivery.subject)?),
    };
    let body = document.to_string().into_bytes();
    if sink.kind == SinkType::Webhook {
        let (id, seconds) = (format!("msg_{}", delivery.key), now.0.div_euclid(1000));
        let signature = signature::sign(secret.unwrap_or_default(), &id, seconds, &body)
            .map_err(|error| PayloadError::Secret(format!("sink `{}`: {error}", sink.name)))?;
        headers.extend([
            ("webhook-id".to_owned(), id),
            ("webhook-timestamp".to_owned(), seconds.to_string()),
            ("webhook-signature".to_owned(), signature),
        ]);
    }
    Ok(Parcel::Http { headers, body })
}

/// Cuts a text to a number of characters.
fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    // Half of an entity would be shown as it stands.
    if let Some(at) = cut.rfind('&')
        && !cut[at..].contains(';')
        && cut.len() - at <= ENTITY_BYTES_MAX
    {
        cut.truncate(at);
    }
    cut.push('…');
    cut
}

/// The first lines that fit where there is so much room, and how many more there were of so many. `cost`: the room that a line takes.
fn fitting(
    lines: Vec<String>,
    total: usize,
    room: usize,
    cost: impl Fn(&str) -> usize,
) -> Vec<String> {
    fitting_of(lines, total, room, |line| cost(line), |more| more)
}

/// The same of lines that are more than a text; `plain` makes one of a text alone.
fn fitting_of<Line>(
    lines: Vec<Line>,
    total: usize,
    room: usize,
    cost: impl Fn(&Line) -> usize,
    plain: impl Fn(String) -> Line,
) -> Vec<Line> {
    let whole = lines.iter().fold(0_usize, |sum, line| sum.saturating_add(cost(line)));
    if lines.len() == total && whole <= room {
        return lines;
    }
    let more = |shown: usize| plain(format!("… and {} more", total - shown));
    let (mut shown, mut left) = (Vec::with_capacity(lines.len() + 1), room);
    for line in lines {
        let takes = cost(&line);
        if takes.saturating_add(cost(&more(shown.len()))) > left {
            break;
        }
        left -= takes;
        shown.push(line);
    }
    shown.push(more(shown.len()));
    shown
}

/// Webhooks: the event itself, and what Bellwether would say of it.
fn webhook(texts: &Texts, delivery: &Delivery) -> Result<Value, RenderError> {
    let (kind, at, data) = match &delivery.subject {
        Subject::Alert { alert, profile, .. } => {
            let message = texts.message(Target::Plain, Letter { alert, profile })?;
            let links: serde_json::Map<String, Value> = addresses(&texts.policy().links, alert)
                .into_iter()
                .map(|(name, url)| (name.to_owned(), url.into()))
                .collect();
            let data = json!({
                "alert": alert,
                "account": profile,
                "message": {
                    "title": message.title, "what": message.what, "why": message.why,
                    "who": message.who, "steps": message.steps, "owner": message.owner,
                    "outreach": message.outreach,
                },
                "links": links,
                "delivery_policy_version": delivery.policy_version,
            });
            (format!("alert.{}", identifier(&alert.transition)), alert.at, data)
        }
        Subject::Digest(digest) => {
            let data = json!({
                "entries": digest.entries, "total": digest.total,
                "delivery_policy_version": delivery.policy_version,
            });
            (format!("digest.{}", digest.mode.as_str()), Millis(delivery.created_ms), data)
        }
    };
    Ok(json!({"type": kind, "timestamp": at.iso(), "data": data}))
}

/// A word with the signs only that the specification of Standard Webhooks wants in a type.
fn identifier(word: &str) -> String {
    word.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }).collect()
}

fn template(texts: &Texts, sink: &Sink, delivery: &Delivery) -> Result<Value, RenderError> {
    match &delivery.subject {
        Subject::Alert { alert, profile, .. } => {
            texts.body(&sink.name, Letter { alert, profile }, &delivery.key)
        }
        // Routes to such sinks have no digests: the policy was checked.
        Subject::Digest(_) => Ok(Value::Null),
    }
}

/// Events API v2: <https://developer.pagerduty.com/docs/send-alert-event>.
fn pagerduty(texts: &Texts, routing_key: &str, subject: &Subject) -> Result<Value, RenderError> {
    let Subject::Alert { alert, profile, .. } = subject else { return Ok(Value::Null) };
    let action = match alert.phase() {
        Phase::Raised | Phase::Changed => "trigger",
        Phase::Held => "acknowledge",
        Phase::Ended => "resolve",
    };
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": alert.alert_id,
    });
    if action != "trigger" {
        return Ok(event);
    }
    let message = texts.message(Target::Plain, Letter { alert, profile })?;
    let severity = match alert.rank() {
        Severity::Critical => "critical",
        Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Info => "info",
    };
    event["payload"] = json!({
        "summary": cut(&message.title, SUMMARY_CHARS_MAX),
        "source": "bellwether",
        "severity": severity,
        "timestamp": alert.at.iso(),
        "component": alert.account_id,
        "group": clean(profile.segment.as_deref().unwrap_or("none")),
        "class": alert.kind,
        "custom_details": {
            "what changed": details(message.what), "why it matters": cut(&message.why, DETAIL_CHARS_MAX),
            "went quiet": details(message.who), "next steps": details(message.steps),
            "owner": cut(&message.owner, DETAIL_CHARS_MAX),
        },
    });
    event["client"] = "Bellwether".into();
    event["client_url"] = message.links.first().map_or(Value::Null, |link| link.url.clone().into());
    let others = message.links.iter().skip(1);
    let links = others.map(|link| json!({"href": link.url, "text": link.label}));
    event["links"] = links.collect();
    Ok(event)
}

fn details(lines: Vec<String>) -> Vec<String> {
    let lines: Vec<String> = lines.iter().map(|line| cut(line, DETAIL_CHARS_MAX)).collect();
    let total = lines.len();
    fitting(lines, total, DETAIL_BYTES_MAX, str::len)
}

/// API v2, `POST /api/v2/alerts`. An alert there is its labels, so what may change is no label but an annotation, except the severity, by which
/// Alertmanager routes: the alerts of severities that were told before end.
fn alertmanager(texts: &Texts, subject: &Subject, shown_ms: i64) -> Result<Value, RenderError> {
    let Subject::Alert { alert, profile, earlier } = subject else {
        return Ok(Value::Null);
    };
    let message = texts.message(Target::Plain, Letter { alert, profile })?;
    let one = |severity: &str, ends: Millis| {
        let mut annotations = json!({
            "summary": message.title, "description": message.why,
            "runbook": message.steps.join("\n"), "what": message.what.join("\n"),
        });
        for (name, value) in
            [("segment", &profile.segment), ("owner", &profile.owner), ("region", &profile.region)]
        {
            if let Some(value) = value {
                annotations[name] = clean(value).into();
            }
        }
        json!({
            "labels": {
                "alertname": format!("bellwether_{}", alert.kind),
                "severity": severity,
                "alert_id": alert.alert_id,
                "account_id": alert.account_id,
            },
            "annotations": annotations,
            "startsAt": alert.opened_at.iso(),
            "endsAt": ends.iso(),
            "generatorURL": message.links.first().map_or("", |link| link.url.as_str()),
        })
    };
    let ends = match alert.phase() {
        Phase::Ended => alert.at,
        Phase::Raised | Phase::Held | Phase::Changed => alert.at.plus(shown_ms),
    };
    let before = earlier.iter().filter(|before| **before != alert.severity);
    let mut alerts: Vec<Value> = before.map(|before| one(before, alert.at)).collect();
    alerts.push(one(&alert.severity, ends));
    Ok(alerts.into())
}

fn mail(texts: &Texts, subject: &Subject) -> Result<Parcel, RenderError> {
    match subject {
        Subject::Alert { alert, profile, .. } => {
            let letter = Letter { alert, profile };
            let plain = texts.message(Target::Plain, letter)?;
            let html = html_message(&texts.message(Target::Html, letter)?);
            Ok(Parcel::Mail { subject: plain.title.clone(), text: plain_text(&plain), html })
        }
        Subject::Digest(digest) => {
            let title = texts.digest_title(Target::Plain, digest)?;
            let lines = digest_lines(texts, Target::Plain, digest)?.into_iter();
            let lines = lines.map(|(line, link)| format!("- {line}\n  {}", link.url)).collect();
            let lines = fitting(lines, digest.total, usize::MAX, str::len);
            let text = format!("{title}\n\n{}\n", lines.join("\n"));
            Ok(Parcel::Mail { subject: title, text, html: html_digest(texts, digest)? })
        }
    }
}

/// A line for each alert of a digest, and where it leads.
fn digest_lines(
    texts: &Texts,
    target: Target,
    digest: &Digest,
) -> Result<Vec<(String, Link)>, RenderError> {
    let line = |entry: &Entry| {
        let letter = Letter { alert: &entry.alert, profile: &entry.profile };
        let link = links(&texts.policy().links, &entry.alert).swap_remove(0);
        Ok((texts.digest_line(target, letter)?, link))
    };
    digest.entries.iter().map(line).collect()
}

/// A message as a fragment of HTML; its texts are escaped already.
#[must_use]
pub fn html_message(message: &Message) -> String {
    let list = |heading: &str, lines: &[String]| {
        if lines.is_empty() {
            return String::new();
        }
        let items: String = lines.iter().map(|line| format!("<li>{line}</li>")).collect();
        format!("<h3>{heading}</h3><ul>{items}</ul>")
    };
    let links: Vec<String> = message.links.iter().map(anchor).collect();
    let why = match message.why.as_str() {
        "" => String::new(),
        why => format!("<h3>Why it matters</h3><p>{why}</p>"),
    };
    format!(
        "<h2>{}</h2>{}{why}{}{}<p>{}</p><h3>Draft to the customer</h3><blockquote>{}</blockquote>",
        message.title,
        list("What changed", &message.what),
        list("Went quiet", &message.who),
        list(&format!("Next steps ({})", message.owner), &message.steps),
        links.join(" · "),
        message.outreach.replace('\n', "<br>"),
    )
}

fn anchor(link: &Link) -> String {
    let url = escape(Target::Html, &link.url);
    format!("<a href=\"{url}\">{}</a>", link.label)
}

fn html_digest(texts: &Texts, digest: &Digest) -> Result<String, RenderError> {
    let title = texts.digest_title(Target::Html, digest)?;
    let lines = digest_lines(texts, Target::Html, digest)?.into_iter();
    let items: String =
        lines.map(|(line, link)| format!("<li>{line} {}</li>", anchor(&link))).collect();
    let more = digest.total.saturating_sub(digest.entries.len());
    let more = if more > 0 { format!("<p>and {more} more</p>") } else { String::new() };
    Ok(format!("<h2>{title}</h2><ol>{items}</ol>{more}"))
}

/// The alert of a delivery, for logs and parking.
#[must_use]
pub fn alert_of(subject: &Subject) -> Option<&Alert> {
    match subject {
        Subject::Alert { alert, .. } => Some(alert),
        Subject::Digest(_) => None,
    }
}

#[cfg(test)]
mod tests;
