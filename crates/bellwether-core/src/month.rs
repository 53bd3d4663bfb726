//! The position of a day in its month: reports are due at its end, budgets begin with it.
//!
//! The last and the first [`EDGE_DAYS`] days of the months of a reference, each relative to what is expected of it otherwise and to the days
//! around it: the median over the months, so that one odd day is no habit. As months are few, the end, and the beginning, count only where
//! they differ from the rest beyond chance (a chi-squared test), and then shrunk toward it (James and Stein 1961, positive part), as
//! weekdays are.

use crate::time::Day;

/// Days at the end of a month, and at its beginning, that may be other than the rest.
const EDGE_DAYS: usize = 3;
/// Positions at the edges of a month.
const POSITIONS: usize = 2 * EDGE_DAYS;
/// Days of reference from which months are told: at least two ends and two beginnings of months.
const REFERENCE_DAYS_MIN: usize = 84;
/// Days before and after, within which the days that are at no edge say what a day would be otherwise, and what they need to count.
/// So a level that has changed is not taken for a habit, and what was alarmed once can become one.
const AROUND_DAYS: usize = 12;
const AROUND_MIN: f64 = 4.0;
/// Months that a position needs.
const MONTHS_MIN: usize = 2;
/// The 99.5th percentile of chi-squared with [`EDGE_DAYS`] degrees of freedom, over these.
const BEYOND_CHANCE: f64 = 12.84 / EDGE_DAYS as f64;
/// The variance of the median of three normal deviates, relative to that of their mean.
const MEDIAN_VARIANCE: f64 = 1.35;
/// The lowest and the highest factor that is believed.
const RANGE: (f64, f64) = (0.1, 10.0);

/// By what a day differs from what is expected of it otherwise, by its position in its month.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Months {
    edges: [f64; POSITIONS],
    /// Of all other days.
    rest: f64,
}

impl Months {
    /// All days as they are expected otherwise.
    pub(crate) const EVEN: Months = Months { edges: [1.0; POSITIONS], rest: 1.0 };

    /// The factor of a day.
    pub(crate) fn factor(&self, day: Day) -> f64 {
        if *self == Months::EVEN {
            return 1.0;
        }
        position(day).map_or(self.rest, |position| self.edges[position])
    }

    /// What was measured, by how far the end and the beginning of months differ from the rest: in units of chance, 1 where they do not.
    pub(crate) fn of(measured: Option<&Measured>, strengths: [f64; 2]) -> Months {
        let Some(Measured { own, edge, rest, .. }) = measured else { return Months::EVEN };
        let mut edges = [1.0; POSITIONS];
        for (half, strength) in strengths.into_iter().enumerate() {
            if strength > BEYOND_CHANCE {
                let kept = 1.0 - (EDGE_DAYS - 2) as f64 / EDGE_DAYS as f64 / strength;
                for place in half * EDGE_DAYS..(half + 1) * EDGE_DAYS {
                    edges[place] = (1.0 + kept * (own[place] - 1.0)).clamp(RANGE.0, RANGE.1);
                }
            }
        }
        if edges == [1.0; POSITIONS] || *rest <= 0.0 {
            return Months::EVEN;
        }
        // What the edges have more, the rest has less: the level is that of all days.
        let total = rest + edge.iter().sum::<f64>();
        let at_edges: f64 =
            edges.iter().zip(edge).map(|(factor, expected)| factor * expected).sum();
        Months { edges, rest: ((total - at_edges) / rest).max(RANGE.0) }
    }
}

/// What a reference tells of months.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measured {
    /// The median of each position, relative to the days around it.
    own: [f64; POSITIONS],
    /// Expected of each position, and of all other days.
    edge: [f64; POSITIONS],
    rest: f64,
    /// By how far the end of months, and the beginning, differ from the rest, in units of chance.
    pub(crate) strengths: [f64; 2],
}

impl Measured {
    /// From the days of a reference, one after the other: (day, count, expected otherwise). `variance`: that of a day's factor. None where
    /// there is too little.
    pub(crate) fn of(days: &[(Day, f64, f64)], variance: f64) -> Option<Measured> {
        let mut ratios: [Vec<f64>; POSITIONS] = Default::default();
        let (mut edge, mut rest) = ([0.0; POSITIONS], 0.0);
        let positions: Vec<_> = days.iter().map(|(day, ..)| position(*day)).collect();
        for (index, (_, count, expected)) in days.iter().enumerate() {
            let Some(position) = positions[index] else {
                rest += expected;
                continue;
            };
            edge[position] += expected;
            let around = index.saturating_sub(AROUND_DAYS)..days.len().min(index + AROUND_DAYS + 1);
            let around = around.filter(|&other| positions[other].is_none());
            let (usual, usual_expected) = around.fold((0.0, 0.0), |sums: (f64, f64), other| {
                (sums.0 + days[other].1, sums.1 + days[other].2)
            });
            if usual >= AROUND_MIN {
                ratios[position].push(count / expected.max(1e-9) * usual_expected / usual);
            }
        }
        if days.len() < REFERENCE_DAYS_MIN || ratios.iter().any(|ratios| ratios.len() < MONTHS_MIN)
        {
            return None;
        }
        let (mut own, mut strengths) = ([1.0; POSITIONS], [0.0; 2]);
        for (place, ratios) in ratios.iter_mut().enumerate() {
            own[place] = middle(ratios);
            let noise = variance / ratios.len() as f64 + 1.0 / edge[place].max(1e-9);
            strengths[place / EDGE_DAYS] +=
                (own[place] - 1.0).powi(2) / (MEDIAN_VARIANCE * noise) / EDGE_DAYS as f64;
        }
        Some(Measured { own, edge, rest, strengths })
    }
}

/// The position of a day, where it is at the edge of its month: the last days are 0, 1, 2, backwards, the first ones 3, 4, 5.
fn position(day: Day) -> Option<usize> {
    let (of_month, days) = day.of_month();
    let (before, after) = (usize::from(of_month) - 1, usize::from(days - of_month));
    match (before, after) {
        (_, 0..EDGE_DAYS) => Some(after),
        (0..EDGE_DAYS, _) => Some(EDGE_DAYS + before),
        _ => None,
    }
}

/// The median; of the two in the middle, the one that is closer to 1.
fn middle(ratios: &mut [f64]) -> f64 {
    ratios.sort_by(f64::total_cmp);
    let (low, high) = (ratios[(ratios.len() - 1) / 2], ratios[ratios.len() / 2]);
    if (low - 1.0).abs() < (high - 1.0).abs() { low } else { high }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-01-01.
    const FROM: Day = Day(19_723);

    fn is_last(day: Day) -> bool {
        let (of_month, days) = day.of_month();
        of_month == days
    }

    fn months(days: &[(Day, f64, f64)]) -> Months {
        let measured = Measured::of(days, 0.05);
        Months::of(measured.as_ref(), measured.map_or([0.0; 2], |measured| measured.strengths))
    }

    fn days(count: impl Fn(Day, i32) -> f64) -> Vec<(Day, f64, f64)> {
        let day = |ahead: i32| (FROM.plus(ahead), count(FROM.plus(ahead), ahead), 40.0);
        (0..100).map(day).collect()
    }

    #[test]
    fn positions_are_told_by_the_calendar() {
        // 2024-02-27, of a leap year, and on.
        let from = FROM.plus(57);
        let found: Vec<_> = (0..8).map(|day| position(from.plus(day))).collect();
        assert_eq!(found, [Some(2), Some(1), Some(0), Some(3), Some(4), Some(5), None, None]);
        assert_eq!(position(from.plus(-1)), None);
    }

    #[test]
    fn a_peak_is_learned_and_the_level_stays() {
        let peak = days(|day, _| if is_last(day) { 120.0 } else { 40.0 });
        let months = months(&peak);
        // 2024-04-30.
        assert!((2.6..=3.0).contains(&months.factor(FROM.plus(120))), "{months:?}");
        assert!((months.factor(FROM.plus(121)) - 1.0).abs() < 1e-9, "{months:?}");
        let total: f64 = peak.iter().map(|(day, ..)| months.factor(*day)).sum();
        assert!((total - 100.0).abs() < 1e-6, "{total}");
    }

    #[test]
    fn chance_and_one_odd_day_are_no_habit() {
        let chance = days(|_, ahead| 40.0 + f64::from(ahead * 7 % 13 - 6));
        assert_eq!(months(&chance), Months::EVEN);
        let odd = days(|_, ahead| if ahead == 30 { 4_000.0 } else { 40.0 });
        assert_eq!(months(&odd), Months::EVEN);
        let fallen = days(|_, ahead| if ahead < 40 { 40.0 } else { 10.0 });
        assert_eq!(months(&fallen), Months::EVEN);
        let few = days(|day, _| if is_last(day) { 120.0 } else { 40.0 });
        assert_eq!(months(&few[..80]), Months::EVEN, "too short");
        assert_eq!(months(&[]), Months::EVEN);
    }
}
