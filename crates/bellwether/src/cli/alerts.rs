//! `outcome` and `alerts`

use clap::{Args, Subcommand};

use super::{LogArgs, SaidArgs};

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
    pub(crate) said: SaidArgs,

    /// When it happened (default: now)
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,
}

/// `alerts`
#[derive(Debug, Subcommand)]
pub(crate) enum AlertsCommand {
    /// List the alerts of a running server: open ones by priority, then the latest first
    Ls(AlertsLsArgs),
    /// Show an alert: what speaks for it, and what happened to it (exit code 3: unknown)
    Show(AlertsShowArgs),
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

/// `alerts show`
#[derive(Debug, Args)]
pub(crate) struct AlertsShowArgs {
    /// The alert; the beginning of its id is enough
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    /// Base URL of a running server; on Kafka it knows what happened since its start
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8391")]
    pub(crate) url: String,

    /// Instead of a server: all that the alerts topic has
    #[command(flatten)]
    pub(crate) log: LogArgs,
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
    pub(crate) said: SaidArgs,
}
