//! The store of a partition, on a real RocksDB in a temporary directory. Run with `cargo bench -p bellwether-benches --bench store`.
//!
//! `rows` encodes what a batch changed, `commit` writes it; both of a batch of one event each for a thousand accounts. `overlay` is the way of an
//! account to the core and back: from the batch, or read from RocksDB first.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bellwether_benches::feed::{Changelog, Make};
use bellwether_benches::job::{Detector, Job, Spread};
use bellwether_core::event::Input;
use bellwether_core::id::AccountId;
use bellwether_core::state::State as _;
use bellwether_core::step::Core;
use bellwether_core::time::{HOUR_MS, Millis};
use bellwether_store::task::{Store, StoreOptions, Stream};
use bellwether_store::{AccountMemory, Format, Shared};
use bellwether_wire::decode::{Decoder, RECORD_BYTES_MAX};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ACCOUNTS: i64 = 1_000;
const JOBS: [(&str, Job); 2] = [
    ("rolling", Job { detector: Detector::Rolling, signals: 12, weeks: 8 }),
    ("full", Job { detector: Detector::Full, signals: 16, weeks: 8 }),
];

/// A store with accounts that have a history, and events for them.
struct Filled {
    core: Core,
    store: Store,
    input: Make,
    decoder: Decoder,
    offset: i64,
}

fn open(dir: &Path, accounts: AccountMemory) -> Store {
    let options = StoreOptions { shared: Shared::new(256 << 20), accounts, format: Format::NEWEST };
    Store::open(dir, "bench", 0, &options).expect("a directory")
}

fn restore(store: &mut Store, changelog: &Changelog) {
    for offset in 0..changelog.ends[0] {
        let row = (changelog.make)(0, offset);
        let restored = store.restore(Stream::State, offset + 1, &row.key, Some(&row.payload));
        restored.expect("a disk that works");
    }
    store.finish_restore(&[(Stream::State, changelog.ends[0])]).expect("a disk that works");
}

impl Filled {
    fn new(job: Job, dir: &Path, accounts: AccountMemory) -> Filled {
        let mut store = open(dir, accounts);
        restore(&mut store, &job.work().changelog(1, ACCOUNTS));
        store.flush().expect("a disk that works");
        let events = 10_000_000;
        let spread = Spread {
            accounts: ACCOUNTS,
            partitions: 1,
            span_ms: 16 * HOUR_MS,
            events,
            skewed: false,
        };
        let decoder = Decoder::new(None, RECORD_BYTES_MAX).expect("no registry");
        Filled { core: job.core(), store, input: job.input(spread), decoder, offset: 0 }
    }

    /// A batch of one event for each account.
    fn batch(&mut self) {
        let mut out = Vec::new();
        for _ in 0..ACCOUNTS {
            let fed = (self.input)(0, self.offset);
            self.offset += 1;
            let event = self.decoder.event(Some(&fed.key), Some(&fed.payload)).expect("good");
            let at = Millis(fed.at_ms);
            let applied = self.core.apply(&mut self.store, Input::Event(event), at, &mut out);
            black_box(applied.expect("a disk that works").expect("a good event"));
            out.clear();
        }
    }

    /// Batch after batch; how long encoding the rows took, and how long writing them.
    fn batches(&mut self, count: u64) -> (Duration, Duration) {
        let (mut rows, mut write) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..count {
            self.batch();
            let began = Instant::now();
            black_box(self.store.staged().expect("no account is out").len());
            rows += began.elapsed();
            let began = Instant::now();
            self.store.commit(&[]).expect("a disk that works");
            write += began.elapsed();
        }
        (rows, write)
    }
}

fn rows_and_commit(criterion: &mut Criterion) {
    for (name, job) in JOBS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut filled = Filled::new(job, dir.path(), AccountMemory::new(128 << 20));
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(ACCOUNTS as u64)).sample_size(20);
        group
            .bench_function("rows", |bencher| bencher.iter_custom(|count| filled.batches(count).0));
        group.bench_function("commit", |bencher| {
            bencher.iter_custom(|count| filled.batches(count).1);
        });
        group.finish();
    }
}

/// Takes accounts and puts them back, one after the other.
fn round(store: &mut Store, ids: &[AccountId]) {
    for id in ids {
        let account = store.take(id).expect("a disk that works").expect("an account with rows");
        store.put(black_box(account)).expect("it was taken");
    }
}

fn overlay(criterion: &mut Criterion) {
    for (name, job) in JOBS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut filled = Filled::new(job, dir.path(), AccountMemory::new(0));
        let ids: Result<Vec<AccountId>, _> = filled.store.accounts().expect("readable").collect();
        let ids = ids.expect("readable");
        let store = &mut filled.store;
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(ids.len() as u64)).sample_size(20);
        group.bench_function("overlay/read_from_disk", |bencher| {
            bencher.iter(|| {
                round(store, &ids);
                store.discard();
            });
        });
        round(store, &ids);
        group.bench_function("overlay/of_the_batch", |bencher| {
            bencher.iter(|| round(store, &ids));
        });
        group.finish();
    }
}

/// Ids of events, each new.
fn remember(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut store = open(dir.path(), AccountMemory::new(0));
    let (mut hash, at) = (0u64, Millis(20_000 * 24 * HOUR_MS));
    let since = at.plus(-48 * HOUR_MS);
    criterion.bench_function("overlay/remember_an_id", |bencher| {
        bencher.iter(|| {
            hash = hash.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let new = store.remember(hash, at, since).expect("a disk that works");
            if hash.is_multiple_of(1_024) {
                store.commit(&[]).expect("a disk that works");
            }
            new
        });
    });
}

fn read_back(criterion: &mut Criterion) {
    for (name, job) in JOBS {
        let changelog = job.work().changelog(1, 10 * ACCOUNTS);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(changelog.ends[0] as u64)).sample_size(10);
        group.bench_function("restore", |bencher| {
            bencher.iter_with_large_drop(|| {
                let dir = tempfile::tempdir().expect("a temporary directory");
                let mut store = open(dir.path(), AccountMemory::new(0));
                restore(&mut store, &changelog);
                (store, dir)
            });
        });
        group.finish();
    }
}

criterion_group!(benches, rows_and_commit, overlay, remember, read_back);
criterion_main!(benches);
