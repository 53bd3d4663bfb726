//! How fast history is replayed from a local file, and what a challenger beside the champion costs.
//!
//! `cargo run --release -p bellwether-benches --bin replay` measures, writes `benches/results/replay.json` and the README's table; with
//! `--render` it only writes the table. One thread, as `bellwether replay` has; times are its CPU times, so that a busy machine does not
//! count. Reading and parsing the file is part of it.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bellwether_benches::report::{cpu, machine, placed, replay_table};
use bellwether_benches::{Random, fleet};
use bellwether_core::event::Input;
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::Output;
use bellwether_core::policy::Compiled;
use bellwether_core::promotion::Promotion;
use bellwether_core::score::Scorer;
use bellwether_core::state::{MemoryState, State};
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Millis};
use bellwether_learn::example::Example;
use bellwether_learn::feature::features;
use bellwether_learn::scorer::LearnedScorer;
use bellwether_learn::train::{Training, train};
use bellwether_wire::files;
use serde_json::{Value, json};

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results/replay.json");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
/// Name, accounts, days, and events of an account and day: how often a day is closed decides what an event costs.
const FLEETS: [(&str, u32, i32, u32); 4] = [
    ("sparse", 100, 120, 4),
    ("busy", 20, 120, 64),
    ("dense", 2, 120, 1_000),
    ("densest", 1, 120, 10_000),
];
/// Runs of each kind, in turn; the fastest counts.
const RUNS: usize = 2;
/// Horizon of the challenger's outcome.
const HORIZON_DAYS: u32 = 28;

/// Events as products send them: logins of members, features, calls, now and then a ticket.
fn write(path: &Path, (accounts, days, a_day): (u32, i32, u32)) -> std::io::Result<u64> {
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    let mut random = Random::new(7);
    let mut events = 0;
    writeln!(file, "event_id,account_id,user_id,signal,object,value,occurred_at")?;
    for day in 0..days {
        let midnight = fleet::start(fleet::FIRST_DAY.plus(day)).0;
        for number in 0..a_day {
            let at = midnight + i64::from(number) * DAY_MS / i64::from(a_day);
            for account in 0..accounts {
                let (kind, object, value) = match random.below(20) {
                    0..10 => ("login", "", 1),
                    10..15 => ("feature.used", "export", 1),
                    15..19 => ("api.called", "", 5),
                    _ => ("ticket.opened", "", 1),
                };
                let member = random.below(5);
                writeln!(
                    file,
                    "{events},account-{account},m{member},{kind},{object},{value},{at}"
                )?;
                events += 1;
            }
        }
    }
    file.flush()?;
    Ok(events)
}

/// A model for the policy. What it knows is made up; what it costs is not.
fn model(policy: &Compiled) -> Arc<dyn Scorer> {
    let features = features(policy);
    let mut random = Random::new(11);
    let example = |number: u32| Example {
        account: AccountId::new(&format!("a{number}")).expect("letters and digits"),
        cohort: String::new(),
        at: Millis(i64::from(number % 50) * 7 * DAY_MS),
        features: features.iter().map(|_| f64::from(random.below(100)) / 100.0 - 0.5).collect(),
        left_after_ms: number.is_multiple_of(9).then_some(DAY_MS),
        weight: 1.0,
    };
    let examples: Vec<Example> = (0..2_000).map(example).collect();
    let training = Training { horizon_days: HORIZON_DAYS, step_days: 7, cut: None };
    let trained = train(&features, &examples, &training).expect("examples that can be used");
    Arc::new(LearnedScorer::new("bench", HORIZON_DAYS, trained.card))
}

fn core() -> Core {
    let policy = Arc::new(Compiled::default_policy());
    let model = model(&policy);
    Core::new(policy).reading(Arc::new(move |_: &str, _: &Compiled| Ok(Arc::clone(&model))))
}

/// Seconds of CPU that a replay takes, and how many pairs of scores a challenger made of it.
fn replay(core: &Core, path: &Path, challenger: bool) -> (f64, u64) {
    let mut state = MemoryState::default();
    let mut out: Vec<Output> = Vec::new();
    if challenger {
        let model = Some("bench".to_owned());
        let record = Promotion { from: Millis(0), model, by: None, began: None };
        let id = EventId::new("bench").expect("letters");
        let input = Input::Challenger { id, challenger: record };
        let Ok(verdict) = core.apply(&mut state, input, Millis(0), &mut out);
        verdict.expect("it can be read");
    }
    let started = cpu();
    let mut pairs = 0;
    for event in files::open(path).expect("a file that was written") {
        let event = event.expect("a good line");
        let at = event.occurred_at;
        let Ok(verdict) = core.apply(&mut state, Input::Event(event), at, &mut out);
        verdict.expect("a good event");
        pairs += out.drain(..).filter(|output| matches!(output, Output::Shadow(_))).count();
    }
    if let Some(end) = state.clock().newest {
        let Ok(verdict) = core.apply(&mut state, Input::Tick, end, &mut out);
        verdict.expect("time passes");
    }
    ((cpu() - started).as_secs_f64(), pairs as u64)
}

fn measure(dir: &Path, (name, accounts, days, a_day): (&str, u32, i32, u32)) -> Value {
    let path: PathBuf = dir.join(format!("{name}.csv"));
    let events = write(&path, (accounts, days, a_day)).expect("a place for the file");
    let core = core();
    let (mut alone, mut beside, mut pairs) = (f64::MAX, f64::MAX, 0);
    for _ in 0..RUNS {
        alone = alone.min(replay(&core, &path, false).0);
        let (took, made) = replay(&core, &path, true);
        beside = beside.min(took);
        pairs = made;
    }
    json!({
        "name": name, "accounts": accounts, "days": days, "events_per_account_day": a_day, "events": events,
        "events_per_cpu_second": events as f64 / alone,
        "events_per_cpu_second_with_challenger": events as f64 / beside,
        "challenger_extra_cpu": beside / alone - 1.0, "challenger_pairs": pairs,
    })
}

fn main() {
    if !std::env::args().any(|argument| argument == "--render") {
        let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let fleets: Vec<Value> = FLEETS.map(|fleet| measure(dir.path(), fleet)).to_vec();
        let results = json!({ "machine": machine(), "profile": profile, "fleets": fleets });
        println!("{results:#}");
        std::fs::write(RESULTS, format!("{results:#}\n")).expect("a place for results");
    }
    let results = std::fs::read(RESULTS).expect("results");
    let results: Value = serde_json::from_slice(&results).expect("JSON");
    let readme = std::fs::read_to_string(README).expect("the README");
    let readme = placed(&readme, "replay", &replay_table(&results)).expect("a place in the README");
    std::fs::write(README, readme).expect("a place for the README");
}
