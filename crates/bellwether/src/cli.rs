//! The command line. Exit codes are stable: 0 done, 1 failed, 2 wrong usage or configuration, 3 checked and found wanting.

mod alerts;
mod calendar;
mod history;
mod model;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::alerts::{
    AlertSaidArgs, AlertsCommand, AlertsLsArgs, AlertsShowArgs, OutcomeArgs,
};
pub(crate) use self::calendar::{
    CalendarAddArgs, CalendarCommand, CalendarHolidaysArgs, CalendarLsArgs,
};
pub(crate) use self::history::{
    CalibrateArgs, CohortsArgs, EvaluateArgs, ExplainArgs, ReplayArgs, SetName,
};
pub(crate) use self::model::{
    ChangeArgs, LearnCommand, LearnFitArgs, PromoteArgs, PromotionArgs, ShadowCommand,
    ShadowCompareArgs, ShadowStartArgs,
};
use crate::config::Overrides;

/// Health scores and explained, corroborated alerts for customer accounts, from their usage events.
#[derive(Debug, Parser)]
#[command(name = "bellwether", version, disable_version_flag = true, propagate_version = false)]
#[command(
    after_help = "Start with `bellwether demo --serve`. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, \
                        3 checked and found wanting."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) global: Global,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Configuration file (default: bellwether.toml, if it is there)
    #[arg(long, global = true, value_name = "FILE", env = "BELLWETHER_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Directory of state and of the embedded log
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Policy file, or builtin:default or builtin:openstack (default: builtin:default)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,

    /// Model file of a learned scorecard, from `learn fit` (default: the policy's expert weights)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,

    /// Log lines as JSON
    #[arg(long, global = true)]
    pub(crate) log_json: bool,

    /// Print the result as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Global {
    /// The flags as configuration.
    pub(crate) fn overrides(&self) -> Overrides {
        let mut values = Vec::new();
        if let Some(dir) = &self.data_dir {
            values.push(("data_dir", dir.display().to_string()));
        }
        if let Some(policy) = &self.policy {
            values.push(("policy", policy.display().to_string()));
        }
        if let Some(model) = &self.model {
            values.push(("model", model.display().to_string()));
        }
        if self.log_json {
            values.push(("log.format", "json".to_owned()));
        }
        Overrides { values }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Replay real history and a few story accounts through the whole engine, and show what came out
    Demo(DemoArgs),
    /// Run workers: on Kafka, or with --embedded on the log of one data directory
    Run(RunArgs),
    /// Tell people of alerts: Slack, Teams, webhooks, PagerDuty, Alertmanager, e-mail (with the embedded log: `run --embedded --delivery`)
    Notify(crate::notify::NotifyArgs),
    /// Plan or create the Kafka topics
    Topics {
        #[command(subcommand)]
        command: TopicsCommand,
    },
    /// Look at the state in the data directory, while no process has it
    State {
        #[command(subcommand)]
        command: StateCommand,
    },
    /// Look at dead letters, or send them again
    Dlq {
        #[command(subcommand)]
        command: DlqCommand,
    },
    /// Delete an account everywhere that Bellwether keeps it; without --yes, say what is known of it
    Forget(ForgetArgs),
    /// Find transactions that hold readers up, and abort them
    Txn {
        #[command(subcommand)]
        command: TxnCommand,
    },
    /// Start over: positions, changelogs and local state go, what was published stays; without --yes, say what would be done
    Reset(ResetArgs),
    /// Check or show a policy
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Run files of events through the engine, without a log
    Replay(ReplayArgs),
    /// Measure how often chance alone would alert, on accounts to which nothing happens, and print the policy's `[calibration]`
    Calibrate(CalibrateArgs),
    /// Propose cohorts by the shape of weeks, and list accounts unlike their peers: from files of events, or from the state in the data
    /// directory
    Cohorts(CohortsArgs),
    /// Say what became of an account, or of one of its alerts
    Outcome(OutcomeArgs),
    /// See alerts, take them on, quieten them, end them, and say whether they were right
    Alerts {
        #[command(subcommand)]
        command: AlertsCommand,
    },
    /// Tell days on which usage is not what it normally is: public holidays, incidents, initiatives, year ends
    Calendar {
        #[command(subcommand)]
        command: CalendarCommand,
    },
    /// What became of alerts and accounts: were they right, did anyone act, did accounts stay
    Kpis {
        /// Base URL of a running server
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8391")]
        url: String,
    },
    /// Learn a scorecard from history and outcomes, and see what it is worth
    Learn {
        #[command(subcommand)]
        command: LearnCommand,
    },
    /// Try a model, or another policy's weights, beside what is in force, on the live stream, before it is promoted
    Shadow {
        #[command(subcommand)]
        command: ShadowCommand,
    },
    /// Judge the engine by replay on the data of the evaluation kit: CSV, JSON, figures
    Evaluate(EvaluateArgs),
    /// Explain the score of an account, line by line
    Explain(ExplainArgs),
    /// Print the configuration in force, secrets masked
    Config,
    /// Print the version, and that of the policy
    Version,
}

/// `demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Stay up afterwards: pages, API, metrics, POST /v1/events
    #[arg(long)]
    pub(crate) serve: bool,

    /// Address of the server
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8391")]
    pub(crate) listen: String,

    /// The day on which the history ends (default: yesterday)
    #[arg(long, value_name = "DATE")]
    pub(crate) as_of: Option<String>,
}

/// `run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Without Kafka: one process, one data directory, events by POST /v1/events
    #[arg(long)]
    pub(crate) embedded: bool,

    /// Kafka brokers
    #[arg(long, value_name = "HOST:PORT,…", conflicts_with = "embedded")]
    pub(crate) bootstrap_servers: Option<String>,

    /// Base URL of the schema registry
    #[arg(long, value_name = "URL")]
    pub(crate) registry_url: Option<String>,

    /// Address of the HTTP server
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,

    /// Go on at the oldest record kept where input was deleted before it was read; otherwise that is an error
    #[arg(long, conflicts_with = "embedded")]
    pub(crate) skip_lost_input: bool,

    /// Tell people of alerts as this delivery policy says (on Kafka: `bellwether notify`)
    #[arg(long, value_name = "FILE", requires = "embedded")]
    pub(crate) delivery: Option<PathBuf>,
}

/// `topics`
#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Show what `apply` would do
    Plan(TopicsArgs),
    /// Create missing topics; nothing that exists is changed
    Apply(TopicsArgs),
}

/// `topics plan|apply`
#[derive(Debug, Args)]
pub(crate) struct TopicsArgs {
    /// Partitions of every topic
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub(crate) partitions: i32,

    /// Replicas of every topic
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=15))]
    pub(crate) replication: i32,

    /// Kafka brokers
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(crate) bootstrap_servers: Option<String>,
}

/// `state`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum StateCommand {
    /// Per partition: accounts, bytes, timers, ids, event time
    Stats,
    /// Read everything and check that it agrees with itself; 3 is the exit code where it does not
    Verify,
}

/// `dlq`
#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List dead letters, newest first
    Ls {
        #[command(flatten)]
        args: LogArgs,
        /// Only those of this reason, e.g. malformed
        #[arg(long)]
        reason: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show one in full, as JSON
    Show {
        #[command(flatten)]
        args: LogArgs,
        /// Its partition
        partition: i32,
        /// Its offset
        offset: i64,
    },
    /// Send dead letters again to where they came from; without --yes, say what would be sent
    Replay(DlqReplayArgs),
}

/// Which log.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// In the embedded log of the data directory, while no process has it
    #[arg(long, conflicts_with = "bootstrap_servers")]
    pub(crate) embedded: bool,

    /// Kafka brokers
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(crate) bootstrap_servers: Option<String>,
}

/// `dlq replay`
#[derive(Debug, Args)]
pub(crate) struct DlqReplayArgs {
    #[command(flatten)]
    pub(crate) args: LogArgs,

    /// Only those of this reason, e.g. unknown_account
    #[arg(long)]
    pub(crate) reason: Option<String>,

    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `forget`
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// The account
    pub(crate) account: String,

    #[command(flatten)]
    pub(crate) args: LogArgs,

    /// Through a running server that takes input over HTTP (`run --embedded`)
    #[arg(long, value_name = "URL", conflicts_with_all = ["embedded", "bootstrap_servers"])]
    pub(crate) url: Option<String>,

    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `reset`
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    #[command(flatten)]
    pub(crate) args: LogArgs,

    /// Only say what would be done (the default)
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,

    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `txn`
#[derive(Debug, Subcommand)]
pub(crate) enum TxnCommand {
    /// List what is open on the application's topics; 3 is the exit code where something has been open for too long
    List {
        /// Kafka brokers
        #[arg(long, value_name = "HOST:PORT,…")]
        bootstrap_servers: Option<String>,

        /// Open for so long is too long (default: kafka.transaction_timeout_seconds)
        #[arg(long, value_name = "SECONDS")]
        older_than: Option<u32>,
    },
    /// Abort one; without --yes, say what would be done
    Abort(TxnAbortArgs),
}

/// `txn abort`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(crate) struct TxnAbortArgs {
    /// Its transactional id
    #[arg(group = "which")]
    pub(crate) transactional_id: Option<String>,

    /// The producer of a hanging one, which has no transactional id any more
    #[arg(long, value_name = "ID", group = "which")]
    pub(crate) producer_id: Option<i64>,

    /// Kafka brokers
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(crate) bootstrap_servers: Option<String>,

    /// Also where the id belongs to a worker that is a member of the group, or to another application
    #[arg(long)]
    pub(crate) force: bool,

    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `policy`
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check a policy file and print its version
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print a built-in policy, to start a policy of your own from
    Show {
        /// Which one
        #[arg(default_value = "default", value_parser = ["default", "openstack", "delivery"])]
        name: String,
    },
}

/// Where promotions and outcomes are kept.
#[derive(Debug, Args)]
pub(crate) struct InputArgs {
    #[command(flatten)]
    pub(crate) args: LogArgs,

    /// Through a running server that takes input over HTTP (`run --embedded`)
    #[arg(long, value_name = "URL", conflicts_with_all = ["embedded", "bootstrap_servers"])]
    pub(crate) url: Option<String>,
}

/// Something that somebody says: where it goes, and who says it.
#[derive(Debug, Args)]
pub(crate) struct SaidArgs {
    #[command(flatten)]
    pub(crate) place: InputArgs,

    /// Who says so
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,

    /// A remark for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
}
