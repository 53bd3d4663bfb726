//! The calendar: announced days are no news, and only where and for as long as they are announced.

use std::sync::Arc;

use bellwether_core::account::Account;
use bellwether_core::calendar::{Entry, SCOPE_ENTRIES_MAX, Scope, Span};
use bellwether_core::event::{Event, Input, Profile};
use bellwether_core::id::{AccountId, EventId, MemberId};
use bellwether_core::output::{AlertEvent, Output, Severity};
use bellwether_core::policy::{Compiled, Policy};
use bellwether_core::reject::Reason;
use bellwether_core::state::{MemoryState, State};
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Day, Millis, YearDay};

/// 2024-01-01, a Monday.
const START: Day = Day(19_723);
/// Two weeks, from a Monday on.
const AWAY: std::ops::Range<i32> = 84..98;

fn id(text: &str) -> EventId {
    EventId::new(text).expect("valid")
}

fn account(name: &str) -> AccountId {
    AccountId::new(name).expect("valid")
}

fn entry(scope: Scope, days: std::ops::Range<i32>, kind: &str) -> Option<Entry> {
    let (from, to) = (START.plus(days.start), START.plus(days.end - 1));
    Some(Entry { scope, span: Span { from, to, kind: kind.to_owned(), note: None } })
}

fn noon(day: i32) -> Millis {
    Millis(i64::from(START.plus(day).0) * DAY_MS + DAY_MS / 2)
}

struct Run {
    core: Core,
    state: MemoryState,
    out: Vec<Output>,
}

impl Run {
    fn new(partitions: i32) -> Run {
        let core = Core::new(Arc::new(Compiled::default_policy())).among(partitions);
        Run { core, state: MemoryState::default(), out: Vec::new() }
    }

    fn apply(&mut self, input: Input, at: Millis) -> Result<(), Reason> {
        let Ok(verdict) = self.core.apply(&mut self.state, input, at, &mut self.out);
        verdict.map(|_| ()).map_err(|reject| reject.reason)
    }

    fn calendar(&mut self, text: &str, entry: Option<Entry>) {
        self.apply(Input::Calendar { id: id(text), entry }, noon(0)).expect("taken");
    }

    /// An account that works on weekdays, and on these days does so many times as much.
    fn live(
        &mut self,
        name: &str,
        region: Option<&str>,
        days: std::ops::Range<i32>,
        does: impl Fn(i32) -> f64,
    ) {
        if let Some(region) = region {
            let profile = serde_json::json!({
                "account": name, "as_of": 0, "region": region, "entitlements": {},
            });
            let profile: Profile = serde_json::from_value(profile).expect("a profile");
            self.apply(Input::Profile(profile), noon(0)).expect("taken");
        }
        for day in days {
            let weekend = day % 7 >= 5;
            // Not the same every day.
            let usual = if weekend { 0.0 } else { 6.0 + f64::from(day * 5 % 4) };
            for (kind, share) in [("login", 1.0), ("project.created", 0.7), ("feature.used", 1.5)] {
                for number in 0..(usual * share * does(day)).round() as i32 {
                    let at = noon(day).plus(i64::from(number) * 60_000);
                    let event = Event {
                        id: id(&format!("{kind}-{day}-{number}")),
                        account: account(name),
                        occurred_at: at,
                        kind: kind.to_owned(),
                        member: MemberId::new(&format!("m{}", number % 5)).ok(),
                        role: (number % 5 == 0).then(|| "admin".to_owned()),
                        feature: Some(format!("f{}", number % 4)),
                        value: None,
                        segment: None,
                    };
                    self.apply(Input::Event(event), at).expect("admitted");
                }
            }
        }
    }

    fn pass(&mut self, day: i32) {
        self.apply(Input::Tick, noon(day)).expect("time passes");
    }

    fn alerts(&self, name: &str) -> Vec<&AlertEvent> {
        let events = self.out.iter().filter_map(Output::alert);
        events.filter(|event| event.account_id.as_str() == name).collect()
    }

    /// Lowest score published from a day on.
    fn lowest(&self, name: &str, from: i32) -> f64 {
        let scores = self.out.iter().filter_map(Output::score_changed);
        let scores = scores.filter(|change| change.account_id.as_str() == name);
        let later = scores.filter(|change| change.at >= noon(from));
        later.map(|change| change.score.as_f64()).fold(100.0, f64::min)
    }
}

/// Nothing at all while away.
fn away(day: i32) -> f64 {
    if AWAY.contains(&day) { 0.0 } else { 1.0 }
}

fn with(entries: &[(&str, Option<Entry>)], does: impl Fn(i32) -> f64) -> Run {
    let mut run = Run::new(1);
    for (id, entry) in entries {
        run.calendar(id, entry.clone());
    }
    run.live("acme", Some("DE-BY"), 0..126, does);
    run.pass(126);
    run
}

#[test]
fn an_announced_holiday_is_no_news() {
    let told = with(&[], away);
    assert!(told.alerts("acme").iter().any(|alert| alert.severity >= Severity::High));
    let region = |name: &str| Scope::Region(name.to_owned());
    // The account is in DE-BY, which is a part of DE.
    let scopes = [Scope::All, region("DE-BY"), region("DE"), Scope::Account(account("acme"))];
    for scope in scopes {
        let run = with(&[("xmas", entry(scope, AWAY, "holiday"))], away);
        assert_eq!(run.alerts("acme"), Vec::<&AlertEvent>::new());
        let before = told.lowest("acme", 70);
        assert!(before < 60.0, "without the entry it falls: {before}");
        let lowest = run.lowest("acme", 70);
        assert!(lowest > 75.0, "the score stays where it was: {lowest}");
    }
}

/// A fall in them is the account's own.
#[test]
fn holidays_of_a_country_that_its_part_does_not_keep_mask_nothing_there() {
    let country = entry(Scope::Region("DE".to_owned()), AWAY, "holiday");
    let kept = |region: &str| entry(Scope::Region(region.to_owned()), AWAY, "working_day");
    let run = with(&[("xmas", country.clone()), ("not-here", kept("DE-BY"))], away);
    assert!(run.alerts("acme").iter().any(|alert| alert.severity >= Severity::High));
    let run = with(&[("xmas", country), ("not-there", kept("DE-BE"))], away);
    assert_eq!(run.alerts("acme"), Vec::<&AlertEvent>::new());
}

#[test]
fn the_days_about_the_end_of_a_fiscal_year_are_no_news() {
    let told = |end: Option<&str>, about: u16| {
        let mut policy = Policy::clone(&Compiled::default_policy());
        policy.calendar.fiscal_year_end_days = about;
        let policy = Compiled::check("test", policy).expect("a good policy");
        let mut run = Run::new(1);
        run.core = Core::new(Arc::new(policy));
        let profile = serde_json::json!({"account": "acme", "as_of": 0, "entitlements": {}});
        let profile: Profile = serde_json::from_value(profile).expect("a profile");
        let fiscal_year_end = end.and_then(YearDay::parse);
        run.apply(Input::Profile(Profile { fiscal_year_end, ..profile }), noon(0)).expect("taken");
        run.live("acme", None, 0..126, away);
        run.pass(126);
        run
    };
    // From 25 March to 7 April nothing happens.
    let masked = told(Some("03-31"), 7);
    assert_eq!(masked.alerts("acme"), Vec::<&AlertEvent>::new());
    assert!(masked.lowest("acme", 70) > 75.0, "the score stays where it was");
    let view = Account::clone(masked.state.accounts()[&account("acme")]);
    let spans = masked.core.record(view).expect("a record").masked;
    let spans: Vec<String> = spans.iter().map(ToString::to_string).collect();
    assert_eq!(spans, ["2024-03-24 to 2024-04-07 (fiscal year end)"]);
    for (end, about) in [(None, 7), (Some("03-31"), 0), (Some("09-30"), 7)] {
        let run = told(end, about);
        let urgent = run.alerts("acme").iter().any(|alert| alert.severity >= Severity::High);
        assert!(urgent, "{end:?}, {about} days about it");
    }
}

/// A campaign, or a migration that stops all work: both were announced.
#[test]
fn what_happens_during_a_planned_initiative_is_no_news() {
    let kinds = |run: &Run| {
        let mut kinds: Vec<String> =
            run.alerts("acme").iter().map(|event| event.kind.clone()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    };
    for (times, told) in [(4.0, "usage_spike"), (0.0, "churn_risk")] {
        let does = |day: i32| if AWAY.contains(&day) { times } else { 1.0 };
        let plain = kinds(&with(&[], does));
        assert!(plain.iter().any(|kind| kind == told), "{times} times as much: {plain:?}");
        let planned = entry(Scope::Region("DE-BY".to_owned()), AWAY, "planned_initiative");
        let run = with(&[("initiative", planned)], does);
        assert_eq!(kinds(&run), Vec::<String>::new(), "{times} times as much");
        assert!(run.lowest("acme", 70) > 75.0, "the score stays where it was");
    }
}

#[test]
fn what_goes_on_after_the_holiday_is_news_again() {
    // Nobody comes back.
    let run = with(&[("xmas", entry(Scope::All, AWAY, "holiday"))], |day| {
        f64::from(i32::from(day < AWAY.start))
    });
    let alerts = run.alerts("acme");
    let urgent = alerts.iter().find(|alert| alert.severity >= Severity::High).expect("an alert");
    assert!(urgent.at >= noon(AWAY.end) && urgent.at < noon(AWAY.end + 10), "{urgent:?}");
}

#[test]
fn the_days_of_an_incident_are_not_what_is_normal() {
    // Tracking counts five times for two weeks, four weeks before today.
    let incident = |day: i32| if AWAY.contains(&day) { 5.0 } else { 1.0 };
    let level = |run: &Run| {
        let account = run.state.accounts()[&account("acme")];
        let index = run.core.policy().signals.iter().position(|signal| signal.name == "logins");
        account.hot.signals[index.expect("logins")].baseline.expect("a baseline").level
    };
    let masked = with(&[("bug", entry(Scope::All, AWAY, "incident"))], incident);
    assert_eq!(masked.alerts("acme"), Vec::<&AlertEvent>::new());
    let never = with(&[], |_| 1.0);
    let plain = with(&[], incident);
    let (usual, with_entry, without) = (level(&never), level(&masked), level(&plain));
    assert!((with_entry - usual).abs() < 0.06 * usual, "{with_entry} for {usual}");
    assert!(without > 1.1 * usual, "the incident shows: {without}");
}

#[test]
fn entries_of_others_have_no_effect() {
    let others = [
        ("1", entry(Scope::Account(account("other")), AWAY, "holiday")),
        ("2", entry(Scope::Region("DE-BE".to_owned()), AWAY, "holiday")),
        ("3", entry(Scope::All, 20..30, "holiday")),
        ("4", entry(Scope::All, AWAY, "holiday")),
        ("4", None),
        ("5", entry(Scope::All, AWAY, "holiday")),
        ("5", entry(Scope::All, 700..701, "holiday")),
    ];
    let run = with(&others, away);
    let told = with(&[], away);
    let opened = |run: &Run| {
        run.alerts("acme").iter().map(|alert| (alert.severity, alert.at)).collect::<Vec<_>>()
    };
    // The first weeks, which entry 3 masks, only move the level a little.
    assert_eq!(opened(&run).first(), opened(&told).first());
}

#[test]
fn an_entry_that_comes_late_changes_what_is_judged_from_then_on() {
    let holiday = entry(Scope::All, AWAY, "holiday");
    let mut run = Run::new(1);
    let mut plain = Run::new(1);
    for run in [&mut run, &mut plain] {
        run.live("acme", None, 0..AWAY.start + 8, away);
        run.pass(AWAY.start + 8);
    }
    let published = run.out.clone();
    assert!(run.alerts("acme").iter().any(|alert| alert.severity >= Severity::High));
    run.calendar("xmas", holiday);
    run.pass(AWAY.start + 9);
    assert_eq!(run.out[..published.len()], published, "what was published stands");
    let view = Account::clone(run.state.accounts()[&account("acme")]);
    let record = run.core.record(view).expect("a record");
    assert_eq!(record.masked.len(), 1, "the record says what is masked");
    let evidence: Vec<_> = record.evidence.iter().map(|item| &item.text).collect();
    assert_eq!(evidence, Vec::<&String>::new());
    run.live("acme", None, AWAY.end..AWAY.end + 7, away);
    run.pass(AWAY.end + 7);
    let last = run.alerts("acme").last().map(|alert| alert.transition.as_str());
    assert_eq!(last, Some("resolved"));
}

#[test]
fn one_of_several_partitions_passes_an_entry_on_to_all() {
    let mut run = Run::new(3);
    run.calendar("xmas", entry(Scope::All, AWAY, "holiday"));
    let sent = run.state.cohorts().outbox().to_vec();
    assert_eq!(sent.len(), 1);
    assert_eq!(run.state.known_cohorts().calendar().entries().count(), 0, "not before it is told");
    for message in sent {
        let input = Input::Cohort { source: 2, message: Box::new(message) };
        run.apply(input, noon(0)).expect("taken");
    }
    assert_eq!(run.state.known_cohorts().calendar().entries().count(), 1);
}

#[test]
fn there_is_a_limit_to_what_is_kept() {
    let mut run = Run::new(1);
    for number in 0..SCOPE_ENTRIES_MAX {
        run.calendar(&number.to_string(), entry(Scope::All, 0..1, "holiday"));
    }
    let more = Input::Calendar { id: id("more"), entry: entry(Scope::All, 0..1, "holiday") };
    assert_eq!(run.apply(more, noon(0)), Err(Reason::OutOfRange));
    run.calendar("7", None);
    run.calendar("more", entry(Scope::All, 0..1, "holiday"));
}
