//! Microsoft Teams: an Adaptive Card in the envelope of a workflow that begins "when a Teams webhook request is received".
//!
//! What events carry stands in text runs, which know no Markdown; so it cannot bring links or emphasis.

use serde_json::{Value, json};

use super::{cut, digest_lines, fitting_of};
use crate::delivery::Subject;
use crate::render::{Letter, Link, Message, RenderError, Target, Texts};

/// A message of Teams has at most 28 KB: bytes of a digest's lines, and of each of the five parts of an alert. With title, headings and
/// links they come to less.
const DIGEST_BYTES_MAX: usize = 25_000;
const SHARE_BYTES_MAX: usize = 4_000;
/// Characters of a title or a heading, and of a line.
const HEADING_CHARS_MAX: usize = 200;
const LINE_CHARS_MAX: usize = 700;
/// Bytes of a link: one that is longer is left out.
const LINK_BYTES_MAX: usize = 1_200;

pub(super) fn document(texts: &Texts, subject: &Subject) -> Result<Value, RenderError> {
    let (body, links) = match subject {
        Subject::Alert { alert, profile, .. } => {
            let message = texts.message(Target::Plain, Letter { alert, profile })?;
            (alert_body(&message), message.links)
        }
        Subject::Digest(digest) => {
            let title = texts.digest_title(Target::Plain, digest)?;
            let lines = digest_lines(texts, Target::Plain, digest)?.into_iter();
            let lines = lines.map(|(line, link)| entry(&line, &link)).collect();
            let lines =
                fitting_of(lines, digest.total, DIGEST_BYTES_MAX, bytes, |more| paragraph(&more));
            let mut body = vec![heading(&title, "large")];
            body.extend(lines);
            (body, Vec::new())
        }
    };
    let links = links.iter().filter(|link| link.url.len() <= LINK_BYTES_MAX);
    let actions: Vec<Value> = links.map(opening).collect();
    Ok(json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": body,
                "actions": actions,
            },
        }],
    }))
}

fn alert_body(message: &Message) -> Vec<Value> {
    let mut body = vec![heading(&message.title, "large")];
    let mut add = |title: &str, lines: Vec<String>| {
        if lines.is_empty() {
            return;
        }
        let total = lines.len();
        let lines = lines.iter().map(|line| paragraph(&cut(line, LINE_CHARS_MAX))).collect();
        body.push(heading(title, "default"));
        body.extend(fitting_of(lines, total, SHARE_BYTES_MAX, bytes, |more| paragraph(&more)));
    };
    let items = |lines: &[String]| lines.iter().map(|line| format!("• {line}")).collect();
    add("What changed", items(&message.what));
    add("Why it matters", items(message.why_lines()));
    add("Went quiet", items(&message.who));
    add(&format!("Next steps ({})", message.owner), items(&message.steps));
    add("Draft to the customer", message.outreach.lines().map(str::to_owned).collect());
    body
}

/// What a line takes in the message.
fn bytes(line: &Value) -> usize {
    line.to_string().len() + 1
}

fn opening(link: &Link) -> Value {
    json!({"type": "Action.OpenUrl", "title": link.label, "url": link.url})
}

/// A line of a digest and where it leads, in a run of its own: so that no text of events is a link.
fn entry(line: &str, link: &Link) -> Value {
    let mut entry = paragraph(&cut(line, LINE_CHARS_MAX));
    if link.url.len() <= LINK_BYTES_MAX
        && let Some(runs) = entry["inlines"].as_array_mut()
    {
        let label = format!("  {}", link.label);
        runs.push(json!({"type": "TextRun", "text": label, "selectAction": opening(link)}));
    }
    entry
}

fn heading(text: &str, size: &str) -> Value {
    let run = json!({"type": "TextRun", "text": cut(text, HEADING_CHARS_MAX), "weight": "bolder", "size": size});
    json!({"type": "RichTextBlock", "inlines": [run]})
}

fn paragraph(text: &str) -> Value {
    let run = json!({"type": "TextRun", "text": text});
    json!({"type": "RichTextBlock", "inlines": [run]})
}
