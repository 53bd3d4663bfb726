//! Alerts by plain conditions, told as stories: limits of contracts, trials, slow starts, escalations that stay open.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::calendar::{Entry, Scope, Span};
use bellwether_core::event::{Event, Input, Profile};
use bellwether_core::id::{AccountId, EventId, MemberId};
use bellwether_core::output::{AlertEvent, Output, Resolution, Severity, Transition};
use bellwether_core::policy::{Compiled, Policy};
use bellwether_core::state::MemoryState;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Day, HOUR_MS, Millis};

const FIRST: Day = Day(20_400);

fn policy(change: impl FnOnce(&mut Policy)) -> Compiled {
    let mut policy = Policy::clone(&Compiled::default_policy());
    change(&mut policy);
    Compiled::check("test", policy).expect("a good policy")
}

/// One account, day by day.
struct Story {
    core: Core,
    state: MemoryState,
    out: Vec<Output>,
    day: i32,
    events: u32,
}

impl Story {
    fn new(policy: Compiled) -> Story {
        let core = Core::new(Arc::new(policy));
        Story { core, state: MemoryState::default(), out: Vec::new(), day: 0, events: 0 }
    }

    fn account() -> AccountId {
        AccountId::new("acme").expect("an identifier")
    }

    fn at(&self, hour: i64) -> Millis {
        Millis(i64::from(FIRST.0 + self.day) * DAY_MS + hour * HOUR_MS)
    }

    fn tell(&mut self, input: Input, at: Millis) {
        let Ok(verdict) = self.core.apply(&mut self.state, input, at, &mut self.out);
        verdict.expect("it is taken");
    }

    fn profile(&mut self, plan: &str, entitlements: &[(&str, f64)]) {
        let as_of = self.at(0);
        let entitlements = entitlements.iter().map(|(name, of)| ((*name).to_owned(), *of));
        let profile = Profile {
            account: Story::account(),
            as_of,
            name: None,
            segment: None,
            plan: Some(plan.to_owned()),
            time_zone: None,
            region: None,
            started_on: None,
            renews_on: Some(FIRST.plus(self.day + 60)),
            owner: None,
            annual_value_usd: None,
            entitlements: entitlements.collect::<BTreeMap<_, _>>(),
            fiscal_year_end: None,
        };
        self.tell(Input::Profile(profile), as_of);
    }

    fn event(&mut self, kind: &str, feature: Option<&str>, value: Option<f64>) {
        self.events += 1;
        let at = self.at(9).plus(i64::from(self.events % 3_600) * 1_000);
        let event = Event {
            id: EventId::new(&self.events.to_string()).expect("an identifier"),
            account: Story::account(),
            occurred_at: at,
            kind: kind.to_owned(),
            member: Some(MemberId::new("mia").expect("an identifier")),
            role: None,
            feature: feature.map(str::to_owned),
            value,
            segment: None,
        };
        self.tell(Input::Event(event), at);
    }

    fn holidays(&mut self, from: Day, to: Day) {
        let span = Span { from, to, kind: "holiday".to_owned(), note: None };
        let id = EventId::new("holidays").expect("an identifier");
        let entry = Some(Entry { scope: Scope::All, span });
        let at = self.at(12);
        self.tell(Input::Calendar { id, entry }, at);
    }

    /// Days on each of which this happens, to the judgement of the last one.
    fn days(&mut self, count: i32, mut happens: impl FnMut(&mut Story, i32)) {
        for number in 0..count {
            happens(self, number);
            self.day += 1;
            let at = self.at(6);
            self.tell(Input::Tick, at);
        }
    }

    /// Days with a login and a value of a gauge.
    fn gauge(&mut self, count: i32, kind: &str, value: impl Fn(i32) -> f64) {
        self.days(count, |story, number| {
            story.event("login", None, None);
            story.event(kind, None, Some(value(number)));
        });
    }

    fn alerts(&self, kind: &str) -> Vec<&AlertEvent> {
        let events = self.out.iter().filter_map(Output::alert).filter(|event| event.kind == kind);
        events.collect()
    }

    fn scores(&self) -> Vec<i32> {
        let changes =
            self.out.iter().filter_map(Output::score_changed).map(|change| change.score.0);
        changes.collect()
    }
}

fn transitions(events: &[&AlertEvent]) -> Vec<Transition> {
    events.iter().map(|event| event.transition).collect()
}

#[test]
fn seats_that_are_nearly_all_in_use_are_a_chance_until_there_are_more() {
    let tell = |policy| {
        let mut story = Story::new(policy);
        story.profile("pro", &[("seats", 100.0)]);
        story.gauge(40, "seats.used", |_| 60.0);
        assert!(story.alerts("seats_limit").is_empty());
        story.gauge(5, "seats.used", |_| 92.0);
        let opened = story.alerts("seats_limit");
        assert!(opened.iter().all(|event| event.severity == Severity::Low), "{opened:?}");
        story.profile("pro", &[("seats", 200.0)]);
        story.gauge(12, "seats.used", |_| 92.0);
        story
    };
    let story = tell(Compiled::default_policy());
    let events = story.alerts("seats_limit");
    assert_eq!(transitions(&events), [Transition::Opened, Transition::Resolved]);
    assert_eq!(events[1].resolution, Some(Resolution::Passed), "nothing recovered");
    let [evidence] = &events[0].evidence[..] else { panic!("{:?}", events[0].evidence) };
    assert!(!evidence.risk && evidence.text.contains("92 of 100 seats (92 %)"), "{evidence:?}");
    assert!(events[0].title.contains("92 of 100 seats"), "{}", events[0].title);
    let parts: Vec<&str> = events[0].priority_parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(parts, ["severity", "renewal"], "a renewal is near");
    let without = tell(policy(|policy| policy.conditions.clear()));
    assert!(without.alerts("seats_limit").is_empty());
    assert_eq!(story.scores(), without.scores(), "no condition moves a score");
}

#[test]
fn a_limit_that_is_coming_is_told_before_it_is_near() {
    let mut story = Story::new(Compiled::default_policy());
    story.profile("pro", &[("storage_gb", 1_000.0)]);
    story.gauge(35, "storage.used", |_| 300.0);
    assert!(story.alerts("storage_limit").is_empty());
    story.gauge(45, "storage.used", |day| 300.0 + 10.0 * f64::from(day));
    let events = story.alerts("storage_limit");
    let opened = events.first().expect("it is coming");
    let evidence = &opened.evidence[0];
    assert!(evidence.observed < 790.0, "before it is near: {evidence:?}");
    let left = (1_000.0 - evidence.observed) / 10.0;
    assert!((20.0..=30.5).contains(&left), "{left} days: {evidence:?}");
    assert!(evidence.text.contains("days at this pace"), "{evidence:?}");
    assert_eq!(transitions(&events), [Transition::Opened], "and it is told once");
}

#[test]
fn calls_are_added_up_over_a_month() {
    for (calls, expected) in [(900.0, 0), (1_100.0, 1)] {
        let mut story = Story::new(Compiled::default_policy());
        story.profile("pro", &[("api_calls_per_month", 30_000.0)]);
        story.gauge(70, "api.called", |_| calls);
        assert_eq!(story.alerts("api_limit").len(), expected, "{calls} calls a day");
    }
}

#[test]
fn premium_features_in_a_trial_are_a_chance_and_on_a_plan_that_has_them_nothing() {
    for (plan, expected) in [("trial", 1), ("enterprise", 0)] {
        let mut story = Story::new(Compiled::default_policy());
        story.profile(plan, &[]);
        story.days(20, |story, day| {
            story.event("login", None, None);
            let feature = ["premium.sso", "premium.audit", "premium.export"][(day % 3) as usize];
            story.event("feature.used", Some(feature), None);
        });
        let events = story.alerts("premium_in_trial");
        assert_eq!(events.len(), expected, "{plan}");
        assert!(events.iter().all(|event| !event.evidence[0].risk));
    }
}

#[test]
fn a_product_that_spreads_to_further_departments_is_a_chance() {
    let mut story = Story::new(Compiled::default_policy());
    let names = ["sales", "support", "legal", "finance", "research", "people", "labs", "it"];
    story.days(120, |story, day| {
        story.event("login", None, None);
        let many = if day < 90 { 2 } else { names.len() };
        for name in &names[..many] {
            story.event("department.active", Some(name), None);
        }
    });
    let events = story.alerts("new_departments");
    let opened = events.first().expect("it spread");
    assert_eq!((opened.transition, opened.evidence[0].risk), (Transition::Opened, false));
    assert!(opened.at >= Millis(i64::from(FIRST.0 + 90) * DAY_MS), "{opened:?}");
}

#[test]
fn a_start_that_stalls_is_told_and_one_that_goes_well_is_not() {
    for (every, expected) in [(50, true), (6, false), (1, false)] {
        let mut story = Story::new(Compiled::default_policy());
        story.days(24, |story, day| {
            if day % every == 0 {
                story.event("login", None, None);
            }
        });
        let events = story.alerts("onboarding_stall");
        assert_eq!(!events.is_empty(), expected, "every {every} days: {events:?}");
        assert!(events.iter().all(|event| event.evidence[0].risk));
    }
}

#[test]
fn metering_is_no_activity_and_moves_no_score() {
    let tell = |metered: bool| {
        let mut story = Story::new(Compiled::default_policy());
        story.days(90, |story, day| {
            if day < 60 {
                story.event("login", None, None);
            }
            if metered {
                story.event("storage.used", None, Some(100.0));
                story.event("escalations.open", None, Some(0.0));
            }
        });
        story
    };
    let (metered, plain) = (tell(true), tell(false));
    // An account of which events arrive is judged more often: only where that leads is the same.
    let (metered, plain) = (metered.scores(), plain.scores());
    assert!(plain.last() < plain.iter().max(), "silence moves it: {plain:?}");
    assert_eq!(metered.last(), plain.last());
}

#[test]
fn a_start_over_the_holidays_does_not_stall() {
    for (masked, expected) in [(false, 1), (true, 0)] {
        let mut story = Story::new(Compiled::default_policy());
        story.days(24, |story, day| {
            if day < 12 {
                story.event("login", None, None);
            }
            if day == 10 && masked {
                story.holidays(FIRST.plus(12), FIRST.plus(30));
            }
        });
        assert_eq!(story.alerts("onboarding_stall").len(), expected, "masked: {masked}");
    }
}

#[test]
fn escalations_that_stay_open_for_days_are_told_and_end_when_they_do() {
    let mut story = Story::new(Compiled::default_policy());
    story.gauge(30, "escalations.open", |_| 0.0);
    story.gauge(2, "escalations.open", |_| 2.0);
    assert!(story.alerts("unresolved_escalations").is_empty(), "two days are no delay");
    story.gauge(2, "escalations.open", |_| 2.0);
    let opened: Vec<Severity> =
        story.alerts("unresolved_escalations").iter().map(|event| event.severity).collect();
    assert_eq!(opened, [Severity::Medium]);
    story.gauge(10, "escalations.open", |_| 0.0);
    let events = story.alerts("unresolved_escalations");
    assert_eq!(transitions(&events), [Transition::Opened, Transition::Resolved]);
}

#[test]
fn a_band_that_is_reached_is_told_once() {
    let low = policy(|policy| {
        (policy.score.healthy_min, policy.score.at_risk_below) = (100.0, 99.5);
    });
    for (policy, expected) in [(low, 1), (Compiled::default_policy(), 0)] {
        let mut story = Story::new(policy);
        story.days(60, |story, _| story.event("login", None, None));
        let events = story.alerts("at_risk_band");
        assert_eq!(events.len(), expected, "{events:?}");
    }
}

#[test]
fn conditions_that_make_no_sense_are_refused_by_their_key() {
    let check = |from: &str, to: &str| {
        let text = bellwether_core::policy::DEFAULT_TOML;
        assert!(text.contains(from), "{from}");
        let error = Compiled::parse("p.toml", &text.replace(from, to)).expect_err("it is refused");
        format!("{}: {}", error.key, error.message)
    };
    let kind = r#"kind = "seats_limit""#;
    for (from, to, words) in [
        (kind, r#"kind = "churn_risk""#, "condition[0].kind"),
        (kind, r#"kind = "silence""#, "condition[0].kind"),
        (kind, r#"kind = "storage_limit""#, "condition[1].kind"),
        (r#"signal = "seats_used", ent"#, r#"signal = "chairs", ent"#, "no signal of this policy"),
        (r#"signal = "seats_used", ent"#, r#"signal = "any_activity", ent"#, "no level"),
        ("percent = 90.0", "percent = 0.0", "condition[0].when.percent"),
        ("percent = 90.0", "days = 7, percent = 90.0", "condition[0].when.days"),
        (r#"entitlement = "seats","#, r#"entitlement = " ","#, "condition[0].when.entitlement"),
        (r#"plans = ["trial"]"#, r#"plans = [""]"#, "condition[3].plans"),
        ("amount = 3.0", "amount = 0.0", "condition[3].when.amount"),
        ("from_day = 14", "from_day = 60", "condition[5].when.from_day"),
        ("active_days_max = 0", "active_days_max = 10", "condition[5].when.active_days_max"),
        (r#""starter", "pro", "ent"#, r#""pro", "pro", "ent"#, "condition[8].when.plans"),
        (r#""starter", "pro", "enterprise""#, r#""starter""#, "condition[8].when.plans"),
        (r#"signals = ["logins","#, r#"signals = ["nps", "visits","#, "no signal of this policy"),
        (r#"signals = ["logins","#, r#"signals = ["any_activity","#, "says not how much"),
        ("signals_min = 4", "signals_min = 9", "condition[8].when.signals_min"),
        ("fiscal_year_end_days = 3", "fiscal_year_end_days = 31", "calendar.fiscal_year_end_days"),
        ("[5, 20, 35, 55, 70]", "[5, 5, 5, 5, 5]", "priority.severity"),
        ("percent = 90.0", "percentage = 90.0", "percentage"),
    ] {
        let said = check(from, to);
        assert!(said.contains(words), "{to}: {said}");
    }
    let mut urgent = Policy::clone(&Compiled::default_policy());
    urgent.conditions[0].severity = Severity::High;
    let error = Compiled::check("p.toml", urgent).expect_err("never urgent");
    assert_eq!(error.key, "condition[0].severity");
}
