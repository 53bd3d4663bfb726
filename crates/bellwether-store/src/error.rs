//! What can go wrong with storage, by what the caller can do about it.

use std::path::PathBuf;

use bellwether_core::id::AccountId;

/// A failure of storage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database belongs to another application or partition.
    #[error(
        "the state in {dir} belongs to {found}, not to {expected}; wipe it and restore from the changelog"
    )]
    Foreign {
        /// Where it lies.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// The database was laid out by a newer version.
    #[error(
        "the state in {dir} has format {found}, this version reads up to {newest}: upgrade bellwether, or delete the directory, and the state is read back from the changelog if that is of an older format (see `state.format` in the README)"
    )]
    NewerDatabase {
        /// Where it lies.
        dir: PathBuf,
        /// Its format.
        found: u8,
        /// The newest format that this version reads.
        newest: u8,
    },
    /// Bytes are not what was written.
    #[error("damaged data: {0}; wipe it and restore from the changelog")]
    Corrupt(String),
    /// A row or changelog record was written by a newer version. Wiping does not help.
    #[error(
        "{what} has format {version}, which this version does not know: upgrade bellwether (in a rolling upgrade the newer workers write the older format while `state.format` is set, see the README)"
    )]
    UnknownVersion {
        /// Which kind of row.
        what: &'static str,
        /// The format found.
        version: u8,
    },
    /// The directory is in use.
    #[error("another bellwether runs on {0}; stop it, or choose another data directory")]
    InUse(PathBuf),
    /// The disk or the file system failed (full, read-only, gone).
    #[error("storage failed: {0}; check the disk's space and health, then restart")]
    Io(String),
    /// An earlier write failed.
    #[error(
        "an earlier write failed, so what is in memory cannot be trusted; open the store again"
    )]
    Poisoned,
    /// An account was taken twice, or a batch was to be committed while one was out: a bug of the caller.
    #[error("account {0} was taken and not put back; discard the batch")]
    Taken(AccountId),
}

impl StoreError {
    /// Whether it is damage (or somebody else's), so that wiping the database ([`crate::task::Store::destroy`]) and restoring it from the changelog helps.
    #[must_use]
    pub fn is_rebuildable(&self) -> bool {
        matches!(self, StoreError::Foreign { .. } | StoreError::Corrupt(_))
    }
}

/// Sorts RocksDB's errors: damage apart from everything that the disk or its owner can mend.
pub(crate) fn from_rocksdb(error: rocksdb::Error) -> StoreError {
    if error.kind() == rocksdb::ErrorKind::Corruption {
        StoreError::Corrupt(error.into_string())
    } else {
        StoreError::Io(error.into_string())
    }
}
