//! Keys and values of the rows. They are the same in RocksDB and in the state changelog.
//!
//! | key | value |
//! |---|---|
//! | `A` account `00` `01` | [`Hot`](bellwether_core::account::Hot) |
//! | `A` account `00` `02` | [`History`](bellwether_core::history::History) |
//! | `A` account `00` `03` | [`Profile`](bellwether_core::event::Profile) |
//! | `A` account `00` `04` signal (u32, big-endian) value | [`Activity`](bellwether_core::history::Activity) |
//! | `A` account `00` `06` signal (u32, big-endian) | [`Watched`](bellwether_core::account::Watched) |
//! | `A` account `00` `08` | what of the calendar concerns the account: [`Span`](bellwether_core::calendar::Span)s |
//! | `A` account `00` `09` | changes of level: [`Change`](bellwether_core::rebaseline::Change)s |
//! | `A` account `00` `07` | [`Forecast`](bellwether_core::forecast::Forecast) |
//! | `A` account `00` `05` | what of [`History`](bellwether_core::history::History) came before its rings |
//! | `A` account `00` `10` | [`Own`](bellwether_core::chance::Own) |
//! | `A` account `00` `12` | lines of a learned score: [`Line`](bellwether_core::standing::Line)s |
//! | `A` account `00` `13` | latest alerts: [`Raised`](bellwether_core::feedback::Raised) |
//! | `A` account `00` `14` | what alerts went through: [`Life`](bellwether_core::life::Life) |
//! | `A` account `00` `21` | [`Rolling`](bellwether_core::rolling::Rolling) |
//! | `A` account `00` `22` | what changed of that since it was written ([`Rolling::recent`](bellwether_core::rolling::Rolling::recent)) |
//! | `A` account `00` `20` | what a challenger was last published to say: [`Shadow`](bellwether_core::shadow::Shadow) |
//! | `A` account `00` `23` | what a learned scorecard said: [`Predicted`](bellwether_core::ranking::Predicted) |
//! | `C` | [`Clock`](bellwether_core::state::Clock) |
//! | `M` promotion id | [`Promotion`](bellwether_core::promotion::Promotion) of a model |
//! | `N` challenger id | [`Promotion`](bellwether_core::promotion::Promotion) of a model beside the champion |
//! | `E` entry id | [`Entry`](bellwether_core::calendar::Entry) of the calendar |
//! | `D` `01` cohort `00` day (i64, sortable) | [`CohortDay`](bellwether_core::cohort::CohortDay) |
//! | `D` `02` cohort `00` hour (i64, sortable) | [`CohortHour`](bellwether_core::cohort::CohortHour) |
//! | `D` `03` cohort `00` day (i64, sortable) | [`DayTotal`](bellwether_core::cohort::DayTotal) |
//! | `D` `04` cohort `00` hour or day (`00` or `01`, i64, sortable) partition (u32, big-endian) | [`Part`](bellwether_core::fleet::Part) |
//! | `D` `05` cohort `00` | [`FleetState`](bellwether_core::fleet::FleetState) |
//! | `D` `06` cohort `00` | until when alerts are held back |
//! | `D` `07` cohort `00` period (i64, sortable) | [`Tally`](bellwether_core::chance::Tally) |
//! | `D` `08` cohort `00` | [`Results`](bellwether_core::feedback::Results) |
//! | `D` `09` cohort `00` day (i64, sortable) | [`PlansDay`](bellwether_core::tiers::PlansDay) |
//!
//! Identifiers hold no control characters, so `00` ends one safely, and no account's rows lie between another's.
//! **Key bytes never change meaning**; a new kind of row gets a new byte, and is written from a new [`format`](crate::format) on only. A value
//! is a version byte and postcard, or for some kinds a later format. A kind that is not known is of a newer version, and no damage.

use bellwether_core::account::{ActivityKey, Row, SignalKey};
use bellwether_core::cohort::{CohortKey, CohortRow};
use bellwether_core::event::Profile;
use bellwether_core::fleet::Period;
use bellwether_core::id::{AccountId, EventId, is_identifier};
use bellwether_core::standing::Line;
use bellwether_core::time::{Day, YearDay};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::format::Format;

/// The version of values that are postcard: of every kind of row at first, and of most to this day.
pub(crate) const VALUE_VERSION: u8 = 1;

const TAG_ACCOUNT: u8 = b'A';
const TAG_CLOCK: u8 = b'C';
const TAG_COHORT: u8 = b'D';
const TAG_CALENDAR: u8 = b'E';
const TAG_PROMOTION: u8 = b'M';
const TAG_CHALLENGER: u8 = b'N';
const TERMINATOR: u8 = 0;
const KIND_HOT: u8 = 1;
const KIND_HISTORY: u8 = 2;
const KIND_PROFILE: u8 = 3;
const KIND_ACTIVITY: u8 = 4;
const KIND_OLDER: u8 = 5;
const KIND_WATCHED: u8 = 6;
const KIND_OWN: u8 = 0x10;
const KIND_STANDING: u8 = 0x12;
const KIND_RAISED: u8 = 0x13;
const KIND_LIVES: u8 = 0x14;
const KIND_ROLLING: u8 = 0x21;
/// Behind the row that it is put over.
const KIND_RECENT: u8 = 0x22;
const KIND_SHADOW: u8 = 0x20;
const KIND_PREDICTED: u8 = 0x23;
const KIND_MASKED: u8 = 8;
const KIND_CHANGES: u8 = 9;
const KIND_FORECAST: u8 = 7;
const COHORT_DAY: u8 = 1;
const COHORT_HOUR: u8 = 2;
const COHORT_TOTAL: u8 = 3;
const COHORT_PART: u8 = 4;
const COHORT_FLEET: u8 = 5;
const COHORT_HOLD: u8 = 6;
const COHORT_CHANCE: u8 = 7;
const COHORT_RESULTS: u8 = 8;
const COHORT_PLANS: u8 = 9;
const PERIOD_HOUR: u8 = 0;
const PERIOD_DAY: u8 = 1;

/// The key of the partition's clock.
pub(crate) const CLOCK_KEY: &[u8] = &[TAG_CLOCK];
/// Where account rows begin, and end (exclusive).
pub(crate) const ACCOUNTS_BEGIN: &[u8] = &[TAG_ACCOUNT];
/// See [`ACCOUNTS_BEGIN`].
pub(crate) const ACCOUNTS_END: &[u8] = &[TAG_ACCOUNT + 1];

/// Where rows of cohorts begin, and end (exclusive).
pub(crate) const COHORTS_BEGIN: &[u8] = &[TAG_COHORT];
/// See [`COHORTS_BEGIN`].
pub(crate) const COHORTS_END: &[u8] = &[TAG_COHORT + 1];

/// Where entries of the calendar begin, and end (exclusive).
pub(crate) const CALENDAR_BEGIN: &[u8] = &[TAG_CALENDAR];
/// See [`CALENDAR_BEGIN`].
pub(crate) const CALENDAR_END: &[u8] = &[TAG_CALENDAR + 1];

/// Where promotions begin, and end (exclusive).
pub(crate) const PROMOTIONS_BEGIN: &[u8] = &[TAG_PROMOTION];
/// See [`PROMOTIONS_BEGIN`].
pub(crate) const PROMOTIONS_END: &[u8] = &[TAG_PROMOTION + 1];

/// Where challengers begin, and end (exclusive).
pub(crate) const CHALLENGERS_BEGIN: &[u8] = &[TAG_CHALLENGER];
/// See [`CHALLENGERS_BEGIN`].
pub(crate) const CHALLENGERS_END: &[u8] = &[TAG_CHALLENGER + 1];

/// Which row of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccountRow {
    Hot,
    History,
    Profile,
    Activity(ActivityKey),
    Older,
    Watched(SignalKey),
    Own,
    Standing,
    Raised,
    Lives,
    Rolling,
    /// What changed of rolling sums since their row was written.
    Recent,
    Shadow,
    Masked,
    Changes,
    Forecast,
    Predicted,
}

impl From<Row> for AccountRow {
    fn from(row: Row) -> AccountRow {
        match row {
            Row::Hot => AccountRow::Hot,
            Row::History => AccountRow::History,
            Row::Profile => AccountRow::Profile,
            Row::Own => AccountRow::Own,
            Row::Standing => AccountRow::Standing,
            Row::Raised => AccountRow::Raised,
            Row::Lives => AccountRow::Lives,
            Row::Rolling => AccountRow::Rolling,
            Row::Shadow => AccountRow::Shadow,
            Row::Masked => AccountRow::Masked,
            Row::Changes => AccountRow::Changes,
            Row::Forecast => AccountRow::Forecast,
            Row::Predicted => AccountRow::Predicted,
        }
    }
}

/// A key, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RowKey {
    Clock,
    Account(AccountId, AccountRow),
    Cohort(String, CohortKey),
    Calendar(EventId),
    Promotion(EventId),
    Challenger(EventId),
}

/// The key of an entry of the calendar.
pub(crate) fn calendar_key(id: &EventId) -> Vec<u8> {
    [CALENDAR_BEGIN, id.as_str().as_bytes()].concat()
}

/// The key of a promotion.
pub(crate) fn promotion_key(id: &EventId) -> Vec<u8> {
    [PROMOTIONS_BEGIN, id.as_str().as_bytes()].concat()
}

/// The key of a challenger.
pub(crate) fn challenger_key(id: &EventId) -> Vec<u8> {
    [CHALLENGERS_BEGIN, id.as_str().as_bytes()].concat()
}

/// The key of a cohort's row. The kind comes first, so that the length of what follows the name is known, whatever the name holds.
pub(crate) fn cohort_key(name: &str, key: CohortKey) -> Vec<u8> {
    let (kind, rest) = match key {
        CohortKey::Day(day) => (COHORT_DAY, sortable(day.0.into()).to_vec()),
        CohortKey::Hour(hour) => (COHORT_HOUR, sortable(hour).to_vec()),
        CohortKey::Total(day) => (COHORT_TOTAL, sortable(day.0.into()).to_vec()),
        CohortKey::Part(period, source) => {
            let (which, number) = match period {
                Period::Hour(hour) => (PERIOD_HOUR, hour),
                Period::Day(day) => (PERIOD_DAY, day.0.into()),
            };
            let mut rest = vec![which];
            rest.extend_from_slice(&sortable(number));
            rest.extend_from_slice(&source.to_be_bytes());
            (COHORT_PART, rest)
        }
        CohortKey::Fleet => (COHORT_FLEET, Vec::new()),
        CohortKey::Hold => (COHORT_HOLD, Vec::new()),
        CohortKey::Chance(period) => (COHORT_CHANCE, sortable(period).to_vec()),
        CohortKey::Results => (COHORT_RESULTS, Vec::new()),
        CohortKey::Plans(day) => (COHORT_PLANS, sortable(day.0.into()).to_vec()),
    };
    let mut bytes = vec![TAG_COHORT, kind];
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(TERMINATOR);
    bytes.extend_from_slice(&rest);
    bytes
}

/// How many bytes follow the name of a cohort in the key of a kind of row.
fn after_name(kind: u8) -> Option<usize> {
    match kind {
        COHORT_DAY | COHORT_HOUR | COHORT_TOTAL | COHORT_CHANCE | COHORT_PLANS => Some(8),
        COHORT_PART => Some(13),
        COHORT_FLEET | COHORT_HOLD | COHORT_RESULTS => Some(0),
        _ => None,
    }
}

fn read_cohort_key(kind: u8, rest: &[u8]) -> Option<(String, CohortKey)> {
    let length = after_name(kind)?;
    let (name, rest) = rest.split_at_checked(rest.len().checked_sub(length)?)?;
    let (&TERMINATOR, name) = name.split_last()? else { return None };
    let number = |bytes: &[u8]| Some(from_sortable(*bytes.first_chunk::<8>()?));
    let day = |bytes: &[u8]| Some(Day(i32::try_from(number(bytes)?).ok()?));
    let key = match kind {
        COHORT_DAY => CohortKey::Day(day(rest)?),
        COHORT_HOUR => CohortKey::Hour(number(rest)?),
        COHORT_TOTAL => CohortKey::Total(day(rest)?),
        COHORT_PART => {
            let (which, rest) = rest.split_first()?;
            let period = match *which {
                PERIOD_HOUR => Period::Hour(number(rest)?),
                PERIOD_DAY => Period::Day(day(rest)?),
                _ => return None,
            };
            CohortKey::Part(period, u32::from_be_bytes(*rest.last_chunk::<4>()?))
        }
        COHORT_CHANCE => CohortKey::Chance(number(rest)?),
        COHORT_FLEET => CohortKey::Fleet,
        COHORT_RESULTS => CohortKey::Results,
        COHORT_PLANS => CohortKey::Plans(day(rest)?),
        _ => CohortKey::Hold,
    };
    Some((std::str::from_utf8(name).ok()?.to_owned(), key))
}

/// A row of a cohort as bytes.
pub(crate) fn encode_cohort(row: &CohortRow) -> Vec<u8> {
    match row {
        CohortRow::Day(row) => encode(row),
        CohortRow::Hour(row) => encode(row),
        CohortRow::Total(row) => encode(row),
        CohortRow::Part(row) => encode(row),
        CohortRow::Fleet(row) => encode(row),
        CohortRow::Hold(row) => encode(row),
        CohortRow::Chance(row) => encode(row),
        CohortRow::Results(row) => encode(row),
        CohortRow::Plans(row) => encode(row),
    }
}

/// A row of a cohort, read.
pub(crate) fn decode_cohort(key: CohortKey, value: &[u8]) -> Result<CohortRow, StoreError> {
    Ok(match key {
        CohortKey::Day(_) => CohortRow::Day(decode("a row of a cohort's day", value)?),
        CohortKey::Hour(_) => CohortRow::Hour(decode("a row of a cohort's hour", value)?),
        CohortKey::Total(_) => CohortRow::Total(decode("a row of a cohort's sums", value)?),
        CohortKey::Part(..) => CohortRow::Part(decode("a row of a partition's sums", value)?),
        CohortKey::Fleet => CohortRow::Fleet(decode("a row of a cohort as a whole", value)?),
        CohortKey::Hold => CohortRow::Hold(decode("a row of held back alerts", value)?),
        CohortKey::Chance(_) => CohortRow::Chance(decode("a row of a cohort's findings", value)?),
        CohortKey::Results => CohortRow::Results(decode("a row of a cohort's results", value)?),
        CohortKey::Plans(_) => CohortRow::Plans(decode("a row of what plans use", value)?),
    })
}

/// The row of recent sums comes after the one that it is put over.
pub(crate) fn recent_of_nothing() -> StoreError {
    StoreError::Corrupt("recent sums without those that they were added to".to_owned())
}

impl AccountRow {
    pub(crate) fn key(&self, id: &AccountId) -> Vec<u8> {
        let mut key = account_prefix(id);
        match self {
            AccountRow::Hot => key.push(KIND_HOT),
            AccountRow::History => key.push(KIND_HISTORY),
            AccountRow::Profile => key.push(KIND_PROFILE),
            AccountRow::Older => key.push(KIND_OLDER),
            AccountRow::Own => key.push(KIND_OWN),
            AccountRow::Standing => key.push(KIND_STANDING),
            AccountRow::Raised => key.push(KIND_RAISED),
            AccountRow::Lives => key.push(KIND_LIVES),
            AccountRow::Rolling => key.push(KIND_ROLLING),
            AccountRow::Recent => key.push(KIND_RECENT),
            AccountRow::Shadow => key.push(KIND_SHADOW),
            AccountRow::Masked => key.push(KIND_MASKED),
            AccountRow::Changes => key.push(KIND_CHANGES),
            AccountRow::Forecast => key.push(KIND_FORECAST),
            AccountRow::Predicted => key.push(KIND_PREDICTED),
            AccountRow::Watched(signal) => {
                key.push(KIND_WATCHED);
                key.extend_from_slice(&signal.0.to_be_bytes());
            }
            AccountRow::Activity(activity) => {
                key.push(KIND_ACTIVITY);
                key.extend_from_slice(&activity.signal.0.to_be_bytes());
                key.extend_from_slice(activity.value.as_bytes());
            }
        }
        key
    }

    /// What the row is called in errors.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            AccountRow::Hot => "a hot row",
            AccountRow::History => "a history row",
            AccountRow::Profile => "a profile row",
            AccountRow::Activity(_) => "an activity row",
            AccountRow::Older => "a row of older history",
            AccountRow::Watched(_) => "a row of a watched signal",
            AccountRow::Own => "a row of own findings",
            AccountRow::Standing => "a row of a learned score",
            AccountRow::Raised => "a row of latest alerts",
            AccountRow::Lives => "a row of alerts' lives",
            AccountRow::Rolling => "a row of rolling sums",
            AccountRow::Recent => "a row of recent sums",
            AccountRow::Shadow => "a row of a challenger's score",
            AccountRow::Predicted => "a row of what was predicted",
            AccountRow::Masked => "a row of masked days",
            AccountRow::Changes => "a row of changes of level",
            AccountRow::Forecast => "a forecast row",
        }
    }

    /// Its place in lists of the kinds.
    pub(crate) fn place(&self) -> usize {
        match self {
            AccountRow::Hot | AccountRow::Rolling | AccountRow::Recent => 0,
            // Older history is history, and a forecast is made of it.
            AccountRow::History
            | AccountRow::Older
            | AccountRow::Changes
            | AccountRow::Own
            | AccountRow::Standing
            | AccountRow::Raised
            | AccountRow::Lives
            | AccountRow::Shadow
            | AccountRow::Predicted
            | AccountRow::Forecast => 1,
            AccountRow::Profile | AccountRow::Masked => 2,
            // One for each value of something, too.
            AccountRow::Activity(_) | AccountRow::Watched(_) => 3,
        }
    }

    /// Whether this version has rows of accounts of a kind.
    fn is_known(kind: u8) -> bool {
        matches!(
            kind,
            KIND_HOT
                | KIND_HISTORY
                | KIND_PROFILE
                | KIND_ACTIVITY
                | KIND_OLDER
                | KIND_WATCHED
                | KIND_FORECAST
                | KIND_MASKED
                | KIND_CHANGES
                | KIND_OWN
                | KIND_STANDING
                | KIND_RAISED
                | KIND_LIVES
                | KIND_SHADOW
                | KIND_PREDICTED
                | KIND_ROLLING
                | KIND_RECENT
        )
    }

    fn decode(suffix: &[u8]) -> Option<AccountRow> {
        match suffix {
            [KIND_HOT] => Some(AccountRow::Hot),
            [KIND_HISTORY] => Some(AccountRow::History),
            [KIND_PROFILE] => Some(AccountRow::Profile),
            [KIND_OLDER] => Some(AccountRow::Older),
            [KIND_OWN] => Some(AccountRow::Own),
            [KIND_STANDING] => Some(AccountRow::Standing),
            [KIND_RAISED] => Some(AccountRow::Raised),
            [KIND_LIVES] => Some(AccountRow::Lives),
            [KIND_ROLLING] => Some(AccountRow::Rolling),
            [KIND_RECENT] => Some(AccountRow::Recent),
            [KIND_SHADOW] => Some(AccountRow::Shadow),
            [KIND_PREDICTED] => Some(AccountRow::Predicted),
            [KIND_MASKED] => Some(AccountRow::Masked),
            [KIND_CHANGES] => Some(AccountRow::Changes),
            [KIND_FORECAST] => Some(AccountRow::Forecast),
            [KIND_WATCHED, signal @ ..] => {
                let signal = u32::from_be_bytes(signal.try_into().ok()?);
                Some(AccountRow::Watched(SignalKey(signal)))
            }
            [KIND_ACTIVITY, rest @ ..] => {
                let (signal, value) = rest.split_first_chunk::<4>()?;
                Some(AccountRow::Activity(ActivityKey {
                    signal: SignalKey(u32::from_be_bytes(*signal)),
                    value: std::str::from_utf8(value).ok()?.to_owned(),
                }))
            }
            _ => None,
        }
    }
}

/// The kind of row of a key that this version does not have: a newer one wrote it.
fn unknown_kind(key: &[u8]) -> Option<StoreError> {
    let unknown = |what, kind| Some(StoreError::UnknownVersion { what, version: kind });
    match key {
        [TAG_CLOCK | TAG_CALENDAR | TAG_PROMOTION | TAG_CHALLENGER, ..] => None,
        [TAG_COHORT, kind, ..] if after_name(*kind).is_none() => {
            unknown("a row of a cohort, by its kind,", *kind)
        }
        [TAG_COHORT, ..] => None,
        [TAG_ACCOUNT, rest @ ..] => {
            let end = rest.iter().position(|&byte| byte == TERMINATOR).filter(|end| *end > 0)?;
            let kind = *rest.get(end + 1)?;
            if AccountRow::is_known(kind) {
                return None;
            }
            unknown("a row of an account, by its kind,", kind)
        }
        // Tags are letters.
        [tag @ b'A'..=b'Z', ..] => unknown("a row, by the first byte of its key,", *tag),
        _ => None,
    }
}

impl RowKey {
    /// Reads a key.
    ///
    /// # Errors
    /// [`StoreError::UnknownVersion`] of a kind of row that this version does not have (with the byte of the kind), else
    /// [`StoreError::Corrupt`].
    pub(crate) fn decode(key: &[u8]) -> Result<RowKey, StoreError> {
        let read = || match key {
            [TAG_CLOCK] => Some(RowKey::Clock),
            [TAG_CALENDAR, id @ ..] => {
                let id = std::str::from_utf8(id).ok()?;
                Some(RowKey::Calendar(EventId::new(id).ok()?))
            }
            [TAG_PROMOTION, id @ ..] => {
                let id = std::str::from_utf8(id).ok()?;
                Some(RowKey::Promotion(EventId::new(id).ok()?))
            }
            [TAG_CHALLENGER, id @ ..] => {
                let id = std::str::from_utf8(id).ok()?;
                Some(RowKey::Challenger(EventId::new(id).ok()?))
            }
            [TAG_COHORT, kind, rest @ ..] => {
                let (name, key) = read_cohort_key(*kind, rest)?;
                Some(RowKey::Cohort(name, key))
            }
            [TAG_ACCOUNT, rest @ ..] => {
                let (id, suffix) = split_account(rest)?;
                Some(RowKey::Account(AccountId::new(id).ok()?, AccountRow::decode(suffix)?))
            }
            _ => None,
        };
        let damaged = || StoreError::Corrupt(format!("no row has the key {}", shown(key)));
        read().ok_or_else(|| unknown_kind(key).unwrap_or_else(damaged))
    }
}

/// The id in the key of an account's row, behind the tag, and what says which row it is.
fn split_account(rest: &[u8]) -> Option<(&str, &[u8])> {
    let (id, suffix) = rest.split_at_checked(rest.iter().position(|&byte| byte == TERMINATOR)?)?;
    Some((std::str::from_utf8(id).ok()?, suffix.get(1..)?))
}

/// The row of an account that a key names; none where it names another row, or cannot be read.
pub(crate) fn row_of_account(key: &[u8]) -> Option<AccountRow> {
    let (&TAG_ACCOUNT, rest) = key.split_first()? else { return None };
    let (id, suffix) = split_account(rest)?;
    AccountRow::decode(suffix).filter(|_| is_identifier(id))
}

/// Which row of the account with this prefix a key names.
///
/// # Errors
/// As [`RowKey::decode`].
pub(crate) fn account_row(prefix: &[u8], key: &[u8]) -> Result<AccountRow, StoreError> {
    if let Some(row) = key.strip_prefix(prefix).and_then(AccountRow::decode) {
        return Ok(row);
    }
    match RowKey::decode(key)? {
        RowKey::Account(_, row) => Ok(row),
        RowKey::Clock
        | RowKey::Cohort(..)
        | RowKey::Calendar(_)
        | RowKey::Promotion(_)
        | RowKey::Challenger(_) => Err(not_of_an_account()),
    }
}

/// Another row lies among those of accounts.
pub(crate) fn not_of_an_account() -> StoreError {
    StoreError::Corrupt("another row among those of an account".to_owned())
}

/// The prefix of all rows of an account.
pub(crate) fn account_prefix(id: &AccountId) -> Vec<u8> {
    let id = id.as_str().as_bytes();
    // Room for the longest fixed suffix (kind and signal).
    let mut key = Vec::with_capacity(id.len() + 8);
    key.push(TAG_ACCOUNT);
    key.extend_from_slice(id);
    key.push(TERMINATOR);
    key
}

/// The first key behind all rows of an account.
pub(crate) fn account_end(id: &AccountId) -> Vec<u8> {
    let mut key = account_prefix(id);
    key.pop();
    key.push(TERMINATOR + 1);
    key
}

/// A value in its first format.
pub(crate) fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    postcard::to_extend(row, vec![VALUE_VERSION])
        .expect("rows are plain values whose sequences know their length")
}

/// A value in the one form in which values are hashed. It never changes, whatever the format in which rows are stored.
pub(crate) fn canonical<T: Serialize>(row: &T) -> Vec<u8> {
    postcard::to_allocvec(row).expect("rows are plain values whose sequences know their length")
}

/// The version of profiles with a fiscal year's end, which came later: postcard of the rest and of that.
const PROFILE_VERSION: u8 = 2;

/// A profile as it is stored: as the first version of Bellwether did, unless it has what that did not know and the format has it.
pub(crate) fn encode_profile(profile: &Profile, format: Format) -> Vec<u8> {
    match profile.fiscal_year_end.filter(|_| format.has_plans()) {
        None => encode(profile),
        Some(end) => postcard::to_extend(&(profile, end), vec![PROFILE_VERSION])
            .expect("rows are plain values whose sequences know their length"),
    }
}

/// Reads a profile of any version; all of it.
pub(crate) fn decode_profile(what: &'static str, value: &[u8]) -> Result<Profile, StoreError> {
    let Some((&PROFILE_VERSION, body)) = value.split_first() else { return decode(what, value) };
    match postcard::take_from_bytes::<(Profile, YearDay)>(body) {
        Ok(((profile, end), [])) => Ok(Profile { fiscal_year_end: Some(end), ..profile }),
        Ok(_) | Err(_) => Err(StoreError::Corrupt(format!("{what} cannot be read"))),
    }
}

/// Whether a value is a profile of a version that is known.
pub(crate) fn profile_readable(what: &'static str, value: &[u8]) -> Result<(), StoreError> {
    if value.first() == Some(&PROFILE_VERSION) { Ok(()) } else { body(what, value).map(drop) }
}

/// The version of lines of a learned score of which one is about the contract, which came later: postcard, too.
const LINES_VERSION: u8 = 4;

/// Lines as they are stored: as the first version of Bellwether did, unless one is of a kind that that did not know. A format without such
/// lines leaves them out: what they were published with counts as clipped until they are published as gone.
pub(crate) fn encode_lines(lines: &[Line], format: Format) -> Option<Vec<u8>> {
    let is_later = |line: &&Line| line.of.is_of_contract();
    let version = match lines.iter().any(|line| is_later(&line)) {
        true if format.has_contract() => LINES_VERSION,
        true => {
            let first: Vec<Line> = lines.iter().filter(|line| !is_later(line)).copied().collect();
            return encode_lines(&first, format);
        }
        false => VALUE_VERSION,
    };
    let encode = || postcard::to_extend(lines, vec![version]);
    (!lines.is_empty())
        .then(|| encode().expect("rows are plain values whose sequences know their length"))
}

/// Reads lines of any version; all of them.
pub(crate) fn decode_lines(what: &'static str, value: &[u8]) -> Result<Vec<Line>, StoreError> {
    let Some((&LINES_VERSION, body)) = value.split_first() else { return decode(what, value) };
    match postcard::take_from_bytes(body) {
        Ok((lines, [])) => Ok(lines),
        Ok(_) | Err(_) => Err(StoreError::Corrupt(format!("{what} cannot be read"))),
    }
}

/// Whether a value is lines of a version that is known.
pub(crate) fn lines_readable(what: &'static str, value: &[u8]) -> Result<(), StoreError> {
    if value.first() == Some(&LINES_VERSION) { Ok(()) } else { body(what, value).map(drop) }
}

/// Checks the version of a value and returns its body.
pub(crate) fn body<'a>(what: &'static str, value: &'a [u8]) -> Result<&'a [u8], StoreError> {
    match value.split_first() {
        Some((&VALUE_VERSION, body)) => Ok(body),
        Some((&version, _)) => Err(StoreError::UnknownVersion { what, version }),
        None => Err(StoreError::Corrupt(format!("{what} is empty"))),
    }
}

/// Reads a value in its first format; all of it.
pub(crate) fn decode<'a, T: Deserialize<'a>>(
    what: &'static str,
    value: &'a [u8],
) -> Result<T, StoreError> {
    match postcard::take_from_bytes(body(what, value)?) {
        Ok((row, [])) => Ok(row),
        Ok((_, rest)) => {
            Err(StoreError::Corrupt(format!("{what} is {} bytes too long", rest.len())))
        }
        Err(error) => Err(StoreError::Corrupt(format!("{what} cannot be read: {error}"))),
    }
}

/// A signed number as bytes that sort as the numbers do.
pub(crate) fn sortable(number: i64) -> [u8; 8] {
    (number.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// Undoes [`sortable`].
pub(crate) fn from_sortable(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed()
}

/// At most 64 bytes of a key, for messages.
pub(crate) fn shown(key: &[u8]) -> String {
    key.get(..64).unwrap_or(key).escape_ascii().to_string()
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
