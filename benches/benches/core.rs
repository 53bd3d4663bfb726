//! The pure core: events into the default policy with its seventeen signals, state in memory. Run with `cargo bench -p bellwether-benches`.

use std::hint::black_box;
use std::sync::Arc;

use bellwether_benches::events;
use bellwether_core::event::Input;
use bellwether_core::policy::Compiled;
use bellwether_core::state::MemoryState;
use bellwether_core::step::Core;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn core() -> Core {
    Core::new(Arc::new(Compiled::default_policy()))
}

/// Applies everything; returns how many records came out.
fn run(core: &Core, state: &mut MemoryState, events: Vec<bellwether_core::event::Event>) -> usize {
    let mut out = Vec::new();
    for event in events {
        let at = event.occurred_at;
        let Ok(verdict) = core.apply(state, Input::Event(event), at, &mut out);
        black_box(&verdict);
    }
    out.len()
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

criterion_group!(benches, day);
criterion_main!(benches);
