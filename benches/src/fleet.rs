//! A fleet like those of the evaluation kit: three counts an account, one event a day each.

use bellwether_core::event::{Event, Profile};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::time::{DAY_MS, Day, MINUTE_MS, Millis};

use crate::Random;

/// The policy of the evaluation kit's synthetic fleets.
pub const POLICY_TOML: &str = include_str!("../../crates/bellwether/policies/eval/power.toml");
/// Its signals.
pub const SIGNALS: [&str; 3] = ["logins", "api_calls", "exports"];
/// The first day of every fleet: a Monday.
pub const FIRST_DAY: Day = Day(20_003);

/// The accounts of a fleet, customers for a year.
///
/// # Panics
/// Never: the ids are valid.
#[must_use]
pub fn profiles(accounts: u32) -> Vec<Profile> {
    let profile = |account| Profile {
        account: id(account),
        as_of: start(FIRST_DAY),
        name: None,
        segment: Some("smb".to_owned()),
        plan: None,
        time_zone: None,
        region: None,
        started_on: Some(FIRST_DAY.plus(-365)),
        renews_on: None,
        owner: None,
        annual_value_usd: None,
        entitlements: std::collections::BTreeMap::new(),
        fiscal_year_end: None,
    };
    (0..accounts).map(profile).collect()
}

/// When a day begins: in UTC.
#[must_use]
pub fn start(day: Day) -> Millis {
    Millis(i64::from(day.0) * DAY_MS)
}

fn id(account: u32) -> AccountId {
    AccountId::new(&format!("account-{account:06}")).expect("letters and digits")
}

/// What the accounts do on a day, at noon, in order of time.
///
/// # Panics
/// Never: the ids are valid.
#[must_use]
pub fn day(accounts: u32, day: Day) -> Vec<Event> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ u64::from(day.0.unsigned_abs()));
    let busy = if day.0.rem_euclid(7) < 5 { 1.0 } else { 0.3 };
    let noon = start(day).0 + DAY_MS / 2;
    let mut events = Vec::new();
    for account in 0..accounts {
        for (index, signal) in SIGNALS.iter().enumerate() {
            // Customers differ in size by a factor of eight.
            let level = (1.0 + f64::from(account % 8)) * 2.0 * busy;
            let at = noon + i64::from(account) * MINUTE_MS / i64::from(accounts);
            events.push(event(
                account,
                index,
                signal,
                Millis(at),
                f64::from(random.poisson(level)),
            ));
        }
    }
    events
}

/// One event of an account; `nonce` makes its id its own within the instant.
///
/// # Panics
/// Never: the ids are valid.
#[must_use]
pub fn event(account: u32, nonce: usize, signal: &str, at: Millis, value: f64) -> Event {
    Event {
        id: EventId::new(&format!("{}-{nonce}", at.0)).expect("digits"),
        account: id(account),
        occurred_at: at,
        kind: signal.to_owned(),
        member: None,
        role: None,
        feature: None,
        value: Some(value),
        segment: None,
    }
}
