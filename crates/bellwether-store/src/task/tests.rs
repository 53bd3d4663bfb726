//! The store against [`MemoryState`] and a changelog in memory, with crashes.

use std::collections::BTreeMap;

use bellwether_core::account::{ActivityKey, Row, SignalKey};
use bellwether_core::calendar::{Entry, Scope, Span};
use bellwether_core::chance::Own;
use bellwether_core::cohort::{CohortKey, CohortRow, Cohorts, DaySum, Told};
use bellwether_core::event::Profile;
use bellwether_core::feedback::Raised;
use bellwether_core::forecast::{Forecast, Limits};
use bellwether_core::history::{Activity, Older, Ring};
use bellwether_core::id::EventId;
use bellwether_core::intraday::Settings;
use bellwether_core::life::{Life, Standing};
use bellwether_core::output::Band;
use bellwether_core::points::Points;
use bellwether_core::promotion::Promotion;
use bellwether_core::ranking::Predicted;
use bellwether_core::rebaseline::{Change as LevelChange, Stage};
use bellwether_core::rolling::RollingSignal;
use bellwether_core::shadow::Shadow;
use bellwether_core::standing::{Line, Trait};
use bellwether_core::state::MemoryState;
use bellwether_core::time::{Day, HOUR_MS, YearDay};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::rows::RowKey;

#[path = "failure_tests.rs"]
mod failures;

fn options() -> StoreOptions {
    let accounts = AccountMemory::new(30_000);
    StoreOptions { shared: Shared::new(8 << 20), accounts, format: Format::NEWEST }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, "bellwether", 3, &options()).expect("an own store opens")
}

fn account_id(number: u8) -> AccountId {
    AccountId::new(&format!("account-{number}")).expect("an identifier")
}

/// Two changelogs in memory.
#[derive(Debug, Default)]
struct Changelog {
    state: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    seen: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Changelog {
    fn stream(&mut self, stream: Stream) -> &mut Vec<(Vec<u8>, Option<Vec<u8>>)> {
        match stream {
            Stream::State => &mut self.state,
            Stream::Seen => &mut self.seen,
        }
    }

    /// Appends what is staged and returns the positions after it.
    fn append(&mut self, staged: &[Change]) -> [(Stream, i64); 2] {
        for change in staged {
            self.stream(change.stream).push((change.key.clone(), change.value.clone()));
        }
        self.ends()
    }

    fn ends(&self) -> [(Stream, i64); 2] {
        [(Stream::State, self.state.len() as i64), (Stream::Seen, self.seen.len() as i64)]
    }

    /// Replays the tail that a store is missing.
    fn restore(&mut self, store: &mut Store) {
        for stream in [Stream::State, Stream::Seen] {
            let from = store.position(stream).unwrap_or(0);
            for (offset, (key, value)) in (0..).zip(self.stream(stream).iter()) {
                if offset >= from {
                    store
                        .restore(stream, offset + 1, key, value.as_deref())
                        .expect("a good record");
                }
            }
        }
        store.finish_restore(&self.ends()).expect("a write of what was restored");
    }
}

/// Everything that can be read of a store between two batches: accounts, timers, clock, seen ids that count with their hours.
type Contents = (Vec<Account>, Vec<(Millis, AccountId)>, Clock, Vec<(u64, i64)>, CohortRows);
type CohortRows =
    (Vec<(String, CohortKey, CohortRow)>, Vec<(EventId, Entry)>, Vec<(EventId, Promotion)>);

/// The rows of all cohorts, the calendar, the promotions and the challengers.
fn cohort_rows(cohorts: &Cohorts) -> CohortRows {
    let rows = cohorts.rows().map(|(name, key, row)| (name.to_owned(), key, row)).collect();
    let entries = cohorts.calendar().entries();
    let entries = entries.map(|(id, entry)| (id.clone(), entry.clone())).collect();
    let promotions = cohorts.promotions().iter().chain(cohorts.challengers().iter());
    (rows, entries, promotions.map(|(id, of)| (id.clone(), of.clone())).collect())
}

fn contents(store: &mut Store, since: Millis) -> Contents {
    let ids: Vec<AccountId> =
        store.accounts().expect("readable").collect::<Result<_, _>>().expect("readable ids");
    let accounts: Vec<Account> =
        ids.iter().map(|id| store.get(id).expect("readable").expect("listed, so there")).collect();
    assert_eq!(store.stats().expect("readable").accounts, accounts.len() as u64);
    let mut in_a_pass = Vec::new();
    store.each_account(|account| in_a_pass.push(account)).expect("readable");
    assert_eq!(in_a_pass, accounts);
    let rows = store.database.scan(timers::FAMILY, &[], None);
    let timers: Vec<_> =
        rows.map(|row| timers::decode(&row.expect("readable").0).expect("a timer")).collect();
    let due = |store: &Store| store.due(Millis(i64::MAX - 1), usize::MAX).expect("readable");
    assert_eq!(due(store), timers.len(), "whatever was read of them");
    let first = store.next_due(Millis(i64::MAX)).expect("readable");
    assert_eq!(first.as_ref(), timers.first(), "next_due is the first timer");
    assert_eq!(due(store), timers.len(), "and once they were read");
    let rows = store.database.scan(seen::FAMILY, &[], None);
    let seen = rows.map(|row| {
        let (hash, hour) = row.expect("readable");
        let hash = u64::from_be_bytes(hash.as_ref().try_into().expect("eight bytes"));
        (hash, i64::from_be_bytes(hour.as_ref().try_into().expect("eight bytes")))
    });
    // Compaction drops the others, sooner or later.
    let seen = seen.filter(|(_, hour)| *hour >= seen_hour(since)).collect();
    (accounts, timers, store.clock(), seen, cohort_rows(store.cohorts()))
}

/// What a change does to an account. Every change marks the hot row, as an event does.
fn edit(account: &mut Account, number: u8, due: Option<i64>) {
    account.hot.sequence += 1;
    account.hot.scheduled = due.is_some();
    account.hot.today_ends_at = Millis(due.unwrap_or_default());
    account.changed.note(Row::Hot);
    if number.is_multiple_of(3) {
        account.history.newest = Some(Day(i32::from(number)));
        if number.is_multiple_of(2) {
            let older = Older { sum: f32::from(number), exposure: 1.0 };
            account.history.older = vec![(SignalKey(1), older)];
        }
        account.changed.note(Row::History);
    }
    if number.is_multiple_of(7) {
        account.forecast = Forecast::default();
        if number.is_multiple_of(2) {
            let expected = f32::from(number);
            let limits = Limits { low: 0.0, expected, high: expected };
            let (day, limits) = (Day(i32::from(number)), vec![(SignalKey(1), limits)]);
            account.forecast = Forecast { day, limits };
        }
        account.changed.note(Row::Forecast);
    }
    let key = ActivityKey { signal: SignalKey(u32::from(number % 2)), value: "kim".to_owned() };
    if number.is_multiple_of(5) {
        account.activity.remove(&key);
        account.changed.activity.insert(key);
    } else if number.is_multiple_of(2) {
        let row = Activity { newest: Day(1), bits: u128::from(number), role: None };
        account.activity.insert(key.clone(), row);
        account.changed.activity.insert(key);
    }
    if number.is_multiple_of(4) {
        let signal = SignalKey(u32::from(number % 3));
        if number.is_multiple_of(8) {
            account.watched.remove(&signal);
        } else {
            let watched = account.watched.entry(signal).or_default();
            watched.newest = Millis(i64::from(number));
            watched.watch.see(watched.newest, f64::from(number), &Settings::default());
        }
        account.changed.watched.insert(signal);
    }
    if number.is_multiple_of(6) {
        account.own = (!number.is_multiple_of(12)).then(|| Own::since(Day(i32::from(number))));
        account.changed.note(Row::Own);
        account.standing = (0..number / 30).map(line).collect();
        account.changed.note(Row::Standing);
        account.raised = (0..number / 40).map(raised).collect();
        account.changed.note(Row::Raised);
        account.lives = (0..number / 50).map(life).collect();
        account.changed.note(Row::Lives);
    }
    if number.is_multiple_of(13) {
        account.shadow = (!number.is_multiple_of(26)).then(|| shadow(number));
        account.changed.note(Row::Shadow);
        account.predicted = (!number.is_multiple_of(39)).then(|| predicted(number));
        account.changed.note(Row::Predicted);
    }
    if number.is_multiple_of(11) {
        let days = i32::from(number / 20);
        account.masked = (0..days).map(span).collect();
        account.changed.note(Row::Masked);
        account.changes = (0..days).map(change).collect();
        account.changed.note(Row::Changes);
    }
    if number % 2 == 1 {
        roll(account, u16::from(number % 3), i32::from(number / 8));
    }
    if number.is_multiple_of(7) {
        account.profile = Some(profile(&account.id, number));
        account.changed.note(Row::Profile);
    }
}

/// A published event of the rolling detector.
fn roll(account: &mut Account, key: u16, day: i32) {
    let rolling = account.rolling.get_or_insert_default();
    rolling.day = rolling.day.max(Day(day));
    rolling.sequence += 1;
    rolling.published = Some(f64::from(day));
    let known = rolling.signals.iter().position(|signal| signal.key == key);
    let at = known.unwrap_or_else(|| {
        rolling.signals.push(RollingSignal::new(key));
        rolling.signals.len() - 1
    });
    rolling.signals[at].add(Day(day), 1.0, rolling.day);
    account.changed.note(Row::Rolling);
}

fn span(day: i32) -> Span {
    Span { from: Day(day), to: Day(day + 1), kind: "holiday".to_owned(), note: None }
}

fn change(day: i32) -> LevelChange {
    let (signal, stage) = (SignalKey(1), Stage::Over(Day(day)));
    let (since, found) = (Day(day - 9), Day(day - 8));
    let (before, after, risk, held) = (2.0, 1.0, true, true);
    LevelChange { signal, since, found, before, after, risk, held, days_back: 7, stage }
}

fn raised(number: u8) -> Raised {
    Raised {
        alert: format!("alert-{number}"),
        kind: "churn_risk".to_owned(),
        opened_at: Millis(i64::from(number)),
        urgent_at: None,
        withheld: false,
        acted_at: None,
        verdict: None,
        over: number.is_multiple_of(2),
    }
}

fn life(number: u8) -> Life {
    Life {
        alert: format!("alert-{number}"),
        kind: "churn_risk".to_owned(),
        opened_at: Millis(i64::from(number)),
        standing: Standing::Snoozed(Millis(i64::from(number) + 1)),
        said: None,
        came_back: Vec::new(),
        reopened: number.into(),
    }
}

fn shadow(number: u8) -> Shadow {
    let challenger = (Points(number.into()), Band::Neutral);
    let of = EventId::new("challenger").expect("an id");
    Shadow { of, sequence: 3, champion: (Points(7), Band::Healthy), challenger }
}

fn predicted(number: u8) -> Box<Predicted> {
    let scores = vec![(i32::from(number), Points(number.into()))];
    Box::new(Predicted { model: "learned".to_owned(), scores })
}

fn line(number: u8) -> Line {
    let (observed, points, published) = (None, Points(number.into()), Points(2));
    Line { of: Trait::Trend, observed, points, published }
}

fn profile(id: &AccountId, number: u8) -> Profile {
    Profile {
        as_of: Millis(i64::from(number)),
        name: Some(format!("name {number}")),
        fiscal_year_end: YearDay::parse("03-31").filter(|_| number % 2 == 1),
        ..crate::fixtures::profile(id.clone())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Edit {
        account: u8,
        number: u8,
        due: Option<i64>,
    },
    /// Taken and put back as it is.
    Look {
        account: u8,
    },
    /// Taken and deleted.
    Remove {
        account: u8,
    },
    /// Announced, whatever comes of it.
    Announce {
        accounts: Vec<u8>,
        bytes_max: usize,
    },
    Mark {
        hash: u64,
        hour: i64,
    },
    Remember {
        hash: u64,
        hour: i64,
    },
    Forget {
        hour: i64,
    },
    Tick {
        at: i64,
    },
    /// An account adds to its cohort's day; days far apart push old ones out.
    Tell {
        cohort: u8,
        day: u8,
        part: u8,
    },
    /// Reads the timers that are due and moves each on, as a day close does.
    Fire {
        until: i64,
    },
    Commit,
    Discard,
    Flush,
    Close,
    /// The process dies; with `logged` after the batch reached the changelog and before it reached the store.
    Crash {
        logged: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..6u8, any::<u8>(), prop::option::of(0..40i64))
            .prop_map(|(account, number, due)| Step::Edit { account, number, due }),
        2 => (0..6u8).prop_map(|account| Step::Look { account }),
        3 => (0..6u8).prop_map(|account| Step::Remove { account }),
        4 => (prop::collection::vec(0..6u8, 0..20), 0..100_000usize)
            .prop_map(|(accounts, bytes_max)| Step::Announce { accounts, bytes_max }),
        1 => (0..20u64, 0..5i64).prop_map(|(hash, hour)| Step::Mark { hash, hour }),
        4 => (0..20u64, 0..5i64).prop_map(|(hash, hour)| Step::Remember { hash, hour }),
        1 => (0..5i64).prop_map(|hour| Step::Forget { hour }),
        2 => (0..1000i64).prop_map(|at| Step::Tick { at }),
        4 => (0..3u8, any::<u8>(), any::<u8>())
            .prop_map(|(cohort, day, part)| Step::Tell { cohort, day, part }),
        2 => (0..40i64).prop_map(|until| Step::Fire { until }),
        5 => Just(Step::Commit),
        2 => Just(Step::Discard),
        1 => Just(Step::Flush),
        1 => Just(Step::Close),
        2 => any::<bool>().prop_map(|logged| Step::Crash { logged }),
    ]
}

/// A store, what it should be like, and what the log has.
struct Bench {
    store: Option<Store>,
    dir: TempDir,
    log: Changelog,
    /// With the batch, and without it.
    now: MemoryState,
    committed: MemoryState,
    /// Which ids count: those remembered from here on.
    since: Millis,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Some(open(dir.path()));
        let (log, now, committed) = Default::default();
        Bench { store, dir, log, now, committed, since: Millis(0) }
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("a store is open between steps")
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Edit { account, number, due } => {
                let id = account_id(*account);
                self.change(&id, |account| edit(account, *number, *due));
            }
            Step::Look { account } => {
                let id = account_id(*account);
                if self.now.accounts().contains_key(&id) {
                    self.change(&id, |_| {});
                } else {
                    assert_eq!(self.store().take(&id), Ok(None));
                }
            }
            Step::Remove { account } => self.remove(&account_id(*account)),
            Step::Announce { accounts, bytes_max } => {
                let ids: Vec<AccountId> = accounts.iter().copied().map(account_id).collect();
                let announced = announce(self.store(), &ids, *bytes_max);
                assert!(announced == ids.len() || (16..ids.len()).contains(&announced));
            }
            Step::Mark { hash, hour } => {
                let at = Millis(hour * HOUR_MS + 1).max(self.since);
                let Ok(()) = self.now.mark(*hash, at);
                self.store().mark(*hash, at).expect("stageable");
                let Ok(expected) = self.now.marked(*hash);
                assert_eq!(self.store().marked(*hash), Ok(expected));
            }
            Step::Remember { hash, hour } => {
                let at = Millis(hour * HOUR_MS + 1);
                self.remember(*hash, at);
            }
            Step::Forget { hour } => {
                self.since = self.since.max(Millis(hour * HOUR_MS));
            }
            Step::Tick { at } => {
                let clock =
                    Clock { newest: Some(Millis(*at)), fired: None, ticked: false, horizon: None };
                self.now.set_clock(clock);
                self.store().set_clock(clock);
            }
            Step::Fire { until } => self.fire(Millis(*until)),
            Step::Tell { cohort, day, part } => {
                let sums = DaySum {
                    weight: f64::from(*part),
                    relative: f64::from(*part) / 3.0,
                    ..DaySum::default()
                };
                let told = Told {
                    signals: vec![(SignalKey(u32::from(part % 2)), sums)],
                    ..Told::default()
                };
                let name = [None, Some("smb"), Some("enterprise")][usize::from(*cohort)];
                let day = Day(i32::from(*day));
                let tell = |cohorts: &mut Cohorts| {
                    cohorts.add(name, day, &told);
                    let amounts = [(SignalKey(1), f64::from(*part))];
                    cohorts.named(name).count(i64::from(*part), amounts.into_iter());
                    let entry = EventId::new(&format!("e{}", part % 5)).expect("an id");
                    let of = Entry { scope: Scope::All, span: span(day.0) };
                    cohorts.calendar_mut().set(&entry, (part % 3 > 0).then_some(of));
                    let model = (part % 2 > 0).then(|| "{}".to_owned());
                    let of = Promotion { from: Millis(day.0.into()), model, by: None, began: None };
                    cohorts.promotions_mut().tell(&entry, (part % 4 > 0).then(|| of.clone()));
                    cohorts.challengers_mut().tell(&entry, (part % 3 > 0).then_some(of));
                };
                tell(self.now.cohorts());
                tell(self.store().cohorts());
            }
            Step::Commit => self.commit(),
            Step::Discard => {
                self.store().discard();
                self.now = self.committed.clone();
            }
            Step::Flush => self.store().flush().expect("a flush"),
            Step::Close => {
                self.now = self.committed.clone();
                self.store.take().expect("open").close().expect("a clean close");
                let mut store = open(self.dir.path());
                for (stream, end) in self.log.ends() {
                    assert!(end == 0 || store.position(stream) == Some(end), "closed at its end");
                }
                self.log.restore(&mut store);
                self.store = Some(store);
            }
            Step::Crash { logged } => self.crash(*logged),
        }
    }

    fn remember(&mut self, hash: u64, at: Millis) {
        let since = self.since;
        let Ok(expected) = self.now.remember(hash, at, since);
        assert_eq!(self.store().remember(hash, at, since), Ok(expected));
    }

    fn change(&mut self, id: &AccountId, edit: impl Fn(&mut Account)) {
        let Ok(expected) = self.now.take(id);
        let found = self.store().take(id).expect("readable");
        assert_eq!(found, expected);
        let new = || Box::new(Account::new(id.clone()));
        let (mut expected, mut found) = (expected.unwrap_or_else(new), found.unwrap_or_else(new));
        edit(&mut expected);
        edit(&mut found);
        let Ok(()) = self.now.put(expected);
        self.store().put(found).expect("stageable");
    }

    fn remove(&mut self, id: &AccountId) {
        let Ok(expected) = self.now.take(id);
        let found = self.store().take(id).expect("readable");
        assert_eq!(found, expected);
        if let (Some(expected), Some(found)) = (expected, found) {
            let Ok(()) = self.now.remove(expected);
            self.store().remove(found).expect("stageable");
            assert_eq!(self.store().take(id), Ok(None));
        }
    }

    fn fire(&mut self, until: Millis) {
        loop {
            let Ok(expected) = self.now.next_due(until);
            let found = self.store().next_due(until).expect("readable");
            assert_eq!(found, expected);
            let Some((due, id)) = found else { return };
            self.change(&id, |account| edit(account, 1, Some(due.0 + 40)));
        }
    }

    fn commit(&mut self) {
        let staged = self.store().staged().expect("stageable").to_vec();
        let order: Vec<_> = staged.iter().map(|change| (change.stream, &change.key)).collect();
        assert!(order.is_sorted(), "the order is a function of the content");
        let positions = self.log.append(&staged);
        self.store().commit(&positions).expect("a write");
        self.committed = self.now.clone();
    }

    /// A killed process leaves the files as they are: they are copied aside under the open store, before it can tidy up.
    fn crash(&mut self, logged: bool) {
        if logged {
            let staged = self.store().staged().expect("stageable").to_vec();
            self.log.append(&staged);
            self.committed = self.now.clone();
        } else {
            self.now = self.committed.clone();
        }
        let aside = tempfile::tempdir().expect("a temporary directory");
        copy_idle(self.store.as_ref().expect("open"), self.dir.path(), aside.path());
        self.store = None;
        self.dir = aside;

        let mut store = open(self.dir.path());
        self.check_agreement(&mut store);
        self.log.restore(&mut store);
        self.store = Some(store);
    }

    /// Rows and positions agree: the state as it was found equals the changelog replayed up to its positions.
    fn check_agreement(&mut self, found: &mut Store) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut rebuilt = open(dir.path());
        for stream in [Stream::State, Stream::Seen] {
            let upto = usize::try_from(found.position(stream).unwrap_or(0)).expect("not negative");
            for (next, (key, value)) in (1..).zip(self.log.stream(stream).iter().take(upto)) {
                rebuilt.restore(stream, next, key, value.as_deref()).expect("a good record");
            }
        }
        rebuilt.finish_restore(&[]).expect("a write");
        assert_eq!(
            contents(found, self.since),
            contents(&mut rebuilt, self.since),
            "found after a crash"
        );
    }

    /// Everything committed is as expected, here and in a store restored from nothing.
    fn check(&mut self) {
        self.store().discard();
        self.now = self.committed.clone();
        let since = self.since;
        let found = contents(self.store(), since);
        assert_eq!(
            found.0,
            self.committed.accounts().values().map(|&account| account.clone()).collect::<Vec<_>>()
        );
        assert_eq!(found.2, self.committed.clock());
        assert_eq!(found.4, cohort_rows(self.committed.cohorts()));
        for hash in 0..20 {
            self.remember(hash, Millis(4 * HOUR_MS));
        }
        self.store().discard();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut restored = open(dir.path());
        self.log.restore(&mut restored);
        assert_eq!(contents(&mut restored, since), found, "restored from nothing");
    }
}

fn announce(store: &mut Store, ids: &[AccountId], bytes_max: usize) -> usize {
    let ids = ids.iter().map(|id| id.as_str().as_bytes());
    store.read_ahead(ids, bytes_max).expect("readable")
}

/// Copies the files of a store at rest. One that goes away meanwhile means that it was not: then all of it again.
fn copy_idle(store: &Store, from: &Path, to: &Path) {
    loop {
        for busy in ["rocksdb.num-running-flushes", "rocksdb.num-running-compactions"] {
            while store.database.property(busy) > 0 {
                std::thread::yield_now();
            }
        }
        match copy(from, to) {
            Ok(()) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::remove_dir_all(to).expect("removable");
                std::fs::create_dir(to).expect("a directory");
            }
            Err(error) => panic!("a copy: {error}"),
        }
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().expect("an entry has a name");
        std::fs::copy(&path, to.join(name))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_its_changelog_through_discards_and_crashes(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let mut bench = Bench::new();
        for step in &steps {
            bench.run(step);
        }
        bench.check();
    }
}

/// A store with so many accounts that are committed, and memory for so many bytes of them.
fn with_accounts(dir: &Path, ids: &[AccountId], cache: usize) -> Store {
    let options = StoreOptions { accounts: AccountMemory::new(cache), ..options() };
    let mut store = Store::open(dir, "bellwether", 3, &options).expect("an own store opens");
    for id in ids {
        let mut account = Box::new(Account::new(id.clone()));
        edit(&mut account, 2, None);
        store.put(account).expect("stageable");
    }
    store.commit(&[]).expect("a write");
    store
}

#[test]
fn accounts_that_are_announced_are_read_together_and_as_far_as_memory_goes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ids: Vec<AccountId> = (0..40).map(account_id).collect();
    let mut store = with_accounts(dir.path(), &ids, 0);
    // Nobody knows yet what one takes: sixteen in any case.
    let announced = announce(&mut store, &ids, 0);
    assert_eq!((announced, store.ahead.len()), (16, 16));
    for id in &ids[..16] {
        let expected = store.get(id).expect("readable");
        assert_eq!(store.take(id).expect("readable").as_deref(), expected.as_ref());
    }
    assert_eq!(store.ahead.len(), 0, "each is one's own");

    // What is in the batch is not read again; what names no account is passed over; a stranger has no rows.
    let stranger = AccountId::new("stranger").expect("an identifier");
    let texts = ids.iter().map(|id| id.as_str().as_bytes());
    let texts = texts.chain([b"\xff".as_slice(), b"", stranger.as_str().as_bytes()]);
    assert_eq!(store.read_ahead(texts, 1 << 20), Ok(43));
    assert_eq!(store.ahead.len(), 25);
    assert_eq!(store.take(&stranger), Ok(None));
}

#[test]
fn accounts_of_the_cache_are_not_looked_for_again_until_some_are_missing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ids: Vec<AccountId> = (0..40).map(account_id).collect();
    let mut store = with_accounts(dir.path(), &ids, 1 << 20);
    assert_eq!(announce(&mut store, &ids, 1 << 20), 40);
    assert_eq!(store.ahead.len(), 0, "all are cached");
    let take_all = |store: &mut Store| {
        for id in &ids {
            store.take(id).expect("readable").expect("committed");
        }
        // Which forgets them.
        store.discard();
    };
    take_all(&mut store);
    assert_eq!(announce(&mut store, &ids, 1 << 20), 40);
    assert_eq!(store.ahead.len(), 0, "none was missing before");
    take_all(&mut store);
    announce(&mut store, &ids, 1 << 20);
    assert_eq!(store.ahead.len(), 40);
}

#[test]
fn many_strangers_do_not_make_room_for_many_accounts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ids: Vec<AccountId> = (0..200).map(account_id).collect();
    let mut store = with_accounts(dir.path(), &ids, 0);
    let strangers: Vec<AccountId> = (0..200)
        .map(|number| AccountId::new(&format!("stranger-{number}")).expect("an identifier"))
        .collect();
    announce(&mut store, &strangers, 1 << 20);
    for id in &strangers {
        assert_eq!(store.take(id), Ok(None));
    }
    let one = store.get(&ids[0]).expect("readable").expect("committed").memory_bytes();
    assert_eq!(announce(&mut store, &ids, 20 * one), 16, "as little as nobody knows better");
    assert_eq!(announce(&mut store, &ids, 20 * one), 20, "what they take is known now");
    assert!(store.ahead.len() <= 21);
}

/// A crash that loses everything since the last flush, with more commits on either side of it.
#[test]
fn a_crash_goes_back_to_a_whole_commit() {
    let mut bench = Bench::new();
    let edit = |account, due| Step::Edit { account, number: 210, due: Some(due) };
    bench.run(&edit(1, 10));
    bench.run(&Step::Remember { hash: 1, hour: 1 });
    bench.run(&Step::Commit);
    bench.run(&Step::Flush);
    let flushed = bench.log.ends();
    bench.run(&edit(1, 20));
    bench.run(&edit(2, 5));
    bench.run(&Step::Remember { hash: 2, hour: 1 });
    bench.run(&Step::Commit);
    let aside = tempfile::tempdir().expect("a temporary directory");
    copy_idle(bench.store.as_ref().expect("open"), bench.dir.path(), aside.path());

    let mut store = open(aside.path());
    let found =
        [Stream::State, Stream::Seen].map(|stream| (stream, store.position(stream).unwrap_or(0)));
    assert_eq!(found, flushed, "the flushed positions");
    let (accounts, timers, _, seen, _) = contents(&mut store, Millis(0));
    assert_eq!(accounts.len(), 1);
    assert_eq!(timers, [(Millis(10), account_id(1))]);
    assert_eq!(seen, [(1, 1)]);
    bench.log.restore(&mut store);
    assert_eq!(contents(&mut store, Millis(0)), contents(bench.store(), Millis(0)));
}

/// RocksDB flushes by itself when write buffers are full: whatever is on disk then is whole commits.
#[test]
fn a_flush_under_memory_pressure_keeps_rows_and_positions_together() {
    let mut bench = Bench::new();
    let accounts = AccountMemory::new(30_000);
    let tight = StoreOptions { shared: Shared::new(1 << 20), accounts, format: Format::NEWEST };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut store = Store::open(dir.path(), "bellwether", 3, &tight).expect("a new store opens");
    let mut flushed_positions = 0;
    for round in 0..40u8 {
        for number in 0..20 {
            let id = account_id(number);
            let taken = store.take(&id).expect("readable");
            let mut account = taken.unwrap_or_else(|| Box::new(Account::new(id)));
            edit(&mut account, round, Some(i64::from(round)));
            account.hot.policy_version = "x".repeat(2000);
            store.put(account).expect("stageable");
            let hash = u64::from(round) * 20 + u64::from(number);
            store.remember(hash, Millis(0), Millis(0)).expect("open");
        }
        let positions = bench.log.append(store.staged().expect("stageable"));
        store.commit(&positions).expect("a write");
        if round % 8 == 7 {
            let aside = tempfile::tempdir().expect("a temporary directory");
            copy_idle(&store, dir.path(), aside.path());
            let mut found = open(aside.path());
            flushed_positions = found.position(Stream::State).unwrap_or(0);
            bench.check_agreement(&mut found);
        }
    }
    assert!(flushed_positions > 0, "there was pressure enough for a flush");
}

#[test]
fn timers_beyond_the_window_come_in_order() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut store = open(dir.path());
    let count = 3000;
    for number in 0..count {
        let id = AccountId::new(&format!("{number:05}")).expect("an identifier");
        let mut account = Box::new(Account::new(id));
        // 7 shares no factor with 3000: every due time once, out of order.
        edit(&mut account, 1, Some(number * 7 % count));
        store.put(account).expect("stageable");
        if number % 1000 == 999 {
            store.commit(&[]).expect("a write");
        }
    }
    assert_eq!(store.next_due(Millis(-1)), Ok(None));
    let mut fired = Vec::new();
    while let Some((due, id)) = store.next_due(Millis(count - 1)).expect("readable") {
        fired.push(due.0);
        let mut account = store.take(&id).expect("readable").expect("it has a timer");
        edit(&mut account, 1, Some(due.0 + count));
        store.put(account).expect("stageable");
        if fired.len() == 1500 {
            store.commit(&[]).expect("a write");
        }
        // Nothing is left of what was read ahead.
        if fired.len() == 1024 {
            store.commit(&[]).expect("a write");
            assert_eq!(store.due(Millis(count - 1), usize::MAX), Ok(3000 - 1024));
        }
    }
    assert_eq!(fired, (0..count).collect::<Vec<_>>());
    let first = store.next_due(Millis(i64::MAX)).expect("readable").expect("all were moved on");
    assert_eq!(first.0, Millis(count));
    store.commit(&[]).expect("a write");
    let due = |until: i64, most| store.due(Millis(until), most).expect("readable");
    assert_eq!([due(count - 1, 100), due(count + 9, 100), due(count + 9, 4)], [0, 10, 4]);
}

/// 3 MB of rows go through several batches, each with its position; a restore that is cut short goes on from the last.
#[test]
fn a_restore_that_is_cut_short_goes_on() {
    let mut bench = Bench::new();
    for round in 0..3u8 {
        for number in 0..200 {
            let mut account = Box::new(Account::new(account_id(number)));
            edit(&mut account, 30 + round, Some(i64::from(round)));
            account.hot.policy_version = "x".repeat(30_000);
            bench.store().put(account).expect("stageable");
        }
        bench.run(&Step::Commit);
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut half = open(dir.path());
    let cut = bench.log.state.len() * 5 / 6;
    for (next, (key, value)) in (1..).zip(bench.log.state.iter().take(cut)) {
        half.restore(Stream::State, next, key, value.as_deref()).expect("a good record");
    }
    let position = half.position(Stream::State).expect("a batch was written");
    assert!((1..cut.try_into().expect("small")).contains(&position), "{position}");
    half.close().expect("a clean close");
    let mut whole = open(dir.path());
    assert_eq!(whole.position(Stream::State), Some(position));
    bench.log.restore(&mut whole);
    assert_eq!(contents(&mut whole, Millis(0)), contents(bench.store(), Millis(0)));
}

/// The account and the kind of a row; none of rows that are of no account.
fn account_row(key: &[u8]) -> Option<(AccountId, AccountRow)> {
    match RowKey::decode(key).expect("a key") {
        RowKey::Account(id, row) => Some((id, row)),
        RowKey::Clock
        | RowKey::Cohort(..)
        | RowKey::Calendar(_)
        | RowKey::Promotion(_)
        | RowKey::Challenger(_) => None,
    }
}

/// Kinds of an account's rows and bytes of their values, as a batch writes them; none: deleted.
fn written(store: &mut Store, account: &AccountId) -> Vec<(AccountRow, Option<usize>)> {
    let staged = store.staged().expect("stageable").iter();
    let rows = staged.filter_map(|change| {
        let (_, row) = account_row(&change.key).filter(|(id, _)| id == account)?;
        Some((row, change.value.as_ref().map(Vec::len)))
    });
    rows.collect()
}

#[test]
fn an_event_does_not_write_the_sums_of_all_days() {
    let mut bench = Bench::new();
    let id = account_id(0);
    bench.change(&id, |account| (0..240).for_each(|day| roll(account, (day % 4) as u16, day / 4)));
    let whole = match written(bench.store(), &id)[..] {
        [(AccountRow::Rolling, Some(bytes))] => bytes,
        ref other => panic!("one row: {other:?}"),
    };
    bench.commit();
    // The same day again and again, then one day after the other.
    let (mut small, mut wholes) = (0, 0);
    for number in 0..120 {
        let day = 60 + i32::max(number - 20, 0);
        bench.change(&id, |account| roll(account, 1, day));
        match written(bench.store(), &id)[..] {
            [(AccountRow::Recent, Some(bytes))] => {
                assert!(bytes < whole / 3, "{bytes} of {whole}");
                small += 1;
            }
            [(AccountRow::Rolling, Some(_)), (AccountRow::Recent, None)] => wholes += 1,
            ref other => panic!("what changed, or all: {other:?}"),
        }
        bench.run(if number % 7 == 3 { &Step::Crash { logged: true } } else { &Step::Commit });
    }
    assert!(small > 100 && (2..=12).contains(&wholes), "{small} and {wholes}");
}

/// Workers that know it and workers that do not take turns.
#[test]
fn older_formats_write_all_sums_and_nothing_beside_them() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (id, open_newest) = (account_id(0), open);
    let open = |format| {
        let options = StoreOptions { format, ..options() };
        Store::open(dir.path(), "bellwether", 3, &options).expect("an own store opens")
    };
    let (mut hashes, mut log) = (Vec::new(), Changelog::default());
    for (format, expected) in [
        (Format::V2, [true, false]),
        (Format::V3, [false, true]),
        (Format::V3, [false, true]),
        (Format::V2, [true, true]),
        (Format::V2, [true, false]),
    ] {
        let mut store = open(format);
        let account = store.take(&id).expect("readable");
        let mut account = account.unwrap_or_else(|| Box::new(Account::new(id.clone())));
        roll(&mut account, 1, 5);
        store.put(account).expect("stageable");
        let rows: Vec<AccountRow> = written(&mut store, &id).into_iter().map(|row| row.0).collect();
        let found = [AccountRow::Rolling, AccountRow::Recent].map(|row| rows.contains(&row));
        assert_eq!(found, expected, "{format:?}: {rows:?}");
        let ends = log.append(store.staged().expect("stageable"));
        store.commit(&ends).expect("a write");
        hashes.push(store.verify().expect("whole").hash);
        let elsewhere = tempfile::tempdir().expect("a temporary directory");
        let mut restored = open_newest(elsewhere.path());
        log.restore(&mut restored);
        assert_eq!(restored.verify().expect("whole").hash, hashes[hashes.len() - 1]);
        restored.close().expect("a clean close");
        let sums = store.get(&id).expect("readable").and_then(|account| account.rolling);
        assert_eq!(sums.map(|sums| sums.sequence), Some(hashes.len() as u64));
        store.close().expect("a clean close");
    }
    // The same is known, in one row or in two.
    let one = open_at(Format::V2, 3);
    let two = open_at(Format::V3, 3);
    assert_eq!(one.1.verify().expect("whole").hash, two.1.verify().expect("whole").hash);
    assert_eq!(one.1.verify().expect("whole").hash, hashes[2]);
}

/// A new store in a format after some events.
fn open_at(format: Format, events: usize) -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = StoreOptions { format, ..options() };
    let mut store = Store::open(dir.path(), "bellwether", 3, &options).expect("an own store opens");
    for _ in 0..events {
        let account = store.take(&account_id(0)).expect("readable");
        let mut account = account.unwrap_or_else(|| Box::new(Account::new(account_id(0))));
        roll(&mut account, 1, 5);
        store.put(account).expect("stageable");
        store.commit(&[]).expect("a write");
    }
    (dir, store)
}

/// Wherever a restore is cut, what is there can be read: the whole row and what changed since are two records.
#[test]
fn every_beginning_of_a_changelog_can_be_read() {
    let mut bench = Bench::new();
    let id = account_id(0);
    for turn in 0..3 {
        bench.change(&id, |account| (0..40).for_each(|day| roll(account, 1, day)));
        bench.commit();
        for day in 40..60 {
            bench.change(&id, |account| roll(account, 1, day + turn));
            bench.commit();
        }
        if turn > 0 {
            bench.remove(&id);
            bench.commit();
        }
    }
    let log = std::mem::take(&mut bench.log.state);
    for cut in 1..=log.len() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut store = open(dir.path());
        for (next, (key, value)) in (1..).zip(&log[..cut]) {
            store.restore(Stream::State, next, key, value.as_deref()).expect("a good record");
        }
        store.finish_restore(&[(Stream::State, cut as i64)]).expect("a write");
        store.verify().expect("readable");
        store.get(&id).expect("readable");
    }
}

/// What no longer counts leaves the disk by itself.
#[test]
fn compaction_drops_ids_that_no_longer_count() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut store = open(dir.path());
    for hour in 0..40 {
        let at = Millis(hour * HOUR_MS);
        for number in 0..100 {
            let hash = hour.cast_unsigned() * 1000 + number;
            assert_eq!(store.remember(hash, at, Millis(at.0 - 2 * HOUR_MS)), Ok(true));
        }
        store.commit(&[]).expect("a write");
        store.flush().expect("a flush");
    }
    store.database.compact(seen::FAMILY);
    let left = store.database.scan(seen::FAMILY, &[], None).count();
    assert_eq!(left, 3 * 100, "the last hour and the two before it");
}

/// A removed account leaves no row, in the database and in one that is restored from the changelog, also where it begins anew in the
/// same batch; the changelog's last word on each of its keys is a tombstone.
#[test]
fn a_removed_account_leaves_no_row() {
    for reborn in [false, true] {
        let mut bench = Bench::new();
        let (gone, other) = (account_id(0), account_id(1));
        for number in [6, 7, 10, 14, 22] {
            bench.change(&gone, |account| edit(account, number, Some(5)));
            bench.change(&other, |account| edit(account, number, Some(6)));
        }
        bench.commit();
        bench.remove(&gone);
        if reborn {
            bench.change(&gone, |account| {
                account.profile = Some(profile(&account.id, 1));
                account.changed.note(Row::Profile);
            });
        }
        bench.commit();
        let left = |store: &Store| -> Vec<AccountRow> {
            let (from, to) = (rows::account_prefix(&gone), rows::account_end(&gone));
            let rows = store.database.scan(ROWS, &from, Some(to));
            let kinds = rows.map(|row| account_row(&row.expect("readable").0));
            kinds.map(|row| row.expect("among an account's rows").1).collect()
        };
        let expected = if reborn { vec![AccountRow::Profile] } else { Vec::new() };
        assert_eq!(left(bench.store()), expected);
        assert_eq!(bench.store().get(&other).expect("readable").map(|found| found.id), Some(other));
        bench.store().verify().expect("whole");
        let mut latest = BTreeMap::new();
        for (key, value) in &bench.log.state {
            latest.insert(key.clone(), value.clone());
        }
        let prefix = rows::account_prefix(&gone);
        let of_gone: Vec<_> = latest.iter().filter(|(key, _)| key.starts_with(&prefix)).collect();
        assert!(of_gone.len() >= 4, "a row of each kind: {of_gone:?}");
        assert_eq!(of_gone.iter().filter(|(_, value)| value.is_some()).count(), expected.len());
        bench.run(&Step::Crash { logged: false });
        assert_eq!(left(bench.store()), expected);
        let dir = tempfile::tempdir().expect("a directory");
        let mut restored = open(dir.path());
        bench.log.restore(&mut restored);
        assert_eq!(left(&restored), expected);
        restored.verify().expect("whole");
    }
}

/// An account with days before today, committed and read anew.
fn with_days(dir: &Path) -> (AccountId, Store) {
    let id = account_id(0);
    let mut store = open(dir);
    let mut account = Box::new(Account::new(id.clone()));
    account.history.rings = vec![(SignalKey(1), Ring::from(vec![3.0, 4.0, 0.5]))];
    account.history.newest = Some(Day(7));
    account.history.older = vec![(SignalKey(1), Older { sum: 2.0, exposure: 1.0 })];
    account.hot.sequence = 1;
    account.changed.note(Row::History);
    account.changed.note(Row::Hot);
    store.put(account).expect("stageable");
    store.commit(&[]).expect("a write");
    store.close().expect("a clean close");
    (id, open(dir))
}

#[test]
fn an_event_leaves_the_days_before_as_they_are_stored() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (id, mut store) = with_days(dir.path());
    // From the disk, then from the cache.
    for sequence in 2..5 {
        let mut account = store.take(&id).expect("readable").expect("there");
        assert_eq!(account.history.unfolded(), None, "nobody looked");
        account.hot.sequence = sequence;
        account.changed.note(Row::Hot);
        store.put(account).expect("stageable");
        assert_eq!(written(&mut store, &id).len(), 1, "the hot row alone");
        store.commit(&[]).expect("a write");
    }
    // A day closes: what comes back is stored, and is what it was.
    let mut account = store.take(&id).expect("readable").expect("there");
    assert_eq!(account.history.newest, Some(Day(7)));
    account.history.rings[0].1.push(9.0);
    account.history.newest = Some(Day(8));
    account.changed.note(Row::History);
    let expected = account.history.clone();
    store.put(account).expect("stageable");
    let kinds: Vec<AccountRow> = written(&mut store, &id).into_iter().map(|row| row.0).collect();
    assert_eq!(kinds, [AccountRow::History, AccountRow::Older]);
    store.commit(&[]).expect("a write");
    let account = store.take(&id).expect("readable").expect("there");
    assert_eq!(account.history.unfolded(), None);
    assert_eq!(account.history, expected);
    assert_eq!(store.get(&id).expect("readable").expect("there").history, expected);
}

#[test]
fn days_that_cannot_be_read_are_damage_as_soon_as_somebody_looks() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (id, store) = with_days(dir.path());
    let key = AccountRow::History.key(&id);
    let mut row = store.database.get(ROWS, &key).expect("readable").expect("there").to_vec();
    row.truncate(row.len() - 1);
    let mut batch = Batch::default();
    batch.put(ROWS, key, row);
    store.database.write(batch).expect("a write");
    let mut store = store;
    let account = store.take(&id).expect("nobody looked").expect("there");
    assert!(account.history.rings.is_empty());
    let error = store.put(account).expect_err("somebody looked");
    assert!(matches!(&error, StoreError::Corrupt(_)) && error.is_rebuildable(), "{error}");
    store.discard();
    let error = store.get(&id).expect_err("it is damaged");
    assert!(matches!(&error, StoreError::Corrupt(why) if why.contains(id.as_str())), "{error}");
}
