//! One process per directory. An own lock beside RocksDB's, because that one reports itself only as text.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::error::StoreError;

/// Holds a directory until it is dropped (or the process ends, however it ends).
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock of a directory, which is created where missing.
    pub(crate) fn take(dir: &Path) -> Result<DirLock, StoreError> {
        let failed = |error: std::io::Error| StoreError::Io(format!("{}: {error}", dir.display()));
        std::fs::create_dir_all(dir).map_err(failed)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("bellwether.lock"))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(DirLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(dir.to_path_buf())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}
