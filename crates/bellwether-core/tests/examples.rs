//! Examples to learn from: what an expert's scorecard reads of each account, every week, whatever scores and whatever comes later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::event::{Event, Input, Profile};
use bellwether_core::id::{AccountId, EventId, MemberId};
use bellwether_core::output::{LearningExample, Output};
use bellwether_core::points::Points;
use bellwether_core::policy::{Compiled, Policy, Signal};
use bellwether_core::score::{Context, ExpertScorecard, Reading, Scorer};
use bellwether_core::standing::Trait;
use bellwether_core::state::MemoryState;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Day, HOUR_MS, Millis};

/// A Monday.
const START_MS: i64 = 20_402 * DAY_MS;
const DAYS: i64 = 84;

/// A scorecard that gives twice the expert's points.
#[derive(Debug)]
struct Twice;

impl Scorer for Twice {
    fn version(&self) -> &'static str {
        "twice"
    }

    fn signal(&self, cohort: &str, signal: &Signal, reading: &Reading, policy: &Policy) -> Points {
        Points(2 * ExpertScorecard.signal(cohort, signal, reading, policy).0)
    }

    fn absence(&self, cohort: &str, signal: &Signal, z: f64) -> Points {
        Points(2 * ExpertScorecard.absence(cohort, signal, z).0)
    }

    fn context(&self, context: &Context, policy: &Policy) -> [Points; 3] {
        ExpertScorecard.context(context, policy).map(|points| Points(2 * points.0))
    }
}

fn policy(learning: &str) -> Compiled {
    let text = include_str!("../policies/default.toml").replace("example_days = 7 ", learning);
    Compiled::parse("weekly.toml", &text).expect("a good policy")
}

fn core(learning: &str) -> Core {
    Core::new(Arc::new(policy(learning)))
}

/// `daily` comes every day, `fading` no more after eight weeks; a third one begins in the fifth week.
fn events() -> Vec<Event> {
    let mut events = Vec::new();
    for (day, number) in (0..DAYS).flat_map(|day| (0..24).map(move |number| (day, number))) {
        let accounts = [("daily", true), ("fading", day < 56), ("late", day > 30 && day % 2 == 0)];
        for (account, comes) in accounts {
            let thinned = account == "daily" && day > 60 && number % 4 > 0;
            if !comes || thinned {
                continue;
            }
            events.push(Event {
                id: EventId::new(&format!("{account}-{day}-{number}")).expect("an identifier"),
                account: AccountId::new(account).expect("an identifier"),
                occurred_at: Millis(START_MS + day * DAY_MS + number * HOUR_MS),
                kind: "login".to_owned(),
                member: Some(MemberId::new(&format!("m{}", number % 5)).expect("an identifier")),
                role: None,
                feature: None,
                value: None,
                segment: None,
            });
        }
    }
    events
}

fn run(core: &Core, events: impl IntoIterator<Item = Event>) -> Vec<Output> {
    let (mut state, mut out) = (MemoryState::default(), Vec::new());
    for event in events {
        let at = event.occurred_at;
        let Ok(verdict) = core.apply(&mut state, Input::Event(event), at, &mut out);
        verdict.expect("admitted");
    }
    out
}

fn examples(out: &[Output]) -> Vec<&LearningExample> {
    let examples = out.iter().filter_map(Output::example);
    examples.collect()
}

/// A profile that was made at a time.
fn profile(as_of_ms: i64, renews_on: Day) -> Input {
    Input::Profile(Profile {
        account: AccountId::new("daily").expect("an identifier"),
        as_of: Millis(as_of_ms),
        name: None,
        segment: None,
        plan: None,
        time_zone: None,
        region: None,
        started_on: None,
        renews_on: Some(renews_on),
        owner: None,
        annual_value_usd: Some(1_000.0),
        entitlements: BTreeMap::new(),
        fiscal_year_end: None,
    })
}

/// Where history is read again, the topic of profiles has what became of the account since.
#[test]
fn a_profile_of_later_is_not_known_yet() {
    let core = core("example_days = 7 ");
    let (mut state, mut out) = (MemoryState::default(), Vec::new());
    let half = START_MS + 40 * DAY_MS;
    let renews_on = Day(20_402 + 100);
    let Ok(verdict) = core.apply(&mut state, profile(half, renews_on), Millis(half), &mut out);
    verdict.expect("taken");
    for event in events() {
        let at = event.occurred_at;
        let Ok(verdict) = core.apply(&mut state, Input::Event(event), at, &mut out);
        verdict.expect("admitted");
    }
    let of_daily: Vec<_> =
        examples(&out).into_iter().filter(|of| of.account_id.as_str() == "daily").collect();
    for example in of_daily {
        let day = Day((example.at.0 / DAY_MS) as i32);
        let known = example.at.0 > half;
        let days = known.then(|| f64::from(renews_on.since(day)));
        assert_eq!(reading(example, "renewal"), days, "{example:?}");
        assert_eq!(reading(example, "value"), known.then_some(1_000.0));
    }
}

fn reading(example: &LearningExample, of: &str) -> Option<f64> {
    let known: BTreeMap<&str, Option<f64>> =
        example.readings.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    known[of]
}

#[test]
fn every_account_is_read_on_mondays() {
    let core = core("example_days = 7 ");
    let out = run(&core, events());
    let mut weeks: BTreeMap<&str, Vec<&LearningExample>> = BTreeMap::new();
    for example in examples(&out) {
        weeks.entry(example.account_id.as_str()).or_default().push(example);
    }
    let count = |account: &str| weeks[account].len();
    // From the second Monday on; what is due by the last event is judged.
    assert_eq!((count("daily"), count("fading"), count("late")), (11, 11, 7));
    for example in weeks.values().flatten() {
        let since_monday = (example.at.0 - START_MS).rem_euclid(7 * DAY_MS);
        assert!(since_monday < 4 * HOUR_MS, "{example:?}");
        assert_eq!((example.horizon_days, example.step_days), (28, 7));
        let names: Vec<&str> = example.readings.iter().map(|(name, _)| name.as_str()).collect();
        let signals = core.policy().signals.iter().map(|signal| format!("signal:{}", signal.name));
        let expected: BTreeSet<String> =
            signals.chain(Trait::ALL.map(|of| of.as_str().to_owned())).collect();
        assert_eq!(names, expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
    // Worked by hand: there every day, with five members, since the first day.
    let fifth = weeks["daily"][4];
    assert_eq!(reading(fifth, "activity"), Some(1.0));
    assert_eq!(reading(fifth, "members"), Some(5.0));
    assert_eq!(reading(fifth, "maturity"), Some(35.0));
    // Two weeks without a day of 70, half-life two weeks: (2^-1 - 2^-5) / (1 - 2^-5).
    let gone = reading(weeks["fading"][9], "activity").expect("a reading");
    assert!((gone - (0.5 - 0.031_25) / (1.0 - 0.031_25)).abs() < 1e-9, "{gone}");
    assert_eq!(reading(weeks["late"][0], "signal:logins"), None, "too young for a baseline");
    let ids: BTreeSet<&str> = weeks.values().flatten().map(|of| of.id.as_str()).collect();
    assert_eq!(ids.len(), 29);
}

#[test]
fn what_scores_makes_no_difference() {
    let expert = core("example_days = 7 ");
    let other = expert.clone().scored_by(Arc::new(Twice));
    let (by_expert, by_other) = (run(&expert, events()), run(&other, events()));
    assert_eq!(examples(&by_expert), examples(&by_other));
    let moved =
        |example: &&LearningExample| reading(example, "signal:logins").is_some_and(|of| of < -0.1);
    assert!(examples(&by_expert).iter().any(moved), "there is something to read");
}

#[test]
fn nothing_of_later_is_in_an_example() {
    let core = core("example_days = 7 ");
    let whole = run(&core, events());
    for day in [20, 41, 62, 80] {
        let cut = Millis(START_MS + day * DAY_MS);
        let early = run(&core, events().into_iter().filter(|event| event.occurred_at < cut));
        let known: Vec<_> =
            examples(&whole).into_iter().filter(|of| of.at.0 < cut.0 - DAY_MS).collect();
        let early: Vec<_> =
            examples(&early).into_iter().filter(|of| of.at.0 < cut.0 - DAY_MS).collect();
        assert_eq!(early, known, "day {day}");
        assert!(!known.is_empty());
    }
}

#[test]
fn nothing_else_depends_on_examples() {
    let rest = |out: Vec<Output>| -> Vec<String> {
        let rest = out.into_iter().filter(|output| !matches!(output, Output::Example(_)));
        rest.map(|output| format!("{output:?}")).collect()
    };
    let (with, without) = (core("example_days = 7 "), core("example_days = 0 "));
    let out = run(&without, events());
    assert!(examples(&out).is_empty());
    let [ours, theirs] = [&with, &without].map(|core| core.policy().version().to_owned());
    let expected: Vec<String> =
        rest(run(&with, events())).iter().map(|text| text.replace(&ours, &theirs)).collect();
    // Ids are of contents, of which the policy's version is a part.
    let bare = |lines: Vec<String>| -> Vec<String> {
        lines.iter().map(|line| without_ids(line)).collect()
    };
    assert_eq!(bare(rest(out)), bare(expected));
}

/// Without what are 32 hexadecimal digits.
fn without_ids(text: &str) -> String {
    let parts = text.split('"');
    let is_id = |part: &str| part.len() == 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.filter(|part| !is_id(part)).collect::<Vec<_>>().join("\"")
}

#[test]
fn steps_and_horizons_out_of_range_are_refused() {
    for (wrong, named) in [
        ("example_days = 92 ", "learning.example_days"),
        ("example_days = 7\nhorizon_days = 6 #", "learning.horizon_days"),
    ] {
        let text = include_str!("../policies/default.toml").replace("example_days = 7 ", wrong);
        let text = text.replacen("\nhorizon_days = 28", "\n# 28", 1);
        let error = Compiled::parse("wrong.toml", &text).expect_err("out of range");
        assert_eq!(error.key, named);
    }
}
