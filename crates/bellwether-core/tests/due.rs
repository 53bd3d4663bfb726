//! What is due when a day ends is worked off bit by bit: the same comes out wherever it is cut, and events go on meanwhile.

use std::sync::Arc;

use bellwether_core::event::{Event, Input};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::Output;
use bellwether_core::policy::Compiled;
use bellwether_core::state::{MemoryState, State};
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, HOUR_MS, MINUTE_MS, Millis};

/// A Monday.
const START_MS: i64 = 20_402 * DAY_MS;
const ACCOUNTS: i64 = 30;

fn login(account: i64, at: i64) -> Event {
    Event {
        id: EventId::new(&format!("{account}-{at}")).expect("digits"),
        account: AccountId::new(&format!("account-{account}")).expect("letters and digits"),
        occurred_at: Millis(at),
        kind: "login".to_owned(),
        member: None,
        role: None,
        feature: None,
        value: None,
        segment: Some("smb".to_owned()),
    }
}

/// Every account at noon of every day but the weekends; on the last days only the first account.
fn events(days: i64) -> Vec<Event> {
    let mut events = Vec::new();
    for day in (0..days).filter(|day| day % 7 < 5) {
        let noon = START_MS + day * DAY_MS + 12 * HOUR_MS;
        let there = if day < days - 10 { ACCOUNTS } else { 1 };
        events.extend((0..there).map(|account| login(account, noon + account * MINUTE_MS)));
    }
    events
}

#[derive(Debug, Default)]
struct Run {
    state: MemoryState,
    out: Vec<Output>,
}

impl Run {
    fn apply(&mut self, core: &Core, input: Input, at: Millis) {
        let Ok(verdict) = core.apply(&mut self.state, input, at, &mut self.out);
        verdict.expect("a good input");
    }

    /// Days that were closed, over all accounts.
    fn closed(&self, day_before: i64) -> usize {
        let today = |ms: i64| i32::try_from(ms / DAY_MS).expect("a day");
        let accounts = self.state.accounts().into_values();
        accounts.filter(|account| account.hot.today.0 > today(day_before)).count()
    }

    fn known(&self) -> String {
        let rows: Vec<String> =
            self.state.known_cohorts().rows().map(|row| format!("{row:?}")).collect();
        format!("{:?} {rows:?} {:?}", self.state.accounts(), self.state.clock())
    }
}

fn core() -> Core {
    Core::new(Arc::new(Compiled::default_policy()))
}

#[test]
fn wherever_the_work_is_cut_the_same_comes_out() {
    let core = core();
    let mut whole = Run::default();
    for event in events(60) {
        let at = event.occurred_at;
        whole.apply(&core, Input::Event(event), at);
    }
    assert!(whole.out.iter().any(|output| matches!(output, Output::Alert(_))), "something happens");
    for timers_max in [1, 7] {
        let mut cut = Run::default();
        let mut cuts = 0;
        for event in events(60) {
            let (at, input) = (event.occurred_at, Input::Event(event));
            loop {
                let Ok(swept) =
                    core.close_before(&mut cut.state, &input, at, timers_max, &mut cut.out);
                assert!(swept.days_closed <= 2 * timers_max);
                assert_ne!(swept.done, core.is_closing(cut.state.clock()), "the state knows");
                if swept.done {
                    break;
                }
                cuts += 1;
            }
            cut.apply(&core, input, at);
        }
        assert!(cuts > 50, "{cuts}");
        assert_eq!(cut.out, whole.out);
        assert_eq!(cut.known(), whole.known());
    }
}

#[test]
fn an_event_is_answered_while_the_days_of_others_are_not_closed() {
    let core = core();
    let mut run = Run::default();
    let evening = START_MS + DAY_MS - HOUR_MS;
    for account in 0..ACCOUNTS {
        run.apply(
            &core,
            Input::Event(login(account, evening + account)),
            Millis(evening + account),
        );
    }
    // All days have ended, and a little time has passed.
    let after = START_MS + DAY_MS + 15 * MINUTE_MS;
    run.apply(&core, Input::Event(login(7, after)), Millis(after));
    let account = AccountId::new("account-7").expect("letters and digits");
    let known = run.state.accounts()[&account];
    assert_eq!(known.hot.last_event_at, Some(Millis(after)), "counted");
    assert_eq!(run.closed(START_MS), 2, "its own day, and one of those that are due");
    run.apply(&core, Input::Event(login(8, after + 1)), Millis(after + 1));
    assert_eq!(run.closed(START_MS), 4);
    assert_eq!(core.close_behind_ms(run.state.clock()), 5 * MINUTE_MS + 1);
    // Recorded time does the rest, in as many steps as it takes.
    for closed in [12, 20, 28, ACCOUNTS as usize] {
        run.apply(&core, Input::Tick, Millis(after + 2));
        assert_eq!(run.closed(START_MS), closed);
    }
    assert_eq!(core.close_behind_ms(run.state.clock()), 0);
}

#[test]
fn what_lies_further_behind_comes_before_the_event() {
    let core = core();
    let mut run = Run::default();
    let evening = START_MS + DAY_MS - HOUR_MS;
    for account in 0..ACCOUNTS {
        run.apply(
            &core,
            Input::Event(login(account, evening + account)),
            Millis(evening + account),
        );
    }
    let morning = Millis(START_MS + DAY_MS + 9 * HOUR_MS);
    let input = Input::Event(login(7, morning.0));
    let Ok(swept) = core.close_before(&mut run.state, &input, morning, 10, &mut run.out);
    assert_eq!((swept.days_closed, swept.done), (9, false), "and one hour of the cohort is told");
    run.apply(&core, input, morning);
    assert_eq!(run.closed(START_MS), ACCOUNTS as usize);
}
