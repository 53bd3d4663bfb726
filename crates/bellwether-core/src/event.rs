//! What comes in: events, profiles, outcomes and the passing of time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calendar::Entry;
use crate::fleet::Message;
use crate::id::{AccountId, EventId, MemberId};
use crate::promotion::Promotion;
use crate::time::{Day, Millis, YearDay};

/// The largest magnitude of an event's value. Values are summed as integers of a millionth, so that a sum does
/// not depend on the order of arrival; no number of events overflows the 127 bits of a sum.
pub const VALUE_ABS_MAX: f64 = 1e12;

/// One thing that a customer's account did, or that happened to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The producer's identifier; a second event of the account with it is a duplicate.
    pub id: EventId,
    /// The account it belongs to.
    pub account: AccountId,
    /// When it happened.
    pub occurred_at: Millis,
    /// What happened, e.g. `login`, `project.created`, `ticket.opened`. The policy's signals match on it.
    pub kind: String,
    /// Who did it, where that is known.
    pub member: Option<MemberId>,
    /// The member's role at the time, e.g. `admin`, `champion`.
    pub role: Option<String>,
    /// The feature, integration or object that it touched.
    pub feature: Option<String>,
    /// A measured value (minutes, dollars, a sentiment from -1 to 1); finite, at most [`VALUE_ABS_MAX`] in magnitude.
    pub value: Option<f64>,
    /// The account's segment as the producer knows it; a profile overrides it.
    pub segment: Option<String>,
}

/// What is known of an account apart from its events. A later profile replaces an earlier one whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The account.
    pub account: AccountId,
    /// When this profile was taken (event time; an older one than the one in force is ignored).
    pub as_of: Millis,
    /// A name to show instead of the identifier.
    pub name: Option<String>,
    /// Segment, e.g. `smb`, `enterprise`.
    pub segment: Option<String>,
    /// Plan, e.g. `trial`, `pro`.
    pub plan: Option<String>,
    /// IANA time zone; the account's days are cut in it. Absent or unknown: UTC.
    pub time_zone: Option<String>,
    /// Region for the calendar, e.g. `DE-BY`.
    pub region: Option<String>,
    /// Day on which the customer relationship began.
    pub started_on: Option<Day>,
    /// Day of the next renewal.
    pub renews_on: Option<Day>,
    /// The customer-success person responsible.
    pub owner: Option<String>,
    /// Contracted value in US dollars a year.
    pub annual_value_usd: Option<f64>,
    /// Entitlements by name: `seats`, `storage_gb`, `api_calls_per_month`.
    pub entitlements: BTreeMap<String, f64>,
    /// Last day of the account's fiscal year: the days about it are masked. (Rows came to have it later: a store writes it beside the rest.)
    #[serde(skip)]
    pub fiscal_year_end: Option<YearDay>,
}

/// How an account's story went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// The customer left.
    Churned,
    /// The contract was renewed.
    Renewed,
    /// The contract grew.
    Expanded,
    /// The contract shrank.
    Contracted,
    /// The customer was about to leave and stayed.
    Saved,
    /// Feedback: the alert named in the record was wrong.
    FalsePositive,
    /// Feedback: the alert named in the record was right.
    Confirmed,
    /// Feedback: somebody acted on the alert named in the record.
    Actioned,
    /// Command: somebody takes on the alert named in the record.
    Acknowledged,
    /// Command: the alert named in the record is to be quiet until a time.
    Snoozed,
    /// Command: the alert named in the record is over.
    Resolved,
}

impl OutcomeKind {
    /// Whether it is feedback on an alert.
    #[must_use]
    pub fn is_feedback(self) -> bool {
        matches!(self, OutcomeKind::FalsePositive | OutcomeKind::Confirmed | OutcomeKind::Actioned)
    }

    /// Whether it moves an alert in its life.
    #[must_use]
    pub fn is_command(self) -> bool {
        matches!(self, OutcomeKind::Acknowledged | OutcomeKind::Snoozed | OutcomeKind::Resolved)
    }

    /// Whether it is about an alert, and not about the account.
    #[must_use]
    pub fn is_of_alert(self) -> bool {
        self.is_feedback() || self.is_command()
    }
}

/// An outcome of an account, feedback on one of its alerts, or a command to one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Identifier of this record.
    pub id: EventId,
    /// The account.
    pub account: AccountId,
    /// When it happened.
    pub occurred_at: Millis,
    /// What happened.
    pub kind: OutcomeKind,
    /// The alert that feedback or a command is about.
    pub alert_id: Option<String>,
    /// Until when an alert is snoozed.
    pub until: Option<Millis>,
    /// Who said so.
    pub by: Option<String>,
    /// A remark.
    pub note: Option<String>,
}

/// One record for the core, decoded.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A usage, support, billing or CRM event.
    Event(Event),
    /// A new profile of an account.
    Profile(Profile),
    /// An outcome, or feedback on an alert.
    Outcome(Outcome),
    /// Everything that is known of an account is to be deleted.
    Forget(AccountId),
    /// An entry of the calendar.
    Calendar {
        /// Its id; a later entry with it replaces it.
        id: EventId,
        /// None: it is removed.
        entry: Option<Entry>,
    },
    /// A model, and when it is to be in force.
    Promotion {
        /// Its id.
        id: EventId,
        /// None: it is withdrawn.
        promotion: Option<Promotion>,
    },
    /// A model that is to score beside the champion, and from when on.
    Challenger {
        /// Its id.
        id: EventId,
        /// Without a model: no challenger from then on.
        challenger: Promotion,
    },
    /// What a partition says of a cohort, of the calendar or of promotions.
    Cohort {
        /// The partition.
        source: u32,
        /// What it says.
        message: Box<Message>,
    },
    /// Time passed without input (recorded, so that a replay sees the same).
    Tick,
}
