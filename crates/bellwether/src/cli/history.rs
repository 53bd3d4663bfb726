//! `replay`, and what else reads history: `calibrate`, `cohorts`, `evaluate`, `explain`

use std::path::PathBuf;

use clap::Args;

use super::LogArgs;

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
    #[arg(long, value_name = "URL", conflicts_with_all = ["embedded", "bootstrap_servers"])]
    pub(crate) url: Option<String>,

    /// As it stood at this time, from what was published: on Kafka, with --embedded in the log of the data directory, or through a server on one
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,

    #[command(flatten)]
    pub(crate) args: LogArgs,
}
