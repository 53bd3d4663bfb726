//! A made-up alert for one sink, to see whether it gets there.
//!
//! # Invariants
//! - What is opened is closed: PagerDuty is told to resolve what it was told to trigger. Alertmanager gets an alert that ends by itself,
//!   late enough to be seen there (one that ended at once would be dropped before its group is told).

use std::collections::BTreeSet;

use bellwether_core::time::Millis;

use crate::channel::Channel;
use crate::delivery::{Delivery, Outcome, Subject, key};
use crate::event::{Alert, Profile, sample};
use crate::policy::{Loaded, SinkType};

/// How long Alertmanager shows it.
const SHOWN_MS: i64 = 5 * 60_000;

/// What becomes of a made-up alert that a sink took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The sink keeps nothing open.
    None,
    /// It was told to close it, and answered so.
    Told(Outcome),
    /// It ends by itself after so many minutes.
    ByItself(i64),
}

/// What a sink said to a made-up alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsal {
    /// The idempotency key.
    pub key: String,
    /// What the attempt came to.
    pub outcome: Outcome,
    /// What becomes of it, where it was delivered.
    pub ending: Ending,
}

/// Sends a made-up alert once, and closes what it opened.
pub async fn rehearse(policy: &Loaded, channel: &Channel, now: Millis) -> Rehearsal {
    let (alert, profile) = sample(now);
    let delivery = of(policy, channel, alert.clone(), profile.clone(), now);
    let key = delivery.key.clone();
    let texts = policy.texts();
    let outcome = channel.attempt_lasting(texts, &delivery, now, SHOWN_MS).await;
    if outcome != Outcome::Delivered {
        return Rehearsal { key, outcome, ending: Ending::None };
    }
    let ending = match channel.sink().kind {
        SinkType::Pagerduty => {
            let ended = Alert {
                id: format!("{}-end", alert.id),
                transition: "resolved".to_owned(),
                state: "resolved".to_owned(),
                ..alert
            };
            let delivery = of(policy, channel, ended, profile, now);
            Ending::Told(channel.attempt(texts, &delivery, now).await)
        }
        SinkType::Alertmanager => Ending::ByItself(SHOWN_MS / 60_000),
        SinkType::Slack
        | SinkType::Teams
        | SinkType::Webhook
        | SinkType::Email
        | SinkType::Template => Ending::None,
    };
    Rehearsal { key, outcome, ending }
}

fn of(policy: &Loaded, channel: &Channel, alert: Alert, profile: Profile, now: Millis) -> Delivery {
    let sink = channel.sink().name.clone();
    Delivery {
        key: key(&alert.id, &sink),
        sink,
        lane: alert.alert_id.clone(),
        subject: Subject::Alert { alert: Box::new(alert), profile, earlier: BTreeSet::new() },
        created_ms: now.0,
        due_ms: now.0,
        attempts: 0,
        excused: 0,
        first_due_ms: now.0,
        sequence: 0,
        policy_version: policy.version().to_owned(),
    }
}
