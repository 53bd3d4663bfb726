//! Why an input record was not used. One closed list for decoding and admission, so that a metric's labels, the
//! dead letter's `reason` and the documentation are the same words.

use serde::{Deserialize, Serialize};

/// The reason for which a record was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The bytes are neither JSON nor Confluent-framed Avro, or break off.
    Malformed,
    /// The schema registry says that it has no schema of this id.
    UnknownSchema,
    /// The record was written with a schema that does not resolve to ours.
    IncompatibleSchema,
    /// A required field is missing or has the wrong type.
    InvalidField,
    /// An identifier is empty, too long or holds control characters.
    InvalidId,
    /// The record has no payload (a tombstone) on a topic where that means nothing.
    Empty,
    /// The record is larger than the configured limit.
    TooLarge,
    /// A number is NaN or infinite.
    NonFinite,
    /// A number or time is outside its documented range.
    OutOfRange,
    /// The record's key is not the account that its payload names.
    KeyMismatch,
    /// The event is from further in the future than the policy allows.
    Future,
    /// The event is older than the grace period allows.
    TooLate,
    /// An event with this id was already counted (intended: at-least-once producers repeat themselves).
    Duplicate,
    /// The account has no profile, and the policy wants one.
    UnknownAccount,
    /// Feedback on an alert, or a command to one, that is not known, or not any more.
    UnknownAlert,
    /// A command to an alert that has ended.
    AlertClosed,
    /// It happened before its account was deleted (intended: a dead letter would keep what is to be gone).
    Forgotten,
}

impl Reason {
    /// Every reason, for metrics that start at zero.
    pub const ALL: [Reason; 17] = [
        Reason::Malformed,
        Reason::UnknownSchema,
        Reason::IncompatibleSchema,
        Reason::InvalidField,
        Reason::InvalidId,
        Reason::Empty,
        Reason::TooLarge,
        Reason::NonFinite,
        Reason::OutOfRange,
        Reason::KeyMismatch,
        Reason::Future,
        Reason::TooLate,
        Reason::Duplicate,
        Reason::UnknownAccount,
        Reason::UnknownAlert,
        Reason::AlertClosed,
        Reason::Forgotten,
    ];

    /// The reason as it stands in metrics, headers and dead letters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::UnknownSchema => "unknown_schema",
            Reason::IncompatibleSchema => "incompatible_schema",
            Reason::InvalidField => "invalid_field",
            Reason::InvalidId => "invalid_id",
            Reason::Empty => "empty",
            Reason::TooLarge => "too_large",
            Reason::NonFinite => "non_finite",
            Reason::OutOfRange => "out_of_range",
            Reason::KeyMismatch => "key_mismatch",
            Reason::Future => "future",
            Reason::TooLate => "too_late",
            Reason::Duplicate => "duplicate",
            Reason::UnknownAccount => "unknown_account",
            Reason::UnknownAlert => "unknown_alert",
            Reason::AlertClosed => "alert_closed",
            Reason::Forgotten => "forgotten",
        }
    }

    /// Whether dropping the record is the system working as intended: no dead letter is written for it.
    #[must_use]
    pub fn intended(self) -> bool {
        matches!(self, Reason::Duplicate | Reason::Forgotten)
    }
}

/// A rejected record: the reason, and what a person needs to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.as_str())]
pub struct Reject {
    /// The reason.
    pub reason: Reason,
    /// Field, value and what is allowed; never more than a few hundred bytes.
    pub detail: String,
}

impl Reject {
    /// A rejection with its detail, cut to 512 bytes.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Reject {
        let mut detail = detail.into();
        if detail.len() > 512 {
            let cut = (0..=512).rev().find(|&at| detail.is_char_boundary(at)).unwrap_or(0);
            detail.truncate(cut);
        }
        Reject { reason, detail }
    }
}
