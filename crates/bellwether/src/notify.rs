//! `bellwether notify`: tells people of alerts. And `notify test SINK`: sends one that is made up.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use bellwether_core::time::Millis;
use bellwether_engine::clock::now_ms;
use bellwether_engine::kafka::{KafkaLog, WorkerId};
use bellwether_engine::log::{Log, Topic};
use bellwether_engine::metrics::Metrics;
use bellwether_engine::read_model::{Limits, ReadModel, Readiness};
use bellwether_engine::worker::OpenLog;
use bellwether_notify::channel::Channel;
use bellwether_notify::delivery::Outcome;
use bellwether_notify::desk::Format as RowFormat;
use bellwether_notify::policy::Loaded;
use bellwether_notify::rehearsal::{Ending, rehearse};
use bellwether_notify::run::{Notifier, NotifyError, Process, Settings};
use bellwether_server::AppState;
use bellwether_wire::decode::Decoder;
use clap::{Args, Subcommand};

use crate::app;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::parked::{self, ParkedCommand};
use crate::usage::{Usage, wrong};

/// `notify`
#[derive(Debug, Args)]
pub(crate) struct NotifyArgs {
    #[command(subcommand)]
    pub(crate) command: Option<NotifyCommand>,

    /// Delivery policy: sinks, routes, playbooks, texts
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) delivery: Option<PathBuf>,

    /// Kafka brokers
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(crate) bootstrap_servers: Option<String>,

    /// Address of the HTTP server of metrics and health [configuration: notify.listen, 127.0.0.1:8392]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
}

/// `notify check|test|parked`
#[derive(Debug, Subcommand)]
pub(crate) enum NotifyCommand {
    /// Check a delivery policy and print its version, its sinks and routes; 3 is the exit code where it has sinks and no route
    Check,
    /// Send a made-up alert to a sink, once, say what it answered, and close there what was opened; 3 is the exit code where it did not
    /// take or close it
    Test {
        /// The sink
        sink: String,
    },
    /// Look at what could not be told, or send it again
    Parked {
        #[command(subcommand)]
        command: ParkedCommand,
    },
}

/// Reads a delivery policy.
pub(crate) fn load(file: &Path) -> Result<Loaded> {
    Ok(Loaded::read(file).map_err(|error| Usage(error.to_string()))?)
}

/// Runs the command.
pub(crate) fn run(args: &NotifyArgs, config: Config, json: bool) -> Result<ExitCode> {
    if let Some(NotifyCommand::Parked { command }) = &args.command {
        return parked::run(command, &with_brokers(args, command, config)?, json);
    }
    if args.command.is_some() && (args.bootstrap_servers.is_some() || args.listen.is_some()) {
        wrong!(
            "--bootstrap-servers and --listen are of the notifier itself: `check` and `test` need neither"
        );
    }
    let Some(file) = &args.delivery else {
        wrong!(
            "no delivery policy is named: --delivery FILE; `bellwether alerts preview` shows the built-in texts"
        );
    };
    let policy = load(file)?;
    match &args.command {
        Some(NotifyCommand::Check) => check(&policy, json),
        Some(NotifyCommand::Test { sink }) => test(&policy, sink, json),
        Some(NotifyCommand::Parked { .. }) | None => {
            on_kafka(args, config, &policy).map(|()| ExitCode::SUCCESS)
        }
    }
}

/// The configuration with the brokers that stand before `parked`; behind it they may be named, too.
fn with_brokers(args: &NotifyArgs, command: &ParkedCommand, mut config: Config) -> Result<Config> {
    if args.listen.is_some() {
        wrong!("--listen is of the notifier itself: `parked` serves nothing");
    }
    if args.delivery.is_some() {
        wrong!(
            "--delivery is of the notifier itself: what is asked for again it sends by the policy that it runs with, and `parked` by none"
        );
    }
    let Some(servers) = &args.bootstrap_servers else { return Ok(config) };
    let own = command.log();
    if own.embedded {
        wrong!("--embedded and --bootstrap-servers exclude each other: name one of them");
    }
    if let Some(others) = own.bootstrap_servers.as_ref().filter(|others| *others != servers) {
        wrong!("--bootstrap-servers is given twice: {servers} and {others}");
    }
    config.kafka.bootstrap_servers = Some(servers.clone());
    Ok(config)
}

fn on_kafka(args: &NotifyArgs, mut config: Config, policy: &Loaded) -> Result<()> {
    if let Some(servers) = &args.bootstrap_servers {
        config.kafka.bootstrap_servers = Some(servers.clone());
    }
    if let Some(listen) = &args.listen {
        config.notify.listen.clone_from(listen);
    }
    let taken = DataDir::take(&config.data_dir)?;
    let instance = match &config.kafka.instance_id {
        Some(name) => name.clone(),
        None => taken.instance()?,
    };
    crate::topics::check(&config)?;
    let options = app::kafka_options(&config)?;
    let worker =
        WorkerId { application: format!("{}-notify", config.application_id), instance, thread: 0 };
    let inputs: Vec<Topic> = vec![config.topics.alerts.as_str().into()];
    let open: OpenLog = Box::new(move || {
        KafkaLog::open(&options, &worker, &inputs).map(|log| Box::new(log) as Box<dyn Log>)
    });
    let metrics = Metrics::new()?;
    metrics.build_info(env!("CARGO_PKG_VERSION"), policy.version());
    let stop = Arc::new(AtomicBool::new(false));
    app::stop_on_signals(&stop)?;
    let readiness = Arc::new(Readiness::default());
    let process = Process {
        metrics: metrics.clone(),
        readiness: Arc::clone(&readiness),
        stop: Arc::clone(&stop),
        clock: now_ms,
    };
    let notifier = spawn(&config, policy, open, process)?;
    let state = AppState {
        read_model: Arc::new(ReadModel::new(Limits::default())),
        metrics,
        readiness,
        ingest: None,
        // Nobody says anything here.
        snooze_days_max: 0,
        name: "Bellwether notifier".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        began_at: Millis(now_ms()),
    };
    let served = app::serve_state(state, &stop, &config.notify.listen, |address| {
        tracing::info!("metrics are at http://{address}/metrics");
    });
    stop.store(true, Ordering::Relaxed);
    ended(notifier).and(served)
}

/// Starts a notifier on a thread of its own. One that fails stops the process: alerts that nobody is told of would look like peace.
pub(crate) fn spawn(
    config: &Config,
    policy: &Loaded,
    open: OpenLog,
    process: Process,
) -> Result<JoinHandle<Result<(), NotifyError>>> {
    let settings = Settings {
        alerts: config.topics.alerts.as_str().into(),
        profiles: config.topics.profiles.as_str().into(),
        scores: config.topics.score_current.as_str().into(),
        calendar: config.topics.calendar.as_str().into(),
        state: config.topics.notify_state.as_str().into(),
        parked: config.topics.parked.as_str().into(),
        parked_ms: config.notify.kept().parked_ms,
        format: config.notify.format(),
    };
    if !settings.format.has_stale() {
        tracing::warn!(
            "notify.format is {}: how much was parked today because it is too old is forgotten with every rebalance, until it is {} or not set",
            settings.format.number(),
            RowFormat::NEWEST.number()
        );
    }
    let registry = app::registry(config);
    let decoder = Decoder::new(registry.as_ref(), config.engine.record_bytes_max)?;
    let flag = Arc::clone(&process.stop);
    let notifier = Notifier::new(settings, policy, &environment, decoder, open, process)
        .map_err(|error| Usage(error.to_string()))?;
    let thread = std::thread::Builder::new().name("notifier".to_owned()).spawn(move || {
        // Set when the thread ends, by a panic too.
        let _stops = Stops(flag);
        let ended = notifier.run();
        if let Err(error) = &ended {
            tracing::error!(%error, "the notifier stopped");
        }
        ended
    })?;
    Ok(thread)
}

/// Asks the process to stop when it is dropped. A notifier ends without an error only where that was asked for already.
struct Stops(Arc<AtomicBool>);

impl Drop for Stops {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits for a notifier's end.
pub(crate) fn ended(notifier: JoinHandle<Result<(), NotifyError>>) -> Result<()> {
    match notifier.join() {
        Ok(ended) => Ok(ended?),
        Err(_) => Err(anyhow!("the notifier panicked: this is a bug, its message is above")),
    }
}

fn environment(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

fn check(policy: &Loaded, json: bool) -> Result<ExitCode> {
    let of = policy.policy();
    let routed = |sink: &str| of.routes.iter().any(|route| route.sinks.iter().any(|to| to == sink));
    let sinks: Vec<&str> = of.sinks.iter().map(|sink| sink.name.as_str()).collect();
    let idle: Vec<&str> = sinks.iter().copied().filter(|sink| !routed(sink)).collect();
    let code = match of.has_routes() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(crate::EXIT_WANTING),
    };
    if json {
        let routes: Vec<&str> = of.routes.iter().map(|route| route.name.as_str()).collect();
        let answer = serde_json::json!({
            "version": policy.version(), "sinks": sinks, "routes": routes, "sinks_without_route": idle,
        });
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(code);
    }
    println!("delivery policy {}", policy.version());
    for route in &of.routes {
        println!("  {} ({}): {}", route.name, route.mode.as_str(), route.sinks.join(", "));
    }
    for sink in idle {
        println!("  note: no route leads to sink {sink}");
    }
    if let Err(finding) = of.has_routes() {
        eprintln!("error: {finding}; without it the notifier does not start");
    }
    Ok(code)
}

/// Sends a made-up alert to one sink.
fn test(policy: &Loaded, name: &str, json: bool) -> Result<ExitCode> {
    let Some(sink) = policy.policy().sink(name) else {
        let known: Vec<&str> =
            policy.policy().sinks.iter().map(|sink| sink.name.as_str()).collect();
        wrong!("there is no sink `{name}`; the policy has: {}", known.join(", "));
    };
    let channel = Channel::open(policy.policy(), sink, &environment)
        .map_err(|error| Usage(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = runtime.block_on(rehearse(policy, &channel, Millis(now_ms())));
    runtime.shutdown_background();
    let (result, detail) = said_by(&said.outcome);
    let (ending, well) = ending(&said.ending);
    let well = well && said.outcome == Outcome::Delivered;
    if json {
        let answer = serde_json::json!({
            "sink": name, "result": result, "detail": detail, "ending": ending, "idempotency_key": said.key,
        });
        println!("{}", serde_json::to_string_pretty(&answer).context("JSON")?);
    } else if said.outcome == Outcome::Delivered {
        println!("{name}: delivered. Look there: an alert that says that it is a test.");
        match well {
            true if ending.is_empty() => {}
            true => println!("{name}: {ending}"),
            false => eprintln!("error: {name}: {ending}"),
        }
    } else {
        eprintln!("error: {name}: {result}: {detail}");
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(crate::EXIT_WANTING) })
}

fn said_by(outcome: &Outcome) -> (&'static str, &str) {
    match outcome {
        Outcome::Delivered => ("delivered", ""),
        Outcome::Failed { detail, .. } | Outcome::Throttled { detail, .. } => ("failed", detail),
        Outcome::Refused { detail, .. } => ("refused", detail),
    }
}

/// What became of what was opened at the sink, and whether that is well.
fn ending(ending: &Ending) -> (String, bool) {
    match ending {
        Ending::None => (String::new(), true),
        Ending::ByItself(minutes) => (format!("it ends by itself in {minutes} minutes"), true),
        Ending::Told(Outcome::Delivered) => ("it was closed there again".to_owned(), true),
        Ending::Told(other) => {
            let (result, detail) = said_by(other);
            let text =
                format!("it could not be closed there, so do that by hand: {result}: {detail}");
            (text, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notifier_that_panics_stops_the_process() {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let _stops = Stops(flag);
            panic!("a bug of the notifier");
        });
        assert!(thread.join().is_err());
        assert!(stop.load(Ordering::Relaxed));
    }
}
