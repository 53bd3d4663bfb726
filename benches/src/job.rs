//! A job of any size: how many signals, over how much history, for how many accounts; its policy, its input, and the state of accounts that have
//! been customers for long. A few accounts are worked through their whole history by the engine; their rows, as they end up in the
//! changelog, then stand for all the others.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use bellwether_core::event::{Event, Input};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::policy::Compiled;
use bellwether_core::state::State as _;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Day, HOUR_MS, Millis};
use bellwether_store::memory::MemoryDisk;
use bellwether_store::task::{Change, Store, StoreOptions, Stream};
use bellwether_store::{AccountMemory, Format, Shared};

use crate::Random;
use crate::feed::{Changelog, Fed, Make};
use crate::fleet::{FIRST_DAY, start};
use crate::peer::Zipf;

/// Accounts that are worked through their history.
const WORKED: usize = 48;
/// Of the rolling detector: the chance of an event, per signal and day, as in the peer's input of 100 events an account in ten weeks.
const ROLLING_CHANCE: f64 = 0.12;
/// A prime above any number of accounts: its multiples visit each account once before they come back.
const STRIDE: i64 = 2_654_435_761;

/// Which detector decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detector {
    /// The simplest one, as in the peer's job.
    Rolling,
    /// Everything: closed days, cohorts, forecasts, corroboration, alerts.
    Full,
}

/// A job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Which detector decides.
    pub detector: Detector,
    /// Signals, 1 to 64.
    pub signals: u32,
    /// Weeks of history before the input begins, 3 to 18.
    pub weeks: u32,
}

/// How input is spread.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// Accounts in each partition.
    pub accounts: i64,
    /// Partitions.
    pub partitions: i32,
    /// Milliseconds from the first event to the last one.
    pub span_ms: i64,
    /// Events in each partition.
    pub events: i64,
    /// Whether few accounts have most of the events (Zipf, exponent 0.9), of any size; or all have equally many, of all signals in turn, which come
    /// to about as much a day as they did before.
    pub skewed: bool,
}

impl Job {
    /// The policy.
    ///
    /// # Panics
    /// Where the number of signals is not allowed.
    #[must_use]
    pub fn policy(&self) -> Compiled {
        let mut text = "name = \"scale\"\n".to_owned();
        if self.detector == Detector::Rolling {
            let weeks = self.weeks.clamp(3, 17);
            write!(
                text,
                "[rolling]\nenabled = true\nhistory_weeks = {weeks}\nlate_days = 64\nremember_ids = false\n\
                 publish_current = false\n[admission]\nhistory_days = 36500\n[score]\nbase_points = 100.0\n"
            )
            .expect("a string takes everything");
        }
        for signal in 0..self.signals {
            let name = name(signal);
            let direction = if signal % 3 == 2 { "up" } else { "down" };
            write!(
                text,
                "[[signal]]\nname = \"{name}\"\ncategory = \"engagement\"\ngroup = \"{name}\"\ndirection = \"{direction}\"\n\
                 aggregate = \"sum\"\ncounted = true\nmatch = {{ types = [\"{name}\"] }}\nunit = \"a week\"\nweight = 2.0\nkind = \"{name}\"\n"
            )
            .expect("a string takes everything");
        }
        Compiled::parse("scale.toml", &text).expect("a policy of this form is sound")
    }

    /// The engine.
    #[must_use]
    pub fn core(&self) -> Core {
        Core::new(Arc::new(self.policy()))
    }

    /// When history ends and input begins: at six in the morning, when all that was due in the night is done.
    #[must_use]
    pub fn begin(&self) -> Millis {
        start(self.today()).plus(6 * HOUR_MS)
    }

    /// The day on which history ends.
    #[must_use]
    pub fn today(&self) -> Day {
        FIRST_DAY.plus(i32::try_from(self.weeks * 7).unwrap_or(i32::MAX))
    }

    /// The event of a number, of the account at a place of the only partition, and of all signals in turn.
    ///
    /// # Panics
    /// Never: its ids are valid.
    #[must_use]
    pub fn event(&self, place: i64, number: usize, at: Millis) -> Event {
        let signal = number as u32 % self.signals;
        event(&account(place, 0, 1), &format!("{}-{number}", at.0), signal, at, 1.0)
    }

    /// Makes the input: a pure function of partition and offset.
    #[must_use]
    pub fn input(&self, spread: Spread) -> Make {
        let (begin, signals) = (self.begin().0, self.signals);
        let count = usize::try_from(spread.accounts).unwrap_or(1);
        let zipf = spread.skewed.then(|| Zipf::new(count, 0.9));
        let days = (spread.span_ms as f64 / DAY_MS as f64).max(1.0);
        let of_signal = spread.events as f64 / spread.accounts as f64 / f64::from(signals) / days;
        Arc::new(move |partition, offset| {
            let number = offset * i64::from(spread.partitions) + i64::from(partition);
            let mut random = Random::scattered(number.unsigned_abs());
            let (place, signal, value) = match &zipf {
                Some(zipf) => {
                    let place = zipf.sample(&mut random) as i64;
                    (place, random.below(signals), 1 + random.below(9))
                }
                None => {
                    let place = offset * STRIDE % spread.accounts;
                    let turn = offset / spread.accounts + place;
                    let size = level(place as usize % WORKED) / of_signal.max(1.0);
                    let signal = turn % i64::from(signals);
                    (place, u32::try_from(signal).unwrap_or(0), random.poisson(size))
                }
            };
            let account = account(place, partition, spread.partitions);
            let at_ms = begin + offset * spread.span_ms / spread.events;
            let (id, member) = (random.bits(), random.below(200));
            let payload = format!(
                "{{\"event_id\":\"{id:016x}\",\"account_id\":\"{account}\",\"user_id\":\"u-{member}\",\"signal\":\"{}\",\"value\":{value},\"occurred_at\":{at_ms}}}",
                name(signal)
            );
            Fed { key: account.into_bytes(), payload: payload.into_bytes(), at_ms }
        })
    }

    /// What one account does on a day, of the days before the input begins.
    fn day(&self, worked: usize, day: i32, random: &mut Random) -> Vec<Event> {
        let busy = if day.rem_euclid(7) < 5 { 1.0 } else { 0.3 };
        let level = level(worked) * busy;
        let midnight = start(FIRST_DAY.plus(day)).0;
        let mut events = Vec::new();
        for signal in 0..self.signals {
            let value = match self.detector {
                Detector::Rolling if random.share() >= ROLLING_CHANCE => continue,
                Detector::Rolling => 1 + random.below(9),
                Detector::Full => random.poisson(level),
            };
            let at = Millis(midnight + 12 * HOUR_MS + i64::from(random.below(3_600_000)));
            let (account, id) = (account(worked as i64, 0, 1), format!("{day}-{signal}"));
            events.push(event(&account, &id, signal, at, value.into()));
        }
        events
    }

    /// Works accounts through all their history, and tells what is committed.
    ///
    /// # Panics
    /// Where the store fails; the events are good.
    pub fn live(&self, store: &mut Store, mut committed: impl FnMut(&[Change])) {
        self.live_days(store, &mut committed);
        let (core, mut out) = (self.core(), Vec::new());
        while core.close_behind_ms(store.clock()) > 0
            || store.clock().newest.is_none_or(|newest| newest < self.begin())
        {
            let applied = core.apply(store, Input::Tick, self.begin(), &mut out);
            applied.expect("a store that works").expect("time passes");
            out.clear();
            committed(store.staged().expect("no account is out"));
            store.commit(&[]).expect("a store that works");
        }
    }

    /// The same without the last night: the last day is over at one o'clock in the afternoon, and open.
    fn live_days(&self, store: &mut Store, committed: &mut impl FnMut(&[Change])) {
        let core = self.core();
        let mut random = Random::new(0x9E37_79B9_7F4A_7C15);
        let mut out = Vec::new();
        for day in 0..i32::try_from(self.weeks * 7).unwrap_or(i32::MAX) {
            let mut events: Vec<Event> =
                (0..WORKED).flat_map(|worked| self.day(worked, day, &mut random)).collect();
            events.sort_by_key(|event| event.occurred_at);
            for event in events {
                let at = event.occurred_at;
                let applied = core.apply(store, Input::Event(event), at, &mut out);
                applied.expect("a store that works").expect("a good event");
            }
            out.clear();
            committed(store.staged().expect("no account is out"));
            store.commit(&[]).expect("a store that works");
        }
    }

    /// The rows of accounts with all their history.
    ///
    /// # Panics
    /// Never: the store is in memory, and the events are good.
    #[must_use]
    pub fn work(&self) -> Worked {
        Worked::by(|store, rows| self.live(store, |changes| keep(changes, rows)))
    }

    /// The same before the last night, when the last day is still to be closed.
    ///
    /// # Panics
    /// Never: the store is in memory, and the events are good.
    #[must_use]
    pub fn work_days(&self) -> Worked {
        Worked::by(|store, rows| self.live_days(store, &mut |changes| keep(changes, rows)))
    }
}

/// Rows by key.
type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

impl Worked {
    fn by(work: impl FnOnce(&mut Store, &mut Rows)) -> Worked {
        let disk = MemoryDisk::default();
        let shared = Shared::simulated(&disk);
        let accounts = AccountMemory::new(1 << 30);
        let options = StoreOptions { shared, accounts, format: Format::NEWEST };
        let mut store = Store::open(Path::new("/work"), "bench", 0, &options).expect("in memory");
        let mut rows = Rows::new();
        work(&mut store, &mut rows);
        Worked::of(rows)
    }
}

/// Keeps the rows as they are now.
fn keep(changes: &[Change], rows: &mut Rows) {
    for change in changes.iter().filter(|change| change.stream == Stream::State) {
        match &change.value {
            Some(value) => drop(rows.insert(change.key.clone(), value.clone())),
            None => drop(rows.remove(&change.key)),
        }
    }
}

/// Rows of the accounts that were worked through their history.
#[derive(Debug, Clone)]
pub struct Worked {
    /// Rows that are of no account: the clock, the cohorts.
    common: Vec<(Vec<u8>, Vec<u8>)>,
    /// Rows of all accounts, one after the other: which of them, what follows its id in the key, and the value.
    rows: Vec<(i64, Vec<u8>, Vec<u8>)>,
    accounts: i64,
}

impl Worked {
    fn of(all: Rows) -> Worked {
        let mut worked = Worked { common: Vec::new(), rows: Vec::new(), accounts: 0 };
        let mut last: Vec<u8> = Vec::new();
        for (key, value) in all {
            let end = key.iter().position(|byte| *byte == 0).filter(|_| key[0] == b'A');
            let Some(end) = end else {
                worked.common.push((key, value));
                continue;
            };
            if key[..end] != last {
                last = key[..end].to_vec();
                worked.accounts += 1;
            }
            worked.rows.push((worked.accounts - 1, key[end..].to_vec(), value));
        }
        worked
    }

    /// Bytes of an account's rows, on average, keys included.
    #[must_use]
    pub fn bytes_per_account(&self) -> f64 {
        let id = account(0, 0, 1).len() + 1;
        let bytes = self.rows.iter().map(|(_, rest, value)| id + rest.len() + value.len());
        bytes.sum::<usize>() as f64 / self.accounts as f64
    }

    /// Restores so many accounts into an empty store, as the only partition's, of which no changelog knows.
    ///
    /// # Panics
    /// Where the store fails.
    pub fn fill(self, store: &mut Store, accounts: i64) {
        let Changelog { make, ends } = self.changelog(1, accounts);
        for offset in 0..ends[0] {
            let Fed { key, payload, .. } = make(0, offset);
            let restored = store.restore(Stream::State, 0, &key, Some(&payload));
            restored.expect("a store that works and good rows");
        }
        store.finish_restore(&[]).expect("a store that works");
    }

    /// A changelog in which each partition has so many accounts.
    #[must_use]
    pub fn changelog(self, partitions: i32, accounts: i64) -> Changelog {
        let common = self.common.len() as i64;
        let cycle = self.rows.len() as i64;
        let rest = accounts % self.accounts;
        let of_rest = self.rows.partition_point(|(worked, ..)| *worked < rest) as i64;
        let end = common + accounts / self.accounts * cycle + of_rest;
        let make = move |partition: i32, offset: i64| {
            let Ok(row) = usize::try_from(offset - common) else {
                let (key, payload) = self.common[offset as usize].clone();
                return Fed { key, payload, at_ms: 0 };
            };
            let (worked, rest, value) = &self.rows[row % self.rows.len()];
            let place = (row / self.rows.len()) as i64 * self.accounts + worked;
            let id = account(place, partition, partitions);
            let key = [b"A", id.as_bytes(), rest.as_slice()].concat();
            Fed { key, payload: value.clone(), at_ms: 0 }
        };
        Changelog { make: Arc::new(make), ends: (0..partitions).map(|_| end).collect() }
    }
}

/// What an account does a day, of each signal: customers differ in size by a factor of eight.
fn level(worked: usize) -> f64 {
    (1.0 + (worked % 8) as f64) * 2.0
}

/// The account at a place in a partition.
fn account(place: i64, partition: i32, partitions: i32) -> String {
    format!("acct-{:07}", place * i64::from(partitions) + i64::from(partition))
}

fn event(account: &str, id: &str, signal: u32, at: Millis, value: f64) -> Event {
    Event {
        id: EventId::new(id).expect("digits"),
        account: AccountId::new(account).expect("letters and digits"),
        occurred_at: at,
        kind: name(signal),
        member: None,
        role: None,
        feature: None,
        value: Some(value),
        segment: None,
    }
}

fn name(signal: u32) -> String {
    format!("signal_{signal:02}")
}

/// Milliseconds over which so many events of each account come, at so many a day.
#[must_use]
pub fn span_ms(events: i64, accounts: i64, per_account_day: i64) -> i64 {
    (events * DAY_MS) / (accounts * per_account_day)
}
