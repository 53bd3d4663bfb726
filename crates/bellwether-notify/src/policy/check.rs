//! What the types of a policy cannot say. Its templates are checked where they are compiled.

use std::collections::BTreeSet;

use bellwether_core::output::{Severity, Transition};
use bellwether_core::time::Zone;

use super::{DeliveryPolicy, Playbook, Route, Sink, SinkType};
use crate::schedule::time_of_day;

pub(super) fn policy(policy: &DeliveryPolicy) -> Result<(), String> {
    limits(policy)?;
    zone("digest.time_zone", &policy.digest.time_zone)?;
    time("digest.at", &policy.digest.at)?;
    let base = &policy.links.base_url;
    if !(base.starts_with("http://") || base.starts_with("https://")) {
        return Err(format!("links.base_url is `{base}`; it begins with http:// or https://"));
    }
    let mut names = BTreeSet::new();
    for sink in &policy.sinks {
        if !names.insert(sink.name.as_str()) {
            return Err(format!("sink `{}` is there twice; names are unique", sink.name));
        }
        check_sink(sink)?;
    }
    let mut routes = BTreeSet::new();
    for route in &policy.routes {
        if !routes.insert(route.name.as_str()) {
            return Err(format!("route `{}` is there twice; names are unique", route.name));
        }
        check_route(policy, route)?;
    }
    playbook("playbook_default", &policy.playbook_default)?;
    for (kind, of) in &policy.playbooks {
        playbook(&format!("playbook.{kind}"), of)?;
    }
    Ok(())
}

impl DeliveryPolicy {
    /// Whether a notifier has something to do with it: sinks without routes are there to be tested.
    ///
    /// # Errors
    /// It has sinks and no route.
    pub fn has_routes(&self) -> Result<(), String> {
        if !self.routes.is_empty() || self.sinks.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.sinks.iter().map(|sink| sink.name.as_str()).collect();
        Err(format!(
            "there are sinks ({}) and no route, so nobody would be told of anything; add a [[route]]",
            names.join(", ")
        ))
    }
}

fn limits(policy: &DeliveryPolicy) -> Result<(), String> {
    let effort = &policy.delivery;
    within("delivery.attempts_max", effort.attempts_max.into(), 0, 100)?;
    within("delivery.backoff_ms", effort.backoff_ms, 1, 3_600_000)?;
    within("delivery.backoff_max_ms", effort.backoff_max_ms, 1, 86_400_000)?;
    within("delivery.timeout_ms", effort.timeout_ms, 1, 120_000)?;
    within("delivery.retry_after_max_seconds", effort.retry_after_max_seconds, 1, 86_400)?;
    within("delivery.give_up_hours", effort.give_up_hours.into(), 1, 8_760)?;
    within("delivery.max_age_hours", effort.max_age_hours.into(), 1, 87_600)?;
    within("delivery.pending_max", effort.pending_max as u64, 1, 1_000_000)?;
    within("delivery.parked_max_day", effort.parked_max_day, 0, 1_000_000)?;
    within("delivery.response_bytes_max", effort.response_bytes_max as u64, 0, 1 << 20)?;
    within("delivery.remember_days", effort.remember_days.into(), 1, 90)?;
    within("breaker.failures", policy.breaker.failures.into(), 1, 1_000)?;
    within("breaker.open_ms", policy.breaker.open_ms, 1, 3_600_000)?;
    within("digest.entries_max", policy.digest.entries_max as u64, 1, 1_000)?;
    within("content.evidence_max", policy.content.evidence_max as u64, 1, 20)?;
    let budget = policy.budget.urgent_per_100_accounts_week;
    if !(budget.is_finite() && budget > 0.0) {
        return Err(format!("budget.urgent_per_100_accounts_week is {budget}, allowed is above 0"));
    }
    Ok(())
}

fn within(key: &str, value: u64, low: u64, high: u64) -> Result<(), String> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(format!("{key} is {value}, allowed is {low} to {high}"))
}

fn zone(key: &str, name: &str) -> Result<(), String> {
    Zone::named(name)
        .map(drop)
        .ok_or_else(|| format!("{key} is `{name}`; allowed are names of the IANA time zone database, e.g. Europe/Berlin"))
}

fn time(key: &str, text: &str) -> Result<(), String> {
    time_of_day(text)
        .map(drop)
        .ok_or_else(|| format!("{key} is `{text}`; allowed is HH:MM from 00:00 to 23:59"))
}

/// A word that nothing has would match nothing, and alerts would be lost in silence.
fn words<'a>(
    key: &str,
    words: &BTreeSet<String>,
    allowed: impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    let allowed: Vec<&str> = allowed.collect();
    match words.iter().find(|word| !allowed.contains(&word.as_str())) {
        None => Ok(()),
        Some(word) => Err(format!("{key} has `{word}`; allowed are {}", allowed.join(", "))),
    }
}

fn severities(key: &str, of: &BTreeSet<String>) -> Result<(), String> {
    words(key, of, Severity::ALL.into_iter().map(Severity::as_str))
}

fn check_route(policy: &DeliveryPolicy, route: &Route) -> Result<(), String> {
    let key = |field: &str| format!("route `{}`: {field}", route.name);
    severities(&key("severity"), &route.severity)?;
    let transitions = Transition::ALL.into_iter().map(Transition::as_str);
    words(&key("transition"), &route.transition, transitions)?;
    // Each kind of the built-in scoring policy has a playbook; a kind of one's own is made known by giving it one.
    words(&key("kind"), &route.kind, policy.playbooks.keys().map(String::as_str)).map_err(
        |error| format!("{error}; a kind of your own scoring policy needs a [playbook.…]"),
    )?;
    if route.sinks.is_empty() {
        return Err(format!("{} is empty; name at least one", key("sinks")));
    }
    for name in &route.sinks {
        let Some(sink) = policy.sink(name) else {
            let known: Vec<&str> = policy.sinks.iter().map(|sink| sink.name.as_str()).collect();
            return Err(format!(
                "{} has `{name}`, which is no sink; there are: {}",
                key("sinks"),
                known.join(", ")
            ));
        };
        if route.mode != super::Mode::Immediate && !sink.kind.takes_digests() {
            return Err(format!(
                "{} is {}, but sink `{name}` takes no digests; use immediate",
                key("mode"),
                route.mode.as_str()
            ));
        }
    }
    if let Some(quiet) = &route.quiet {
        time(&key("quiet.from"), &quiet.from)?;
        time(&key("quiet.to"), &quiet.to)?;
        zone(&key("quiet.time_zone"), &quiet.time_zone)?;
        severities(&key("quiet.except"), &quiet.except)?;
        if quiet.holidays.iter().any(|region| region.trim().is_empty()) {
            return Err(format!(
                "{} has an empty word; allowed are regions of the calendar, and account",
                key("quiet.holidays")
            ));
        }
        if quiet.days.len() == 7 {
            return Err(format!(
                "{} has all seven days: nothing would ever be told",
                key("quiet.days")
            ));
        }
    }
    if let Some(rate) = &route.rate {
        within(&key("rate.per_owner"), rate.per_owner.into(), 1, 10_000)?;
        within(&key("rate.hours"), rate.hours.into(), 1, 8_760)?;
    }
    Ok(())
}

fn playbook(key: &str, playbook: &Playbook) -> Result<(), String> {
    within(&format!("{key}.due_hours"), playbook.due_hours.into(), 1, 8_760)?;
    if playbook.steps.is_empty() || playbook.steps.len() > 10 {
        return Err(format!("{key}.steps has {} steps, allowed are 1 to 10", playbook.steps.len()));
    }
    Ok(())
}

fn check_sink(sink: &Sink) -> Result<(), String> {
    let key = |field: &str| format!("sink `{}`: {field}", sink.name);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    if sink.name.is_empty() || sink.name.len() > 64 || !sink.name.chars().all(plain) {
        return Err(format!(
            "sink `{}`: a name has 1 to 64 letters, digits, `-`, `_` or `.`",
            sink.name
        ));
    }
    within(&key("in_flight"), sink.in_flight.unwrap_or(1) as u64, 1, 64)?;
    if let Some(timeout) = sink.timeout_ms {
        within(&key("timeout_ms"), timeout, 1, 120_000)?;
    }
    let urls = [sink.url.is_some(), sink.url_env.is_some(), sink.url_file.is_some()];
    if urls.into_iter().filter(|given| *given).count() != 1 {
        return Err(format!("sink `{}`: give exactly one of url, url_env and url_file", sink.name));
    }
    if sink.secret_env.is_some() && sink.secret_file.is_some() {
        return Err(format!("sink `{}`: give one of secret_env and secret_file", sink.name));
    }
    let secret = sink.secret_env.is_some() || sink.secret_file.is_some();
    if let Some(url) = &sink.url {
        if matches!(sink.kind, SinkType::Slack | SinkType::Teams) {
            return Err(format!(
                "{} is given, but whoever has the URL of a {} webhook can post there: use url_env or url_file",
                key("url"),
                sink.kind.as_str()
            ));
        }
        let authority = url.split_once("://").map_or("", |(_, rest)| rest);
        if authority.split('/').next().is_some_and(|authority| authority.contains('@')) {
            return Err(format!(
                "{} holds a user or password: use url_env or url_file",
                key("url")
            ));
        }
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let mut names = query.split('&').map(|pair| pair.split('=').next().unwrap_or(""));
        if let Some(name) = names.find(|name| is_secret_parameter(name)) {
            return Err(format!(
                "{} has `{name}=…`, which is a secret: use url_env or url_file",
                key("url")
            ));
        }
    }
    let needs_secret = matches!(sink.kind, SinkType::Webhook | SinkType::Pagerduty);
    if needs_secret && !secret {
        let what = if sink.kind == SinkType::Webhook { "signing key" } else { "routing key" };
        return Err(format!(
            "sink `{}`: a {} needs its {what}: give secret_env or secret_file",
            sink.name,
            sink.kind.as_str()
        ));
    }
    of_type(sink, secret)
}

/// Keys that only some types have.
fn of_type(sink: &Sink, secret: bool) -> Result<(), String> {
    let name = &sink.name;
    if (sink.kind == SinkType::Template) != sink.body.is_some() {
        return Err(format!("sink `{name}`: body belongs to type template, and template needs it"));
    }
    if sink.kind != SinkType::Template && !sink.headers.is_empty() {
        return Err(format!("sink `{name}`: headers belong to type template"));
    }
    if let Some(header) = sink.headers.keys().find(|header| is_secret(header)) {
        return Err(format!(
            "sink `{name}`: headers has `{header}`, which is a secret: secret_env or secret_file give the header that secret_header names"
        ));
    }
    if sink.secret_header.is_some() && !(sink.kind == SinkType::Template && secret) {
        return Err(format!(
            "sink `{name}`: secret_header belongs to type template, with its value in secret_env or secret_file"
        ));
    }
    let mail = sink.kind == SinkType::Email;
    if mail != sink.from.is_some() || mail == sink.to.is_empty() {
        return Err(format!(
            "sink `{name}`: from and to belong to type email, and email needs both"
        ));
    }
    if sink.username.is_some() && !(mail && secret) {
        return Err(format!(
            "sink `{name}`: username belongs to type email, with its password in secret_env or secret_file"
        ));
    }
    if mail && secret && sink.username.is_none() {
        return Err(format!(
            "sink `{name}`: secret_env or secret_file of type email is the password of username, which is missing"
        ));
    }
    if matches!(sink.kind, SinkType::Slack | SinkType::Teams | SinkType::Alertmanager) && secret {
        return Err(format!("sink `{name}`: type {} has no secret", sink.kind.as_str()));
    }
    Ok(())
}

/// Whether a parameter of a URL is by its name one that carries a secret: there `code` is one, too (a key of Azure's functions).
fn is_secret_parameter(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.split(|char: char| !char.is_ascii_alphanumeric()).any(|part| part == "code")
        || is_secret(name)
}

/// Whether a header or a parameter of a URL is by its name one that carries a secret: those come from files or the environment only.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 5] = ["auth", "key", "pass", "pwd", "sig"];
    const WITHIN: [&str; 7] =
        ["apikey", "authorization", "cookie", "credential", "passw", "secret", "token"];
    let name = name.to_ascii_lowercase();
    // `X-AuthToken`, `api_key`, `sig`; but neither `Idempotency-Key`, which is none, nor `design` or `author`.
    let secret =
        |part: &str| PARTS.contains(&part) || WITHIN.iter().any(|word| part.contains(word));
    name != "idempotency-key" && name.split(|char: char| !char.is_ascii_alphanumeric()).any(secret)
}
