//! Promotions: a model scores from its time on, wherever the work is cut, and what does not fit is refused.

use std::sync::Arc;

use bellwether_core::account::Account;
use bellwether_core::event::{Event, Input};
use bellwether_core::fleet::Message;
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::{Output, ScoreChanged};
use bellwether_core::points::Points;
use bellwether_core::policy::{Compiled, Policy, Signal};
use bellwether_core::promotion::{PROMOTIONS_MAX, Promotion};
use bellwether_core::reject::Reason;
use bellwether_core::score::{Context, ExpertScorecard, Reading, Scale, Scorer};
use bellwether_core::state::{MemoryState, State};
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, HOUR_MS, MINUTE_MS, Millis};

/// A Monday.
const START_MS: i64 = 20_402 * DAY_MS;
const ACCOUNTS: i64 = 12;
const DAYS: i64 = 80;

/// The expert's scorecard with all lines so many times as long, on a scale of its own.
#[derive(Debug)]
struct Times(i32, String);

impl Scorer for Times {
    fn version(&self) -> &str {
        &self.1
    }

    fn scale(&self) -> Option<Scale> {
        Some(Scale { base: 60.0, healthy_min: 65.0, at_risk_below: 40.0 })
    }

    fn signal(&self, cohort: &str, signal: &Signal, reading: &Reading, policy: &Policy) -> Points {
        Points(self.0 * ExpertScorecard.signal(cohort, signal, reading, policy).0)
    }

    fn absence(&self, cohort: &str, signal: &Signal, z: f64) -> Points {
        Points(self.0 * ExpertScorecard.absence(cohort, signal, z).0)
    }

    fn context(&self, context: &Context, policy: &Policy) -> [Points; 3] {
        ExpertScorecard.context(context, policy).map(|points| Points(self.0 * points.0))
    }
}

fn core() -> Core {
    let reader = |text: &str, _: &Compiled| -> Result<Arc<dyn Scorer>, String> {
        let times: i32 = text.parse().map_err(|error| format!("{text}: {error}"))?;
        Ok(Arc::new(Times(times, format!("times-{times}"))))
    };
    Core::new(Arc::new(Compiled::default_policy())).reading(Arc::new(reader))
}

fn id(text: &str) -> EventId {
    EventId::new(text).expect("an identifier")
}

fn promotion(name: &str, from_ms: i64, model: Option<&str>) -> Input {
    let model = model.map(str::to_owned);
    let promotion = Promotion { from: Millis(from_ms), model, by: None, began: None };
    Input::Promotion { id: id(name), promotion: Some(promotion) }
}

/// Every account at noon of every day but the weekends, and only the first few in the end.
fn events() -> Vec<Event> {
    let mut events = Vec::new();
    for day in (0..DAYS).filter(|day| day % 7 < 5) {
        let noon = START_MS + day * DAY_MS + 12 * HOUR_MS;
        let there = if day < DAYS - 14 { ACCOUNTS } else { 4 };
        events.extend((0..there).map(|account| {
            let at = noon + account * MINUTE_MS;
            Event {
                id: id(&format!("{account}-{at}")),
                account: AccountId::new(&format!("account-{account}")).expect("good"),
                occurred_at: Millis(at),
                kind: "login".to_owned(),
                member: None,
                role: None,
                feature: None,
                value: None,
                segment: Some("smb".to_owned()),
            }
        }));
    }
    events
}

#[derive(Default)]
struct Run {
    state: MemoryState,
    out: Vec<Output>,
}

impl Run {
    fn told(&mut self, core: &Core, input: Input) -> Result<(), Reason> {
        let Ok(verdict) = core.apply(&mut self.state, input, Millis(0), &mut self.out);
        verdict.map(drop).map_err(|reject| reject.reason)
    }

    fn live(&mut self, core: &Core) {
        for event in events() {
            let at = event.occurred_at;
            let Ok(verdict) = core.apply(&mut self.state, Input::Event(event), at, &mut self.out);
            verdict.expect("admitted");
        }
    }

    fn changes(&self) -> impl Iterator<Item = &ScoreChanged> {
        self.out.iter().filter_map(Output::score_changed)
    }

    fn begun(&self) -> Vec<(String, i64)> {
        let promotions = self.state.known_cohorts().promotions();
        let began = promotions.iter().filter_map(|(id, of)| Some((id, of.began?)));
        let mut began: Vec<_> = began.collect();
        began.sort_by_key(|(_, began)| began.number);
        began.into_iter().map(|(id, began)| (id.to_string(), began.at.0)).collect()
    }
}

#[test]
fn each_model_scores_from_its_time_on_and_explanations_stay_exact() {
    let core = core();
    let noon = |day: i64| START_MS + day * DAY_MS + 12 * HOUR_MS;
    let (first, second, back) = (noon(39), noon(60) + 1, noon(70));
    let mut run = Run::default();
    run.told(&core, promotion("b", first, Some("2"))).expect("taken");
    run.told(&core, promotion("a", second, Some("3"))).expect("taken");
    run.told(&core, promotion("c", back, Some("2"))).expect("taken");
    run.live(&core);
    // The second began with the first event after it.
    let expected = [("b", first), ("a", noon(60) + MINUTE_MS), ("c", back)];
    assert_eq!(run.begun(), expected.map(|(id, at)| (id.to_owned(), at)));
    let mut models = Vec::new();
    for change in run.changes() {
        let moved: Points = change.movements.iter().map(|movement| movement.delta).sum();
        assert_eq!(moved, change.score - change.previous_score.unwrap_or_default());
        models.push(change.model_version.as_str());
        let expected = match change.at.0 {
            at if at < first => "expert",
            at if at < second => "times-2",
            at if at < back => "times-3",
            _ => "times-2",
        };
        // A judgement bears the time at which it was due, which may lie before the clock that moved.
        if change.at.0 % DAY_MS >= 12 * HOUR_MS {
            assert_eq!(change.model_version, expected, "{}", change.at);
        }
    }
    models.dedup();
    assert_eq!(models, ["expert", "times-2", "times-3", "times-2"]);
    // Every account is scored by the last one, those that are silent included.
    for account in run.state.accounts().values() {
        let now = core.current(run.state.known_cohorts().promotions()).expect("promoted");
        let record = now.record(Account::clone(account)).expect("a record");
        let sum: Points = record.contributions.iter().map(|line| line.points).sum();
        assert_eq!((sum, record.contributions[0].points), (record.score, Points(6_000)));
        assert_eq!(record.score, account.hot.score, "as it was last published");
    }
}

#[test]
fn wherever_the_work_is_cut_the_same_comes_out() {
    let from = START_MS + 67 * DAY_MS + 12 * HOUR_MS;
    let promote = |run: &mut Run| {
        run.told(&core(), promotion("b", from, Some("2"))).expect("taken");
    };
    let mut whole = Run::default();
    promote(&mut whole);
    whole.live(&core());
    let mut cut = Run::default();
    promote(&mut cut);
    let mut cuts = 0;
    for event in events() {
        let (at, input) = (event.occurred_at, Input::Event(event));
        loop {
            // A process that was started anew.
            let Ok(swept) = core().close_before(&mut cut.state, &input, at, 1, &mut cut.out);
            if swept.done {
                break;
            }
            cuts += i32::from(at.0 == from);
        }
        let Ok(verdict) = core().apply(&mut cut.state, input, at, &mut cut.out);
        verdict.expect("admitted");
    }
    assert!(cuts > 5, "it was cut where the model turned: {cuts}");
    assert_eq!(cut.out, whole.out);
    assert!(whole.changes().any(|change| change.model_version == "times-2"));
}

#[test]
fn a_model_that_the_policy_no_longer_lets_be_read_gives_way_to_the_configured_one_and_says_so() {
    let core = core();
    let mut run = Run::default();
    run.told(&core, promotion("a", START_MS, Some("2"))).expect("taken");
    run.live(&core);
    let promotions = run.state.known_cohorts().promotions();
    let read = core.current(promotions).expect("something was promoted");
    assert_eq!((read.unread_reason(), read.model_version()), (None, "times-2"));
    // Processes under another policy: one that has other signals, and one that reads no models at all.
    let refuses = |text: &str, _: &Compiled| -> Result<Arc<dyn Scorer>, String> {
        Err(format!("{text} was learned with other signals"))
    };
    let default = || Core::new(Arc::new(Compiled::default_policy()));
    for (other, why) in [
        (default().reading(Arc::new(refuses)), "2 was learned with other signals"),
        (default(), "models cannot be promoted here"),
    ] {
        let now = other.current(promotions).expect("something was promoted");
        assert_eq!(now.unread_reason(), Some(why));
        assert_eq!(now.model_version(), other.model_version());
        assert_eq!(now.promoted(), read.promoted(), "it is in force all the same");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let core = core();
    let mut run = Run::default();
    assert_eq!(run.told(&core, promotion("a", 5, Some("no number"))), Err(Reason::InvalidField));
    let large = "1".repeat(300_000);
    assert_eq!(run.told(&core, promotion("a", 5, Some(&large))), Err(Reason::TooLarge));
    let unread = Core::new(Arc::new(Compiled::default_policy()));
    assert_eq!(run.told(&unread, promotion("a", 5, Some("2"))), Err(Reason::InvalidField));
    assert_eq!(run.state.known_cohorts().promotions().iter().count(), 0);

    run.told(&core, promotion("a", START_MS, Some("2"))).expect("taken");
    run.told(&core, promotion("later", i64::MAX / 2, Some("3"))).expect("taken");
    run.told(&core, Input::Promotion { id: id("later"), promotion: None }).expect("withdrawn");
    run.live(&core);
    assert_eq!(run.begun().len(), 1);
    let over = run.told(&core, promotion("a", START_MS + DAYS * DAY_MS, Some("3")));
    assert_eq!(over, Err(Reason::OutOfRange), "it is in force");
    let gone = run.told(&core, Input::Promotion { id: id("a"), promotion: None });
    assert_eq!(gone, Err(Reason::OutOfRange), "it is in force");
    assert_eq!(run.told(&core, promotion("b", 5, Some("3"))), Err(Reason::OutOfRange), "before it");
    for number in 0..2 * PROMOTIONS_MAX {
        let from = START_MS + (DAYS + number as i64) * DAY_MS;
        run.told(&core, promotion(&format!("n{number}"), from, None)).expect("taken");
    }
    let known = run.state.known_cohorts().promotions();
    assert_eq!(known.iter().count(), PROMOTIONS_MAX);
    assert_eq!(known.current().map(|(id, _)| id.as_str()), Some("a"), "it is kept");
}

#[test]
fn partitions_tell_each_other() {
    let core = core().among(2);
    let mut run = Run::default();
    run.told(&core, promotion("a", START_MS, Some("2"))).expect("taken");
    let [message] = run.state.cohorts().outbox() else { panic!("one message") };
    let message = Box::new(message.clone());
    assert!(matches!(*message, Message::Promotion(..)));
    run.live(&core);
    assert!(run.changes().all(|change| change.model_version == "expert"), "not by itself");
    let mut run = Run::default();
    run.told(&core, Input::Cohort { source: 1, message }).expect("taken");
    run.live(&core);
    assert!(run.changes().all(|change| change.model_version == "times-2"));
}
