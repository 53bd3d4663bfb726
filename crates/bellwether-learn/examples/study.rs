//! Fits the scorecard on a data set of the evaluation kit and judges it on the part after the cut.
//!
//! ```text
//! cargo run -p bellwether-learn --example study -- EVENTS OUTCOMES KIND HORIZON_DAYS STEP_DAYS CUT [SCORES_CSV]
//! ```
//! Trains on outcomes before the cut alone, with a gap of one horizon; parameters are the defaults for every set. The
//! file of scores is for the kit's referee.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};

use bellwether_core::id::AccountId;
use bellwether_core::time::{DAY_MS, Day, Millis};
use bellwether_learn::calibrate::Calibration;
use bellwether_learn::challenger::{Boosting, Challenger};
use bellwether_learn::example::{Example, Stay, split};
use bellwether_learn::feature::{Activity, MEMBER_WINDOW_DAYS, standard};
use bellwether_learn::fit::{FitOptions, Model, fit, probability};
use bellwether_learn::measure::{Cadence, Judged, auc, average_precision};
use bellwether_learn::resample::{Judging, judge, judge_cohorts};
use bellwether_learn::scorecard::Scorecard;

type Fail = Box<dyn Error>;

/// Points that double the odds.
const DOUBLING: f64 = 10.0;

struct Arguments {
    events: String,
    outcomes: String,
    kind: String,
    horizon_days: u32,
    step_days: u32,
    cut: Millis,
    scores: Option<String>,
}

/// Per account: volume by day, members by day, cohort.
#[derive(Default)]
struct History {
    cohort: String,
    volume: BTreeMap<i32, f64>,
    members: BTreeMap<i32, BTreeSet<String>>,
}

fn main() -> Result<(), Fail> {
    let arguments = arguments()?;
    let histories = read_events(&arguments.events)?;
    let stays = read_outcomes(&arguments.outcomes, &arguments.kind)?;
    let examples = examples(&histories, &stays, &arguments);
    let horizon_ms = i64::from(arguments.horizon_days) * DAY_MS;
    let split = split(&examples, arguments.cut, horizon_ms);
    let model = fit(&standard(), &split.train, &FitOptions::default())?;
    println!("## {} of {}", arguments.kind, arguments.events);
    print_model(&model);
    let card = Scorecard { model, doubling: DOUBLING, calibration: Calibration::default() };
    print_worth(&card, &split.test, &arguments);
    let ranks = Boosting::default().rank(&split.train, &split.test)?;
    print_challenger(&ranks, &split.test);
    if let Some(path) = &arguments.scores {
        write_scores(path, &card, &split.test)?;
    }
    Ok(())
}

fn arguments() -> Result<Arguments, Fail> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [events, outcomes, kind, horizon_days, step_days, cut, rest @ ..] = given.as_slice() else {
        return Err(
            "arguments: EVENTS OUTCOMES KIND HORIZON_DAYS STEP_DAYS CUT [SCORES_CSV]".into()
        );
    };
    Ok(Arguments {
        events: events.clone(),
        outcomes: outcomes.clone(),
        kind: kind.clone(),
        horizon_days: horizon_days.parse()?,
        step_days: step_days.parse()?,
        cut: Millis::parse(cut).ok_or("CUT: not an ISO-8601 time")?,
        scores: rest.first().cloned(),
    })
}

type Rows = csv::Reader<flate2::read::GzDecoder<BufReader<File>>>;

fn open(path: &str) -> Result<Rows, Fail> {
    Ok(csv::Reader::from_reader(flate2::read::GzDecoder::new(BufReader::new(File::open(path)?))))
}

fn column(rows: &mut Rows, name: &str) -> Result<usize, Fail> {
    let found = rows.headers()?.iter().position(|header| header == name);
    found.ok_or_else(|| format!("no column {name}").into())
}

fn day_of(at: Millis) -> i32 {
    at.0.div_euclid(DAY_MS) as i32
}

fn read_events(path: &str) -> Result<BTreeMap<String, History>, Fail> {
    let mut rows = open(path)?;
    let [account, user, cohort, value, at] =
        ["account_id", "user_id", "cohort", "value", "occurred_at"]
            .map(|name| column(&mut rows, name));
    let (account, user, cohort, value, at) = (account?, user?, cohort?, value?, at?);
    let mut histories: BTreeMap<String, History> = BTreeMap::new();
    for row in rows.records() {
        let row = row?;
        let day = day_of(Millis::parse(&row[at]).ok_or("occurred_at: not a time")?);
        let history = histories.entry(row[account].to_owned()).or_default();
        history.cohort = row[cohort].to_owned();
        *history.volume.entry(day).or_default() += row[value].parse::<f64>()?;
        if !row[user].is_empty() {
            history.members.entry(day).or_default().insert(row[user].to_owned());
        }
    }
    Ok(histories)
}

fn read_outcomes(path: &str, kind: &str) -> Result<Vec<(String, Stay)>, Fail> {
    let mut rows = open(path)?;
    let names = ["account_id", "kind", "eligible_from", "churned_at", "observed_until"];
    let [account, of, from, left, until] = names.map(|name| column(&mut rows, name));
    let (account, of, from, left, until) = (account?, of?, from?, left?, until?);
    let mut stays = Vec::new();
    for row in rows.records() {
        let row = row?;
        if &row[of] != kind {
            continue;
        }
        let time = |index: usize| Millis::parse(&row[index]).ok_or("outcomes: not a time");
        let churned_at = if row[left].is_empty() { None } else { Some(time(left)?) };
        let stay = Stay { eligible_from: time(from)?, churned_at, observed_until: time(until)? };
        stays.push((row[account].to_owned(), stay));
    }
    Ok(stays)
}

/// One example per stay and prediction time, on the kit's grid of Mondays.
fn examples(
    histories: &BTreeMap<String, History>,
    stays: &[(String, Stay)],
    arguments: &Arguments,
) -> Vec<Example> {
    let last = stays.iter().map(|(_, stay)| day_of(stay.observed_until)).max().unwrap_or(0);
    let judged: BTreeSet<&str> = stays.iter().map(|(account, _)| account.as_str()).collect();
    let mut fleet: BTreeMap<&str, (Activity, &History)> = BTreeMap::new();
    for (account, history) in
        histories.iter().filter(|(account, _)| judged.contains(account.as_str()))
    {
        fleet.insert(account, (Activity::new(arguments.horizon_days), history));
    }
    let mut examples = Vec::new();
    // 1970-01-05 is a Monday.
    let (mut today, mut closed) = (4, i32::MIN);
    while today <= last {
        for (activity, history) in fleet.values_mut() {
            for (day, volume) in history.volume.range(closed..today) {
                activity.close_day(Day(*day), *volume);
            }
        }
        closed = today;
        let levels = cohort_levels(&fleet, Day(today), arguments.horizon_days);
        for (account, stay) in stays {
            if let Some((activity, history)) = fleet.get(account.as_str()) {
                let level = levels.get(history.cohort.as_str()).copied().unwrap_or(f64::NAN);
                examples.extend(example(
                    account,
                    stay,
                    activity,
                    history,
                    Day(today),
                    level,
                    arguments,
                ));
            }
        }
        today += arguments.step_days as i32;
    }
    examples
}

/// Mean short level of a cohort's accounts that were active within two horizons.
fn cohort_levels<'a>(
    fleet: &BTreeMap<&str, (Activity, &'a History)>,
    today: Day,
    horizon_days: u32,
) -> BTreeMap<&'a str, f64> {
    let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (activity, history) in fleet.values() {
        let Some((_, last)) = activity.span() else { continue };
        if today.since(last) <= 2 * horizon_days as i32 {
            let sum = sums.entry(history.cohort.as_str()).or_default();
            sum.0 += activity.level_short(today);
            sum.1 += 1.0;
        }
    }
    sums.into_iter().map(|(cohort, (sum, count))| (cohort, sum / count)).collect()
}

fn example(
    account: &str,
    stay: &Stay,
    activity: &Activity,
    history: &History,
    today: Day,
    cohort_level: f64,
    arguments: &Arguments,
) -> Option<Example> {
    let at = Millis(i64::from(today.0) * DAY_MS);
    let outcome = stay.outcome(at, i64::from(arguments.horizon_days) * DAY_MS)?;
    let window = today.0 - MEMBER_WINDOW_DAYS..today.0;
    let members: BTreeSet<&String> =
        history.members.range(window).flat_map(|(_, members)| members).collect();
    let members = if history.members.is_empty() { f64::NAN } else { members.len() as f64 };
    Some(Example {
        account: AccountId::new(account).ok()?,
        cohort: history.cohort.clone(),
        at,
        features: activity.readings(today, cohort_level, members).row(),
        left_after_ms: outcome.left_after_ms(),
        weight: f64::from(arguments.step_days) / f64::from(arguments.horizon_days),
    })
}

fn print_model(model: &Model) {
    for (name, part) in [("(all)", &model.global)]
        .into_iter()
        .chain(model.cohorts.iter().map(|(n, p)| (n.as_str(), p)))
    {
        print!(
            "{name:<12} n {:>6} outcomes {:>4}  base {:+.2}",
            part.examples, part.outcomes, part.weights.base.value
        );
        for (feature, weight) in model.features.iter().zip(&part.weights.segments) {
            print!("  {} {:.2} ({:.2})", feature.name, weight.value, weight.error);
        }
        println!();
    }
    println!("between cohorts: base {:.2}, weights {:.2}", model.spread[0], model.spread[1]);
}

fn print_worth(card: &Scorecard, test: &[&Example], arguments: &Arguments) {
    let mut indices: BTreeMap<&AccountId, usize> = BTreeMap::new();
    for example in test {
        let next = indices.len();
        indices.entry(&example.account).or_insert(next);
    }
    let judged: Vec<Judged> = test
        .iter()
        .map(|example| {
            let scored = card.score(&example.cohort, &example.features);
            Judged {
                rank: -scored.score.as_f64(),
                risk: scored.risk,
                left_after_ms: example.left_after_ms,
                account: indices[&example.account],
                at_ms: example.at.0,
            }
        })
        .collect();
    let cadence = Cadence { step_days: arguments.step_days, quiet_days: 28 };
    let judging = Judging { draws: 200, seed: 0, recall: 0.5, cadence };
    let cohorts: Vec<&str> = test.iter().map(|example| example.cohort.as_str()).collect();
    let worth = judge(&judged, &judging);
    println!("{worth:#?}\nskill: {}", worth.has_skill());
    for (cohort, worth) in judge_cohorts(&judged, &cohorts, &judging) {
        println!("{cohort}: auc {:?} accuracy {:?}", worth.auc, worth.accuracy);
    }
}

fn print_challenger(ranks: &[f64], test: &[&Example]) {
    let judged = ranks.iter().zip(test).map(|(&rank, example)| Judged {
        rank,
        risk: probability(rank),
        left_after_ms: example.left_after_ms,
        account: 0,
        at_ms: example.at.0,
    });
    let judged: Vec<Judged> = judged.collect();
    let weights = vec![1.0; judged.len()];
    println!(
        "challenger: auc {:?} pr-auc {:?}",
        auc(&judged, &weights),
        average_precision(&judged, &weights)
    );
}

fn write_scores(path: &str, card: &Scorecard, test: &[&Example]) -> Result<(), Fail> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "account_id,at,score,risk")?;
    for example in test {
        let scored = card.score(&example.cohort, &example.features);
        writeln!(
            file,
            "{},{},{},{:.6}",
            example.account,
            example.at.iso(),
            scored.score,
            scored.risk
        )?;
    }
    Ok(file.flush()?)
}
