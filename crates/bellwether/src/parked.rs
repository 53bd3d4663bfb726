//! `bellwether notify parked ls|replay`: what could not be told, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::Result;
use bellwether_core::time::Millis;
use bellwether_engine::log::{Append, Topic};
use bellwether_notify::delivery::Parking;
use bellwether_notify::event::Alert;
use bellwether_notify::run::ParkedRecord;
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::OutputKind;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::app;
use crate::cli::LogArgs;
use crate::config::Config;
use crate::show;
use crate::source::Source;
use crate::usage::wrong;

/// Records appended at once.
const PAGE: usize = 500;
/// The first characters of an id that are enough to name it, where no other begins with them.
const ID_CHARS_MIN: usize = 8;
/// Characters of an id that a table shows.
const ID_CHARS_SHOWN: usize = 12;

/// `notify parked`
#[derive(Debug, Subcommand)]
pub(crate) enum ParkedCommand {
    /// List what is parked and was not asked for again, newest first
    Ls {
        #[command(flatten)]
        args: LogArgs,
        #[command(flatten)]
        only: Only,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = at_least_one)]
        limit: usize,
    },
    /// Ask the notifier to send what is parked again, under the same idempotency keys; without --yes, say what would be sent
    Replay(ReplayArgs),
}

impl ParkedCommand {
    /// The log that it names.
    pub(crate) fn log(&self) -> &LogArgs {
        match self {
            ParkedCommand::Ls { args, .. } | ParkedCommand::Replay(ReplayArgs { args, .. }) => args,
        }
    }
}

/// Which of what is parked.
#[derive(Debug, Args)]
pub(crate) struct Only {
    /// Only for this sink
    #[arg(long, value_name = "SINK")]
    sink: Option<String>,

    /// Only for this reason, e.g. rejected
    #[arg(long, value_parser = reason)]
    reason: Option<Parking>,
}

/// `notify parked replay`
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    args: LogArgs,

    #[command(flatten)]
    only: Only,

    /// Only this one, by its id or the first 8 characters of it; may be repeated
    #[arg(long, value_name = "ID")]
    id: Vec<String>,

    /// All that is parked
    #[arg(long, conflicts_with_all = ["sink", "reason", "id"])]
    all: bool,

    /// At most so many, the oldest first
    #[arg(long, default_value_t = 1_000, value_parser = at_least_one)]
    limit: usize,

    /// Do it
    #[arg(long)]
    yes: bool,
}

/// Runs the command.
pub(crate) fn run(command: &ParkedCommand, config: &Config, json: bool) -> Result<ExitCode> {
    match command {
        ParkedCommand::Ls { args, only, limit } => {
            let source = Source::open(args, config, "bellwether-parked")?;
            let Parked { mut records, unreadable } = read(&source, config)?;
            let is_any = !records.is_empty();
            records.retain(|record| only.holds(record));
            if !json && is_any && records.is_empty() {
                println!("Nothing of that is parked.");
                return Ok(ExitCode::SUCCESS);
            }
            list(&records, &unreadable, *limit, json)?;
            Ok(ExitCode::SUCCESS)
        }
        ParkedCommand::Replay(args) => replay(args, config, json),
    }
}

impl Only {
    fn holds(&self, record: &ParkedRecord) -> bool {
        self.sink.as_ref().is_none_or(|sink| *sink == record.sink)
            && self.reason.is_none_or(|reason| reason.as_str() == record.reason)
    }
}

/// A reason by its word.
fn reason(word: &str) -> Result<Parking, String> {
    Parking::named(word).ok_or_else(|| {
        format!("a reason is one of {}", Parking::ALL.map(Parking::as_str).join(", "))
    })
}

/// How many of something.
fn at_least_one(text: &str) -> Result<usize, String> {
    let count = text.parse().map_err(|_| "it is no number".to_owned())?;
    if count == 0 { Err("at least 1 is needed".to_owned()) } else { Ok(count) }
}

fn topic(config: &Config) -> Topic {
    config.topics.parked.as_str().into()
}

/// What is parked.
struct Parked {
    /// What was not asked for since, oldest first: of what was parked twice the last record.
    records: Vec<ParkedRecord>,
    /// Where those stand that came as no alert, and are none by this version either.
    unreadable: Places,
}

/// Partitions and offsets.
type Places = BTreeSet<(i32, i64)>;

fn read(source: &Source, config: &Config) -> Result<Parked> {
    let topic = topic(config);
    let registry = app::registry(config);
    let mut decoder = Decoder::new(registry.as_ref(), config.engine.record_bytes_max)?;
    let (mut parked, mut unreadable) = (BTreeMap::new(), Places::new());
    for partition in 0..source.partitions(&topic)? {
        source.read(&topic, partition, &mut |record| {
            let Some(of) = ParkedRecord::of(&record) else { return };
            if of.is_request {
                parked.remove(&of.id);
                return;
            }
            if Parking::named(&of.reason) == Some(Parking::Undecodable) {
                let read = decoder.output_as::<Alert>(OutputKind::Alert, record.payload.as_deref());
                // Where the registry is away the notifier says it.
                if matches!(read, Err(DecodeError::Reject(_))) {
                    unreadable.insert(of.place);
                }
            }
            parked.insert(of.id.clone(), of);
        })?;
    }
    let mut records: Vec<ParkedRecord> = parked.into_values().collect();
    records.sort_by_key(|record| (record.at_ms, record.place));
    Ok(Parked { records, unreadable })
}

fn as_json(record: &ParkedRecord, unreadable: &Places) -> Value {
    let is_replayable = record.is_whole && !unreadable.contains(&record.place);
    json!({
        "id": record.id, "partition": record.place.0, "offset": record.place.1,
        "at": Millis(record.at_ms).iso(), "reason": record.reason, "detail": record.detail,
        "sink": record.sink, "account_id": record.key, "what": record.what, "replayable": is_replayable,
    })
}

fn list(parked: &[ParkedRecord], unreadable: &Places, limit: usize, json: bool) -> Result<()> {
    let shown = parked.iter().rev().take(limit);
    if json {
        let records: Vec<Value> = shown.map(|record| as_json(record, unreadable)).collect();
        let answer = json!({"total": parked.len(), "parked": records});
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    if parked.is_empty() {
        println!("Nothing is parked.");
        return Ok(());
    }
    let mut table = show::table(&["id", "parked", "reason", "sink", "account", "what", "detail"]);
    let count = shown.len();
    for record in shown {
        let id: String = record.id.chars().take(ID_CHARS_SHOWN).collect();
        table.add_row(
            [
                &id,
                &Millis(record.at_ms).iso(),
                &record.reason,
                &record.sink,
                &record.key,
                &record.what,
                &record.detail,
            ]
            .map(|text| show::plain(text)),
        );
    }
    println!("{table}\n{count} of {} parked, newest first", parked.len());
    Ok(())
}

/// What was asked for, or what is wrong with that.
fn chosen(args: &ReplayArgs, parked: Vec<ParkedRecord>) -> Result<Vec<ParkedRecord>, String> {
    if parked.is_empty() {
        return Err("nothing is parked, or all of it was asked for again already".to_owned());
    }
    if args.id.is_empty() {
        let found: Vec<ParkedRecord> =
            parked.into_iter().filter(|record| args.only.holds(record)).collect();
        return if found.is_empty() {
            Err("nothing of that is parked; see `bellwether notify parked ls`".to_owned())
        } else {
            Ok(found)
        };
    }
    let mut ids = BTreeSet::new();
    for wanted in &args.id {
        let named = |id: &str| {
            id == wanted || (wanted.len() >= ID_CHARS_MIN && id.starts_with(wanted.as_str()))
        };
        let found: Vec<&ParkedRecord> =
            parked.iter().filter(|record| named(&record.id) && args.only.holds(record)).collect();
        match found.as_slice() {
            [] => {
                return Err(format!(
                    "nothing is parked as `{wanted}`; see `bellwether notify parked ls`"
                ));
            }
            [record] => drop(ids.insert(record.id.clone())),
            [..] => {
                return Err(format!("{} parked ids begin with `{wanted}`; give more", found.len()));
            }
        }
    }
    Ok(parked.into_iter().filter(|record| ids.contains(&record.id)).collect())
}

/// Asks for what is parked again. What the notifier does then is its own: this only appends requests to the parking topic.
fn replay(args: &ReplayArgs, config: &Config, json: bool) -> Result<ExitCode> {
    if !args.all && args.id.is_empty() && args.only.sink.is_none() && args.only.reason.is_none() {
        wrong!("say what is to be sent again: --id ID, --sink SINK, --reason REASON or --all");
    }
    let source = Source::open(&args.args, config, "bellwether-parked")?;
    let Parked { records, unreadable } = read(&source, config)?;
    let found = match chosen(args, records) {
        Ok(found) => found,
        Err(wanting) => {
            if json {
                println!("{}", json!({"sent": false, "asked": 0, "error": wanting}));
            }
            eprintln!("error: {wanting}");
            return Ok(ExitCode::from(crate::EXIT_WANTING));
        }
    };
    let (whole, cut): (Vec<ParkedRecord>, Vec<ParkedRecord>) =
        found.into_iter().partition(|record| record.is_whole);
    let (unreadable, mut whole): (Vec<ParkedRecord>, Vec<ParkedRecord>) =
        whole.into_iter().partition(|record| unreadable.contains(&record.place));
    let left = whole.len().saturating_sub(args.limit);
    whole.truncate(args.limit);
    if args.yes {
        request(&source, config, &whole)?;
    }
    if json {
        let ids: Vec<&str> = whole.iter().map(|record| record.id.as_str()).collect();
        let answer = json!({
            "sent": args.yes && !whole.is_empty(), "asked": whole.len(), "ids": ids, "left_for_later": left,
            "cut": cut.len(), "unreadable": unreadable.len(),
        });
        println!("{}", serde_json::to_string_pretty(&answer)?);
    }
    if !unreadable.is_empty() {
        eprintln!(
            "{}: {} records are no alerts that this version can read, and are not sent again; a newer version may read them.",
            if whole.is_empty() { "error" } else { "note" },
            unreadable.len()
        );
    }
    if json || whole.is_empty() && !unreadable.is_empty() {
        let is_wanting = whole.is_empty() && !unreadable.is_empty();
        return Ok(if is_wanting {
            ExitCode::from(crate::EXIT_WANTING)
        } else {
            ExitCode::SUCCESS
        });
    }
    let verb = if args.yes { "are asked for again" } else { "would be asked for again" };
    println!("{} parked deliveries {verb}, under the same idempotency keys.", whole.len());
    if left > 0 {
        println!("{left} more are left for later: --limit is {}.", args.limit);
    }
    if !cut.is_empty() {
        println!("{} records were not kept whole, and cannot be sent again.", cut.len());
    }
    if args.yes {
        println!("The notifier sends them now, or when it starts next.");
    } else {
        println!("Nothing was done. Mend the cause first, then add --yes.");
    }
    Ok(ExitCode::SUCCESS)
}

/// Appends copies of parked records that ask for them, in their own partitions.
fn request(source: &Source, config: &Config, chosen: &[ParkedRecord]) -> Result<()> {
    let topic = topic(config);
    let places: BTreeSet<(i32, i64)> = chosen.iter().map(|record| record.place).collect();
    let partitions: BTreeSet<i32> = places.iter().map(|(partition, _)| *partition).collect();
    for partition in partitions {
        // Read again, in pages, so that no more is held in memory than is appended at once.
        let mut requests: Vec<Append> = Vec::new();
        let mut failed = Ok(());
        source.read(&topic, partition, &mut |record| {
            if failed.is_ok() && places.contains(&(partition, record.offset)) {
                requests.push(ParkedRecord::request(&record));
                if requests.len() >= PAGE {
                    failed = source.append(&std::mem::take(&mut requests));
                }
            }
        })?;
        failed?;
        source.append(&requests)?;
    }
    Ok(())
}
