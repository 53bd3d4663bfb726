//! What is shown of single accounts: which ones, and what the engine saw of them day by day.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bellwether_core::expect::is_count;
use bellwether_core::output::{AlertEvent, Output, Severity, SignalDay};
use bellwether_core::policy::{Aggregate, Compiled, Direction};
use bellwether_core::publish::content_id;
use bellwether_core::step::{Core, Observer};
use bellwether_core::time::{DAY_MS, Day, Millis, Zone};
use serde::Deserialize;

use crate::replay::{Replay, Writers};

/// Days that are shown before and after the day that a timeline is about.
const SHOWN_DAYS: (i32, i32) = (150, 60);

/// An account to be shown.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) account: String,
    /// What a person should see in it.
    pub(crate) caption: String,
    /// The outcome, and what to call it.
    pub(crate) outcome: Option<(Day, &'static str)>,
    /// The day that the timeline is about.
    pub(crate) about: Day,
}

/// A signal, as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) label: String,
    /// The unit of a day.
    pub(crate) unit: String,
    pub(crate) is_presence: bool,
    pub(crate) is_count: bool,
    pub(crate) falls: bool,
}

/// An alert, as it is shown: where it opened or became urgent.
#[derive(Debug, Clone)]
pub(crate) struct Flag {
    pub(crate) at: Millis,
    pub(crate) kind: String,
    pub(crate) severity: Severity,
    pub(crate) is_fleet: bool,
    /// Indices of the signals that it names, each with the day on which its deviation began.
    pub(crate) evidence: Vec<(usize, Day)>,
}

/// What the engine saw of an account.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    pub(crate) subject: Subject,
    pub(crate) signals: Vec<Shown>,
    pub(crate) from: Day,
    pub(crate) until: Day,
    /// Per closed day, one value per signal.
    pub(crate) days: Vec<(Day, Vec<SignalDay>)>,
    pub(crate) scores: Vec<(Millis, f64)>,
    pub(crate) alerts: Vec<Flag>,
    /// From and below which scores are Healthy and At-Risk.
    pub(crate) bands: (f64, f64),
    cohort: String,
}

/// Replays the events and keeps what is to be shown of the subjects.
pub(crate) fn record(
    policy: &Compiled,
    events: &Path,
    subjects: Vec<Subject>,
) -> Result<Vec<Timeline>> {
    let known: BTreeMap<String, usize> =
        subjects.iter().enumerate().map(|(at, one)| (one.account.clone(), at)).collect();
    let known = Arc::new(known);
    let timelines: Vec<Timeline> =
        subjects.into_iter().map(|subject| empty(policy, subject)).collect();
    let timelines = Arc::new(Mutex::new(timelines));
    let (seen, of) = (Arc::clone(&timelines), Arc::clone(&known));
    let observer = Observer::new(move |judged| {
        let Some(&at) = of.get(judged.account_id.as_str()) else { return };
        let timeline = &mut seen.lock().unwrap_or_else(PoisonError::into_inner)[at];
        timeline.cohort.clone_from(&judged.cohort);
        if (timeline.from..=timeline.until).contains(&judged.day) {
            timeline.days.push((judged.day, judged.signals.clone()));
        }
    });
    let of = Arc::clone(&known);
    let observer = observer.in_detail(move |account| of.contains_key(account.as_str()));
    let core = Core::new(Arc::new(policy.clone())).observed(observer);
    let names: Vec<String> = policy.signals.iter().map(|signal| signal.name.clone()).collect();
    let seen = Arc::clone(&timelines);
    let watch = move |output: &Output| {
        let timelines = &mut *seen.lock().unwrap_or_else(PoisonError::into_inner);
        let own = known.get(output.account().as_str()).and_then(|&at| timelines.get_mut(at));
        match (output, own) {
            (Output::ScoreChanged(change), Some(own)) => {
                own.scores.push((change.at, f64::from(change.score.0) / 100.0));
            }
            (Output::Alert(event), Some(own)) => own.alerts.push(flag(event, &names)),
            (Output::Alert(event), None) if event.is_fleet() => {
                let cohort = event.account_id.as_str().trim_start_matches('*');
                for timeline in timelines.iter_mut().filter(|one| one.cohort == cohort) {
                    timeline.alerts.push(flag(event, &names));
                }
            }
            _ => {}
        }
    };
    let mut replay = Replay::new(core, Writers::create(None, None)?).watched(watch);
    replay.file(events, None, true)?;
    replay.finish(None)?;
    drop(replay);
    let timelines = std::mem::take(&mut *timelines.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(timelines)
}

fn empty(policy: &Compiled, subject: Subject) -> Timeline {
    let signals = policy.signals.iter().map(|signal| Shown {
        label: signal.label.clone(),
        unit: signal.unit.replace("/week", " a day"),
        is_presence: signal.aggregate == Aggregate::Presence,
        is_count: is_count(signal),
        falls: signal.direction == Direction::Down,
    });
    Timeline {
        from: subject.about.plus(-SHOWN_DAYS.0),
        until: subject.about.plus(SHOWN_DAYS.1),
        signals: signals.collect(),
        days: Vec::new(),
        scores: Vec::new(),
        alerts: Vec::new(),
        bands: (policy.score.healthy_min, policy.score.at_risk_below),
        cohort: String::new(),
        subject,
    }
}

fn flag(event: &AlertEvent, names: &[String]) -> Flag {
    let evidence = event.evidence.iter().filter_map(|item| {
        let signal = names.iter().position(|name| *name == item.signal)?;
        Some((signal, item.onset))
    });
    Flag {
        at: event.at,
        kind: event.kind.clone(),
        severity: event.severity,
        is_fleet: event.is_fleet(),
        evidence: evidence.collect(),
    }
}

/// A row of an outcomes file of the kit.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct OutcomeRow {
    account_id: String,
    kind: String,
    eligible_from: String,
    churned_at: Option<String>,
    observed_until: String,
}

/// A row of a truth file of the kit's synthetic fleets.
#[derive(Debug, Clone, Deserialize)]
struct TruthRow {
    account_id: String,
    judged_from: String,
    change_at: Option<String>,
    judged_until: String,
    mean_per_day: f64,
}

/// What is true of an account of a synthetic fleet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Truth {
    pub(crate) id: String,
    pub(crate) judged_from: Millis,
    pub(crate) judged_until: Millis,
    pub(crate) change_at: Option<Millis>,
    /// Events a day, before anything changes.
    pub(crate) mean_per_day: f64,
}

impl Truth {
    /// Years in which it is judged.
    pub(crate) fn years(&self) -> f64 {
        (self.judged_until.0 - self.judged_from.0) as f64 / (365.25 * DAY_MS as f64)
    }
}

/// Reads a truth file.
pub(crate) fn truths(path: &Path) -> Result<Vec<Truth>> {
    let truths = rows::<TruthRow>(path)?.into_iter().map(|row| {
        Ok(Truth {
            id: row.account_id,
            judged_from: at(&row.judged_from)?,
            judged_until: at(&row.judged_until)?,
            change_at: row.change_at.as_deref().map(at).transpose()?,
            mean_per_day: row.mean_per_day,
        })
    });
    truths.collect()
}

/// A row of alerts.csv.
#[derive(Debug, Clone, Deserialize)]
struct AlertRow {
    account_id: String,
    at: String,
    kind: String,
    severity: String,
}

/// Reads a CSV file, plain or gzipped.
pub(crate) fn rows<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let open = || path.display().to_string();
    let file = std::fs::File::open(path).with_context(open)?;
    let bytes: Box<dyn std::io::Read> = if path.extension().is_some_and(|ending| ending == "gz") {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    csv::Reader::from_reader(bytes).deserialize().collect::<Result<_, _>>().with_context(open)
}

fn at(text: &str) -> Result<Millis> {
    Millis::parse(text).with_context(|| format!("`{text}` is no time"))
}

fn day(at: Millis) -> Day {
    Zone::UTC.day(at)
}

/// The urgent alerts of each account: when, and of which kind.
pub(crate) type Urgent = BTreeMap<String, Vec<(Millis, String)>>;

pub(crate) fn urgent(path: &Path) -> Result<Urgent> {
    let mut urgent = Urgent::new();
    for row in rows::<AlertRow>(path)? {
        if matches!(row.severity.as_str(), "high" | "critical") {
            let kind = row.kind.replace('_', " ");
            urgent.entry(row.account_id).or_default().push((at(&row.at)?, kind));
        }
    }
    Ok(urgent)
}

/// In an order that has nothing to do with what the accounts look like.
fn shuffled(mut subjects: Vec<Subject>) -> std::vec::IntoIter<Subject> {
    subjects.sort_by_cached_key(|subject| content_id(&[&subject.account]));
    subjects.into_iter()
}

/// What was judged of a set.
#[derive(Debug)]
pub(crate) struct Judged<'a> {
    pub(crate) kind: &'a str,
    /// What the end of an account is called.
    pub(crate) end: &'static str,
    pub(crate) from: Millis,
    pub(crate) horizon_days: i64,
}

/// Accounts of a set with outcomes, in turn: lost after an alert, lost without one, and kept in spite of one.
pub(crate) fn of_outcomes(
    outcomes: &Path,
    alerts: &Path,
    judged: &Judged<'_>,
    count: usize,
) -> Result<Vec<Subject>> {
    let urgent = urgent(alerts)?;
    let horizon = judged.horizon_days * DAY_MS;
    let (mut warned, mut missed, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    let mut named = BTreeSet::new();
    for row in rows::<OutcomeRow>(outcomes)?.into_iter().filter(|row| row.kind == judged.kind) {
        let from = at(&row.eligible_from)?.max(judged.from);
        let none = Vec::new();
        let alerts = urgent.get(&row.account_id).unwrap_or(&none);
        let lost = row.churned_at.as_deref().map(at).transpose()?;
        let subject = |about: Millis, caption: String| Subject {
            account: row.account_id.clone(),
            caption,
            outcome: lost.map(|lost| (day(lost), judged.end)),
            about: day(about),
        };
        match lost {
            Some(lost) if lost >= from => {
                let prior = alerts
                    .iter()
                    .find(|(at, _)| *at >= from && *at < lost && lost.0 - at.0 <= horizon);
                match prior {
                    Some((at, kind)) => {
                        let days = day(lost).since(day(*at));
                        let words = format!("lost, {days} days after a high alert ({kind})");
                        warned.push(subject(lost, words));
                    }
                    None => missed.push(subject(lost, "lost without a high alert".to_owned())),
                }
            }
            None => {
                let until = at(&row.observed_until)?.plus(-horizon);
                if let Some((alert, kind)) =
                    alerts.iter().find(|(at, _)| *at >= from && *at < until)
                {
                    kept.push(subject(*alert, format!("kept: a false high alert ({kind})")));
                }
            }
            Some(_) => {}
        }
    }
    let mut groups = [shuffled(warned), shuffled(missed), shuffled(kept)];
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let before = chosen.len();
        for group in &mut groups {
            // An account may come twice, with two stays.
            chosen.extend(group.find(|subject| named.insert(subject.account.clone())));
        }
        if chosen.len() == before {
            break;
        }
    }
    chosen.truncate(count);
    Ok(chosen)
}

/// What a figure of a synthetic scenario shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// An account whose change was followed by an urgent alert.
    Found,
    /// One whose change was not.
    Missed,
    /// One to which nothing happened, with an urgent alert.
    False,
}

/// What is shown of the synthetic fleets: scenario, what, and in words.
pub(crate) const OF_POWER: [(&str, Wanted, &str); 8] = [
    ("drop2of3", Wanted::Found, "two of three signals fall by 60 %: found"),
    ("decline", Wanted::Found, "all signals lose 5 % a week: found"),
    ("outage1", Wanted::Missed, "one signal reads zero for five days: no high alert, rightly"),
    (
        "fleetdrop",
        Wanted::Missed,
        "the whole fleet falls by 60 % for five days: a fleet alert, none of its own",
    ),
    ("spike", Wanted::Found, "two signals at five times for two days: found"),
    ("drop2of3", Wanted::Missed, "two of three signals fall by 60 %: missed"),
    ("silence", Wanted::Found, "all signals stop: found"),
    ("stationary", Wanted::False, "nothing changes: a false high alert"),
];

/// An account of a synthetic scenario.
pub(crate) fn of_truth(
    truth: &Path,
    alerts: &Path,
    wanted: Wanted,
    words: &str,
) -> Result<Option<Subject>> {
    let urgent = urgent(alerts)?;
    let mut fitting = Vec::new();
    for row in truths(truth)? {
        let changed = row.change_at;
        let (from, until) = (changed.unwrap_or(row.judged_from), row.judged_until);
        let none = Vec::new();
        let mut alerts = urgent.get(&row.id).unwrap_or(&none).iter();
        let alert = alerts.find(|(at, _)| *at > from && *at < until.min(from.plus(56 * DAY_MS)));
        let about = match (wanted, changed, alert) {
            (Wanted::Found, Some(changed), Some(_)) | (Wanted::Missed, Some(changed), None) => {
                changed
            }
            (Wanted::False, None, Some((alert, _))) => *alert,
            _ => continue,
        };
        fitting.push(Subject {
            account: row.id,
            caption: words.to_owned(),
            outcome: changed.map(|at| (day(at), "change begins")),
            about: day(about),
        });
    }
    Ok(shuffled(fitting).next())
}
