//! The closed list of all metrics, and the only place that names them.
//!
//! # Invariants
//! - Every metric is built from its row in [`TABLE`], so the table cannot drift from what is exposed.
//! - No metric has an account label: the number of series depends on the policy and the partitions, not on the customers.
//! - Callers record once per batch; nothing here is called per event.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bellwether_core::cohort::COHORTS_MAX;
use bellwether_core::drift::Survey;
use bellwether_core::feedback::Group;
use bellwether_core::output::{Band, Beside, Output, Severity, Transition};
use bellwether_core::reject::Reason;
use bellwether_core::time::Millis;
use bellwether_detect::Guarded;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::log::{Lag, Remedy};
use crate::read_model::CohortResults;

/// What kind of series a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, until a restart.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
}

impl Kind {
    /// The kind as it stands in the exposition format.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One row of [`TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(const $id: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*

        /// Every metric, in the order of the way of an event through the pipeline.
        pub const TABLE: &[Metric] = &[$($id),*];
    };
}

metrics! {
    EVENTS_IN = Counter "bellwether_events_in_total" ["topic"] "Records read from an input topic.";
    EVENTS_ADMITTED = Counter "bellwether_events_admitted_total" []
        "Events that passed decoding and admission; those that feed no signal included.";
    EVENTS_REJECTED = Counter "bellwether_events_rejected_total" ["reason", "intended"]
        "Records not used; intended drops (duplicates) leave no dead letter.";
    COHORT_REJECTED = Counter "bellwether_cohort_rejected_total" ["cohort", "reason"]
        "The same records by the cohort of the account that they are keyed by; of none where that is not known, as of an unknown account.";
    EVENTS_UNMATCHED = Counter "bellwether_events_unmatched_total" []
        "Admitted events that feed no signal of the policy.";
    DISTINCT_DROPPED = Counter "bellwether_distinct_dropped_total" []
        "Members or features not kept because an account reached admission.distinct_max.";
    DAY_CLOSES = Counter "bellwether_day_closes_total" [] "Account days closed by timers.";
    DETECTOR_CALLS = Counter "bellwether_detector_calls_total" ["detector"]
        "Calls of a model of time series, those that fell back included.";
    DETECTOR_FALLBACK = Counter "bellwether_detector_fallback_total" ["detector", "reason"]
        "Calls without an answer, where the engine's own statistics were used instead.";
    CLOSE_PENDING = Gauge "bellwether_close_pending" ["partition"]
        "Closes and judgements of accounts' days that are due and not worked off; counted up to 1000.";
    CLOSE_LAG = Gauge "bellwether_close_lag_seconds" ["partition"]
        "By how much event time closes and judgements lie behind (close.lag_minutes at most, or events wait for them).";
    CLOSE_WAITS = Counter "bellwether_close_waits_total" []
        "Times that the records of a partition waited until closes and judgements were worked off.";
    CLOSE_SECONDS = Counter "bellwether_close_seconds_total" []
        "Time that closes and judgements took while records waited for them.";
    OUTPUTS = Counter "bellwether_outputs_total" ["kind"]
        "Records published: score_changed, score_current, alert, tombstone, shadow, example, dead_letter.";
    ALERT_TRANSITIONS = Counter "bellwether_alert_transitions_total"
        ["transition", "kind", "severity"] "Alert events published.";
    BATCH_RECORDS = Histogram "bellwether_batch_records" [] "Input records in a committed batch.";
    COMMIT_SECONDS = Histogram "bellwether_commit_duration_seconds" []
        "Time that a successful commit took, from the first append to the local state.";
    COMMITS = Counter "bellwether_commits_total" ["result"]
        "Commits by result: committed, or the remedy that its failure asked for.";
    PUBLISHED_SECONDS = Histogram "bellwether_event_to_published_seconds" []
        "Age of a record's timestamp when the batch with its outputs was committed.";
    LAG = Gauge "bellwether_consumer_lag_records" ["topic", "partition"]
        "Records of an owned input partition that are not yet delivered.";
    WATERMARK_LAG = Gauge "bellwether_watermark_lag_seconds" ["partition"]
        "How far a partition's watermark lies behind the wall clock.";
    STATE_BYTES = Gauge "bellwether_state_size_bytes" ["partition"]
        "Size of a partition's state store on disk.";
    RESTORED = Counter "bellwether_restore_records_total" []
        "Changelog records applied while restoring partitions.";
    RESTORE_REMAINING = Gauge "bellwether_restore_remaining_records" ["partition"]
        "Changelog records still to apply before a partition is ready.";
    STANDBY_BEHIND = Gauge "bellwether_standby_behind_records" ["partition"]
        "Changelog records that a standby copy of another process's partition has still to apply.";
    STATE_REBUILDS = Counter "bellwether_state_rebuilds_total" []
        "Times that a partition's damaged or foreign state was wiped and read back from its changelog.";
    REGISTRY_WAITS = Counter "bellwether_registry_waits_total" []
        "Times that a partition was paused because the schema registry did not answer.";
    ACCOUNTS = Gauge "bellwether_accounts" ["band"] "Accounts with a health record, by band.";
    ALERTS_OPEN = Gauge "bellwether_open_alerts" ["severity"] "Alerts that are open, by severity.";
    ALERT_RESULTS = Gauge "bellwether_alert_results" ["cohort", "kind", "result"]
        "What became of alerts, over all partitions (every process shows the same): urgent, withheld, confirmed, false_positive, actioned.";
    ALERT_SENSITIVITY = Gauge "bellwether_alert_sensitivity" ["cohort", "kind"]
        "By how much more or less often alerts may come by chance, by what people said of them; 1 is as the policy says.";
    ACCOUNTS_FOLLOWED = Gauge "bellwether_accounts_followed" ["cohort", "kind", "group", "outcome"]
        "Accounts after an urgent alert, by whether somebody acted (acted, not_acted, early, withheld), that stayed or were lost.";
    ACCOUNTS_LOST = Gauge "bellwether_accounts_lost" ["cohort", "warned"]
        "Accounts that were lost, by whether an urgent alert came before: yes, no, withheld.";
    WARNING_LEAD = Gauge "bellwether_warning_lead_seconds" ["cohort"]
        "Median time from the first urgent alert until an account was lost.";
    INTERVENTION = Gauge "bellwether_intervention_seconds" ["cohort", "kind"]
        "Median time from an alert until somebody acted on it.";
    DELIVERIES = Counter "bellwether_deliveries_total" ["sink", "result"]
        "Attempts to tell a sink of an alert, by result: delivered, failed (it is tried again) or refused (it is parked).";
    DELIVERY_SECONDS = Histogram "bellwether_delivery_duration_seconds" ["sink"]
        "Time that an attempt took.";
    DELIVERY_DELAY = Histogram "bellwether_delivery_delay_seconds" ["sink"]
        "Time from the decision to tell a sink at once until it had the alert, retries included.";
    DELIVERIES_WAITING = Gauge "bellwether_deliveries_waiting" ["sink"]
        "Deliveries that a sink does not have yet.";
    DIGEST_ENTRIES = Gauge "bellwether_digest_entries" ["sink"]
        "Alerts that stand in the next digests of a sink.";
    ALERTS_PARKED = Counter "bellwether_alerts_parked_total" ["reason"]
        "Deliveries given up and put into the parking topic, where a person has to look.";
    ALERTS_SUPPRESSED = Counter "bellwether_alerts_suppressed_total" ["reason"]
        "Alert events that were not told, or (budget, rate) in a digest instead of at once.";
    SINK_BREAKER = Gauge "bellwether_sink_breaker" ["sink", "state"]
        "1 for the state of a sink's circuit breaker: closed, open or half_open.";
    COHORT_SCORES = Gauge "bellwether_cohort_scores" ["cohort", "from"]
        "Accounts of the owned partitions by cohort and score, in bins of ten points from this one on; of the latest survey.";
    READING_DRIFT = Gauge "bellwether_reading_drift" ["cohort", "reading"]
        "Population stability index of what a learned scorecard reads, against what it was learned from; of cohorts with 200 accounts in the owned partitions.";
    READING_MISSING = Gauge "bellwether_reading_missing_ratio" ["cohort", "reading"]
        "Share of the accounts of a cohort of which a reading is missing: of each signal, and of all that a learned scorecard reads.";
    SIGNAL_SILENT = Gauge "bellwether_signal_silent_days" ["cohort", "signal"]
        "Closed days without anything of a signal in a whole cohort, up to the newest; of signals of 10 accounts and 28 of 128 days.";
    SIGNAL_GAP = Gauge "bellwether_signal_gap_days" ["cohort", "signal"]
        "The longest such time before, within 128 days.";
    EXPECTED_LOST = Gauge "bellwether_accounts_expected_lost" ["cohort"]
        "Accounts of the owned partitions that the learned scorecard in force expects to lose within 28 days.";
    RANKING_AUC = Gauge "bellwether_ranking_auc" ["cohort", "of"]
        "Chance that an account that left had a lower score than one that stayed: live, of up to three horizons in the owned partitions, and of the holdout.";
    RANKING_ERROR = Gauge "bellwether_ranking_auc_error" ["cohort", "of"]
        "Standard error of that chance.";
    RANKING_OUTCOMES = Gauge "bellwether_ranking_outcomes" ["cohort", "outcome"]
        "Accounts behind the live ranking: left and stayed.";
    BUILD_INFO = Gauge "bellwether_build_info" ["version", "policy_version"]
        "Always 1; names the build and the policy in force.";
    MODEL_INFO = Gauge "bellwether_model_info" ["partition", "model"]
        "Always 1; names the scorecard in force in a partition.";
    MODEL_LEARNED_UNTIL = Gauge "bellwether_model_learned_until_seconds" ["partition"]
        "End of the data that the scorecard in force was learned from, in seconds since 1970; none for an expert's.";
    MODEL_UNREADABLE = Gauge "bellwether_model_unreadable" ["partition"]
        "1 where the promoted scorecard cannot be read under the policy in force, so that the configured one scores in its place; else 0.";
    CHALLENGER_UNREADABLE = Gauge "bellwether_challenger_unreadable" ["partition"]
        "1 where the challenger cannot be read under the policy in force, so that nothing scores beside the champion; the log says why. Absent without a challenger.";
    SHADOW_INFO = Gauge "bellwether_shadow_info" ["partition", "model"]
        "Always 1; names the challenger that scores beside the scorecard in force in a partition.";
    SHADOW_SCORES = Counter "bellwether_shadow_scores_total" ["champion", "challenger"]
        "Pairs of scores published by a shadow, by the bands of both.";
    SHADOW_DIFFERENCE = Histogram "bellwether_shadow_difference_points" []
        "The challenger's score minus the champion's, of each published pair.";
    MEMORY_BUDGET = Gauge "bellwether_memory_budget_bytes" []
        "Memory that this process is to stay within (engine.memory_mib).";
    MEMORY_USED = Gauge "bellwether_memory_used_bytes" ["part"]
        "Memory in use by part, about: stores (block cache and write buffers), accounts (decoded), read_model.";
    MEMORY_DIVISOR = Gauge "bellwether_memory_throttle" []
        "By how much batches and caches are divided to stay within the budget; 1 is not throttled.";
    RSS_BYTES = Gauge "process_resident_memory_bytes" [] "Resident memory of this process.";
    CPU_SECONDS = Counter "process_cpu_seconds_total" []
        "User and system time that this process used.";
    OPEN_FDS = Gauge "process_open_fds" [] "Open file descriptors of this process.";
}

/// 1 ms to 1 h: a commit under light load takes a few milliseconds, a backlog after an outage hours.
const PUBLISHED_BUCKETS_SECONDS: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0,
    900.0, 3600.0,
];
/// From a write to a local disk to the time-out of a transaction.
const COMMIT_BUCKETS_SECONDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Powers of four up to the largest batch that a policy allows.
const BATCH_BUCKETS_RECORDS: [f64; 9] =
    [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0];

/// Either way the same: below a point nothing is published, and 20 points are four times the odds.
const DIFFERENCE_BUCKETS_POINTS: [f64; 11] =
    [-40.0, -20.0, -10.0, -5.0, -1.0, 0.0, 1.0, 5.0, 10.0, 20.0, 40.0];

/// The kinds of output record, as the label of `bellwether_outputs_total`.
const OUTPUT_KINDS: [&str; 7] =
    ["score_changed", "score_current", "alert", "tombstone", "shadow", "example", "dead_letter"];

/// The metrics could not be set up or written out: a defect of [`TABLE`], not of the environment.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}; report this as a bug")]
pub struct MetricsError(#[from] prometheus::Error);

/// All metrics of a process, in a registry of their own. Clones share their values.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    events_in: IntCounterVec,
    events_admitted: IntCounterVec,
    events_rejected: IntCounterVec,
    cohort_rejected: IntCounterVec,
    /// Cohorts that have counters: those are kept, so there is a bound.
    cohorts_counted: Arc<Mutex<BTreeSet<String>>>,
    events_unmatched: IntCounterVec,
    distinct_dropped: IntCounterVec,
    day_closes: IntCounterVec,
    outputs: IntCounterVec,
    alert_transitions: IntCounterVec,
    batch_records: Histogram,
    commit_seconds: Histogram,
    commits: IntCounterVec,
    published_seconds: Histogram,
    lag: IntGaugeVec,
    close_pending: IntGaugeVec,
    model_info: IntGaugeVec,
    model_learned_until: IntGaugeVec,
    model_unreadable: IntGaugeVec,
    challenger_unreadable: IntGaugeVec,
    close_lag: GaugeVec,
    close_waits: IntCounterVec,
    close_seconds: Counter,
    watermark_lag: GaugeVec,
    state_bytes: IntGaugeVec,
    restored: IntCounterVec,
    restore_remaining: IntGaugeVec,
    standby_behind: IntGaugeVec,
    state_rebuilds: IntCounterVec,
    registry_waits: IntCounterVec,
    accounts: IntGaugeVec,
    alerts_open: IntGaugeVec,
    alert_results: IntGaugeVec,
    alert_sensitivity: GaugeVec,
    accounts_followed: IntGaugeVec,
    accounts_lost: IntGaugeVec,
    warning_lead: GaugeVec,
    intervention: GaugeVec,
    deliveries: IntCounterVec,
    delivery_seconds: HistogramVec,
    delivery_delay: HistogramVec,
    deliveries_waiting: IntGaugeVec,
    digest_entries: IntGaugeVec,
    alerts_parked: IntCounterVec,
    alerts_suppressed: IntCounterVec,
    sink_breaker: IntGaugeVec,
    cohort_scores: IntGaugeVec,
    reading_drift: GaugeVec,
    reading_missing: GaugeVec,
    signal_silent: IntGaugeVec,
    signal_gap: IntGaugeVec,
    expected_lost: GaugeVec,
    ranking_auc: GaugeVec,
    ranking_error: GaugeVec,
    ranking_outcomes: IntGaugeVec,
    build_info: IntGaugeVec,
    shadow_info: IntGaugeVec,
    shadow_scores: IntCounterVec,
    shadow_difference: Histogram,
    memory_budget: Gauge,
    memory_used: IntGaugeVec,
    memory_divisor: Gauge,
    rss_bytes: Gauge,
    cpu_seconds: Counter,
    open_fds: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Keeps a handle of a collector and gives another one to the registry.
fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: prometheus::Result<C>,
) -> Result<C, MetricsError> {
    let collector = collector?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn opts(metric: &Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}

fn counters(registry: &Registry, metric: &Metric) -> Result<IntCounterVec, MetricsError> {
    register(registry, IntCounterVec::new(opts(metric), metric.labels))
}

fn gauges(registry: &Registry, metric: &Metric) -> Result<IntGaugeVec, MetricsError> {
    register(registry, IntGaugeVec::new(opts(metric), metric.labels))
}

fn float_gauges(registry: &Registry, metric: &Metric) -> Result<GaugeVec, MetricsError> {
    register(registry, GaugeVec::new(opts(metric), metric.labels))
}

fn histogram(
    registry: &Registry,
    metric: &Metric,
    buckets: &[f64],
) -> Result<Histogram, MetricsError> {
    Ok(histograms(registry, metric, buckets)?.get_metric_with_label_values::<&str>(&[])?)
}

fn histograms(
    registry: &Registry,
    metric: &Metric,
    buckets: &[f64],
) -> Result<HistogramVec, MetricsError> {
    let opts = HistogramOpts::new(metric.name, metric.help).buckets(buckets.to_vec());
    register(registry, HistogramVec::new(opts, metric.labels))
}

fn process_gauge(registry: &Registry, metric: &Metric) -> Result<Gauge, MetricsError> {
    let vector = register(registry, GaugeVec::new(opts(metric), metric.labels))?;
    Ok(vector.get_metric_with_label_values::<&str>(&[])?)
}

/// The counters of the models, read when they are asked for.
struct Detectors {
    models: Arc<Guarded>,
    calls: IntCounterVec,
    fallbacks: IntCounterVec,
}

impl Collector for Detectors {
    fn desc(&self) -> Vec<&Desc> {
        [self.calls.desc(), self.fallbacks.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Made anew: counters cannot be set, and two scrapes at once must not both add.
        let families = || -> prometheus::Result<Vec<MetricFamily>> {
            let calls = IntCounterVec::new(opts(&DETECTOR_CALLS), DETECTOR_CALLS.labels)?;
            for (detector, count) in self.models.calls() {
                calls.with_label_values(&[detector]).inc_by(count);
            }
            let fallbacks = IntCounterVec::new(opts(&DETECTOR_FALLBACK), DETECTOR_FALLBACK.labels)?;
            for (detector, reason, count) in self.models.fallbacks() {
                fallbacks.with_label_values(&[detector, reason]).inc_by(count);
            }
            Ok([calls.collect(), fallbacks.collect()].concat())
        };
        families().unwrap_or_default()
    }
}

impl Metrics {
    /// A registry with every metric of [`TABLE`]; those whose labels are known stand at zero from the start, so that a rate over
    /// the first occurrence is not lost.
    pub fn new() -> Result<Metrics, MetricsError> {
        let registry = Registry::new();
        let cpu = register(&registry, CounterVec::new(opts(&CPU_SECONDS), CPU_SECONDS.labels))?;
        let seconds = CounterVec::new(opts(&CLOSE_SECONDS), CLOSE_SECONDS.labels);
        let close_seconds = register(&registry, seconds)?;
        let metrics = Metrics {
            events_in: counters(&registry, &EVENTS_IN)?,
            events_admitted: counters(&registry, &EVENTS_ADMITTED)?,
            events_rejected: counters(&registry, &EVENTS_REJECTED)?,
            cohort_rejected: counters(&registry, &COHORT_REJECTED)?,
            cohorts_counted: Arc::default(),
            events_unmatched: counters(&registry, &EVENTS_UNMATCHED)?,
            distinct_dropped: counters(&registry, &DISTINCT_DROPPED)?,
            day_closes: counters(&registry, &DAY_CLOSES)?,
            outputs: counters(&registry, &OUTPUTS)?,
            alert_transitions: counters(&registry, &ALERT_TRANSITIONS)?,
            batch_records: histogram(&registry, &BATCH_RECORDS, &BATCH_BUCKETS_RECORDS)?,
            commit_seconds: histogram(&registry, &COMMIT_SECONDS, &COMMIT_BUCKETS_SECONDS)?,
            commits: counters(&registry, &COMMITS)?,
            published_seconds: histogram(
                &registry,
                &PUBLISHED_SECONDS,
                &PUBLISHED_BUCKETS_SECONDS,
            )?,
            lag: gauges(&registry, &LAG)?,
            close_pending: gauges(&registry, &CLOSE_PENDING)?,
            model_info: gauges(&registry, &MODEL_INFO)?,
            close_lag: float_gauges(&registry, &CLOSE_LAG)?,
            close_waits: counters(&registry, &CLOSE_WAITS)?,
            close_seconds: close_seconds.get_metric_with_label_values::<&str>(&[])?,
            watermark_lag: float_gauges(&registry, &WATERMARK_LAG)?,
            state_bytes: gauges(&registry, &STATE_BYTES)?,
            restored: counters(&registry, &RESTORED)?,
            restore_remaining: gauges(&registry, &RESTORE_REMAINING)?,
            standby_behind: gauges(&registry, &STANDBY_BEHIND)?,
            state_rebuilds: counters(&registry, &STATE_REBUILDS)?,
            registry_waits: counters(&registry, &REGISTRY_WAITS)?,
            accounts: gauges(&registry, &ACCOUNTS)?,
            alerts_open: gauges(&registry, &ALERTS_OPEN)?,
            alert_results: gauges(&registry, &ALERT_RESULTS)?,
            alert_sensitivity: float_gauges(&registry, &ALERT_SENSITIVITY)?,
            accounts_followed: gauges(&registry, &ACCOUNTS_FOLLOWED)?,
            accounts_lost: gauges(&registry, &ACCOUNTS_LOST)?,
            warning_lead: float_gauges(&registry, &WARNING_LEAD)?,
            intervention: float_gauges(&registry, &INTERVENTION)?,
            deliveries: counters(&registry, &DELIVERIES)?,
            delivery_seconds: histograms(&registry, &DELIVERY_SECONDS, &COMMIT_BUCKETS_SECONDS)?,
            delivery_delay: histograms(&registry, &DELIVERY_DELAY, &PUBLISHED_BUCKETS_SECONDS)?,
            deliveries_waiting: gauges(&registry, &DELIVERIES_WAITING)?,
            digest_entries: gauges(&registry, &DIGEST_ENTRIES)?,
            alerts_parked: counters(&registry, &ALERTS_PARKED)?,
            alerts_suppressed: counters(&registry, &ALERTS_SUPPRESSED)?,
            sink_breaker: gauges(&registry, &SINK_BREAKER)?,
            cohort_scores: gauges(&registry, &COHORT_SCORES)?,
            reading_drift: float_gauges(&registry, &READING_DRIFT)?,
            reading_missing: float_gauges(&registry, &READING_MISSING)?,
            signal_silent: gauges(&registry, &SIGNAL_SILENT)?,
            signal_gap: gauges(&registry, &SIGNAL_GAP)?,
            expected_lost: float_gauges(&registry, &EXPECTED_LOST)?,
            ranking_auc: float_gauges(&registry, &RANKING_AUC)?,
            ranking_error: float_gauges(&registry, &RANKING_ERROR)?,
            ranking_outcomes: gauges(&registry, &RANKING_OUTCOMES)?,
            build_info: gauges(&registry, &BUILD_INFO)?,
            model_learned_until: gauges(&registry, &MODEL_LEARNED_UNTIL)?,
            model_unreadable: gauges(&registry, &MODEL_UNREADABLE)?,
            challenger_unreadable: gauges(&registry, &CHALLENGER_UNREADABLE)?,
            shadow_info: gauges(&registry, &SHADOW_INFO)?,
            shadow_scores: counters(&registry, &SHADOW_SCORES)?,
            shadow_difference: histogram(
                &registry,
                &SHADOW_DIFFERENCE,
                &DIFFERENCE_BUCKETS_POINTS,
            )?,
            memory_budget: process_gauge(&registry, &MEMORY_BUDGET)?,
            memory_used: gauges(&registry, &MEMORY_USED)?,
            memory_divisor: process_gauge(&registry, &MEMORY_DIVISOR)?,
            rss_bytes: process_gauge(&registry, &RSS_BYTES)?,
            cpu_seconds: cpu.get_metric_with_label_values::<&str>(&[])?,
            open_fds: process_gauge(&registry, &OPEN_FDS)?,
            registry,
        };
        metrics.start_at_zero();
        Ok(metrics)
    }

    fn start_at_zero(&self) {
        let single = [
            &self.events_admitted,
            &self.events_unmatched,
            &self.distinct_dropped,
            &self.day_closes,
            &self.close_waits,
            &self.restored,
        ];
        for vector in single {
            vector.with_label_values::<&str>(&[]).reset();
        }
        self.registry_waits.with_label_values::<&str>(&[]).reset();
        self.state_rebuilds.with_label_values::<&str>(&[]).reset();
        for reason in Reason::ALL {
            self.events_rejected.with_label_values(&reject_labels(reason)).reset();
        }
        for kind in OUTPUT_KINDS {
            self.outputs.with_label_values(&[kind]).reset();
        }
        for result in [
            "committed",
            remedy_label(Remedy::Reopen),
            remedy_label(Remedy::Unknown),
            remedy_label(Remedy::Fenced),
            remedy_label(Remedy::Rewind),
            remedy_label(Remedy::Stop),
        ] {
            self.commits.with_label_values(&[result]).reset();
        }
        let bands = [Band::AtRisk, Band::Neutral, Band::Healthy].map(Band::as_str);
        for (champion, challenger) in
            bands.iter().flat_map(|one| bands.iter().map(move |of| (one, of)))
        {
            self.shadow_scores.with_label_values(&[champion, challenger]).reset();
        }
        self.accounts([(Band::AtRisk, 0), (Band::Neutral, 0), (Band::Healthy, 0)]);
        self.alerts_open(Severity::ALL.map(|severity| (severity, 0)));
    }

    /// Lets the series of a sink begin at zero.
    pub fn sink(&self, sink: &str) {
        for result in ["delivered", "failed", "refused"] {
            self.deliveries.with_label_values(&[sink, result]).inc_by(0);
        }
        // A histogram is there once it was asked for.
        let _: prometheus::Histogram = self.delivery_delay.with_label_values(&[sink]);
        self.deliveries_waiting(sink, 0, 0);
    }

    /// Counts an attempt at a sink and its time.
    pub fn delivery(&self, sink: &str, result: &str, took: Duration) {
        self.deliveries.with_label_values(&[sink, result]).inc();
        self.delivery_seconds.with_label_values(&[sink]).observe(took.as_secs_f64());
    }

    /// Records how long after the decision a sink had what was to be told at once.
    pub fn delivery_delay(&self, sink: &str, delay: Duration) {
        self.delivery_delay.with_label_values(&[sink]).observe(delay.as_secs_f64());
    }

    /// Sets how much waits for a sink, and how much stands in its next digests.
    pub fn deliveries_waiting(&self, sink: &str, waiting: usize, entries: usize) {
        let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.deliveries_waiting.with_label_values(&[sink]).set(count(waiting));
        self.digest_entries.with_label_values(&[sink]).set(count(entries));
    }

    /// Counts deliveries that were parked.
    pub fn alerts_parked(&self, reason: &str, count: u64) {
        self.alerts_parked.with_label_values(&[reason]).inc_by(count);
    }

    /// Counts events that were not told.
    pub fn alerts_suppressed(&self, reason: &str, count: u64) {
        self.alerts_suppressed.with_label_values(&[reason]).inc_by(count);
    }

    /// Sets the state of a sink's breaker, of all that there are.
    pub fn sink_breaker(&self, sink: &str, current: &str, states: &[&str]) {
        for state in states {
            let gauge = self.sink_breaker.with_label_values(&[sink, state]);
            gauge.set(i64::from(*state == current));
        }
    }

    /// Names the build and the policy in force.
    pub fn build_info(&self, version: &str, policy_version: &str) {
        self.build_info.reset();
        self.build_info.with_label_values(&[version, policy_version]).set(1);
    }

    /// Exposes the counters of the models that an engine asks; once.
    pub fn detectors(&self, models: &Arc<Guarded>) -> Result<(), MetricsError> {
        let detectors = Detectors {
            models: Arc::clone(models),
            calls: IntCounterVec::new(opts(&DETECTOR_CALLS), DETECTOR_CALLS.labels)?,
            fallbacks: IntCounterVec::new(opts(&DETECTOR_FALLBACK), DETECTOR_FALLBACK.labels)?,
        };
        Ok(self.registry.register(Box::new(detectors))?)
    }

    /// Counts records read from an input topic.
    pub fn events_in(&self, topic: &str, records: u64) {
        self.events_in.with_label_values(&[topic]).inc_by(records);
    }

    /// Counts admitted events.
    pub fn admitted(&self, events: u64) {
        self.events_admitted.with_label_values::<&str>(&[]).inc_by(events);
    }

    /// Counts rejected records of a cohort and a reason.
    pub fn rejected(&self, cohort: &str, reason: Reason, records: u64) {
        self.events_rejected.with_label_values(&reject_labels(reason)).inc_by(records);
        self.cohort_rejected(cohort, reason, records);
    }

    /// Cohorts beyond [`COHORTS_MAX`] count as the unnamed one.
    fn cohort_rejected(&self, cohort: &str, reason: Reason, records: u64) {
        let mut counted = self.cohorts_counted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !cohort.is_empty() && !counted.contains(cohort);
        let cohort = if is_new && counted.len() >= COHORTS_MAX { "" } else { cohort };
        if is_new && !cohort.is_empty() {
            counted.insert(cohort.to_owned());
        }
        self.cohort_rejected.with_label_values(&[cohort, reason.as_str()]).inc_by(records);
    }

    /// Counts admitted events that feed no signal.
    pub fn unmatched(&self, events: u64) {
        self.events_unmatched.with_label_values::<&str>(&[]).inc_by(events);
    }

    /// Counts distinct members or features that found no room.
    pub fn distinct_dropped(&self, values: u64) {
        self.distinct_dropped.with_label_values::<&str>(&[]).inc_by(values);
    }

    /// Counts closed days.
    pub fn day_closes(&self, days: u64) {
        self.day_closes.with_label_values::<&str>(&[]).inc_by(days);
    }

    /// Counts the published outputs of a committed batch, and the alert transitions among them.
    pub fn outputs(&self, outputs: &[Output]) {
        let [mut changes, mut records, mut alerts, mut tombstones, mut shadows, mut examples] =
            [0; 6];
        let differences = self.shadow_difference.local();
        for output in outputs {
            match output {
                Output::ScoreChanged(_) => changes += 1,
                Output::Health(_) => records += 1,
                Output::Alert(event) => {
                    alerts += 1;
                    self.alert_transition(event.transition, &event.kind, event.severity);
                }
                Output::Forgotten(_) => tombstones += 1,
                Output::Example(_) => examples += 1,
                Output::Shadow(beside) => {
                    shadows += 1;
                    let Beside { champion, challenger } = &beside.sides;
                    differences.observe((challenger.score - champion.score).as_f64());
                    let bands = [champion.band.as_str(), challenger.band.as_str()];
                    self.shadow_scores.with_label_values(&bands).inc();
                }
            }
        }
        differences.flush();
        let counts = [changes, records, alerts, tombstones, shadows, examples];
        for (kind, count) in OUTPUT_KINDS.into_iter().zip(counts) {
            self.outputs.with_label_values(&[kind]).inc_by(count);
        }
    }

    fn alert_transition(&self, transition: Transition, kind: &str, severity: Severity) {
        let labels = [transition.as_str(), kind, severity.as_str()];
        self.alert_transitions.with_label_values(&labels).inc();
    }

    /// Counts published dead letters.
    pub fn dead_letters(&self, records: u64) {
        self.outputs.with_label_values(&["dead_letter"]).inc_by(records);
    }

    /// Records a commit that succeeded: how long it took and how many input records it held.
    pub fn committed(&self, duration: Duration, batch_records: usize) {
        self.commits.with_label_values(&["committed"]).inc();
        self.commit_seconds.observe(duration.as_secs_f64());
        self.batch_records.observe(batch_records as f64);
    }

    /// Counts a commit that failed, by what its failure asks for.
    pub fn commit_failed(&self, remedy: Remedy) {
        self.commits.with_label_values(&[remedy_label(remedy)]).inc();
    }

    /// Records how old the records of a batch were when it was committed at `committed_at_ms`. A timestamp from the future
    /// counts as zero.
    pub fn published(
        &self,
        committed_at_ms: i64,
        record_timestamps_ms: impl IntoIterator<Item = i64>,
    ) {
        let batch = self.published_seconds.local();
        for timestamp_ms in record_timestamps_ms {
            let age_ms = committed_at_ms.saturating_sub(timestamp_ms).max(0);
            batch.observe(age_ms as f64 / 1000.0);
        }
        batch.flush();
    }

    /// Sets the lag of input partitions.
    pub fn lag(&self, lags: &[Lag]) {
        for lag in lags {
            let labels = [lag.topic.as_ref(), &lag.partition.to_string()];
            self.lag.with_label_values(&labels).set(lag.records);
        }
    }

    /// Sets how many closes and judgements of a partition are due, and by how much event time they lie behind.
    pub fn close_behind(&self, partition: i32, pending: usize, behind_ms: i64) {
        let labels = [partition.to_string()];
        self.close_pending.with_label_values(&labels).set(pending as i64);
        self.close_lag.with_label_values(&labels).set(behind_ms as f64 / 1000.0);
    }

    /// Counts a partition whose records begin to wait for closes.
    pub fn close_wait(&self) {
        self.close_waits.with_label_values::<&str>(&[]).inc();
    }

    /// Counts the time that closes took while records waited.
    pub fn close_took(&self, took: Duration) {
        self.close_seconds.inc_by(took.as_secs_f64());
    }

    /// Sets how far a partition's watermark lies behind the wall clock.
    pub fn watermark_lag(&self, partition: i32, behind_ms: i64) {
        let seconds = behind_ms as f64 / 1000.0;
        self.watermark_lag.with_label_values(&[partition.to_string()]).set(seconds);
    }

    /// Sets the size of a partition's state store.
    pub fn state_bytes(&self, partition: i32, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.state_bytes.with_label_values(&[partition.to_string()]).set(bytes);
    }

    /// Reports progress of a restore: records applied since the last report, and records still to apply.
    pub fn restore(&self, partition: i32, applied: u64, remaining: u64) {
        self.restored.with_label_values::<&str>(&[]).inc_by(applied);
        let remaining = i64::try_from(remaining).unwrap_or(i64::MAX);
        self.restore_remaining.with_label_values(&[partition.to_string()]).set(remaining);
    }

    /// Reports the memory budget, how far work is throttled to keep it, and what parts of it are in use.
    pub fn memory(&self, budget_bytes: usize, divisor: usize, used: &[(&str, usize)]) {
        self.memory_budget.set(budget_bytes as f64);
        self.memory_divisor.set(divisor as f64);
        for (part, bytes) in used {
            let bytes = i64::try_from(*bytes).unwrap_or(i64::MAX);
            self.memory_used.with_label_values(&[part]).set(bytes);
        }
    }

    /// Reports how far a standby copy is behind, in records.
    pub fn standby(&self, partition: i32, behind: i64) {
        self.standby_behind.with_label_values(&[partition.to_string()]).set(behind);
    }

    /// A standby copy is not kept any more.
    pub fn drop_standby(&self, partition: i32) {
        // Fails only where the series does not exist, and then there is nothing to remove.
        drop(self.standby_behind.remove_label_values(&[partition.to_string()]));
    }

    /// Counts a partition whose local state was wiped to be read back.
    pub fn state_rebuilt(&self) {
        self.state_rebuilds.with_label_values::<&str>(&[]).inc();
    }

    /// Counts a partition that waits for the schema registry.
    pub fn registry_wait(&self) {
        self.registry_waits.with_label_values::<&str>(&[]).inc();
    }

    /// Sets the number of accounts per band.
    pub fn accounts(&self, counts: [(Band, usize); 3]) {
        for (band, count) in counts {
            self.accounts.with_label_values(&[band.as_str()]).set(count as i64);
        }
    }

    /// Sets the number of open alerts per severity.
    pub fn alerts_open(&self, counts: [(Severity, usize); 5]) {
        for (severity, count) in counts {
            self.alerts_open.with_label_values(&[severity.as_str()]).set(count as i64);
        }
    }

    /// Sets what became of alerts and accounts, by cohort.
    pub fn results(&self, cohorts: &BTreeMap<String, CohortResults>) {
        for (cohort, CohortResults { results, sensitivity }) in cohorts {
            let set = |vector: &IntGaugeVec, labels: &[&str], count: u64| {
                vector.with_label_values(labels).set(i64::try_from(count).unwrap_or(i64::MAX));
            };
            for (kind, of) in &results.kinds {
                for (result, count) in [
                    ("urgent", of.urgent),
                    ("withheld", of.withheld),
                    ("confirmed", of.right),
                    ("false_positive", of.wrong),
                    ("actioned", of.intervention.count().into()),
                ] {
                    set(&self.alert_results, &[cohort, kind, result], count);
                }
                for group in Group::ALL {
                    let [lost, stayed] = of.group(group);
                    for (outcome, count) in [("lost", lost), ("stayed", stayed)] {
                        let labels = [cohort, kind, group.as_str(), outcome];
                        set(&self.accounts_followed, &labels, count);
                    }
                }
                if let Some(hours) = of.intervention.median_hours() {
                    self.intervention.with_label_values(&[cohort, kind]).set(hours * 3_600.0);
                }
                let factor = sensitivity.get(kind).copied().unwrap_or(1.0);
                self.alert_sensitivity.with_label_values(&[cohort, kind]).set(factor);
            }
            let lost = &results.lost;
            for (warned, count) in
                [("yes", lost.warned), ("no", lost.unwarned), ("withheld", lost.withheld)]
            {
                set(&self.accounts_lost, &[cohort, warned], count);
            }
            if let Some(hours) = lost.lead.median_hours() {
                self.warning_lead.with_label_values(&[cohort]).set(hours * 3_600.0);
            }
        }
    }

    /// Sets what the accounts are like, by cohort. Cohorts and readings are those of this survey only.
    pub fn surveyed(&self, survey: &Survey) {
        self.cohort_scores.reset();
        self.expected_lost.reset();
        for (cohort, of) in survey.cohorts() {
            for (bin, count) in of.scores.iter().enumerate() {
                let labels = [cohort, &(10 * bin).to_string()];
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                self.cohort_scores.with_label_values(&labels).set(count);
            }
            if let Some(lost) = of.expected_lost {
                self.expected_lost.with_label_values(&[cohort]).set(lost);
            }
            // What each cohort can have stands at zero from the start.
            for reason in [Reason::TooLate, Reason::Future, Reason::Duplicate] {
                self.cohort_rejected(cohort, reason, 0);
            }
        }
        self.signal_silent.reset();
        self.signal_gap.reset();
        for (cohort, signal, silence) in survey.silences() {
            let labels = [cohort, signal];
            self.signal_silent.with_label_values(&labels).set(i64::from(silence.days));
            self.signal_gap.with_label_values(&labels).set(i64::from(silence.gap_days));
        }
        self.reading_drift.reset();
        self.reading_missing.reset();
        for (cohort, reading, share) in survey.missing() {
            self.reading_missing.with_label_values(&[cohort, reading]).set(share);
        }
        for drift in survey.drift() {
            let labels = [drift.cohort, drift.reading];
            self.reading_missing.with_label_values(&labels).set(drift.missing);
            if let Some(index) = drift.index {
                self.reading_drift.with_label_values(&labels).set(index);
            }
        }
        self.ranked(survey);
    }

    fn ranked(&self, survey: &Survey) {
        self.ranking_auc.reset();
        self.ranking_error.reset();
        self.ranking_outcomes.reset();
        for ranking in survey.rankings() {
            for (outcome, count) in [("left", ranking.left), ("stayed", ranking.stayed)] {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.ranking_outcomes.with_label_values(&[ranking.cohort, outcome]).set(count);
            }
            for (of, found) in [("live", ranking.live), ("holdout", ranking.held_out)] {
                if let Some(found) = found {
                    self.ranking_auc.with_label_values(&[ranking.cohort, of]).set(found.value);
                    self.ranking_error.with_label_values(&[ranking.cohort, of]).set(found.error);
                }
            }
        }
    }

    /// Names the challenger in a partition.
    pub fn challenger(&self, partition: i32, model: &str) {
        self.shadow_info.with_label_values(&[&partition.to_string(), model]).set(1);
    }

    /// There is no such challenger in a partition any more.
    pub fn drop_challenger(&self, partition: i32, model: Option<&str>) {
        let partition = partition.to_string();
        // Fails only where the series does not exist, and then there is nothing to remove.
        if let Some(model) = model {
            drop(self.shadow_info.remove_label_values(&[&partition, model]));
        }
        drop(self.challenger_unreadable.remove_label_values(&[&partition]));
    }

    /// Says whether the challenger of a partition cannot be read.
    pub fn challenger_unreadable(&self, partition: i32, is_so: bool) {
        let labels = [partition.to_string()];
        self.challenger_unreadable.with_label_values(&labels).set(i64::from(is_so));
    }

    /// Says whether the scorecard in force in a partition stands in for a promoted one that cannot be read.
    pub fn model_unreadable(&self, partition: i32, is_so: bool) {
        self.model_unreadable.with_label_values(&[&partition.to_string()]).set(i64::from(is_so));
    }

    /// Names the scorecard in force in a partition, and says how far what it was learned from reaches.
    pub fn model(
        &self,
        partition: i32,
        before: Option<&str>,
        (model, learned_until): (&str, Option<Millis>),
    ) {
        let partition = partition.to_string();
        match learned_until {
            Some(until) => {
                let seconds = until.0.div_euclid(1_000);
                self.model_learned_until.with_label_values(&[&partition]).set(seconds);
            }
            None => drop(self.model_learned_until.remove_label_values(&[&partition])),
        }
        if let Some(before) = before {
            drop(self.model_info.remove_label_values(&[&partition, before]));
        }
        self.model_info.with_label_values(&[&partition, model]).set(1);
    }

    /// Removes a partition's scorecard.
    pub fn drop_model(&self, partition: i32, model: &str) {
        drop(self.model_info.remove_label_values(&[&partition.to_string(), model]));
    }

    /// Removes the series of a partition that is no longer owned: another worker reports it now.
    pub fn drop_partition(&self, partition: i32, input_topics: &[impl AsRef<str>]) {
        let partition = partition.to_string();
        // Removal fails only where the series does not exist, and then there is nothing to remove.
        for topic in input_topics {
            drop(self.lag.remove_label_values(&[topic.as_ref(), &partition]));
        }
        drop(self.close_pending.remove_label_values(&[&partition]));
        drop(self.close_lag.remove_label_values(&[&partition]));
        drop(self.model_learned_until.remove_label_values(&[&partition]));
        drop(self.model_unreadable.remove_label_values(&[&partition]));
        drop(self.watermark_lag.remove_label_values(&[&partition]));
        drop(self.state_bytes.remove_label_values(&[&partition]));
        drop(self.restore_remaining.remove_label_values(&[&partition]));
    }

    /// Everything in the Prometheus text format, version 0.0.4.
    pub fn render(&self) -> Result<String, MetricsError> {
        self.observe_process();
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    /// Reads the process's own figures. Where there is no `/proc`, they stay at zero.
    fn observe_process(&self) {
        if let Some(resident) = resident_bytes() {
            self.rss_bytes.set(resident as f64);
        }
        if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
            let used = cpu_seconds(&stat).unwrap_or(0.0);
            // A counter has no `set`; two scrapes at once may both add, by at most a tick.
            self.cpu_seconds.inc_by((used - self.cpu_seconds.get()).max(0.0));
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            // Reading the directory holds one descriptor itself.
            self.open_fds.set(entries.count().saturating_sub(1) as f64);
        }
    }
}

fn reject_labels(reason: Reason) -> [&'static str; 2] {
    [reason.as_str(), if reason.intended() { "true" } else { "false" }]
}

fn remedy_label(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::Reopen => "reopen",
        Remedy::Unknown => "unknown",
        Remedy::Fenced => "fenced",
        Remedy::Rewind => "rewind",
        Remedy::Stop => "stop",
    }
}

/// `VmRSS` of `/proc/self/status`, which is in kB (proc(5)).
fn resident_of(status: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: usize = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Resident memory of this process, where there is a `/proc`.
pub(crate) fn resident_bytes() -> Option<usize> {
    resident_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Fields 14 and 15 of `/proc/self/stat`, counted after the command name, which may itself hold spaces and brackets. They are in
/// ticks of a hundredth of a second: `USER_HZ` is part of Linux's ABI and 100 on every platform we build for.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    let mut fields = after_command.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

#[cfg(test)]
mod tests {
    use bellwether_core::account::Account;
    use bellwether_core::drift::{Distribution, Fitted};
    use bellwether_core::event::OutcomeKind;
    use bellwether_core::feedback::{Fact, Results};
    use bellwether_core::history::Ring;
    use bellwether_core::id::AccountId;
    use bellwether_core::points::Points;
    use bellwether_core::policy::{Compiled, FeedbackPolicy, Policy, Signal};
    use bellwether_core::ranking::{Auc, HeldOut, Predicted};
    use bellwether_core::score::{Context, Reading, Scorer};
    use bellwether_core::step::Core;
    use bellwether_core::time::{DAY_MS, Day, HOUR_MS};
    use bellwether_detect::Domain;

    use super::*;

    fn metrics() -> Metrics {
        Metrics::new().expect("the table is well-formed")
    }

    fn rendered(metrics: &Metrics) -> String {
        metrics.render().expect("the registry renders")
    }

    /// An account that was lost forty days after a warning on which somebody acted.
    fn cohort_results() -> CohortResults {
        let (rules, kind) = (FeedbackPolicy::default(), || "churn_risk".to_owned());
        let mut results = Results::default();
        for fact in [
            Fact::Urgent { kind: kind(), withheld: false },
            Fact::Judged { kind: kind(), right: true, at: Millis(0), before: None },
            Fact::Acted { kind: kind(), after_ms: HOUR_MS / 2 },
            Fact::Followed { kind: kind(), group: Group::Acted, stayed: false },
            Fact::Lost { warned_ms: Some(40 * DAY_MS), withheld: false },
        ] {
            results.learn(fact, &rules);
        }
        CohortResults { results, sensitivity: BTreeMap::from([(kind(), 0.5)]) }
    }

    #[test]
    fn what_became_of_alerts_is_exposed_by_cohort() {
        let metrics = metrics();
        metrics.results(&BTreeMap::from([("smb".to_owned(), cohort_results())]));
        let text = rendered(&metrics);
        let kind = "cohort=\"smb\",kind=\"churn_risk\"";
        for (series, expected) in [
            (format!("bellwether_alert_results{{{kind},result=\"confirmed\"}}"), "1"),
            (format!("bellwether_alert_results{{{kind},result=\"false_positive\"}}"), "0"),
            (format!("bellwether_alert_results{{{kind},result=\"actioned\"}}"), "1"),
            (format!("bellwether_alert_sensitivity{{{kind}}}"), "0.5"),
            (
                "bellwether_accounts_followed{cohort=\"smb\",group=\"acted\",kind=\"churn_risk\",outcome=\"lost\"}"
                    .to_owned(),
                "1",
            ),
            ("bellwether_accounts_lost{cohort=\"smb\",warned=\"yes\"}".to_owned(), "1"),
            (format!("bellwether_intervention_seconds{{{kind}}}"), "1800"),
        ] {
            assert_eq!(value(&text, &series).as_deref(), Some(expected), "{series}");
        }
    }

    /// The value of a series, as it stands in the text.
    fn value(text: &str, series: &str) -> Option<String> {
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
            .map(str::to_owned)
    }

    /// A scorecard of which is known what it was learned from.
    #[derive(Debug)]
    struct Learned;

    impl Scorer for Learned {
        fn version(&self) -> &'static str {
            "learned"
        }

        fn signal(&self, _: &str, _: &Signal, _: &Reading, _: &Policy) -> Points {
            Points::ZERO
        }

        fn absence(&self, _: &str, _: &Signal, _: f64) -> Points {
            Points::ZERO
        }

        fn context(&self, _: &Context, _: &Policy) -> [Points; 3] {
            [Points::ZERO; 3]
        }

        fn horizon_days(&self) -> Option<u32> {
            Some(28)
        }

        fn fitted(&self) -> Option<Arc<Fitted>> {
            let all = vec![Distribution::of("score", [10.0, 90.0])];
            Some(Arc::new(Fitted { all, cohorts: BTreeMap::new() }))
        }

        fn held_out(&self) -> Option<Arc<HeldOut>> {
            let all = Some(Auc { value: 0.75, error: 0.02 });
            Some(Arc::new(HeldOut { all, cohorts: BTreeMap::new() }))
        }

        fn risk(&self, _: &str, _: &BTreeMap<String, f64>) -> Option<f64> {
            Some(0.01)
        }
    }

    /// Of 200 accounts of a cohort, all with a score of 95; twenty of them had 20 and left.
    fn survey() -> Survey {
        let core = Core::new(Arc::new(Compiled::default_policy())).scored_by(Arc::new(Learned));
        let mut survey = Survey::of(&core);
        let mut account = Account::new(AccountId::new("acme").expect("an id"));
        account.hot.segment = Some("smb".to_owned());
        (account.hot.score, account.hot.published_score) = (Points(9_500), Some(Points(9_500)));
        let mut ring = Ring::default();
        (0..40).for_each(|day| ring.push(f64::from(u8::from(day < 35))));
        account.history.newest = Some(Day(100));
        account.history.rings =
            core.policy().keys().iter().map(|key| (*key, ring.clone())).collect();
        account.hot.today = Day(101);
        for number in 0..200 {
            let left = number < 20;
            let at = Millis(60 * DAY_MS);
            account.hot.outcome = left.then_some((OutcomeKind::Churned, at));
            let scores = vec![(2, Points(if left { 2_000 } else { 9_500 }))];
            account.predicted = Some(Box::new(Predicted { model: "learned".to_owned(), scores }));
            survey.see(&core, &account);
        }
        survey
    }

    #[test]
    fn what_accounts_are_like_is_exposed_by_cohort() {
        let metrics = metrics();
        metrics.surveyed(&survey());
        let text = rendered(&metrics);
        for (series, expected) in [
            ("bellwether_cohort_scores{cohort=\"smb\",from=\"90\"}", 200.0),
            ("bellwether_cohort_scores{cohort=\"smb\",from=\"80\"}", 0.0),
            ("bellwether_accounts_expected_lost{cohort=\"smb\"}", 2.0),
            ("bellwether_reading_missing_ratio{cohort=\"smb\",reading=\"score\"}", 0.0),
            ("bellwether_reading_missing_ratio{cohort=\"smb\",reading=\"signal:logins\"}", 1.0),
            ("bellwether_signal_silent_days{cohort=\"smb\",signal=\"logins\"}", 5.0),
            ("bellwether_ranking_auc{cohort=\"smb\",of=\"live\"}", 1.0),
            ("bellwether_ranking_auc{cohort=\"smb\",of=\"holdout\"}", 0.75),
            ("bellwether_ranking_auc_error{cohort=\"smb\",of=\"holdout\"}", 0.02),
            ("bellwether_ranking_outcomes{cohort=\"smb\",outcome=\"left\"}", 20.0),
            ("bellwether_ranking_outcomes{cohort=\"smb\",outcome=\"stayed\"}", 180.0),
            ("bellwether_signal_gap_days{cohort=\"smb\",signal=\"logins\"}", 0.0),
            ("bellwether_cohort_rejected_total{cohort=\"smb\",reason=\"duplicate\"}", 0.0),
        ] {
            let found: Option<f64> = value(&text, series).and_then(|value| value.parse().ok());
            assert!(
                found.is_some_and(|found| (found - expected).abs() < 1e-9),
                "{series}: {found:?}"
            );
        }
        let drift = value(&text, "bellwether_reading_drift{cohort=\"smb\",reading=\"score\"}");
        assert!(drift.and_then(|drift| drift.parse().ok()) > Some(0.25), "half were at 10");
        metrics.surveyed(&Survey::default());
        let text = rendered(&metrics);
        let mut left = text.lines().filter(|line| line.contains("cohort=\"smb\""));
        assert!(left.all(|line| line.contains("_total")), "there are none any more");
    }

    #[test]
    fn what_is_rejected_is_counted_by_cohort_and_cohorts_are_bounded() {
        let metrics = metrics();
        metrics.rejected("smb", Reason::Duplicate, 2);
        metrics.rejected("smb", Reason::Duplicate, 1);
        metrics.rejected("", Reason::UnknownAccount, 4);
        for number in 0..COHORTS_MAX {
            metrics.rejected(&format!("c{number}"), Reason::TooLate, 1);
        }
        let text = rendered(&metrics);
        for (series, expected) in [
            ("bellwether_events_rejected_total{intended=\"true\",reason=\"duplicate\"}", "3"),
            ("bellwether_cohort_rejected_total{cohort=\"smb\",reason=\"duplicate\"}", "3"),
            ("bellwether_cohort_rejected_total{cohort=\"\",reason=\"unknown_account\"}", "4"),
            ("bellwether_cohort_rejected_total{cohort=\"\",reason=\"too_late\"}", "1"),
        ] {
            assert_eq!(value(&text, series).as_deref(), Some(expected), "{series}");
        }
        metrics.rejected("smb", Reason::Duplicate, 1);
        let text = rendered(&metrics);
        let known = "bellwether_cohort_rejected_total{cohort=\"smb\",reason=\"duplicate\"}";
        assert_eq!(value(&text, known).as_deref(), Some("4"), "it has its counters");
    }

    #[test]
    fn everything_in_the_table_is_exposed_and_nothing_else() {
        let metrics = metrics();
        metrics.build_info("0.1.0", "p1");
        metrics.events_in("usage.events.v1", 1);
        metrics.lag(&[Lag { topic: "t".into(), partition: 0, records: 3 }]);
        metrics.watermark_lag(0, 1500);
        metrics.close_behind(0, 2, 60_000);
        metrics.model(0, Some("expert"), ("learned", Some(Millis(1_000))));
        metrics.model_unreadable(0, true);
        metrics.state_bytes(0, 10);
        metrics.restore(0, 1, 2);
        metrics.standby(1, 3);
        metrics.memory(1 << 30, 1, &[("stores", 1)]);
        metrics.alert_transition(Transition::Opened, "churn_risk", Severity::High);
        metrics.sink("slack");
        metrics.delivery("slack", "delivered", Duration::from_millis(5));
        metrics.delivery_delay("slack", Duration::from_millis(5));
        metrics.alerts_parked("attempts", 1);
        metrics.alerts_suppressed("budget", 1);
        metrics.sink_breaker("slack", "closed", &["closed", "open"]);
        metrics.detectors(&Arc::default()).expect("registered once");
        metrics.results(&BTreeMap::from([("smb".to_owned(), cohort_results())]));
        metrics.challenger(0, "learned");
        metrics.challenger_unreadable(0, false);
        metrics.surveyed(&survey());
        let text = rendered(&metrics);
        let mut exposed: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        exposed.sort_unstable();
        let mut expected: Vec<String> = TABLE
            .iter()
            .map(|metric| format!("{} {}", metric.name, metric.kind.as_str()))
            .collect();
        expected.sort_unstable();
        assert_eq!(exposed, expected);
        assert!(!text.contains("account_id=") && !text.contains("account="));
    }

    #[test]
    fn names_say_what_is_counted_in_which_unit() {
        for metric in TABLE {
            assert!(metric.name.starts_with("bellwether_") || metric.name.starts_with("process_"));
            assert_eq!(
                metric.kind == Kind::Counter,
                metric.name.ends_with("_total"),
                "{}",
                metric.name
            );
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn every_reason_and_result_starts_at_zero() {
        let text = rendered(&metrics());
        for reason in Reason::ALL {
            let series = format!(
                "bellwether_events_rejected_total{{intended=\"{}\",reason=\"{}\"}}",
                reason.intended(),
                reason.as_str()
            );
            assert_eq!(value(&text, &series).as_deref(), Some("0"), "{series}");
        }
        let unknown = "bellwether_commits_total{result=\"unknown\"}";
        assert_eq!(value(&text, unknown).as_deref(), Some("0"));
    }

    #[test]
    fn a_batch_is_recorded_with_the_age_of_its_records() {
        let metrics = metrics();
        metrics.committed(Duration::from_millis(3), 2);
        metrics.published(10_000, [9_000, 12_000]);
        let text = rendered(&metrics);
        assert_eq!(
            value(&text, "bellwether_commits_total{result=\"committed\"}").as_deref(),
            Some("1")
        );
        assert_eq!(value(&text, "bellwether_event_to_published_seconds_sum").as_deref(), Some("1"));
        assert_eq!(
            value(&text, "bellwether_event_to_published_seconds_count").as_deref(),
            Some("2")
        );
        assert_eq!(value(&text, "bellwether_batch_records_sum").as_deref(), Some("2"));
    }

    #[test]
    fn fallbacks_are_exposed_as_they_stand_whoever_asks_how_often() {
        let (metrics, models) = (metrics(), Arc::new(Guarded::new()));
        metrics.detectors(&models).expect("registered once");
        let series = "bellwether_detector_fallback_total{detector=\"onset\",reason=\"short\"}";
        assert_eq!(value(&rendered(&metrics), series).as_deref(), Some("0"));
        for _ in 0..2 {
            models.date_onset(Domain::Real, &[1.0]).expect_err("one day is too short");
        }
        rendered(&metrics);
        let text = rendered(&metrics);
        assert_eq!(value(&text, series).as_deref(), Some("2"));
        let calls = "bellwether_detector_calls_total{detector=\"onset\"}";
        assert_eq!(value(&text, calls).as_deref(), Some("2"));
    }

    #[test]
    fn a_lost_partition_takes_its_series_along() {
        let metrics = metrics();
        for partition in [0, 1] {
            metrics.state_bytes(partition, 5);
            metrics.model_unreadable(partition, true);
            metrics.challenger(partition, "learned");
            metrics.challenger_unreadable(partition, true);
            metrics.lag(&[Lag { topic: "in".into(), partition, records: 1 }]);
        }
        metrics.drop_challenger(1, Some("learned"));
        metrics.drop_partition(1, &["in"]);
        let text = rendered(&metrics);
        assert!(text.contains("partition=\"0\""));
        assert!(!text.contains("partition=\"1\""));
    }

    #[test]
    fn process_figures_are_read_as_the_kernel_writes_them() {
        assert_eq!(resident_of("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("broken"), None);
    }
}
