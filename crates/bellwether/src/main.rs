//! The `bellwether` command: configuration, wiring, printing. Decisions live in the crates below.

mod against;
mod alerts;
mod app;
mod calendar;
mod calibrate;
mod cli;
mod cohorts;
mod config;
mod data_dir;
mod demo;
mod dlq;
mod evaluate;
mod explain;
mod forget;
mod holidays;
mod learn;
mod memory;
mod model;
mod notify;
mod outcome;
mod parked;
mod place;
mod policies;
mod preview;
mod replay;
mod reset;
mod shadow;
mod show;
mod source;
mod state;
mod stories;
mod then;
mod topics;
mod txn;
mod usage;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, PolicyCommand};
use crate::config::{Config, LogFormat};
use crate::usage::Usage;

/// For the C libraries as well; why, and how it is set: `Cargo.toml`, `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Checked, and found wanting.
const EXIT_WANTING: u8 = 3;
/// Wrong usage or configuration (as clap exits by itself).
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match Config::load(cli.global.config.as_deref(), &cli.global.overrides()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if let Err(error) = start_logs(&config, &cli.command, cli.global.json) {
        eprintln!("error: {error:#}");
        return ExitCode::from(EXIT_USAGE);
    }
    match run(&cli, config) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Usage>() { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// Logs go to standard error. Commands that print for people are quiet unless something is wrong.
fn start_logs(config: &Config, command: &Command, json: bool) -> Result<()> {
    let filter = match command {
        Command::Run(_) | Command::Notify(_) => config.log.filter.clone(),
        Command::Demo(_)
        | Command::Topics { .. }
        | Command::Dlq { .. }
        | Command::Forget(_)
        | Command::Reset(_)
        | Command::Txn { .. }
        | Command::State { .. }
        | Command::Policy { .. }
        | Command::Replay(_)
        | Command::Calibrate(_)
        | Command::Cohorts(_)
        | Command::Learn { .. }
        | Command::Outcome(_)
        | Command::Alerts { .. }
        | Command::Calendar { .. }
        | Command::Shadow { .. }
        | Command::Kpis { .. }
        | Command::Evaluate(_)
        | Command::Explain(_)
        | Command::Config
        | Command::Version => "warn".to_owned(),
    };
    let filter = log_filter(&filter)
        .map_err(|error| anyhow::anyhow!("log.filter is `{filter}`: {error}; allowed is e.g. info or warn,bellwether_engine=debug"))?;
    // Colours are for terminals: in a file or a log collector they are noise.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log.format {
        LogFormat::Text if !json => lines.init(),
        LogFormat::Json | LogFormat::Text => lines.json().init(),
    }
    Ok(())
}

/// The filter of log lines. The models open spans at info for every series: of them only warnings are wanted, unless the filter
/// names them itself.
fn log_filter(filter: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(format!("augurs=warn,{filter}"))
}

/// A write beyond the limit on the size of files (`ulimit -f`) is to fail with an error, as on a full disk. Without a handler the
/// kernel ends the process, without a word.
fn survive_file_size_limit() -> Result<()> {
    let unread = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, unread)?;
    Ok(())
}

fn run(cli: &Cli, config: Config) -> Result<ExitCode> {
    survive_file_size_limit()?;
    let json = cli.global.json;
    match &cli.command {
        Command::Demo(args) => demo::run(args, &config, cli.global.data_dir.as_deref(), json)?,
        Command::Run(args) => app::run(args, config)?,
        Command::Notify(args) => return notify::run(args, config, json),
        Command::Topics { command } => return topics::run(command, &config, json),
        Command::State { command } => return state::run(*command, &config, json),
        Command::Dlq { command } => return dlq::run(command, &config, json),
        Command::Forget(args) => return forget::run(args, &config, json),
        Command::Reset(args) => return reset::run(args, &config, json),
        Command::Txn { command } => return txn::run(command, &config, json),
        Command::Policy { command } => return policy(command, json),
        Command::Replay(args) => match &args.against {
            Some(other) => against::run(args, other, &config, &cli.global)?,
            None => replay::run(args, policies::core(&config)?, json)?,
        },
        Command::Calibrate(args) => {
            calibrate::run(args, &policies::load(config.policy.as_deref())?, json)?
        }
        Command::Outcome(args) => return outcome::run(args, &config, json),
        Command::Alerts { command } => {
            return alerts::run(command, cli.global.policy.as_deref(), &config, json);
        }
        Command::Calendar { command } => return calendar::run(command, &config, json),
        Command::Kpis { url } => return outcome::kpis(url, json),
        Command::Learn { command } => return learn::run(command, &config, json),
        Command::Shadow { command } => return shadow::run(command, &config, json),
        Command::Cohorts(args) => return cohorts::run(args, &config, json),
        Command::Evaluate(args) => {
            evaluate::run(args, &policies::load(config.policy.as_deref())?, json)?
        }
        Command::Explain(args) => return explain::run(args, &config, json),
        Command::Config => print_config(&config, json)?,
        Command::Version => {
            let policy = policies::load(config.policy.as_deref())?;
            let (version, policy_version) = (env!("CARGO_PKG_VERSION"), policy.version());
            if json {
                println!(
                    "{}",
                    serde_json::json!({"version": version, "policy": policy.name, "policy_version": policy_version})
                );
            } else {
                println!("bellwether {version}\npolicy {} {policy_version}", policy.name);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn policy(command: &PolicyCommand, json: bool) -> Result<ExitCode> {
    match command {
        PolicyCommand::Show { name } => {
            let text = match name.as_str() {
                "delivery" => bellwether_notify::policy::DEFAULT,
                name => policies::builtin(name).unwrap_or_default(),
            };
            if json {
                let policy: serde_json::Value = toml::from_str(text)?;
                println!("{}", serde_json::to_string_pretty(&policy)?);
            } else {
                print!("{text}");
            }
        }
        PolicyCommand::Check { file } => match policies::load(Some(file)) {
            Ok(policy) if json => {
                println!(
                    "{}",
                    serde_json::json!({"name": policy.name, "version": policy.version(), "signals": policy.signals.len()})
                );
            }
            Ok(policy) => {
                println!("{}: {policy}, {} signals", file.display(), policy.signals.len())
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                return Ok(ExitCode::from(EXIT_WANTING));
            }
        },
    }
    Ok(ExitCode::SUCCESS)
}

fn print_config(config: &Config, json: bool) -> Result<()> {
    let shown = config.masked();
    if json {
        println!("{}", serde_json::to_string_pretty(&shown)?);
    } else {
        print!("{}", toml::to_string(&shown)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tracing::subscriber::with_default;

    use super::*;

    /// Whether (a model at info, a model at warn, the engine at info) are logged.
    fn logged(filter: &str) -> [bool; 3] {
        let filter = log_filter(filter).expect("a good filter");
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::sink);
        with_default(lines.finish(), || {
            [
                tracing::enabled!(target: "augurs_mstl", tracing::Level::INFO),
                tracing::enabled!(target: "augurs_outlier", tracing::Level::WARN),
                tracing::enabled!(target: "bellwether_engine", tracing::Level::INFO),
            ]
        })
    }

    #[test]
    fn models_log_warnings_only_unless_the_filter_names_them() {
        assert_eq!(logged("info"), [false, true, true]);
        assert_eq!(logged("warn"), [false, true, false]);
        assert_eq!(logged("warn,augurs_mstl=debug"), [true, true, false]);
        assert_eq!(logged(""), [false, true, false]);
    }
}
