//! What the benchmark asks of Kafka.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use crate::process::{Guarded, wait};

pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// How many partitions every topic has beside the peer.
pub(crate) const PARTITIONS: i32 = 4;

pub(crate) fn consumer(bootstrap: &str, group: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "10")
        .set("auto.offset.reset", "earliest");
    config.create().expect("a consumer")
}

/// How many partitions a topic has.
pub(crate) fn partitions(consumer: &BaseConsumer, topic: &str) -> i32 {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).expect("a broker that answers");
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let count = found.map_or(0, |found| found.partitions().len());
    i32::try_from(count).expect("few")
}

/// The ends of a topic's partitions.
pub(crate) fn ends(bootstrap: &str, topic: &str) -> Vec<i64> {
    let consumer = consumer(bootstrap, "bench-ends");
    (0..partitions(&consumer, topic))
        .map(|partition| {
            let marks = consumer.fetch_watermarks(topic, partition, TIMEOUT);
            marks.expect("a topic that is there").1
        })
        .collect()
}

/// Says how far a group has committed.
pub(crate) struct Progress {
    consumer: BaseConsumer,
    list: TopicPartitionList,
}

impl Progress {
    pub(crate) fn of(bootstrap: &str, group: &str, topic: &str) -> Progress {
        let consumer = consumer(bootstrap, group);
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions(&consumer, topic) {
            list.add_partition(topic, partition);
        }
        Progress { consumer, list }
    }

    /// Records committed, over all partitions.
    pub(crate) fn committed(&self) -> i64 {
        let Ok(list) = self.consumer.committed_offsets(self.list.clone(), TIMEOUT) else {
            return 0;
        };
        let offset = |offset| if let Offset::Offset(at) = offset { at } else { 0 };
        list.elements().iter().map(|element| offset(element.offset())).sum()
    }

    /// Waits until so many records, all of the input, are committed.
    pub(crate) fn wait_for(&self, total: i64, process: &mut Guarded) {
        wait(process, "the end of the input", Duration::from_millis(50), || {
            (self.committed() >= total).then_some(())
        });
    }
}

/// Reads committed records from these offsets to these ends.
pub(crate) fn read(
    bootstrap: &str,
    topic: &str,
    from: &[i64],
    to: &[i64],
    mut each: impl FnMut(&[u8], i64),
) {
    let consumer = consumer(bootstrap, "bench-read");
    let mut list = TopicPartitionList::new();
    for (partition, (from, to)) in (0..).zip(from.iter().zip(to)) {
        if from < to {
            let offset = Offset::Offset(*from);
            list.add_partition_offset(topic, partition, offset).expect("a partition");
        }
    }
    if list.count() == 0 {
        return;
    }
    consumer.assign(&list).expect("partitions that are there");
    let mut quiet = Instant::now();
    // A transaction's end is a record that nobody sees, so the position says where the end is.
    let done = |consumer: &BaseConsumer| {
        let Ok(position) = consumer.position() else { return false };
        position.elements().iter().all(|element| {
            let end = to[usize::try_from(element.partition()).expect("not negative")];
            matches!(element.offset(), Offset::Offset(at) if at >= end - 1)
        })
    };
    loop {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                each(message.payload().unwrap_or_default(), message.offset());
                quiet = Instant::now();
            }
            Some(Err(error)) => panic!("reading {topic} failed: {error}"),
            None if done(&consumer) && quiet.elapsed() > Duration::from_millis(400) => return,
            None => assert!(quiet.elapsed() < TIMEOUT, "{topic} cannot be read to its end"),
        }
    }
}

/// Reads what is appended from now on, until told to stop: the payload, and when it came.
pub(crate) fn follow(
    bootstrap: &str,
    topic: &str,
    ready: impl FnOnce(),
    mut each: impl FnMut(&[u8], i64),
    stop: impl Fn() -> bool,
) {
    let from = ends(bootstrap, topic);
    let consumer = consumer(bootstrap, "bench-follow");
    let mut list = TopicPartitionList::new();
    for (partition, from) in (0..).zip(&from) {
        let offset = Offset::Offset(*from);
        list.add_partition_offset(topic, partition, offset).expect("a partition");
    }
    consumer.assign(&list).expect("partitions that are there");
    ready();
    while !stop() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                each(message.payload().unwrap_or_default(), crate::process::now_ms());
            }
            Some(Err(error)) => panic!("reading {topic} failed: {error}"),
            None => {}
        }
    }
}
