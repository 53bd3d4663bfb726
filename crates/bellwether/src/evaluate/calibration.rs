//! Whether the budget is kept: false high alerts of accounts to which nothing happens, at several budgets.
//!
//! Fleets are replayed once, at the policy's own budget. At each budget, alerts are then counted from every day's statistics, as
//! `bellwether calibrate` counts them: one, then rest. What the alerts of the replay itself come to stands beside it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bellwether_core::policy::Compiled;
use bellwether_core::step::{Core, Observer};
use bellwether_core::time::Zone;
use serde_json::{Value, json};

use super::timeline::{Truth, truths, urgent};
use super::{Work, sets};
use crate::calibrate::{Days, rest_days, would_alert};

/// Budgets of false high alerts per account and year.
pub(crate) const BUDGETS: [f64; 5] = [0.02, 0.05, 0.1, 0.3, 1.0];
/// Fleets to which nothing happens.
pub(crate) const FLEETS: [&str; 3] = ["stationary", "stationary_small", "stationary_large"];
/// What is told apart: thirds of the mixed fleet by volume, and the others.
const GROUPS: [&str; 5] = [
    "mixed, lowest third by volume",
    "mixed, middle third",
    "mixed, highest third",
    "1.5 events a day",
    "600 events a day",
];

/// Alerts, and the years in which they could come.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    alerts: f64,
    years: f64,
}

impl Count {
    fn add(&mut self, (alerts, years): (f64, f64)) {
        self.alerts += alerts;
        self.years += years;
    }

    /// The rate, and the 95 % interval of a Poisson count by Byar's approximation (Breslow and Day 1987, eq. 2.13).
    fn rate(self) -> [f64; 3] {
        let bound = |count: f64, z: f64| {
            if count <= 0.0 {
                return 0.0;
            }
            count * (1.0 - 1.0 / (9.0 * count) + z / (3.0 * count.sqrt())).powi(3)
        };
        let years = self.years.max(1e-9);
        [
            self.alerts / years,
            bound(self.alerts, -1.96).max(0.0) / years,
            bound(self.alerts + 1.0, 1.96) / years,
        ]
    }

    fn json(self) -> Value {
        json!({"alerts": self.alerts, "years": self.years, "rate": self.rate()})
    }
}

/// Per group of accounts: at each budget, and what the replay alerted.
type Table = [([Count; BUDGETS.len()], Count); GROUPS.len()];

impl Work<'_> {
    pub(crate) fn calibration(&self) -> Result<Value> {
        let policy = sets::power_policy(self.base)?;
        let mut table: Table = Default::default();
        for &seed in &self.args.seeds {
            self.say(&format!("calibration, seed {seed}: {} fleets", FLEETS.len()));
            let dir = self.fleets("calibration", seed, &FLEETS)?;
            for (fleet, name) in FLEETS.iter().enumerate() {
                self.count_fleet(&policy, &dir.join(name), fleet, &mut table)?;
            }
        }
        let mut groups: Vec<Value> = Vec::new();
        let mut all: ([Count; BUDGETS.len()], Count) = Default::default();
        for (name, (at, replayed)) in GROUPS.iter().zip(&table) {
            for (sum, count) in all.0.iter_mut().zip(at) {
                sum.add((count.alerts, count.years));
            }
            all.1.add((replayed.alerts, replayed.years));
            groups.push(group(name, at, *replayed));
        }
        groups.push(group("all", &all.0, all.1));
        Ok(json!({
            "title": "Is the budget of false alerts kept?", "tuned": sets::POWER_TUNED, "policy": policy.name,
            "policy_version": policy.version(), "budget": policy.corroboration.false_high_per_year, "budgets": BUDGETS,
            "seeds": self.args.seeds, "seeds_seen_in_development": self.seen_seeds(), "groups": groups,
            "files_sha256": self.kit.hashes(&["power.py"])?,
        }))
    }

    /// Replays a fleet, and adds what it shows.
    fn count_fleet(
        &self,
        policy: &Compiled,
        dir: &Path,
        fleet: usize,
        table: &mut Table,
    ) -> Result<()> {
        let accounts = truths(&dir.join("truth.csv"))?;
        let Some(first) = accounts.first() else { return Ok(()) };
        let from = Zone::UTC.day(first.judged_from);
        let days = Arc::new(Mutex::new(Days::default()));
        let seen = Arc::clone(&days);
        let observer = Observer::new(move |judged| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).see(judged, Some(from));
        });
        let core = Core::new(Arc::new(policy.clone())).observed(observer);
        self.run(core, |_| {}, &dir.join("events.csv.gz"), dir, None)?;
        let days = days.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = groups(&accounts, fleet);
        let of: Vec<usize> =
            days.names().map(|name| groups.get(name).copied().unwrap_or(0)).collect();
        for (index, budget) in BUDGETS.into_iter().enumerate() {
            let alarms = would_alert(policy, &policy.calibration, budget);
            let counts =
                days.count(GROUPS.len(), |seen| of[seen.account], rest_days(policy), alarms);
            for ((row, _), count) in table.iter_mut().zip(counts) {
                row[index].add(count);
            }
        }
        let alerts = urgent(&dir.join("alerts.csv"))?;
        for account in &accounts {
            let own = alerts.get(&account.id).map(Vec::as_slice).unwrap_or_default();
            let judged = account.judged_from..=account.judged_until;
            let count = own.iter().filter(|(at, _)| judged.contains(at)).count();
            let group = groups.get(account.id.as_str()).copied().unwrap_or(0);
            table[group].1.add((count as f64, account.years()));
        }
        Ok(())
    }
}

fn group(name: &str, at: &[Count], replayed: Count) -> Value {
    let at: Vec<Value> = at.iter().map(|count| count.json()).collect();
    json!({"name": name, "at": at, "replayed": replayed.json()})
}

/// The group of each account of a fleet.
fn groups(accounts: &[Truth], fleet: usize) -> HashMap<&str, usize> {
    let mut volumes: Vec<f64> = accounts.iter().map(|account| account.mean_per_day).collect();
    volumes.sort_by(f64::total_cmp);
    let edge = |third: usize| volumes.get(third * volumes.len() / 3).copied().unwrap_or(f64::MAX);
    let group = |account: &Truth| match fleet {
        0 => [edge(1), edge(2)].iter().filter(|&&edge| account.mean_per_day >= edge).count(),
        other => other + 2,
    };
    accounts.iter().map(|account| (account.id.as_str(), group(account))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_a_poisson_count() {
        // Exact (Garwood 1936): 10 -> 4.795..18.39, 0 -> 0..3.689, 100 -> 81.36..121.6.
        for (alerts, low, high) in [(10.0, 4.795, 18.39), (0.0, 0.0, 3.689), (100.0, 81.36, 121.6)]
        {
            let [rate, from, until] = Count { alerts, years: 2.0 }.rate();
            assert_eq!(rate, alerts / 2.0);
            assert!((from * 2.0 - low).abs() < 0.03, "{from}");
            assert!((until * 2.0 - high).abs() < 0.1, "{until}");
        }
    }

    #[test]
    fn thirds_hold_a_third_each() {
        let account = |number: usize| Truth {
            id: format!("a{number}"),
            mean_per_day: (number * 7 % 30) as f64,
            ..Truth::default()
        };
        let accounts: Vec<Truth> = (0..30).map(account).collect();
        let groups = groups(&accounts, 0);
        for third in 0..3 {
            assert_eq!(groups.values().filter(|&&group| group == third).count(), 10);
        }
        assert_eq!(groups["a1"], 0, "7 of 0..30 lies in the lowest third");
    }
}
