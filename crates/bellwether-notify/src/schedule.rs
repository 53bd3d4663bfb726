//! Wall-clock arithmetic of routes and digests: quiet hours, and when the next digest goes out. The present is an argument.

use bellwether_core::time::{DAY_MS, Day};
use jiff::civil::{DateTime, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan, civil};

use crate::policy::{DigestTimes, Mode, Quiet, Weekday};

/// Days that are looked through for an hour that is not quiet: a week and the days of a clock change.
const DAYS_AHEAD: i32 = 9;
/// The same where there are holidays.
const HOLIDAYS_AHEAD: i32 = 31;

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

/// The instant of a local time: the first of two where the clock shows it twice, and as much later as the clock is put forward where it skips it.
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

/// Whether a day is a holiday of those that a route heeds.
pub type IsHoliday<'a> = &'a dyn Fn(Day) -> bool;

/// Whether a local time is quiet: whatever the clock on the wall shows is quiet or not, also where it shows a time twice. A night belongs to
/// the day on which it begins, its morning to the next.
fn is_quiet(quiet: &Quiet, at: DateTime, is_holiday: IsHoliday<'_>) -> bool {
    if quiet.days.contains(&weekday(at.date())) || is_holiday(day(at.date())) {
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

/// The end of the quiet hours in which an instant lies; none where it lies in none. Holidays that leave no hour of a whole month are no
/// holidays: they are passed over.
#[must_use]
pub fn quiet_until(quiet: &Quiet, is_holiday: IsHoliday<'_>, now_ms: i64) -> Option<i64> {
    let zone = zone(&quiet.time_zone);
    let now = local(now_ms, &zone);
    if !is_quiet(quiet, now, is_holiday) {
        return None;
    }
    let end = quiet_end(quiet, is_holiday, &zone, now_ms, HOLIDAYS_AHEAD);
    if end.is_some() {
        return end;
    }
    let none = |_: Day| false;
    if is_quiet(quiet, now, &none) {
        quiet_end(quiet, &none, &zone, now_ms, DAYS_AHEAD)
    } else {
        None
    }
}

/// The first instant after another, within so many days, that is not quiet. Quiet can only end at midnight, at `to`, or where the clock is
/// changed.
fn quiet_end(
    quiet: &Quiet,
    is_holiday: IsHoliday<'_>,
    zone: &TimeZone,
    now_ms: i64,
    days_ahead: i32,
) -> Option<i64> {
    let today = local(now_ms, zone).date();
    let to = time_of_day(&quiet.to).map_or(Time::midnight(), minutes);
    let times = (0..=days_ahead).flat_map(|ahead| {
        let date = today.saturating_add(ahead.days());
        [Time::midnight(), to]
            .into_iter()
            .flat_map(move |time| instants(date.to_datetime(time), zone))
    });
    let after = now_ms.saturating_add((i64::from(days_ahead) + 1) * DAY_MS);
    let now = Timestamp::from_millisecond(now_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let changes = zone.following(now).map(|change| change.timestamp().as_millisecond());
    times
        .chain(changes.take_while(|at| *at <= after))
        .filter(|at| *at > now_ms && !is_quiet(quiet, local(*at, zone), is_holiday))
        .min()
}

/// Both instants at which the clock shows a local time; the same twice where it is shown once.
fn instants(at: DateTime, zone: &TimeZone) -> [i64; 2] {
    let of = |zoned: Result<jiff::Zoned, jiff::Error>| {
        zoned.map_or(i64::MAX, |zoned| zoned.timestamp().as_millisecond())
    };
    let ambiguous = zone.to_ambiguous_zoned(at);
    [of(ambiguous.clone().earlier()), of(ambiguous.later())]
}

fn day(date: civil::Date) -> Day {
    let start = date.to_datetime(Time::midnight()).to_zoned(TimeZone::UTC);
    let seconds = start.map_or(0, |start| start.timestamp().as_second());
    Day(i32::try_from(seconds.div_euclid(DAY_MS / 1000)).unwrap_or(0))
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

    const NONE: fn(Day) -> bool = |_| false;

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
            holidays: std::collections::BTreeSet::new(),
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
        assert_eq!(quiet_until(&nights(), &NONE, at("2026-11-26T20:59:00Z")), None);
        let morning = Some(at("2026-11-27T06:00:00Z"));
        assert_eq!(quiet_until(&nights(), &NONE, at("2026-11-26T21:00:00Z")), morning);
        assert_eq!(quiet_until(&nights(), &NONE, at("2026-11-27T05:59:59Z")), morning);
        assert_eq!(quiet_until(&nights(), &NONE, at("2026-11-27T06:00:00Z")), None);
        // Friday night ends on Monday morning.
        let monday = Some(at("2026-11-30T06:00:00Z"));
        assert_eq!(quiet_until(&nights(), &NONE, at("2026-11-27T22:00:00Z")), monday);
        assert_eq!(quiet_until(&nights(), &NONE, at("2026-11-29T12:00:00Z")), monday);
    }

    fn between(from: &str, to: &str) -> Quiet {
        Quiet {
            from: from.to_owned(),
            to: to.to_owned(),
            days: std::collections::BTreeSet::new(),
            ..nights()
        }
    }

    #[test]
    fn quiet_hours_that_end_where_the_clock_is_changed_end_by_the_clock_on_the_wall() {
        // Berlin, 2026-10-25: the clock shows 02:00 to 03:00 twice, first as UTC+2, then as UTC+1.
        let night = between("22:00", "02:30");
        let first = Some(at("2026-10-25T00:30:00Z"));
        assert_eq!(quiet_until(&night, &NONE, at("2026-10-24T23:00:00Z")), first);
        assert_eq!(quiet_until(&night, &NONE, at("2026-10-25T00:45:00Z")), None);
        let second = Some(at("2026-10-25T01:30:00Z"));
        assert_eq!(quiet_until(&night, &NONE, at("2026-10-25T01:10:00Z")), second);
        // Hours that begin between the two.
        let early = between("02:30", "06:00");
        assert_eq!(
            quiet_until(&early, &NONE, at("2026-10-25T00:40:00Z")),
            Some(at("2026-10-25T01:00:00Z"))
        );
        assert_eq!(quiet_until(&early, &NONE, at("2026-10-25T01:10:00Z")), None);
        assert_eq!(
            quiet_until(&early, &NONE, at("2026-10-25T01:40:00Z")),
            Some(at("2026-10-25T05:00:00Z"))
        );
        // 2026-03-29: from 02:00 the clock goes to 03:00 at once, and what ends between them ends there.
        assert_eq!(
            quiet_until(&night, &NONE, at("2026-03-29T00:30:00Z")),
            Some(at("2026-03-29T01:00:00Z"))
        );
        assert_eq!(quiet_until(&early, &NONE, at("2026-03-29T00:59:00Z")), None);
        assert_eq!(
            quiet_until(&early, &NONE, at("2026-03-29T01:00:00Z")),
            Some(at("2026-03-29T04:00:00Z"))
        );
    }

    #[test]
    fn holidays_are_quiet_as_a_whole_unless_they_leave_no_hour_of_a_month() {
        let easter = [Day(20_546), Day(20_549)];
        assert_eq!(easter.map(Day::iso), ["2026-04-03", "2026-04-06"]);
        let is_easter = |day: Day| easter.contains(&day);
        let tuesday = Some(at("2026-04-07T05:00:00Z"));
        assert_eq!(quiet_until(&nights(), &is_easter, at("2026-04-02T20:30:00Z")), tuesday);
        assert_eq!(quiet_until(&nights(), &is_easter, at("2026-04-03T10:00:00Z")), tuesday);
        assert_eq!(quiet_until(&nights(), &is_easter, at("2026-04-02T10:00:00Z")), None);
        let all = |_: Day| true;
        assert_eq!(quiet_until(&nights(), &all, at("2026-04-02T10:00:00Z")), None);
        assert_eq!(
            quiet_until(&nights(), &all, at("2026-04-02T20:30:00Z")),
            Some(at("2026-04-03T05:00:00Z"))
        );
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

    #[test]
    fn a_digest_of_an_hour_that_is_skipped_or_shown_twice_goes_out_once_a_day() {
        // Berlin: 02:30 is shown twice on 2026-10-25, and never on 2026-03-29.
        let night = DigestTimes { at: "02:30".to_owned(), ..digests() };
        for (start, expected) in [
            (
                "2026-10-23T12:00:00Z",
                ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
            ),
            (
                "2026-03-27T12:00:00Z",
                ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"],
            ),
        ] {
            let mut now = at(start);
            let times = expected.map(|_| {
                now = next_digest(&night, Mode::Daily, now);
                Millis(now).iso()
            });
            assert_eq!(times, expected.map(|time| time.replace("Z", ".000Z")));
            // Whenever it is asked for: never a second time on a day.
            for minutes in 0..3 * 24 * 60 {
                let now = at(start) + minutes * 60_000;
                let next = Millis(next_digest(&night, Mode::Daily, now)).iso();
                assert!(!next.starts_with("2026-10-25T01") && !next.starts_with("2026-03-29T00"));
            }
        }
    }

    proptest! {
        /// The end of quiet hours is the first moment that is not quiet, as looking at the clock every quarter of an hour shows, around both
        /// changes of the clock.
        #[test]
        fn the_end_is_the_first_moment_that_is_not_quiet(from in 0_u16..96, to in 0_u16..96, spring in any::<bool>(), quarter in 0_i64..192) {
            let time = |quarters: u16| format!("{:02}:{:02}", quarters / 4, quarters % 4 * 15);
            let quiet = between(&time(from), &time(to));
            let start = at(if spring { "2026-03-28T00:00:00Z" } else { "2026-10-24T00:00:00Z" });
            let now = start + quarter * 900_000;
            let zone = zone(&quiet.time_zone);
            let is_quiet_at = |at: i64| is_quiet(&quiet, local(at, &zone), &NONE);
            let expected = (0..200).map(|n| now + n * 900_000).find(|at| !is_quiet_at(*at));
            let found = quiet_until(&quiet, &NONE, now).unwrap_or(now);
            prop_assert_eq!(Some(found), expected);
        }

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
                holidays: std::collections::BTreeSet::new(),
            };
            let now = now * 1000;
            if let Some(end) = quiet_until(&quiet, &NONE, now) {
                prop_assert!(end > now && end - now <= 9 * 86_400_000, "{end}");
                prop_assert_eq!(quiet_until(&quiet, &NONE, end), None);
            }
        }
    }
}
