//! Figures of a ranking against outcomes: AUC, average precision, Brier score, calibration error, and what alerts made
//! from it would have been. Definitions follow the evaluation kit's referee, so that figures can be compared.

/// One judged prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// Ranks: the higher, the more likely to leave. Finite.
    pub rank: f64,
    /// Probability of leaving within the horizon.
    pub risk: f64,
    /// Milliseconds until the account left, where it left within the horizon.
    pub left_after_ms: Option<i64>,
    /// The account, as an index from 0.
    pub account: usize,
    /// The prediction time, milliseconds.
    pub at_ms: i64,
}

impl Judged {
    fn left(&self) -> bool {
        self.left_after_ms.is_some()
    }
}

/// Area under the ROC curve: the chance that one that left ranks above one that stayed, ties half. `weights` are per
/// prediction. `None` where only one class has weight.
#[must_use]
pub fn auc(judged: &[Judged], weights: &[f64]) -> Option<f64> {
    let (mut below, mut wins, mut left, mut stayed) = (0.0, 0.0, 0.0, 0.0);
    for tie in ties(judged) {
        let (tied_left, tied_stayed) = classes(judged, weights, &tie);
        wins += tied_left * (below + tied_stayed / 2.0);
        below += tied_stayed;
        left += tied_left;
        stayed += tied_stayed;
    }
    (left > 0.0 && stayed > 0.0).then(|| wins / (left * stayed))
}

/// Average precision: precision at each threshold, weighted by the recall it adds. `None` where nobody left.
#[must_use]
pub fn average_precision(judged: &[Judged], weights: &[f64]) -> Option<f64> {
    let (mut hits, mut alarms, mut sum) = (0.0, 0.0, 0.0);
    for tie in ties(judged).into_iter().rev() {
        let (left, stayed) = classes(judged, weights, &tie);
        hits += left;
        alarms += left + stayed;
        if alarms > 0.0 {
            sum += left * hits / alarms;
        }
    }
    (hits > 0.0).then(|| sum / hits)
}

/// Predictions of equal rank, lowest first.
pub(crate) fn ties(judged: &[Judged]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..judged.len()).collect();
    order.sort_by(|&a, &b| judged[a].rank.total_cmp(&judged[b].rank));
    let mut ties: Vec<Vec<usize>> = Vec::new();
    for index in order {
        match ties.last_mut() {
            Some(tie) if judged[tie[0]].rank.total_cmp(&judged[index].rank).is_eq() => {
                tie.push(index)
            }
            Some(_) | None => ties.push(vec![index]),
        }
    }
    ties
}

pub(crate) fn classes(judged: &[Judged], weights: &[f64], tie: &[usize]) -> (f64, f64) {
    tie.iter().fold((0.0, 0.0), |(left, stayed), &index| {
        let weight = weights[index];
        if judged[index].left() { (left + weight, stayed) } else { (left, stayed + weight) }
    })
}

/// How far probabilities are from what happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accuracy {
    /// Mean squared difference.
    pub brier: f64,
    /// Share of the squared error of always saying the base rate that is saved; negative is worse than that.
    pub skill: f64,
    /// Expected calibration error: mean distance of predicted and seen rates over ten bins of equal count.
    pub calibration_error: f64,
    /// Mean probability.
    pub mean_risk: f64,
    /// Share that left.
    pub base_rate: f64,
}

const BINS: usize = 10;

/// Accuracy of the probabilities; `None` without predictions.
#[must_use]
pub fn accuracy(judged: &[Judged]) -> Option<Accuracy> {
    if judged.is_empty() {
        return None;
    }
    let count = judged.len() as f64;
    let mean = |value: &dyn Fn(&Judged) -> f64| judged.iter().map(value).sum::<f64>() / count;
    let seen = |one: &Judged| f64::from(u8::from(one.left()));
    let brier = mean(&|one| (one.risk - seen(one)).powi(2));
    let base_rate = mean(&seen);
    let reference = base_rate * (1.0 - base_rate);
    Some(Accuracy {
        brier,
        skill: if reference > 0.0 { 1.0 - brier / reference } else { f64::NAN },
        calibration_error: calibration_error(judged),
        mean_risk: mean(&|one| one.risk),
        base_rate,
    })
}

fn calibration_error(judged: &[Judged]) -> f64 {
    let off = |[risk, left, count]: [f64; 3]| (risk - left).abs() * count;
    bins(judged).into_iter().map(off).sum::<f64>() / judged.len() as f64
}

/// Mean risk, share that left, and predictions, in bins of equal count as far as ties allow; `judged` is not empty.
pub(crate) fn bins(judged: &[Judged]) -> Vec<[f64; 3]> {
    let mut risks: Vec<f64> = judged.iter().map(|one| one.risk).collect();
    risks.sort_by(f64::total_cmp);
    let mut edges: Vec<f64> =
        (1..BINS).map(|bin| quantile(&risks, bin as f64 / BINS as f64)).collect();
    edges.dedup_by(|a, b| a.total_cmp(b).is_eq());
    let mut bins = vec![[0.0; 3]; edges.len() + 1];
    for one in judged {
        let bin = &mut bins[edges.partition_point(|edge| *edge <= one.risk)];
        bin[0] += one.risk;
        bin[1] += f64::from(u8::from(one.left()));
        bin[2] += 1.0;
    }
    bins.retain(|bin| bin[2] > 0.0);
    bins.into_iter().map(|[risk, left, count]| [risk / count, left / count, count]).collect()
}

/// Linear interpolation between order statistics; `sorted` is not empty.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (low, high) = (position.floor() as usize, position.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (position - low as f64)
}

/// Alerts made from a ranking at the highest threshold that reaches a recall.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alerting {
    /// Share of the accounts that left with an alert within the horizon before.
    pub recall: f64,
    /// Share of alerts followed by leaving.
    pub precision: f64,
    /// Alerts not followed by leaving, per account and year judged.
    pub false_per_account_year: f64,
    /// Median days from the first alert within the horizon until the account left.
    pub median_lead_days: f64,
}

/// The horizon's grid and the quiet time after an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// Days between prediction times.
    pub step_days: u32,
    /// Days without another alert of the same account.
    pub quiet_days: u32,
}

const DAY_MS: f64 = 86_400_000.0;
const THRESHOLDS: usize = 400;

/// What alerts at `recall` (0..1) would have been; `None` where nobody left.
#[must_use]
pub fn alerting(judged: &[Judged], recall: f64, cadence: Cadence) -> Option<Alerting> {
    alerted(judged, recall, cadence).map(|(alerting, _)| alerting)
}

/// Days from the first alert within the horizon until the account left, of each that was alerted; rising.
pub(crate) fn lead_days(judged: &[Judged], recall: f64, cadence: Cadence) -> Vec<f64> {
    alerted(judged, recall, cadence).map(|(_, leads)| leads).unwrap_or_default()
}

fn alerted(judged: &[Judged], recall: f64, cadence: Cadence) -> Option<(Alerting, Vec<f64>)> {
    let mut ordered: Vec<&Judged> = judged.iter().collect();
    ordered.sort_by_key(|one| (one.account, one.at_ms));
    let mut ranks: Vec<f64> = judged.iter().map(|one| one.rank).collect();
    ranks.sort_by(f64::total_cmp);
    judged.iter().find(|one| one.left())?;
    let mut found = None;
    for step in (0..THRESHOLDS).rev() {
        let threshold = quantile(&ranks, step as f64 / (THRESHOLDS - 1) as f64);
        let alerts = alerts_at(&ordered, threshold, cadence);
        let enough = alerts.0.recall >= recall;
        found = Some(alerts);
        if enough {
            break;
        }
    }
    found
}

fn alerts_at(ordered: &[&Judged], threshold: f64, cadence: Cadence) -> (Alerting, Vec<f64>) {
    let quiet_ms = i64::from(cadence.quiet_days) * DAY_MS as i64;
    let (mut hits, mut misses, mut leavers) = (0u32, 0u32, 0u32);
    let mut leads: Vec<f64> = Vec::new();
    for account in ordered.chunk_by(|a, b| a.account == b.account) {
        let mut quiet_until = i64::MIN;
        let mut lead: Option<i64> = None;
        for one in account.iter().filter(|one| one.rank >= threshold) {
            if one.at_ms < quiet_until {
                continue;
            }
            quiet_until = one.at_ms + quiet_ms;
            lead = lead.max(one.left_after_ms);
            if one.left() { hits += 1 } else { misses += 1 }
        }
        leavers += u32::from(account.iter().any(|one| one.left()));
        leads.extend(lead.map(|ms| ms as f64 / DAY_MS));
    }
    leads.sort_by(f64::total_cmp);
    let years = ordered.len() as f64 * f64::from(cadence.step_days) / 365.25;
    let alerting = Alerting {
        recall: leads.len() as f64 / f64::from(leavers.max(1)),
        precision: f64::from(hits) / f64::from((hits + misses).max(1)),
        false_per_account_year: f64::from(misses) / years,
        median_lead_days: if leads.is_empty() { f64::NAN } else { quantile(&leads, 0.5) },
    };
    (alerting, leads)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(rank: f64, left: bool) -> Judged {
        Judged { rank, risk: rank, left_after_ms: left.then_some(86_400_000), account: 0, at_ms: 0 }
    }

    /// Two left (ranks 0.9 and 0.4), three stayed (0.6, 0.4, 0.1).
    fn five() -> Vec<Judged> {
        let pairs = [(0.9, true), (0.4, true), (0.6, false), (0.4, false), (0.1, false)];
        pairs.into_iter().map(|(rank, left)| judged(rank, left)).collect()
    }

    #[test]
    fn ranking_figures_worked_by_hand() {
        // 0.9 beats all three; 0.4 beats 0.1, ties with 0.4 and loses to 0.6: 4.5 of 6 pairs.
        assert!((auc(&five(), &[1.0; 5]).expect("both") - 0.75).abs() < 1e-12);
        // Precision 1/1 at the first half of recall, 2/4 at the second.
        assert!((average_precision(&five(), &[1.0; 5]).expect("left") - 0.75).abs() < 1e-12);
        // Without the first, 0.4 wins one and a half of three.
        assert!((auc(&five(), &[0.0, 1.0, 1.0, 1.0, 1.0]).expect("both") - 0.5).abs() < 1e-12);
    }

    #[test]
    fn one_class_has_no_ranking() {
        let stayed = [judged(0.1, false), judged(0.2, false)];
        assert_eq!(auc(&stayed, &[1.0; 2]), None);
        assert_eq!(average_precision(&stayed, &[1.0; 2]), None);
        let cadence = Cadence { step_days: 7, quiet_days: 28 };
        assert_eq!(alerting(&stayed, 0.5, cadence), None);
        assert_eq!(accuracy(&[]), None);
    }

    #[test]
    fn always_saying_the_base_rate_is_calibrated_and_has_no_skill() {
        let mut all = vec![Judged { risk: 0.25, ..judged(0.0, false) }; 75];
        all.extend(vec![Judged { risk: 0.25, ..judged(0.0, true) }; 25]);
        let accuracy = accuracy(&all).expect("some");
        assert!(accuracy.calibration_error.abs() < 1e-12);
        assert!(accuracy.skill.abs() < 1e-12);
        assert!((accuracy.brier - 0.1875).abs() < 1e-12);
    }

    #[test]
    fn a_risk_that_is_twice_what_happens_is_off_by_half_of_it() {
        let mut all = vec![Judged { risk: 0.2, ..judged(0.0, false) }; 90];
        all.extend(vec![Judged { risk: 0.2, ..judged(0.0, true) }; 10]);
        assert!((accuracy(&all).expect("some").calibration_error - 0.1).abs() < 1e-12);
    }

    #[test]
    fn alerts_are_quiet_afterwards_and_lead_is_from_the_first() {
        const DAY: i64 = 86_400_000;
        let week = |week: i64, rank: f64, left_after_days: Option<i64>| Judged {
            left_after_ms: left_after_days.map(|days| days * DAY),
            at_ms: week * 7 * DAY,
            ..judged(rank, false)
        };
        // Leaves at day 40: weeks 2 to 5 are within four weeks of it. Ranked high from week 3.
        let mut all: Vec<Judged> = (0..2).map(|w| week(w, 0.1, None)).collect();
        all.push(week(2, 0.1, Some(26)));
        all.extend((3..6).map(|w| week(w, 0.8, Some(40 - 7 * w))));
        // Another stays, and is ranked high twice, five weeks apart.
        let other = [(0, 0.9), (5, 0.9), (6, 0.2)];
        all.extend(other.map(|(w, rank)| Judged { account: 1, ..week(w, rank, None) }));
        let alerts =
            alerting(&all, 1.0, Cadence { step_days: 7, quiet_days: 28 }).expect("one left");
        assert_eq!((alerts.recall, alerts.median_lead_days), (1.0, 19.0));
        assert!((alerts.precision - 1.0 / 3.0).abs() < 1e-12, "{alerts:?}");
        assert!((alerts.false_per_account_year - 2.0 * 365.25 / 63.0).abs() < 1e-9, "{alerts:?}");
    }
}
