//! The command line. Exit codes are stable: 0 done, 1 failed, 2 wrong usage or configuration, 3 checked and found wanting.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    /// Try a model beside the one in force, on the live stream, before it is promoted
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

/// `replay`
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Files of events, in order: .csv, .ndjson, .jsonl, .json (each also .gz), .avro
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Profiles, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) profiles: Option<PathBuf>,

    /// Outcomes, CSV or one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) outcomes: Option<PathBuf>,

    /// Calendar entries, one JSON object a line; all of them are known from the start
    #[arg(long, value_name = "FILE")]
    pub(crate) calendar: Option<PathBuf>,

    /// Promotions of models and challengers, one JSON object a line (`learn promotions --json`); each is in force from its time on
    #[arg(long, value_name = "FILE")]
    pub(crate) models: Option<PathBuf>,

    /// Write every score change: account_id, at, score
    #[arg(long, value_name = "FILE")]
    pub(crate) scores: Option<PathBuf>,

    /// Write what challengers say (of --models): account_id, at, champion, challenger
    #[arg(long, value_name = "FILE")]
    pub(crate) shadow: Option<PathBuf>,

    /// Write every alert: account_id, at, kind, severity, signals
    #[arg(long, value_name = "FILE")]
    pub(crate) alerts: Option<PathBuf>,

    /// Write what the scan found on every day of every account: account_id, cohort, day, volume, drop, rise, decline
    #[arg(long, value_name = "CSV")]
    pub(crate) findings: Option<PathBuf>,

    /// Compare with this policy (a file, builtin:NAME, or `current`: the one of the configuration): what `--policy` and `--model` would have
    /// done otherwise, over the same files
    #[arg(long, value_name = "POLICY", conflicts_with_all = ["scores", "alerts", "findings", "shadow"])]
    pub(crate) against: Option<PathBuf>,

    /// With --against: the model file of the other side (default: none, or that of the configuration with `current`)
    #[arg(long, value_name = "FILE", requires = "against")]
    pub(crate) against_model: Option<PathBuf>,

    /// With --against: report alerts from this time on; all before it is replayed, so that both sides know the accounts
    #[arg(long, value_name = "TIME", requires = "against")]
    pub(crate) from: Option<String>,

    /// With --against: write the comparison as a page, with figures
    #[arg(long, value_name = "FILE", requires = "against")]
    pub(crate) html: Option<PathBuf>,

    /// With --against: days after an urgent alert within which an account has to leave for it to be right (1 to 366)
    #[arg(long, value_name = "DAYS", default_value_t = 56, requires = "against")]
    pub(crate) horizon_days: u32,

    /// With --against: alerts of an account and kind that opened at most so many days apart are the same one
    #[arg(long, value_name = "DAYS", default_value_t = 28, requires = "against")]
    pub(crate) same_within_days: u32,

    /// Stop before this time, as if nothing later were known
    #[arg(long, visible_alias = "to", value_name = "DATE")]
    pub(crate) cut: Option<String>,
}

/// `learn`
#[derive(Debug, Subcommand)]
pub(crate) enum LearnCommand {
    /// Replay history under expert weights, fit the scorecard to what became of the accounts, and write it as a model file
    Fit(LearnFitArgs),
    /// What a model knows, and what its like was worth on a later hold-out
    Report {
        /// Model file
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// Write the report as a page, with figures
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Let a model score from a time on, in all partitions
    Promote(PromoteArgs),
    /// Let what scored before the model in force score again
    Rollback(RollbackArgs),
    /// Which models are promoted, and from when on; with --json as `replay --models` reads them
    Promotions(InputArgs),
}

/// `outcome`
#[derive(Debug, Args)]
pub(crate) struct OutcomeArgs {
    /// The account
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: String,

    /// Of the account: churned, renewed, expanded, contracted or saved; of an alert: confirmed, false_positive or actioned (to acknowledge,
    /// snooze or resolve one: see `alerts`)
    #[arg(value_name = "KIND")]
    pub(crate) kind: String,

    /// The alert that it is about
    #[arg(long, value_name = "ID")]
    pub(crate) alert: Option<String>,

    #[command(flatten)]
    pub(crate) place: InputArgs,

    /// When it happened (default: now)
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,

    /// Who says so
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,

    /// A remark for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
}

/// `alerts`
#[derive(Debug, Subcommand)]
pub(crate) enum AlertsCommand {
    /// List the alerts of a running server: open ones by priority, then the latest first
    Ls(AlertsLsArgs),
    /// Show an alert: what speaks for it, and what the server has seen happen to it since its start (exit code 3: unknown)
    Show {
        /// The alert
        #[arg(value_name = "ID")]
        id: String,

        /// Base URL of a running server
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8391")]
        url: String,
    },
    /// Take an alert on: it is announced again only when its severity rises
    Ack(AlertSaidArgs),
    /// Quieten an alert until a time, or until its severity rises
    Snooze {
        #[command(flatten)]
        said: AlertSaidArgs,

        /// Until when
        #[arg(
            long,
            value_name = "TIME",
            required_unless_present = "days",
            conflicts_with = "days"
        )]
        until: Option<String>,

        /// For so many days
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=365))]
        days: Option<u16>,
    },
    /// End an alert: it comes back only with evidence that began later
    Resolve(AlertSaidArgs),
    /// Say whether an alert was right, or that somebody acted on it
    Label {
        #[command(flatten)]
        said: AlertSaidArgs,

        /// confirmed, false_positive or actioned
        #[arg(value_name = "LABEL")]
        label: String,
    },
    /// Show what a delivery policy makes of real alerts, as messages and as routes; nothing is sent (exit code 3: there are none)
    Preview(crate::preview::PreviewArgs),
}

/// `alerts ls`
#[derive(Debug, Args)]
pub(crate) struct AlertsLsArgs {
    /// info, low, medium, high or critical
    #[arg(long, value_name = "SEVERITY")]
    pub(crate) severity: Option<String>,

    /// Kind, e.g. churn_risk
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,

    /// open, acknowledged, snoozed or resolved (default: all but resolved)
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<String>,

    /// Of this account only
    #[arg(long, value_name = "ID")]
    pub(crate) account: Option<String>,

    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(crate) limit: u16,

    /// Base URL of a running server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8391")]
    pub(crate) url: String,
}

/// What somebody says of an alert.
#[derive(Debug, Args)]
pub(crate) struct AlertSaidArgs {
    /// The alert; with --url the beginning of its id is enough
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    /// Its account; with --url the server knows it
    #[arg(long, value_name = "ID")]
    pub(crate) account: Option<String>,

    #[command(flatten)]
    pub(crate) place: InputArgs,

    /// Who says so
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,

    /// A remark for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
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

/// `learn promote`
#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    /// Model file (default: no model, the configured scorecard)
    #[arg(value_name = "FILE", required_unless_present = "configured")]
    pub(crate) file: Option<PathBuf>,

    /// Instead of a model: the configured scorecard
    #[arg(long, conflicts_with = "file")]
    pub(crate) configured: bool,

    #[command(flatten)]
    pub(crate) at: InputArgs,

    /// Event time from which it scores; some minutes ahead, all partitions switch at that very time (default: now)
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,

    /// Also a model that showed no skill on a hold-out
    #[arg(long)]
    pub(crate) anyway: bool,

    /// Who promotes it
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,

    /// A remark for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
}

/// `learn rollback`
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    pub(crate) at: InputArgs,

    /// Event time from which it scores (default: now)
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,

    /// Who rolls back
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
}

/// `shadow`
#[derive(Debug, Subcommand)]
pub(crate) enum ShadowCommand {
    /// Let a model score beside the one in force, into a topic of its own; it takes the place of the challenger before it
    Start(ShadowStartArgs),
    /// How scores and bands differ, account by account; 3 is the exit code where no challenger has scored yet
    Compare(ShadowCompareArgs),
    /// Promote the challenger, and end the shadow
    Promote(ShadowPromoteArgs),
    /// End the shadow
    Stop(ShadowStopArgs),
}

/// `shadow start`
#[derive(Debug, Args)]
pub(crate) struct ShadowStartArgs {
    /// Model file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) at: InputArgs,

    /// Event time from which it scores (default: now)
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,

    /// Who starts it
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,

    /// A remark for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
}

/// `shadow compare`
#[derive(Debug, Args)]
pub(crate) struct ShadowCompareArgs {
    #[command(flatten)]
    pub(crate) at: InputArgs,

    /// Which challenger, by the id of its record (default: the one that scored last)
    #[arg(long, value_name = "ID")]
    pub(crate) shadow: Option<String>,

    /// Write the comparison as a page, with figures
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// `shadow promote`
#[derive(Debug, Args)]
pub(crate) struct ShadowPromoteArgs {
    #[command(flatten)]
    pub(crate) at: InputArgs,

    /// Event time from which it is in force; some minutes ahead, all partitions switch at that very time (default: now)
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,

    /// Also a model that showed no skill on a hold-out
    #[arg(long)]
    pub(crate) anyway: bool,

    /// Who promotes it
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,

    /// A remark for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
}

/// `shadow stop`
#[derive(Debug, Args)]
pub(crate) struct ShadowStopArgs {
    #[command(flatten)]
    pub(crate) at: InputArgs,

    /// Event time from which it scores no more (default: now)
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,

    /// Who ends it
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
}

/// `learn fit`
#[derive(Debug, Args)]
pub(crate) struct LearnFitArgs {
    /// Files of events, as `replay` reads them
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Who left, and when: JSON lines as in the topic of outcomes, or CSV with account_id, kind, churned_at (and eligible_from,
    /// observed_until where those who stayed are listed, too)
    #[arg(long, required = true, value_name = "FILE")]
    pub(crate) outcomes: PathBuf,

    /// Of a CSV file: outcomes of this kind only
    #[arg(long, value_name = "WORD")]
    pub(crate) kind: Option<String>,

    /// Profiles, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) profiles: Option<PathBuf>,

    /// Days within which an account leaves that the score is to warn of (7 to 366)
    #[arg(long, default_value_t = 28, value_name = "DAYS")]
    pub(crate) horizon_days: u32,

    /// Days between the times at which accounts are looked at
    #[arg(long, default_value_t = 7, value_name = "DAYS")]
    pub(crate) step_days: u32,

    /// Where the hold-out begins (default: at the last quarter)
    #[arg(long, value_name = "DATE")]
    pub(crate) cut: Option<String>,

    /// The model file that is written
    #[arg(long, default_value = "model.json", value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// `calibrate`
#[derive(Debug, Args)]
pub(crate) struct CalibrateArgs {
    /// Files of events, as `replay` reads them; each is a fleet of its own
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Count days from this date on, when accounts have history
    #[arg(long, value_name = "DATE")]
    pub(crate) from: Option<String>,
}

/// `cohorts`
#[derive(Debug, Args)]
pub(crate) struct CohortsArgs {
    /// Files of events, as `replay` reads them; none: the state in the data directory
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Profiles, one JSON object a line
    #[arg(long, value_name = "FILE", requires = "files")]
    pub(crate) profiles: Option<PathBuf>,

    /// By how much the weeks of two accounts may differ to be alike, in shares of an average day
    #[arg(long, value_name = "SHARE", default_value_t = 0.25)]
    pub(crate) radius: f64,

    /// Accounts alike that make a cohort, at least
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    pub(crate) members_min: usize,
}

/// `evaluate`
#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// What to judge on
    #[arg(value_enum, required_unless_present = "results")]
    pub(crate) set: Option<SetName>,

    /// Directory of the evaluation kit: referee.py, power.py, nab_score.py, data/
    #[arg(long, value_name = "DIR")]
    pub(crate) kit: Option<PathBuf>,

    /// Directory for what is found; results of other sets in it stay
    #[arg(long, value_name = "DIR", default_value = "evaluation")]
    pub(crate) out: PathBuf,

    /// Python 3.11 or later with the packages of the kit's requirements.txt
    #[arg(long, value_name = "FILE", default_value = "python3")]
    pub(crate) python: PathBuf,

    /// Seeds of the synthetic fleets
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "4,5,6")]
    pub(crate) seeds: Vec<u32>,

    /// Budgets of false high alerts per account and year at which alerts are judged, beside the policy's
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0.02,0.5,2,10")]
    pub(crate) budgets: Vec<f64>,

    /// Of the ablation: only pieces whose words hold this, beside the engine as it is
    #[arg(long, value_name = "WORDS")]
    pub(crate) only: Option<String>,

    /// Accounts of each set whose timelines are drawn
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(..=60))]
    pub(crate) figures: u16,

    /// Write the tables into this file, between its markers `evaluation:begin` and `evaluation:end`
    #[arg(long, value_name = "FILE")]
    pub(crate) readme: Option<PathBuf>,

    /// Judge nothing: only print, and write into --readme, what an earlier run found
    #[arg(long, value_name = "JSON", conflicts_with = "set")]
    pub(crate) results: Option<PathBuf>,
}

/// The sets of the evaluation kit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SetName {
    /// Commits of companies to an open-source project
    Openstack,
    /// Clicks of students in courses
    Oulad,
    /// Learned scorecards on what came after they were learned, beside the kit's scorers (needs lightgbm, for one of these)
    Learned,
    /// Synthetic fleets with a known truth
    Power,
    /// Series of the Numenta Anomaly Benchmark, judged within the day
    Nab,
    /// Whether the budget of false alerts is kept, on fleets to which nothing happens
    Calibration,
    /// What each piece of the engine brings: the first seed's fleets, the usage sets and NAB with it switched off
    Ablation,
    /// All of these
    All,
}

/// `explain`
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The account
    pub(crate) account: String,

    /// Ask a running server instead of reading the data directory
    #[arg(long, value_name = "URL", conflicts_with_all = ["at", "embedded", "bootstrap_servers"])]
    pub(crate) url: Option<String>,

    /// As it stood at this time, from what was published: on Kafka, or with --embedded in the log of the data directory
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,

    #[command(flatten)]
    pub(crate) args: LogArgs,
}
