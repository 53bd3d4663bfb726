//! Keys keep their bytes and values stay readable: one fixture per kind of row and version, compared value by value.
//!
//! `BELLWETHER_WRITE_FIXTURES=1 cargo test -p bellwether-store fixtures` writes the fixtures of the newest format anew. Once a
//! version has been released, its fixtures are never written again: a change of a row gets a new version.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use bellwether_core::account::{Backfill, Hot, SignalState, StoredBaseline, Watched};
use bellwether_core::alert::OpenAlert;
use bellwether_core::calendar::{Entry, Scope, Span};
use bellwether_core::chance::{Own, Tally, VolumeTally};
use bellwether_core::cohort::{CohortDay, CohortHour, CohortKey, DaySum, DayTotal, Ratio};
use bellwether_core::event::{OutcomeKind, Profile};
use bellwether_core::feedback::{Fact, Group, Raised, Results};
use bellwether_core::fleet::{FleetState, Noise, OpenFleet, Part, Period, Sums};
use bellwether_core::forecast::{Forecast, Limits};
use bellwether_core::history::{Activity, DayTotals, History, Older, Ring};
use bellwether_core::intraday::Settings;
use bellwether_core::life::{Ended, Life, Standing};
use bellwether_core::output::{
    Band, Category, Evidence, Maturity, Resolution, Severity, Transition,
};
use bellwether_core::points::Points;
use bellwether_core::policy::FeedbackPolicy;
use bellwether_core::promotion::{Began, Promotion};
use bellwether_core::ranking::Predicted;
use bellwether_core::rebaseline::{Change, Stage};
use bellwether_core::shadow::Shadow;
use bellwether_core::standing::{Line, Trait};
use bellwether_core::state::Clock;
use bellwether_core::streams::Streams;
use bellwether_core::tiers::{Levels, PlansDay};
use bellwether_core::time::{Day, Millis, YearDay};
use proptest::prelude::*;

use super::*;
use crate::format::{self, Format, Row};
use crate::seen::SeenRecord;

/// Fails unless the fixture of every format reads as `expected` and `expected` is written as the fixture.
fn check<T: Row + PartialEq + Debug>(name: &str, expected: &T) {
    for format in Format::ALL {
        let written = format::encode(expected, format);
        let bytes = fixture(name, format::value_version::<T>(format), &written);
        let read: T = format::decode("a fixture", &bytes).expect("the fixture is readable");
        assert_eq!(&read, expected, "{name}, {format:?}: read");
        assert_eq!(written, bytes, "{name}, {format:?}: written");
    }
}

/// The same for a kind of row that has one format.
fn check_plain<T>(name: &str, expected: &T)
where
    T: Serialize + for<'de> Deserialize<'de> + PartialEq + Debug,
{
    let bytes = plain_fixture(name, &encode(expected));
    let read: T = decode("a fixture", &bytes).expect("the fixture is readable");
    assert_eq!(&read, expected, "{name}: read");
    assert_eq!(encode(expected), bytes, "{name}: written");
}

/// The bytes of the fixture of a kind that has one format; one that is not there is written where that is asked for.
fn plain_fixture(name: &str, written: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/{name}.v1.bin"));
    if !path.exists() && std::env::var_os("BELLWETHER_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, written).expect("the fixture is writable");
    }
    std::fs::read(&path).expect("the fixture is in the repository")
}

/// The bytes of a fixture; those of values that came with the newest format are written anew where that is asked for.
fn fixture(name: &str, version: u8, written: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(format!("{name}.v{version}.bin"));
    let is_newest = version == Format::NEWEST.number();
    if is_newest && std::env::var_os("BELLWETHER_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(path.parent().expect("a file lies in a directory"))
            .expect("the crate's directory is writable");
        std::fs::write(&path, written).expect("the fixture is writable");
    }
    std::fs::read(&path).expect("the fixture is in the repository")
}

/// One of each fact.
fn results() -> Results {
    let (mut results, kind) = (Results::default(), || "churn_risk".to_owned());
    for fact in [
        Fact::Urgent { kind: kind(), withheld: false },
        Fact::Judged { kind: kind(), right: false, at: Millis(1_772_413_200_000), before: None },
        Fact::Acted { kind: kind(), after_ms: 90_000_000 },
        Fact::Followed { kind: kind(), group: Group::NotActed, stayed: true },
        Fact::Lost { warned_ms: Some(3_456_000_000), withheld: false },
    ] {
        results.learn(fact, &FeedbackPolicy::default());
    }
    results
}

fn evidence() -> Evidence {
    Evidence {
        signal: "logins".to_owned(),
        category: Category::Engagement,
        group: "usage".to_owned(),
        observed: 280.0,
        baseline: 450.5,
        unit: "logins/week".to_owned(),
        change_pct: Some(-37.75),
        z: -4.25,
        risk: true,
        onset: Day(20_500),
        window_days: 28,
        text: "logins fell by 38 % – since 16 February".to_owned(),
    }
}

fn signal() -> SignalState {
    SignalState {
        key: SignalKey(0xFEED_BEEF),
        open: vec![(
            Day(20_527),
            DayTotals { count: 3, sum_micros: -5, last_micros: 1_000_000, last_at: Millis(77) },
        )],
        first_day: Some(Day(20_400)),
        recent: vec![(Millis(1_772_323_200_000), -0.75)],
        baseline: Some(StoredBaseline { level: 450.5, spread: 12.25, weeks: 8 }),
        window_rest: 240.0,
        window_oldest: 40.0,
        evidence: Some(evidence()),
        points: Points(-1_250),
        observed: Some(280.0),
        published: Points(-1_200),
    }
}

fn hot() -> Hot {
    Hot {
        policy_version: "3f2a".to_owned(),
        segment: Some("smb".to_owned()),
        first_event_at: Some(Millis(1_700_000_000_000)),
        last_event_at: Some(Millis(1_772_323_200_000)),
        today: Day(20_527),
        today_ends_at: Millis(1_772_409_600_000),
        scheduled: true,
        held_until: Some(Millis(1_772_400_000_000)),
        backfill: Some(Backfill { floor: None, since: Millis(1_772_400_000_000) }),
        signals: vec![signal(), SignalState::default()],
        streams: Streams::default(),
        activity: Activity { newest: Day(20_527), bits: 1 << 127 | 5, role: None },
        context_points: [Points(1), Points(-2), Points(3)],
        context_published: [Points(4), Points(-5), Points(6)],
        score: Points(4_321),
        published_score: Some(Points(5_000)),
        published_band: Some(Band::AtRisk),
        published_base: Points(7_000),
        maturity: Some(Maturity::Established),
        sequence: 42,
        alerts: vec![OpenAlert {
            id: "a1b2".to_owned(),
            kind: "churn_risk".to_owned(),
            severity: Severity::Critical,
            opened_at: Millis(1_771_000_000_000),
            sequence: 2,
            last: (Transition::Escalated, Millis(1_772_000_000_000)),
            signals: vec![("logins".to_owned(), 450.5)],
            quiet_days: 1,
        }],
        resolved: vec![("usage_decline".to_owned(), Millis(1_770_000_000_000))],
        outcome: Some((OutcomeKind::Renewed, Millis(1_769_000_000_000))),
    }
}

#[test]
fn fixtures_of_account_rows_read_as_they_were_written() {
    check("hot", &hot());
    let mut ring = Ring::default();
    [0.0, 1.0, 300.0, 12.5, -3.0, 1e15].iter().for_each(|&value| ring.push(value));
    let rings = vec![(SignalKey(7), ring), (SignalKey(8), Ring::default())];
    check("history", &History { newest: Some(Day(20_526)), rings, older: Vec::new() });
    check_plain("older", &vec![(SignalKey(7), Older { sum: 1_234.5, exposure: 300.25 })]);
    let holiday = Span {
        from: Day(20_447),
        to: Day(20_453),
        kind: "holiday".to_owned(),
        note: Some("Christmas".to_owned()),
    };
    let changes = [Stage::Followed, Stage::Over(Day(20_460)), Stage::Normal(Day(20_531))];
    let changes = changes.map(|stage| Change {
        signal: SignalKey(7),
        since: Day(20_447),
        found: Day(20_449),
        before: 450.5,
        after: 280.0,
        risk: true,
        held: true,
        days_back: 3,
        stage,
    });
    let lines = Trait::ALL.into_iter().filter(|of| !of.is_of_contract());
    let mut lines: Vec<Line> = lines.map(|of| line(of, Some(0.25), 120)).collect();
    lines.push(line(Trait::Trend, None, 0));
    check_plain("standing", &lines);
    for format in Format::ALL {
        assert_eq!(encode_lines(&lines, format), Some(encode(&lines)), "{format:?}");
    }
    let raised = Raised {
        alert: "0123456789abcdef0123456789abcdef".to_owned(),
        kind: "churn_risk".to_owned(),
        opened_at: Millis(1_772_413_200_000),
        urgent_at: Some(Millis(1_772_413_200_001)),
        withheld: true,
        acted_at: None,
        verdict: Some((false, Millis(1_772_413_200_002))),
        over: false,
    };
    check("raised", &vec![Raised { over: true, ..raised.clone() }, raised]);
    let ended = Ended {
        at: Millis(1_772_413_200_003),
        resolution: Resolution::Manual,
        severity: Severity::High,
        sequence: 7,
    };
    let snoozed = Standing::Snoozed(Millis(1_772_413_200_004));
    let standings = [Standing::Open, Standing::Acknowledged, snoozed, Standing::Ended(ended)];
    let lives = standings.map(|standing| Life {
        alert: "0123456789abcdef0123456789abcdef".to_owned(),
        kind: "churn_risk".to_owned(),
        opened_at: Millis(1_772_413_200_000),
        standing,
        said: Some((OutcomeKind::Snoozed, Millis(1_772_413_200_001), Some("kim".to_owned()))),
        came_back: vec![Millis(1_772_413_200_002)],
        reopened: 3,
    });
    check("lives", &lives.to_vec());
    check("changes", &changes.to_vec());
    check_plain("masked", &vec![holiday]);
    let limits = Limits { low: 0.0, expected: 41.5, high: 1.0e15 };
    check("forecast", &Forecast { day: Day(20_527), limits: vec![(SignalKey(7), limits)] });
    let mut watched = Watched { newest: Millis(1_772_413_200_000), ..Watched::default() };
    for number in 0..600 {
        let value = f64::from(number * number % 89);
        watched.watch.see(Millis(i64::from(number) * 600_000), value, &Settings::default());
    }
    check_plain("watched", &watched);
    let last = [Some((Day(20_470), 3)), None, Some((Day(20_400), 1))];
    check_plain("own", &Own { since: Day(20_000), over: [1, 0, 300], last });
    check(
        "activity",
        &Activity { newest: Day(-1), bits: u128::MAX, role: Some("admin".to_owned()) },
    );
    check_plain(
        "profile",
        &Profile {
            account: AccountId::new("acme/ü").expect("an identifier"),
            as_of: Millis(1_700_000_000_000),
            name: Some("Acme GmbH".to_owned()),
            segment: Some("enterprise".to_owned()),
            plan: None,
            time_zone: Some("Europe/Berlin".to_owned()),
            region: Some("DE-BY".to_owned()),
            started_on: Some(Day(19_000)),
            renews_on: Some(Day(20_800)),
            owner: Some("kim".to_owned()),
            annual_value_usd: Some(12_000.5),
            entitlements: BTreeMap::from([("seats".to_owned(), 25.0)]),
            fiscal_year_end: None,
        },
    );
}

#[test]
fn fixtures_of_what_models_said_read_as_they_were_written() {
    let shadow = Shadow {
        of: EventId::new("c1").expect("an identifier"),
        sequence: 300,
        champion: (Points(4_105), Band::AtRisk),
        challenger: (Points(7_000), Band::Healthy),
    };
    check_plain("shadow", &shadow);
    let scores = vec![(-1, Points(0)), (733, Points(10_000))];
    check_plain("predicted", &Predicted { model: "0123456789ab".to_owned(), scores });
}

fn line(of: Trait, observed: Option<f64>, points: i32) -> Line {
    Line { of, observed, points: Points(points), published: Points(-3) }
}

/// Lines that the first version did not know are of a version of their own; in formats without such lines they are left out.
#[test]
fn lines_about_the_contract_read_as_they_were_written() {
    let lines = Trait::ALL.map(|of| line(of, Some(90.5), -250));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/standing.v4.bin");
    let written = encode_lines(&lines, Format::V4).expect("there are some");
    if !path.exists() && std::env::var_os("BELLWETHER_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, &written).expect("the fixture is writable");
    }
    let bytes = std::fs::read(&path).expect("the fixture is in the repository");
    assert_eq!(written, bytes, "written");
    assert_eq!(decode_lines("lines", &bytes).expect("readable"), lines);
    let refused =
        body("lines", &bytes).expect_err("of a newer version, to one that has the first alone");
    assert!(matches!(refused, StoreError::UnknownVersion { version: 4, .. }), "{refused}");
    let first = &lines[..5];
    for older in [Format::V1, Format::V2, Format::V3] {
        assert_eq!(encode_lines(&lines, older), Some(encode(&first)), "{older:?}");
        assert_eq!(encode_lines(&lines[5..], older), None, "{older:?}");
    }
    assert!(decode_lines("lines", &[&bytes[..], &[0]].concat()).is_err(), "too long");
    assert!(decode_lines("lines", &bytes[..bytes.len() - 1]).is_err(), "cut off");
}

/// A profile that has what the first version did not know is of a version of its own; every other one is written as it ever was.
#[test]
fn a_profile_with_a_fiscal_year_reads_as_it_was_written() {
    let plain = Profile {
        as_of: Millis(1_700_000_000_000),
        plan: Some("pro".to_owned()),
        ..crate::fixtures::profile(AccountId::new("acme").expect("an identifier"))
    };
    assert_eq!(encode_profile(&plain, Format::NEWEST), encode(&plain));
    assert_eq!(decode_profile("a profile", &encode(&plain)).expect("readable"), plain);
    let end = YearDay::parse("03-31");
    let profile = Profile { fiscal_year_end: end, ..plain };
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/profile.v2.bin");
    if !path.exists() && std::env::var_os("BELLWETHER_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, encode_profile(&profile, Format::V3))
            .expect("the fixture is writable");
    }
    let bytes = std::fs::read(&path).expect("the fixture is in the repository");
    assert_eq!(encode_profile(&profile, Format::V3), bytes, "written");
    for older in [Format::V1, Format::V2] {
        let plain = encode(&Profile { fiscal_year_end: None, ..profile.clone() });
        assert_eq!(encode_profile(&profile, older), plain, "{older:?} has no such version");
    }
    assert_eq!(decode_profile("a profile", &bytes).expect("readable"), profile);
    for cut in 1..bytes.len() {
        assert!(decode_profile("a profile", &bytes[..cut]).is_err(), "cut at {cut}");
    }
    let unknown = decode_profile("a profile", &[9, 1, 2]);
    assert!(matches!(unknown, Err(StoreError::UnknownVersion { version: 9, .. })), "{unknown:?}");
}

#[test]
fn fixtures_of_partition_rows_read_as_they_were_written() {
    check(
        "clock",
        &Clock {
            newest: Some(Millis(1_772_323_200_000)),
            fired: None,
            ticked: true,
            horizon: None,
        },
    );
    let sums = DaySum {
        weight: 120.5,
        relative: 110.25,
        accounts: 40,
        usual: 0.75,
        settled: Ratio { sum: 111.0, weight: 121.0 },
        excess: Ratio { sum: -1.5, weight: 20.0 },
    };
    let signals = vec![(SignalKey(7), sums), (SignalKey(8), DaySum::default())];
    let (shared, drift) = (Ratio { sum: 3.0, weight: 21.0 }, Ratio { sum: 0.25, weight: 0.5 });
    check_plain(
        "cohort",
        &CohortDay {
            accounts: 40,
            score: (280_000, 39),
            held_back: 2,
            told: true,
            signals,
            shared,
            drift,
        },
    );
    let entry = Entry {
        scope: Scope::Region("DE-BY".to_owned()),
        span: Span { from: Day(-1), to: Day(7), kind: "incident".to_owned(), note: None },
    };
    check_plain("calendar", &entry);
    let began = Some(Began { number: 3, at: Millis(1_772_413_200_001) });
    let model = Some("{\"format\":1}".to_owned());
    check_plain(
        "promotion",
        &Promotion { from: Millis(1_772_413_200_000), model, by: Some("ann".to_owned()), began },
    );
    check_plain("hour", &CohortHour { told: false, counts: vec![(SignalKey(7), 12.5)] });
    let compared = Sums { weight: 120.5, relative: 110.25, compared: 100.0, usual: 99.5 };
    let signals = vec![(SignalKey(7), compared)];
    check_plain("total", &DayTotal { accounts: 160, signals: signals.clone() });
    let part =
        Part { at: Millis(1_772_413_200_000), accounts: 40, score: (9, 1), held_back: 1, signals };
    check_plain("part", &part);
    let mut levels = Levels::default();
    [0.0, 12.5, 12.5, 4_000.0].iter().for_each(|level| levels.add(*level));
    let plans = BTreeMap::from([("pro".to_owned(), vec![(SignalKey(7), levels)])]);
    check_plain("plans", &PlansDay { plans });
    let evidence = bellwether_core::output::Evidence {
        signal: "logins".to_owned(),
        category: bellwether_core::output::Category::Engagement,
        group: "visits".to_owned(),
        observed: 1_203.0,
        baseline: 4_010.0,
        unit: "in the hour".to_owned(),
        change_pct: Some(-70.0),
        z: -9.5,
        risk: true,
        onset: Day(20_500),
        window_days: 1,
        text: "logins of all accounts fell by 70 % at 14:00 UTC on 2026-02-16".to_owned(),
    };
    let open = OpenFleet {
        id: "ab".to_owned(),
        opened_at: Millis(1_772_413_200_000),
        last: (Transition::Updated, Millis(1_772_416_800_000)),
        sequence: 2,
        until: Millis(1_772_416_800_000),
        held_back: 412,
        evidence: vec![evidence],
        score: Points(7_150),
        title: "logins of all accounts fell".to_owned(),
    };
    let mut noise = Noise::default();
    noise.see(0.25);
    let state = FleetState {
        sources: vec![(3, 492_337)],
        pending: vec![Period::Hour(492_336), Period::Day(Day(20_513))],
        weighed: (Some(492_335), None),
        noise: [vec![(SignalKey(7), noise)], Vec::new()],
        open: Some(open),
    };
    check_plain("fleet", &state);
    let passed = [[4, 2, 1, 0], [0; 4], [300, 0, 0, 0]];
    let volumes = vec![VolumeTally::default(), VolumeTally { days: 3_650, passed }];
    check_plain("chance", &Tally { findings: 0xFEED_BEEF, volumes });
    check_plain("results", &results());
    let hours = vec![(-1, vec![1, 2]), (492_312, vec![0, u64::MAX])];
    check("seen", &SeenRecord { hours });
}

#[test]
fn keys_keep_their_bytes() {
    let id = AccountId::new("acme").expect("an identifier");
    let activity = ActivityKey { signal: SignalKey(0x0102_0304), value: "kim".to_owned() };
    assert_eq!(AccountRow::Hot.key(&id), b"Aacme\x00\x01");
    assert_eq!(AccountRow::History.key(&id), b"Aacme\x00\x02");
    assert_eq!(AccountRow::Profile.key(&id), b"Aacme\x00\x03");
    assert_eq!(AccountRow::Activity(activity).key(&id), b"Aacme\x00\x04\x01\x02\x03\x04kim");
    assert_eq!(AccountRow::Older.key(&id), b"Aacme\x00\x05");
    assert_eq!(AccountRow::Forecast.key(&id), b"Aacme\x00\x07");
    let watched = AccountRow::Watched(SignalKey(0x0102_0304));
    assert_eq!(watched.key(&id), b"Aacme\x00\x06\x01\x02\x03\x04");
    assert_eq!(AccountRow::Own.key(&id), b"Aacme\x00\x10");
    assert_eq!(AccountRow::Standing.key(&id), b"Aacme\x00\x12");
    assert_eq!(AccountRow::Raised.key(&id), b"Aacme\x00\x13");
    assert_eq!(AccountRow::Lives.key(&id), b"Aacme\x00\x14");
    assert_eq!(AccountRow::Shadow.key(&id), b"Aacme\x00\x20");
    assert_eq!(AccountRow::Predicted.key(&id), b"Aacme\x00\x23");
    assert_eq!(AccountRow::Masked.key(&id), b"Aacme\x00\x08");
    assert_eq!(AccountRow::Changes.key(&id), b"Aacme\x00\x09");
    assert_eq!(calendar_key(&EventId::new("xmas").expect("an identifier")), b"Exmas");
    assert_eq!(promotion_key(&EventId::new("m1").expect("an identifier")), b"Mm1");
    assert_eq!(challenger_key(&EventId::new("m1").expect("an identifier")), b"Nm1");
    assert_eq!(CLOCK_KEY, b"C");
    let one = b"\x80\0\0\0\0\0\0\x01";
    let part = [&b"D\x04smb\x00\x01"[..], one, b"\0\0\0\x07"].concat();
    for (key, bytes) in [
        (CohortKey::Day(Day(1)), [&b"D\x01smb\x00"[..], one].concat()),
        (CohortKey::Hour(1), [&b"D\x02smb\x00"[..], one].concat()),
        (CohortKey::Total(Day(1)), [&b"D\x03smb\x00"[..], one].concat()),
        (CohortKey::Part(Period::Day(Day(1)), 7), part),
        (CohortKey::Fleet, b"D\x05smb\x00".to_vec()),
        (CohortKey::Hold, b"D\x06smb\x00".to_vec()),
        (CohortKey::Results, b"D\x08smb\x00".to_vec()),
        (CohortKey::Plans(Day(1)), [&b"D\x09smb\x00"[..], one].concat()),
        (CohortKey::Chance(1), [&b"D\x07smb\x00"[..], one].concat()),
    ] {
        assert_eq!(cohort_key("smb", key), bytes);
    }
}

#[test]
fn a_value_of_another_version_is_refused_by_name() {
    let version = Format::NEWEST.number() + 1;
    let mut value = format::encode(&Clock::default(), Format::NEWEST);
    value[0] = version;
    let expected = StoreError::UnknownVersion { what: "the clock row", version };
    assert!(expected.to_string().contains("state.format"), "{expected}");
    assert_eq!(format::decode::<Clock>("the clock row", &value), Err(expected));
}

#[test]
fn damaged_bytes_are_an_error_and_never_a_panic() {
    for format in Format::ALL {
        let value = format::encode(&hot(), format);
        for cut in 0..value.len() {
            let read = format::decode::<Hot>("a hot row", &value[..cut]);
            assert!(matches!(read, Err(StoreError::Corrupt(_))), "{format:?}: cut at {cut}");
        }
        let longer = [value.as_slice(), &[0]].concat();
        let read = format::decode::<Hot>("a hot row", &longer);
        assert!(matches!(read, Err(StoreError::Corrupt(_))), "{format:?}");
    }
    for key in [
        b"".as_slice(),
        b"A",
        b"Aacme",
        b"Aacme\x00",
        b"A\x00\x01",
        b"A\x00\x70",
        b"Aacme\x00\x04\x01",
        b"Aacme\x00\x01\x01",
        b"x",
        b"\x00",
        b"D",
        b"D\x01smb\0\0",
        b"D\x09smb\0",
        b"E",
        b"E\xff",
    ] {
        assert!(matches!(RowKey::decode(key), Err(StoreError::Corrupt(_))), "{key:?}");
    }
}

/// To rebuild the state would not help, and to upgrade does.
#[test]
fn a_kind_of_row_that_is_not_known_is_of_a_newer_version_and_no_damage() {
    let cases: [(&[u8], u8); 6] = [
        (b"Aacme\x00\x70", 0x70),
        (b"Aacme\x00\x70\x00\x00more", 0x70),
        (b"D\x0asmb\x00", 0x0a),
        (b"D\x0a", 0x0a),
        (b"X", b'X'),
        (b"Zanything", b'Z'),
    ];
    for (key, kind) in cases {
        let error = RowKey::decode(key).expect_err("it is not known");
        let is_meant =
            matches!(error, StoreError::UnknownVersion { version, .. } if version == kind);
        assert!(is_meant && !error.is_rebuildable(), "{key:?}: {error:?}");
        assert!(error.to_string().contains("upgrade bellwether"), "{error}");
    }
}

proptest! {
    #[test]
    fn keys_read_back_and_one_accounts_rows_lie_together(
        id in "[a-c /é]{1,4}", other in "[a-c /é]{1,4}", signal: u32, value: String
    ) {
        let id = AccountId::new(&id).expect("no control characters");
        let other = AccountId::new(&other).expect("no control characters");
        let activity = ActivityKey { signal: SignalKey(signal), value };
        let (day, hour) = (Day(signal.cast_signed()), i64::from(signal) << 16);
        for key in [
            CohortKey::Day(day),
            CohortKey::Hour(hour),
            CohortKey::Total(day),
            CohortKey::Part(Period::Hour(hour), signal),
            CohortKey::Part(Period::Day(day), signal),
            CohortKey::Fleet,
            CohortKey::Hold,
            CohortKey::Results,
            CohortKey::Plans(day),
            CohortKey::Chance(hour),
        ] {
            // Names of cohorts are people's own text.
            for name in [other.as_str(), &activity.value] {
                let cohort = cohort_key(name, key);
                let read = RowKey::Cohort(name.to_owned(), key);
                prop_assert_eq!(RowKey::decode(&cohort), Ok(read));
                prop_assert!(cohort.as_slice() >= COHORTS_BEGIN && cohort.as_slice() < COHORTS_END);
            }
        }
        let rows = [AccountRow::Hot, AccountRow::History, AccountRow::Profile, AccountRow::Older, AccountRow::Own, AccountRow::Standing, AccountRow::Raised, AccountRow::Lives, AccountRow::Forecast, AccountRow::Watched(SignalKey(signal)), AccountRow::Masked, AccountRow::Changes];
        for row in rows.into_iter().chain([AccountRow::Activity(activity)]) {
            let key = row.key(&id);
            prop_assert!(key.starts_with(&account_prefix(&id)) && key < account_end(&id));
            let within_other = key >= account_prefix(&other) && key < account_end(&other);
            prop_assert_eq!(within_other, id == other);
            prop_assert_eq!(RowKey::decode(&key), Ok(RowKey::Account(id.clone(), row)));
        }
    }

    #[test]
    fn sortable_numbers_sort(a: i64, b: i64) {
        prop_assert_eq!(a.cmp(&b), sortable(a).cmp(&sortable(b)));
        prop_assert_eq!(from_sortable(sortable(a)), a);
    }
}
