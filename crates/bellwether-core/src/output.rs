//! What goes out: score changes, the health record of an account, and alert events. The Avro schemas of the same
//! names mirror these types field by field.

use serde::{Deserialize, Serialize};

use crate::calendar::Span;
use crate::figure::figures;
use crate::headline::Headline;
use crate::id::AccountId;
use crate::intraday::Verdict;
use crate::points::Points;
use crate::priority::PriorityPart;
use crate::time::{Day, Millis};

/// The area of customer behaviour that a signal belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Logins, active members, session length.
    Engagement,
    /// Breadth and depth of what is used.
    Adoption,
    /// Tickets, escalations, sentiment.
    Support,
    /// Payments, seats, downgrade intent.
    Financial,
    /// Meetings, surveys, sponsors.
    Relationship,
}

impl Category {
    /// Every category, in the order in which they are shown.
    pub const ALL: [Category; 5] = [
        Category::Engagement,
        Category::Adoption,
        Category::Support,
        Category::Financial,
        Category::Relationship,
    ];

    /// The category as it stands in records and policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Category::Engagement => "engagement",
            Category::Adoption => "adoption",
            Category::Support => "support",
            Category::Financial => "financial",
            Category::Relationship => "relationship",
        }
    }
}

/// What a score means for the people who act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// Needs help now.
    AtRisk,
    /// Neither.
    Neutral,
    /// Doing well.
    Healthy,
}

impl Band {
    /// The band as it stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Band::AtRisk => "at_risk",
            Band::Neutral => "neutral",
            Band::Healthy => "healthy",
        }
    }

    /// The band as people read it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Band::AtRisk => "At-Risk",
            Band::Neutral => "Neutral",
            Band::Healthy => "Healthy",
        }
    }
}

/// How much history stands behind an account's baselines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maturity {
    /// Too little history to judge anything.
    Learning,
    /// New: exploring slowly is not a risk yet.
    Onboarding,
    /// Judged against its own baseline.
    Established,
    /// Silent for as long as history reaches; days are no longer closed until an event arrives.
    Dormant,
}

impl Maturity {
    /// The maturity as it stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Maturity::Learning => "learning",
            Maturity::Onboarding => "onboarding",
            Maturity::Established => "established",
            Maturity::Dormant => "dormant",
        }
    }
}

/// One line of a score's explanation. The lines of a record sum exactly to its score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// A signal's or a sequence's name, or one of `base`, `recency`, `frequency`, `tenure`, `clip`; under a learned scorecard also one of
    /// [`Trait`](crate::standing::Trait).
    pub name: String,
    /// The category whose sub-score it belongs to; none for `base` and `clip`.
    pub category: Option<Category>,
    /// Hundredths of a point.
    pub points: Points,
    /// What was measured, in the signal's unit; none where nothing was.
    pub observed: Option<f64>,
    /// What is normal for this account, in the signal's unit.
    pub baseline: Option<f64>,
    /// The unit of both, e.g. `logins/week`.
    pub unit: String,
}

/// A sub-score: how one category stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubScore {
    /// The category.
    pub category: Category,
    /// 0 to 10,000 hundredths; derived from `points` for people to read.
    pub score: Points,
    /// The exact sum of the category's contributions.
    pub points: Points,
}

/// A deviation that counts: one signal that left its own normal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The signal.
    pub signal: String,
    /// Its category.
    pub category: Category,
    /// Its correlation group; signals of one group count once.
    pub group: String,
    /// What is observed since the onset, in the signal's unit.
    pub observed: f64,
    /// What is normal for this account, in the same unit.
    pub baseline: f64,
    /// The unit of both.
    pub unit: String,
    /// `observed` against `baseline` in percent; none where the baseline is zero.
    pub change_pct: Option<f64>,
    /// Standardised deviation; negative is below the baseline.
    pub z: f64,
    /// Whether this direction is bad news for the account.
    pub risk: bool,
    /// The first day of the deviation, as far as it can be dated.
    pub onset: Day,
    /// The window that shows it most clearly, in days; 0 for a run of single events.
    pub window_days: u16,
    /// One sentence for people.
    pub text: String,
}

impl Evidence {
    /// Whether it is a run of single interactions and not a measured window.
    #[must_use]
    pub fn is_run(&self) -> bool {
        self.window_days == 0
    }
}

/// One line of a score change: the difference of a contribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Movement {
    /// As in [`Contribution::name`].
    pub name: String,
    /// As in [`Contribution::category`].
    pub category: Option<Category>,
    /// Hundredths of a point gained or lost since the last published record.
    pub delta: Points,
    /// Hundredths of a point that it contributes now.
    pub points: Points,
}

/// A published movement of a score. `movements` sum exactly to `score - previous_score`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreChanged {
    /// Deterministic id.
    pub id: String,
    /// The account.
    pub account_id: AccountId,
    /// Counts the published records of the account from 1.
    pub sequence: u64,
    /// Event time of the change.
    pub at: Millis,
    /// The score now, hundredths.
    pub score: Points,
    /// The score last published; none for the first record.
    pub previous_score: Option<Points>,
    /// The band now.
    pub band: Band,
    /// The band last published.
    pub previous_band: Option<Band>,
    /// Every line that moved.
    pub movements: Vec<Movement>,
    /// Sub-scores now.
    pub sub_scores: Vec<SubScore>,
    /// Maturity now.
    pub maturity: Maturity,
    /// The policy that was in force.
    pub policy_version: String,
    /// The scorecard that was in force.
    pub model_version: String,
}

/// The latest full health record of an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthRecord {
    /// The account.
    pub account_id: AccountId,
    /// Its name, where a profile gave one.
    pub name: Option<String>,
    /// Its segment.
    pub segment: Option<String>,
    /// As in [`ScoreChanged::sequence`].
    pub sequence: u64,
    /// Event time of the record.
    pub at: Millis,
    /// The score, hundredths.
    pub score: Points,
    /// The band.
    pub band: Band,
    /// Maturity.
    pub maturity: Maturity,
    /// Every line; they sum exactly to `score`.
    pub contributions: Vec<Contribution>,
    /// Sub-scores.
    pub sub_scores: Vec<SubScore>,
    /// What deviates now.
    pub evidence: Vec<Evidence>,
    /// Days on which nothing is measured, by the calendar: of the last months, and of the next days.
    pub masked: Vec<Span>,
    /// Signals whose normal is a new one: a change that lasted.
    pub rebaselined: Vec<Rebaselined>,
    /// Ids of the alerts that are open.
    pub open_alerts: Vec<String>,
    /// Event time of the account's last event.
    pub last_event_at: Option<Millis>,
    /// The policy that was in force.
    pub policy_version: String,
    /// The scorecard that was in force.
    pub model_version: String,
}

/// A signal whose normal is a new one, because a change lasted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rebaselined {
    /// The signal.
    pub signal: String,
    /// The first day of what is normal now.
    pub since: Day,
    /// What was normal before, in the signal's unit.
    pub before: f64,
    /// What is normal now, in the same unit.
    pub now: f64,
    /// The unit of both.
    pub unit: String,
}

impl std::fmt::Display for Rebaselined {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Rebaselined { signal, since, before, now, unit } = self;
        let signal = signal.replace('_', " ");
        let (before, now) = figures(*before, *now);
        write!(formatter, "{signal}: {now} {unit} are normal since {since}, not {before}")
    }
}

/// How urgent an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For the record.
    Info,
    /// One signal, weakly.
    Low,
    /// One signal, strongly.
    Medium,
    /// At least two independent groups agree.
    High,
    /// At least three groups, or two and the absence of a key user.
    Critical,
}

impl Severity {
    /// Every severity, rising.
    pub const ALL: [Severity; 5] =
        [Severity::Info, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];

    /// The severity as it stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }

    /// Whether somebody should act at once: high or critical.
    #[must_use]
    pub fn is_urgent(self) -> bool {
        self >= Severity::High
    }
}

/// What happened to an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// It began.
    Opened,
    /// Its severity rose.
    Escalated,
    /// Its evidence changed materially; severity did not rise.
    Updated,
    /// It ended.
    Resolved,
    /// Somebody has taken it on.
    Acknowledged,
    /// Somebody wants to hear of it again at a later time.
    Snoozed,
    /// That time has come, and evidence still supports it.
    Woken,
    /// It came back within its refractory period, with news.
    Reopened,
}

impl Transition {
    /// Every transition.
    pub const ALL: [Transition; 8] = [
        Transition::Opened,
        Transition::Escalated,
        Transition::Updated,
        Transition::Resolved,
        Transition::Acknowledged,
        Transition::Snoozed,
        Transition::Woken,
        Transition::Reopened,
    ];

    /// Whether it begins what a person should look at: an alert that opened, or came back.
    #[must_use]
    pub fn begins(self) -> bool {
        matches!(self, Transition::Opened | Transition::Reopened)
    }

    /// The transition as it stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Transition::Opened => "opened",
            Transition::Escalated => "escalated",
            Transition::Updated => "updated",
            Transition::Resolved => "resolved",
            Transition::Acknowledged => "acknowledged",
            Transition::Snoozed => "snoozed",
            Transition::Woken => "woken",
            Transition::Reopened => "reopened",
        }
    }
}

/// Where an alert stands after an event of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// Nobody has taken it on.
    Open,
    /// Somebody has.
    Acknowledged,
    /// Somebody wants to hear of it again at a later time.
    Snoozed,
    /// It ended.
    Resolved,
}

impl AlertState {
    /// Every state.
    pub const ALL: [AlertState; 4] =
        [AlertState::Open, AlertState::Acknowledged, AlertState::Snoozed, AlertState::Resolved];

    /// The state as it stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Open => "open",
            AlertState::Acknowledged => "acknowledged",
            AlertState::Snoozed => "snoozed",
            AlertState::Resolved => "resolved",
        }
    }
}

/// Why an alert ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The signals came back to the baseline.
    Recovered,
    /// The deviation lasted so long that it is the new normal.
    Rebaselined,
    /// A corroborated alert of wider scope took it over.
    Folded,
    /// The account's outcome arrived.
    Outcome,
    /// The account fell silent for as long as history reaches.
    Dormant,
    /// The account was deleted.
    Forgotten,
    /// A person said so.
    Manual,
    /// Nothing new was known of it for `alerts.expire_days`.
    Expired,
    /// What was good news is none any more: a chance that has passed. (Nothing recovered. What an account keeps of it says
    /// [`Resolution::Recovered`], which every version of Bellwether reads.)
    Passed,
}

impl Resolution {
    /// The resolution as it stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Resolution::Recovered => "recovered",
            Resolution::Rebaselined => "rebaselined",
            Resolution::Folded => "folded",
            Resolution::Outcome => "outcome",
            Resolution::Dormant => "dormant",
            Resolution::Forgotten => "forgotten",
            Resolution::Manual => "manual",
            Resolution::Expired => "expired",
            Resolution::Passed => "passed",
        }
    }
}

/// How a corroborated change goes on in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Toward risk, since a day of the last eight weeks.
    Drop,
    /// Away from risk, since a day of the last week.
    Rise,
    /// Toward risk, a little every week for eight weeks or more.
    Decline,
}

impl Family {
    /// Every family.
    pub const ALL: [Family; 3] = [Family::Drop, Family::Rise, Family::Decline];

    /// The family as it stands in policy and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Drop => "drop",
            Family::Rise => "rise",
            Family::Decline => "decline",
        }
    }
}

/// One event in the life of an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertEvent {
    /// Deterministic id of this event.
    pub id: String,
    /// Id of the alert; a function of account, kind and the day it opened, so a replay cannot double it.
    pub alert_id: String,
    /// The account.
    pub account_id: AccountId,
    /// Its name, where a profile gave one.
    pub account_name: Option<String>,
    /// What kind of trouble (or chance), e.g. `churn_risk`, `usage_decline`.
    pub kind: String,
    /// What happened to the alert.
    pub transition: Transition,
    /// How urgent it is (at the end: how urgent it was at most).
    pub severity: Severity,
    /// Event time of this event.
    pub at: Millis,
    /// Event time at which the alert opened.
    pub opened_at: Millis,
    /// Where the alert stands now.
    pub state: AlertState,
    /// Until when it is snoozed, for that state.
    pub until: Option<Millis>,
    /// How often it came back so far.
    pub reopened: u32,
    /// Who did this, where a person did.
    pub by: Option<String>,
    /// What that person remarked.
    pub note: Option<String>,
    /// Why it ended, for `resolved`.
    pub resolution: Option<Resolution>,
    /// One line for people.
    pub title: String,
    /// The evidence as it stands, strongest first.
    pub evidence: Vec<Evidence>,
    /// The correlation groups that agree.
    pub groups: Vec<String>,
    /// How a corroborated change goes on in time, where this event rests on one.
    pub family: Option<Family>,
    /// How pressing it is among others, 0 to 100: the sum of `priority_parts`.
    pub priority: i32,
    /// Why: severity, renewal, value, plan.
    pub priority_parts: Vec<PriorityPart>,
    /// The score now, hundredths.
    pub score: Points,
    /// The band now.
    pub band: Band,
    /// The policy that was in force.
    pub policy_version: String,
    /// The scorecard that was in force.
    pub model_version: String,
}

/// What a single value of a watched signal amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The account.
    pub account_id: AccountId,
    /// The signal.
    pub signal: String,
    /// Event time.
    pub at: Millis,
    /// The value, in the signal's unit.
    pub value: f64,
    /// What it amounts to.
    pub verdict: Verdict,
}

impl AlertEvent {
    /// Whether it is about a cohort as a whole: `account_id` is `*` and the cohort's name then, and no account's.
    #[must_use]
    pub fn is_fleet(&self) -> bool {
        self.kind == crate::policy_check::FLEET_KIND
    }

    /// Its title, and what that stands beside.
    #[must_use]
    pub fn headline(&self) -> Headline<'_> {
        Headline {
            kind: &self.kind,
            title: &self.title,
            ended: self.resolution.map(Resolution::as_str),
            has_evidence: !self.evidence.is_empty(),
            is_fleet: self.is_fleet(),
        }
    }

    /// Whether events of one alert go back to its beginning: the one that opened it is among them.
    #[must_use]
    pub fn are_whole<'a>(events: impl IntoIterator<Item = &'a AlertEvent>) -> bool {
        events.into_iter().any(|event| event.transition == Transition::Opened)
    }
}

/// A score of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scored {
    /// Hundredths.
    pub score: Points,
    /// By the scale of that side.
    pub band: Band,
}

/// Two scores of an account at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// The scorecard in force.
    pub champion: Scored,
    /// The one that is tried beside it.
    pub challenger: Scored,
}

/// A line of either side's explanation.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowLine {
    /// As in [`Contribution::name`].
    pub name: String,
    /// As in [`Contribution::category`].
    pub category: Option<Category>,
    /// Hundredths of a point for the champion.
    pub champion: Points,
    /// Hundredths of a point for the challenger.
    pub challenger: Points,
}

/// What a challenger says of an account, beside the champion, when a day was judged. The lines of each side sum exactly to its score.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowScore {
    /// Deterministic id.
    pub id: String,
    /// The account.
    pub account_id: AccountId,
    /// Its segment.
    pub segment: Option<String>,
    /// The record that brought the challenger.
    pub shadow_id: String,
    /// Counts the records of the account under this challenger from 1.
    pub sequence: u64,
    /// Event time of the judgement.
    pub at: Millis,
    /// Both scores.
    pub sides: Beside,
    /// Every line that is not zero on both sides.
    pub lines: Vec<ShadowLine>,
    /// Maturity then.
    pub maturity: Maturity,
    /// The policy that was in force.
    pub policy_version: String,
    /// The champion's scorecard.
    pub model_version: String,
    /// The challenger's scorecard.
    pub challenger_version: String,
}

/// What a scorecard would read of an account at one moment: once it is known what became of the account, one can learn from it.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningExample {
    /// Deterministic id.
    pub id: String,
    /// The account.
    pub account_id: AccountId,
    /// Its segment.
    pub segment: Option<String>,
    /// Event time of the judgement: nothing that happened later is in the readings.
    pub at: Millis,
    /// Days of the horizon that the readings are made for, at least 1.
    pub horizon_days: u32,
    /// Days from one example of an account to its next, at least 1.
    pub step_days: u32,
    /// By name, in the order of names; none where there is no reading.
    pub readings: Vec<(String, Option<f64>)>,
    /// What the readings mean: the same for all policies whose readings are alike ([`Compiled::examples_version`]).
    ///
    /// [`Compiled::examples_version`]: crate::policy::Compiled::examples_version
    pub readings_version: String,
    /// The policy that was in force.
    pub policy_version: String,
}

/// Everything that the core publishes.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// For the score-changed topic.
    ScoreChanged(Box<ScoreChanged>),
    /// For the compacted score-current topic.
    Health(Box<HealthRecord>),
    /// For the alerts topic.
    Alert(Box<AlertEvent>),
    /// For the shadow topic.
    Shadow(Box<ShadowScore>),
    /// For the topic of examples.
    Example(Box<LearningExample>),
    /// The account is deleted: a tombstone for the score-current topic.
    Forgotten(AccountId),
}

impl Output {
    /// The change of a score that it is.
    #[must_use]
    pub fn score_changed(&self) -> Option<&ScoreChanged> {
        if let Output::ScoreChanged(change) = self { Some(change) } else { None }
    }

    /// The record that it is.
    #[must_use]
    pub fn health(&self) -> Option<&HealthRecord> {
        if let Output::Health(record) = self { Some(record) } else { None }
    }

    /// The event of an alert that it is.
    #[must_use]
    pub fn alert(&self) -> Option<&AlertEvent> {
        if let Output::Alert(event) = self { Some(event) } else { None }
    }

    /// The pair of scores that it is.
    #[must_use]
    pub fn shadow(&self) -> Option<&ShadowScore> {
        if let Output::Shadow(scores) = self { Some(scores) } else { None }
    }

    /// The example that it is.
    #[must_use]
    pub fn example(&self) -> Option<&LearningExample> {
        if let Output::Example(example) = self { Some(example) } else { None }
    }
}

/// What the scan of a closed day of an account found.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The account.
    pub account_id: AccountId,
    /// Its cohort; empty for those without.
    pub cohort: String,
    /// The day that was judged.
    pub day: Day,
    /// Event time of the judgement.
    pub at: Millis,
    /// Counts expected on an average day.
    pub volume: f64,
    /// The best statistic per family, in the order of [`Family::ALL`]; none where no set of groups passes the gate.
    pub statistics: [Option<f64>; 3],
    /// Every signal of the policy, in its order; empty for accounts that the observer does not want in detail.
    pub signals: Vec<SignalDay>,
}

/// What a signal brought on a day, and what was to be expected of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SignalDay {
    /// The day's value, in the signal's unit; NaN where nothing was measured.
    pub value: f64,
    /// None with too little reference.
    pub expected: Option<ExpectedDay>,
}

/// The values that are to be expected of a day, in the signal's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedDay {
    /// The mean.
    pub mean: f64,
    /// The variance of such days.
    pub variance: f64,
    /// The range of 95 in 100 such days.
    pub low: f64,
    /// As `low`.
    pub high: f64,
}

impl Output {
    /// The account, which is the record's key.
    #[must_use]
    pub fn account(&self) -> &AccountId {
        match self {
            Output::ScoreChanged(change) => &change.account_id,
            Output::Health(record) => &record.account_id,
            Output::Alert(event) => &event.account_id,
            Output::Shadow(beside) => &beside.account_id,
            Output::Example(example) => &example.account_id,
            Output::Forgotten(account) => account,
        }
    }
}
