//! Alerts as texts for people: templates of the delivery policy, escaped for where they are read.
//!
//! # Invariants
//! - Whatever events carry (names, titles, features) is data: it is never read as template syntax, and the formatter escapes every value
//!   for its target, whatever a template says (`safe` and the like are not there). So it cannot bring mentions, links or markup.
//! - Control characters, line breaks and marks that change the direction of text in it become spaces; a value has at most
//!   [`VALUE_CHARS_MAX`] characters.
//! - A template's work is bounded by fuel, its output by [`OUTPUT_BYTES_MAX`].

use bellwether_core::figure::figure;
use bellwether_core::time::Millis;
use minijinja::value::{Serde, Value as Jinja};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, UndefinedBehavior};
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::event::{Alert, Profile, sample};
use crate::policy::DeliveryPolicy;

mod links;

pub use self::links::{Link, addresses, shown as links};

/// Characters of one value of an event that are shown.
pub const VALUE_CHARS_MAX: usize = 400;
/// Bytes that a template may give.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Instructions that a template may take.
const FUEL: u64 = 200_000;

/// Where a text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Nothing is markup: plain e-mail, text runs of Adaptive Cards, fields of JSON.
    Plain,
    /// Slack's mrkdwn.
    Mrkdwn,
    /// HTML.
    Html,
    /// A JSON document: every value is written as JSON, quotes included.
    Json,
}

impl Target {
    const ALL: [Target; 4] = [Target::Plain, Target::Mrkdwn, Target::Html, Target::Json];

    fn index(self) -> usize {
        match self {
            Target::Plain => 0,
            Target::Mrkdwn => 1,
            Target::Html => 2,
            Target::Json => 3,
        }
    }
}

/// A text could not be rendered: a template of the policy is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template {name}: {detail}")]
pub struct RenderError {
    /// The key of the template.
    pub name: String,
    /// What is wrong with it.
    pub detail: String,
}

/// An alert and what is known of its account.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// The event.
    pub alert: &'a Alert,
    /// The account.
    pub profile: &'a Profile,
}

/// A message, each text escaped for its target. Links are not escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// One line.
    pub title: String,
    /// What changed, a line each.
    pub what: Vec<String>,
    /// Why it matters; empty where nothing is to be said of it.
    pub why: String,
    /// Members or features that went quiet, as far as the evidence names them: `what` does not.
    pub who: Vec<String>,
    /// The playbook's steps.
    pub steps: Vec<String>,
    /// Who does it, and until when.
    pub owner: String,
    /// A draft to the customer.
    pub outreach: String,
    /// Where to go on.
    pub links: Vec<Link>,
}

impl Message {
    /// Why it matters, as a list of one line or of none.
    #[must_use]
    pub fn why_lines(&self) -> &[String] {
        if self.why.is_empty() { &[] } else { std::slice::from_ref(&self.why) }
    }
}

/// The compiled templates of a policy.
#[derive(Debug)]
pub struct Texts {
    environments: [Environment<'static>; 4],
    policy: DeliveryPolicy,
}

impl Texts {
    /// Compiles the templates of a policy, and renders each once with a made-up alert.
    ///
    /// # Errors
    /// One does not compile, or names what is not there.
    pub fn compile(policy: &DeliveryPolicy) -> Result<Texts, RenderError> {
        let mut environments = Target::ALL.map(environment);
        for (name, source) in sources(policy) {
            for environment in &mut environments {
                environment
                    .add_template_owned(name.clone(), source.clone())
                    .map_err(|error| wrong(&name, &error))?;
            }
        }
        let texts = Texts { environments, policy: policy.clone() };
        texts.try_out()?;
        Ok(texts)
    }

    fn try_out(&self) -> Result<(), RenderError> {
        let (alert, profile) = sample(Millis(0));
        for kind in self.policy.playbooks.keys().map(String::as_str).chain(["no such kind"]) {
            let alert = Alert { kind: kind.to_owned(), ..alert.clone() };
            let letter = Letter { alert: &alert, profile: &profile };
            self.message(Target::Plain, letter)?;
            let digest = Digest::sample(&alert, &profile);
            self.digest_title(Target::Plain, &digest)?;
            self.digest_line(Target::Plain, letter)?;
        }
        for sink in self.policy.sinks.iter().filter(|sink| sink.body.is_some()) {
            self.body(&sink.name, Letter { alert: &alert, profile: &profile }, "key")?;
        }
        Ok(())
    }

    /// The policy whose texts these are.
    #[must_use]
    pub fn policy(&self) -> &DeliveryPolicy {
        &self.policy
    }

    /// An alert as a message.
    ///
    /// # Errors
    /// A template is at fault.
    pub fn message(&self, target: Target, letter: Letter<'_>) -> Result<Message, RenderError> {
        let Letter { alert, profile } = letter;
        let context = context(&self.policy, alert, profile);
        let render = |name: &str| self.render(target, name, &context);
        let shown = self.policy.content.evidence_max;
        let (mut what, mut who) = (Vec::new(), Vec::new());
        for (at, evidence) in alert.evidence.iter().enumerate() {
            let (text, names) = evidence.named();
            let is_of_somebody = self.policy.content.who_signals.contains(&evidence.signal);
            let names = names.filter(|_| is_of_somebody && who.len() < shown);
            if names.is_none() && what.len() >= shown {
                continue;
            }
            let mut line = context.clone();
            line["evidence_line"] = context["evidence"][at].clone();
            if let Some(names) = names {
                line["evidence_line"]["text"] = clean(text).into();
                line["names"] = clean(names).into();
                who.push(self.render(target, "who", &line)?);
            }
            if what.len() < shown {
                what.push(self.render(target, "templates.evidence", &line)?);
            }
        }
        let kind = playbook_key(&self.policy, &alert.kind);
        let playbook = self.policy.playbook(&alert.kind);
        let steps = (0..playbook.steps.len()).map(|step| render(&format!("{kind}.steps.{step}")));
        Ok(Message {
            title: render("templates.title")?,
            what,
            why: render("templates.why")?,
            who,
            steps: steps.collect::<Result<_, _>>()?,
            owner: self.render(target, "owner", &context)?,
            outreach: render(&format!("{kind}.outreach"))?,
            links: links::shown(&self.policy.links, alert),
        })
    }

    /// The title of a digest.
    ///
    /// # Errors
    /// A template is at fault.
    pub fn digest_title(&self, target: Target, digest: &Digest) -> Result<String, RenderError> {
        let context = json!({
            "mode": digest.mode.as_str(),
            "entries": digest.entries.len(),
            "total": digest.total,
            "base_url": self.policy.links.base_url,
        });
        self.render(target, "templates.digest_title", &context)
    }

    /// A line of a digest.
    ///
    /// # Errors
    /// A template is at fault.
    pub fn digest_line(&self, target: Target, letter: Letter<'_>) -> Result<String, RenderError> {
        let context = context(&self.policy, letter.alert, letter.profile);
        self.render(target, "templates.digest_line", &context)
    }

    /// The body of a template sink: JSON.
    ///
    /// # Errors
    /// The template is at fault, or what it gives is no JSON.
    pub fn body(&self, sink: &str, letter: Letter<'_>, key: &str) -> Result<Value, RenderError> {
        let mut context = context(&self.policy, letter.alert, letter.profile);
        let message = self.message(Target::Plain, letter)?;
        context["idempotency_key"] = key.into();
        context["message"] = json!({
            "title": message.title,
            "text": plain_text(&message),
            "outreach": message.outreach,
        });
        let name = format!("sink.{sink}.body");
        let text = self.render(Target::Json, &name, &context)?;
        serde_json::from_str(&text)
            .map_err(|error| wrong(&name, &format!("gives no JSON: {error}")))
    }

    fn render(&self, target: Target, name: &str, context: &Value) -> Result<String, RenderError> {
        let text = self.environments[target.index()]
            .get_template(name)
            .and_then(|template| template.render(Jinja::from(Serde(context))))
            .map_err(|error| wrong(name, &error))?;
        if text.len() > OUTPUT_BYTES_MAX {
            let detail =
                format!("gives {} bytes, at most {OUTPUT_BYTES_MAX} are allowed", text.len());
            return Err(wrong(name, &detail));
        }
        Ok(text.trim().to_owned())
    }
}

fn wrong(name: &str, detail: &dyn std::fmt::Display) -> RenderError {
    RenderError { name: name.to_owned(), detail: detail.to_string() }
}

/// Every template of a policy, by its key.
fn sources(policy: &DeliveryPolicy) -> Vec<(String, String)> {
    let templates = &policy.templates;
    let mut sources: Vec<(String, String)> = [
        ("templates.title", &templates.title),
        ("templates.evidence", &templates.evidence),
        ("templates.why", &templates.why),
        ("templates.digest_title", &templates.digest_title),
        ("templates.digest_line", &templates.digest_line),
    ]
    .map(|(name, source)| (name.to_owned(), source.clone()))
    .into();
    let owner = "{{ playbook.owner_role }}, within {{ playbook.due }}";
    for (name, source) in [("owner", owner), ("who", "{{ names }}")] {
        sources.push((name.to_owned(), source.to_owned()));
    }
    let playbooks = policy.playbooks.iter().map(|(kind, of)| (format!("playbook.{kind}"), of));
    let default = ("playbook_default".to_owned(), &policy.playbook_default);
    for (key, playbook) in playbooks.chain([default]) {
        for (at, step) in playbook.steps.iter().enumerate() {
            sources.push((format!("{key}.steps.{at}"), step.clone()));
        }
        sources.push((format!("{key}.outreach"), playbook.outreach.clone()));
    }
    for sink in &policy.sinks {
        if let Some(body) = &sink.body {
            sources.push((format!("sink.{}.body", sink.name), body.clone()));
        }
    }
    sources
}

fn playbook_key(policy: &DeliveryPolicy, kind: &str) -> String {
    if policy.playbooks.contains_key(kind) {
        format!("playbook.{kind}")
    } else {
        "playbook_default".to_owned()
    }
}

fn environment(target: Target) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(50);
    // What is captured in a block was escaped when it was written, and counts as such from then on.
    environment.set_auto_escape_callback(|_| AutoEscape::Custom("bellwether".into()));
    environment.set_formatter(move |output, _, value| format(target, output, value));
    // They declare text as escaped that is not, or escape it for another target.
    for filter in ["safe", "escape", "e"] {
        environment.remove_filter(filter);
    }
    environment.add_filter("number", number);
    environment
}

/// A number as people read it.
fn number(value: f64) -> String {
    figure(value)
}

fn format(target: Target, output: &mut Output<'_>, value: &Jinja) -> Result<(), Error> {
    let failed = |error: std::fmt::Error| Error::new(ErrorKind::WriteFailure, error.to_string());
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    if target == Target::Json {
        if value.is_safe() {
            return output.write_str(&value.to_string()).map_err(failed);
        }
        let text = serde_json::to_string(value)
            .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
        return output.write_str(&text).map_err(failed);
    }
    if value.is_none() {
        return Ok(());
    }
    let text = value.to_string();
    let escaped = if value.is_safe() { text } else { escape(target, &text) };
    output.write_str(&escaped).map_err(failed)
}

/// Escapes a value for its target.
#[must_use]
pub fn escape(target: Target, text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match (target, char) {
            (Target::Mrkdwn | Target::Html, '&') => escaped.push_str("&amp;"),
            (Target::Mrkdwn | Target::Html, '<') => escaped.push_str("&lt;"),
            (Target::Mrkdwn | Target::Html, '>') => escaped.push_str("&gt;"),
            (Target::Html, '"') => escaped.push_str("&quot;"),
            (Target::Html, '\'') => escaped.push_str("&#39;"),
            // mrkdwn has no way to escape its marks: signs that look like them stand in.
            (Target::Mrkdwn, '*') => escaped.push('\u{2217}'),
            (Target::Mrkdwn, '_') => escaped.push('\u{ff3f}'),
            (Target::Mrkdwn, '~') => escaped.push('\u{223c}'),
            (Target::Mrkdwn, '`') => escaped.push('\u{2035}'),
            (Target::Plain | Target::Mrkdwn | Target::Html | Target::Json, other) => {
                escaped.push(other);
            }
        }
    }
    escaped
}

/// A value of an event without what could break a line or turn its direction, cut to its limit.
#[must_use]
pub fn clean(text: &str) -> String {
    let disturbs = |char: char| {
        char.is_control()
            || matches!(char, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}')
            || ('\u{202a}'..='\u{202e}').contains(&char)
            || ('\u{2066}'..='\u{2069}').contains(&char)
    };
    let mut chars = text.chars().map(|char| if disturbs(char) { ' ' } else { char });
    let mut cleaned: String = chars.by_ref().take(VALUE_CHARS_MAX).collect();
    if chars.next().is_some() {
        cleaned.pop();
        cleaned.push('…');
    }
    cleaned
}

fn clean_all(value: &mut Value) {
    match value {
        Value::String(text) => *text = clean(text),
        Value::Array(items) => items.iter_mut().for_each(clean_all),
        Value::Object(fields) => fields.values_mut().for_each(clean_all),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What templates are given.
fn context(policy: &DeliveryPolicy, alert: &Alert, profile: &Profile) -> Value {
    let evidence: Vec<Value> = alert
        .evidence
        .iter()
        .map(|line| {
            json!({
                "signal": line.signal, "category": line.category, "group": line.group,
                "observed": line.observed, "baseline": line.baseline, "unit": line.unit,
                "change_pct": line.change_pct, "risk": line.risk, "since": line.onset.iso(),
                "text": line.text,
            })
        })
        .collect();
    let playbook = policy.playbook(&alert.kind);
    let mut context = json!({
        "alert": {
            "id": alert.id, "alert_id": alert.alert_id, "account_id": alert.account_id,
            "account": alert.display_name(), "kind": alert.kind, "transition": alert.transition,
            "severity": alert.severity, "title": alert.title, "summary": alert.summary(),
            "beside": alert.beside(), "score": alert.score,
            "band": words(&alert.band),
            "groups": alert.groups.iter().map(|group| words(group)).collect::<Vec<_>>(),
            "state": alert.state, "snoozed_until": alert.snoozed_until.map(Millis::iso),
            "reopened": alert.reopened, "by": alert.by, "note": alert.note,
            "priority": alert.priority, "pressing": alert.pressing().collect::<Vec<_>>(),
            "resolution": alert.resolution, "at": alert.at.iso(), "opened_at": alert.opened_at.iso(),
        },
        "profile": profile,
        "evidence": evidence,
    });
    clean_all(&mut context);
    // From the policy, not from events.
    context["playbook"] = json!({
        "title": playbook.title, "owner_role": playbook.owner_role, "due_hours": playbook.due_hours,
        "due": due(playbook.due_hours),
    });
    context["links"] = links::addresses(&policy.links, alert)
        .into_iter()
        .map(|(name, url)| (name.to_owned(), Value::from(url)))
        .collect();
    context
}

/// A name of the policy as people read it.
fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// Hours as people say them.
fn due(hours: u32) -> String {
    match hours {
        1 => "1 hour".to_owned(),
        hours if hours >= 48 && hours.is_multiple_of(24) => format!("{} days", hours / 24),
        hours => format!("{hours} hours"),
    }
}

/// A message as plain text.
#[must_use]
pub fn plain_text(message: &Message) -> String {
    let mut text = format!("{}\n", message.title);
    let mut section = |heading: &str, lines: &[String]| {
        if !lines.is_empty() {
            text.push_str(&format!("\n{heading}\n"));
            lines.iter().for_each(|line| text.push_str(&format!("  - {line}\n")));
        }
    };
    section("What changed", &message.what);
    section("Why it matters", message.why_lines());
    section("Went quiet", &message.who);
    section(&format!("Next steps ({})", message.owner), &message.steps);
    let links: Vec<String> =
        message.links.iter().map(|link| format!("{}: {}", link.label, link.url)).collect();
    section("Links", &links);
    text.push_str(&format!("\nDraft to the customer\n{}\n", message.outreach));
    text
}

#[cfg(test)]
mod tests;
