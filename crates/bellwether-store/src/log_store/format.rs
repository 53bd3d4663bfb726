//! Keys and values of the embedded log. Key bytes never change meaning; a value is a version byte and postcard.

use serde::{Deserialize, Serialize, Serializer};

use super::{NewRecord, StoredRecord};
use crate::error::StoreError;
use crate::rows::{decode, encode};

// First bytes of keys in `meta`: topics, end offsets, committed offsets.
pub(super) const TAG_TOPIC: u8 = b't';
pub(super) const TAG_END: u8 = b'e';
pub(super) const TAG_COMMITTED: u8 = b'c';
// Tombstones of compacted topics, with their time.
pub(super) const TAG_TOMBSTONE: u8 = b'd';

/// Bytes that serialise as such, and are read without a copy.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Bytes<'a>(#[serde(borrow)] &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// The value of a record's row.
#[derive(Debug, Serialize, Deserialize)]
struct RecordRow<'a> {
    timestamp_ms: i64,
    #[serde(borrow)]
    key: Option<Bytes<'a>>,
    #[serde(borrow)]
    payload: Option<Bytes<'a>>,
    #[serde(borrow)]
    headers: Vec<(&'a str, Bytes<'a>)>,
}

pub(super) fn partition_prefix(id: u32, partition: i32) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&id.to_be_bytes());
    key[4..].copy_from_slice(&partition.to_be_bytes());
    key
}

/// Numbers are not negative here, so big-endian bytes sort as they do.
pub(super) fn record_key(id: u32, partition: i32, offset: i64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&partition_prefix(id, partition));
    key[8..].copy_from_slice(&offset.to_be_bytes());
    key
}

/// The row that remembers a tombstone, and from it the topic's number, the partition and the record's key.
pub(super) fn tombstone_key(record_key: [u8; 16]) -> Vec<u8> {
    [[TAG_TOMBSTONE].as_slice(), &record_key].concat()
}

/// Undoes [`tombstone_key`].
pub(super) fn tombstone_of(key: &[u8]) -> Result<(u32, i32, [u8; 16]), StoreError> {
    let read = || {
        let record_key: [u8; 16] = key.get(1..)?.try_into().ok()?;
        let (id, rest) = record_key.split_first_chunk::<4>()?;
        let partition = rest.first_chunk::<4>()?;
        Some((u32::from_be_bytes(*id), i32::from_be_bytes(*partition), record_key))
    };
    read().ok_or_else(|| StoreError::Corrupt("a tombstone's key is of another length".to_owned()))
}

pub(super) fn offset_of(key: &[u8]) -> Result<i64, StoreError> {
    key.last_chunk::<8>()
        .map(|offset| i64::from_be_bytes(*offset))
        .ok_or_else(|| StoreError::Corrupt("a record's key is too short".to_owned()))
}

pub(super) fn encode_record(record: &NewRecord<'_>) -> Vec<u8> {
    encode(&RecordRow {
        timestamp_ms: record.timestamp_ms,
        key: record.key.map(Bytes),
        payload: record.payload.map(Bytes),
        headers: record.headers.iter().map(|(name, value)| (name.as_str(), Bytes(value))).collect(),
    })
}

pub(super) fn decode_record(offset: i64, value: &[u8]) -> Result<StoredRecord, StoreError> {
    let row: RecordRow<'_> = decode("a record", value)?;
    let owned = |bytes: Bytes<'_>| bytes.0.to_vec();
    Ok(StoredRecord {
        offset,
        key: row.key.map(owned),
        payload: row.payload.map(owned),
        headers: row
            .headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), owned(*value)))
            .collect(),
        timestamp_ms: row.timestamp_ms,
    })
}

pub(super) fn offset_key(tag: u8, id: u32, partition: i32) -> Vec<u8> {
    [[tag].as_slice(), &partition_prefix(id, partition)].concat()
}
