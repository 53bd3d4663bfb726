//! Open transactions on the application's topics: what `kafka-transactions.sh` finds and aborts, without Java.
//!
//! A transaction is *known* while its coordinator has it open: then its transactional id can be fenced, which aborts it. It is *hanging* where a
//! partition has it open and no coordinator knows (any more): then only a marker written to the partition itself ends it.
//!
//! Deliberately absent: TLS and SASL (see [`super::wire`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{
    DescribeGroupsRequest, DescribeProducersRequest, DescribeTransactionsRequest, GroupId,
    ListTransactionsRequest, ProducerId, TopicName, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::StrBytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};

use super::context::{DeliveryContext, ReaderContext};
use super::wire::Wire;
use super::{KafkaOptions, classify};
use crate::log::{LogError, Remedy};

/// One request of the client.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Versions of the requests: the oldest that say enough, which every broker since 3.0 knows.
const LIST_VERSION: i16 = 0;
const DESCRIBE_VERSION: i16 = 0;
const PRODUCERS_VERSION: i16 = 0;
const MARKERS_VERSION: i16 = 1;
/// The oldest that names static members.
const GROUPS_VERSION: i16 = 5;

/// A partition in which a transaction is open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its first record there; readers of committed records do not come further.
    pub first_offset: i64,
    /// What the markers before were written with.
    coordinator_epoch: i32,
}

/// A transaction that is open on the application's topics, or that has one of its transactional ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The producer that wrote it.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Its transactional id; none where no coordinator knows the transaction: it is hanging.
    pub transactional_id: Option<String>,
    /// The coordinator's word for its state, e.g. `Ongoing`; or `Hanging`.
    pub state: String,
    /// When it began; of a hanging one, when it was last written to. Milliseconds since 1970.
    pub since_ms: i64,
    /// After how long its coordinator aborts it; none of one that hangs.
    pub timeout_ms: Option<i32>,
    /// Where on the application's topics it has written.
    pub spans: Vec<Span>,
}

/// Open transactions by producer: epoch, time of the last record, and where.
type ByProducer = BTreeMap<i64, Vec<(i16, i64, Span)>>;

/// What a coordinator says of a transactional id.
struct Described {
    id: String,
    state: String,
    producer_epoch: i16,
    since_ms: i64,
    timeout_ms: i32,
    partitions: BTreeSet<(String, i32)>,
}

/// Looks at and aborts transactions.
pub struct KafkaTransactions {
    options: KafkaOptions,
    client: BaseConsumer<ReaderContext>,
}

impl fmt::Debug for KafkaTransactions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KafkaTransactions").finish_non_exhaustive()
    }
}

impl KafkaTransactions {
    /// Connects when first used.
    ///
    /// # Errors
    /// `Stop` for wrong settings, and for clusters that want TLS or SASL; the message names what to run there.
    pub fn new(options: &KafkaOptions) -> Result<KafkaTransactions, LogError> {
        let protocol = options.extra.get("security.protocol").map_or("plaintext", String::as_str);
        if !protocol.eq_ignore_ascii_case("plaintext") {
            return Err(LogError::new(
                Remedy::Stop,
                format!(
                    "security.protocol is {protocol}, and this command speaks plaintext only: run \
                     `kafka-transactions.sh --bootstrap-server {servers} --command-config client.properties list`, \
                     `… find-hanging --broker-id <id>` and `… abort --topic <topic> --partition <p> --start-offset <offset>`",
                    servers = options.bootstrap_servers
                ),
            ));
        }
        let client = options
            .reader("bellwether-txn", "read_committed")?
            .create_with_context(ReaderContext)
            .map_err(|error| classify::creation(&error))?;
        Ok(KafkaTransactions { options: options.clone(), client })
    }

    /// What is open on these topics, or has a transactional id that begins with `prefix`.
    ///
    /// # Errors
    /// Where a broker does not answer.
    pub fn open(&self, topics: &[String], prefix: &str) -> Result<Vec<OpenTransaction>, LogError> {
        // The partitions first, then the coordinators, then the partitions again: a coordinator knows a transaction before its first
        // record and until its last marker, so what it does not know and was there before and after hangs.
        let mut producers = self.producers(topics)?;
        let described = self.described()?;
        let mut open = Vec::new();
        for (producer_id, known) in &described {
            let (mut spans, mut hanging) = (Vec::new(), Vec::new());
            for (epoch, last_ms, span) in producers.remove(producer_id).unwrap_or_default() {
                let place = (span.topic.clone(), span.partition);
                // A newer epoch: the coordinator knows of a later transaction of the same producer only.
                if epoch == known.producer_epoch && known.partitions.contains(&place)
                    || known.state.starts_with("Prepare")
                {
                    spans.push(span);
                } else {
                    hanging.push((epoch, last_ms, span));
                }
            }
            if !hanging.is_empty() {
                producers.insert(*producer_id, hanging);
            }
            if !spans.is_empty() || known.id.starts_with(prefix) {
                open.push(OpenTransaction {
                    producer_id: *producer_id,
                    producer_epoch: known.producer_epoch,
                    transactional_id: Some(known.id.clone()),
                    state: known.state.clone(),
                    since_ms: known.since_ms,
                    timeout_ms: Some(known.timeout_ms),
                    spans,
                });
            }
        }
        let again = if producers.is_empty() { BTreeMap::new() } else { self.producers(topics)? };
        for (producer_id, mut spans) in producers {
            let still = again.get(&producer_id).map(Vec::as_slice).unwrap_or_default();
            spans.retain(|(epoch, _, span)| {
                still.iter().any(|(of, _, found)| (of, found) == (epoch, span))
            });
            let mut by_epoch: BTreeMap<i16, (i64, Vec<Span>)> = BTreeMap::new();
            for (epoch, last_ms, span) in spans {
                let (since, of_epoch) = by_epoch.entry(epoch).or_default();
                *since = (*since).max(last_ms);
                of_epoch.push(span);
            }
            open.extend(by_epoch.into_iter().map(|(producer_epoch, (since_ms, spans))| {
                let (transactional_id, timeout_ms) = (None, None);
                let state = "Hanging".to_owned();
                OpenTransaction {
                    producer_id,
                    producer_epoch,
                    transactional_id,
                    state,
                    since_ms,
                    timeout_ms,
                    spans,
                }
            }));
        }
        Ok(open)
    }

    /// The names of the group's static members, and how many other members it has.
    ///
    /// # Errors
    /// Where a broker does not answer.
    pub fn members(&self, group: &str) -> Result<(BTreeSet<String>, usize), LogError> {
        let group = GroupId(StrBytes::from_string(group.to_owned()));
        let request = DescribeGroupsRequest::default().with_groups(vec![group]);
        let (mut names, mut others) = (BTreeSet::new(), 0);
        // Only the group's coordinator knows members; the others say that they are not it.
        for mut broker in self.brokers()?.into_values() {
            for group in broker.ask(&request, GROUPS_VERSION)?.groups {
                for member in group.members {
                    match member.group_instance_id {
                        Some(name) => drop(names.insert(name.to_string())),
                        None => others += 1,
                    }
                }
            }
        }
        Ok((names, others))
    }

    /// Aborts the open transaction of a transactional id, by fencing whoever has the id.
    ///
    /// # Errors
    /// Where the coordinator does not do it.
    pub fn fence(&self, transactional_id: &str) -> Result<(), LogError> {
        let mut config = self.options.client()?;
        config
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", self.options.transaction_timeout_ms.to_string());
        let producer: BaseProducer<DeliveryContext> = config
            .create_with_context(DeliveryContext::default())
            .map_err(|error| classify::creation(&error))?;
        let doing = format!("cannot abort the transaction of {transactional_id}");
        producer
            .init_transactions(TIMEOUT * 2)
            .map_err(|error| classify::uncommitted(&doing, &error))
    }

    /// Writes markers that abort a transaction into its partitions, past its coordinator.
    ///
    /// # Errors
    /// Where a broker refuses one; the markers before it are written.
    pub fn write_abort_markers(&self, transaction: &OpenTransaction) -> Result<(), LogError> {
        let mut brokers = self.brokers()?;
        for span in &transaction.spans {
            let leader = self.leader(&span.topic, span.partition)?;
            let broker =
                brokers.get_mut(&leader).ok_or_else(|| no_leader(&span.topic, span.partition))?;
            let topic = WritableTxnMarkerTopic::default()
                .with_name(topic_name(&span.topic))
                .with_partition_indexes(vec![span.partition]);
            let marker = WritableTxnMarker::default()
                .with_producer_id(ProducerId(transaction.producer_id))
                .with_producer_epoch(transaction.producer_epoch)
                .with_transaction_result(false)
                .with_topics(vec![topic])
                // Of a producer that has had no marker yet it is -1, and then any is taken.
                .with_coordinator_epoch(span.coordinator_epoch.max(0));
            let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
            let answer = broker.ask(&request, MARKERS_VERSION)?;
            let results = answer.markers.iter().flat_map(|marker| &marker.topics);
            for result in results.flat_map(|topic| &topic.partitions) {
                let doing = format!("cannot abort at {} [{}]", span.topic, span.partition);
                checked(&doing, result.error_code)?;
            }
        }
        Ok(())
    }

    /// What the leaders of the partitions have open.
    fn producers(&self, topics: &[String]) -> Result<ByProducer, LogError> {
        let mut found = ByProducer::new();
        let mut by_leader: BTreeMap<i32, Vec<TopicRequest>> = BTreeMap::new();
        let metadata = self.metadata()?;
        for topic in
            metadata.topics().iter().filter(|topic| topics.iter().any(|own| own == topic.name()))
        {
            let mut partitions: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
            for partition in topic.partitions() {
                partitions.entry(partition.leader()).or_default().push(partition.id());
            }
            for (leader, partitions) in partitions {
                let request = TopicRequest::default()
                    .with_name(topic_name(topic.name()))
                    .with_partition_indexes(partitions);
                by_leader.entry(leader).or_default().push(request);
            }
        }
        let mut brokers = self.brokers()?;
        for (leader, topics) in by_leader {
            let Some(broker) = brokers.get_mut(&leader) else {
                let named = topics.first().map(|topic| topic.name.to_string()).unwrap_or_default();
                return Err(no_leader(&named, 0));
            };
            let request = DescribeProducersRequest::default().with_topics(topics);
            for topic in broker.ask(&request, PRODUCERS_VERSION)?.topics {
                for partition in topic.partitions {
                    let doing = format!("cannot see the producers of {}", topic.name.as_str());
                    checked(&doing, partition.error_code)?;
                    let open = partition.active_producers.into_iter();
                    for producer in open.filter(|producer| producer.current_txn_start_offset >= 0) {
                        let span = Span {
                            topic: topic.name.to_string(),
                            partition: partition.partition_index,
                            first_offset: producer.current_txn_start_offset,
                            coordinator_epoch: producer.coordinator_epoch,
                        };
                        let epoch = i16::try_from(producer.producer_epoch).unwrap_or(i16::MAX);
                        found.entry(producer.producer_id.0).or_default().push((
                            epoch,
                            producer.last_timestamp,
                            span,
                        ));
                    }
                }
            }
        }
        Ok(found)
    }

    /// What the coordinators have open, by producer.
    fn described(&self) -> Result<BTreeMap<i64, Described>, LogError> {
        let mut found = BTreeMap::new();
        for mut broker in self.brokers()?.into_values() {
            let open = ["Ongoing", "PrepareCommit", "PrepareAbort"].map(StrBytes::from_static_str);
            let request = ListTransactionsRequest::default().with_state_filters(open.to_vec());
            let listed = broker.ask(&request, LIST_VERSION)?;
            checked("cannot list transactions", listed.error_code)?;
            let ids = listed.transaction_states.into_iter().map(|state| state.transactional_id);
            let request =
                DescribeTransactionsRequest::default().with_transactional_ids(ids.collect());
            if request.transactional_ids.is_empty() {
                continue;
            }
            for state in broker.ask(&request, DESCRIBE_VERSION)?.transaction_states {
                // It ended meanwhile, or moved to another coordinator, which lists it.
                let is_open = ["Ongoing", "PrepareCommit", "PrepareAbort"]
                    .contains(&state.transaction_state.as_str());
                if state.error_code != 0 || !is_open {
                    continue;
                }
                let topics = state.topics.iter();
                let partitions = topics.flat_map(|topic| {
                    topic.partitions.iter().map(|partition| (topic.topic.to_string(), *partition))
                });
                let described = Described {
                    id: state.transactional_id.to_string(),
                    state: state.transaction_state.to_string(),
                    producer_epoch: state.producer_epoch,
                    since_ms: state.transaction_start_time_ms,
                    timeout_ms: state.transaction_timeout_ms,
                    partitions: partitions.collect(),
                };
                found.insert(state.producer_id.0, described);
            }
        }
        Ok(found)
    }

    fn metadata(&self) -> Result<rdkafka::metadata::Metadata, LogError> {
        self.client
            .fetch_metadata(None, TIMEOUT)
            .map_err(|error| classify::uncommitted("cannot list brokers and topics", &error))
    }

    /// A connection to every broker.
    fn brokers(&self) -> Result<BTreeMap<i32, Wire>, LogError> {
        let metadata = self.metadata()?;
        let brokers = metadata.brokers().iter();
        brokers
            .map(|broker| {
                let port = u16::try_from(broker.port()).unwrap_or_default();
                Ok((broker.id(), Wire::connect(broker.host(), port)?))
            })
            .collect()
    }

    fn leader(&self, topic: &str, partition: i32) -> Result<i32, LogError> {
        let metadata = self.metadata()?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.into_iter().flat_map(|topic| topic.partitions());
        let mut leaders = partitions.filter(|found| found.id() == partition);
        leaders.next().map(|found| found.leader()).ok_or_else(|| no_leader(topic, partition))
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn no_leader(topic: &str, partition: i32) -> LogError {
    LogError::new(Remedy::Reopen, format!("{topic} [{partition}] has no leader: check the brokers"))
}

/// An error code of an answer.
fn checked(doing: &str, code: i16) -> Result<(), LogError> {
    match code.err() {
        None => Ok(()),
        Some(error) => Err(LogError::new(Remedy::Stop, format!("{doing}: {error}"))),
    }
}
