//! The topics on Kafka: what each is for, how it must be configured, and whether it is.
//!
//! # Invariants
//! - All topics have equally many partitions: partition `p` of one belongs with partition `p` of all others.
//! - Nothing that exists is changed: a topic that is not as it must be is named, with what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use serde::{Deserialize, Serialize};

use crate::kafka::KafkaOptions;
use crate::log::LogError;

/// One request to the brokers.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often the brokers are asked whether they know a new topic.
const VISIBLE_RETRY: Duration = Duration::from_millis(50);
const DAY_MS: i64 = 86_400_000;
/// How long the state changelog keeps tombstones: local state that was away for less can be caught up with.
pub const STATE_TOMBSTONES_MS: i64 = 30 * DAY_MS;
/// The largest input record that a topic created here takes; brokers take 1 MiB unless told otherwise.
const INPUT_BYTES_MAX: i64 = 12 << 20;
/// A dead letter keeps the bytes that it rejects and adds headers to them.
const DEAD_LETTER_BYTES_MAX: i64 = 16 << 20;

/// A delivery of an alert, or of a digest, as the notifier remembers and parks it.
const DELIVERY_BYTES_MAX: i64 = 1 << 20;

/// The names of all topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicNames {
    /// Input: events. At least one.
    pub events: Vec<String>,
    /// Input: account profiles.
    pub profiles: String,
    /// Input: outcomes and alert feedback.
    pub outcomes: String,
    /// Input: the calendar.
    pub calendar: String,
    /// Input: which models score from when on.
    pub models: String,
    /// Output: movements of scores.
    pub score_changed: String,
    /// Output: the latest health record of each account.
    pub score_current: String,
    /// Output: alerts.
    pub alerts: String,
    /// Output: scores of the champion and of a challenger, side by side.
    pub shadow: String,
    /// Output: what was read of accounts, to learn from.
    pub examples: String,
    /// Output: rejected input.
    pub dead_letters: String,
    /// Internal: changes of state.
    pub state_changelog: String,
    /// Internal: recent event ids.
    pub seen_changelog: String,
    /// Internal: recorded time.
    pub ticks: String,
    /// Internal: what partitions tell each other of cohorts.
    pub cohort_stats: String,
    /// Output of the notifier: alerts that could not be told.
    pub parked: String,
    /// Internal: what the notifier has told, and has yet to tell.
    pub notify_state: String,
}

impl Default for TopicNames {
    fn default() -> TopicNames {
        TopicNames {
            events: vec!["usage.events.v1".to_owned()],
            profiles: "account.profiles.v1".to_owned(),
            outcomes: "account.outcomes.v1".to_owned(),
            calendar: "account.calendar.v1".to_owned(),
            models: "bellwether.models".to_owned(),
            score_changed: "health.score-changed.v1".to_owned(),
            score_current: "health.score-current.v1".to_owned(),
            alerts: "health.alerts.v1".to_owned(),
            shadow: "health.shadow.v1".to_owned(),
            examples: "health.examples.v1".to_owned(),
            dead_letters: "usage.events.dlq.v1".to_owned(),
            state_changelog: "bellwether.state.changelog".to_owned(),
            seen_changelog: "bellwether.seen.changelog".to_owned(),
            ticks: "bellwether.ticks".to_owned(),
            cohort_stats: "bellwether.cohort-stats".to_owned(),
            parked: "health.alerts.parked.v1".to_owned(),
            notify_state: "bellwether.notify.state".to_owned(),
        }
    }
}

/// What becomes of old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// They are deleted after the topic's retention.
    Delete,
    /// The latest of each key is kept for ever.
    Compact,
}

impl Cleanup {
    /// Kafka's `cleanup.policy`.
    #[must_use]
    pub fn policy(self) -> &'static str {
        match self {
            Cleanup::Delete => "delete",
            Cleanup::Compact => "compact",
        }
    }
}

impl fmt::Display for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.policy())
    }
}

/// How a topic must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub purpose: &'static str,
    /// Who normally creates it: `true` if others write to it, and so may own it.
    pub is_input: bool,
    /// What becomes of old records; checked.
    pub cleanup: Cleanup,
    /// How long records are kept where they are deleted; none: as the brokers are set. Applied at creation, then the owner's choice.
    pub retention_ms: Option<i64>,
    /// Bytes of a partition that are kept where records are deleted; none: as the brokers are set. Applied at creation, then the owner's
    /// choice. The embedded log has no such bound.
    pub retention_bytes: Option<i64>,
    /// How long a compacted topic keeps tombstones at least; none: as the brokers are set. Checked.
    pub tombstones_ms: Option<i64>,
    /// The largest record; none: as the brokers are set. Applied at creation.
    pub record_bytes_max: Option<i64>,
    /// Whether the brokers stamp records as they take them, so that a producer's clock cannot move time. Applied at creation; a
    /// topic that others created may carry producers' stamps, which brokers bound by `message.timestamp.after.max.ms`.
    pub stamped_by_broker: bool,
}

impl TopicSpec {
    fn settings(&self) -> BTreeMap<&'static str, String> {
        let mut settings = BTreeMap::from([("cleanup.policy", self.cleanup.policy().to_owned())]);
        if let Some(retention_ms) = self.retention_ms {
            settings.insert("retention.ms", retention_ms.to_string());
        }
        if let Some(retention_bytes) = self.retention_bytes {
            settings.insert("retention.bytes", retention_bytes.to_string());
        }
        if let Some(tombstones_ms) = self.tombstones_ms {
            settings.insert("delete.retention.ms", tombstones_ms.to_string());
        }
        if let Some(bytes) = self.record_bytes_max {
            settings.insert("max.message.bytes", bytes.to_string());
        }
        if self.stamped_by_broker {
            settings.insert("message.timestamp.type", "LogAppendTime".to_owned());
        }
        settings
    }
}

/// How much is kept in the topics for which that is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Milliseconds for which event ids are kept (of the policy's window for duplicates).
    pub seen_ms: i64,
    /// Milliseconds for which alerts are kept that could not be told.
    pub parked_ms: i64,
    /// Bytes of them that are kept in a partition.
    pub parked_bytes: i64,
}

impl Default for Kept {
    /// 30 days of everything, and 512 MiB a partition of what could not be told.
    fn default() -> Kept {
        Kept { seen_ms: 30 * DAY_MS, parked_ms: 30 * DAY_MS, parked_bytes: 512 << 20 }
    }
}

impl TopicNames {
    /// All topics, inputs first.
    #[must_use]
    pub fn specs(&self, kept: &Kept) -> Vec<TopicSpec> {
        let spec = |name: &str, purpose, is_input, cleanup, retention_ms| TopicSpec {
            name: name.to_owned(),
            purpose,
            is_input,
            cleanup,
            retention_ms,
            retention_bytes: None,
            tombstones_ms: None,
            record_bytes_max: None,
            stamped_by_broker: is_input,
        };
        let (compact, delete) = (Cleanup::Compact, Cleanup::Delete);
        let mut specs: Vec<TopicSpec> = self
            .events
            .iter()
            .map(|name| TopicSpec {
                record_bytes_max: Some(INPUT_BYTES_MAX),
                ..spec(name, "events", true, delete, None)
            })
            .collect();
        specs.extend([
            spec(&self.profiles, "account profiles", true, compact, None),
            // Keyed by account: compaction would keep one record of each account and lose the feedback before it.
            spec(&self.outcomes, "outcomes and alert feedback", true, delete, Some(-1)),
            spec(&self.calendar, "the calendar", true, compact, None),
            spec(&self.models, "promotions of models", true, compact, None),
            spec(&self.score_changed, "score movements", false, delete, Some(90 * DAY_MS)),
            spec(&self.score_current, "the latest health record per account", false, compact, None),
            spec(&self.alerts, "alerts", false, delete, Some(730 * DAY_MS)),
            spec(&self.shadow, "a challenger's scores", false, delete, Some(90 * DAY_MS)),
            spec(&self.examples, "examples to learn from", false, delete, Some(730 * DAY_MS)),
            TopicSpec {
                record_bytes_max: Some(DEAD_LETTER_BYTES_MAX),
                ..spec(&self.dead_letters, "rejected input", false, delete, Some(30 * DAY_MS))
            },
            TopicSpec {
                tombstones_ms: Some(STATE_TOMBSTONES_MS),
                ..spec(&self.state_changelog, "state changelog", false, compact, None)
            },
            spec(&self.seen_changelog, "recent event ids", false, delete, Some(kept.seen_ms)),
            TopicSpec {
                stamped_by_broker: true,
                ..spec(&self.ticks, "recorded time", false, delete, None)
            },
            TopicSpec {
                stamped_by_broker: true,
                ..spec(
                    &self.cohort_stats,
                    "cohorts across partitions",
                    false,
                    delete,
                    Some(7 * DAY_MS),
                )
            },
            TopicSpec {
                record_bytes_max: Some(DELIVERY_BYTES_MAX),
                retention_bytes: Some(kept.parked_bytes),
                ..spec(&self.parked, "alerts not told", false, delete, Some(kept.parked_ms))
            },
            TopicSpec {
                record_bytes_max: Some(DELIVERY_BYTES_MAX),
                ..spec(&self.notify_state, "state of deliveries", false, compact, None)
            },
        ]);
        specs
    }
}

/// What is to be done about a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicAction {
    /// It is missing, and [`apply`] creates it.
    Create {
        /// How.
        spec: TopicSpec,
        /// With so many partitions.
        partitions: i32,
    },
    /// It is as it must be.
    Ok {
        /// How it must be.
        spec: TopicSpec,
    },
    /// It exists, but not as it must be; a person has to act.
    Mismatch {
        /// How it must be.
        spec: TopicSpec,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// Why topics could not be planned, created or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicsError {
    /// The settings of the client are wrong.
    #[error("{0}")]
    Settings(String),
    /// The configured names cannot be.
    #[error("topic names: {0}")]
    Names(String),
    /// The brokers did not answer or refused.
    #[error("{doing}: {reason}")]
    Brokers {
        /// What was asked.
        doing: String,
        /// The client's words.
        reason: String,
    },
    /// Topics are missing.
    #[error("missing topics: {}: run `bellwether topics apply`", .0.join(", "))]
    Missing(Vec<String>),
    /// Topics are not as they must be.
    #[error("{}", .0.join("; "))]
    Mismatch(Vec<String>),
}

/// A connection for looking at and creating topics.
pub struct TopicAdmin {
    client: AdminClient<DefaultClientContext>,
}

impl fmt::Debug for TopicAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicAdmin").finish_non_exhaustive()
    }
}

/// A topic as it is.
struct Existing {
    partitions: i32,
    cleanup_policy: String,
    tombstones_ms: Option<i64>,
}

impl TopicAdmin {
    /// Connects when first used.
    ///
    /// # Errors
    /// [`TopicsError::Settings`].
    pub fn new(options: &KafkaOptions) -> Result<TopicAdmin, TopicsError> {
        let config =
            options.client().map_err(|error: LogError| TopicsError::Settings(error.message))?;
        let client = config.create().map_err(|error| TopicsError::Settings(error.to_string()))?;
        Ok(TopicAdmin { client })
    }

    fn existing(&self, specs: &[TopicSpec]) -> Result<BTreeMap<String, Existing>, TopicsError> {
        // All topics: to ask for one that is missing may create it, where brokers are set so.
        let metadata = self
            .client
            .inner()
            .fetch_metadata(None, TIMEOUT)
            .map_err(|error| brokers("cannot list topics", error))?;
        let counts: BTreeMap<&str, usize> = metadata
            .topics()
            .iter()
            .filter(|topic| specs.iter().any(|spec| spec.name == topic.name()))
            .map(|topic| (topic.name(), topic.partitions().len()))
            .collect();
        if counts.is_empty() {
            return Ok(BTreeMap::new());
        }
        let resources: Vec<ResourceSpecifier<'_>> =
            counts.keys().map(|name| ResourceSpecifier::Topic(name)).collect();
        let doing = "cannot read the settings of topics";
        let described = block_on(self.client.describe_configs(&resources, &options()))
            .map_err(|error| brokers(doing, error))?;
        let mut existing = BTreeMap::new();
        for ((name, count), config) in counts.iter().zip(described) {
            let config: ConfigResource = config.map_err(|error| brokers(doing, error))?;
            let policy = config.get("cleanup.policy").and_then(|entry| entry.value.clone());
            let tombstones =
                config.get("delete.retention.ms").and_then(|entry| entry.value.clone());
            let topic = Existing {
                partitions: i32::try_from(*count).unwrap_or(i32::MAX),
                cleanup_policy: policy.unwrap_or_default(),
                tombstones_ms: tombstones.and_then(|value| value.parse().ok()),
            };
            existing.insert((*name).to_owned(), topic);
        }
        Ok(existing)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}

fn brokers(doing: &str, reason: impl fmt::Display) -> TopicsError {
    TopicsError::Brokers { doing: doing.to_owned(), reason: reason.to_string() }
}

/// Compares the topics with how they must be. `partitions` counts where no event topic exists yet; else all others follow the first
/// event topic that does.
///
/// # Errors
/// If names are used twice or the brokers cannot be asked.
pub fn plan(
    admin: &TopicAdmin,
    names: &TopicNames,
    partitions: i32,
    kept: &Kept,
) -> Result<Vec<TopicAction>, TopicsError> {
    let specs = names.specs(kept);
    if names.events.is_empty() {
        return Err(TopicsError::Names("`events` is empty; name at least one topic".to_owned()));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = specs.iter().find(|spec| !seen.insert(spec.name.as_str())) {
        return Err(TopicsError::Names(format!(
            "`{}` is used twice; each needs its own",
            twice.name
        )));
    }
    let existing = admin.existing(&specs)?;
    let leader = names.events.iter().find_map(|name| Some((name, existing.get(name)?.partitions)));
    let partitions = leader.map_or(partitions, |(_, count)| count);
    Ok(specs
        .into_iter()
        .map(|spec| match existing.get(&spec.name) {
            None => TopicAction::Create { spec, partitions },
            Some(topic) => match mismatch(&spec, topic, partitions) {
                Some(reason) => TopicAction::Mismatch { spec, reason },
                None => TopicAction::Ok { spec },
            },
        })
        .collect())
}

fn mismatch(spec: &TopicSpec, topic: &Existing, partitions: i32) -> Option<String> {
    let name = &spec.name;
    let mut reasons = Vec::new();
    if topic.partitions != partitions {
        reasons.push(format!(
            "{name} has {} partitions and must have {partitions}, as many as the event topic: create it anew with {partitions}",
            topic.partitions
        ));
    }
    if topic.cleanup_policy != spec.cleanup.policy() {
        reasons.push(format!(
            "{name} has cleanup.policy={} and must have {}: run `kafka-configs.sh --alter --entity-type topics --entity-name {name} \
             --add-config cleanup.policy={}`",
            topic.cleanup_policy, spec.cleanup, spec.cleanup
        ));
    }
    if let Some((wanted, found)) = spec.tombstones_ms.zip(topic.tombstones_ms)
        && found < wanted
    {
        reasons.push(format!(
            "{name} keeps tombstones for {found} ms and must keep them for {wanted}, or local state that was away for longer would keep \
             what was deleted: run `kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config \
             delete.retention.ms={wanted}`"
        ));
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Creates the topics that a plan says are missing, and returns their names once the brokers know them. Topics with a mismatch are
/// left as they are.
///
/// # Errors
/// If a topic cannot be created; the others exist then, and applying a new plan goes on.
pub fn apply(
    admin: &TopicAdmin,
    plan: &[TopicAction],
    replication: i32,
) -> Result<Vec<String>, TopicsError> {
    let mut created = Vec::new();
    for action in plan {
        let TopicAction::Create { spec, partitions } = action else { continue };
        let settings = spec.settings();
        let topic = settings.iter().fold(
            NewTopic::new(&spec.name, *partitions, TopicReplication::Fixed(replication)),
            |topic, (key, value)| topic.set(key, value),
        );
        let doing = format!("cannot create topic {}", spec.name);
        let results = block_on(admin.client.create_topics([&topic], &options()))
            .map_err(|error| brokers(&doing, error))?;
        for result in results {
            match result {
                // The second: another instance was faster; a check follows in any case.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {
                    created.push(spec.clone())
                }
                Err((_, error)) => return Err(brokers(&doing, error)),
            }
        }
    }
    // The controller answers before the brokers have heard of it, and whoever starts next would find topics missing.
    let deadline = Instant::now() + TIMEOUT;
    while admin.existing(&created)?.len() < created.len() {
        if Instant::now() >= deadline {
            return Err(brokers(
                "cannot find the topics that were created",
                "the brokers do not list them",
            ));
        }
        std::thread::sleep(VISIBLE_RETRY);
    }
    Ok(created.into_iter().map(|spec| spec.name).collect())
}

/// Whether all topics are there and right, as a worker needs them. Returns their number of partitions.
///
/// # Errors
/// [`TopicsError::Missing`] or [`TopicsError::Mismatch`], which say what to run.
pub fn check(admin: &TopicAdmin, names: &TopicNames) -> Result<i32, TopicsError> {
    // No number matters where nothing is created.
    let actions = plan(admin, names, 0, &Kept::default())?;
    let mut missing = Vec::new();
    let mut wrong = Vec::new();
    for action in actions {
        match action {
            TopicAction::Create { spec, .. } => missing.push(spec.name),
            TopicAction::Mismatch { reason, .. } => wrong.push(reason),
            TopicAction::Ok { .. } => {}
        }
    }
    if !wrong.is_empty() {
        return Err(TopicsError::Mismatch(wrong));
    }
    if !missing.is_empty() {
        return Err(TopicsError::Missing(missing));
    }
    let existing = admin.existing(&names.specs(&Kept::default()))?;
    let counts = existing.values().map(|topic| topic.partitions);
    counts.max().ok_or_else(|| TopicsError::Missing(names.events.clone()))
}
