//! `bellwether state stats|verify`: the local state of a process that does not run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use bellwether_store::error::StoreError;
use bellwether_store::task::{Contents, Store, Stream};
use serde_json::{Value, json};

use crate::cli::StateCommand;
use crate::config::Config;
use crate::usage::wrong;
use crate::{app, show};

/// A partition's state as it was found.
struct Found {
    partition: i32,
    bytes: u64,
    clock: Option<String>,
    positions: [Option<i64>; 2],
    contents: Contents,
}

/// Runs the command.
pub(crate) fn run(command: StateCommand, config: &Config, json: bool) -> Result<ExitCode> {
    let mut found = Vec::new();
    let mut damaged = Vec::new();
    let state_dir = config.data_dir.join("state");
    let Ok(directories) = directories(&state_dir) else {
        wrong!("there is no state in {}; name its --data-dir", state_dir.display());
    };
    for (partition, dir) in directories {
        match look(partition, &dir, config) {
            Ok(state) => found.push(state),
            Err(error) if error.is_rebuildable() => damaged.push((partition, error.to_string())),
            Err(error) => {
                return Err(error).with_context(|| format!("partition {partition} cannot be read"));
            }
        }
    }
    if json {
        let partitions: Vec<Value> = found.iter().map(as_json).collect();
        let damaged: Vec<Value> = damaged
            .iter()
            .map(|(partition, error)| json!({"partition": partition, "error": error}))
            .collect();
        let answer = json!({"partitions": partitions, "damaged": damaged});
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        print(command, &found, &damaged);
    }
    Ok(if damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(crate::EXIT_WANTING) })
}

/// The partitions that have a directory of state, ascending.
pub(crate) fn directories(state_dir: &Path) -> std::io::Result<Vec<(i32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(state_dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(partition) = name.strip_prefix("partition-").and_then(|part| part.parse().ok())
        {
            found.push((partition, path));
        }
    }
    found.sort();
    Ok(found)
}

fn look(partition: i32, dir: &Path, config: &Config) -> Result<Found, StoreError> {
    let store = Store::open(dir, &config.application_id, partition, &app::store_options(config))?;
    let contents = store.verify()?;
    let clock = bellwether_core::state::State::clock(&store).newest;
    Ok(Found {
        partition,
        bytes: store.stats()?.bytes,
        clock: clock.map(|at| at.to_string()),
        positions: [store.position(Stream::State), store.position(Stream::Seen)],
        contents,
    })
}

fn as_json(found: &Found) -> Value {
    let Contents {
        accounts,
        profiles,
        activity_rows,
        timers,
        seen,
        account_bytes,
        kind_bytes: [hot_bytes, history_bytes, profile_bytes, activity_bytes],
        hash,
    } = found.contents;
    json!({
        "partition": found.partition,
        "bytes": found.bytes,
        "clock": found.clock,
        "state_changelog_position": found.positions[0],
        "seen_changelog_position": found.positions[1],
        "accounts": accounts,
        "profiles": profiles,
        "activity_rows": activity_rows,
        "timers": timers,
        "seen_ids": seen,
        "account_bytes": account_bytes,
        "hot_bytes": hot_bytes,
        "history_bytes": history_bytes,
        "profile_bytes": profile_bytes,
        "activity_bytes": activity_bytes,
        "hash": format!("{hash:032x}"),
    })
}

fn print(command: StateCommand, found: &[Found], damaged: &[(i32, String)]) {
    if command == StateCommand::Stats {
        let mut table = show::table(&[
            "partition",
            "accounts",
            "bytes/account",
            "rows",
            "timers",
            "ids",
            "on disk",
            "event time",
        ]);
        for state in found {
            let contents = state.contents;
            table.add_row([
                state.partition.to_string(),
                contents.accounts.to_string(),
                (contents.account_bytes / contents.accounts.max(1)).to_string(),
                contents.activity_rows.to_string(),
                contents.timers.to_string(),
                contents.seen.to_string(),
                format!("{} KiB", state.bytes / 1024),
                state.clock.clone().unwrap_or_default(),
            ]);
        }
        println!("{table}");
    }
    for (partition, error) in damaged {
        println!("partition {partition}: {error}");
    }
    if command == StateCommand::Verify {
        println!("{} partitions are whole, {} are damaged.", found.len(), damaged.len());
        if !damaged.is_empty() {
            println!("A damaged partition is rebuilt from its changelog at the next start.");
        }
    }
}
