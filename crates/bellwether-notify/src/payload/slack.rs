//! Slack: Block Kit for incoming webhooks (<https://docs.slack.dev/reference/block-kit/blocks>).
//!
//! `verbatim` keeps Slack from finding links and mentions in text by itself; what events carry was escaped before.

use serde_json::{Value, json};

use super::{cut, digest_lines};
use crate::delivery::Subject;
use crate::render::{Letter, Link, RenderError, Target, Texts, escape};

/// Limits of the reference: characters of a header and of a section's text.
const HEADER_CHARS_MAX: usize = 150;
const SECTION_CHARS_MAX: usize = 3000;
/// Alerts of a digest, and characters of a line: they make at most 40 sections, and a message has at most 50 blocks. The rest is counted.
const LINES_MAX: usize = 120;
const LINE_CHARS_MAX: usize = 900;

pub(super) fn document(texts: &Texts, subject: &Subject) -> Result<Value, RenderError> {
    let (title, fallback, mut blocks) = match subject {
        Subject::Alert { alert, profile, .. } => {
            let letter = Letter { alert, profile };
            let message = texts.message(Target::Mrkdwn, letter)?;
            let title = message.title.clone();
            let mut blocks = Vec::new();
            blocks.extend(list("What changed", &message.what));
            blocks.push(section(&format!("*Why it matters*\n{}", message.why)));
            blocks.extend(list("Who", &message.who));
            blocks.extend(list(&format!("Next steps ({})", message.owner), &message.steps));
            blocks
                .push(section(&format!("*Draft to the customer*\n{}", quoted(&message.outreach))));
            blocks.push(json!({"type": "context", "elements": [text(&links(&message.links))]}));
            (title, message.title, blocks)
        }
        Subject::Digest(digest) => {
            let title = texts.digest_title(Target::Mrkdwn, digest)?;
            let lines = digest_lines(texts, Target::Mrkdwn, digest, LINES_MAX)?;
            let blocks = sections(&lines);
            (title, texts.digest_title(Target::Mrkdwn, digest)?, blocks)
        }
    };
    let header =
        json!({"type": "plain_text", "text": cut(&title, HEADER_CHARS_MAX), "emoji": false});
    blocks.insert(0, json!({"type": "header", "text": header}));
    Ok(json!({
        "text": cut(&fallback, SECTION_CHARS_MAX),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    }))
}

fn text(mrkdwn: &str) -> Value {
    json!({"type": "mrkdwn", "text": cut(mrkdwn, SECTION_CHARS_MAX), "verbatim": true})
}

fn section(mrkdwn: &str) -> Value {
    json!({"type": "section", "text": text(mrkdwn)})
}

fn list(heading: &str, lines: &[String]) -> Option<Value> {
    if lines.is_empty() {
        return None;
    }
    let items: Vec<String> = lines.iter().map(|line| format!("• {line}")).collect();
    Some(section(&format!("*{heading}*\n{}", items.join("\n"))))
}

fn quoted(text: &str) -> String {
    text.lines().map(|line| format!(">{line}")).collect::<Vec<_>>().join("\n")
}

fn links(links: &[Link]) -> String {
    // Addresses are percent-encoded but for their base, which the policy gives.
    let link = |link: &Link| format!("<{}|{}>", escape_url(&link.url), link.label);
    links.iter().map(link).collect::<Vec<_>>().join("  ·  ")
}

fn escape_url(url: &str) -> String {
    let marks = url.replace('|', "%7C");
    // Only the three signs that mrkdwn gives a meaning anywhere.
    marks
        .chars()
        .map(|char| {
            if "&<>".contains(char) {
                escape(Target::Html, &char.to_string())
            } else {
                char.to_string()
            }
        })
        .collect()
}

/// Lines, as many to a section as fit.
fn sections(lines: &[String]) -> Vec<Value> {
    let mut sections = Vec::new();
    let mut gathered = String::new();
    for line in lines {
        let line = cut(&format!("• {line}"), LINE_CHARS_MAX);
        if !gathered.is_empty()
            && gathered.chars().count() + line.chars().count() + 1 > SECTION_CHARS_MAX
        {
            sections.push(section(&std::mem::take(&mut gathered)));
        }
        if !gathered.is_empty() {
            gathered.push('\n');
        }
        gathered.push_str(&line);
    }
    if !gathered.is_empty() {
        sections.push(section(&gathered));
    }
    sections
}
