//! How to reach Kafka, and the bounds on what its client may take.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::log::{LogError, Remedy};

/// Settings that the engine's guarantees rest on; `extra` cannot change them.
const RESERVED: &[&str] = &[
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "isolation.level",
    "partition.assignment.strategy",
    "transactional.id",
];

/// How the members of a group agree on who owns what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupProtocol {
    /// Among themselves, with the cooperative-sticky strategy. Every broker has it.
    Classic,
    /// The broker decides (KIP-848, Apache Kafka 4.0 and later). The session time-out is then the broker's
    /// (`group.consumer.session.timeout.ms`, or the group's own `consumer.session.timeout.ms`).
    Consumer,
}

/// A worker's fetch waits a moment for more, because it costs more than many an event: half of that is added to the latency of an event, as
/// a mean, and who has nothing to read asks that often. With a batch of bytes there it does not wait (and so many fit into any queue).
const FETCHES: [(&str, &str); 2] = [("fetch.min.bytes", "16384"), ("fetch.wait.max.ms", "10")];

/// How soon a worker's producer asks again where the coordinator still ends the transaction before (milliseconds): at 100, which is the
/// client's default, one commit in ten waited for that long. From there on it doubles. A partition that moves is not looked for as often.
const RETRIES: [(&str, &str); 3] = [
    ("retry.backoff.ms", "3"),
    ("retry.backoff.max.ms", "1000"),
    ("topic.metadata.refresh.fast.interval.ms", "100"),
];

/// How often a member of a group of the classic protocol tells its coordinator that it is there, in milliseconds. The answer to that is
/// where it learns of a rebalance: at 3000, the client's default, who joins waits that long for what others hand over.
const HEARTBEATS: [(&str, &str); 1] = [("heartbeat.interval.ms", "300")];

/// How to reach Kafka, and the bounds on what its client may take.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaOptions {
    /// Brokers to start from: `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// Records fetched ahead, per worker thread, in KiB.
    pub consumer_queue_kib_max: u32,
    /// Records of one batch, per worker thread, in KiB; a single record may be larger.
    pub batch_kib_max: u32,
    /// Records fetched ahead by each of the two readers of changelogs of a worker thread, in KiB.
    pub reader_queue_kib_max: u32,
    /// Records waiting to be sent, per worker thread, in KiB.
    pub producer_queue_kib_max: u32,
    /// The largest record that can be appended, in bytes. The topic's `max.message.bytes` must allow it too.
    pub record_bytes_max: u32,
    /// After this long the broker aborts the transaction of a worker that died, and others can read on. Milliseconds.
    pub transaction_timeout_ms: u32,
    /// How ownership of partitions is agreed on. With either, what stays with a worker is not interrupted.
    pub group_protocol: GroupProtocol,
    /// After this long without a heartbeat a worker's partitions go to others. Milliseconds; classic protocol only.
    pub session_timeout_ms: u32,
    /// After this long without a poll a worker counts as stuck; must be above the longest restore. Milliseconds.
    pub poll_interval_ms_max: u32,
    /// Keep partitions over a restart of the same instance (`group.instance.id`), if it is back within the session time-out.
    pub static_membership: bool,
    /// Goes on at the oldest record kept where records were deleted before they were read. Otherwise that is an error.
    pub skip_lost_input: bool,
    /// Further librdkafka settings, mainly security: passed on as they are, to consumers, producers and admin clients.
    pub extra: BTreeMap<String, String>,
}

impl Default for KafkaOptions {
    fn default() -> KafkaOptions {
        KafkaOptions {
            bootstrap_servers: "127.0.0.1:9092".to_owned(),
            consumer_queue_kib_max: 16 * 1024,
            batch_kib_max: 16 * 1024,
            reader_queue_kib_max: 8 * 1024,
            producer_queue_kib_max: 64 * 1024,
            record_bytes_max: 16 * 1024 * 1024,
            transaction_timeout_ms: 30_000,
            group_protocol: GroupProtocol::Classic,
            session_timeout_ms: 20_000,
            poll_interval_ms_max: 900_000,
            static_membership: false,
            skip_lost_input: false,
            extra: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extra: BTreeMap<&str, &str> = self
            .extra
            .iter()
            .map(|(key, value)| (key.as_str(), if is_secret(key) { "***" } else { value.as_str() }))
            .collect();
        f.debug_struct("KafkaOptions")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("consumer_queue_kib_max", &self.consumer_queue_kib_max)
            .field("batch_kib_max", &self.batch_kib_max)
            .field("reader_queue_kib_max", &self.reader_queue_kib_max)
            .field("producer_queue_kib_max", &self.producer_queue_kib_max)
            .field("record_bytes_max", &self.record_bytes_max)
            .field("transaction_timeout_ms", &self.transaction_timeout_ms)
            .field("group_protocol", &self.group_protocol)
            .field("session_timeout_ms", &self.session_timeout_ms)
            .field("poll_interval_ms_max", &self.poll_interval_ms_max)
            .field("static_membership", &self.static_membership)
            .field("skip_lost_input", &self.skip_lost_input)
            .field("extra", &extra)
            .finish()
    }
}

/// Whether the value of this librdkafka setting must not be shown.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    // `ssl.key.pem` and `ssl.key.password` hold key material; `ssl.key.location` is only a path, masked all the same.
    ["password", "secret", "jaas", "token", "ssl.key", "oauthbearer.config", "assertion.private"]
        .iter()
        .any(|part| key.contains(part))
}

/// Which worker this is: its names in Kafka follow from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerId {
    /// The application: the consumer group, and the first part of the other names.
    pub application: String,
    /// The process: unique in the application, the same after a restart.
    pub instance: String,
    /// The worker thread in the process.
    pub thread: u32,
}

impl WorkerId {
    /// `<application>-<instance>-<thread>`: the transactional id, and the static member's name.
    #[must_use]
    pub fn transactional_id(&self) -> String {
        format!("{}-{}-{}", self.application, self.instance, self.thread)
    }
}

impl KafkaOptions {
    /// Bytes of keys, values and headers in one batch.
    pub(super) fn batch_bytes_max(&self) -> usize {
        self.batch_kib_max as usize * 1024
    }

    /// The settings that all clients share.
    ///
    /// # Errors
    /// `Stop` if `extra` names a setting that the guarantees rest on.
    pub fn client(&self) -> Result<ClientConfig, LogError> {
        if let Some(key) = self.extra.keys().find(|key| RESERVED.contains(&key.as_str())) {
            return Err(LogError::new(
                Remedy::Stop,
                format!("kafka setting `{key}` cannot be changed through `extra`: remove it"),
            ));
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers);
        for (key, value) in &self.extra {
            config.set(key, value);
        }
        Ok(config)
    }

    /// A worker's consumer: a member of the application's group that reads committed records only.
    pub(super) fn group_consumer(&self, worker: &WorkerId) -> Result<ClientConfig, LogError> {
        let mut config = self.reader(&worker.application, "read_committed")?;
        bound_queue(&mut config, self.consumer_queue_kib_max);
        match self.group_protocol {
            GroupProtocol::Classic => {
                config
                    .set("group.protocol", "classic")
                    .set("partition.assignment.strategy", "cooperative-sticky")
                    .set("session.timeout.ms", self.session_timeout_ms.to_string());
                self.prefer(&mut config, &HEARTBEATS);
            }
            GroupProtocol::Consumer => {
                config.set("group.protocol", "consumer").set("group.remote.assignor", "uniform");
            }
        }
        config
            // A committed offset that is gone must not be skipped silently; where none is committed we start explicitly.
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "false")
            .set("max.poll.interval.ms", self.poll_interval_ms_max.to_string())
            // The lag is computed from these.
            .set("statistics.interval.ms", "1000");
        self.prefer(&mut config, &FETCHES);
        if self.static_membership {
            config.set("group.instance.id", worker.transactional_id());
        }
        Ok(config)
    }

    /// Settings that are the operator's to change: what latency is worth.
    fn prefer(&self, config: &mut ClientConfig, settings: &[(&str, &str)]) {
        for (key, ours) in settings {
            config.set(*key, self.extra.get(*key).map_or(*ours, String::as_str));
        }
    }

    /// A consumer that is assigned partitions by hand and never joins the group that it names.
    pub(super) fn reader(&self, group: &str, isolation: &str) -> Result<ClientConfig, LogError> {
        let mut config = self.client()?;
        config
            .set("group.id", group)
            .set("isolation.level", isolation)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            // Of each partition: together a large batch and more.
            .set("queued.min.messages", "15000")
            // How long a full queue keeps the fetcher waiting, and how long a partition that was resumed may wait for the
            // fetch that is under way; so long, too, it takes to see that what is left of a partition is the mark of a transaction.
            // The defaults (1000 and 500) show as stalls.
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.wait.max.ms", "10");
        bound_queue(&mut config, self.reader_queue_kib_max);
        Ok(config)
    }

    /// A worker's transactional producer.
    pub(super) fn producer(&self, worker: &WorkerId) -> Result<ClientConfig, LogError> {
        let mut config = self.client()?;
        config
            .set("transactional.id", worker.transactional_id())
            .set("transaction.timeout.ms", self.transaction_timeout_ms.to_string())
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "lz4")
            // A commit waits for its records, so waiting for more of them is latency only.
            .set("linger.ms", "1")
            .set("message.max.bytes", self.record_bytes_max.to_string())
            // The largest record has to fit, and there is more room than for one only where the budget has it.
            .set(
                "queue.buffering.max.kbytes",
                self.producer_queue_kib_max.max(self.record_bytes_max / 1024 + 1024).to_string(),
            );
        self.prefer(&mut config, &RETRIES);
        Ok(config)
    }
}

/// Bounds what is fetched ahead. The queue is full before the next fetch is asked for, so an answer must fit into it as well: half for
/// what waits, half for one answer. A single record that is larger than its share is fetched all the same (KIP-74).
fn bound_queue(config: &mut ClientConfig, kib_max: u32) {
    let half = u64::from(kib_max) * 1024 / 2;
    let answer = half.clamp(64 << 10, 50 << 20);
    config
        // The client refuses an answer smaller than this, which by default is 1 MB and says nothing of what a consumer takes.
        .set("message.max.bytes", answer.min(1_000_000).to_string())
        .set("queued.max.messages.kbytes", (half / 1024).max(1).to_string())
        .set("fetch.max.bytes", answer.to_string())
        .set("fetch.message.max.bytes", (half / 4).clamp(16 << 10, 1 << 20).to_string());
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::BaseConsumer;
    use rdkafka::producer::BaseProducer;

    use super::*;

    #[test]
    fn secrets_are_masked_in_debug_output() {
        let mut options = KafkaOptions::default();
        options.extra.insert("sasl.username".to_owned(), "alice".to_owned());
        options.extra.insert("sasl.password".to_owned(), "hunter2".to_owned());
        options.extra.insert("ssl.key.pem".to_owned(), "-----BEGIN".to_owned());
        let shown = format!("{options:?}");
        assert!(shown.contains("alice"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("BEGIN"), "{shown}");
    }

    /// The client checks settings against each other only when it is made.
    #[test]
    fn clients_can_be_made_within_any_budget() {
        for kib in [1, 64, 300, 1_000, 5_000, 200_000] {
            let options = KafkaOptions {
                bootstrap_servers: "127.0.0.1:1".to_owned(),
                consumer_queue_kib_max: kib,
                producer_queue_kib_max: kib,
                reader_queue_kib_max: kib,
                ..KafkaOptions::default()
            };
            let (application, instance) = ("test".to_owned(), "here".to_owned());
            let worker = WorkerId { application, instance, thread: 0 };
            let made = [
                options
                    .group_consumer(&worker)
                    .expect("settings")
                    .create::<BaseConsumer>()
                    .map(drop),
                options
                    .reader("reader", "read_committed")
                    .expect("settings")
                    .create::<BaseConsumer>()
                    .map(drop),
                options.producer(&worker).expect("settings").create::<BaseProducer>().map(drop),
            ];
            for client in made {
                client.unwrap_or_else(|error| panic!("{kib} KiB: {error}"));
            }
        }
    }

    #[test]
    fn what_latency_is_worth_is_up_to_the_operator() {
        let worker = || {
            let (application, instance) = ("test".to_owned(), "here".to_owned());
            WorkerId { application, instance, thread: 0 }
        };
        let mut options = KafkaOptions::default();
        let fetch = |options: &KafkaOptions| {
            let config = options.group_consumer(&worker()).expect("settings");
            config.get("fetch.wait.max.ms").map(str::to_owned)
        };
        let retry = |options: &KafkaOptions| {
            let config = options.producer(&worker()).expect("settings");
            config.get("retry.backoff.ms").map(str::to_owned)
        };
        assert_eq!(
            (fetch(&options).as_deref(), retry(&options).as_deref()),
            (Some("10"), Some("3"))
        );
        let read = |options: &KafkaOptions| {
            let config = options.reader("reader", "read_committed").expect("settings");
            config.get("fetch.wait.max.ms").map(str::to_owned)
        };
        options.extra.insert("fetch.wait.max.ms".to_owned(), "30".to_owned());
        options.extra.insert("retry.backoff.ms".to_owned(), "50".to_owned());
        assert_eq!(
            (fetch(&options).as_deref(), retry(&options).as_deref()),
            (Some("30"), Some("50"))
        );
        assert_eq!(read(&options).as_deref(), Some("10"), "what is read back does not wait for it");
    }

    #[test]
    fn settings_that_guarantees_rest_on_are_refused() {
        let mut options = KafkaOptions::default();
        options.extra.insert("isolation.level".to_owned(), "read_uncommitted".to_owned());
        let error = options.client().expect_err("reserved");
        assert_eq!(error.remedy, Remedy::Stop);
        assert!(error.message.contains("isolation.level"), "{error}");
    }
}
