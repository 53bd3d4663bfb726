//! What people are asked to bear: the budget of urgent alerts, and the rate of each owner. Both count over all partitions at hand.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::time::{DAY_MS, HOUR_MS};

use super::{Planner, Suppressed};
use crate::desk::Desk;
use crate::event::{Alert, Profile};
use crate::policy::{Mode, Route};

/// The window of the budget.
pub(super) const BUDGET_DAYS: i64 = 7;

impl Planner {
    /// The routes whose limits the event exceeds, and which. What is within them is counted.
    pub(super) fn over_limits(
        &mut self,
        partition: i32,
        routes: &BTreeMap<String, Route>,
        alert: &Alert,
        profile: &Profile,
        now_ms: i64,
    ) -> BTreeMap<String, Suppressed> {
        let mut over = BTreeMap::new();
        let immediate: Vec<(&String, &Route)> =
            routes.iter().filter(|(_, route)| route.mode == Mode::Immediate).collect();
        let digest = immediate.iter().any(|(sink, _)| self.takes_digests(sink));
        // A fleet alert stands for many; one that people know of already is no further burden.
        let exempt = alert.kind == "fleet" || self.desk(partition).told(&alert.alert_id).is_some();
        if immediate.is_empty() || exempt {
            return over;
        }
        let day = now_ms.div_euclid(DAY_MS);
        if alert.rank().is_urgent() {
            if digest && self.is_over_budget(day) {
                self.suppress(Suppressed::Budget);
                return immediate
                    .iter()
                    .map(|(_, route)| (route.name.clone(), Suppressed::Budget))
                    .collect();
            }
            self.desk_mut(partition).count_urgent(day);
        }
        let Some(owner) = profile.owner.as_deref() else { return over };
        let hour = now_ms.div_euclid(HOUR_MS);
        let mut seen = BTreeSet::new();
        for (_, route) in immediate.into_iter().filter(|(_, route)| seen.insert(route.name.clone()))
        {
            let Some(rate) = &route.rate else { continue };
            let name = format!("{}/{owner}", route.name);
            let since = hour - i64::from(rate.hours) + 1;
            let told: u64 = self.desks.values().map(|desk| desk.rate_since(&name, since)).sum();
            if digest && told >= u64::from(rate.per_owner) {
                self.suppress(Suppressed::Rate);
                over.insert(route.name.clone(), Suppressed::Rate);
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
