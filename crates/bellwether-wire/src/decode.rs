//! Bytes to domain types.
//!
//! The first byte tells the format: 0x00 is Avro in the Confluent wire format (a schema id of four bytes follows), `{` after white
//! space is JSON. Anything else is [`Reason::Malformed`].
//!
//! # Invariants
//! - No input makes a decoder panic, overflow its stack or allocate more than [`ALLOCATION_BYTES_MAX`].
//! - [`DecodeError::RegistryUnavailable`] is never the record's fault: the caller pauses the partition and tries again.

use std::collections::HashMap;
use std::io::Read;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::types::Value;
use apache_avro::{Schema, from_value};
use bellwether_core::calendar::Entry;
use bellwether_core::event::{Event, Input, Outcome, Profile};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::Output;
use bellwether_core::reject::{Reason, Reject};
use schema_registry_converter::schema_registry_common::SchemaType;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::encode::OutputKind;
use crate::input::{
    CalendarRecord, EventRecord, OutcomeRecord, ProfileRecord, PromotionRecord, account_id,
    event_id,
};
use crate::output::{
    AlertRecord, LearningExampleRecord, ScoreChangedRecord, ScoreCurrentRecord, ShadowScoreRecord,
};
use crate::registry::{Registry, RegistryConfig, RegistryError};
use crate::scalar::Borrowed;
use crate::schema::{self, Contract};
use crate::sentiment::Sentiment;

/// The default size limit of a record.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// What one claimed length in an Avro record may allocate: a block of a container file is larger than a record.
pub const ALLOCATION_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How far this machine's clock may lag behind the brokers'. What was produced longer before the registry said that it has no
/// such schema cannot have been written with one that it has.
const CLOCKS_APART_MS: i64 = 60_000;
/// How long "there is no such schema" is believed at most: stamps may be those of producers, and a registry's copy may lag.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// How long the registry is left alone after it did not answer: at first, and at most. One that is silent costs its time-out.
const LEFT_ALONE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Schema ids remembered; far more than a topic ever has, so a flood of made-up ids stays bounded.
const WRITERS_MAX: usize = 1024;
/// Nesting of records, arrays and maps that a writer's schema may have; ours has three levels.
const SCHEMA_DEPTH_MAX: usize = 32;

/// Why there is no value. The variants are the caller's decisions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The record cannot be used: dead-letter it and go on.
    #[error(transparent)]
    Reject(#[from] Reject),
    /// The schema registry is needed and does not answer: pause the partition and decode this record again later.
    #[error("{0}")]
    RegistryUnavailable(String),
}

/// Decodes records. One for each worker thread; schemas that were fetched stay with it.
#[derive(Debug)]
pub struct Decoder {
    registry: Option<Registry>,
    record_bytes_max: usize,
    sentiment: Sentiment,
    writers: HashMap<(u32, &'static str), Writer>,
    /// When the log took the record that is decoded.
    received_ms: i64,
    /// The registry did not answer: why, until when it is left alone, and for how long the next time.
    away: Option<(String, Instant, Duration)>,
}

/// What is known of a schema id, for one contract.
#[derive(Debug, Clone)]
enum Writer {
    /// It is our own schema (as far as encoding goes).
    Same,
    /// Another one that resolves to ours.
    Other(Box<Schema>),
    /// One that does not: schemas never change, so this is final.
    Unusable(Reject),
    /// None, as of then (milliseconds since 1970, and by the process's clock).
    Unknown(Reject, i64, Instant),
}

impl Decoder {
    /// A decoder. Without a registry Confluent-framed Avro is rejected as [`Reason::UnknownSchema`]. `record_bytes_max` bounds the
    /// payload, e.g. [`RECORD_BYTES_MAX`].
    ///
    /// # Errors
    /// [`RegistryError::Config`] where the registry's configuration cannot work. The registry is not called yet.
    pub fn new(
        registry: Option<&RegistryConfig>,
        record_bytes_max: usize,
    ) -> Result<Decoder, RegistryError> {
        limit_allocations();
        Ok(Decoder {
            registry: registry.map(Registry::new).transpose()?,
            record_bytes_max,
            sentiment: Sentiment::new(),
            writers: HashMap::new(),
            received_ms: i64::MAX,
            away: None,
        })
    }

    /// Says when the log took the records that follow, in milliseconds since 1970: an unknown schema is asked for again, unless the
    /// record is older than the registry's last answer. Without this it is always asked for.
    pub fn set_received(&mut self, received_ms: i64) {
        self.received_ms = received_ms;
    }

    /// Decodes an event (`schemas/usage-event.avsc`). Where `value` is null and `type` begins with `support.`, the sentiment of `text`
    /// becomes the value.
    ///
    /// # Errors
    /// A typed reject, or the registry is unavailable.
    pub fn event(
        &mut self,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
    ) -> Result<Event, DecodeError> {
        let payload = self.whole(payload)?;
        let event = if let Some(framed) = payload.strip_prefix(&[0]) {
            let record: EventRecord<String> = self.avro(&schema::USAGE_EVENT, framed)?;
            record.check(&self.sentiment)?
        } else {
            let record: EventRecord<Borrowed<'_>> = json(payload)?;
            record.check(&self.sentiment)?
        };
        check_key(key, event.account.as_str())?;
        Ok(event)
    }

    /// Decodes a profile (`schemas/account-profile.avsc`).
    ///
    /// # Errors
    /// As [`Decoder::event`]; a tombstone is [`Reason::Empty`] (it is for [`Decoder::deletion`]).
    pub fn profile(
        &mut self,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
    ) -> Result<Profile, DecodeError> {
        let record: ProfileRecord = self.record(&schema::ACCOUNT_PROFILE, payload)?;
        let profile = record.check()?;
        check_key(key, profile.account.as_str())?;
        Ok(profile)
    }

    /// Decodes a tombstone of the profiles topic: everything that is known of the key's account is to be deleted.
    ///
    /// # Errors
    /// A typed reject where the key is no account id.
    pub fn deletion(key: Option<&[u8]>) -> Result<AccountId, DecodeError> {
        Ok(account_id(&deleted(key)?)?)
    }

    /// Decodes an entry of the calendar (`schemas/calendar-entry.avsc`); a tombstone removes that of its key.
    ///
    /// # Errors
    /// As [`Decoder::event`].
    pub fn calendar(
        &mut self,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
    ) -> Result<(EventId, Option<Entry>), DecodeError> {
        if payload.is_none() {
            return Ok((event_id("key", &deleted(key)?)?, None));
        }
        let record: CalendarRecord = self.record(&schema::CALENDAR_ENTRY, payload)?;
        let (id, entry) = record.check()?;
        check_key(key, id.as_str())?;
        Ok((id, Some(entry)))
    }

    /// Decodes the promotion of a model, or a challenger (`schemas/model-promotion.avsc`); a tombstone withdraws that of its key. What the
    /// model says is not looked at here.
    ///
    /// # Errors
    /// As [`Decoder::event`].
    pub fn promotion(
        &mut self,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
    ) -> Result<Input, DecodeError> {
        if payload.is_none() {
            let id = event_id("key", &deleted(key)?)?;
            return Ok(Input::Promotion { id, promotion: None });
        }
        let record: PromotionRecord = self.record(&schema::MODEL_PROMOTION, payload)?;
        let input = record.check()?;
        if let Input::Promotion { id, .. } | Input::Challenger { id, .. } = &input {
            check_key(key, id.as_str())?;
        }
        Ok(input)
    }

    /// Decodes an outcome (`schemas/outcome.avsc`).
    ///
    /// # Errors
    /// As [`Decoder::event`].
    pub fn outcome(
        &mut self,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
    ) -> Result<Outcome, DecodeError> {
        let record: OutcomeRecord = self.record(&schema::OUTCOME, payload)?;
        let outcome = record.check()?;
        check_key(key, outcome.account.as_str())?;
        Ok(outcome)
    }

    /// Reads an output record back: for consumers, verifiers and the read model.
    ///
    /// # Errors
    /// As [`Decoder::event`]; a word that this version does not know is [`Reason::InvalidField`].
    pub fn output(
        &mut self,
        kind: OutputKind,
        payload: Option<&[u8]>,
    ) -> Result<Output, DecodeError> {
        let contract = kind.contract();
        Ok(match kind {
            OutputKind::ScoreChanged => {
                let record: ScoreChangedRecord<'_> = self.record(contract, payload)?;
                Output::ScoreChanged(Box::new(record.check()?))
            }
            OutputKind::ScoreCurrent => {
                let record: ScoreCurrentRecord<'_> = self.record(contract, payload)?;
                Output::Health(Box::new(record.check()?))
            }
            OutputKind::Alert => {
                let record: AlertRecord<'_> = self.record(contract, payload)?;
                Output::Alert(Box::new(record.check()?))
            }
            OutputKind::Shadow => {
                let record: ShadowScoreRecord<'_> = self.record(contract, payload)?;
                Output::Shadow(Box::new(record.check()?))
            }
            OutputKind::Example => {
                let record: LearningExampleRecord<'_> = self.record(contract, payload)?;
                Output::Example(Box::new(record.check()?))
            }
        })
    }

    /// Reads an output record into a type of the caller's own: for those who are to understand records of newer versions, too, whose words
    /// [`Decoder::output`] would refuse. The serde names of the type are those of the schema.
    ///
    /// # Errors
    /// As [`Decoder::event`].
    pub fn output_as<T: DeserializeOwned>(
        &mut self,
        kind: OutputKind,
        payload: Option<&[u8]>,
    ) -> Result<T, DecodeError> {
        self.record(kind.contract(), payload)
    }

    fn record<T: DeserializeOwned>(
        &mut self,
        contract: &'static Contract,
        payload: Option<&[u8]>,
    ) -> Result<T, DecodeError> {
        let payload = self.whole(payload)?;
        match payload.strip_prefix(&[0]) {
            Some(framed) => self.avro(contract, framed),
            None => Ok(json(payload)?),
        }
    }

    /// A payload that is there and not too large.
    fn whole<'a>(&self, payload: Option<&'a [u8]>) -> Result<&'a [u8], Reject> {
        let payload = payload.unwrap_or_default();
        if payload.len() > self.record_bytes_max {
            let (length, limit) = (payload.len(), self.record_bytes_max);
            let detail = format!("the record has {length} bytes, at most {limit} are allowed");
            return Err(Reject::new(Reason::TooLarge, detail));
        }
        if payload.is_empty() {
            return Err(Reject::new(Reason::Empty, "the record has no payload"));
        }
        Ok(payload)
    }

    /// Decodes what follows the magic byte.
    fn avro<T: DeserializeOwned>(
        &mut self,
        contract: &'static Contract,
        framed: &[u8],
    ) -> Result<T, DecodeError> {
        let Some((id, datum)) = framed.split_first_chunk::<4>() else {
            return Err(malformed("the record breaks off within its schema id").into());
        };
        let value = match self.writer(u32::from_be_bytes(*id), contract)? {
            Writer::Same => exact(datum, |input| contract.reader().read_deser::<T>(input))?,
            Writer::Other(schema) => resolved(schema, contract, datum)?,
            Writer::Unusable(reject) | Writer::Unknown(reject, ..) => {
                return Err(reject.clone().into());
            }
        };
        Ok(value)
    }

    fn writer(&mut self, id: u32, contract: &'static Contract) -> Result<&Writer, DecodeError> {
        let slot = (id, contract.name());
        let stale = match self.writers.get(&slot) {
            None => true,
            Some(Writer::Unknown(_, asked_ms, asked)) => {
                self.received_ms.saturating_add(CLOCKS_APART_MS) > *asked_ms
                    || asked.elapsed() > UNKNOWN_FOR
            }
            Some(Writer::Same | Writer::Other(_) | Writer::Unusable(_)) => false,
        };
        if stale {
            let writer = self.ask(id, contract)?;
            if self.writers.len() >= WRITERS_MAX {
                self.writers.clear();
            }
            self.writers.insert(slot, writer);
        }
        Ok(&self.writers[&slot])
    }
}

impl Decoder {
    /// Asks the registry, unless it did not answer just now: many partitions may be waiting for it.
    fn ask(&mut self, id: u32, contract: &'static Contract) -> Result<Writer, DecodeError> {
        let pause = match &self.away {
            Some((why, until, _)) if Instant::now() < *until => {
                return Err(DecodeError::RegistryUnavailable(why.clone()));
            }
            Some((.., pause)) => (*pause * 2).min(LEFT_ALONE.1),
            None => LEFT_ALONE.0,
        };
        let answer = fetch(self.registry.as_ref(), id, contract);
        self.away = match &answer {
            Err(DecodeError::RegistryUnavailable(why)) => {
                Some((why.clone(), Instant::now() + pause, pause))
            }
            Ok(_) | Err(DecodeError::Reject(_)) => None,
        };
        answer
    }
}

/// Sets the process-wide limit of the Avro library; the first caller decides, and every caller here sets the same.
pub(crate) fn limit_allocations() {
    apache_avro::util::max_allocation_bytes(ALLOCATION_BYTES_MAX);
}

fn fetch(
    registry: Option<&Registry>,
    id: u32,
    contract: &'static Contract,
) -> Result<Writer, DecodeError> {
    // Before the question: what is registered while it is answered may be missed.
    let asked_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    let unknown = |detail: String| {
        Writer::Unknown(Reject::new(Reason::UnknownSchema, detail), asked_ms, Instant::now())
    };
    let Some(registry) = registry else {
        let detail = format!(
            "the record is Avro of schema id {id}, and no schema registry is configured; configure one, or send JSON"
        );
        return Ok(Writer::Unusable(Reject::new(Reason::UnknownSchema, detail)));
    };
    let registered = match registry.schema(id) {
        Ok(registered) => registered,
        Err(error @ RegistryError::UnknownSchema(_)) => return Ok(unknown(error.to_string())),
        Err(
            error @ (RegistryError::Unavailable(_)
            | RegistryError::Config(_)
            | RegistryError::Refused { .. }),
        ) => return Err(DecodeError::RegistryUnavailable(error.to_string())),
    };
    let unusable = |detail: String| {
        let detail = format!("schema id {id}: {detail}");
        Ok(Writer::Unusable(Reject::new(Reason::IncompatibleSchema, detail)))
    };
    if registered.schema_type != SchemaType::Avro {
        return unusable(format!("is {:?}; send Avro or JSON", registered.schema_type));
    }
    if !registered.references.is_empty() {
        return unusable("refers to other subjects; register it as one schema".to_owned());
    }
    let writer = match Schema::parse_str(&registered.schema) {
        Ok(writer) => writer,
        Err(error) => return unusable(format!("cannot be parsed: {error}")),
    };
    if writer == *contract.schema() {
        return Ok(Writer::Same);
    }
    match check_resolves(&writer, contract) {
        Ok(()) => Ok(Writer::Other(Box::new(writer))),
        Err(detail) => unusable(detail),
    }
}

/// Whether records of a writer's schema can be read as ours; otherwise why not.
pub(crate) fn check_resolves(writer: &Schema, contract: &Contract) -> Result<(), String> {
    check_depth(writer, 0)?;
    SchemaCompatibility::can_read(writer, contract.schema())
        .map(|_| ())
        .map_err(|error| format!("does not resolve to schemas/{}.avsc: {error}", contract.name()))
}

/// Records of a recursive schema nest as deep as their bytes say, and decoding them recurses: no record of ours needs one.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other types have no parts")]
fn check_depth(schema: &Schema, depth: usize) -> Result<(), String> {
    if depth > SCHEMA_DEPTH_MAX {
        return Err(format!("nests deeper than {SCHEMA_DEPTH_MAX} levels"));
    }
    match schema {
        Schema::Record(record) => {
            record.fields.iter().try_for_each(|field| check_depth(&field.schema, depth + 1))
        }
        Schema::Array(array) => check_depth(&array.items, depth + 1),
        Schema::Map(map) => check_depth(&map.types, depth + 1),
        Schema::Union(union) => {
            union.variants().iter().try_for_each(|variant| check_depth(variant, depth + 1))
        }
        Schema::Ref { name } => Err(format!(
            "uses type {name} more than once by name; write it out, recursion is not supported"
        )),
        _ => Ok(()),
    }
}

/// Reads a datum of another schema than ours; the two are known to resolve.
fn resolved<T: DeserializeOwned>(
    writer: &Schema,
    contract: &Contract,
    datum: &[u8],
) -> Result<T, Reject> {
    let incompatible =
        |error: apache_avro::Error| Reject::new(Reason::IncompatibleSchema, error.to_string());
    let reader = GenericDatumReader::builder(writer).build().map_err(incompatible)?;
    from_written(exact(datum, |input| reader.read_value(input))?, contract)
}

/// A value as it was written, resolved to our schema, as a record of ours. A value that the schemas allow and ours does not hold (a null
/// for a required field) is an invalid field.
pub(crate) fn from_written<T: DeserializeOwned>(
    value: Value,
    contract: &Contract,
) -> Result<T, Reject> {
    let Value::Record(fields) = value else {
        return Err(Reject::new(Reason::IncompatibleSchema, "the value is no record"));
    };
    let fields = fields.into_iter().map(|(name, value)| (name, in_millis(value))).collect();
    Value::Record(fields)
        .resolve(contract.schema())
        .and_then(|value| from_value::<T>(&value))
        .map_err(|error| Reject::new(Reason::InvalidField, error.to_string()))
}

/// Spark and Flink write instants in microseconds; Avro's resolution rules would take the bare number for milliseconds.
#[expect(clippy::wildcard_enum_match_arm, reason = "other values are no instants")]
fn in_millis(value: Value) -> Value {
    match value {
        Value::TimestampMicros(us) => Value::TimestampMillis(us.div_euclid(1000)),
        Value::TimestampNanos(ns) => Value::TimestampMillis(ns.div_euclid(1_000_000)),
        Value::Union(index, inner) => Value::Union(index, Box::new(in_millis(*inner))),
        other => other,
    }
}

/// Runs a decoder over a datum that it has to use up exactly. The Avro library reads nulls where the bytes end early, so a truncated
/// record would pass as one with fewer fields.
fn exact<T>(
    datum: &[u8],
    read: impl FnOnce(&mut Datum<'_>) -> Result<T, apache_avro::Error>,
) -> Result<T, Reject> {
    let mut input = Datum { rest: datum, short: false };
    let result = read(&mut input);
    if input.short {
        return Err(malformed("the Avro record breaks off"));
    }
    let value =
        result.map_err(|error| malformed(&format!("the Avro record cannot be read: {error}")))?;
    if !input.rest.is_empty() {
        let count = input.rest.len();
        return Err(malformed(&format!(
            "{count} bytes follow the Avro record; was it written with another schema?"
        )));
    }
    Ok(value)
}

/// The bytes of a datum; remembers whether more were wanted than there are.
struct Datum<'a> {
    rest: &'a [u8],
    short: bool,
}

impl Read for Datum<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(self.rest.len());
        self.short |= count < buffer.len();
        let (taken, rest) = self.rest.split_at(count);
        buffer[..count].copy_from_slice(taken);
        self.rest = rest;
        Ok(count)
    }
}

/// Reads one JSON object. Nesting is bounded by the parser (128 levels).
pub(crate) fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Reject> {
    // Serde would also read a list, its items for the fields in their order.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        let first = bytes.first().copied().unwrap_or_default();
        return Err(malformed(&format!(
            "the first byte is {first:#04x}; send a JSON object, or Avro framed by a schema registry's serializer (0x00)"
        )));
    }
    // Text is checked once and as a whole, which is faster than value by value. Bytes that are no text are left to the parser, which
    // says where.
    let read = match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(bytes),
    };
    read.map_err(|error| {
        let detail = error.to_string();
        let reason = if error.is_data() {
            Reason::InvalidField
        } else if detail.starts_with("number out of range") {
            // The parser has no kind of its own for 1e999; a test pins the words.
            Reason::OutOfRange
        } else {
            Reason::Malformed
        };
        Reject::new(reason, detail)
    })
}

fn malformed(detail: &str) -> Reject {
    Reject::new(Reason::Malformed, detail)
}

/// Records of an account (or entry) must meet in one partition, so a key that names another one is an error of the producer. Accepted are
/// the id as plain text, as a JSON string, and as an Avro string in the Confluent wire format. A key that is no text is not checked.
fn check_key(key: Option<&[u8]>, account: &str) -> Result<(), Reject> {
    let Some(key) = key else { return Ok(()) };
    if key == account.as_bytes() {
        return Ok(());
    }
    let Some(named) = key_text(key) else { return Ok(()) };
    if named == account || unquoted(&named).as_deref() == Some(account) {
        return Ok(());
    }
    let detail =
        format!("the key is {:?}, the record is of {account:?}", crate::scalar::cut(&named, 64));
    Err(Reject::new(Reason::KeyMismatch, detail))
}

/// What a tombstone deletes.
fn deleted(key: Option<&[u8]>) -> Result<String, Reject> {
    let empty = || Reject::new(Reason::Empty, "the record has neither key nor payload");
    let key = key.ok_or_else(empty)?;
    let text = key_text(key).ok_or_else(|| {
        Reject::new(
            Reason::InvalidId,
            "the key of a tombstone names what it deletes, this is no text",
        )
    })?;
    Ok(unquoted(&text).unwrap_or(text))
}

/// A key as text: an Avro string in the Confluent wire format, or plain UTF-8; none where it is neither.
fn key_text(key: &[u8]) -> Option<String> {
    framed_string(key).or_else(|| std::str::from_utf8(key).ok().map(str::to_owned))
}

/// What a key that is a JSON string says.
fn unquoted(text: &str) -> Option<String> {
    text.starts_with('"').then(|| serde_json::from_str(text).ok()).flatten()
}

/// An Avro string behind a magic byte and a schema id; none where the key is something else.
fn framed_string(key: &[u8]) -> Option<String> {
    let datum = key.strip_prefix(&[0])?.get(4..)?;
    let reader = GenericDatumReader::builder(&Schema::String).build().ok()?;
    let value = exact(datum, |input| reader.read_value(input)).ok()?;
    let Value::String(text) = value else { return None };
    Some(text)
}
