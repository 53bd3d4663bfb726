//! Accounts of the rolling detector in a real store: read back after a restart and from the changelog, and counted once.

use std::path::Path;
use std::sync::Arc;

use bellwether_core::event::{Event, Input};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::policy::Compiled;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Millis};
use bellwether_store::task::{Change, Store, StoreOptions, Stream};
use bellwether_store::{AccountMemory, Format, Shared};

const POLICY: &str = include_str!("../../../benches/policies/peer.toml");
const ACCOUNTS: i64 = 7;

fn open(dir: &Path) -> Store {
    // No memory for accounts: every batch reads them from the database.
    let accounts = AccountMemory::new(0);
    let options = StoreOptions { shared: Shared::new(8 << 20), accounts, format: Format::NEWEST };
    Store::open(dir, "bellwether", 0, &options).expect("an own store opens")
}

fn event(number: i64) -> Event {
    let (account, day) = (number % ACCOUNTS, number / 10);
    Event {
        id: EventId::new(&number.to_string()).expect("digits"),
        account: AccountId::new(&format!("account-{account}")).expect("an identifier"),
        occurred_at: Millis((20_000 + day) * DAY_MS + number),
        kind: ["logins", "errors", "ticket_sentiment"][number as usize % 3].to_owned(),
        member: None,
        role: None,
        feature: None,
        value: Some(number as f64 / 8.0),
        segment: None,
    }
}

/// Applies events and commits; the changelog grows by what the batch changed.
fn batch(
    core: &Core,
    store: &mut Store,
    log: &mut Vec<Change>,
    numbers: std::ops::Range<i64>,
) -> usize {
    let mut out = Vec::new();
    for number in numbers {
        let event = event(number);
        let at = event.occurred_at;
        let verdict = core.apply(store, Input::Event(event), at, &mut out).expect("a store");
        verdict.expect("a good event");
    }
    log.extend_from_slice(store.staged().expect("no account is out"));
    store.commit(&[(Stream::State, log.len() as i64)]).expect("a write");
    out.len()
}

#[test]
fn sums_survive_a_restart_and_a_loss_of_the_disk() {
    let core = Core::new(Arc::new(Compiled::parse("peer.toml", POLICY).expect("a good policy")));
    let [dir, other] = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
    let mut log = Vec::new();
    let mut store = open(dir.path());
    batch(&core, &mut store, &mut log, 0..400);
    store.close().expect("a flush");
    let mut store = open(dir.path());
    let after_restart = batch(&core, &mut store, &mut log, 400..800);
    let known = store.verify().expect("whole");
    assert_eq!(known.accounts, ACCOUNTS as u64);
    assert_eq!(store.stats().expect("readable").accounts, ACCOUNTS as u64);

    let mut restored = open(other.path());
    for (offset, change) in (0..).zip(&log) {
        restored
            .restore(change.stream, offset + 1, &change.key, change.value.as_deref())
            .expect("a good record");
    }
    restored.finish_restore(&[(Stream::State, log.len() as i64)]).expect("a write");
    assert_eq!(restored.verify().expect("whole").hash, known.hash);
    assert_eq!(restored.stats().expect("readable").accounts, ACCOUNTS as u64);
    // They go on alike, and as one that never stopped.
    let next = 800..1_200;
    let outputs = batch(&core, &mut store, &mut log, next.clone());
    assert_eq!(batch(&core, &mut restored, &mut Vec::new(), next), outputs);
    let whole = tempfile::tempdir().expect("a temporary directory");
    let mut whole = open(whole.path());
    batch(&core, &mut whole, &mut Vec::new(), 0..400);
    assert_eq!(batch(&core, &mut whole, &mut Vec::new(), 400..800), after_restart);
    assert_eq!(batch(&core, &mut whole, &mut Vec::new(), 800..1_200), outputs);
    assert_eq!(whole.verify().expect("whole").hash, store.verify().expect("whole").hash);
}
