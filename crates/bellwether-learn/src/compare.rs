//! What a change of policy or model would have done: alerts gained and lost, what they were worth, and how scores moved.
//!
//! Everything here is a function of what two replays of the same history published, so two sides that are the same differ in nothing, and
//! exchanged sides in the same, the other way round.

use bellwether_core::drift;
use bellwether_core::id::AccountId;
use bellwether_core::output::Severity;
use bellwether_core::time::{DAY_MS, Millis};

/// An alert that was raised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Raised {
    /// The account.
    pub account: AccountId,
    /// The kind of alert.
    pub kind: String,
    /// When it opened.
    pub at: Millis,
    /// The highest severity that it reached.
    pub severity: Severity,
    /// When it first was of high severity; none: never.
    pub urgent_at: Option<Millis>,
}

/// What became of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Only the new side raises it.
    Gained,
    /// Only the old side raises it.
    Lost,
    /// Both raise it, with another severity.
    Severity,
    /// Both raise it, at another time.
    Moved,
    /// Both raise it alike.
    Same,
}

/// An alert of one side, or the same one of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair<'a> {
    /// As the old side raises it.
    pub old: Option<&'a Raised>,
    /// As the new side raises it.
    pub new: Option<&'a Raised>,
}

impl Pair<'_> {
    /// What became of it.
    #[must_use]
    pub fn change(&self) -> Change {
        match (self.old, self.new) {
            (None, _) => Change::Gained,
            (_, None) => Change::Lost,
            (Some(old), Some(new)) if old.severity != new.severity => Change::Severity,
            (Some(old), Some(new)) if old.at != new.at => Change::Moved,
            (Some(_), Some(_)) => Change::Same,
        }
    }

    /// The alert as the new side has it, or else the old one.
    #[must_use]
    pub fn either(&self) -> Option<&Raised> {
        self.new.or(self.old)
    }
}

/// Pairs the alerts of two sides: one of each, of the same account and kind, that opened at most `tolerance_ms` apart. The earlier ones
/// are paired first. In the order of account, kind and time.
#[must_use]
pub fn pair<'a>(old: &'a [Raised], new: &'a [Raised], tolerance_ms: i64) -> Vec<Pair<'a>> {
    let sorted = |side: &'a [Raised]| {
        let mut side: Vec<&Raised> = side.iter().collect();
        side.sort();
        side
    };
    let (old, new) = (sorted(old), sorted(new));
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    let mut pairs = Vec::new();
    loop {
        let (old, new) = match (left.peek(), right.peek()) {
            (None, None) => break,
            (Some(_), None) => (left.next(), None),
            (None, Some(_)) => (None, right.next()),
            (Some(before), Some(after)) => {
                let of = |side: &Raised| (side.account.clone(), side.kind.clone());
                let alike = of(before) == of(after);
                if alike && (before.at.0 - after.at.0).abs() <= tolerance_ms {
                    (left.next(), right.next())
                } else if (of(before), before.at) < (of(after), after.at) {
                    (left.next(), None)
                } else {
                    (None, right.next())
                }
            }
        };
        pairs.push(Pair { old: old.copied(), new: new.copied() });
    }
    pairs
}

/// What the urgent alerts of a side were worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Worth {
    /// Alerts that reached high severity.
    pub urgent: usize,
    /// Of those, ones whose account left within the horizon after.
    pub followed: usize,
    /// Of the others, ones whose horizon was not observed to its end: neither right nor false.
    pub unobserved: usize,
    /// Accounts that left.
    pub left: usize,
    /// Of those, ones with an urgent alert within the horizon before.
    pub warned: usize,
    /// The median of days from the first such alert to the loss.
    pub lead_days: Option<f64>,
    /// Years of accounts that were looked at.
    pub account_years: f64,
}

impl Worth {
    /// Judges the urgent alerts by who left when. `until`: nothing later is known.
    #[must_use]
    pub fn of(
        raised: &[Raised],
        left: &[(AccountId, Millis)],
        (horizon_ms, until): (i64, Millis),
        account_years: f64,
    ) -> Worth {
        let urgent: Vec<(&AccountId, Millis)> =
            raised.iter().filter_map(|one| Some((&one.account, one.urgent_at?))).collect();
        let warns = |(account, at): (&AccountId, Millis), (gone, when): &(AccountId, Millis)| {
            account == gone && at < *when && when.0 - at.0 <= horizon_ms
        };
        let followed = urgent.iter().filter(|alert| left.iter().any(|end| warns(**alert, end)));
        let followed = followed.count();
        let open = urgent.iter().filter(|alert| {
            !left.iter().any(|end| warns(**alert, end)) && alert.1.plus(horizon_ms) > until
        });
        let unobserved = open.count();
        let mut leads: Vec<f64> = left
            .iter()
            .filter_map(|end| {
                let first =
                    urgent.iter().filter(|alert| warns(**alert, end)).map(|alert| alert.1).min()?;
                Some((end.1.0 - first.0) as f64 / DAY_MS as f64)
            })
            .collect();
        Worth {
            urgent: urgent.len(),
            followed,
            unobserved,
            left: left.len(),
            warned: leads.len(),
            lead_days: bellwether_core::stats::median(&mut leads),
            account_years,
        }
    }

    /// Urgent alerts that were wrong.
    #[must_use]
    pub fn wrong(&self) -> usize {
        self.urgent - self.followed - self.unobserved
    }

    /// The share of urgent alerts that were right, of those that can be told.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        share(self.followed, self.followed + self.wrong())
    }

    /// The share of losses with an urgent alert before.
    #[must_use]
    pub fn recall(&self) -> Option<f64> {
        share(self.warned, self.left)
    }

    /// Wrong urgent alerts per account and year.
    #[must_use]
    pub fn wrong_per_year(&self) -> Option<f64> {
        (self.account_years > 0.0).then(|| self.wrong() as f64 / self.account_years)
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Bins of ten points; the last one holds 100, too.
pub const SCORE_BINS: usize = 10;

/// How many scores (0 to 100) lie in each bin.
pub fn histogram(scores: impl IntoIterator<Item = f64>) -> [usize; SCORE_BINS] {
    let mut bins = [0; SCORE_BINS];
    for score in scores {
        let bin = (score / 10.0).clamp(0.0, (SCORE_BINS - 1) as f64);
        bins[bin as usize] += 1;
    }
    bins
}

/// The [population stability index](drift::stability_index) of two histograms.
#[must_use]
pub fn stability_index(old: &[usize], new: &[usize]) -> f64 {
    let counts = |bins: &[usize]| -> Vec<f64> { bins.iter().map(|&count| count as f64).collect() };
    drift::stability_index(&counts(old), &counts(new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raised(account: u8, kind: u8, day: i64, severity: Severity) -> Raised {
        let at = Millis(day * DAY_MS);
        Raised {
            account: AccountId::new(&format!("a{account}")).expect("good"),
            kind: format!("k{kind}"),
            at,
            severity,
            urgent_at: (severity >= Severity::High).then_some(at),
        }
    }

    fn side() -> impl Strategy<Value = Vec<Raised>> {
        let severity = prop_oneof![Just(Severity::Low), Just(Severity::High)];
        let one = (0u8..3, 0u8..2, 0i64..200, severity);
        let one =
            one.prop_map(|(account, kind, day, severity)| raised(account, kind, day, severity));
        prop::collection::vec(one, 0..30)
    }

    fn counted(pairs: &[Pair<'_>], change: Change) -> usize {
        pairs.iter().filter(|pair| pair.change() == change).count()
    }

    proptest! {
        #[test]
        fn exchanged_sides_differ_the_other_way_round(old in side(), new in side()) {
            let there = pair(&old, &new, 14 * DAY_MS);
            let back = pair(&new, &old, 14 * DAY_MS);
            prop_assert_eq!(counted(&there, Change::Gained), counted(&back, Change::Lost));
            prop_assert_eq!(counted(&there, Change::Lost), counted(&back, Change::Gained));
            for change in [Change::Severity, Change::Moved, Change::Same] {
                prop_assert_eq!(counted(&there, change), counted(&back, change));
            }
            // Every alert stands in exactly one pair.
            prop_assert_eq!(there.iter().filter(|pair| pair.old.is_some()).count(), old.len());
            prop_assert_eq!(there.iter().filter(|pair| pair.new.is_some()).count(), new.len());
            for both in there.iter().filter_map(|pair| pair.old.zip(pair.new)) {
                prop_assert_eq!((&both.0.account, &both.0.kind), (&both.1.account, &both.1.kind));
                prop_assert!((both.0.at.0 - both.1.at.0).abs() <= 14 * DAY_MS);
            }
        }

        #[test]
        fn the_same_side_differs_in_nothing(side in side()) {
            let pairs = pair(&side, &side, 14 * DAY_MS);
            prop_assert_eq!(counted(&pairs, Change::Same), side.len());
            prop_assert_eq!(pairs.len(), side.len());
        }

        #[test]
        fn the_index_is_zero_for_the_same_and_positive_else(counts in prop::collection::vec(0usize..50, 10), other in prop::collection::vec(0usize..50, 10)) {
            prop_assert!(stability_index(&counts, &counts).abs() < 1e-12);
            prop_assert!(stability_index(&counts, &other) >= 0.0);
        }
    }

    #[test]
    fn worth_is_counted_by_who_left() {
        let high = Severity::High;
        let alerts = [
            raised(1, 0, 10, high),
            raised(1, 1, 20, high),
            raised(2, 0, 30, high),
            raised(3, 0, 95, high),
            raised(4, 0, 10, Severity::Low),
        ];
        let left = |account: u8, day: i64| {
            (AccountId::new(&format!("a{account}")).expect("good"), Millis(day * DAY_MS))
        };
        let ends = [left(1, 30), left(4, 30), left(2, 90)];
        let worth = Worth::of(&alerts, &ends, (28 * DAY_MS, Millis(100 * DAY_MS)), 2.0);
        // Both of the first account came true; that of the second came too early; that of the third is not over.
        assert_eq!((worth.urgent, worth.followed, worth.unobserved, worth.wrong()), (4, 2, 1, 1));
        assert_eq!((worth.left, worth.warned, worth.lead_days), (3, 1, Some(20.0)));
        assert_eq!(worth.precision(), Some(2.0 / 3.0));
        assert_eq!(worth.recall(), Some(1.0 / 3.0));
        assert_eq!(worth.wrong_per_year(), Some(0.5));
    }

    #[test]
    fn scores_fall_into_bins_of_ten() {
        let bins = histogram([0.0, 9.99, 10.0, 99.9, 100.0]);
        assert_eq!((bins[0], bins[1], bins[9]), (2, 1, 2));
    }
}
