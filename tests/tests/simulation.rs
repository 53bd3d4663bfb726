//! Deterministic simulation: whole workers (the real core, the real store logic, the real worker loop) on a model of the broker and
//! of the disk, under faults that a seed decides, against an oracle that never fails.
//!
//! A failure names its seed. `BELLWETHER_SIMULATION_SEED=<seed> cargo test -p bellwether-tests --test simulation` runs that one
//! alone; `BELLWETHER_SIMULATION_SCHEDULES=1000000` runs as many, from a random seed on.

#[path = "simulation/broker.rs"]
mod broker;
#[path = "simulation/follow.rs"]
mod follow;
#[path = "simulation/log.rs"]
mod log;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/world.rs"]
mod world;

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use oracle::Found;
use world::{Fixed, Trouble, World};

/// Schedules of a normal test run.
const SCHEDULES: u64 = 2_000;
/// Steps of a schedule, at most: some weeks of event time.
const STEPS_MAX: u64 = 400;

/// Runs one schedule to its end and verifies it.
fn schedule(fixed: &Fixed, seed: u64) -> (Found, Trouble) {
    let mut world = World::new(fixed, seed);
    world.run(u32::try_from(20 + seed.wrapping_mul(7919) % STEPS_MAX).expect("small"));
    let found = oracle::verify(&world, &fixed.core, &fixed.topics);
    (found, world.trouble)
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}, not a number")))
}

#[test]
fn committed_outputs_and_state_are_those_of_a_process_that_never_failed() {
    let fixed = Fixed::new();
    if let Some(seed) = variable("BELLWETHER_SIMULATION_SEED") {
        let (found, trouble) = schedule(&fixed, seed);
        println!("seed {seed}: {found:?} {trouble:?}");
        return;
    }
    let wanted = variable("BELLWETHER_SIMULATION_SCHEDULES");
    let schedules = wanted.unwrap_or(SCHEDULES);
    // A normal run is the same everywhere; a long one looks where none has looked before.
    let first = if wanted.is_some() { fastrand::u64(..u64::MAX / 2) } else { 1 };
    let next = AtomicU64::new(0);
    let total = Mutex::new((Found::default(), Trouble::default()));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= schedules {
                        break;
                    }
                    let seed = first + index;
                    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| schedule(&fixed, seed)));
                    let Ok((found, trouble)) = ran else {
                        next.store(schedules, Ordering::Relaxed);
                        panic!(
                            "seed {seed} failed: BELLWETHER_SIMULATION_SEED={seed} runs it alone"
                        );
                    };
                    let mut total = log::lock(&total);
                    total.0 += found;
                    total.1 += trouble;
                }
            });
        }
    });
    let (found, trouble) = *log::lock(&total);
    println!(
        "{schedules} schedules in {:.1} s: {found:?} {trouble:?}",
        started.elapsed().as_secs_f64()
    );
    // A simulation in which nothing happens proves nothing.
    for (what, count) in [
        ("records processed", found.inputs),
        ("outputs", found.outputs),
        ("dead letters", found.dead_letters),
        ("days closed", found.days_closed),
        ("accounts deleted", found.forgotten),
        ("scores by promoted models", found.by_model),
        ("scores by challengers", found.beside),
        ("examples to learn from", found.examples),
        ("closes that were cut", found.cut_closes),
        ("messages between partitions", found.told),
        ("stores compared", found.live_stores),
        ("rejected records counted", found.rejected),
        ("power cuts", trouble.cuts),
        ("full disks", trouble.disk_full),
        ("damaged stores", trouble.damaged),
        ("members put out", trouble.rebalances),
        ("workers frozen", trouble.frozen),
        ("standbys", trouble.standbys),
        ("standby copies compared", found.standby_copies),
        ("commits that met a rebalance", trouble.rewinds),
    ] {
        assert!(count > 0, "no {what} in {schedules} schedules");
    }
}
