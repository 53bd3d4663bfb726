//! Transactions that a dead producer left open, on a real Kafka: they are found, they hold readers up, and once aborted they do not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use bellwether_engine::kafka::{KafkaOptions, KafkaTransactions};
use bellwether_tests::{App, LIMIT, stories, text, unique, wait_until};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    InitProducerIdRequest, ProduceRequest, ProducerId, RequestHeader, ResponseHeader, TopicName,
    TransactionalId,
};
use kafka_protocol::protocol::{
    Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer,
};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

const BRITTLE: &str = "session_timeout_seconds = 6\ntransaction_timeout_seconds = 6\n";
/// The test that is a producer, in a process of its own.
const PRODUCER: &str = "leaves_a_transaction_open";

/// Not a test of its own: the process that [`abandon`] starts and kills. Without its variables it has nothing to do.
#[test]
fn leaves_a_transaction_open() {
    let Ok(wanted) = std::env::var("TEST_OPEN_TRANSACTION") else { return };
    let [bootstrap, id, topic, done]: [&str; 4] =
        wanted.split(' ').collect::<Vec<_>>().try_into().expect("four words");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", id)
        .set("transaction.timeout.ms", "600000")
        .create()
        .expect("a producer");
    producer.init_transactions(LIMIT).expect("a coordinator");
    producer.begin_transaction().expect("a transaction");
    let record = BaseRecord::to(topic).partition(0).key("nobody").payload("never committed");
    producer.send(record).expect("room");
    producer.flush(LIMIT).expect("the broker takes it");
    std::fs::write(done, "").expect("writable");
    loop {
        std::thread::park();
    }
}

/// A producer that is killed within its transaction, whose time-out is long.
fn abandon(app: &App, id: &str, topic: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let done = dir.path().join("done");
    let wanted = format!("{} {id} {topic} {}", app.bootstrap(), done.display());
    let mut producer = Command::new(std::env::current_exe().expect("an executable"))
        .args(["--exact", PRODUCER])
        .env("TEST_OPEN_TRANSACTION", wanted)
        .spawn()
        .expect("it can be run");
    wait_until("the open transaction", LIMIT, || done.exists().then_some(()));
    producer.kill().expect("a child can be killed");
    producer.wait().expect("a child can be waited for");
}

/// The application's id, as its topics are named after it.
fn application(app: &App) -> String {
    app.topic("events").trim_end_matches(".events").to_owned()
}

fn say(app: &App, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = app.command_of(arguments).output().expect("the binary runs");
    let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), answer, text(Some(&output.stderr)).unwrap_or_default())
}

/// The end of a partition for readers of committed records, and the true one.
fn ends(app: &App, topic: &str) -> (i64, i64) {
    let end = |isolation: &str| {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", app.bootstrap())
            .set("isolation.level", isolation)
            .create()
            .expect("a consumer");
        consumer.fetch_watermarks(topic, 0, LIMIT).expect("the broker answers").1
    };
    (end("read_committed"), end("read_uncommitted"))
}

#[test]
fn a_dead_producers_transaction_is_found_and_aborted_and_the_worker_goes_on() {
    let app = App::prepare_with("txn", 1, BRITTLE, "");
    let own = format!("{}-dead-0", application(&app));
    let (code, answer, _) = say(&app, &["txn", "list"]);
    assert_eq!((code, &answer["stuck"]), (Some(0), &Value::from(0)), "{answer}");

    // On an input topic: what comes after it waits.
    let events = app.topic("events");
    abandon(&app, &own, &events);
    app.produce(&stories::events()[..200]);
    let (stable, end) = ends(&app, &events);
    assert!(stable == 0 && end > 200, "readers are held up: {stable} of {end}");
    let mut running = app.start();
    running.wait_until_ready();
    let listed = running.wait_until("it to be too old", LIMIT, |_| {
        let (code, answer, _) = say(&app, &["txn", "list"]);
        (code == Some(3)).then_some(answer)
    });
    let found = listed["open"].as_array().expect("a list");
    let found: Vec<&Value> = found.iter().filter(|it| it["stuck"] == true).collect();
    assert_eq!(found.len(), 1, "{listed}");
    assert_eq!(found[0]["transactional_id"], own.as_str());
    assert_eq!(found[0]["state"], "Ongoing");
    assert_eq!(found[0]["timeout_seconds"], 600);
    assert_eq!(found[0]["partitions"][0]["topic"], events.as_str());
    assert_eq!(found[0]["partitions"][0]["first_offset"], 0);
    assert_eq!(ends(&app, &events).0, 0, "and still it holds readers up");
    assert_eq!(say(&app, &["txn", "list", "--older-than", "500"]).0, Some(0));

    // A preview changes nothing; afterwards the worker goes on by itself.
    let (code, answer, _) = say(&app, &["txn", "abort", &own]);
    assert_eq!((code, &answer["aborted"]), (Some(0), &Value::from(false)), "{answer}");
    assert_eq!(say(&app, &["txn", "list"]).0, Some(3));
    assert_eq!(say(&app, &["txn", "abort", "nobody"]).0, Some(3));
    assert_eq!(say(&app, &["txn", "abort"]).0, Some(2));
    let (code, answer, error) = say(&app, &["txn", "abort", &own, "--yes"]);
    assert_eq!((code, &answer["aborted"]), (Some(0), &Value::from(true)), "{error}");
    app.wait_until_done(&mut running);
    assert_eq!(say(&app, &["txn", "list"]).0, Some(0));
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
}

/// What is not ours, and what a live worker has, is left alone unless one insists.
#[test]
fn others_are_not_aborted_unless_one_insists() {
    let app = App::prepare_with("txn-others", 1, BRITTLE, "");
    let foreign = unique("foreign");
    abandon(&app, &foreign, &app.topic("events"));
    let (code, answer, _) = say(&app, &["txn", "list", "--older-than", "0"]);
    assert_eq!(code, Some(3));
    assert_eq!(answer["open"][0]["owner"], "another application", "{answer}");
    let (code, _, error) = say(&app, &["txn", "abort", &foreign, "--yes"]);
    assert!(code == Some(1) && error.contains("--force"), "{error}");
    assert_eq!(say(&app, &["txn", "abort", &foreign, "--yes", "--force"]).0, Some(0));
    assert_eq!(say(&app, &["txn", "list", "--older-than", "0"]).0, Some(0));

    // A member of the group by the name of the id: whether it lives, only the group knows.
    let own = format!("{}-live-0", application(&app));
    let member: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", app.bootstrap())
        .set("group.id", application(&app))
        .set("group.instance.id", &own)
        .create()
        .expect("a consumer");
    member.subscribe(&[&app.topic("outcomes")]).expect("a topic");
    wait_until("membership", LIMIT, || {
        drop(member.poll(Duration::from_millis(50)));
        (member.assignment().expect("an assignment").count() > 0).then_some(())
    });
    abandon(&app, &own, &app.topic("events"));
    let (code, _, error) = say(&app, &["txn", "abort", &own, "--yes"]);
    assert!(code == Some(1) && error.contains("a member of the group"), "{error}");
    assert_eq!(say(&app, &["txn", "list", "--older-than", "0"]).0, Some(3));
    drop(member);
    assert_eq!(say(&app, &["txn", "abort", &own, "--yes", "--force"]).0, Some(0));
}

/// The marker that ends a transaction of which no coordinator knows, written past a coordinator that does: readers go on.
#[test]
fn a_marker_frees_the_partition() {
    let app = App::prepare_with("txn-marker", 1, BRITTLE, "");
    let own = format!("{}-dead-0", application(&app));
    let events = app.topic("events");
    abandon(&app, &own, &events);
    let options =
        KafkaOptions { bootstrap_servers: app.bootstrap().to_owned(), ..KafkaOptions::default() };
    let kafka = KafkaTransactions::new(&options).expect("plain text");
    let open = kafka.open(std::slice::from_ref(&events), "no such prefix").expect("answers");
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!(ends(&app, &events).0, 0);
    kafka.write_abort_markers(&open[0]).expect("the broker takes it");
    let (stable, end) = ends(&app, &events);
    assert!(stable == end && end == 2, "a record and a marker: {stable} of {end}");
    let mut secured = options;
    secured.extra.insert("security.protocol".to_owned(), "SASL_SSL".to_owned());
    let error = KafkaTransactions::new(&secured).expect_err("plain text only");
    assert!(error.message.contains("kafka-transactions.sh"), "{error}");
}

/// Asks a broker by Kafka's own messages, past every client's good manners.
fn ask<R: Request>(broker: &mut TcpStream, request: &R, version: i16) -> R::Response {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("rude")));
    let mut body = BytesMut::new();
    encode_request_header_into_buffer(&mut body, &header).expect("a header");
    request.encode(&mut body, version).expect("a body");
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    broker.write_all(&[&length[..], &body].concat()).expect("the broker reads");
    let mut length = [0; 4];
    broker.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    broker.read_exact(&mut answer).expect("all of it");
    let mut answer = Bytes::from(answer);
    let version_of_header = R::Response::header_version(version);
    ResponseHeader::decode(&mut answer, version_of_header).expect("a header");
    R::Response::decode(&mut answer, version).expect("a body")
}

/// A transactional record in a partition that was never added to its transaction, as brokers before 3.6 took it from late producers:
/// its coordinator does not know that there is anything to end.
fn leave_hanging(app: &App, topic: &str, id: &str) -> i64 {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", app.bootstrap())
        .create()
        .expect("an admin client");
    let unverified = AlterConfig::new(ResourceSpecifier::Broker(1))
        .set("transaction.partition.verification.enable", "false");
    let altered =
        futures_executor::block_on(admin.alter_configs([&unverified], &AdminOptions::new()));
    altered.expect("the broker answers").remove(0).expect("it is taken");

    let mut broker = TcpStream::connect(app.bootstrap()).expect("the broker listens");
    let transactional_id = TransactionalId(StrBytes::from_string(id.to_owned()));
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(transactional_id.clone()))
        .with_transaction_timeout_ms(600_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let producer = wait_until("a coordinator", LIMIT, || {
        let producer = ask(&mut broker, &init, 4);
        (producer.error_code == 0).then_some(producer)
    });
    let record = Record {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: producer.producer_id.0,
        producer_epoch: producer.producer_epoch,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: 0,
        timestamp: 0,
        key: Some(Bytes::from_static(b"nobody")),
        value: Some(Bytes::from_static(b"never committed")),
        headers: Default::default(),
    };
    let mut batch = BytesMut::new();
    let encoding = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut batch, [&record], &encoding).expect("a batch");
    let partition = PartitionProduceData::default().with_records(Some(batch.freeze()));
    let data = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(vec![partition]);
    let produce = ProduceRequest::default()
        .with_transactional_id(Some(transactional_id))
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![data]);
    // The broker takes up its new setting in its own time.
    wait_until("a broker without manners", LIMIT, || {
        let answer = ask(&mut broker, &produce, 9);
        (answer.responses[0].partition_responses[0].error_code == 0).then_some(())
    });
    producer.producer_id.0
}

/// A transaction that no coordinator knows is found at once, whatever its age, and ended by a marker in its partition.
#[test]
fn a_hanging_transaction_is_found_and_aborted() {
    let app = App::prepare_with("txn-hanging", 1, BRITTLE, "");
    let events = app.topic("events");
    let id = leave_hanging(&app, &events, &format!("{}-gone-0", application(&app))).to_string();
    assert_eq!(ends(&app, &events), (0, 1), "readers are held up");
    let (code, listed, error) = say(&app, &["txn", "list"]);
    assert_eq!(code, Some(3), "{error}");
    assert_eq!(listed["open"].as_array().map(Vec::len), Some(1), "{listed}");
    let found = &listed["open"][0];
    assert_eq!((&found["state"], &found["owner"]), (&"Hanging".into(), &"nobody".into()));
    assert_eq!(found["producer_id"].to_string(), id);
    assert_eq!(found["partitions"][0]["topic"], events.as_str());
    let (code, answer, _) = say(&app, &["txn", "abort", "--producer-id", &id]);
    assert_eq!((code, &answer["aborted"]), (Some(0), &Value::from(false)), "{answer}");
    assert_eq!(ends(&app, &events), (0, 1));
    let (code, _, error) = say(&app, &["txn", "abort", "--producer-id", &id, "--yes"]);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(ends(&app, &events), (2, 2), "a record and a marker");
    assert_eq!(say(&app, &["txn", "list"]).0, Some(0));
    assert_eq!(say(&app, &["txn", "abort", "--producer-id", &id, "--yes"]).0, Some(3));
}
