//! Reads of what is committed.

use std::fmt;
use std::sync::{Arc, Weak};

use bellwether_core::account::Account;
use bellwether_core::cohort::Cohorts;
use bellwether_core::history::History;
use bellwether_core::id::AccountId;
use bellwether_core::lazy::{Lazy, Stored};
use bellwether_core::rolling::Rolling;

use super::ROWS;
use crate::cache::Loaded;
use crate::database::{Cursor, Database};
use crate::error::StoreError;
use crate::format::{decode, version};
use crate::rows::{self, AccountRow, RowKey};

/// The ids of a store's accounts, ascending. One seek per account, however many rows it has.
pub struct AccountIds<'a> {
    cursor: Cursor<'a>,
    /// Where the next account begins at the earliest; none at the end.
    from: Option<Vec<u8>>,
}

impl AccountIds<'_> {
    pub(super) fn new(database: &Database) -> AccountIds<'_> {
        AccountIds {
            cursor: database.cursor(ROWS, None),
            from: Some(rows::ACCOUNTS_BEGIN.to_vec()),
        }
    }

    pub(super) fn after(self, id: Option<&AccountId>) -> Self {
        match id {
            Some(id) => AccountIds { from: Some(rows::account_end(id)), ..self },
            None => self,
        }
    }

    fn read(&mut self, from: &[u8]) -> Result<Option<AccountId>, StoreError> {
        let key = self.cursor.seek(from)?.filter(|key| key.as_ref() < rows::ACCOUNTS_END);
        let Some(key) = key else { return Ok(None) };
        match RowKey::decode(&key)? {
            RowKey::Account(id, _) => Ok(Some(id)),
            RowKey::Clock
            | RowKey::Cohort(..)
            | RowKey::Calendar(_)
            | RowKey::Promotion(_)
            | RowKey::Challenger(_) => Ok(None),
        }
    }
}

impl Iterator for AccountIds<'_> {
    type Item = Result<AccountId, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let from = self.from.take()?;
        let read = self.read(&from).transpose()?;
        if let Ok(id) = &read {
            self.from = Some(rows::account_end(id));
        }
        Some(read)
    }
}

impl fmt::Debug for AccountIds<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AccountIds").finish_non_exhaustive()
    }
}

/// Reads committed accounts of a store that another thread works on. It does not keep the store open.
#[derive(Debug, Clone)]
pub struct StoreReader(Weak<Database>);

impl StoreReader {
    pub(super) fn new(database: &Arc<Database>) -> StoreReader {
        StoreReader(Arc::downgrade(database))
    }

    /// An account as committed; none where it has no rows, and once the store is closed.
    ///
    /// # Errors
    /// Where the disk fails or the rows are damaged.
    pub fn get(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        let Some(database) = self.0.upgrade() else { return Ok(None) };
        whole(&database, id)
    }
}

/// Reads all rows of an account; none where it has none.
pub(super) fn load(database: &Database, id: &AccountId) -> Result<Option<Loaded>, StoreError> {
    read(&mut database.cursor(ROWS, Some(rows::account_end(id))), id)
}

/// An account of which every row was read; none where it has none.
pub(super) fn whole(database: &Database, id: &AccountId) -> Result<Option<Account>, StoreError> {
    let Some(loaded) = load(database, id)? else { return Ok(None) };
    let account = *loaded.account;
    std::hint::black_box(account.history.newest);
    check_history(&account)?;
    Ok(Some(account))
}

/// Says that the rows of a history were looked at and cannot be read.
pub(super) fn check_history(account: &Account) -> Result<(), StoreError> {
    if account.history.is_broken() {
        let what = AccountRow::History.name();
        return Err(StoreError::Corrupt(format!(
            "{what} of account {} cannot be read",
            account.id
        )));
    }
    Ok(())
}

/// The same through a cursor that reads others, too.
pub(super) fn read(cursor: &mut Cursor<'_>, id: &AccountId) -> Result<Option<Loaded>, StoreError> {
    let mut loaded: Option<Loaded> = None;
    let prefix = rows::account_prefix(id);
    cursor.each(&prefix, &rows::account_end(id), |key, value| {
        let row = rows::account_row(&prefix, key)?;
        let loaded = loaded.get_or_insert_with(|| Loaded {
            account: Box::new(Account::new(id.clone())),
            counted: false,
            bytes: 0,
            beside: 0,
        });
        loaded.counted |= matches!(row, AccountRow::Hot | AccountRow::Rolling);
        add(&mut loaded.account, row, value)
    })?;
    if let Some(loaded) = &mut loaded {
        loaded.beside = loaded.account.memory_bytes();
    }
    Ok(loaded)
}

/// Gives all accounts, by ascending id, in one pass over their rows.
pub(super) fn each_account(
    database: &Database,
    mut each: impl FnMut(Account),
) -> Result<(), StoreError> {
    let mut reading: Option<(Vec<u8>, Account)> = None;
    let mut cursor = database.cursor(ROWS, Some(rows::ACCOUNTS_END.to_vec()));
    cursor.each(rows::ACCOUNTS_BEGIN, rows::ACCOUNTS_END, |key, value| {
        if !reading.as_ref().is_some_and(|(prefix, _)| key.starts_with(prefix)) {
            let RowKey::Account(id, _) = RowKey::decode(key)? else {
                return Err(rows::not_of_an_account());
            };
            let next = (rows::account_prefix(&id), Account::new(id));
            reading.replace(next).into_iter().for_each(|(_, account)| each(account));
        }
        match &mut reading {
            Some((prefix, account)) => add(account, rows::account_row(prefix, key)?, value),
            None => Ok(()),
        }
    })?;
    reading.into_iter().for_each(|(_, account)| each(account));
    Ok(())
}

/// Adds what a row says to its account. Rows come by ascending key.
fn add(account: &mut Account, row: AccountRow, value: &[u8]) -> Result<(), StoreError> {
    let what = row.name();
    match row {
        AccountRow::Hot => account.hot = decode(what, value)?,
        AccountRow::Rolling => {
            let mut rolling: Rolling = decode(what, value)?;
            rolling.written(false);
            account.rolling = Some(Box::new(rolling));
        }
        AccountRow::Recent => {
            let recent = decode(what, value)?;
            account.rolling.as_deref_mut().ok_or_else(rows::recent_of_nothing)?.renew(recent);
        }
        AccountRow::History => {
            version::<History>(what, value)?;
            account.history = Lazy::stored(history(value.into(), Box::default()));
        }
        // It comes behind the one that it belongs to.
        AccountRow::Older if account.history.join(value) => {}
        AccountRow::Older => account.history.older = rows::decode(what, value)?,
        AccountRow::Changes => account.changes = decode(what, value)?,
        AccountRow::Masked => account.masked = rows::decode(what, value)?,
        AccountRow::Forecast => account.forecast = decode(what, value)?,
        AccountRow::Profile => account.profile = Some(rows::decode_profile(what, value)?),
        AccountRow::Standing => account.standing = rows::decode_lines(what, value)?,
        AccountRow::Raised => account.raised = decode(what, value)?,
        AccountRow::Lives => account.lives = decode(what, value)?,
        AccountRow::Shadow => account.shadow = Some(rows::decode(what, value)?),
        AccountRow::Predicted => account.predicted = Some(Box::new(rows::decode(what, value)?)),
        AccountRow::Own => account.own = Some(rows::decode(what, value)?),
        AccountRow::Watched(signal) => {
            account.watched.insert(signal, rows::decode(what, value)?);
        }
        AccountRow::Activity(activity) => {
            account.activity.insert(activity, decode(what, value)?);
        }
    }
    Ok(())
}

/// A history by its rows: the rings, and what came before them; empty where nothing did.
pub(super) fn history(rings: Box<[u8]>, older: Box<[u8]>) -> Stored<History> {
    fn read(rows: &[Box<[u8]>; 2]) -> Option<History> {
        let [rings, older] = rows;
        let history: History = decode(AccountRow::History.name(), rings).ok()?;
        let older = match older.is_empty() {
            true => Vec::new(),
            false => rows::decode(AccountRow::Older.name(), older).ok()?,
        };
        Some(History { older, ..history })
    }
    Stored { rows: [rings, older], read }
}

/// Reads the rows of all cohorts, the calendar, the promotions and the challengers.
pub(super) fn load_cohorts(database: &Database) -> Result<Cohorts, StoreError> {
    let mut cohorts = Cohorts::default();
    for row in database.scan(ROWS, rows::COHORTS_BEGIN, Some(rows::COHORTS_END.to_vec())) {
        let (key, value) = row?;
        let RowKey::Cohort(name, key) = RowKey::decode(&key)? else { continue };
        cohorts.restore(&name, key, Some(rows::decode_cohort(key, &value)?));
    }
    for row in database.scan(ROWS, rows::CALENDAR_BEGIN, Some(rows::CALENDAR_END.to_vec())) {
        let (key, value) = row?;
        let RowKey::Calendar(id) = RowKey::decode(&key)? else { continue };
        let entry = rows::decode("an entry of the calendar", &value)?;
        cohorts.calendar_mut().place(&id, Some(entry));
    }
    for row in database.scan(ROWS, rows::PROMOTIONS_BEGIN, Some(rows::PROMOTIONS_END.to_vec())) {
        let (key, value) = row?;
        let RowKey::Promotion(id) = RowKey::decode(&key)? else { continue };
        let promotion = rows::decode("a promotion", &value)?;
        cohorts.promotions_mut().place(&id, Some(promotion));
    }
    for row in database.scan(ROWS, rows::CHALLENGERS_BEGIN, Some(rows::CHALLENGERS_END.to_vec())) {
        let (key, value) = row?;
        let RowKey::Challenger(id) = RowKey::decode(&key)? else { continue };
        let challenger = rows::decode("a challenger", &value)?;
        cohorts.challengers_mut().place(&id, Some(challenger));
    }
    Ok(cohorts)
}
