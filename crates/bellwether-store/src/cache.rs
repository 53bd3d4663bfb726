//! A cache of accounts, all equal to their committed rows, within a budget in bytes that all stores of the process share.
//! Second-chance eviction: an account that was used since the hand last passed stays for another round.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bellwether_core::account::Account;
use bellwether_core::event::Profile;
use bellwether_core::id::AccountId;
use bellwether_core::rolling::Rolling;
use hashbrown::HashMap;

/// What an account takes here beside what is in it: its slot and its id.
const SLOT_BYTES: usize = 160;
/// What a profile takes, about.
const PROFILE_BYTES: usize = size_of::<Profile>() + 256;

/// An account with what the store has to know about its committed rows.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// The account.
    pub(crate) account: Box<Account>,
    /// Whether it has had an event: its hot row exists, or that of the rolling detector.
    pub(crate) counted: bool,
    /// Bytes that it took when it was last weighed; none of one that was just read.
    pub(crate) bytes: usize,
    /// Bytes that it takes now beside those.
    pub(crate) beside: usize,
}

/// Memory for decoded accounts, shared evenly by the stores that are open. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AccountMemory(Arc<Usage>);

#[derive(Debug)]
struct Usage {
    bytes_max: AtomicUsize,
    bytes: AtomicUsize,
    caches: AtomicUsize,
}

impl AccountMemory {
    /// A budget in bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> AccountMemory {
        AccountMemory(Arc::new(Usage {
            bytes_max: AtomicUsize::new(bytes_max),
            bytes: AtomicUsize::new(0),
            caches: AtomicUsize::new(0),
        }))
    }

    /// Bytes in use now, about.
    #[must_use]
    pub fn usage_bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Changes the budget. Caches shrink with their next use.
    pub fn set_max(&self, bytes_max: usize) {
        self.0.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    fn share(&self) -> usize {
        let caches = self.0.caches.load(Ordering::Relaxed).max(1);
        self.0.bytes_max.load(Ordering::Relaxed) / caches
    }
}

/// An account as it is kept.
#[derive(Debug)]
enum Kept {
    /// All of it.
    Whole(Box<Account>),
    /// What there is of one that only the rolling detector knows: an account has a kilobyte of fields, and such a one none of them.
    Sums(Box<Rolling>, Option<Box<Profile>>),
}

impl Kept {
    /// What to keep, and the bytes that it takes, about.
    fn of(mut account: Box<Account>) -> (Kept, usize) {
        let sums = if account.has_sums_alone() { account.rolling.take() } else { None };
        let Some(rolling) = sums else {
            let bytes = account.memory_bytes();
            return (Kept::Whole(account), bytes);
        };
        let profile = account.profile.take().map(Box::new);
        let of_profile = profile.as_ref().map_or(0, |_| PROFILE_BYTES);
        let bytes = SLOT_BYTES + size_of::<Rolling>() + rolling.memory_bytes() + of_profile;
        (Kept::Sums(rolling, profile), bytes)
    }

    /// The account, and the bytes that it takes beside those that were counted.
    fn account(self, id: &AccountId) -> (Box<Account>, usize) {
        match self {
            Kept::Whole(account) => (account, 0),
            Kept::Sums(rolling, profile) => {
                let mut account = Box::new(Account::new(id.clone()));
                (account.rolling, account.profile) = (Some(rolling), profile.map(|of| *of));
                (account, size_of::<Account>())
            }
        }
    }
}

#[derive(Debug)]
struct Slot {
    /// None while the account is out.
    kept: Option<Kept>,
    counted: bool,
    bytes: usize,
    used: bool,
}

/// The cache. `hand` names every slot exactly once.
#[derive(Debug)]
pub(crate) struct AccountCache {
    slots: HashMap<AccountId, Slot>,
    hand: VecDeque<AccountId>,
    bytes: usize,
    memory: AccountMemory,
}

impl AccountCache {
    pub(crate) fn new(memory: &AccountMemory) -> AccountCache {
        memory.0.caches.fetch_add(1, Ordering::Relaxed);
        AccountCache {
            slots: HashMap::new(),
            hand: VecDeque::new(),
            bytes: 0,
            memory: memory.clone(),
        }
    }

    /// Takes an account out. Its slot waits for it to come back.
    pub(crate) fn take(&mut self, id: &AccountId) -> Option<Loaded> {
        let slot = self.slots.get_mut(id)?;
        slot.used = true;
        let Slot { counted, bytes, .. } = *slot;
        let (account, beside) = slot.kept.take()?.account(id);
        Some(Loaded { account, counted, bytes, beside })
    }

    /// Whether no account was ever put in.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether an account is here.
    pub(crate) fn has(&self, id: &AccountId) -> bool {
        self.slots.get(id).is_some_and(|slot| slot.kept.is_some())
    }

    /// Puts an account in, or back.
    pub(crate) fn insert(&mut self, id: AccountId, account: Box<Account>, counted: bool) {
        let share = self.memory.share();
        let (kept, bytes) = Kept::of(account);
        let kept = Some(kept);
        let before = match self.slots.get_mut(&id) {
            Some(slot) => {
                (slot.kept, slot.counted) = (kept, counted);
                std::mem::replace(&mut slot.bytes, bytes)
            }
            None if bytes > share => return,
            None => {
                self.hand.push_back(id.clone());
                self.slots.insert(id, Slot { kept, counted, bytes, used: false });
                0
            }
        };
        self.count(before, bytes);
        while self.bytes > share && !self.hand.is_empty() {
            self.evict();
        }
    }

    fn evict(&mut self) {
        let Some(id) = self.hand.pop_front() else { return };
        match self.slots.get_mut(&id) {
            Some(slot) if slot.used => {
                slot.used = false;
                self.hand.push_back(id);
            }
            _ => {
                let bytes = self.slots.remove(&id).map_or(0, |slot| slot.bytes);
                self.count(bytes, 0);
            }
        }
    }

    fn count(&mut self, before: usize, after: usize) {
        self.bytes = self.bytes + after - before;
        let total = &self.memory.0.bytes;
        total.fetch_add(after, Ordering::Relaxed);
        total.fetch_sub(before, Ordering::Relaxed);
    }

    /// Drops one account.
    pub(crate) fn forget(&mut self, id: &AccountId) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.kept = None;
        }
    }
}

impl Drop for AccountCache {
    fn drop(&mut self) {
        self.count(self.bytes, 0);
        self.memory.0.caches.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::rolling::RollingSignal;

    use super::*;
    use crate::fixtures;

    fn account(name: &str) -> Box<Account> {
        Box::new(Account::new(AccountId::new(name).expect("an identifier")))
    }

    impl AccountCache {
        fn keep(&mut self, account: Box<Account>) {
            self.insert(account.id.clone(), account, true);
        }
    }

    #[test]
    fn the_cache_keeps_its_bound_and_what_is_used() {
        let one = account("busy").memory_bytes();
        let memory = AccountMemory::new(3 * one + 100);
        let mut cache = AccountCache::new(&memory);
        let busy = AccountId::new("busy").expect("an identifier");
        cache.keep(account("busy"));
        for round in 0..100 {
            let taken = cache.take(&busy).expect("an account in use is not evicted");
            cache.keep(taken.account);
            cache.keep(account(&format!("passing-{round}")));
            assert!(cache.slots.len() <= 3 && memory.usage_bytes() <= 3 * one + 100);
            assert_eq!(cache.hand.len(), cache.slots.len());
        }
        cache.forget(&busy);
        assert!(cache.take(&busy).is_none());
        drop(cache);
        assert_eq!(memory.usage_bytes(), 0);
    }

    #[test]
    fn stores_share_the_budget_and_shrink_with_it() {
        let one = account("a").memory_bytes();
        let memory = AccountMemory::new(8 * one);
        let mut first = AccountCache::new(&memory);
        (0..8).for_each(|number| first.keep(account(&number.to_string())));
        assert_eq!(first.slots.len(), 8);
        let mut second = AccountCache::new(&memory);
        (0..8).for_each(|number| second.keep(account(&number.to_string())));
        assert_eq!(second.slots.len(), 4, "half of it");
        first.keep(account("x"));
        assert_eq!(first.slots.len(), 4, "and the first gives up the other half");
        memory.set_max(2 * one);
        first.keep(account("y"));
        assert_eq!(first.slots.len(), 1);
    }

    #[test]
    fn an_account_of_sums_comes_back_as_it_was_and_takes_little() {
        let mut sums = account("sums");
        sums.rolling.get_or_insert_default().signals.push(RollingSignal::new(7));
        let mut profiled = sums.clone();
        profiled.id = AccountId::new("profiled").expect("an identifier");
        let name = Some("Acme".to_owned());
        profiled.profile = Some(Profile { name, ..fixtures::profile(profiled.id.clone()) });
        let mut hot = sums.clone();
        hot.id = AccountId::new("hot").expect("an identifier");
        hot.hot.sequence = 1;
        let mut cache = AccountCache::new(&AccountMemory::new(1 << 20));
        for account in [sums, profiled, hot] {
            let before = cache.bytes;
            cache.keep(account.clone());
            let little = account.hot.sequence == 0;
            assert_eq!(cache.bytes - before < size_of::<Account>(), little, "{:?}", account.id);
            let taken = cache.take(&account.id).expect("it is there");
            assert!(taken.account == account && taken.counted);
        }
    }

    #[test]
    fn a_cache_of_none_holds_none() {
        let mut cache = AccountCache::new(&AccountMemory::new(0));
        cache.keep(account("a"));
        assert!(cache.take(&AccountId::new("a").expect("an identifier")).is_none());
    }
}
