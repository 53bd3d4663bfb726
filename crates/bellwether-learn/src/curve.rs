//! A model's hold-out as curves, for figures: what a ranking finds against what it costs, and what was predicted against what came.

use crate::measure::{Cadence, Judged, bins, classes, lead_days, ties};

/// Points of a curve at most, about.
const POINTS: f64 = 60.0;

/// Curves of a hold-out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Curves {
    /// ROC: share of those that stayed that is ranked at least as high, and of those that left; both rise from 0 to 1.
    pub roc: Vec<[f64; 2]>,
    /// Recall and precision at falling thresholds.
    pub precision_recall: Vec<[f64; 2]>,
    /// Mean risk, share that left, and predictions, in bins of about equal count.
    pub calibration: Vec<[f64; 3]>,
    /// Days from the first alert to the loss, of the lost accounts that were alerted at the recall of the alerts; rising.
    pub lead_days: Vec<f64>,
}

impl Curves {
    /// Of judged predictions, alerts being made at `recall`. Empty where only one class is there.
    #[must_use]
    pub fn of(judged: &[Judged], recall: f64, cadence: Cadence) -> Curves {
        let weights = vec![1.0; judged.len()];
        let (mut left, mut stayed) = (0.0, 0.0);
        let mut steps = Vec::new();
        for tie in ties(judged).iter().rev() {
            let (tied_left, tied_stayed) = classes(judged, &weights, tie);
            left += tied_left;
            stayed += tied_stayed;
            steps.push((left, stayed));
        }
        if left <= 0.0 || stayed <= 0.0 {
            return Curves::default();
        }
        let roc = steps.iter().map(|(hits, alarms)| [alarms / stayed, hits / left]);
        let found = steps.iter().map(|(hits, alarms)| [hits / left, hits / (hits + alarms)]);
        Curves {
            roc: thinned(std::iter::once([0.0, 0.0]).chain(roc)),
            precision_recall: thinned(found),
            calibration: bins(judged),
            lead_days: lead_days(judged, recall, cadence),
        }
    }
}

/// The first and the last point, and of the others so many that no two lie much closer than a share of the whole.
fn thinned(points: impl Iterator<Item = [f64; 2]>) -> Vec<[f64; 2]> {
    let mut kept: Vec<[f64; 2]> = Vec::new();
    let mut skipped = None;
    for point in points {
        let near = kept
            .last()
            .is_some_and(|[x, y]| (point[0] - x).abs() + (point[1] - y).abs() < 2.0 / POINTS);
        skipped = near.then_some(point);
        if !near {
            kept.push(point);
        }
    }
    kept.extend(skipped);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const CADENCE: Cadence = Cadence { step_days: 7, quiet_days: 28 };

    fn judged(rank: f64, left: bool) -> Judged {
        Judged { rank, risk: rank, left_after_ms: left.then_some(86_400_000), account: 0, at_ms: 0 }
    }

    #[test]
    fn curves_worked_by_hand() {
        let ranks = [(0.9, true), (0.6, false), (0.4, true), (0.4, false), (0.1, false)];
        let all: Vec<Judged> = ranks.into_iter().map(|(rank, left)| judged(rank, left)).collect();
        let curves = Curves::of(&all, 0.5, CADENCE);
        let third = 1.0 / 3.0;
        assert_eq!(
            curves.roc,
            [[0.0, 0.0], [0.0, 0.5], [third, 0.5], [2.0 / 3.0, 1.0], [1.0, 1.0]]
        );
        let expected = [[0.5, 1.0], [0.5, 0.5], [1.0, 0.5], [1.0, 0.4]];
        assert_eq!(curves.precision_recall, expected);
        assert_eq!(curves.calibration.iter().map(|bin| bin[2]).sum::<f64>(), 5.0);
        assert_eq!(curves.lead_days, [1.0]);
    }

    #[test]
    fn many_points_become_few_and_keep_their_ends() {
        let all: Vec<Judged> =
            (0..5_000).map(|n| judged(f64::from(n * 7 % 5_000), n % 9 == 0)).collect();
        let roc = Curves::of(&all, 0.5, CADENCE).roc;
        assert!(roc.len() < 80, "{}", roc.len());
        assert_eq!((roc.first(), roc.last()), (Some(&[0.0, 0.0]), Some(&[1.0, 1.0])));
        assert!(roc.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] <= pair[1][1]));
    }

    #[test]
    fn one_class_has_no_curves() {
        assert_eq!(Curves::of(&[judged(0.5, false)], 0.5, CADENCE), Curves::default());
    }
}
