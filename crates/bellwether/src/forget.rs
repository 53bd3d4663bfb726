//! `bellwether forget ACCOUNT`: the deletion of an account, as an input record, so that it has its place among the events, survives
//! crashes and replays identically: a tombstone in the profiles topic.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bellwether_core::account::Account;
use bellwether_core::id::AccountId;
use bellwether_engine::embedded::partition_of;
use bellwether_engine::log::{Append, Topic};
use bellwether_store::error::StoreError;
use bellwether_store::task::Store;
use serde_json::{Value, json};

use crate::cli::ForgetArgs;
use crate::config::Config;
use crate::source::Source;
use crate::usage::wrong;
use crate::{app, explain, state};

/// What is known of the account where this command looks.
enum Known {
    /// These rows of one partition, or what a server shows.
    Here(Value),
    /// Nothing.
    Nothing,
    /// There is no state to look at here, or somebody has it.
    Unseen(String),
}

/// Runs the command. A preview of an account of which nothing is known is exit code 3.
pub(crate) fn run(args: &ForgetArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let Ok(id) = AccountId::new(&args.account) else {
        wrong!("`{}` is no account id", args.account);
    };
    let known = match &args.url {
        Some(url) => ask(url, &id)?,
        None => look(&id, config)?,
    };
    if args.yes {
        match &args.url {
            Some(url) => delete(url, &id)?,
            None => append(args, &id, config)?,
        }
    }
    say(args, &id, config, &known, json)?;
    let wanting = matches!(known, Known::Nothing) && !args.yes;
    Ok(if wanting { ExitCode::from(crate::EXIT_WANTING) } else { ExitCode::SUCCESS })
}

/// What the local state knows.
fn look(id: &AccountId, config: &Config) -> Result<Known> {
    let state_dir = config.data_dir.join("state");
    let partitions = state::directories(&state_dir).unwrap_or_default();
    if partitions.is_empty() {
        return Ok(Known::Unseen(format!("there is no state in {}", state_dir.display())));
    }
    let options = app::store_options(config);
    for (partition, dir) in partitions {
        let store = match Store::open(&dir, &config.application_id, partition, &options) {
            Ok(store) => store,
            Err(StoreError::InUse(_)) => {
                let why = format!("a process has the state in {}", state_dir.display());
                return Ok(Known::Unseen(why));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("partition {partition} cannot be read"));
            }
        };
        if let Some(account) = store.get(id)? {
            return Ok(Known::Here(summary(&account, partition, store.rows(id)?)));
        }
    }
    Ok(Known::Nothing)
}

fn summary(account: &Account, partition: i32, rows: usize) -> Value {
    let alerts = account.hot.alerts.iter();
    json!({
        "partition": partition,
        "rows": rows,
        "profile": account.profile.is_some(),
        "members_and_features": account.activity.len(),
        "last_event_at": account.hot.last_event_at.map(|at| at.to_string()),
        "open_alerts": alerts.map(|alert| alert.id.as_str()).collect::<Vec<_>>(),
    })
}

/// What a server shows.
fn ask(url: &str, id: &AccountId) -> Result<Known> {
    let mut response = explain::agent()
        .get(&explain::account_url(url, id))
        .call()
        .with_context(|| format!("{url} does not answer"))?;
    let body = response.body_mut().read_to_string()?;
    match response.status().as_u16() {
        200 => {
            let answer: Value = serde_json::from_str(&body)
                .with_context(|| format!("{url} answered something else"))?;
            let account = &answer["account"];
            Ok(Known::Here(json!({
                "last_event_at": account["last_event_at"],
                "open_alerts": account["open_alerts"],
            })))
        }
        404 => Ok(Known::Nothing),
        status => bail!("{url} answered {status}: {body}"),
    }
}

fn delete(url: &str, id: &AccountId) -> Result<()> {
    let mut response = explain::agent()
        .delete(&explain::account_url(url, id))
        .call()
        .with_context(|| format!("{url} does not answer"))?;
    match response.status().as_u16() {
        202 => Ok(()),
        status => bail!("{url} answered {status}: {}", response.body_mut().read_to_string()?),
    }
}

/// Only the account's producers know by which partitioner they chose its partition on Kafka, so every partition is told: where there
/// is no such account a deletion does no harm.
fn append(args: &ForgetArgs, id: &AccountId, config: &Config) -> Result<()> {
    let source = Source::open(&args.args, config, "bellwether-forget")
        .context("for a running `run --embedded`, name its server with --url")?;
    let topic: Topic = config.topics.profiles.as_str().into();
    let count = source.partitions(&topic)?;
    let key = id.as_str().as_bytes();
    let partitions = match source {
        Source::Kafka(_) => 0..count,
        Source::Embedded(_) => {
            let own = partition_of(key, count);
            own..own + 1
        }
    };
    let tombstones: Vec<Append> = partitions
        .map(|partition| Append {
            topic: topic.clone(),
            partition,
            key: Some(key.to_vec()),
            payload: None,
            headers: Vec::new(),
            timestamp_ms: None,
        })
        .collect();
    source.append(&tombstones)
}

fn say(
    args: &ForgetArgs,
    id: &AccountId,
    config: &Config,
    known: &Known,
    json: bool,
) -> Result<()> {
    let topics = &config.topics;
    let events = topics.events.join(", ");
    let not_deleted = [
        format!(
            "records of the account in {events}, {}, {}, {}, {}, {} and {}: they go with the retention of these topics",
            topics.score_changed,
            topics.alerts,
            topics.parked,
            topics.shadow,
            topics.examples,
            topics.dead_letters
        ),
        format!(
            "what a notifier told before, at its sinks; and in {} which alerts were told, as hashes: for remember_days of the delivery policy. Messages that wait, and entries of digests, go",
            topics.notify_state
        ),
        format!(
            "outcomes of the account in {}, which is kept for ever unless its retention is set otherwise",
            topics.outcomes
        ),
        format!(
            "its older records in {}, {} and {}: they go when these topics are compacted",
            topics.profiles, topics.score_current, topics.state_changelog
        ),
        "ids of its events, as hashes of 64 bits: they go with the retention of ids".to_owned(),
    ];
    if json {
        let (found, unseen) = match known {
            Known::Here(found) => (found.clone(), Value::Null),
            Known::Nothing => (Value::Null, Value::Null),
            Known::Unseen(why) => (Value::Null, json!(why)),
        };
        let answer = json!({
            "account_id": id.as_str(), "sent": args.yes, "known": found, "not_looked": unseen,
            "not_deleted": not_deleted,
        });
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    match known {
        Known::Here(found) => println!("Known of account {id}: {found}"),
        Known::Nothing => println!("Nothing is known of account {id} here."),
        Known::Unseen(why) => println!("What is known of account {id} was not looked at: {why}."),
    }
    let (verb, when) = if args.yes {
        ("is deleted", " as soon as the workers read the tombstone that was sent")
    } else {
        ("would be deleted", "")
    };
    println!(
        "Its profile, state, score and alerts {verb} (topics {}, {}, {}){when}; its open alerts are resolved first.",
        topics.profiles, topics.score_current, topics.state_changelog
    );
    println!("Not deleted:");
    not_deleted.iter().for_each(|line| println!("  - {line}"));
    println!("Stop what sends its events: one that happens later begins a new account.");
    if !args.yes {
        println!("Nothing was done; add --yes.");
    }
    Ok(())
}
