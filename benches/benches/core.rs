//! The pure core, state in memory. Run with `cargo bench -p bellwether-benches --bench core`.
//!
//! What the core keeps to itself is measured by the nearest function that it shows: `admit` is an event that is refused, or feeds nothing, after
//! all of admission; `baseline_update` is an event of an account with history, on a day that stays open.

use std::hint::black_box;
use std::sync::Arc;

use bellwether_benches::{Random, events, full_accounts, peer};
use bellwether_core::account::Account;
use bellwether_core::corroborate::{self, Asked};
use bellwether_core::detect::{Detector as _, RobustDetector, Series};
use bellwether_core::event::{Event, Input};
use bellwether_core::expect::expect;
use bellwether_core::id::EventId;
use bellwether_core::policy::Compiled;
use bellwether_core::score::{Context, ExpertScorecard, Reading, Scorer as _};
use bellwether_core::state::MemoryState;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, MINUTE_MS, Millis};
use bellwether_wire::decode::{Decoder, RECORD_BYTES_MAX};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn core() -> Core {
    Core::new(Arc::new(Compiled::default_policy()))
}

/// Applies everything; returns how many records came out.
fn run(core: &Core, state: &mut MemoryState, events: Vec<Event>) -> usize {
    let mut out = Vec::new();
    for event in events {
        let at = event.occurred_at;
        let Ok(verdict) = core.apply(state, Input::Event(event), at, &mut out);
        black_box(&verdict);
    }
    out.len()
}

/// Accounts that use everything, for 14 weeks, and what the last day had.
fn full() -> (MemoryState, Vec<Event>) {
    let events = full_accounts(10, 98);
    let last = events.last().map_or(Millis(0), |event| event.occurred_at.plus(-DAY_MS));
    let mut state = MemoryState::default();
    run(&core(), &mut state, events.clone());
    let of_last_day = events.into_iter().filter(|event| event.occurred_at > last).collect();
    (state, of_last_day)
}

/// The same events again, as new ones, a minute later: each time with ids of their own.
struct Renewed {
    events: Vec<Event>,
    number: usize,
}

impl Renewed {
    fn next(&mut self) -> Event {
        let mut event = self.events[self.number % self.events.len()].clone();
        self.number += 1;
        event.id = EventId::new(&format!("again-{}", self.number)).expect("letters and digits");
        event.occurred_at = event.occurred_at.plus(MINUTE_MS);
        event
    }
}

/// Applies one event after the other to a state that goes on.
fn one_by_one(
    criterion: &mut Criterion,
    name: &str,
    core: &Core,
    state: &mut MemoryState,
    mut next: impl FnMut() -> Event,
) {
    let mut out = Vec::new();
    criterion.bench_function(name, |bencher| {
        bencher.iter_batched(
            &mut next,
            |event| {
                out.clear();
                let at = event.occurred_at;
                let Ok(verdict) = core.apply(state, Input::Event(event), at, &mut out);
                black_box(&verdict);
            },
            BatchSize::SmallInput,
        );
    });
}

fn admit(criterion: &mut Criterion) {
    let core = core();
    let (state, events) = full();
    let mut again = events.iter().cycle().cloned();
    let next = || again.next().expect("a day has events");
    one_by_one(criterion, "admit/duplicate", &core, &mut state.clone(), next);
    let mut of_no_signal = Renewed { events, number: 0 };
    let next = || Event { kind: "something.else".to_owned(), ..of_no_signal.next() };
    one_by_one(criterion, "admit/of_no_signal", &core, &mut state.clone(), next);
}

fn baseline_update(criterion: &mut Criterion) {
    let (mut state, events) = full();
    let mut daily = Renewed { events, number: 0 };
    one_by_one(criterion, "baseline_update/daily", &core(), &mut state, || daily.next());

    let policy = Compiled::parse("peer.toml", peer::POLICY_TOML).expect("a committed policy");
    let (core, mut state) = (Core::new(Arc::new(policy)), MemoryState::default());
    let events = peers_events();
    run(&core, &mut state, events.clone());
    let mut rolling = Renewed { events: events[events.len() - 1_000..].to_vec(), number: 0 };
    one_by_one(criterion, "baseline_update/rolling", &core, &mut state, || rolling.next());
}

/// Ten weeks of the peer's input for 200 accounts, a hundred events each.
fn peers_events() -> Vec<Event> {
    let mut decoder = Decoder::new(None, RECORD_BYTES_MAX).expect("no registry");
    let mut random = Random::new(42);
    let mut json = String::new();
    let late = peer::Lateness { per_mille: 0, spread_ms: 600_000 };
    (0..20_000i64)
        .map(|number| {
            let account = format!("acct-{:06}", random.below(200));
            let now = 20_000 * DAY_MS + number * (70 * DAY_MS / 20_000);
            peer::event(&mut random, &mut json, &account, now, late);
            decoder.event(None, Some(json.as_bytes())).expect("a good event")
        })
        .collect()
}

fn deviation(criterion: &mut Criterion) {
    let policy = Compiled::default_policy();
    let mut random = Random::new(7);
    let daily: Vec<f64> = (0..126).map(|_| f64::from(random.below(40))).collect();
    let weekly: Vec<f64> = daily.rchunks(7).map(|week| week.iter().sum()).collect();
    let series = Series { daily: &daily, last_weekday: 6, held: 0, weekly: &weekly };
    for name in ["logins", "session_minutes"] {
        let signal = policy.signals.iter().find(|signal| signal.name == name);
        let signal = signal.expect("a signal of the default policy");
        criterion.bench_function(&format!("deviation/of_18_weeks/{name}"), |bencher| {
            bencher.iter(|| RobustDetector.judge(signal, black_box(series), &policy));
        });
        let judged = RobustDetector.judge(signal, series, &policy);
        let baseline = judged.baseline.expect("18 weeks are enough");
        criterion.bench_function(&format!("deviation/of_a_week/{name}"), |bencher| {
            bencher.iter(|| RobustDetector.judge_week(signal, black_box(90.0), &baseline));
        });
    }
}

fn corroborate(criterion: &mut Criterion) {
    let core = core();
    let (state, _) = full();
    let account = state.accounts().into_values().next().expect("an account");
    let mut cohorts = state.known_cohorts().clone();
    let day = account.history.newest.expect("closed days");
    let at = account.hot.today_ends_at;
    criterion.bench_function("corroborate/expect", |bencher| {
        bencher.iter(|| expect(black_box(account), core.policy(), &mut cohorts, day));
    });
    let expected = expect(account, core.policy(), &mut cohorts, day);
    criterion.bench_function("corroborate/judge", |bencher| {
        bencher.iter_batched(
            || expected.clone(),
            |expected| {
                let when = (day, at);
                corroborate::judge(&core, account, &mut cohorts, expected, when, Asked::Closed)
            },
            BatchSize::SmallInput,
        );
    });
}

/// The readings of an account's signals, as far as they have a baseline.
fn readings(account: &Account) -> Vec<(usize, Reading)> {
    let signals = account.hot.signals.iter().enumerate();
    let known = signals.filter_map(|(index, state)| {
        let (baseline, value) = (state.baseline?, state.observed?);
        Some((index, Reading { value, baseline, z: (value - baseline.level) / baseline.spread }))
    });
    known.collect()
}

fn score(criterion: &mut Criterion) {
    let core = core();
    let policy = core.policy();
    let (state, _) = full();
    let account = state.accounts().into_values().next().expect("an account");
    let readings = readings(account);
    assert!(!readings.is_empty(), "14 weeks make baselines");
    let context = Context { quiet_days: 1.0, active_days: 20.0, tenure_days: 400.0, settled: 1.0 };
    criterion.bench_function("score/lines", |bencher| {
        bencher.iter(|| {
            for (index, reading) in black_box(&readings) {
                let signal = &policy.signals[*index];
                black_box(ExpertScorecard.signal("smb", signal, reading, policy));
            }
            ExpertScorecard.context(&context, policy)
        });
    });
    criterion.bench_function("score/health_record", |bencher| {
        bencher.iter_batched(
            || Account::clone(account),
            |account| core.record(account),
            BatchSize::SmallInput,
        );
    });
}

/// Events of a day for accounts with 12 weeks of history, and the day closes that they bring about.
fn day(criterion: &mut Criterion) {
    const ACCOUNTS: u32 = 200;
    let core = core();
    let all = events(ACCOUNTS, 86);
    let (history, last) = all.split_at(all.len() - ACCOUNTS as usize * 12);
    let mut warm = MemoryState::default();
    run(&core, &mut warm, history.to_vec());
    let mut group = criterion.benchmark_group("core");
    group.throughput(Throughput::Elements(last.len() as u64));
    group.bench_function("two_days_with_closes", |bencher| {
        bencher.iter_batched(
            || (warm.clone(), last.to_vec()),
            |(mut state, events)| run(&core, &mut state, events),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, admit, baseline_update, deviation, corroborate, score, day);
criterion_main!(benches);
