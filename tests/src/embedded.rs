//! The log of a process on the embedded log, once it has ended.

use std::path::Path;

use bellwether_engine::embedded::Embedded;
use bellwether_engine::log::Topic;
use bellwether_store::log_store::LogStoreError;

use crate::Consumed;

/// Every record of a topic, by partition, in order.
///
/// # Panics
/// If a process has the log, or it has no such topic.
#[must_use]
pub fn embedded_records(data_dir: &Path, topic: &str) -> Vec<Consumed> {
    let shared = bellwether_store::Shared::new(16 << 20);
    let log = Embedded::open(&data_dir.join("log"), &shared, 1).expect("no one has it");
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
