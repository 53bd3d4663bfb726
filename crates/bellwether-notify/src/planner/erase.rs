//! The deletion of an account. Its alerts are resolved by the engine; here goes what of them waits to be told.

use bellwether_core::time::DAY_MS;

use super::{Planner, Suppressed};
use crate::delivery::{Delivery, Subject};
use crate::event::{Alert, Phase};

/// What happened before the end of the minute of a deletion is deleted, as the engine has it.
const MINUTE_MS: i64 = 60_000;
/// For how long deletions are remembered: longer than anything from before them may still come to be told.
const REMEMBER_DAYS: i64 = 400;

impl Planner {
    /// An account is deleted: its entries go out of digests, and what of it was not told yet is not told any more; but for ends of alerts, so
    /// that no pager rings on. What happens to the account later is of a new one.
    pub fn erase(&mut self, partition: i32, account: &str, at_ms: i64) {
        let before_ms = (at_ms.div_euclid(MINUTE_MS) + 1) * MINUTE_MS;
        if let Some(desk) = self.desks.get_mut(&partition) {
            desk.forget_account(account, before_ms);
        }
        let goes = |alert: &Alert| alert.account_id == account && alert.at.0 < before_ms;
        // A digest may be another partition's and hold its entries all the same.
        for partition in self.desks.keys().copied().collect::<Vec<_>>() {
            let queued = self.desk(partition).queued().filter(|(_, of)| goes(&of.entry.alert));
            for name in queued.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
                self.desk_mut(partition).unqueue(&name, at_ms);
                self.suppress(Suppressed::Forgotten);
            }
            let touched = self.desk(partition).pending().filter(|of| concerns(of, &goes));
            for delivery in touched.cloned().collect::<Vec<_>>() {
                self.erase_from(partition, delivery, &goes, at_ms);
                self.suppress(Suppressed::Forgotten);
            }
        }
    }

    fn erase_from(
        &mut self,
        partition: i32,
        mut delivery: Delivery,
        goes: &dyn Fn(&Alert) -> bool,
        at_ms: i64,
    ) {
        if let Subject::Digest(digest) = &mut delivery.subject {
            let before = digest.entries.len();
            digest.entries.retain(|entry| !goes(&entry.alert));
            digest.total = digest.total.saturating_sub(before - digest.entries.len());
            if !digest.entries.is_empty() {
                self.desk_mut(partition).put(delivery);
                return;
            }
        }
        self.desk_mut(partition).retire(&delivery.key, at_ms);
    }

    /// Whether an event is of an account that was deleted since.
    pub(super) fn is_erased(&self, alert: &Alert) -> bool {
        let before = self.desks.values().filter_map(|of| of.forgotten_before(&alert.account_id));
        alert.phase() != Phase::Ended && before.max().is_some_and(|before| alert.at.0 < before)
    }

    pub(super) fn forget_deletions(&mut self, now_ms: i64) {
        for desk in self.desks.values_mut() {
            desk.forget_deletions(now_ms - REMEMBER_DAYS * DAY_MS);
        }
    }
}

/// Whether a delivery holds something that goes.
fn concerns(delivery: &Delivery, goes: &dyn Fn(&Alert) -> bool) -> bool {
    match &delivery.subject {
        Subject::Alert { alert, .. } => goes(alert) && alert.phase() != Phase::Ended,
        Subject::Digest(digest) => digest.entries.iter().any(|entry| goes(&entry.alert)),
    }
}
