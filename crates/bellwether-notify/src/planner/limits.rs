//! What people are asked to bear: the budget of urgent alerts, and the rate of each owner. Both count over all partitions at hand.

use std::collections::BTreeMap;

use bellwether_core::output::Severity;
use bellwether_core::time::{DAY_MS, HOUR_MS};

use super::{Planner, Suppressed};
use crate::desk::Desk;
use crate::event::{Alert, Profile};
use crate::policy::{Mode, Route};

/// The window of the budget.
pub(super) const BUDGET_DAYS: i64 = 7;

impl Planner {
    /// The sinks of immediate routes whose limits the event exceeds, and which limit. What is within all of them is counted. A sink that takes
    /// no digests has no limit: nothing would tell it later. Critical alerts are counted, but never held back.
    pub(super) fn over_limits(
        &mut self,
        partition: i32,
        routes: &BTreeMap<String, Route>,
        alert: &Alert,
        profile: &Profile,
        now_ms: i64,
    ) -> BTreeMap<String, Suppressed> {
        let immediate: BTreeMap<&String, &Route> =
            routes.iter().filter(|(_, route)| route.mode == Mode::Immediate).collect();
        // A fleet alert stands for many; one that people know of already is no further burden.
        let exempt = alert.kind == "fleet" || self.desk(partition).told(&alert.alert_id).is_some();
        if immediate.is_empty() || exempt {
            return BTreeMap::new();
        }
        let limited: BTreeMap<&String, &Route> = if alert.rank() == Severity::Critical {
            BTreeMap::new()
        } else {
            let limited = immediate.iter().filter(|(sink, _)| self.takes_digests(sink));
            limited.map(|(sink, route)| (*sink, *route)).collect()
        };
        if alert.rank().is_urgent() {
            let day = now_ms.div_euclid(DAY_MS);
            if !limited.is_empty() && self.is_over_budget(day) {
                self.suppress(Suppressed::Budget);
                let over = limited.into_keys().map(|sink| (sink.clone(), Suppressed::Budget));
                return over.collect();
            }
            self.desk_mut(partition).count_urgent(day);
        }
        let mut over = BTreeMap::new();
        let Some(owner) = profile.owner.as_deref() else { return over };
        let hour = now_ms.div_euclid(HOUR_MS);
        let named: BTreeMap<&str, &Route> =
            immediate.values().map(|route| (route.name.as_str(), *route)).collect();
        for (route_name, route) in named {
            let Some(rate) = &route.rate else { continue };
            let name = format!("{route_name}/{owner}");
            let since = hour - i64::from(rate.hours) + 1;
            let told: u64 = self.desks.values().map(|desk| desk.rate_since(&name, since)).sum();
            let sinks: Vec<&String> =
                limited.iter().filter(|(_, of)| of.name == route_name).map(|(s, _)| *s).collect();
            if !sinks.is_empty() && told >= u64::from(rate.per_owner) {
                self.suppress(Suppressed::Rate);
                over.extend(sinks.into_iter().map(|sink| (sink.clone(), Suppressed::Rate)));
            } else {
                self.desk_mut(partition).count_rate(&name, hour, since);
            }
        }
        over
    }

    fn is_over_budget(&self, day: i64) -> bool {
        let since = day - BUDGET_DAYS + 1;
        let told: u64 = self.desks.values().map(|desk| desk.urgent_since(since)).sum();
        let accounts: usize = self.desks.values().map(Desk::accounts).sum();
        let budget = &self.policy().budget;
        let share = budget.urgent_per_100_accounts_week * accounts as f64 / 100.0;
        told as f64 + 1.0 > share.max(f64::from(budget.urgent_min_week))
    }

    pub(super) fn takes_digests(&self, sink: &str) -> bool {
        self.policy().sink(sink).is_some_and(|sink| sink.kind.takes_digests())
    }
}
