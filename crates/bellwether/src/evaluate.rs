//! `bellwether evaluate`: the engine judged on the data of the evaluation kit.
//!
//! Events are replayed as `bellwether replay` does it, by the same code; what comes out is judged by the kit's own scripts. One directory
//! collects what was found: per set `scores.csv`, `alerts.csv` and timelines of accounts, over all sets `evaluation.json` and
//! `report.html`. Everything in `evaluation.json` beside `machine` is a function of the kit, the policy and the seeds.
//!
//! Deliberately absent: any parameter that is fitted here.

mod ablation;
mod budget;
mod calibration;
mod curves;
mod family;
pub(crate) mod figure;
mod kit;
mod learned;
mod nab;
mod report;
mod results;
mod sets;
mod tables;
mod timeline;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use bellwether_core::output::Output;
use bellwether_core::policy::Compiled;
use bellwether_core::step::Core;
use bellwether_core::time::Millis;
use serde_json::{Map, Value, json};

use crate::cli::{EvaluateArgs, SetName};
use crate::replay::{Replay, Writers};
use crate::usage::wrong;
use family::Families;
use kit::{Kit, text};
use sets::{SCENARIOS, USAGE_SETS, UsageSet};
use timeline::Subject;

/// Runs the command.
pub(crate) fn run(args: &EvaluateArgs, base: &Compiled, json: bool) -> Result<()> {
    if let Some(results) = &args.results {
        return finish(&results::read(results)?, args.readme.as_deref(), json);
    }
    let kit = Kit::open(args)?;
    if args.seeds.is_empty() || args.budgets.iter().any(|budget| !budget.is_finite()) {
        wrong!("--seeds and --budgets are lists of numbers, e.g. 4,5,6")
    }
    fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let results = args.out.join("evaluation.json");
    let mut found = if results.exists() { results::read(&results)? } else { json!({}) };
    let work = Work { args, base, kit: &kit, quiet: json };
    let wanted = |set: SetName| args.set == Some(set) || args.set == Some(SetName::All);
    for set in USAGE_SETS.iter().filter(|set| wanted(set.which)) {
        found[set.name] = work.timed(|| work.usage_set(set))?;
        results::write(&results, &found)?;
    }
    type Judge<'w> = fn(&Work<'w>) -> Result<Value>;
    let others: [(SetName, &str, Judge<'_>); 5] = [
        (SetName::Learned, "learned", Work::learned),
        (SetName::Nab, "nab", Work::nab),
        (SetName::Power, "power", Work::power),
        (SetName::Calibration, "calibration", Work::calibration),
        (SetName::Ablation, "ablation", Work::ablation),
    ];
    for (_, name, judge) in others.into_iter().filter(|(set, ..)| wanted(*set)) {
        found[name] = work.timed(|| judge(&work))?;
        results::write(&results, &found)?;
    }
    report::figures(&found, &args.out)?;
    let report = args.out.join("report.html");
    fs::write(&report, report::page(&found, &args.out)?)
        .with_context(|| report.display().to_string())?;
    finish(&found, args.readme.as_deref(), json)?;
    if !json {
        println!("\n{}\n{}", results.display(), report.display());
    }
    Ok(())
}

/// Prints the tables, and writes them into a file with markers.
fn finish(found: &Value, readme: Option<&Path>, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(found)?);
    } else {
        print!("{}", tables::markdown(found));
    }
    let Some(path) = readme else { return Ok(()) };
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let Some(text) = tables::replaced(&text, &tables::markdown(found)) else {
        wrong!(
            "{} has no block between `{}` and `{}`, each on a line of its own",
            path.display(),
            tables::MARKERS.0,
            tables::MARKERS.1
        )
    };
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// Which events are replayed where scores are wanted.
#[derive(Debug, Clone, Copy)]
enum Scores<'a> {
    All,
    /// Those before a date.
    Before(&'a str),
}

/// What a run works with.
struct Work<'a> {
    args: &'a EvaluateArgs,
    base: &'a Compiled,
    kit: &'a Kit,
    quiet: bool,
}

impl Work<'_> {
    /// Adds what it ran on, which is all that may differ between two runs.
    fn timed(&self, judge: impl FnOnce() -> Result<Value>) -> Result<Value> {
        let started = Instant::now();
        let mut found = judge()?;
        found["bellwether"] = env!("CARGO_PKG_VERSION").into();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        found["machine"]["cpu"] = cpu_model().into();
        found["machine"]["cores"] = cores.into();
        found["machine"]["python"] = self.kit.versions()?.into();
        found["machine"]["seconds"] = started.elapsed().as_secs().into();
        Ok(results::rounded(found))
    }

    fn dir(&self, parts: &[&str]) -> Result<PathBuf> {
        let dir = parts.iter().fold(self.args.out.clone(), |dir, part| dir.join(part));
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(dir)
    }

    /// Replays a file, and writes its alerts, their families, and its scores if asked to, into a directory.
    fn replay(
        &self,
        policy: &Compiled,
        events: &Path,
        dir: &Path,
        scores: Option<Scores<'_>>,
    ) -> Result<Value> {
        let families = Families::default();
        let core = Core::new(Arc::new(policy.clone())).observed(families.observer());
        let summary = self.run(core, families.watch(policy), events, dir, scores)?;
        families.write(&dir.join("families.csv"))?;
        Ok(summary)
    }

    /// Replays a file through a core.
    fn run(
        &self,
        core: Core,
        watch: impl FnMut(&Output) + 'static,
        events: &Path,
        dir: &Path,
        scores: Option<Scores<'_>>,
    ) -> Result<Value> {
        let file = scores.map(|_| dir.join("scores.csv"));
        let writers = Writers::create(file.as_deref(), Some(&dir.join("alerts.csv")))?;
        let mut replay = Replay::new(core, writers).watched(watch);
        let cut = match scores {
            Some(Scores::Before(cut)) => Millis::parse(cut),
            Some(Scores::All) | None => None,
        };
        replay.file(events, cut, self.quiet)?;
        replay.finish(cut)?;
        let mut summary = serde_json::to_value(replay.summary())?;
        if let Some(summary) = summary.as_object_mut() {
            summary.remove("seconds");
        }
        Ok(summary)
    }

    fn usage_set(&self, set: &UsageSet) -> Result<Value> {
        let policy = set.policy(self.base)?;
        let events = self.kit.events(set.name);
        self.say(&format!("{}: {}", set.name, set.title));
        let dir = self.dir(&[set.name])?;
        let summary = self.replay(&policy, &events, &dir, Some(Scores::All))?;
        let cut_dir = self.dir(&[set.name, "cut"])?;
        self.replay(&policy, &events, &cut_dir, Some(Scores::Before(set.cut)))?;
        let own = policy.corroboration.false_high_per_year;
        let mut alerts = Map::new();
        for &budget in self.args.budgets.iter().chain([&own]) {
            let at = if budget == own {
                dir.clone()
            } else {
                let at = self.dir(&[set.name, &format!("budget-{budget}")])?;
                self.replay(&sets::with_budget(&policy, budget)?, &events, &at, None)?;
                at
            };
            alerts.insert(budget.to_string(), text(&at.join("alerts.csv")).into());
        }
        let judged = set.judged.iter().map(|name| {
            self.kit.judge(&json!({
                "do": "set", "name": name, "scores": text(&dir.join("scores.csv")),
                "cut_scores": text(&cut_dir.join("scores.csv")), "cut": set.cut,
                "alerts": alerts, "default": own.to_string(),
            }))
        });
        let judged: Vec<Value> = judged.collect::<Result<_>>()?;
        let figures = self.usage_figures(set, &policy, &judged[0])?;
        let files = [
            "referee.py",
            "anchors.py",
            &format!("data/{}_dev_events.csv.gz", set.name),
            &format!("data/{}_dev_outcomes.csv.gz", set.name),
        ];
        Ok(json!({
            "title": set.title, "tuned": set.tuned, "policy": policy.name, "policy_version": policy.version(),
            "signals": policy.signals.iter().map(|signal| &signal.name).collect::<Vec<_>>(), "budget": own, "cut": set.cut,
            "replay": summary, "judged": judged, "files_sha256": self.kit.hashes(&files)?, "figures": figures,
        }))
    }

    fn usage_figures(
        &self,
        set: &UsageSet,
        policy: &Compiled,
        judged: &Value,
    ) -> Result<Vec<Value>> {
        let about = timeline::Judged {
            kind: judged["kind"].as_str().unwrap_or_default(),
            end: set.end,
            from: judged["from"].as_str().and_then(Millis::parse).unwrap_or(Millis::MIN),
            horizon_days: judged["horizon_days"].as_i64().unwrap_or(0),
        };
        let dir = self.dir(&[set.name])?;
        let count = usize::from(self.args.figures);
        let outcomes = self.kit.outcomes(set.name);
        let subjects = timeline::of_outcomes(&outcomes, &dir.join("alerts.csv"), &about, count)?;
        self.draw(set.name, policy, &self.kit.events(set.name), subjects, 0)
    }

    /// Draws timelines, numbered from `first`.
    fn draw(
        &self,
        set: &str,
        policy: &Compiled,
        events: &Path,
        subjects: Vec<Subject>,
        first: usize,
    ) -> Result<Vec<Value>> {
        if subjects.is_empty() {
            return Ok(Vec::new());
        }
        let mut drawn = Vec::new();
        for (index, timeline) in timeline::record(policy, events, subjects)?.into_iter().enumerate()
        {
            let file = format!("{set}/timeline-{}.svg", first + index + 1);
            let path = self.args.out.join(&file);
            let svg = figure::timeline(&timeline).into_string();
            fs::write(&path, svg).with_context(|| path.display().to_string())?;
            let (account, caption) = (&timeline.subject.account, &timeline.subject.caption);
            drawn.push(json!({"file": file, "account": account, "caption": caption}));
        }
        Ok(drawn)
    }

    /// Generates fleets of a seed, and says where.
    fn fleets(&self, set: &str, seed: u32, scenarios: &[&str]) -> Result<PathBuf> {
        let dir = self.dir(&[set, &seed.to_string()])?;
        let (seed, out) = (seed.to_string(), text(&dir));
        let arguments = ["generate", "--seed", &seed, "--out", &out, "--scenarios"];
        self.kit.power(&[&arguments, scenarios].concat())?;
        Ok(dir)
    }

    fn power(&self) -> Result<Value> {
        let policy = sets::power_policy(self.base)?;
        let mut scenarios = Map::new();
        for &seed in &self.args.seeds {
            self.say(&format!("power, seed {seed}: {} fleets", SCENARIOS.len()));
            let dir = self.fleets("power", seed, &SCENARIOS)?;
            for scenario in SCENARIOS {
                let dir = dir.join(scenario);
                let (judged, _) = self.fleet(&policy, &dir, &dir)?;
                let entry = scenarios.entry(scenario).or_insert_with(|| json!({}));
                entry[seed.to_string()] = judged;
            }
        }
        let reference = self.kit.judge(&json!({"do": "reference", "seeds": self.args.seeds}))?;
        Ok(json!({
            "title": "Synthetic fleets with a known truth", "tuned": sets::POWER_TUNED, "policy": policy.name,
            "policy_version": policy.version(), "budget": policy.corroboration.false_high_per_year, "seeds": self.args.seeds,
            "seeds_seen_in_development": self.seen_seeds(), "scenarios": scenarios, "reference": reference,
            "files_sha256": self.kit.hashes(&["power.py", "referee.py"])?, "figures": self.power_figures(&policy)?,
        }))
    }

    fn seen_seeds(&self) -> Vec<u32> {
        let seeds = self.args.seeds.iter().copied();
        seeds.filter(|seed| sets::SEEN_SEEDS.contains(seed)).collect()
    }

    fn power_figures(&self, policy: &Compiled) -> Result<Vec<Value>> {
        let mut drawn = Vec::new();
        let Some(seed) = self.args.seeds.first() else { return Ok(drawn) };
        for (scenario, wanted, words) in
            timeline::OF_POWER.iter().take(usize::from(self.args.figures))
        {
            let dir = self.dir(&["power", &seed.to_string(), scenario])?;
            let words = format!("{scenario}: {words}");
            let subject = timeline::of_truth(
                &dir.join("truth.csv"),
                &dir.join("alerts.csv"),
                *wanted,
                &words,
            )?;
            let subjects = subject.into_iter().collect();
            let events = dir.join("events.csv.gz");
            drawn.extend(self.draw("power", policy, &events, subjects, drawn.len())?);
        }
        Ok(drawn)
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            println!("{text}");
        }
    }
}

fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.trim().to_owned())
}
