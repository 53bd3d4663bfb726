//! Dead letters: the rejected record's own key, bytes and headers, and beside them headers that say why and where from.
//!
//! The `__streams.errors.*` names are those of Kafka Streams (KIP-1034), so that tools for its dead letters work here;
//! `__streams.errors.stacktrace` is left out, since a reject is a decision and not a crash.

use bellwether_core::reject::Reject;
use serde::Serialize;

const REASON: &str = "bellwether.reason";
const DETAIL: &str = "bellwether.detail";
const EXCEPTION: &str = "__streams.errors.exception";
const MESSAGE: &str = "__streams.errors.message";
const TOPIC: &str = "__streams.errors.topic";
const PARTITION: &str = "__streams.errors.partition";
const OFFSET: &str = "__streams.errors.offset";
const BYTES: &str = "bellwether.payload_bytes";
const HASH: &str = "bellwether.payload_xxh3";

/// Bytes that are kept of a payload that is too large for a dead letter.
pub const KEPT_BYTES: usize = 64 * 1024;

/// Why a record was rejected, and where it came from: the content of a dead letter's headers (`schemas/dead-letter.avsc`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// The reason, as [`bellwether_core::reject::Reason::as_str`] says it.
    pub reason: String,
    /// What a person needs to mend the record.
    pub detail: String,
    /// The topic from which the record was read.
    pub topic: String,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
}

impl DeadLetter {
    /// A dead letter of a record that was read there.
    #[must_use]
    pub fn new(reject: &Reject, topic: &str, partition: i32, offset: i64) -> DeadLetter {
        DeadLetter {
            reason: reject.reason.as_str().to_owned(),
            detail: reject.detail.clone(),
            topic: topic.to_owned(),
            partition,
            offset,
        }
    }

    /// The record's own headers, followed by those of the dead letter.
    #[must_use]
    pub fn headers(&self, original: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
        let mut headers = original.to_vec();
        let added = [
            (EXCEPTION, format!("io.bellwether.Reject.{}", self.reason)),
            (MESSAGE, self.detail.clone()),
            (TOPIC, self.topic.clone()),
            (PARTITION, self.partition.to_string()),
            (OFFSET, self.offset.to_string()),
            (REASON, self.reason.clone()),
            (DETAIL, self.detail.clone()),
        ];
        headers
            .extend(added.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())));
        headers
    }

    /// The payload as the dead letter keeps it: all of it, or, where that has more than `bytes_max` bytes, its beginning, and then
    /// `headers` say how long it was and what its hash was, by which it can be found at its source.
    #[must_use]
    pub fn keep(
        payload: Option<&[u8]>,
        bytes_max: usize,
        headers: &mut Vec<(String, Vec<u8>)>,
    ) -> Option<Vec<u8>> {
        let payload = payload?;
        if payload.len() <= bytes_max {
            return Some(payload.to_vec());
        }
        let hash = xxhash_rust::xxh3::xxh3_128(payload);
        headers.push((BYTES.to_owned(), payload.len().to_string().into_bytes()));
        headers.push((HASH.to_owned(), format!("{hash:032x}").into_bytes()));
        payload.get(..KEPT_BYTES.min(bytes_max)).map(<[u8]>::to_vec)
    }

    /// Whether only the beginning of the payload was kept.
    #[must_use]
    pub fn is_cut(headers: &[(String, Vec<u8>)]) -> bool {
        headers.iter().any(|(name, _)| name == BYTES)
    }

    /// The headers that the record had of its own.
    #[must_use]
    pub fn own_headers(headers: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
        let added = [EXCEPTION, MESSAGE, TOPIC, PARTITION, OFFSET, REASON, DETAIL, BYTES, HASH];
        let own = headers.iter().filter(|(name, _)| !added.contains(&name.as_str()));
        own.cloned().collect()
    }

    /// Reads the headers back; none where one is missing or is not what it should be. Of several with one name the last counts: a dead
    /// letter that was fed in again and rejected again carries both.
    #[must_use]
    pub fn from_headers(headers: &[(String, Vec<u8>)]) -> Option<DeadLetter> {
        let text = |name: &str| {
            let (_, value) = headers.iter().rev().find(|(header, _)| header == name)?;
            String::from_utf8(value.clone()).ok()
        };
        Some(DeadLetter {
            reason: text(REASON)?,
            detail: text(DETAIL)?,
            topic: text(TOPIC)?,
            partition: text(PARTITION)?.parse().ok()?,
            offset: text(OFFSET)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::reject::Reason;

    use super::*;

    #[test]
    fn a_dead_letter_keeps_the_records_headers_and_the_last_rejection_counts() {
        let own = vec![("trace".to_owned(), vec![0xff, 0x00])];
        let first = DeadLetter::new(
            &Reject::new(Reason::Malformed, "breaks off"),
            "usage.events.v1",
            3,
            42,
        );
        let once = first.headers(&own);
        assert_eq!(once[0], own[0]);
        assert_eq!(DeadLetter::from_headers(&once), Some(first));

        let second =
            DeadLetter::new(&Reject::new(Reason::TooLate, "2 years"), "usage.retry.v1", 0, 7);
        assert_eq!(DeadLetter::from_headers(&second.headers(&once)), Some(second));
        assert_eq!(DeadLetter::from_headers(&own), None);
    }

    #[test]
    fn a_payload_that_is_too_large_is_kept_in_part_and_can_be_found() {
        let mut headers = Vec::new();
        assert_eq!(DeadLetter::keep(None, 10, &mut headers), None);
        assert_eq!(
            DeadLetter::keep(Some(b"short"), 5, &mut headers).as_deref(),
            Some(&b"short"[..])
        );
        assert!(headers.is_empty());
        let large = vec![b'x'; KEPT_BYTES + 1];
        let kept = DeadLetter::keep(Some(&large), KEPT_BYTES, &mut headers).expect("a part");
        assert_eq!(kept.len(), KEPT_BYTES);
        assert_eq!(headers[0], ("bellwether.payload_bytes".to_owned(), b"65537".to_vec()));
        assert_eq!(headers[1].1.len(), 32);
    }

    #[test]
    fn headers_are_named_as_kafka_streams_names_them() {
        let letter = DeadLetter::new(
            &Reject::new(Reason::NonFinite, "value is NaN"),
            "usage.events.v1",
            3,
            42,
        );
        let headers = letter.headers(&[]);
        let value = |name: &str| {
            let found = headers.iter().find(|(header, _)| header == name);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        assert_eq!(
            value("__streams.errors.exception").as_deref(),
            Some("io.bellwether.Reject.non_finite")
        );
        assert_eq!(value("__streams.errors.message").as_deref(), Some("value is NaN"));
        assert_eq!(value("__streams.errors.topic").as_deref(), Some("usage.events.v1"));
        assert_eq!(value("__streams.errors.partition").as_deref(), Some("3"));
        assert_eq!(value("__streams.errors.offset").as_deref(), Some("42"));
        assert_eq!(value("bellwether.reason").as_deref(), Some("non_finite"));
    }
}
