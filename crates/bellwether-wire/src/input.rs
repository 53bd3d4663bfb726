//! Input records as they stand on the wire, and the one place that checks them against their documented ranges. The serde names are the
//! schemas' record names: the Avro library checks them.

use std::collections::BTreeMap;

use bellwether_core::calendar::{ENTRY_DAYS_MAX, Entry, Scope, Span};
use bellwether_core::event::{Event, Input, Outcome, OutcomeKind, Profile, VALUE_ABS_MAX};
use bellwether_core::id::{AccountId, EventId, ID_BYTES_MAX, IdError, MemberId, has_control};
use bellwether_core::promotion::Promotion;
use bellwether_core::reject::{Reason, Reject};
use bellwether_core::time::{DAY_MS, Day, Millis, YearDay};
use serde::Deserialize;
use serde::de::value::{Error as WordError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::scalar::{InstantMs, IsoDay, cut};
use crate::sentiment::Sentiment;

/// Entitlements that a profile may name.
const ENTITLEMENTS_MAX: usize = 64;
/// Bytes of a remark that are kept.
const NOTE_BYTES_MAX: usize = 4096;
/// The same for a remark that is published with every record of an account.
const REMARK_BYTES_MAX: usize = 256;
/// Events whose text is read for its sentiment.
const SENTIMENT_PREFIX: &str = "support.";

/// `usage-event.avsc`, with its texts as `T`: owned, or [`Borrowed`] from the record where most of them are only looked at. The aliases
/// are the column names of the evaluation files.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "UsageEvent")]
pub(crate) struct EventRecord<T> {
    pub(crate) event_id: T,
    pub(crate) account_id: T,
    #[serde(rename = "type", alias = "signal")]
    pub(crate) kind: T,
    pub(crate) occurred_at: InstantMs,
    #[serde(default = "none", alias = "user_id")]
    pub(crate) member_id: Option<T>,
    #[serde(default = "none")]
    pub(crate) member_role: Option<T>,
    #[serde(default = "none", alias = "object")]
    pub(crate) feature: Option<T>,
    #[serde(default = "none", alias = "cohort")]
    pub(crate) segment: Option<T>,
    #[serde(default)]
    pub(crate) value: Option<f64>,
    #[serde(default = "none")]
    pub(crate) text: Option<T>,
}

fn none<T>() -> Option<T> {
    None
}

impl<T: AsRef<str> + Into<String>> EventRecord<T> {
    pub(crate) fn check(self, sentiment: &Sentiment) -> Result<Event, Reject> {
        let value = match (self.value, &self.text) {
            (None, Some(text)) if self.kind.as_ref().starts_with(SENTIMENT_PREFIX) => {
                sentiment.score(text.as_ref())
            }
            (value, _) => value,
        };
        let owned = |text: Option<T>| text.map(Into::into);
        Ok(Event {
            id: event_id("event_id", self.event_id.as_ref())?,
            account: account_id(self.account_id.as_ref())?,
            occurred_at: instant("occurred_at", self.occurred_at)?,
            kind: required("type", self.kind.into())?,
            member: member_id(self.member_id.as_ref().map(AsRef::as_ref))?,
            role: optional("member_role", owned(self.member_role))?,
            feature: optional("feature", owned(self.feature))?,
            value: value.map(|value| number("value", value)).transpose()?,
            segment: optional("segment", owned(self.segment))?,
        })
    }
}

/// `account-profile.avsc`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "AccountProfile")]
pub(crate) struct ProfileRecord {
    account_id: String,
    as_of: InstantMs,
    #[serde(default)]
    name: Option<String>,
    #[serde(default, alias = "cohort")]
    segment: Option<String>,
    #[serde(default)]
    plan: Option<String>,
    #[serde(default)]
    time_zone: Option<String>,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    started_on: Option<IsoDay>,
    #[serde(default)]
    renews_on: Option<IsoDay>,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default)]
    annual_value_usd: Option<f64>,
    #[serde(default)]
    entitlements: BTreeMap<String, f64>,
    #[serde(default)]
    fiscal_year_end: Option<String>,
}

impl ProfileRecord {
    pub(crate) fn check(self) -> Result<Profile, Reject> {
        if self.entitlements.len() > ENTITLEMENTS_MAX {
            let count = self.entitlements.len();
            let detail =
                format!("entitlements has {count} names, at most {ENTITLEMENTS_MAX} are allowed");
            return Err(Reject::new(Reason::OutOfRange, detail));
        }
        let mut entitlements = BTreeMap::new();
        for (name, amount) in self.entitlements {
            let amount = number(&format!("entitlements.{name}"), amount)?;
            entitlements.insert(required("an entitlement's name", name)?, amount);
        }
        Ok(Profile {
            account: account_id(&self.account_id)?,
            as_of: instant("as_of", self.as_of)?,
            name: optional("name", self.name)?,
            segment: optional("segment", self.segment)?,
            plan: optional("plan", self.plan)?,
            time_zone: optional("time_zone", self.time_zone)?,
            region: optional("region", self.region)?,
            started_on: self.started_on.map(|day| date("started_on", day)).transpose()?,
            renews_on: self.renews_on.map(|day| date("renews_on", day)).transpose()?,
            owner: optional("owner", self.owner)?,
            annual_value_usd: self
                .annual_value_usd
                .map(|value| number("annual_value_usd", value))
                .transpose()?,
            entitlements,
            fiscal_year_end: self.fiscal_year_end.as_deref().map(year_day).transpose()?,
        })
    }
}

/// A day of the year.
fn year_day(text: &str) -> Result<YearDay, Reject> {
    YearDay::parse(text).ok_or_else(|| {
        let text = cut(text, 64);
        invalid(format!("fiscal_year_end is {text:?}; allowed is month and day, e.g. `03-31`"))
    })
}

/// `outcome.avsc`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "Outcome")]
pub(crate) struct OutcomeRecord {
    pub(crate) outcome_id: String,
    pub(crate) account_id: String,
    pub(crate) occurred_at: InstantMs,
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) alert_id: Option<String>,
    #[serde(default)]
    pub(crate) until: Option<InstantMs>,
    #[serde(default)]
    pub(crate) by: Option<String>,
    #[serde(default)]
    pub(crate) note: Option<String>,
}

impl OutcomeRecord {
    pub(crate) fn check(self) -> Result<Outcome, Reject> {
        let kind = word::<OutcomeKind>("kind", &self.kind)?;
        if (kind == OutcomeKind::Snoozed) != self.until.is_some() {
            return Err(invalid("until is for kind `snoozed`, which needs it"));
        }
        Ok(Outcome {
            id: event_id("outcome_id", &self.outcome_id)?,
            account: account_id(&self.account_id)?,
            occurred_at: instant("occurred_at", self.occurred_at)?,
            kind,
            alert_id: optional("alert_id", self.alert_id)?,
            until: self.until.map(|until| instant("until", until)).transpose()?,
            by: optional("by", self.by)?,
            note: self.note.map(|note| cut(&note, NOTE_BYTES_MAX).to_owned()),
        })
    }
}

/// `calendar-entry.avsc`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "CalendarEntry")]
pub(crate) struct CalendarRecord {
    pub(crate) entry_id: String,
    scope: String,
    #[serde(default)]
    key: Option<String>,
    from: IsoDay,
    to: IsoDay,
    kind: String,
    #[serde(default)]
    note: Option<String>,
}

impl CalendarRecord {
    pub(crate) fn check(self) -> Result<(EventId, Entry), Reject> {
        let key = optional("key", self.key)?;
        let scope = match (self.scope.as_str(), key) {
            ("account", Some(key)) => {
                Scope::Account(AccountId::new(&key).map_err(|error| invalid_id("key", error))?)
            }
            ("region", Some(key)) => Scope::Region(key),
            ("all", None) => Scope::All,
            ("all", Some(_)) => return Err(invalid("key must be null where scope is `all`")),
            ("account" | "region", None) => {
                return Err(invalid(format!("key must name the {}", self.scope)));
            }
            (scope, _) => {
                let scope = cut(scope, 64);
                return Err(invalid(format!(
                    "scope is {scope:?}; allowed are `account`, `region`, `all`"
                )));
            }
        };
        let (from, to) = (date("from", self.from)?, date("to", self.to)?);
        let days = to.since(from) + 1;
        if !(1..=ENTRY_DAYS_MAX).contains(&days) {
            let detail =
                format!("from {from} to {to} are {days} days; allowed are 1 to {ENTRY_DAYS_MAX}");
            return Err(Reject::new(Reason::OutOfRange, detail));
        }
        let note = self.note.filter(|note| !note.is_empty());
        let span = Span {
            from,
            to,
            kind: required("kind", self.kind)?,
            note: note.map(|note| cut(&note, REMARK_BYTES_MAX).to_owned()),
        };
        Ok((event_id("entry_id", &self.entry_id)?, Entry { scope, span }))
    }
}

/// `model-promotion.avsc`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "ModelPromotion")]
pub(crate) struct PromotionRecord {
    promotion_id: String,
    from: InstantMs,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    shadow: bool,
}

impl PromotionRecord {
    /// A promotion, or a challenger.
    pub(crate) fn check(self) -> Result<Input, Reject> {
        let id = event_id("promotion_id", &self.promotion_id)?;
        let from = instant("from", self.from)?;
        let by = optional("by", self.by)?;
        let promotion = Promotion { from, model: self.model, by, began: None };
        Ok(if self.shadow {
            Input::Challenger { id, challenger: promotion }
        } else {
            Input::Promotion { id, promotion: Some(promotion) }
        })
    }
}

/// Reads one word of a closed list.
pub(crate) fn word<T: DeserializeOwned>(field: &str, text: &str) -> Result<T, Reject> {
    let deserializer: StrDeserializer<'_, WordError> = text.into_deserializer();
    T::deserialize(deserializer).map_err(|error| invalid(format!("{field}: {error}")))
}

pub(crate) fn invalid(detail: impl Into<String>) -> Reject {
    Reject::new(Reason::InvalidField, detail)
}

pub(crate) fn account_id(text: &str) -> Result<AccountId, Reject> {
    AccountId::new(text).map_err(|error| invalid_id("account_id", error))
}

pub(crate) fn event_id(field: &str, text: &str) -> Result<EventId, Reject> {
    EventId::new(text).map_err(|error| invalid_id(field, error))
}

fn member_id(text: Option<&str>) -> Result<Option<MemberId>, Reject> {
    match text {
        Some(text) if !text.is_empty() => {
            MemberId::new(text).map(Some).map_err(|error| invalid_id("member_id", error))
        }
        Some(_) | None => Ok(None),
    }
}

fn invalid_id(field: &str, error: IdError) -> Reject {
    Reject::new(Reason::InvalidId, format!("{field}: {error}"))
}

/// A text that becomes part of persisted keys: bounded, without control characters.
fn required(field: &str, text: String) -> Result<String, Reject> {
    if text.is_empty() {
        return Err(invalid(format!("{field} must not be empty")));
    }
    if text.len() > ID_BYTES_MAX {
        let length = text.len();
        return Err(invalid(format!(
            "{field} has {length} bytes, at most {ID_BYTES_MAX} are allowed"
        )));
    }
    if has_control(&text) {
        return Err(invalid(format!("{field} must not hold control characters")));
    }
    Ok(text)
}

/// As [`required`]; an empty text is none.
fn optional(field: &str, text: Option<String>) -> Result<Option<String>, Reject> {
    text.filter(|text| !text.is_empty()).map(|text| required(field, text)).transpose()
}

fn instant(field: &str, at: InstantMs) -> Result<Millis, Reject> {
    let InstantMs(at) = at;
    if (Millis::MIN..=Millis::MAX).contains(&at) {
        return Ok(at);
    }
    let detail = format!("{field} is {at}; allowed are {} to {}", Millis::MIN, Millis::MAX);
    Err(Reject::new(Reason::OutOfRange, detail))
}

/// Customers may be older than computers, so days reach as far before 1970 as after it.
fn date(field: &str, day: IsoDay) -> Result<Day, Reject> {
    let IsoDay(day) = day;
    if i64::from(day.0).abs() <= Millis::MAX.0 / DAY_MS {
        return Ok(day);
    }
    Err(Reject::new(Reason::OutOfRange, format!("{field} is {} days from 1970-01-01", day.0)))
}

fn number(field: &str, value: f64) -> Result<f64, Reject> {
    if !value.is_finite() {
        return Err(Reject::new(
            Reason::NonFinite,
            format!("{field} is {value}; it must be finite"),
        ));
    }
    if value.abs() > VALUE_ABS_MAX {
        let detail =
            format!("{field} is {value:e}; at most {VALUE_ABS_MAX:e} in magnitude is allowed");
        return Err(Reject::new(Reason::OutOfRange, detail));
    }
    Ok(value)
}
