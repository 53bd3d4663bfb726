//! What became of alerts: verdicts, actions, losses, the control group, and what verdicts change.

use std::collections::BTreeSet;
use std::sync::Arc;

use bellwether_core::account::Account;
use bellwether_core::event::{Event, Input, Outcome, OutcomeKind};
use bellwether_core::feedback::{Fact, FactRecord, Group, Results, is_control};
use bellwether_core::fleet::Message;
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::{AlertEvent, HealthRecord, Output, Resolution, Transition};
use bellwether_core::policy::{Compiled, Policy};
use bellwether_core::reject::Reason;
use bellwether_core::state::{MemoryState, State};
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Day, HOUR_MS, Millis};
use proptest::prelude::*;

#[expect(dead_code, reason = "shared with the demo, which shows more of them")]
#[path = "../../bellwether/src/stories.rs"]
mod told;

/// The day after the last day of every story; a Monday.
const END: Day = Day(20_542);
const SLIPPING: &str = "story-slipping";

struct Run {
    core: Core,
    state: MemoryState,
    out: Vec<Output>,
}

fn policy(change: impl FnOnce(&mut Policy)) -> Compiled {
    let mut policy = Policy::clone(&Compiled::default_policy());
    change(&mut policy);
    Compiled::check("test", policy).expect("a good policy")
}

fn account(name: &str) -> AccountId {
    AccountId::new(name).expect("an identifier")
}

fn end() -> Millis {
    Millis(i64::from(END.0) * DAY_MS)
}

impl Run {
    fn new(policy: Compiled) -> Run {
        let core = Core::new(Arc::new(policy));
        Run { core, state: MemoryState::default(), out: Vec::new() }
    }

    fn told(&mut self, input: Input, at: Millis) -> Result<(), Reason> {
        let Ok(verdict) = self.core.apply(&mut self.state, input, at, &mut self.out);
        verdict.map(drop).map_err(|reject| reject.reason)
    }

    /// The stories to their end.
    fn stories(&mut self) {
        let mut events: Vec<Event> =
            told::all(END).into_iter().flat_map(|story| story.events).collect();
        events.sort_by_key(|event| event.occurred_at);
        for event in events {
            let at = event.occurred_at;
            self.told(Input::Event(event), at).expect("admitted");
        }
        self.passes(0);
    }

    /// Time passes until so many days after the stories.
    fn passes(&mut self, days: i64) {
        let at = end().plus(days * DAY_MS + self.core.policy().lateness_ms());
        self.told(Input::Tick, at).expect("time passes");
    }

    fn says(&mut self, kind: OutcomeKind, alert: Option<&str>, at: Millis) -> Result<(), Reason> {
        let outcome = Outcome {
            id: EventId::new("o").expect("an identifier"),
            account: account(SLIPPING),
            occurred_at: at,
            kind,
            alert_id: alert.map(str::to_owned),
            until: None,
            by: None,
            note: None,
        };
        self.told(Input::Outcome(outcome), at)
    }

    fn alerts(&self) -> impl Iterator<Item = &AlertEvent> {
        self.out.iter().filter_map(Output::alert)
    }

    /// The first urgent alert of the account that slips away.
    fn urgent(&self) -> AlertEvent {
        let mut urgent = self.alerts().filter(|event| event.severity.is_urgent());
        let found = urgent.find(|event| event.account_id.as_str() == SLIPPING);
        found.expect("an urgent alert").clone()
    }

    fn record(&self) -> &HealthRecord {
        let records = self.out.iter().rev().filter_map(Output::health);
        let mut records = records.filter(|record| record.account_id.as_str() == SLIPPING);
        records.next().expect("a health record")
    }

    fn results(&mut self) -> Results {
        let mut all = Results::default();
        for (_, cohort) in self.state.cohorts().iter() {
            cohort.results().into_iter().for_each(|results| all.merge(results));
        }
        all
    }

    fn state_of(&mut self, name: &str) -> Account {
        let Ok(account) = self.state.take(&account(name));
        let account = account.expect("it is known");
        let Ok(()) = self.state.put(account.clone());
        *account
    }
}

#[test]
fn the_last_verdict_on_an_alert_counts_and_counts_once() {
    let mut run = Run::new(Compiled::default_policy());
    run.stories();
    let alert = run.urgent();
    let id = Some(alert.alert_id.as_str());
    let (at, kind) = (end().plus(HOUR_MS), alert.kind.as_str());
    let count = |run: &mut Run| {
        let results = run.results();
        results.kinds.get(kind).map_or((0, 0), |of| (of.right, of.wrong))
    };
    assert_eq!(count(&mut run), (0, 0));
    run.says(OutcomeKind::FalsePositive, id, at).expect("taken");
    assert_eq!(count(&mut run), (0, 1));
    let again = run.says(OutcomeKind::FalsePositive, id, at);
    assert_eq!(again, Err(Reason::Duplicate));
    run.says(OutcomeKind::Confirmed, id, at.plus(HOUR_MS)).expect("taken");
    assert_eq!(count(&mut run), (1, 0), "it replaces the one before");
    let overtaken = run.says(OutcomeKind::FalsePositive, id, at.plus(1));
    assert_eq!(overtaken, Err(Reason::TooLate));
    assert_eq!(count(&mut run), (1, 0));
}

#[test]
fn feedback_that_fits_no_alert_is_refused() {
    let mut run = Run::new(Compiled::default_policy());
    run.stories();
    let alert = run.urgent();
    let at = end().plus(HOUR_MS);
    let no_alert = run.says(OutcomeKind::Confirmed, None, at);
    assert_eq!(no_alert, Err(Reason::InvalidField));
    let other = run.says(OutcomeKind::Confirmed, Some("nobody's"), at);
    assert_eq!(other, Err(Reason::UnknownAlert));
    let before = alert.opened_at.plus(-1);
    let early = run.says(OutcomeKind::Actioned, Some(&alert.alert_id), before);
    assert_eq!(early, Err(Reason::OutOfRange));
    let results = run.results();
    assert!(results.kinds.values().all(|of| of.right + of.wrong == 0), "{results:?}");
    assert!(run.state_of(SLIPPING).facts.is_empty());
}

#[test]
fn a_lost_account_was_warned_and_the_time_counts() {
    let mut run = Run::new(Compiled::default_policy());
    run.stories();
    let alert = run.urgent();
    assert!(run.results().kinds[&alert.kind].urgent > 0);
    let acted = alert.opened_at.plus(30 * HOUR_MS);
    run.says(OutcomeKind::Actioned, Some(&alert.alert_id), acted).expect("taken");
    let again = run.says(OutcomeKind::Actioned, Some(&alert.alert_id), acted.plus(HOUR_MS));
    assert_eq!(again, Err(Reason::Duplicate), "the first action is the one that counts");
    let left = alert.at.plus(40 * DAY_MS);
    run.says(OutcomeKind::Churned, None, left).expect("taken");
    let results = run.results();
    assert_eq!((results.lost.warned, results.lost.unwarned), (1, 0));
    let lead = results.lost.lead.median_hours().expect("one");
    assert!((28.0 * 24.0..=42.0 * 24.0).contains(&lead), "{lead} hours for 40 days");
    let of = &results.kinds[&alert.kind];
    assert_eq!(of.group(Group::Acted), [1, 0], "lost, though somebody acted in time");
    assert_eq!(of.intervention.count(), 1);
    let hours = of.intervention.median_hours().expect("one");
    assert!((24.0..=48.0).contains(&hours), "{hours} hours for 30");
    let again = run.says(OutcomeKind::Churned, None, left);
    assert_eq!(again, Err(Reason::Duplicate));
    assert_eq!(run.results(), results, "nothing counts twice");
}

/// Alerts of the account that slips away that were told and did not end.
fn open_of(run: &Run) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    for event in run.alerts().filter(|event| event.account_id.as_str() == SLIPPING) {
        if event.transition == Transition::Resolved {
            open.remove(&event.alert_id);
        } else {
            open.insert(event.alert_id.clone());
        }
    }
    open
}

#[test]
fn the_outcome_of_an_account_ends_its_alerts_each_once() {
    for kind in [OutcomeKind::Churned, OutcomeKind::Contracted, OutcomeKind::Renewed] {
        let mut run = Run::new(Compiled::default_policy());
        run.stories();
        let open = open_of(&run);
        assert!(!open.is_empty(), "something is open");
        let (before, at) = (run.out.len(), end().plus(2 * DAY_MS));
        run.says(kind, None, at).expect("taken");
        if kind != OutcomeKind::Churned {
            assert_eq!(open_of(&run), open, "{kind:?}: the account is still there");
            continue;
        }
        let ends = run.out[before..].iter().filter_map(Output::alert);
        let ended: Vec<_> =
            ends.map(|event| (event.alert_id.clone(), event.resolution, event.at)).collect();
        assert!(ended.iter().all(|(_, why, on)| (*why, *on) == (Some(Resolution::Outcome), at)));
        let ids: BTreeSet<String> = ended.iter().map(|(id, ..)| id.clone()).collect();
        assert_eq!((ids, ended.len()), (open.clone(), open.len()), "each ends once");
        assert!(run.record().open_alerts.is_empty());
        let after = run.out.len();
        run.passes(40);
        let told = run.out[after..].iter().filter_map(Output::alert);
        assert_eq!(told.filter(|event| event.account_id.as_str() == SLIPPING).count(), 0);
    }
}

#[test]
fn the_outcome_of_an_account_that_goes_on_ends_nothing() {
    let mut run = Run::new(Compiled::default_policy());
    run.stories();
    let open = open_of(&run);
    assert!(!open.is_empty(), "something is open");
    run.says(OutcomeKind::Churned, None, end().plus(-10 * DAY_MS)).expect("taken");
    assert_eq!(open_of(&run), open, "it was used after it was said to have left");
}

#[test]
fn who_left_before_anyone_could_act_is_compared_with_nobody() {
    let mut run = Run::new(policy(|policy| policy.feedback.acted_days = 60));
    run.stories();
    let alert = run.urgent();
    let left = alert.at.plus(60 * DAY_MS - 1);
    assert!(left > end());
    run.says(OutcomeKind::Churned, None, left).expect("taken");
    assert_eq!(run.results().kinds[&alert.kind].group(Group::Early), [1, 0]);
}

/// The account that slips away, to the end of a horizon of 60 days after its alert: it goes on for so many days after the story.
fn followed(days_active: i64) -> (Run, [u64; 2]) {
    let mut run = Run::new(policy(|policy| policy.feedback.horizon_days = 60));
    run.stories();
    let kind = run.urgent().kind;
    let of = |run: &mut Run| run.results().kinds[&kind].group(Group::NotActed);
    let before = of(&mut run);
    for day in 0..days_active {
        let at = end().plus(day * DAY_MS + 9 * HOUR_MS);
        let login = Event {
            id: EventId::new(&format!("after-{day}")).expect("an identifier"),
            account: account(SLIPPING),
            occurred_at: at,
            kind: "login".to_owned(),
            member: None,
            role: None,
            feature: None,
            value: None,
            segment: None,
        };
        run.told(Input::Event(login), at).expect("admitted");
    }
    run.passes(61);
    let after = of(&mut run);
    (run, [after[0] - before[0], after[1] - before[1]])
}

#[test]
fn who_is_still_active_when_the_horizon_is_over_stayed() {
    let (mut run, [lost, stayed]) = followed(61);
    assert!(stayed > 0, "{lost} lost, {stayed} stayed");
    assert!(run.state_of(SLIPPING).raised.iter().any(|raised| raised.over));
    let before = run.results();
    run.says(OutcomeKind::Churned, None, end().plus(62 * DAY_MS)).expect("taken");
    let after = run.results();
    assert_eq!(after.kinds, before.kinds, "what is over is not told again");
    assert_eq!(after.lost.unwarned, before.lost.unwarned + 1, "a warning so long ago is none");
}

#[test]
fn who_fell_silent_did_not_stay_though_nobody_told_of_a_loss() {
    let (_, active) = followed(61);
    let (_, silent) = followed(3);
    assert!(silent[0] > active[0] && silent[1] < active[1], "{silent:?} against {active:?}");
}

#[test]
fn alerts_of_the_control_group_are_kept_and_not_published() {
    let shares = (1..=50).map(|percent| f64::from(percent) / 100.0);
    let share = shares
        .filter(|share| {
            let rules = policy(|policy| policy.feedback.control_share = *share);
            is_control(&account(SLIPPING), &rules.feedback)
        })
        .fold(f64::NAN, f64::min);
    assert!(share.is_finite(), "the story's account is in no control group: choose another");
    let mut open = Run::new(Compiled::default_policy());
    open.stories();
    let mut run = Run::new(policy(|policy| policy.feedback.control_share = share));
    run.stories();
    assert!(run.alerts().all(|event| event.account_id.as_str() != SLIPPING));
    assert!(run.record().open_alerts.is_empty());
    assert_eq!(run.record().score, open.record().score, "the score is as it would be");
    let state = run.state_of(SLIPPING);
    assert!(!state.hot.alerts.is_empty(), "what would be alerted is known");
    let Ok(taken) = run.state.take(&account(SLIPPING));
    let view = run.core.view(*taken.expect("it is known"));
    assert!(view.iter().all(|output| !matches!(output, Output::Alert(_))), "nor shown");
    let withheld: u64 = run.results().kinds.values().map(|of| of.withheld).sum();
    assert_eq!(withheld, 1);
    let others = |run: &Run| {
        let (out, withheld) = (&run.out, |id: &AccountId| {
            is_control(id, &policy(|policy| policy.feedback.control_share = share).feedback)
        });
        let ids = out.iter().filter_map(Output::alert);
        ids.filter(|event| !withheld(&event.account_id))
            .map(|event| event.alert_id.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(others(&run), others(&open), "the other accounts are alerted as ever");
}

#[test]
fn an_alert_that_was_withheld_stays_so_when_the_share_changes() {
    let mut run = Run::new(policy(|policy| policy.feedback.control_share = 0.5));
    if !is_control(&account(SLIPPING), &run.core.policy().feedback) {
        panic!("the story's account is in no control group: choose another");
    }
    run.stories();
    run.core = Core::new(Arc::new(Compiled::default_policy()));
    run.says(OutcomeKind::Churned, None, end().plus(HOUR_MS)).expect("taken");
    let published = run.alerts().any(|event| event.account_id.as_str() == SLIPPING);
    assert!(!published, "nothing is resolved that was never opened");
    assert_eq!(run.results().lost.withheld, 1);
}

/// Facts of the cohort of the account that slips away, as another partition tells them.
fn verdicts(run: &mut Run, kind: &str, right: bool, count: usize) {
    let at = end().plus(-120 * DAY_MS);
    let mut state = Run::new(Compiled::default_policy());
    state.stories();
    let cohort = state.state_of(SLIPPING).segment().unwrap_or_default().to_owned();
    for _ in 0..count {
        let fact = Fact::Judged { kind: kind.to_owned(), right, at, before: None };
        let record = FactRecord { cohort: cohort.clone(), fact };
        let message = Box::new(Message::Fact(record));
        run.told(Input::Cohort { source: 1, message }, at).expect("taken");
    }
}

#[test]
fn where_people_call_a_kind_wrong_it_must_be_rarer() {
    let first = |wrong: usize, adjust: bool| {
        let mut run = Run::new(policy(|policy| {
            policy.feedback.strictest = 0.01;
            policy.feedback.adjust = adjust;
        }));
        verdicts(&mut run, "churn_risk", false, wrong);
        run.stories();
        let opened = run.alerts().find(|event| {
            let of = event.account_id.as_str() == SLIPPING && event.kind == "churn_risk";
            of && event.transition == Transition::Opened
        });
        opened.map(|event| event.at)
    };
    let usual = first(0, true).expect("an alert");
    let doubted = first(5_000, true);
    assert!(doubted.is_none_or(|at| at > usual), "{doubted:?} against {usual}");
    assert_eq!(first(5_000, false), Some(usual), "not where the policy does not let them");
}

proptest! {
    /// However verdicts come, they weigh the same, and the more of them are wrong the rarer alerts must be, within the bounds.
    #[test]
    fn verdicts_move_the_sensitivity_one_way_within_bounds(
        verdicts in prop::collection::vec((any::<bool>(), 0_i64..1_000), 0..60), seed in any::<u64>(), strictest in 0.01..1.0_f64
    ) {
        let policy = policy(|policy| (policy.feedback.strictest, policy.feedback.loosest) = (strictest, 3.0));
        let factor = |verdicts: &[(bool, i64)]| {
            let mut run = Run::new(policy.clone());
            for (right, day) in verdicts {
                let at = Millis(1_700_000_000_000 + day * DAY_MS);
                let fact = Fact::Judged { kind: "k".to_owned(), right: *right, at, before: None };
                let message = Box::new(Message::Fact(FactRecord { cohort: "c".to_owned(), fact }));
                run.told(Input::Cohort { source: 1, message }, at).expect("taken");
            }
            let now = Millis(1_700_000_000_000 + 1_001 * DAY_MS);
            run.state.cohorts().named(Some("c")).sensitivity(&policy.feedback, now).of("k")
        };
        let one = factor(&verdicts);
        prop_assert!((strictest..=3.0).contains(&one));
        let mut shuffled = verdicts.clone();
        let turn = usize::try_from(seed % 61).expect("small") % shuffled.len().max(1);
        shuffled.rotate_left(turn);
        prop_assert!((factor(&shuffled) / one - 1.0).abs() < 1e-9, "the order makes no difference");
        let mut worse = verdicts.clone();
        worse.push((false, 1_000));
        let mut better = verdicts;
        better.push((true, 1_000));
        prop_assert!(factor(&worse) <= one && one <= factor(&better));
    }
}
