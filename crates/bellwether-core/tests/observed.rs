//! What an observer sees in detail: of the accounts that it asks for, what every signal brought and what was expected of it.

use std::sync::{Arc, Mutex};

use bellwether_core::event::{Event, Input};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::Judged;
use bellwether_core::policy::Compiled;
use bellwether_core::state::MemoryState;
use bellwether_core::step::{Core, Observer};
use bellwether_core::time::{DAY_MS, Millis};

const POLICY: &str = r#"
name = "observed"
[[signal]]
name = "calls"
category = "engagement"
group = "calls"
direction = "down"
aggregate = "sum"
counted = true
match = { types = ["call"] }
unit = "calls/week"
weight = 10.0
kind = "usage_decline"
[[signal]]
name = "minutes"
category = "engagement"
group = "minutes"
direction = "down"
aggregate = "mean"
match = { types = ["session"] }
unit = "min"
weight = 10.0
kind = "usage_decline"
spread_min = 1.0
[[signal]]
name = "presence"
category = "engagement"
group = "calls"
direction = "down"
aggregate = "presence"
match = { types = ["call"] }
unit = "days/week"
weight = 10.0
kind = "silence"
"#;

/// A sum of twelve uniform deviates about zero: bell-shaped, with variance 1, the same everywhere.
fn chance(seed: u64) -> f64 {
    let mut sum = 0.0;
    for turn in 0..12 {
        let text = bellwether_core::publish::content_id(&[&seed.to_string(), &turn.to_string()]);
        let hash = text
            .bytes()
            .fold(0_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211));
        sum += (hash >> 11) as f64 / (1_u64 << 53) as f64;
    }
    sum - 6.0
}

/// Twelve accounts for 140 days, each with forty calls a day, give or take, and sessions of about 30 minutes.
fn seen(observer: impl FnOnce(Observer) -> Observer) -> Vec<Judged> {
    let policy = Compiled::parse("observed.toml", POLICY).expect("a good policy");
    let found = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&found);
    let see = Observer::new(move |judged| {
        into.lock().expect("no panic before").push(judged.clone());
    });
    let core = Core::new(Arc::new(policy)).observed(observer(see));
    let (mut state, mut out) = (MemoryState::default(), Vec::new());
    for day in 20_000..20_140_i64 {
        for account in 0..12_u64 {
            let seed = day.unsigned_abs() * 1_000 + account;
            let calls = (40.0 * (1.0 + 0.3 * chance(seed))).max(0.0) + 6.0 * chance(seed + 500);
            let minutes = 30.0 + 4.0 * chance(seed + 900);
            for (kind, value) in [("call", calls.round().max(1.0)), ("session", minutes)] {
                let at = Millis(day * DAY_MS + DAY_MS / 2);
                let event = Event {
                    id: EventId::new(&format!("{day}-{kind}")).expect("valid"),
                    account: AccountId::new(&format!("a{account}")).expect("valid"),
                    occurred_at: at,
                    kind: kind.to_owned(),
                    member: None,
                    role: None,
                    feature: None,
                    value: Some(value),
                    segment: None,
                };
                let Ok(verdict) = core.apply(&mut state, Input::Event(event), at, &mut out);
                verdict.expect("admitted");
            }
        }
    }
    drop(core);
    Arc::into_inner(found).expect("the engine is gone").into_inner().expect("no panic")
}

#[test]
fn days_lie_within_what_was_expected_of_them_as_often_as_is_said() {
    let found = seen(|observer| observer.in_detail(|account| account.as_str() != "a0"));
    for signal in [0, 1] {
        let (mut within, mut all) = (0.0, 0.0);
        for judged in &found {
            let Some(expected) = judged.signals.get(signal).and_then(|seen| seen.expected) else {
                continue;
            };
            let value = judged.signals[signal].value;
            assert!(expected.low <= expected.mean && expected.mean <= expected.high);
            assert!(expected.variance > 0.0 && value.is_finite());
            within += f64::from(u8::from((expected.low..=expected.high).contains(&value)));
            all += 1.0;
        }
        let share = within / all;
        assert!(all > 800.0 && (0.9..=0.995).contains(&share), "signal {signal}: {share} of {all}");
    }
}

#[test]
fn only_the_accounts_that_are_asked_for_are_seen_in_detail_and_from_their_first_day() {
    let plain = seen(|observer| observer);
    assert!(plain.iter().all(|judged| judged.signals.is_empty()));
    let found = seen(|observer| observer.in_detail(|account| account.as_str() == "a3"));
    let is = |judged: &&Judged, account| judged.account_id.as_str() == account;
    let mut others = found.iter().filter(|judged| !is(judged, "a3"));
    assert!(others.all(|judged| judged.signals.is_empty()));
    let own: Vec<&Judged> = found.iter().filter(|judged| is(judged, "a3")).collect();
    assert_eq!(own[0].day.0, 20_000);
    assert!(own.iter().all(|judged| judged.signals.len() == 3));
    assert!(own[0].signals.iter().all(|seen| seen.expected.is_none()), "nothing is known yet");
    let last = own.last().expect("days");
    assert!(last.signals[0].expected.is_some() && last.signals[2].expected.is_none());
    assert_eq!(last.signals[2].value, 1.0, "present");
    // To be looked at changes nothing of what is found.
    let bare = |judged: &Judged| Judged { signals: Vec::new(), ..judged.clone() };
    let established = |judged: &&Judged| plain.iter().any(|one| *one == bare(judged));
    assert_eq!(found.iter().filter(established).count(), plain.len());
}
