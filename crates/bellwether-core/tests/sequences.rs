//! Courses of events that cost points, worked by hand; and what holds of their lines whatever happens.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::account::{Account, SignalState};
use bellwether_core::event::{Event, Input};
use bellwether_core::history::Ring;
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::{Contribution, Output};
use bellwether_core::points::Points;
use bellwether_core::policy::{Compiled, DEFAULT_TOML, PolicyError};
use bellwether_core::score::{ExpertScorecard, Scorer};
use bellwether_core::state::MemoryState;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Day, HOUR_MS, Millis};
use proptest::prelude::*;

/// A Monday.
const START: i64 = 20_402;
const SIGNALS: &str = r#"
name = "courses"
[score]
publish_min_points = 0.01
[[signal]]
name = "logins"
category = "engagement"
group = "visits"
direction = "down"
aggregate = "count"
match = { types = ["login"] }
unit = "logins/week"
weight = 10.0
kind = "usage_decline"
[[signal]]
name = "sentiment"
label = "support sentiment"
category = "support"
group = "sentiment"
direction = "down"
aggregate = "mean"
match = { types = ["support.message"] }
unit = "sentiment"
weight = 8.0
kind = "sentiment_slide"
streak = { threshold = -0.25, fall = 0.45 }
[[signal]]
name = "visits"
label = "visits to downgrade pages"
category = "financial"
group = "intent"
direction = "up"
aggregate = "count"
match = { types = ["page.viewed"] }
unit = "visits/week"
weight = 8.0
kind = "downgrade_intent"
[[signal]]
name = "seats"
label = "seats in use"
category = "financial"
group = "seats"
direction = "down"
aggregate = "last"
match = { types = ["seats.used"] }
unit = "seats"
weight = 8.0
kind = "seat_reduction"
"#;
const SEQUENCES: &str = r#"
[[sequence]]
name = "support_slide"
category = "support"
weight = 6.0
when = { worsening = { signal = "sentiment", times = 4, by = 0.6, within_days = 30 } }
[[sequence]]
name = "seats_after_visits"
category = "financial"
weight = 8.0
fades_days = 20
when = { follows = { first = { comes = { signal = "visits", amount = 2.0 } }, then = { falls = { signal = "seats", percent = 10.0 } }, within_days = 14 } }
"#;

fn policy() -> Arc<Compiled> {
    Arc::new(parse(SEQUENCES).expect("a good policy"))
}

fn parse(sequences: &str) -> Result<Compiled, PolicyError> {
    Compiled::parse("courses.toml", &format!("{SIGNALS}{sequences}"))
}

/// What happens on a day: a type of event, and its value.
type Told = (i64, &'static str, f64);

/// An account that logs in every morning, and what else happens at noon.
struct Run {
    core: Core,
    state: MemoryState,
    out: Vec<Output>,
    events: u32,
}

impl Run {
    fn new(policy: Arc<Compiled>) -> Run {
        let core = Core::new(policy);
        Run { core, state: MemoryState::default(), out: Vec::new(), events: 0 }
    }

    fn event(&mut self, at: Millis, kind: &str, value: Option<f64>) {
        self.events += 1;
        let event = Event {
            id: EventId::new(&format!("e{}", self.events)).expect("an id"),
            account: AccountId::new("acme").expect("an id"),
            occurred_at: at,
            kind: kind.to_owned(),
            member: None,
            role: None,
            feature: None,
            value,
            segment: None,
        };
        let input = Input::Event(event);
        let Ok(verdict) = self.core.apply(&mut self.state, input, at, &mut self.out);
        verdict.expect("admitted");
    }

    fn day(&mut self, day: i64, told: &[Told]) {
        let at = |hour: i64| Millis((START + day) * DAY_MS + hour * HOUR_MS);
        // By then the day before is judged.
        self.event(at(9), "login", None);
        for (number, (_, kind, value)) in (0..).zip(told.iter().filter(|(of, ..)| *of == day)) {
            self.event(at(12).plus(number), kind, Some(*value));
        }
    }

    /// Lives through days; the last one is judged in the next morning.
    fn live(mut self, days: std::ops::RangeInclusive<i64>, told: &[Told]) -> Run {
        let end = *days.end();
        days.for_each(|day| self.day(day, told));
        self.day(end + 1, &[]);
        self
    }

    fn account(&self) -> &Account {
        self.state.accounts()[&AccountId::new("acme").expect("an id")]
    }

    /// The line of a sequence in the explanation of now.
    fn line(&self, name: &str) -> Option<Contribution> {
        let record = self.core.record(self.account().clone()).expect("a record");
        record.contributions.into_iter().find(|line| line.name == name)
    }

    /// Its points and the days since it was complete.
    fn said(&self, name: &str) -> Option<(Points, Option<f64>)> {
        self.line(name).map(|line| (line.points, line.observed))
    }

    /// What a learned scorecard reads of a sequence; none: it is missing.
    fn reading(&self, name: &str) -> Option<f64> {
        let (account, policy) = (self.account(), self.core.policy());
        let sequence = policy.sequences.iter().find(|sequence| sequence.name == name);
        let day = account.hot.today.plus(-1);
        let reading = sequence.expect("of the policy").reading(account, policy, day);
        Some(reading).filter(|reading| !reading.is_nan())
    }
}

const MESSAGE: &str = "support.message";
const VISIT: &str = "page.viewed";
const SEATS: &str = "seats.used";
/// From .6 to -.1 in four messages.
const SLIDE: [Told; 4] =
    [(40, MESSAGE, 0.6), (41, MESSAGE, 0.3), (42, MESSAGE, 0.3), (43, MESSAGE, -0.1)];

#[test]
fn interactions_that_worsen_in_a_row_cost_points_and_fade() {
    let run =
        |until, more: &[Told]| Run::new(policy()).live(0..=until, &[&SLIDE[..], more].concat());
    let line = run(43, &[]).line("support_slide").expect("it is complete");
    assert_eq!((line.points, line.observed), (Points(-600), Some(0.0)));
    assert_eq!(
        line.unit,
        "days since 4 interactions of support sentiment in a row, none better than before"
    );
    assert_eq!(line.baseline, None);
    // A week of four: three quarters are left.
    assert_eq!(run(50, &[]).said("support_slide"), Some((Points(-450), Some(7.0))));
    assert_eq!(run(70, &[]).said("support_slide"), Some((Points(-21), Some(27.0))), "6 / 28");
    let faded = run(71, &[]);
    assert_eq!((faded.said("support_slide"), faded.reading("support_slide")), (None, Some(0.0)));
    // A better one ends it, a worse one goes on with it.
    let better = run(50, &[(49, MESSAGE, 0.0)]);
    assert_eq!((better.said("support_slide"), better.reading("support_slide")), (None, Some(0.0)));
    for next in [-0.1, -0.2, -0.4] {
        let worse = run(50, &[(49, MESSAGE, next)]);
        let said = Some((Points(-579), Some(1.0)));
        assert_eq!(worse.said("support_slide"), said, "6 * 27 / 28: {next}");
    }
    // One that comes much later is too far from the first, and takes nothing back.
    let late = run(75, &[(50, MESSAGE, -0.1), (73, MESSAGE, -0.15)]);
    assert_eq!(late.said("support_slide"), Some((Points(-64), Some(25.0))), "6 * 3 / 28");
}

#[test]
fn what_is_no_run_of_interactions_costs_nothing() {
    let reading = |told: &[Told]| Run::new(policy()).live(0..=60, told).reading("support_slide");
    assert_eq!(reading(&[]), None, "it is missing where there is none");
    assert_eq!(reading(&SLIDE[..3]), None, "three of four say nothing yet");
    let shallow = SLIDE.map(|(day, kind, value)| (day, kind, value / 2.0));
    assert_eq!(reading(&shallow), Some(0.0), "by .35");
    let mut long = SLIDE;
    long[0].0 = 12;
    assert_eq!(reading(&long), Some(0.0), "within 31 days");
    long[0].0 = 13;
    assert!(reading(&long) > Some(0.0), "within 30");
    let up_and_down = [(40, MESSAGE, 0.6), (41, MESSAGE, -0.2), (42, MESSAGE, 0.1)];
    let up_and_down = [&up_and_down[..], &[(43, MESSAGE, -0.9)]].concat();
    assert_eq!(reading(&up_and_down), Some(0.0));
}

/// The run of three of the signal goes on beside it, with more values kept.
#[test]
fn a_streak_of_three_is_flagged_as_it_was() {
    let told = [(40, MESSAGE, 0.3), (41, MESSAGE, 0.2), (42, MESSAGE, -0.1), (43, MESSAGE, -0.4)];
    let run = |policy| Run::new(policy).live(0..=43, &told);
    let (with, without) = (run(policy()), run(Arc::new(parse("").expect("a good policy"))));
    let evidence = |run: &Run| run.account().hot.signals[1].evidence.clone();
    assert!(evidence(&with).is_some_and(|found| found.is_run()));
    assert_eq!(evidence(&with), evidence(&without));
    let kept = |run: &Run| run.account().hot.signals[1].recent.len();
    assert_eq!((kept(&with), kept(&without)), (4, 3));
}

#[test]
fn what_follows_after_something_else_costs_points_and_fades() {
    let told = [(3, SEATS, 20.0), (40, VISIT, 0.0), (40, VISIT, 0.0), (45, SEATS, 15.0)];
    let run = |until| Run::new(policy()).live(0..=until, &told);
    let before = run(44);
    assert_eq!(before.said("seats_after_visits"), None);
    assert_eq!(before.reading("seats_after_visits"), Some(0.0), "both are known");
    let line = run(45).line("seats_after_visits").expect("it is complete");
    assert_eq!((line.points, line.observed), (Points(-800), Some(0.0)));
    assert_eq!(line.unit, "days since a fall of seats in use after visits to downgrade pages");
    // Five days of twenty: three quarters are left.
    assert_eq!(run(50).said("seats_after_visits"), Some((Points(-600), Some(5.0))));
    assert_eq!(run(64).said("seats_after_visits"), Some((Points(-40), Some(19.0))));
    assert_eq!(run(65).said("seats_after_visits"), None);
}

#[test]
fn what_does_not_follow_costs_nothing() {
    let reading = |told: &[Told]| {
        let seats = [(3, SEATS, 20.0)];
        let run = Run::new(policy()).live(0..=60, &[&seats[..], told].concat());
        run.reading("seats_after_visits")
    };
    let visits = |day| [(day, VISIT, 0.0), (day, VISIT, 0.0)];
    let then = |day, told: Told| reading(&[&visits(day)[..], &[told]].concat());
    assert!(then(41, (55, SEATS, 15.0)) > Some(0.0), "fourteen days later");
    assert_eq!(then(40, (55, SEATS, 15.0)), Some(0.0), "fifteen");
    assert!(then(55, (55, SEATS, 15.0)) > Some(0.0), "on the same day");
    assert_eq!(then(56, (55, SEATS, 15.0)), Some(0.0), "the other way round");
    assert_eq!(then(50, (55, SEATS, 18.5)), Some(0.0), "by 7.5 %");
    assert_eq!(then(50, (55, SEATS, 25.0)), Some(0.0), "a rise");
    assert_eq!(reading(&[(50, VISIT, 0.0), (55, SEATS, 15.0)]), Some(0.0), "one visit");
    assert_eq!(
        reading(&[(55, SEATS, 15.0)]),
        None,
        "of an account without visits nothing is known"
    );
    let run = Run::new(policy()).live(0..=60, &visits(50));
    assert_eq!(run.reading("seats_after_visits"), None, "nor of one without seats");
}

/// Messages, visits and seats by chance.
fn by_chance() -> Vec<Told> {
    let mut seed = 11_u64;
    let mut chance = |of: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % of
    };
    let mut told = Vec::new();
    for day in 0..150 {
        match chance(6) {
            0 => told.push((day, MESSAGE, chance(20) as f64 / 10.0 - 1.0)),
            1 => (0..=chance(3)).for_each(|_| told.push((day, VISIT, 0.0))),
            2 => told.push((day, SEATS, 5.0 + chance(20) as f64)),
            _ => {}
        }
    }
    told
}

/// How many records were published; every one of them adds up.
fn add_up(out: &[Output]) -> BTreeMap<&'static str, usize> {
    let (mut moved, mut last) = (BTreeMap::new(), None);
    for output in out {
        if let Output::ScoreChanged(change) = output {
            assert_eq!(change.previous_score, last);
            let delta: Points = change.movements.iter().map(|line| line.delta).sum();
            assert_eq!(delta, change.score - last.unwrap_or_default());
            last = Some(change.score);
            for name in ["support_slide", "seats_after_visits"] {
                let is_told = change.movements.iter().any(|line| line.name == name);
                *moved.entry(name).or_default() += usize::from(is_told);
            }
        }
        if let Output::Health(record) = output {
            let sum: Points = record.contributions.iter().map(|line| line.points).sum();
            assert_eq!(sum, record.score);
            let of_category = |category| {
                let lines = record.contributions.iter();
                let lines = lines.filter(|line| line.category == Some(category));
                lines.map(|line| line.points).sum::<Points>()
            };
            for sub in &record.sub_scores {
                assert_eq!(sub.points, of_category(sub.category), "{:?}", sub.category);
            }
        }
    }
    moved
}

#[test]
fn records_add_up_and_the_same_comes_out_again() {
    let told = by_chance();
    let run = Run::new(policy()).live(0..=150, &told);
    let moved = add_up(&run.out);
    assert!(moved.len() == 2 && moved.values().all(|count| *count > 2), "{moved:?}");
    assert_eq!(Run::new(policy()).live(0..=150, &told).out, run.out);
}

/// The lines of a sequence that a policy no longer has are told to be gone, and those of one that it has anew come.
#[test]
fn records_add_up_when_the_policy_changes() {
    let told = by_chance();
    let end = told.iter().rev().find(|(_, kind, _)| *kind == SEATS).expect("some").0;
    let plain = || Core::new(Arc::new(parse("").expect("a good policy")));
    let mut run = Run::new(policy()).live(0..=50, &SLIDE);
    assert!(run.said("support_slide").is_some());
    run.core = plain();
    let mut run = run.live(52..=60, &[]);
    assert!(run.account().hot.signals.len() == 4 && run.line("support_slide").is_none());
    run.core = Core::new(policy());
    let run = run.live(62..=end, &told);
    assert!(run.account().hot.signals.len() == 6);
    add_up(&run.out);
}

#[test]
fn without_sequences_nothing_is_as_if_there_were_some() {
    let without = parse("").expect("a good policy");
    let text = serde_json::to_string(&*without).expect("JSON");
    assert!(!text.contains("sequence"), "the version is the one that it had: {text}");
    let (one, other) = (Run::new(Arc::new(without)), Run::new(policy()));
    let told = [(3, SEATS, 20.0), (40, VISIT, 0.0)];
    let points = |run: Run| {
        let run = run.live(0..=60, &told);
        let states = run.account().hot.signals.iter().take(4);
        let lines = states.map(|state| (state.points, state.observed)).collect::<Vec<_>>();
        (lines, run.account().hot.score)
    };
    assert_eq!(points(one), points(other), "one that is not complete changes no score");
}

#[test]
fn what_cannot_be_a_sequence_is_refused() {
    let with = |name: &str, when: &str| {
        parse(&format!(
            "[[sequence]]\nname = \"{name}\"\ncategory = \"support\"\nweight = 5.0\nwhen = {when}"
        ))
    };
    let comes = |signal: &str| format!("{{ comes = {{ signal = \"{signal}\" }} }}");
    let falls = |signal: &str| format!("{{ falls = {{ signal = \"{signal}\", percent = 5.0 }} }}");
    let follows = |first: &str, then: &str| {
        format!("{{ follows = {{ first = {first}, then = {then}, within_days = 7 }} }}")
    };
    let run = |signal: &str, times: u8| {
        format!(
            "{{ worsening = {{ signal = \"{signal}\", times = {times}, by = 0.5, within_days = 9 }} }}"
        )
    };
    let good = follows(&comes("visits"), &comes("sentiment"));
    with("fine", &good).expect("a good policy");
    for (name, when, key, why) in [
        ("fine", run("logins", 3), "when.signal", "is not mean"),
        ("fine", run("sentiment", 2), "when.times", "is 2"),
        ("fine", run("nothing", 3), "when.signal", "is no signal"),
        ("fine", follows(&comes("seats"), &comes("logins")), "first.signal", "is a gauge"),
        ("fine", follows(&comes("visits"), &falls("logins")), "then.signal", "is no gauge"),
        ("fine", follows(&comes("visits"), &comes("visits")), "when.then", "the same as"),
        ("logins", good.clone(), "name", "clashes"),
        ("tenure", good.clone(), "name", "clashes"),
        ("renewal", good.clone(), "name", "clashes"),
        ("Fine", good.clone(), "name", "a-z"),
    ] {
        let refused = with(name, &when).expect_err(&when);
        assert!(refused.key.ends_with(key), "{refused}");
        assert!(refused.message.contains(why), "{refused}");
    }
    let rolling = format!("{SEQUENCES}\n[rolling]\nenabled = true");
    assert_eq!(parse(&rolling).expect_err("no closed days").key, "sequence");
    let twice = format!("{SEQUENCES}{SEQUENCES}");
    assert!(parse(&twice).expect_err("two of one name").message.contains("clashes"));
}

/// Those that the default policy shows, with their comment signs taken away.
#[test]
fn the_examples_of_the_default_policy_are_good() {
    let (policy, examples) = DEFAULT_TOML.split_once("# [[sequence]]").expect("an example");
    let lines = examples.lines().map(|line| line.trim_start_matches("# "));
    let text = format!("{policy}[[sequence]]{}", lines.collect::<Vec<_>>().join("\n"));
    let with = Compiled::parse("examples.toml", &text.replace("\n#\n", "\n")).expect("good");
    let units = with.sequences.iter().map(|sequence| sequence.unit(&with));
    assert_eq!(
        units.collect::<Vec<_>>(),
        [
            "days since 3 interactions of support sentiment in a row, none better than before",
            "days since a fall of seats in use after visits to downgrade pages",
        ]
    );
    assert!(Compiled::default_policy().sequences.is_empty());
}

/// An account of which these interactions, and these last days of visits and seats, are known.
fn known(values: &[f64], visits: &[f64], seats: &[f64]) -> Account {
    let (policy, day) = (policy(), Day(START as i32 + 100));
    let mut account = Account::new(AccountId::new("acme").expect("an id"));
    let ring = |days: &[f64]| Ring::from(days.to_vec());
    let days = [&visits[..0], &visits[..0], visits, seats];
    account.history.rings = policy.keys().iter().copied().zip(days.map(ring)).collect();
    account.history.newest = Some(day);
    account.hot.today = day.plus(1);
    account.hot.signals = policy
        .state_keys()
        .iter()
        .map(|&key| SignalState { key, first_day: Some(day), ..SignalState::default() })
        .collect();
    let at = |number: i64| Millis(i64::from(day.0) * DAY_MS + number);
    account.hot.signals[1].recent = (0..).map(at).zip(values.iter().copied()).collect();
    account
}

fn points(account: &Account) -> [Points; 2] {
    let policy = policy();
    let day = account.hot.today.plus(-1);
    let of = |index: usize| {
        let sequence = &policy.sequences[index];
        let days = sequence.days_since(account, &policy, day).expect("all are known");
        ExpertScorecard.sequence("", sequence, sequence.strength(days))
    };
    [of(0), of(1)]
}

proptest! {
    /// Worse interactions, more visits and fewer seats never earn points, nor cost more than the weight.
    #[test]
    fn more_evidence_of_risk_never_earns_points(
        values in prop::collection::vec(-1.0f64..1.0, 4),
        visits in prop::collection::vec(prop_oneof![3 => Just(0.0), 1 => (1u8..5).prop_map(f64::from)], 40),
        seats in prop::collection::vec((0u8..20).prop_map(f64::from), 40),
        day in 0..40usize,
        more in 0.0f64..3.0,
    ) {
        let before = points(&known(&values, &visits, &seats));
        let mut worse_values = values.clone();
        worse_values[3] -= more;
        let mut one_more = values.clone();
        one_more.push(values[3] - more);
        let mut more_visits = visits.clone();
        more_visits[day] += more;
        let mut fewer_seats = seats.clone();
        fewer_seats[39] = (fewer_seats[39] - more).max(0.0);
        for after in [
            points(&known(&worse_values, &visits, &seats)),
            points(&known(&one_more, &visits, &seats)),
            points(&known(&values, &more_visits, &seats)),
            points(&known(&values, &visits, &fewer_seats)),
        ] {
            for (before, after) in before.into_iter().zip(after) {
                prop_assert!(after <= before, "{after} > {before}");
                prop_assert!(after >= Points(-800) && after <= Points::ZERO);
            }
        }
    }
}
