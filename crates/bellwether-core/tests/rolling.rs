//! The rolling detector against the plainest way to write it down, and what holds of its records.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::event::{Event, Input};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::Output;
use bellwether_core::points::Points;
use bellwether_core::policy::Compiled;
use bellwether_core::reject::Reason;
use bellwether_core::rolling::Rolling;
use bellwether_core::state::{MemoryState, State};
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Millis};
use proptest::prelude::*;

const POLICY: &str = r#"
name = "rolling"
[rolling]
enabled = true
remember_ids = false
[admission]
history_days = 36500
[score]
base_points = 100.0
publish_min_points = 1.0
[[signal]]
name = "logins"
category = "engagement"
group = "visits"
direction = "down"
aggregate = "count"
match = { types = ["login"] }
unit = "logins/week"
weight = 3.0
kind = "usage_decline"
[[signal]]
name = "errors"
category = "support"
group = "errors"
direction = "up"
aggregate = "sum"
match = { types = ["error"] }
unit = "errors/week"
weight = 2.0
kind = "errors"
"#;
/// Weight and sign of what is bad, in the order of the policy.
const SIGNALS: [(f64, f64); 2] = [(3.0, -1.0), (2.0, 1.0)];
const START_DAY: i64 = 20_000;

fn core(text: &str) -> Core {
    Core::new(Arc::new(Compiled::parse("test.toml", text).expect("a good policy")))
}

fn event(id: usize, kind: &str, at: i64, value: f64) -> Event {
    Event {
        id: EventId::new(&id.to_string()).expect("digits"),
        account: AccountId::new("acme").expect("letters"),
        occurred_at: Millis(at),
        kind: kind.to_owned(),
        member: None,
        role: None,
        feature: None,
        value: Some(value),
        segment: None,
    }
}

fn apply(core: &Core, state: &mut MemoryState, event: Event) -> (Result<(), Reason>, Vec<Output>) {
    let mut out = Vec::new();
    let received = Millis((START_DAY + 1_000) * DAY_MS);
    let Ok(verdict) = core.apply(state, Input::Event(event), received, &mut out);
    (verdict.map(|_| ()).map_err(|reject| reject.reason), out)
}

/// The definition, day by day in maps: the score after each event, or none where the event is too late.
#[derive(Default)]
struct Plain {
    day: Option<i64>,
    sums: BTreeMap<(usize, i64), f64>,
    z: BTreeMap<usize, f64>,
}

impl Plain {
    fn week(&self, signal: usize, last: i64) -> f64 {
        (last - 6..=last).filter_map(|day| self.sums.get(&(signal, day))).sum()
    }

    fn score(&mut self, signal: usize, day: i64, value: f64) -> Option<f64> {
        let newest = self.day.map_or(day, |newest| newest.max(day));
        if self.day.is_some_and(|newest| day <= newest - 64) {
            return None;
        }
        self.day = Some(newest);
        *self.sums.entry((signal, day)).or_default() += value;
        let median = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            (values[3] + values[4]) / 2.0
        };
        let before: Vec<f64> = (1..=8).map(|week| self.week(signal, newest - 7 * week)).collect();
        let center = median(before.clone());
        let mad = median(before.iter().map(|sum| (sum - center).abs()).collect());
        let sigma = (1.4826 * mad).max(1.0).max(0.05 * center);
        self.z.insert(signal, (self.week(signal, newest) - center) / sigma);
        let lost: f64 = self
            .z
            .iter()
            .map(|(signal, z)| SIGNALS[*signal].0 * (SIGNALS[*signal].1 * z).max(0.0))
            .sum();
        Some(100.0 - lost.min(100.0))
    }
}

proptest! {
    /// Events of three months in any order within it, some of them too late.
    #[test]
    fn scores_are_those_of_the_definition(
        events in prop::collection::vec((0..2_usize, 0..90_i64, -80..5_i64, 0..DAY_MS, 0..6_u32), 1..400)
    ) {
        let (core, mut state) = (core(POLICY), MemoryState::default());
        let mut plain = Plain::default();
        let mut published = 100.0;
        let count = events.len() as i64;
        for (number, (signal, _, late, within, value)) in events.into_iter().enumerate() {
            // Time goes on with the events; some lie behind.
            let now = START_DAY + 90 * number as i64 / count;
            let day = now + late.min(0) * i64::from(late < -60);
            let value = if signal == 0 { 1.0 } else { f64::from(value) };
            let kind = ["login", "error"][signal];
            let (verdict, out) = apply(&core, &mut state, event(number, kind, day * DAY_MS + within, value));
            let Some(score) = plain.score(signal, day, value) else {
                prop_assert_eq!(verdict, Err(Reason::TooLate));
                continue;
            };
            prop_assert_eq!(verdict, Ok(()));
            let changes: Vec<_> = out.iter().filter_map(Output::score_changed).collect();
            if (score - published).abs() < 1.0 {
                prop_assert!(changes.is_empty(), "{score} after {published}");
                continue;
            }
            prop_assert_eq!(changes.len(), 1, "{} after {}", score, published);
            let change = changes[0];
            prop_assert_eq!(change.score, Points::from_f64(score));
            let moved: Points = change.movements.iter().map(|movement| movement.delta).sum();
            prop_assert_eq!(moved, change.score - change.previous_score.unwrap_or_default());
            let Some(Output::Health(record)) = out.last() else { panic!("a health record") };
            let lines: Points = record.contributions.iter().map(|line| line.points).sum();
            prop_assert_eq!(lines, record.score);
            prop_assert_eq!(record.score, change.score);
            published = score;
        }
    }
}

proptest! {
    /// As a store keeps it, which writes the whole row now and then and otherwise what changed since.
    #[test]
    fn what_changed_since_the_whole_row_was_written_makes_it_whole(
        events in prop::collection::vec((0..2_usize, 0..20_i64, 0..6_u32), 1..300),
        days in 1..200_i64,
    ) {
        let (core, mut state) = (core(POLICY), MemoryState::default());
        let acme = AccountId::new("acme").expect("letters");
        let mut whole: Option<Rolling> = None;
        let mut entries = 0;
        let count = events.len() as i64;
        for (number, (signal, late, value)) in events.into_iter().enumerate() {
            let day = START_DAY + days * number as i64 / count - late * i64::from(late < 5);
            let kind = ["login", "error"][signal];
            apply(&core, &mut state, event(number, kind, day * DAY_MS, f64::from(value))).0.ok();
            let Ok(account) = state.take(&acme);
            let Some(mut account) = account else { continue };
            let rolling = account.rolling.as_deref_mut().expect("sums");
            let (alone, size) = (rolling.is_recent(), |of: &Rolling| -> usize {
                of.signals.iter().map(|signal| 1 + signal.days.len()).sum()
            });
            if alone {
                let mut read = whole.clone().expect("the whole row was written first");
                entries += size(&rolling.recent());
                read.renew(rolling.recent());
                let row = |of: &Rolling| {
                    let mut of = of.clone();
                    of.signals.sort_by_key(|signal| signal.key);
                    serde_json::to_value(of).expect("a row")
                };
                prop_assert_eq!(row(&read), row(rolling));
            } else {
                entries += size(rolling);
                whole = Some(rolling.clone());
            }
            rolling.written(alone);
            let Ok(()) = state.put(account);
        }
        // At most 2 signals of 128 days: the root of 2N is 22 entries, and a row is written whole after half as many changes at the earliest.
        prop_assert!(entries as i64 <= 60 * count, "{} entries for {} events", entries, count);
    }
}

/// A signal that the policy dropped has to leave the whole row, or it would come back with the signal.
#[test]
fn a_signal_that_was_dropped_is_no_recent_change() {
    let (both, mut state) = (core(POLICY), MemoryState::default());
    let acme = AccountId::new("acme").expect("letters");
    let day = |days: i64| (START_DAY + days) * DAY_MS;
    for number in 0..40 {
        let kind = ["login", "error"][number % 2];
        apply(&both, &mut state, event(number, kind, day(number as i64), 1.0)).0.expect("good");
    }
    let reloaded = |state: &mut MemoryState, recent: bool| {
        let Ok(account) = state.take(&acme);
        let mut account = account.expect("known");
        let rolling = account.rolling.as_deref_mut().expect("sums");
        assert_eq!(rolling.is_recent(), recent);
        rolling.written(recent);
        rolling.aligned = false;
        let Ok(()) = state.put(account);
    };
    reloaded(&mut state, false);
    apply(&both, &mut state, event(40, "login", day(40), 1.0)).0.expect("good");
    reloaded(&mut state, true);
    let (kept, _) = POLICY.rsplit_once("[[signal]]").expect("two signals");
    apply(&core(kept), &mut state, event(41, "login", day(41), 1.0)).0.expect("good");
    reloaded(&mut state, false);
}

#[test]
fn a_repeated_event_counts_once_where_ids_are_remembered() {
    let text = POLICY.replace("remember_ids = false", "remember_ids = true");
    let (core, mut state) = (core(&text), MemoryState::default());
    let day = |days: i64| (START_DAY + days) * DAY_MS;
    assert_eq!(apply(&core, &mut state, event(1, "login", day(0), 1.0)).0, Ok(()));
    assert_eq!(apply(&core, &mut state, event(1, "login", day(0), 1.0)).0, Err(Reason::Duplicate));
    assert_eq!(apply(&core, &mut state, event(2, "login", day(30), 1.0)).0, Ok(()));
    // Whether it was counted is not known any more.
    assert_eq!(apply(&core, &mut state, event(1, "login", day(0), 1.0)).0, Err(Reason::TooLate));
    let account = state.accounts().into_values().next().expect("one account");
    let rolling = account.rolling.as_ref().expect("its sums");
    let total: i64 = rolling.signals.iter().flat_map(|of| &of.days).map(|of| of.micros).sum();
    assert_eq!(total, 2_000_000, "two logins");
}

/// A deletion counts for what was before it, and, read again, not for the account that began after it.
#[test]
fn a_deleted_account_begins_anew() {
    let (core, mut state) = (core(POLICY), MemoryState::default());
    let deleted = Millis(START_DAY * DAY_MS + DAY_MS / 2);
    let acme = AccountId::new("acme").expect("letters");
    let before = || event(1, "login", deleted.0 - 3_600_000, 1.0);
    assert_eq!(apply(&core, &mut state, before()).0, Ok(()));
    let forget = |state: &mut MemoryState| {
        let mut out = Vec::new();
        let Ok(verdict) = core.apply(state, Input::Forget(acme.clone()), deleted, &mut out);
        verdict.expect("a deletion");
    };
    forget(&mut state);
    assert!(state.accounts().is_empty());
    assert_eq!(apply(&core, &mut state, before()).0, Err(Reason::Forgotten));
    assert_eq!(apply(&core, &mut state, event(2, "login", deleted.0 + 3_600_000, 1.0)).0, Ok(()));
    forget(&mut state);
    assert_eq!(state.accounts().len(), 1, "it began after the deletion");
}

#[test]
fn what_feeds_no_signal_makes_no_account() {
    let (core, mut state) = (core(POLICY), MemoryState::default());
    let (verdict, out) = apply(&core, &mut state, event(1, "coffee", START_DAY * DAY_MS, 1.0));
    assert_eq!((verdict, out.len(), state.accounts().len()), (Ok(()), 0, 0));
    // Nor does it take one away.
    assert_eq!(apply(&core, &mut state, event(2, "login", START_DAY * DAY_MS, 1.0)).0, Ok(()));
    let known = state.clone();
    assert_eq!(apply(&core, &mut state, event(3, "coffee", START_DAY * DAY_MS, 1.0)).0, Ok(()));
    assert_eq!(state.accounts(), known.accounts());
}

#[test]
fn signals_that_cannot_be_summed_are_refused() {
    let text = POLICY.replace("aggregate = \"sum\"", "aggregate = \"mean\"");
    let error = Compiled::parse("test.toml", &text).expect_err("a mean");
    assert_eq!(error.key, "signal[1] (errors).aggregate");
    let text = POLICY.replace("enabled = true", "enabled = true\nhistory_weeks = 18");
    let error = Compiled::parse("test.toml", &text).expect_err("more than is kept");
    assert!(error.to_string().contains("allowed is 3 to 17"), "{error}");
}

/// Nobody's policy has another version because this detector exists.
#[test]
fn a_policy_without_it_keeps_its_version() {
    let text = "name = \"same\"\n";
    let (plain, named) = (
        Compiled::parse("a.toml", text).expect("good"),
        Compiled::parse("b.toml", &format!("{text}[rolling]\nenabled = false\n")).expect("good"),
    );
    assert_eq!(plain.version(), named.version());
}
