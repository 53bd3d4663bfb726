//! Examples as workers published them, and the outcomes that became known since: what a fit learns from without any history of its own.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use bellwether_core::event::OutcomeKind;
use bellwether_core::id::AccountId;
use bellwether_core::output::{LearningExample, Output};
use bellwether_core::policy::Compiled;
use bellwether_core::time::{DAY_MS, Millis};
use bellwether_engine::log::Record;
use bellwether_learn::example::Example;
use bellwether_learn::feature::{SIGNAL_PREFIX, features};
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::OutputKind;
use serde_json::{Map, Value, json};

use super::{Stays, weight};
use crate::app;
use crate::config::Config;
use crate::place::Place;
use crate::usage::wrong;

/// What the topic of examples has for one horizon.
pub(super) struct Published {
    /// In the order of time. What became of the accounts is not known here.
    pub(super) rows: Vec<Example>,
    /// The newest example: outcomes are known up to then.
    pub(super) end: Millis,
    /// Days from one example of an account to its next, by the newest.
    pub(super) step_days: u32,
    /// What there was, and what was not used.
    pub(super) data: Value,
}

/// What there is of a cohort.
#[derive(Default)]
struct Cohort<'a> {
    accounts: BTreeSet<&'a AccountId>,
    examples: u64,
    /// Examples without a reading, by feature.
    missing: Vec<u64>,
}

/// Records that were not used.
#[derive(Default)]
struct Unused {
    other_horizon: BTreeMap<u32, u64>,
    other_readings: u64,
    unreadable: u64,
}

/// Reads the topic of examples. Of one account and day the last record counts: after `reset` there may be several.
pub(super) fn examples(
    place: &Place,
    config: &Config,
    policy: &Compiled,
    horizon_days: u32,
) -> Result<Published> {
    let topic = &config.topics.examples;
    let names: Vec<String> = features(policy).into_iter().map(|feature| feature.name).collect();
    let mut decoder = decoder(config)?;
    let mut rows: BTreeMap<(i64, AccountId), Example> = BTreeMap::new();
    let (mut unused, mut newest) = (Unused::default(), None);
    let unreadable = each(place, topic, |record| {
        let decoded = decoder.output(OutputKind::Example, record.payload.as_deref())?;
        let Output::Example(found) = decoded else { return Ok(()) };
        if found.horizon_days != horizon_days {
            *unused.other_horizon.entry(found.horizon_days).or_default() += 1;
        } else if found.readings_version != policy.examples_version() {
            unused.other_readings += 1;
        } else {
            newest = newest.max(Some((found.at, found.step_days)));
            let row = row(*found, &names);
            rows.insert((row.at.0.div_euclid(DAY_MS), row.account.clone()), row);
        }
        Ok(())
    })?;
    unused.unreadable = unreadable;
    let Some((end, step_days)) = newest else {
        let horizons: Vec<String> = unused
            .other_horizon
            .iter()
            .map(|(days, count)| format!("{count} of {days} days"))
            .collect();
        let horizons = if horizons.is_empty() { "none".to_owned() } else { horizons.join(", ") };
        wrong!(
            "{topic} has no example of a horizon of {horizon_days} days that this policy can read: {horizons} of other horizons (--horizon-days), \
             {} of policies whose signals mean something else, {} that cannot be read. Workers publish one of each account every \
             learning.example_days of their policy",
            unused.other_readings,
            unused.unreadable
        )
    };
    let rows: Vec<Example> = rows.into_values().collect();
    let data = unused.told(&rows, &names);
    Ok(Published { rows, end, step_days, data })
}

/// Takes each record of a topic, and counts those that cannot be read. That a registry does not answer is no record's fault: it ends the
/// reading.
fn each(
    place: &Place,
    topic: &str,
    mut take: impl FnMut(Record) -> Result<(), DecodeError>,
) -> Result<u64> {
    let (mut unreadable, mut failed) = (0, None);
    place
        .each(topic, &mut |record| match take(record) {
            Ok(()) => {}
            Err(DecodeError::Reject(_)) => unreadable += 1,
            Err(error @ DecodeError::RegistryUnavailable(_)) => {
                failed.get_or_insert(error);
            }
        })
        .with_context(|| format!("{topic} cannot be read"))?;
    failed.map_or(Ok(()), Err)?;
    Ok(unreadable)
}

fn decoder(config: &Config) -> Result<Decoder> {
    Ok(Decoder::new(app::registry(config).as_ref(), config.engine.record_bytes_max)?)
}

/// An example with its readings in the order of the features; those that it does not know are missing.
fn row(found: LearningExample, names: &[String]) -> Example {
    let readings: BTreeMap<String, Option<f64>> = found.readings.into_iter().collect();
    let reading = |name: &String| readings.get(name).copied().flatten().unwrap_or(f64::NAN);
    Example {
        account: found.account_id,
        cohort: found.segment.unwrap_or_default(),
        at: found.at,
        features: names.iter().map(reading).collect(),
        left_after_ms: None,
        weight: weight(found.step_days, found.horizon_days),
    }
}

impl Unused {
    /// How good the data are, cohort by cohort: examples, and the share of them without a reading, by reading.
    fn told(&self, rows: &[Example], names: &[String]) -> Value {
        let mut cohorts: BTreeMap<&str, Cohort<'_>> = BTreeMap::new();
        for row in rows {
            let of = cohorts.entry(&row.cohort).or_default();
            of.accounts.insert(&row.account);
            of.examples += 1;
            of.missing.resize(names.len(), 0);
            for (count, value) in of.missing.iter_mut().zip(&row.features) {
                *count += u64::from(value.is_nan());
            }
        }
        let cohorts = cohorts.into_iter().map(|(name, of)| {
            let share = |count: u64| (count as f64 / of.examples as f64 * 1e4).round() / 1e4;
            let missing = names.iter().zip(&of.missing).filter(|(_, count)| **count > 0);
            let name_of =
                |name: &String| name.strip_prefix(SIGNAL_PREFIX).unwrap_or(name).to_owned();
            let missing: Map<String, Value> =
                missing.map(|(name, count)| (name_of(name), share(*count).into())).collect();
            (name.to_owned(), json!({"accounts": of.accounts.len(), "missing": missing}))
        });
        json!({
            "examples": rows.len(),
            "other_horizon": self.other_horizon.values().sum::<u64>(),
            "other_readings": self.other_readings,
            "unreadable": self.unreadable,
            "cohorts": cohorts.collect::<Map<String, Value>>(),
        })
    }
}

/// Reads who left from the topic of outcomes, and counts what cannot be read there: workers rejected it, too.
pub(super) fn outcomes(place: &Place, config: &Config, data: &mut Value) -> Result<Stays> {
    let topic = &config.topics.outcomes;
    let mut decoder = decoder(config)?;
    let mut stays = Stays { others_stayed: true, ..Stays::default() };
    let unreadable = each(place, topic, |record| {
        let outcome = decoder.outcome(record.key.as_deref(), record.payload.as_deref())?;
        if outcome.kind == OutcomeKind::Churned {
            stays.left(outcome.account, outcome.occurred_at);
        }
        Ok(())
    })?;
    data["unreadable_outcomes"] = unreadable.into();
    Ok(stays)
}
