//! Records of the parking topic: what a person has to look at. The value is the delivery as JSON (or the record as it was, where it is no
//! alert); headers say why.

use bellwether_engine::log::{Append, Record, Topic};

use crate::delivery::Parking;
use crate::payload::alert_of;
use crate::planner::Parked;

/// Bytes of an unreadable record that are kept.
const KEPT_BYTES: usize = 64 << 10;

fn header(name: &str, value: &str) -> (String, Vec<u8>) {
    (format!("bellwether.{name}"), value.as_bytes().to_vec())
}

/// A delivery that was given up.
pub(super) fn parked(topic: &Topic, parked: &Parked) -> Append {
    let delivery = &parked.delivery;
    let account = alert_of(&delivery.subject).map(|alert| alert.account_id.clone());
    Append {
        topic: topic.clone(),
        partition: parked.partition,
        key: Some(account.unwrap_or_else(|| delivery.lane.clone()).into_bytes()),
        payload: serde_json::to_vec(delivery).ok(),
        headers: vec![
            header("reason", parked.reason.as_str()),
            header("detail", &parked.detail),
            header("sink", &delivery.sink),
            header("idempotency_key", &delivery.key),
            header("attempts", &delivery.attempts.to_string()),
            header("delivery_policy_version", &delivery.policy_version),
        ],
        timestamp_ms: None,
    }
}

/// A record that is no alert.
pub(super) fn unreadable(topic: &Topic, record: &Record, detail: &str) -> Append {
    let kept = record.payload.as_deref().map(|bytes| bytes[..bytes.len().min(KEPT_BYTES)].to_vec());
    Append {
        topic: topic.clone(),
        partition: record.partition,
        key: record.key.clone(),
        payload: kept,
        headers: vec![
            header("reason", Parking::Undecodable.as_str()),
            header("detail", detail),
            header("source", &format!("{} {}/{}", record.topic, record.partition, record.offset)),
        ],
        timestamp_ms: None,
    }
}
