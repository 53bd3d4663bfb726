//! The accounts of a partition: what is known of them, how many there are, and which were deleted. What is known of them is read back from the
//! topics that it comes from. That they were deleted is written: the tombstones that said so go from their topics after a day or so, and
//! what was parked stays for weeks. By a hash, so that no row names who was deleted. And how many there
//! are is written, since it takes a while until they are all read after a start.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bellwether_core::publish::content_id;

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
    /// The topics of which all was read since the start ([`Source::bit`]). Once those of profiles and scores are, `known` holds all.
    read: u8,
    /// How many there were when that was last written.
    written: Option<usize>,
    /// By the mark of an account: what happened to it before this is deleted.
    forgotten: HashMap<String, i64>,
}

/// What stands for a deleted account.
fn mark(account: &str) -> String {
    content_id(&["forgotten", account])
}

fn hash(account: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    account.hash(&mut hasher);
    hasher.finish()
}

impl Accounts {
    /// How many there are: until all were read again, not fewer than there were before.
    pub(super) fn count(&self) -> usize {
        let before = self.written.filter(|_| !self.is_read()).unwrap_or(0);
        self.known.len().max(before)
    }

    pub(super) fn is_counted(&self) -> bool {
        self.is_read() || self.written.is_some()
    }

    /// All of a topic was read. Whether with that all accounts are known for the first time.
    pub(super) fn set_read(&mut self, from: Source) -> bool {
        let before = self.is_read();
        self.read |= from.bit();
        self.is_read() && !before
    }

    fn is_read(&self) -> bool {
        let both = Source::Profile.bit() | Source::Score.bit();
        self.read & both == both
    }

    /// How many are to be written, where that is known and another number than was written last.
    pub(super) fn to_write(&self) -> Option<usize> {
        let count = self.known.len();
        (self.is_read() && self.written != Some(count)).then_some(count)
    }

    pub(super) fn set_written(&mut self, count: Option<usize>) {
        self.written = count;
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

    /// It is deleted, with all that happened to it before a time. Returns its mark where that is news.
    pub(super) fn forget(&mut self, account: &str, before_ms: i64) -> Option<String> {
        self.profiles.remove(account);
        self.known.remove(&hash(account));
        let mark = mark(account);
        let is_news = self.forgotten.get(&mark).is_none_or(|known| *known < before_ms);
        is_news.then(|| {
            self.restore_forgotten(mark.clone(), before_ms);
            mark
        })
    }

    /// Takes a deletion that was read back.
    pub(super) fn restore_forgotten(&mut self, mark: String, before_ms: i64) {
        self.forgotten.insert(mark, before_ms);
    }

    /// A deletion is remembered no more.
    pub(super) fn drop_forgotten(&mut self, mark: &str) {
        self.forgotten.remove(mark);
    }

    pub(super) fn forgotten_before(&self, account: &str) -> Option<i64> {
        // As a rule nobody was deleted.
        if self.forgotten.is_empty() { None } else { self.forgotten.get(&mark(account)).copied() }
    }

    /// The marks of deletions of before a time.
    pub(super) fn forgotten_until(&self, before_ms: i64) -> Vec<String> {
        let old = self.forgotten.iter().filter(|(_, until)| **until < before_ms);
        old.map(|(mark, _)| mark.clone()).collect()
    }
}
