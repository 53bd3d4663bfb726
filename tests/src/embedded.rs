//! The log of a process on the embedded log, once it has ended.

use std::path::Path;
use std::time::Duration;

use bellwether_engine::embedded::Embedded;
use bellwether_engine::log::Topic;
use bellwether_store::log_store::LogStoreError;

use crate::{Consumed, wait_until};

/// A lock that is not to last is gone by then, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(60);

/// Every record of a topic, by partition, in order.
///
/// # Panics
/// If a process has the log, or it has no such topic.
#[must_use]
pub fn embedded_records(data_dir: &Path, topic: &str) -> Vec<Consumed> {
    let shared = bellwether_store::Shared::new(16 << 20);
    let dir = data_dir.join("log");
    // A process that another test starts meanwhile may hold a copy of the lock until it has begun.
    let log = wait_until("the lock of the log", LIMIT, || Embedded::open(&dir, &shared, 1).ok());
    let topic: Topic = topic.into();
    let mut records = Vec::new();
    for partition in 0..log.partitions(&topic).expect("a topic") {
        log.read(&topic, partition, 0, usize::MAX, &mut |record| {
            records.push(Consumed {
                partition,
                offset: record.offset,
                key: record.key,
                payload: record.payload,
                headers: record.headers,
                timestamp_ms: Some(record.timestamp_ms),
            });
            Ok::<(), LogStoreError>(())
        })
        .expect("it can be read");
    }
    records
}
