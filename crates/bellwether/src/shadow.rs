//! `bellwether shadow`: a challenger beside the model in force on the live stream, and what it says otherwise.
//!
//! A challenger is a record of the topic of promotions; workers publish what it says beside the champion, and the comparison reads what they
//! published. Nothing is computed anew but sums.

mod page;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bellwether_core::id::AccountId;
use bellwether_core::output::{Band, Output, Scored, ShadowLine, ShadowScore};
use bellwether_core::points::Points;
use bellwether_core::time::Millis;
use bellwether_engine::log::Record;
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::{Encoder, OutputKind};
use serde_json::{Value, json};

use crate::against::{Standing, figure, scores};
use crate::cli::{ChangeArgs, PromotionArgs, ShadowCommand, ShadowCompareArgs, ShadowStartArgs};
use crate::config::Config;
use crate::model::{self, Card};
use crate::place::Place;
use crate::usage::{Usage, wrong};
use crate::{app, policies, show};

/// Accounts that the terminal names.
const NAMED: usize = 12;

/// Runs the command.
pub(crate) fn run(command: &ShadowCommand, config: &Config, json: bool) -> Result<ExitCode> {
    match command {
        ShadowCommand::Start(args) => start(args, config, json),
        ShadowCommand::Compare(args) => compare(args, config, json),
        ShadowCommand::Promote(args) => promote(args, config, json),
        ShadowCommand::Stop(args) => stop(args, config, json),
    }
}

/// A record that brings a challenger, or without a model the end of it.
fn challenger(model: Option<String>, from: Millis, by: Option<&str>, note: Option<&str>) -> Value {
    let mut record = model::promotion(model, from, by, note);
    record["shadow"] = Value::Bool(true);
    record
}

fn start(args: &ShadowStartArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let card = Card::usable(&args.file, &policies::load(config.policy.as_deref())?)?;
    let from = model::at(args.change.from.as_deref())?;
    let text = card.text(&args.file)?;
    let record = challenger(Some(text), from, args.change.by.as_deref(), args.note.as_deref());
    model::append(&Place::open(&args.change.at, config)?, &record, config)?;
    say(&record, json, |from| {
        format!(
            "{} scores beside what is in force from {from} on, into {}. See what it says with `shadow compare`.",
            card.name(),
            config.topics.shadow
        )
    })
}

fn stop(args: &ChangeArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let place = Place::open(&args.at, config)?;
    let from = model::at(args.from.as_deref())?;
    if running(&place, config, from)?.is_none() {
        wrong!("no challenger was started before {}: there is nothing to stop", from.iso());
    }
    let record = challenger(None, from, args.by.as_deref(), None);
    model::append(&place, &record, config)?;
    say(&record, json, |from| format!("No challenger scores from {from} on."))
}

fn promote(args: &PromotionArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let place = Place::open(&args.change.at, config)?;
    let from = model::at(args.change.from.as_deref())?;
    let Some(text) = running(&place, config, from)? else {
        wrong!("no challenger was started before {}: start one with `shadow start`", from.iso());
    };
    let card = Card::parse(&text).map_err(Usage)?;
    if let Some(doubt) = card.doubt().filter(|_| !args.anyway) {
        wrong!("{}: {doubt}", card.name())
    }
    let note = args.note.as_deref().unwrap_or("promoted from the shadow");
    let record = model::promotion(Some(text), from, args.change.by.as_deref(), Some(note));
    model::append(&place, &record, config)?;
    // It would say the same as itself.
    let end = challenger(None, from, args.change.by.as_deref(), Some("promoted"));
    model::append(&place, &end, config)?;
    say(&record, json, |from| {
        format!("{} is in force from {from} on, and no challenger beside it.", card.name())
    })
}

/// The model of the challenger that scores at a time, as text; none where there is none.
fn running(place: &Place, config: &Config, at: Millis) -> Result<Option<String>> {
    let all = model::all(place, config)?;
    let mut before = all.iter().rev().filter(|known| {
        known["shadow"] == true && model::from(known).is_some_and(|from| from <= at)
    });
    Ok(before.next().and_then(|known| known["model"].as_str()).map(str::to_owned))
}

fn say(record: &Value, json: bool, words: impl FnOnce(&str) -> String) -> Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string_pretty(record)?);
    } else {
        println!("{}", words(record["from"].as_str().unwrap_or_default()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The latest pair of scores of each account, by challenger.
pub(crate) struct Latest {
    decoder: Decoder,
    found: BTreeMap<String, BTreeMap<AccountId, ShadowScore>>,
}

impl Latest {
    pub(crate) fn new(decoder: Decoder) -> Latest {
        Latest { decoder, found: BTreeMap::new() }
    }

    /// Takes the next record of the shadow topic; records of an account come in their order.
    pub(crate) fn take(&mut self, payload: Option<&[u8]>) -> Result<(), DecodeError> {
        if let Output::Shadow(beside) = self.decoder.output(OutputKind::Shadow, payload)? {
            let of = self.found.entry(beside.shadow_id.clone()).or_default();
            of.insert(beside.account_id.clone(), *beside);
        }
        Ok(())
    }

    /// The pairs, as records in JSON.
    pub(crate) fn records(self) -> Vec<Value> {
        let encoder = Encoder::json();
        let pairs = self.found.into_values().flat_map(BTreeMap::into_values);
        let encoded = pairs.map(|pair| encoder.encode(&Output::Shadow(Box::new(pair))).payload);
        encoded.flatten().filter_map(|payload| serde_json::from_slice(&payload).ok()).collect()
    }

    /// The pairs of a challenger: of the one that is named, or of the one that scored last.
    fn of(mut self, id: Option<&str>) -> Option<Vec<ShadowScore>> {
        let last = |pairs: &BTreeMap<AccountId, ShadowScore>| pairs.values().map(|of| of.at).max();
        let newest = self.found.iter().max_by_key(|(_, pairs)| last(pairs));
        let id = id.map(str::to_owned).or(newest.map(|(id, _)| id.clone()))?;
        self.found.remove(&id).map(|pairs| pairs.into_values().collect())
    }
}

/// What workers published of challengers: from the topic, or from a server that has read it.
fn published(args: &ShadowCompareArgs, config: &Config) -> Result<Latest> {
    let place = Place::open(&args.at, config)?;
    let registry = app::registry(config);
    let decoder = Decoder::new(registry.as_ref(), config.engine.record_bytes_max)?;
    let mut latest = Latest::new(decoder);
    if let Some(answer) = place.get("/v1/shadow")? {
        for record in answer["scores"].as_array().into_iter().flatten() {
            latest.take(Some(&serde_json::to_vec(record)?))?;
        }
        return Ok(latest);
    }
    let mut failed = None;
    place.each(&config.topics.shadow, &mut |record: Record| {
        let taken = latest.take(record.payload.as_deref());
        failed = failed.take().or(taken.err());
    })?;
    match failed {
        Some(error) => {
            Err(error).with_context(|| format!("{} cannot be read", config.topics.shadow))
        }
        None => Ok(latest),
    }
}

/// Where no challenger has published anything: exit code 3.
fn compare(args: &ShadowCompareArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let latest = published(args, config)?;
    let Some(pairs) = latest.of(args.shadow.as_deref()).filter(|pairs| !pairs.is_empty()) else {
        eprintln!(
            "error: no challenger has published anything in {}: start one with `shadow start`; it scores when days are judged",
            config.topics.shadow
        );
        return Ok(ExitCode::from(crate::EXIT_WANTING));
    };
    let found = compared(&pairs);
    if let Some(path) = &args.html {
        std::fs::write(path, page::page(&found))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&found)?);
        return Ok(ExitCode::SUCCESS);
    }
    print(&found);
    if let Some(path) = &args.html {
        println!("\n{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The accounts of one side.
fn side(
    pairs: &[ShadowScore],
    scored: impl Fn(&ShadowScore) -> Scored,
    points: impl Fn(&ShadowLine) -> Points,
) -> BTreeMap<AccountId, Standing> {
    let accounts = pairs.iter().map(|pair| {
        let Scored { score, band } = scored(pair);
        let lines = pair.lines.iter().map(|line| (line.name.clone(), points(line))).collect();
        (pair.account_id.clone(), Standing { score, band, lines })
    });
    accounts.collect()
}

/// What both say, as of the latest pair of each account.
fn compared(pairs: &[ShadowScore]) -> Value {
    let old = side(pairs, |pair| pair.sides.champion, |line| line.champion);
    let new = side(pairs, |pair| pair.sides.challenger, |line| line.challenger);
    let newest = pairs.iter().max_by_key(|pair| pair.at);
    let text = |of: fn(&ShadowScore) -> &str| newest.map(of).unwrap_or_default();
    let time = |at: Option<Millis>| at.map(Millis::iso);
    let mut list: Vec<&ShadowScore> = pairs.iter().collect();
    list.sort_by_key(|pair| (std::cmp::Reverse(apart(pair).abs()), &pair.account_id));
    json!({
        "shadow_id": text(|pair| &pair.shadow_id),
        "policy_version": text(|pair| &pair.policy_version),
        "old": {"model_version": text(|pair| &pair.model_version)},
        "new": {"model_version": text(|pair| &pair.challenger_version)},
        "from": time(pairs.iter().map(|pair| pair.at).min()),
        "to": time(newest.map(|pair| pair.at)),
        "scores": scores(&old, &new),
        "cohorts": cohorts(pairs),
        "list": list.iter().map(|pair| json!({
            "account_id": pair.account_id.as_str(),
            "segment": pair.segment,
            "at": pair.at.iso(),
            "old": pair.sides.champion.score.as_f64(),
            "new": pair.sides.challenger.score.as_f64(),
            "old_band": pair.sides.champion.band.as_str(),
            "new_band": pair.sides.challenger.band.as_str(),
        })).collect::<Vec<Value>>(),
    })
}

/// The challenger's score minus the champion's.
fn apart(pair: &ShadowScore) -> Points {
    pair.sides.challenger.score - pair.sides.champion.score
}

fn cohorts(pairs: &[ShadowScore]) -> Vec<Value> {
    let mut cohorts: BTreeMap<&str, Vec<&ShadowScore>> = BTreeMap::new();
    for pair in pairs {
        cohorts.entry(pair.segment.as_deref().unwrap_or_default()).or_default().push(pair);
    }
    let of = |(name, pairs): (&str, Vec<&ShadowScore>)| {
        let mean = |points: &dyn Fn(&ShadowScore) -> Points| {
            let sum: f64 = pairs.iter().map(|pair| points(pair).as_f64()).sum();
            (sum / pairs.len() as f64 * 100.0).round() / 100.0
        };
        let rebanded =
            |pair: &&&ShadowScore| pair.sides.champion.band != pair.sides.challenger.band;
        json!({
            "cohort": name,
            "accounts": pairs.len(),
            "old_mean": mean(&|pair| pair.sides.champion.score),
            "new_mean": mean(&|pair| pair.sides.challenger.score),
            "mean_difference": mean(&|pair| apart(pair).abs()),
            "rebanded": pairs.iter().filter(rebanded).count(),
        })
    };
    cohorts.into_iter().map(of).collect()
}

/// The rows that tell the sides apart: name, champion, challenger.
fn rows(found: &Value) -> Vec<[String; 3]> {
    let text = |side: &str| found[side]["model_version"].as_str().unwrap_or("").to_owned();
    let mut rows = vec![["scorecard".to_owned(), text("old"), text("new")]];
    for (name, band) in
        [("healthy", Band::Healthy), ("neutral", Band::Neutral), ("at risk", Band::AtRisk)]
    {
        let bands = &found["scores"]["bands"];
        let count = |side: &str| bands[side][band.as_str()].as_u64().unwrap_or(0).to_string();
        rows.push([format!("accounts {name}"), count("old"), count("new")]);
    }
    rows
}

/// A cohort: name, accounts, mean of the champion and of the challenger, mean difference, other band.
fn cohort_cells(cohort: &Value) -> [String; 6] {
    let name = match cohort["cohort"].as_str() {
        Some("") | None => "(no cohort)",
        Some(name) => name,
    };
    [
        name.to_owned(),
        cohort["accounts"].to_string(),
        figure(&cohort["old_mean"], 1),
        figure(&cohort["new_mean"], 1),
        figure(&cohort["mean_difference"], 1),
        cohort["rebanded"].to_string(),
    ]
}

const COHORT_HEADER: [&str; 6] =
    ["cohort", "accounts", "champion, mean", "challenger, mean", "apart, mean", "another band"];

/// What the differences come to, in words.
fn sentence(found: &Value) -> String {
    let scores = &found["scores"];
    format!(
        "{} of {} accounts have another score, {} another band; stability index {}. Alerts rest on evidence and not on scores: a challenger \
         raises the same ones, but for those of bands.",
        scores["moved"],
        scores["accounts"],
        scores["rebanded"],
        figure(&scores["stability_index"], 3)
    )
}

/// An account: id, champion and challenger with their bands, when.
fn account_cells(pair: &Value) -> [String; 4] {
    let side = |side: &str| {
        let band = pair[format!("{side}_band")].as_str().unwrap_or("").replace('_', " ");
        format!("{} {band}", figure(&pair[side], 2))
    };
    let at = pair["at"].as_str().unwrap_or("");
    let account = pair["account_id"].as_str().unwrap_or("").to_owned();
    [account, side("old"), side("new"), at.get(..10).unwrap_or(at).to_owned()]
}

const ACCOUNT_HEADER: [&str; 4] = ["account", "champion", "challenger", "judged"];

fn print(found: &Value) {
    let mut table = show::table(&["", "champion", "challenger"]);
    for row in rows(found) {
        table.add_row(row.map(|cell| show::plain(&cell)));
    }
    println!("{table}");
    println!("{}", sentence(found));
    let mut table = show::table(&COHORT_HEADER);
    for cohort in found["cohorts"].as_array().into_iter().flatten() {
        table.add_row(cohort_cells(cohort).map(|cell| show::plain(&cell)));
    }
    println!("{table}");
    let list = found["list"].as_array().map_or(&[][..], Vec::as_slice);
    let mut table = show::table(&ACCOUNT_HEADER);
    for pair in list.iter().take(NAMED) {
        table.add_row(account_cells(pair).map(|cell| show::plain(&cell)));
    }
    println!("{table}");
    if list.len() > NAMED {
        println!("… and {} more: --json or --html has them all.", list.len() - NAMED);
    }
}
