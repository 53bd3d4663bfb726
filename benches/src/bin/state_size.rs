//! How much state takes: bytes of changelog per event, and bytes per account at rest, by kind of row.
//!
//! `cargo run -p bellwether-benches --bin state_size` (it counts bytes and no time, so the build profile does not matter)

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bellwether_benches::job::{Detector, Job};
use bellwether_benches::{full_accounts, stories};
use bellwether_core::event::{self, Event, Profile};
use bellwether_core::policy::{Compiled, OPENSTACK_TOML};
use bellwether_core::state::State;
use bellwether_core::step::Core;
use bellwether_store::task::{Change, Store, StoreOptions, Stream};
use bellwether_store::{AccountMemory, Format, Shared};

/// The kinds of changelog records, by the byte of their key that tells them apart.
fn kind(change: &Change) -> &'static str {
    if change.stream == Stream::Seen {
        return "ids";
    }
    if !change.key.starts_with(b"A") {
        return "of no account";
    }
    let account = change.key.iter().position(|byte| *byte == 0);
    match account.and_then(|end| change.key.get(end + 1)) {
        Some(1) => "hot",
        Some(2) => "history",
        Some(3) => "profile",
        Some(4) => "activity",
        Some(7) => "forecast",
        _ => "other",
    }
}

/// What was written to the changelog so far, by kind: records and bytes.
type Logged = BTreeMap<&'static str, (u64, u64)>;

fn log(changes: &[Change], logged: &mut Logged) {
    for change in changes {
        let (records, bytes) = logged.entry(kind(change)).or_default();
        *records += 1;
        *bytes += (change.key.len() + change.value.as_ref().map_or(0, Vec::len)) as u64;
    }
}

fn open(dir: &Path, format: Format) -> Store {
    let shared = Shared::new(256 << 20);
    let options = StoreOptions { shared, accounts: AccountMemory::new(64 << 20), format };
    Store::open(dir, "size", 0, &options).expect("an empty directory")
}

fn measure(name: &str, core: &Core, format: Format, input: &Input, batch: usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut store = open(dir.path(), format);
    let mut logged = Logged::new();
    let mut out = Vec::new();
    for profile in &input.profiles {
        let applied =
            core.apply(&mut store, event::Input::Profile(profile.clone()), profile.as_of, &mut out);
        applied.expect("a store that works").expect("a profile that is taken");
    }
    store.commit(&[]).expect("a store that works");
    for chunk in input.events.chunks(batch) {
        out.clear();
        for event in chunk {
            let at = event.occurred_at;
            let applied = core.apply(&mut store, event::Input::Event(event.clone()), at, &mut out);
            // One that is refused changes nothing; real history has some.
            drop(applied.expect("a store that works"));
        }
        log(store.staged().expect("no account is out"), &mut logged);
        store.commit(&[]).expect("a store that works");
    }
    println!("{name}, format {}: {} events, {batch} a commit", format.number(), input.events.len());
    print_changelog(input.events.len(), &logged);
    print_rest(&mut store);
}

/// The accounts of which the scaling benchmark has a million.
fn measure_job(job: Job, format: Format) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut store = open(dir.path(), format);
    job.live(&mut store, |_| {});
    let Job { signals, weeks, .. } = job;
    println!("scaling benchmark, format {}: {signals} signals, {weeks} weeks", format.number());
    print_rest(&mut store);
}

fn print_changelog(events: usize, logged: &Logged) {
    let total: u64 = logged.values().map(|(_, bytes)| bytes).sum();
    println!("  changelog: {:.0} bytes per event", total as f64 / events as f64);
    for (kind, (records, bytes)) in logged {
        println!(
            "    {kind:13} {:8.1} bytes per event, {:7.0} per record, {records} records",
            *bytes as f64 / events as f64,
            *bytes as f64 / *records as f64
        );
    }
}

fn print_rest(store: &mut Store) {
    store.compact().expect("a store that works");
    let contents = store.verify().expect("it is whole");
    let stats = store.stats().expect("it can be read");
    let accounts = contents.accounts as f64;
    println!(
        "  at rest: {accounts} accounts, {:.0} bytes per account as rows",
        contents.account_bytes as f64 / accounts
    );
    for (kind, size) in store.row_sizes().expect("it can be read") {
        let [rows, keys, values] =
            [size.rows, size.key_bytes, size.value_bytes].map(|number| number as f64 / accounts);
        println!("    {kind:28} {rows:6.2} rows, {keys:7.1} bytes of keys, {values:8.1} of values");
    }
    let disk = (stats.bytes - stats.seen_bytes) as f64 / accounts;
    println!(
        "  on disk without ids: {disk:.0} bytes per account: {:.2} GiB for a million",
        disk / 1_073.741_824
    );
    println!("  ids: {} bytes each on disk\n", stats.seen_bytes / contents.seen.max(1));
    assert!(store.clock().newest.is_some());
}

/// What is measured.
struct Input {
    profiles: Vec<Profile>,
    events: Vec<Event>,
}

/// The policy of the demo: the default one, with the signals of the history beside its own.
fn demo_policy() -> Compiled {
    let history = Compiled::parse("openstack.toml", OPENSTACK_TOML).expect("it is built in");
    Compiled::default_policy().with_signals("demo policy", &history).expect("both are built in")
}

/// The real history of the demo, in order of time.
fn history() -> Vec<Event> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../crates/bellwether/demo/openstack_dev_events.csv.gz"
    );
    let read = bellwether_wire::files::open(Path::new(file)).expect("it is in the repository");
    let mut events: Vec<Event> = read.map(|event| event.expect("a good line")).collect();
    events.sort_by_key(|event| event.occurred_at);
    events
}

fn main() {
    let (profiles, events) = stories();
    let stories = Input { profiles, events };
    let history = Input { profiles: Vec::new(), events: history() };
    let full = Input { profiles: Vec::new(), events: full_accounts(300, 126) };
    let core = Core::new(Arc::new(Compiled::default_policy()));
    let demo = Core::new(Arc::new(demo_policy()));
    for format in Format::ALL {
        measure("stories", &core, format, &stories, 1);
        measure("history of the demo", &demo, format, &history, 50);
        measure("accounts that use everything", &core, format, &full, 2_000);
        measure_job(Job { detector: Detector::Full, signals: 16, weeks: 18 }, format);
    }
}
