//! Each way of failing, and what it is told apart from.

use std::collections::HashSet;

use super::*;
use crate::task::identity::{DATABASE_FORMAT, FORMAT_KEY};

#[test]
fn a_failed_commit_poisons_the_store() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    let mut store = open(&path);
    let mut account = Box::new(Account::new(account_id(1)));
    edit(&mut account, 1, None);
    store.put(account.clone()).expect("stageable");
    store.commit(&[(Stream::State, 1)]).expect("a write");
    // The directory goes away under the database: the next write to disk fails, and with it every later batch.
    std::fs::remove_dir_all(&path).expect("removable");
    let failed = store.database.flush().expect_err("no directory to write to");
    assert!(matches!(failed, StoreError::Io(_)), "{failed}");
    account.changed.note(Row::Hot);
    store.put(account).expect("stageable");
    let failed = store.commit(&[(Stream::State, 2)]).expect_err("the database has stopped");
    assert!(matches!(failed, StoreError::Io(_)), "{failed}");

    let id = account_id(1);
    let poisoned = StoreError::Poisoned;
    assert_eq!(store.commit(&[]).expect_err("poisoned"), poisoned);
    assert_eq!(store.take(&id).expect_err("poisoned"), poisoned);
    assert_eq!(store.get(&id).expect_err("poisoned"), poisoned);
    assert_eq!(store.staged().expect_err("poisoned"), poisoned);
    assert_eq!(store.next_due(Millis(0)).expect_err("poisoned"), poisoned);
    assert_eq!(store.remember(1, Millis(0), Millis(0)).expect_err("poisoned"), poisoned);
    assert_eq!(store.position(Stream::State), Some(1), "the position is the last one that is sure");
}

#[test]
fn a_batch_with_an_account_out_cannot_be_staged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut store = open(dir.path());
    let id = account_id(1);
    let mut account = Box::new(Account::new(id.clone()));
    edit(&mut account, 1, None);
    store.put(account).expect("stageable");
    store.commit(&[]).expect("a write");
    assert!(store.take(&id).expect("readable").is_some());
    assert_eq!(store.take(&id), Err(StoreError::Taken(id.clone())));
    assert_eq!(store.staged(), Err(StoreError::Taken(id.clone())));
    store.discard();
    assert!(store.take(&id).expect("readable").is_some(), "a discard brings it back");
}

#[test]
fn a_database_that_is_not_ours_is_told_apart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = open(dir.path());
    let in_use = Store::open(dir.path(), "bellwether", 3, &options()).expect_err("open already");
    assert_eq!(in_use, StoreError::InUse(dir.path().to_path_buf()));
    assert!(!in_use.is_rebuildable());
    store.close().expect("a clean close");

    for (application, partition) in [("bellwether", 4), ("shadow", 3)] {
        let foreign = Store::open(dir.path(), application, partition, &options());
        let foreign = foreign.expect_err("another identity");
        assert!(matches!(foreign, StoreError::Foreign { .. }) && foreign.is_rebuildable());
    }

    let store = open(dir.path());
    let mut batch = Batch::default();
    batch.put(META, FORMAT_KEY, [DATABASE_FORMAT + 1]);
    store.database.write(batch).expect("a write");
    store.close().expect("a clean close");
    let newer = Store::open(dir.path(), "bellwether", 3, &options()).expect_err("a newer format");
    assert!(matches!(newer, StoreError::NewerDatabase { found: 2, .. }) && !newer.is_rebuildable());

    Store::destroy(dir.path(), &options()).expect("nobody has it open");
    assert_eq!(open(dir.path()).position(Stream::State), None);
}

#[test]
fn damage_on_disk_is_corruption_and_not_an_io_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut store = open(dir.path());
    let ids: Vec<AccountId> = (0..200).map(account_id).collect();
    for id in &ids {
        let mut account = Box::new(Account::new(id.clone()));
        edit(&mut account, 210, Some(1));
        store.put(account).expect("stageable");
    }
    store.commit(&[]).expect("a write");
    store.close().expect("a clean close");
    let mut damaged = HashSet::new();
    for entry in std::fs::read_dir(dir.path()).expect("readable") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let mut bytes = std::fs::read(&path).expect("readable");
            // The data blocks come first; the footer stays, so that the file is opened.
            bytes.iter_mut().skip(16).step_by(64).take(8).for_each(|byte| *byte ^= 0x55);
            std::fs::write(&path, bytes).expect("writable");
            damaged.insert(path);
        }
    }
    assert!(!damaged.is_empty());
    let read = || -> Result<(), StoreError> {
        let store = Store::open(dir.path(), "bellwether", 3, &options())?;
        ids.iter().try_for_each(|id| store.get(id).map(|_| ()))
    };
    let error = read().expect_err("the damage is noticed");
    assert!(matches!(error, StoreError::Corrupt(_)) && error.is_rebuildable(), "{error}");
}

#[test]
fn a_changelog_of_a_newer_version_stops_the_restore() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let key = AccountRow::History.key(&account_id(1));
    let error = open(dir.path()).restore(Stream::State, 1, &key, Some(&[9, 1, 2]));
    let error = error.expect_err("version 9 is not known");
    assert_eq!(error, StoreError::UnknownVersion { what: "a history row", version: 9 });
    assert!(!error.is_rebuildable(), "the changelog would bring it again");
}

/// Files that are gone or cut short, as a bad disk or a careless hand leaves them.
#[test]
fn lost_files_are_corruption_and_the_store_can_be_rebuilt() {
    for (file, kept) in [
        (".sst", None),
        (".sst", Some(100)),
        ("MANIFEST", None),
        ("CURRENT", None),
        ("CURRENT", Some(0)),
        ("CURRENT", Some(3)),
    ] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut store = open(dir.path());
        let mut account = Box::new(Account::new(account_id(1)));
        edit(&mut account, 210, Some(1));
        store.put(account).expect("stageable");
        store.commit(&[]).expect("a write");
        store.close().expect("a clean close");
        for entry in std::fs::read_dir(dir.path()).expect("readable") {
            let path = entry.expect("readable").path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().contains(file)) {
                match kept {
                    None => std::fs::remove_file(&path).expect("removable"),
                    Some(bytes) => {
                        let opened = std::fs::OpenOptions::new().write(true).open(&path);
                        opened.and_then(|file| file.set_len(bytes)).expect("writable");
                    }
                }
            }
        }
        let error = Store::open(dir.path(), "bellwether", 3, &options());
        let error = error.expect_err("a file that matters is gone");
        assert!(error.is_rebuildable(), "{file} {kept:?}: {error}");
        Store::destroy(dir.path(), &options()).expect("nobody has it open");
        assert_eq!(open(dir.path()).position(Stream::State), None);
    }
}
