//! `bellwether topics plan|apply`, and the check at start.

use std::process::ExitCode;

use anyhow::{Context, Result};
use bellwether_engine::topics::{self, Kept, TopicAction, TopicAdmin, TopicSpec};

use crate::cli::TopicsCommand;
use crate::config::Config;
use crate::{app, policies, show};

/// Event ids are kept for twice the time for which they are needed, so that a worker that was away finds them.
const SEEN_RETENTION_GRACES: i64 = 2;
/// And for as long as input topics usually keep what was not read.
const OUTAGE_MS: i64 = 7 * 24 * 3_600_000;

/// Runs the command.
pub(crate) fn run(command: &TopicsCommand, config: &Config, json: bool) -> Result<ExitCode> {
    let (args, apply) = match command {
        TopicsCommand::Plan(args) => (args, false),
        TopicsCommand::Apply(args) => (args, true),
    };
    let mut config = config.clone();
    if let Some(servers) = &args.bootstrap_servers {
        config.kafka.bootstrap_servers = Some(servers.clone());
    }
    let policy = policies::load(config.policy.as_deref())?;
    let admin = TopicAdmin::new(&app::kafka_options(&config)?)?;
    let seen_ms = (policy.grace_ms() + policy.lateness_ms()) * SEEN_RETENTION_GRACES + OUTAGE_MS;
    let kept = Kept { seen_ms, ..config.notify.kept() };
    let plan = topics::plan(&admin, &config.topics, args.partitions, &kept)?;
    let created = if apply { topics::apply(&admin, &plan, args.replication)? } else { Vec::new() };
    let rows: Vec<(&TopicSpec, &str, String)> =
        plan.iter().map(|action| row(action, &created)).collect();
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(spec, action, detail)| serde_json::json!({"topic": spec.name, "action": action, "detail": detail}))
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        let mut table = show::table(&["topic", "purpose", "action", "detail"]);
        for (spec, action, detail) in &rows {
            table.add_row([spec.name.as_str(), spec.purpose, action, detail]);
        }
        println!("{table}");
    }
    let wanting = plan.iter().any(|action| matches!(action, TopicAction::Mismatch { .. }));
    Ok(if wanting { ExitCode::from(crate::EXIT_WANTING) } else { ExitCode::SUCCESS })
}

fn row<'p>(action: &'p TopicAction, created: &[String]) -> (&'p TopicSpec, &'static str, String) {
    match action {
        TopicAction::Ok { spec } => (spec, "ok", String::new()),
        TopicAction::Mismatch { spec, reason } => (spec, "mismatch", reason.clone()),
        TopicAction::Create { spec, partitions } => {
            let action = if created.contains(&spec.name) { "created" } else { "create" };
            let bytes = spec.retention_bytes.map(|bytes| format!(", {} MiB each", bytes >> 20));
            let bytes = bytes.unwrap_or_default();
            (spec, action, format!("{partitions} partitions, {}{bytes}", spec.cleanup))
        }
    }
}

/// Checks at start that every topic is there and right.
pub(crate) fn check(config: &Config) -> Result<()> {
    let admin = TopicAdmin::new(&app::kafka_options(config)?)?;
    topics::check(&admin, &config.topics).context("the topics are not ready")?;
    Ok(())
}
