//! Wall-clock arithmetic of routes and digests: quiet hours, and when the next digest goes out. The present is an argument.

use jiff::civil::{DateTime, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan, civil};

use crate::policy::{DigestTimes, Mode, Quiet, Weekday};

/// Days that are looked through for an hour that is not quiet: a week and the days of a clock change.
const DAYS_AHEAD: i32 = 9;

/// Reads `HH:MM`: minutes since midnight.
#[must_use]
pub fn time_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |part: &str| (part.len() == 2).then(|| part.parse::<u16>().ok()).flatten();
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

fn zone(name: &str) -> TimeZone {
    // The policy was checked; UTC is the zone of who has none.
    TimeZoneDatabase::bundled().get(name).unwrap_or(TimeZone::UTC)
}

fn local(now_ms: i64, zone: &TimeZone) -> DateTime {
    Timestamp::from_millisecond(now_ms)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(zone.clone())
        .datetime()
}

/// The instant of a local time; where the clock skips it, the moment after.
fn instant(at: DateTime, zone: &TimeZone) -> i64 {
    at.to_zoned(zone.clone()).map_or(i64::MAX, |zoned| zoned.timestamp().as_millisecond())
}

fn minutes(minutes: u16) -> Time {
    let (hour, minute) = (minutes / 60, minutes % 60);
    // Below 24 and 60, as the policy was checked.
    Time::new(i8::try_from(hour).unwrap_or(0), i8::try_from(minute).unwrap_or(0), 0, 0)
        .unwrap_or(Time::midnight())
}

fn weekday(date: civil::Date) -> Weekday {
    match date.weekday() {
        civil::Weekday::Monday => Weekday::Monday,
        civil::Weekday::Tuesday => Weekday::Tuesday,
        civil::Weekday::Wednesday => Weekday::Wednesday,
        civil::Weekday::Thursday => Weekday::Thursday,
        civil::Weekday::Friday => Weekday::Friday,
        civil::Weekday::Saturday => Weekday::Saturday,
        civil::Weekday::Sunday => Weekday::Sunday,
    }
}

/// Whether a local time is quiet. A night belongs to the day on which it begins, its morning to the next.
fn is_quiet(quiet: &Quiet, at: DateTime) -> bool {
    if quiet.days.contains(&weekday(at.date())) {
        return true;
    }
    let (from, to) = (time_of_day(&quiet.from), time_of_day(&quiet.to));
    let (Some(from), Some(to)) = (from.map(minutes), to.map(minutes)) else { return false };
    if from == to {
        return false;
    }
    let now = at.time();
    if from < to { (from..to).contains(&now) } else { now >= from || now < to }
}

/// The end of the quiet hours in which an instant lies; none where it lies in none.
#[must_use]
pub fn quiet_until(quiet: &Quiet, now_ms: i64) -> Option<i64> {
    let zone = zone(&quiet.time_zone);
    let now = local(now_ms, &zone);
    if !is_quiet(quiet, now) {
        return None;
    }
    // Quiet can only end at midnight or at `to`.
    let to = time_of_day(&quiet.to).map_or(Time::midnight(), minutes);
    let ends = (0..=DAYS_AHEAD).flat_map(|ahead| {
        let date = now.date().saturating_add(ahead.days());
        [date.to_datetime(Time::midnight()), date.to_datetime(to)]
    });
    ends.filter(|end| !is_quiet(quiet, *end))
        .map(|end| instant(end, &zone))
        .filter(|end| *end > now_ms)
        .min()
}

/// When the digest of a mode goes out next, strictly after an instant.
#[must_use]
pub fn next_digest(times: &DigestTimes, mode: Mode, now_ms: i64) -> i64 {
    let zone = zone(&times.time_zone);
    let now = local(now_ms, &zone);
    let at = time_of_day(&times.at).map_or(Time::midnight(), minutes);
    (0..=DAYS_AHEAD)
        .map(|ahead| now.date().saturating_add(ahead.days()))
        .filter(|date| match mode {
            Mode::Immediate | Mode::Daily => true,
            Mode::Weekly | Mode::Checkin => weekday(*date) == times.weekday,
        })
        .map(|date| instant(date.to_datetime(at), &zone))
        .find(|at| *at > now_ms)
        .unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use bellwether_core::time::Millis;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> i64 {
        Millis::parse(text).expect("a time").0
    }

    fn nights() -> Quiet {
        Quiet {
            from: "22:00".to_owned(),
            to: "07:00".to_owned(),
            days: [Weekday::Saturday, Weekday::Sunday].into(),
            time_zone: "Europe/Berlin".to_owned(),
            except: ["critical".to_owned()].into(),
        }
    }

    fn digests() -> DigestTimes {
        DigestTimes {
            at: "08:00".to_owned(),
            weekday: Weekday::Monday,
            time_zone: "Europe/Berlin".to_owned(),
            entries_max: 50,
        }
    }

    #[test]
    fn quiet_hours_end_where_the_route_says() {
        // Thursday evening, Berlin is an hour ahead of UTC.
        assert_eq!(quiet_until(&nights(), at("2026-11-26T20:59:00Z")), None);
        let morning = Some(at("2026-11-27T06:00:00Z"));
        assert_eq!(quiet_until(&nights(), at("2026-11-26T21:00:00Z")), morning);
        assert_eq!(quiet_until(&nights(), at("2026-11-27T05:59:59Z")), morning);
        assert_eq!(quiet_until(&nights(), at("2026-11-27T06:00:00Z")), None);
        // Friday night ends on Monday morning.
        let monday = Some(at("2026-11-30T06:00:00Z"));
        assert_eq!(quiet_until(&nights(), at("2026-11-27T22:00:00Z")), monday);
        assert_eq!(quiet_until(&nights(), at("2026-11-29T12:00:00Z")), monday);
    }

    #[test]
    fn digests_go_out_at_their_local_time_on_both_sides_of_a_clock_change() {
        // Berlin puts its clocks back on 2026-10-25.
        let before = next_digest(&digests(), Mode::Daily, at("2026-10-23T12:00:00Z"));
        assert_eq!(before, at("2026-10-24T06:00:00Z"));
        let after = next_digest(&digests(), Mode::Daily, at("2026-10-24T12:00:00Z"));
        assert_eq!(after, at("2026-10-25T07:00:00Z"));
        let week = next_digest(&digests(), Mode::Weekly, after);
        assert_eq!(week, at("2026-10-26T07:00:00Z"));
        assert_eq!(next_digest(&digests(), Mode::Checkin, week), at("2026-11-02T07:00:00Z"));
    }

    proptest! {
        /// The end of quiet hours lies ahead, within a week and a bit, and is not quiet itself.
        #[test]
        fn quiet_hours_always_end(from in 0_u16..1440, to in 0_u16..1440, days in 0_u8..127, now in 0_i64..2_000_000_000) {
            let all = [Weekday::Monday, Weekday::Tuesday, Weekday::Wednesday, Weekday::Thursday, Weekday::Friday, Weekday::Saturday, Weekday::Sunday];
            let quiet = Quiet {
                from: format!("{:02}:{:02}", from / 60, from % 60),
                to: format!("{:02}:{:02}", to / 60, to % 60),
                days: (0..7).filter(|day| days >> day & 1 == 1).map(|day| all[day]).collect(),
                time_zone: "America/New_York".to_owned(),
                except: std::collections::BTreeSet::new(),
            };
            let now = now * 1000;
            if let Some(end) = quiet_until(&quiet, now) {
                prop_assert!(end > now && end - now <= 9 * 86_400_000, "{end}");
                prop_assert_eq!(quiet_until(&quiet, end), None);
            }
        }
    }
}
