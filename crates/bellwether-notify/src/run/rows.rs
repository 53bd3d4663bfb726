//! Records of the parking topic: what a person has to look at. The value is the delivery as JSON (or the record as it was, where it is no
//! alert); headers say why. And requests to send such a record again: the same with one more header.

use bellwether_engine::log::{Append, Record, Topic};
use serde_json::Value;

use crate::delivery::Parking;
use crate::payload::alert_of;
use crate::planner::Parked;

/// Bytes of an unreadable record that are kept.
const KEPT_BYTES: usize = 64 << 10;
/// Bytes of a header that are kept: a sink may answer anything.
const HEADER_BYTES_MAX: usize = 4 << 10;

/// The header that makes a request of a parked record: partition and offset of what it is a copy of.
pub(super) const REQUEST: &str = "bellwether.redrive";

/// The text of a header of ours.
pub(super) fn text(headers: &[(String, Vec<u8>)], name: &str) -> Option<String> {
    let ours = |header: &&(String, Vec<u8>)| header.0.strip_prefix("bellwether.") == Some(name);
    let (_, value) = headers.iter().find(ours)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// A record of the parking topic, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedRecord {
    /// What it is asked for by: its idempotency key, or its place where it is no delivery.
    pub id: String,
    /// Where it stands: partition and offset.
    pub place: (i32, i64),
    /// When it was parked, in milliseconds since 1970.
    pub at_ms: i64,
    /// Why.
    pub reason: String,
    /// What happened.
    pub detail: String,
    /// The sink; empty for a record that is no alert.
    pub sink: String,
    /// The account, or what else its key is.
    pub key: String,
    /// What was to be told, in a few words.
    pub what: String,
    /// Whether it is kept whole, so that it can be sent again.
    pub is_whole: bool,
    /// Whether it is a request to send again what has this id.
    pub is_request: bool,
}

impl ParkedRecord {
    /// Reads a record; none where a notifier did not write it.
    #[must_use]
    pub fn of(record: &Record) -> Option<ParkedRecord> {
        let text = |name: &str| text(&record.headers, name);
        let reason = text("reason")?;
        let place = (record.partition, record.offset);
        let request = text("redrive");
        let payload = record.payload.as_deref().unwrap_or_default();
        let by_place = || request.clone().unwrap_or_else(|| format!("{}/{}", place.0, place.1));
        let bytes = text("bytes").and_then(|bytes| bytes.parse::<usize>().ok());
        let is_cut = bytes.map_or(payload.len() >= KEPT_BYTES, |bytes| bytes > payload.len());
        // Deliveries are never cut.
        let is_undecodable = Parking::named(&reason) == Some(Parking::Undecodable);
        Some(ParkedRecord {
            id: text("idempotency_key").unwrap_or_else(by_place),
            place,
            at_ms: record.timestamp_ms,
            is_whole: !(payload.is_empty() || is_undecodable && is_cut),
            reason,
            detail: text("detail").unwrap_or_default(),
            sink: text("sink").unwrap_or_default(),
            key: String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned(),
            what: what(payload),
            is_request: request.is_some(),
        })
    }

    /// The request to send a parked record again.
    #[must_use]
    pub fn request(record: &Record) -> Append {
        let mut headers = record.headers.clone();
        headers.retain(|(name, _)| name != REQUEST);
        headers.push(header("redrive", &format!("{}/{}", record.partition, record.offset)));
        Append {
            topic: record.topic.clone(),
            partition: record.partition,
            key: record.key.clone(),
            payload: record.payload.clone(),
            headers,
            timestamp_ms: None,
        }
    }
}

/// What a delivery was to tell.
fn what(payload: &[u8]) -> String {
    let delivery: Value = serde_json::from_slice(payload).unwrap_or_default();
    let subject = &delivery["subject"];
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    if let Some(alert) = subject["alert"].get("alert") {
        let [kind, transition, severity] =
            ["kind", "transition", "severity"].map(|of| word(&alert[of]));
        return format!("{severity} {kind} {transition}");
    }
    match subject.get("digest") {
        Some(digest) => format!("{} digest of {}", word(&digest["mode"]), digest["total"]),
        None => "a record that is no alert".to_owned(),
    }
}

fn header(name: &str, value: &str) -> (String, Vec<u8>) {
    let mut kept = value.len().min(HEADER_BYTES_MAX);
    while !value.is_char_boundary(kept) {
        kept -= 1;
    }
    (format!("bellwether.{name}"), value.as_bytes()[..kept].to_vec())
}

/// A delivery that was given up.
pub(crate) fn parked_record(topic: &Topic, parked: &Parked) -> Append {
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
    let kept = |bytes: &[u8], most: usize| bytes[..bytes.len().min(most)].to_vec();
    let bytes = record.payload.as_deref().map_or(0, <[u8]>::len);
    Append {
        topic: topic.clone(),
        partition: record.partition,
        key: record.key.as_deref().map(|key| kept(key, HEADER_BYTES_MAX)),
        payload: record.payload.as_deref().map(|payload| kept(payload, KEPT_BYTES)),
        headers: vec![
            header("reason", Parking::Undecodable.as_str()),
            header("detail", detail),
            header("bytes", &bytes.to_string()),
            header("source", &format!("{} {}/{}", record.topic, record.partition, record.offset)),
        ],
        timestamp_ms: None,
    }
}
