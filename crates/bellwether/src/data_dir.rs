//! The data directory: one process at a time, and a name that outlasts it.

use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A data directory that belongs to this process until this is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Takes the directory, which is made if it is not there.
    ///
    /// # Errors
    /// If another process has it, or it cannot be written to.
    pub(crate) fn take(path: &Path) -> Result<DataDir> {
        let failed = || format!("the data directory {} cannot be used", path.display());
        std::fs::create_dir_all(path).with_context(failed)?;
        let lock = File::create(path.join("lock")).with_context(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(DataDir { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => bail!(
                "the data directory {} is in use by another process; give each process its own with --data-dir",
                path.display()
            ),
            Err(TryLockError::Error(error)) => Err(error).with_context(failed),
        }
    }

    /// The name under which the process that has this directory is known to Kafka. It is made at the first start and kept: the
    /// next process takes over its predecessor's partitions at once, and ends the transaction that it left open.
    pub(crate) fn instance(&self) -> Result<String> {
        let file = self.path.join("instance");
        let failed = || format!("the file {} cannot be used", file.display());
        if file.exists() {
            let name = std::fs::read_to_string(&file).with_context(failed)?.trim().to_owned();
            if name.is_empty() {
                bail!("the file {} is empty; remove it", file.display());
            }
            return Ok(name);
        }
        // The standard library's only randomness; two that are equal would fence each other, which is seen at once.
        let random = RandomState::new().build_hasher().finish();
        let name = format!("{}-{random:016x}", host_name());
        // Whole or not at all: a name cut short by a crash would be another name.
        let new = self.path.join("instance.new");
        std::fs::write(&new, &name).with_context(failed)?;
        File::open(&new).and_then(|written| written.sync_all()).with_context(failed)?;
        std::fs::rename(&new, &file).with_context(failed)?;
        Ok(name)
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "host".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_and_the_name_stays() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("data");
        let first = DataDir::take(&path).expect("free");
        let name = first.instance().expect("a name");
        let error = DataDir::take(&path).expect_err("taken");
        assert!(error.to_string().contains("in use"), "{error}");
        drop(first);
        let second = DataDir::take(&path).expect("free again");
        assert_eq!(second.instance().expect("a name"), name);
    }
}
