//! `bellwether explain ACCOUNT --at TIME`, and the same over HTTP: the score as it stood then, from what was published.
//!
//! Every published change names the lines that moved and their points, so the lines at any time are those of the records up to it, one
//! after the other, and they sum exactly to the score of the last one. The alerts that were open then come with the evidence that was
//! published with them. Nothing is computed anew: policy and model are those that the record names.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use bellwether_core::id::AccountId;
use bellwether_core::output::{
    AlertEvent, Contribution, HealthRecord, Output, ScoreChanged, Transition,
};
use bellwether_core::points::Points;
use bellwether_core::time::Millis;
use bellwether_engine::log::{Record, Topic};
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::OutputKind;

use crate::cli::ExplainArgs;
use crate::config::Config;
use crate::source::Source;
use crate::{app, explain, learn};

/// Runs the command. Where nothing of the account was published by then, or not all that led up to it is kept: exit code 3.
pub(crate) fn run(args: &ExplainArgs, at: &str, config: &Config, json: bool) -> Result<ExitCode> {
    let id = explain::account(&args.account)?;
    let at = learn::time(at)?;
    let source = Source::open(&args.args, config, "bellwether-explain")?;
    let registry = app::registry(config);
    let mut decoder = Decoder::new(registry.as_ref(), config.engine.record_bytes_max)?;
    let mut outputs = Vec::new();
    for (topic, kind) in [
        (&config.topics.score_changed, OutputKind::ScoreChanged),
        (&config.topics.alerts, OutputKind::Alert),
    ] {
        outputs.extend(published(&source, topic, &id, (kind, &mut decoder))?);
    }
    let (record, open) = stood(outputs, at);
    let Some(record) = record else {
        eprintln!("error: nothing was published of account {id} by {}", at.iso());
        return Ok(ExitCode::from(crate::EXIT_WANTING));
    };
    if !is_explained(&record) {
        eprintln!(
            "error: the score of account {id} was {} at {}, but records that led up to it are no longer kept in {}: its lines are not known",
            record.score,
            record.at.iso(),
            config.topics.score_changed
        );
        return Ok(ExitCode::from(crate::EXIT_WANTING));
    }
    let alerts = open.into_iter().map(|event| Output::Alert(Box::new(event)));
    let outputs: Vec<Output> =
        std::iter::once(Output::Health(Box::new(record))).chain(alerts).collect();
    explain::print(&outputs, json)
}

/// How an account stood at a time, by the score changes and the alerts that were published of it, each in their order: its record, none where
/// nothing was, and the alerts that were open.
pub(crate) fn stood(
    published: impl IntoIterator<Item = Output>,
    at: Millis,
) -> (Option<HealthRecord>, Vec<AlertEvent>) {
    let (mut changes, mut alerts) = (Vec::new(), Vec::new());
    for output in published {
        match output {
            Output::ScoreChanged(change) if change.at <= at => changes.push(*change),
            Output::Alert(event) if event.at <= at => alerts.push(*event),
            Output::ScoreChanged(_)
            | Output::Alert(_)
            | Output::Health(_)
            | Output::Shadow(_)
            | Output::Example(_)
            | Output::Forgotten(_) => {}
        }
    }
    let open = open(alerts);
    (record(&changes, &open), open)
}

/// Whether the lines of a record say all of its score.
pub(crate) fn is_explained(record: &HealthRecord) -> bool {
    record.contributions.iter().map(|line| line.points).sum::<Points>() == record.score
}

/// What a topic has of an account, in the order in which it was published.
fn published(
    source: &Source,
    topic: &str,
    id: &AccountId,
    (kind, decoder): (OutputKind, &mut Decoder),
) -> Result<Vec<Output>> {
    let topic: Topic = topic.into();
    let mut records: Vec<Record> = Vec::new();
    for partition in 0..source.partitions(&topic)? {
        source.read(&topic, partition, &mut |record| {
            if record.key.as_deref() == Some(id.as_str().as_bytes()) {
                records.push(record);
            }
        })?;
    }
    let outputs = records.iter().map(|record| decoder.output(kind, record.payload.as_deref()));
    Ok(outputs.collect::<Result<Vec<Output>, DecodeError>>()?)
}

/// The alerts that are open after these events, each as it was last told.
fn open(events: Vec<AlertEvent>) -> Vec<AlertEvent> {
    let mut latest: BTreeMap<String, AlertEvent> = BTreeMap::new();
    for event in events {
        latest.insert(event.alert_id.clone(), event);
    }
    let mut open: Vec<AlertEvent> =
        latest.into_values().filter(|event| event.transition != Transition::Resolved).collect();
    open.sort_by_key(|event| event.opened_at);
    open
}

/// The record that the changes amount to; none without any.
fn record(changes: &[ScoreChanged], open: &[AlertEvent]) -> Option<HealthRecord> {
    let last = changes.last()?;
    // A deleted account began anew.
    let first = changes.iter().rposition(|change| change.previous_score.is_none()).unwrap_or(0);
    let mut lines: Vec<Contribution> = Vec::new();
    for movement in changes[first..].iter().flat_map(|change| &change.movements) {
        match lines.iter_mut().find(|line| line.name == movement.name) {
            Some(line) => line.points = movement.points,
            None => lines.push(Contribution {
                name: movement.name.clone(),
                category: movement.category,
                points: movement.points,
                observed: None,
                baseline: None,
                unit: String::new(),
            }),
        }
    }
    lines.retain(|line| line.points != Points::ZERO);
    Some(HealthRecord {
        account_id: last.account_id.clone(),
        name: None,
        segment: None,
        sequence: last.sequence,
        at: last.at,
        score: last.score,
        band: last.band,
        maturity: last.maturity,
        contributions: lines,
        sub_scores: last.sub_scores.clone(),
        evidence: open.iter().flat_map(|event| event.evidence.clone()).collect(),
        masked: Vec::new(),
        rebaselined: Vec::new(),
        open_alerts: open.iter().map(|event| event.alert_id.clone()).collect(),
        last_event_at: None::<Millis>,
        policy_version: last.policy_version.clone(),
        model_version: last.model_version.clone(),
    })
}
