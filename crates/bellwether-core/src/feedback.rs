//! What became of alerts: what people said of them, whether somebody acted, and whether the account stayed.
//!
//! Each account keeps its latest alerts for as long as that is open ([`Raised`]). What becomes known is a [`Fact`]; partitions tell each
//! other theirs, so each knows the sums of every cohort ([`Results`]), in state, whatever process asks.
//!
//! - **Right or wrong**: the verdicts of people, the last one of each alert. They set how rare a kind's alerts must be in a cohort
//!   ([`Sensitivity`]), within the bounds of the policy.
//! - **Warned in time**: of the accounts that were lost, those with an urgent alert in the `feedback.horizon_days` before.
//! - **Acted or not**: whether accounts stayed for `feedback.horizon_days` after an urgent alert: no loss was told, and they were active in
//!   the last four weeks of it. Accounts that left before anyone
//!   could act would count against not acting, so the two are compared among those that were still there after
//!   `feedback.acted_days` (a landmark analysis: Anderson, Cain and Gelber 1983). Who acts chooses where; only the control group,
//!   chosen by hash, whose alerts are withheld (`feedback.control_share`), compares like with like.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::account::{Account, Row};
use crate::alert::OpenAlert;
use crate::cohort::{Cohort, CohortKey, CohortRow, Cohorts};
use crate::event::{Outcome, OutcomeKind};
use crate::fleet::Message;
use crate::id::AccountId;
use crate::output::{Maturity, Severity};
use crate::policy::FeedbackPolicy;
use crate::reject::{Reason, Reject};
use crate::step::Core;
use crate::time::{DAY_MS, HOUR_MS, Millis};

/// Alerts of an account that are followed at most, besides those that are open; of more, the oldest are followed no longer.
pub const RAISED_MAX: usize = 32;
/// Days before the end of the horizon in which an account must have been active to have stayed.
const ACTIVE_DAYS: i64 = 28;
/// Kinds of alerts that a cohort tells apart at most; of further ones nothing is counted.
const KINDS_MAX: usize = 64;

/// An alert of an account, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// The alert's id.
    pub alert: String,
    /// Its kind.
    pub kind: String,
    /// When it opened.
    pub opened_at: Millis,
    /// When it became urgent (high or critical).
    pub urgent_at: Option<Millis>,
    /// Whether it is not published, because its account is in the control group.
    pub withheld: bool,
    /// When somebody first acted on it.
    pub acted_at: Option<Millis>,
    /// Whether it was right, by the last word on it, and when that was said.
    pub verdict: Option<(bool, Millis)>,
    /// Whether it is known if the account stayed.
    pub over: bool,
}

/// In which way an account was alerted that stayed or was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Somebody acted within `feedback.acted_days`.
    Acted,
    /// Nobody did.
    NotActed,
    /// It was lost before that time was over.
    Early,
    /// Its alert was withheld.
    Withheld,
}

impl Group {
    /// All, in their order.
    pub const ALL: [Group; 4] = [Group::Acted, Group::NotActed, Group::Early, Group::Withheld];

    /// The group as it stands in metrics and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Group::Acted => "acted",
            Group::NotActed => "not_acted",
            Group::Early => "early",
            Group::Withheld => "withheld",
        }
    }
}

/// Something that became known of an alert or an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// An alert became urgent.
    Urgent {
        /// Its kind.
        kind: String,
        /// Whether it was withheld.
        withheld: bool,
    },
    /// Somebody said whether an alert was right.
    Judged {
        /// Its kind.
        kind: String,
        /// The verdict.
        right: bool,
        /// When it was said.
        at: Millis,
        /// The verdict that it replaces.
        before: Option<(bool, Millis)>,
    },
    /// Somebody acted on an alert.
    Acted {
        /// Its kind.
        kind: String,
        /// Milliseconds after it opened.
        after_ms: i64,
    },
    /// The horizon after an urgent alert is over, or its account is lost.
    Followed {
        /// Its kind.
        kind: String,
        /// In which way the account was alerted.
        group: Group,
        /// Whether it stayed: no loss was told, and it was active in the last four weeks of the horizon.
        stayed: bool,
    },
    /// An account was lost.
    Lost {
        /// Milliseconds since the first urgent alert within the horizon before.
        warned_ms: Option<i64>,
        /// Whether that alert was withheld.
        withheld: bool,
    },
}

/// A fact and where it counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FactRecord {
    /// The cohort of the account.
    pub cohort: String,
    /// What became known.
    pub fact: Fact,
}

/// Upper ends of the classes of a [`Spread`], in hours; a last class is above them all.
pub const SPREAD_HOURS: [u32; 15] =
    [1, 4, 8, 24, 48, 72, 120, 168, 240, 336, 504, 672, 1008, 1344, 2016];

/// Spans of time, counted by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spread([u32; SPREAD_HOURS.len() + 1]);

impl Spread {
    fn add(&mut self, span_ms: i64) {
        let hours = span_ms as f64 / HOUR_MS as f64;
        let class = SPREAD_HOURS.iter().take_while(|&&end| f64::from(end) < hours).count();
        self.0[class] += 1;
    }

    fn merge(&mut self, other: &Spread) {
        self.0.iter_mut().zip(other.0).for_each(|(count, other)| *count += other);
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.iter().sum()
    }

    /// The median in hours, interpolated within its class (12 weeks where it lies above); none without any.
    #[must_use]
    pub fn median_hours(&self) -> Option<f64> {
        let half = f64::from(self.count()) / 2.0;
        let mut below = 0.0;
        for (class, &count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = f64::from(count);
            if below + count >= half {
                let end = |class: usize| f64::from(SPREAD_HOURS[class.min(SPREAD_HOURS.len() - 1)]);
                let begin = if class == 0 { 0.0 } else { end(class - 1) };
                return Some(begin + (end(class) - begin) * (half - below) / count);
            }
            below += count;
        }
        None
    }
}

/// Verdicts, those of long ago counting less: halved every `feedback.half_life_days`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Weights {
    right: f64,
    wrong: f64,
    /// The time as of which they are weighed.
    at: Millis,
}

impl Weights {
    fn decay(from: Millis, to: Millis, rules: &FeedbackPolicy) -> f64 {
        let days = (to.0 - from.0).max(0) as f64 / DAY_MS as f64;
        (-days / f64::from(rules.half_life_days)).exp2()
    }

    fn as_of(&self, at: Millis, rules: &FeedbackPolicy) -> Weights {
        let decay = Weights::decay(self.at, at, rules);
        Weights { right: self.right * decay, wrong: self.wrong * decay, at: self.at.max(at) }
    }

    /// Adds one verdict, or takes one back.
    fn add(&mut self, (right, at): (bool, Millis), sign: f64, rules: &FeedbackPolicy) {
        *self = self.as_of(at, rules);
        let weight = sign * Weights::decay(at, self.at, rules);
        let sum = if right { &mut self.right } else { &mut self.wrong };
        *sum = (*sum + weight).max(0.0);
    }
}

/// What became of the alerts of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct KindResults {
    /// Alerts that became urgent and were published.
    pub urgent: u64,
    /// Those that were withheld.
    pub withheld: u64,
    /// Alerts that were right, by the last word on each.
    pub right: u64,
    /// Those that were wrong.
    pub wrong: u64,
    /// Both, as they count for [`Sensitivity`].
    pub weights: Weights,
    /// From the opening of an alert until somebody first acted on it.
    pub intervention: Spread,
    /// Accounts after an urgent alert, by [`Group`]: lost, stayed.
    pub followed: [[u64; 2]; 4],
}

impl KindResults {
    /// Accounts of a group: lost, stayed.
    #[must_use]
    pub fn group(&self, group: Group) -> [u64; 2] {
        self.followed[group as usize]
    }

    /// By how much more often (above 1) or less often alerts of the kind may come by chance, by what was said of them: the odds of being
    /// right, shrunk to the target by `feedback.prior_verdicts`, over those of the target.
    #[must_use]
    pub fn sensitivity(&self, rules: &FeedbackPolicy, at: Millis) -> f64 {
        if !rules.adjust || self.right + self.wrong == 0 {
            return 1.0;
        }
        let said = self.weights.as_of(at, rules);
        let (target, prior) = (rules.precision_target, rules.prior_verdicts);
        let odds = (said.right + target * prior) / (said.wrong + (1.0 - target) * prior);
        (odds * (1.0 - target) / target).clamp(rules.strictest, rules.loosest)
    }

    fn merge(&mut self, other: &KindResults) {
        self.urgent += other.urgent;
        self.withheld += other.withheld;
        self.right += other.right;
        self.wrong += other.wrong;
        self.intervention.merge(&other.intervention);
        for (group, other) in self.followed.iter_mut().zip(other.followed) {
            group.iter_mut().zip(other).for_each(|(count, other)| *count += other);
        }
    }
}

/// Accounts that were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LostResults {
    /// With an urgent alert within the horizon before.
    pub warned: u64,
    /// Without one.
    pub unwarned: u64,
    /// With one that was withheld.
    pub withheld: u64,
    /// From the first urgent alert until the account was lost.
    pub lead: Spread,
}

/// What became of the alerts and accounts of a cohort.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Results {
    /// Facts behind it.
    pub facts: u64,
    /// By kind of alert.
    pub kinds: BTreeMap<String, KindResults>,
    /// Accounts that were lost.
    pub lost: LostResults,
}

impl Results {
    /// Adds a fact.
    pub fn learn(&mut self, fact: Fact, rules: &FeedbackPolicy) {
        self.facts += 1;
        match fact {
            Fact::Urgent { kind, withheld } => {
                let Some(of) = self.of(kind) else { return };
                *(if withheld { &mut of.withheld } else { &mut of.urgent }) += 1;
            }
            Fact::Judged { kind, right, at, before } => {
                let Some(of) = self.of(kind) else { return };
                if let Some(before) = before {
                    let count = if before.0 { &mut of.right } else { &mut of.wrong };
                    *count = count.saturating_sub(1);
                    of.weights.add(before, -1.0, rules);
                }
                *(if right { &mut of.right } else { &mut of.wrong }) += 1;
                of.weights.add((right, at), 1.0, rules);
            }
            Fact::Acted { kind, after_ms } => {
                if let Some(of) = self.of(kind) {
                    of.intervention.add(after_ms);
                }
            }
            Fact::Followed { kind, group, stayed } => {
                if let Some(of) = self.of(kind) {
                    of.followed[group as usize][usize::from(stayed)] += 1;
                }
            }
            Fact::Lost { warned_ms: Some(warned_ms), withheld: false } => {
                self.lost.warned += 1;
                self.lost.lead.add(warned_ms);
            }
            Fact::Lost { withheld: true, .. } => self.lost.withheld += 1,
            Fact::Lost { warned_ms: None, .. } => self.lost.unwarned += 1,
        }
    }

    fn of(&mut self, kind: String) -> Option<&mut KindResults> {
        let has_room = self.kinds.len() < KINDS_MAX || self.kinds.contains_key(&kind);
        has_room.then(|| self.kinds.entry(kind).or_default())
    }

    /// Adds another cohort's; how verdicts weigh is each cohort's own.
    pub fn merge(&mut self, other: &Results) {
        self.facts += other.facts;
        for (kind, of) in &other.kinds {
            self.kinds.entry(kind.clone()).or_default().merge(of);
        }
        self.lost.warned += other.lost.warned;
        self.lost.unwarned += other.lost.unwarned;
        self.lost.withheld += other.lost.withheld;
        self.lost.lead.merge(&other.lost.lead);
    }
}

/// By how much more or less often alerts of each kind may come by chance; 1 for those that are not listed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sensitivity(Vec<(String, f64)>);

impl Sensitivity {
    /// That of a kind.
    #[must_use]
    pub fn of(&self, kind: &str) -> f64 {
        self.0.iter().find(|(known, _)| known == kind).map_or(1.0, |(_, factor)| *factor)
    }
}

impl Cohort {
    /// What became of its alerts and accounts, in all partitions.
    #[must_use]
    pub fn results(&self) -> Option<&Results> {
        self.results.as_deref()
    }

    /// What verdicts say of each kind at a time.
    #[must_use]
    pub fn sensitivity(&self, rules: &FeedbackPolicy, at: Millis) -> Sensitivity {
        let kinds = self.results().into_iter().flat_map(|results| &results.kinds);
        let kinds = kinds.map(|(kind, of)| (kind, of.sensitivity(rules, at)));
        let moved = kinds.filter(|(_, factor)| factor.to_bits() != 1.0_f64.to_bits());
        Sensitivity(moved.map(|(kind, factor)| (kind.clone(), factor)).collect())
    }
}

impl Core {
    /// Tells what became known of an account.
    pub(crate) fn report(&self, account: &mut Account, cohorts: &mut Cohorts) {
        for fact in std::mem::take(&mut account.facts) {
            let cohort = account.segment().unwrap_or_default().to_owned();
            let record = FactRecord { cohort, fact };
            if self.is_among_others() {
                cohorts.send(Message::Fact(record));
            } else {
                self.learn_fact(cohorts, record);
            }
        }
    }

    /// Something that became known, here or in another partition.
    pub(crate) fn learn_fact(&self, cohorts: &mut Cohorts, record: FactRecord) {
        let cohort = cohorts.named(Some(&record.cohort));
        let mut results = cohort.results().cloned().unwrap_or_default();
        results.learn(record.fact, &self.policy.feedback);
        cohort.put(CohortKey::Results, Some(CohortRow::Results(Box::new(results))));
    }
}

/// Whether an account's alerts are withheld: its id's hash falls into the control group.
#[must_use]
pub fn is_control(id: &AccountId, rules: &FeedbackPolicy) -> bool {
    let hash = xxhash_rust::xxh3::xxh3_64(format!("control\u{1f}{id}").as_bytes());
    rules.control_share > 0.0 && (hash as f64) < rules.control_share * 2.0_f64.powi(64)
}

/// Whether an alert of an account is not published.
pub(crate) fn is_withheld(account: &Account, alert: &str) -> bool {
    account.raised.iter().any(|raised| raised.withheld && raised.alert == alert)
}

/// Follows an alert that just opened, or came back: once it is known what became of the account, what comes is another chapter.
pub(crate) fn opened(account: &mut Account, alert: &OpenAlert, at: Millis, rules: &FeedbackPolicy) {
    if let Some(raised) = account.raised.iter_mut().find(|raised| raised.alert == alert.id) {
        if std::mem::take(&mut raised.over) {
            (raised.opened_at, raised.verdict) = (at, None);
            (raised.urgent_at, raised.acted_at) = (None, None);
            account.changed.note(Row::Raised);
        }
        return;
    }
    let withheld = is_control(&account.id, rules);
    account.raised.push(Raised { withheld, ..Raised::of(alert) });
    account.changed.note(Row::Raised);
    let open = &account.hot.alerts;
    let is_open = |raised: &Raised| open.iter().any(|known| known.id == raised.alert);
    let is_new = |raised: &Raised| raised.alert == alert.id;
    while account.raised.len() > RAISED_MAX {
        let oldest = account.raised.iter().position(|raised| !is_open(raised) && !is_new(raised));
        let Some(oldest) = oldest else { break };
        account.raised.remove(oldest);
    }
}

/// Notes that an alert is as severe as this from now on.
pub(crate) fn became(account: &mut Account, alert: &str, severity: Severity, at: Millis) {
    let found = account.raised.iter_mut().find(|raised| raised.alert == alert);
    let Some(raised) = found.filter(|raised| raised.urgent_at.is_none()) else { return };
    if severity.is_urgent() {
        raised.urgent_at = Some(at);
        account.facts.push(Fact::Urgent { kind: raised.kind.clone(), withheld: raised.withheld });
        account.changed.note(Row::Raised);
    }
}

/// Ends what is followed of alerts whose horizon is over: the account stayed, if it was active. A dormant one is not looked at again.
pub(crate) fn follow(account: &mut Account, rules: &FeedbackPolicy, at: Millis) {
    let dormant = crate::close::maturity(account) == Maturity::Dormant;
    let active_at = account.hot.last_event_at;
    for raised in account.raised.iter_mut().filter(|raised| !raised.over) {
        let Some(end) = raised.urgent_at.map(|urgent| urgent.plus(rules.horizon_ms())) else {
            continue;
        };
        if end <= at || dormant {
            let active = active_at.is_some_and(|active| active > end.plus(-ACTIVE_DAYS * DAY_MS));
            let lost_at = if active { None } else { active_at.or(Some(end)) };
            account.facts.extend(raised.end(lost_at, rules));
            account.changed.note(Row::Raised);
        }
    }
}

/// The account was lost.
pub(crate) fn lost(account: &mut Account, rules: &FeedbackPolicy, at: Millis) {
    let begin = at.plus(-rules.horizon_ms());
    let is_warning =
        |raised: &Raised| raised.urgent_at.filter(|urgent| (begin..=at).contains(urgent));
    let first = account.raised.iter().filter_map(|raised| Some((is_warning(raised)?, raised)));
    let first = first.min_by_key(|(urgent, _)| *urgent);
    let (warned_ms, withheld) =
        (first.map(|(urgent, _)| at.0 - urgent.0), first.is_some_and(|(_, first)| first.withheld));
    account.facts.push(Fact::Lost { warned_ms, withheld });
    for raised in account.raised.iter_mut().filter(|raised| !raised.over) {
        if is_warning(raised).is_some() {
            account.facts.extend(raised.end(Some(at), rules));
            account.changed.note(Row::Raised);
        }
    }
}

/// Takes what somebody said of an alert of an account, or says why not.
pub(crate) fn told(account: &mut Account, outcome: &Outcome) -> Result<(), Reject> {
    let at = outcome.occurred_at;
    let Some(alert) = &outcome.alert_id else {
        let detail = "alert_id is missing: feedback says which alert it is about";
        return Err(Reject::new(Reason::InvalidField, detail));
    };
    // Alerts that opened before alerts were followed are followed from now on.
    if !account.raised.iter().any(|raised| raised.alert == *alert) {
        let open = account.hot.alerts.iter().find(|known| known.id == *alert).map(Raised::of);
        account.raised.extend(open);
    }
    let Some(raised) = account.raised.iter_mut().find(|raised| raised.alert == *alert) else {
        let detail = format!(
            "alert {alert} of account {} is not known; its latest {RAISED_MAX} alerts are",
            outcome.account
        );
        return Err(Reject::new(Reason::UnknownAlert, detail));
    };
    if at < raised.opened_at {
        let detail =
            format!("occurred_at is {at}, before alert {alert} opened, at {}", raised.opened_at);
        return Err(Reject::new(Reason::OutOfRange, detail));
    }
    let kind = raised.kind.clone();
    let fact = if outcome.kind == OutcomeKind::Actioned {
        if raised.acted_at.is_some_and(|known| known <= at) {
            let detail = format!("that alert {alert} was acted on is known");
            return Err(Reject::new(Reason::Duplicate, detail));
        }
        // Records may overtake each other: the first that arrived counts for the time, the earliest for the group.
        let news = raised.acted_at.replace(at).is_none();
        news.then_some(Fact::Acted { kind, after_ms: at.0 - raised.opened_at.0 })
    } else {
        let right = outcome.kind == OutcomeKind::Confirmed;
        if let Some((known, since)) = raised.verdict.filter(|(_, since)| *since >= at) {
            let detail = format!("alert {alert} was judged at {since} already");
            let again = (known, since) == (right, at);
            let reason = if again { Reason::Duplicate } else { Reason::TooLate };
            return Err(Reject::new(reason, detail));
        }
        let before = raised.verdict.replace((right, at));
        Some(Fact::Judged { kind, right, at, before })
    };
    account.facts.extend(fact);
    account.changed.note(Row::Raised);
    Ok(())
}

impl Raised {
    fn of(alert: &OpenAlert) -> Raised {
        Raised {
            alert: alert.id.clone(),
            kind: alert.kind.clone(),
            opened_at: alert.opened_at,
            urgent_at: None,
            withheld: false,
            acted_at: None,
            verdict: None,
            over: false,
        }
    }

    /// What is known at the end: the account stayed, or was lost at a time.
    fn end(&mut self, lost_at: Option<Millis>, rules: &FeedbackPolicy) -> Option<Fact> {
        self.over = true;
        let landmark = self.urgent_at?.plus(i64::from(rules.acted_days) * DAY_MS);
        let group = if self.withheld {
            Group::Withheld
        } else if lost_at.is_some_and(|at| at < landmark) {
            Group::Early
        } else if self.acted_at.is_some_and(|at| at < landmark) {
            Group::Acted
        } else {
            Group::NotActed
        };
        Some(Fact::Followed { kind: self.kind.clone(), group, stayed: lost_at.is_none() })
    }
}
