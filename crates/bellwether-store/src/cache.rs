//! A bounded cache of whole accounts, all equal to their committed rows. Second-chance eviction: an account that was
//! used since the hand last passed stays for another round.

use std::collections::{HashMap, VecDeque};

use bellwether_core::account::Account;
use bellwether_core::id::AccountId;

/// An account with what the store has to know about its committed rows.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// The account.
    pub(crate) account: Account,
    /// Whether its hot row exists.
    pub(crate) has_hot: bool,
}

#[derive(Debug)]
struct Slot {
    /// None while the account is out.
    loaded: Option<Loaded>,
    used: bool,
}

/// The cache. `hand` names every slot exactly once.
#[derive(Debug)]
pub(crate) struct AccountCache {
    slots: HashMap<AccountId, Slot>,
    hand: VecDeque<AccountId>,
    accounts_max: usize,
}

impl AccountCache {
    pub(crate) fn new(accounts_max: usize) -> AccountCache {
        AccountCache { slots: HashMap::new(), hand: VecDeque::new(), accounts_max }
    }

    /// Takes an account out. Its slot waits for it to come back.
    pub(crate) fn take(&mut self, id: &AccountId) -> Option<Loaded> {
        let slot = self.slots.get_mut(id)?;
        slot.used = true;
        slot.loaded.take()
    }

    /// Puts an account in, or back.
    pub(crate) fn insert(&mut self, loaded: Loaded) {
        if let Some(slot) = self.slots.get_mut(&loaded.account.id) {
            slot.loaded = Some(loaded);
            return;
        }
        if self.accounts_max == 0 {
            return;
        }
        while self.slots.len() >= self.accounts_max {
            self.evict();
        }
        let id = loaded.account.id.clone();
        self.hand.push_back(id.clone());
        self.slots.insert(id, Slot { loaded: Some(loaded), used: false });
    }

    fn evict(&mut self) {
        let Some(id) = self.hand.pop_front() else { return };
        match self.slots.get_mut(&id) {
            Some(slot) if slot.used => {
                slot.used = false;
                self.hand.push_back(id);
            }
            _ => {
                self.slots.remove(&id);
            }
        }
    }

    /// Drops one account.
    pub(crate) fn forget(&mut self, id: &AccountId) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.loaded = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(name: &str) -> Loaded {
        let id = AccountId::new(name).expect("an identifier");
        Loaded { account: Account::new(id), has_hot: true }
    }

    #[test]
    fn the_cache_keeps_its_bound_and_what_is_used() {
        let mut cache = AccountCache::new(3);
        let busy = AccountId::new("busy").expect("an identifier");
        cache.insert(loaded("busy"));
        for round in 0..100 {
            let taken = cache.take(&busy).expect("an account in use is not evicted");
            cache.insert(taken);
            cache.insert(loaded(&format!("passing-{round}")));
            assert!(cache.slots.len() <= 3);
            assert_eq!(cache.hand.len(), cache.slots.len());
        }
        cache.forget(&busy);
        assert!(cache.take(&busy).is_none());
    }

    #[test]
    fn a_cache_of_none_holds_none() {
        let mut cache = AccountCache::new(0);
        cache.insert(loaded("a"));
        assert!(cache.take(&AccountId::new("a").expect("an identifier")).is_none());
    }
}
