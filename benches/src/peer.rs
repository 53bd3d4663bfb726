//! The peer's job: its policy, and its events with the shape of the peer's own generator. Zipf-skewed accounts; some events late, a thirtieth
//! of those too late for anybody.

use std::fmt::Write as _;

use bellwether_core::time::DAY_MS;

use crate::Random;

/// The job as a policy of the rolling detector.
pub const POLICY_TOML: &str = include_str!("../policies/peer.toml");

/// The signals, and how many of a hundred events are of each.
const SIGNALS: [(&str, u32); 12] = [
    ("logins", 20),
    ("active_users", 12),
    ("feature_depth", 12),
    ("session_minutes", 16),
    ("projects_created", 5),
    ("integrations_active", 3),
    ("api_calls", 20),
    ("tickets_opened", 2),
    ("ticket_sentiment", 1),
    ("errors", 5),
    ("payment_delay_days", 1),
    ("seats_used", 3),
];

/// When events happen, seen from the time at which they are sent.
#[derive(Debug, Clone, Copy)]
pub struct Lateness {
    /// Of a thousand events, how many are late.
    pub per_mille: u64,
    /// The others happened up to so many milliseconds before; at least 1.
    pub spread_ms: u64,
}

/// Writes one event of an account as JSON, in place of what was there.
///
/// # Panics
/// Never: a string takes everything, and the shares of the signals sum to 100.
pub fn event(random: &mut Random, json: &mut String, account: &str, now: i64, late: Lateness) {
    let draw = random.below_u64(100) as u32;
    let mut sum = 0;
    let chosen = SIGNALS.iter().find(|(_, share)| {
        sum += share;
        draw < sum
    });
    let (signal, _) = chosen.expect("the shares sum to 100");
    let at = match random.below_u64(1_000) {
        0 if late.per_mille > 0 => {
            now - 65 * DAY_MS - random.below_u64(25 * DAY_MS.unsigned_abs()) as i64
        }
        draw if draw < late.per_mille => now - random.below_u64(60 * DAY_MS.unsigned_abs()) as i64,
        _ => now - random.below_u64(late.spread_ms) as i64,
    };
    json.clear();
    let (high, low, user) = (random.bits(), random.bits(), random.below_u64(200));
    write!(
        json,
        "{{\"event_id\":\"{:08x}-{:04x}-{:04x}-{:04x}-{:012x}\",\"account_id\":\"{account}\",\"user_id\":\"u-{user}\",\"signal\":\"{signal}\",\"value\":",
        high >> 32, high >> 16 & 0xffff, high & 0xffff, low >> 48, low & 0xffff_ffff_ffff,
    )
    .expect("a string takes everything");
    match *signal {
        "active_users" => write!(json, "{}", 1 + random.below_u64(5)),
        "feature_depth" => write!(json, "{}", 1 + random.below_u64(10)),
        "session_minutes" => write!(json, "{}", 1 + random.below_u64(60)),
        "integrations_active" => write!(json, "{}", 1 + random.below_u64(3)),
        "api_calls" => write!(json, "{}", 1 + random.below_u64(100)),
        "ticket_sentiment" => write!(json, "{}", (random.below_u64(201) as f64 - 100.0) / 100.0),
        "payment_delay_days" => write!(json, "{}", random.below_u64(4)),
        "seats_used" => write!(json, "{}", 1 + random.below_u64(20)),
        _ => write!(json, "1"),
    }
    .expect("a string takes everything");
    write!(json, ",\"occurred_at\":{at}}}").expect("a string takes everything");
}

/// Ranks by Walker's alias method (Walker 1977): rank r is drawn in proportion to (r + 1)^-exponent.
#[derive(Debug)]
pub struct Zipf {
    keep: Vec<f64>,
    alias: Vec<usize>,
}

impl Zipf {
    /// Ranks below `count`, which is not 0.
    #[must_use]
    pub fn new(count: usize, exponent: f64) -> Zipf {
        let mut keep: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-exponent)).collect();
        let total: f64 = keep.iter().sum();
        keep.iter_mut().for_each(|weight| *weight *= count as f64 / total);
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|&rank| keep[rank] < 1.0);
        let mut alias = vec![0; count];
        while let (Some(poor), Some(&rich)) = (small.pop(), large.last()) {
            alias[poor] = rich;
            keep[rich] -= 1.0 - keep[poor];
            if keep[rich] < 1.0 {
                large.pop();
                small.push(rich);
            }
        }
        large.into_iter().for_each(|rank| keep[rank] = 1.0);
        Zipf { keep, alias }
    }

    /// Draws a rank.
    #[must_use]
    pub fn sample(&self, random: &mut Random) -> usize {
        let rank = random.below_u64(self.keep.len() as u64) as usize;
        if random.share() < self.keep[rank] { rank } else { self.alias[rank] }
    }
}
