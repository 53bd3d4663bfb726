//! `calendar`

use clap::{Args, Subcommand};

use super::InputArgs;

/// `calendar`
#[derive(Debug, Subcommand)]
pub(crate) enum CalendarCommand {
    /// List entries, by their first day
    Ls(CalendarLsArgs),
    /// Tell days on which usage is not what it normally is; said again, nothing changes
    Add(CalendarAddArgs),
    /// Remove entries (exit code 3: one is not known)
    Rm {
        /// Their ids, as `calendar ls` prints them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,

        #[command(flatten)]
        place: InputArgs,
    },
    /// Tell the public holidays of regions: adds what is missing and removes what is none any more; said again, nothing changes
    Holidays(CalendarHolidaysArgs),
}

/// `calendar ls`
#[derive(Debug, Args)]
pub(crate) struct CalendarLsArgs {
    /// Of this account only
    #[arg(long, value_name = "ID", conflicts_with = "region")]
    pub(crate) account: Option<String>,

    /// Of this region only
    #[arg(long, value_name = "CODE")]
    pub(crate) region: Option<String>,

    /// Of this kind only, e.g. holiday
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,

    #[command(flatten)]
    pub(crate) place: InputArgs,
}

/// `calendar add`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whom").required(true))]
pub(crate) struct CalendarAddArgs {
    /// holiday, fiscal_year_end, planned_initiative or incident, or a word of your own; working_day: no holiday, whatever wider entries say
    #[arg(value_name = "KIND")]
    pub(crate) kind: String,

    /// First day, in each account's own time zone
    #[arg(long, value_name = "DATE")]
    pub(crate) from: String,

    /// Last day, inclusive (default: the first one)
    #[arg(long, value_name = "DATE")]
    pub(crate) to: Option<String>,

    /// Of this account
    #[arg(long, value_name = "ID", group = "whom")]
    pub(crate) account: Option<String>,

    /// Of accounts whose profile names this region, or a part of it
    #[arg(long, value_name = "CODE", group = "whom")]
    pub(crate) region: Option<String>,

    /// Of all accounts
    #[arg(long, group = "whom")]
    pub(crate) all: bool,

    /// A remark for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,

    /// Its id; an entry that has it is replaced (default: made of whom and when it concerns, and its kind)
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,

    #[command(flatten)]
    pub(crate) place: InputArgs,
}

/// `calendar holidays`
#[derive(Debug, Args)]
pub(crate) struct CalendarHolidaysArgs {
    /// Countries (ISO 3166-1, e.g. DE: with the days that are none in parts of it), or parts of them (ISO 3166-2, e.g. DE-BY: with the holidays
    /// of the country)
    #[arg(long = "region", required = true, value_name = "CODE,…", value_delimiter = ',')]
    pub(crate) regions: Vec<String>,

    /// Years (default: this one and the next)
    #[arg(long = "year", value_name = "YEAR,…", value_delimiter = ',')]
    pub(crate) years: Vec<i32>,

    /// Only print the holidays; nothing is read and nothing is changed
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) place: InputArgs,
}
