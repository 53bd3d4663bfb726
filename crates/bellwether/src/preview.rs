//! `bellwether alerts preview`: what a delivery policy makes of real alerts, in the terminal and as a page. Nothing is sent.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bellwether_engine::log::{Record, Topic};
use bellwether_notify::event::{Alert, Phase, Profile};
use bellwether_notify::payload::html_message;
use bellwether_notify::planner::routes_of;
use bellwether_notify::policy::Loaded;
use bellwether_notify::render::{Letter, Target, Texts, addresses, escape, plain_text};
use bellwether_wire::decode::Decoder;
use bellwether_wire::encode::OutputKind;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::LogArgs;
use crate::config::Config;
use crate::source::Source;
use crate::usage::wrong;
use crate::{app, explain, notify};

/// `alerts preview`
#[derive(Debug, Args)]
pub(crate) struct PreviewArgs {
    /// Delivery policy, by this name or as --policy: no other is asked here (default: the built-in texts and playbooks, no routes)
    #[arg(long, value_name = "FILE")]
    pub(crate) delivery: Option<PathBuf>,

    /// Write the messages as a page
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// At most so many alerts, the newest
    #[arg(long, default_value_t = 5)]
    pub(crate) limit: usize,

    #[command(flatten)]
    pub(crate) args: LogArgs,

    /// From a running server instead of the log
    #[arg(long, value_name = "URL", conflicts_with_all = ["embedded", "bootstrap_servers"])]
    pub(crate) url: Option<String>,
}

/// Runs the command. `named`: what stands behind `--policy`. Where there are no alerts: exit code 3.
pub(crate) fn run(
    args: &PreviewArgs,
    named: Option<&Path>,
    config: &Config,
    json: bool,
) -> Result<ExitCode> {
    let policy = match (args.delivery.as_deref(), named) {
        (Some(_), Some(_)) => {
            wrong!("--delivery and --policy both name the delivery policy here: give one")
        }
        (Some(file), None) | (None, Some(file)) => notify::load(file)?,
        (None, None) => Loaded::builtin(),
    };
    let texts = policy.texts();
    let (mut alerts, profiles) = match &args.url {
        Some(url) => (of_server(url)?, BTreeMap::new()),
        None => of_log(args, config)?,
    };
    alerts.retain(|alert| alert.phase() == Phase::Raised);
    alerts.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id)));
    alerts.truncate(args.limit);
    if alerts.is_empty() {
        eprintln!("error: there are no alerts that opened, escalated or opened again");
        return Ok(ExitCode::from(crate::EXIT_WANTING));
    }
    let none = Profile::default();
    let letters: Vec<Letter<'_>> = alerts
        .iter()
        .map(|alert| Letter { alert, profile: profiles.get(&alert.account_id).unwrap_or(&none) })
        .collect();
    if let Some(file) = &args.html {
        let page = page(&policy, texts, &letters)?;
        std::fs::write(file, page)
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    print(&policy, texts, &letters, json)?;
    Ok(ExitCode::SUCCESS)
}

/// Sink and mode of each route that an alert takes.
fn routes(policy: &Loaded, letter: Letter<'_>) -> Vec<(String, String)> {
    let routes = routes_of(policy.policy(), letter.alert, letter.profile);
    routes
        .into_iter()
        .map(|(sink, route)| (sink, format!("{} ({})", route.mode.as_str(), route.name)))
        .collect()
}

fn print(policy: &Loaded, texts: &Texts, letters: &[Letter<'_>], json: bool) -> Result<()> {
    let mut shown = Vec::new();
    for letter in letters {
        let message = texts.message(Target::Plain, *letter)?;
        let routes = routes(policy, *letter);
        if json {
            let links = addresses(&policy.policy().links, letter.alert);
            let links: BTreeMap<&str, String> = links.into_iter().collect();
            shown.push(json!({
                "event_id": letter.alert.id, "alert_id": letter.alert.alert_id,
                "account_id": letter.alert.account_id, "routes": routes,
                "message": {
                    "title": message.title, "what": message.what, "why": message.why,
                    "who": message.who, "steps": message.steps, "owner": message.owner,
                    "outreach": message.outreach, "links": links,
                },
            }));
            continue;
        }
        let routes: Vec<String> =
            routes.into_iter().map(|(sink, mode)| format!("{sink}: {mode}")).collect();
        let routes = if routes.is_empty() {
            "nobody: no route matches".to_owned()
        } else {
            routes.join(", ")
        };
        println!("{}\nGoes to {routes}\n{}", plain_text(&message), "-".repeat(80));
    }
    if json {
        let answer = json!({"delivery_policy_version": policy.version(), "alerts": shown});
        println!("{}", serde_json::to_string_pretty(&answer)?);
    }
    Ok(())
}

fn page(policy: &Loaded, texts: &Texts, letters: &[Letter<'_>]) -> Result<String> {
    let mut body = String::new();
    for letter in letters {
        let message = html_message(&texts.message(Target::Html, *letter)?);
        let routes: Vec<String> = routes(policy, *letter)
            .into_iter()
            .map(|(sink, mode)| format!("{sink}: {mode}"))
            .collect();
        let routes = if routes.is_empty() {
            "nobody: no route matches".to_owned()
        } else {
            routes.join(", ")
        };
        write!(
            body,
            "<article>{message}<p class=\"routes\">Goes to {}</p></article>",
            escape(Target::Html, &routes)
        )?;
    }
    Ok(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Alerts, as delivery policy {} tells them</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}}\
         article{{border:1px solid #bbb;border-radius:6px;padding:0 1rem;margin:1rem 0}}.routes{{color:#555}}</style></head><body>{body}</body></html>\n",
        policy.version()
    ))
}

/// Alerts and profiles as the log has them.
fn of_log(args: &PreviewArgs, config: &Config) -> Result<(Vec<Alert>, BTreeMap<String, Profile>)> {
    let source = Source::open(&args.args, config, "bellwether-preview")
        .context("for a running `run --embedded`, name its server with --url")?;
    let registry = app::registry(config);
    let mut decoder = Decoder::new(registry.as_ref(), config.engine.record_bytes_max)?;
    let mut alerts = Vec::new();
    for record in records(&source, &config.topics.alerts)? {
        alerts.push(decoder.output_as(OutputKind::Alert, record.payload.as_deref())?);
    }
    let mut profiles = BTreeMap::new();
    for record in records(&source, &config.topics.profiles)? {
        // One that cannot be read is a dead letter of the engine's.
        if let Ok(profile) = decoder.profile(record.key.as_deref(), record.payload.as_deref()) {
            profiles.insert(profile.account.to_string(), Profile::from(&profile));
        }
    }
    Ok((alerts, profiles))
}

fn records(source: &Source, topic: &str) -> Result<Vec<Record>> {
    let (topic, mut records): (Topic, _) = (topic.into(), Vec::new());
    for partition in 0..source.partitions(&topic)? {
        source.read(&topic, partition, &mut |record| records.push(record))?;
    }
    Ok(records)
}

/// Alerts as a server has them: without what profiles say.
fn of_server(url: &str) -> Result<Vec<Alert>> {
    let url = format!("{}/v1/alerts", url.trim_end_matches('/'));
    let mut response =
        explain::agent().get(&url).call().with_context(|| format!("{url} does not answer"))?;
    let body = response.body_mut().read_to_string()?;
    if response.status() != 200 {
        bail!("{url} answered {}: {body}", response.status());
    }
    let answer: Value =
        serde_json::from_str(&body).with_context(|| format!("{url} answered something else"))?;
    let alerts = answer["alerts"].as_array().cloned().unwrap_or_default();
    let read = alerts.into_iter().map(serde_json::from_value::<Alert>);
    read.collect::<Result<_, _>>().with_context(|| format!("{url} answered something else"))
}
