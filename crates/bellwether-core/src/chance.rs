//! How rare findings are in a cohort: the policy's calibration, corrected by what the cohort's own accounts show.
//!
//! The calibration of a policy is measured on accounts to which nothing happens. Accounts of another business rest, burst and return in
//! ways of their own, so their findings are counted as they come: per four weeks, volume and family, how often accounts passed each of
//! four rates ([`LEVELS`]), one episode at a time. From the counts of the months that are over follows what the rates really are
//! (shrunk to the policy's by a gamma prior; to rarer findings by the slope of the tail, as in peaks over threshold, Pickands 1975).
//! Accounts that really change are no chance: as many as the policy expects are taken out, over all families. So is what chance alone may
//! bring (a standard deviation of a Poisson count): rates are never taken for less than the policy's, and would else only ever rise. An
//! account that had more such findings of its own before than its cohort has them more often (gamma-Poisson): common ones of the family
//! at hand, and rare ones of any family.

use serde::{Deserialize, Serialize};

use crate::output::Family;
use crate::policy::CalibrationPolicy;
use crate::time::Day;

/// Findings a year, by the policy's calibration, at which the findings of a cohort are counted.
pub const LEVELS: [f64; 4] = [0.5, 0.16, 0.05, 0.016];
/// Days of a period: what is counted in it says something in the next one.
const PERIOD_DAYS: i32 = 28;
/// Periods that are kept: two years.
const PERIODS: i64 = 26;
/// Days from the first passing of a level in which further ones belong to it: an alert, and the quiet that follows it.
const EPISODE_DAYS: i32 = 56;
/// Days from the first passing of a level within which a change may still be going on: the longest window of a scan, and an episode.
const CHANGE_DAYS: i32 = 140;
/// Slopes of the tail that are believed, relative to the policy's.
const SLOPES: (f64, f64) = (0.15, 1.0);
/// Findings that an account's own past needs to weigh as much as its cohort's.
const OWN_PRIOR: f64 = 2.0;
/// Levels that a rare finding passes, and such findings that an account's own past needs to weigh as much as its cohort's: in most
/// accounts there is none in many years, and in some there are several a year.
const RARE_LEVELS: u8 = 3;
const RARE_LEVEL: f64 = LEVELS[RARE_LEVELS as usize - 1];
const RARE_PRIOR: f64 = 0.5;
const DAYS_PER_YEAR: f64 = 365.25;

/// The period of a day.
#[must_use]
pub fn period(day: Day) -> i64 {
    i64::from(day.0.div_euclid(PERIOD_DAYS))
}

/// The first period that is still of use in a period.
#[must_use]
pub fn oldest(period: i64) -> i64 {
    period - PERIODS
}

/// How many levels a finding passes that is this rare by the policy's calibration.
#[must_use]
pub fn level(nominal: f64) -> u8 {
    LEVELS.iter().take_while(|&&level| nominal <= level).count() as u8
}

/// What an account shows on a day, per family: levels passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// The row of its volume in the calibration.
    pub volume: usize,
    /// Levels passed, by family.
    pub levels: [u8; 3],
}

/// An account's own findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Own {
    /// The first day that counted.
    pub since: Day,
    /// Episodes that are over, by family: how many passed a level (in the low byte), and how many of them were rare (in the high one); 255
    /// stands for more.
    pub over: [u16; 3],
    /// The last episode: its first day, and the levels that it passed.
    pub last: [Option<(Day, u8)>; 3],
}

/// The findings of a cohort in a period.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// What the levels refer to: [`Compiled::findings`](crate::policy::Compiled::findings).
    pub findings: u64,
    /// By row of the calibration.
    pub volumes: Vec<VolumeTally>,
}

/// The findings of accounts of one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VolumeTally {
    /// Days of accounts that were judged.
    pub days: u64,
    /// Episodes that passed a level, by family.
    pub passed: [[u32; LEVELS.len()]; 3],
}

impl Tally {
    /// Adds an account's day: its episodes that pass a level now, which its own record follows.
    pub fn add(&mut self, own: &mut Own, passed: Passed, day: Day) {
        if self.volumes.len() <= passed.volume {
            self.volumes.resize(passed.volume + 1, VolumeTally::default());
        }
        let tally = &mut self.volumes[passed.volume];
        tally.days += 1;
        for (family, &levels) in passed.levels.iter().enumerate() {
            let last = &mut own.last[family];
            let open = last.filter(|(since, _)| day.since(*since) < EPISODE_DAYS);
            let before = open.map_or(0, |(_, before)| before);
            if levels <= before {
                continue;
            }
            if let Some((_, levels)) = last.filter(|_| open.is_none()) {
                own.over[family] = added(own.over[family], levels);
            }
            *last = Some((open.map_or(day, |(since, _)| since), levels));
            for count in &mut tally.passed[family][usize::from(before)..usize::from(levels)] {
                *count += 1;
            }
        }
    }

    fn merge(&mut self, other: &Tally) {
        if self.volumes.len() < other.volumes.len() {
            self.volumes.resize(other.volumes.len(), VolumeTally::default());
        }
        for (tally, other) in self.volumes.iter_mut().zip(&other.volumes) {
            tally.days += other.days;
            for (counts, other) in tally.passed.iter_mut().zip(&other.passed) {
                counts.iter_mut().zip(other).for_each(|(count, other)| *count += other);
            }
        }
    }
}

/// Episodes with another one that passed so many levels.
fn added(over: u16, levels: u8) -> u16 {
    let [rare, common] = over.to_be_bytes();
    let rare = if levels >= RARE_LEVELS { rare.saturating_add(1) } else { rare };
    u16::from_be_bytes([rare, common.saturating_add(1)])
}

impl Own {
    /// The same for a version from before rare findings were told apart, which would take them for very many.
    #[must_use]
    pub fn for_older(self) -> Own {
        Own { over: self.over.map(|over| over & 0xff), ..self }
    }

    /// An account of which nothing was found yet.
    #[must_use]
    pub fn since(day: Day) -> Own {
        Own { since: day, ..Own::default() }
    }

    /// By how much more often than its cohort's the account's findings come, 1 or more: episodes that are over against those to be
    /// expected. That there were none yet is no promise. Rare ones of any family count, by the family that had the most: what is one change is
    /// often found as a drop and as a decline.
    #[must_use]
    pub fn excess(&self, family: Family, tails: &[Tail; 3], day: Day) -> f64 {
        let years = f64::from(day.since(self.since).max(0)) / DAYS_PER_YEAR;
        // An episode of which the change may still be going on is what is judged now.
        let over = |family: usize, days: i32| -> [f64; 2] {
            let last = self.last[family].filter(|(since, _)| day.since(*since) >= days);
            let over =
                last.map_or(self.over[family], |(_, levels)| added(self.over[family], levels));
            over.to_be_bytes().map(f64::from)
        };
        let more = |found: f64, rate: f64, prior: f64| (found + prior) / (rate * years + prior);
        let [_, common] = over(family as usize, EPISODE_DAYS);
        let common = more(common, tails[family as usize].rate(LEVELS[0]), OWN_PRIOR);
        let rare = (0..tails.len()).map(|family| over(family, CHANGE_DAYS)[0]).fold(0.0, f64::max);
        let rate = tails.iter().map(|tail| tail.rate(RARE_LEVEL)).fold(0.0, f64::max);
        common.max(more(rare, rate, RARE_PRIOR)).max(1.0)
    }
}

/// The rates of one family and volume as they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tail {
    /// Logarithms of the rates at [`LEVELS`], falling.
    logs: [f64; LEVELS.len()],
    /// How the logarithm of the rate follows that of the policy's, below the rarest level.
    slope: f64,
}

impl Tail {
    /// The policy's calibration as it stands.
    pub const NOMINAL: Tail = Tail {
        logs: [
            -std::f64::consts::LN_2,
            -1.832_581_463_748_31,
            -2.995_732_273_553_991,
            -4.135_166_556_742_356,
        ],
        slope: 1.0,
    };

    /// Findings a year of those that come so often by the policy's calibration.
    #[must_use]
    pub fn rate(&self, nominal: f64) -> f64 {
        let last = LEVELS.len() - 1;
        let log = nominal.max(f64::MIN_POSITIVE).ln();
        let level = |index: usize| LEVELS[index].ln();
        if nominal >= LEVELS[0] {
            return (self.logs[0] + log - level(0)).exp();
        }
        if nominal <= LEVELS[last] {
            return (self.logs[last] + self.slope * (log - level(last))).exp();
        }
        let above = (0..last).rfind(|&index| nominal <= LEVELS[index]).unwrap_or(0);
        let share = (log - level(above)) / (level(above + 1) - level(above));
        (self.logs[above] + share * (self.logs[above + 1] - self.logs[above])).exp()
    }

    /// The rates behind counts of the families: expected ones weigh `prior` years. What chance may bring beyond the policy's rates is taken out,
    /// and beyond that what real changes explain, `real` a year: each is a fall, found as a drop, a decline or both, or a rise.
    fn of(
        passed: &[[u32; LEVELS.len()]; 3],
        years: f64,
        expected: &[[f64; LEVELS.len()]; 3],
        (prior, real): (f64, f64),
    ) -> [Tail; 3] {
        let mut rates = [[0.0; LEVELS.len()]; 3];
        let mut most = [f64::INFINITY; 3];
        for (index, level) in LEVELS.iter().enumerate() {
            let nominal = level * years;
            let counts = passed.map(|family| f64::from(family[index]));
            // What chance alone may bring is neither a change nor another rate: were it one, rates would only ever rise by it.
            let chance = (nominal + 1.0).sqrt();
            let beyond = counts.map(|count| (count - nominal - chance).max(0.0));
            let [falls, rises] = [
                beyond[Family::Drop as usize].max(beyond[Family::Decline as usize]),
                beyond[Family::Rise as usize],
            ];
            // Of what is beyond, real changes explain as large a share in each family, so that one that is found more often makes no other
            // look rarer.
            let real = (real * years / (falls + rises).max(f64::MIN_POSITIVE)).min(1.0);
            for family in 0..rates.len() {
                let more = (counts[family] - nominal).max(0.0);
                let count = counts[family] - more.min(chance) - beyond[family] * real;
                // A rarer level is passed less often, and none less often than by the policy: a quiet year is no promise.
                let rate = (count + expected[family][index] * prior) / (years + prior);
                most[family] = rate.min(most[family]);
                rates[family][index] = most[family].max(*level);
            }
        }
        rates.map(|rates| {
            let logs = rates.map(f64::ln);
            let rarest = LEVELS.len() - 1;
            let slope = (logs[1] - logs[rarest]) / (LEVELS[1].ln() - LEVELS[rarest].ln());
            Tail { logs, slope: slope.clamp(SLOPES.0, SLOPES.1) }
        })
    }

    fn rates(&self) -> [f64; LEVELS.len()] {
        self.logs.map(f64::exp)
    }
}

/// The tails of a cohort, per row of the calibration and family.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tails(Vec<[Tail; 3]>);

impl Tails {
    /// The tails behind the tallies of a cohort.
    pub fn of<'a>(tallies: impl Iterator<Item = &'a Tally>, rules: &CalibrationPolicy) -> Tails {
        let mut sum = Tally::default();
        tallies.for_each(|tally| sum.merge(tally));
        let years = |tally: &VolumeTally| tally.days as f64 / DAYS_PER_YEAR;
        let weights = (rules.prior_years, rules.real_per_year);
        let total: f64 = sum.volumes.iter().map(years).sum();
        let mut passed = [[0; LEVELS.len()]; 3];
        for volume in &sum.volumes {
            for (counts, volume) in passed.iter_mut().zip(&volume.passed) {
                counts.iter_mut().zip(volume).for_each(|(count, volume)| *count += volume);
            }
        }
        let common = Tail::of(&passed, total, &[LEVELS; 3], weights).map(|tail| tail.rates());
        let volumes =
            sum.volumes.iter().map(|tally| Tail::of(&tally.passed, years(tally), &common, weights));
        Tails(volumes.collect())
    }

    /// The tails of the families for accounts of a volume.
    #[must_use]
    pub fn get(&self, volume: usize) -> [Tail; 3] {
        self.0.get(volume).copied().unwrap_or([Tail::NOMINAL; 3])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: (f64, f64) = (100.0, 0.25);

    fn rules() -> CalibrationPolicy {
        CalibrationPolicy {
            prior_years: RULES.0,
            real_per_year: RULES.1,
            ..CalibrationPolicy::default()
        }
    }

    /// The tails of a cohort of one volume that was watched for so many account days, in which each family passed the levels so often.
    fn tails(days: u64, passed: [[u32; 4]; 3]) -> [Tail; 3] {
        let tally = Tally { findings: 0, volumes: vec![VolumeTally { days, passed }] };
        Tails::of([tally].iter(), &rules()).get(0)
    }

    /// The same for 400 account years.
    fn watched(passed: [[u32; 4]; 3]) -> [Tail; 3] {
        tails(146_100, passed)
    }

    /// The same with findings of one family, at these rates.
    fn tail(rates: [f64; 4]) -> Tail {
        let passed = rates.map(|rate| (rate * 400.0).round() as u32);
        watched([passed, [0; 4], [0; 4]])[Family::Drop as usize]
    }

    #[test]
    fn without_counts_the_calibration_stands_as_it_is() {
        for tail in [[Tail::NOMINAL; 3], Tails::of([].iter(), &rules()).get(3)].concat() {
            for nominal in [1e-9, 1e-3, 0.016, 0.03, 0.1, 0.5, 2.0] {
                assert!((tail.rate(nominal) / nominal - 1.0).abs() < 1e-9, "{nominal}");
            }
        }
    }

    #[test]
    fn a_cohort_like_the_calibration_changes_hardly_anything() {
        let tail = tail(LEVELS);
        for nominal in [0.002, 0.016, 0.1, 0.5] {
            assert!((tail.rate(nominal) / nominal).ln().abs() < 0.15, "{nominal}");
        }
    }

    #[test]
    fn where_findings_are_common_rarer_ones_are_asked_for() {
        let tail = tail([3.0, 1.8, 1.2, 0.8]);
        assert!(tail.rate(0.05) > 0.7, "what was rare elsewhere comes nearly every year here");
        // The tail is heavy: even far beyond what was counted, more than the calibration says.
        assert!(tail.rate(1e-4) > 100.0 * 1e-4, "{}", tail.rate(1e-4));
        assert!(tail.rate(1e-8) < 0.1, "and there are findings that are rare");
    }

    #[test]
    fn accounts_that_really_change_make_no_finding_common() {
        let changed = tail(LEVELS.map(|level| level + 0.2));
        for nominal in [0.002, 0.016, 0.1, 0.5] {
            assert!(
                (changed.rate(nominal) / nominal).ln().abs() < 0.7,
                "{nominal}: {}",
                changed.rate(nominal)
            );
        }
    }

    #[test]
    fn what_chance_may_bring_makes_no_finding_common() {
        // A standard deviation more than the policy says, of each family: with real changes or without.
        let more = LEVELS.map(|level| (level * 400.0 + (level * 400.0).sqrt()) as u32);
        for tail in [watched([more; 3]), watched([more, [0; 4], [0; 4]])].concat() {
            for nominal in [0.002, 0.016, 0.1, 0.5] {
                assert!((tail.rate(nominal) / nominal).ln().abs() < 1e-6, "{nominal}");
            }
        }
    }

    #[test]
    fn falls_and_rises_share_what_real_changes_explain() {
        let expected = LEVELS.map(|level| (level * 400.0) as u32);
        let changed = expected.map(|count| count + 100);
        let rates = |passed| watched(passed).map(|tail| tail.rate(0.016) / 0.016);
        // A quarter of the accounts a year: falls that are found as drops and as declines alike, and no rises.
        let falls = rates([changed, expected, changed]);
        assert!(falls.iter().all(|rate| (rate - 1.0).abs() < 1e-6), "{falls:?}");
        // Twice as many as the policy expects, half of them rises: of each half is taken out, and half is how it is here.
        let both = rates([changed, changed, changed]);
        // The only volume counts twice: in what is common to all, and in itself. Each rests on 400 years and 100 more.
        let left = f64::from(changed[3]) - (0.016_f64 * 400.0 + 1.0).sqrt() - 50.0;
        let common = (left + 0.016 * 100.0) / 500.0;
        let by_hand = (left + common * 100.0) / 500.0 / 0.016;
        assert!(both.iter().all(|rate| (rate - by_hand).abs() < 1e-6), "{both:?}, {by_hand}");
    }

    #[test]
    fn a_volume_of_which_little_is_known_follows_its_cohort() {
        let known = VolumeTally { days: 146_100, passed: [[1_200, 720, 480, 320], [0; 4], [0; 4]] };
        let new = VolumeTally { days: 10, ..VolumeTally::default() };
        let tally = Tally { findings: 0, volumes: vec![known, new] };
        let tails = Tails::of([tally].iter(), &rules());
        let [known, new] = [0, 1].map(|volume| tails.get(volume)[0].rate(0.05));
        assert!((new / known).ln().abs() < 0.2, "{new} against {known}");
    }

    fn passed(levels: u8) -> Passed {
        Passed { volume: 0, levels: [levels, 0, 0] }
    }

    #[test]
    fn an_episode_passes_a_level_once() {
        let (mut tally, mut own) = (Tally::default(), Own::since(Day(0)));
        for (day, levels) in [(1, 1), (2, 1), (3, 3), (9, 2), (40, 3)] {
            tally.add(&mut own, passed(levels), Day(day));
        }
        assert_eq!(tally.volumes[0].passed[0], [1, 1, 1, 0]);
        assert_eq!((own.last[0], own.over[0]), (Some((Day(1), 3)), 0));
        tally.add(&mut own, passed(2), Day(57));
        assert_eq!(tally.volumes[0].passed[0], [2, 2, 1, 0], "eight weeks later it is another one");
        assert_eq!((own.last[0], own.over[0]), (Some((Day(57), 2)), 0x0101));
        assert_eq!(tally.volumes[0].days, 6);
    }

    #[test]
    fn an_account_that_often_had_findings_has_them_more_often() {
        let excess = |own: &Own, day| own.excess(Family::Drop, &[Tail::NOMINAL; 3], Day(day));
        let quiet = Own::since(Day(0));
        assert!((excess(&quiet, 0) - 1.0).abs() < 1e-9, "nothing is known yet");
        assert!((excess(&quiet, 1_461) - 1.0).abs() < 1e-9, "years without any are no promise");
        let restless = Own { over: [4, 0, 0], ..quiet };
        assert!(excess(&restless, 730) > 1.8 && excess(&restless, 3_650) < excess(&restless, 730));
        let now = Own { last: [Some((Day(700), 4)), None, None], ..restless };
        let same = (excess(&now, 720) / excess(&restless, 720)).ln();
        assert!(same.abs() < 1e-9, "what is going on is no past");
        assert!(excess(&now, 760) > excess(&restless, 760));
    }

    #[test]
    fn rare_findings_of_any_family_make_further_ones_less_rare() {
        let (mut tally, mut own) = (Tally::default(), Own::since(Day(0)));
        let excess =
            |own: &Own, family: Family, day| own.excess(family, &[Tail::NOMINAL; 3], Day(day));
        // Two rises that are rare and a drop that is not, each over when the next one comes.
        for (day, levels) in [(100, [0, 3, 0]), (200, [0, 4, 0]), (300, [2, 0, 0])] {
            tally.add(&mut own, Passed { volume: 0, levels }, Day(day));
        }
        assert_eq!(own.over, [0, 0x0101, 0], "one of one is over, and rare");
        assert_eq!(own.for_older().over, [0, 1, 0]);
        // By hand: two against half of one that is known beforehand and 0.05 a year.
        let years = 365.0 / DAYS_PER_YEAR;
        let expected = 2.5 / (0.05 * years + 0.5);
        for family in Family::ALL {
            let found = excess(&own, family, 365);
            assert!((found - expected).abs() < 1e-9, "{family:?}: {found}, not {expected}");
        }
        let lasting = Own { last: [None, Some((Day(240), 4)), None], ..own };
        let found = excess(&lasting, Family::Decline, 365);
        assert!((found - 1.5 / (0.05 * years + 0.5)).abs() < 1e-9, "it may go on: {found}");
        let both = Own { over: [0x0101; 3], last: [None; 3], ..own };
        let one = Own { over: [0x0101, 0, 0], ..both };
        let apart = excess(&both, Family::Rise, 365) - excess(&one, Family::Rise, 365);
        assert!(apart.abs() < 1e-9, "what is found in three ways at once is one");
        // Common ones alone prove little.
        let common = Own { over: [2, 0, 0], last: [None; 3], ..own };
        assert!(excess(&common, Family::Rise, 365) < 1.0 + 1e-9);
        assert!(excess(&common, Family::Drop, 365) < 1.7);
    }

    #[test]
    fn more_episodes_than_can_be_counted_stay_many() {
        let many = (0..1_000).fold(0, |over, _| added(over, 4));
        assert_eq!(many, u16::MAX);
        assert_eq!(
            added(0x02ff, 1),
            0x02ff,
            "those that are not rare do not run over into the rare"
        );
    }

    proptest! {
        #[test]
        fn rarer_by_the_calibration_is_never_more_frequent(
            counts in prop::array::uniform4(0_u32..5_000), days in 0_u64..2_000_000,
            left in 1e-12..10.0_f64, right in 1e-12..10.0_f64
        ) {
            let tail = tails(days, [counts; 3])[Family::Rise as usize];
            let (rare, often) = (tail.rate(left.min(right)), tail.rate(left.max(right)));
            prop_assert!(rare.is_finite() && rare > 0.0 && often.is_finite());
            prop_assert!(rare <= often * (1.0 + 1e-9), "{rare} {often}");
        }

        #[test]
        fn more_findings_of_one_family_make_none_rarer(
            counts in prop::array::uniform3(prop::array::uniform4(0_u32..400)), which in 0_usize..3, more in 0_u32..400,
            days in 1_u64..400_000, nominal in 1e-6..1.0_f64
        ) {
            let rates = |passed| tails(days, passed).map(|tail| tail.rate(nominal.max(LEVELS[3])));
            let mut with_more = counts;
            with_more[which].iter_mut().for_each(|count| *count += more);
            for (before, after) in rates(counts).into_iter().zip(rates(with_more)) {
                prop_assert!(after >= before * (1.0 - 1e-9), "{before} {after}");
            }
        }
    }
}
