//! `bellwether dlq ls|show|replay`: the dead letters, for people.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;
use bellwether_engine::log::{Append, Record, Topic};
use bellwether_wire::dead_letter::DeadLetter;
use serde_json::{Value, json};

use crate::cli::{DlqCommand, DlqReplayArgs, LogArgs};
use crate::config::Config;
use crate::show;
use crate::source::Source;

/// Records read at once.
const PAGE: usize = 1_000;
/// Bytes of a payload that `show` prints.
const SHOWN_BYTES: usize = 4_096;

/// A dead letter and why it is one.
struct Letter {
    record: Record,
    why: DeadLetter,
}

/// Runs the command.
pub(crate) fn run(command: &DlqCommand, config: &Config, json: bool) -> Result<ExitCode> {
    match command {
        DlqCommand::Ls { args, reason, limit } => {
            let mut letters = letters(args, config, reason.as_deref())?;
            let total = letters.len();
            letters.sort_by_key(|letter| std::cmp::Reverse(letter.record.timestamp_ms));
            letters.truncate(*limit);
            list(&letters, total, json)?;
        }
        DlqCommand::Show { args, partition, offset } => {
            let letters = letters(args, config, None)?;
            let found = letters.iter().find(|letter| {
                (letter.record.partition, letter.record.offset) == (*partition, *offset)
            });
            let Some(letter) = found else {
                eprintln!("error: there is no dead letter at {partition}/{offset}");
                return Ok(ExitCode::from(crate::EXIT_WANTING));
            };
            println!("{}", serde_json::to_string_pretty(&full(letter))?);
        }
        DlqCommand::Replay(args) => replay(args, config, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn letters(args: &LogArgs, config: &Config, reason: Option<&str>) -> Result<Vec<Letter>> {
    let source = Source::open(args, config, "bellwether-dlq")?;
    read(&source, config, reason)
}

fn read(source: &Source, config: &Config, reason: Option<&str>) -> Result<Vec<Letter>> {
    let topic: Topic = config.topics.dead_letters.as_str().into();
    let mut letters = Vec::new();
    for partition in 0..source.partitions(&topic)? {
        source.read(&topic, partition, &mut |record| {
            // What has no such headers was put there by somebody else.
            if let Some(why) = DeadLetter::from_headers(&record.headers)
                && reason.is_none_or(|reason| reason == why.reason)
            {
                letters.push(Letter { record, why });
            }
        })?;
    }
    Ok(letters)
}

fn list(letters: &[Letter], total: usize, json: bool) -> Result<()> {
    if json {
        let letters: Vec<Value> = letters.iter().map(brief).collect();
        let answer = json!({"total": total, "dead_letters": letters});
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    let mut table = show::table(&["at", "reason", "from", "key", "detail"]);
    for Letter { record, why } in letters {
        table.add_row([
            format!("{}/{}", record.partition, record.offset),
            why.reason.clone(),
            format!("{} {}/{}", why.topic, why.partition, why.offset),
            key(record).unwrap_or_default(),
            why.detail.clone(),
        ]);
    }
    println!("{table}\n{} of {total} dead letters, newest first", letters.len());
    Ok(())
}

fn key(record: &Record) -> Option<String> {
    record.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned())
}

fn brief(Letter { record, why }: &Letter) -> Value {
    json!({
        "partition": record.partition,
        "offset": record.offset,
        "key": key(record),
        "reason": why.reason,
        "detail": why.detail,
        "source": {"topic": why.topic, "partition": why.partition, "offset": why.offset},
    })
}

fn full(letter: &Letter) -> Value {
    let mut value = brief(letter);
    let payload = letter.record.payload.as_deref();
    let shown = payload.map(|bytes| &bytes[..bytes.len().min(SHOWN_BYTES)]);
    value["payload_bytes"] = json!(payload.map(<[u8]>::len));
    value["payload"] = json!(shown.map(|bytes| bytes.escape_ascii().to_string()));
    let headers = letter.record.headers.iter();
    value["headers"] = headers
        .map(|(name, value)| json!([name, value.escape_ascii().to_string()]))
        .collect::<Vec<_>>()
        .into();
    value
}

/// Sends dead letters again to where they came from, as they were. A preview, unless it is confirmed.
fn replay(args: &DlqReplayArgs, config: &Config, json: bool) -> Result<()> {
    let source = Source::open(&args.args, config, "bellwether-dlq")?;
    let letters = read(&source, config, args.reason.as_deref())?;
    let inputs = config.topics.inputs();
    let mut sent = BTreeSet::new();
    let (whole, rest): (Vec<&Letter>, Vec<&Letter>) = letters.iter().partition(|letter| {
        // One that was rejected again is sent once.
        let content = (&letter.why.topic, &letter.record.key, &letter.record.payload);
        !DeadLetter::is_cut(&letter.record.headers)
            && inputs.contains(&letter.why.topic)
            && sent.insert(content)
    });
    let appends: Vec<Append> = whole
        .iter()
        .map(|letter| Append {
            topic: letter.why.topic.as_str().into(),
            partition: letter.why.partition,
            key: letter.record.key.clone(),
            payload: letter.record.payload.clone(),
            headers: DeadLetter::own_headers(&letter.record.headers),
            timestamp_ms: None,
        })
        .collect();
    if args.yes {
        for chunk in appends.chunks(PAGE) {
            source.append(chunk)?;
        }
    }
    if json {
        let answer = json!({"sent": args.yes, "letters": whole.len(), "left_out": rest.len()});
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    let verb = if args.yes { "were sent" } else { "would be sent" };
    println!("{} dead letters {verb} again to their topics as they were.", whole.len());
    if !rest.is_empty() {
        println!(
            "{} are left out: they are there twice, were cut for their size, or their topic is no input any more.",
            rest.len()
        );
    }
    if !args.yes {
        println!(
            "Nothing was done. Mend the cause first, then add --yes. Events that were counted already are dropped as duplicates."
        );
    }
    Ok(())
}
