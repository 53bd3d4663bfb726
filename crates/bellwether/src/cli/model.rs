//! `learn` and `shadow`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{InputArgs, LogArgs};

/// A change of what scores: where it is kept, from when on it holds, and who makes it.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    pub(crate) at: InputArgs,

    /// Event time from which it holds; some minutes ahead, all partitions switch at that very time (default: now)
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,

    /// Who does it
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
}

/// A promotion, of whichever model.
#[derive(Debug, Args)]
pub(crate) struct PromotionArgs {
    #[command(flatten)]
    pub(crate) change: ChangeArgs,

    /// Also a model that showed no skill on a hold-out
    #[arg(long)]
    pub(crate) anyway: bool,

    /// A remark for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
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
    Rollback(ChangeArgs),
    /// Which models are promoted, and from when on; with --json as `replay --models` reads them
    Promotions(InputArgs),
}

/// `learn fit`
#[derive(Debug, Args)]
pub(crate) struct LearnFitArgs {
    /// Files of events, as `replay` reads them
    #[arg(required_unless_present = "examples", conflicts_with = "examples", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// From what workers published, week by week, instead of history: the topic of examples
    #[arg(long, conflicts_with_all = ["profiles", "step_days"])]
    pub(crate) examples: bool,

    #[command(flatten)]
    pub(crate) log: LogArgs,

    /// Who left, and when: JSON lines as in the topic of outcomes, or CSV with account_id, kind, churned_at (and eligible_from,
    /// observed_until where those who stayed are listed, too)
    /// [default with --examples: the topic of outcomes]
    #[arg(long, required_unless_present = "examples", value_name = "FILE")]
    pub(crate) outcomes: Option<PathBuf>,

    /// Of a CSV file: outcomes of this kind only
    #[arg(long, value_name = "WORD")]
    pub(crate) kind: Option<String>,

    /// Profiles, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) profiles: Option<PathBuf>,

    /// Days within which an account leaves that the score is to warn of (7 to 366) [default: 28; with --examples: learning.horizon_days of the policy]
    #[arg(long, value_name = "DAYS")]
    pub(crate) horizon_days: Option<u32>,

    /// Days between the times at which accounts are looked at [default: 7]
    #[arg(long, value_name = "DAYS")]
    pub(crate) step_days: Option<u32>,

    /// Where the hold-out begins (default: at the last quarter)
    #[arg(long, value_name = "DATE")]
    pub(crate) cut: Option<String>,

    /// The model file that is written
    #[arg(long, default_value = "model.json", value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// `learn promote`
#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    /// Model file, or a policy that differs from the one in force in weights, points and bands (default: the configured scorecard)
    #[arg(value_name = "FILE", required_unless_present = "configured")]
    pub(crate) file: Option<PathBuf>,

    /// Instead of a model: the configured scorecard
    #[arg(long, conflicts_with = "file")]
    pub(crate) configured: bool,

    #[command(flatten)]
    pub(crate) promotion: PromotionArgs,
}

/// `shadow`
#[derive(Debug, Subcommand)]
pub(crate) enum ShadowCommand {
    /// Let a model, or another policy's weights, score beside what is in force, into a topic of its own; it takes the place of the challenger before it
    Start(ShadowStartArgs),
    /// How scores and bands differ, account by account; 3 is the exit code where no challenger has scored yet
    Compare(ShadowCompareArgs),
    /// Promote the challenger, and end the shadow
    Promote(PromotionArgs),
    /// End the shadow
    Stop(ChangeArgs),
}

/// `shadow start`
#[derive(Debug, Args)]
pub(crate) struct ShadowStartArgs {
    /// Model file, or a policy that differs from the one in force in weights, points and bands
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) change: ChangeArgs,

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
