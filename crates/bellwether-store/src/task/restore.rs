//! Rebuilding a store from its changelogs, from the positions it has up to their ends.

use bellwether_core::account::{Account, Hot};
use bellwether_core::feedback::Raised;
use bellwether_core::forecast::Forecast;
use bellwether_core::history::{Activity, History};
use bellwether_core::id::AccountId;
use bellwether_core::life::Life;
use bellwether_core::rebaseline::Change;
use bellwether_core::rolling::Rolling;
use bellwether_core::time::Millis;
use hashbrown::HashMap;

use super::{Progress, ROWS, Store, Stream, write_timer};
use crate::batch::Batch;
use crate::error::StoreError;
use crate::format::{decode, version};
use crate::kill_point;
use crate::rows::{self, AccountRow, RowKey, body, lines_readable, profile_readable};
use crate::seen::SeenRecord;

/// A batch of this size is written: large enough to be cheap, small against any write buffer. A changelog that is not compacted yet has
/// many values of each row; of those in a batch only the last is written.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// What a row takes beside its key and value, while it waits.
const ROW_BYTES: usize = 160;

/// The batch of a restore.
pub(super) struct Restoring {
    /// Rows by key, each as it is at present; none: to be deleted.
    rows: HashMap<Vec<u8>, Option<Vec<u8>>>,
    rows_bytes: usize,
    /// Timers and seen ids.
    batch: Batch<'static>,
    progress: Progress,
    /// Of accounts in the batch: none where the hot row is gone, else when its timer is due.
    hot: HashMap<AccountId, Option<Option<Millis>>>,
    /// Of accounts in the batch: whether there is a row of the rolling detector.
    rolling: HashMap<AccountId, bool>,
}

impl Restoring {
    /// Keeps the latest value of a row.
    fn keep(&mut self, key: &[u8], value: Option<&[u8]>) {
        let bytes = |value: Option<&[u8]>| value.map_or(0, <[u8]>::len);
        let value_bytes = bytes(value);
        let value = value.map(<[u8]>::to_vec);
        match self.rows.get_mut(key) {
            Some(known) => {
                let before = bytes(std::mem::replace(known, value).as_deref());
                self.rows_bytes = self.rows_bytes + value_bytes - before;
            }
            None => {
                self.rows_bytes += ROW_BYTES + key.len() + value_bytes;
                self.rows.insert(key.to_vec(), value);
            }
        }
    }
}

impl Store {
    /// Applies one changelog record; `next` is the offset after it. Records are written in batches, each with its
    /// positions, so that a restore that is cut short goes on where it was. A batch of the core is discarded first.
    ///
    /// # Errors
    /// After any error the store is poisoned. [`StoreError::UnknownVersion`] means that a newer version wrote the changelog.
    pub fn restore(
        &mut self,
        stream: Stream,
        next: i64,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        self.check()?;
        kill_point::pass("amid-restore");
        let applied = self.apply(stream, next, key, value);
        self.poisoned = applied.is_err();
        applied
    }

    /// Writes what is left of a restore with the positions it ended at (they may lie behind the last record).
    pub fn finish_restore(&mut self, positions: &[(Stream, i64)]) -> Result<(), StoreError> {
        self.check()?;
        let mut restoring = self.restoring();
        restoring.progress.advance(positions);
        let written = self.write_restored(restoring);
        self.poisoned = written.is_err();
        written
    }

    /// The batch that is being restored, or a new one.
    fn restoring(&mut self) -> Restoring {
        self.restoring.take().unwrap_or_else(|| {
            self.discard();
            let progress = self.progress;
            let (hot, rolling) = (HashMap::new(), HashMap::new());
            let (rows, rows_bytes, batch) = (HashMap::new(), 0, Batch::default());
            Restoring { rows, rows_bytes, batch, progress, hot, rolling }
        })
    }

    fn apply(
        &mut self,
        stream: Stream,
        next: i64,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let mut restoring = self.restoring();
        match stream {
            Stream::State => self.apply_row(&mut restoring, key, value)?,
            Stream::Seen => {
                let empty = || StoreError::Corrupt("a record of seen ids without value".to_owned());
                let record = SeenRecord::decode(value.ok_or_else(empty)?)?;
                record.write(&mut restoring.batch);
            }
        }
        restoring.progress.advance(&[(stream, next)]);
        if restoring.batch.bytes() + restoring.rows_bytes >= BATCH_BYTES_MAX {
            return self.write_restored(restoring);
        }
        self.restoring = Some(restoring);
        Ok(())
    }

    fn apply_row(
        &mut self,
        restoring: &mut Restoring,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        // As most are: nothing follows from them.
        let alone = rows::row_of_account(key).filter(|row| {
            !matches!(row, AccountRow::Hot | AccountRow::Rolling) && self.cache.is_empty()
        });
        if let Some(row) = alone {
            value.map_or(Ok(()), |value| readable(&row, value))?;
            restoring.keep(key, value);
            return Ok(());
        }
        match RowKey::decode(key)? {
            RowKey::Clock => {
                self.clock = match value {
                    Some(value) => decode("the clock row", value)?,
                    None => super::Clock::default(),
                };
                self.clock_committed = self.clock;
            }
            RowKey::Cohort(name, key) => {
                let row = value.map(|value| rows::decode_cohort(key, value)).transpose()?;
                self.cohorts.restore(&name, key, row);
            }
            RowKey::Calendar(id) => {
                let entry = value.map(|value| rows::decode("an entry of the calendar", value));
                self.cohorts.calendar_mut().place(&id, entry.transpose()?);
            }
            RowKey::Promotion(id) => {
                let promotion = value.map(|value| rows::decode("a promotion", value));
                self.cohorts.promotions_mut().place(&id, promotion.transpose()?);
            }
            RowKey::Challenger(id) => {
                let challenger = value.map(|value| rows::decode("a challenger", value));
                self.cohorts.challengers_mut().place(&id, challenger.transpose()?);
            }
            RowKey::Account(id, row) => {
                self.cache.forget(&id);
                // Not read in full here, but a value that this version cannot read must not get in.
                value.map_or(Ok(()), |value| readable(&row, value))?;
                if row == AccountRow::Hot {
                    self.apply_hot(restoring, id, key, value)?;
                } else if row == AccountRow::Rolling {
                    // What was put over the row before goes with it, wherever the changelog is cut.
                    restoring.keep(&AccountRow::Recent.key(&id), None);
                    self.apply_rolling(restoring, id, value.is_some())?;
                }
            }
        }
        restoring.keep(key, value);
        Ok(())
    }

    /// The timer index and the count of accounts follow the hot row.
    fn apply_hot(
        &self,
        restoring: &mut Restoring,
        id: AccountId,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let before = match restoring.hot.get(&id) {
            Some(before) => *before,
            None => {
                self.database.get(ROWS, key)?.as_deref().map(|value| due(&id, value)).transpose()?
            }
        };
        let after = value.map(|value| due(&id, value)).transpose()?;
        write_timer(&mut restoring.batch, &id, before.flatten(), after.flatten());
        let rolls = self.is_rolling(restoring, &id)?;
        count(restoring, before.is_some() || rolls, after.is_some() || rolls);
        restoring.hot.insert(id, after);
        Ok(())
    }

    /// The count of accounts follows the row of the rolling detector, too.
    fn apply_rolling(
        &self,
        restoring: &mut Restoring,
        id: AccountId,
        after: bool,
    ) -> Result<(), StoreError> {
        let before = self.is_rolling(restoring, &id)?;
        if before != after {
            let hot = match restoring.hot.get(&id) {
                Some(hot) => hot.is_some(),
                None => self.database.get(ROWS, &AccountRow::Hot.key(&id))?.is_some(),
            };
            count(restoring, before || hot, after || hot);
        }
        restoring.rolling.insert(id, after);
        Ok(())
    }

    fn is_rolling(&self, restoring: &Restoring, id: &AccountId) -> Result<bool, StoreError> {
        match restoring.rolling.get(id) {
            Some(is) => Ok(*is),
            None => Ok(self.database.get(ROWS, &AccountRow::Rolling.key(id))?.is_some()),
        }
    }

    fn write_restored(&mut self, mut restoring: Restoring) -> Result<(), StoreError> {
        let mut rows: Vec<_> = std::mem::take(&mut restoring.rows).into_iter().collect();
        rows.sort_unstable();
        for (key, value) in rows {
            match value {
                Some(value) => restoring.batch.put(ROWS, key, value),
                None => restoring.batch.delete(ROWS, key),
            }
        }
        restoring.progress.write(&mut restoring.batch);
        self.write_time(&mut restoring.batch);
        self.database.write(restoring.batch)?;
        kill_point::pass("restore-written");
        self.progress = restoring.progress;
        self.timers.reset();
        Ok(())
    }
}

/// An account gets, or loses, the last row of its events.
fn count(restoring: &mut Restoring, before: bool, after: bool) {
    let accounts = &mut restoring.progress.accounts;
    match (before, after) {
        (false, true) => *accounts += 1,
        (true, false) => *accounts = accounts.saturating_sub(1),
        (false, false) | (true, true) => {}
    }
}

/// Whether the format of a value is one that this version reads.
fn readable(row: &AccountRow, value: &[u8]) -> Result<(), StoreError> {
    match row {
        AccountRow::Profile => profile_readable(row.name(), value),
        AccountRow::Standing => lines_readable(row.name(), value),
        AccountRow::Older
        | AccountRow::Watched(_)
        | AccountRow::Masked
        | AccountRow::Own
        | AccountRow::Shadow
        | AccountRow::Predicted => body(row.name(), value).map(drop),
        AccountRow::Hot => version::<Hot>(row.name(), value).map(drop),
        AccountRow::History => version::<History>(row.name(), value).map(drop),
        AccountRow::Raised => version::<Vec<Raised>>(row.name(), value).map(drop),
        AccountRow::Lives => version::<Vec<Life>>(row.name(), value).map(drop),
        AccountRow::Changes => version::<Vec<Change>>(row.name(), value).map(drop),
        AccountRow::Forecast => version::<Forecast>(row.name(), value).map(drop),
        AccountRow::Activity(_) => version::<Activity>(row.name(), value).map(drop),
        AccountRow::Rolling | AccountRow::Recent => version::<Rolling>(row.name(), value).map(drop),
    }
}

/// When the account of a hot row is due.
fn due(id: &AccountId, value: &[u8]) -> Result<Option<Millis>, StoreError> {
    let hot: Hot = decode(AccountRow::Hot.name(), value)?;
    let mut account = Account::new(id.clone());
    account.hot = hot;
    Ok(account.due())
}
