//! Scalars on the wire: instants and days are ISO-8601 text in JSON, integers with a logical type in Avro; texts are bounded.

use std::borrow::Cow;
use std::fmt;

use bellwether_core::time::{Day, Millis, Zone};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// The beginning of a text, at most `bytes_max` bytes, never half a character.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    let end =
        (0..=bytes_max.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}

/// A text that is borrowed from the bytes it is read from, unless it has escapes in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Borrowed<'a>(Cow<'a, str>);

impl AsRef<str> for Borrowed<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<Borrowed<'_>> for String {
    fn from(text: Borrowed<'_>) -> String {
        text.0.into_owned()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Borrowed<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(BorrowedVisitor)
    }
}

struct BorrowedVisitor;

impl<'de> Visitor<'de> for BorrowedVisitor {
    type Value = Borrowed<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As serde says it of an owned one.
        formatter.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Borrowed<'de>, E> {
        Ok(Borrowed(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Borrowed<'de>, E> {
        Ok(Borrowed(Cow::Owned(text.to_owned())))
    }
}

/// An instant: Avro `timestamp-millis`; in JSON written as ISO-8601, read as that or as epoch milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct InstantMs(pub(crate) Millis);

impl Serialize for InstantMs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.0.iso())
        } else {
            serializer.serialize_i64(self.0.0)
        }
    }
}

impl<'de> Deserialize<'de> for InstantMs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(InstantVisitor)
        } else {
            deserializer.deserialize_i64(InstantVisitor)
        }
    }
}

struct InstantVisitor;

impl Visitor<'_> for InstantVisitor {
    type Value = InstantMs;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "an instant: ISO-8601 with an offset or `Z`, or milliseconds since the epoch",
        )
    }

    fn visit_i64<E: de::Error>(self, ms: i64) -> Result<InstantMs, E> {
        Ok(InstantMs(Millis(ms)))
    }

    fn visit_u64<E: de::Error>(self, ms: u64) -> Result<InstantMs, E> {
        // Saturation leaves it outside the documented range, where validation finds it.
        Ok(InstantMs(Millis(i64::try_from(ms).unwrap_or(i64::MAX))))
    }

    /// Python's `time.time() * 1000` is a float; a fraction of a millisecond is dropped.
    fn visit_f64<E: de::Error>(self, ms: f64) -> Result<InstantMs, E> {
        // The cast saturates (Rust reference, numeric casts); NaN does not occur in JSON.
        Ok(InstantMs(Millis(ms.floor() as i64)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<InstantMs, E> {
        Millis::parse(text)
            .map(InstantMs)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// A day: Avro `date`; in JSON ISO-8601.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct IsoDay(pub(crate) Day);

impl Serialize for IsoDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.0.iso())
        } else {
            serializer.serialize_i32(self.0.0)
        }
    }
}

impl<'de> Deserialize<'de> for IsoDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(DayVisitor)
        } else {
            deserializer.deserialize_i32(DayVisitor)
        }
    }
}

struct DayVisitor;

impl Visitor<'_> for DayVisitor {
    type Value = IsoDay;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a day in ISO-8601, e.g. 2026-03-01")
    }

    fn visit_i32<E: de::Error>(self, days: i32) -> Result<IsoDay, E> {
        Ok(IsoDay(Day(days)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<IsoDay, E> {
        text.parse::<Date>()
            .and_then(|date| date.to_zoned(TimeZone::UTC))
            .map(|midnight| IsoDay(Zone::UTC.day(Millis(midnight.timestamp().as_millisecond()))))
            .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}
