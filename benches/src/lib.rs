//! Inputs that the benchmarks share.

pub mod beside;
pub mod capacity;
pub mod feed;
pub mod fleet;
pub mod instructions;
pub mod job;
pub mod observe;
pub mod peer;
pub mod report;
pub mod rig;
pub mod scale;

use bellwether_core::event::{Event, Profile};
use bellwether_core::id::{AccountId, EventId, MemberId};
use bellwether_core::time::{DAY_MS, Day, Millis};

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

#[path = "../../crates/bellwether/src/stories.rs"]
mod told;

/// The stories of the demo: who the accounts are, and what happens, in order of time.
#[must_use]
pub fn stories() -> (Vec<Profile>, Vec<Event>) {
    let mut profiles = Vec::new();
    let mut events = Vec::new();
    for story in told::all(Day(20_500)) {
        profiles.push(story.profile);
        events.extend(story.events);
    }
    events.sort_by_key(|event| event.occurred_at);
    (profiles, events)
}

/// What happens in one of the [`full_accounts`] on a day: how often, as a chance per working day, what, and with which value.
const HABITS: [(f64, &str, Option<&str>, Option<f64>); 15] = [
    (8.0, "login", None, None),
    (4.0, "session.ended", None, Some(24.0)),
    (1.5, "project.created", None, None),
    (5.0, "feature.used", Some("feature"), None),
    (3.0, "integration.synced", Some("integration"), None),
    (2.0, "api.called", None, Some(140.0)),
    (0.2, "ticket.opened", None, None),
    (0.05, "ticket.escalated", None, None),
    (0.2, "support.message", None, Some(0.3)),
    (0.05, "invoice.paid", None, Some(3.0)),
    (0.2, "seats.used", None, Some(20.0)),
    (0.05, "page.viewed", Some("pricing.downgrade"), None),
    (0.1, "meeting.held", None, None),
    (0.05, "survey.answered", None, Some(8.0)),
    (0.5, "login", None, None),
];

/// `days` days of small customers that use everything: events for all signals of the default policy, few at weekends, with the
/// noise of people; six members, five features, four integrations. In order of time.
///
/// # Panics
/// Never: the ids are valid.
#[must_use]
pub fn full_accounts(accounts: u32, days: u32) -> Vec<Event> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut events = Vec::new();
    for day in 0..days {
        let busy = if day % 7 < 5 { 1.0 } else { 0.15 };
        for account in 0..accounts {
            let id = AccountId::new(&format!("account-{account:06}")).expect("letters and digits");
            // Customers differ in size by a factor of four.
            let size = 0.5 + f64::from(account % 7) / 4.0;
            for (habit, (rate, kind, feature, value)) in HABITS.iter().enumerate() {
                for n in 0..random.poisson(rate * busy * size) {
                    let minute = 480 + i64::from(random.below(600));
                    let at = Millis((i64::from(20_000 + day) * 1_440 + minute) * 60_000);
                    let (member, which) = (random.below(6), random.below(5));
                    let spread = 0.5 + f64::from(random.below(100)) / 100.0;
                    events.push(Event {
                        id: EventId::new(&format!("{day}-{account}-{habit}-{n}"))
                            .expect("letters and digits"),
                        account: id.clone(),
                        occurred_at: at,
                        kind: (*kind).to_owned(),
                        member: Some(
                            MemberId::new(&format!("member-{member}")).expect("letters and digits"),
                        ),
                        role: (member == 0).then(|| "admin".to_owned()),
                        feature: feature.map(|feature| match feature {
                            "pricing.downgrade" => feature.to_owned(),
                            "integration" => format!("integration-{}", which % 4),
                            _ => format!("{feature}-{which}"),
                        }),
                        value: value.map(|value| match *kind {
                            "support.message" => value * spread,
                            _ => (value * spread).round(),
                        }),
                        segment: Some("smb".to_owned()),
                    });
                }
            }
        }
    }
    events.sort_by_key(|event| event.occurred_at);
    events
}

/// xorshift64*: the same events on every machine.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// One that begins at this seed, which is not 0.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// One for the thing of this number, which has nothing in common with that of the next (splitmix64; Steele, Lea, Flood 2014).
    #[must_use]
    pub fn scattered(number: u64) -> Random {
        let mut bits = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Random((bits ^ (bits >> 31)) | 1)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        // Below 2^32 by the shift, and below `end` by the remainder.
        ((self.bits() >> 32) % u64::from(end.max(1))) as u32
    }

    /// The same without a bound of 32 bits.
    pub fn below_u64(&mut self, end: u64) -> u64 {
        // The high half of a product: the bias is below one in 2^64 / end.
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// A share: at least 0, below 1.
    pub fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number of events with this mean (Knuth 1969, 3.4.1).
    pub(crate) fn poisson(&mut self, mean: f64) -> u32 {
        let limit = (-mean).exp();
        let mut product = 1.0;
        let mut count = 0;
        loop {
            product *= f64::from(self.below(1 << 24)) / f64::from(1 << 24);
            if product <= limit {
                return count;
            }
            count += 1;
        }
    }
}
