//! Attempts: what is due is begun, each as a task of its own, and what came of it is taken.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether_core::time::Millis;

use super::Notifier;
use crate::breaker::State;
use crate::delivery::{Delivery, Outcome};

/// The place in the order of deliveries that an attempt holds.
pub(super) type Lane = (i32, String, String);

fn lane(partition: i32, delivery: &Delivery) -> Lane {
    (partition, delivery.sink.clone(), delivery.lane.clone())
}

/// What an attempt came to.
pub(super) struct Attempted {
    partition: i32,
    key: String,
    sink: String,
    outcome: Outcome,
    took: Duration,
}

impl Notifier {
    pub(super) fn take_results(&mut self) {
        while let Ok(attempted) = self.results.1.try_recv() {
            self.settle(attempted);
        }
    }

    fn settle(&mut self, attempted: Attempted) {
        let Attempted { partition, key, sink, outcome, took } = attempted;
        self.under_way.remove(&key);
        let now_ms = (self.process.clock)();
        let result = match &outcome {
            Outcome::Delivered => "delivered",
            Outcome::Failed { detail, .. } | Outcome::Throttled { detail, .. } => {
                tracing::debug!(sink, key, detail, "an attempt failed");
                "failed"
            }
            Outcome::Refused { detail, reason } => {
                tracing::warn!(sink, key, detail, reason = reason.as_str(), "a delivery is parked");
                "refused"
            }
        };
        self.process.metrics.delivery(&sink, result, took);
        if let Some(gate) = self.gates.get_mut(&sink) {
            if !outcome.works() && gate.state(now_ms) != State::Closed {
                self.planner.excuse(partition, &key);
            }
            gate.ended(outcome.works(), now_ms);
            if let Some(asked) = outcome.retry_after_ms() {
                let most =
                    self.texts.policy().delivery.retry_after_max_seconds.saturating_mul(1000);
                gate.pause(now_ms.saturating_add_unsigned(asked.min(most)));
            }
        }
        let at_once =
            self.planner.desks().get(&partition).and_then(|desk| desk.get(&key)).map(at_once);
        if let (Outcome::Delivered, Some(Some(since))) = (&outcome, at_once) {
            let delay = u64::try_from(now_ms - since).unwrap_or(0);
            self.process.metrics.delivery_delay(&sink, Duration::from_millis(delay));
        }
        let random = &mut self.random;
        self.planner.settle(partition, &key, outcome, now_ms, &mut |most| random.u64(0..=most));
    }

    /// Begins what is due and may begin.
    pub(super) fn dispatch(&mut self) {
        let now_ms = (self.process.clock)();
        let lanes: HashSet<&Lane> = self.under_way.values().collect();
        let gates = &self.gates;
        let is_held = |partition: i32, delivery: &Delivery| {
            !lanes.is_empty() && lanes.contains(&lane(partition, delivery))
        };
        let may = |sink: &str, chosen: usize| {
            gates.get(sink).is_some_and(|gate| gate.admits_after(chosen, now_ms))
        };
        let ready = self.planner.ready(now_ms, &is_held, &may);
        for (partition, delivery) in ready {
            if let Some(gate) = self.gates.get_mut(&delivery.sink) {
                gate.began();
                self.under_way.insert(delivery.key.clone(), lane(partition, &delivery));
                self.attempt(partition, delivery);
            }
        }
    }

    fn attempt(&self, partition: i32, delivery: Delivery) {
        let Some(channel) = self.channels.get(&delivery.sink).map(Arc::clone) else { return };
        let (texts, results) = (Arc::clone(&self.texts), self.results.0.clone());
        let now = Millis((self.process.clock)());
        self.runtime.spawn(async move {
            let began = Instant::now();
            let Delivery { key, sink, .. } = delivery.clone();
            let outcome =
                guarded(async move { channel.attempt(&texts, &delivery, now).await }).await;
            let attempted = Attempted { partition, key, sink, outcome, took: began.elapsed() };
            // Whoever is to hear of it is gone only where the process ends.
            drop(results.send(attempted).await);
        });
    }

    pub(super) fn report(&self) {
        let now_ms = (self.process.clock)();
        let states = State::ALL.map(State::as_str);
        for (sink, gate) in &self.gates {
            let desks = || self.planner.desks().values();
            let waiting = desks().map(|desk| desk.waiting(sink)).sum();
            let entries = desks().map(|desk| desk.entries_for(sink)).sum();
            self.process.metrics.deliveries_waiting(sink, waiting, entries);
            self.process.metrics.sink_breaker(sink, gate.state(now_ms).as_str(), &states);
        }
    }
}

/// Since when a delivery could have been told, where that was at once.
fn at_once(delivery: &Delivery) -> Option<i64> {
    (delivery.attempts > 0 || delivery.due_ms == delivery.created_ms).then_some(delivery.created_ms)
}

/// An attempt whose panic is a failure: a result that never came would hold its place at the sink for ever.
async fn guarded(attempt: impl Future<Output = Outcome> + Send + 'static) -> Outcome {
    tokio::spawn(attempt).await.unwrap_or_else(|error| Outcome::Failed {
        detail: format!("the attempt broke off, which is a bug: {error}"),
        retry_after_ms: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_panics_is_a_failure_of_which_one_hears() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let outcome = runtime.block_on(guarded(async { panic!("a bug of a sink's client") }));
        let Outcome::Failed { detail, retry_after_ms: None } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(detail.contains("bug"), "{detail}");
    }
}
