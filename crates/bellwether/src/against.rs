//! `bellwether replay --against`: what another policy or model would have done over the same history, account by account.
//!
//! The same core runs twice over the same files, each as known at the time, and what both published is compared
//! (`bellwether_learn::compare`). Nothing of the result depends on when or where it ran.

pub(crate) mod page;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};
use bellwether_core::account::Account;
use bellwether_core::event::OutcomeKind;
use bellwether_core::history::RING_DAYS;
use bellwether_core::id::AccountId;
use bellwether_core::output::{AlertEvent, Band, Output, Severity};
use bellwether_core::points::Points;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Millis};
use bellwether_learn::compare::{Change, Pair, Raised, Worth, histogram, pair, stability_index};
use bellwether_wire::files;
use serde_json::{Value, json};

use crate::cli::{Global, ReplayArgs};
use crate::config::{Config, Overrides};
use crate::replay::{Replay, Writers, feed};
use crate::usage::{Usage, wrong};
use crate::{learn, policies, show};

/// Days of a year.
const YEAR_DAYS: f64 = 365.25;
/// Accounts that are named, of those whose scores moved most.
const MOVERS: usize = 20;
/// Alerts that the terminal names.
const NAMED: usize = 12;

/// What is compared.
struct Scope {
    /// Alerts before it are not reported: the engines only warm up.
    from: Option<Millis>,
    /// Nothing later is known.
    to: Option<Millis>,
    horizon_ms: i64,
    tolerance_ms: i64,
}

/// What one side did.
struct Side {
    name: String,
    policy_version: String,
    model_version: String,
    raised: Vec<Raised>,
    accounts: Accounts,
    /// Event time at the end.
    end: Millis,
    account_years: f64,
}

/// An account at the end.
pub(crate) struct Standing {
    pub(crate) score: Points,
    pub(crate) band: Band,
    pub(crate) lines: Vec<(String, Points)>,
}

/// Accounts as one side has them.
type Accounts = BTreeMap<AccountId, Standing>;

/// Runs the command.
pub(crate) fn run(
    args: &ReplayArgs,
    against: &Path,
    config: &Config,
    global: &Global,
) -> Result<()> {
    let scope = scope(args)?;
    let side =
        |name: &str, policy: Option<&Path>, model: Option<&Path>| -> Result<(String, Core)> {
            let config = Config {
                policy: policy.map(Path::to_owned),
                model: model.map(Path::to_owned),
                ..config.clone()
            };
            let core =
                policies::core(&config).map_err(|error| Usage(format!("{name}: {error:#}")))?;
            Ok((core.policy().name.clone(), core))
        };
    let new = side("the new policy", config.policy.as_deref(), config.model.as_deref())?;
    let old = if against == Path::new("current") {
        // As configured, without the flags of this command.
        let file = global.config.as_deref();
        let configured = Config::load(file, &Overrides::default())?;
        let model = args.against_model.as_deref().or(configured.model.as_deref());
        side("--against", configured.policy.as_deref(), model)?
    } else {
        side("--against", Some(against), args.against_model.as_deref())?
    };
    let left = left(args, &scope)?;
    let (old, new) = std::thread::scope(|threads| {
        let old = threads.spawn(|| replayed(args, &scope, old, true));
        let new = replayed(args, &scope, new, global.json);
        let old = old.join().unwrap_or_else(|_| Err(anyhow!("the old side failed")));
        old.and_then(|old| Ok((old, new?)))
    })?;
    let found = compare(&scope, &old, &new, left.as_deref());
    if let Some(path) = &args.html {
        std::fs::write(path, page::page(&found))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    if global.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        print(&found);
        if let Some(path) = &args.html {
            println!("\n{}", path.display());
        }
    }
    Ok(())
}

fn scope(args: &ReplayArgs) -> Result<Scope> {
    let from = args.from.as_deref().map(learn::time).transpose()?;
    let to = args.cut.as_deref().map(learn::time).transpose()?;
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        wrong!("--from is {}, which is not before --to, {}", from.iso(), to.iso())
    }
    if args.horizon_days == 0 || args.horizon_days > 366 {
        wrong!("--horizon-days is {}, allowed are 1 to 366", args.horizon_days)
    }
    let days = |days: u32| i64::from(days) * DAY_MS;
    Ok(Scope {
        from,
        to,
        horizon_ms: days(args.horizon_days),
        tolerance_ms: days(args.same_within_days),
    })
}

/// Who left within the scope, and when; none where no outcomes were named.
fn left(args: &ReplayArgs, scope: &Scope) -> Result<Option<Vec<(AccountId, Millis)>>> {
    let Some(path) = &args.outcomes else { return Ok(None) };
    let mut left = Vec::new();
    for outcome in files::open_outcomes(path)? {
        let outcome = outcome.with_context(|| path.display().to_string())?;
        let at = outcome.occurred_at;
        let within = scope.from.is_none_or(|from| at >= from) && scope.to.is_none_or(|to| at < to);
        if outcome.kind == OutcomeKind::Churned && within {
            left.push((outcome.account, at));
        }
    }
    left.sort();
    left.dedup();
    Ok(Some(left))
}

fn replayed(
    args: &ReplayArgs,
    scope: &Scope,
    (name, core): (String, Core),
    quiet: bool,
) -> Result<Side> {
    let (policy_version, model_version) =
        (core.policy().version().to_owned(), core.model_version().to_owned());
    let seen: Rc<RefCell<Vec<AlertEvent>>> = Rc::default();
    let sink = Rc::clone(&seen);
    let describe = core.clone();
    let mut replay = Replay::new(core, Writers::create(None, None)?).watched(move |output| {
        if let Output::Alert(event) = output {
            sink.borrow_mut().push((**event).clone());
        }
    });
    feed(&mut replay, args, scope.to, quiet)?;
    let end = scope.to.or(replay.newest()).unwrap_or_default();
    let raised = raised(&seen.borrow(), scope.from);
    let from = scope.from.unwrap_or(Millis::MIN);
    let lived = |account: &Account| {
        // A dormant account is not looked at any more.
        let last = account.hot.last_event_at?.plus(RING_DAYS as i64 * DAY_MS).min(end);
        let first = account.hot.first_event_at?.max(from);
        Some((last.0 - first.0).max(0) as f64 / DAY_MS as f64)
    };
    let account_years = replay.accounts().filter_map(lived).sum::<f64>() / YEAR_DAYS;
    let accounts = replay.accounts().filter_map(|account| {
        let record = describe.record(account.clone())?;
        let lines = record.contributions.into_iter().map(|line| (line.name, line.points));
        let standing = Standing { score: record.score, band: record.band, lines: lines.collect() };
        Some((record.account_id, standing))
    });
    let accounts = accounts.collect();
    Ok(Side { name, policy_version, model_version, raised, accounts, end, account_years })
}

/// One row per alert, and per time that it came back; its severity is that at the opening, or the one with which it became urgent.
fn raised(events: &[AlertEvent], from: Option<Millis>) -> Vec<Raised> {
    let mut alerts: BTreeMap<(&str, u32), Raised> = BTreeMap::new();
    for event in events {
        let urgent_at = (event.severity >= Severity::High).then_some(event.at);
        let known = alerts.entry((&event.alert_id, event.reopened)).or_insert_with(|| Raised {
            account: event.account_id.clone(),
            kind: event.kind.clone(),
            at: if event.reopened == 0 { event.opened_at } else { event.at },
            severity: event.severity,
            urgent_at,
        });
        known.severity = known.severity.max(event.severity);
        known.urgent_at = known.urgent_at.or(urgent_at);
    }
    let mut alerts: Vec<Raised> = alerts.into_values().collect();
    alerts.retain(|alert| from.is_none_or(|from| alert.at >= from));
    alerts.sort();
    alerts
}

fn compare(scope: &Scope, old: &Side, new: &Side, left: Option<&[(AccountId, Millis)]>) -> Value {
    let pairs = pair(&old.raised, &new.raised, scope.tolerance_ms);
    let count = |of: Change| pairs.iter().filter(|pair| pair.change() == of).count();
    let mut listed: Vec<&Pair<'_>> =
        pairs.iter().filter(|pair| pair.change() != Change::Same).collect();
    listed.sort_by_key(|pair| (pair.change(), pair.either().map(|one| (one.at, &one.account))));
    json!({
        "from": scope.from.map(Millis::iso),
        "to": old.end.max(new.end).iso(),
        "horizon_days": scope.horizon_ms / DAY_MS,
        "same_within_days": scope.tolerance_ms / DAY_MS,
        "old": told(scope, old, left),
        "new": told(scope, new, left),
        "alerts": {
            "gained": count(Change::Gained),
            "lost": count(Change::Lost),
            "severity": count(Change::Severity),
            "moved": count(Change::Moved),
            "same": count(Change::Same),
            "list": listed.iter().map(|pair| alert(pair)).collect::<Vec<_>>(),
        },
        "scores": scores(&old.accounts, &new.accounts),
    })
}

fn told(scope: &Scope, side: &Side, left: Option<&[(AccountId, Millis)]>) -> Value {
    let mut by_severity: BTreeMap<&str, usize> = BTreeMap::new();
    for alert in &side.raised {
        *by_severity.entry(alert.severity.as_str()).or_default() += 1;
    }
    let worth = left.map(|left| {
        Worth::of(&side.raised, left, (scope.horizon_ms, side.end), side.account_years)
    });
    json!({
        "policy": side.name,
        "policy_version": side.policy_version,
        "model_version": side.model_version,
        "alerts": side.raised.len(),
        "by_severity": by_severity,
        "urgent": side.raised.iter().filter(|alert| alert.urgent_at.is_some()).count(),
        "account_years": rounded(side.account_years),
        "worth": worth.map(|worth| json!({
            "followed": worth.followed,
            "wrong": worth.wrong(),
            "unobserved": worth.unobserved,
            "left": worth.left,
            "warned": worth.warned,
            "precision": worth.precision().map(rounded),
            "recall": worth.recall().map(rounded),
            "lead_days": worth.lead_days.map(rounded),
            "wrong_per_account_year": worth.wrong_per_year().map(rounded),
        })),
    })
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn alert(pair: &Pair<'_>) -> Value {
    let side = |one: Option<&Raised>| {
        one.map(|one| {
            json!({
                "at": one.at.iso(), "severity": one.severity.as_str(), "urgent_at": one.urgent_at.map(Millis::iso),
            })
        })
    };
    let either = pair.either();
    json!({
        "account_id": either.map(|one| one.account.as_str()),
        "kind": either.map(|one| one.kind.as_str()),
        "change": match pair.change() {
            Change::Gained => "gained",
            Change::Lost => "lost",
            Change::Severity => "severity",
            Change::Moved => "moved",
            Change::Same => "same",
        },
        "old": side(pair.old),
        "new": side(pair.new),
    })
}

/// How the scores of two sides differ.
pub(crate) fn scores(old: &Accounts, new: &Accounts) -> Value {
    let bins = |side: &Accounts| histogram(side.values().map(|known| known.score.as_f64()));
    let (before, after) = (bins(old), bins(new));
    let bands = |side: &Accounts| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for known in side.values() {
            *counts.entry(known.band.as_str()).or_default() += 1;
        }
        counts
    };
    let both = old.iter().filter_map(|(id, old)| Some((id, old, new.get(id)?)));
    let mut both: Vec<(&AccountId, &Standing, &Standing)> = both.collect();
    let rebanded = both.iter().filter(|(_, old, new)| old.band != new.band).count();
    both.retain(|(_, old, new)| old.score != new.score);
    both.sort_by_key(|(id, old, new)| (std::cmp::Reverse((new.score - old.score).abs()), *id));
    let movers = both.iter().take(MOVERS).map(|(id, old, new)| {
        json!({
            "account_id": id.as_str(), "old": old.score.as_f64(), "new": new.score.as_f64(),
            "lines": moved(old, new),
        })
    });
    json!({
        "accounts": new.len(),
        "moved": both.len(),
        "rebanded": rebanded,
        "bands": {"old": bands(old), "new": bands(new)},
        "histogram": {"old": before, "new": after},
        "stability_index": rounded(stability_index(&before, &after)),
        "movers": movers.collect::<Vec<_>>(),
    })
}

/// The lines that differ: what they sum to is the difference of the scores.
fn moved(old: &Standing, new: &Standing) -> Vec<Value> {
    let points = |side: &Standing, name: &str| {
        side.lines
            .iter()
            .find(|(known, _)| known == name)
            .map_or(Points::ZERO, |(_, points)| *points)
    };
    let names: BTreeSet<&str> =
        old.lines.iter().chain(&new.lines).map(|(name, _)| name.as_str()).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let delta = points(new, name) - points(old, name);
            (delta != Points::ZERO).then(|| json!({"name": name, "delta": delta.as_f64()}))
        })
        .collect()
}

/// A figure for people; a dash where there is none.
pub(crate) fn figure(value: &Value, digits: usize) -> String {
    value.as_f64().map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "–".to_owned(), |value| format!("{:.0} %", value * 100.0))
}

/// The rows that tell the sides apart: name, old, new.
fn rows(found: &Value) -> Vec<[String; 3]> {
    let (old, new) = (&found["old"], &found["new"]);
    let mut rows = Vec::new();
    let mut row = |name: &str, of: &dyn Fn(&Value) -> String| {
        rows.push([name.to_owned(), of(old), of(new)]);
    };
    row("policy", &|side| {
        format!(
            "{} {}",
            side["policy"].as_str().unwrap_or(""),
            side["policy_version"].as_str().unwrap_or("")
        )
    });
    row("scorecard", &|side| side["model_version"].as_str().unwrap_or("").to_owned());
    row("alerts", &|side| side["alerts"].to_string());
    row("urgent alerts", &|side| side["urgent"].to_string());
    if !old["worth"].is_null() {
        row("right", &|side| side["worth"]["followed"].to_string());
        row("wrong", &|side| side["worth"]["wrong"].to_string());
        row("not over yet", &|side| side["worth"]["unobserved"].to_string());
        row("precision", &|side| percent(&side["worth"]["precision"]));
        row("lost accounts, warned before", &|side| {
            format!(
                "{} of {} ({})",
                side["worth"]["warned"],
                side["worth"]["left"],
                percent(&side["worth"]["recall"])
            )
        });
        row("median lead, days", &|side| figure(&side["worth"]["lead_days"], 0));
        row("wrong per account and year", &|side| {
            figure(&side["worth"]["wrong_per_account_year"], 2)
        });
    }
    for (name, band) in
        [("healthy", Band::Healthy), ("neutral", Band::Neutral), ("at risk", Band::AtRisk)]
    {
        let bands = &found["scores"]["bands"];
        let count = |side: &str| bands[side][band.as_str()].as_u64().unwrap_or(0).to_string();
        rows.push([format!("accounts {name}"), count("old"), count("new")]);
    }
    rows
}

/// What the differences of alerts come to, in words.
fn sentence(found: &Value) -> String {
    let (alerts, scores) = (&found["alerts"], &found["scores"]);
    format!(
        "{} alerts gained, {} lost, {} of another severity, {} at another time, {} alike. {} of {} accounts have another score, {} another \
         band; stability index {}.",
        alerts["gained"],
        alerts["lost"],
        alerts["severity"],
        alerts["moved"],
        alerts["same"],
        scores["moved"],
        scores["accounts"],
        scores["rebanded"],
        figure(&scores["stability_index"], 3)
    )
}

fn print(found: &Value) {
    let mut table = show::table(&["", "old", "new"]);
    for row in rows(found) {
        table.add_row(row.map(|cell| show::plain(&cell)));
    }
    println!("{table}");
    if found["old"]["worth"].is_null() {
        println!("What the alerts were worth is not known: name who left with --outcomes.");
    }
    println!("{}", sentence(found));
    let list = found["alerts"]["list"].as_array().map_or(&[][..], Vec::as_slice);
    if list.is_empty() {
        return;
    }
    let mut table = show::table(&["change", "account", "kind", "old", "new"]);
    for alert in list.iter().take(NAMED) {
        table.add_row(cells(alert).map(|cell| show::plain(&cell)));
    }
    println!("{table}");
    if list.len() > NAMED {
        println!("… and {} more: --json or --html has them all.", list.len() - NAMED);
    }
}

/// An alert that differs: change, account, kind, old, new.
fn cells(alert: &Value) -> [String; 5] {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let side = |side: &Value| match side["at"].as_str() {
        Some(at) => format!("{} {}", text(&side["severity"]), at.get(..10).unwrap_or(at)),
        None => "–".to_owned(),
    };
    [
        text(&alert["change"]),
        text(&alert["account_id"]),
        text(&alert["kind"]),
        side(&alert["old"]),
        side(&alert["new"]),
    ]
}
