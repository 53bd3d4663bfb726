//! The harness of Bellwether's tests: a real Kafka broker and a real schema registry on this machine, plain clients that know nothing
//! of Bellwether, the `bellwether` binary as a process, and waiting with a deadline.
//!
//! What is missing on the machine makes a test fail with the name of the package to install; nothing is ever skipped.

mod app;
mod browser;
mod client;
mod embedded;
mod limits;
pub mod mail;
mod process;
pub mod proxy;
pub mod receiver;
pub mod runs;
mod service;
pub mod stories;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use app::{App, Content, LIMIT, Site, header, outputs};
pub use browser::Browser;
pub use client::{
    Consumed, Outgoing, consume_all, consume_uncommitted, coordinating_partition, create_topic,
    delete_records_before, leader, produce, topic_config,
};
pub use embedded::embedded_records;
pub use limits::MemoryLimit;
pub use process::{Bellwether, bellwether, bellwether_path};
pub use service::{KafkaCluster, Registry, free_port_pair, shared_kafka};

/// A name that no other test of this process, and no other process, uses.
#[must_use]
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Looks for `condition` to give a value, again and again, and returns it.
///
/// # Panics
/// If there is none within `limit`; the message names `what` was waited for.
pub fn wait_until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < limit, "waited {} s in vain for {what}", limit.as_secs_f32());
        // The step between two looks, not a guess of how long it takes.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Compares lists of records and shows where the first difference begins, and no more: thousands of records tell less.
///
/// # Panics
/// If they differ.
pub fn assert_same<T: PartialEq + std::fmt::Debug>(what: &str, found: &[T], expected: &[T]) {
    if found == expected {
        return;
    }
    let differs = found.iter().zip(expected).position(|(left, right)| left != right);
    let index = differs.unwrap_or_else(|| found.len().min(expected.len()));
    let shown = |records: &[T]| format!("{:?}", records.get(index));
    let (found_text, expected_text) = (shown(found), shown(expected));
    let same = found_text.chars().zip(expected_text.chars()).take_while(|(l, r)| l == r).count();
    let around =
        |text: &str| -> String { text.chars().skip(same.saturating_sub(200)).take(600).collect() };
    panic!(
        "{what}: {} records, expected {}; the first difference is at {index}:\n found    …{}…\n expected …{}…",
        found.len(),
        expected.len(),
        around(&found_text),
        around(&expected_text),
    );
}

/// The sum of all series of a metric in Prometheus' text format; 0 where there is none.
///
/// # Panics
/// If a series has no value.
#[must_use]
pub fn metric_sum(metrics: &str, name: &str) -> f64 {
    let series = metrics
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
    series.map(|line| value(line).unwrap_or_else(|| panic!("no value: {line}"))).sum()
}

/// The text of a record's key or value, for messages.
#[must_use]
pub fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}
