//! Instructions of the event path, counted by Valgrind's callgrind: on a busy machine the same as on an idle one, so a build can be held to them.
//!
//! What is counted is the worker itself with its stores on disk, on a log that costs nothing ([`crate::feed`]), and with a clock that stands
//! still. State is made beforehand, without Valgrind; accounts are read from it as after a restart.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bellwether_core::policy::Compiled;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Day};
use bellwether_engine::topics::TopicNames;
use serde_json::{Value, json};

use crate::feed::{Changelog, Fed, Feed, Make, fed};
use crate::fleet::start;
use crate::peer::{self, Lateness, Zipf};
use crate::rig::{Budget, Rig};
use crate::{Random, full_accounts};

/// Where the committed counts are.
pub const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results/instructions.json");
/// By how much a count may exceed the committed one, in percent.
pub const MARGIN_PCT: u64 = 10;
/// Memory budget, in MiB: nothing is evicted or flushed meanwhile.
const BUDGET_MIB: usize = 256;

/// Functions whose share is shown: the type or trait, and the method. The log is the benchmark's own, and is left out of the sum.
const STAGES: [(&str, &str, &str); 9] = [
    (OWN, "Log", "poll"),
    (OWN, "Log", "commit"),
    ("decode", "Decoder", "event"),
    ("close what comes first", "Core", "close_before"),
    ("apply", "Core", "apply"),
    ("encode outputs", "Encoder", "encode"),
    ("rows", "Store", "staged"),
    ("write", "Store", "commit"),
    ("publish to the read model", "ReadModel", "publish"),
];

const OWN: &str = "the log of the benchmark";

/// A fixed piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// The peer's job: a score after every event, by the rolling detector.
    Peer,
    /// The default policy for accounts that use everything, with the closes of their days.
    Default,
}

impl Workload {
    /// Both.
    pub const ALL: [Workload; 2] = [Workload::Peer, Workload::Default];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Workload::Peer => "peer",
            Workload::Default => "default",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Workload> {
        Workload::ALL.into_iter().find(|workload| workload.name() == name)
    }

    fn core(self) -> Core {
        let policy = match self {
            Workload::Peer => Compiled::parse("peer.toml", peer::POLICY_TOML),
            Workload::Default => Ok(Compiled::default_policy()),
        };
        Core::new(Arc::new(policy.expect("a committed policy")))
    }

    /// Partitions; input of each before counting begins; and where it ends.
    fn bounds(self) -> (i32, i64, i64) {
        match self {
            Workload::Peer => (4, 5_000, 10_000),
            Workload::Default => (1, 6_000, 8_000),
        }
    }

    /// Records that are counted.
    #[must_use]
    pub fn events(self) -> i64 {
        let (partitions, from, to) = self.bounds();
        (to - from) * i64::from(partitions)
    }

    fn input(self) -> Make {
        match self {
            Workload::Peer => peers_input(),
            Workload::Default => defaults_input(),
        }
    }

    fn rig(self, dir: &Path, from: i64) -> Rig {
        let (partitions, ..) = self.bounds();
        let feed = Feed::new(&TopicNames::default(), self.input(), Changelog::empty(partitions))
            .beginning_at(from);
        let mut rig = Rig::new(dir, &Budget::mib(BUDGET_MIB), self.core(), feed).out_of_time();
        rig.restore();
        rig
    }

    /// Makes the state from which counting begins.
    pub fn prepare(self, dir: &Path) {
        let (_, from, _) = self.bounds();
        let mut rig = self.rig(dir, 0);
        rig.run_to(from);
        rig.stop();
    }

    /// Does what is counted, in a process that Valgrind watches.
    pub fn work(self, dir: &Path) {
        let (_, from, to) = self.bounds();
        let mut rig = self.rig(dir, from);
        let done = counted_work(&mut rig, to);
        assert!(done > 0, "something is committed");
        rig.stop();
    }
}

/// Callgrind collects from its beginning to its end. What follows the work keeps it from becoming a jump.
#[inline(never)]
fn counted_work(rig: &mut Rig, to: i64) -> u64 {
    rig.run_to(to);
    rig.counts().transactions
}

/// Ten weeks of the peer's events.
fn peers_input() -> Make {
    const ACCOUNTS: usize = 500;
    const EVERY_MS: i64 = 70 * DAY_MS / 10_000;
    let zipf = Zipf::new(ACCOUNTS, 0.9);
    Arc::new(move |partition, offset| {
        let number = offset * 4 + i64::from(partition);
        let mut random = Random::scattered(number.unsigned_abs());
        let account = format!("acct-{:06}", zipf.sample(&mut random) * 4 + partition as usize);
        let now = start(Day(20_000)).0 + offset * EVERY_MS;
        let mut json = String::with_capacity(256);
        let late = Lateness { per_mille: 30, spread_ms: 600_000 };
        peer::event(&mut random, &mut json, &account, now, late);
        Fed { key: account.into_bytes(), payload: json.into_bytes(), at_ms: now }
    })
}

/// Weeks of a few accounts that use everything.
fn defaults_input() -> Make {
    let fed: Vec<Fed> = full_accounts(8, 60).iter().map(fed).collect();
    Arc::new(move |_, offset| fed[usize::try_from(offset).unwrap_or(usize::MAX)].clone())
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Instructions in user space.
    pub instructions: u64,
    /// Those of the stages that could be told apart. They may contain each other.
    pub stages: Vec<(&'static str, u64)>,
}

impl Count {
    /// For the file of results.
    #[must_use]
    pub fn json(&self, workload: Workload) -> Value {
        let stages: serde_json::Map<String, Value> =
            self.stages.iter().map(|(name, count)| ((*name).to_owned(), (*count).into())).collect();
        json!({ "events": workload.events(), "instructions": self.instructions, "stages": stages })
    }
}

/// What compiles this, as far as it decides how many instructions there are.
#[must_use]
pub fn toolchain() -> String {
    let said = Command::new("rustc").arg("--version").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.unwrap_or_else(|_| "an unknown compiler".to_owned())
}

/// Why nothing was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Counts what a workload takes, in a program that does it when it is called with `--work NAME DIR`.
///
/// # Errors
/// Valgrind is missing, or the program fails under it.
pub fn count(program: &Path, workload: Workload) -> Result<Count, Failed> {
    let dir =
        tempfile::tempdir().map_err(|error| Failed(format!("no scratch directory: {error}")))?;
    workload.prepare(dir.path());
    let file = dir.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*counted_work*", "--error-exitcode=99"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(["--work", workload.name()])
        .arg(dir.path())
        // What stands in the environment lies on the stack.
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .output()
        .map_err(|error| {
            Failed(format!(
                "valgrind cannot be run ({error}); install it: deploy/setup.sh --for test"
            ))
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failed(format!(
            "the workload failed under valgrind: {}\n{said}",
            output.status
        )));
    }
    let text = std::fs::read_to_string(&file)
        .map_err(|error| Failed(format!("callgrind wrote nothing: {error}")))?;
    parse(&text)
}

/// Reads callgrind's output (format: valgrind.org/docs/manual/cl-format.html).
fn parse(text: &str) -> Result<Count, Failed> {
    let total: Option<u64> =
        text.lines().find_map(|line| line.strip_prefix("summary: ")?.trim().parse().ok());
    let instructions = total.filter(|total| *total > 0).ok_or_else(|| {
        Failed("callgrind counted nothing: was `counted_work` inlined?".to_owned())
    })?;
    let mut names: Vec<(&str, usize)> = Vec::new();
    let mut totals = [0u64; STAGES.len()];
    let (mut callee, mut is_call) = (None, false);
    for line in text.lines() {
        if is_call {
            is_call = false;
            let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse::<u64>().ok());
            if let Some((stage, cost)) = callee.take().zip(cost) {
                totals[stage] += cost;
            }
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if let Some(spec) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
            // `(12) name` where a name first occurs, and `(12)` from then on.
            let (id, name) = spec.split_once(' ').unwrap_or((spec, ""));
            if let Some(stage) = stage_of(name) {
                names.push((id, stage));
            }
            let known = names.iter().find(|(known, _)| *known == id).map(|(_, stage)| *stage);
            callee = known.filter(|_| line.starts_with('c'));
        }
    }
    let stages = STAGES.iter().zip(totals).map(|((name, ..), total)| (*name, total));
    let (own, stages): (Vec<_>, Vec<_>) =
        stages.filter(|(_, total)| *total > 0).partition(|(name, _)| *name == OWN);
    let own: u64 = own.iter().map(|(_, total)| total).sum();
    Ok(Count { instructions: instructions - own, stages })
}

/// Which stage a function is, by its name as callgrind shows it: a path (`<impl a::Type>` where the method stands in another module), perhaps with
/// a hash behind it.
fn stage_of(name: &str) -> Option<usize> {
    let path = name.rsplit_once("::h").filter(|(_, hash)| hash.len() == 16);
    let (of, method) = path.map_or(name, |(path, _)| path).rsplit_once("::")?;
    let of = of.trim_end_matches('>').rsplit("::").next()?;
    STAGES.iter().position(|(_, name, wanted)| of == *name && method == *wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_of_calls_are_those_of_the_functions_called() {
        let text = "events: Ir\nfn=(1) bench::counted_work\n10 5\ncfn=(2) wire::decode::Decoder::event::h0123456789abcdef\ncalls=3 7\n\
            +1 300\ncfn=(3) core::step::Core::apply_input\ncalls=1 7\n* 40\nfn=(4) engine::worker\n1 2\ncfn=(2)\ncalls=1 7\n-2 100\n\
            cfn=(6) <bench::Feed as engine::log::Log>::poll\ncalls=1 7\n* 50\ncfn=(5) core::due::<impl core::step::Core>::close_before\ncalls=1 7\n1 7\nsummary: 497\n";
        let count = parse(text).expect("a file of this format");
        assert_eq!(
            count,
            Count {
                instructions: 447,
                stages: vec![("decode", 400), ("close what comes first", 7)]
            }
        );
        assert!(parse("events: Ir\nsummary: 0\n").is_err());
    }
}
