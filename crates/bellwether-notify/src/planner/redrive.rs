//! What was parked and is to be sent again.

use super::{Planner, Suppressed};
use crate::delivery::{Delivery, Parking, Subject, key};
use crate::desk::Fate;
use crate::digest::Entry;
use crate::event::{Alert, Phase};
use crate::policy::Mode;

/// What happened to an alert after an event of it, as its topic has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Since {
    /// Whether it is over.
    pub has_ended: bool,
    /// The events in which it asked for attention again.
    pub raised: Vec<String>,
}

/// Says what happened to an alert after an event of it; nothing, of those that [`Planner::doubtful`] does not name.
pub type Aftermath<'a> = &'a dyn Fn(&Alert) -> Since;

/// Whether a parked digest went out, or was to go out, as a whole.
pub(crate) fn is_whole_digest(reason: Option<Parking>, parked: &Delivery) -> bool {
    let is_of_an_entry = reason.is_some_and(Parking::is_of_an_entry);
    matches!(parked.subject, Subject::Digest(_)) && !is_of_an_entry
}

impl Planner {
    /// The events of a parked delivery of whose alerts memory does not say what became of them.
    #[must_use]
    pub fn doubtful<'p>(
        &self,
        partition: i32,
        reason: Option<Parking>,
        parked: &'p Delivery,
    ) -> Vec<&'p Alert> {
        let Some(desk) = self.desks.get(&partition) else { return Vec::new() };
        if desk.knows(&parked.key) {
            return Vec::new();
        }
        let is_whole = is_whole_digest(reason, parked);
        let fate = |alert: &Alert| desk.fate(&alert.alert_id, &parked.sink, &parked.key);
        let alerts = parked.alerts().filter(|alert| !self.is_erased(alert));
        alerts.filter(|alert| is_whole || fate(alert) == Fate::Unknown).collect()
    }

    /// Takes what was parked and is asked for again, as if it were new: under its idempotency key, with all its attempts before it, whatever its
    /// age, and at once, whatever limits and quiet hours say: somebody asked for it. Where too much waits it is parked again.
    ///
    /// It is told no more where it is known (delivered meanwhile, or asked for twice), and where the alert has ended meanwhile or the sink was
    /// told something newer of it. Of a digest the alerts that have ended meanwhile are left out; an empty one is not told.
    pub fn redrive(
        &mut self,
        partition: i32,
        reason: Option<Parking>,
        mut parked: Delivery,
        since: Aftermath<'_>,
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
        let is_whole = is_whole_digest(reason, &parked);
        match &mut parked.subject {
            Subject::Alert { alert, .. } if self.is_erased(alert) => {
                self.suppress(Suppressed::Forgotten);
                return;
            }
            Subject::Alert { .. } => {}
            Subject::Digest(digest) => {
                let before = digest.entries.len();
                digest.entries.retain(|entry| !self.is_erased(&entry.alert));
                let left = digest.entries.len();
                digest.entries.retain(|entry| !(is_whole && since(&entry.alert).has_ended));
                digest.total = digest.total.saturating_sub(before - digest.entries.len());
                for _ in digest.entries.len()..left {
                    self.suppress(Suppressed::Ended);
                }
                if left == 0 {
                    self.suppress(Suppressed::Forgotten);
                }
                if digest.entries.is_empty() {
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
            Subject::Digest(_) if is_whole => self.add(partition, parked),
            Subject::Digest(digest) => {
                for entry in &digest.entries {
                    let of = (digest.mode, entry);
                    self.redrive_entry(partition, &parked, of, since, now_ms);
                }
            }
            Subject::Alert { .. } => self.redrive_alert(partition, parked, since),
        }
    }

    /// Takes an event that nobody could read when it came, unless something newer of its alert came since.
    pub fn redrive_event(
        &mut self,
        partition: i32,
        alert: &Alert,
        since: Aftermath<'_>,
        now_ms: i64,
    ) {
        let Since { has_ended, raised } = since(alert);
        if has_ended {
            self.suppress(Suppressed::Ended);
        } else if raised.is_empty() {
            self.alert(partition, alert, now_ms);
        } else {
            self.suppress(Suppressed::Superseded);
        }
    }

    /// What never came into a digest stands in the next one.
    fn redrive_entry(
        &mut self,
        partition: i32,
        parked: &Delivery,
        (mode, entry): (Mode, &Entry),
        since: Aftermath<'_>,
        now_ms: i64,
    ) {
        let (sink, alert) = (&parked.sink, &entry.alert);
        if self.is_to_be_told(partition, alert, (sink, &parked.key), since) {
            let what = (alert, &entry.profile);
            self.queue(partition, sink, what, (mode, entry.because.as_str()), now_ms);
        }
    }

    fn redrive_alert(&mut self, partition: i32, mut parked: Delivery, since: Aftermath<'_>) {
        let Subject::Alert { alert, earlier, .. } = &mut parked.subject else { return };
        if !self.is_to_be_told(partition, alert, (&parked.sink, &parked.key), since) {
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

    /// Whether what was parked of an alert under a key is still to be told a sink; if not, it is counted why.
    fn is_to_be_told(
        &mut self,
        partition: i32,
        alert: &Alert,
        (sink, parked_as): (&str, &str),
        since: Aftermath<'_>,
    ) -> bool {
        let desk = self.desk(partition);
        let mut fate = desk.fate(&alert.alert_id, sink, parked_as);
        if fate == Fate::Unknown {
            let since = since(alert);
            // What was raised again overtakes how it went on before, and what asked for attention where the sink heard of that, or will.
            let overtakes = |event: &String| {
                let key = key(event, sink);
                alert.phase() != Phase::Raised
                    || desk.knows(&key)
                    || desk.is_untold_as(&alert.alert_id, sink, &key)
            };
            fate = if since.has_ended {
                Fate::Ended
            } else if since.raised.iter().any(overtakes) {
                Fate::Overtaken
            } else {
                Fate::Current
            };
        }
        match fate {
            Fate::Current | Fate::Unknown => return true,
            Fate::Overtaken => self.suppress(Suppressed::Superseded),
            Fate::Ended => self.suppress(Suppressed::Ended),
        }
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
