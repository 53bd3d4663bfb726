//! Corroboration: whether independent evidence agrees.
//!
//! Signals of one correlation group move for one reason and count once, with their strongest member. So do groups whose
//! evidence rests on the same events of this account. The groups that are convinced on their own are combined by Stouffer's
//! method. One group alone is never more than medium. A run of single interactions warns, and convinces nobody.

use crate::output::{Evidence, Severity};
use crate::policy::Policy;

/// What the risk evidence of an account says together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Assessment {
    /// Convinced independent groups with the magnitude of their strongest deviation, strongest first.
    pub groups: Vec<(String, f64)>,
    /// Their combined deviation (Stouffer 1949): sum over the square root of the number.
    pub combined: f64,
    /// High or critical where the policy's gates are met.
    pub severity: Option<Severity>,
    /// Whether as many independent groups as a high alert needs are still at least in support.
    pub supported: bool,
}

/// What is to be known of signals, by name.
pub trait Witnesses {
    /// Whether a signal stands for a key user's presence.
    fn is_key_user(&self, signal: &str) -> bool;

    /// The share of events that two signals have in common, 0..=1.
    fn shared(&self, left: &str, right: &str) -> f64;
}

/// A correlation group with its evidence.
struct Group<'e> {
    name: &'e str,
    z: f64,
    items: Vec<&'e Evidence>,
    /// It holds a key user's absence that is nobody else's evidence.
    key_user: bool,
}

/// Weighs the risk evidence.
#[must_use]
pub fn assess(evidence: &[&Evidence], policy: &Policy, witnesses: &impl Witnesses) -> Assessment {
    let rules = &policy.corroboration;
    let needed = usize::from(rules.groups_high);
    let groups = independent(evidence, rules.z_group, rules.shared_events, witnesses);
    let supporting =
        independent(evidence, policy.deviation.z_support, rules.shared_events, witnesses);
    let count = groups.len();
    let combined = combine(&groups);
    let severity = if count < needed || combined < rules.z_combined {
        None
    } else if count >= usize::from(rules.groups_critical) || groups.iter().any(|g| g.key_user) {
        Some(Severity::Critical)
    } else {
        Some(Severity::High)
    };
    Assessment {
        groups: groups.into_iter().map(|group| (group.name.to_owned(), group.z)).collect(),
        combined,
        severity,
        supported: supporting.len() >= needed,
    }
}

/// The groups with evidence of at least this strength, strongest first; one that rests on the events of a stronger one is part
/// of it.
fn independent<'e>(
    evidence: &[&'e Evidence],
    z_min: f64,
    shared_events: f64,
    witnesses: &impl Witnesses,
) -> Vec<Group<'e>> {
    let mut groups: Vec<Group<'e>> = Vec::new();
    let counts = |item: &&&'e Evidence| item.risk && !item.is_run() && item.z.abs() >= z_min;
    for item in evidence.iter().filter(counts) {
        let key_user = witnesses.is_key_user(&item.signal);
        match groups.iter_mut().find(|group| group.name == item.group) {
            Some(group) => {
                group.z = group.z.max(item.z.abs());
                group.items.push(item);
                group.key_user |= key_user;
            }
            None => {
                let (name, z) = (item.group.as_str(), item.z.abs());
                groups.push(Group { name, z, items: vec![item], key_user });
            }
        }
    }
    groups
        .sort_by(|left, right| right.z.total_cmp(&left.z).then_with(|| left.name.cmp(right.name)));
    let mut chosen: Vec<Group<'e>> = Vec::new();
    for group in groups {
        let same_events = |other: &&mut Group<'e>| {
            let pairs = other
                .items
                .iter()
                .flat_map(|left| group.items.iter().map(move |right| (left, right)));
            pairs
                .into_iter()
                .all(|(left, right)| witnesses.shared(&left.signal, &right.signal) >= shared_events)
        };
        match chosen.iter_mut().find(same_events) {
            Some(other) => other.key_user = false,
            None => chosen.push(group),
        }
    }
    chosen
}

fn combine(groups: &[Group<'_>]) -> f64 {
    if groups.is_empty() {
        return 0.0;
    }
    groups.iter().map(|group| group.z).sum::<f64>() / (groups.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Category;
    use crate::policy::Compiled;
    use crate::time::Day;
    use proptest::prelude::*;

    fn evidence(signal: &str, group: &str, z: f64) -> Evidence {
        Evidence {
            signal: signal.to_owned(),
            category: Category::Engagement,
            group: group.to_owned(),
            observed: 1.0,
            baseline: 2.0,
            unit: String::new(),
            change_pct: Some(-50.0),
            z,
            risk: true,
            onset: Day(0),
            window_days: 7,
            text: String::new(),
        }
    }

    /// Signals whose names begin alike rest on the same events.
    struct ByName;

    impl Witnesses for ByName {
        fn is_key_user(&self, signal: &str) -> bool {
            signal.ends_with("admin")
        }

        fn shared(&self, left: &str, right: &str) -> f64 {
            let alike = left.split('-').next() == right.split('-').next();
            if alike { 0.8 } else { 0.1 }
        }
    }

    fn severity(items: &[Evidence]) -> Option<Severity> {
        let policy = Compiled::default_policy();
        assess(&items.iter().collect::<Vec<_>>(), &policy, &ByName).severity
    }

    #[test]
    fn gates_are_met_by_independent_groups_only() {
        let (a, b, c) =
            (evidence("a", "g1", -4.0), evidence("b", "g2", -4.0), evidence("c", "g3", -4.0));
        assert_eq!(severity(std::slice::from_ref(&a)), None);
        assert_eq!(
            severity(&[a.clone(), evidence("b", "g1", -9.0)]),
            None,
            "one group counts once"
        );
        assert_eq!(severity(&[a.clone(), b.clone()]), Some(Severity::High));
        assert_eq!(severity(&[a.clone(), b.clone(), c]), Some(Severity::Critical));
        assert_eq!(severity(&[a.clone(), evidence("admin", "g2", -4.0)]), Some(Severity::Critical));
        assert_eq!(
            severity(&[a, evidence("b", "g2", -1.0)]),
            None,
            "a group must be convinced itself"
        );
    }

    #[test]
    fn groups_that_rest_on_the_same_events_count_once() {
        let (all, few) = (evidence("logins", "g1", -4.0), evidence("logins-features", "g2", -5.0));
        assert_eq!(severity(&[all.clone(), few.clone()]), None);
        let own = evidence("projects", "g2", -4.0);
        assert_eq!(severity(&[all.clone(), few, own]), Some(Severity::High), "one is independent");
        let admin = evidence("logins-admin", "g3", -6.0);
        assert_eq!(severity(&[all.clone(), admin.clone()]), None, "the only user is the admin");
        let third = evidence("tickets", "g4", 4.0);
        assert_eq!(severity(&[all, admin, third]), Some(Severity::High));
    }

    #[test]
    fn a_run_of_interactions_convinces_nobody() {
        let run = Evidence { window_days: 0, ..evidence("mood", "g2", -9.0) };
        assert_eq!(severity(&[evidence("a", "g1", -9.0), run]), None);
    }

    proptest! {
        #[test]
        fn one_group_never_makes_a_high_alert(zs in prop::collection::vec(-12.0f64..12.0, 0..40)) {
            let items: Vec<Evidence> = zs.iter().map(|&z| evidence("s", "only", z)).collect();
            prop_assert_eq!(severity(&items), None);
        }
    }
}
