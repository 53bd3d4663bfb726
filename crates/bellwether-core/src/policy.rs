//! The policy: every tunable, in one TOML file, identified by a hash of its content.
//!
//! A file may leave out any section or key: the default given here holds, and the hash is taken over the complete policy,
//! so that two files that mean the same have the same version. Unknown keys are refused.

use std::collections::BTreeMap;
use std::fmt;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::account::SignalKey;
use crate::condition::Condition;
use crate::event::Event;
use crate::history::RING_DAYS;
use crate::intraday::Settings;
use crate::output::Category;
use crate::policy_check::SPIKE_KIND;
use crate::publish::content_id;
use crate::score::Scale;
use crate::sequence::{Course, RUN_VALUES, Sequence};
use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS};

/// The default policy: a B2B software product with signals of all five categories.
pub const DEFAULT_TOML: &str = include_str!("../policies/default.toml");
/// Signals of the demo's real history: the commit log of a large open-source project.
pub const OPENSTACK_TOML: &str = include_str!("../policies/openstack.toml");

/// What is wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {key}: {message}")]
pub struct PolicyError {
    /// The file.
    pub file: String,
    /// The key, e.g. `signal[3].direction`, or the line where it stands.
    pub key: String,
    /// The value found and what is allowed.
    pub message: String,
}

/// Every tunable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// A name for people.
    #[serde(default = "unnamed")]
    pub name: String,
    /// Which events are let in.
    #[serde(default)]
    pub admission: Admission,
    /// What is normal.
    #[serde(default)]
    pub baseline: BaselinePolicy,
    /// What is a deviation.
    #[serde(default)]
    pub deviation: DeviationPolicy,
    /// When a closed day is judged.
    #[serde(default)]
    pub close: ClosePolicy,
    /// Models of time series.
    #[serde(default)]
    pub models: ModelsPolicy,
    /// When a single value of a watched signal is news.
    #[serde(default)]
    pub watch: WatchPolicy,
    /// When a cohort as a whole deviates.
    #[serde(default)]
    pub fleet: FleetPolicy,
    /// When evidence agrees.
    #[serde(default)]
    pub corroboration: CorroborationPolicy,
    /// How rare chance findings are.
    #[serde(default)]
    pub calibration: CalibrationPolicy,
    /// When to speak, and when to be quiet again.
    #[serde(default)]
    pub alerts: AlertPolicy,
    /// How pressing an alert is among others.
    #[serde(default)]
    pub priority: PriorityPolicy,
    /// What is made of what people say of alerts.
    #[serde(default)]
    pub feedback: FeedbackPolicy,
    /// What of the calendar is not told by entries.
    #[serde(default)]
    pub calendar: CalendarPolicy,
    /// How much history a judgement needs.
    #[serde(default)]
    pub maturity: MaturityPolicy,
    /// The scorecard.
    #[serde(default)]
    pub score: ScorePolicy,
    /// What is kept to learn from.
    #[serde(default, skip_serializing_if = "LearningPolicy::is_default")]
    pub learning: LearningPolicy,
    /// The simplest detector, in place of all that is above but for admission and score.
    #[serde(default, skip_serializing_if = "RollingPolicy::is_default")]
    pub rolling: RollingPolicy,
    /// The signals; none given: those of the default policy.
    #[serde(rename = "signal", default = "default_signals")]
    pub signals: Vec<Signal>,
    /// Alerts by plain conditions; none given: none.
    #[serde(rename = "condition", default)]
    pub conditions: Vec<Condition>,
    /// Courses of events that cost points; none given: none.
    #[serde(rename = "sequence", default, skip_serializing_if = "Vec::is_empty")]
    pub sequences: Vec<Sequence>,
}

fn unnamed() -> String {
    "custom".to_owned()
}

fn default_signals() -> Vec<Signal> {
    #[derive(Deserialize)]
    struct Signals {
        signal: Vec<Signal>,
    }
    // A test parses the file that is compiled in.
    toml::from_str(DEFAULT_TOML).map_or_else(|_| Vec::new(), |signals: Signals| signals.signal)
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* }
            }
        }
    };
}

/// Hexadecimal digits of a version.
const VERSION_CHARS: usize = 12;

/// What to do with events of an account without a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownAccounts {
    /// Take them; the account is known from now on.
    Admit,
    /// Reject them to the dead-letter topic.
    Reject,
}

section! {
    /// Which events are let in.
    Admission {
        /// How far event time may run out of order before a day is closed, in minutes (0..=1440).
        lateness_minutes: u32 = 10,
        /// How old an event may be and still correct its day, in hours (1..=168). Event ids are remembered as long.
        grace_hours: u32 = 48,
        /// How far an event may lie ahead of the time at which the broker received it, in minutes (1..=1440).
        future_minutes: u32 = 10,
        /// Events of accounts without a profile.
        unknown_accounts: UnknownAccounts = UnknownAccounts::Admit,
        /// How far back an event may lie when it is received, in days (1..=36500): how much history can be filled in.
        history_days: u32 = 1_830,
        /// Distinct members or features remembered per account and signal (1..=100000); more are counted, not kept.
        distinct_max: u32 = 5_000,
    }
}

section! {
    /// What is normal.
    BaselinePolicy {
        /// Weeks of reference at most (4..=14). Reference and guard together fit the 18 weeks that are kept.
        reference_weeks: u16 = 8,
        /// Weeks of reference at least (2..=8); with fewer, a signal is not judged.
        reference_weeks_min: u16 = 3,
        /// Weeks between the reference and today (1..=8), so that a slow decline cannot hide in its own baseline. A
        /// young account has a third of its history as guard, at least one week.
        guard_weeks: u16 = 4,
        /// Days after which a change of level that lasts is what is normal (42..=120).
        rebaseline_days: u16 = 84,
        /// Weekly variation that is expected before an account has shown its own, as a share of its level (0.01..=1).
        variation_prior: f64 = 0.15,
        /// Weeks of own history that weigh as much as that expectation (0..=52).
        variation_prior_weeks: f64 = 6.0,
    }
}

section! {
    /// What is a deviation.
    DeviationPolicy {
        /// Windows that are tested, in weeks; each 1..=8, rising, at most the guard.
        windows_weeks: Vec<u16> = vec![1, 2, 4],
        /// Standardised deviation from which a signal supports others (1..=6).
        z_support: f64 = 2.0,
        /// Standardised deviation from which a signal is alerted alone, at low severity (z_support..=8).
        z_alone: f64 = 3.0,
        /// Standardised deviation from which that alert is of medium severity (z_alone..=12).
        z_strong: f64 = 4.5,
        /// Change below which nothing counts, however significant, in percent (0..=90).
        change_min_pct: f64 = 20.0,
        /// Days of absence at least before presence is judged (2..=60).
        absence_days_min: u16 = 5,
        /// Days by which an absence must exceed the longest one in the reference (0..=60).
        absence_beyond_days: u16 = 2,
        /// Share of members (or features) that leave in a year whatever the account does (0..=5): so many are no news.
        turnover_per_year: f64 = 0.2,
    }
}

section! {
    /// What of the calendar is not told by entries.
    CalendarPolicy {
        /// Days before the last day of an account's fiscal year, and after it, that are masked with it (0..=30).
        fiscal_year_end_days: u16 = 3,
    }
}

section! {
    /// When a closed day is judged.
    ClosePolicy {
        /// Minutes after the end of an account's day before it is judged (0..=360): so long the other accounts of its cohort have to
        /// close theirs.
        settle_minutes: u32 = 60,
        /// Minutes over which the judgements of accounts are spread, by a hash of their ids (0..=720).
        spread_minutes: u32 = 120,
        /// Minutes of event time by which closes and judgements may lie behind before events wait for them (0..=360; never more than
        /// `settle_minutes`, so that a cohort's day is closed before it is used).
        lag_minutes: u32 = 30,
        /// Closes and judgements that are worked off with an event, of those that lie behind (0..=1000).
        per_event: u32 = 1,
        /// Closes and judgements that are worked off with recorded time (1..=100000): few, since an event that comes meanwhile waits for
        /// them and for their commit.
        per_tick: u32 = 8,
    }
}

section! {
    /// Models of time series (augurs), each behind a guard. What one cannot say, the engine's own statistics do, and it is counted.
    ModelsPolicy {
        /// Whether each signal of an urgent alert is dated by a changepoint of its own days; else all by the window of the scan.
        onset: bool = true,
        /// Whether the last and the first days of months may be other than the rest, from 84 days of reference on.
        months: bool = true,
        /// Whether the open day of a signal is forecast by MSTL, from 28 days of history on; else by what the scan expects.
        forecast: bool = true,
        /// Whether that is done by AutoETS, at some thirty times the work, for accounts of at least `ets_volume_min`.
        ets: bool = true,
        /// Events a day, over all counted signals, from which an account is worth it (1..=1e9).
        ets_volume_min: f64 = 1000.0,
        /// Whether `bellwether cohorts` asks which accounts are unlike their peers.
        peers: bool = true,
        /// Share of days that the interval of a forecast holds (0.5..=0.999).
        interval: f64 = 0.98,
        /// Whether an open day that is above its interval is judged for rises at once, not only at its close.
        intraday: bool = true,
        /// Share of the budget of false alerts within which a rise must be before its day ends: the rest of the day may put it in
        /// another light (0.01..=1).
        intraday_share: f64 = 0.25,
        /// By how much a count must grow before its day is judged again before its close, in percent (1..=1000).
        intraday_growth_pct: f64 = 25.0,
    }
}

section! {
    /// When a single value of a watched signal is news.
    WatchPolicy {
        /// Score from which it is, one minus the chance of the like (0.9..=0.9999999).
        alert_score: f64 = 0.9999,
        /// Values after a peak that are quiet unless they surpass it (0..=100000).
        quiet_values: u32 = 100,
        /// The same as a share of all values so far: what is news in a week is not in a year (0..=0.5).
        quiet_share: f64 = 0.03,
        /// First values, which are never news (20..=100000).
        warm_up_values: u32 = 100,
    }
}

impl WatchPolicy {
    /// For the watch.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            alert_score: self.alert_score,
            quiet_samples: self.quiet_values,
            quiet_share: self.quiet_share,
            warm_up_samples: self.warm_up_values,
        }
    }
}

section! {
    /// When a cohort as a whole deviates.
    FleetPolicy {
        /// Change of an hour's or a day's sum against what is usual, in percent (10..=90).
        change_min_pct: f64 = 40.0,
        /// Standardised deviation of that change (3..=12).
        z_min: f64 = 5.0,
        /// Accounts below which a cohort has no fleet view (2..=1000000).
        accounts_min: u32 = 20,
        /// Hours after the last period that deviates in which the alert stays open (1..=336).
        quiet_hours: u32 = 24,
        /// Alerts of the accounts are held back for as long again as the cohort deviated, at most so many hours (0..=336).
        hold_hours: u32 = 72,
        /// An urgent alert of an account is not held back where chance shows the like, against its cohort, only in this share of the
        /// cases of the budget (0..=1).
        beyond_hold: f64 = 0.001,
    }
}

section! {
    /// How rare chance findings of the scan are: measured on accounts to which nothing happens (`bellwether calibrate`). A row per
    /// volume: `[a, b]` says that an account of this volume has a finding with a statistic above h `exp(a - b h)` times a year.
    CalibrationPolicy {
        /// Events a day, over all counted signals, that part the volumes: rising, at most 8 of them.
        volumes: Vec<f64> = vec![2.0, 8.0, 32.0],
        /// Of changes toward risk: one row more than volumes.
        drop: Vec<[f64; 2]> = vec![[6.976, 0.940], [3.959, 0.642], [5.055, 0.823], [6.735, 0.970]],
        /// Of changes away from risk.
        rise: Vec<[f64; 2]> = vec![[2.558, 0.610], [4.178, 0.878], [4.452, 0.865], [4.173, 0.862]],
        /// Of steady declines.
        decline: Vec<[f64; 2]> = vec![[3.660, 1.496], [1.948, 0.980], [2.009, 1.000], [1.653, 0.997]],
        /// By how much fewer alerts there are than families find one by one, because they find the same (0.5..=1).
        overlap: f64 = 0.901,
        /// Whether a cohort's own findings correct the rows above, month by month.
        learn: bool = true,
        /// Years of accounts that weigh as much as those rows (1..=10000).
        prior_years: f64 = 100.0,
        /// Accounts that really change, as a share of all in a year, at most: their findings are no chance (0..=2).
        real_per_year: f64 = 0.25,
    }
}

section! {
    /// When evidence agrees.
    CorroborationPolicy {
        /// Standardised deviation from which a correlation group is convinced (1..=6).
        z_group: f64 = 2.5,
        /// The budget: false alerts of high severity per account and year (0.001..=10).
        false_high_per_year: f64 = 0.1,
        /// Shares of the budget for changes toward risk, changes away from it, and steady declines; they sum to 1.
        shares: [f64; 3] = [0.14, 0.16, 0.7],
        /// How much better than the best single group the set must explain the days, per family, in units of log-likelihood (0..=10):
        /// 3 is a second group that is convinced by 2.4 standard deviations.
        beyond_one: [f64; 3] = [3.0, 2.5, 0.3],
        /// Share of common events from which two groups rest on the same evidence and count once (0.05..=1).
        shared_events: f64 = 0.5,
        /// Groups that must agree for high severity (2..=5). One signal alone never makes a high alert.
        groups_high: u16 = 2,
        /// Groups that must agree for critical severity (groups_high..=8); with a key user absent, `groups_high` are enough.
        groups_critical: u16 = 3,
    }
}

section! {
    /// When to speak, and when to be quiet again.
    AlertPolicy {
        /// Days without supporting evidence after which an alert is resolved (1..=60).
        resolve_quiet_days: u16 = 7,
        /// Days after a resolution in which the same kind does not open again, but for news: then the alert is re-opened (0..=180).
        refractory_days: u16 = 21,
        /// How often an alert must have come back within `flap_days` to be flapping (1..=20).
        flap_reopens: u16 = 2,
        /// See `flap_reopens` (7..=365).
        flap_days: u16 = 90,
        /// Days without supporting evidence after which a flapping alert is resolved (resolve_quiet_days..=120).
        flap_quiet_days: u16 = 28,
        /// Days without any event of an alert after which it is resolved as expired (14..=730).
        expire_days: u16 = 120,
        /// Days for which an alert may be snoozed at most (1..=365).
        snooze_days_max: u16 = 90,
    }
}

section! {
    /// How pressing an alert is among others: points that sum to its priority, cut at 100.
    PriorityPolicy {
        /// Points of the severities info, low, medium, high, critical; each 0..=100, rising.
        severity: [u16; 5] = [5, 20, 35, 55, 70],
        /// Points at most for a renewal that is near (0..=100): all on its day, none `renewal_days` before it.
        renewal_points: u16 = 15,
        /// See `renewal_points` (1..=730).
        renewal_days: u16 = 120,
        /// Points at most for the account's value (0..=100): all from `value_full_usd` on, below that by its square root.
        value_points: u16 = 15,
        /// US dollars a year (1..=1e12).
        value_full_usd: f64 = 100_000.0,
        /// Points of plans, by their names in profiles (each 0..=100).
        plans: BTreeMap<String, u16> = BTreeMap::new(),
    }
}

section! {
    /// What is made of what people say of alerts.
    FeedbackPolicy {
        /// Days after an urgent alert within which the loss of its account bears it out (14..=365).
        horizon_days: u16 = 90,
        /// Days from then on within which somebody must act on it for the account to count as acted on (1..=90, below horizon_days).
        acted_days: u16 = 14,
        /// Whether verdicts move how rare alerts of a kind must be in a cohort.
        adjust: bool = true,
        /// The share of alerts that are right, by people, with which they are content (0.05..=0.95).
        precision_target: f64 = 0.5,
        /// Verdicts that weigh as much as the expectation that the target is met (1..=1000).
        prior_verdicts: f64 = 20.0,
        /// Days after which a verdict counts half (30..=3650).
        half_life_days: u16 = 365,
        /// The least by which verdicts multiply how often alerts may come by chance (0.01..=1).
        strictest: f64 = 0.1,
        /// The most (1..=10). Above 1 the false-alert budget holds only as far as verdicts are right.
        loosest: f64 = 1.0,
        /// Share of accounts, chosen by a hash of their ids, whose alerts are withheld, to compare with (0..=0.5).
        control_share: f64 = 0.0,
    }
}

impl FeedbackPolicy {
    /// `horizon_days` in milliseconds.
    #[must_use]
    pub fn horizon_ms(&self) -> i64 {
        i64::from(self.horizon_days) * crate::time::DAY_MS
    }
}

section! {
    /// How much history a judgement needs.
    MaturityPolicy {
        /// Days of history before anything is judged (7..=120).
        learning_days: u16 = 28,
        /// Days from the start of the relationship in which slow use is onboarding, not risk (learning_days..=365).
        onboarding_days: u16 = 42,
    }
}

section! {
    /// The scorecard: points of an additive model. The weight of a signal stands with the signal.
    ScorePolicy {
        /// Points of an account of which nothing is known (0..=100).
        base_points: f64 = 74.0,
        /// Points lost at most to days without any activity (0..=50).
        recency_points: f64 = 14.0,
        /// Days without activity at which they are all lost (2..=128).
        recency_full_days: u16 = 56,
        /// Points gained at most by activity on every day of the last four weeks (0..=50).
        frequency_points: f64 = 10.0,
        /// Points lost at most to a short relationship (0..=50).
        tenure_points: f64 = 3.0,
        /// Days of relationship after which none are lost (1..=3650).
        tenure_full_days: u16 = 180,
        /// Share of a signal's weight that a favourable deviation can earn (0..=1).
        upside_share: f64 = 0.35,
        /// Movement of the score that is published, in points (0.01..=100). A change of band is always published.
        publish_min_points: f64 = 1.0,
        /// Lowest score of the band Healthy (1..=100).
        healthy_min: f64 = 70.0,
        /// Score below which the band is At-Risk (0..=healthy_min).
        at_risk_below: f64 = 45.0,
    }
}

section! {
    /// What is kept to learn from ([`crate::example`]).
    LearningPolicy {
        /// Days from one example of an account to its next (0..=91); 0: none are published.
        example_days: u16 = 7,
        /// Days within which an account leaves that a scorecard is to warn of (7..=366): their readings are made for it.
        horizon_days: u16 = 28,
    }
}

impl LearningPolicy {
    /// A policy that does not name it has the version that it had before there was one.
    fn is_default(&self) -> bool {
        *self == LearningPolicy::default()
    }
}

section! {
    /// The simplest detector ([`crate::rolling`]): a score after every event, from rolling sums of seven days.
    RollingPolicy {
        /// Whether it decides.
        enabled: bool = false,
        /// Weeks with which the last seven days are compared (3..=17).
        history_weeks: u16 = 8,
        /// Days, up to the newest one of an account, for which it takes events (7..=128).
        late_days: u16 = 64,
        /// Smallest standard deviation of a week's sum that is believed, in the signal's unit (1e-6..=1e12).
        spread_min: f64 = 1.0,
        /// The same as a share of the median (0..=1).
        spread_share: f64 = 0.05,
        /// Whether ids of events are remembered, so that a repeated event counts once. Without, events may be as old as `late_days`
        /// says; with, as `admission.grace_hours` says.
        remember_ids: bool = true,
        /// Whether a full health record goes out with every score change.
        publish_current: bool = true,
    }
}

impl RollingPolicy {
    /// A policy that does not name it has the version that it had before there was one.
    fn is_default(&self) -> bool {
        *self == RollingPolicy::default()
    }
}

/// How the events of a signal become a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// Events per week.
    Count,
    /// Sum of values per week.
    Sum,
    /// Mean of values.
    Mean,
    /// The last value (a gauge).
    Last,
    /// Distinct members per week.
    DistinctMembers,
    /// Distinct features per week.
    DistinctFeatures,
    /// Days with activity: judged by the length of absence.
    Presence,
}

/// Which direction is bad news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Risk when it falls.
    Down,
    /// Risk when it rises.
    Up,
}

/// Which events feed a signal. Every condition that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Event types; a trailing `*` matches any ending. Empty: any type.
    pub types: Vec<String>,
    /// Roles of the member. Empty: any.
    pub roles: Vec<String>,
    /// Features; a trailing `*` matches any ending. Empty: any.
    pub features: Vec<String>,
    /// Whether the event must carry a value.
    pub has_value: bool,
}

/// A run of single interactions that counts before any window is full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streak {
    /// The last of three values must be at or beyond this (below it for `down`, above for `up`).
    pub threshold: f64,
    /// The three values must have worsened by this in all, or all be beyond the threshold.
    pub fall: f64,
}

/// One measured behaviour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// Its name: lower case, digits and `_`.
    pub name: String,
    /// What people call it in a sentence, e.g. `logins`. Default: the name with blanks.
    #[serde(default)]
    pub label: String,
    /// The sub-score that it belongs to.
    pub category: Category,
    /// Its correlation group: signals that move together for one reason count once.
    pub group: String,
    /// Which direction is risk.
    pub direction: Direction,
    /// How events become a number.
    pub aggregate: Aggregate,
    /// Which events feed it.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Unit for people, e.g. `logins/week`.
    pub unit: String,
    /// Points that the signal can cost (0..=50).
    pub weight: f64,
    /// Kind of the alert that the signal makes alone.
    pub kind: String,
    /// Change in percent at which all of the weight is lost (5..=1000).
    #[serde(default = "effect_full_pct")]
    pub effect_full_pct: f64,
    /// Smallest spread that is believed, in the signal's unit (0: none).
    #[serde(default)]
    pub spread_min: f64,
    /// Whether the values of a `sum` are numbers of things (events that were added up before they came): its days are counts.
    #[serde(default)]
    pub counted: bool,
    /// Whether every value is judged against what the series has shown so far, within the day (`mean` and `last` only).
    #[serde(default)]
    pub watched: bool,
    /// Whether the absence of this signal's members is a key-user absence (`presence` only).
    #[serde(default)]
    pub key_user: bool,
    /// A run of interactions that counts at once (`mean` only).
    #[serde(default)]
    pub streak: Option<Streak>,
}

fn effect_full_pct() -> f64 {
    50.0
}

impl Signal {
    /// Whether the signal is evidence: it moves the score, and may confirm others. One without weight is watched for itself.
    #[must_use]
    pub fn is_evidence(&self) -> bool {
        self.weight > 0.0
    }

    /// Whether an event feeds this signal.
    #[must_use]
    pub fn takes(&self, event: &Event) -> bool {
        self.takes_type(event) && self.takes_rest(event)
    }

    fn takes_type(&self, event: &Event) -> bool {
        one_of(&self.matches.types, Some(&event.kind))
    }

    /// Whether it takes an event of a type that it takes.
    fn takes_rest(&self, event: &Event) -> bool {
        let wanted = &self.matches;
        let needs_value = wanted.has_value
            || matches!(self.aggregate, Aggregate::Sum | Aggregate::Mean | Aggregate::Last);
        one_of(&wanted.roles, event.role.as_deref())
            && one_of(&wanted.features, event.feature.as_deref())
            && (!needs_value || event.value.is_some())
            && self.distinct_value(event).is_none_or(|value| value.is_some())
    }

    /// For signals that count distinct things: the thing, where the event names one. None for the others.
    #[must_use]
    pub fn distinct_value<'e>(&self, event: &'e Event) -> Option<Option<&'e str>> {
        match self.aggregate {
            Aggregate::DistinctMembers => Some(event.member.as_ref().map(|member| member.as_str())),
            Aggregate::DistinctFeatures => Some(event.feature.as_deref()),
            Aggregate::Count
            | Aggregate::Sum
            | Aggregate::Mean
            | Aggregate::Last
            | Aggregate::Presence => None,
        }
    }

    /// Whether its events are the account being active (and not, say, a bill being paid).
    #[must_use]
    pub fn is_activity(&self) -> bool {
        matches!(self.category, Category::Engagement | Category::Adoption)
    }
}

fn one_of(patterns: &[String], text: Option<&str>) -> bool {
    patterns.is_empty()
        || text.is_some_and(|text| {
            patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => text.starts_with(start),
                None => pattern == text,
            })
        })
}

/// A policy that was checked, with what is derived from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    policy: Policy,
    version: String,
    readings_version: String,
    examples_version: String,
    findings: u64,
    /// Of the signals, and behind them of the sequences.
    keys: Vec<SignalKey>,
    /// Per signal, how many of its last values are kept.
    values_kept: Vec<usize>,
    candidates: Candidates,
}

/// Values of which a run of single interactions consists.
const STREAK_VALUES: usize = 3;

/// How many of its last values are kept of each signal.
fn values_kept(policy: &Policy) -> Vec<usize> {
    let of = |signal: &Signal| {
        let runs = policy.sequences.iter().filter_map(|sequence| match &sequence.when {
            Course::Worsening { signal: name, .. } if *name == signal.name => Some(RUN_VALUES),
            Course::Worsening { .. } | Course::Follows { .. } => None,
        });
        runs.chain(signal.streak.as_ref().map(|_| STREAK_VALUES)).max().unwrap_or(0)
    };
    policy.signals.iter().map(of).collect()
}

/// Which signals an event may feed, by its type.
#[derive(Debug, Clone, PartialEq)]
struct Candidates {
    /// For each type that a signal names in full: all that take it, in policy order.
    named: HashMap<String, Vec<usize>>,
    /// For every other type: those that name none, or its beginning.
    others: Vec<usize>,
}

impl Candidates {
    fn of(signals: &[Signal]) -> Candidates {
        let all = || signals.iter().enumerate();
        let types = || all().flat_map(|(_, signal)| &signal.matches.types);
        let whole = types().filter(|pattern| !pattern.ends_with('*'));
        let taking = |kind: &str| {
            let taking = all().filter(|(_, signal)| one_of(&signal.matches.types, Some(kind)));
            taking.map(|(index, _)| index).collect()
        };
        let open = all().filter(|(_, signal)| {
            let types = &signal.matches.types;
            types.is_empty() || types.iter().any(|pattern| pattern.ends_with('*'))
        });
        Candidates {
            others: open.map(|(index, _)| index).collect(),
            named: whole.map(|kind| (kind.clone(), taking(kind))).collect(),
        }
    }
}

impl Compiled {
    /// The same policy on the scale of a scorecard.
    #[must_use]
    pub fn scaled(&self, scale: &Scale) -> Compiled {
        let mut scaled = self.clone();
        scaled.policy.score.base_points = scale.base;
        scaled.policy.score.healthy_min = scale.healthy_min;
        scaled.policy.score.at_risk_below = scale.at_risk_below;
        scaled
    }

    /// The same policy with the weights, points and bands of another one.
    #[must_use]
    pub fn weighed_as(&self, other: &Policy) -> Compiled {
        let mut weighed = self.clone();
        crate::weights::take_points(&mut weighed.policy, other);
        weighed
    }
}

impl std::ops::Deref for Compiled {
    type Target = Policy;
    fn deref(&self) -> &Policy {
        &self.policy
    }
}

impl fmt::Display for Compiled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.policy.name, self.version)
    }
}

fn findings(policy: &Policy) -> u64 {
    let (rules, chance) = (&policy.corroboration, &policy.calibration);
    let said = (
        &policy.signals,
        (&chance.volumes, &chance.drop, &chance.rise, &chance.decline),
        (rules.beyond_one, rules.shared_events, rules.groups_high),
    );
    // What is a policy can be written, as its version shows.
    let text = serde_json::to_string(&said).unwrap_or_default();
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

fn readings_version(policy: &Policy) -> String {
    let signals = policy.signals.iter().map(|signal| {
        serde_json::json!([
            signal.name,
            signal.direction,
            signal.aggregate,
            signal.effect_full_pct,
            signal.counted,
            signal.matches
        ])
    });
    let signals: serde_json::Value = signals.collect();
    let upside = policy.score.upside_share.to_string();
    content_id(&[&signals.to_string(), &upside])[..VERSION_CHARS].to_owned()
}

/// The same with the sequences, where there are any.
fn examples_version(policy: &Policy) -> String {
    let readings = readings_version(policy);
    if policy.sequences.is_empty() {
        return readings;
    }
    let of = |sequence: &Sequence| {
        serde_json::json!([sequence.name, sequence.when, sequence.fades_days])
    };
    let sequences: serde_json::Value = policy.sequences.iter().map(of).collect();
    content_id(&[&readings, &sequences.to_string()])[..VERSION_CHARS].to_owned()
}

impl Compiled {
    /// Reads and checks a policy. `file` names it in errors.
    pub fn parse(file: &str, text: &str) -> Result<Compiled, PolicyError> {
        let policy: Policy =
            toml::from_str(text).map_err(|error| syntax_error(file, text, &error))?;
        Compiled::check(file, policy)
    }

    /// Checks a policy that was put together in memory.
    pub fn check(file: &str, mut policy: Policy) -> Result<Compiled, PolicyError> {
        for signal in &mut policy.signals {
            if signal.label.is_empty() {
                signal.label = signal.name.replace('_', " ");
            }
        }
        crate::policy_check::check(file, &policy)?;
        let keys = policy.signals.iter().map(|signal| SignalKey::of(&signal.name));
        let keys = keys.chain(policy.sequences.iter().map(Sequence::key)).collect();
        let canonical = serde_json::to_string(&policy).map_err(|error| PolicyError {
            file: file.to_owned(),
            key: "(all)".to_owned(),
            message: error.to_string(),
        })?;
        let hash = xxhash_rust::xxh3::xxh3_128(canonical.as_bytes());
        let version = format!("{hash:032x}")[..VERSION_CHARS].to_owned();
        let findings = findings(&policy);
        let versions = [readings_version(&policy), examples_version(&policy)];
        let [readings_version, examples_version] = versions;
        let candidates = Candidates::of(&policy.signals);
        let values_kept = values_kept(&policy);
        Ok(Compiled {
            policy,
            version,
            readings_version,
            examples_version,
            findings,
            keys,
            values_kept,
            candidates,
        })
    }

    /// The default policy.
    ///
    /// # Panics
    /// Never: a test parses the file that is compiled in.
    #[must_use]
    pub fn default_policy() -> Compiled {
        Compiled::parse("default.toml", DEFAULT_TOML)
            .expect("the built-in policy is checked by a test")
    }

    /// This policy with further signals and sequences.
    pub fn with_signals(&self, file: &str, more: &Policy) -> Result<Compiled, PolicyError> {
        let mut policy = self.policy.clone();
        policy.name = format!("{} + {}", policy.name, more.name);
        policy.signals.extend(more.signals.iter().cloned());
        policy.sequences.extend(more.sequences.iter().cloned());
        Compiled::check(file, policy)
    }

    /// A hash of what decides which findings there are, and how rare they are called. Counts of findings are of use as long as it stays.
    #[must_use]
    pub fn findings(&self) -> u64 {
        self.findings
    }

    /// The version: 12 hexadecimal digits of a hash (XXH3-128) of the complete policy.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A hash of what the readings of examples depend on, the sequences among them: those of two policies can be learned from together as
    /// long as it is the same. 12 hexadecimal digits.
    #[must_use]
    pub fn examples_version(&self) -> &str {
        &self.examples_version
    }

    /// A hash of what the readings of the policy's signals depend on: a scorecard that was learned under one policy can be used under another
    /// one as long as it is the same. 12 hexadecimal digits.
    #[must_use]
    pub fn readings_version(&self) -> &str {
        &self.readings_version
    }

    /// Whether a signal may confirm others ([`Signal::is_evidence`]); unknown ones may not.
    #[must_use]
    pub fn corroborates(&self, signal: &str) -> bool {
        self.policy.signals.iter().any(|of| of.name == signal && of.is_evidence())
    }

    /// Whether alerts of a kind rest on a plain condition.
    #[must_use]
    pub fn is_condition(&self, kind: &str) -> bool {
        self.policy.conditions.iter().any(|condition| condition.kind == kind)
    }

    /// Whether alerts of a kind are good news: by a condition that is no risk, or a rise of several signals.
    #[must_use]
    pub fn is_chance(&self, kind: &str) -> bool {
        let of = self.policy.conditions.iter().find(|condition| condition.kind == kind);
        of.map_or(kind == SPIKE_KIND, |condition| !condition.risk)
    }

    /// The signals that an event feeds, by their places, rising.
    pub fn fed_by<'a>(&'a self, event: &'a Event) -> impl Iterator<Item = usize> + 'a {
        let Candidates { named, others } = &self.candidates;
        let of_type = named.get(&event.kind);
        let candidates = of_type.unwrap_or(others).iter().copied();
        candidates.filter(move |&index| {
            let signal = &self.policy.signals[index];
            (of_type.is_some() || signal.takes_type(event)) && signal.takes_rest(event)
        })
    }

    /// The persisted keys of the signals, in policy order.
    #[must_use]
    pub fn keys(&self) -> &[SignalKey] {
        &self.keys[..self.policy.signals.len()]
    }

    /// The persisted keys of an account's states: of the signals, and behind them of the sequences, in policy order.
    #[must_use]
    pub fn state_keys(&self) -> &[SignalKey] {
        &self.keys
    }

    /// How many of its last values are kept of a signal, for runs of single interactions.
    #[must_use]
    pub fn values_kept(&self, index: usize) -> usize {
        self.values_kept.get(index).copied().unwrap_or(0)
    }

    /// How long event time may run out of order.
    #[must_use]
    pub fn lateness_ms(&self) -> i64 {
        i64::from(self.policy.admission.lateness_minutes) * MINUTE_MS
    }

    /// By how much event time timers may lie behind before an input waits for them.
    #[must_use]
    pub fn close_lag_ms(&self) -> i64 {
        let close = &self.policy.close;
        i64::from(close.lag_minutes.min(close.settle_minutes)) * MINUTE_MS
    }

    /// How far back an event may lie when it is received.
    #[must_use]
    pub fn history_ms(&self) -> i64 {
        i64::from(self.policy.admission.history_days) * DAY_MS
    }

    /// How old an event may be.
    #[must_use]
    pub fn grace_ms(&self) -> i64 {
        i64::from(self.policy.admission.grace_hours) * HOUR_MS
    }

    /// How far ahead an event may be.
    #[must_use]
    pub fn future_ms(&self) -> i64 {
        i64::from(self.policy.admission.future_minutes) * MINUTE_MS
    }

    /// Closed days that late events may still change.
    #[must_use]
    pub fn grace_days(&self) -> i32 {
        let hours = self.policy.admission.grace_hours + 24;
        i32::try_from(hours.div_ceil(24)).unwrap_or(8)
    }

    /// Weight of each category and of the whole, for sub-scores.
    #[must_use]
    pub fn category_weights(&self) -> BTreeMap<Category, f64> {
        let mut weights = BTreeMap::new();
        for signal in &self.policy.signals {
            *weights.entry(signal.category).or_insert(0.0) += signal.weight;
        }
        for sequence in &self.policy.sequences {
            *weights.entry(sequence.category).or_insert(0.0) += sequence.weight;
        }
        *weights.entry(Category::Engagement).or_insert(0.0) += self.policy.score.recency_points;
        *weights.entry(Category::Relationship).or_insert(0.0) += self.policy.score.tenure_points;
        weights
    }
}

fn syntax_error(file: &str, text: &str, error: &toml::de::Error) -> PolicyError {
    let key = error.span().map_or_else(
        || "(file)".to_owned(),
        |span| {
            let before = text.get(..span.start).unwrap_or("");
            let line = before.matches('\n').count() + 1;
            format!("line {line}, `{}`", text.lines().nth(line - 1).unwrap_or("").trim())
        },
    );
    PolicyError { file: file.to_owned(), key, message: error.message().replace('\n', " ") }
}

/// The longest reference and guard that the ring holds, in weeks.
pub(crate) const HISTORY_WEEKS_MAX: u16 = (RING_DAYS / 7) as u16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{AccountId, EventId};
    use crate::time::Millis;

    /// Looking a type up finds what asking every signal finds.
    #[test]
    fn an_event_feeds_the_signals_that_take_it() {
        let policy = Compiled::default_policy();
        let named = policy.signals.iter().flat_map(|signal| &signal.matches.types);
        let kinds = named.map(|kind| kind.replace('*', "anything"));
        let kinds = kinds.chain(["session.".to_owned(), "coffee".to_owned(), String::new()]);
        let mut fed = 0;
        for kind in kinds {
            let event = Event {
                id: EventId::new("1").expect("valid"),
                account: AccountId::new("acme").expect("valid"),
                occurred_at: Millis(0),
                kind,
                member: None,
                role: Some("admin".to_owned()),
                feature: Some("data.export.all".to_owned()),
                value: Some(1.0),
                segment: None,
            };
            let each = policy.signals.iter().enumerate();
            let each = each.filter(|(_, signal)| signal.takes(&event)).map(|(index, _)| index);
            let found: Vec<usize> = policy.fed_by(&event).collect();
            assert_eq!(found, each.collect::<Vec<_>>(), "{}", event.kind);
            fed += found.len();
        }
        assert!(fed > 20, "{fed}");
    }
}
