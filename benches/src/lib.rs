//! Inputs that the benchmarks share.

use bellwether_core::event::Event;
use bellwether_core::id::{AccountId, EventId, MemberId};
use bellwether_core::time::{DAY_MS, Millis};

/// `days` days of logins and projects of `accounts` accounts, in order of time: six events an account and day.
///
/// # Panics
/// Never: the ids are valid.
#[must_use]
pub fn events(accounts: u32, days: u32) -> Vec<Event> {
    let mut events = Vec::new();
    for day in 0..days {
        for slot in 0..6u32 {
            for account in 0..accounts {
                let at = i64::from(20_000 + day) * DAY_MS
                    + i64::from(slot) * 3_600_000
                    + i64::from(account);
                let kind = if slot % 3 == 2 { "project.created" } else { "login" };
                events.push(Event {
                    id: EventId::new(&format!("{day}-{slot}")).expect("digits"),
                    account: AccountId::new(&format!("account-{account}"))
                        .expect("letters and digits"),
                    occurred_at: Millis(at),
                    kind: kind.to_owned(),
                    member: Some(
                        MemberId::new(&format!("member-{}", slot % 4)).expect("letters and digits"),
                    ),
                    role: None,
                    feature: None,
                    value: None,
                    segment: None,
                });
            }
        }
    }
    events
}
