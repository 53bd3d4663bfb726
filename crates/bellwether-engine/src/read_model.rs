//! What the API reads: published by the worker threads after each commit, never before it.
//!
//! # Invariants
//! - It holds what was committed and nothing else, so a reader never sees a score that a crash takes back.
//! - Everything is bounded: alerts and score changes by [`Limits`], the rest by the accounts of the owned partitions: of each a few
//!   words are kept here, and its full record where its state is ([`Details`]).
//! - Publishing the same output twice changes nothing, so a restart may publish what it re-reads.
//! - Readers work in small steps: no query holds a lock for longer than [`SCAN_MAX`] entries take.
//!
//! Deliberately absent: history beyond the recent past. That is what the topics are for.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use bellwether_core::drift::Survey;
use bellwether_core::feedback::Results;
use bellwether_core::id::AccountId;
use bellwether_core::output::{
    AlertEvent, Band, HealthRecord, Output, ScoreChanged, Severity, Transition,
};
use bellwether_core::points::Points;
use bellwether_core::time::Millis;
use dashmap::DashMap;

/// Score changes kept per account: two months of daily movements.
pub const CHANGES_PER_ACCOUNT_MAX: usize = 60;
/// Entries that one call of [`ReadModel::scan`] may return.
pub const SCAN_MAX: usize = 1_024;
/// A worker that has not beaten for longer than this is taken to be stuck. Well above a poll and a commit (seconds at worst).
pub const BEAT_AGE_MAX: Duration = Duration::from_secs(30);

/// How much of the recent past is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Alert events, over all accounts.
    pub alerts: usize,
    /// Score changes, over all accounts.
    pub changes: usize,
}

impl Limits {
    /// What an alert event and a score change take, about.
    const ALERT_BYTES: usize = 2_048;
    const CHANGE_BYTES: usize = 1_024;
    /// More alerts than anyone looks through.
    const ALERTS_MAX: usize = 10_000;

    /// What fits into so many bytes.
    #[must_use]
    pub fn within(bytes: usize) -> Limits {
        let alerts = (bytes / 4 / Limits::ALERT_BYTES).clamp(100, Limits::ALERTS_MAX);
        let left = bytes.saturating_sub(alerts * Limits::ALERT_BYTES);
        Limits { alerts, changes: (left / Limits::CHANGE_BYTES).max(1_000) }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::within(128 << 20)
    }
}

/// Full records of the accounts of a partition, from wherever its state is kept.
pub trait Details: Send + Sync {
    /// The record of an account as committed; none where it is not known, or can no longer be read here.
    fn record(&self, id: &AccountId) -> Option<HealthRecord>;
}

/// What became of the alerts and accounts of a cohort.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CohortResults {
    /// The sums, over all partitions.
    pub results: Results,
    /// By kind of alert: by how much more or less often it may come by chance, as of the partition's time when the sums last changed.
    pub sensitivity: BTreeMap<String, f64>,
}

/// What a list shows of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// Name from its profile.
    pub name: Option<String>,
    /// Score now.
    pub score: Points,
    /// Band now.
    pub band: Band,
}

/// An account as it is known now.
#[derive(Debug, Clone)]
pub struct AccountView {
    /// The latest full record.
    pub record: Arc<HealthRecord>,
    /// Recent score changes, oldest first.
    pub changes: Vec<Arc<ScoreChanged>>,
    /// The latest event of each alert that is open, oldest alert first.
    pub open_alerts: Vec<Arc<AlertEvent>>,
}

#[derive(Debug, Default)]
struct Entry {
    partition: i32,
    glance: Option<Glance>,
    changes: VecDeque<Arc<ScoreChanged>>,
    open: Vec<Arc<AlertEvent>>,
}

/// Where a scan stands: the last account that it returned.
pub type Position = (Points, AccountId);

/// An alert event, the partition that it is of, and when it was published here.
#[derive(Debug)]
struct Kept {
    partition: i32,
    published_at: Millis,
    event: Arc<AlertEvent>,
}

/// Where the full records of a partition are, and since when it is owned.
struct Opened {
    since: Millis,
    details: Arc<dyn Details>,
}

/// What concerns more than one account, behind one lock that is taken once per batch.
#[derive(Debug, Default)]
struct Index {
    /// Accounts with a record, by score and id.
    by_score: BTreeSet<Position>,
    bands: BTreeMap<Band, usize>,
    open: BTreeMap<Severity, usize>,
    /// Latest alert events, oldest first, and their ids.
    alerts: VecDeque<Kept>,
    alert_ids: HashSet<String>,
    /// When the latest alert event was published that is kept no longer because there were too many.
    dropped_at: Option<Millis>,
    /// Every score change kept, oldest first. An entry may outlive its change; then it stands for nothing.
    changes: VecDeque<(AccountId, u64)>,
}

/// The read model of a process. Shared between its workers, which publish, and its server, which reads.
#[derive(Default)]
pub struct ReadModel {
    limits: Limits,
    accounts: DashMap<AccountId, Entry>,
    index: RwLock<Index>,
    opened: RwLock<BTreeMap<i32, Opened>>,
    results: RwLock<BTreeMap<i32, BTreeMap<String, CohortResults>>>,
    surveys: RwLock<BTreeMap<i32, Survey>>,
}

impl std::fmt::Debug for ReadModel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ReadModel")
            .field("accounts", &self.accounts.len())
            .finish_non_exhaustive()
    }
}

impl ReadModel {
    /// An empty one that keeps so much.
    #[must_use]
    pub fn new(limits: Limits) -> ReadModel {
        ReadModel { limits, ..ReadModel::default() }
    }

    /// Says that a partition is owned since now, and where its full records are, until [`ReadModel::drop_partition`].
    pub fn open_partition(&self, partition: i32, now: Millis, details: Arc<dyn Details>) {
        let mut all = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(partition, Opened { since: now, details });
    }

    /// Takes in what a partition knows of the results of all cohorts.
    pub fn publish_results(&self, partition: i32, results: BTreeMap<String, CohortResults>) {
        let mut all = self.results.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(partition, results);
    }

    /// Takes in what a partition's accounts are like.
    pub fn publish_survey(&self, partition: i32, survey: Survey) {
        self.surveys.write().unwrap_or_else(PoisonError::into_inner).insert(partition, survey);
    }

    /// What the accounts of the owned partitions are like, together: those under one scorecard, while partitions differ.
    #[must_use]
    pub fn survey(&self) -> Survey {
        let mut all = Survey::default();
        for survey in self.surveys.read().unwrap_or_else(PoisonError::into_inner).values() {
            all.add(survey);
        }
        all
    }

    /// The results of every cohort: every partition knows them all, so what the one that is furthest knows.
    #[must_use]
    pub fn results(&self) -> BTreeMap<String, CohortResults> {
        let all = self.results.read().unwrap_or_else(PoisonError::into_inner);
        let mut furthest: BTreeMap<String, CohortResults> = BTreeMap::new();
        for (name, of) in all.values().flatten() {
            let known = furthest.get(name).map_or(0, |known| known.results.facts);
            if of.results.facts > known {
                furthest.insert(name.clone(), of.clone());
            }
        }
        furthest
    }

    /// Takes in what a worker just committed for a partition, in order. `now` is by the clock of the process and not the time of an event.
    pub fn publish(&self, partition: i32, now: Millis, outputs: &[Output]) {
        if outputs.is_empty() {
            return;
        }
        let mut index = self.index_mut();
        for output in outputs {
            match output {
                Output::Forgotten(account) => {
                    self.drop_account(&mut index, partition, account);
                    continue;
                }
                // Read from its topic.
                Output::Shadow(_) => continue,
                Output::Health(_) | Output::ScoreChanged(_) | Output::Alert(_) => {}
            }
            let mut entry = self.accounts.entry(output.account().clone()).or_default();
            entry.partition = partition;
            match output {
                Output::Health(record) => index.put_record(&mut entry, record),
                Output::ScoreChanged(change) => index.put_change(&mut entry, change),
                Output::Alert(event) => {
                    index.put_alert(self.limits.alerts, (partition, now), &mut entry, event);
                }
                // Above.
                Output::Forgotten(_) | Output::Shadow(_) => {}
            }
        }
        while index.changes.len() > self.limits.changes {
            let Some((account, sequence)) = index.changes.pop_front() else { break };
            if let Some(mut entry) = self.accounts.get_mut(&account) {
                // The oldest of all is the oldest of its account.
                if entry.changes.front().is_some_and(|change| change.sequence == sequence) {
                    entry.changes.pop_front();
                }
            }
        }
    }

    /// Takes in how accounts of a partition stand that have nothing else to show.
    pub fn publish_glances(&self, partition: i32, glances: &mut Vec<(AccountId, Glance)>) {
        let mut index = self.index_mut();
        for (account, glance) in glances.drain(..) {
            let mut entry = self.accounts.entry(account.clone()).or_default();
            entry.partition = partition;
            index.put_glance(&mut entry, &account, glance);
        }
    }

    /// Drops all of an account, its past alerts included.
    /// An account of another partition stays: a deletion is sent to every partition, and each comes to it in its own time.
    fn drop_account(&self, index: &mut Index, partition: i32, account: &AccountId) {
        let of_it = |_: &AccountId, entry: &Entry| entry.partition == partition;
        let Some((_, entry)) = self.accounts.remove_if(account, of_it) else { return };
        index.forget(account, &entry);
        index.changes.retain(|(of, _)| of != account);
        let Index { alerts, alert_ids, .. } = index;
        alerts.retain(|kept| {
            let stays = kept.event.account_id != *account;
            if !stays {
                alert_ids.remove(&kept.event.id);
            }
            stays
        });
    }

    /// Forgets the accounts and alerts of a partition that is no longer owned.
    pub fn drop_partition(&self, partition: i32) {
        self.opened.write().unwrap_or_else(PoisonError::into_inner).remove(&partition);
        self.results.write().unwrap_or_else(PoisonError::into_inner).remove(&partition);
        self.surveys.write().unwrap_or_else(PoisonError::into_inner).remove(&partition);
        let mut index = self.index_mut();
        self.accounts.retain(|id, entry| {
            let stays = entry.partition != partition;
            if !stays {
                index.forget(id, entry);
            }
            stays
        });
        index.alerts.retain(|kept| kept.partition != partition);
        index.alert_ids = index.alerts.iter().map(|kept| kept.event.id.clone()).collect();
    }

    /// Bytes in use, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        /// Entries of the map and of the index, with an id and a name.
        const ACCOUNT_BYTES: usize = 400;
        let index = self.index();
        self.accounts.len() * ACCOUNT_BYTES
            + index.alerts.len() * Limits::ALERT_BYTES
            + index.changes.len() * Limits::CHANGE_BYTES
    }

    /// An account; none where it is unknown or has no record yet.
    #[must_use]
    pub fn account(&self, id: &AccountId) -> Option<AccountView> {
        let (partition, changes, open_alerts) = {
            let entry = self.accounts.get(id)?;
            entry.glance.as_ref()?;
            (entry.partition, entry.changes.iter().cloned().collect(), entry.open.clone())
        };
        let details = {
            let all = self.opened.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&all.get(&partition)?.details)
        };
        Some(AccountView { record: Arc::new(details.record(id)?), changes, open_alerts })
    }

    /// What a list shows of an account; none where it is unknown or has no record yet.
    #[must_use]
    pub fn glance(&self, id: &AccountId) -> Option<Glance> {
        self.accounts.get(id)?.glance.clone()
    }

    /// The next accounts by rising score after a position: at most `count_max`, and never more than [`SCAN_MAX`]. An account
    /// whose score moves meanwhile may be met twice or not at all.
    #[must_use]
    pub fn scan(&self, after: Option<&Position>, count_max: usize) -> Vec<Position> {
        let from = after.map_or(Bound::Unbounded, |position| Bound::Excluded(position.clone()));
        let index = self.index();
        let rest = index.by_score.range((from, Bound::Unbounded));
        rest.take(count_max.min(SCAN_MAX)).cloned().collect()
    }

    /// Recent alert events, latest first.
    #[must_use]
    pub fn recent_alerts(&self) -> Vec<Arc<AlertEvent>> {
        self.index().alerts.iter().rev().map(|kept| Arc::clone(&kept.event)).collect()
    }

    /// Since when all alert events that were published of the owned partitions are known here, by the clock of the process: since the last of
    /// them came to it, or since what had to be dropped because there were too many. None: no partition is owned.
    #[must_use]
    pub fn alerts_known_since(&self) -> Option<Millis> {
        let opened = {
            let all = self.opened.read().unwrap_or_else(PoisonError::into_inner);
            all.values().map(|opened| opened.since).max()
        };
        // Of what was published together with the last one dropped, more may have been.
        let kept = self.index().dropped_at.map(|dropped| dropped.plus(1));
        opened.map(|opened| kept.map_or(opened, |kept| kept.max(opened)))
    }

    /// The latest event of every open alert, highest priority first, then the latest one.
    #[must_use]
    pub fn open_alerts(&self) -> Vec<Arc<AlertEvent>> {
        let mut open: Vec<Arc<AlertEvent>> =
            self.accounts.iter().flat_map(|entry| entry.open.clone()).collect();
        open.sort_by(|a, b| {
            (b.priority, b.at).cmp(&(a.priority, a.at)).then_with(|| a.id.cmp(&b.id))
        });
        open
    }

    /// How many accounts are in each band, worst first.
    #[must_use]
    pub fn band_counts(&self) -> [(Band, usize); 3] {
        let index = self.index();
        [Band::AtRisk, Band::Neutral, Band::Healthy]
            .map(|band| (band, index.bands.get(&band).copied().unwrap_or(0)))
    }

    /// How many alerts of each severity are open, rising.
    #[must_use]
    pub fn open_alert_counts(&self) -> [(Severity, usize); 5] {
        let index = self.index();
        Severity::ALL.map(|severity| (severity, index.open.get(&severity).copied().unwrap_or(0)))
    }

    // A poisoned lock means that a reader or worker panicked between two whole steps: nothing here is left half done in a
    // way that a reader could not bear, and the worker's own panic is reported where it happens.
    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn put_record(&mut self, entry: &mut Entry, record: &HealthRecord) {
        let HealthRecord { name, score, band, .. } = record;
        let glance = Glance { name: name.clone(), score: *score, band: *band };
        self.put_glance(entry, &record.account_id, glance);
    }

    fn put_glance(&mut self, entry: &mut Entry, account: &AccountId, glance: Glance) {
        if let Some(before) = &entry.glance {
            self.by_score.remove(&(before.score, account.clone()));
            decrement(&mut self.bands, before.band);
        }
        self.by_score.insert((glance.score, account.clone()));
        *self.bands.entry(glance.band).or_default() += 1;
        entry.glance = Some(glance);
    }

    fn put_change(&mut self, entry: &mut Entry, change: &ScoreChanged) {
        if entry.changes.back().is_some_and(|last| last.sequence >= change.sequence) {
            return;
        }
        entry.changes.push_back(Arc::new(change.clone()));
        if entry.changes.len() > CHANGES_PER_ACCOUNT_MAX {
            entry.changes.pop_front();
        }
        self.changes.push_back((change.account_id.clone(), change.sequence));
    }

    fn put_alert(
        &mut self,
        alerts_max: usize,
        (partition, published_at): (i32, Millis),
        entry: &mut Entry,
        event: &AlertEvent,
    ) {
        if !self.alert_ids.insert(event.id.clone()) {
            return;
        }
        let event = Arc::new(event.clone());
        self.alerts.push_back(Kept { partition, published_at, event: Arc::clone(&event) });
        if self.alerts.len() > alerts_max
            && let Some(oldest) = self.alerts.pop_front()
        {
            self.alert_ids.remove(&oldest.event.id);
            self.dropped_at = self.dropped_at.max(Some(oldest.published_at));
        }
        if let Some(at) = entry.open.iter().position(|open| open.alert_id == event.alert_id) {
            let before = entry.open.remove(at);
            decrement(&mut self.open, before.severity);
        }
        if event.transition != Transition::Resolved {
            *self.open.entry(event.severity).or_default() += 1;
            let at = entry.open.partition_point(|open| open.opened_at <= event.opened_at);
            entry.open.insert(at, event);
        }
    }

    fn forget(&mut self, id: &AccountId, entry: &Entry) {
        if let Some(glance) = &entry.glance {
            self.by_score.remove(&(glance.score, id.clone()));
            decrement(&mut self.bands, glance.band);
        }
        for alert in &entry.open {
            decrement(&mut self.open, alert.severity);
        }
    }
}

fn decrement<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(1);
    }
}

/// Whether the process is ready to serve: its workers beating and in touch with the log, its partitions restored. Time arrives as
/// an argument.
#[derive(Debug, Default)]
pub struct Readiness {
    state: Mutex<ReadinessState>,
}

#[derive(Debug, Default)]
struct ReadinessState {
    /// Whether any assignment has arrived; it may have been empty (more workers than partitions).
    assigned: bool,
    /// Owned partitions: records still to restore, or none when ready.
    partitions: BTreeMap<i32, Option<u64>>,
    beats: BTreeMap<u32, Instant>,
    /// Workers that had a connection to the log and lost it.
    disconnected: BTreeSet<u32>,
    /// Workers whose log has been silent, and for how long.
    silent: BTreeMap<u32, Duration>,
}

/// What [`Readiness::report`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Partitions that are restored and processing.
    pub ready: Vec<i32>,
    /// Partitions that are being restored: (partition, records still to apply).
    pub restoring: Vec<(i32, u64)>,
    /// What is missing, in words; empty when the process is ready.
    pub missing: Vec<String>,
}

impl Readiness {
    /// A worker owns these partitions from now on, and they are not restored yet. Call it with none where an assignment was empty.
    pub fn assigned(&self, worker: u32, partitions: &[i32]) {
        let mut state = self.lock();
        state.assigned = true;
        state.disconnected.remove(&worker);
        for &partition in partitions {
            state.partitions.insert(partition, Some(0));
        }
    }

    /// A partition is being restored and has this many records to go.
    pub fn restoring(&self, partition: i32, remaining: u64) {
        self.lock().partitions.insert(partition, Some(remaining));
    }

    /// A partition is restored.
    pub fn ready(&self, partition: i32) {
        self.lock().partitions.insert(partition, None);
    }

    /// Partitions are no longer owned.
    pub fn revoked(&self, partitions: &[i32]) {
        let mut state = self.lock();
        for partition in partitions {
            state.partitions.remove(partition);
        }
    }

    /// A worker gave up its connection to the log. It counts as ready again when partitions are assigned to it.
    pub fn disconnected(&self, worker: u32) {
        let mut state = self.lock();
        state.disconnected.insert(worker);
        state.silent.remove(&worker);
    }

    /// For how long a worker has heard nothing from the log, where that is longer than it should be.
    pub fn silent(&self, worker: u32, silent: Option<Duration>) {
        let mut state = self.lock();
        match silent {
            Some(silent) => state.silent.insert(worker, silent),
            None => state.silent.remove(&worker),
        };
    }

    /// A worker's loop came round.
    pub fn beat(&self, worker: u32, now: Instant) {
        self.lock().beats.insert(worker, now);
    }

    /// What is ready and what is missing at `now`.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        let state = self.lock();
        let mut report = Report::default();
        if state.beats.is_empty() {
            report.missing.push("no worker has started yet".to_owned());
        }
        for (worker, beat) in &state.beats {
            let age = now.saturating_duration_since(*beat);
            if age > BEAT_AGE_MAX {
                let seconds = age.as_secs();
                report.missing.push(format!("worker {worker} has been stuck for {seconds} s"));
            }
        }
        for worker in &state.disconnected {
            report.missing.push(format!("worker {worker} is not connected to the log"));
        }
        for (worker, silent) in &state.silent {
            let seconds = silent.as_secs();
            report
                .missing
                .push(format!("the log has not answered worker {worker} for {seconds} s"));
        }
        if !state.assigned {
            report.missing.push("no partitions have been assigned yet".to_owned());
        }
        for (&partition, restoring) in &state.partitions {
            match restoring {
                None => report.ready.push(partition),
                Some(remaining) => {
                    report.restoring.push((partition, *remaining));
                    report.missing.push(format!(
                        "partition {partition} is being restored, {remaining} records to go"
                    ));
                }
            }
        }
        report
    }

    fn lock(&self) -> MutexGuard<'_, ReadinessState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::output::{AlertState, Maturity};

    use super::*;

    /// By the clock of the process: much later than the events.
    const NOW: Millis = Millis(1_772_000_000_000);

    fn account(id: &str) -> AccountId {
        AccountId::new(id).expect("a valid id")
    }

    fn health(id: &str, score: i32, band: Band) -> Output {
        Output::Health(Box::new(HealthRecord {
            account_id: account(id),
            name: None,
            segment: None,
            sequence: 1,
            at: Millis(0),
            score: Points(score),
            band,
            maturity: Maturity::Established,
            contributions: Vec::new(),
            sub_scores: Vec::new(),
            evidence: Vec::new(),
            masked: Vec::new(),
            rebaselined: Vec::new(),
            open_alerts: Vec::new(),
            last_event_at: None,
            policy_version: String::new(),
            model_version: String::new(),
        }))
    }

    fn change(id: &str, sequence: u64) -> Output {
        Output::ScoreChanged(Box::new(ScoreChanged {
            id: format!("{id}-{sequence}"),
            account_id: account(id),
            sequence,
            at: Millis(0),
            score: Points(0),
            previous_score: None,
            band: Band::Neutral,
            previous_band: None,
            movements: Vec::new(),
            sub_scores: Vec::new(),
            maturity: Maturity::Established,
            policy_version: String::new(),
            model_version: String::new(),
        }))
    }

    fn alert(id: &str, event: u32, transition: Transition, severity: Severity) -> Output {
        Output::Alert(Box::new(AlertEvent {
            id: format!("{id}-{event}"),
            alert_id: format!("alert-{id}"),
            account_id: account(id),
            account_name: None,
            kind: "churn_risk".to_owned(),
            transition,
            severity,
            at: Millis(i64::from(event)),
            opened_at: Millis(0),
            state: if transition == Transition::Resolved {
                AlertState::Resolved
            } else {
                AlertState::Open
            },
            until: None,
            reopened: 0,
            by: None,
            note: None,
            resolution: None,
            title: String::new(),
            evidence: Vec::new(),
            groups: Vec::new(),
            family: None,
            priority: 0,
            priority_parts: Vec::new(),
            score: Points(0),
            band: Band::AtRisk,
            policy_version: String::new(),
            model_version: String::new(),
        }))
    }

    /// Knows every account.
    struct Everyone;

    impl Details for Everyone {
        fn record(&self, id: &AccountId) -> Option<HealthRecord> {
            match health(id.as_str(), 7, Band::AtRisk) {
                Output::Health(record) => Some(*record),
                Output::ScoreChanged(_)
                | Output::Alert(_)
                | Output::Shadow(_)
                | Output::Forgotten(_) => None,
            }
        }
    }

    #[test]
    fn the_full_record_is_read_where_the_state_is() {
        let model = ReadModel::default();
        model.publish(0, NOW, &[health("a", 100, Band::AtRisk)]);
        assert_eq!(model.glance(&account("a")).map(|glance| glance.score), Some(Points(100)));
        assert!(model.account(&account("a")).is_none(), "its state is not open");
        model.open_partition(0, NOW, Arc::new(Everyone));
        let view = model.account(&account("a")).expect("it is known and its state is open");
        assert_eq!(view.record.score, Points(7));
        assert!(model.account(&account("b")).is_none(), "nothing was published of it");
    }

    #[test]
    fn limits_follow_from_bytes() {
        let small = Limits::within(0);
        assert_eq!((small.alerts, small.changes), (100, 1_000));
        let large = Limits::within(1 << 30);
        assert_eq!(large.alerts, Limits::ALERTS_MAX);
        assert!((900_000..=1_100_000).contains(&large.changes), "{large:?}");
    }

    fn ids(positions: &[Position]) -> Vec<&str> {
        positions.iter().map(|(_, id)| id.as_str()).collect()
    }

    fn open_of(model: &ReadModel, severity: Severity) -> usize {
        let counts = model.open_alert_counts();
        counts.iter().filter(|(of, _)| *of == severity).map(|(_, count)| count).sum()
    }

    #[test]
    fn accounts_come_by_rising_score_and_a_new_record_replaces_the_old_one() {
        let model = ReadModel::default();
        model.publish(0, NOW, &[health("b", 500, Band::AtRisk), health("a", 9000, Band::Healthy)]);
        model.publish(1, NOW, &[health("c", 500, Band::AtRisk)]);
        assert_eq!(ids(&model.scan(None, 10)), ["b", "c", "a"]);
        model.publish(0, NOW, &[health("b", 9500, Band::Healthy)]);
        let first = model.scan(None, 2);
        assert_eq!(ids(&first), ["c", "a"]);
        assert_eq!(ids(&model.scan(first.last(), 2)), ["b"]);
        assert_eq!(
            model.band_counts(),
            [(Band::AtRisk, 1), (Band::Neutral, 0), (Band::Healthy, 2)]
        );
    }

    #[test]
    fn an_alert_is_open_until_it_is_resolved() {
        let model = ReadModel::default();
        let opened = alert("a", 1, Transition::Opened, Severity::Low);
        model.publish(0, NOW, &[opened.clone(), opened]);
        assert_eq!(open_of(&model, Severity::Low), 1);
        model.publish(0, NOW, &[alert("a", 2, Transition::Escalated, Severity::High)]);
        assert_eq!((open_of(&model, Severity::Low), open_of(&model, Severity::High)), (0, 1));
        assert_eq!(model.open_alerts().len(), 1);
        model.publish(0, NOW, &[alert("a", 3, Transition::Resolved, Severity::High)]);
        assert_eq!((open_of(&model, Severity::High), model.open_alerts().len()), (0, 0));
        let recent: Vec<String> = model.recent_alerts().iter().map(|e| e.id.clone()).collect();
        assert_eq!(recent, ["a-3", "a-2", "a-1"]);
    }

    #[test]
    fn open_alerts_come_by_falling_priority_then_the_latest_first() {
        let model = ReadModel::default();
        let prioritised = |id: &str, event, severity, priority| {
            let mut output = alert(id, event, Transition::Opened, severity);
            if let Output::Alert(event) = &mut output {
                event.priority = priority;
            }
            output
        };
        model.publish(
            0,
            NOW,
            &[
                prioritised("loud", 9, Severity::Critical, 60),
                prioritised("renews", 1, Severity::Medium, 85),
                prioritised("early", 2, Severity::Low, 10),
                prioritised("late", 3, Severity::Low, 10),
            ],
        );
        let open: Vec<String> = model.open_alerts().iter().map(|e| e.alert_id.clone()).collect();
        assert_eq!(open, ["alert-renews", "alert-loud", "alert-late", "alert-early"]);
    }

    #[test]
    fn a_forgotten_account_leaves_nothing() {
        let model = ReadModel::default();
        model.open_partition(0, NOW, Arc::new(Everyone));
        let low = |id, event| alert(id, event, Transition::Opened, Severity::Low);
        let of = |id| [change(id, 1), health(id, 100, Band::AtRisk), low(id, 1)];
        model.publish(0, NOW, &of("b"));
        model.publish(0, NOW, &of("a"));
        let resolved = alert("a", 2, Transition::Resolved, Severity::Low);
        model.publish(0, NOW, &[resolved, Output::Forgotten(account("a"))]);
        model.publish(0, NOW, &[Output::Forgotten(account("a")), Output::Forgotten(account("x"))]);
        assert!(model.account(&account("a")).is_none() && model.account(&account("b")).is_some());
        assert_eq!(ids(&model.scan(None, 10)), ["b"]);
        assert_eq!(model.band_counts()[0], (Band::AtRisk, 1));
        assert_eq!((open_of(&model, Severity::Low), model.recent_alerts().len()), (1, 1));
        assert_eq!((model.index().changes.len(), model.index().alert_ids.len()), (1, 1));
        // It begins anew with the same numbers; the deletion that another partition comes to only now is not its own.
        model.publish(0, NOW, &of("a"));
        model.publish(1, NOW, &[Output::Forgotten(account("a"))]);
        assert_eq!(model.account(&account("a")).map(|view| view.changes.len()), Some(1));
        assert_eq!(model.recent_alerts().len(), 2);
    }

    #[test]
    fn a_revoked_partition_takes_its_accounts_and_alerts_along() {
        let model = ReadModel::default();
        let low = |id| alert(id, 1, Transition::Opened, Severity::Low);
        model.publish(0, NOW, &[health("a", 100, Band::AtRisk), low("a")]);
        model.publish(1, NOW, &[health("b", 200, Band::AtRisk), low("b")]);
        model.drop_partition(0);
        assert!(model.account(&account("a")).is_none());
        assert_eq!(ids(&model.scan(None, 10)), ["b"]);
        assert_eq!(model.band_counts()[0], (Band::AtRisk, 1));
        assert_eq!((open_of(&model, Severity::Low), model.recent_alerts().len()), (1, 1));
        model.publish(0, NOW, &[low("a")]);
        assert_eq!(model.recent_alerts().len(), 2);
    }

    #[test]
    fn what_is_kept_is_bounded_per_account_and_in_all() {
        let limits = Limits { alerts: 50, changes: 300 };
        let model = ReadModel::new(limits);
        model.open_partition(0, NOW, Arc::new(Everyone));
        model.publish(0, NOW, &[health("a", 1, Band::AtRisk), health("z", 2, Band::AtRisk)]);
        let many: Vec<Output> = (1..=100).map(|sequence| change("a", sequence)).collect();
        model.publish(0, NOW, &many);
        model.publish(0, NOW, &many);
        let view = model.account(&account("a")).expect("it has a record");
        let kept: Vec<u64> = view.changes.iter().map(|change| change.sequence).collect();
        assert_eq!(kept, (41..=100).collect::<Vec<u64>>());

        for number in 0..limits.changes {
            model.publish(0, NOW, &[change(&format!("n{number}"), 1)]);
        }
        let view = model.account(&account("a")).expect("it has a record");
        assert!(view.changes.is_empty(), "the oldest changes of all went first");
        assert_eq!(model.index().changes.len(), limits.changes);

        for event in 0..=limits.alerts as u32 {
            let at = NOW.plus(i64::from(event));
            model.publish(0, at, &[alert("z", event, Transition::Updated, Severity::Low)]);
        }
        let alerts = model.recent_alerts();
        assert_eq!((alerts.len(), alerts.last().map(|e| e.at)), (limits.alerts, Some(Millis(1))));
    }

    #[test]
    fn since_when_alerts_are_known_goes_by_when_they_were_published_and_not_by_their_own_time() {
        let model = ReadModel::new(Limits { alerts: 2, changes: 10 });
        assert_eq!(model.alerts_known_since(), None, "it has no partition");
        model.open_partition(0, NOW, Arc::new(Everyone));
        assert_eq!(model.alerts_known_since(), Some(NOW));
        // Events of 1970, of which only two are kept.
        let publish = |partition, at: i64, id: &str, events: std::ops::Range<u32>| {
            let event = |number| alert(id, number, Transition::Updated, Severity::Low);
            let events: Vec<Output> = events.map(event).collect();
            model.publish(partition, NOW.plus(at), &events);
        };
        publish(0, 10, "a", 0..2);
        assert_eq!(model.alerts_known_since(), Some(NOW), "none was dropped");
        publish(0, 20, "a", 2..3);
        assert_eq!(model.alerts_known_since(), Some(NOW.plus(11)), "one of the first two was");
        publish(0, 30, "a", 3..6);
        assert_eq!(model.alerts_known_since(), Some(NOW.plus(31)));
        // That there is room again brings back nothing.
        model.publish(0, NOW.plus(40), &[Output::Forgotten(account("a"))]);
        assert_eq!(model.recent_alerts().len(), 0);
        assert_eq!(model.alerts_known_since(), Some(NOW.plus(31)));
        // Nothing is known of what others published of a partition that came later, until it is given up.
        model.open_partition(1, NOW.plus(50), Arc::new(Everyone));
        assert_eq!(model.alerts_known_since(), Some(NOW.plus(50)));
        model.drop_partition(1);
        assert_eq!(model.alerts_known_since(), Some(NOW.plus(31)));
    }

    #[test]
    fn ready_means_assigned_restored_and_beating() {
        let readiness = Readiness::default();
        let start = Instant::now();
        assert_eq!(readiness.report(start).missing.len(), 2);
        readiness.beat(0, start);
        readiness.assigned(0, &[0, 1]);
        readiness.ready(0);
        readiness.restoring(1, 7);
        let report = readiness.report(start);
        assert_eq!((report.ready, report.restoring), (vec![0], vec![(1, 7)]));
        assert_eq!(report.missing, ["partition 1 is being restored, 7 records to go"]);
        readiness.revoked(&[1]);
        assert!(readiness.report(start).missing.is_empty());
        let late = start + BEAT_AGE_MAX + Duration::from_secs(1);
        assert_eq!(readiness.report(late).missing, ["worker 0 has been stuck for 31 s"]);
    }

    #[test]
    fn ready_means_in_touch_with_the_log() {
        let readiness = Readiness::default();
        let start = Instant::now();
        for worker in 0..2 {
            readiness.beat(worker, start);
            readiness.assigned(worker, &[]);
        }
        assert!(readiness.report(start).missing.is_empty());
        readiness.silent(0, Some(Duration::from_secs(12)));
        let missing = readiness.report(start).missing;
        assert_eq!(missing, ["the log has not answered worker 0 for 12 s"]);
        readiness.disconnected(0);
        assert_eq!(readiness.report(start).missing, ["worker 0 is not connected to the log"]);
        readiness.assigned(1, &[]);
        assert_eq!(readiness.report(start).missing.len(), 1, "another worker's partitions");
        readiness.assigned(0, &[]);
        assert!(readiness.report(start).missing.is_empty());
    }
}
