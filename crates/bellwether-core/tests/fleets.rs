//! Fleets of accounts with a known truth: what happens to all of them is no news about one, and what happens to one is found.

use std::collections::BTreeSet;
use std::sync::Arc;

use bellwether_core::event::{Event, Input};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::{AlertEvent, Output, Severity, Transition};
use bellwether_core::policy::Compiled;
use bellwether_core::state::{MemoryState, State};
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Day, Millis};

const POLICY: &str = r#"
name = "fleet"
[[signal]]
name = "logins"
category = "engagement"
group = "logins"
direction = "down"
aggregate = "sum"
counted = true
match = { types = ["login"] }
unit = "logins/week"
weight = 10.0
kind = "usage_decline"
[[signal]]
name = "calls"
category = "adoption"
group = "calls"
direction = "down"
aggregate = "sum"
counted = true
match = { types = ["call"] }
unit = "calls/week"
weight = 10.0
kind = "usage_decline"
[[signal]]
name = "exports"
category = "adoption"
group = "exports"
direction = "down"
aggregate = "sum"
counted = true
match = { types = ["export"] }
unit = "exports/week"
weight = 10.0
kind = "usage_decline"
"#;
const KINDS: [&str; 3] = ["login", "call", "export"];
const ACCOUNTS: usize = 60;
/// 2024-01-01, a Monday.
const START: Day = Day(19_723);

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

    /// Gamma distributed about one with variance 1/6: the mean of six exponential deviates.
    fn activity(&mut self) -> f64 {
        (0..6).map(|_| -self.unit().max(1e-12).ln()).sum::<f64>() / 6.0
    }
}

/// What the accounts do a day, per signal: 1 to 30.
fn levels(chance: &mut Chance) -> Vec<[f64; 3]> {
    (0..ACCOUNTS).map(|_| [0; 3].map(|_| (chance.unit() * 3.4).exp())).collect()
}

struct Fleet {
    state: MemoryState,
    policy: Arc<Compiled>,
    /// Accounts with an urgent alert, with the day after [`START`] on which it was raised.
    alarmed: BTreeSet<(usize, i32)>,
    /// What was published of the fleet as a whole.
    fleet_alerts: Vec<AlertEvent>,
}

/// Runs a fleet of which account, signal and day are expected to do `change` times what is usual there.
fn run(days: i32, seed: u64, change: impl Fn(usize, usize, i32) -> f64) -> Fleet {
    run_late(days, (seed, 0.0), change)
}

/// The same, where a share of the events comes a day late.
fn run_late(
    days: i32,
    (seed, late): (u64, f64),
    change: impl Fn(usize, usize, i32) -> f64,
) -> Fleet {
    run_by(POLICY, days, (seed, late), change)
}

/// The same, by another policy.
fn run_by(
    policy: &str,
    days: i32,
    (seed, late): (u64, f64),
    change: impl Fn(usize, usize, i32) -> f64,
) -> Fleet {
    let policy = Arc::new(Compiled::parse("fleet.toml", policy).expect("a good policy"));
    let core = Core::new(Arc::clone(&policy));
    let mut fleet = Fleet {
        state: MemoryState::default(),
        policy,
        alarmed: BTreeSet::new(),
        fleet_alerts: Vec::new(),
    };
    let mut chance = Chance(seed);
    let levels = levels(&mut chance);
    let weekdays = [1.2, 1.25, 1.2, 1.15, 1.0, 0.6, 0.6];
    let mut out = Vec::new();
    let mut delayed: Vec<Event> = Vec::new();
    for day in 0..days {
        let received = Millis(i64::from(START.plus(day).0) * DAY_MS + DAY_MS / 2);
        let mut waiting = std::mem::take(&mut delayed);
        for (account, levels) in levels.iter().enumerate() {
            let activity = chance.activity();
            for (signal, level) in levels.iter().enumerate() {
                let mean = level * weekdays[(day % 7) as usize] * activity;
                let count = chance.poisson(mean * change(account, signal, day));
                let behind = if late > 0.0 { chance.poisson(count * late).min(count) } else { 0.0 };
                let event = |id: &str, count: f64| Event {
                    id: EventId::new(&format!("{day}-{account}-{signal}{id}")).expect("valid"),
                    account: AccountId::new(&account.to_string()).expect("valid"),
                    occurred_at: received,
                    kind: KINDS[signal].to_owned(),
                    member: None,
                    role: None,
                    feature: None,
                    value: Some(count),
                    segment: None,
                };
                waiting.extend((count > behind).then(|| event("", count - behind)));
                delayed.extend((behind > 0.0).then(|| event("-late", behind)));
            }
        }
        for event in waiting {
            let Ok(verdict) = core.apply(&mut fleet.state, Input::Event(event), received, &mut out);
            verdict.expect("admitted");
        }
        fleet.note(&mut out);
    }
    let end = Millis(i64::from(START.plus(days).0) * DAY_MS + DAY_MS / 4);
    let Ok(verdict) = core.apply(&mut fleet.state, Input::Tick, end, &mut out);
    verdict.expect("time passes");
    fleet.note(&mut out);
    fleet
}

impl Fleet {
    fn note(&mut self, out: &mut Vec<Output>) {
        for output in out.drain(..) {
            let Output::Alert(event) = output else { continue };
            if event.kind == "fleet" {
                self.fleet_alerts.push(*event);
                continue;
            }
            if event.severity >= Severity::High && event.transition.begins() {
                let account = event.account_id.as_str().parse().expect("a number");
                let day = event.at.0.div_euclid(DAY_MS) - i64::from(START.0);
                self.alarmed.insert((account, day as i32));
            }
        }
    }

    /// The mean factor of four weeks, per signal.
    fn mean_factor(&mut self, until: i32) -> Vec<f64> {
        let keys = self.policy.keys().to_vec();
        let cohort = self.state.cohorts().named(None);
        let mean = |factors: Vec<f64>| factors.iter().sum::<f64>() / factors.len() as f64;
        keys.iter().map(|key| mean(cohort.factors(*key, START.plus(until), 28))).collect()
    }

    /// Alerts, not accounts.
    fn alarmed_between(&self, from: i32, to: i32) -> usize {
        self.alarmed.iter().filter(|(_, day)| (from..to).contains(day)).count()
    }

    fn alarmed_within(&self, from: i32, to: i32) -> usize {
        let accounts: BTreeSet<usize> = self
            .alarmed
            .iter()
            .filter(|(_, day)| (from..to).contains(day))
            .map(|(account, _)| *account)
            .collect();
        accounts.len()
    }
}

/// The cohort's day is measured by levels that were measured by the cohort's days: errors must not build up.
#[test]
fn a_fleet_to_which_nothing_happens_stays_as_it_is() {
    let mut fleet = run(400, 1, |_, _, _| 1.0);
    for mean in fleet.mean_factor(395) {
        // What is left is the chance of sixty accounts: a percent a month.
        assert!((mean - 1.0).abs() < 0.12, "an average day is one: {mean}");
    }
    // The budget is a tenth of an alert per account and year: six in this fleet.
    let alarms = fleet.alarmed.len();
    assert!(alarms <= 15, "{alarms} urgent alerts in {ACCOUNTS} account years");
    assert_eq!(fleet.fleet_alerts, []);
}

/// A day is measured by what is known of it when it is closed, and levels rest on days with all their late events.
#[test]
fn events_that_come_late_do_not_shrink_a_cohort() {
    let mut fleet = run_late(400, (4, 0.1), |_, _, _| 1.0);
    for mean in fleet.mean_factor(390) {
        assert!((mean - 1.0).abs() < 0.15, "an average day is one: {mean}");
    }
    assert!(fleet.alarmed.len() <= 15, "{:?}", fleet.alarmed);
}

/// Accounts that slip away one by one are not their cohort; a cohort that slips away as a whole is, and no news about one.
#[test]
fn a_fifth_that_declines_is_not_the_cohort_and_all_that_decline_are() {
    let left = |since: i32, day: i32| (-0.05 * f64::from((day - since).max(0)) / 7.0).exp();
    let alike = run(340, 5, |_, _, _| 1.0).mean_factor(335);
    let some = |account: usize, _: usize, day: i32| match account % 5 {
        0 => left(200 + account as i32, day),
        _ => 1.0,
    };
    for (some, alike) in run(340, 5, some).mean_factor(335).into_iter().zip(&alike) {
        // Of all that is done there 9 in 100 are gone, of which the factor used to follow most.
        assert!(some > 0.96 * alike, "{some} is far from {alike}");
    }
    let mut all = run(290, 5, |_, _, day| left(220, day));
    for (all, alike) in all.mean_factor(285).into_iter().zip(&alike) {
        let gone = (228..256).map(|day| left(220, day + 30)).sum::<f64>() / 28.0;
        assert!((all / alike / gone - 1.0).abs() < 0.15, "{all} is not {gone} of {alike}");
    }
    // Half of them would be alarmed if each declined by itself.
    let alarms = all.alarmed_within(220, 290);
    assert!(alarms <= ACCOUNTS / 6, "{alarms} are alarmed by what all do");
}

/// Weekends on which hardly anything is done, and the little that most accounts do: what a day's accounts may say is told by the same
/// weekday of the week before, and must not make quiet days weigh less and less.
#[test]
fn quiet_weekends_and_late_events_do_not_shrink_a_cohort_of_small_accounts() {
    let levels = levels(&mut Chance(9));
    let mut fleet = run_late(330, (9, 0.3), |account, signal, day| {
        let size = if account.is_multiple_of(5) { 30.0 } else { 1.0 };
        let busy = if day % 7 < 5 { 1.0 } else { 0.25 };
        busy * size / levels[account][signal]
    });
    for mean in fleet.mean_factor(327) {
        assert!((mean - 0.95).abs() < 0.1, "an average day is about one: {mean}");
    }
    assert!(fleet.alarmed.len() <= 15, "{:?}", fleet.alarmed);
}

/// All lose half of what they do, and for good: that is the days', and stays so, though by itself each would look as if it went its own way.
#[test]
fn a_step_that_all_take_for_good_stays_their_cohorts() {
    let alike = run(312, 7, |_, _, _| 1.0).mean_factor(310);
    let mut stepped = run(312, 7, |_, _, day| if day >= 220 { 0.48 } else { 1.0 });
    for (stepped, alike) in stepped.mean_factor(310).into_iter().zip(alike) {
        // Sixty accounts are not enough to be sure of all of it.
        let kept = stepped / alike;
        assert!((0.42..0.66).contains(&kept), "three months later the cohort's days are at {kept}");
    }
    // Three in four of them are not taken for accounts that decline.
    let alarms = stepped.alarmed_within(220, 312);
    assert!(alarms <= 20, "{alarms} of {ACCOUNTS} are alarmed by what all do");
}

/// That a small account declines is seen late in its own counts: until then it must not speak for the others.
#[test]
fn small_accounts_that_decline_do_not_take_their_cohort_with_them() {
    let levels = levels(&mut Chance(6));
    let declines = |account: usize, signal: usize, day: i32| match levels[account][signal] {
        level if level < 4.0 => {
            (-0.05 * f64::from((day - 200 - account as i32).max(0)) / 7.0).exp()
        }
        _ => 1.0,
    };
    let alike = run(340, 6, |_, _, _| 1.0).mean_factor(335);
    for (small, alike) in run(340, 6, declines).mean_factor(335).into_iter().zip(alike) {
        // They do 11 in 100 of all that is done, and half of it is gone. By what each can say of itself the factor followed in full.
        assert!(small > 0.96 * alike, "{small} is far from {alike}");
    }
}

/// Two signals of a third of the accounts stand still in the last three days of every month.
#[test]
fn what_an_account_does_at_the_end_of_every_month_is_its_habit() {
    let closes_books = |account: usize, signal: usize, day: i32| {
        let (of_month, days) = START.plus(day).of_month();
        let at_the_end = of_month + 3 > days;
        if account.is_multiple_of(3) && signal < 2 && at_the_end { 0.05 } else { 1.0 }
    };
    let found = |policy: &str| {
        // Every finding counts here: an alert that comes back month by month is not to stay open.
        let budget = "[corroboration]\nfalse_high_per_year = 1.0\n[calibration]\nlearn = false\n[alerts]\nflap_reopens = 20\n";
        let fleet = run_by(&[POLICY, budget, policy].concat(), 240, (8, 0.0), closes_books);
        fleet
            .alarmed
            .iter()
            .filter(|(account, day)| account.is_multiple_of(3) && *day > 130)
            .count()
    };
    let (known, unknown) = (found(""), found("[models]\nmonths = false\n"));
    // Three months tell the habits of most accounts from chance, not of all: the smallest have too little to show.
    assert!(unknown >= 30, "{unknown}");
    assert!(
        known * 3 <= unknown * 2,
        "{known} urgent alerts, {unknown} where months are all alike"
    );
}

#[test]
fn what_happens_to_all_is_no_news_about_one() {
    // A holiday that nobody announced, and five days in which two thirds of everything is missing.
    let outage = |day: i32| (220..225).contains(&day) || day == 180;
    let mut fleet = run(260, 2, |_, _, day| if outage(day) { 0.35 } else { 1.0 });
    assert_eq!(fleet.alarmed_within(180, 184) + fleet.alarmed_within(220, 228), 0);
    // The fleet is told of both, once, when the first hour that is short has passed, and until three days after the last one.
    let day_of = |event: &AlertEvent| event.at.0.div_euclid(DAY_MS) - i64::from(START.0);
    let of = |transition: Transition| -> Vec<i64> {
        let events = fleet.fleet_alerts.iter().filter(|event| event.transition == transition);
        events.map(day_of).collect()
    };
    assert_eq!(of(Transition::Opened), [180, 220], "{:?}", fleet.fleet_alerts);
    assert_eq!(of(Transition::Resolved), [182, 226]);
    let first = &fleet.fleet_alerts[0];
    assert_eq!((first.account_id.as_str(), first.severity), ("*", Severity::High));
    assert_eq!(first.evidence.len(), 3);
    for item in &first.evidence {
        let change = item.change_pct.expect("there is a usual count");
        assert!((change + 65.0).abs() < 10.0 && item.z < -5.0 && item.risk, "{item:?}");
    }
    assert!(first.title.contains(" of all accounts fell by "), "{}", first.title);
    assert!(
        first.title.contains("at 12:00 UTC on 2024-06-29, and 2 more signals"),
        "{}",
        first.title
    );
    let last = fleet.fleet_alerts.last().expect("resolved");
    let held = last.title.rsplit_once("; ").expect("some were held back").1;
    let held: u32 = held.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    assert!(held > ACCOUNTS as u32 / 4, "{}", last.title);
    let quiet = fleet.policy.keys()[0];
    let cohort = fleet.state.cohorts().named(None);
    // 2024-06-29 and 2024-08-10 were Saturdays: 0.6 of an average day by themselves. Sixty accounts leave a third of such a day in doubt.
    for (day, usual) in [(180, 0.6), (222, 1.15)] {
        let factor = cohort.factor(quiet, START.plus(day));
        assert!((factor / usual - 0.35).abs() < 0.27, "day {day}: {factor}");
    }
}

#[test]
fn what_happens_to_one_is_found_and_one_signal_alone_is_not_urgent() {
    // Of the first twelve accounts two signals fall by 60 % for good; of the next twelve one stops for five days.
    let change = |account: usize, signal: usize, day: i32| match account {
        0..12 if day >= 200 && signal < 2 => 0.4,
        12..24 if (200..205).contains(&day) && signal == 0 => 0.0,
        _ => 1.0,
    };
    let fleet = run(260, 3, change);
    let found = |accounts: std::ops::Range<usize>, to: i32| {
        let alarmed = fleet.alarmed.iter();
        alarmed
            .filter(|(account, day)| accounts.contains(account) && (201..to).contains(day))
            .count()
    };
    assert!(found(0..12, 230) >= 9, "{:?}", fleet.alarmed);
    assert!(found(12..24, 208) <= 1, "{:?}", fleet.alarmed);
    assert!(found(24..ACCOUNTS, 260) <= 3, "{:?}", fleet.alarmed);
}

/// Accounts that burst and rest by nature: what would be news elsewhere is none there, once their cohort is known.
#[test]
fn a_restless_cohort_is_known_to_be_restless() {
    // Every account does three times as much, or a third, for some days of every two months, at times of its own.
    let change = |account: usize, signal: usize, day: i32| {
        let phase = (day + account as i32 * 23) % 61;
        let round = (day + account as i32 * 23) / 61;
        match (phase, (account as i32 + round) % 2) {
            (0..6, 0) if signal < 2 => 3.0,
            (0..10, 1) if signal < 2 => 0.33,
            _ => 1.0,
        }
    };
    let fleet = run(500, 5, change);
    let (first, last) = (fleet.alarmed_between(60, 200), fleet.alarmed_between(360, 500));
    assert!(first > 20, "{first} alerts before the cohort is known");
    assert!(last * 2 < first, "{last} alerts once it is, after {first}");
}
