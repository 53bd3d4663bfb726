//! `bellwether learn`: a scorecard from history and outcomes, and what it is worth.

mod data;
mod page;
mod published;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bellwether_core::account::Account;
use bellwether_core::event::OutcomeKind;
use bellwether_core::id::AccountId;
use bellwether_core::policy::Compiled;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Millis};
use bellwether_learn::curve::Curves;
use bellwether_learn::example::{Example, Stay};
use bellwether_learn::feature::{Feature, SEQUENCE_PREFIX, features, known, row};
use bellwether_learn::resample::{Interval, Worth};
use bellwether_learn::train::{Trained, Training, fitted, train};
use bellwether_wire::files;
use serde_json::{Value, json};

use crate::cli::{LearnCommand, LearnFitArgs};
use crate::config::Config;
use crate::model::{FORMAT, ModelFile};
use crate::place::Place;
use crate::replay::{Replay, Snapshots, Writers};
use crate::source::Source;
use crate::usage::{Usage, wrong};
use crate::{model, policies, show};

/// An account whose newest closed day lies longer ago says nothing of now.
const STALE_MS: i64 = 3 * DAY_MS;
/// One event in so many may come after the week in which it was looked at its account.
const BEHIND_SHARE: u64 = 100;
/// Days of the horizon, and from one look at an account to the next, unless told otherwise.
const HORIZON_DAYS: u32 = 28;
const STEP_DAYS: u32 = 7;
/// 1970-01-05, a Monday.
const MONDAY: Millis = Millis(4 * DAY_MS);

/// What is learned from: files of events, and how stays ended.
pub(crate) struct Material {
    pub(crate) stays: Stays,
    pub(crate) training: Training,
    /// Nothing from then on is known.
    pub(crate) until: Option<Millis>,
}

/// How accounts stayed and left.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stays {
    /// By account.
    listed: BTreeMap<AccountId, Vec<Stay>>,
    /// Whether accounts that are not listed have stayed: where only those that left are.
    others_stayed: bool,
}

/// Runs the command.
pub(crate) fn run(command: &LearnCommand, config: &Config, json: bool) -> Result<ExitCode> {
    match command {
        LearnCommand::Fit(args) => fit(args, config, json),
        LearnCommand::Promote(args) => model::promote(args, config, json),
        LearnCommand::Rollback(args) => model::rollback(args, config, json),
        LearnCommand::Promotions(args) => model::list(args, config, json),
        LearnCommand::Report { file, html } => {
            let model = ModelFile::read(file)?;
            if let Some(path) = html {
                std::fs::write(path, page::page(&model))
                    .with_context(|| format!("{} cannot be written", path.display()))?;
            }
            if json {
                println!("{}", serde_json::to_string_pretty(&model)?);
            } else {
                print(&model);
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn fit(args: &LearnFitArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let policy = Arc::new(policies::load(config.policy.as_deref())?);
    let horizon_days = args.horizon_days.unwrap_or(match args.examples {
        true => u32::from(policy.learning.horizon_days),
        false => HORIZON_DAYS,
    });
    let step_days = args.step_days.unwrap_or(STEP_DAYS);
    if !(7..=366).contains(&horizon_days) || step_days == 0 {
        wrong!(
            "--horizon-days is {horizon_days} and --step-days is {step_days}, allowed are 7 to 366 and 1 or more"
        )
    }
    let cut = args.cut.as_deref().map(time).transpose()?;
    let kind = args.kind.as_deref();
    let listed = args.outcomes.as_deref().map(|path| Stays::read(path, kind)).transpose()?;
    let training = Training { horizon_days, step_days, cut };
    let model = if args.examples {
        from_examples(args, config, &policy, (listed, training))?
    } else {
        let material = Material { stays: listed.unwrap_or_default(), training, until: None };
        let fed = |replay: &mut Replay| {
            if let Some(path) = &args.profiles {
                replay.profiles_in_time(path)?;
            }
            for path in &args.files {
                replay.file(path, None, json)?;
            }
            replay.finish(None)
        };
        learn(&policy, material, fed)?
    };
    std::fs::write(&args.out, serde_json::to_string_pretty(&model)? + "\n")
        .with_context(|| format!("{} cannot be written", args.out.display()))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&model)?);
    } else {
        print(&model);
        println!(
            "\n{}: use it with --model, or as `model` of the configuration",
            args.out.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What one look at an account counts for: an account that was observed for a horizon counts once, however often it was looked at.
fn weight(step_days: u32, horizon_days: u32) -> f64 {
    (f64::from(step_days) / f64::from(horizon_days)).min(1.0)
}

/// Learns from what workers published, and from outcomes that are listed, or those of their topic.
fn from_examples(
    args: &LearnFitArgs,
    config: &Config,
    policy: &Compiled,
    (listed, training): (Option<Stays>, Training),
) -> Result<ModelFile> {
    let place = Place::Log(Source::open(&args.log, config, "bellwether-learn")?);
    let mut found = published::examples(&place, config, policy, training.horizon_days)?;
    let stays = match listed {
        Some(stays) => stays,
        None => published::outcomes(&place, config, &mut found.data)?,
    };
    let training = Training { step_days: found.step_days, ..training };
    trained(policy, found.rows, (&stays, &training, found.end), found.data)
}

pub(crate) fn time(text: &str) -> Result<Millis> {
    Millis::parse(text).ok_or_else(|| {
        Usage(format!("`{text}` is no time, allowed are a date (2026-03-01) or an ISO-8601 time"))
            .into()
    })
}

/// Replays history under expert weights, looks at all accounts every so often, and learns from what became of them.
pub(crate) fn learn(
    policy: &Arc<Compiled>,
    material: Material,
    feed: impl FnOnce(&mut Replay) -> Result<()>,
) -> Result<ModelFile> {
    let Material { stays, training, until } = material;
    let rows: Arc<Mutex<Vec<Example>>> = Arc::default();
    let (sink, of_policy) = (Arc::clone(&rows), Arc::clone(policy));
    let weight = weight(training.step_days, training.horizon_days);
    let see = move |at: Millis, accounts: &mut dyn Iterator<Item = &Account>| {
        // An account that is dormant, or whose stay has ended, is not looked at any more: nothing of it is of that time.
        let known = accounts
            .filter(|account| at.0 - account.zone().day_start(account.hot.today).0 <= STALE_MS);
        let examples = known.filter_map(|account| {
            Some(Example {
                account: account.id.clone(),
                cohort: account.segment().unwrap_or_default().to_owned(),
                at,
                features: row(account, &of_policy, training.horizon_days)?,
                left_after_ms: None,
                weight,
            })
        });
        sink.lock().unwrap_or_else(PoisonError::into_inner).extend(examples);
    };
    let snapshots = Snapshots {
        first: MONDAY,
        every_ms: i64::from(training.step_days) * DAY_MS,
        see: Box::new(see),
    };
    let core = Core::new(Arc::clone(policy));
    let replay = Replay::new(core.clone(), Writers::create(None, None)?);
    let mut replay = replay.looked_at(snapshots).counting_rejected();
    feed(&mut replay)?;
    let (events, behind) = (replay.events(), replay.behind_snapshots());
    if behind * BEHIND_SHARE > events {
        wrong!(
            "{behind} of {events} events came after weeks that they belong to had been looked at: examples would be of accounts \
             without their history. Sort the files by time, and name them in that order"
        )
    }
    let end = replay.newest().unwrap_or(Millis(0));
    let end = until.map_or(end, |until| until.min(end));
    let rows = std::mem::take(&mut *rows.lock().unwrap_or_else(PoisonError::into_inner));
    let data = data::quality(&core, &replay);
    trained(policy, rows, (&stays, &training, end), data)
}

/// A model of rows whose outcomes are known by `end`.
fn trained(
    policy: &Compiled,
    rows: Vec<Example>,
    (stays, training, end): (&Stays, &Training, Millis),
    data: Value,
) -> Result<ModelFile> {
    let horizon_ms = i64::from(training.horizon_days) * DAY_MS;
    let examples: Vec<Example> = rows
        .into_iter()
        .flat_map(|row| {
            let stays = stays.of(&row.account, end);
            let outcomes = stays.iter().filter_map(|stay| stay.outcome(row.at, horizon_ms));
            // Of several stays, the one that ends first.
            let outcome =
                outcomes.min_by_key(|outcome| outcome.left_after_ms().unwrap_or(i64::MAX));
            outcome.map(|outcome| Example { left_after_ms: outcome.left_after_ms(), ..row })
        })
        .collect();
    let (features, examples) = known(features(policy), examples);
    let is_read = |name: &str| features.iter().any(|feature| feature.name == name);
    let trained = train(&features, &examples, training)?;
    let version = model::version_of(&trained.card);
    Ok(ModelFile {
        format: FORMAT,
        version: version[..12].to_owned(),
        policy: policy.name.clone(),
        readings: Some(policy.readings_version().to_owned()),
        sequences: model::sequences(policy)
            .into_iter()
            .filter(|(name, _)| is_read(&format!("{SEQUENCE_PREFIX}{name}")))
            .collect(),
        horizon_days: training.horizon_days,
        data_until: end.iso(),
        report: report(&examples, &trained, data)?,
        card: trained.card,
    })
}

impl Stays {
    /// Reads outcomes: CSV with the columns account_id, kind and churned_at, and eligible_from and observed_until where stays are listed
    /// whether they ended or not; or JSON lines as in the topic of outcomes, of which `churned` ends a stay.
    pub(crate) fn read(path: &Path, kind: Option<&str>) -> Result<Stays> {
        let mut stays = Stays { others_stayed: true, ..Stays::default() };
        let name = path.to_string_lossy();
        if name.trim_end_matches(".gz").ends_with(".csv") {
            let mut kinds = BTreeSet::new();
            for stay in files::open_stays(path)? {
                let stay = stay.with_context(|| path.display().to_string())?;
                kinds.insert(stay.kind.clone());
                if kind.is_some_and(|kind| kind != stay.kind) {
                    continue;
                }
                stays.others_stayed &= stay.eligible_from.is_none();
                let stay_of = Stay {
                    eligible_from: stay.eligible_from.unwrap_or(Millis::MIN),
                    churned_at: stay.churned_at,
                    observed_until: stay.observed_until.unwrap_or(Millis::MAX),
                };
                stays.listed.entry(stay.account).or_default().push(stay_of);
            }
            let named: Vec<String> = kinds.iter().map(|kind| show::plain(kind)).collect();
            match kind {
                Some(kind) if !kinds.contains(kind) => {
                    wrong!(
                        "{name} has no outcomes of the kind `{kind}`, it has {}",
                        named.join(", ")
                    )
                }
                None if kinds.len() > 1 => {
                    wrong!(
                        "{name} has outcomes of several kinds: choose one of {} with --kind",
                        named.join(", ")
                    )
                }
                Some(_) | None => {}
            }
            return Ok(stays);
        }
        for outcome in files::open_outcomes(path)? {
            let outcome = outcome.with_context(|| path.display().to_string())?;
            if outcome.kind == OutcomeKind::Churned {
                stays.left(outcome.account, outcome.occurred_at);
            }
        }
        Ok(stays)
    }

    /// Takes in that an account left.
    fn left(&mut self, account: AccountId, at: Millis) {
        let stay =
            Stay { eligible_from: Millis::MIN, churned_at: Some(at), observed_until: Millis::MAX };
        self.listed.entry(account).or_default().push(stay);
    }

    /// The stays of an account, none of them observed beyond `end`.
    fn of(&self, account: &AccountId, end: Millis) -> Vec<Stay> {
        let whole = Stay { eligible_from: Millis::MIN, churned_at: None, observed_until: end };
        let bounded = |stay: &Stay| Stay {
            observed_until: stay.observed_until.min(end),
            churned_at: stay.churned_at.filter(|at| *at <= end),
            ..*stay
        };
        match self.listed.get(account) {
            Some(stays) => stays.iter().map(bounded).collect(),
            None if self.others_stayed => vec![bounded(&whole)],
            None => Vec::new(),
        }
    }
}

fn report(examples: &[Example], trained: &Trained, data: Value) -> Result<Value> {
    let outcomes = examples.iter().filter(|example| example.churned()).count();
    let holdout = trained.holdout.as_ref();
    Ok(json!({
        "examples": examples.len(),
        "outcomes": outcomes,
        "holdout": holdout.map(|found| json!({
            "from": found.cut.iso(),
            "learned_from": {"examples": found.learned_from.0, "outcomes": found.learned_from.1},
            "all": worth(&found.worth),
            "cohorts": found.cohorts.iter().map(|(name, found)| (name.clone(), worth(found)))
                .collect::<serde_json::Map<String, Value>>(),
            "curves": curves(&found.curves),
            "challenger": found.challenger.map(|[auc, precision]| json!({"auc": auc, "average_precision": precision})),
        })),
        "data": data,
        // What a running engine compares its accounts with.
        "distributions": serde_json::to_value(fitted(examples, &trained.card))?,
    }))
}

/// In digits that a figure can show: a record of a model is bounded.
fn curves(curves: &Curves) -> Value {
    let short = |value: f64| (value * 1e4).round() / 1e4;
    let points = |curve: &[[f64; 2]]| -> Vec<[f64; 2]> {
        curve.iter().map(|point| point.map(short)).collect()
    };
    json!({
        "roc": points(&curves.roc),
        "precision_recall": points(&curves.precision_recall),
        "calibration": curves.calibration.iter().map(|bin| bin.map(short)).collect::<Vec<_>>(),
        "lead_weeks": lead_weeks(&curves.lead_days),
    })
}

/// How many lost accounts were alerted so many weeks before: less than one, less than two, …
fn lead_weeks(days: &[f64]) -> Vec<usize> {
    let mut weeks = Vec::new();
    for lead in days {
        let week = (lead / 7.0) as usize;
        weeks.resize(weeks.len().max(week + 1), 0);
        weeks[week] += 1;
    }
    weeks
}

fn worth(worth: &Worth) -> Value {
    let interval =
        |found: Option<Interval>| found.map(|found| [found.value, found.low, found.high]);
    json!({
        "predictions": worth.predictions,
        "outcomes": worth.outcomes,
        "accounts": worth.accounts,
        "auc": interval(worth.auc),
        "average_precision": interval(worth.average_precision),
        "has_skill": worth.has_skill(),
        "calibration_error": worth.accuracy.as_ref().map(|found| found.calibration_error),
        "mean_risk": worth.accuracy.as_ref().map(|found| found.mean_risk),
        "base_rate": worth.accuracy.as_ref().map(|found| found.base_rate),
        "at_half_recall": worth.alerting.as_ref().map(|found| json!({
            "precision": found.precision,
            "false_per_account_year": found.false_per_account_year,
            "median_lead_days": found.median_lead_days,
        })),
    })
}

fn print(model: &ModelFile) {
    println!(
        "Model {} for the policy {}: who leaves within {} days; from data until {}.",
        model.version, model.policy, model.horizon_days, model.data_until
    );
    println!(
        "Weights are points between the best and the worst reading, with their standard errors.\n"
    );
    let (header, rows) = weights(model);
    let mut table = show::table(&header.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row);
    }
    println!("{table}");
    print_holdout(&model.report);
    data::print(&model.report["data"]);
}

/// What a model knows, line by line: a header, and rows of points with their standard errors, for all and by cohort.
fn weights(model: &ModelFile) -> (Vec<String>, Vec<Vec<String>>) {
    let card = &model.card;
    let mut header = vec!["line".to_owned(), "all".to_owned()];
    header.extend(card.model.cohorts.keys().map(|name| match name.as_str() {
        "" => "(no cohort)".to_owned(),
        name => show::plain(name),
    }));
    let parts: Vec<_> =
        std::iter::once(&card.model.global).chain(card.model.cohorts.values()).collect();
    let mut count = vec!["examples / outcomes".to_owned()];
    count.extend(parts.iter().map(|part| format!("{} / {}", part.examples, part.outcomes)));
    let mut rows = vec![count];
    let mut segment = 0;
    for feature in &card.model.features {
        let segments = segment..segment + feature.transform.segments();
        segment = segments.end;
        let mut line = vec![name(feature)];
        line.extend(parts.iter().map(|part| {
            let weights = &part.weights.segments[segments.clone()];
            let value: f64 = weights.iter().map(|weight| weight.value).sum();
            let error = weights.iter().map(|weight| weight.error.powi(2)).sum::<f64>().sqrt();
            let points = |log_odds: f64| card.points(-log_odds).as_f64();
            format!("{:.1} ± {:.1}", points(value), points(error))
        }));
        rows.push(line);
    }
    (header, rows)
}

fn name(feature: &Feature) -> String {
    use bellwether_learn::feature::Role;
    match feature.role {
        Role::Score => feature.name.clone(),
        Role::Base => format!("{} (base odds only)", feature.name),
    }
}

fn print_holdout(report: &Value) {
    let holdout = &report["holdout"];
    let Some(from) = holdout["from"].as_str() else {
        println!("No hold-out: there are too few prediction times. What it is worth is not known.");
        return;
    };
    let all = &holdout["all"];
    let figure = |value: &Value, digits: usize| match value.as_f64() {
        Some(value) => format!("{value:.digits$}"),
        None => "–".to_owned(),
    };
    let interval = |value: &Value| {
        format!("{} [{}, {}]", figure(&value[0], 3), figure(&value[1], 3), figure(&value[2], 3))
    };
    println!(
        "Hold-out from {from}: {} predictions, {} before an account left; learned from {} examples with {} outcomes.",
        all["predictions"],
        all["outcomes"],
        holdout["learned_from"]["examples"],
        holdout["learned_from"]["outcomes"]
    );
    println!(
        "AUC {}, average precision {}, calibration error {} (mean risk {}, base rate {}).",
        interval(&all["auc"]),
        interval(&all["average_precision"]),
        figure(&all["calibration_error"], 3),
        figure(&all["mean_risk"], 3),
        figure(&all["base_rate"], 3)
    );
    println!(
        "Gradient-boosted trees on the same examples: AUC {}.",
        figure(&holdout["challenger"]["auc"], 3)
    );
    if all["has_skill"] != true {
        println!(
            "No skill: on the hold-out it ranks no better than chance. Do not put it to work."
        );
    }
}
