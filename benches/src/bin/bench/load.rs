//! The load: the same events for the same seed, with the shape of the peer's own generator. Zipf-skewed accounts, 70 days of history up
//! to now, some events late, a thirtieth of those too late for anybody.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::process::now_ms;

const DAY_MS: i64 = 86_400_000;
const DAYS: i64 = 70;
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

/// What is loaded.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    pub(crate) events: u64,
    pub(crate) accounts: usize,
    pub(crate) seed: u64,
    pub(crate) zipf: f64,
    /// Of a thousand events, how many are late.
    pub(crate) late_per_mille: u64,
    /// Events a second, as of now; none: history, as fast as it goes.
    pub(crate) rate: Option<f64>,
}

/// How many accounts had an event.
pub(crate) fn load(load: &Load) -> usize {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &load.bootstrap)
        .set("compression.type", "lz4")
        .set("acks", "all")
        .set("linger.ms", if load.rate.is_some() { "0" } else { "20" })
        .set("batch.size", "262144")
        .set("queue.buffering.max.messages", "500000");
    let producer: BaseProducer = config.create().expect("a producer");
    let mut random = Random(load.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let zipf = Zipf::new(load.accounts, load.zipf);
    let mut seen = vec![false; load.accounts];
    let (started, start_ms) = (Instant::now(), now_ms());
    let mut json = String::with_capacity(256);
    for number in 0..load.events {
        let now = match load.rate {
            Some(rate) => {
                let due = Duration::from_secs_f64(number as f64 / rate);
                while let Some(wait) = due.checked_sub(started.elapsed()).filter(|w| !w.is_zero()) {
                    producer.poll(Duration::ZERO);
                    std::thread::sleep(wait.min(Duration::from_micros(500)));
                }
                now_ms()
            }
            None => start_ms - DAYS * DAY_MS + (DAYS * DAY_MS) * number as i64 / load.events as i64,
        };
        let account = zipf.sample(&mut random);
        seen[account] = true;
        let id = format!("acct-{account:06}");
        let spread = if load.rate.is_some() { 1 } else { 600_000 };
        event(&mut random, &mut json, &id, now, load.late_per_mille, spread);
        let mut record = BaseRecord::to(&load.topic).key(&id).payload(json.as_str());
        while let Err((error, back)) = producer.send(record) {
            let KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) = error else {
                panic!("producing failed: {error}");
            };
            producer.poll(Duration::from_millis(10));
            record = back;
        }
        if number % 1_024 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(120)).expect("a broker that takes the load");
    seen.iter().filter(|seen| **seen).count()
}

fn event(random: &mut Random, json: &mut String, account: &str, now: i64, late: u64, spread: u64) {
    let draw = random.below(100) as u32;
    let mut sum = 0;
    let chosen = SIGNALS.iter().find(|(_, share)| {
        sum += share;
        draw < sum
    });
    let (signal, _) = chosen.expect("the shares sum to 100");
    let at = match random.below(1_000) {
        0 if late > 0 => now - 65 * DAY_MS - random.below(25 * DAY_MS as u64) as i64,
        draw if draw < late => now - random.below(60 * DAY_MS as u64) as i64,
        _ => now - random.below(spread) as i64,
    };
    json.clear();
    let (high, low, user) = (random.next(), random.next(), random.below(200));
    write!(
        json,
        "{{\"event_id\":\"{:08x}-{:04x}-{:04x}-{:04x}-{:012x}\",\"account_id\":\"{account}\",\"user_id\":\"u-{user}\",\"signal\":\"{signal}\",\"value\":",
        high >> 32, high >> 16 & 0xffff, high & 0xffff, low >> 48, low & 0xffff_ffff_ffff,
    )
    .expect("a string takes everything");
    match *signal {
        "active_users" => write!(json, "{}", 1 + random.below(5)),
        "feature_depth" => write!(json, "{}", 1 + random.below(10)),
        "session_minutes" => write!(json, "{}", 1 + random.below(60)),
        "integrations_active" => write!(json, "{}", 1 + random.below(3)),
        "api_calls" => write!(json, "{}", 1 + random.below(100)),
        "ticket_sentiment" => write!(json, "{}", (random.below(201) as f64 - 100.0) / 100.0),
        "payment_delay_days" => write!(json, "{}", random.below(4)),
        "seats_used" => write!(json, "{}", 1 + random.below(20)),
        _ => write!(json, "1"),
    }
    .expect("a string takes everything");
    write!(json, ",\"occurred_at\":{at}}}").expect("a string takes everything");
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        // The high half of a product: the bias is below one in 2^64 / end.
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Ranks by Walker's alias method (Walker 1977): rank r is drawn in proportion to (r + 1)^-exponent.
struct Zipf {
    keep: Vec<f64>,
    alias: Vec<usize>,
}

impl Zipf {
    fn new(count: usize, exponent: f64) -> Zipf {
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

    fn sample(&self, random: &mut Random) -> usize {
        let rank = random.below(self.keep.len() as u64) as usize;
        if random.share() < self.keep[rank] { rank } else { self.alias[rank] }
    }
}
