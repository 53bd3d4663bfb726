//! Which alerts go where.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Alert, Phase, Profile};
use crate::policy::{DeliveryPolicy, Route};

/// For each sink the first route that matches.
#[must_use]
pub fn routes_of<'p>(
    policy: &'p DeliveryPolicy,
    alert: &Alert,
    profile: &Profile,
) -> BTreeMap<String, &'p Route> {
    let mut routes = BTreeMap::new();
    for route in policy.routes.iter().filter(|route| matches(route, alert, profile)) {
        for sink in &route.sinks {
            routes.entry(sink.clone()).or_insert(route);
        }
    }
    routes
}

/// Whether a route matches. One that lists no transitions takes what asks for attention.
fn matches(route: &Route, alert: &Alert, profile: &Profile) -> bool {
    let any = |allowed: &BTreeSet<String>, value: Option<&str>| {
        allowed.is_empty() || value.is_some_and(|value| allowed.contains(value))
    };
    let transition = if route.transition.is_empty() {
        alert.phase() == Phase::Raised
    } else {
        route.transition.contains(&alert.transition)
    };
    transition
        && any(&route.severity, Some(alert.rank().as_str()))
        && any(&route.kind, Some(&alert.kind))
        && any(&route.segment, profile.segment.as_deref())
        && any(&route.owner, profile.owner.as_deref())
        && any(&route.region, profile.region.as_deref())
}
