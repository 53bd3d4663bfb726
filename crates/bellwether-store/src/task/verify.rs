//! Reads all of a store, checks that it agrees with itself, and says what it holds in one number.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::account::{Account, SignalKey, Watched};
use bellwether_core::calendar::{Entry, Span};
use bellwether_core::chance::Own;
use bellwether_core::cohort::CohortRow;
use bellwether_core::feedback::Raised;
use bellwether_core::forecast::Forecast;
use bellwether_core::history::{Activity, History, Older};
use bellwether_core::id::AccountId;
use bellwether_core::life::Life;
use bellwether_core::promotion::Promotion;
use bellwether_core::ranking::Predicted;
use bellwether_core::rebaseline::Change;
use bellwether_core::rolling::Rolling;
use bellwether_core::shadow::Shadow;
use bellwether_core::time::Millis;

use bellwether_core::state::{Clock, seen_hour};
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::{ROWS, Store};
use crate::error::StoreError;
use crate::format::decode;
use crate::rows::{self, AccountRow, RowKey};
use crate::{seen, timers};

/// What a store holds, counted row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contents {
    /// Accounts that have had an event.
    pub accounts: u64,
    /// Profiles.
    pub profiles: u64,
    /// Rows of members and features.
    pub activity_rows: u64,
    /// Accounts that wait for the end of their day.
    pub timers: u64,
    /// Event ids; some may no longer count.
    pub seen: u64,
    /// Bytes of keys and values of accounts.
    pub account_bytes: u64,
    /// Those of them in hot rows, history rows, profiles and activity rows.
    pub kind_bytes: [u64; 4],
    /// Hash of what is known: equal for equal input, whatever lies in between (kills, restores, formats of rows, compaction). Not in
    /// it: where rows lie in the changelogs, ids that no longer count, and timers, which follow from the rows.
    pub hash: u128,
}

/// What the rows of a kind take, keys included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowsSize {
    /// How many there are.
    pub rows: u64,
    /// Bytes of their keys.
    pub key_bytes: u64,
    /// Bytes of their values.
    pub value_bytes: u64,
}

/// The hash of what is known, row by row in the order of keys. Values count as decoded: each is encoded in one fixed format.
struct Digest(Xxh3);

impl Digest {
    fn row<T: Serialize>(&mut self, key: &[u8], row: &T) {
        let value = rows::canonical(row);
        for part in [key, &value] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    /// Rolling sums, whether they lie in one row or in two.
    fn sums(&mut self, sums: Option<(Vec<u8>, Rolling)>) {
        if let Some((key, mut rolling)) = sums {
            rolling.signals.sort_by_key(|signal| signal.key);
            self.row(&key, &rolling);
        }
    }

    /// A row that is of no account.
    fn partition_row(&mut self, of: &RowKey, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        match of {
            RowKey::Account(..) => {}
            // Read at the opening already, but that may be long ago.
            RowKey::Clock => self.row(key, &decode::<Clock>("the clock row", value)?),
            RowKey::Calendar(_) => {
                self.row(key, &rows::decode::<Entry>("an entry of the calendar", value)?);
            }
            RowKey::Promotion(_) | RowKey::Challenger(_) => {
                // Not when it came into force: a second run hears of it earlier or later.
                let row: Promotion = rows::decode("a promotion", value)?;
                self.row(key, &(row.from, row.model, row.by));
            }
            RowKey::Cohort(_, kind) => match rows::decode_cohort(*kind, value)? {
                CohortRow::Day(row) => self.row(key, &row),
                CohortRow::Hour(row) => self.row(key, &row),
                CohortRow::Plans(row) => self.row(key, &row),
                // What other partitions told, which a second run hears earlier or later, and what is counted but
                // where alerts are held back, which they tell.
                CohortRow::Chance(_)
                | CohortRow::Results(_)
                | CohortRow::Total(_)
                | CohortRow::Part(_)
                | CohortRow::Fleet(_)
                | CohortRow::Hold(_) => {}
            },
        }
        Ok(())
    }
}

/// Puts recent sums over those of the row before.
fn renew(
    sums: &mut Option<(Vec<u8>, Rolling)>,
    id: &AccountId,
    recent: Rolling,
) -> Result<(), StoreError> {
    let of_account = sums.as_mut().filter(|(key, _)| *key == AccountRow::Rolling.key(id));
    let (_, whole) = of_account.ok_or_else(rows::recent_of_nothing)?;
    whole.renew(recent);
    Ok(())
}

impl Store {
    /// Reads every row: each has to be readable, the timers have to be those of the accounts, and the count of accounts right.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] says what does not agree; the remedy is to rebuild the store from its changelog.
    pub fn verify(&self) -> Result<Contents, StoreError> {
        self.check()?;
        let mut contents = Contents::default();
        let mut digest = Digest(Xxh3::new());
        let horizon = self.clock_committed.horizon.map_or(i64::MIN, seen_hour);
        let mut due: BTreeMap<AccountId, Millis> = BTreeMap::new();
        let mut counted: Option<AccountId> = None;
        // Rolling sums, until it is known whether what changed since follows.
        let mut sums: Option<(Vec<u8>, Rolling)> = None;
        for row in self.database.scan(ROWS, &[], None) {
            let (key, value) = row?;
            let of = RowKey::decode(&key)?;
            if !matches!(of, RowKey::Account(_, AccountRow::Recent)) {
                digest.sums(sums.take());
            }
            let RowKey::Account(id, kind) = of else {
                digest.partition_row(&of, &key, &value)?;
                continue;
            };
            let bytes = (key.len() + value.len()) as u64;
            contents.account_bytes += bytes;
            contents.kind_bytes[kind.place()] += bytes;
            match kind {
                AccountRow::Hot => {
                    contents.accounts += 1;
                    counted = Some(id.clone());
                    let mut account = Account::new(id.clone());
                    account.hot = decode(kind.name(), &value)?;
                    digest.row(&key, &account.hot);
                    due.extend(account.due().map(|at| (id, at)));
                }
                AccountRow::Rolling => {
                    // Behind the account's other rows, in the order of keys.
                    contents.accounts += u64::from(counted.as_ref() != Some(&id));
                    sums = Some((key.to_vec(), decode(kind.name(), &value)?));
                }
                AccountRow::Recent => renew(&mut sums, &id, decode(kind.name(), &value)?)?,
                AccountRow::History => digest.row(&key, &decode::<History>(kind.name(), &value)?),
                AccountRow::Older => {
                    let older: Vec<(SignalKey, Older)> = rows::decode(kind.name(), &value)?;
                    digest.row(&key, &older);
                }
                AccountRow::Forecast => {
                    digest.row(&key, &decode::<Forecast>(kind.name(), &value)?);
                }
                AccountRow::Profile => {
                    contents.profiles += 1;
                    let profile = rows::decode_profile(kind.name(), &value)?;
                    digest.row(&key, &profile);
                    profile.fiscal_year_end.iter().for_each(|end| digest.row(&key, end));
                }
                AccountRow::Standing => {
                    digest.row(&key, &rows::decode_lines(kind.name(), &value)?);
                }
                AccountRow::Raised => {
                    digest.row(&key, &decode::<Vec<Raised>>(kind.name(), &value)?);
                }
                AccountRow::Lives => {
                    digest.row(&key, &decode::<Vec<Life>>(kind.name(), &value)?);
                }
                AccountRow::Shadow => {
                    digest.row(&key, &rows::decode::<Shadow>(kind.name(), &value)?);
                }
                AccountRow::Predicted => {
                    digest.row(&key, &rows::decode::<Predicted>(kind.name(), &value)?);
                }
                AccountRow::Own => drop(rows::decode::<Own>(kind.name(), &value)?),
                AccountRow::Masked => {
                    digest.row(&key, &rows::decode::<Vec<Span>>(kind.name(), &value)?);
                }
                AccountRow::Changes => {
                    digest.row(&key, &decode::<Vec<Change>>(kind.name(), &value)?);
                }
                AccountRow::Watched(_) => {
                    digest.row(&key, &rows::decode::<Watched>(kind.name(), &value)?);
                }
                AccountRow::Activity(_) => {
                    contents.activity_rows += 1;
                    digest.row(&key, &decode::<Activity>(kind.name(), &value)?);
                }
            }
        }
        digest.sums(sums);
        contents.timers = self.verify_timers(due)?;
        for row in self.database.scan(seen::FAMILY, &[], None) {
            let row = row?;
            let hour = seen::check(&row)?;
            contents.seen += 1;
            if hour >= horizon {
                digest.row(&row.0, &hour);
            }
        }
        if contents.accounts != self.progress.accounts {
            return Err(StoreError::Corrupt(format!(
                "there are {} accounts, and {} were counted",
                contents.accounts, self.progress.accounts
            )));
        }
        contents.hash = digest.0.digest128();
        Ok(contents)
    }

    /// What rows take by what they are called, as they were before the database compresses them.
    ///
    /// # Errors
    /// Where the disk fails or a key is damaged.
    pub fn row_sizes(&self) -> Result<BTreeMap<&'static str, RowsSize>, StoreError> {
        self.check()?;
        let mut sizes: BTreeMap<&'static str, RowsSize> = BTreeMap::new();
        let mut add = |kind: &'static str, key: &[u8], value: &[u8]| {
            let size = sizes.entry(kind).or_default();
            size.rows += 1;
            size.key_bytes += key.len() as u64;
            size.value_bytes += value.len() as u64;
        };
        for row in self.database.scan(ROWS, &[], None) {
            let (key, value) = row?;
            match RowKey::decode(&key)? {
                RowKey::Account(_, row) => add(row.name(), &key, &value),
                RowKey::Clock
                | RowKey::Cohort(..)
                | RowKey::Calendar(_)
                | RowKey::Promotion(_)
                | RowKey::Challenger(_) => add("rows of no account", &key, &value),
            }
        }
        for row in self.database.scan(timers::FAMILY, &[], None) {
            let (key, value) = row?;
            add("timers", &key, &value);
        }
        Ok(sizes)
    }

    /// Holds the timers against those that follow from the accounts; how many there are.
    fn verify_timers(&self, due: BTreeMap<AccountId, Millis>) -> Result<u64, StoreError> {
        let expected: BTreeSet<(Millis, AccountId)> =
            due.into_iter().map(|(id, at)| (at, id)).collect();
        let mut found = BTreeSet::new();
        for row in self.database.scan(timers::FAMILY, &[], None) {
            found.insert(timers::decode(&row?.0)?);
        }
        match found.symmetric_difference(&expected).next() {
            None => Ok(found.len() as u64),
            Some((at, id)) => Err(StoreError::Corrupt(format!(
                "the timer of account {id} at {at} is not that of its row"
            ))),
        }
    }
}
