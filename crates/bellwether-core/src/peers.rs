//! Accounts beside each other: whose usual weeks have the same shape, and who is unlike the others of its cohort.
//!
//! Offline, over accounts as they stand: a stream keeps no more of a cohort than sums, which name nobody and cost nothing per event. Nothing
//! here alerts; a person decides what becomes of a proposal.

use std::collections::BTreeMap;

use bellwether_detect::cohorts::{Grouping, PROFILES_MAX, weekly_profile};
use bellwether_detect::{Fallback, Guarded};

use crate::account::Account;
use crate::cohort::DAY_VARIANCE_PRIOR;
use crate::expect::{history_days, is_count};
use crate::id::AccountId;
use crate::policy::{Aggregate, Compiled};
use crate::time::Day;

/// Weeks that a usual week is the median of.
const PROFILE_WEEKS: i32 = 12;
/// Weeks in which accounts are compared with their peers.
const COMPARED_WEEKS: usize = 4;
/// Weeks before those that say what is usual for an account, and how many of them it takes.
const BASE_WEEKS: (usize, usize) = (8, 4);
/// Counts of a usual week below which an account says nothing of a signal.
const BASE_MIN: f64 = 2.0;

/// What an account did, day by day.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The account.
    pub id: AccountId,
    /// Its cohort; empty: the unnamed one.
    pub cohort: String,
    /// Its newest closed day.
    newest: Day,
    /// Per counted signal, with its index in the policy: values of days, newest first.
    signals: Vec<(usize, Vec<f64>)>,
}

impl Member {
    /// An account's counts; none before its first day close.
    #[must_use]
    pub fn of(account: &Account, policy: &Compiled) -> Option<Member> {
        let newest = account.history.newest?;
        let mut signals = Vec::new();
        for (index, signal) in policy.signals.iter().enumerate() {
            let key = policy.keys()[index];
            let rings = account.history.rings.iter().zip(&account.hot.signals);
            let found = rings.into_iter().find(|((known, _), _)| *known == key);
            let Some(((_, ring), state)) = found else { continue };
            if is_count(signal) && signal.aggregate != Aggregate::Presence {
                let mut daily = ring.values();
                daily.reverse();
                daily.truncate(history_days(state, newest, ring));
                signals.push((index, daily));
            }
        }
        let cohort = account.segment().unwrap_or_default().to_owned();
        Some(Member { id: account.id.clone(), cohort, newest, signals })
    }

    /// The newest day that most members have closed: what all are compared by.
    fn common_day(members: &[Member]) -> Option<Day> {
        let mut newest: Vec<Day> = members.iter().map(|member| member.newest).collect();
        newest.sort_unstable();
        newest.get(newest.len() / 2).copied()
    }

    /// The values of `days` days up to `day`, newest first; NaN where there are none.
    fn back(&self, values: &[f64], day: Day, days: usize) -> Vec<f64> {
        let value = |back: i32| {
            let at = usize::try_from(self.newest.since(day) + back).ok()?;
            values.get(at).copied()
        };
        (0..days as i32).map(|back| value(back).unwrap_or(f64::NAN)).collect()
    }

    /// Every day's counts in shares of their means, averaged over the signals by how much each can say; oldest first.
    fn activity(&self, day: Day, days: usize) -> Vec<f64> {
        let (mut activity, mut weights) = (vec![0.0; days], 0.0);
        for (_, values) in &self.signals {
            let values = self.back(values, day, days);
            let measured: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
            let mean = measured.iter().sum::<f64>() / measured.len().max(1) as f64;
            if mean <= 0.0 {
                continue;
            }
            // One over the relative variance of a day's count.
            let weight = 1.0 / (DAY_VARIANCE_PRIOR + 1.0 / mean);
            weights += weight;
            for (sum, value) in activity.iter_mut().zip(values.iter().rev()) {
                *sum += weight * if value.is_finite() { value / mean } else { 0.0 };
            }
        }
        activity.into_iter().map(|sum| sum / f64::max(weights, 1e-12)).collect()
    }

    /// Counts of a day, over all signals.
    fn volume(&self) -> f64 {
        let counts = self.signals.iter().flat_map(|(_, values)| values);
        counts.filter(|value| value.is_finite()).sum()
    }
}

/// Accounts whose usual weeks have the same shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposed {
    /// The accounts, ascending.
    pub accounts: Vec<AccountId>,
    /// The account that is nearest to all others.
    pub example: AccountId,
    /// How far the farthest is from that, in shares of a usual day.
    pub reach: f64,
    /// The median week of the accounts, from Monday: 1 is an average day.
    pub week: [f64; 7],
    /// In which cohorts the accounts are now, with how many of them.
    pub cohorts: BTreeMap<String, usize>,
}

/// Proposes cohorts by the shape of weeks, largest first, over the [`PROFILES_MAX`] busiest accounts.
///
/// # Errors
/// As [`bellwether_detect::cohorts::propose`].
pub fn propose(
    members: &[Member],
    models: &Guarded,
    grouping: &Grouping,
) -> Result<Vec<Proposed>, Fallback> {
    let mut busiest: Vec<&Member> = members.iter().collect();
    busiest.sort_by(|left, right| {
        right.volume().total_cmp(&left.volume()).then_with(|| left.id.cmp(&right.id))
    });
    busiest.truncate(PROFILES_MAX);
    busiest.sort_by(|left, right| left.id.cmp(&right.id));
    let Some(day) = Member::common_day(members) else { return Err(Fallback::Short) };
    // Whole weeks from Monday to Sunday.
    let sunday = day.plus(-((day.weekday() as i32 + 1) % 7));
    let week = |member: &&Member| {
        weekly_profile(&member.activity(sunday, 7 * PROFILE_WEEKS as usize)).unwrap_or_default()
    };
    let weeks: Vec<[f64; 7]> = busiest.iter().map(week).collect();
    let profiles: Vec<&[f64]> = weeks.iter().map(<[f64; 7]>::as_slice).collect();
    let proposals = models.propose(&profiles, grouping)?;
    let described = proposals.into_iter().map(|proposal| {
        let mut cohorts = BTreeMap::new();
        for &place in &proposal.members {
            *cohorts.entry(busiest[place].cohort.clone()).or_insert(0) += 1;
        }
        let day = |weekday: usize| {
            let share = |place: &usize| {
                let week = &weeks[*place];
                week[weekday] * 7.0 / week.iter().sum::<f64>().max(1e-12)
            };
            let mut shares: Vec<f64> = proposal.members.iter().map(share).collect();
            crate::stats::median(&mut shares).unwrap_or(0.0)
        };
        Proposed {
            accounts: proposal.members.iter().map(|&place| busiest[place].id.clone()).collect(),
            example: busiest[proposal.medoid].id.clone(),
            reach: proposal.reach,
            week: std::array::from_fn(day),
            cohorts,
        }
    });
    Ok(described.collect())
}

/// An account that is unlike its peers.
#[derive(Debug, Clone, PartialEq)]
pub struct Unlike {
    /// The account.
    pub id: AccountId,
    /// Distance from what its cohort did, in the cohort's robust spreads; negative: below.
    pub score: f64,
    /// What its last weeks were of what is usual for it; 1 is as usual.
    pub ratio: f64,
}

/// What the accounts of a cohort did with a signal, beside each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// The cohort.
    pub cohort: String,
    /// Index of the signal.
    pub signal: usize,
    /// Accounts with enough history.
    pub accounts: usize,
    /// Those unlike the others, the farthest first.
    pub unlike: Result<Vec<Unlike>, Fallback>,
}

/// An account, and its last weeks as shares of its own weeks before.
type Relative<'a> = (&'a Member, [f64; COMPARED_WEEKS]);

/// Compares the last four weeks of every account, relative to its own weeks before, with those of its cohort, signal by signal.
#[must_use]
pub fn compare(members: &[Member], models: &Guarded) -> Vec<Compared> {
    let mut series: BTreeMap<(&str, usize), Vec<Relative<'_>>> = BTreeMap::new();
    let day = Member::common_day(members).unwrap_or_default();
    for member in members {
        for (signal, values) in &member.signals {
            if let Some(weeks) =
                against_own_weeks(&member.back(values, day, 7 * (COMPARED_WEEKS + BASE_WEEKS.0)))
            {
                series.entry((&member.cohort, *signal)).or_default().push((member, weeks));
            }
        }
    }
    let compared = series.into_iter().map(|((cohort, signal), accounts)| {
        // Roots of ratios of counts are about as noisy at all levels.
        let roots: Vec<[f64; COMPARED_WEEKS]> =
            accounts.iter().map(|(_, weeks)| weeks.map(f64::sqrt)).collect();
        let rows: Vec<&[f64]> = roots.iter().map(<[f64; COMPARED_WEEKS]>::as_slice).collect();
        let unlike = models.outliers(&rows).map(|verdicts| {
            let named = verdicts.iter().zip(&accounts).filter(|(verdict, _)| verdict.outlier);
            let mut unlike: Vec<Unlike> = named
                .map(|(verdict, (member, weeks))| Unlike {
                    id: member.id.clone(),
                    score: verdict.score,
                    ratio: weeks.iter().sum::<f64>() / COMPARED_WEEKS as f64,
                })
                .collect();
            unlike.sort_by(|left, right| right.score.abs().total_cmp(&left.score.abs()));
            unlike
        });
        Compared { cohort: cohort.to_owned(), signal, accounts: accounts.len(), unlike }
    });
    compared.collect()
}

/// The last weeks, newest first, in shares of a usual week before them; none with too little to go by. `daily`: newest first.
fn against_own_weeks(daily: &[f64]) -> Option<[f64; COMPARED_WEEKS]> {
    // A week with an unmeasured day is NaN.
    let weeks: Vec<f64> = daily.chunks_exact(7).map(|week| week.iter().sum()).collect();
    let (last, before) = weeks.split_first_chunk::<COMPARED_WEEKS>()?;
    let mut before: Vec<f64> = before.iter().copied().filter(|week| week.is_finite()).collect();
    if before.len() < BASE_WEEKS.1 || last.iter().any(|week| week.is_nan()) {
        return None;
    }
    let usual = crate::stats::median(&mut before).filter(|usual| *usual >= BASE_MIN)?;
    Some(last.map(|week| week.max(0.0) / usual))
}
