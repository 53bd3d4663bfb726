//! Every kind of alert that the default policy knows, opened by events: an account that does everything, evenly, until one thing changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::event::{Event, Input};
use bellwether_core::id::{AccountId, EventId, MemberId};
use bellwether_core::output::{AlertEvent, Family, Output, Severity, Transition};
use bellwether_core::policy::Compiled;
use bellwether_core::state::MemoryState;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Day, HOUR_MS, Millis};

const FIRST: Day = Day(20_400);
/// Days before anything changes, and days after.
const NORMAL: i32 = 84;
const CHANGED: i32 = 28;

/// One account, day by day.
struct Story {
    core: Core,
    state: MemoryState,
    out: Vec<Output>,
    day: i32,
    events: u32,
}

/// What happens on a day of an account.
struct Today<'a> {
    story: &'a mut Story,
    day: i32,
}

impl Today<'_> {
    fn add(&mut self, kind: &str, change: impl FnOnce(&mut Event)) {
        let story = &mut *self.story;
        story.events += 1;
        let at = story.at(8).plus(i64::from(story.events % 36_000) * 1_000);
        let mut event = Event {
            id: EventId::new(&story.events.to_string()).expect("an identifier"),
            account: AccountId::new("acme").expect("an identifier"),
            occurred_at: at,
            kind: kind.to_owned(),
            member: None,
            role: None,
            feature: None,
            value: None,
            segment: None,
        };
        change(&mut event);
        story.tell(Input::Event(event), at);
    }

    /// So many events on such a day, where `every` of them go by.
    fn every(&mut self, every: i32, count: i32, kind: &str) {
        if self.day % every == 0 {
            (0..count).for_each(|_| self.add(kind, |_| {}));
        }
    }

    fn value(&mut self, every: i32, kind: &str, value: f64) {
        if self.day % every == 0 {
            self.add(kind, |event| event.value = Some(value));
        }
    }

    /// Each of the first features of a name, or of integrations or departments.
    fn features(&mut self, kind: &str, name: &str, count: i32) {
        for number in 0..count {
            self.add(kind, |event| event.feature = Some(format!("{name}{number}")));
        }
    }

    fn logins(&mut self, count: i32, members: i32) {
        for number in 0..count {
            let member = format!("member-{}", number % members);
            self.add("login", |event| event.member = MemberId::new(&member).ok());
        }
    }

    fn administrator(&mut self) {
        self.add("login", |event| {
            event.member = MemberId::new("ada").ok();
            event.role = Some("admin".to_owned());
        });
    }
}

impl Story {
    fn new() -> Story {
        let core = Core::new(Arc::new(Compiled::default_policy()));
        Story { core, state: MemoryState::default(), out: Vec::new(), day: 0, events: 0 }
    }

    fn at(&self, hour: i64) -> Millis {
        Millis(i64::from(FIRST.0 + self.day) * DAY_MS + hour * HOUR_MS)
    }

    fn tell(&mut self, input: Input, at: Millis) {
        let Ok(verdict) = self.core.apply(&mut self.state, input, at, &mut self.out);
        verdict.expect("it is taken");
    }

    /// Days on each of which this happens, to the judgement of the last one.
    fn days(&mut self, count: i32, happens: &dyn Fn(&mut Today<'_>)) {
        for _ in 0..count {
            let day = self.day;
            happens(&mut Today { story: self, day });
            self.day += 1;
            let at = self.at(6);
            self.tell(Input::Tick, at);
        }
    }

    fn alerts(&self) -> impl Iterator<Item = &AlertEvent> {
        self.out.iter().filter_map(Output::alert)
    }

    /// Kinds of bad news that opened, with the highest severity of each.
    fn opened(&self) -> BTreeMap<&str, Severity> {
        let mut kinds = BTreeMap::new();
        for event in self.alerts().filter(|event| event.evidence.iter().any(|item| item.risk)) {
            let severity = kinds.entry(event.kind.as_str()).or_insert(event.severity);
            *severity = event.severity.max(*severity);
        }
        kinds
    }
}

/// How much of each thing an account does.
#[derive(Clone, Copy)]
struct Habits {
    logins: i32,
    members: i32,
    has_administrator: bool,
    session_minutes: f64,
    projects: i32,
    features: i32,
    premium: i32,
    integrations: i32,
    api_calls: f64,
    /// Days from one ticket, escalation, visit to a downgrade page to the next.
    tickets_every: i32,
    escalations_every: i32,
    downgrade_every: i32,
    sentiment: f64,
    days_late: f64,
    seats: f64,
    storage: f64,
    departments: i32,
    open_escalations: f64,
    meets: bool,
    survey: f64,
}

const HABITS: Habits = Habits {
    logins: 20,
    members: 10,
    has_administrator: true,
    session_minutes: 40.0,
    projects: 8,
    features: 6,
    premium: 5,
    integrations: 6,
    api_calls: 900.0,
    tickets_every: 4,
    escalations_every: 14,
    downgrade_every: 14,
    sentiment: 0.3,
    days_late: 2.0,
    seats: 60.0,
    storage: 400.0,
    departments: 6,
    open_escalations: 0.0,
    meets: true,
    survey: 9.0,
};

fn live(of: &Habits, today: &mut Today<'_>) {
    today.logins(of.logins, of.members);
    if of.has_administrator {
        today.administrator();
    }
    for minutes in [0.0, 2.0, 4.0] {
        today.value(1, "session.ended", of.session_minutes + minutes);
    }
    today.every(1, of.projects, "project.created");
    today.features("feature.used", "feature-", of.features);
    today.features("feature.used", "premium.", of.premium);
    today.features("integration.synced", "integration-", of.integrations);
    today.features("department.active", "department-", of.departments);
    today.value(1, "api.called", of.api_calls);
    today.every(of.tickets_every, 1, "ticket.opened");
    today.every(of.escalations_every, 1, "ticket.escalated");
    if today.day % of.downgrade_every == 0 {
        today.features("page.viewed", "pricing.downgrade-", 1);
    }
    today.value(3, "support.message", of.sentiment + f64::from(today.day % 2) / 10.0);
    today.value(14, "invoice.paid", of.days_late);
    today.value(1, "seats.used", of.seats);
    today.value(1, "storage.used", of.storage);
    today.value(1, "escalations.open", of.open_escalations);
    if of.meets {
        today.every(3, 1, "meeting.held");
    }
    today.value(7, "survey.answered", of.survey);
}

/// An account whose habits change.
fn changed(change: impl FnOnce(&mut Habits)) -> Story {
    let mut story = Story::new();
    story.days(NORMAL, &|today| live(&HABITS, today));
    assert!(story.opened().is_empty(), "all is as it was: {:?}", story.opened());
    let mut habits = HABITS;
    change(&mut habits);
    story.days(CHANGED, &|today| live(&habits, today));
    story
}

/// The kinds that one signal makes by itself, and what has to change for each; beside it these kinds may open, which see the same.
type Change = (&'static str, fn(&mut Habits), &'static [&'static str]);

const CHANGES: [Change; 20] = [
    ("usage_decline", |of| of.logins = 10, &[]),
    ("member_attrition", |of| of.members = 2, &[]),
    ("session_decline", |of| of.session_minutes = 9.0, &[]),
    ("creation_decline", |of| of.projects = 1, &[]),
    ("feature_abandonment", |of| of.features = 1, &[]),
    ("integration_loss", |of| of.integrations = 1, &[]),
    ("api_decline", |of| of.api_calls = 90.0, &[]),
    ("support_surge", |of| of.tickets_every = 1, &[]),
    ("escalations", |of| of.escalations_every = 1, &[]),
    ("sentiment_slide", |of| of.sentiment = -0.6, &[]),
    ("payment_delay", |of| of.days_late = 45.0, &[]),
    ("seat_reduction", |of| of.seats = 20.0, &[]),
    ("downgrade_intent", |of| of.downgrade_every = 1, &[]),
    ("key_user_absence", |of| of.has_administrator = false, &[]),
    ("relationship_cooling", |of| of.meets = false, &[]),
    ("survey_drop", |of| of.survey = 2.0, &[]),
    ("storage_decline", |of| of.storage = 40.0, &[]),
    ("premium_decline", |of| of.premium = 0, &["feature_abandonment"]),
    ("department_loss", |of| of.departments = 1, &[]),
    ("open_escalations", |of| of.open_escalations = 4.0, &["unresolved_escalations"]),
];

#[test]
fn whatever_changes_alone_opens_the_alert_of_its_kind_and_no_urgent_one() {
    for (kind, change, beside) in CHANGES {
        let story = changed(change);
        let opened = story.opened();
        assert!(opened.contains_key(kind), "{kind}: {opened:?}");
        assert!(
            opened.values().all(|severity| *severity <= Severity::Medium),
            "{kind}: {opened:?}"
        );
        let mut others = opened.keys().filter(|other| **other != kind && !beside.contains(other));
        assert_eq!(others.next(), None, "{kind} is no reason for it: {opened:?}");
        let first = story.alerts().find(|event| event.kind == kind).expect("it opened");
        assert_eq!(first.transition, Transition::Opened);
        let days = first.at.0 / DAY_MS - i64::from(FIRST.0 + NORMAL);
        assert!((0..=i64::from(CHANGED)).contains(&days), "{kind} after {days} days");
    }
}

#[test]
fn an_account_that_falls_silent_is_told_of() {
    let mut story = Story::new();
    story.days(NORMAL, &|today| today.logins(6, 3));
    assert!(story.opened().is_empty());
    story.days(CHANGED, &|_| {});
    let silence = story.alerts().find(|event| event.kind == "silence").expect("it is told");
    assert_eq!(silence.transition, Transition::Opened);
    let text = &silence.evidence[0].text;
    assert!(silence.evidence.iter().all(|item| item.signal == "any_activity"), "{silence:?}");
    assert!(
        text.contains(&FIRST.plus(NORMAL).to_string()),
        "since the day on which it did: {text}"
    );
}

#[test]
fn what_falls_at_once_is_a_drop_and_what_falls_little_by_little_a_decline() {
    let mut dropped = changed(|of| {
        (of.logins, of.projects, of.api_calls) = (8, 3, 300.0);
    });
    let families = |story: &Story| -> BTreeSet<Family> {
        let churn = story.alerts().filter(|event| event.kind == "churn_risk");
        churn.filter_map(|event| event.family).collect()
    };
    assert_eq!(families(&dropped), [Family::Drop].into(), "{:?}", dropped.opened());
    assert!(dropped.opened()["churn_risk"] >= Severity::High);
    // And that ends when all is as it was.
    dropped.days(49, &|today| live(&HABITS, today));
    let last = dropped.alerts().filter(|event| event.kind == "churn_risk").last();
    assert_eq!(last.map(|event| event.transition), Some(Transition::Resolved));

    let mut declining = Story::new();
    let of_level = |level: f64| {
        move |today: &mut Today<'_>| {
            let share = |of: f64| (of * level + 0.5).floor();
            #[expect(clippy::cast_possible_truncation, reason = "a count of events")]
            let count = |of: f64| share(of) as i32;
            today.logins(count(30.0), 10);
            today.every(1, count(24.0), "project.created");
            today.value(1, "api.called", share(900.0));
        }
    };
    declining.days(NORMAL, &of_level(1.0));
    assert!(declining.opened().is_empty());
    let mut level = 1.0;
    for _week in 0..16 {
        level *= 0.95;
        declining.days(7, &of_level(level));
    }
    let families = families(&declining);
    assert!(families.contains(&Family::Decline), "{families:?}: {:?}", declining.opened());
}

/// Kinds that need more than one change of one account's habits: they are opened by events above, in `conditions.rs` and in `tiers.rs`.
/// (`churn_risk` is opened above, `usage_spike` in `open_day.rs`, `fleet` in `fleets.rs`.)
const ELSEWHERE: [&str; 10] = [
    "silence",
    "seats_limit",
    "storage_limit",
    "api_limit",
    "premium_in_trial",
    "new_departments",
    "onboarding_stall",
    "unresolved_escalations",
    "at_risk_band",
    "higher_tier_usage",
];

#[test]
fn no_kind_of_the_default_policy_is_without_events_that_open_it() {
    let policy = Compiled::default_policy();
    let signals = policy.signals.iter().map(|signal| signal.kind.as_str());
    let kinds: BTreeSet<&str> =
        signals.chain(policy.conditions.iter().map(|condition| condition.kind.as_str())).collect();
    let told: BTreeSet<&str> = CHANGES.iter().map(|(kind, ..)| *kind).chain(ELSEWHERE).collect();
    assert_eq!(told, kinds);
}
