//! The state of one account, as rows that change at different speeds.
//!
//! - [`Hot`]: open days, stored baselines, contributions, evidence, alerts; rewritten by every event.
//! - [`History`]: closed days; rewritten at day close.
//! - [`Forecast`]: what is expected of the open day; rewritten when the day before is judged, and when the day goes beyond it.
//! - [`Activity`] rows: one per distinct member or feature of a signal; a row changes at most once a day.
//! - the profile, as it arrived.
//! - what of the calendar concerns it, changes of level, the lives of its alerts, and what a learned scorecard said of it; rewritten when
//!   they change.
//!
//! Rows are plain values. [`Changed`] says which of them a store has to write.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::alert::OpenAlert;
use crate::calendar::{Span, masked_days};
use crate::chance::Own;
use crate::event::{OutcomeKind, Profile};
use crate::feedback::{Fact, Raised};
use crate::forecast::{Forecast, Limits};
use crate::history::{Activity, DayTotals, History};
use crate::id::AccountId;
use crate::intraday::{STATE_BYTES_MAX, Watch};
use crate::lazy::Lazy;
use crate::life::Life;
use crate::output::{Band, Evidence, Maturity};
use crate::points::Points;
use crate::ranking::Predicted;
use crate::rebaseline::Change;
use crate::rolling::Rolling;
use crate::shadow::Shadow;
use crate::standing::Line;
use crate::streams::Streams;
use crate::time::{Day, Millis, Zone};

/// Names a signal in persisted rows: a hash of its name, so that a policy may reorder its signals.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct SignalKey(pub u32);

impl SignalKey {
    /// The key of a signal's name. The policy refuses two names with one key.
    #[must_use]
    pub fn of(name: &str) -> SignalKey {
        SignalKey((xxhash_rust::xxh3::xxh3_64(name.as_bytes()) & u64::from(u32::MAX)) as u32)
    }
}

/// Names an activity row within an account: which signal counts it, and the distinct value (member or feature).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ActivityKey {
    /// The signal.
    pub signal: SignalKey,
    /// Member or feature.
    pub value: String,
}

/// By signal, and then by value.
impl Ord for ActivityKey {
    fn cmp(&self, other: &ActivityKey) -> Ordering {
        self.signal.cmp(&other.signal).then_with(|| by_text(&self.value, &other.value))
    }
}

impl PartialOrd for ActivityKey {
    fn partial_cmp(&self, other: &ActivityKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order of texts, many of which are empty. An empty one has no memory, and to compare it as the others costs a fault that the
/// processor has to suppress: with each event, it came to a tenth of a replay.
pub(crate) fn by_text(left: &str, right: &str) -> Ordering {
    match (left.is_empty(), right.is_empty()) {
        (false, false) => left.cmp(right),
        (left, right) => right.cmp(&left),
    }
}

/// A baseline as the last day close left it: what events are compared with in O(1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StoredBaseline {
    /// The normal level of a seven-day window, in the signal's own unit.
    pub level: f64,
    /// The normal spread of the same, in the signal's unit; above zero.
    pub spread: f64,
    /// Weeks of reference behind it.
    pub weeks: u16,
}

/// What is known of one signal of an account between two events.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SignalState {
    /// Which signal.
    pub key: SignalKey,
    /// Days that are still open (today) or may still change (within grace), oldest first.
    pub open: Vec<(Day, DayTotals)>,
    /// First day on which the signal was seen; none: never, so it is missing, not zero.
    pub first_day: Option<Day>,
    /// The last values, oldest first, for runs of single interactions: as many as the policy asks for
    /// ([`Compiled::values_kept`](crate::policy::Compiled::values_kept)).
    pub recent: Vec<(Millis, f64)>,
    /// Baseline of the last day close.
    pub baseline: Option<StoredBaseline>,
    /// The seven-day window at the last day close, without its oldest day.
    pub window_rest: f64,
    /// The oldest day of that window.
    pub window_oldest: f64,
    /// Deviation now, if it counts.
    pub evidence: Option<Evidence>,
    /// Points that the signal contributes now.
    pub points: Points,
    /// What was last measured, in the signal's unit.
    pub observed: Option<f64>,
    /// Points in the last published record.
    pub published: Points,
}

/// The row that every event rewrites.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Hot {
    /// Version of the policy that the signal states are aligned with, and `+` and that of the model that they are scored by, unless it is
    /// the policy's own.
    pub policy_version: String,
    /// Segment as the latest event gave it.
    pub segment: Option<String>,
    /// Event time of the first and the last admitted event.
    pub first_event_at: Option<Millis>,
    /// See `first_event_at`.
    pub last_event_at: Option<Millis>,
    /// The first day that is not closed yet.
    pub today: Day,
    /// The instant at which `today` ends; the account's timer is due then.
    pub today_ends_at: Millis,
    /// Whether the account waits in the timer index.
    pub scheduled: bool,
    /// Set while an account's history is filled in behind the partition's clock: its days are closed by its own events,
    /// and by the partition's clock only once that has moved on beyond this instant.
    pub held_until: Option<Millis>,
    /// Set while events come that are so old that their ids may have been forgotten.
    pub backfill: Option<Backfill>,
    /// One state per signal of the policy, in its order, and behind them one per sequence.
    pub signals: Vec<SignalState>,
    /// Which events fed which signals lately: what the independence of evidence is judged by.
    pub streams: Streams,
    /// Any activity at all, day by day.
    pub activity: Activity,
    /// Points of the lines that are no signals: recency, frequency, tenure.
    pub context_points: [Points; 3],
    /// The same in the last published record.
    pub context_published: [Points; 3],
    /// Score now and in the last published record.
    pub score: Points,
    /// See `score`.
    pub published_score: Option<Points>,
    /// Band in the last published record.
    pub published_band: Option<Band>,
    /// Base points in the last published record (they change with the policy).
    pub published_base: Points,
    /// Maturity at the last day close.
    pub maturity: Option<Maturity>,
    /// Published records so far.
    pub sequence: u64,
    /// Alerts that are open.
    pub alerts: Vec<OpenAlert>,
    /// Kinds that were resolved lately, and when: the refractory period.
    pub resolved: Vec<(String, Millis)>,
    /// The last outcome that ended or renewed the relationship.
    pub outcome: Option<(OutcomeKind, Millis)>,
}

/// Where the filling in of an account's history stands. Every event of it that was counted while the partition's clock was
/// before `since` lies at `floor` or before it; the ids of those counted later are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// The account's newest event when this began; none: it had none.
    pub floor: Option<Millis>,
    /// The partition's clock when this began.
    pub since: Millis,
}

/// A signal that is watched with every event.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Watched {
    /// Event time of the newest sample; older ones are not looked at any more.
    pub newest: Millis,
    /// What the series has shown so far.
    pub watch: Watch,
}

/// The rows of which an account has one each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// Its score and what it was made from.
    Hot,
    /// The days that are kept.
    History,
    /// What is known of the customer.
    Profile,
    /// Its own findings.
    Own,
    /// How it stands.
    Standing,
    /// Its latest alerts.
    Raised,
    /// What people said to its alerts, and how those ended.
    Lives,
    /// The rolling detector.
    Rolling,
    /// What was published beside its score.
    Shadow,
    /// What the calendar masks.
    Masked,
    /// Changes of level.
    Changes,
    /// Forecasts of limits.
    Forecast,
    /// What a learned scorecard said of it.
    Predicted,
}

impl Row {
    /// All of them.
    pub const ALL: [Row; 13] = [
        Row::Hot,
        Row::History,
        Row::Profile,
        Row::Own,
        Row::Standing,
        Row::Raised,
        Row::Lives,
        Row::Rolling,
        Row::Shadow,
        Row::Masked,
        Row::Changes,
        Row::Forecast,
        Row::Predicted,
    ];
}

/// A set of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rows(u16);

impl Rows {
    /// Every row.
    #[must_use]
    pub fn all() -> Rows {
        Row::ALL.into_iter().fold(Rows::default(), Rows::with)
    }

    /// These and one more.
    #[must_use]
    pub fn with(self, row: Row) -> Rows {
        Rows(self.0 | 1 << row as u16)
    }

    /// These but one.
    #[must_use]
    pub fn without(self, row: Row) -> Rows {
        Rows(self.0 & !(1 << row as u16))
    }

    /// Those of either set.
    #[must_use]
    pub fn union(self, others: Rows) -> Rows {
        Rows(self.0 | others.0)
    }

    /// Whether a row is among them.
    #[must_use]
    pub fn has(self, row: Row) -> bool {
        self.0 & 1 << row as u16 != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = Row> {
        Row::ALL.into_iter().filter(move |row| self.has(*row))
    }
}

/// Which rows of an account a store has to write; those that the account no longer has are to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changed {
    /// Those of which it has one each.
    pub rows: Rows,
    /// These activity rows.
    pub activity: BTreeSet<ActivityKey>,
    /// These watched signals.
    pub watched: BTreeSet<SignalKey>,
}

impl Changed {
    /// A row has changed.
    pub fn note(&mut self, row: Row) {
        self.rows = self.rows.with(row);
    }

    /// A row has changed, if it has.
    pub fn note_if(&mut self, row: Row, changed: bool) {
        if changed {
            self.note(row);
        }
    }

    /// Whether there is anything to write.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.rows.is_empty() || !self.activity.is_empty() || !self.watched.is_empty()
    }

    /// Adds what has changed since.
    pub fn extend(&mut self, later: Changed) {
        self.rows = self.rows.union(later.rows);
        self.activity.extend(later.activity);
        self.watched.extend(later.watched);
    }
}

/// One account with all its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// The account.
    pub id: AccountId,
    /// The profile row.
    pub profile: Option<Profile>,
    /// The hot row.
    pub hot: Hot,
    /// The history row, and what came before it.
    pub history: Lazy<History>,
    /// What of the calendar concerns it, as of its last day close or judgement: rising.
    pub masked: Vec<Span>,
    /// Changes of level, as they were found.
    pub changes: Vec<Change>,
    /// The forecast row: what is expected of the open day.
    pub forecast: Forecast,
    /// The activity rows.
    pub activity: BTreeMap<ActivityKey, Activity>,
    /// The rows of watched signals.
    pub watched: BTreeMap<SignalKey, Watched>,
    /// Its own findings, once it was judged.
    pub own: Option<Own>,
    /// The lines of a learned score that are no signals; none under expert weights.
    pub standing: Vec<Line>,
    /// Its latest alerts, oldest first, and what became of them.
    pub raised: Vec<Raised>,
    /// What its alerts went through beyond being open; at most one a kind.
    pub lives: Vec<Life>,
    /// What the rolling detector knows; none under other policies.
    pub rolling: Option<Box<Rolling>>,
    /// What a challenger was last published to say of it; none without a challenger.
    pub shadow: Option<Shadow>,
    /// What a learned scorecard said of it when horizons began; none under expert weights.
    pub predicted: Option<Box<Predicted>>,
    /// What became known since it was read, to be told.
    pub facts: Vec<Fact>,
    /// What changed since the account was read.
    pub changed: Changed,
}

/// The profile's segment, else what events said.
pub(crate) fn segment<'a>(
    profile: Option<&'a Profile>,
    said: &'a Option<String>,
) -> Option<&'a str> {
    profile.and_then(|profile| profile.segment.as_deref()).or(said.as_deref())
}

impl Account {
    /// Whether nothing is known of it and nothing is to be written, as after something was said of an account that is not known: such a
    /// one is not kept.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        !self.changed.any() && *self == Account::new(self.id.clone())
    }

    /// Whether nothing is known of it but the sums of the rolling detector and a profile.
    #[must_use]
    pub fn has_sums_alone(&self) -> bool {
        let Account {
            id: _,
            profile: _,
            hot,
            history,
            masked,
            changes,
            forecast,
            activity,
            watched,
            own,
            standing,
            raised,
            lives,
            rolling,
            shadow,
            predicted,
            facts,
            changed,
        } = self;
        let is_bare = masked.is_empty()
            && changes.is_empty()
            && activity.is_empty()
            && watched.is_empty()
            && standing.is_empty()
            && raised.is_empty()
            && lives.is_empty()
            && facts.is_empty()
            && !changed.any();
        let is_unjudged = own.is_none() && shadow.is_none() && predicted.is_none();
        rolling.is_some()
            && is_bare
            && is_unjudged
            && *hot == Hot::default()
            && **history == History::default()
            && *forecast == Forecast::default()
    }

    /// An account of which nothing is known yet.
    #[must_use]
    pub fn new(id: AccountId) -> Account {
        Account {
            id,
            profile: None,
            hot: Hot::default(),
            history: Lazy::default(),
            masked: Vec::new(),
            changes: Vec::new(),
            forecast: Forecast::default(),
            activity: BTreeMap::new(),
            watched: BTreeMap::new(),
            own: None,
            standing: Vec::new(),
            raised: Vec::new(),
            lives: Vec::new(),
            rolling: None,
            shadow: None,
            predicted: None,
            facts: Vec::new(),
            changed: Changed::default(),
        }
    }

    /// The time zone in which the account's days are cut.
    #[must_use]
    pub fn zone(&self) -> Zone {
        self.profile
            .as_ref()
            .and_then(|profile| profile.time_zone.as_deref())
            .and_then(Zone::named)
            .unwrap_or(Zone::UTC)
    }

    /// Event time of its first event, whichever detector counted it.
    #[must_use]
    pub fn began(&self) -> Option<Millis> {
        let rolled = self.rolling.as_ref().map(|rolling| rolling.first_at);
        self.hot.first_event_at.into_iter().chain(rolled).min()
    }

    /// Segment: the profile's, else what events said.
    #[must_use]
    pub fn segment(&self) -> Option<&str> {
        segment(self.profile.as_ref(), &self.hot.segment)
    }

    /// The masked days as bits seen from `day`: bit 0 is `day`, bit d the d-th day before it.
    #[must_use]
    pub fn masked_days(&self, day: Day) -> u128 {
        masked_days(&self.masked, day)
    }

    /// Whether nothing is measured on a day.
    #[must_use]
    pub fn is_masked(&self, day: Day) -> bool {
        self.masked.iter().any(|span| span.holds(day))
    }

    /// A name to show.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.profile.as_ref().and_then(|profile| profile.name.as_deref())
    }

    /// Bytes that the account takes in memory, about: what grows is counted, what does not is estimated.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        /// Name, value and the share of a tree's nodes; allocations are rounded up.
        const ROW_BYTES: usize = 160;
        /// A profile, and what else is small.
        const FIXED_BYTES: usize = 1_024;
        let signal = |state: &SignalState| {
            size_of::<SignalState>()
                + state.open.len() * size_of::<(Day, DayTotals)>()
                + state.recent.len() * size_of::<(Millis, f64)>()
                + state.evidence.as_ref().map_or(0, |_| FIXED_BYTES / 4)
        };
        let stored = self.history.rows().into_iter().flatten();
        let rings = self.unfolded_bytes() + stored.map(|row| row.len()).sum::<usize>();
        let members: usize = self.activity.keys().map(|key| ROW_BYTES + key.value.len()).sum();
        let members = members + self.watched.len() * (ROW_BYTES + STATE_BYTES_MAX);
        let members = members + (self.masked.len() + self.changes.len()) * ROW_BYTES;
        let alerts = self.hot.alerts.len() * FIXED_BYTES;
        let alerts = alerts + (self.raised.len() + self.lives.len()) * ROW_BYTES;
        let signals: usize = self.hot.signals.iter().map(signal).sum();
        let forecast = self.forecast.limits.len() * size_of::<(SignalKey, Limits)>();
        if let Some(rolling) = &self.rolling {
            // Nothing else is kept of it, as a rule.
            return size_of::<Account>()
                + rolling.memory_bytes()
                + signals
                + rings
                + members
                + alerts;
        }
        size_of::<Account>() + FIXED_BYTES + signals + forecast + rings + members + alerts
    }

    /// Those of them that a history takes which is in memory as more than its rows.
    #[must_use]
    pub fn unfolded_bytes(&self) -> usize {
        let rings = self.history.unfolded().into_iter().flat_map(|history| &history.rings);
        rings.map(|(_, ring)| ring.len() * 8 + 64).sum()
    }

    /// When the account's timer is due, if it waits for one.
    #[must_use]
    pub fn due(&self) -> Option<Millis> {
        let due = self
            .hot
            .held_until
            .map_or(self.hot.today_ends_at, |held| held.max(self.hot.today_ends_at));
        self.hot.scheduled.then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_in_their_own_order() {
        let texts = ["", "", "a", "ab", "b", "é"];
        for left in texts {
            for right in texts {
                assert_eq!(by_text(left, right), left.cmp(right), "{left:?} and {right:?}");
            }
        }
    }
}
