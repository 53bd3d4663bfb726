//! An account that uses what accounts of a higher plan do is told once, with the figures; one that does so in a single respect is not.

use std::sync::Arc;

use bellwether_core::cohort::CohortKey;
use bellwether_core::condition::When;
use bellwether_core::event::{Event, Input, Profile};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::{AlertEvent, Output, Resolution, Severity, Transition};
use bellwether_core::policy::{Compiled, Policy};
use bellwether_core::state::{MemoryState, State};
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Day, Millis, YearDay};

const FIRST: Day = Day(20_400);
const KIND: &str = "higher_tier_usage";
/// Accounts of each plan beside those that are looked at.
const OTHERS: i32 = 22;

/// What an account does in a day: logins, projects, API calls.
type Does = [u32; 3];
const STARTER: Does = [2, 1, 10];
const PRO: Does = [6, 3, 100];

fn id(name: &str) -> AccountId {
    AccountId::new(name).expect("an identifier")
}

struct Run {
    core: Core,
    state: MemoryState,
    out: Vec<Output>,
    events: u64,
}

impl Run {
    fn new(accounts_min: u32) -> Run {
        let mut policy = Policy::clone(&Compiled::default_policy());
        let of = policy.conditions.iter_mut().find(|condition| condition.kind == KIND);
        let when = &mut of.expect("the default policy has it").when;
        let When::HigherTier { signals, signals_min, accounts_min: accounts, .. } = when else {
            panic!("{when:?}");
        };
        *signals = ["logins", "projects_created", "api_calls"].map(str::to_owned).to_vec();
        (*signals_min, *accounts) = (2, accounts_min);
        let policy = Compiled::check("test", policy).expect("a good policy");
        let core = Core::new(Arc::new(policy));
        Run { core, state: MemoryState::default(), out: Vec::new(), events: 0 }
    }

    fn apply(&mut self, input: Input, at: Millis) {
        let Ok(verdict) = self.core.apply(&mut self.state, input, at, &mut self.out);
        verdict.expect("it is taken");
    }

    fn on(&mut self, account: &str, plan: &str) {
        let profile = serde_json::json!({
            "account": account, "as_of": 0, "plan": plan, "entitlements": {},
        });
        let profile: Profile = serde_json::from_value(profile).expect("a profile");
        self.apply(Input::Profile(profile), Millis(i64::from(FIRST.0) * DAY_MS));
    }

    fn live(&mut self, account: &str, day: i32, does: Does) {
        let noon = Millis(i64::from(FIRST.plus(day).0) * DAY_MS + DAY_MS / 2);
        let kinds = [("login", does[0]), ("project.created", does[1]), ("api.called", 1)];
        for (kind, count) in kinds {
            for number in 0..count {
                self.events += 1;
                let at = noon.plus(i64::from(number) * 1_000);
                let event = Event {
                    id: EventId::new(&self.events.to_string()).expect("an identifier"),
                    account: id(account),
                    occurred_at: at,
                    kind: kind.to_owned(),
                    member: None,
                    role: None,
                    feature: None,
                    value: (kind == "api.called").then(|| f64::from(does[2])),
                    segment: None,
                };
                self.apply(Input::Event(event), at);
            }
        }
    }

    /// A fleet on two plans, and accounts of the lower one that do something else from a day on; `after` says what.
    fn fleet(&mut self, days: i32, special: &[(&str, &str)], after: impl Fn(&str, i32) -> Does) {
        for number in 0..OTHERS {
            self.on(&format!("starter-{number}"), "starter");
            self.on(&format!("pro-{number}"), "pro");
        }
        for (account, plan) in special {
            self.on(account, plan);
        }
        for day in 0..days {
            for number in 0..OTHERS as u32 {
                // No two days and accounts alike.
                let more = (number + day as u32) % 3;
                let [logins, projects, calls] = STARTER;
                self.live(
                    &format!("starter-{number}"),
                    day,
                    [logins + more, projects, calls + number],
                );
                let [logins, projects, calls] = PRO;
                self.live(&format!("pro-{number}"), day, [logins + more, projects, calls + number]);
            }
            for (account, _) in special {
                self.live(account, day, after(account, day));
            }
        }
    }

    fn alerts(&self, account: &str) -> Vec<&AlertEvent> {
        let events = self.out.iter().filter_map(Output::alert).filter(|event| event.kind == KIND);
        events.filter(|event| event.account_id.as_str() == account).collect()
    }
}

/// Grows on day 50, and shrinks again on day 90.
fn grows(_: &str, day: i32) -> Does {
    if (50..90).contains(&day) { [9, 5, 200] } else { STARTER }
}

#[test]
fn an_account_that_has_outgrown_its_plan_is_told_once_and_until_it_shrinks() {
    let mut run = Run::new(20);
    run.fleet(125, &[("acme", "starter")], grows);
    let events = run.alerts("acme");
    let transitions: Vec<Transition> = events.iter().map(|event| event.transition).collect();
    assert_eq!(transitions.first(), Some(&Transition::Opened), "{transitions:?}");
    assert_eq!(transitions.iter().filter(|it| **it == Transition::Opened).count(), 1);
    assert_eq!(transitions.last(), Some(&Transition::Resolved), "{transitions:?}");
    assert!(
        transitions.len() <= 4,
        "further signals make updates, and nothing else: {transitions:?}"
    );
    let (opened, ended) = (events[0], events[events.len() - 1]);
    assert_eq!(ended.resolution, Some(Resolution::Passed));
    assert_eq!(opened.severity, Severity::Low);
    let day = |event: &AlertEvent| event.at.0.div_euclid(DAY_MS) - i64::from(FIRST.0);
    // A month of logins that is half new and half old is not yet that of a pro account.
    assert!((60..75).contains(&day(opened)), "day {}", day(opened));
    assert!(day(ended) > 97, "day {}", day(ended));
    assert!(opened.evidence.len() >= 2, "{:?}", opened.evidence);
    for item in &opened.evidence {
        assert!(!item.risk && item.observed >= item.baseline, "{item:?}");
        assert!(item.text.contains("in 28 days (median of pro accounts: "), "{item:?}");
    }
    // 28 days of six to eight logins: the median of the fleet, to a 32nd.
    let logins = events.iter().flat_map(|event| &event.evidence).find(|it| it.signal == "logins");
    let median = logins.expect("logins are named").baseline;
    assert!((189.0..=196.0).contains(&median), "{median}");
    let others =
        run.out.iter().filter(|out| matches!(out, Output::Alert(event) if event.kind == KIND));
    assert_eq!(others.count(), events.len(), "nobody else");
}

#[test]
fn one_respect_another_plan_or_too_few_accounts_say_nothing() {
    let mut run = Run::new(20);
    let special = [("chatty", "starter"), ("top", "pro"), ("odd", "unheard-of")];
    run.fleet(85, &special, |account, day| match account {
        "chatty" => [9, 1, 10],
        _ => grows(account, day),
    });
    for (account, _) in special {
        assert_eq!(run.alerts(account), Vec::<&AlertEvent>::new(), "{account}");
    }
    let mut few = Run::new(40);
    few.fleet(85, &[("acme", "starter")], grows);
    assert_eq!(few.alerts("acme"), Vec::<&AlertEvent>::new());
}

/// A version from before there were levels of plans and ends of fiscal years could read neither.
#[test]
fn what_an_older_version_cannot_read_is_not_kept_and_what_rests_on_it_is_quiet() {
    for is_for_older in [true, false] {
        let mut run = Run::new(20);
        run.state.cohorts().set_for_older(is_for_older);
        run.fleet(85, &[("acme", "starter")], grows);
        let profile = run.state.accounts()[&id("acme")].profile.clone().expect("it has one");
        let fiscal_year_end = YearDay::parse("03-31");
        run.apply(
            Input::Profile(Profile { fiscal_year_end, ..profile }),
            Millis(i64::from(FIRST.0) * DAY_MS),
        );
        let kept = run.state.accounts()[&id("acme")].profile.as_ref().expect("it has one");
        let rows = run.state.known_cohorts().rows();
        let plans = rows.filter(|(_, key, _)| matches!(key, CohortKey::Plans(_))).count();
        assert_eq!(kept.fiscal_year_end.is_none(), is_for_older);
        assert_eq!((plans == 0, run.alerts("acme").is_empty()), (is_for_older, is_for_older));
    }
}
