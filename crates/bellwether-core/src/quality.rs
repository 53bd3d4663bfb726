//! How good the data of each cohort are: which records were not used and why, and which signals fell silent.
//!
//! A record that is used costs nothing here: only rejected ones are looked at, and signals with the survey of accounts
//! ([`crate::drift`]), from days that are closed.

use std::collections::BTreeMap;

use crate::account::Account;
use crate::cohort::COHORTS_MAX;
use crate::history::{Activity, Ring, mask};
use crate::id::AccountId;
use crate::reject::Reason;
use crate::state::State;
use crate::step::put_back;
use crate::time::Day;

/// Accounts that must have had something of a signal for its silence to say something of where it comes from.
pub const SILENCE_ACCOUNTS_MIN: u64 = 10;
/// Days of 128 on which a cohort must have had something of a signal: what comes less often is silent as a rule.
pub const SILENCE_DAYS_MIN: u32 = 28;

/// Rejected records, counted by cohort and reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rejected(BTreeMap<String, [u64; Reason::ALL.len()]>);

impl Rejected {
    /// Counts a record of an account. It counts for the unnamed cohort where none is known: no account is named, it is unknown or
    /// has none, or [`COHORTS_MAX`] others were counted.
    ///
    /// # Errors
    /// Those of the state.
    pub fn count<S: State>(
        &mut self,
        state: &mut S,
        account: Option<&AccountId>,
        reason: Reason,
    ) -> Result<(), S::Error> {
        let known = match account {
            Some(id) => state.take(id)?,
            None => None,
        };
        let name = known.as_deref().and_then(Account::segment).unwrap_or_default();
        let is_new = !self.0.contains_key(name);
        let name = if is_new && self.0.len() >= COHORTS_MAX { "" } else { name };
        if let Some(counts) = self.0.get_mut(name) {
            counts[reason as usize] += 1;
        } else {
            let mut counts = [0; Reason::ALL.len()];
            counts[reason as usize] = 1;
            self.0.insert(name.to_owned(), counts);
        }
        put_back(state, known)
    }

    /// Cohort, reason and how many records, where there are any.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Reason, u64)> {
        self.0.iter().flat_map(|(cohort, counts)| {
            let counted = Reason::ALL.into_iter().zip(*counts);
            counted.filter(|(_, count)| *count > 0).map(move |(reason, count)| {
                let cohort: &str = cohort;
                (cohort, reason, count)
            })
        })
    }
}

/// On which of the last 128 days a cohort had something of a signal.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fed {
    accounts: u64,
    days: Activity,
}

/// For how long a signal has been silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// Closed days without anything of it, up to the newest.
    pub days: u32,
    /// The longest time without anything before, in days.
    pub gap_days: u32,
}

impl Silence {
    /// Whether it is longer than any before, by more than the day that is still being closed.
    #[must_use]
    pub fn is_unusual(self) -> bool {
        self.days > self.gap_days + 1
    }
}

impl Fed {
    /// Adds the closed days of an account, the newest of which is `newest`. Days on which nothing is measured (`masked`, seen from
    /// `newest`) count as days with something, in between others.
    pub fn see(&mut self, ring: &Ring, newest: Day, masked: u128) {
        let had = |back: &usize| ring.back(*back).is_some_and(|value| value.abs() > 0.0);
        let bits: u128 = (0..ring.len()).filter(had).fold(0, |bits, back| bits | 1 << back);
        if bits != 0 {
            let age = u128::BITS - bits.leading_zeros();
            let days = Activity { newest, bits: bits | masked & mask(age), role: None };
            self.add(&Fed { accounts: 1, days });
        }
    }

    /// Adds what other accounts had.
    pub fn add(&mut self, other: &Fed) {
        if other.days.bits == 0 {
            return;
        }
        let newest = match self.days.bits {
            0 => other.days.newest,
            _ => self.days.newest.max(other.days.newest),
        };
        self.days.bits = self.days.seen_from(newest) | other.days.seen_from(newest);
        self.days.newest = newest;
        self.accounts += other.accounts;
    }

    /// Its silence up to a day; none of fewer than [`SILENCE_ACCOUNTS_MIN`] accounts, or of what came on fewer than
    /// [`SILENCE_DAYS_MIN`] days.
    #[must_use]
    pub fn silence(&self, through: Day) -> Option<Silence> {
        let bits = self.days.seen_from(through);
        if self.accounts < SILENCE_ACCOUNTS_MIN || bits.count_ones() < SILENCE_DAYS_MIN {
            return None;
        }
        let days = bits.trailing_zeros();
        let (mut rest, mut gap_days) = (bits >> days, 0);
        while rest > 1 {
            rest >>= 1;
            let gap = rest.trailing_zeros();
            gap_days = gap_days.max(gap);
            rest >>= gap;
        }
        Some(Silence { days, gap_days })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Row;
    use crate::state::MemoryState;

    fn account(state: &mut MemoryState, id: &str, segment: &str) -> AccountId {
        let id = AccountId::new(id).expect("an id");
        let mut account = Account::new(id.clone());
        account.hot.segment = Some(segment.to_owned());
        account.changed.note(Row::Hot);
        let Ok(()) = state.put(Box::new(account));
        id
    }

    #[test]
    fn reasons_count_under_the_cohort_of_their_account() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "counts are kept in this order");
        }
        let (mut state, mut rejected) = (MemoryState::default(), Rejected::default());
        let known = account(&mut state, "acme", "smb");
        let unknown = AccountId::new("nobody").expect("an id");
        for (id, reason) in [
            (Some(&known), Reason::Duplicate),
            (Some(&known), Reason::Duplicate),
            (Some(&known), Reason::TooLate),
            (Some(&unknown), Reason::UnknownAccount),
            (None, Reason::Malformed),
        ] {
            let Ok(()) = rejected.count(&mut state, id, reason);
        }
        let expected = [
            ("", Reason::Malformed, 1),
            ("", Reason::UnknownAccount, 1),
            ("smb", Reason::TooLate, 1),
            ("smb", Reason::Duplicate, 2),
        ];
        assert_eq!(rejected.iter().collect::<Vec<_>>(), expected);
        assert_eq!(state.accounts().len(), 1, "to look at an account changes nothing");
    }

    #[test]
    fn cohorts_beyond_the_bound_count_together() {
        let (mut state, mut rejected) = (MemoryState::default(), Rejected::default());
        for number in 0..COHORTS_MAX + 3 {
            let id = account(&mut state, &format!("a{number}"), &format!("c{number:03}"));
            let Ok(()) = rejected.count(&mut state, Some(&id), Reason::Duplicate);
        }
        let counts: Vec<(&str, u64)> =
            rejected.iter().map(|(cohort, _, count)| (cohort, count)).collect();
        assert_eq!((counts.len(), counts[0]), (COHORTS_MAX + 1, ("", 3)));
    }

    /// Ten accounts with something on these days before the newest.
    fn fed(backs: impl Iterator<Item = usize> + Clone) -> Fed {
        let mut ring = Ring::default();
        let days = 1 + backs.clone().max().expect("a day");
        for back in (0..days).rev() {
            ring.push(f64::from(u8::from(backs.clone().any(|had| had == back))));
        }
        let mut fed = Fed::default();
        for _ in 0..SILENCE_ACCOUNTS_MIN {
            fed.see(&ring, Day(1_000), 0);
        }
        fed
    }

    #[test]
    fn a_silence_is_told_beside_the_longest_gap_before() {
        // Working days: the newest day is a Wednesday, weekends lie 3 and 4 days back.
        let working = (0..70).filter(|back| !matches!(back % 7, 3 | 4));
        let found = fed(working.clone()).silence(Day(1_000));
        assert_eq!(found, Some(Silence { days: 0, gap_days: 2 }));
        let found = fed(working.clone()).silence(Day(1_009));
        assert_eq!(found, Some(Silence { days: 9, gap_days: 2 }));
        let unusual = (1_000..1_006)
            .filter(|day| fed(working.clone()).silence(Day(*day)).is_some_and(Silence::is_unusual));
        assert_eq!(unusual.collect::<Vec<_>>(), [1_004, 1_005]);
        let holiday = working.filter(|back| !(20..30).contains(back));
        assert_eq!(fed(holiday).silence(Day(1_000)).map(|found| found.gap_days), Some(10));
    }

    #[test]
    fn rare_signals_and_few_accounts_say_nothing() {
        assert_eq!(fed((0..120).step_by(7)).silence(Day(1_000)), None, "once a week");
        let mut few = fed(0..60);
        few.accounts = SILENCE_ACCOUNTS_MIN - 1;
        assert_eq!(few.silence(Day(1_000)), None);
        assert_eq!(Fed::default().silence(Day(1_000)), None);
    }

    #[test]
    fn days_of_accounts_add_up_wherever_their_newest_day_is() {
        let mut ring = Ring::default();
        (0..40).for_each(|_| ring.push(1.0));
        let (mut early, mut late) = (Fed::default(), Fed::default());
        for _ in 0..SILENCE_ACCOUNTS_MIN {
            early.see(&ring, Day(100), 0);
            late.see(&ring, Day(145), 0);
        }
        let mut sum = early.clone();
        sum.add(&late);
        let mut other = late;
        other.add(&early);
        assert_eq!(sum.silence(Day(145)), Some(Silence { days: 0, gap_days: 5 }));
        assert_eq!(sum, other);
    }

    #[test]
    fn announced_days_are_no_silence() {
        let mut ring = Ring::default();
        (0..60).for_each(|day| ring.push(f64::from(u8::from(!(40..50).contains(&day)))));
        let mut fed = Fed::default();
        for _ in 0..SILENCE_ACCOUNTS_MIN {
            fed.see(&ring, Day(100), mask(10) << 10);
        }
        assert_eq!(fed.silence(Day(100)), Some(Silence { days: 0, gap_days: 0 }));
    }
}
