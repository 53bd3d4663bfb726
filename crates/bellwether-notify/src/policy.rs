//! The delivery policy: who is told what, when, and in which words. One TOML file of its own, laid over the built-in default.
//!
//! It is apart from the scoring policy, because a changed text must not give scores another version. Its own version is a hash of
//! its content and goes with every delivery.
//!
//! # Invariants
//! - Unknown keys are refused; a policy that was read is sound: sinks that routes name exist, templates compile, zones are known.
//! - No secret stands in it: they come from the environment or from files, when a sink is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bellwether_core::publish::content_id;
use serde::{Deserialize, Serialize};

use crate::render::Texts;

mod check;

/// The built-in policy: playbooks and texts, no sinks.
pub const DEFAULT: &str = include_str!("../policies/default.toml");

/// A policy that cannot be used; the message names file, key, value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub String);

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryPolicy {
    /// Its name.
    pub name: String,
    /// Where links lead.
    pub links: Links,
    /// How hard it is tried.
    pub delivery: Effort,
    /// When a sink is left alone.
    pub breaker: Breaker,
    /// How many urgent alerts people are asked to bear.
    pub budget: Budget,
    /// When digests go out.
    pub digest: DigestTimes,
    /// What the messages are made of.
    pub content: Content,
    /// Texts of the messages.
    pub templates: Templates,
    /// Where alerts go.
    #[serde(default, rename = "sink")]
    pub sinks: Vec<Sink>,
    /// Which alerts go where; for each sink the first route that matches decides.
    #[serde(default, rename = "route")]
    pub routes: Vec<Route>,
    /// What to do about each kind of alert.
    #[serde(default, rename = "playbook")]
    pub playbooks: BTreeMap<String, Playbook>,
    /// What to do about kinds without a playbook of their own.
    pub playbook_default: Playbook,
}

/// Where links lead. `{base}`, `{account}` and `{alert}` are replaced, percent-encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Links {
    /// Base URL of Bellwether's HTTP server, as the readers of messages reach it.
    pub base_url: String,
    /// The account's page.
    pub account: String,
    /// Where an alert is acknowledged. A GET must change nothing: messengers fetch links by themselves.
    pub acknowledge: String,
    /// Where people say whether an alert was right.
    pub feedback: String,
    /// Where alerts are listed: fleet alerts lead there, which are of no single account.
    pub fleet: String,
}

/// How hard it is tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effort {
    /// Attempts before a delivery is parked (0..=100); 0: as many as `give_up_hours` allow. Those that the sink answered by asking for patience
    /// (429), and trials of a sink that was left alone, do not count.
    pub attempts_max: u32,
    /// Milliseconds of the first pause, which doubles with each attempt; each pause is drawn from zero to that (1..=3600000).
    pub backoff_ms: u64,
    /// Milliseconds of the longest pause (1..=86400000).
    pub backoff_max_ms: u64,
    /// Milliseconds that one attempt may take (1..=120000).
    pub timeout_ms: u64,
    /// Seconds that a sink may ask to wait (`Retry-After`); what is longer is cut to this (1..=86400).
    pub retry_after_max_seconds: u64,
    /// Hours after which a delivery that was not accepted is parked, whatever the attempts (1..=8760); quiet hours do not count.
    pub give_up_hours: u32,
    /// Hours by which an alert may lie back to be told; older ones (history that is filled in) are parked and not told (1..=87600).
    pub max_age_hours: u32,
    /// Deliveries of one sink and partition that may wait, and entries of a partition for digests to come; the next ones are parked
    /// (1..=1000000).
    pub pending_max: usize,
    /// Alerts that a notifier parks in a day (UTC) because they are too old, over the partitions that it has (several notifiers: each so many);
    /// what is beyond is not even parked, but counted and said in the log (0..=1000000). The count is kept with each partition, across
    /// rebalances and restarts.
    pub parked_max_day: u64,
    /// Bytes of an answer that are read (0..=1048576).
    pub response_bytes_max: usize,
    /// Days for which it is remembered what was delivered (1..=90).
    pub remember_days: u32,
}

/// When a sink is left alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// Failures in a row that open it (1..=1000).
    pub failures: u32,
    /// Milliseconds until one delivery is let through as a trial (1..=3600000).
    pub open_ms: u64,
}

/// How many urgent alerts people are asked to bear.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// High and critical alerts per 100 accounts and seven days that are told at once (above 0); the rest goes into the daily digest, ranked,
    /// and is counted. An account counts that has a profile, a score or had an alert.
    pub urgent_per_100_accounts_week: f64,
    /// At least so many are told at once, however few accounts there are.
    pub urgent_min_week: u32,
}

/// When digests go out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigestTimes {
    /// Time of day, `HH:MM`.
    pub at: String,
    /// Day of the weekly digest and of the check-in list.
    pub weekday: Weekday,
    /// Time zone of both.
    pub time_zone: String,
    /// Entries of a digest at most; the rest is counted in it (1..=1000).
    pub entries_max: usize,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the days of the week say what they are")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// What the messages are made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Signals whose evidence names people or features: it is shown as "who".
    pub who_signals: Vec<String>,
    /// Lines of evidence at most (1..=20).
    pub evidence_max: usize,
}

/// Texts of the messages: minijinja templates. What they are given is listed in the default policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Templates {
    /// One line that names account, severity and kind.
    pub title: String,
    /// One line of "what changed".
    pub evidence: String,
    /// "Why it matters".
    pub why: String,
    /// The title of a digest.
    pub digest_title: String,
    /// One line of a digest.
    pub digest_line: String,
}

/// Kinds of sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkType {
    /// An incoming webhook of Slack.
    Slack,
    /// A workflow of Microsoft Teams ("when a webhook request is received").
    Teams,
    /// A webhook signed as Standard Webhooks.
    Webhook,
    /// PagerDuty Events v2.
    Pagerduty,
    /// Alertmanager API v2.
    Alertmanager,
    /// E-mail by SMTP.
    Email,
    /// Any JSON API: the body is a template.
    Template,
}

impl SinkType {
    /// The type as it stands in a policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SinkType::Slack => "slack",
            SinkType::Teams => "teams",
            SinkType::Webhook => "webhook",
            SinkType::Pagerduty => "pagerduty",
            SinkType::Alertmanager => "alertmanager",
            SinkType::Email => "email",
            SinkType::Template => "template",
        }
    }

    /// Whether it keeps alerts open until it is told that they ended.
    #[must_use]
    pub fn keeps_state(self) -> bool {
        matches!(self, SinkType::Pagerduty | SinkType::Alertmanager)
    }

    /// Whether a digest can go there.
    #[must_use]
    pub fn takes_digests(self) -> bool {
        matches!(self, SinkType::Slack | SinkType::Teams | SinkType::Webhook | SinkType::Email)
    }
}

/// Where alerts go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// Its name: part of idempotency keys, so a sink that is renamed is another one.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: SinkType,
    /// Its URL, where that is no secret (`smtp://host:port` for e-mail). Those of Slack and Teams are, and one with a user and password is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The environment variable that holds its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_env: Option<String>,
    /// The file that holds its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_file: Option<PathBuf>,
    /// The environment variable that holds its secret: `whsec_…` of a webhook, the routing key of PagerDuty, the password of SMTP, the
    /// value of the header `secret_header` of a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_env: Option<String>,
    /// The file that holds its secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// Whether it may lie in a private network (loopback, RFC 1918, link-local, …).
    #[serde(default)]
    pub allow_private: bool,
    /// Whether it may be spoken to without TLS.
    #[serde(default)]
    pub allow_http: bool,
    /// Attempts that may be under way at once (1..=64; e-mail has one, whatever stands here); none: [`Sink::at_once`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<usize>,
    /// Milliseconds that one attempt may take; none: `delivery.timeout_ms`. E-mail: until the message is handed over; the server has ten
    /// minutes to take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Templates only: the body, a template that gives JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Templates only: the header that carries the secret; none: `Authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_header: Option<String>,
    /// Templates only: further headers; no secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// E-mail only: the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// E-mail only: the recipients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// E-mail only: the user name of SMTP; its password is the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

impl Sink {
    /// Attempts that may be under way at once. E-mail: one, since mail servers count connections, and a slow one is no faster with several.
    #[must_use]
    pub fn at_once(&self) -> usize {
        if self.kind == SinkType::Email { 1 } else { self.in_flight.unwrap_or(8) }
    }
}

/// When alerts of a route are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// At once.
    Immediate,
    /// In the daily digest.
    Daily,
    /// In the weekly digest.
    Weekly,
    /// In the weekly list of accounts to check in with.
    Checkin,
}

impl Mode {
    /// The mode as it stands in a policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Immediate => "immediate",
            Mode::Daily => "daily",
            Mode::Weekly => "weekly",
            Mode::Checkin => "checkin",
        }
    }
}

/// Which alerts go where. An empty list matches everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Severities.
    #[serde(default)]
    pub severity: BTreeSet<String>,
    /// Kinds.
    #[serde(default)]
    pub kind: BTreeSet<String>,
    /// Segments, from the account's profile; of a fleet alert its cohort.
    #[serde(default)]
    pub segment: BTreeSet<String>,
    /// Owners, from the account's profile.
    #[serde(default)]
    pub owner: BTreeSet<String>,
    /// Regions, from the account's profile.
    #[serde(default)]
    pub region: BTreeSet<String>,
    /// Transitions. Empty: those that ask for attention; and what happens to an alert afterwards, for sinks that keep alerts open.
    #[serde(default)]
    pub transition: BTreeSet<String>,
    /// The sinks.
    pub sinks: Vec<String>,
    /// When.
    pub mode: Mode,
    /// When not, though it is immediate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Quiet>,
    /// How many for each owner; the rest goes into the daily digest and is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// Hours in which immediate alerts wait for their end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// From this time of day, `HH:MM`.
    pub from: String,
    /// To this one; on the next day where it is not after `from`.
    pub to: String,
    /// Days that are quiet as a whole.
    #[serde(default)]
    pub days: BTreeSet<Weekday>,
    /// Time zone.
    pub time_zone: String,
    /// Severities that do not wait.
    #[serde(default)]
    pub except: BTreeSet<String>,
    /// Whose public holidays are quiet as a whole: regions of the calendar (`account.calendar.v1`, entries of kind `holiday`), or `account` for
    /// the region of each account's profile.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub holidays: BTreeSet<String>,
}

/// A limit for each owner, over a window that slides by whole hours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Alerts at most (1..=10000).
    pub per_owner: u32,
    /// In so many hours (1..=8760).
    pub hours: u32,
}

/// What to do about a kind of alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Playbook {
    /// The kind in words.
    pub title: String,
    /// Who does it, e.g. `customer success manager`.
    pub owner_role: String,
    /// Hours within which it is done (1..=8760).
    pub due_hours: u32,
    /// Steps: templates.
    pub steps: Vec<String>,
    /// A draft to the customer: a template.
    pub outreach: String,
}

/// A policy that was read and checked, with its templates compiled: once, for all that use it.
#[derive(Debug, Clone)]
pub struct Loaded {
    texts: Arc<Texts>,
    version: String,
}

impl Loaded {
    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &DeliveryPolicy {
        self.texts.policy()
    }

    /// Its texts.
    #[must_use]
    pub fn texts(&self) -> &Arc<Texts> {
        &self.texts
    }

    /// Its version: a hash of its content.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The built-in policy.
    ///
    /// # Panics
    /// Never: a test reads it.
    #[must_use]
    pub fn builtin() -> Loaded {
        Loaded::parse("", "builtin:default").expect("the built-in delivery policy is sound")
    }

    /// Reads a policy from a file.
    ///
    /// # Errors
    /// It cannot be read, or is not sound.
    pub fn read(file: &Path) -> Result<Loaded, PolicyError> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| PolicyError(format!("{name}: {error}")))?;
        Loaded::parse(&text, &name)
    }

    /// Reads a policy from its text, laid over the built-in one: tables are merged key by key, lists and values replace.
    ///
    /// # Errors
    /// It is not sound; `name` stands in the message.
    pub fn parse(text: &str, name: &str) -> Result<Loaded, PolicyError> {
        let wrong = |error: &dyn std::fmt::Display| PolicyError(format!("{name}: {error}"));
        let own: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(&error))?;
        let mut whole: toml::Table =
            DEFAULT.parse().map_err(|error: toml::de::Error| wrong(&error))?;
        merge(&mut whole, own);
        let policy = DeliveryPolicy::deserialize(toml::Value::Table(whole))
            .map_err(|error| wrong(&error.to_string().trim_end()))?;
        check::policy(&policy).map_err(|error| wrong(&error))?;
        let texts = Texts::compile(&policy).map_err(|error| wrong(&error))?;
        let content = serde_json::to_string(&policy).map_err(|error| wrong(&error))?;
        let version = content_id(&["delivery", &content])[..16].to_owned();
        Ok(Loaded { texts: Arc::new(texts), version })
    }
}

/// Lays one table over another.
fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

impl DeliveryPolicy {
    /// The playbook of a kind.
    #[must_use]
    pub fn playbook(&self, kind: &str) -> &Playbook {
        self.playbooks.get(kind).unwrap_or(&self.playbook_default)
    }

    /// A sink by its name.
    #[must_use]
    pub fn sink(&self, name: &str) -> Option<&Sink> {
        self.sinks.iter().find(|sink| sink.name == name)
    }
}

#[cfg(test)]
mod tests;
