//! One thing to tell one sink: what it is, how its attempts go, and what becomes of it. Time and randomness are arguments.

use std::collections::BTreeSet;

use bellwether_core::publish::content_id;
use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::event::{Alert, Profile};
use crate::policy::Effort;

/// Bytes of a record in the notifier's topics, at most. Brokers take 1 MiB with its key and framing, unless told otherwise.
pub const ROW_BYTES_MAX: usize = 900 << 10;

/// What is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// An event of an alert.
    Alert {
        /// The event.
        alert: Box<Alert>,
        /// Its account as it stood when the event was routed.
        profile: Profile,
        /// The severities that the sink was told before, of the same alert.
        #[serde(default, alias = "previous_severity", deserialize_with = "one_or_many")]
        earlier: BTreeSet<String>,
    },
    /// A digest.
    Digest(Digest),
}

/// Rows of before a sink could have been told several severities hold the last one, or null.
fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Wire {
        Many(BTreeSet<String>),
        One(Option<String>),
    }
    Ok(match Wire::deserialize(from)? {
        Wire::Many(severities) => severities,
        Wire::One(severity) => severity.into_iter().collect(),
    })
}

/// One thing to tell one sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The idempotency key: a function of the event and the sink, so the same on every attempt, after a restart and after a replay.
    pub key: String,
    /// The sink.
    pub sink: String,
    /// Deliveries of one lane and sink go out in order, one at a time: the lane is the alert, or the digest's mode.
    pub lane: String,
    /// What is told.
    pub subject: Subject,
    /// When it was decided, in milliseconds since 1970.
    pub created_ms: i64,
    /// Before that it is not attempted.
    pub due_ms: i64,
    /// Attempts that failed.
    pub attempts: u32,
    /// Of these, how many do not count towards `attempts_max`: the sink asked for patience, or was only tried whether it works again.
    #[serde(default)]
    pub excused: u32,
    /// When it first could be attempted; 0 in rows of before this was written.
    #[serde(default)]
    pub first_due_ms: i64,
    /// Its place in the order of its partition.
    pub sequence: u64,
    /// Version of the delivery policy under which it was decided.
    pub policy_version: String,
}

impl Delivery {
    /// Since when it could have been accepted: the end of quiet hours, where it waits or waited for that.
    #[must_use]
    pub fn since_ms(&self) -> i64 {
        let first_due_ms = if self.attempts == 0 { self.due_ms } else { self.first_due_ms };
        self.created_ms.max(first_due_ms)
    }

    /// What it tells of.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        let (alert, entries) = match &self.subject {
            Subject::Alert { alert, .. } => (Some(alert.as_ref()), None),
            Subject::Digest(digest) => (None, Some(&digest.entries)),
        };
        alert.into_iter().chain(entries.into_iter().flatten().map(|entry| &entry.alert))
    }

    /// Failures that count towards `attempts_max`.
    #[must_use]
    pub fn counted(&self) -> u32 {
        self.attempts.saturating_sub(self.excused)
    }
}

/// The idempotency key of an event and a sink.
#[must_use]
pub fn key(event_id: &str, sink: &str) -> String {
    content_id(&["delivery", event_id, sink])
}

/// Why something was parked: it can only be looked at by a person now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parking {
    /// It failed `attempts_max` times, where the policy sets that.
    Attempts,
    /// It was not accepted within `give_up_hours`.
    Expired,
    /// The sink said that it is wrong.
    Rejected,
    /// The sink's address is in a range that it may not be in.
    ForbiddenAddress,
    /// The sink answered with a redirect, which is never followed.
    Redirect,
    /// A template or a secret of the sink is at fault.
    Unsendable,
    /// Too much waits for the sink.
    Backlog,
    /// The policy has no such sink any more.
    NoSink,
    /// The record is no alert that can be read.
    Undecodable,
    /// The alert lies too far back to be told without being asked for.
    Stale,
    /// The digest that it belongs to has no room for it.
    DigestFull,
}

impl Parking {
    /// Every reason.
    pub const ALL: [Parking; 11] = [
        Parking::Attempts,
        Parking::Expired,
        Parking::Rejected,
        Parking::ForbiddenAddress,
        Parking::Redirect,
        Parking::Unsendable,
        Parking::Backlog,
        Parking::NoSink,
        Parking::Undecodable,
        Parking::Stale,
        Parking::DigestFull,
    ];

    /// Whether a digest that is parked for it is one entry that never came into a digest.
    #[must_use]
    pub fn is_of_an_entry(self) -> bool {
        matches!(self, Parking::Stale | Parking::DigestFull)
    }

    /// A reason by its word.
    #[must_use]
    pub fn named(word: &str) -> Option<Parking> {
        Parking::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// The reason as it stands in headers and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Parking::Attempts => "attempts",
            Parking::Expired => "expired",
            Parking::Rejected => "rejected",
            Parking::ForbiddenAddress => "forbidden_address",
            Parking::Redirect => "redirect",
            Parking::Unsendable => "unsendable",
            Parking::Backlog => "backlog",
            Parking::NoSink => "no_sink",
            Parking::Undecodable => "undecodable",
            Parking::Stale => "stale",
            Parking::DigestFull => "digest_full",
        }
    }
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The sink has it.
    Delivered,
    /// Worth another attempt.
    Failed {
        /// What happened, for logs and parking.
        detail: String,
        /// How long the sink asked to be left alone.
        retry_after_ms: Option<u64>,
    },
    /// The sink works, and asked for patience: worth another attempt, and no failure.
    Throttled {
        /// What happened, for logs.
        detail: String,
        /// How long the sink asked to be left alone, if it said so.
        retry_after_ms: Option<u64>,
    },
    /// Another attempt would come to the same.
    Refused {
        /// Why.
        reason: Parking,
        /// What happened.
        detail: String,
    },
}

impl Outcome {
    /// Whether the sink answered as one that works does.
    #[must_use]
    pub fn works(&self) -> bool {
        match self {
            Outcome::Delivered | Outcome::Throttled { .. } | Outcome::Refused { .. } => true,
            Outcome::Failed { .. } => false,
        }
    }

    /// How long the sink asked to be left alone.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Outcome::Failed { retry_after_ms, .. } | Outcome::Throttled { retry_after_ms, .. } => {
                *retry_after_ms
            }
            Outcome::Delivered | Outcome::Refused { .. } => None,
        }
    }
}

/// The pause after so many failed attempts: drawn from zero to a bound that doubles ("full jitter": Brooker, "Exponential Backoff And
/// Jitter", AWS Architecture Blog, 2015), or what the sink asked for where that is longer. `below(n)` draws from 0 to n, both included.
#[must_use]
pub fn pause_ms(
    effort: &Effort,
    attempts: u32,
    retry_after_ms: Option<u64>,
    below: &mut dyn FnMut(u64) -> u64,
) -> u64 {
    let doublings = attempts.saturating_sub(1).min(40);
    let bound = effort.backoff_ms.saturating_mul(1 << doublings).min(effort.backoff_max_ms);
    let asked =
        retry_after_ms.unwrap_or(0).min(effort.retry_after_max_seconds.saturating_mul(1000));
    below(bound).max(asked)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::Loaded;

    proptest! {
        /// A pause never exceeds its bound, nor falls below what the sink asked for (up to its limit).
        #[test]
        fn pauses_are_bounded(attempts in 0_u32..200, asked in proptest::option::of(0_u64..10_000_000), seed in any::<u64>()) {
            let effort = Loaded::builtin().policy().delivery.clone();
            let mut random = fastrand::Rng::with_seed(seed);
            let pause = pause_ms(&effort, attempts, asked, &mut |most| random.u64(0..=most));
            let asked = asked.unwrap_or(0).min(3_600_000);
            prop_assert!(pause >= asked);
            prop_assert!(pause <= asked.max(effort.backoff_max_ms));
        }
    }

    #[test]
    fn the_bound_doubles_up_to_its_limit() {
        let effort = Loaded::builtin().policy().delivery.clone();
        let bound = |attempts| pause_ms(&effort, attempts, None, &mut |most| most);
        assert_eq!([bound(1), bound(2), bound(3), bound(50)], [500, 1000, 2000, 300_000]);
    }

    #[test]
    fn a_delivery_of_before_several_severities_can_be_read() {
        let (alert, profile) = crate::event::sample(bellwether_core::time::Millis(0));
        let subject =
            Subject::Alert { alert: Box::new(alert), profile, earlier: ["high".to_owned()].into() };
        let mut row = serde_json::to_value(&subject).expect("JSON");
        let fields = row["alert"].as_object_mut().expect("fields");
        fields.remove("earlier");
        fields.insert("previous_severity".to_owned(), "high".into());
        assert_eq!(serde_json::from_value::<Subject>(row.clone()).expect("readable"), subject);
        row["alert"]["previous_severity"] = serde_json::Value::Null;
        let Subject::Alert { earlier, .. } = serde_json::from_value(row).expect("readable") else {
            panic!("an alert");
        };
        assert!(earlier.is_empty());
    }

    #[test]
    fn a_key_is_a_function_of_event_and_sink() {
        assert_eq!(key("e", "s"), key("e", "s"));
        assert_ne!(key("e", "s"), key("e", "t"));
        assert_ne!(key("e", "s"), key("f", "s"));
    }
}
