//! Models: their files, and which of them is promoted when.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use bellwether_core::drift::Fitted;
use bellwether_core::policy::Compiled;
use bellwether_core::promotion::{MODEL_BYTES_MAX, ModelReader};
use bellwether_core::publish::content_id;
use bellwether_core::ranking::{Auc, HeldOut};
use bellwether_core::score::Scorer;
use bellwether_core::sequence::Sequence;
use bellwether_core::step::Core;
use bellwether_core::time::Millis;
use bellwether_core::weights::OtherWeights;
use bellwether_engine::clock::now_ms;
use bellwether_engine::log::Record;
use bellwether_learn::scorecard::Scorecard;
use bellwether_learn::scorer::LearnedScorer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cli::{ChangeArgs, InputArgs, PromoteArgs};
use crate::config::Config;
use crate::place::Place;
use crate::show;
use crate::usage::{Usage, text_of, wrong};

/// Of a model file: what this version writes and reads.
pub(crate) const FORMAT: u32 = 1;

/// A model, as it is kept in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelFile {
    pub(crate) format: u32,
    /// Of the scorecard's content: it names the model in every record.
    pub(crate) version: String,
    /// The policy whose signals it scores.
    pub(crate) policy: String,
    /// Of what that policy's readings depend on; a model of before that was kept has none.
    #[serde(default)]
    pub(crate) readings: Option<String>,
    /// The sequences that it knows: of each, a hash of what its reading depends on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sequences: BTreeMap<String, String>,
    pub(crate) horizon_days: u32,
    /// The end of the data that it was learned from.
    pub(crate) data_until: String,
    pub(crate) card: Scorecard,
    /// What its like was worth on a later hold-out.
    pub(crate) report: Value,
}

impl ModelFile {
    /// Reads a model from its text.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(crate) fn parse(text: &str) -> Result<ModelFile, String> {
        let model: ModelFile = serde_json::from_str(text)
            .map_err(|error| format!("it is no model of this version: {error}"))?;
        if model.format != FORMAT {
            return Err(format!(
                "it has format {}, this version reads {FORMAT}: fit it anew",
                model.format
            ));
        }
        model.card.check().map_err(|error| error.to_string())?;
        if model.version != version_of(&model.card)[..VERSION_CHARS] {
            return Err("its content is not that of its version: fit it anew".to_owned());
        }
        if !(7..=366).contains(&model.horizon_days) {
            let days = model.horizon_days;
            return Err(format!("its horizon_days is {days}, allowed are 7 to 366"));
        }
        Ok(model)
    }

    pub(crate) fn read(path: &Path) -> Result<ModelFile> {
        let parsed = ModelFile::parse(&text_of(path)?);
        Ok(parsed.map_err(|error| Usage(format!("{}: {error}", path.display())))?)
    }

    /// Whether its like ranked better than chance on the hold-out.
    pub(crate) fn has_skill(&self) -> bool {
        self.report["holdout"]["all"]["has_skill"] == true
    }

    /// The scorecard at work, under the policy that it was learned for.
    pub(crate) fn scorer(&self, policy: &Compiled) -> Result<Arc<dyn Scorer>, String> {
        if self.policy != policy.name {
            return Err(format!(
                "it was learned under the policy `{}`, in force is `{}`: fit a model for it",
                self.policy, policy.name
            ));
        }
        if self.readings.as_ref().is_some_and(|known| known != policy.readings_version()) {
            return Err(format!(
                "it was learned under other signals than those of the policy `{}` now: fit a model for them",
                policy.name
            ));
        }
        // A sequence that came since has no points; one that it knows must be the same.
        let now = sequences(policy);
        let mut known = self.sequences.iter();
        if let Some((name, _)) = known.find(|(name, hash)| now.get(*name) != Some(*hash)) {
            return Err(format!(
                "it was learned under another sequence `{name}` than that of the policy `{}` now: fit a model for it",
                policy.name
            ));
        }
        let mut scorer = LearnedScorer::new(&self.version, self.horizon_days, self.card.clone());
        // Models of before that was kept have none.
        if let Ok(fitted) = Fitted::deserialize(&self.report["distributions"]) {
            scorer = scorer.fitted_on(fitted);
        }
        if let Some(held_out) = held_out(&self.report) {
            scorer = scorer.worth(held_out);
        }
        Ok(match Millis::parse(&self.data_until) {
            Some(until) => Arc::new(scorer.until(until)),
            None => Arc::new(scorer),
        })
    }
}

/// What can be tried beside what scores, and be promoted.
pub(crate) enum Card {
    /// A model that was learned.
    Learned(Box<ModelFile>),
    /// The expert weights of another policy, with its text.
    Weights(Box<Compiled>, String),
}

impl Card {
    /// Reads what a record carries: a model is JSON, a policy TOML.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(crate) fn parse(text: &str) -> Result<Card, String> {
        if text.trim_start().starts_with('{') {
            return Ok(Card::Learned(Box::new(ModelFile::parse(text)?)));
        }
        if text.trim().is_empty() {
            return Err("it is empty: neither a model nor a policy".to_owned());
        }
        let policy = Compiled::parse("the policy", text).map_err(|error| error.to_string())?;
        Ok(Card::Weights(Box::new(policy), text.to_owned()))
    }

    /// Reads one from a file.
    pub(crate) fn read(path: &Path) -> Result<Card> {
        let parsed = Card::parse(&text_of(path)?);
        Ok(parsed.map_err(|error| Usage(format!("{}: {error}", path.display())))?)
    }

    /// Reads one that can be tried or promoted under a policy.
    pub(crate) fn usable(path: &Path, policy: &Compiled) -> Result<Card> {
        let card = Card::read(path)?;
        let usable = match &card {
            Card::Learned(model) => model.scorer(policy).map(drop),
            Card::Weights(other, _) if other.version() == policy.version() => {
                Err("it is the policy in force".to_owned())
            }
            Card::Weights(other, _) => OtherWeights::of(Compiled::clone(other), policy)
                .map(drop)
                .map_err(|error| error.to_string()),
        };
        usable.map_err(|error| Usage(format!("{}: {error}", path.display())))?;
        Ok(card)
    }

    /// The scorecard at work under a policy.
    pub(crate) fn scorer(&self, policy: &Compiled) -> Result<Arc<dyn Scorer>, String> {
        match self {
            Card::Learned(model) => model.scorer(policy),
            Card::Weights(other, _) => {
                let weights = OtherWeights::under(Compiled::clone(other), policy);
                Ok(Arc::new(weights.map_err(|error| error.to_string())?))
            }
        }
    }

    /// As records of its scores name it.
    pub(crate) fn version(&self) -> String {
        match self {
            Card::Learned(model) => model.version.clone(),
            Card::Weights(policy, _) => OtherWeights::version_of(policy),
        }
    }

    /// For people.
    pub(crate) fn name(&self) -> String {
        match self {
            Card::Learned(model) => format!("Model {}", model.version),
            Card::Weights(policy, _) => {
                format!("Policy `{}` ({})", show::plain(&policy.name), self.version())
            }
        }
    }

    /// What is to be said against promoting it; weights of an expert have no hold-out.
    pub(crate) fn doubt(&self) -> Option<&'static str> {
        match self {
            Card::Learned(model) if !model.has_skill() => Some(
                "on its hold-out it ranks no better than chance, or there was none; promote it with --anyway",
            ),
            Card::Learned(_) | Card::Weights(..) => None,
        }
    }

    /// As a record carries it.
    pub(crate) fn text(&self, path: &Path) -> Result<String> {
        let text = match self {
            Card::Learned(model) => serde_json::to_string(model)?,
            Card::Weights(_, text) => text.clone(),
        };
        if text.len() > MODEL_BYTES_MAX {
            let (name, bytes) = (path.display(), text.len());
            wrong!("{name} has {bytes} bytes, at most {MODEL_BYTES_MAX} are allowed")
        }
        Ok(text)
    }
}

/// How a model's like ranked on the hold-out; none where there was none, or outcomes of one kind only.
fn held_out(report: &Value) -> Option<HeldOut> {
    let holdout = &report["holdout"];
    let area = |of: &Value| {
        let [value, low, high] = [0, 1, 2].map(|part| of["auc"][part].as_f64());
        // A standard error, as far as the interval of 95 % is that of a normal distribution.
        Some(Auc { value: value?, error: (high? - low?) / (2.0 * 1.96) })
    };
    let all = Some(area(&holdout["all"])?);
    let each = holdout["cohorts"].as_object().into_iter().flatten();
    let cohorts = each.filter_map(|(name, of)| Some((name.clone(), area(of)?))).collect();
    Some(HeldOut { all, cohorts })
}

/// Characters of a version.
const VERSION_CHARS: usize = 12;

/// The version of a scorecard: of its content.
pub(crate) fn version_of(card: &Scorecard) -> String {
    // A scorecard holds texts and numbers, which JSON can say.
    content_id(&[&serde_json::to_string(card).unwrap_or_default()])
}

/// Of each sequence of a policy, a hash of what its reading depends on beside its signals.
pub(crate) fn sequences(policy: &Compiled) -> BTreeMap<String, String> {
    let of = |sequence: &Sequence| {
        let content = json!([sequence.when, sequence.fades_days]).to_string();
        (sequence.name.clone(), content_id(&[&content])[..VERSION_CHARS].to_owned())
    };
    policy.sequences.iter().map(of).collect()
}

/// An engine that is scored by the model of a file.
pub(crate) fn scored_by(core: Core, path: &Path) -> Result<Core> {
    let scorer = Card::read(path)?.scorer(core.policy());
    let scorer = scorer.map_err(|error| Usage(format!("{}: {error}", path.display())))?;
    Ok(core.scored_by(scorer))
}

/// Reads promoted models.
pub(crate) fn reader() -> Arc<ModelReader> {
    Arc::new(|text, policy| Card::parse(text)?.scorer(policy))
}

/// The latest record of each promotion, in the order of their times; those that were withdrawn are left out.
pub(crate) fn promotions(mut records: Vec<Record>) -> Vec<Value> {
    records.sort_by_key(|record| (record.timestamp_ms, record.partition, record.offset));
    let mut found: Vec<(Vec<u8>, Option<Value>)> = Vec::new();
    for record in records {
        let key = record.key.unwrap_or_default();
        // What is no promotion is a dead letter of the workers.
        let value = record.payload.map(|payload| serde_json::from_slice::<Value>(&payload));
        let value = value.transpose().unwrap_or_default();
        found.retain(|(known, _)| *known != key);
        found.push((key, value));
    }
    let mut found: Vec<Value> = found.into_iter().filter_map(|(_, value)| value).collect();
    found.sort_by_key(|value| from(value).unwrap_or_default());
    found
}

pub(crate) fn from(promotion: &Value) -> Option<Millis> {
    Millis::parse(promotion["from"].as_str()?)
}

/// Every promotion and challenger that was not withdrawn.
pub(crate) fn all(place: &Place, config: &Config) -> Result<Vec<Value>> {
    if let Some(answer) = place.get("/v1/models")? {
        return Ok(answer["promotions"].as_array().cloned().unwrap_or_default());
    }
    Ok(promotions(place.records(&config.topics.models)?))
}

pub(crate) fn append(place: &Place, promotion: &Value, config: &Config) -> Result<()> {
    let key = promotion["promotion_id"].as_str().unwrap_or_default();
    place.append("/v1/models", &config.topics.models, key, promotion)
}

/// A promotion as a record of its topic.
pub(crate) fn promotion(
    model: Option<String>,
    from: Millis,
    by: Option<&str>,
    note: Option<&str>,
) -> Value {
    let told = now_ms().to_string();
    let id = content_id(&[model.as_deref().unwrap_or_default(), &from.iso(), &told]);
    json!({
        "promotion_id": id, "from": from.iso(), "model": model, "by": by, "note": note,
    })
}

/// `learn promote`.
pub(crate) fn promote(args: &PromoteArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let model = match &args.file {
        Some(path) => {
            let card = Card::usable(path, &crate::policies::load(config.policy.as_deref())?)?;
            if let Some(doubt) = card.doubt().filter(|_| !args.promotion.anyway) {
                wrong!("{}: {doubt}", path.display())
            }
            Some(card.text(path)?)
        }
        None => None,
    };
    let change = &args.promotion.change;
    let from = at(change.from.as_deref())?;
    let note = args.promotion.note.as_deref();
    let record = promotion(model, from, change.by.as_deref(), note);
    append(&Place::open(&change.at, config)?, &record, config)?;
    say(&record, json)
}

/// `learn rollback`.
pub(crate) fn rollback(args: &ChangeArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let place = Place::open(&args.at, config)?;
    let from = at(args.from.as_deref())?;
    let all = all(&place, config)?;
    let promoted = all.iter().rev().filter(|known| known["shadow"] != true);
    let mut before = promoted.filter(|known| self::from(known).is_some_and(|at| at <= from));
    let Some(current) = before.next() else {
        wrong!("nothing was promoted before {}: there is nothing to go back from", from.iso());
    };
    // What was in force before the current one: another model, or none of them.
    let previous = before.find(|known| known["model"] != current["model"]);
    let model = previous.and_then(|known| known["model"].as_str()).map(str::to_owned);
    if model.is_none() && current["model"].is_null() {
        wrong!("the configured scorecard is in force, and nothing was promoted before it");
    }
    let note = format!("rolled back from promotion {}", id_of(current));
    let record = promotion(model, from, args.by.as_deref(), Some(&note));
    append(&place, &record, config)?;
    say(&record, json)
}

/// `learn promotions`.
pub(crate) fn list(args: &InputArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let all = all(&Place::open(args, config)?, config)?;
    if json {
        for promotion in &all {
            println!("{promotion}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if all.is_empty() {
        println!("No model was promoted: the configured scorecard is in force, and no challenger.");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = show::table(&["promotion", "from", "model", "as", "by", "note"]);
    for promotion in &all {
        let text = |name: &str| show::plain(promotion[name].as_str().unwrap_or("–"));
        table.add_row([
            id_of(promotion),
            text("from"),
            version(promotion),
            if promotion["shadow"] == true { "challenger" } else { "champion" }.to_owned(),
            text("by"),
            text("note"),
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn at(text: Option<&str>) -> Result<Millis> {
    match text {
        Some(text) => crate::learn::time(text),
        None => Ok(Millis(now_ms())),
    }
}

fn id_of(promotion: &Value) -> String {
    show::plain(promotion["promotion_id"].as_str().unwrap_or_default())
}

/// The version of the model that a promotion brings.
fn version(promotion: &Value) -> String {
    match promotion["model"].as_str().map(Card::parse) {
        Some(Ok(card)) => card.version(),
        Some(Err(_)) => "(unreadable)".to_owned(),
        None if promotion["shadow"] == true => "none".to_owned(),
        None => "as configured".to_owned(),
    }
}

fn say(record: &Value, json: bool) -> Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string_pretty(record)?);
    } else {
        println!(
            "Promotion {}: {} is in force from {} on, in each partition with the first event or tick of that time.",
            id_of(record),
            match version(record) {
                version if record["model"].is_null() => format!("the scorecard {version}"),
                version => format!("model {version}"),
            },
            record["from"].as_str().unwrap_or_default()
        );
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use bellwether_learn::calibrate::Calibration;
    use bellwether_learn::feature::features;
    use bellwether_learn::fit::{FitOptions, fit};
    use bellwether_learn::scorecard::DOUBLING;

    use super::*;

    /// A sequence that came after a model changes nothing for it; one that it knows must mean the same.
    #[test]
    fn a_model_is_refused_under_another_sequence_than_it_knows() {
        let with = |within_days: u32, weight: f64| {
            let signals = ["visits", "tickets"].map(|name| {
                format!(
                    "[[signal]]\nname = \"{name}\"\ncategory = \"support\"\ngroup = \"{name}\"\n\
                     direction = \"up\"\naggregate = \"count\"\nmatch = {{ types = [\"{name}\"] }}\n\
                     unit = \"a week\"\nweight = 5.0\nkind = \"{name}\"\n"
                )
            });
            let sequence = format!(
                "[[sequence]]\nname = \"course\"\ncategory = \"support\"\nweight = {weight:.1}\n\
                 when = {{ follows = {{ first = {{ comes = {{ signal = \"visits\" }} }}, \
                 then = {{ comes = {{ signal = \"tickets\" }} }}, within_days = {within_days} }} }}\n"
            );
            let text = format!("name = \"s\"\n{}{sequence}", signals.concat());
            Compiled::parse("s.toml", &text).expect("a good policy")
        };
        let policy = with(7, 5.0);
        let fitted = fit(&features(&policy), &[], &FitOptions::default()).expect("a model");
        let card =
            Scorecard { model: fitted, doubling: DOUBLING, calibration: Calibration::default() };
        let mut model = ModelFile {
            format: FORMAT,
            version: version_of(&card)[..VERSION_CHARS].to_owned(),
            policy: "s".to_owned(),
            readings: Some(policy.readings_version().to_owned()),
            sequences: sequences(&policy),
            horizon_days: 28,
            data_until: "2026-01-01T00:00:00Z".to_owned(),
            card,
            report: Value::Null,
        };
        let text = serde_json::to_string(&model).expect("JSON");
        let read = ModelFile::parse(&text).expect("readable");
        assert_eq!(read.sequences, model.sequences);
        assert!(model.scorer(&with(7, 9.0)).is_ok(), "what an expert makes of it does not matter");
        let refused = model.scorer(&with(8, 5.0)).expect_err("another sequence");
        assert!(refused.contains("another sequence `course`"), "{refused}");
        // Of before there were any: the same file as ever, and at work under either.
        model.sequences.clear();
        assert!(!serde_json::to_string(&model).expect("JSON").contains("sequences"));
        assert!(model.scorer(&with(7, 5.0)).is_ok() && model.scorer(&with(8, 5.0)).is_ok());
    }

    #[test]
    fn a_hold_out_is_read_from_a_report_with_its_uncertainty() {
        let report = json!({"holdout": {
            "all": {"auc": [0.75, 0.70, 0.798]},
            "cohorts": {"smb": {"auc": [0.8, 0.7, 0.896]}, "mid": {"auc": null}},
        }});
        let found = held_out(&report).expect("there was one");
        let near = |found: Option<Auc>, value: f64, error: f64| {
            found.is_some_and(|of| (of.value - value).abs() + (of.error - error).abs() < 1e-9)
        };
        assert!(near(found.of("smb"), 0.8, 0.05), "{found:?}");
        assert!(near(found.of("mid"), 0.75, 0.025), "that of all: {found:?}");
        assert_eq!(held_out(&json!({"holdout": null})), None);
        assert_eq!(held_out(&json!({"holdout": {"all": {"auc": null}}})), None);
    }
}
