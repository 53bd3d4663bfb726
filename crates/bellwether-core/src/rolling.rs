//! The simplest detector, for who wants no more: after every event a robust z of the signal that it feeds, the sum of the last seven days
//! against the sums of the weeks before (median and MAD; Iglewicz and Hoaglin 1993), and a score that loses points for each signal
//! that stands on the bad side, in proportion to z (a hinge). Selected by `rolling.enabled`; days are not closed then, nothing is
//! corroborated and no alerts are raised.
//!
//! State is one sparse row of an account ([`Rolling`]): the sums of the days on which something happened. Beside it a store may keep what
//! changed since that row was written ([`Rolling::recent`]), so that an event need not write the whole history of its account.
//!
//! # Invariants
//! - A signal's z is that of its last event; other signals keep theirs. It is a function of the row, so it is not stored.
//! - Sums are integers of a millionth, so the order of arrival within a day changes nothing.
//! - Lines of a record sum exactly to its score; what rounding to hundredths and the ends of the scale take or give is the line `clip`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::account::{Account, Row};
use crate::event::Event;
use crate::forget;
use crate::history::{MICROS, RING_DAYS};
use crate::output::{
    Band, Category, Contribution, HealthRecord, Maturity, Movement, Output, ScoreChanged, SubScore,
};
use crate::points::Points;
use crate::policy::{Aggregate, Compiled, Direction};
use crate::publish::{base, content_id};
use crate::reject::{Reason, Reject};
use crate::score::{band, sub_scores};
use crate::state::{Clock, State};
use crate::step::{Applied, Core, Verdict, put_back, seen_hash};
use crate::time::{DAY_MS, Day, Millis};

/// From a median absolute deviation to a standard deviation of normal data.
const MAD_TO_SIGMA: f64 = 1.4826;
/// Weeks that a policy may compare with at most; with the current one they fit the days that are kept.
pub(crate) const HISTORY_WEEKS_MAX: u16 = RING_DAYS as u16 / 7 - 1;

/// The largest magnitude of a day's sum, in millionths: above two trillion. A sum stays there.
pub const SUM_MICROS_MAX: i64 = (1 << 61) - 1;

/// What is known of an account.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Rolling {
    /// Event time of the oldest event.
    pub first_at: Millis,
    /// The newest day with an event: windows end here.
    pub day: Day,
    /// Event time of the newest event.
    pub last_at: Millis,
    /// Published records so far.
    pub sequence: u64,
    /// The score last published, in points; none: none was, and movements are measured from the base.
    pub published: Option<f64>,
    /// Signals that had an event.
    pub signals: Vec<RollingSignal>,
    /// Whether what is not stored was made, in the order of the policy's signals.
    #[serde(skip)]
    pub aligned: bool,
    /// What a store has of it.
    #[serde(skip)]
    pub kept: Kept,
}

/// What a store has of an account's sums. It says nothing of the account: any two are equal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kept {
    /// The row, as it was before what changed since ([`RollingSignal::since`]).
    pub whole: bool,
    /// A row of what changed since.
    pub recent: bool,
}

impl PartialEq for Kept {
    fn eq(&self, _: &Kept) -> bool {
        true
    }
}

/// The oldest day of a signal that changed since a store wrote the whole row. It says nothing of the account: any two are equal.
#[derive(Debug, Clone, Copy)]
pub struct Since(Day);

impl Since {
    /// Nothing changed.
    const NEVER: Since = Since(Day(i32::MAX));
    /// Everything did.
    const EVER: Since = Since(Day(i32::MIN));

    fn include(&mut self, day: Day) {
        self.0 = self.0.min(day);
    }
}

impl Default for Since {
    fn default() -> Since {
        Since::NEVER
    }
}

impl PartialEq for Since {
    fn eq(&self, _: &Since) -> bool {
        true
    }
}

/// One signal of an account.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RollingSignal {
    /// The low half of the signal's key; the policy refuses two signals with one.
    pub key: u16,
    /// The account's newest day when the signal last had an event.
    pub as_of: Day,
    /// Points in the last published record.
    pub published: Points,
    /// Days with an event, rising; none is older than the days that are kept.
    pub days: Vec<DaySum>,
    /// The signal's place in the policy.
    #[serde(skip)]
    pub index: u16,
    /// Its z at its last event.
    #[serde(skip)]
    pub z: f64,
    /// Its days that are not in the whole row yet.
    #[serde(skip)]
    pub since: Since,
}

/// The sum of a signal's values on a day. In twelve bytes and not in sixteen: most of what is known of an account are these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C, packed(4))]
pub struct DaySum {
    /// The day.
    pub day: Day,
    /// The sum in millionths.
    pub micros: i64,
}

impl Rolling {
    /// Bytes on the heap, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let days = self.signals.iter().map(|signal| signal.days.capacity());
        self.signals.capacity() * size_of::<RollingSignal>()
            + days.sum::<usize>() * size_of::<DaySum>()
    }

    /// Makes what is not stored. Signals that the policy no longer has are dropped.
    fn align(&mut self, policy: &Compiled) {
        if self.aligned {
            return;
        }
        self.aligned = true;
        let (keys, before) = (policy.keys(), self.signals.len());
        self.signals.retain_mut(|signal| {
            let Some(index) = keys.iter().position(|key| short(key.0) == signal.key) else {
                return false;
            };
            signal.index = index as u16;
            signal.z = z(&signal.days, signal.as_of, policy);
            true
        });
        self.signals.sort_by_key(|signal| signal.index);
        // What was dropped has to leave the whole row.
        self.kept.whole &= self.signals.len() == before;
    }

    /// Whether what changed since the whole row was written is to be written alone. With n of N entries that is 1 + n/2 + N/n entries an
    /// event as a mean, least where n is the root of 2N.
    #[must_use]
    pub fn is_recent(&self) -> bool {
        let mut all = 0;
        let mut recent = 0;
        for signal in &self.signals {
            all += 1 + signal.days.len();
            recent += signal.recent_days().map_or(0, |days| 1 + days.len());
        }
        self.kept.whole && recent * recent <= 2 * all
    }

    /// What changed since the whole row was written, in the shape of one: signals with the days that changed, as they are now.
    #[must_use]
    pub fn recent(&self) -> Rolling {
        let changed = |signal: &RollingSignal| {
            let days = signal.recent_days()?.to_vec();
            let RollingSignal { key, as_of, published, .. } = *signal;
            Some(RollingSignal { key, as_of, published, days, ..RollingSignal::default() })
        };
        let signals = self.signals.iter().filter_map(changed).collect();
        let Rolling { first_at, day, last_at, sequence, published, .. } = *self;
        Rolling { first_at, day, last_at, sequence, published, signals, ..Rolling::default() }
    }

    /// Puts over a whole row what changed since it was written.
    pub fn renew(&mut self, recent: Rolling) {
        let Rolling { first_at, day, last_at, sequence, published, signals, .. } = recent;
        (self.first_at, self.day, self.last_at) = (first_at, day, last_at);
        (self.sequence, self.published) = (sequence, published);
        for RollingSignal { key, as_of, published, days, .. } in signals {
            let known = self.signals.iter().position(|signal| signal.key == key);
            let at = known.unwrap_or_else(|| {
                self.signals.push(RollingSignal::new(key));
                self.signals.len() - 1
            });
            let signal = &mut self.signals[at];
            (signal.as_of, signal.published) = (as_of, published);
            // Also where no day changed, as after a record was published.
            signal.since.include(as_of);
            for DaySum { day, micros } in days {
                signal.set(day, |_| micros);
            }
            signal.expire();
        }
        self.kept.recent = true;
    }

    /// A store has written what changed: alone, or with all the rest.
    pub fn written(&mut self, recent: bool) {
        self.kept = Kept { whole: true, recent };
        if !recent {
            self.signals.iter_mut().for_each(|signal| signal.since = Since::NEVER);
        }
    }

    /// The signal at this place in the policy.
    fn signal(&mut self, index: usize, policy: &Compiled) -> &mut RollingSignal {
        let wanted = index as u16;
        let found = self.signals.binary_search_by_key(&wanted, |signal| signal.index);
        let at = found.unwrap_or_else(|at| {
            let new = RollingSignal::new(short(policy.keys()[index].0));
            make_room(&mut self.signals);
            self.signals.insert(at, RollingSignal { index: wanted, ..new });
            at
        });
        &mut self.signals[at]
    }

    /// The score in points, before rounding.
    fn score(&self, policy: &Compiled) -> f64 {
        let lost: f64 = self.signals.iter().map(|signal| penalty(signal, policy)).sum();
        let base = policy.score.base_points;
        base - lost.min(base)
    }

    fn maturity(&self, policy: &Compiled) -> Maturity {
        if self.last_at.0 - self.first_at.0 < i64::from(policy.maturity.learning_days) * DAY_MS {
            Maturity::Learning
        } else {
            Maturity::Established
        }
    }
}

impl RollingSignal {
    /// A signal that had no event yet. `key` is the low half of its key in the policy.
    #[must_use]
    pub fn new(key: u16) -> RollingSignal {
        RollingSignal { key, since: Since::EVER, ..RollingSignal::default() }
    }

    /// Adds a value to its day, and lets the days fall out that are no longer kept. `newest` is the account's newest day.
    pub fn add(&mut self, day: Day, value: f64, newest: Day) {
        // In range by admission (`VALUE_ABS_MAX`).
        let micros = (value * MICROS).round() as i64;
        let within = |sum: i64| sum.clamp(-SUM_MICROS_MAX, SUM_MICROS_MAX);
        self.set(day, |sum| within(sum.saturating_add(micros)));
        self.as_of = newest;
        self.expire();
    }

    /// Changes the sum of a day.
    fn set(&mut self, day: Day, sum: impl FnOnce(i64) -> i64) {
        self.since.include(day);
        // The newest day as a rule.
        let at = match self.days.last() {
            Some(last) if last.day == day => Ok(self.days.len() - 1),
            _ => self.days.binary_search_by_key(&day, |of| of.day),
        };
        match at {
            Ok(at) => self.days[at].micros = sum(self.days[at].micros),
            Err(at) => {
                make_room(&mut self.days);
                self.days.insert(at, DaySum { day, micros: sum(0) });
            }
        }
    }

    /// Lets the days fall out that are no longer kept.
    fn expire(&mut self) {
        let oldest = self.as_of.plus(1 - RING_DAYS as i32);
        let expired = self.days.partition_point(|of| of.day < oldest);
        self.days.drain(..expired);
    }

    /// The days that changed since a store wrote the whole row, and those after; none where nothing did.
    fn recent_days(&self) -> Option<&[DaySum]> {
        let Since(since) = self.since;
        let recent = || &self.days[self.days.partition_point(|of| of.day < since)..];
        (since != Since::NEVER.0).then(recent)
    }
}

/// Room for one more, and a few: lists that are kept for every account grow by steps, not to twice their size.
fn make_room<T>(list: &mut Vec<T>) {
    const STEP: usize = 4;
    if list.len() == list.capacity() {
        list.reserve_exact(STEP);
    }
}

/// The low half of a signal's key.
pub(crate) fn short(key: u32) -> u16 {
    (key & 0xffff) as u16
}

/// The week that ends on `day` against the weeks before it, in robust standard deviations.
fn z(days: &[DaySum], day: Day, policy: &Compiled) -> f64 {
    let rules = &policy.rolling;
    let weeks = usize::from(rules.history_weeks);
    let mut sums = [0i64; HISTORY_WEEKS_MAX as usize + 1];
    for &DaySum { day: at, micros } in days.iter().rev() {
        let week = usize::try_from(day.since(at)).unwrap_or(0) / 7;
        if week > weeks {
            break;
        }
        sums[week] = sums[week].saturating_add(micros);
    }
    let current = sums[0] as f64 / MICROS;
    let mut before = [0.0; HISTORY_WEEKS_MAX as usize];
    let before = &mut before[..weeks];
    for (sum, micros) in before.iter_mut().zip(&sums[1..]) {
        *sum = *micros as f64 / MICROS;
    }
    let median = sort_for_median(before);
    before.iter_mut().for_each(|sum| *sum = (*sum - median).abs());
    let mad = sort_for_median(before);
    let sigma = (MAD_TO_SIGMA * mad).max(rules.spread_min).max(rules.spread_share * median);
    (current - median) / sigma
}

/// Sorts; the mean of the middle two, or the middle one.
fn sort_for_median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        0.5 * (values[middle - 1] + values[middle])
    } else {
        values[middle]
    }
}

/// Points that a signal takes.
fn penalty(signal: &RollingSignal, policy: &Compiled) -> f64 {
    let rule = &policy.signals[usize::from(signal.index)];
    let bad = match rule.direction {
        Direction::Down => -signal.z,
        Direction::Up => signal.z,
    };
    rule.weight * bad.max(0.0)
}

/// A signal's line.
fn points(signal: &RollingSignal, policy: &Compiled) -> Points {
    -Points::from_f64(penalty(signal, policy))
}

impl Core {
    /// An event under a rolling policy.
    pub(crate) fn roll<S: State>(
        &self,
        state: &mut S,
        event: &Event,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, S::Error> {
        let policy = &*self.policy;
        let clock = self.move_clock(state, event.occurred_at);
        let horizon = clock.horizon.unwrap_or(Millis::MIN);
        let known = state.take(&event.account)?;
        if let Some(reject) = self.refuse_rolled(state, known.as_deref(), event, horizon)? {
            put_back(state, known)?;
            return Ok(Err(reject));
        }
        let mut fed = policy.fed_by(event).peekable();
        if fed.peek().is_none() {
            put_back(state, known)?;
            return Ok(Ok(Applied::default()));
        }
        let mut matched = 0;
        let mut account = known.unwrap_or_else(|| Box::new(Account::new(event.account.clone())));
        let zone = account.zone();
        let day = zone.day(event.occurred_at);
        let rolling = account.rolling.get_or_insert_with(|| {
            let (first_at, last_at) = (event.occurred_at, event.occurred_at);
            Box::new(Rolling { first_at, day, last_at, aligned: true, ..Rolling::default() })
        });
        rolling.align(policy);
        for index in fed {
            matched += 1;
            rolling.day = rolling.day.max(day);
            let newest = rolling.day;
            let is_count = policy.signals[index].aggregate == Aggregate::Count;
            let value = if is_count { 1.0 } else { event.value.unwrap_or(0.0) };
            let signal = rolling.signal(index, policy);
            signal.add(day, value, newest);
            signal.z = z(&signal.days, newest, policy);
        }
        rolling.first_at = rolling.first_at.min(event.occurred_at);
        rolling.last_at = rolling.last_at.max(event.occurred_at);
        account.changed.note(Row::Rolling);
        let score = rolling.score(policy);
        let before = rolling.published.unwrap_or(policy.score.base_points);
        if (score - before).abs() >= policy.score.publish_min_points {
            self.publish_rolled(&mut account, score, out);
        }
        state.put(account)?;
        Ok(Ok(Applied { signals: matched, ..Applied::default() }))
    }

    /// The partition's clock after something that happened at `at`. Nothing is ever due.
    pub(crate) fn move_clock<S: State>(&self, state: &mut S, at: Millis) -> Clock {
        let clock = state.clock();
        if clock.newest.is_some_and(|newest| newest >= at) {
            return clock;
        }
        let horizon = self.watermark(at).plus(-self.policy.grace_ms());
        let moved = Clock { newest: Some(at), horizon: clock.horizon.max(Some(horizon)), ..clock };
        state.set_clock(moved);
        moved
    }

    /// What can be said against an event now that its account is known.
    fn refuse_rolled<S: State>(
        &self,
        state: &mut S,
        known: Option<&Account>,
        event: &Event,
        horizon: Millis,
    ) -> Result<Option<Reject>, S::Error> {
        let (rules, at) = (&self.policy.rolling, event.occurred_at);
        let rolling = known.and_then(|account| account.rolling.as_deref());
        let zone = known.map(Account::zone);
        if let Some((rolling, zone)) = rolling.zip(zone.as_ref()) {
            let oldest = rolling.day.plus(1 - i32::from(rules.late_days));
            if zone.day(at) < oldest {
                let detail = format!(
                    "occurred_at is {at}, the oldest day that account {} takes now is {oldest} (rolling.late_days)",
                    event.account
                );
                return Ok(Some(Reject::new(Reason::TooLate, detail)));
            }
        }
        if forget::may_be_of_before(known, at)
            && let Some(reject) = forget::before_deletion(state, &event.account, at, horizon)?
        {
            return Ok(Some(reject));
        }
        if !rules.remember_ids {
            return Ok(None);
        }
        if at < horizon {
            let detail = format!(
                "occurred_at is {at}: ids are known back to {horizon}, so this may have been counted already \
                 (admission.grace_hours, rolling.remember_ids)"
            );
            return Ok(Some(Reject::new(Reason::TooLate, detail)));
        }
        if state.remember(seen_hash(event), at, horizon)? {
            return Ok(None);
        }
        let detail = format!("event {} of account {} was already counted", event.id, event.account);
        Ok(Some(Reject::new(Reason::Duplicate, detail)))
    }

    fn publish_rolled(&self, account: &mut Account, score: f64, out: &mut Vec<Output>) {
        let policy = &*self.policy;
        let Some(rolling) = account.rolling.as_deref_mut() else { return };
        rolling.sequence += 1;
        let (now, before) = (Points::from_f64(score), rolling.published.map(Points::from_f64));
        let (sequence, at) = (rolling.sequence, rolling.last_at);
        let change = ScoreChanged {
            id: content_id(&[
                account.id.as_str(),
                "score",
                &sequence.to_string(),
                &at.0.to_string(),
            ]),
            account_id: account.id.clone(),
            sequence,
            at,
            score: now,
            previous_score: before,
            band: band(now, policy),
            previous_band: before.map(|before| band(before, policy)),
            movements: movements(rolling, policy, now, before),
            sub_scores: rolled_sub_scores(rolling, policy),
            maturity: rolling.maturity(policy),
            policy_version: policy.version().to_owned(),
            model_version: self.scorer.version().to_owned(),
        };
        debug_assert!(
            change.movements.iter().map(|movement| movement.delta).sum::<Points>()
                == now - before.unwrap_or_default(),
            "explanation-sums: the movements of a record sum to its change"
        );
        rolling.published = Some(score);
        for signal in &mut rolling.signals {
            let now = points(signal, policy);
            if signal.published != now {
                signal.published = now;
                signal.since.include(signal.as_of);
            }
        }
        out.push(Output::ScoreChanged(Box::new(change)));
        if policy.rolling.publish_current
            && let Some(record) = self.rolled_record(account)
        {
            out.push(Output::Health(Box::new(record)));
        }
    }

    /// Score and band of an account as they stand, where that is all there is to see of it beside its profile: under the rolling detector,
    /// which raises no alerts. None before anything was published, and of other accounts ([`Core::view`] has those).
    #[must_use]
    pub fn glance(&self, account: &Account) -> Option<(Points, Band)> {
        let rolling = account.rolling.as_deref().filter(|_| self.policy.rolling.enabled)?;
        let score = Points::from_f64(rolling.published?);
        Some((score, band(score, &self.policy)))
    }

    /// The health record of an account that was published; none before.
    pub(crate) fn rolled_record(&self, account: &Account) -> Option<HealthRecord> {
        let policy = &*self.policy;
        let mut rolling = account.rolling.as_deref()?.clone();
        let (score, band) = self.glance(account)?;
        rolling.align(policy);
        let plain = |name: &str, category, points, unit: &str| Contribution {
            name: name.to_owned(),
            category,
            points,
            observed: None,
            baseline: None,
            unit: unit.to_owned(),
        };
        let mut contributions = vec![plain("base", None, base(policy), "points")];
        contributions.extend(rolling.signals.iter().map(|signal| {
            let rule = &policy.signals[usize::from(signal.index)];
            plain(&rule.name, Some(rule.category), signal.published, &rule.unit)
        }));
        let clip = score - contributions.iter().map(|line| line.points).sum();
        if clip != Points::ZERO {
            contributions.push(plain("clip", None, clip, "points"));
        }
        Some(HealthRecord {
            account_id: account.id.clone(),
            name: account.name().map(str::to_owned),
            segment: account.segment().map(str::to_owned),
            sequence: rolling.sequence,
            at: rolling.last_at,
            score,
            band,
            maturity: rolling.maturity(policy),
            contributions,
            sub_scores: rolled_sub_scores(&rolling, policy),
            evidence: Vec::new(),
            masked: Vec::new(),
            rebaselined: Vec::new(),
            open_alerts: Vec::new(),
            last_event_at: Some(rolling.last_at),
            policy_version: policy.version().to_owned(),
            model_version: self.scorer.version().to_owned(),
        })
    }
}

/// What moved since the last published record. Before the first one every line was zero.
fn movements(
    rolling: &Rolling,
    policy: &Compiled,
    score: Points,
    before: Option<Points>,
) -> Vec<Movement> {
    let base = base(policy);
    let mut movements = Vec::with_capacity(rolling.signals.len() + 2);
    let mut add = |name: &str, category: Option<Category>, delta: Points, points: Points| {
        if delta != Points::ZERO {
            movements.push(Movement { name: name.to_owned(), category, delta, points });
        }
    };
    let base_before = if before.is_some() { base } else { Points::ZERO };
    add("base", None, base - base_before, base);
    let (mut raw, mut raw_before) = (base, base_before);
    for signal in &rolling.signals {
        let rule = &policy.signals[usize::from(signal.index)];
        let now = points(signal, policy);
        add(&rule.name, Some(rule.category), now - signal.published, now);
        raw += now;
        raw_before += signal.published;
    }
    let (clip, clip_before) = (score - raw, before.unwrap_or_default() - raw_before);
    add("clip", None, clip - clip_before, clip);
    movements
}

fn rolled_sub_scores(rolling: &Rolling, policy: &Compiled) -> Vec<SubScore> {
    let mut sums: BTreeMap<Category, Points> = BTreeMap::new();
    for signal in &rolling.signals {
        let rule = &policy.signals[usize::from(signal.index)];
        *sums.entry(rule.category).or_default() += points(signal, policy);
    }
    sub_scores(&sums, policy)
}
