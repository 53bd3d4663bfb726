//! A log outside of any worker, for commands that a person runs.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bellwether_engine::embedded::Embedded;
use bellwether_engine::kafka::KafkaTopics;
use bellwether_engine::log::{Append, LogError, Record, Topic};

use crate::app;
use crate::cli::LogArgs;
use crate::config::Config;

/// Records read at once.
const PAGE: usize = 1_000;
/// How long an append may wait for room.
const PATIENCE: Duration = Duration::from_secs(30);

/// A log that is read and appended to outside of any worker.
pub(crate) enum Source {
    Kafka(Box<KafkaTopics>),
    Embedded(Embedded),
}

impl Source {
    pub(crate) fn open(args: &LogArgs, config: &Config, name: &str) -> Result<Source> {
        if args.embedded {
            let shared = bellwether_store::Shared::new(64 << 20);
            let dir = config.data_dir.join("log");
            if !dir.exists() {
                bail!("there is no embedded log in {}; name its --data-dir", dir.display());
            }
            let log = Embedded::open(&dir, &shared, u64::MAX).context(
                "the log is taken while no `bellwether run --embedded` has it; stop that first",
            )?;
            return Ok(Source::Embedded(log));
        }
        let mut config = config.clone();
        if let Some(servers) = &args.bootstrap_servers {
            config.kafka.bootstrap_servers = Some(servers.clone());
        }
        let options = app::kafka_options(&config)?;
        Ok(Source::Kafka(Box::new(KafkaTopics::new(&options, name)?)))
    }

    pub(crate) fn partitions(&self, topic: &str) -> Result<i32> {
        Ok(match self {
            Source::Kafka(kafka) => kafka.partitions(topic)?,
            Source::Embedded(log) => log.partitions(topic)?,
        })
    }

    /// Reads a partition. Where it ends: the next record that comes to it has this offset.
    pub(crate) fn read(
        &self,
        topic: &Topic,
        partition: i32,
        each: &mut dyn FnMut(Record),
    ) -> Result<i64> {
        let mut next = 0;
        loop {
            let mut each = |record| {
                each(record);
                Ok::<(), LogError>(())
            };
            let read = match self {
                Source::Kafka(kafka) => kafka.read(topic, partition, next, PAGE, &mut each)?,
                Source::Embedded(log) => log.read(topic, partition, next, PAGE, &mut each)?,
            };
            next = read.next;
            if next >= read.end {
                return Ok(read.end);
            }
        }
    }

    pub(crate) fn append(&self, records: &[Append]) -> Result<()> {
        match self {
            Source::Kafka(kafka) => kafka.append(records)?,
            Source::Embedded(log) => {
                log.append(records, PATIENCE)?;
            }
        }
        Ok(())
    }
}
