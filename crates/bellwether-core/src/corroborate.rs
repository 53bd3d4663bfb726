//! Corroboration: whether independent evidence agrees.
//!
//! Signals of one correlation group move for one reason and count once, with their strongest member. The groups that
//! are convinced on their own are combined by Stouffer's method. One group alone is never more than medium.

use crate::output::{Evidence, Severity};
use crate::policy::Policy;

/// What the risk evidence of an account says together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Assessment {
    /// Convinced groups with the magnitude of their strongest deviation, strongest first.
    pub groups: Vec<(String, f64)>,
    /// Their combined deviation (Stouffer 1949): sum over the square root of the number.
    pub combined: f64,
    /// High or critical where the policy's gates are met.
    pub severity: Option<Severity>,
}

/// Weighs the risk evidence. `is_key_user` says whether a signal stands for a key user's presence.
#[must_use]
pub fn assess(
    evidence: &[&Evidence],
    policy: &Policy,
    is_key_user: impl Fn(&str) -> bool,
) -> Assessment {
    let rules = &policy.corroboration;
    let mut groups: Vec<(String, f64)> = Vec::new();
    let mut key_user_absent = false;
    for item in evidence.iter().filter(|item| item.risk && item.z.abs() >= rules.z_group) {
        key_user_absent |= is_key_user(&item.signal);
        match groups.iter_mut().find(|(group, _)| *group == item.group) {
            Some((_, strongest)) => *strongest = strongest.max(item.z.abs()),
            None => groups.push((item.group.clone(), item.z.abs())),
        }
    }
    groups.sort_by(|left, right| right.1.total_cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    let count = groups.len();
    let combined = combine(&groups);
    let severity = if count < usize::from(rules.groups_high) || combined < rules.z_combined {
        None
    } else if count >= usize::from(rules.groups_critical) || key_user_absent {
        Some(Severity::Critical)
    } else {
        Some(Severity::High)
    };
    Assessment { groups, combined, severity }
}

fn combine(groups: &[(String, f64)]) -> f64 {
    if groups.is_empty() {
        return 0.0;
    }
    groups.iter().map(|(_, z)| z).sum::<f64>() / (groups.len() as f64).sqrt()
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

    fn severity(items: &[Evidence]) -> Option<Severity> {
        let policy = Compiled::default_policy();
        assess(&items.iter().collect::<Vec<_>>(), &policy, |signal| signal == "admin").severity
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

    proptest! {
        #[test]
        fn one_group_never_makes_a_high_alert(zs in prop::collection::vec(-12.0f64..12.0, 0..40)) {
            let items: Vec<Evidence> = zs.iter().map(|&z| evidence("s", "only", z)).collect();
            prop_assert_eq!(severity(&items), None);
        }
    }
}
