//! How an alert goes on after it was told, and ends.

use std::collections::BTreeSet;

use super::{Planner, Suppressed};
use crate::delivery::{Delivery, key};
use crate::event::{Alert, Phase, Profile};
use crate::policy::Mode;

impl Planner {
    /// An alert that goes on: acknowledged, snoozed, or its evidence changed.
    pub(super) fn go_on(&mut self, partition: i32, alert: &Alert, profile: &Profile, now_ms: i64) {
        let mut sinks: BTreeSet<String> = self
            .routes(alert, profile)
            .into_iter()
            .filter(|(_, route)| !route.transition.is_empty() && route.mode == Mode::Immediate)
            .map(|(sink, _)| sink)
            .collect();
        let mut told = self.desk(partition).told(&alert.alert_id).cloned().unwrap_or_default();
        if alert.phase() == Phase::Held {
            sinks.extend(told.sinks.iter().filter(|sink| self.keeps_state(sink)).cloned());
        }
        // Of what nobody was told nothing is told either.
        sinks.retain(|sink| told.sinks.contains(sink));
        sinks.retain(|sink| !self.desk(partition).knows(&key(&alert.id, sink)));
        for sink in &sinks {
            if alert.phase() == Phase::Held && self.is_silenced_by_acknowledging(sink) {
                told.silenced.insert(sink.clone());
            }
            let earlier = told.note(sink, &alert.severity);
            self.plan(partition, sink, (alert, profile, earlier), (now_ms, now_ms));
        }
        if !sinks.is_empty() {
            self.desk_mut(partition).set_told(&alert.alert_id, Some(told));
        }
        self.refresh(partition, alert, profile);
    }

    /// An alert that is over.
    pub(super) fn end(&mut self, partition: i32, alert: &Alert, profile: &Profile, now_ms: i64) {
        let is_again = self
            .desk(partition)
            .untold_sinks(&alert.alert_id)
            .any(|sink| self.is_parked_already(partition, alert, sink));
        if !is_again {
            self.desk_mut(partition).outdate(&alert.alert_id, None);
        }
        for (name, _) in self.queued_of(partition, &alert.alert_id) {
            self.desk_mut(partition).unqueue(&name, now_ms);
            self.suppress(Suppressed::Ended);
        }
        let Some(mut told) = self.desk(partition).told(&alert.alert_id).cloned() else {
            if !self.routes(alert, profile).is_empty() {
                self.suppress(Suppressed::NotTold);
            }
            return;
        };
        // What waits for the end of quiet hours need not be told any more, nor the end where nothing else was told.
        for sink in told.sinks.clone() {
            let mut held = self.held(partition, &alert.alert_id, now_ms);
            held.retain(|delivery| delivery.sink == sink);
            for delivery in &held {
                self.desk_mut(partition).retire(&delivery.key, now_ms);
            }
            if !held.is_empty() {
                self.suppress(Suppressed::Ended);
                if !told.reached.contains(&sink) {
                    told.sinks.remove(&sink);
                }
            }
        }
        let listed: BTreeSet<String> = self
            .routes(alert, profile)
            .into_iter()
            .filter(|(_, route)| !route.transition.is_empty() && route.mode == Mode::Immediate)
            .map(|(sink, _)| sink)
            .collect();
        for sink in told.sinks.clone() {
            let wanted = listed.contains(&sink) || self.keeps_state(&sink);
            if wanted && !self.desk(partition).knows(&key(&alert.id, &sink)) {
                let earlier = told.note(&sink, &alert.severity);
                self.plan(partition, &sink, (alert, profile, earlier), (now_ms, now_ms));
            }
        }
        self.desk_mut(partition).set_told(&alert.alert_id, None);
    }

    /// Deliveries of an alert that were never attempted and wait for a later time.
    pub(super) fn held(&self, partition: i32, alert_id: &str, now_ms: i64) -> Vec<Delivery> {
        let of_alert = |delivery: &&Delivery| {
            delivery.lane == alert_id && delivery.attempts == 0 && delivery.due_ms > now_ms
        };
        self.desk(partition).pending().filter(of_alert).cloned().collect()
    }
}
