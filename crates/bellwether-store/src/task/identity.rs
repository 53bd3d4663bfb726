//! Format and owner of a database, checked before anything else in it is read.

use std::path::{Path, PathBuf};

use super::{META, ROWS};
use crate::batch::Batch;
use crate::database::Database;
use crate::error::StoreError;
use crate::rows::{decode, encode};

/// The layout of the database itself: which column families there are and what they hold.
pub(super) const DATABASE_FORMAT: u8 = 1;

pub(super) const FORMAT_KEY: &[u8] = b"format";
const IDENTITY_KEY: &[u8] = b"identity";

/// Whose database it is: (application, partition).
pub(super) type Identity = (String, i32);

/// Checks format and identity; a new database gets its own.
pub(super) fn check_identity(
    database: &Database,
    dir: &Path,
    expected: &Identity,
) -> Result<(), StoreError> {
    let dir = || PathBuf::from(dir);
    let Some(format) = database.get(META, FORMAT_KEY)? else {
        // All families are flushed together, so without a format nothing else can be there: the creation was cut short.
        if database.scan(ROWS, &[], None).next().is_some() {
            return Err(StoreError::Corrupt(format!("{} has rows but no format", dir().display())));
        }
        let mut batch = Batch::default();
        batch.put(META, FORMAT_KEY, [DATABASE_FORMAT]);
        batch.put(META, IDENTITY_KEY, encode(expected));
        database.write(batch)?;
        return database.flush();
    };
    match format.as_slice() {
        [DATABASE_FORMAT] => {}
        [found, ..] if *found > DATABASE_FORMAT => {
            let newest = DATABASE_FORMAT;
            return Err(StoreError::NewerDatabase { dir: dir(), found: *found, newest });
        }
        _ => return Err(StoreError::Corrupt(format!("{} has no known format", dir().display()))),
    }
    let found = match database.get(META, IDENTITY_KEY)? {
        Some(value) => decode::<Identity>("the identity row", &value)?,
        None => return Err(StoreError::Corrupt(format!("{} has no identity", dir().display()))),
    };
    if found != *expected {
        let shown = |(application, partition): &Identity| format!("{application}/{partition}");
        let (found, expected) = (shown(&found), shown(expected));
        return Err(StoreError::Foreign { dir: dir(), found, expected });
    }
    Ok(())
}
