//! `bellwether calibrate`: how often accounts to which nothing happens show what the scan would alert.
//!
//! The files are replayed, each fleet by itself; every day's best statistic of every family is kept. The rate at which an account of
//! some volume exceeds a threshold, counted as alerts are (one, then quiet), falls off exponentially with the threshold: that line is
//! the calibration. The budget is then measured on the same days, with all families together.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bellwether_core::corroborate::by_chance;
use bellwether_core::event::Input;
use bellwether_core::output::{Family, Judged};
use bellwether_core::policy::{CalibrationPolicy, Compiled};
use bellwether_core::state::{MemoryState, State};
use bellwether_core::step::{Core, Observer};
use bellwether_core::time::Day;
use bellwether_wire::files;

use crate::cli::CalibrateArgs;
use crate::show;
use crate::usage::wrong;

/// Thresholds at which rates are counted.
const STEP: f64 = 0.25;
const STEPS: usize = 160;
/// Alerts that a rate must rest on, and the most that it may come to in a year: only the tail falls off exponentially.
const ALERTS_MIN: f64 = 6.0;
const RATE_MAX: f64 = 0.25;
/// Days of an alert that was opened by chance before it rests, about.
const OPEN_DAYS: i32 = 28;
const DAYS_PER_YEAR: f64 = 365.25;

/// What was found of one account on one day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Its number, in the order of [`Days::names`].
    pub(crate) account: usize,
    day: Day,
    volume: f64,
    statistics: [Option<f64>; 3],
}

/// The days of all fleets.
#[derive(Debug, Default)]
pub(crate) struct Days {
    accounts: usize,
    known: HashMap<String, usize>,
    seen: Vec<Seen>,
}

impl Days {
    pub(crate) fn see(&mut self, judged: &Judged, from: Option<Day>) {
        if from.is_some_and(|from| judged.day < from) {
            return;
        }
        let accounts = &mut self.accounts;
        let account = *self.known.entry(judged.account_id.to_string()).or_insert_with(|| {
            *accounts += 1;
            *accounts - 1
        });
        self.seen.push(Seen {
            account,
            day: judged.day,
            volume: judged.volume,
            statistics: judged.statistics,
        });
    }

    /// Accounts of the last fleet by their numbers, which begin at 0 in the first.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<(usize, &str)> =
            self.known.iter().map(|(name, &number)| (number, name.as_str())).collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name)
    }

    /// Alerts where `alarms` says so, each followed by rest; and the years watched. Per group, of so many.
    pub(crate) fn count(
        &self,
        groups: usize,
        group: impl Fn(&Seen) -> usize,
        rest: i32,
        alarms: impl Fn(&Seen) -> bool,
    ) -> Vec<(f64, f64)> {
        let mut rates = vec![(0.0, 0.0); groups];
        let mut last: Vec<Option<Day>> = vec![None; self.accounts];
        for seen in &self.seen {
            let rate = &mut rates[group(seen)];
            rate.1 += 1.0 / DAYS_PER_YEAR;
            let rests = last[seen.account].is_some_and(|at| seen.day.since(at) < rest);
            if !rests && alarms(seen) {
                rate.0 += 1.0;
                last[seen.account] = Some(seen.day);
            }
        }
        rates
    }
}

/// Groups by volume.
fn row(volumes: &[f64]) -> impl Fn(&Seen) -> usize {
    |seen| volumes.iter().take_while(|&&edge| edge <= seen.volume).count()
}

/// Days for which an account is quiet about chance findings after one, about.
pub(crate) fn rest_days(policy: &Compiled) -> i32 {
    i32::from(policy.alerts.refractory_days)
        + i32::from(policy.alerts.resolve_quiet_days)
        + OPEN_DAYS
}

/// Runs the command.
pub(crate) fn run(args: &CalibrateArgs, policy: &Compiled, json: bool) -> Result<()> {
    let from = match &args.from {
        None => None,
        Some(text) => match bellwether_core::time::Millis::parse(text) {
            Some(at) => Some(bellwether_core::time::Zone::UTC.day(at)),
            None => wrong!("--from is `{text}`, allowed is a date, e.g. 2026-03-01"),
        },
    };
    let days = Arc::new(Mutex::new(Days::default()));
    for path in &args.files {
        replay(path, policy, from, &days, json)?;
    }
    let days = days.lock().unwrap_or_else(PoisonError::into_inner);
    let rest = rest_days(policy);
    let mut rules = policy.calibration.clone();
    for family in Family::ALL {
        let fitted = fit(&days, &rules.volumes, family, rest)?;
        match family {
            Family::Drop => rules.drop = fitted,
            Family::Rise => rules.rise = fitted,
            Family::Decline => rules.decline = fitted,
        }
    }
    rules.overlap = 1.0;
    let budget = policy.corroboration.false_high_per_year;
    let realised = total(&alerts(&days, policy, &rules, budget, rest));
    rules.overlap = (realised / budget).clamp(0.5, 1.0);
    print(&days, policy, &rules, rest, json)
}

fn replay(
    path: &Path,
    policy: &Compiled,
    from: Option<Day>,
    days: &Arc<Mutex<Days>>,
    quiet: bool,
) -> Result<()> {
    // A fleet by itself: accounts of the same name in two files are two accounts.
    days.lock().unwrap_or_else(PoisonError::into_inner).known.clear();
    let seen = Arc::clone(days);
    let observer = Observer::new(move |judged| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).see(judged, from);
    });
    let core = Core::new(Arc::new(policy.clone())).observed(observer);
    let mut state = MemoryState::default();
    let mut out = Vec::new();
    let events = files::open(path)?;
    let progress = events.progress();
    let bar = show::progress(progress.bytes_total(), &path.display().to_string(), quiet);
    for (count, event) in events.enumerate() {
        if count % 4_096 == 0 {
            bar.set_position(progress.bytes_read());
        }
        let event = event.with_context(|| path.display().to_string())?;
        let at = event.occurred_at;
        // What the engine rejects is not in the live stream either.
        let Ok(_verdict) = core.apply(&mut state, Input::Event(event), at, &mut out);
        out.clear();
    }
    if let Some(end) = state.clock().newest {
        while core.close_behind_ms(state.clock()) > 0 {
            let Ok(_verdict) = core.apply(&mut state, Input::Tick, end, &mut out);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// The line of a family per volume: least squares of the logarithm of the rate over the thresholds of its tail. A volume with too few
/// alerts takes the line of all volumes together.
fn fit(days: &Days, volumes: &[f64], family: Family, rest: i32) -> Result<Vec<[f64; 2]>> {
    let mut points: Vec<Vec<(f64, f64)>> = vec![Vec::new(); volumes.len() + 1];
    let mut all: Vec<(f64, f64)> = Vec::new();
    for step in 0..STEPS {
        let threshold = step as f64 * STEP;
        let above =
            |seen: &Seen| seen.statistics[family as usize].is_some_and(|value| value > threshold);
        let counts = days.count(volumes.len() + 1, row(volumes), rest, above);
        let (alerts, years) =
            counts.iter().fold((0.0, 0.0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        let note = |points: &mut Vec<(f64, f64)>, alerts: f64, years: f64| {
            if alerts >= ALERTS_MIN && alerts / years <= RATE_MAX {
                points.push((threshold, (alerts / years).ln()));
            }
        };
        for (points, (alerts, years)) in points.iter_mut().zip(&counts) {
            note(points, *alerts, *years);
        }
        note(&mut all, alerts, years);
        if alerts < ALERTS_MIN {
            break;
        }
    }
    let Some(common) = line(&all) else {
        wrong!(
            "too few chance findings of family {}: {} account years are not enough, give more accounts or days",
            family.as_str(),
            days.seen.len() / 365
        )
    };
    Ok(points.iter().map(|points| line(points).unwrap_or(common)).collect())
}

/// Intercept and (negative) slope; none with fewer than four points or no fall.
fn line(points: &[(f64, f64)]) -> Option<[f64; 2]> {
    if points.len() < 4 {
        return None;
    }
    let count = points.len() as f64;
    let x = points.iter().map(|point| point.0).sum::<f64>() / count;
    let y = points.iter().map(|point| point.1).sum::<f64>() / count;
    let (cross, square) = points.iter().fold((0.0, 0.0), |(cross, square), point| {
        let off = point.0 - x;
        (cross + off * (point.1 - y), square + off * off)
    });
    let slope = -cross / square;
    (slope > 0.05).then_some([y + slope * x, slope.min(5.0)])
}

/// Alerts of all families together at a budget, per volume: (alerts, years).
fn alerts(
    days: &Days,
    policy: &Compiled,
    rules: &CalibrationPolicy,
    budget: f64,
    rest: i32,
) -> Vec<(f64, f64)> {
    let alarms = would_alert(policy, rules, budget);
    days.count(rules.volumes.len() + 1, row(&rules.volumes), rest, alarms)
}

/// Whether a day's statistics are an alert at a budget.
pub(crate) fn would_alert(
    policy: &Compiled,
    rules: &CalibrationPolicy,
    budget: f64,
) -> impl Fn(&Seen) -> bool {
    let shares = policy.corroboration.shares;
    move |seen| {
        Family::ALL.iter().any(|&family| {
            let Some(value) = seen.statistics[family as usize] else { return false };
            let rate = by_chance(rules, family, seen.volume, value);
            rate / shares[family as usize].max(1e-9) * rules.overlap <= budget
        })
    }
}

fn total(counts: &[(f64, f64)]) -> f64 {
    let (alerts, years) =
        counts.iter().fold((0.0, 0.0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    alerts / f64::max(years, 1e-9)
}

fn print(
    days: &Days,
    policy: &Compiled,
    rules: &CalibrationPolicy,
    rest: i32,
    json: bool,
) -> Result<()> {
    let budgets = [0.02, 0.1, 0.3, 1.0];
    let realised: Vec<(f64, Vec<f64>)> = budgets
        .iter()
        .map(|&budget| {
            let counts = alerts(days, policy, rules, budget, rest);
            let mut rates = vec![total(&counts)];
            rates.extend(counts.iter().map(|(alerts, years)| alerts / years.max(1e-9)));
            (budget, rates)
        })
        .collect();
    let years = days.seen.len() as f64 / DAYS_PER_YEAR;
    if json {
        let table: Vec<serde_json::Value> = realised
            .iter()
            .map(|(budget, rates)| serde_json::json!({"budget": budget, "all": rates[0], "by_volume": rates[1..]}))
            .collect();
        let report = serde_json::json!({
            "accounts": days.accounts, "account_years": years, "calibration": rules, "realised": table,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    println!("# {} accounts, {years:.0} account years; policy {policy}", days.accounts);
    println!(
        "# false alerts of high severity per account and year, on these same days: budget, all volumes, each volume"
    );
    for (budget, rates) in &realised {
        let rates: Vec<String> = rates.iter().map(|rate| format!("{rate:.3}")).collect();
        println!("#   {budget:<5} {}", rates.join("  "));
    }
    println!("[calibration]");
    let rows = |rows: &[[f64; 2]]| {
        let rows: Vec<String> = rows.iter().map(|[a, b]| format!("[{a:.3}, {b:.3}]")).collect();
        rows.join(", ")
    };
    println!("volumes = {:?}", rules.volumes);
    println!("drop = [{}]", rows(&rules.drop));
    println!("rise = [{}]", rows(&rules.rise));
    println!("decline = [{}]", rows(&rules.decline));
    println!("overlap = {:.3}", rules.overlap);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(statistic: impl Fn(usize, i32) -> f64) -> Days {
        let mut days = Days { accounts: 200, ..Days::default() };
        for day in 0..730 {
            for account in 0..200 {
                let value = Some(statistic(account, day));
                days.seen.push(Seen {
                    account,
                    day: Day(day),
                    volume: 1.0 + (account % 2) as f64 * 99.0,
                    statistics: [value; 3],
                });
            }
        }
        days
    }

    /// Exponential deviates, from a hash.
    fn chance(account: usize, day: i32) -> f64 {
        let seed = (account as u64) << 32 | day.unsigned_abs() as u64;
        let hash = bellwether_core::publish::content_id(&[&seed.to_string()])
            .bytes()
            .fold(0_u64, |hash, byte| hash.wrapping_mul(1_099_511_628_211) ^ u64::from(byte));
        -((hash >> 11) as f64 / (1_u64 << 53) as f64).max(1e-18).ln()
    }

    #[test]
    fn rates_are_found_per_volume() {
        // Accounts of large volume have statistics twice as high.
        let days = days(|account, day| chance(account, day) * (1.0 + (account % 2) as f64));
        let rows = fit(&days, &[10.0], Family::Drop, 56).expect("enough days");
        assert!((rows[0][1] - 1.0).abs() < 0.15, "{rows:?}");
        assert!((rows[1][1] - 0.5).abs() < 0.08, "{rows:?}");
        let rate = |row: [f64; 2], threshold: f64| (row[0] - row[1] * threshold).exp();
        let exact = 365.25 * (-9.0_f64).exp();
        assert!((rate(rows[0], 9.0) / exact).ln().abs() < 0.3, "{rows:?}");
    }

    #[test]
    fn an_alert_is_followed_by_rest() {
        let days = days(|_, day| if day % 100 < 10 { 20.0 } else { 0.0 });
        let counts = days.count(2, row(&[10.0]), 56, |seen| seen.statistics[0] > Some(5.0));
        let (alerts, years) = counts[0];
        assert_eq!(alerts, 800.0, "one per account and spell");
        assert!((years - 100.0 * 730.0 / 365.25).abs() < 1e-6, "{years}");
    }

    #[test]
    fn too_little_history_is_refused() {
        let days = Days::default();
        let error = fit(&days, &[10.0], Family::Rise, 56).expect_err("no days at all");
        assert!(error.to_string().contains("too few chance findings of family rise"), "{error}");
    }
}
