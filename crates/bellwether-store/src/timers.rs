//! The timer index: (due, account) rows in RocksDB, and in memory the earliest of them with the batch's changes
//! applied, so that "nothing is due" costs no read and a day close of many accounts reads each row once.

use std::collections::BTreeSet;

use bellwether_core::id::AccountId;
use bellwether_core::time::Millis;

use crate::database::Database;
use crate::error::StoreError;
use crate::rows::{from_sortable, shown, sortable};

/// The column family of the index.
pub(crate) const FAMILY: &str = "timers";

/// Timers read ahead at a time; twice as many are held at most.
const WINDOW: usize = 1024;

/// A timer: when it is due, and for whom.
pub(crate) type Timer = (Millis, AccountId);

/// How far the window reaches.
#[derive(Debug)]
enum Reach {
    /// Nothing was read yet.
    Nowhere,
    /// Up to and including this timer.
    To(Timer),
    /// All timers are in the window.
    Everywhere,
}

/// The merged view of the index.
#[derive(Debug)]
pub(crate) struct Timers {
    /// Every timer within reach.
    window: BTreeSet<Timer>,
    reach: Reach,
    /// Timers of the batch that RocksDB does not hold yet.
    added: BTreeSet<Timer>,
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers { window: BTreeSet::new(), reach: Reach::Nowhere, added: BTreeSet::new() }
    }

    /// An account's timer moves.
    pub(crate) fn change(&mut self, id: &AccountId, before: Option<Millis>, after: Option<Millis>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            let timer = (before, id.clone());
            self.window.remove(&timer);
            self.added.remove(&timer);
        }
        if let Some(after) = after {
            let timer = (after, id.clone());
            if self.within_reach(&timer) {
                self.window.insert(timer.clone());
            }
            self.added.insert(timer);
            self.trim();
        }
    }

    /// The earliest timer due at or before `until`. `current` says whether a stored timer still holds in the batch.
    pub(crate) fn first(
        &mut self,
        until: Millis,
        database: &Database,
        current: impl Fn(&Timer) -> bool,
    ) -> Result<Option<Timer>, StoreError> {
        loop {
            if let Some(first) = self.window.first() {
                return Ok(Some(first).filter(|(due, _)| *due <= until).cloned());
            }
            if matches!(self.reach, Reach::Everywhere) {
                return Ok(None);
            }
            self.read_ahead(database, &current)?;
        }
    }

    /// The batch was committed: RocksDB holds all timers now.
    pub(crate) fn committed(&mut self) {
        self.added.clear();
    }

    /// The batch was discarded, or rows changed behind our back: read again.
    pub(crate) fn reset(&mut self) {
        *self = Timers::new();
    }

    fn within_reach(&self, timer: &Timer) -> bool {
        match &self.reach {
            Reach::Nowhere => false,
            Reach::To(last) => timer <= last,
            Reach::Everywhere => true,
        }
    }

    fn trim(&mut self) {
        if self.window.len() <= 2 * WINDOW {
            return;
        }
        let behind = self.window.iter().nth(WINDOW).cloned();
        if let Some(behind) = behind {
            self.window.split_off(&behind);
        }
        if let Some(last) = self.window.last() {
            self.reach = Reach::To(last.clone());
        }
    }

    fn read_ahead(
        &mut self,
        database: &Database,
        current: &impl Fn(&Timer) -> bool,
    ) -> Result<(), StoreError> {
        let from = match &self.reach {
            Reach::Nowhere | Reach::Everywhere => Vec::new(),
            // The first key behind it.
            Reach::To((due, id)) => [key(*due, id).as_slice(), &[0]].concat(),
        };
        let mut last = None;
        let mut rows = 0;
        for row in database.scan(FAMILY, &from, None).take(WINDOW) {
            let timer = decode(&row?.0)?;
            rows += 1;
            if current(&timer) {
                self.window.insert(timer.clone());
            }
            last = Some(timer);
        }
        let reach = match last {
            Some(last) if rows == WINDOW => Reach::To(last),
            _ => Reach::Everywhere,
        };
        let before = std::mem::replace(&mut self.reach, reach);
        let reached = |timer: &&Timer| match &before {
            Reach::To(last) => *timer > last && self.within_reach(timer),
            Reach::Nowhere | Reach::Everywhere => self.within_reach(timer),
        };
        let added: Vec<Timer> = self.added.iter().filter(reached).cloned().collect();
        self.window.extend(added);
        Ok(())
    }

    /// How many timers of RocksDB are due at or before `until`; beyond `timers_max` they are not counted. To be asked between
    /// batches. It is read from the earliest on that is left: to pass over those that fired before would cost more than the rest.
    pub(crate) fn due(
        &self,
        database: &Database,
        until: Millis,
        timers_max: usize,
    ) -> Result<usize, StoreError> {
        let first = self.window.first().map(|(due, id)| key(*due, id));
        let from = match (&self.reach, first) {
            (Reach::Nowhere, _) => Vec::new(),
            (Reach::To(_) | Reach::Everywhere, Some(first)) => first,
            (Reach::To((due, id)), None) => key(*due, id),
            (Reach::Everywhere, None) => return Ok(0),
        };
        let end = sortable(until.0.saturating_add(1)).to_vec();
        let rows = database.scan(FAMILY, &from, Some(end)).take(timers_max);
        rows.into_iter().try_fold(0, |count, row| row.map(|_| count + 1))
    }
}

/// The key of a timer.
pub(crate) fn key(due: Millis, id: &AccountId) -> Vec<u8> {
    [sortable(due.0).as_slice(), id.as_str().as_bytes()].concat()
}

/// Undoes [`key`].
pub(crate) fn decode(key: &[u8]) -> Result<Timer, StoreError> {
    let read = || {
        let (due, id) = key.split_first_chunk::<8>()?;
        let id = AccountId::new(std::str::from_utf8(id).ok()?).ok()?;
        Some((Millis(from_sortable(*due)), id))
    };
    read().ok_or_else(|| StoreError::Corrupt(format!("no timer has the key {}", shown(key))))
}
