//! `GET /v1/kpis`: what became of alerts and accounts, by cohort and in all.

use axum::Json;
use axum::extract::State;
use bellwether_core::feedback::{Group, KindResults, LostResults, Results};
use bellwether_engine::read_model::CohortResults;
use serde_json::{Value, json};

use crate::AppState;

/// A share of counts, with its 95 % interval by Wilson's score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share {
    pub(crate) of: u64,
    pub(crate) count: u64,
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The share of `count` in `of`; none of nothing.
pub(crate) fn share(count: u64, of: u64) -> Option<Share> {
    /// Of the standard normal distribution, for 95 %.
    const Z: f64 = 1.959_964;
    if of == 0 {
        return None;
    }
    let (n, p) = (of as f64, count as f64 / of as f64);
    let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let (low, high) = ((middle - half).max(0.0), (middle + half).min(1.0));
    Some(Share { of, count, value: p, low, high })
}

/// Of the alerts on which somebody gave a verdict, the share that was wrong.
pub(crate) fn false_positives(of: &KindResults) -> Option<Share> {
    share(of.wrong, of.right + of.wrong)
}

/// Of the accounts that were lost (but for the control group), the share with an urgent alert before.
pub(crate) fn warned(lost: &LostResults) -> Option<Share> {
    share(lost.warned, lost.warned + lost.unwarned)
}

/// Of the accounts of some groups, the share that stayed.
pub(crate) fn stayed(of: &KindResults, groups: &[Group]) -> Option<Share> {
    let counts = groups.iter().map(|group| of.group(*group));
    let [lost, stayed] =
        counts.fold([0, 0], |sum, [lost, stayed]| [sum[0] + lost, sum[1] + stayed]);
    share(stayed, lost + stayed)
}

/// The groups whose alerts were published.
pub(crate) const ALERTED: [Group; 3] = [Group::Acted, Group::NotActed, Group::Early];

/// `GET /v1/kpis`.
pub(crate) async fn answer(State(state): State<AppState>) -> Json<Value> {
    let cohorts = state.read_model.results();
    let mut all = Results::default();
    cohorts.values().for_each(|of| all.merge(&of.results));
    let listed: Vec<Value> = cohorts
        .iter()
        .map(|(name, of)| {
            let mut value = results(&of.results, Some(of));
            value["cohort"] = json!(name);
            value
        })
        .collect();
    Json(json!({ "all": results(&all, None), "cohorts": listed }))
}

fn results(results: &Results, cohort: Option<&CohortResults>) -> Value {
    let kinds: Vec<Value> = results
        .kinds
        .iter()
        .map(|(name, of)| {
            let factor = cohort.and_then(|cohort| cohort.sensitivity.get(name));
            json!({
                "kind": name,
                "urgent": of.urgent,
                "withheld": of.withheld,
                "confirmed": of.right,
                "false_positive": of.wrong,
                "false_positive_rate": share_json(false_positives(of)),
                "sensitivity": factor,
                "actioned": of.intervention.count(),
                "median_hours_to_action": of.intervention.median_hours(),
                "retention": {
                    "acted": share_json(stayed(of, &[Group::Acted])),
                    "not_acted": share_json(stayed(of, &[Group::NotActed])),
                    "alerted": share_json(stayed(of, &ALERTED)),
                    "control": share_json(stayed(of, &[Group::Withheld])),
                },
            })
        })
        .collect();
    let lost = &results.lost;
    json!({
        "kinds": kinds,
        "lost": {
            "warned": lost.warned,
            "unwarned": lost.unwarned,
            "control": lost.withheld,
            "warned_share": share_json(warned(lost)),
            "median_lead_days": lost.lead.median_hours().map(|hours| hours / 24.0),
        },
    })
}

fn share_json(share: Option<Share>) -> Value {
    share.map_or(Value::Null, |share| {
        let Share { of, count, value, low, high } = share;
        json!({"value": value, "low": low, "high": high, "count": count, "of": of})
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_comes_with_wilsons_interval() {
        // Brown, Cai and DasGupta 2001: 10 of 20, and none of 10.
        let half = share(10, 20).expect("there are some");
        assert!((half.value - 0.5).abs() < 1e-12);
        assert!(
            (half.low - 0.299_3).abs() < 1e-3 && (half.high - 0.700_7).abs() < 1e-3,
            "{half:?}"
        );
        let none = share(0, 10).expect("there are some");
        assert!(none.low < 1e-12 && (none.high - 0.277_5).abs() < 1e-3, "{none:?}");
        assert_eq!(share(0, 0), None);
    }
}
