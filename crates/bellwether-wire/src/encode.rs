//! Domain types to bytes, with `CloudEvents` 1.0 headers (Kafka protocol binding, binary content mode).

use apache_avro::writer::datum::GenericDatumWriter;
use bellwether_core::output::Output;
use bellwether_core::time::Millis;
use schema_registry_converter::schema_registry_common::get_payload;
use serde::Serialize;

use crate::output::{
    AlertRecord, LearningExampleRecord, ScoreChangedRecord, ScoreCurrentRecord, ShadowScoreRecord,
};
use crate::registry::{Registry, RegistryConfig, RegistryError};
use crate::schema::{self, Contract};

/// The `ce_source` of everything that Bellwether publishes.
pub const SOURCE: &str = "bellwether";

/// The kinds of output record; each has a topic and a schema of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputKind {
    /// A movement of a score.
    ScoreChanged,
    /// The latest health record of an account.
    ScoreCurrent,
    /// An event of an alert.
    Alert,
    /// Two scores side by side.
    Shadow,
    /// An example to learn from.
    Example,
}

impl OutputKind {
    /// Every kind.
    pub const ALL: [OutputKind; 5] = [
        OutputKind::ScoreChanged,
        OutputKind::ScoreCurrent,
        OutputKind::Alert,
        OutputKind::Shadow,
        OutputKind::Example,
    ];

    /// The kind of an output.
    #[must_use]
    pub fn of(output: &Output) -> OutputKind {
        match output {
            Output::ScoreChanged(_) => OutputKind::ScoreChanged,
            Output::Health(_) => OutputKind::ScoreCurrent,
            Output::Alert(_) => OutputKind::Alert,
            Output::Shadow(_) => OutputKind::Shadow,
            Output::Example(_) => OutputKind::Example,
            // A tombstone for what stands there.
            Output::Forgotten(_) => OutputKind::ScoreCurrent,
        }
    }

    /// Its schema.
    #[must_use]
    pub fn contract(self) -> &'static Contract {
        match self {
            OutputKind::ScoreChanged => &schema::SCORE_CHANGED,
            OutputKind::ScoreCurrent => &schema::SCORE_CURRENT,
            OutputKind::Alert => &schema::ALERT,
            OutputKind::Shadow => &schema::SHADOW_SCORE,
            OutputKind::Example => &schema::LEARNING_EXAMPLE,
        }
    }

    /// Its `ce_type`.
    #[must_use]
    pub fn ce_type(self) -> &'static str {
        match self {
            OutputKind::ScoreChanged => "io.bellwether.score-changed.v1",
            OutputKind::ScoreCurrent => "io.bellwether.score-current.v1",
            OutputKind::Alert => "io.bellwether.alert.v1",
            OutputKind::Shadow => "io.bellwether.shadow-score.v1",
            OutputKind::Example => "io.bellwether.learning-example.v1",
        }
    }
}

/// The topics of the kinds; the registry's subjects are named after them (`<topic>-value`).
#[derive(Debug, Clone, Copy)]
pub struct OutputTopics<'a> {
    /// Movements of scores.
    pub score_changed: &'a str,
    /// Latest health records.
    pub score_current: &'a str,
    /// Events of alerts.
    pub alerts: &'a str,
    /// Scores side by side.
    pub shadow: &'a str,
    /// Examples to learn from.
    pub examples: &'a str,
}

/// A record ready to append. Its key is the account id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The value; none is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// `CloudEvents` attributes and the content type.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Encodes outputs; cheap to clone, and the same for all threads.
#[derive(Debug, Clone)]
pub struct Encoder {
    format: Format,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Json,
    /// Schema ids as the registry gave them.
    Avro {
        score_changed: u32,
        score_current: u32,
        alert: u32,
        shadow: u32,
        example: u32,
    },
}

impl Encoder {
    /// An encoder of JSON; needs no registry.
    #[must_use]
    pub fn json() -> Encoder {
        Encoder { format: Format::Json }
    }

    /// An encoder of Avro in the Confluent wire format. Registers the schemas (`TopicNameStrategy`) and binds their subjects to
    /// `FULL_TRANSITIVE` compatibility. Blocks; to be called once, before the first record.
    ///
    /// # Errors
    /// The registry is unavailable, or refuses a schema.
    pub fn avro(
        config: &RegistryConfig,
        topics: &OutputTopics<'_>,
    ) -> Result<Encoder, RegistryError> {
        let registry = Registry::new(config)?;
        let register = |topic: &str, kind: OutputKind| {
            registry.register(&format!("{topic}-value"), kind.contract())
        };
        let format = Format::Avro {
            score_changed: register(topics.score_changed, OutputKind::ScoreChanged)?,
            score_current: register(topics.score_current, OutputKind::ScoreCurrent)?,
            alert: register(topics.alerts, OutputKind::Alert)?,
            shadow: register(topics.shadow, OutputKind::Shadow)?,
            example: register(topics.examples, OutputKind::Example)?,
        };
        Ok(Encoder { format })
    }

    /// Encodes an output. The same output gives the same bytes.
    #[must_use]
    pub fn encode(&self, output: &Output) -> Encoded {
        let kind = OutputKind::of(output);
        let payload = match output {
            Output::ScoreChanged(change) => {
                self.payload(kind, &ScoreChangedRecord::from(change.as_ref()))
            }
            Output::Health(record) => {
                self.payload(kind, &ScoreCurrentRecord::from(record.as_ref()))
            }
            Output::Alert(event) => self.payload(kind, &AlertRecord::from(event.as_ref())),
            Output::Shadow(beside) => self.payload(kind, &ShadowScoreRecord::from(beside.as_ref())),
            Output::Example(example) => {
                self.payload(kind, &LearningExampleRecord::from(example.as_ref()))
            }
            Output::Forgotten(_) => return Encoded { payload: None, headers: Vec::new() },
        };
        Encoded { payload: Some(payload), headers: self.headers(output) }
    }

    fn payload(&self, kind: OutputKind, record: &impl Serialize) -> Vec<u8> {
        match self.format {
            Format::Json => serde_json::to_vec(record)
                .expect("records hold texts, numbers and lists of them, all of which JSON can say"),
            Format::Avro { score_changed, score_current, alert, shadow, example } => {
                let id = match kind {
                    OutputKind::ScoreChanged => score_changed,
                    OutputKind::ScoreCurrent => score_current,
                    OutputKind::Alert => alert,
                    OutputKind::Shadow => shadow,
                    OutputKind::Example => example,
                };
                let writer: &GenericDatumWriter<'_> = kind.contract().writer();
                let datum = writer
                    .write_ser_to_vec(record)
                    .expect("the records mirror the schemas; the round trips of the tests cover every field");
                get_payload(id, datum)
            }
        }
    }

    fn headers(&self, output: &Output) -> Vec<(String, Vec<u8>)> {
        let (id, at) = identity(output);
        let content_type = match self.format {
            Format::Json => "application/json",
            Format::Avro { .. } => "application/avro",
        };
        [
            ("ce_specversion", "1.0"),
            ("ce_id", &id),
            ("ce_source", SOURCE),
            ("ce_type", OutputKind::of(output).ce_type()),
            ("ce_time", &at.iso()),
            ("ce_subject", output.account().as_str()),
            ("content-type", content_type),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .collect()
    }
}

/// The deterministic id of an output, and its event time.
fn identity(output: &Output) -> (String, Millis) {
    match output {
        Output::ScoreChanged(change) => (change.id.clone(), change.at),
        Output::Health(record) => (format!("{}/{}", record.account_id, record.sequence), record.at),
        Output::Alert(event) => (event.id.clone(), event.at),
        Output::Shadow(beside) => (beside.id.clone(), beside.at),
        Output::Example(example) => (example.id.clone(), example.at),
        // A tombstone is a key and nothing else; this names it all the same.
        Output::Forgotten(account) => (account.to_string(), Millis::default()),
    }
}
