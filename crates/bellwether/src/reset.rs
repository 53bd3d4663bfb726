//! `bellwether reset`: the application starts over. Its positions go, its changelogs and its local state; input is read again from the
//! oldest record kept, and what it publishes then has the ids that it had before.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bellwether_engine::embedded::Embedded;
use bellwether_engine::kafka::{KafkaReset, Position};
use serde_json::{Value, json};

use crate::cli::ResetArgs;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::source::Source;
use crate::{app, show, state};

/// What there is to reset.
struct Plan {
    inputs: Vec<Position>,
    changelogs: Vec<Position>,
    dirs: Vec<PathBuf>,
    members: usize,
}

/// The log, with nobody at work on it.
enum Log {
    Kafka(Box<KafkaReset>),
    Embedded(Embedded),
}

/// Runs the command.
pub(crate) fn run(args: &ResetArgs, config: &Config, json: bool) -> Result<ExitCode> {
    // Held until the end: no process of this directory starts meanwhile.
    let take = || DataDir::take(&config.data_dir).context("stop the process first");
    let _taken = args.yes.then(take).transpose()?;
    let log = open(args, config)?;
    let plan = plan(&log, config)?;
    if args.yes {
        if plan.members > 0 {
            bail!(
                "group {} has {} members: stop all workers first; one that was stopped stays a member until its session has timed out \
                 (kafka.session_timeout_seconds)",
                config.application_id,
                plan.members
            );
        }
        carry_out(&log, &plan, config)?;
    }
    say(args, &plan, config, json)?;
    Ok(ExitCode::SUCCESS)
}

fn open(args: &ResetArgs, config: &Config) -> Result<Log> {
    if args.args.embedded {
        return match Source::open(&args.args, config, "bellwether-reset")? {
            Source::Embedded(log) => Ok(Log::Embedded(log)),
            Source::Kafka(_) => bail!("this is a bug: the embedded log was asked for"),
        };
    }
    let mut config = config.clone();
    if let Some(servers) = &args.args.bootstrap_servers {
        config.kafka.bootstrap_servers = Some(servers.clone());
    }
    let options = app::kafka_options(&config)?;
    Ok(Log::Kafka(Box::new(KafkaReset::new(&options, &config.application_id)?)))
}

fn changelogs(config: &Config) -> [String; 3] {
    // What partitions told each other belongs to their state.
    let topics = &config.topics;
    [&topics.state_changelog, &topics.seen_changelog, &topics.cohort_stats].map(Clone::clone)
}

fn plan(log: &Log, config: &Config) -> Result<Plan> {
    let (inputs, changelogs) = (config.topics.inputs(), changelogs(config));
    let dirs = state::directories(&config.data_dir.join("state")).unwrap_or_default();
    let dirs = dirs.into_iter().map(|(_, dir)| dir).collect();
    Ok(match log {
        Log::Kafka(kafka) => Plan {
            inputs: kafka.positions(&inputs)?,
            changelogs: kafka.positions(&changelogs)?,
            dirs,
            members: kafka.members()?,
        },
        Log::Embedded(log) => Plan {
            inputs: embedded_positions(log, &inputs)?,
            changelogs: embedded_positions(log, &changelogs)?,
            dirs,
            members: 0,
        },
    })
}

fn embedded_positions(log: &Embedded, topics: &[String]) -> Result<Vec<Position>> {
    let mut positions = Vec::new();
    for topic in topics {
        for partition in 0..log.partitions(topic)? {
            let (committed, end) =
                (log.committed(topic, partition)?, log.end_offset(topic, partition)?);
            positions.push(Position { topic: topic.clone(), partition, committed, oldest: 0, end });
        }
    }
    Ok(positions)
}

/// Positions first, local state last: see [`KafkaReset`]. Whoever starts the application in between loses nothing.
fn carry_out(log: &Log, plan: &Plan, config: &Config) -> Result<()> {
    match log {
        Log::Kafka(kafka) => {
            kafka.forget_positions()?;
            for topic in changelogs(config) {
                kafka.empty_topic(&topic)?;
            }
        }
        Log::Embedded(log) => {
            let (inputs, changelogs) = (config.topics.inputs(), changelogs(config));
            let emptied: Vec<&str> = changelogs.iter().map(String::as_str).collect();
            let rewound: Vec<&str> = inputs.iter().map(String::as_str).collect();
            log.reset(&emptied, &rewound)?;
        }
    }
    for dir in &plan.dirs {
        std::fs::remove_dir_all(dir)
            .with_context(|| format!("{} cannot be removed; remove it by hand", dir.display()))?;
    }
    Ok(())
}

fn say(args: &ResetArgs, plan: &Plan, config: &Config, json: bool) -> Result<()> {
    let stays = format!(
        "what was published in {}, {}, {}, {}, {} and {} stays; it is published again with the same ids",
        config.topics.score_changed,
        config.topics.score_current,
        config.topics.alerts,
        config.topics.shadow,
        config.topics.examples,
        config.topics.dead_letters
    );
    if json {
        let positions = |positions: &[Position]| -> Vec<Value> {
            let each = positions.iter();
            each.map(|at| {
                json!({"topic": at.topic, "partition": at.partition, "committed": at.committed, "oldest": at.oldest, "end": at.end})
            })
            .collect()
        };
        let answer = json!({
            "done": args.yes, "members": plan.members, "inputs": positions(&plan.inputs),
            "changelogs": positions(&plan.changelogs), "directories": plan.dirs, "note": stays,
        });
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    let mut table = show::table(&["topic", "partition", "is at", "begins again at", "ends at"]);
    for at in &plan.inputs {
        let committed =
            at.committed.map_or_else(|| "the beginning".to_owned(), |at| at.to_string());
        let [oldest, end] = [at.oldest, at.end].map(|offset| offset.to_string());
        table.add_row([at.topic.clone(), at.partition.to_string(), committed, oldest, end]);
    }
    println!("{table}");
    let verb = if args.yes { "Emptied" } else { "Would be emptied" };
    println!("{verb}: {}.", changelogs(config).join(", "));
    let verb = if args.yes { "Removed" } else { "Would be removed" };
    println!("{verb}: {} directories of state in {}.", plan.dirs.len(), config.data_dir.display());
    if !args.args.embedded {
        println!(
            "Remove the state of every other worker of {}, too, before it is started again.",
            config.application_id
        );
    }
    println!(
        "Note: {stays}. Accounts that were deleted and whose events input still holds have to be forgotten again."
    );
    match (args.yes, plan.members) {
        (true, _) => {}
        (false, 0) => println!("Nothing was done; add --yes."),
        (false, members) => println!(
            "Nothing was done. The group has {members} members: stop all workers, then add --yes."
        ),
    }
    Ok(())
}
