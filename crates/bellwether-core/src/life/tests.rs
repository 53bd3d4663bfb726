//! The state machine of [`crate::alert`], over random sequences of evidence, days, commands and the ends of accounts' stories.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::account::SignalState;
use crate::alert::{rebaselined, resolve_all, review, review_conditions};
use crate::corroborate::{Alarm, Corroborated};
use crate::id::{AccountId, EventId};
use crate::output::{AlertEvent, Family, Maturity};
use crate::points::Points;
use crate::policy::Policy;
use crate::policy_check::{CORROBORATED_KIND, SPIKE_KIND};
use crate::publish::content_id;
use crate::time::{Day, MINUTE_MS};

mod reached;

const START: Day = Day(20_500);

/// Something that happens to an account's alerts.
#[derive(Debug, Clone)]
enum Step {
    /// A signal shows this much, or nothing any more.
    Evidence { signal: usize, z: Option<f64> },
    /// Days are judged, one by one, with or without a corroborated finding and a rise.
    Days { count: u8, alarm: Option<Severity>, rise: Option<Severity> },
    /// An event lets the alerts be reviewed within the day.
    Event { minutes: u16 },
    /// Somebody says something to the alert that opened so many before the last one, so long ago.
    Command { kind: OutcomeKind, back: usize, minutes_ago: u16, until_days: Option<i16> },
    /// The account's story ends.
    End(Resolution),
    /// The score is in the band At-Risk, or no longer: what the plain condition of the policy asks for.
    AtRisk(bool),
    /// New alerts are held back, or no longer.
    Held(bool),
    /// A signal has a new normal: the alerts of its kind end.
    Rebaselined(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let urgent =
        || prop::option::of(prop::sample::select(vec![Severity::High, Severity::Critical]));
    let z = prop::option::of(prop::sample::select(vec![2.2, 3.2, 5.0]));
    let kind = prop::sample::select(vec![
        OutcomeKind::Acknowledged,
        OutcomeKind::Snoozed,
        OutcomeKind::Resolved,
    ]);
    // Snoozes that end while the history goes on, and longer ones.
    let until = prop_oneof![1..6_i16, -1..100_i16];
    let ends = prop::sample::select(vec![Resolution::Outcome, Resolution::Dormant]);
    let step = prop_oneof![
        4 => (0..6_usize, z).prop_map(|(signal, z)| Step::Evidence { signal, z }),
        6 => (prop_oneof![Just(1_u8), 1..12_u8], urgent(), prop::option::weighted(0.1, Just(Severity::High)))
            .prop_map(|(count, alarm, rise)| Step::Days { count, alarm, rise }),
        2 => (0..600_u16).prop_map(|minutes| Step::Event { minutes }),
        4 => (kind, 0..3_usize, prop_oneof![Just(0_u16), 0..3_000_u16], prop::option::of(until))
            .prop_map(|(kind, back, minutes_ago, until_days)| Step::Command { kind, back, minutes_ago, until_days }),
        1 => ends.prop_map(Step::End),
        2 => any::<bool>().prop_map(Step::AtRisk),
        1 => any::<bool>().prop_map(Step::Held),
        1 => (0..6_usize).prop_map(Step::Rebaselined),
    ];
    prop::collection::vec(step, 1..60)
}

fn policy(change: impl FnOnce(&mut Policy)) -> Compiled {
    let mut policy = Policy::clone(&Compiled::default_policy());
    change(&mut policy);
    Compiled::check("test", policy).expect("a good policy")
}

/// An account of which only evidence and alerts are known.
struct World {
    policy: Compiled,
    account: Account,
    at: Millis,
    held: bool,
    out: Vec<Output>,
    machine: Machine,
}

impl World {
    fn new(policy: Compiled) -> World {
        let mut account = Account::new(AccountId::new("acme").expect("an identifier"));
        account.hot.signals = policy
            .keys()
            .iter()
            .map(|&key| SignalState { key, ..SignalState::default() })
            .collect();
        account.hot.maturity = Some(Maturity::Established);
        account.hot.score = Points::SCORE_MAX;
        let at = Millis(i64::from(START.0) * DAY_MS);
        let (out, machine) = (Vec::new(), Machine::default());
        World { policy, account, at, held: false, out, machine }
    }

    fn show(&mut self, signal: usize, z: Option<f64>) {
        let of = &self.policy.signals[signal];
        self.account.hot.signals[signal].evidence = z.map(|z| Evidence {
            signal: of.name.clone(),
            category: of.category,
            group: of.group.clone(),
            observed: 1.0,
            baseline: 10.0,
            unit: of.unit.clone(),
            change_pct: Some(-90.0),
            z: -z,
            risk: true,
            onset: self.account.zone().day(self.at),
            window_days: 7,
            text: format!("{} fell", of.name),
        });
    }

    fn alarm(&self, severity: Severity) -> Option<Alarm> {
        let states = self.account.hot.signals.iter();
        let evidence: Vec<Evidence> = states.filter_map(|state| state.evidence.clone()).collect();
        let onset = evidence.iter().map(|item| item.onset).max()?;
        Some(Alarm { family: Family::Drop, severity, by_chance_per_year: 0.01, evidence, onset })
    }

    fn judge(&mut self, alarm: Option<Severity>, rise: Option<Severity>) {
        self.at = self.at.plus(DAY_MS);
        let mut found = Corroborated::default();
        found.alarm = alarm.and_then(|severity| self.alarm(severity));
        found.supported = found.alarm.is_some();
        found.rise = rise.and_then(|severity| self.alarm(severity));
        self.account.hot.today = self.account.zone().day(self.at);
        self.review(Some(&found));
        let when = (self.at, self.restraint());
        let cohorts = crate::cohort::Cohorts::default();
        review_conditions(&mut self.account, &self.policy, "m", &cohorts, when, &mut self.out);
    }

    fn restraint(&self) -> Restraint {
        Restraint { held: self.held, ..Restraint::default() }
    }

    fn review(&mut self, found: Option<&Corroborated>) {
        let when = (self.at, self.restraint());
        review(&mut self.account, &self.policy, "m", when, found, &mut self.out);
    }

    fn say(&mut self, outcome: &Outcome) -> Result<(), Reason> {
        let told = command(&mut self.account, &self.policy, "m", outcome, &mut self.out);
        told.map_err(|reject| reject.reason)
    }

    fn outcome(&self, kind: OutcomeKind, alert: Option<&str>, at: Millis) -> Outcome {
        Outcome {
            id: EventId::new("o").expect("an identifier"),
            account: self.account.id.clone(),
            occurred_at: at,
            kind,
            alert_id: alert.map(str::to_owned),
            until: None,
            by: Some("kim".to_owned()),
            note: Some("called them".to_owned()),
        }
    }

    fn events(&self) -> impl DoubleEndedIterator<Item = &AlertEvent> {
        self.out.iter().filter_map(Output::alert)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Evidence { signal, z } => self.show(*signal, *z),
            Step::Days { count, alarm, rise } => {
                for _ in 0..*count {
                    self.judge(*alarm, *rise);
                }
            }
            Step::Event { minutes } => {
                self.at = self.at.plus(i64::from(*minutes) * MINUTE_MS);
                self.review(None);
            }
            Step::Command { kind, back, minutes_ago, until_days } => {
                let mut opened: Vec<&AlertEvent> = self.events().collect();
                opened.retain(|event| event.transition == Transition::Opened);
                let alert = opened.iter().rev().nth(*back).map(|event| event.alert_id.clone());
                let at = self.at.plus(-i64::from(*minutes_ago) * MINUTE_MS);
                let alert = alert.unwrap_or_else(|| "nobody's".to_owned());
                let mut said = self.outcome(*kind, Some(&alert), at);
                said.until = until_days.map(|days| at.plus(i64::from(days) * DAY_MS));
                let (before, events) = (self.account.clone(), self.out.len());
                if self.say(&said).is_ok() {
                    assert_eq!(self.out.len(), events + 1, "a command makes one event");
                } else {
                    assert!(before == self.account && self.out.len() == events, "{said:?}");
                }
            }
            Step::End(resolution) => {
                let (at, out) = (self.at, &mut self.out);
                resolve_all(&mut self.account, &self.policy, "m", at, *resolution, out);
            }
            Step::AtRisk(low) => {
                self.account.hot.score = if *low { Points::ZERO } else { Points::SCORE_MAX };
            }
            Step::Held(held) => self.held = *held,
            Step::Rebaselined(signal) => {
                let kinds = [self.policy.signals[*signal].kind.clone()];
                let (at, out) = (self.at, &mut self.out);
                rebaselined(&mut self.account, &self.policy, "m", at, &kinds, out);
            }
        }
        let events: Vec<AlertEvent> = self.events().skip(self.machine.seen).cloned().collect();
        for event in &events {
            self.machine.check(event, &self.policy);
        }
        let mut open: Vec<(&str, &str)> =
            self.account.hot.alerts.iter().map(|alert| (&*alert.kind, &*alert.id)).collect();
        open.sort_unstable();
        assert_eq!(self.machine.open(), open, "what was published is what is open");
    }
}

/// The documented machine, told by records alone.
#[derive(Default)]
struct Machine {
    seen: usize,
    ids: BTreeSet<String>,
    alerts: BTreeMap<String, (AlertEvent, u32)>,
}

impl Machine {
    fn open(&self) -> Vec<(&str, &str)> {
        let mut open: Vec<(&str, &str)> = self
            .alerts
            .values()
            .filter(|(event, _)| event.state != AlertState::Resolved)
            .map(|(event, _)| (&*event.kind, &*event.alert_id))
            .collect();
        open.sort_unstable();
        let kinds: BTreeSet<&str> = open.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds.len(), open.len(), "one open alert a kind: {open:?}");
        open
    }

    fn check(&mut self, event: &AlertEvent, policy: &Compiled) {
        let known = self.alerts.get(&event.alert_id);
        let from = known.map(|(last, _)| last.state);
        assert_eq!(Some(event.state), next(from, event.transition), "{from:?}: {event:?}");
        let sequence = known.map_or(0, |(_, sequence)| *sequence) + 1;
        let id = content_id(&[&event.alert_id, &sequence.to_string(), event.transition.as_str()]);
        assert_eq!(event.id, id, "event {sequence} without a gap");
        assert!(self.ids.insert(id), "no id twice");
        assert_eq!(event.state == AlertState::Snoozed, event.until.is_some());
        let by_person = matches!(event.transition, Transition::Acknowledged | Transition::Snoozed)
            || event.resolution == Some(Resolution::Manual);
        assert_eq!(event.by.is_some(), by_person, "{event:?}");
        assert_eq!(event.resolution.is_some(), event.state == AlertState::Resolved);
        if let Some((last, _)) = known {
            assert!(last.at <= event.at && last.opened_at == event.opened_at, "{event:?}");
            let rest = i64::from(policy.alerts.refractory_days) * DAY_MS;
            match event.transition {
                Transition::Escalated => assert!(last.severity < event.severity),
                Transition::Woken => assert!(last.until <= Some(event.at)),
                Transition::Snoozed => assert_ne!(last.until, event.until),
                Transition::Reopened => {
                    assert!(event.at.0 - last.at.0 < rest.max(1), "in the refractory period");
                    assert_eq!(event.reopened, last.reopened + 1);
                }
                Transition::Opened
                | Transition::Updated
                | Transition::Resolved
                | Transition::Acknowledged => {}
            }
        }
        self.seen += 1;
        self.alerts.insert(event.alert_id.clone(), (event.clone(), sequence));
    }
}

/// The diagram.
fn next(from: Option<AlertState>, transition: Transition) -> Option<AlertState> {
    use AlertState::{Acknowledged, Open, Resolved, Snoozed};
    match (from, transition) {
        (None, Transition::Opened) | (Some(Resolved), Transition::Reopened) => Some(Open),
        (Some(Open), Transition::Escalated | Transition::Updated) => Some(Open),
        (Some(Open | Snoozed), Transition::Acknowledged) => Some(Acknowledged),
        (Some(Acknowledged), Transition::Escalated) => Some(Acknowledged),
        (Some(Open | Acknowledged | Snoozed), Transition::Snoozed) => Some(Snoozed),
        (Some(Snoozed), Transition::Escalated | Transition::Woken) => Some(Open),
        (Some(Open | Acknowledged | Snoozed), Transition::Resolved) => Some(Resolved),
        (None | Some(Open | Acknowledged | Snoozed | Resolved), _) => None,
    }
}

fn run(policy: &Compiled, steps: &[Step]) -> World {
    let mut world = World::new(policy.clone());
    steps.iter().for_each(|step| world.step(step));
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_transition_leaves_the_machine(steps in steps(), refractory in prop::sample::select(vec![0, 3, 21]), cut in 0..60_usize) {
        let policy = policy(|policy| policy.alerts.refractory_days = refractory);
        let world = run(&policy, &steps);
        let cut = cut.min(steps.len());
        let mut part = run(&policy, &steps[..cut]);
        prop_assert_eq!(&world.out[..part.out.len()], &part.out[..], "a prefix gives a prefix");
        // What is kept is all that counts: a process that starts with it goes on as the one before would have.
        let kept = serde_json::to_string(&(&part.account.hot, &part.account.raised, &part.account.lives)).expect("JSON");
        (part.account.hot, part.account.raised, part.account.lives) = serde_json::from_str(&kept).expect("as written");
        steps[cut..].iter().for_each(|step| part.step(step));
        prop_assert_eq!(&world.out, &part.out);
    }
}

/// An account with a corroborated alert.
fn alerted() -> (World, String) {
    alerted_under(Compiled::default_policy())
}

fn alerted_under(policy: Compiled) -> (World, String) {
    let mut world = World::new(policy);
    world.show(0, Some(5.0));
    world.show(4, Some(5.0));
    world.step(&Step::Days { count: 1, alarm: Some(Severity::High), rise: None });
    let id = world.account.hot.alerts[0].id.clone();
    (world, id)
}

fn last(world: &World) -> (Transition, AlertState) {
    let event = world.events().next_back().expect("an event");
    (event.transition, event.state)
}

fn days(world: &mut World, count: u8, alarm: Option<Severity>) {
    world.step(&Step::Days { count, alarm, rise: None });
}

#[test]
fn an_acknowledged_alert_is_announced_again_only_when_it_escalates() {
    let (mut world, id) = alerted();
    let acknowledged = world.outcome(OutcomeKind::Acknowledged, Some(&id), world.at);
    assert_eq!(world.say(&acknowledged), Ok(()));
    let event = world.events().next_back().expect("an event").clone();
    assert_eq!((event.by.as_deref(), event.note.as_deref()), (Some("kim"), Some("called them")));
    assert_eq!(event.evidence.len(), 2, "the evidence as it stood");
    assert_eq!(world.say(&acknowledged), Err(Reason::Duplicate));
    let published = world.out.len();
    world.show(5, Some(3.5));
    world.judge(Some(Severity::High), None);
    assert_eq!(world.out.len(), published, "a further signal is no news to who has it in hand");
    world.judge(Some(Severity::Critical), None);
    assert_eq!(last(&world), (Transition::Escalated, AlertState::Acknowledged));
    let event = world.events().next_back().expect("an event");
    assert!(event.evidence.iter().any(|item| item.signal == world.policy.signals[5].name));
}

#[test]
fn a_snoozed_alert_wakes_if_it_is_supported_and_at_once_if_it_escalates() {
    for alarm in [Some(Severity::High), None] {
        let (mut world, id) = alerted();
        let mut snooze = world.outcome(OutcomeKind::Snoozed, Some(&id), world.at);
        assert_eq!(world.say(&snooze), Err(Reason::InvalidField), "until when?");
        for wrong in [0, 91 * DAY_MS] {
            snooze.until = Some(world.at.plus(wrong));
            assert_eq!(world.say(&snooze), Err(Reason::OutOfRange), "{wrong}");
        }
        snooze.until = Some(world.at.plus(3 * DAY_MS));
        assert_eq!(world.say(&snooze), Ok(()));
        assert_eq!(last(&world), (Transition::Snoozed, AlertState::Snoozed));
        if alarm.is_none() {
            (world.account.hot.signals[0].evidence, world.account.hot.signals[4].evidence) =
                (None, None);
        }
        world.judge(alarm, None);
        world.judge(alarm, None);
        assert_eq!(last(&world), (Transition::Snoozed, AlertState::Snoozed), "still quiet");
        world.judge(alarm, None);
        let woken = (Transition::Woken, AlertState::Open);
        let quiet = (Transition::Snoozed, AlertState::Snoozed);
        assert_eq!(last(&world), if alarm.is_some() { woken } else { quiet });
        assert_eq!(world.account.hot.alerts[0].id, id);
    }
    let (mut world, id) = alerted();
    let mut snooze = world.outcome(OutcomeKind::Snoozed, Some(&id), world.at);
    snooze.until = Some(world.at.plus(30 * DAY_MS));
    assert_eq!(world.say(&snooze), Ok(()));
    world.judge(Some(Severity::Critical), None);
    assert_eq!(last(&world), (Transition::Escalated, AlertState::Open));
    assert_eq!(world.say(&snooze), Err(Reason::Duplicate), "said again, it does not undo that");
}

#[test]
fn what_a_person_resolved_comes_back_with_news_only_and_as_the_same_alert() {
    let (mut world, id) = alerted();
    let resolved = world.outcome(OutcomeKind::Resolved, Some(&id), world.at);
    assert_eq!(world.say(&resolved), Ok(()));
    assert_eq!(last(&world), (Transition::Resolved, AlertState::Resolved));
    assert_eq!(world.say(&resolved), Err(Reason::Duplicate));
    let later = world.outcome(OutcomeKind::Acknowledged, Some(&id), world.at.plus(1));
    assert_eq!(world.say(&later), Err(Reason::AlertClosed));
    let unknown = world.outcome(OutcomeKind::Acknowledged, Some("nobody's"), world.at);
    assert_eq!(world.say(&unknown), Err(Reason::UnknownAlert));
    let published = world.out.len();
    for _ in 0..5 {
        world.judge(Some(Severity::High), None);
    }
    assert_eq!(world.out.len(), published, "the same evidence, and that of its signals alone");
    world.show(0, Some(5.0));
    world.show(4, Some(5.0));
    world.judge(Some(Severity::High), None);
    let event = world.events().next_back().expect("an event");
    assert_eq!((event.transition, event.alert_id.as_str()), (Transition::Reopened, id.as_str()));
    assert_eq!(event.reopened, 1);
}

#[test]
fn an_alert_that_comes_and_goes_stays_open_longer() {
    let (mut world, id) = alerted();
    let quiet = world.policy.alerts.resolve_quiet_days as u8;
    let flapping = world.policy.alerts.flap_quiet_days as u8;
    for _ in 0..world.policy.alerts.flap_reopens {
        (world.account.hot.signals[0].evidence, world.account.hot.signals[4].evidence) =
            (None, None);
        days(&mut world, quiet, None);
        assert_eq!(last(&world).0, Transition::Resolved);
        world.show(0, Some(5.0));
        world.show(4, Some(5.0));
        days(&mut world, 1, Some(Severity::High));
        assert_eq!(last(&world).0, Transition::Reopened);
    }
    assert_eq!(world.account.hot.alerts[0].id, id);
    (world.account.hot.signals[0].evidence, world.account.hot.signals[4].evidence) = (None, None);
    days(&mut world, flapping - 1, None);
    assert_eq!(last(&world).0, Transition::Reopened, "it would have been resolved before");
    days(&mut world, 1, None);
    assert_eq!(last(&world).0, Transition::Resolved);
}

#[test]
fn an_alert_to_which_nothing_happens_expires() {
    let (mut world, _) = alerted();
    let until = world.policy.alerts.expire_days as u8;
    days(&mut world, until - 1, Some(Severity::High));
    assert_eq!(last(&world).0, Transition::Opened);
    days(&mut world, 1, Some(Severity::High));
    let event = world.events().next_back().expect("an event");
    assert_eq!(event.resolution, Some(Resolution::Expired));
    let published = world.out.len();
    days(&mut world, 60, Some(Severity::High));
    assert!(world.account.hot.alerts.is_empty(), "nor do its signals come by themselves");
    assert_eq!(world.out.len(), published);
    world.show(0, Some(3.5));
    world.show(4, None);
    days(&mut world, 1, None);
    assert_eq!(last(&world), (Transition::Opened, AlertState::Open), "what began since does");
}

#[test]
fn a_snooze_that_outlasts_the_days_to_expire_still_wakes() {
    let policy = policy(|policy| policy.alerts.expire_days = 14);
    let (mut world, id) = alerted_under(policy);
    let mut snooze = world.outcome(OutcomeKind::Snoozed, Some(&id), world.at);
    snooze.until = Some(world.at.plus(30 * DAY_MS));
    assert_eq!(world.say(&snooze), Ok(()));
    days(&mut world, 29, Some(Severity::High));
    assert_eq!(last(&world).0, Transition::Snoozed);
    days(&mut world, 1, Some(Severity::High));
    assert_eq!(last(&world), (Transition::Woken, AlertState::Open));
}

/// The events of a kind since so many records.
fn of_kind(world: &World, kind: &str) -> Vec<(Transition, String)> {
    let events = world.events().filter(|event| event.kind == kind);
    events.map(|event| (event.transition, event.alert_id.clone())).collect()
}

#[test]
fn resolved_good_news_mutes_no_bad_news() {
    let mut world = World::new(Compiled::default_policy());
    world.show(0, Some(5.0));
    world.judge(None, Some(Severity::High));
    let kind = world.policy.signals[0].kind.clone();
    for (index, signal) in [(0, SPIKE_KIND.to_owned()), (1, kind.clone())] {
        let open = world.account.hot.alerts.iter().find(|alert| alert.kind == signal);
        let id = open.unwrap_or_else(|| panic!("{signal} is open")).id.clone();
        let resolved = world.outcome(OutcomeKind::Resolved, Some(&id), world.at);
        assert_eq!(world.say(&resolved), Ok(()), "{index}");
    }
    // The other signals' kinds never rested, and none rests by another's resolution.
    world.show(4, Some(5.0));
    world.judge(None, None);
    assert_eq!(of_kind(&world, &world.policy.signals[4].kind).len(), 1);
}

const BAND: &str = "at_risk_band";

fn resolve(world: &mut World, kind: &str) -> String {
    let open = world.account.hot.alerts.iter().find(|alert| alert.kind == kind);
    let id = open.expect("it is open").id.clone();
    let resolved = world.outcome(OutcomeKind::Resolved, Some(&id), world.at);
    assert_eq!(world.say(&resolved), Ok(()));
    id
}

#[test]
fn a_settled_condition_comes_back_once_it_was_not_met_and_as_the_same_alert_while_it_rests() {
    for (unmet_on, same) in [(5, true), (30, false)] {
        let mut world = World::new(Compiled::default_policy());
        world.step(&Step::AtRisk(true));
        days(&mut world, 3, None);
        let id = resolve(&mut world, BAND);
        days(&mut world, unmet_on, None);
        assert_eq!(of_kind(&world, BAND).len(), 2, "it goes on, as was known");
        world.step(&Step::AtRisk(false));
        days(&mut world, 1, None);
        world.step(&Step::AtRisk(true));
        days(&mut world, 1, None);
        let events = of_kind(&world, BAND);
        let (transition, again) = events.last().expect("an event");
        let expected = if same { Transition::Reopened } else { Transition::Opened };
        assert_eq!((*transition, *again == id), (expected, same));
    }
}

#[test]
fn a_condition_that_comes_and_goes_stays_open_longer_though_its_alerts_are_new() {
    let mut world = World::new(Compiled::default_policy());
    let (quiet, flapping) = (7, world.policy.alerts.flap_quiet_days as u8);
    let rest = world.policy.alerts.refractory_days as u8;
    for back in 0..=2 {
        world.step(&Step::AtRisk(true));
        days(&mut world, 1, None);
        assert_eq!(last(&world).0, Transition::Opened, "{back}");
        world.step(&Step::AtRisk(false));
        days(&mut world, if back < 2 { quiet } else { flapping - 1 }, None);
        let expected = if back < 2 { Transition::Resolved } else { Transition::Opened };
        assert_eq!(last(&world).0, expected, "{back}");
        if back < 2 {
            days(&mut world, rest, None);
        }
    }
    days(&mut world, 1, None);
    assert_eq!(last(&world).0, Transition::Resolved);
}

#[test]
fn the_band_says_nothing_beside_a_corroborated_alert_nor_after_it_nor_in_an_outage() {
    let mut world = World::new(Compiled::default_policy());
    world.step(&Step::Held(true));
    world.step(&Step::AtRisk(true));
    days(&mut world, 2, None);
    assert!(of_kind(&world, BAND).is_empty(), "held back");
    world.step(&Step::Held(false));
    days(&mut world, 1, None);
    assert_eq!(of_kind(&world, BAND).len(), 1);
    world.show(0, Some(5.0));
    world.show(4, Some(5.0));
    days(&mut world, 1, Some(Severity::High));
    let folded = of_kind(&world, BAND);
    assert_eq!(folded.last().map(|(transition, _)| *transition), Some(Transition::Resolved));
    resolve(&mut world, CORROBORATED_KIND);
    days(&mut world, 20, Some(Severity::High));
    assert_eq!(of_kind(&world, BAND), folded, "whoever resolved that knows");
}

#[test]
fn a_spike_takes_commands_as_well() {
    let mut world = World::new(Compiled::default_policy());
    world.show(0, Some(5.0));
    world.judge(None, Some(Severity::High));
    let spike = world.account.hot.alerts.iter().find(|alert| alert.kind == SPIKE_KIND);
    let id = spike.expect("a spike").id.clone();
    let resolved = world.outcome(OutcomeKind::Resolved, Some(&id), world.at);
    assert_eq!(world.say(&resolved), Ok(()));
    assert!(world.account.hot.alerts.iter().all(|alert| alert.kind != SPIKE_KIND));
}
