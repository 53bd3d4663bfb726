//! What each piece of the engine brings: the same judgements with one of them switched off by policy.
//!
//! Nothing is fitted anew for it: thresholds stay those of the policy's `[calibration]`, so a piece that keeps chance out shows up in false
//! alerts, and one that finds more in power.

use std::fs;

use anyhow::{Context, Result};
use bellwether_core::policy::{Compiled, Policy};
use serde_json::{Map, Value, json};

use super::kit::text;
use super::sets::{self, USAGE_SETS, UsageSet};
use super::{Work, results};

/// What a switch is about, so that only those data are judged again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// Days of accounts: fleets and sets with outcomes.
    Days,
    /// Single values: NAB.
    Values,
    /// All of these.
    All,
}

/// A piece, what the policy says without it, and what it is about. A new switch is one line here.
const SWITCHES: [(&str, &str, About); 14] = [
    ("everything on", "", About::All),
    ("a group alone may explain a set", "corroboration.beyond_one = [0.0, 0.0, 0.0]", About::Days),
    ("groups that share events count each", "corroboration.shared_events = 1.0", About::Days),
    ("no test of rises", "corroboration.shares = [0.17, 0.0, 0.83]", About::Days),
    ("no test of declines", "corroboration.shares = [0.47, 0.53, 0.0]", About::Days),
    ("no view of cohorts (fleet alert, day factor)", "fleet.accounts_min = 1000000", About::Days),
    ("alerts are not held while the fleet deviates", "fleet.hold_hours = 0", About::Days),
    ("months have no edges", "models.months = false", About::Days),
    ("days are judged at their close only", "models.intraday = false", About::Days),
    ("days are not forecast (MSTL)", "models.forecast = false", About::Days),
    ("onsets are not dated by a changepoint", "models.onset = false", About::Days),
    ("cohorts do not correct what chance brings", "calibration.learn = false", About::Days),
    ("an alert may open again at once", "alerts.refractory_days = 0", About::Days),
    (
        "no quiet period after a value",
        "watch.quiet_values = 0\nwatch.quiet_share = 0.0",
        About::Values,
    ),
];
/// Fleets that are replayed: what is found, what must not be, and what chance finds.
const FLEETS: [&str; 7] =
    ["drop2of3", "drop2of3_small", "decline", "spike", "outage1", "fleetdrop", "stationary"];

impl Work<'_> {
    pub(crate) fn ablation(&self) -> Result<Value> {
        let seed = self.args.seeds.first().copied().unwrap_or(4);
        let fleets = self.fleets("ablation", seed, &FLEETS)?;
        let (mut rows, mut cpu) = (Vec::new(), Vec::new());
        let wanted = |name: &str| self.args.only.as_deref().is_none_or(|only| name.contains(only));
        for (index, (name, off, about)) in SWITCHES.into_iter().enumerate() {
            if index > 0 && !wanted(name) {
                continue;
            }
            self.say(&format!("ablation, seed {seed}: {name}"));
            let base = without(self.base, off)?;
            let mut row = json!({"name": name, "off": off});
            let mut spent = 0.0;
            if about != About::Values {
                let policy = sets::power_policy(&base)?;
                let mut scenarios = Map::new();
                for name in FLEETS {
                    let out = self.dir(&["ablation", &index.to_string(), name])?;
                    let (judged, seconds) = self.fleet(&policy, &fleets.join(name), &out)?;
                    spent += seconds;
                    scenarios.insert(name.to_owned(), judged);
                }
                row["scenarios"] = scenarios.into();
                for set in &USAGE_SETS {
                    let (judged, seconds) = self.set_without(set, &base, index)?;
                    spent += seconds;
                    row[set.name] = judged;
                }
                cpu.push(json!(spent));
            } else {
                cpu.push(Value::Null);
            }
            if about != About::Days {
                let out = self.dir(&["ablation", &index.to_string(), "nab"])?;
                row["nab"] = self.nab_scores(&sets::nab_policy(&base)?, &out)?;
            }
            rows.push(row);
        }
        let policy = sets::power_policy(self.base)?;
        Ok(json!({
            "title": "What each piece brings", "tuned": sets::POWER_TUNED, "policy": policy.name, "policy_version": policy.version(),
            "budget": policy.corroboration.false_high_per_year, "seeds": [seed], "seeds_seen_in_development": self.seen_seeds(),
            "switches": rows, "files_sha256": self.kit.hashes(&["power.py", "referee.py", "nab_score.py"])?,
            // Not a function of the data, so it stands with the machine.
            "machine": {"cpu_seconds": cpu},
        }))
    }

    /// Recall and false alerts of a set's first outcome, at the policy's budget; and the CPU time of the replay.
    fn set_without(&self, set: &UsageSet, base: &Compiled, index: usize) -> Result<(Value, f64)> {
        let policy = set.policy(base)?;
        let dir = self.dir(&["ablation", &index.to_string(), set.name])?;
        let before = cpu_seconds()?;
        self.replay(&policy, &self.kit.events(set.name), &dir, None)?;
        let spent = cpu_seconds()? - before;
        let budget = policy.corroboration.false_high_per_year.to_string();
        let alerts = json!({budget.as_str(): text(&dir.join("alerts.csv"))});
        let request =
            json!({"do": "set", "name": set.judged[0], "alerts": alerts, "default": budget});
        let judged = self.kit.judge(&request)?;
        Ok((judged["curves"]["Bellwether"][0].clone(), spent))
    }

    /// Replays a fleet and has it judged; and the CPU time of the replay.
    pub(crate) fn fleet(
        &self,
        policy: &Compiled,
        fleet: &std::path::Path,
        out: &std::path::Path,
    ) -> Result<(Value, f64)> {
        let before = cpu_seconds()?;
        self.replay(policy, &fleet.join("events.csv.gz"), out, None)?;
        let spent = cpu_seconds()? - before;
        let json = out.join("judged.json");
        let (truth, alerts) = (text(&fleet.join("truth.csv")), text(&out.join("alerts.csv")));
        let arguments = ["judge", "--truth", &truth, "--alerts", &alerts, "--json", &text(&json)];
        self.kit.power(&arguments)?;
        Ok((results::read(&json)?, spent))
    }
}

/// A policy with some keys changed, given as TOML.
fn without(base: &Compiled, off: &str) -> Result<Compiled> {
    let mut policy = toml::Value::try_from(Policy::clone(base))?;
    merge(&mut policy, toml::from_str(off).with_context(|| off.to_owned())?);
    let text = toml::to_string(&policy)?;
    Ok(Compiled::parse(off, &text)?)
}

fn merge(into: &mut toml::Value, from: toml::Value) {
    match (into, from) {
        (toml::Value::Table(into), toml::Value::Table(from)) => {
            for (key, value) in from {
                match into.get_mut(&key) {
                    Some(known) => merge(known, value),
                    // An unknown key: the policy's own check names it.
                    None => drop(into.insert(key, value)),
                }
            }
        }
        (into, from) => *into = from,
    }
}

/// CPU time of this process so far, user and system, in seconds: fields 14 and 15 of proc(5), in ticks of 10 ms. 0 where there is no /proc.
fn cpu_seconds() -> Result<f64> {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return Ok(0.0) };
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat has no name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let ticks: Vec<f64> = ticks.collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_switch_changes_the_policy_and_nothing_else_of_it() {
        let base = Compiled::default_policy();
        for (name, off, _) in SWITCHES {
            let policy = without(&base, off).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(Policy::clone(&policy) == Policy::clone(&base), off.is_empty(), "{name}");
            assert_eq!(policy.signals, base.signals, "{name}");
        }
        let policy = without(&base, "fleet.hold_hours = 0").expect("valid");
        assert_eq!(
            (policy.fleet.hold_hours, policy.fleet.accounts_min),
            (0, base.fleet.accounts_min)
        );
    }

    #[test]
    fn a_switch_that_is_none_is_refused() {
        let base = Compiled::default_policy();
        let error = without(&base, "models.crystal_ball = false").expect_err("no such key");
        assert!(format!("{error:#}").contains("crystal_ball"), "{error:#}");
    }
}
