//! Slack: Block Kit for incoming webhooks (<https://docs.slack.dev/reference/block-kit/blocks>).
//!
//! `verbatim` keeps Slack from finding links and mentions in text by itself; what events carry was escaped before.

use serde_json::{Value, json};

use super::{cut, digest_lines, fitting};
use crate::delivery::Subject;
use crate::render::{Letter, Link, Message, RenderError, Target, Texts, escape};

/// Limits of the reference: characters of a header and of a section's text. A message has at most 50 blocks, too.
const HEADER_CHARS_MAX: usize = 150;
const SECTION_CHARS_MAX: usize = 3000;
/// Characters of a line.
const LINE_CHARS_MAX: usize = 900;
/// Characters of a digest's lines. The reference does not say that a message is refused (`msg_blocks_too_long`) whose blocks have more than
/// some 12,000 characters together, or a little less; it has been measured (slackapi/bolt-js, issues 2509 and 2867).
const DIGEST_CHARS_MAX: usize = 9000;
/// Shares of the parts of an alert, by the same measure.
const SHARE_CHARS_MAX: usize = 1500;
/// Characters of a link of a digest: one that is longer is left out. With its line it fits into a section.
const LINK_CHARS_MAX: usize = 2000;
/// Characters of the links of an alert: none is cut.
const LINKS_CHARS_MAX: usize = SECTION_CHARS_MAX;

pub(super) fn document(texts: &Texts, subject: &Subject) -> Result<Value, RenderError> {
    let (title, mut blocks) = match subject {
        Subject::Alert { alert, profile, .. } => {
            let message = texts.message(Target::Mrkdwn, Letter { alert, profile })?;
            let blocks = alert_blocks(&message);
            (message.title, blocks)
        }
        Subject::Digest(digest) => {
            let lines = digest_lines(texts, Target::Mrkdwn, digest)?.into_iter();
            let lines = lines.map(|(line, link)| item(&line) + &behind(&link)).collect();
            let lines = fitting(lines, digest.total, DIGEST_CHARS_MAX, chars);
            (texts.digest_title(Target::Mrkdwn, digest)?, sections(&lines))
        }
    };
    let header =
        json!({"type": "plain_text", "text": cut(&title, HEADER_CHARS_MAX), "emoji": false});
    blocks.insert(0, json!({"type": "header", "text": header}));
    Ok(json!({
        "text": cut(&title, SECTION_CHARS_MAX),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    }))
}

fn alert_blocks(message: &Message) -> Vec<Value> {
    let mut blocks = Vec::new();
    blocks.extend(list("What changed", &message.what));
    if !message.why.is_empty() {
        let why = cut(&message.why, SHARE_CHARS_MAX);
        blocks.push(section(&format!("*Why it matters*\n{why}")));
    }
    blocks.extend(list("Went quiet", &message.who));
    let owner = cut(&message.owner, HEADER_CHARS_MAX);
    blocks.extend(list(&format!("Next steps ({owner})"), &message.steps));
    let draft = quoted(&cut(&message.outreach, SHARE_CHARS_MAX));
    blocks.push(section(&format!("*Draft to the customer*\n{draft}")));
    let links = links(&message.links);
    if !links.is_empty() {
        blocks.push(json!({"type": "context", "elements": [text(&links)]}));
    }
    blocks
}

/// A line of a list.
fn item(line: &str) -> String {
    cut(&format!("• {line}"), LINE_CHARS_MAX)
}

/// What a line takes, its break included.
fn chars(line: &str) -> usize {
    line.chars().count() + 1
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
    let items = lines.iter().map(|line| item(line)).collect();
    let items = fitting(items, lines.len(), SHARE_CHARS_MAX, chars);
    Some(section(&format!("*{heading}*\n{}", items.join("\n"))))
}

fn quoted(text: &str) -> String {
    text.lines().map(|line| format!(">{line}")).collect::<Vec<_>>().join("\n")
}

fn links(links: &[Link]) -> String {
    // Addresses are percent-encoded but for their base, which the policy gives.
    let mut text = String::new();
    for link in links {
        let between = if text.is_empty() { "" } else { "  ·  " };
        let link = format!("{between}{}", anchor(link));
        if text.chars().count() + link.chars().count() <= LINKS_CHARS_MAX {
            text.push_str(&link);
        }
    }
    text
}

fn anchor(link: &Link) -> String {
    format!("<{}|{}>", escape_url(&link.url), link.label)
}

/// The link behind a line of a digest; nothing where it is too long to be one.
fn behind(link: &Link) -> String {
    let link = format!("  {}", anchor(link));
    if link.chars().count() <= LINK_CHARS_MAX { link } else { String::new() }
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
        if !gathered.is_empty() && chars(&gathered) + chars(line) > SECTION_CHARS_MAX {
            sections.push(section(&std::mem::take(&mut gathered)));
        }
        if !gathered.is_empty() {
            gathered.push('\n');
        }
        gathered.push_str(line);
    }
    if !gathered.is_empty() {
        sections.push(section(&gathered));
    }
    sections
}
