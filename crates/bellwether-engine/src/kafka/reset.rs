//! Starting an application over on Kafka: its group's positions and its changelogs go; what it published stays.
//!
//! # Invariants
//! - The positions go first, and the brokers refuse to delete those of a group that has members: no worker loses its state under its
//!   hands.
//! - A reset that was cut short can be run again; a worker that is started in between finds its old state and drops its old input as
//!   duplicates.

use std::fmt;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::context::ReaderContext;
use super::{KafkaOptions, classify};
use crate::log::{LogError, Remedy};

/// One request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a deleted topic may take until its name is free, and a new one until it has leaders.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(60);
/// How often that is looked at.
const RETRY: Duration = Duration::from_millis(100);

/// Where a partition stands, and where it would begin again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The group's next offset, if it has one.
    pub committed: Option<i64>,
    /// The oldest offset kept.
    pub oldest: i64,
    /// The offset after the last record.
    pub end: i64,
}

/// Looks at what an application has on Kafka, and removes it.
pub struct KafkaReset {
    group: String,
    client: BaseConsumer<ReaderContext>,
    admin: AdminClient<DefaultClientContext>,
}

impl fmt::Debug for KafkaReset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KafkaReset").field("group", &self.group).finish_non_exhaustive()
    }
}

impl KafkaReset {
    /// Connects when first used. `group` is the application.
    ///
    /// # Errors
    /// `Stop` for wrong settings.
    pub fn new(options: &KafkaOptions, group: &str) -> Result<KafkaReset, LogError> {
        let client = options
            .reader(group, "read_uncommitted")?
            .create_with_context(ReaderContext)
            .map_err(|error| classify::creation(&error))?;
        let admin = options.client()?.create().map_err(|error| classify::creation(&error))?;
        Ok(KafkaReset { group: group.to_owned(), client, admin })
    }

    /// How many members the group has.
    ///
    /// # Errors
    /// Where the brokers do not answer.
    pub fn members(&self) -> Result<usize, LogError> {
        let groups = self
            .client
            .fetch_group_list(Some(&self.group), TIMEOUT)
            .map_err(|error| classify::uncommitted("cannot look at the group", &error))?;
        Ok(groups.groups().iter().map(|group| group.members().len()).sum())
    }

    /// Where these topics stand; those that do not exist are left out.
    ///
    /// # Errors
    /// Where the brokers do not answer.
    pub fn positions(&self, topics: &[String]) -> Result<Vec<Position>, LogError> {
        let failed = |error| classify::uncommitted("cannot look at positions", &error);
        let metadata = self.client.fetch_metadata(None, TIMEOUT).map_err(failed)?;
        let mut list = TopicPartitionList::new();
        for topic in metadata.topics().iter().filter(|it| topics.iter().any(|own| own == it.name()))
        {
            for partition in topic.partitions() {
                list.add_partition(topic.name(), partition.id());
            }
        }
        let committed = self.client.committed_offsets(list, TIMEOUT).map_err(failed)?;
        let mut positions = Vec::new();
        for element in committed.elements() {
            let (topic, partition) = (element.topic().to_owned(), element.partition());
            let (oldest, end) =
                self.client.fetch_watermarks(&topic, partition, TIMEOUT).map_err(failed)?;
            let committed = element.offset().to_raw().filter(|offset| *offset >= 0);
            positions.push(Position { topic, partition, committed, oldest, end });
        }
        Ok(positions)
    }

    /// Deletes the group with its positions, so that its next members begin at the oldest records.
    ///
    /// # Errors
    /// `Stop` where it has members.
    pub fn forget_positions(&self) -> Result<(), LogError> {
        let doing = format!("cannot delete the positions of group {}", self.group);
        let results = block_on(self.admin.delete_groups(&[self.group.as_str()], &options()))
            .map_err(|error| classify::uncommitted(&doing, &error))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => {}
                Err((_, error)) => {
                    return Err(LogError::new(Remedy::Stop, format!("{doing}: {error}")));
                }
            }
        }
        Ok(())
    }

    /// Deletes a topic and creates it anew, empty, with as many partitions and replicas and with its own settings. (Kafka deletes no
    /// records of a topic that is compacted only.)
    ///
    /// # Errors
    /// Where the brokers do not do it. If it is missing then, `bellwether topics apply` creates it.
    pub fn empty_topic(&self, topic: &str) -> Result<(), LogError> {
        let doing = format!("cannot empty {topic}");
        let failed = |error| classify::uncommitted(&doing, &error);
        let metadata = self.client.fetch_metadata(None, TIMEOUT).map_err(failed)?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(());
        };
        let partitions = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
        let replicas = found.partitions().iter().map(|partition| partition.replicas().len()).max();
        let replicas = i32::try_from(replicas.unwrap_or(1)).unwrap_or(1);
        let settings = self.settings(topic)?;
        let deleted = block_on(self.admin.delete_topics(&[topic], &options())).map_err(failed)?;
        for result in deleted {
            result
                .map_err(|(_, error)| LogError::new(Remedy::Stop, format!("{doing}: {error}")))?;
        }
        let new = settings.iter().fold(
            NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas)),
            |new, (key, value)| new.set(key, value),
        );
        self.create(&new, &doing)?;
        self.wait_for_leaders(topic, partitions)
    }

    /// The settings that the topic has of its own.
    fn settings(&self, topic: &str) -> Result<Vec<(String, String)>, LogError> {
        let doing = format!("cannot read the settings of {topic}");
        let described =
            block_on(self.admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options()))
                .map_err(|error| classify::uncommitted(&doing, &error))?;
        let mut settings = Vec::new();
        for resource in described {
            let resource = resource
                .map_err(|error| LogError::new(Remedy::Stop, format!("{doing}: {error}")))?;
            let own = resource.entries.into_iter();
            let own = own.filter(|entry| entry.source == ConfigSource::DynamicTopic);
            settings.extend(own.filter_map(|entry| Some((entry.name, entry.value?))));
        }
        Ok(settings)
    }

    /// Creates a topic whose name may still be taken by the one that is being deleted.
    fn create(&self, new: &NewTopic<'_>, doing: &str) -> Result<(), LogError> {
        let deadline = Instant::now() + TOPIC_TIMEOUT;
        loop {
            let results = block_on(self.admin.create_topics([new], &options()))
                .map_err(|error| classify::uncommitted(doing, &error))?;
            match results.into_iter().next() {
                Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists)))
                    if Instant::now() < deadline =>
                {
                    std::thread::sleep(RETRY);
                }
                Some(Err((_, error))) => {
                    return Err(LogError::new(Remedy::Stop, format!("{doing}: {error}")));
                }
                Some(Ok(_)) | None => return Ok(()),
            }
        }
    }

    /// Workers check at their start that every topic is there.
    fn wait_for_leaders(&self, topic: &str, partitions: i32) -> Result<(), LogError> {
        let deadline = Instant::now() + TOPIC_TIMEOUT;
        loop {
            let ready = (0..partitions).all(|partition| {
                self.client.fetch_watermarks(topic, partition, TIMEOUT) == Ok((0, 0))
            });
            if ready {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let message =
                    format!("{topic} was created anew, but the brokers do not show it yet");
                return Err(LogError::new(Remedy::Stop, message));
            }
            std::thread::sleep(RETRY);
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}
