//! `bellwether txn list|abort`: transactions that dead producers left open, on the application's topics or under its transactional
//! ids. Readers of committed records do not come past them.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Result, bail};
use bellwether_engine::clock::now_ms;
use bellwether_engine::kafka::{KafkaTransactions, OpenTransaction};
use bellwether_engine::topics::Kept;
use serde_json::{Value, json};

use crate::cli::{TxnAbortArgs, TxnCommand};
use crate::config::Config;
use crate::{app, show};

/// Members of the group: the transactional ids of those that have static membership, and whether there are others.
struct Members {
    named: BTreeSet<String>,
    others: usize,
}

/// What is open, seen from this application.
struct Seen {
    kafka: KafkaTransactions,
    open: Vec<OpenTransaction>,
    members: Members,
    prefix: String,
}

/// Runs the command.
pub(crate) fn run(command: &TxnCommand, config: &Config, json: bool) -> Result<ExitCode> {
    match command {
        TxnCommand::List { bootstrap_servers, older_than } => {
            let seen = look(config, bootstrap_servers.as_deref())?;
            let seconds = older_than.unwrap_or(config.kafka.transaction_timeout_seconds);
            list(&seen, i64::from(seconds) * 1000, json)
        }
        TxnCommand::Abort(args) => abort(args, config, json),
    }
}

fn look(config: &Config, servers: Option<&str>) -> Result<Seen> {
    let mut config = config.clone();
    if let Some(servers) = servers {
        config.kafka.bootstrap_servers = Some(servers.to_owned());
    }
    let kafka = KafkaTransactions::new(&app::kafka_options(&config)?)?;
    let specs = config.topics.specs(&Kept::default()).into_iter();
    let topics: Vec<String> = specs.map(|spec| spec.name).collect();
    let prefix = format!("{}-", config.application_id);
    let open = kafka.open(&topics, &prefix)?;
    let (named, others) = kafka.members(&config.application_id)?;
    Ok(Seen { kafka, open, members: Members { named, others }, prefix })
}

impl Seen {
    fn is_own(&self, transaction: &OpenTransaction) -> bool {
        transaction.transactional_id.as_ref().is_some_and(|id| id.starts_with(&self.prefix))
    }

    fn is_live(&self, transaction: &OpenTransaction) -> bool {
        let id = transaction.transactional_id.as_ref();
        id.is_some_and(|id| self.members.named.contains(id))
    }
}

/// A hanging transaction waits for nobody; any other has its time.
fn is_stuck(transaction: &OpenTransaction, age_ms_max: i64) -> bool {
    transaction.transactional_id.is_none() || age_ms(transaction) >= age_ms_max
}

fn age_ms(transaction: &OpenTransaction) -> i64 {
    (now_ms() - transaction.since_ms).max(0)
}

fn list(seen: &Seen, age_ms_max: i64, json: bool) -> Result<ExitCode> {
    let stuck = seen.open.iter().filter(|transaction| is_stuck(transaction, age_ms_max)).count();
    if json {
        let open: Vec<Value> = seen
            .open
            .iter()
            .map(|transaction| {
                let mut value = describe(seen, transaction);
                value["stuck"] = json!(is_stuck(transaction, age_ms_max));
                value
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&json!({"open": open, "stuck": stuck}))?);
    } else {
        let mut table =
            show::table(&["transactional id", "producer", "state", "open for", "where", "of"]);
        for transaction in &seen.open {
            table.add_row([
                transaction.transactional_id.clone().unwrap_or_else(|| "(none)".to_owned()),
                format!("{} epoch {}", transaction.producer_id, transaction.producer_epoch),
                transaction.state.clone(),
                format!("{} s", age_ms(transaction) / 1000),
                places(transaction).join(", "),
                owner(seen, transaction).to_owned(),
            ]);
        }
        println!("{table}\n{} open, {stuck} for too long", seen.open.len());
        if stuck > 0 {
            println!("Readers do not come past them: `bellwether txn abort` ends one.");
        }
    }
    Ok(if stuck == 0 { ExitCode::SUCCESS } else { ExitCode::from(crate::EXIT_WANTING) })
}

fn places(transaction: &OpenTransaction) -> Vec<String> {
    let spans = transaction.spans.iter();
    spans.map(|span| format!("{} {}/{}", span.topic, span.partition, span.first_offset)).collect()
}

fn owner(seen: &Seen, transaction: &OpenTransaction) -> &'static str {
    match (&transaction.transactional_id, seen.is_own(transaction), seen.is_live(transaction)) {
        (None, ..) => "nobody",
        (Some(_), true, true) => "a worker that is a member of the group",
        (Some(_), true, false) => "this application",
        (Some(_), false, _) => "another application",
    }
}

fn describe(seen: &Seen, transaction: &OpenTransaction) -> Value {
    let spans = transaction.spans.iter();
    let partitions: Vec<Value> = spans
        .map(|span| {
            json!({"topic": span.topic, "partition": span.partition, "first_offset": span.first_offset})
        })
        .collect();
    json!({
        "transactional_id": transaction.transactional_id,
        "producer_id": transaction.producer_id,
        "producer_epoch": transaction.producer_epoch,
        "state": transaction.state,
        "age_seconds": age_ms(transaction) / 1000,
        "timeout_seconds": transaction.timeout_ms.map(|ms| ms / 1000),
        "owner": owner(seen, transaction),
        "partitions": partitions,
    })
}

fn abort(args: &TxnAbortArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let seen = look(config, args.bootstrap_servers.as_deref())?;
    let is_meant = |transaction: &&OpenTransaction| match &args.transactional_id {
        Some(id) => transaction.transactional_id.as_ref() == Some(id),
        None => Some(transaction.producer_id) == args.producer_id,
    };
    let Some(transaction) = seen.open.iter().find(is_meant) else {
        eprintln!("error: no such transaction is open; `bellwether txn list` shows those that are");
        return Ok(ExitCode::from(crate::EXIT_WANTING));
    };
    if !args.force {
        refuse(&seen, transaction)?;
    }
    if args.yes {
        match &transaction.transactional_id {
            Some(id) => seen.kafka.fence(id)?,
            None => seen.kafka.write_abort_markers(transaction)?,
        }
    }
    if json {
        let answer = json!({"aborted": args.yes, "transaction": describe(&seen, transaction)});
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    let verb = if args.yes { "was aborted" } else { "would be aborted" };
    println!(
        "The transaction of {} (producer {}), open for {} s, {verb}: {}.",
        transaction.transactional_id.as_deref().unwrap_or("nobody"),
        transaction.producer_id,
        age_ms(transaction) / 1000,
        if transaction.spans.is_empty() {
            "it has no records here".to_owned()
        } else {
            places(transaction).join(", ")
        }
    );
    match (&transaction.transactional_id, args.yes) {
        (_, true) => println!("Its records will not be read, and readers go on."),
        (Some(_), false) => {
            println!("Whoever still has its id will be fenced. Nothing was done; add --yes.")
        }
        (None, false) => {
            println!("A marker would be written past its coordinator. Nothing was done; add --yes.")
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whose transactions are not aborted unless one insists.
fn refuse(seen: &Seen, transaction: &OpenTransaction) -> Result<()> {
    let Some(id) = &transaction.transactional_id else { return Ok(()) };
    if !seen.is_own(transaction) {
        bail!("{id} is of another application: let its owner see to it, or add --force");
    }
    if seen.is_live(transaction) {
        bail!(
            "{id} belongs to a member of the group: a worker that lives ends its transactions itself, and the brokers put out one that \
             does not within the session time-out; add --force to fence it now"
        );
    }
    if seen.members.others > 0 {
        bail!(
            "the group has {} members without static membership, one of which may have {id}: stop them, or add --force",
            seen.members.others
        );
    }
    Ok(())
}
