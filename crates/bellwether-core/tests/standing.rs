//! What is read of an account's contract: its renewal, its value and what it spends, worked by hand; what is not known is missing.

use std::collections::BTreeMap;

use bellwether_core::account::Account;
use bellwether_core::calendar::Span;
use bellwether_core::event::Profile;
use bellwether_core::history::Ring;
use bellwether_core::id::AccountId;
use bellwether_core::policy::Compiled;
use bellwether_core::standing::{Trait, standing};
use bellwether_core::time::{Day, Millis};

/// The judged day.
const DAY: Day = Day(20_541);
const HORIZON_DAYS: u32 = 28;
/// Amounts are the sums of the financial category; sums of things, or of another category, are none.
const POLICY: &str = r#"
name = "bills"
[[signal]]
name = "paid"
category = "financial"
group = "bills"
direction = "down"
aggregate = "sum"
match = { types = ["invoice.paid"] }
unit = "USD/week"
weight = 5.0
kind = "spend_decline"
[[signal]]
name = "calls"
category = "adoption"
group = "calls"
direction = "down"
aggregate = "sum"
match = { types = ["api.called"] }
unit = "calls/week"
weight = 5.0
kind = "call_decline"
[[signal]]
name = "seats"
category = "financial"
group = "seats"
direction = "down"
aggregate = "sum"
counted = true
match = { types = ["seat.used"] }
unit = "seats/week"
weight = 5.0
kind = "seat_decline"
"#;

fn policy() -> Compiled {
    Compiled::parse("bills.toml", POLICY).expect("a good policy")
}

fn account(renews_on: Option<Day>, annual_value_usd: Option<f64>) -> Account {
    let id = AccountId::new("acme").expect("an id");
    let profile = Profile {
        account: id.clone(),
        as_of: Millis(0),
        name: None,
        segment: None,
        plan: None,
        time_zone: None,
        region: None,
        started_on: None,
        renews_on,
        owner: None,
        annual_value_usd,
        entitlements: BTreeMap::new(),
        fiscal_year_end: None,
    };
    Account { profile: Some(profile), ..Account::new(id) }
}

fn read(account: &Account, of: Trait) -> Option<f64> {
    let found = standing(account, &policy(), DAY, HORIZON_DAYS).get(of);
    Some(found).filter(|value| !value.is_nan())
}

#[test]
fn a_renewal_is_so_many_days_ahead_until_its_day_is_over() {
    let of = |renews_on| read(&account(renews_on, None), Trait::Renewal);
    // The day after the judged one is today.
    assert_eq!(of(Some(DAY.plus(31))), Some(30.0));
    assert_eq!(of(Some(DAY.plus(1))), Some(0.0));
    assert_eq!(of(Some(DAY)), None, "it lies behind");
    assert_eq!(of(None), None);
    let unknown = Account::new(AccountId::new("acme").expect("an id"));
    assert_eq!(read(&unknown, Trait::Renewal), None, "there is no profile");
}

#[test]
fn a_value_is_that_of_the_profile() {
    let of = |value| read(&account(None, value), Trait::Value);
    assert_eq!(of(Some(12_000.5)), Some(12_000.5));
    assert_eq!(of(Some(0.0)), Some(0.0), "what is free is known to be");
    for unknown in [None, Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
        assert_eq!(of(unknown), None, "{unknown:?}");
    }
}

/// An account of which these amounts of a signal are known, by how many days back they lie.
fn paying(signal: usize, amounts: &[(usize, f64)]) -> Account {
    let mut account = account(None, None);
    account.history.newest = Some(DAY);
    let keys = policy().keys().to_vec();
    account.history.rings = keys
        .into_iter()
        .enumerate()
        .map(|(index, key)| {
            let mut days = vec![0.0; 100];
            if index == signal {
                amounts.iter().for_each(|&(back, amount)| days[99 - back] = amount);
            }
            (key, Ring::from(days))
        })
        .collect();
    account
}

#[test]
fn what_is_spent_now_is_held_against_what_was_spent_before() {
    // 200 four weeks ago, 100 on the judged day. With half-lives of 14 and 56 days the older one weighs 1/4 and 1/sqrt(2), so of the
    // doubling between them the means keep 1/5 and .7071/1.7071.
    let fell = read(&paying(0, &[(28, 200.0), (0, 100.0)]), Trait::Spend).expect("two bills");
    let root = 0.5_f64.sqrt();
    let expected = std::f64::consts::LN_2 * (0.2 - root / (1.0 + root));
    assert!((fell - expected).abs() < 1e-12, "{fell}, not {expected}");
    let rose = read(&paying(0, &[(28, 100.0), (0, 200.0)]), Trait::Spend).expect("two bills");
    assert!((rose + expected).abs() < 1e-12, "the other way round");
    let same = [(90, 80.0), (60, 80.0), (30, 80.0)];
    let same = read(&paying(0, &same), Trait::Spend).expect("three bills");
    assert!(same.abs() < 1e-12, "days without a bill count for nothing: {same}");
}

#[test]
fn spending_is_missing_where_nothing_can_be_compared() {
    assert_eq!(read(&paying(0, &[]), Trait::Spend), None);
    assert_eq!(read(&paying(0, &[(3, 50.0)]), Trait::Spend), None, "one bill");
    for other in [1, 2] {
        let things = paying(other, &[(28, 200.0), (0, 100.0)]);
        assert_eq!(read(&things, Trait::Spend), None, "signal {other} adds up no money");
    }
    let mut masked = paying(0, &[(28, 200.0), (0, 100.0)]);
    let span = Span { from: DAY, to: DAY, kind: "holiday".to_owned(), note: None };
    masked.masked = vec![span];
    assert_eq!(read(&masked, Trait::Spend), None, "on a masked day nothing is measured");
}
