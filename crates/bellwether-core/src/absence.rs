//! Who and what went quiet: absence against the own return gaps of a member, a feature or a role.
//!
//! The days between two days of presence are a member's return gaps. How unusual an absence is, is the share of such gaps that are at
//! least as long: the empirical survival, shrunk toward that of independent days at the member's own rate (a geometric law) with the weight
//! of [`PRIOR_GAPS`] gaps, and never below that: a history is too short to rule out what it has not shown. So whoever takes every
//! weekend off is not missed on a Monday, and whoever comes twice a month not after a week.
//!
//! Of many members some are always quiet: how few of `n` could be as unusual by chance is Wilkinson's test of order statistics (1951),
//! the k-th smallest of `n` chances being at most `p` with the binomial chance of k or more, over a few k (Bonferroni). And members leave
//! whatever the account does: no absence is less likely than that one left within the time that is looked at.

use crate::account::{Account, ActivityKey, SignalKey};
use crate::calendar::without;
use crate::history::{Activity, RING_DAYS, mask};
use crate::output::Evidence;
use crate::policy::{Aggregate, Policy, Signal};
use crate::stats::{Z_MAX, normal_quantile};
use crate::time::Day;

/// An absence: how long, how unusual, and how often there was presence before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Absence {
    /// Days since the last presence.
    pub days: u16,
    /// Share of the own return gaps that are as long, 0..=1.
    pub chance: f64,
    /// Standardised deviation (negative: below normal) of that chance.
    pub z: f64,
    /// Days with presence in a normal week.
    pub days_per_week: f64,
    /// Whether it is long enough to count.
    pub counts: bool,
}

/// Days of history, and of presence in them, below which an absence says nothing.
const HISTORY_DAYS_MIN: u32 = 21;
const PRESENCE_DAYS_MIN: u32 = 6;
/// Gaps that weigh as much as the expectation of independent days.
const PRIOR_GAPS: f64 = 2.0;
/// Who was away for longer has left, and is no news.
const NEWS_DAYS: u16 = 56;
/// So many of the most unusual absences are looked at together.
const TOGETHER_MAX: usize = 8;

/// Judges the days since something was last there. `bits`: bit 0 is the day that closes; `history_days`: days since
/// it was first seen, that day included. None with too little history.
#[must_use]
pub fn judge_absence(bits: u128, history_days: u32, policy: &Policy) -> Option<Absence> {
    let gap = bits.trailing_zeros();
    let history = history_days.min(128).checked_sub(gap)?;
    let before = bits.checked_shr(gap)? & mask(history);
    let present = before.count_ones();
    if history < HISTORY_DAYS_MIN || present < PRESENCE_DAYS_MIN {
        return None;
    }
    // The newest day of presence is there by construction: it says nothing about the rate.
    let rate = ((f64::from(present) - 0.5) / f64::from(history)).clamp(0.005, 0.97);
    let gaps = gaps(before, gap);
    let chance = survival(gap, &gaps, rate);
    let counts = gap >= u32::from(policy.deviation.absence_days_min)
        && gap >= gaps.longest + u32::from(policy.deviation.absence_beyond_days);
    Some(Absence {
        days: gap as u16,
        chance,
        z: normal_quantile(chance).clamp(-Z_MAX, 0.0),
        days_per_week: rate * 7.0,
        counts,
    })
}

/// Runs of absence between days of presence.
struct Gaps {
    /// All of them; presence on two days in a row is one of no days.
    count: u32,
    /// Those at least as long as the present one.
    as_long: u32,
    longest: u32,
}

/// The gaps of a bitmap whose bit 0 is set, against one of so many days.
fn gaps(bits: u128, gap: u32) -> Gaps {
    let mut found = Gaps { count: bits.count_ones() - 1, as_long: 0, longest: 0 };
    let mut rest = bits;
    while rest != 0 {
        rest = rest.checked_shr(rest.trailing_ones()).unwrap_or(0);
        if rest != 0 {
            let days = rest.trailing_zeros();
            found.longest = found.longest.max(days);
            found.as_long += u32::from(days >= gap);
            rest >>= days;
        }
    }
    found
}

/// The chance of a gap of at least so many days.
fn survival(gap: u32, gaps: &Gaps, rate: f64) -> f64 {
    let independent = (1.0 - rate).powf(f64::from(gap));
    let as_long = if gap == 0 { gaps.count } else { gaps.as_long };
    let own =
        (f64::from(as_long) + PRIOR_GAPS * independent) / (f64::from(gaps.count) + PRIOR_GAPS);
    own.max(independent).min(1.0)
}

/// So many are named.
const NAMED_MAX: usize = 5;

/// Members or features that went quiet together.
#[derive(Debug, Clone, PartialEq)]
pub struct Quiet {
    /// Which of those that were given, longest away first.
    pub who: Vec<usize>,
    /// Standardised deviation of their number (negative), all those that could be quiet considered.
    pub z: f64,
}

/// How unusual it is that so many of these are away so long. None where nobody's absence counts.
#[must_use]
pub fn quiet(absences: &[Option<Absence>], policy: &Policy) -> Option<Quiet> {
    let regular = absences.iter().flatten().filter(|absence| absence.days <= NEWS_DAYS).count();
    let left = policy.deviation.turnover_per_year * f64::from(NEWS_DAYS) / 365.0;
    let mut away: Vec<(usize, Absence)> = absences
        .iter()
        .enumerate()
        .filter_map(|(index, absence)| Some((index, (*absence)?)))
        .filter(|(_, absence)| absence.counts && absence.days <= NEWS_DAYS)
        .collect();
    away.sort_by(|(left, a), (right, b)| a.chance.total_cmp(&b.chance).then(left.cmp(right)));
    let tried = away.len().min(TOGETHER_MAX);
    let (number, chance) = (1..=tried)
        .map(|number| {
            let one = away[number - 1].1.chance.max(left).min(1.0);
            // Those that are beyond the last one that is looked at are as unusual as it is, or less.
            (number, at_least(number, regular, one) * tried as f64)
        })
        .min_by(|left, right| left.1.total_cmp(&right.1))?;
    let mut who = away.get(..number)?.to_vec();
    who.sort_by(|(left, a), (right, b)| b.days.cmp(&a.days).then(left.cmp(right)));
    let z = normal_quantile(chance.min(0.5)).clamp(-Z_MAX, 0.0);
    Some(Quiet { who: who.into_iter().map(|(index, _)| index).collect(), z })
}

/// What stands before the names of members or features that went quiet, in the text of their evidence ([`named`]).
const NAMES: &str = ": ";
/// What stands before that.
const QUIET: &str = " went quiet, each for longer than ever";

/// The text of evidence without the names of those that went quiet, and the names; none where it names nobody.
#[must_use]
pub fn named(text: &str) -> Option<(&str, &str)> {
    let end = text.find(QUIET)? + QUIET.len();
    Some((&text[..end], text[end..].strip_prefix(NAMES)?))
}

/// The members (or features) of a signal that went quiet, as evidence of the signal: none where they are too few to matter.
pub(crate) fn quiet_evidence(
    account: &Account,
    (signal, key): (&Signal, SignalKey),
    policy: &Policy,
    day: Day,
) -> Option<Evidence> {
    let masked = account.masked_days(day);
    let from = ActivityKey { signal: key, value: String::new() };
    let rows: Vec<(&str, &Activity)> = account
        .activity
        .range(from..)
        .take_while(|(row, _)| row.signal == key)
        .map(|(row, activity)| (row.value.as_str(), activity))
        .collect();
    let absences: Vec<Option<Absence>> = rows
        .iter()
        .map(|(_, row)| {
            // Who came back since the day ended is not absent.
            let bits = if row.newest > day { row.seen_from(day) | 1 } else { row.seen_from(day) };
            let (present, gone) = without(bits, masked);
            let history = RING_DAYS as u32 - bits.leading_zeros();
            judge_absence(present, history - (gone & mask(history)).count_ones(), policy)
        })
        .collect();
    let found = quiet(&absences, policy)?;
    if found.z.abs() < policy.deviation.z_support {
        return None;
    }
    let regular = absences.iter().flatten().filter(|absence| absence.days <= NEWS_DAYS).count();
    let what = match signal.aggregate {
        Aggregate::DistinctFeatures => "features",
        Aggregate::DistinctMembers
        | Aggregate::Count
        | Aggregate::Sum
        | Aggregate::Mean
        | Aggregate::Last
        | Aggregate::Presence => "members",
    };
    let days = |index: usize| rows[index].1.seen_from(day).trailing_zeros();
    let names = found.who.iter().take(NAMED_MAX).map(|&index| {
        let (name, row) = rows[index];
        let role = row.role.as_ref().map_or(String::new(), |role| format!("{role}, "));
        format!("{name} ({role}{} days)", days(index))
    });
    let mut names: Vec<String> = names.collect();
    if found.who.len() > NAMED_MAX {
        names.push(format!("{} more", found.who.len() - NAMED_MAX));
    }
    let longest = found.who.iter().map(|&index| days(index)).max()?;
    let (quiet, regular) = (found.who.len() as f64, regular as f64);
    Some(Evidence {
        signal: signal.name.clone(),
        category: signal.category,
        group: signal.group.clone(),
        observed: regular - quiet,
        baseline: regular,
        unit: format!("regular {what}"),
        change_pct: Some(-100.0 * quiet / regular),
        z: found.z,
        risk: true,
        onset: day.plus(1 - i32::try_from(longest).unwrap_or(0)),
        window_days: u16::try_from(longest).unwrap_or(0),
        text: format!("{quiet} of {regular} regular {what}{QUIET}{NAMES}{}", names.join(", ")),
    })
}

/// The chance of `number` or more of `of` where each has the chance `one`: binomial.
fn at_least(number: usize, of: usize, one: f64) -> f64 {
    if one >= 1.0 {
        return 1.0;
    }
    let odds = one / (1.0 - one);
    let mut term = (1.0 - one).powf(of as f64);
    let mut below = 0.0;
    for count in 0..number {
        below += term;
        term *= (of.saturating_sub(count)) as f64 / (count + 1) as f64 * odds;
    }
    // Far in the tail the sum of what is above is exact where one minus what is below is not.
    let mut above = 0.0;
    for count in number..=of {
        above += term;
        term *= (of - count) as f64 / (count + 1) as f64 * odds;
        if term < above * 1e-12 {
            break;
        }
    }
    if below > 0.5 { above.min(1.0) } else { (1.0 - below).clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Compiled;
    use proptest::prelude::*;

    /// Present on these days ago.
    fn days(ago: impl Iterator<Item = u32>) -> u128 {
        ago.filter(|day| *day < 128).fold(0, |bits, day| bits | 1 << day)
    }

    /// Five days of seven, as of a Sunday, on which nobody was there for `away` days.
    fn weekdays(away: u32) -> u128 {
        days((away..128).filter(|day| day % 7 > 1))
    }

    #[test]
    fn absence_is_measured_against_the_members_own_gaps() {
        let policy = Compiled::default_policy();
        let daily_for_eight_weeks = mask(56);
        let absent = judge_absence(daily_for_eight_weeks << 14, 70, &policy).expect("history");
        assert!(absent.counts && absent.days == 14 && absent.z < -4.0, "{absent:?}");
        let weekend = judge_absence(daily_for_eight_weeks << 2, 58, &policy).expect("history");
        assert!(!weekend.counts);
        // Somebody who comes once in two weeks is not missed after nine days.
        let rare = days((0..9).map(|visit| visit * 14 + 9));
        let rare = judge_absence(rare, 128, &policy).expect("history");
        assert!(!rare.counts && rare.z > -0.1, "{rare:?}");
        assert_eq!(judge_absence(1, 5, &policy), None);
    }

    #[test]
    fn weekends_that_everybody_takes_off_are_expected() {
        let policy = Compiled::default_policy();
        // Independent days would make the chance of two days one in twelve.
        let weekend = judge_absence(weekdays(2), 128, &policy).expect("history");
        assert!((0.15..0.25).contains(&weekend.chance), "one gap in five is one: {weekend:?}");
        let week = judge_absence(weekdays(9), 128, &policy).expect("history");
        assert!(week.counts && week.z < -3.0, "{week:?}");
    }

    #[test]
    fn many_members_make_one_absence_ordinary() {
        let policy = Compiled::default_policy();
        let one = |away: u32| judge_absence(mask(100) << away, 100 + away, &policy);
        let team = |size: usize, gone: usize| -> Vec<Option<Absence>> {
            (0..size).map(|member| one(if member < gone { 14 } else { 0 })).collect()
        };
        let z = |size, gone| quiet(&team(size, gone), &policy).map_or(0.0, |quiet| quiet.z);
        assert_eq!(z(10, 0), 0.0);
        assert!(z(3, 1) > -2.0, "one may leave: {}", z(3, 1));
        assert!(z(100, 1) > -0.1, "of a hundred even likelier: {}", z(100, 1));
        assert!(z(3, 2) < -2.0 && z(3, 3) < z(3, 2), "{} {}", z(3, 2), z(3, 3));
        assert!(z(12, 6) < -4.0, "{}", z(12, 6));
        let found = quiet(&team(12, 6), &policy).expect("some");
        assert_eq!(found.who, (0..6).collect::<Vec<_>>());
        // Who left long ago is neither missed nor counted.
        let long = (0..6).map(|_| one(60)).chain((0..6).map(|_| one(0))).collect::<Vec<_>>();
        assert_eq!(quiet(&long, &policy), None);
    }

    #[test]
    fn binomial_tails_are_exact() {
        assert!((at_least(1, 3, 0.1) - 0.271).abs() < 1e-12);
        assert!((at_least(2, 3, 0.5) - 0.5).abs() < 1e-12);
        assert!((at_least(3, 3, 1e-4) / 1e-12 - 1.0).abs() < 1e-6);
        assert_eq!(at_least(2, 1, 0.3), 0.0);
    }

    proptest! {
        #[test]
        fn anything_is_answered_with_chances(
            rows in prop::collection::vec((any::<u128>(), 0u32..200), 0..40)
        ) {
            let policy = Compiled::default_policy();
            let judged: Vec<_> =
                rows.iter().map(|(bits, history)| judge_absence(*bits, *history, &policy)).collect();
            for absence in judged.iter().flatten() {
                prop_assert!((0.0..=1.0).contains(&absence.chance) && absence.z <= 0.0);
            }
            if let Some(found) = quiet(&judged, &policy) {
                prop_assert!(found.z.is_finite() && found.z <= 0.0 && !found.who.is_empty());
            }
        }
    }
}
