//! Event time: integer milliseconds, and the account's own days.
//!
//! There is no clock here. A time zone is looked up in the database that is compiled in, so a day begins at the
//! same instant on every machine.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

/// Milliseconds in a minute, an hour and a day of 24 hours.
pub const MINUTE_MS: i64 = 60_000;
/// See [`MINUTE_MS`].
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
/// See [`MINUTE_MS`].
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl Millis {
    /// The earliest instant that input may carry: 1970-01-01.
    pub const MIN: Millis = Millis(0);
    /// The latest instant that input may carry: 9999-01-01T00:00:00Z.
    pub const MAX: Millis = Millis(253_370_764_800_000);

    /// This instant moved by a signed number of milliseconds, saturating.
    #[must_use]
    pub fn plus(self, ms: i64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }

    /// ISO-8601 in UTC with milliseconds, e.g. `2026-03-01T09:30:00.000Z`.
    #[must_use]
    pub fn iso(self) -> String {
        match Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => format!("{timestamp:.3}"),
            Err(_) => format!("{} ms", self.0),
        }
    }

    /// Reads ISO-8601 with an offset or `Z` (`2026-03-01T09:30:00Z`), a plain date (midnight UTC), or epoch milliseconds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Millis> {
        let text = text.trim();
        if let Ok(timestamp) = text.parse::<Timestamp>() {
            return Some(Millis(timestamp.as_millisecond()));
        }
        if let Ok(ms) = text.parse::<i64>() {
            return Some(Millis(ms));
        }
        let date = text.parse::<Date>().ok()?;
        let midnight = date.to_zoned(TimeZone::UTC).ok()?;
        Some(Millis(midnight.timestamp().as_millisecond()))
    }
}

impl fmt::Debug for Millis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.iso())
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.iso())
    }
}

/// A calendar day: days since 1970-01-01 in the account's own time zone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Day(pub i32);

impl Day {
    /// The day that lies `days` later (earlier when negative).
    #[must_use]
    pub fn plus(self, days: i32) -> Day {
        Day(self.0.saturating_add(days))
    }

    /// Days from `earlier` to this one; negative when this one comes first.
    #[must_use]
    pub fn since(self, earlier: Day) -> i32 {
        self.0.saturating_sub(earlier.0)
    }

    /// 0 for Monday to 6 for Sunday.
    #[must_use]
    pub fn weekday(self) -> usize {
        // 1970-01-01 was a Thursday (3 with Monday = 0).
        (self.0.rem_euclid(7) as usize + 3) % 7
    }

    /// Which day of its month it is, 1 to 31, and how many days the month has. A day beyond the calendar is the 15th of 30.
    #[must_use]
    pub fn of_month(self) -> (u8, u8) {
        let both = |date: Date| (date.day().unsigned_abs(), date.days_in_month().unsigned_abs());
        self.date().map_or((15, 30), both)
    }

    /// The day as ISO-8601, e.g. `2026-03-01`.
    #[must_use]
    pub fn iso(self) -> String {
        self.date().map_or_else(|| format!("day {}", self.0), |date| date.to_string())
    }

    fn date(self) -> Option<Date> {
        let timestamp = Timestamp::from_millisecond(i64::from(self.0) * DAY_MS).ok()?;
        Some(timestamp.to_zoned(TimeZone::UTC).date())
    }
}

/// A day that comes every year, e.g. `03-31`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct YearDay {
    month: i8,
    day: i8,
}

impl YearDay {
    /// Reads `MM-DD`, e.g. `03-31`; none where no year has such a day.
    #[must_use]
    pub fn parse(text: &str) -> Option<YearDay> {
        let (month, day) = text.split_once('-')?;
        let two = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let (month, day) = (Some(month).filter(|it| two(it))?, Some(day).filter(|it| two(it))?);
        let (month, day) = (month.parse().ok()?, day.parse().ok()?);
        // A leap year has every day.
        Date::new(2024, month, day).ok().map(|_| YearDay { month, day })
    }

    /// Its days between two days, both inclusive, rising; 29 February is the 28th in years that have none.
    pub fn between(self, from: Day, to: Day) -> impl Iterator<Item = Day> {
        let year = |day: Day| day.date().map_or(0, Date::year);
        let in_year = move |year: i16| {
            let last = Date::new(year, self.month, 1).ok()?.days_in_month();
            let date = Date::new(year, self.month, self.day.min(last)).ok()?;
            let midnight = date.to_zoned(TimeZone::UTC).ok()?;
            Some(Zone::UTC.day(Millis(midnight.timestamp().as_millisecond())))
        };
        (year(from)..=year(to)).filter_map(in_year).filter(move |day| (from..=to).contains(day))
    }
}

impl fmt::Display for YearDay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02}-{:02}", self.month, self.day)
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.iso())
    }
}

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.iso())
    }
}

/// An IANA time zone, e.g. `Europe/Berlin`.
#[derive(Clone, PartialEq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Coordinated universal time, the zone of an account without a profile.
    pub const UTC: Zone = Zone(TimeZone::UTC);

    /// Looks a name up in the compiled-in database; `None` where there is no such zone.
    #[must_use]
    pub fn named(name: &str) -> Option<Zone> {
        if name == "UTC" {
            return Some(Zone::UTC);
        }
        TimeZoneDatabase::bundled().get(name).ok().map(Zone)
    }

    /// The day on which an instant falls here.
    #[must_use]
    pub fn day(&self, at: Millis) -> Day {
        let offset_ms = Timestamp::from_millisecond(at.0)
            .map_or(0, |timestamp| i64::from(self.0.to_offset(timestamp).seconds()) * 1000);
        let days = (at.0 + offset_ms).div_euclid(DAY_MS);
        Day(i32::try_from(days).unwrap_or(i32::MAX))
    }

    /// The first instant of a day here. Where the clock is put forward over midnight, the day begins late.
    #[must_use]
    pub fn day_start(&self, day: Day) -> Millis {
        let utc = Millis(i64::from(day.0) * DAY_MS);
        day.date()
            .and_then(|date| date.to_zoned(self.0.clone()).ok())
            .map_or(utc, |zoned| Millis(zoned.timestamp().as_millisecond()))
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weekdays_count_from_monday() {
        let monday = Zone::UTC.day(Millis::parse("2026-11-23T10:00:00Z").expect("a timestamp"));
        assert_eq!((monday.weekday(), monday.plus(6).weekday()), (0, 6));
        assert_eq!(monday.iso(), "2026-11-23");
    }

    #[test]
    fn a_day_is_the_accounts_own() {
        let berlin = Zone::named("Europe/Berlin").expect("a zone");
        let late_evening_utc = Millis::parse("2026-07-01T22:30:00Z").expect("a timestamp");
        assert_eq!(Zone::UTC.day(late_evening_utc).iso(), "2026-07-01");
        assert_eq!(berlin.day(late_evening_utc).iso(), "2026-07-02");
        assert!(Zone::named("Mars/Olympus").is_none());
    }

    #[test]
    fn days_tile_time_over_clock_changes() {
        for name in ["Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "UTC"] {
            let zone = Zone::named(name).expect("a zone");
            let mut day = Day(10_000);
            while day < Day(20_000) {
                let start = zone.day_start(day);
                let end = zone.day_start(day.plus(1));
                // Samoa skipped 2011-12-30: that day starts when the next one does.
                if start < end {
                    assert_eq!(zone.day(start), day, "{name}");
                    assert_eq!(zone.day(end.plus(-1)), day, "{name}");
                }
                day = day.plus(1);
            }
        }
    }

    #[test]
    fn days_of_every_year_are_found_between_days() {
        let day = |text: &str| Zone::UTC.day(Millis::parse(text).expect("a date"));
        let between = |of: &str, from: &str, to: &str| {
            let of = YearDay::parse(of).expect("a day of the year");
            of.between(day(from), day(to)).map(Day::iso).collect::<Vec<_>>()
        };
        assert_eq!(between("03-31", "2025-04-01", "2026-03-30"), Vec::<String>::new());
        assert_eq!(between("03-31", "2025-03-31", "2026-03-31"), ["2025-03-31", "2026-03-31"]);
        assert_eq!(between("12-31", "2025-12-01", "2026-01-10"), ["2025-12-31"]);
        assert_eq!(between("02-29", "2024-01-01", "2025-12-31"), ["2024-02-29", "2025-02-28"]);
        assert_eq!(YearDay::parse("06-30").expect("a day").to_string(), "06-30");
        for wrong in ["02-30", "13-01", "00-10", "3-31", "+3-31", "03-31 ", "2026-03-31", "", "-"] {
            assert_eq!(YearDay::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_read_in_three_forms() {
        let expected = Some(Millis(1_772_323_200_000));
        assert_eq!(Millis::parse("2026-03-01T00:00:00Z"), expected);
        assert_eq!(Millis::parse("2026-03-01"), expected);
        assert_eq!(Millis::parse("1772323200000"), expected);
        assert_eq!(Millis::parse("yesterday"), None);
        assert_eq!(Millis(1_772_323_200_000).iso(), "2026-03-01T00:00:00.000Z");
    }
}
