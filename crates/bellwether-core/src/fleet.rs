//! The fleet view: what happens to a cohort as a whole (an outage, a holiday, broken tracking), told apart from what happens to one
//! account.
//!
//! ```text
//! partition                      the partition that adds the cohort up         every partition
//! hour and day sums --- Part --> sums over partitions --- Total, hold ------> factor of the day, alerts held back
//!                                      |
//!                                      +--> fleet alert (opened, updated, resolved)
//! ```
//! Half past every hour of event time, a partition tells what its accounts did in the hour before and on the days that they closed,
//! together with what was usual for the same accounts. Sums of both are compared, so a partition that is late or away makes the
//! comparison less sure, and not wrong. What a partition tells again (late events) replaces what it said before.
//!
//! A period deviates where the ratio of observed to usual is further from 1 than the policy asks, and further than chance: the ratio
//! of sums has the sampling variance `1 / weight`, and the cohort's own usual variation, learned from its other periods, on top.
//! While a cohort deviates, and as long again (within a bound of the policy), high alerts of its accounts are held back and counted, unless they are rare even
//! against the cohort.

use serde::{Deserialize, Serialize};

use crate::account::SignalKey;
use crate::calendar::{Entry, Span};
use crate::cohort::{Cohort, CohortHour, CohortKey, CohortRow, Cohorts, DayTotal, entry, find};
use crate::expect::is_count;
use crate::feedback::FactRecord;
use crate::id::{AccountId, EventId};
use crate::output::{AlertEvent, AlertState, Evidence, Output, Resolution, Severity, Transition};
use crate::points::Points;
use crate::policy::{Aggregate, Compiled, Direction, Signal};
use crate::policy_check::FLEET_KIND;
use crate::priority;
use crate::promotion::Promotion;
use crate::publish::content_id;
use crate::score::band;
use crate::stats::{Z_MAX, median};
use crate::time::{Day, HOUR_MS, MINUTE_MS, Millis};

/// Minutes past the hour at which partitions tell: later than the closes of days that end on the hour, earlier than their judgements.
const TOLD_MINUTES: i64 = 30;
/// Hours back for which late events correct what was told.
pub(crate) const CORRECTED_HOURS: i64 = 72;
/// Weeks whose same hour says what is usual, and how many of them it needs.
const WEEKS: (i64, usize) = (4, 3);
const WEEK_HOURS: i64 = 7 * 24;
/// Hours by which days begin before those of UTC at most, and end after them.
const ZONE_HOURS: (i64, i64) = (14, 12);
/// Hours that a partition keeps.
pub(crate) const HOUR_ROWS: i64 = WEEKS.0 * WEEK_HOURS + CORRECTED_HOURS;
/// Hours for which parts are kept where they are added up.
pub(crate) const PART_HOURS: i64 = 96;
/// A period is weighed when all partitions have told that told lately, or when it ended so many hours ago.
const PATIENCE_HOURS: i64 = 2;
/// A partition that told nothing for so many hours is not waited for.
const SOURCE_HOURS: i64 = 48;
/// Variance of the logarithm of the ratio from hour to hour and from day to day, before anything was measured; and the periods that
/// this counts for, and at most.
const NOISE_PRIOR: [f64; 2] = [0.04, 0.01];
const NOISE_PERIODS: (f64, f64) = (20.0, 400.0);
/// Hours after the end of a period in which a correction may open an alert.
const NEWS_HOURS: i64 = 24;
/// Hours after the end of a day in which its accounts are judged, at the default settings.
const JUDGED_HOURS: i64 = 6;
/// Expected counts below which an hour says nothing, over all partitions; one tells its own hour unless it has so many times less than
/// its share of that.
const EXPECTED_MIN: f64 = 30.0;
const SPREAD: f64 = 4.0;

/// An hour or a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// An hour of UTC, counted since 1970.
    Hour(i64),
    /// A day, each account's in its own zone.
    Day(Day),
}

impl Period {
    /// The hour of UTC in which it ends, about (for days: of accounts in UTC).
    #[must_use]
    pub fn end_hour(self) -> i64 {
        match self {
            Period::Hour(hour) => hour + 1,
            Period::Day(day) => (i64::from(day.0) + 1) * 24,
        }
    }

    /// When it ends.
    #[must_use]
    pub fn end(self) -> Millis {
        Millis(self.end_hour().saturating_mul(HOUR_MS))
    }

    fn is_hour(self) -> bool {
        matches!(self, Period::Hour(_))
    }

    /// As a person says it.
    fn words(self) -> String {
        match self {
            Period::Hour(hour) => {
                let day = Day(i32::try_from(hour.div_euclid(24)).unwrap_or(0));
                format!("at {:02}:00 UTC on {day}", hour.rem_euclid(24))
            }
            Period::Day(day) => format!("on {day}"),
        }
    }
}

/// What is known of one signal in a period.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Sums {
    /// How much it can say: one over the sampling variance of `relative / weight`.
    pub weight: f64,
    /// What was observed, weighted (for hours: counts).
    pub relative: f64,
    /// What of it can be compared with what was usual.
    pub compared: f64,
    /// What was usual, weighted alike.
    pub usual: f64,
}

impl Sums {
    fn add(&mut self, other: Sums) {
        self.weight += other.weight;
        self.relative += other.relative;
        self.compared += other.compared;
        self.usual += other.usual;
    }
}

/// What one partition says of a cohort's period.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Part {
    /// Event time at which it was told.
    pub at: Millis,
    /// Accounts behind it.
    pub accounts: u32,
    /// Sum of scores in hundredths of a point, and how many accounts have one.
    pub score: (i64, u32),
    /// Alerts of accounts held back, for days.
    pub held_back: u32,
    /// Per signal, sorted by signal.
    pub signals: Vec<(SignalKey, Sums)>,
}

/// A part on its way: which cohort's, and of what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartRecord {
    /// The cohort; empty for accounts without one.
    pub cohort: String,
    /// The period.
    pub period: Period,
    /// What is said.
    pub part: Part,
}

/// What is told to all partitions of a cohort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TotalRecord {
    /// The cohort; empty for accounts without one.
    pub cohort: String,
    /// Until when alerts of its accounts are held back.
    pub hold: Option<Millis>,
    /// A day as all partitions together know it.
    pub day: Option<(Day, DayTotal)>,
}

/// What partitions tell each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// To the partition that adds the cohort up.
    Part(PartRecord),
    /// To all partitions.
    Total(TotalRecord),
    /// To all partitions: an entry of the calendar, or that there is none any more.
    Calendar(EventId, Option<Entry>),
    /// To all partitions: a promotion, or that it is withdrawn.
    Promotion(EventId, Option<Promotion>),
    /// To all partitions: a challenger, or the end of all before it.
    Challenger(EventId, Promotion),
    /// To all partitions: what became known of an alert or an account.
    Fact(FactRecord),
}

impl Message {
    /// What it is about: a cohort (empty for accounts without one), an entry of the calendar, or a promotion.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Message::Part(record) => &record.cohort,
            Message::Total(record) => &record.cohort,
            Message::Fact(record) => &record.cohort,
            Message::Calendar(id, _) | Message::Promotion(id, _) | Message::Challenger(id, _) => {
                id.as_str()
            }
        }
    }
}

/// How much a ratio varies from period to period.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Noise {
    periods: f64,
    squares: f64,
}

impl Noise {
    fn variance(self, prior: f64) -> f64 {
        (self.squares + NOISE_PERIODS.0 * prior) / (self.periods + NOISE_PERIODS.0)
    }

    /// Takes in the squared logarithm of a ratio, less what chance explains.
    pub fn see(&mut self, square: f64) {
        let keep = (1.0 - 1.0 / NOISE_PERIODS.1).min(1.0);
        self.periods = self.periods * keep + 1.0;
        self.squares = self.squares * keep + square.clamp(0.0, 1.0);
    }
}

/// A fleet alert that is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenFleet {
    /// Its id.
    pub id: String,
    /// When it opened.
    pub opened_at: Millis,
    /// Its last event: what happened, and when.
    pub last: (Transition, Millis),
    /// Events published of it.
    pub sequence: u32,
    /// The end of the last period that deviates.
    pub until: Millis,
    /// The most alerts of accounts that were held back on a day.
    pub held_back: u32,
    /// The latest deviation, strongest first.
    pub evidence: Vec<Evidence>,
    /// Mean score of the cohort.
    pub score: Points,
    /// One line for people.
    pub title: String,
}

/// What is known of a cohort as a whole, where it is added up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FleetState {
    /// The partitions that tell, and the hour in which the newest of their periods ended.
    pub sources: Vec<(u32, i64)>,
    /// Periods that wait for partitions.
    pub pending: Vec<Period>,
    /// The newest hour and the newest day that were weighed.
    pub weighed: (Option<i64>, Option<Day>),
    /// Usual variation per signal, of hours and of days.
    pub noise: [Vec<(SignalKey, Noise)>; 2],
    /// The alert, while it is open.
    pub open: Option<OpenFleet>,
}

/// A signal that deviates in a period.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Deviation {
    signal: SignalKey,
    ratio: f64,
    z: f64,
    sums: Sums,
}

/// Whether events of a signal are counted by the hour.
fn is_hourly(signal: &Signal) -> bool {
    is_count(signal) && matches!(signal.aggregate, Aggregate::Count | Aggregate::Sum)
}

/// What an event adds to its hour, by signal.
pub(crate) fn amounts(
    policy: &Compiled,
    matched: &[usize],
    value: Option<f64>,
) -> impl Iterator<Item = (SignalKey, f64)> {
    let of = move |&index: &usize| {
        let (signal, key) = (policy.signals.get(index)?, policy.keys().get(index)?);
        let counts = signal.aggregate == Aggregate::Count;
        let amount = if counts { 1.0 } else { value.unwrap_or(0.0).max(0.0) };
        is_hourly(signal).then_some((*key, amount))
    };
    matched.iter().filter_map(of)
}

/// The next time after `at` at which partitions tell.
pub(crate) fn told_after(at: Millis) -> Millis {
    let offset = TOLD_MINUTES * MINUTE_MS;
    Millis((at.0 - offset).div_euclid(HOUR_MS) * HOUR_MS + HOUR_MS + offset)
}

/// What one of so many partitions tells at `at` of its cohorts: the hour before, what late events changed, and the days that accounts
/// closed.
pub(crate) fn tell(cohorts: &mut Cohorts, partitions: i32, at: Millis) -> Vec<PartRecord> {
    let hour = at.0.div_euclid(HOUR_MS);
    let mut told = Vec::new();
    let masked = masked_for_all(cohorts, hour);
    for (name, cohort) in cohorts.iter_mut() {
        let mut periods: Vec<Period> = cohort.untold_days().map(Period::Day).collect();
        periods.extend(cohort.untold_hours(hour - CORRECTED_HOURS..hour).map(Period::Hour));
        if cohort.hour(hour - 1).is_none() {
            // An hour without a single event is what is looked for.
            periods.push(Period::Hour(hour - 1));
        }
        for period in periods {
            let part = match period {
                Period::Hour(hour) if masked.iter().any(|span| is_within(span, hour)) => None,
                Period::Day(day) => part_of_day(cohort, day, at),
                Period::Hour(hour) => part_of_hour(cohort, partitions, hour, at),
            };
            if let Some(part) = part {
                told.push(PartRecord { cohort: name.to_owned(), period, part });
            }
        }
        cohort.prune(hour);
    }
    told
}

/// What the calendar masks for all accounts around the hours that are told.
fn masked_for_all(cohorts: &Cohorts, hour: i64) -> Vec<Span> {
    let day = |hour: i64| Day(i32::try_from(hour.div_euclid(24)).unwrap_or(0));
    cohorts
        .calendar()
        .for_all((day(hour - CORRECTED_HOURS - ZONE_HOURS.1), day(hour + ZONE_HOURS.0)))
}

/// Whether it is a masked day somewhere in an hour of UTC.
fn is_within(span: &Span, hour: i64) -> bool {
    let (from, to) = (i64::from(span.from.0) * 24, (i64::from(span.to.0) + 1) * 24);
    (from - ZONE_HOURS.0..to + ZONE_HOURS.1).contains(&hour)
}

/// What a partition has to say of a day that it has not said.
fn part_of_day(cohort: &mut Cohort, day: Day, at: Millis) -> Option<Part> {
    let mut row = cohort.day(day)?.clone();
    let signals = row.signals.iter().map(|(key, sums)| {
        let known = cohort.weeks_before(*key, day) >= WEEKS.1;
        let comparable = if known { 1.0 } else { 0.0 };
        let believed = sums.believed();
        let sums = Sums {
            weight: believed.weight,
            relative: believed.sum,
            compared: comparable * believed.sum,
            usual: comparable * sums.usual * believed.weight,
        };
        (*key, sums)
    });
    let part = Part {
        at,
        accounts: row.accounts,
        score: row.score,
        held_back: row.held_back,
        signals: signals.collect(),
    };
    row.told = true;
    cohort.put(CohortKey::Day(day), Some(CohortRow::Day(row)));
    Some(part)
}

/// What a partition has to say of an hour that it has not said; nothing of one that is usually quiet.
fn part_of_hour(cohort: &mut Cohort, partitions: i32, hour: i64, at: Millis) -> Option<Part> {
    let before = cohort.hour(hour).cloned();
    let usual = usual_of_hour(cohort, hour);
    let enough = EXPECTED_MIN / (SPREAD * f64::from(partitions.max(1)));
    let says = usual.iter().any(|(_, usual)| *usual >= enough);
    if before.is_some() || says {
        let row = CohortHour { told: true, ..before.clone().unwrap_or_default() };
        cohort.put(CohortKey::Hour(hour), Some(CohortRow::Hour(row)));
    }
    if !says {
        return None;
    }
    let counts = before.map(|row| row.counts).unwrap_or_default();
    let signals = usual.into_iter().map(|(key, usual)| {
        let relative = find(&counts, key).unwrap_or(0.0);
        (key, Sums { weight: usual, relative, compared: relative, usual })
    });
    let (accounts, score) =
        cohort.newest_day().map_or((0, (0, 0)), |(_, day)| (day.accounts, day.score));
    Some(Part { at, accounts, score, held_back: 0, signals: signals.collect() })
}

/// What the same hour of the weeks before came to, per signal; nothing where too few weeks are known.
fn usual_of_hour(cohort: &Cohort, hour: i64) -> Vec<(SignalKey, f64)> {
    let Some(first) = cohort.first_hour() else { return Vec::new() };
    let weeks: Vec<Option<&CohortHour>> = (1..=WEEKS.0)
        .map(|week| hour - week * WEEK_HOURS)
        .filter(|hour| *hour >= first)
        .map(|hour| cohort.hour(hour))
        .collect();
    if weeks.len() < WEEKS.1 {
        return Vec::new();
    }
    let mut keys: Vec<SignalKey> =
        weeks.iter().flatten().flat_map(|row| row.counts.iter().map(|(key, _)| *key)).collect();
    keys.sort_unstable();
    keys.dedup();
    let usual = keys.into_iter().filter_map(|key| {
        let of =
            |row: &Option<&CohortHour>| row.and_then(|row| find(&row.counts, key)).unwrap_or(0.0);
        let mut same: Vec<f64> = weeks.iter().map(of).collect();
        Some((key, median(&mut same)?)).filter(|(_, usual)| *usual > 0.0)
    });
    usual.collect()
}

/// Takes in what all partitions know.
pub(crate) fn learn(cohorts: &mut Cohorts, policy: &Compiled, total: &TotalRecord) {
    let cohort = cohorts.named(Some(&total.cohort));
    let enough = |sums: &&DayTotal| sums.accounts >= policy.fleet.accounts_min;
    if let Some((day, sums)) = &total.day.as_ref().filter(|(_, sums)| enough(&sums)) {
        cohort.put(CohortKey::Total(*day), Some(CohortRow::Total(sums.clone())));
    }
    if cohort.hold() != total.hold {
        cohort.put(CohortKey::Hold, total.hold.map(CohortRow::Hold));
    }
}

/// The partition that adds cohorts up.
pub(crate) struct Adder<'a> {
    pub(crate) policy: &'a Compiled,
    pub(crate) model_version: &'a str,
    pub(crate) totals: Vec<TotalRecord>,
    pub(crate) out: &'a mut Vec<Output>,
}

impl Adder<'_> {
    /// Takes in a part, in place of what its partition said of the period before.
    pub(crate) fn add(&mut self, cohorts: &mut Cohorts, source: u32, record: PartRecord) {
        let PartRecord { cohort: name, period, part } = record;
        let cohort = cohorts.named(Some(&name));
        let mut state = cohort.fleet().cloned().unwrap_or_default();
        let at = part.at;
        let newest = state.sources.iter().map(|(_, hour)| *hour).max().unwrap_or(i64::MIN);
        if period.end_hour() < newest.saturating_sub(PART_HOURS) {
            return;
        }
        match state.sources.iter_mut().find(|(known, _)| *known == source) {
            Some((_, hour)) => *hour = (*hour).max(period.end_hour()),
            None => state.sources.push((source, period.end_hour())),
        }
        cohort.put(CohortKey::Part(period, source), Some(CohortRow::Part(part)));
        if !state.pending.contains(&period) {
            state.pending.push(period);
        }
        self.weigh(&name, cohort, &mut state, at, false);
        cohort.put(CohortKey::Fleet, Some(CohortRow::Fleet(Box::new(state))));
    }

    /// Time passes: what waited long enough is weighed, and alerts end.
    pub(crate) fn pass(&mut self, cohorts: &mut Cohorts, at: Millis) {
        for (name, cohort) in cohorts.iter_mut() {
            let Some(before) = cohort.fleet() else { continue };
            if before.pending.is_empty() && before.open.is_none() {
                continue;
            }
            let mut state = before.clone();
            self.weigh(name, cohort, &mut state, at, true);
            let quiet = i64::from(self.policy.fleet.quiet_hours) * HOUR_MS;
            if let Some(open) = state.open.take_if(|open| open.until.plus(quiet) <= at) {
                self.publish(name, open, Transition::Resolved, at);
            }
            if cohort.fleet() != Some(&state) {
                cohort.put(CohortKey::Fleet, Some(CohortRow::Fleet(Box::new(state))));
            }
        }
    }

    fn weigh(
        &mut self,
        name: &str,
        cohort: &mut Cohort,
        state: &mut FleetState,
        at: Millis,
        by_time: bool,
    ) {
        let hour = at.0.div_euclid(HOUR_MS);
        let waiting: Vec<u32> = state
            .sources
            .iter()
            .filter(|(_, last)| hour - *last <= SOURCE_HOURS)
            .map(|(source, _)| *source)
            .collect();
        let mut pending = std::mem::take(&mut state.pending);
        pending.sort_unstable();
        for period in pending {
            let told: Vec<u32> = cohort.parts(period).map(|(source, _)| source).collect();
            let complete = waiting.iter().all(|source| told.contains(source));
            let late = by_time && period.end_hour() + PATIENCE_HOURS <= hour;
            if complete || late {
                self.judge(name, cohort, state, period, at);
            } else {
                state.pending.push(period);
            }
        }
    }

    /// Compares a period with what was usual.
    fn judge(
        &mut self,
        name: &str,
        cohort: &mut Cohort,
        state: &mut FleetState,
        period: Period,
        at: Millis,
    ) {
        let rules = &self.policy.fleet;
        let mut total = Part::default();
        for (_, part) in cohort.parts(period) {
            total.accounts += part.accounts;
            total.score.0 += part.score.0;
            total.score.1 += part.score.1;
            total.held_back += part.held_back;
            for (key, sums) in &part.signals {
                entry(&mut total.signals, *key, Sums::default).add(*sums);
            }
        }
        let kind = usize::from(!period.is_hour());
        let fresh = match period {
            Period::Hour(hour) => state.weighed.0.is_none_or(|newest| hour > newest),
            Period::Day(day) => state.weighed.1.is_none_or(|newest| day > newest),
        };
        let mut deviations: Vec<Deviation> = Vec::new();
        for (key, sums) in &total.signals {
            let enough = sums.usual > 0.0 && (!period.is_hour() || sums.usual >= EXPECTED_MIN);
            if total.accounts < rules.accounts_min || !enough || sums.weight <= 0.0 {
                continue;
            }
            // Half an account's event more: nothing at all has a logarithm, too.
            let least = 0.5 * sums.usual / sums.weight.max(1.0);
            let ratio = (sums.compared.max(0.0) + least) / (sums.usual + least);
            let noise = entry(&mut state.noise[kind], *key, Noise::default);
            let sampling = 1.0 / sums.weight;
            let variance = noise.variance(NOISE_PRIOR[kind]) + sampling;
            let z = (ratio.ln() / variance.sqrt()).clamp(-Z_MAX, Z_MAX);
            let change = (ratio - 1.0).abs() * 100.0;
            if change >= rules.change_min_pct && z.abs() >= rules.z_min {
                deviations.push(Deviation { signal: *key, ratio, z, sums: *sums });
            } else if fresh {
                noise.see(ratio.ln() * ratio.ln() - sampling);
            }
        }
        match period {
            Period::Hour(hour) if fresh => state.weighed.0 = Some(hour),
            Period::Day(day) if fresh => state.weighed.1 = Some(day),
            Period::Hour(_) | Period::Day(_) => {}
        }
        self.review(name, state, (period, fresh, &total), &deviations, at);
        let most = i64::from(rules.hold_hours) * HOUR_MS;
        let held = state.open.as_ref().map(|open| {
            let lasted = open.until.0 - open.opened_at.0;
            open.until.plus(lasted.max(JUDGED_HOURS * HOUR_MS).min(most))
        });
        // A hold outlasts its alert.
        let hold = held.max(cohort.hold());
        let day = match period {
            Period::Day(day) => {
                Some((day, DayTotal { accounts: total.accounts, signals: total.signals }))
            }
            Period::Hour(_) => None,
        };
        if day.is_some() || hold != cohort.hold() {
            self.totals.push(TotalRecord { cohort: name.to_owned(), hold, day });
        }
    }

    /// Opens, updates or leaves the cohort's alert.
    fn review(
        &mut self,
        name: &str,
        state: &mut FleetState,
        (period, fresh, total): (Period, bool, &Part),
        deviations: &[Deviation],
        at: Millis,
    ) {
        let mut evidence: Vec<Evidence> = deviations
            .iter()
            .filter_map(|deviation| self.evidence(name, period, *deviation))
            .collect();
        crate::alert::strongest_first(&mut evidence);
        let counted = i64::from(total.score.1.max(1));
        let score = Points(i32::try_from(total.score.0 / counted).unwrap_or(0));
        match (&mut state.open, evidence.is_empty()) {
            (None, true) => {}
            // What is told again days later is history.
            (None, false) if !fresh && period.end().plus(NEWS_HOURS * HOUR_MS) < at => {}
            (None, false) => {
                let account = address(name);
                let open = OpenFleet {
                    id: content_id(&[account.as_str(), FLEET_KIND, &at.0.to_string()]),
                    opened_at: at,
                    last: (Transition::Opened, at),
                    sequence: 0,
                    until: period.end(),
                    held_back: total.held_back,
                    title: String::new(),
                    evidence,
                    score,
                };
                state.open = Some(self.publish(name, open, Transition::Opened, at));
            }
            (Some(open), quiet) => {
                let mut news = total.held_back > open.held_back;
                open.held_back = open.held_back.max(total.held_back);
                if !quiet {
                    open.until = open.until.max(period.end());
                    let known =
                        |item: &Evidence| open.evidence.iter().any(|it| it.signal == item.signal);
                    // Days say more than hours.
                    news |= !evidence.iter().all(known) || (fresh && !period.is_hour());
                    if news {
                        open.evidence = evidence;
                    }
                }
                if news {
                    let open = open.clone();
                    state.open = Some(self.publish(name, open, Transition::Updated, at));
                }
            }
        }
    }

    fn evidence(&self, name: &str, period: Period, found: Deviation) -> Option<Evidence> {
        let index = self.policy.keys().iter().position(|key| *key == found.signal)?;
        let signal = self.policy.signals.get(index)?;
        let change = (found.ratio - 1.0) * 100.0;
        let direction = if change < 0.0 { "fell" } else { "rose" };
        let (onset, window_days) = match period {
            Period::Hour(hour) => (Day(i32::try_from(hour.div_euclid(24)).unwrap_or(0)), 1),
            Period::Day(day) => (day, 1),
        };
        // Of hours, counts are known; of days, how they compare with each account's own level.
        let (observed, baseline, unit) = match period {
            Period::Hour(_) => (found.sums.compared, found.sums.usual, "in the hour".to_owned()),
            Period::Day(_) => (
                found.sums.compared / found.sums.weight.max(1e-9),
                found.sums.usual / found.sums.weight.max(1e-9),
                "of an average day".to_owned(),
            ),
        };
        Some(Evidence {
            signal: signal.name.clone(),
            category: signal.category,
            group: signal.group.clone(),
            observed,
            baseline,
            unit,
            change_pct: Some(change),
            z: found.z,
            risk: (change < 0.0) == (signal.direction == Direction::Down),
            onset,
            window_days,
            text: format!(
                "{} of {} {direction} by {:.0} % {}",
                signal.label,
                whose(name),
                change.abs(),
                period.words()
            ),
        })
    }

    /// Publishes an event of an alert, which is then known.
    fn publish(
        &mut self,
        name: &str,
        mut open: OpenFleet,
        transition: Transition,
        at: Millis,
    ) -> OpenFleet {
        open.sequence += 1;
        open.last = (transition, at);
        let held = match open.held_back {
            0 => String::new(),
            1 => "; 1 alert of an account held back".to_owned(),
            many => format!("; {many} alerts of accounts held back"),
        };
        let first = open.evidence.first().map_or("", |item| item.text.as_str());
        let more = match open.evidence.len() {
            0 | 1 => String::new(),
            2 => ", and 1 more signal".to_owned(),
            many => format!(", and {} more signals", many - 1),
        };
        open.title = format!("{first}{more}{held}");
        let event = event(self.policy, self.model_version, name, &open);
        self.out.push(Output::Alert(Box::new(event)));
        open
    }
}

/// A fleet alert as it stands: its last event.
pub(crate) fn event(
    policy: &Compiled,
    model_version: &str,
    name: &str,
    open: &OpenFleet,
) -> AlertEvent {
    let (transition, at) = open.last;
    let ended = transition == Transition::Resolved;
    let priority_parts = priority::of_severity(Severity::High, &policy.priority);
    AlertEvent {
        id: content_id(&[&open.id, &open.sequence.to_string()]),
        alert_id: open.id.clone(),
        account_id: address(name),
        account_name: Some(whose(name)),
        kind: FLEET_KIND.to_owned(),
        transition,
        severity: Severity::High,
        at,
        opened_at: open.opened_at,
        state: if ended { AlertState::Resolved } else { AlertState::Open },
        until: None,
        reopened: 0,
        by: None,
        note: None,
        resolution: ended.then_some(Resolution::Recovered),
        title: open.title.clone(),
        evidence: open.evidence.clone(),
        groups: {
            let mut groups: Vec<String> =
                open.evidence.iter().map(|item| item.group.clone()).collect();
            groups.sort_unstable();
            groups.dedup();
            groups
        },
        family: None,
        priority: priority::sum(&priority_parts),
        priority_parts,
        score: open.score,
        band: band(open.score, policy),
        policy_version: policy.version().to_owned(),
        model_version: model_version.to_owned(),
    }
}

/// What stands for a cohort where alerts name an account: `*` for all accounts without a cohort, `*name` for the others.
#[must_use]
pub fn address(name: &str) -> AccountId {
    // A name that is too long for that is no more than a name.
    let fits = AccountId::new(&format!("*{name}"));
    fits.unwrap_or_else(|_| AccountId::everyone())
}

fn whose(name: &str) -> String {
    if name.is_empty() { "all accounts".to_owned() } else { format!("all {name} accounts") }
}
