//! Microsoft Teams: an Adaptive Card in the envelope of a workflow that begins "when a Teams webhook request is received".
//!
//! What events carry stands in text runs, which know no Markdown; so it cannot bring links or emphasis.

use serde_json::{Value, json};

use super::{cut, digest_lines};
use crate::delivery::Subject;
use crate::render::{Letter, RenderError, Target, Texts};

/// A message of Teams has at most 28 KB; one run of text gets a part of it.
const RUN_CHARS_MAX: usize = 1500;
/// Alerts of a digest; the rest is counted in it.
const LINES_MAX: usize = 40;

pub(super) fn document(texts: &Texts, subject: &Subject) -> Result<Value, RenderError> {
    let (body, links) = match subject {
        Subject::Alert { alert, profile, .. } => {
            let message = texts.message(Target::Plain, Letter { alert, profile })?;
            let mut body = vec![heading(&message.title, "large")];
            let mut add = |title: &str, lines: &[String]| {
                if !lines.is_empty() {
                    body.push(heading(title, "default"));
                    body.extend(lines.iter().map(|line| paragraph(&format!("• {line}"))));
                }
            };
            add("What changed", &message.what);
            add("Why it matters", std::slice::from_ref(&message.why));
            add("Who", &message.who);
            add(&format!("Next steps ({})", message.owner), &message.steps);
            let draft: Vec<String> = message.outreach.lines().map(str::to_owned).collect();
            add("Draft to the customer", &draft);
            (body, message.links)
        }
        Subject::Digest(digest) => {
            let title = texts.digest_title(Target::Plain, digest)?;
            let lines = digest_lines(texts, Target::Plain, digest, LINES_MAX)?;
            let mut body = vec![heading(&title, "large")];
            body.extend(lines.iter().map(|line| paragraph(&cut(line, 400))));
            (body, Vec::new())
        }
    };
    let actions: Vec<Value> = links
        .iter()
        .map(|link| json!({"type": "Action.OpenUrl", "title": link.label, "url": link.url}))
        .collect();
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

fn heading(text: &str, size: &str) -> Value {
    let run = json!({"type": "TextRun", "text": cut(text, RUN_CHARS_MAX), "weight": "bolder", "size": size});
    json!({"type": "RichTextBlock", "inlines": [run]})
}

fn paragraph(text: &str) -> Value {
    let run = json!({"type": "TextRun", "text": cut(text, RUN_CHARS_MAX)});
    json!({"type": "RichTextBlock", "inlines": [run]})
}
