//! What was parked and is to be sent again.

use super::{Planner, Suppressed};
use crate::delivery::{Delivery, Parking, Subject};
use crate::desk::Fate;
use crate::digest::Entry;
use crate::event::{Alert, Phase};
use crate::policy::Mode;

impl Planner {
    /// Takes what was parked and is asked for again, as if it were new: under its idempotency key, with all its attempts before it, whatever its
    /// age, and at once, whatever limits and quiet hours say: somebody asked for it. Where too much waits it is parked again.
    ///
    /// It is told no more where it is known (delivered meanwhile, or asked for twice), and where the alert has ended meanwhile or the sink was
    /// told something newer of it.
    pub fn redrive(
        &mut self,
        partition: i32,
        reason: Option<Parking>,
        mut parked: Delivery,
        now_ms: i64,
    ) {
        if !self.desks.contains_key(&partition) {
            return;
        }
        let alerts: Vec<String> = parked.alerts().map(|alert| alert.alert_id.clone()).collect();
        for alert_id in alerts {
            self.desk_mut(partition).ask_for(&alert_id, &parked.sink, &parked.key);
        }
        if self.desk(partition).knows(&parked.key) {
            self.suppress(Suppressed::Duplicate);
            return;
        }
        match &mut parked.subject {
            Subject::Alert { alert, .. } if self.is_erased(alert) => {
                self.suppress(Suppressed::Forgotten);
                return;
            }
            Subject::Alert { .. } => {}
            Subject::Digest(digest) => {
                let before = digest.entries.len();
                digest.entries.retain(|entry| !self.is_erased(&entry.alert));
                digest.total = digest.total.saturating_sub(before - digest.entries.len());
                if digest.entries.is_empty() {
                    self.suppress(Suppressed::Forgotten);
                    return;
                }
            }
        }
        parked.attempts = 0;
        parked.excused = 0;
        parked.created_ms = now_ms;
        parked.due_ms = now_ms;
        parked.first_due_ms = now_ms;
        match &parked.subject {
            Subject::Digest(digest) if reason.is_some_and(Parking::is_of_an_entry) => {
                for entry in &digest.entries {
                    self.redrive_entry(partition, &parked, (digest.mode, entry), now_ms);
                }
            }
            Subject::Digest(_) => self.add(partition, parked),
            Subject::Alert { .. } => self.redrive_alert(partition, parked),
        }
    }

    /// What never came into a digest stands in the next one.
    fn redrive_entry(
        &mut self,
        partition: i32,
        parked: &Delivery,
        (mode, entry): (Mode, &Entry),
        now_ms: i64,
    ) {
        let (sink, alert) = (&parked.sink, &entry.alert);
        if !self.is_to_be_told(partition, alert, sink, &parked.key) {
            return;
        }
        let what = (alert, &entry.profile);
        self.queue(partition, sink, what, (mode, entry.because.as_str()), now_ms);
    }

    fn redrive_alert(&mut self, partition: i32, mut parked: Delivery) {
        let Subject::Alert { alert, earlier, .. } = &mut parked.subject else { return };
        if !self.is_to_be_told(partition, alert, &parked.sink, &parked.key) {
            return;
        }
        if alert.phase() == Phase::Raised {
            let mut told = self.desk(partition).told(&alert.alert_id).cloned().unwrap_or_default();
            earlier.extend(told.note(&parked.sink, &alert.severity));
            told.sinks.insert(parked.sink.clone());
            told.severity.clone_from(&alert.severity);
            let alert_id = alert.alert_id.clone();
            self.desk_mut(partition).set_told(&alert_id, Some(told));
        }
        self.add(partition, parked);
    }

    /// Whether what was parked of an alert is still to be told; if not, it is counted why.
    fn is_to_be_told(&mut self, partition: i32, alert: &Alert, sink: &str, key: &str) -> bool {
        let why = match self.desk(partition).fate(&alert.alert_id, sink, key) {
            Fate::Current | Fate::Unknown => return true,
            Fate::Overtaken => Suppressed::Superseded,
            Fate::Ended => Suppressed::Ended,
        };
        self.suppress(why);
        false
    }

    /// Up to where requests to send again were taken.
    #[must_use]
    pub fn redriven_to(&self, partition: i32) -> i64 {
        self.desks.get(&partition).map_or(0, |desk| desk.redriven_to())
    }

    /// Requests to send again were taken up to here.
    pub fn set_redriven(&mut self, partition: i32, next: i64) {
        if let Some(desk) = self.desks.get_mut(&partition) {
            desk.set_redriven(next);
        }
    }
}
