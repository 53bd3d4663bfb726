//! The accounts of a partition: what is known of them, how many there are, and which were deleted. Nothing of it is written: it is read back
//! from the topics that it comes from.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::event::Profile;

/// Where an account is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It has a profile.
    Profile,
    /// It has a score.
    Score,
    /// It had an alert.
    Alert,
}

impl Source {
    fn bit(self) -> u8 {
        match self {
            Source::Profile => 1,
            Source::Score => 2,
            Source::Alert => 4,
        }
    }
}

/// Accounts.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    profiles: HashMap<String, Profile>,
    /// By hash of its id, where each is known from: there may be very many.
    known: HashMap<u64, u8>,
    /// What happened before this to an account is deleted.
    forgotten: HashMap<String, i64>,
}

fn hash(account: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    account.hash(&mut hasher);
    hasher.finish()
}

impl Accounts {
    /// How many are known.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    pub(super) fn profile(&self, account: &str) -> Profile {
        self.profiles.get(account).cloned().unwrap_or_default()
    }

    pub(super) fn set_profile(&mut self, account: &str, profile: Profile) {
        self.see(account, Source::Profile);
        self.profiles.insert(account.to_owned(), profile);
    }

    pub(super) fn see(&mut self, account: &str, source: Source) {
        *self.known.entry(hash(account)).or_default() |= source.bit();
    }

    /// It is not known from there any more.
    pub(super) fn lose(&mut self, account: &str, source: Source) {
        let hash = hash(account);
        if let Some(sources) = self.known.get_mut(&hash) {
            *sources &= !source.bit();
            if *sources == 0 {
                self.known.remove(&hash);
            }
        }
    }

    /// It is deleted, with all that happened to it before a time.
    pub(super) fn forget(&mut self, account: &str, before_ms: i64) {
        self.profiles.remove(account);
        self.known.remove(&hash(account));
        let before = self.forgotten.entry(account.to_owned()).or_insert(before_ms);
        *before = before_ms.max(*before);
    }

    pub(super) fn forgotten_before(&self, account: &str) -> Option<i64> {
        self.forgotten.get(account).copied()
    }

    /// Deletions of before a time count no more.
    pub(super) fn forget_deletions(&mut self, before_ms: i64) {
        self.forgotten.retain(|_, until| *until >= before_ms);
    }
}
