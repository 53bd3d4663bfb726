//! What the core asks of a state store. Implemented in memory (replay, tests) and as an overlay over RocksDB.
//!
//! A store holds the accounts of one partition. Nothing here is shared: one thread owns a partition.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::cohort::Cohorts;
use crate::id::AccountId;
use crate::time::Millis;

/// The partition's view of event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Clock {
    /// The highest event time admitted, or ticked; none before the first record.
    pub newest: Option<Millis>,
    /// Timers due at or before this instant have fired, but for those of history that was filled in since.
    pub fired: Option<Millis>,
    /// Whether the passing of time was ever recorded here: the partition belongs to the present and not to a replay of the past.
    pub ticked: bool,
    /// Event ids count from here on at the earliest, whatever the policy says now: older ones may be forgotten. Never falls.
    pub horizon: Option<Millis>,
}

/// The state of a partition.
pub trait State {
    /// Why a row could not be read or staged.
    type Error;

    /// Takes an account out for change, with all its rows; none where there are none. A taken account must be [`State::put`] back
    /// before it is taken again.
    fn take(&mut self, id: &AccountId) -> Result<Option<Box<Account>>, Self::Error>;

    /// Puts an account back: rows named by `account.changed` are staged, the timer index follows [`Account::due`],
    /// and `changed` is cleared.
    fn put(&mut self, account: Box<Account>) -> Result<(), Self::Error>;

    /// Deletes an account that was taken: all its rows and its timer. What is put back under its id later is another account.
    fn remove(&mut self, account: Box<Account>) -> Result<(), Self::Error>;

    /// The earliest timer due at or before `until`, by (due, account); it stays until the account is put back with another due time.
    fn next_due(&mut self, until: Millis) -> Result<Option<(Millis, AccountId)>, Self::Error>;

    /// Remembers the hash of an event id as of `at`; `false` where it was remembered at `since` or later (by the hour), and then
    /// nothing changes. `since` never falls from call to call, so what lies before it may be forgotten.
    fn remember(&mut self, hash: u64, at: Millis, since: Millis) -> Result<bool, Self::Error>;

    /// Remembers a hash as of `at` (by the hour), whatever was remembered of it before; it is forgotten as those of ids are.
    fn mark(&mut self, hash: u64, at: Millis) -> Result<(), Self::Error>;

    /// The hour as of which a hash was last remembered or marked. One that lies before every `since` given to
    /// [`State::remember`] may be forgotten, or not yet.
    fn marked(&mut self, hash: u64) -> Result<Option<i64>, Self::Error>;

    /// What the cohorts of the partition's accounts did, day by day. A store writes the rows that [`Cohorts::changed`] names.
    fn cohorts(&mut self) -> &mut Cohorts;

    /// The partition's clock.
    fn clock(&self) -> Clock;

    /// Sets the partition's clock.
    fn set_clock(&mut self, clock: Clock);
}

/// State in memory: for replay, simulation and tests.
#[derive(Debug, Clone, Default)]
pub struct MemoryState {
    accounts: HashMap<AccountId, Slot>,
    timers: BTreeSet<(Millis, AccountId)>,
    seen: HashMap<u64, i64>,
    seen_by_hour: BTreeMap<i64, Vec<u64>>,
    cohorts: Cohorts,
    clock: Clock,
}

/// The place of an account, which stays while the account is taken.
#[derive(Debug, Clone, Default)]
struct Slot {
    account: Option<Box<Account>>,
    /// Its timer.
    due: Option<Millis>,
}

impl MemoryState {
    /// The accounts by id.
    #[must_use]
    pub fn accounts(&self) -> BTreeMap<&AccountId, &Account> {
        let known = self.accounts.iter();
        known.filter_map(|(id, slot)| Some((id, slot.account.as_deref()?))).collect()
    }

    /// What the cohorts did.
    #[must_use]
    pub fn known_cohorts(&self) -> &Cohorts {
        &self.cohorts
    }
}

impl State for MemoryState {
    type Error = Infallible;

    fn take(&mut self, id: &AccountId) -> Result<Option<Box<Account>>, Infallible> {
        Ok(self.accounts.get_mut(id).and_then(|slot| slot.account.take()))
    }

    fn put(&mut self, mut account: Box<Account>) -> Result<(), Infallible> {
        if account.is_blank() {
            return Ok(());
        }
        account.changed = crate::account::Changed::default();
        let slot = self.accounts.entry_ref(&account.id).or_default();
        let due = account.due();
        if slot.due != due {
            if let Some(before) = slot.due {
                self.timers.remove(&(before, account.id.clone()));
            }
            if let Some(due) = due {
                self.timers.insert((due, account.id.clone()));
            }
            slot.due = due;
        }
        slot.account = Some(account);
        Ok(())
    }

    fn remove(&mut self, account: Box<Account>) -> Result<(), Infallible> {
        if let Some(due) = self.accounts.remove(&account.id).and_then(|slot| slot.due) {
            self.timers.remove(&(due, account.id));
        }
        Ok(())
    }

    fn next_due(&mut self, until: Millis) -> Result<Option<(Millis, AccountId)>, Infallible> {
        Ok(self.timers.first().filter(|(due, _)| *due <= until).cloned())
    }

    fn remember(&mut self, hash: u64, at: Millis, since: Millis) -> Result<bool, Infallible> {
        let since = seen_hour(since);
        while let Some(hour) = self.seen_by_hour.first_entry().filter(|hour| *hour.key() < since) {
            let hour = hour.remove_entry();
            for hash in hour.1 {
                // It may have been remembered again since.
                if self.seen.get(&hash) == Some(&hour.0) {
                    self.seen.remove(&hash);
                }
            }
        }
        if self.seen.contains_key(&hash) {
            return Ok(false);
        }
        let hour = seen_hour(at);
        if hour >= since {
            self.seen.insert(hash, hour);
            self.seen_by_hour.entry(hour).or_default().push(hash);
        }
        Ok(true)
    }

    fn mark(&mut self, hash: u64, at: Millis) -> Result<(), Infallible> {
        let hour = seen_hour(at);
        self.seen.insert(hash, hour);
        self.seen_by_hour.entry(hour).or_default().push(hash);
        Ok(())
    }

    fn marked(&mut self, hash: u64) -> Result<Option<i64>, Infallible> {
        Ok(self.seen.get(&hash).copied())
    }

    fn cohorts(&mut self) -> &mut Cohorts {
        &mut self.cohorts
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn set_clock(&mut self, clock: Clock) {
        // What changed in the cohorts is noted for stores that write it; here it only must not grow without end.
        if clock.newest.map(seen_hour) != self.clock.newest.map(seen_hour) {
            self.cohorts.keep_changes();
        }
        self.clock = clock;
    }
}

/// The hour in which a seen id is kept.
#[must_use]
pub fn seen_hour(at: Millis) -> i64 {
    at.0.div_euclid(crate::time::HOUR_MS)
}
