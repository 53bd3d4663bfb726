//! Accounts that are read before they are needed, many at a time: an iterator for each is what reading one takes the longest.
//!
//! What is kept here is as committed: rows of an account change only by a batch that touches it, and whoever touches it takes it
//! from here.

use bellwether_core::id::AccountId;
use hashbrown::HashMap;

use super::{ROWS, Store};
use crate::cache::Loaded;
use crate::error::StoreError;
use crate::rows;
use crate::task::reads::read;

/// Ids that are looked at together: at least, and at most.
const IDS: (usize, usize) = (16, 8_192);
/// Reading ahead is worth its while where one account in so many was not in the cache.
const MISSES: usize = 16;
/// What an account takes while nobody knows.
const ACCOUNT_BYTES: usize = 16 << 10;

/// Accounts that were read ahead.
pub(super) struct Ahead {
    /// None: it has no rows.
    accounts: HashMap<AccountId, Option<Loaded>>,
    /// Accounts that came into batches since it was last said which come next, and how many of them were not in the cache.
    touched: usize,
    read: usize,
    /// Whether so many were not that it is worth its while.
    worth: bool,
    /// What an account takes, about.
    account_bytes: usize,
}

impl Ahead {
    pub(super) fn new() -> Ahead {
        let (touched, read, worth) = (0, 0, true);
        let account_bytes = ACCOUNT_BYTES;
        Ahead { accounts: HashMap::new(), touched, read, worth, account_bytes }
    }

    /// An account comes into the batch.
    pub(super) fn touch(&mut self) {
        self.touched += 1;
    }

    /// Takes an account out, if it was looked for; it is somebody's from now on.
    pub(super) fn take(&mut self, id: &AccountId) -> Option<Option<Loaded>> {
        // Who is not in the cache was read, if not ahead.
        self.read += 1;
        self.accounts.remove(id)
    }

    /// How many are here.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.accounts.clear();
    }
}

impl Store {
    /// Says which accounts will be taken next; ids that are none are passed over. Reads those that are neither in the batch nor in the
    /// cache, as far as `bytes_max` goes, about. How many ids that were: after so many more it is time to say the next ones.
    ///
    /// # Errors
    /// Where the disk fails or rows are damaged.
    pub fn read_ahead<'k>(
        &mut self,
        ids: impl Iterator<Item = &'k [u8]>,
        bytes_max: usize,
    ) -> Result<usize, StoreError> {
        self.check()?;
        let ahead = &mut self.ahead;
        ahead.clear();
        if ahead.touched > 0 {
            ahead.worth = ahead.read * MISSES >= ahead.touched;
        }
        (ahead.touched, ahead.read) = (0, 0);
        let (least, most) = IDS;
        let ids = ids.take((bytes_max / ahead.account_bytes).clamp(least, most));
        if !ahead.worth {
            return Ok(ids.count());
        }
        let (mut looked_at, mut missing) = (0, Vec::new());
        for id in ids {
            looked_at += 1;
            let id = std::str::from_utf8(id).ok().and_then(|id| AccountId::new(id).ok());
            let is_here = |id: &AccountId| self.touched.contains_key(id) || self.cache.has(id);
            missing.extend(id.filter(|id| !is_here(id)));
        }
        // In the order of their keys, so that a block is read once for all that lie in it.
        missing.sort_unstable();
        missing.dedup();
        let Some(last) = missing.last() else { return Ok(looked_at) };
        let mut cursor = self.database.cursor(ROWS, Some(rows::account_end(last)));
        let (mut bytes, mut found) = (0, 0);
        for id in missing {
            // Who finds no room is read when it is its turn.
            if bytes >= bytes_max && self.ahead.accounts.len() >= least {
                break;
            }
            let loaded = read(&mut cursor, &id)?;
            if let Some(loaded) = &loaded {
                (bytes, found) = (bytes + loaded.beside, found + 1);
            }
            self.ahead.accounts.insert(id, loaded);
        }
        // Accounts that are new say nothing of what others take.
        if let Some(mean) = bytes.checked_div(found) {
            self.ahead.account_bytes = mean.max(size_of::<Loaded>());
        }
        Ok(looked_at)
    }
}
