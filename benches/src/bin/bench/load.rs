//! The load: the same events for the same seed, 70 days of history up to now, with the shape of the peer's own generator.

use std::time::{Duration, Instant};

use bellwether_benches::Random;
use bellwether_benches::peer::{Lateness, Zipf, event};
use bellwether_core::time::DAY_MS;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::process::now_ms;

const DAYS: i64 = 70;

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
        // As the peer's: what is due while so many are on their way goes together. Without it every event is a request of its own.
        .set("max.in.flight.requests.per.connection", "5")
        .set("queue.buffering.max.messages", "500000");
    let producer: BaseProducer = config.create().expect("a producer");
    let mut random = Random::new(load.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
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
        let spread_ms = if load.rate.is_some() { 1 } else { 600_000 };
        let late = Lateness { per_mille: load.late_per_mille, spread_ms };
        event(&mut random, &mut json, &id, now, late);
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
