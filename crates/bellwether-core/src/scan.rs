//! The corroboration scan: did several groups of signals change together, beyond what chance and any one of them alone explain?
//!
//! Counts of one account rise and fall together from day to day (somebody is ill, a project ends), so they are modelled by one
//! activity factor a day, gamma distributed about one with a variance that is estimated: their joint distribution is negative
//! multinomial (Sibuya, Yoshimura and Shimizu 1964), and the common part of a bad day is no evidence twice. Against "as ever" stands
//! "since `window` days the groups of a set are at `ratio` of what is expected": the logarithm of the likelihood ratio, maximised
//! over windows, ratios and sets (a scan statistic: Kulldorff 1997; Page 1954 for the unknown onset). Sets are tried nested, by
//! the strength of their members (after Neill 2012), and pay for the number of sets of their size.
//!
//! Three families, because what is urgent differs in time scale and each has its own share of the budget of false alerts:
//! [`Family::Drop`] (toward risk, up to eight weeks), [`Family::Rise`] (away from it, up to a week), [`Family::Decline`] (toward
//! risk at a steady rate, over eight to twelve weeks).

use std::cell::OnceCell;

use crate::output::Family;

/// Days that a scan looks at, at most.
pub const SCAN_DAYS: usize = 84;
/// Windows of constant change, in days.
const WINDOWS: [usize; 20] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 21, 24, 28, 35, 42, 56];
/// The longest window of a drop, and of a rise.
const DROP_DAYS_MAX: usize = 56;
const RISE_DAYS_MAX: usize = 7;
/// What is left of the expectation, for changes that lower a count.
const FALLS: [f64; 6] = [0.02, 0.1, 0.25, 0.4, 0.6, 0.75];
/// What the expectation is multiplied by, for changes that raise a count.
const GROWTHS: [f64; 3] = [2.0, 3.5, 5.0];
/// The same changes for measurements, in standard deviations.
const SHIFTS: [f64; 6] = [4.0, 3.0, 2.0, 1.5, 1.0, 0.5];
/// Windows of a steady decline, in days.
const DECLINE_DAYS: [usize; 2] = [56, 84];
/// Its rates, per week.
const DECLINE_RATES: [f64; 3] = [0.03, 0.05, 0.08];
/// By how much a sudden change of a single group may explain the days better than a steady decline of several: it has many more
/// windows to choose from.
const DECLINE_SLACK: f64 = 1.5;
/// The least statistic of a family that is told, and what all groups together must be able to say for it to be worth a look: less than
/// what any budget alerts or keeps up alerts for.
const LEAST: [f64; 3] = [4.0, 4.0, 2.0];
/// Standardised measurements are cut here: one odd day is one odd day.
const Z_DAY_MAX: f64 = 4.0;

/// How a lane's days are distributed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    /// Counts that share the account's activity of the day.
    Shared,
    /// Counts with a daily variation of their own: the variance of their factor.
    Own(f64),
    /// Measurements about their level: values are standardised already.
    Normal,
}

/// One signal of an account, as the scan sees it. Days run backwards: index 0 is the day that closes.
#[derive(Debug, Clone)]
pub struct Lane {
    /// The correlation group: of one group the most convinced lane speaks.
    pub group: usize,
    /// Whether a fall is risk (a rise otherwise).
    pub falls: bool,
    /// The distribution.
    pub law: Law,
    /// Counts (or standardised measurements); NaN: nothing was measured.
    pub observed: Vec<f64>,
    /// Expected counts, by the level before the last four weeks. Above zero. Of no meaning for measurements.
    pub expected: Vec<f64>,
    /// The level before the last eight weeks, as a share of the former.
    pub old_ratio: f64,
    /// Days of reference behind the level before the last four weeks, and before the last eight.
    pub reference_days: (f64, f64),
    /// Variance of the level that lasts for weeks, relative to that of one day: 0 where days vary alone.
    pub drift: f64,
}

/// What the scan needs to know of the account.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScanRules {
    /// Variance of the common factor of a day, relative to its mean of one. Above zero.
    pub shared_variance: f64,
    /// Groups that a set has at least, 2 or more.
    pub groups_min: usize,
    /// By how much the set must explain the days better than the best single group does, in units of log-likelihood, per family.
    pub gates: [f64; 3],
    /// The families that are looked for.
    pub families: &'static [Family],
}

/// A set of groups that changed together.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The family.
    pub family: Family,
    /// Log-likelihood ratio against "as ever", with what the number of sets costs and long windows are granted.
    pub statistic: f64,
    /// How much better than the best single group the set explains the days, in units of log-likelihood.
    pub beyond_one: f64,
    /// The lanes that speak for the set, strongest first.
    pub lanes: Vec<usize>,
    /// Days since the change began, that day included.
    pub window_days: u16,
    /// What is left (or what it was multiplied by) of the expectation; for a decline at its end.
    pub ratio: f64,
}

/// What a scan says: the best set of each family, convincing or not, and each lane alone.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scan {
    /// The best set of two groups or more, per family that could be tested and has one that passes the gate.
    pub findings: Vec<Finding>,
    /// Per lane: its log-likelihood ratio alone toward risk, best over windows, with that window in days; of no meaning without findings.
    pub alone: Vec<(f64, u16)>,
}

/// How a set of lanes changed.
enum Change<'a> {
    /// By the same since a day.
    Constant { family: Family, size: usize },
    /// By the same share every week: the place of its curve, and what is left on each day, newest first, with its logarithm.
    Steady(usize, &'a [(f64, f64)]),
}

/// Ways in which days can have changed: falls, growths and steady declines.
const CHANGES: usize = FALLS.len() + GROWTHS.len() + DECLINE_DAYS.len() * DECLINE_RATES.len();

impl Change<'_> {
    /// Its place among [`CHANGES`].
    fn place(&self) -> usize {
        match *self {
            Change::Constant { family: Family::Drop | Family::Decline, size } => size,
            Change::Constant { family: Family::Rise, size } => FALLS.len() + size,
            Change::Steady(curve, _) => FALLS.len() + GROWTHS.len() + curve,
        }
    }

    /// What it means for the days of a lane: a ratio of counts with its logarithm, or a shift of measurements.
    fn days(&self, lane: &Lane, days: usize) -> impl Iterator<Item = (f64, f64)> {
        let (constant, curve) = match *self {
            Change::Constant { family, size } => (lane.change(family, size), &[][..]),
            Change::Steady(_, curve) => ((0.0, 0.0), curve),
        };
        let (measured, falls) = (lane.law == Law::Normal, lane.falls);
        (0..days).map(move |day| match curve.get(day) {
            None => constant,
            Some(&(left, _)) if measured => (if falls { 2.0 } else { -2.0 } * (left - 1.0), 0.0),
            Some(&(left, log)) if falls => (left, log),
            Some(&(left, log)) => (1.0 / left, -log),
        })
    }
}

/// What is left of a level after a steady decline of `days` days at this rate per week: per day with its logarithm, newest first.
fn curve(days: usize, rate: f64) -> Vec<(f64, f64)> {
    (0..days)
        .map(|day| {
            let log = -rate * (days - day) as f64 / 7.0;
            (log.exp(), log)
        })
        .collect()
}

/// Scans the last days of an account's lanes. `dependent(a, b)`: two groups rest on the same events and count once.
#[must_use]
pub fn scan(lanes: &[Lane], rules: &ScanRules, dependent: &dyn Fn(usize, usize) -> bool) -> Scan {
    let worth = Family::ALL.map(|family| {
        rules.families.contains(&family) && at_most(lanes, family) >= LEAST[family as usize]
    });
    if worth == [false; 3] {
        return Scan { findings: Vec::new(), alone: vec![(0.0, 1); lanes.len()] };
    }
    let table = Table::new(lanes, rules);
    let alone = Alone { table: &table, known: Default::default() };
    let mut findings = Vec::new();
    for family in Family::ALL.into_iter().filter(|&family| worth[family as usize]) {
        let strength: Vec<f64> = alone.of(family).iter().map(|alone| alone.0).collect();
        let speakers = speakers(lanes, &strength, dependent);
        let found = (rules.groups_min.max(2)..=speakers.len())
            .filter_map(|size| {
                let mut set = speakers[..size].to_vec();
                set.sort_unstable();
                let (statistic, raw, window_days, ratio) = table.set(family, &set);
                let statistic = statistic - choose(speakers.len(), size).ln();
                if statistic < LEAST[family as usize] {
                    return None;
                }
                let beyond_one = alone.beyond_one(family, &set, raw);
                (beyond_one >= rules.gates[family as usize]).then(|| Finding {
                    family,
                    statistic,
                    beyond_one,
                    lanes: speakers[..size].to_vec(),
                    window_days: window_days as u16,
                    ratio,
                })
            })
            .max_by(|left, right| left.statistic.total_cmp(&right.statistic));
        findings.extend(found);
    }
    if findings.is_empty() {
        return Scan { findings, alone: vec![(0.0, 1); lanes.len()] };
    }
    let drop = alone.of(Family::Drop).iter().map(|&(value, days)| (value, days as u16)).collect();
    Scan { findings, alone: drop }
}

/// What each lane says alone, per family: reckoned where it is asked for, which it seldom is.
struct Alone<'a> {
    table: &'a Table<'a>,
    known: [OnceCell<Vec<(f64, usize)>>; 3],
}

impl Alone<'_> {
    /// Every lane alone: (log-likelihood ratio, days).
    fn of(&self, family: Family) -> &[(f64, usize)] {
        self.known[family as usize].get_or_init(|| {
            (0..self.table.lanes.len())
                .map(|lane| {
                    let (_, raw, days, _) = self.table.set(family, &[lane]);
                    (raw, days)
                })
                .collect()
        })
    }

    /// By how much a set explains the days better than the best single lane.
    fn beyond_one(&self, family: Family, set: &[usize], raw: f64) -> f64 {
        let any = |lane: usize| Family::ALL.map(|family| self.of(family)[lane].0);
        let best = |lane: usize| any(lane).into_iter().fold(f64::NEG_INFINITY, f64::max);
        let best = raw - self.single(set, best);
        if family != Family::Decline {
            return best;
        }
        // Against the decline of one group; and one group that stopped altogether must not explain it much better.
        let decline = self.of(Family::Decline);
        (raw - self.single(set, |lane| decline[lane].0)).min(best + DECLINE_SLACK)
    }

    /// What a lane does by itself explains the days of a set that it belongs to, and, by the factor that they share, those of shared
    /// counts.
    fn single(&self, set: &[usize], of: impl Fn(usize) -> f64) -> f64 {
        let lanes = self.table.lanes;
        let shares = set.iter().any(|&lane| lanes[lane].law == Law::Shared);
        let counts =
            |lane: &usize| set.contains(lane) || (shares && lanes[*lane].law == Law::Shared);
        (0..lanes.len()).filter(counts).map(of).fold(0.0, f64::max)
    }
}

/// What all groups together can say of a family at most, about: the sum of what each says of its best window if its days varied by
/// chance alone. Most days of most accounts are settled by that, at a tenth of the work.
fn at_most(lanes: &[Lane], family: Family) -> f64 {
    let reach = match family {
        Family::Drop => DROP_DAYS_MAX,
        Family::Rise => RISE_DAYS_MAX,
        Family::Decline => SCAN_DAYS,
    };
    let mut groups: Vec<(usize, f64)> = Vec::new();
    for lane in lanes {
        let falls = lane.falls == (family != Family::Rise);
        let level = if family == Family::Decline { lane.old_ratio } else { 1.0 };
        let (mut observed, mut expected, mut best) = (0.0, 0.0, 0.0_f64);
        let shortest = if family == Family::Decline { 28 } else { 1 };
        let windows = WINDOWS.iter().chain(&DECLINE_DAYS[1..]);
        let mut windows = windows.skip_while(|&&window| window < shortest).peekable();
        for day in 0..reach.min(lane.observed.len()) {
            if let Some((count, mean)) = lane.day(day) {
                observed += count;
                expected += if lane.law == Law::Normal { 1.0 } else { mean * level };
            }
            if windows.next_if(|&&window| window == day + 1).is_none() || expected <= 0.0 {
                continue;
            }
            let says = if lane.law == Law::Normal {
                observed * observed / (2.0 * expected)
            } else if observed > 0.0 {
                observed * (observed / expected).ln() - (observed - expected)
            } else {
                expected
            };
            let normal = if lane.law == Law::Normal { 0.0 } else { expected };
            if (observed < normal) == falls {
                best = best.max(says);
            }
        }
        match groups.iter_mut().find(|(group, _)| *group == lane.group) {
            Some((_, most)) => *most = most.max(best),
            None => groups.push((lane.group, best)),
        }
    }
    groups.iter().map(|(_, most)| most).sum()
}

/// Of each group the most convinced lane, strongest first; a group that rests on the events of a stronger one is left out.
fn speakers(
    lanes: &[Lane],
    strength: &[f64],
    dependent: &dyn Fn(usize, usize) -> bool,
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lanes.len()).collect();
    order
        .sort_by(|&left, &right| strength[right].total_cmp(&strength[left]).then(left.cmp(&right)));
    let mut chosen: Vec<usize> = Vec::new();
    for lane in order {
        let heard = chosen
            .iter()
            .any(|&other| lanes[other].group == lanes[lane].group || dependent(other, lane));
        if !heard {
            chosen.push(lane);
        }
    }
    chosen
}

/// Binomial coefficient.
fn choose(of: usize, size: usize) -> f64 {
    (0..size).map(|index| (of - index) as f64 / (index + 1) as f64).product()
}

/// The shape of the gamma distribution of a factor of this variance.
fn own_shape(variance: f64) -> f64 {
    1.0 / variance.max(1e-6)
}

/// The counts of all lanes, prepared.
struct Table<'a> {
    lanes: &'a [Lane],
    /// Shape of the gamma distribution of the day's factor.
    shape: f64,
    days: usize,
    /// Per day: all shared counts, observed and expected.
    totals: Vec<(f64, f64)>,
    /// The same, expected by the older level.
    old_totals: Vec<(f64, f64)>,
    /// What the days of a lane that shares no factor say of a change, per change and lane: the same in every set that it is part of.
    own_days: Vec<OnceCell<Vec<f64>>>,
    /// Of every steady decline: its days, and what is left on each.
    curves: Vec<(usize, Vec<(f64, f64)>)>,
}

impl<'a> Table<'a> {
    fn new(lanes: &'a [Lane], rules: &ScanRules) -> Table<'a> {
        let days = lanes.iter().map(|lane| lane.observed.len()).max().unwrap_or(0).min(SCAN_DAYS);
        let shape = own_shape(rules.shared_variance);
        let totals = |level: fn(&Lane) -> f64| -> Vec<(f64, f64)> {
            let mut totals = vec![(0.0, 0.0); days];
            for lane in lanes.iter().filter(|lane| lane.law == Law::Shared) {
                for (day, total) in totals.iter_mut().enumerate() {
                    if let Some((observed, expected)) = lane.day(day) {
                        total.0 += observed;
                        total.1 += expected * level(lane);
                    }
                }
            }
            totals
        };
        let (totals, old_totals) = (totals(|_| 1.0), totals(|lane| lane.old_ratio));
        let curves = DECLINE_DAYS
            .iter()
            .flat_map(|&reach| DECLINE_RATES.map(|rate| (reach.min(days), rate)))
            .map(|(days, rate)| (days, curve(days, rate)))
            .collect();
        Table {
            lanes,
            shape,
            days,
            totals,
            old_totals,
            own_days: vec![OnceCell::new(); CHANGES * lanes.len()],
            curves,
        }
    }

    /// Per day, of the first `days`, the log-likelihood ratio of "these lanes are changed so" against "as ever".
    fn daily(&self, set: &[usize], change: &Change<'_>, days: usize) -> Vec<f64> {
        let mut ratios = vec![0.0; days.min(self.days)];
        // What the set's shared counts are expected to change by, per day.
        let mut moved = vec![0.0; ratios.len()];
        let mut shares = false;
        let old = matches!(change, Change::Steady(..));
        for &index in set {
            let lane = &self.lanes[index];
            if lane.law != Law::Shared {
                let own = self.own_days(index, change, ratios.len());
                ratios.iter_mut().zip(own).for_each(|(ratio, own)| *ratio += own);
                continue;
            }
            shares = true;
            let level = if old { lane.old_ratio } else { 1.0 };
            let changes = change.days(lane, ratios.len());
            for (day, (ratio, (size, log))) in ratios.iter_mut().zip(changes).enumerate() {
                let Some((observed, expected)) = lane.day(day) else { continue };
                *ratio += observed * log;
                moved[day] += (size - 1.0) * (expected * level);
            }
        }
        if shares {
            let totals = if old { &self.old_totals } else { &self.totals };
            for ((ratio, moved), (observed, expected)) in ratios.iter_mut().zip(moved).zip(totals) {
                *ratio -= (self.shape + observed) * (moved / (self.shape + expected)).ln_1p();
            }
        }
        ratios
    }

    /// The same of a lane that shares no factor, alone.
    fn own_days(&self, index: usize, change: &Change<'_>, days: usize) -> &[f64] {
        self.own_days[change.place() * self.lanes.len() + index].get_or_init(|| {
            let lane = &self.lanes[index];
            let old = matches!(change, Change::Steady(..));
            let level = if old { lane.old_ratio } else { 1.0 };
            let changes = change.days(lane, days).enumerate();
            let days = changes.map(|(day, (size, log))| {
                let Some((observed, expected)) = lane.day(day) else { return 0.0 };
                if let Law::Own(variance) = lane.law {
                    let (shape, expected) = (own_shape(variance), expected * level);
                    let gone = ((size - 1.0) * expected / (shape + expected)).ln_1p();
                    observed * log - (shape + observed) * gone
                } else {
                    let z = observed.clamp(-Z_DAY_MAX, Z_DAY_MAX);
                    size * z - size * size / 2.0
                }
            });
            days.collect()
        })
    }

    /// The best window and size of a constant change of a set: (statistic, log-likelihood ratio, days, ratio).
    fn constant(&self, family: Family, set: &[usize]) -> (f64, f64, usize, f64) {
        let sizes = if family == Family::Rise { GROWTHS.len() } else { FALLS.len() };
        let mut best = (f64::NEG_INFINITY, f64::NEG_INFINITY, 1, 1.0);
        for size in 0..sizes {
            let reach = if family == Family::Rise { RISE_DAYS_MAX } else { DROP_DAYS_MAX };
            let daily = self.daily(set, &Change::Constant { family, size }, reach);
            let mut sum = 0.0;
            let mut windows = WINDOWS.iter().peekable();
            for (day, value) in daily.iter().enumerate() {
                sum += value;
                if windows.next_if(|&&window| window == day + 1).is_none() {
                    continue;
                }
                let days = (day + 1) as f64;
                let raw = sum * self.sureness(set, days);
                let statistic = raw + days.ln();
                if statistic > best.0 {
                    let ratio = self.lanes[set[0]].change(family, size).0;
                    best = (statistic, best.1.max(raw), day + 1, ratio);
                }
                best.1 = best.1.max(raw);
            }
        }
        best
    }

    /// The best steady decline of a set: (log-likelihood ratio, days, ratio at its end).
    fn decline(&self, set: &[usize]) -> (f64, usize, f64) {
        let mut best = (f64::NEG_INFINITY, 0, 1.0);
        for (place, (days, curve)) in self.curves.iter().enumerate() {
            let days = *days;
            {
                let sum: f64 = self.daily(set, &Change::Steady(place, curve), days).iter().sum();
                // The level is uncertain, too: a change of the whole window is less certain than its days alone say.
                let (total, squares) =
                    curve.iter().fold((0.0, 0.0), |(total, squares), (left, _)| {
                        (total + 1.0 - left, squares + (1.0 - left).powi(2))
                    });
                let beyond = days.saturating_sub(56) as f64;
                let unsure =
                    self.mean(set, |lane| 1.0 / (lane.reference_days.1 - beyond).max(14.0));
                let sure = squares / (squares + total * total * (unsure + self.drift(set)));
                if sum * sure > best.0 {
                    best = (sum * sure, days, curve.first().map_or(1.0, |(left, _)| *left));
                }
            }
        }
        best
    }

    fn set(&self, family: Family, set: &[usize]) -> (f64, f64, usize, f64) {
        match family {
            Family::Drop | Family::Rise => self.constant(family, set),
            Family::Decline => {
                let (value, days, ratio) = self.decline(set);
                (value, value, days, ratio)
            }
        }
    }

    /// The share of the evidence of a window that is left where the level is uncertain, and drifts.
    fn sureness(&self, set: &[usize], days: f64) -> f64 {
        let unsure = self.mean(set, |lane| 1.0 / lane.reference_days.0.max(1.0));
        1.0 / (1.0 + days * (unsure + self.drift(set)))
    }

    fn drift(&self, set: &[usize]) -> f64 {
        self.mean(set, |lane| lane.drift)
    }

    fn mean(&self, set: &[usize], of: impl Fn(&Lane) -> f64) -> f64 {
        set.iter().map(|&lane| of(&self.lanes[lane])).sum::<f64>() / set.len() as f64
    }
}

impl Lane {
    fn day(&self, day: usize) -> Option<(f64, f64)> {
        let (observed, expected) = (*self.observed.get(day)?, *self.expected.get(day)?);
        observed.is_finite().then_some((observed, expected))
    }

    /// What a change of a family and size means for this lane: a ratio of counts with its logarithm, a shift of measurements.
    fn change(&self, family: Family, size: usize) -> (f64, f64) {
        let falls = self.falls == (family != Family::Rise);
        let ratio = match (self.law, falls, family) {
            (Law::Normal, true, _) => return (-SHIFTS[size], 0.0),
            (Law::Normal, false, _) => return (SHIFTS[size], 0.0),
            (_, true, Family::Rise) => 1.0 / GROWTHS[size],
            (_, true, _) => FALLS[size],
            (_, false, Family::Rise) => GROWTHS[size],
            // A count cannot grow fiftyfold as easily as it can vanish.
            (_, false, _) => (1.0 / FALLS[size]).min(8.0),
        };
        (ratio, ratio.ln())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: ScanRules = ScanRules {
        shared_variance: 0.15,
        groups_min: 2,
        gates: [3.0, 2.5, 0.3],
        families: &Family::ALL,
    };

    /// A lane of its own group that expects `level` a day and saw `observed(days ago)`.
    fn lane(group: usize, level: f64, observed: impl Fn(usize) -> f64) -> Lane {
        Lane {
            group,
            falls: true,
            law: Law::Shared,
            observed: (0..SCAN_DAYS).map(observed).collect(),
            expected: vec![level; SCAN_DAYS],
            old_ratio: 1.0,
            reference_days: (200.0, 200.0),
            drift: 0.0,
        }
    }

    fn steady(group: usize) -> Lane {
        lane(group, 10.0, |_| 10.0)
    }

    fn found(lanes: &[Lane], family: Family) -> Option<Finding> {
        let scan = scan(lanes, &RULES, &|_, _| false);
        scan.findings.into_iter().find(|finding| finding.family == family)
    }

    #[test]
    fn as_ever_is_no_finding() {
        assert_eq!(scan(&[steady(0), steady(1), steady(2)], &RULES, &|_, _| false).findings, []);
        assert_eq!(scan(&[], &RULES, &|_, _| false), Scan::default());
    }

    #[test]
    fn two_groups_that_fall_are_found_with_their_day_and_their_size() {
        let fallen = |group| lane(group, 10.0, |ago| if ago < 9 { 4.0 } else { 10.0 });
        let finding = found(&[steady(0), fallen(1), fallen(2)], Family::Drop).expect("found");
        assert_eq!(finding.lanes, [1, 2]);
        assert_eq!((finding.window_days, finding.ratio), (9, 0.4));
        assert!(finding.statistic > 12.0, "{finding:?}");
    }

    #[test]
    fn one_group_that_stops_is_no_finding_however_sure() {
        let stopped = lane(0, 50.0, |ago| if ago < 5 { 0.0 } else { 50.0 });
        let lanes = [stopped.clone(), steady(1), steady(2)];
        assert_eq!(scan(&lanes, &RULES, &|_, _| false).findings, []);
        let agrees = lane(1, 10.0, |ago| if ago < 5 { 0.0 } else { 10.0 });
        let scan = scan(&[stopped, agrees, steady(2)], &RULES, &|_, _| false);
        assert_eq!(scan.findings[0].lanes, [0, 1]);
        assert!(scan.alone[0].0 > 10.0 && scan.alone[0].1 == 5, "{:?}", scan.alone);
    }

    #[test]
    fn what_all_groups_share_on_a_day_is_weak_evidence() {
        // A day on which the whole account did a third: within what its days vary by.
        let quiet = |group| lane(group, 200.0, |ago| if ago == 0 { 70.0 } else { 200.0 });
        let whole = found(&[quiet(0), quiet(1), quiet(2)], Family::Drop);
        assert!(whole.as_ref().is_none_or(|finding| finding.statistic < 4.0), "{whole:?}");
        let partly = found(&[quiet(0), quiet(1), lane(2, 200.0, |_| 200.0)], Family::Drop);
        assert!(partly.expect("two of three are not").statistic > 30.0);
    }

    #[test]
    fn signals_of_one_group_and_groups_of_the_same_events_count_once() {
        let fallen = |group| lane(group, 10.0, |ago| if ago < 9 { 2.0 } else { 10.0 });
        let lanes = [fallen(0), fallen(0), steady(1)];
        assert_eq!(found(&lanes, Family::Drop), None, "one group");
        let lanes = [fallen(0), fallen(1), steady(2)];
        assert!(found(&lanes, Family::Drop).is_some());
        let same = scan(&lanes, &RULES, &|left, right| left + right == 1);
        assert!(same.findings.iter().all(|finding| finding.family != Family::Drop), "{same:?}");
    }

    #[test]
    fn a_slow_decline_and_a_short_rise_are_families_of_their_own() {
        let left = |ago: usize| 12.0 * (-0.05 * (56_usize.saturating_sub(ago)) as f64 / 7.0).exp();
        let declining = |group| lane(group, 12.0, left);
        let lanes = [declining(0), declining(1), declining(2)];
        let finding = found(&lanes, Family::Decline).expect("a decline");
        assert_eq!(finding.window_days, 56);
        assert!((finding.ratio - 0.67).abs() < 0.05 && finding.statistic > 3.0, "{finding:?}");
        let rising = |group| lane(group, 3.0, |ago| if ago < 2 { 15.0 } else { 3.0 });
        let finding = found(&[rising(0), rising(1), steady(2)], Family::Rise).expect("a rise");
        assert_eq!((finding.window_days, finding.lanes), (2, vec![0, 1]));
    }

    /// What an open day is asked for is part of what a closed one is, though all is looked at.
    #[test]
    fn one_family_alone_is_found_as_among_all() {
        let left = |ago: usize| 12.0 * (-0.05 * (56_usize.saturating_sub(ago)) as f64 / 7.0).exp();
        let declining = |group| lane(group, 12.0, left);
        let fallen = |group| lane(group, 10.0, |ago| if ago < 9 { 2.0 } else { 10.0 });
        let rising = |group| lane(group, 3.0, |ago| if ago < 2 { 30.0 } else { 3.0 });
        let moved = [fallen(0), fallen(1), rising(2), rising(3), steady(4)];
        let slipping = [declining(0), declining(1), declining(2)];
        let mut met = Vec::new();
        for lanes in [&moved[..], &slipping] {
            let all = scan(lanes, &RULES, &|_, _| false);
            for finding in &all.findings {
                let families: &[Family] = match finding.family {
                    Family::Drop => &[Family::Drop],
                    Family::Rise => &[Family::Rise],
                    Family::Decline => &[Family::Decline],
                };
                let asked = scan(lanes, &ScanRules { families, ..RULES }, &|_, _| false);
                assert_eq!(asked.findings, std::slice::from_ref(finding));
                assert_eq!(asked.alone, all.alone, "what each says by itself is the same");
                met.push(finding.family);
            }
        }
        assert!(Family::ALL.iter().all(|family| met.contains(family)), "{met:?}");
    }

    #[test]
    fn a_level_that_drifts_proves_less() {
        let fallen = |group, drift| Lane {
            drift,
            ..lane(group, 10.0, |ago| if ago < 28 { 6.0 } else { 10.0 })
        };
        let statistic = |drift| {
            found(&[fallen(0, drift), fallen(1, drift)], Family::Drop).map_or(0.0, |f| f.statistic)
        };
        assert!(statistic(0.1) < statistic(0.0) - 2.0);
    }

    proptest! {
        #[test]
        fn anything_is_answered_with_finite_figures(
            values in prop::collection::vec(prop_oneof![Just(f64::NAN), 0.0f64..1e9, Just(0.0)], 0..300),
            level in 1e-4f64..1e9, law in 0..3usize, falls: bool, drift in prop_oneof![Just(0.0), 0.0f64..100.0]
        ) {
            let law = [Law::Shared, Law::Own(0.3), Law::Normal][law];
            let lanes: Vec<Lane> = values
                .chunks(90)
                .enumerate()
                .map(|(group, values)| Lane {
                    group,
                    falls,
                    law,
                    observed: values.to_vec(),
                    expected: vec![level; values.len()],
                    old_ratio: 1.1,
                    reference_days: (14.0, 14.0),
                    drift,
                })
                .collect();
            let scan = scan(&lanes, &RULES, &|_, _| false);
            prop_assert_eq!(scan.alone.len(), lanes.len());
            for finding in &scan.findings {
                prop_assert!(finding.statistic.is_finite() && finding.beyond_one.is_finite());
                prop_assert!(finding.lanes.len() >= 2 && finding.window_days >= 1);
            }
            for families in [&[Family::Drop][..], &[Family::Rise], &[Family::Decline]] {
                let alone = super::scan(&lanes, &ScanRules { families, ..RULES }, &|_, _| false);
                let of_family = |finding: &&Finding| families.contains(&finding.family);
                let expected: Vec<Finding> = scan.findings.iter().filter(of_family).cloned().collect();
                prop_assert_eq!(alone.findings, expected);
            }
            for (value, _) in &scan.alone {
                prop_assert!(value.is_finite() || lanes.iter().any(|lane| lane.observed.is_empty()));
            }
        }
    }
}
