//! Six weeks of weekends, holidays, nights and a change of the clock, through the planner, minute by minute: who is told what, and when. Time
//! is an argument, so that it takes no time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::calendar::{Entry as CalendarEntry, Scope, Span};
use bellwether_core::id::EventId;
use bellwether_core::time::{DAY_MS, Day, HOUR_MS, Millis};
use bellwether_notify::delivery::{Delivery, Outcome, Subject};
use bellwether_notify::event::{Alert, Profile, sample};
use bellwether_notify::planner::Planner;
use bellwether_notify::policy::{Loaded, Mode};
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// Monday, 2026-03-09. Berlin puts its clocks forward on 03-29, New York did on 03-08; Easter is on 04-05.
const START: &str = "2026-03-09T00:00:00Z";
const DAYS: i64 = 42;
const STEP_MS: i64 = 15 * 60_000;

const POLICY: &str = r#"
[delivery]
max_age_hours = 720
[budget]
urgent_min_week = 100000
[digest]
at = "08:00"
weekday = "monday"
time_zone = "Europe/Berlin"
entries_max = 1000
[[sink]]
name = "berlin"
type = "slack"
url_env = "U"
[[sink]]
name = "new-york"
type = "slack"
url_env = "U"
[[sink]]
name = "mail"
type = "email"
url = "smtps://mail.example"
from = "b@example.com"
to = ["cs@example.com"]
[[route]]
name = "eu"
region = ["DE-BE"]
severity = ["high", "critical"]
sinks = ["berlin"]
mode = "immediate"
quiet = { from = "20:00", to = "07:00", days = ["saturday", "sunday"], time_zone = "Europe/Berlin", except = ["critical"], holidays = ["account"] }
[[route]]
name = "us"
region = ["US-NY"]
severity = ["high", "critical"]
sinks = ["new-york"]
mode = "immediate"
quiet = { from = "18:30", to = "08:30", days = ["saturday", "sunday"], time_zone = "America/New_York", except = ["critical"], holidays = ["US-NY"] }
[[route]]
name = "medium"
severity = ["medium"]
sinks = ["mail"]
mode = "daily"
[[route]]
name = "low"
severity = ["low"]
sinks = ["mail"]
mode = "weekly"
[[route]]
name = "info"
severity = ["info"]
sinks = ["mail"]
mode = "checkin"
"#;

/// Good Friday and Easter Monday in Berlin; a day off in New York, on 2026-03-31; and an incident, which is no holiday.
fn calendar(planner: &mut Planner) {
    let entry = |scope: Scope, day: i32, kind: &str| CalendarEntry {
        scope,
        span: Span { from: Day(day), to: Day(day), kind: kind.to_owned(), note: None },
    };
    let region = |name: &str| Scope::Region(name.to_owned());
    let entries = [
        entry(region("DE-BE"), 20_546, "holiday"),
        entry(region("DE-BE"), 20_549, "holiday"),
        entry(region("US-NY"), 20_543, "holiday"),
        entry(region("DE-BE"), 20_535, "incident"),
        entry(region("FR"), 20_536, "holiday"),
    ];
    for (number, entry) in entries.into_iter().enumerate() {
        planner.calendar(&EventId::new(&number.to_string()).expect("an id"), Some(entry));
    }
}

fn local(at: i64, zone: &str) -> Zoned {
    let zone = TimeZone::get(zone).expect("a zone");
    Timestamp::from_millisecond(at).expect("a time").to_zoned(zone)
}

/// Whether a team is off, as a person would say who looks at a clock and a calendar on the wall.
fn is_off(sink: &str, at: i64) -> bool {
    let (zone, from, to, holidays): (_, _, _, &[&str]) = match sink {
        "berlin" => ("Europe/Berlin", (20, 0), (7, 0), &["2026-04-03", "2026-04-06"]),
        _ => ("America/New_York", (18, 30), (8, 30), &["2026-03-31"]),
    };
    let now = local(at, zone);
    let time = |(hour, minute)| Time::new(hour, minute, 0, 0).expect("a time");
    matches!(now.weekday(), Weekday::Saturday | Weekday::Sunday)
        || holidays.contains(&now.date().to_string().as_str())
        || now.time() >= time(from)
        || now.time() < time(to)
}

fn event(number: usize, at: i64) -> (Alert, Profile) {
    let severity = ["high", "critical", "medium", "low", "info"][number % 5];
    let region = ["DE-BE", "US-NY"][number / 5 % 2];
    let (alert, profile) = sample(Millis(at));
    let alert = Alert {
        id: format!("event-{number}"),
        alert_id: format!("alert-{number}"),
        account_id: format!("account-{}", number % 97),
        severity: severity.to_owned(),
        ..alert
    };
    (alert, Profile { region: Some(region.to_owned()), owner: None, ..profile })
}

/// What was told: at what time, by which sink, and (of a digest) of which mode.
#[derive(Debug, PartialEq)]
struct Told {
    at: i64,
    sink: String,
    mode: Option<Mode>,
}

#[derive(Default)]
struct People {
    told: BTreeMap<String, Vec<Told>>,
    /// When digests came, and how many entries were counted in them.
    digests: Vec<(i64, Mode, usize)>,
}

impl People {
    fn hear(&mut self, delivery: &Delivery, at: i64) {
        let mut hear = |alert: &Alert, mode: Option<Mode>| {
            let told = Told { at, sink: delivery.sink.clone(), mode };
            self.told.entry(alert.id.clone()).or_default().push(told);
        };
        match &delivery.subject {
            Subject::Alert { alert, .. } => hear(alert, None),
            Subject::Digest(digest) => {
                digest.entries.iter().for_each(|entry| hear(&entry.alert, Some(digest.mode)));
                self.digests.push((at, digest.mode, digest.total));
            }
        }
    }
}

/// Runs the weeks. The process is killed and reads its rows back once a day, at an odd hour.
fn run() -> (People, BTreeMap<String, (i64, Alert)>, BTreeSet<String>) {
    let policy = Loaded::parse(POLICY, "month").expect("sound");
    let fresh = || {
        let mut planner = Planner::new(Arc::clone(policy.texts()), policy.version());
        planner.assign(0);
        calendar(&mut planner);
        planner
    };
    let (mut planner, mut people, mut published) = (fresh(), People::default(), BTreeMap::new());
    let mut rows: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let start = Millis::parse(START).expect("a time").0;
    let mut number = 0;
    // The last week is quiet, so that all digests of before have gone out.
    for now in (start..start + DAYS * DAY_MS).step_by(STEP_MS as usize) {
        let until_last_week = now < start + (DAYS - 8) * DAY_MS;
        if until_last_week && (now - start) % (3 * STEP_MS) == 0 {
            let (alert, profile) = event(number, now);
            planner.profile(0, &alert.account_id, profile);
            planner.alert(0, &alert, now);
            // What a producer repeats is told once all the same.
            planner.alert(0, &alert, now);
            published.insert(alert.id.clone(), (now, alert));
            number += 1;
        }
        planner.tick(now, &|_| false);
        for (partition, delivery) in planner.ready(now, &|_, _| false, &|_, _| true) {
            people.hear(&delivery, now);
            planner.settle(partition, &delivery.key, Outcome::Delivered, now, &mut |most| most);
        }
        for (_, key, value) in planner.take_changes() {
            match value {
                Some(value) => drop(rows.insert(key, value)),
                None => drop(rows.remove(&key)),
            }
        }
        if (now - start) % DAY_MS == 17 * HOUR_MS {
            planner = fresh();
            for (key, value) in &rows {
                planner.restore(0, key, Some(value)).expect("readable");
            }
        }
    }
    assert_eq!(planner.take_parked(), []);
    let waits = rows.keys().filter(|key| key.starts_with("d/") || key.starts_with("q/")).cloned();
    (people, published, waits.collect())
}

#[test]
fn six_weeks_of_nights_weekends_holidays_and_a_change_of_the_clock() {
    let (people, published, waits) = run();
    assert_eq!(waits, BTreeSet::new(), "something is left over");
    assert!(published.len() > 1_000, "{}", published.len());
    let mut told_late = 0;
    for (id, (at, alert)) in &published {
        let told = people.told.get(id).map(Vec::as_slice).unwrap_or_default();
        let [Told { at: when, sink, mode }] = told else { panic!("{id}: once, not {told:?}") };
        match alert.severity.as_str() {
            "critical" => assert_eq!((when, *mode), (at, None), "{id}: at once, whenever"),
            "high" => {
                assert!(!is_off(sink, *when), "{id}: {sink} is off at {}", Millis(*when).iso());
                // As soon as somebody is there: at once, or with the first quarter of an hour that is not quiet.
                let first = (0..).map(|n| at + n * STEP_MS).find(|at| !is_off(sink, *at));
                assert_eq!(Some(*when), first, "{id} of {}", Millis(*at).iso());
                told_late += usize::from(when > at);
            }
            severity => {
                let expected = match severity {
                    "medium" => Mode::Daily,
                    "low" => Mode::Weekly,
                    _ => Mode::Checkin,
                };
                assert_eq!((sink.as_str(), *mode), ("mail", Some(expected)), "{id}");
                let days = if expected == Mode::Daily { 1 } else { 7 };
                // A day on which the clock is put forward is shorter, none here is longer.
                assert!(when > at && when - at <= days * DAY_MS, "{id}: {} ms", when - at);
            }
        }
    }
    assert!(told_late > 100, "the weeks had nights and weekends: {told_late}");

    let mut days: BTreeMap<Mode, Vec<String>> = BTreeMap::new();
    for (at, mode, _) in &people.digests {
        let at = local(*at, "Europe/Berlin");
        assert_eq!((at.hour(), at.minute()), (8, 0), "{at}");
        assert!(*mode == Mode::Daily || at.weekday() == Weekday::Monday, "{at}");
        days.entry(*mode).or_default().push(at.date().to_string());
    }
    let of = |mode: Mode| days.get(&mode).map(Vec::as_slice).unwrap_or_default();
    // Once a day, on the day of the change and on holidays, too, as long as there is something to say.
    assert_eq!(of(Mode::Daily).len(), 35, "{:?}", of(Mode::Daily));
    assert!(of(Mode::Daily).contains(&"2026-03-29".to_owned()));
    let mondays =
        ["2026-03-09", "2026-03-16", "2026-03-23", "2026-03-30", "2026-04-06", "2026-04-13"];
    assert_eq!(of(Mode::Weekly), mondays);
    assert_eq!(of(Mode::Checkin), mondays);
    let total: usize = people.digests.iter().map(|(.., total)| total).sum();
    let in_digests =
        published.values().filter(|(_, of)| !["high", "critical"].contains(&of.severity.as_str()));
    assert_eq!(total, in_digests.count(), "each counted once");
}
