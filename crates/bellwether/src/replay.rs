//! `bellwether replay`: the core over files, in memory, with no log and no network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bellwether_core::account::Account;
use bellwether_core::event::{Event, Input, Outcome, Profile};
use bellwether_core::id::AccountId;
use bellwether_core::output::{AlertEvent, Band, Output, Severity, Transition};
use bellwether_core::quality::Rejected;
use bellwether_core::reject::Reason;
use bellwether_core::state::{MemoryState, State};
use bellwether_core::step::{Core, Observer};
use bellwether_core::time::Millis;
use bellwether_wire::files;
use serde::Serialize;

use crate::cli::ReplayArgs;
use crate::show;
use crate::usage::wrong;

/// What a replay found.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Summary {
    policy_version: String,
    model_version: String,
    events: u64,
    rejected: BTreeMap<&'static str, u64>,
    bad_lines: u64,
    days_closed: u64,
    accounts: u64,
    score_changes: u64,
    bands: BTreeMap<&'static str, u64>,
    alerts_opened: BTreeMap<&'static str, u64>,
    /// Commands and verdicts, and those whose alert is not open here or not known.
    said_of_alerts: u64,
    unbound: u64,
    first_event_at: Option<String>,
    last_event_at: Option<String>,
    seconds: f64,
}

/// The CSV files that a replay writes.
pub(crate) struct Writers {
    scores: Option<csv::Writer<BufWriter<File>>>,
    alerts: Option<csv::Writer<BufWriter<File>>>,
    shadow: Option<csv::Writer<BufWriter<File>>>,
    /// Alerts that have a row of high severity already.
    urgent: BTreeSet<String>,
}

/// Runs the command.
pub(crate) fn run(args: &ReplayArgs, mut core: Core, json: bool) -> Result<()> {
    let started = Instant::now();
    let cut = match &args.cut {
        None => None,
        Some(text) => match Millis::parse(text) {
            Some(at) => Some(at),
            None => {
                wrong!("--cut is `{text}`, allowed are a date (2026-03-01) or an ISO-8601 time")
            }
        },
    };
    let findings = match &args.findings {
        None => None,
        Some(path) => {
            let findings = Findings::create(path)?;
            core = core.observed(findings.observer());
            Some(findings)
        }
    };
    let writers = Writers::create(args.scores.as_deref(), args.alerts.as_deref())?;
    let writers = writers.and_shadow(args.shadow.as_deref())?;
    let mut replay = Replay::new(core, writers);
    feed(&mut replay, args, cut, json)?;
    findings.map_or(Ok(()), Findings::finish)?;
    replay.summary.seconds = started.elapsed().as_secs_f64();
    if json {
        println!("{}", serde_json::to_string_pretty(&replay.summary)?);
    } else {
        print(&replay.summary);
    }
    Ok(())
}

/// Feeds all that the arguments name, up to the cut.
pub(crate) fn feed(
    replay: &mut Replay,
    args: &ReplayArgs,
    cut: Option<Millis>,
    quiet: bool,
) -> Result<()> {
    replay.outcomes = read_outcomes(args, cut)?;
    if let Some(path) = &args.profiles {
        replay.profiles(path)?;
    }
    if let Some(path) = &args.calendar {
        for entry in files::open_calendar(path)? {
            let (id, entry) = entry.with_context(|| path.display().to_string())?;
            replay.apply(Input::Calendar { id, entry: Some(entry) }, Millis(0))?;
        }
    }
    if let Some(path) = &args.models {
        for promotion in files::open_promotions(path)? {
            let promotion = promotion.with_context(|| path.display().to_string())?;
            replay.apply(promotion, Millis(0))?;
        }
    }
    for path in &args.files {
        replay.file(path, cut, quiet)?;
    }
    replay.finish(cut)
}

/// Outcomes in order of time; those from the cut on are not known.
fn read_outcomes(args: &ReplayArgs, cut: Option<Millis>) -> Result<std::vec::IntoIter<Outcome>> {
    let mut outcomes = Vec::new();
    if let Some(path) = &args.outcomes {
        for outcome in files::open_outcomes(path)? {
            outcomes.push(outcome.with_context(|| path.display().to_string())?);
        }
    }
    outcomes.retain(|outcome: &Outcome| cut.is_none_or(|cut| outcome.occurred_at < cut));
    outcomes.sort_by(|left, right| {
        left.occurred_at.cmp(&right.occurred_at).then_with(|| left.account.cmp(&right.account))
    });
    Ok(outcomes.into_iter())
}

/// The core over files.
pub(crate) struct Replay {
    core: Core,
    /// When the replay was started.
    now: Millis,
    state: MemoryState,
    out: Vec<Output>,
    writers: Writers,
    summary: Summary,
    outcomes: std::vec::IntoIter<Outcome>,
    /// Sees every output that makes a row.
    watch: Option<Box<Watch>>,
    snapshots: Option<Snapshots>,
    next_snapshot: Option<Millis>,
    /// Events of before the latest snapshot.
    behind: u64,
    /// Profiles that are not known yet, in the order of time.
    profiles: std::vec::IntoIter<Profile>,
    /// What is rejected, by cohort; none where nobody asks.
    rejected: Option<Rejected>,
}

/// Looks at all accounts every so often, as they are known at that time.
pub(crate) struct Snapshots {
    /// When first, or that and a multiple of `every_ms`.
    pub(crate) first: Millis,
    /// Above 0.
    pub(crate) every_ms: i64,
    pub(crate) see: Box<Snapshot>,
}

type Snapshot = dyn FnMut(Millis, &mut dyn Iterator<Item = &Account>);

type Watch = dyn FnMut(&Output);

impl Replay {
    pub(crate) fn new(core: Core, writers: Writers) -> Replay {
        Replay {
            state: MemoryState::default(),
            out: Vec::new(),
            writers,
            summary: Summary {
                policy_version: core.policy().version().to_owned(),
                model_version: core.model_version().to_owned(),
                ..Summary::default()
            },
            now: Millis(bellwether_engine::clock::now_ms()),
            outcomes: Vec::new().into_iter(),
            watch: None,
            snapshots: None,
            next_snapshot: None,
            behind: 0,
            profiles: Vec::new().into_iter(),
            rejected: None,
            core,
        }
    }

    pub(crate) fn watched(self, watch: impl FnMut(&Output) + 'static) -> Replay {
        Replay { watch: Some(Box::new(watch)), ..self }
    }

    pub(crate) fn looked_at(self, snapshots: Snapshots) -> Replay {
        Replay { snapshots: Some(snapshots), ..self }
    }

    /// Counts by cohort what is rejected.
    pub(crate) fn counting_rejected(self) -> Replay {
        Replay { rejected: Some(Rejected::default()), ..self }
    }

    /// What was rejected, by cohort, where that was counted.
    pub(crate) fn rejected(&self) -> Option<&Rejected> {
        self.rejected.as_ref()
    }

    fn count_rejected(&mut self, account: Option<&AccountId>, reason: Reason) {
        *self.summary.rejected.entry(reason.as_str()).or_default() += 1;
        if let Some(rejected) = &mut self.rejected {
            let Ok(()) = rejected.count(&mut self.state, account, reason);
        }
    }

    /// Event time of the newest event.
    pub(crate) fn newest(&self) -> Option<Millis> {
        self.state.clock().newest
    }

    /// Time passes until each snapshot up to `until`, so that it knows what is known by then. The first is the first after the first event.
    fn snapshots_before(&mut self, until: Millis) -> Result<()> {
        let Some(snapshots) = &self.snapshots else { return Ok(()) };
        let (first, every_ms) = (snapshots.first, snapshots.every_ms);
        let mut next = self.next_snapshot.unwrap_or_else(|| {
            let past = until.0.saturating_sub(first.0).div_euclid(every_ms) + 1;
            first.plus(past * every_ms)
        });
        while next <= until {
            self.outcomes_before(next)?;
            self.apply(Input::Tick, next.min(self.now))?;
            if let Some(snapshots) = &mut self.snapshots {
                (snapshots.see)(next, &mut self.state.accounts().into_values());
            }
            next = next.plus(every_ms);
        }
        self.next_snapshot = Some(next);
        Ok(())
    }

    pub(crate) fn summary(self) -> Summary {
        self.summary
    }

    /// Every account, as it stands.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.state.accounts().into_values()
    }

    /// Takes the profiles of a file, each when its time has come.
    pub(crate) fn profiles_in_time(&mut self, path: &Path) -> Result<()> {
        let mut profiles = Vec::new();
        for profile in files::open_profiles(path)? {
            profiles.push(profile.with_context(|| path.display().to_string())?);
        }
        profiles.sort_by(|left, right| {
            left.as_of.cmp(&right.as_of).then_with(|| left.account.cmp(&right.account))
        });
        self.profiles = profiles.into_iter();
        Ok(())
    }

    /// Events that were used.
    pub(crate) fn events(&self) -> u64 {
        self.summary.events
    }

    /// Events that came after a snapshot that they lie before.
    pub(crate) fn behind_snapshots(&self) -> u64 {
        self.behind
    }

    /// Takes the profiles of a file.
    pub(crate) fn profiles(&mut self, path: &Path) -> Result<()> {
        for profile in files::open_profiles(path)? {
            let profile = profile.with_context(|| path.display().to_string())?;
            let at = profile.as_of;
            self.apply(Input::Profile(profile), at)?;
        }
        Ok(())
    }

    pub(crate) fn file(&mut self, path: &Path, cut: Option<Millis>, quiet: bool) -> Result<()> {
        let events = files::open(path)?;
        let progress = events.progress();
        let bar =
            show::progress(progress.bytes_total(), &format!("replay {}", path.display()), quiet);
        for (count, event) in events.enumerate() {
            if count % 4_096 == 0 {
                bar.set_position(progress.bytes_read());
            }
            match event {
                Ok(event) if cut.is_some_and(|cut| event.occurred_at >= cut) => {}
                Ok(event) => self.event(event)?,
                Err(error) if error.is_last => {
                    bail!("{}: {error}; the summary would be that of a part", path.display())
                }
                Err(error) => {
                    self.summary.bad_lines += 1;
                    self.count_rejected(None, error.reject.reason);
                    if self.summary.bad_lines <= 10 {
                        bar.suspend(|| eprintln!("skipped: {error}"));
                    }
                }
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// An event, as if received when it happened, and at the latest now: what lies ahead is rejected, as in a live stream.
    pub(crate) fn event(&mut self, event: Event) -> Result<()> {
        // What lies ahead of now is rejected, and must not let time pass.
        if event.occurred_at > self.now.plus(self.core.policy().future_ms()) {
            return self.apply(Input::Event(event), self.now);
        }
        let at = event.occurred_at.min(self.now);
        self.snapshots_before(at)?;
        self.outcomes_before(at)?;
        if let (Some(next), Some(snapshots)) = (self.next_snapshot, &self.snapshots) {
            self.behind += u64::from(at < next.plus(-snapshots.every_ms));
        }
        self.apply(Input::Event(event), at)
    }

    /// Outcomes become known in the order of time, before the first event that follows them.
    fn outcomes_before(&mut self, at: Millis) -> Result<()> {
        while self.profiles.as_slice().first().is_some_and(|profile| profile.as_of < at) {
            if let Some(profile) = self.profiles.next() {
                let when = profile.as_of.min(self.now);
                self.apply(Input::Profile(profile), when)?;
            }
        }
        while self.outcomes.as_slice().first().is_some_and(|outcome| outcome.occurred_at < at) {
            if let Some(outcome) = self.outcomes.next() {
                let when = outcome.occurred_at.min(self.now);
                if outcome.kind.is_of_alert() {
                    // Whoever said it saw the alerts of judgements that no event waited for: they came with the time.
                    self.pass_time(when)?;
                }
                self.apply(Input::Outcome(outcome), when)?;
            }
        }
        Ok(())
    }

    /// Time passes up to the cut, or to the last event.
    pub(crate) fn finish(&mut self, cut: Option<Millis>) -> Result<()> {
        let end = cut.or(self.state.clock().newest);
        if let Some(end) = end {
            self.outcomes_before(end)?;
            self.pass_time(end)?;
        }
        self.summary.last_event_at = self
            .state
            .accounts()
            .values()
            .filter_map(|account| account.hot.last_event_at)
            .max()
            .map(Millis::iso);
        self.summary.first_event_at = self
            .state
            .accounts()
            .values()
            .filter_map(|account| account.hot.first_event_at)
            .min()
            .map(Millis::iso);
        for account in self.state.accounts().values().filter(|account| seen(account)) {
            self.summary.accounts += 1;
            let band = bellwether_core::score::band(account.hot.score, self.core.policy());
            *self.summary.bands.entry(band.as_str()).or_default() += 1;
        }
        self.writers.flush()
    }

    /// Lets time pass until nothing that is due by then is left.
    fn pass_time(&mut self, to: Millis) -> Result<()> {
        self.apply(Input::Tick, to)?;
        while self.core.close_behind_ms(self.state.clock()) > 0 {
            self.apply(Input::Tick, to)?;
        }
        Ok(())
    }

    /// What was said of alerts: how often in all, and how often of one that is not open here or not known.
    pub(crate) fn said_of_alerts(&self) -> (u64, u64) {
        (self.summary.said_of_alerts, self.summary.unbound)
    }

    fn apply(&mut self, input: Input, received_at: Millis) -> Result<()> {
        let is_event = matches!(input, Input::Event(_));
        let of_alert = matches!(&input, Input::Outcome(outcome) if outcome.kind.is_of_alert());
        self.summary.said_of_alerts += u64::from(of_alert);
        let mut account = None;
        if let Input::Event(event) = &input
            && self.rejected.is_some()
        {
            account = Some(event.account.clone());
        }
        let Ok(verdict) = self.core.apply(&mut self.state, input, received_at, &mut self.out);
        match verdict {
            Ok(applied) => {
                self.summary.events += u64::from(is_event);
                self.summary.days_closed += u64::from(applied.days_closed);
            }
            Err(reject) => {
                let unbound = matches!(reject.reason, Reason::UnknownAlert | Reason::AlertClosed);
                self.summary.unbound += u64::from(of_alert && unbound);
                self.count_rejected(account.as_ref(), reject.reason);
            }
        }
        for output in self.out.drain(..) {
            match &output {
                Output::ScoreChanged(_) => self.summary.score_changes += 1,
                Output::Alert(event) if event.transition.begins() => {
                    *self.summary.alerts_opened.entry(event.severity.as_str()).or_default() += 1;
                }
                Output::Alert(_)
                | Output::Health(_)
                | Output::Shadow(_)
                | Output::Example(_)
                | Output::Forgotten(_) => {}
            }
            let written = self.writers.write(&output)?;
            if let Some(watch) = self.watch.as_mut().filter(|_| written) {
                watch(&output);
            }
        }
        Ok(())
    }
}

/// Where what the scan found is written.
struct Findings(Arc<Mutex<FindingsFile>>);

struct FindingsFile {
    writer: csv::Writer<BufWriter<File>>,
    /// The first error; nothing is written after it.
    failed: Option<csv::Error>,
}

impl Findings {
    fn create(path: &Path) -> Result<Findings> {
        let file =
            File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        let mut writer = csv::Writer::from_writer(BufWriter::new(file));
        writer.write_record([
            "account_id",
            "cohort",
            "day",
            "volume",
            "drop",
            "rise",
            "decline",
        ])?;
        Ok(Findings(Arc::new(Mutex::new(FindingsFile { writer, failed: None }))))
    }

    fn observer(&self) -> Observer {
        let file = Arc::clone(&self.0);
        Observer::new(move |judged| {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            if file.failed.is_some() {
                return;
            }
            let figure = |value: Option<f64>| value.map(|value| format!("{value:.4}"));
            let [drop, rise, decline] =
                judged.statistics.map(|value| figure(value).unwrap_or_default());
            let row = [
                judged.account_id.as_str(),
                &judged.cohort,
                &judged.day.iso(),
                &format!("{:.4}", judged.volume),
                &drop,
                &rise,
                &decline,
            ];
            file.failed = file.writer.write_record(row).err();
        })
    }

    fn finish(self) -> Result<()> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = file.failed.take() {
            return Err(error.into());
        }
        Ok(file.writer.flush()?)
    }
}

fn seen(account: &Account) -> bool {
    account.hot.published_score.is_some()
}

/// A CSV file, where one is asked for.
fn table(path: Option<&Path>, header: &[&str]) -> Result<Option<csv::Writer<BufWriter<File>>>> {
    let Some(path) = path else { return Ok(None) };
    let file =
        File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
    let mut writer = csv::Writer::from_writer(BufWriter::new(file));
    writer.write_record(header)?;
    Ok(Some(writer))
}

impl Writers {
    pub(crate) fn create(scores: Option<&Path>, alerts: Option<&Path>) -> Result<Writers> {
        Ok(Writers {
            scores: table(scores, &["account_id", "at", "score"])?,
            alerts: table(alerts, &["account_id", "at", "kind", "severity", "signals"])?,
            shadow: None,
            urgent: BTreeSet::new(),
        })
    }

    /// The same, with what challengers say.
    fn and_shadow(self, path: Option<&Path>) -> Result<Writers> {
        let header = ["account_id", "at", "champion", "challenger"];
        Ok(Writers { shadow: table(path, &header)?, ..self })
    }

    /// Writes a record. A score at time t knows the event at t, so its row is dated a millisecond later: whoever asks for the
    /// score known at t must not see it. Returns whether it is one that makes a row.
    fn write(&mut self, output: &Output) -> Result<bool> {
        let news = matches!(output, Output::Alert(event) if self.is_news(event));
        if let (Output::Shadow(beside), Some(shadow)) = (output, &mut self.shadow) {
            let (champion, challenger) = (beside.sides.champion, beside.sides.challenger);
            shadow.write_record([
                beside.account_id.as_str(),
                &beside.at.plus(1).iso(),
                &champion.score.to_string(),
                &challenger.score.to_string(),
            ])?;
        }
        match (output, &mut self.scores, &mut self.alerts) {
            (Output::ScoreChanged(change), Some(scores), _) => {
                let at = change.at.plus(1).iso();
                scores.write_record([
                    change.account_id.as_str(),
                    &at,
                    &change.score.to_string(),
                ])?;
            }
            (Output::Alert(event), _, Some(alerts)) if news => {
                let signals: Vec<&str> =
                    event.evidence.iter().map(|item| item.signal.as_str()).collect();
                alerts.write_record([
                    event.account_id.as_str(),
                    &event.at.plus(1).iso(),
                    &event.kind,
                    event.severity.as_str(),
                    &signals.join(";"),
                ])?;
            }
            _ => {}
        }
        Ok(news || matches!(output, Output::ScoreChanged(_)))
    }

    /// One row when an alert opens or comes back, and one when it becomes urgent: what would have been sent to a person.
    fn is_news(&mut self, event: &AlertEvent) -> bool {
        let begins = event.transition.begins();
        let rises = begins || event.transition == Transition::Escalated;
        if rises && event.severity >= Severity::High {
            return self.urgent.insert(event.alert_id.clone()) || begins;
        }
        begins
    }

    fn flush(&mut self) -> Result<()> {
        let all = [&mut self.scores, &mut self.alerts, &mut self.shadow];
        for writer in all.into_iter().flatten() {
            writer.flush()?;
        }
        Ok(())
    }
}

fn print(summary: &Summary) {
    let mut lines = vec![
        ("policy", summary.policy_version.clone()),
        ("scorecard", summary.model_version.clone()),
        ("events", summary.events.to_string()),
        ("from", summary.first_event_at.clone().unwrap_or_default()),
        ("to", summary.last_event_at.clone().unwrap_or_default()),
        ("accounts", summary.accounts.to_string()),
        ("days closed", summary.days_closed.to_string()),
        ("score changes", summary.score_changes.to_string()),
    ];
    for band in [Band::Healthy, Band::Neutral, Band::AtRisk] {
        lines.push((
            band.title(),
            summary.bands.get(band.as_str()).copied().unwrap_or(0).to_string(),
        ));
    }
    let severities: Vec<String> = Severity::ALL
        .iter()
        .filter_map(|severity| {
            summary
                .alerts_opened
                .get(severity.as_str())
                .map(|n| format!("{n} {}", severity.as_str()))
        })
        .collect();
    lines.push(("alerts opened", severities.join(", ")));
    if summary.said_of_alerts > 0 {
        let said = format!("{}, {} of them unbound", summary.said_of_alerts, summary.unbound);
        lines.push(("said of alerts", said));
    }
    let rejected: Vec<String> =
        summary.rejected.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    lines.push((
        "rejected",
        if rejected.is_empty() { "none".to_owned() } else { rejected.join(", ") },
    ));
    lines.push(("lines skipped", summary.bad_lines.to_string()));
    lines.push(("took", format!("{:.1} s", summary.seconds)));
    for (name, value) in lines {
        println!("{name:>14}  {value}");
    }
    drop(std::io::stdout().flush());
}
