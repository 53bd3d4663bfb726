//! The open day: it is forecast when the day before is judged, and a rise of several groups is urgent before it ends. Each model can be
//! switched off, and none can be brought to fail by what accounts do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::account::Account;
use bellwether_core::event::{Event, Input};
use bellwether_core::forecast::Limits;
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::{Output, Transition};
use bellwether_core::policy::Compiled;
use bellwether_core::state::MemoryState;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, HOUR_MS, Millis};

const SIGNALS: [&str; 3] = ["logins", "calls", "exports"];
/// 2024-01-01, a Monday.
const START: i64 = 19_723;

/// Three counted signals, each a group of its own.
fn policy(sections: &str) -> Compiled {
    let mut text = format!("name = \"open\"\n{sections}\n");
    for signal in SIGNALS {
        text.push_str(&format!(
            "[[signal]]\nname = \"{signal}\"\ncategory = \"adoption\"\ngroup = \"{signal}\"\ndirection = \"down\"\n\
             aggregate = \"sum\"\ncounted = true\nmatch = {{ types = [\"{signal}\"] }}\nunit = \"{signal}/week\"\n\
             weight = 10.0\nkind = \"usage_decline\"\n"
        ));
    }
    Compiled::parse("open.toml", &text).expect("a good policy")
}

/// Random numbers that are the same everywhere (splitmix64).
struct Chance(u64);

impl Chance {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn poisson(&mut self, mean: f64) -> f64 {
        let (mut count, mut left) = (0.0, (-mean).exp());
        let mut chance = self.unit();
        while chance > left && count < 10_000.0 {
            chance -= left;
            count += 1.0;
            left *= mean / count;
        }
        count
    }
}

/// A run of the engine.
struct Run {
    core: Core,
    state: MemoryState,
    out: Vec<Output>,
    events: u64,
    /// Accounts with their alerts of rises, as (account, hour since [`START`]).
    spikes: BTreeSet<(String, i64)>,
}

impl Run {
    fn new(policy: Compiled) -> Run {
        Run {
            core: Core::new(Arc::new(policy)),
            state: MemoryState::default(),
            out: Vec::new(),
            events: 0,
            spikes: BTreeSet::new(),
        }
    }

    fn event(&mut self, account: &str, signal: &str, hour: i64, value: f64) {
        self.events += 1;
        let at = Millis(START * DAY_MS + hour * HOUR_MS + HOUR_MS / 2);
        let event = Event {
            id: EventId::new(&self.events.to_string()).expect("valid"),
            account: AccountId::new(account).expect("valid"),
            occurred_at: at,
            kind: signal.to_owned(),
            member: None,
            role: None,
            feature: None,
            value: Some(value),
            segment: None,
        };
        let Ok(verdict) = self.core.apply(&mut self.state, Input::Event(event), at, &mut self.out);
        verdict.expect("admitted");
        for output in self.out.drain(..) {
            match output {
                Output::Alert(event) if event.kind == "usage_spike" => {
                    assert!(event.evidence.iter().all(|item| item.z.is_finite()));
                    if event.transition == Transition::Opened {
                        let hour = event.at.0.div_euclid(HOUR_MS) - START * 24;
                        self.spikes.insert((event.account_id.to_string(), hour));
                    }
                }
                Output::Health(record) => {
                    let finite = |value: Option<f64>| value.is_none_or(f64::is_finite);
                    for line in &record.contributions {
                        assert!(finite(line.observed) && finite(line.baseline), "{}", line.name);
                    }
                }
                Output::Alert(_)
                | Output::ScoreChanged(_)
                | Output::Shadow(_)
                | Output::Example(_)
                | Output::Forgotten(_) => {}
            }
        }
    }

    /// Five hours a day with events of every account, which brings `change` times what is usual.
    fn fleet(&mut self, days: i64, accounts: u64, change: impl Fn(u64, usize, i64) -> f64) {
        let mut chance = Chance(7);
        let levels: Vec<[f64; 3]> =
            (0..accounts).map(|_| [0; 3].map(|_| (1.0 + chance.unit() * 2.5).exp())).collect();
        for day in 0..days {
            let active: Vec<f64> = (0..accounts)
                .map(|_| (0..6).map(|_| -chance.unit().max(1e-12).ln()).sum::<f64>() / 6.0)
                .collect();
            for hour in [8, 10, 12, 14, 16] {
                for account in 0..accounts {
                    for turn in 0..3 {
                        let signal = (turn + hour as usize / 2 + account as usize) % 3;
                        let name = SIGNALS[signal];
                        let usual = levels[account as usize][signal] * active[account as usize];
                        let count = chance.poisson(usual / 5.0 * change(account, signal, day));
                        if count > 0.0 {
                            self.event(&format!("a{account}"), name, day * 24 + hour, count);
                        }
                    }
                }
            }
        }
    }

    fn account(&self, id: &str) -> &Account {
        self.state.accounts()[&AccountId::new(id).expect("valid")]
    }

    fn limits(&self, id: &str) -> Vec<Limits> {
        self.account(id).forecast.limits.iter().map(|(_, limits)| *limits).collect()
    }

    fn calls(&self, detector: &str) -> u64 {
        let mut calls = self.core.models().calls();
        calls.find(|(name, _)| *name == detector).expect("a detector").1
    }

    fn fallbacks(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let all = self.core.models().fallbacks().filter(|(.., count)| *count > 0);
        all.map(|(detector, reason, count)| ((detector, reason), count)).collect()
    }
}

/// Account 3 does six times as much of two things on day 100.
fn spike(account: u64, signal: usize, day: i64) -> f64 {
    if account == 3 && signal < 2 && day == 100 { 6.0 } else { 1.0 }
}

#[test]
fn a_spike_of_two_groups_is_urgent_before_its_day_ends() {
    let mut within = Run::new(policy(""));
    within.fleet(104, 12, spike);
    let mut after = Run::new(policy("[models]\nintraday = false"));
    after.fleet(104, 12, spike);
    let found = |run: &Run| {
        let of_account = run.spikes.iter().find(|(account, _)| account == "a3");
        of_account.map(|(_, hour)| hour - 100 * 24)
    };
    let early = found(&within);
    assert!(
        early.is_some_and(|hour| hour <= 14),
        "with the events that are too many for the day: {early:?}"
    );
    assert!(found(&after).is_some_and(|hour| hour >= 24), "{:?}", found(&after));
    assert!(within.spikes.iter().all(|(account, _)| account == "a3"), "{:?}", within.spikes);
}

#[test]
fn one_group_alone_is_nothing_urgent_however_high() {
    let mut run = Run::new(policy(""));
    run.fleet(
        104,
        12,
        |account, signal, day| {
            if account == 3 && signal == 0 && day == 100 { 30.0 } else { 1.0 }
        },
    );
    assert_eq!(run.spikes, BTreeSet::new());
}

/// Rises found within days and at closes, as (account, day): with the open day judged, and without.
fn within_and_at_close(
    budget: f64,
    change: impl Fn(u64, usize, i64) -> f64,
) -> [BTreeSet<(String, i64)>; 2] {
    let run = |models: &str| {
        // Under the calibration as it was generated: what is learned of the fleet makes both stricter.
        let budget = format!("[corroboration]\nfalse_high_per_year = {budget:?}\n{models}");
        let budget = format!("[calibration]\nlearn = false\n{budget}");
        let mut run = Run::new(policy(&budget));
        run.fleet(200, 40, &change);
        run.spikes
    };
    // Days are judged one to three hours after they end, before anybody does anything.
    let early = run("").into_iter().filter(|(_, hour)| hour.rem_euclid(24) >= 8);
    let early = early.map(|(account, hour)| (account, hour.div_euclid(24))).collect();
    let closed = run("[models]\nintraday = false").into_iter();
    [early, closed.map(|(account, hour)| (account, hour.div_euclid(24) - 1)).collect()]
}

/// The budget of false alerts is that of the close: what is found within a day by chance would have been found at its end.
#[test]
fn a_rise_within_the_day_is_one_at_its_close() {
    // Rises of two groups on odd days, many of them at the border of what is rare enough.
    let [early, closed] = within_and_at_close(1.0, |account, signal, day| {
        let turn = (account * 31 + day as u64 * 17) % 61;
        if signal < 2 && turn == 0 { 4.0 } else { 1.0 }
    });
    assert!(early.len() >= 8, "{} rises within days, {} at closes", early.len(), closed.len());
    // A real rise may be found early and be less clear by the evening.
    let early_only = early.difference(&closed).count();
    assert!(early_only * 10 <= early.len(), "{early:?} {closed:?}");
    // Chance alone, under a large budget.
    let [early, closed] = within_and_at_close(10.0, |_, _, _| 1.0);
    assert!(closed.len() >= 8, "{} rises at closes", closed.len());
    assert!(early.is_subset(&closed), "{early:?} {closed:?}");
}

#[test]
fn a_day_on_which_all_do_more_is_no_rise_of_each() {
    // On every tenth day everybody does half as much again, which no weekday explains.
    let surge = |_: u64, _: usize, day: i64| if day % 10 == 3 { 1.5 } else { 1.0 };
    let mut run = Run::new(policy("[corroboration]\nfalse_high_per_year = 1.0\n"));
    run.fleet(200, 40, surge);
    let early = run.spikes.iter().filter(|(_, hour)| hour.rem_euclid(24) >= 8);
    let on_surges = early.clone().filter(|(_, hour)| hour.div_euclid(24) % 10 == 3).count();
    assert!(on_surges <= 1, "{on_surges} of {} rises within days", early.count());
}

/// One event a signal and day, with the whole day's count: on a busy day, the first two would look like a rise without the third.
#[test]
fn whatever_comes_first_of_a_busy_day_is_no_rise_of_its_own() {
    let run = |models: &str| {
        let mut run = Run::new(policy(models));
        let mut chance = Chance(11);
        for day in 0..200 {
            for account in 0..40 {
                let active = (0..6).map(|_| -chance.unit().max(1e-12).ln()).sum::<f64>() / 6.0;
                for (place, signal) in SIGNALS.iter().enumerate() {
                    let count = chance.poisson(200.0 * active);
                    run.event(&format!("a{account}"), signal, day * 24 + 9 + place as i64, count);
                }
            }
        }
        run.spikes.len()
    };
    let (within, after) = (run(""), run("[models]\nintraday = false"));
    assert!(within <= after + 2, "{within} rises, {after} at the closes alone");
}

#[test]
fn a_model_that_is_switched_off_is_not_asked_and_the_engines_own_expectation_stands() {
    let run = |sections: &str| {
        let mut run = Run::new(policy(sections));
        run.fleet(104, 12, spike);
        run
    };
    let on = run("[models]\nets_volume_min = 1.0");
    assert!(on.calls("auto_ets") > 0 && on.calls("onset") > 0);
    let no_ets = run("[models]\nets = false\nets_volume_min = 1.0");
    assert_eq!(no_ets.calls("auto_ets"), 0);
    assert!(no_ets.calls("mstl_level") > 0);
    assert_ne!(no_ets.limits("a0"), on.limits("a0"));
    let no_forecast = run("[models]\nforecast = false\nets_volume_min = 1.0");
    assert_eq!(no_forecast.calls("auto_ets") + no_forecast.calls("mstl_level"), 0);
    let (own, models) = (no_forecast.limits("a0"), no_ets.limits("a0"));
    assert_eq!(own.len(), 3);
    for (own, model) in own.iter().zip(&models) {
        assert_ne!(own, model);
        // They speak of the same day.
        let apart = (own.expected - model.expected).abs();
        assert!(apart < own.high - own.low && own.low <= own.expected && own.expected <= own.high);
    }
    assert!(!no_forecast.spikes.is_empty(), "the engine's own limits find the spike, too");
    assert_eq!(run("[models]\nonset = false").calls("onset"), 0);
}

#[test]
fn volume_decides_which_accounts_are_worth_the_larger_model() {
    let mut run = Run::new(policy("[models]\nets_volume_min = 60.0"));
    for day in 0..60 {
        for (account, usual) in [("large", 50.0), ("small", 5.0)] {
            for (place, signal) in SIGNALS.iter().enumerate() {
                let value = usual + ((day * 7 + place as i64 * 3) % 5) as f64;
                run.event(account, signal, day * 24 + 12, value);
            }
        }
    }
    let (large, all) = (run.calls("auto_ets"), run.calls("mstl_level"));
    assert!(large > 0 && large == all, "every second account: {large} and {all}");
}

/// Accounts that do what models trip over: nothing that they do may stop the engine, and each fallback is counted.
#[test]
fn nothing_that_accounts_do_stops_the_engine() {
    type Shape = fn(i64) -> Option<f64>;
    let shapes: [(&str, Shape); 8] = [
        ("constant", |_| Some(5.0)),
        ("zeros", |_| Some(0.0)),
        ("once", |day| (day == 3).then_some(1.0)),
        ("short", |day| (day >= 50).then_some((day % 3) as f64)),
        ("huge", |day| Some(1e12 - (day % 7) as f64 * 1e11)),
        ("odd", |day| Some(if day == 71 { 1e12 } else { (day % 4) as f64 })),
        ("negative", |day| Some(if day % 2 == 0 { -1e12 } else { 3.0 })),
        ("tiny", |day| Some(1e-6 * (day % 5) as f64)),
    ];
    let mut run = Run::new(policy("[models]\nets_volume_min = 1.0"));
    for day in 0..90 {
        for (account, shape) in shapes {
            let Some(value) = shape(day) else { continue };
            // Up to 2e15 a day: beyond what the models take.
            let times = if account == "huge" { 2000 } else { 1 };
            for _ in 0..times {
                run.event(account, SIGNALS[0], day * 24 + 9, value);
            }
            run.event(account, SIGNALS[1], day * 24 + 9, value);
        }
    }
    for (account, _) in shapes {
        for limits in run.limits(account) {
            let Limits { low, expected, high } = limits;
            assert!(low.is_finite() && expected.is_finite() && high.is_finite(), "{account}");
            assert!(low <= expected && expected <= high, "{account}: {limits:?}");
        }
    }
    assert_eq!(run.limits("constant").len(), 2, "the engine's own statistics take over");
    let fallbacks = run.fallbacks();
    for reason in ["constant", "too_large"] {
        assert!(fallbacks.contains_key(&("mstl_level", reason)), "{reason}: {fallbacks:?}");
    }
    assert!(!fallbacks.keys().any(|(_, reason)| *reason == "panicked"), "{fallbacks:?}");
}
