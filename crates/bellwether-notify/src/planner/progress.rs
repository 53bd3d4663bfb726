//! What time brings, what may be attempted, and what became of it.

use std::collections::{BTreeMap, HashSet};

use bellwether_core::publish::content_id;
use bellwether_core::time::{DAY_MS, HOUR_MS};

use super::Planner;
use super::limits::BUDGET_DAYS;
use crate::delivery::{Delivery, Outcome, Parking, Subject, pause_ms};
use crate::digest::Digest;
use crate::policy::Mode;

/// How much longer than the parking topic keeps records it is remembered whether what was parked is overtaken.
const UNTOLD_MORE_DAYS: i64 = 2;
/// The longest window of a rate.
const RATE_HOURS_MAX: i64 = 8_760;

impl Planner {
    /// What time brings: digests that are due, deliveries to give up, old rows to forget.
    /// `under_way` names what is being attempted: that may be accepted yet.
    pub fn tick(&mut self, now_ms: i64, under_way: &dyn Fn(&str) -> bool) {
        self.flush(now_ms);
        let give_up_ms = i64::from(self.policy().delivery.give_up_hours) * HOUR_MS;
        let mut ended = Vec::new();
        for (partition, desk) in &self.desks {
            for delivery in desk.pending().filter(|delivery| !under_way(&delivery.key)) {
                let reason = if self.policy().sink(&delivery.sink).is_none() {
                    (Parking::NoSink, format!("the policy has no sink `{}`", delivery.sink))
                } else if now_ms.saturating_sub(delivery.since_ms()) > give_up_ms {
                    (
                        Parking::Expired,
                        format!("not accepted within {} hours", give_up_ms / HOUR_MS),
                    )
                } else {
                    continue;
                };
                ended.push((*partition, delivery.key.clone(), reason));
            }
        }
        for (partition, key, (reason, detail)) in ended {
            if let Some(delivery) = self.desk_mut(partition).take(&key) {
                self.park(partition, delivery, reason, detail);
            }
        }
        if now_ms.saturating_sub(self.tidied_ms) >= HOUR_MS {
            self.tidied_ms = now_ms;
            let done_before = now_ms - i64::from(self.policy().delivery.remember_days) * DAY_MS;
            let (day, hour) = (now_ms.div_euclid(DAY_MS) - BUDGET_DAYS, now_ms.div_euclid(HOUR_MS));
            self.forget_deletions(now_ms);
            let untold_before = now_ms - self.parked_ms - UNTOLD_MORE_DAYS * DAY_MS;
            for desk in self.desks.values_mut() {
                desk.forget(done_before, day, hour - RATE_HOURS_MAX);
                desk.forget_untold(untold_before);
                desk.write_accounts();
            }
        }
    }

    /// Makes digests that are due into deliveries: one for each sink and mode, over all partitions at hand.
    fn flush(&mut self, now_ms: i64) {
        let mut due: BTreeMap<(String, Mode, i64), Vec<(i32, String)>> = BTreeMap::new();
        for (partition, desk) in &self.desks {
            for (name, queued) in desk.queued().filter(|(_, queued)| queued.flush_ms <= now_ms) {
                let slot = (queued.sink.clone(), queued.mode, queued.flush_ms);
                due.entry(slot).or_default().push((*partition, name.clone()));
            }
        }
        for ((sink, mode, flush_ms), names) in due {
            let Some(home) = names.first().map(|(partition, _)| *partition) else { continue };
            let mut entries = Vec::with_capacity(names.len());
            for (partition, name) in names {
                let desk = self.desk_mut(partition);
                // From here on the digest stands for it, in the same transaction.
                entries.extend(desk.unqueue(&name, now_ms).map(|queued| queued.entry));
            }
            let mut ids: Vec<&str> = entries.iter().map(|entry| entry.alert.id.as_str()).collect();
            ids.sort_unstable();
            let key = content_id(&[
                "digest",
                &sink,
                mode.as_str(),
                &flush_ms.to_string(),
                &ids.join(" "),
            ]);
            let digest = Digest::of(mode, entries, self.policy().digest.entries_max);
            let what = (format!("digest/{}", mode.as_str()), Subject::Digest(digest));
            let delivery = self.delivery(key, &sink, what, now_ms);
            self.add(home, delivery);
        }
    }

    /// What may be attempted now: at most one delivery of a lane and sink, in order. `may(sink, chosen)` says whether another attempt at a
    /// sink may begin when so many were chosen already; `under_way` says whether anything of a delivery's partition, sink and lane is being
    /// attempted: that holds the lane until it settles, also where it is known no more (its account was deleted), or a resolve could
    /// arrive before its trigger.
    pub fn ready(
        &self,
        now_ms: i64,
        under_way: &dyn Fn(i32, &Delivery) -> bool,
        may: &dyn Fn(&str, usize) -> bool,
    ) -> Vec<(i32, Delivery)> {
        let mut chosen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut ready = Vec::new();
        for (partition, desk) in &self.desks {
            let mut lanes = HashSet::new();
            for delivery in desk.pending() {
                let first = lanes.insert((delivery.sink.as_str(), delivery.lane.as_str()));
                if !first || delivery.due_ms > now_ms || under_way(*partition, delivery) {
                    continue;
                }
                let count = chosen.entry(&delivery.sink).or_default();
                if may(&delivery.sink, *count) {
                    *count += 1;
                    ready.push((*partition, delivery.clone()));
                }
            }
        }
        ready
    }

    /// Takes what an attempt came to. An attempt of what is not known any more (its partition is gone) changes nothing: whoever has it
    /// attempts it again, under the same key. Returns whether it was known.
    pub fn settle(
        &mut self,
        partition: i32,
        key: &str,
        outcome: Outcome,
        now_ms: i64,
        below: &mut dyn FnMut(u64) -> u64,
    ) -> bool {
        let effort = self.policy().delivery.clone();
        let Some(desk) = self.desks.get_mut(&partition) else { return false };
        let Some(mut delivery) = desk.take(key) else { return false };
        let (detail, retry_after_ms) = match outcome {
            Outcome::Delivered => {
                desk.mark_done(key, now_ms);
                return true;
            }
            Outcome::Refused { reason, detail } => {
                self.park(partition, delivery, reason, detail);
                return true;
            }
            Outcome::Throttled { detail, retry_after_ms } => {
                delivery.excused = delivery.excused.saturating_add(1);
                (detail, retry_after_ms)
            }
            Outcome::Failed { detail, retry_after_ms } => (detail, retry_after_ms),
        };
        if delivery.attempts == 0 {
            delivery.first_due_ms = delivery.due_ms;
        }
        delivery.attempts = delivery.attempts.saturating_add(1);
        if effort.attempts_max > 0 && delivery.counted() >= effort.attempts_max {
            self.park(partition, delivery, Parking::Attempts, detail);
        } else {
            let pause = pause_ms(&effort, delivery.attempts, retry_after_ms, below);
            let pause = i64::try_from(pause).unwrap_or(i64::MAX);
            delivery.due_ms = now_ms.saturating_add(pause);
            desk.put(delivery);
        }
        true
    }

    /// The failure that is settled next is not the delivery's: it only tried whether its sink works again. It does not count towards
    /// `attempts_max`.
    pub fn excuse(&mut self, partition: i32, key: &str) {
        let Some(desk) = self.desks.get_mut(&partition) else { return };
        if let Some(mut delivery) = desk.get(key).cloned() {
            delivery.excused = delivery.excused.saturating_add(1);
            desk.put(delivery);
        }
    }
}
