//! An application on the shared broker, with topics, group and state of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use bellwether_core::event::{Event, Profile};
use bellwether_core::id::AccountId;
use bellwether_tests::{
    Bellwether, Consumed, Outgoing, Registry, bellwether, consume_all, produce, shared_kafka,
    stories, unique,
};
use serde_json::{Value, json};

/// No step takes longer on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// One application: its topics, its configuration, its directory.
pub(crate) struct App {
    name: String,
    partitions: i32,
    dir: tempfile::TempDir,
}

impl App {
    /// An application whose topics exist.
    pub(crate) fn prepare(name: &str, partitions: i32, config: &str) -> App {
        let app = App::unprepared(name, partitions, config);
        let partitions = partitions.to_string();
        let applied = bellwether([
            "topics",
            "apply",
            "--replication",
            "1",
            "--partitions",
            &partitions,
            "--config",
            &app.config(),
        ])
        .output()
        .expect("the binary runs");
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        app
    }

    /// An application without topics.
    pub(crate) fn unprepared(name: &str, partitions: i32, config: &str) -> App {
        let name = unique(name);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let topics = [
            "profiles",
            "outcomes",
            "score_changed",
            "score_current",
            "alerts",
            "dead_letters",
            "state_changelog",
            "seen_changelog",
            "ticks",
        ];
        let mut text = format!(
            "application_id = \"{name}\"\ndata_dir = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[kafka]\nbootstrap_servers = \"{}\"\n[topics]\nevents = [\"{name}.events\"]\n",
            dir.path().join("data").display(),
            shared_kafka().bootstrap()
        );
        for topic in topics {
            text.push_str(&format!("{topic} = \"{name}.{topic}\"\n"));
        }
        text.push_str(config);
        std::fs::write(dir.path().join("bellwether.toml"), text)
            .expect("a new directory can be written to");
        App { name, partitions, dir }
    }

    fn config(&self) -> String {
        self.dir.path().join("bellwether.toml").display().to_string()
    }

    pub(crate) fn bootstrap(&self) -> &'static str {
        shared_kafka().bootstrap()
    }

    pub(crate) fn topic(&self, kind: &str) -> String {
        format!("{}.{kind}", self.name)
    }

    /// `bellwether run` for this application.
    pub(crate) fn command(&self) -> Command {
        bellwether(["run", "--config", &self.config()])
    }

    pub(crate) fn start(&self) -> Bellwether {
        Bellwether::spawn(self.command())
    }

    /// A second process of the application, with a directory of its own.
    pub(crate) fn start_as(&self, instance: &str) -> Bellwether {
        let mut command = self.command();
        command.arg("--data-dir").arg(self.dir.path().join(instance));
        Bellwether::spawn(command)
    }

    /// Events as a plain producer writes them, each account in a partition of its own choice; then the end marks.
    pub(crate) fn produce(&self, events: &[Event]) {
        let records: Vec<Outgoing> = events
            .iter()
            .map(|event| self.record(&event.account, stories::event_json(event)))
            .collect();
        produce(self.bootstrap(), &self.topic("events"), &records);
        self.finish_input();
    }

    /// Profiles, as a plain producer writes them.
    pub(crate) fn produce_profiles(&self, profiles: &[Profile]) {
        let records: Vec<Outgoing> = profiles
            .iter()
            .map(|profile| self.record(&profile.account, stories::profile_json(profile)))
            .collect();
        produce(self.bootstrap(), &self.topic("profiles"), &records);
    }

    /// A record of an account, in the partition of its choice.
    pub(crate) fn record(&self, account: &AccountId, payload: Vec<u8>) -> Outgoing {
        let sum: i32 = account.as_str().bytes().map(i32::from).sum();
        Outgoing {
            partition: Some(sum % self.partitions),
            key: Some(account.as_str().as_bytes().to_vec()),
            payload: Some(payload),
            ..Outgoing::default()
        }
    }

    /// Marks the end of the input: an event of an account of its own in each partition, a day after the stories.
    pub(crate) fn finish_input(&self) {
        let at = i64::from(stories::END.0) * 86_400_000 + 3_600_000;
        let marks: Vec<Outgoing> = (0..self.partitions)
            .map(|partition| {
                let mark = json!({"event_id": "end", "account_id": format!("end-{partition}"), "type": "login", "occurred_at": at});
                Outgoing { partition: Some(partition), payload: Some(mark.to_string().into_bytes()), ..Outgoing::default() }
            })
            .collect();
        produce(self.bootstrap(), &self.topic("events"), &marks);
    }

    /// Waits until the end marks have come out.
    pub(crate) fn wait_until_done(&self, running: &mut Bellwether) {
        let topic = self.topic("score_current");
        running.wait_until("the end of the input", LIMIT, |_| {
            let records = consume_all(self.bootstrap(), &topic);
            let marked = |partition: i32| {
                let key = format!("end-{partition}");
                records.iter().any(|record| record.key.as_deref() == Some(key.as_bytes()))
            };
            (0..self.partitions).all(marked).then_some(())
        });
    }
}

/// A header's text; empty where there is none.
pub(crate) fn header(record: &Consumed, name: &str) -> String {
    let found = record.headers.iter().find(|(header, _)| header == name);
    found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

/// The committed records of an output topic, as JSON.
pub(crate) fn outputs(app: &App, kind: &str) -> Vec<Value> {
    consume_all(app.bootstrap(), &app.topic(kind))
        .iter()
        .map(|record| {
            serde_json::from_slice(record.payload.as_deref().expect("no tombstones")).expect("JSON")
        })
        .collect()
}

/// An event in the Confluent wire format, written with the committed schema.
pub(crate) fn framed(id: u32, event: &Event) -> Vec<u8> {
    let schema = Schema::parse_str(USAGE_EVENT).expect("the committed schema is valid");
    let text = |text: &str| Avro::String(text.to_owned());
    let optional = |value: Option<Avro>| match value {
        Some(value) => Avro::Union(1, Box::new(value)),
        None => Avro::Union(0, Box::new(Avro::Null)),
    };
    let member = event.member.as_ref().map(|member| text(member.as_str()));
    let fields = vec![
        ("event_id", text(event.id.as_str())),
        ("account_id", text(event.account.as_str())),
        ("type", text(&event.kind)),
        ("occurred_at", Avro::TimestampMillis(event.occurred_at.0)),
        ("member_id", optional(member)),
        ("member_role", optional(event.role.as_deref().map(text))),
        ("feature", optional(event.feature.as_deref().map(text))),
        ("segment", optional(event.segment.as_deref().map(text))),
        ("value", optional(event.value.map(Avro::Double))),
        ("text", optional(None)),
        ("attributes", Avro::Map(std::collections::HashMap::new())),
    ];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let value = Avro::Record(fields).resolve(&schema).expect("the fields fit the schema");
    let datum = GenericDatumWriter::builder(&schema)
        .build()
        .expect("a writer")
        .write_value_to_vec(value)
        .expect("encoded");
    [&[0][..], &id.to_be_bytes(), &datum].concat()
}

/// Registers the schema of usage events as a producer would, and returns its id.
pub(crate) fn register_usage_event(registry: &Registry, topic: &str) -> u32 {
    let url = format!("{}/subjects/{topic}-value/versions", registry.url());
    let mut answer = ureq::post(url)
        .content_type("application/json")
        .send(json!({"schema": USAGE_EVENT}).to_string())
        .expect("the registry takes it");
    let answer = answer.body_mut().read_to_string().expect("text");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    answer["id"].as_u64().and_then(|id| u32::try_from(id).ok()).expect("an id")
}

/// A record in the Confluent wire format as JSON, by the schema that the registry has under its id.
pub(crate) fn unframed(registry: &Registry, payload: &[u8]) -> Value {
    let (&[magic, a, b, c, d], mut datum) = payload.split_first_chunk().expect("a header");
    assert_eq!(magic, 0, "the wire format's first byte");
    let url = format!("{}/schemas/ids/{}", registry.url(), u32::from_be_bytes([a, b, c, d]));
    let answer = ureq::get(url).call().expect("the registry knows the id");
    let answer = answer.into_body().read_to_string().expect("text");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let schema = Schema::parse_str(answer["schema"].as_str().expect("a schema")).expect("valid");
    let reader = GenericDatumReader::builder(&schema).build().expect("a reader");
    let value = reader.read_value(&mut datum).expect("it was written with this schema");
    assert!(datum.is_empty(), "nothing follows");
    value.try_into().expect("plain values")
}

const USAGE_EVENT: &str = include_str!("../../../schemas/usage-event.avsc");

/// A registry that answers 503 until it is told to come back, and then knows one schema under every id.
pub(crate) struct StubRegistry {
    url: String,
    back: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
}

impl StubRegistry {
    pub(crate) fn start() -> StubRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (back, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (is_back, count) = (Arc::clone(&back), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                count.fetch_add(1, Ordering::SeqCst);
                let (status, body) = if is_back.load(Ordering::SeqCst) {
                    ("200 OK", json!({"schema": USAGE_EVENT}).to_string())
                } else {
                    ("503 Service Unavailable", "away".to_owned())
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                // A client that went away is its own affair.
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        StubRegistry { url, back, asked }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn come_back(&self) {
        self.back.store(true, Ordering::SeqCst);
    }
}
