//! Avro as a producer that is not ours writes it, and a registry that can be away.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use bellwether_core::event::Event;
use bellwether_tests::Registry;
use serde_json::{Value, json};

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
