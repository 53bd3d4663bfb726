//! What is given up: parked once for a reason, and of what lies too far back so many a day.

use std::collections::BTreeSet;

use bellwether_core::time::DAY_MS;

use super::{Planner, Suppressed, alert_subject};
use crate::delivery::{Delivery, Parking, Subject, key};
use crate::digest::{Digest, Entry};
use crate::event::{Alert, Phase, Profile};
use crate::planner::Parked;
use crate::policy::Mode;

impl Planner {
    pub(super) fn park(
        &mut self,
        partition: i32,
        delivery: Delivery,
        reason: Parking,
        detail: String,
    ) {
        let untold: Option<&Alert> = match &delivery.subject {
            Subject::Alert { alert, .. } => Some(alert),
            Subject::Digest(of) if reason.is_of_an_entry() => {
                of.entries.first().map(|entry| &entry.alert)
            }
            Subject::Digest(_) => None,
        };
        if let Some(alert) = untold {
            let (of, at_ms) =
                ((alert.alert_id.as_str(), delivery.sink.as_str()), delivery.created_ms);
            let parked = (delivery.key.as_str(), reason);
            let since_ms = at_ms.saturating_sub(self.parked_ms);
            if self.desk(partition).is_parked(of, parked, since_ms) {
                self.suppress(Suppressed::Duplicate);
                return;
            }
            if reason == Parking::Stale && !self.may_park_stale(partition, at_ms) {
                self.suppress(Suppressed::ParkingFull);
                return;
            }
            let overtakes = matches!(alert.phase(), Phase::Raised | Phase::Ended);
            self.desk_mut(partition).set_untold(of, parked, overtakes, at_ms);
        }
        self.parked.push(Parked { partition, reason, detail, delivery });
    }

    /// Whether one more may be parked today of what is too old to be told: history that is filled in must not fill the topic. Counts it, as
    /// what limits count: over all partitions at hand, and in the memory of its own, which goes where the partition goes.
    fn may_park_stale(&mut self, partition: i32, now_ms: i64) -> bool {
        let today = now_ms.div_euclid(DAY_MS);
        let parked: u64 = self.desks.values().map(|desk| desk.stale_on(today)).sum();
        let has_room = parked < self.policy().delivery.parked_max_day;
        if has_room {
            let format = self.format;
            self.desk_mut(partition).count_stale(today, format);
        }
        has_room
    }

    /// Parks what lies too far back: nobody is told of history that is filled in, unless someone asks for it.
    pub(super) fn park_stale(
        &mut self,
        partition: i32,
        alert: &Alert,
        profile: &Profile,
        now_ms: i64,
    ) {
        let routes = self.routes(alert, profile);
        if routes.is_empty() {
            self.suppress(Suppressed::NoRoute);
            return;
        }
        let hours = self.policy().delivery.max_age_hours;
        for (sink, route) in routes {
            let key = key(&alert.id, &sink);
            if self.desk(partition).knows(&key) {
                self.suppress(Suppressed::Duplicate);
                continue;
            }
            let what = match route.mode {
                Mode::Immediate => {
                    (alert.alert_id.clone(), alert_subject(alert, profile, BTreeSet::new()))
                }
                mode @ (Mode::Daily | Mode::Weekly | Mode::Checkin) => {
                    let because = mode.as_str().to_owned();
                    let (alert, profile) = (alert.clone(), profile.clone());
                    entry_alone(mode, Entry { alert, profile, because })
                }
            };
            let delivery = self.delivery(key, &sink, what, now_ms);
            let detail = format!("it lies back by more than {hours} hours (max_age_hours)");
            self.park(partition, delivery, Parking::Stale, detail);
        }
    }
}

/// Lane and subject of an entry that stands in no digest: a digest of its own, for the parking topic.
pub(super) fn entry_alone(mode: Mode, entry: Entry) -> (String, Subject) {
    let subject = Subject::Digest(Digest { mode, entries: vec![entry], total: 1 });
    (format!("digest/{}", mode.as_str()), subject)
}
