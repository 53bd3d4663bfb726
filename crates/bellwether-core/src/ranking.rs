//! Whether a learned scorecard still ranks those that leave below those that stay, as it did on its hold-out.
//!
//! On days one horizon apart, the same for all accounts, each account keeps the score that it has ([`Predicted`]). A horizon later it is
//! known who left. A survey ([`crate::drift`]) holds the one against the other: the area under the ROC curve of what was said in time,
//! beside that of the hold-out, both with their standard errors.
//!
//! Scores of another scorecard say nothing of the one in force, and of one without a hold-out there is nothing to fall short of: neither
//! is kept. As in a fit, an account of which no loss was told has stayed, and one that had left before a horizon counts in it for nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::account::{Account, Row};
use crate::event::OutcomeKind;
use crate::points::Points;
use crate::step::Core;
use crate::time::Day;

/// Scores that an account keeps: of the horizon that runs, and of those whose outcomes count.
const KEPT: usize = TURNS as usize + 1;
/// Horizons whose outcomes count together.
const TURNS: i32 = 3;
/// Of fewer accounts that left, or of fewer that stayed, nothing is said.
pub const RANKED_MIN: [u64; 2] = [5, 20];

/// What a scorecard said of an account in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicted {
    /// The scorecard.
    pub model: String,
    /// The score at the end of the first day of a horizon, by the horizon's number since 1970; rising, at most four.
    pub scores: Vec<(i32, Points)>,
}

/// An area under a ROC curve (0 to 1, 0.5 is chance), and its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Auc {
    /// The chance that one that left had a lower score than one that stayed; ties count half.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

/// What a scorecard was worth on outcomes that it was not learned from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeldOut {
    /// Over all accounts.
    pub all: Option<Auc>,
    /// By cohort, where there were outcomes of both kinds.
    pub cohorts: BTreeMap<String, Auc>,
}

impl HeldOut {
    /// That of a cohort, or of all where it has none of its own.
    #[must_use]
    pub fn of(&self, cohort: &str) -> Option<Auc> {
        self.cohorts.get(cohort).copied().or(self.all)
    }
}

/// What became of an account with a score.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Left,
    Stayed,
    /// It was not followed so far.
    Open,
}

/// What became of accounts with a score, by [`Fate`]. By whole points.
type Counts = BTreeMap<u8, [u64; 3]>;

/// Accounts by what was said of them and what became of them, by horizon.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Outcomes(BTreeMap<i32, Counts>);

/// How a scorecard ranks the accounts of a cohort.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranking<'a> {
    /// The cohort.
    pub cohort: &'a str,
    /// Accounts that left within a horizon of what was said of them.
    pub left: u64,
    /// Those that stayed; one counts once for each of up to three horizons.
    pub stayed: u64,
    /// What the ranking came to; none of fewer than [`RANKED_MIN`].
    pub live: Option<Auc>,
    /// What it came to on the hold-out.
    pub held_out: Option<Auc>,
}

/// Keeps the score of an account whose `day` was just judged, where a horizon begins.
pub(crate) fn predict(core: &Core, account: &mut Account, is_unranked: bool, day: Day) {
    let horizon_days = core.scorer.held_out().and_then(|_| core.scorer.horizon_days());
    let Some(horizon_days) = horizon_days.filter(|days| *days > 0) else {
        account.changed.note_if(Row::Predicted, account.predicted.take().is_some());
        return;
    };
    let horizon_days = horizon_days.cast_signed();
    if is_unranked || day.0.rem_euclid(horizon_days) != 0 {
        return;
    }
    let model = core.scorer.version();
    let known = account.predicted.take().filter(|known| known.model == model);
    let mut scores = known.map(|known| known.scores).unwrap_or_default();
    let turn = day.0.div_euclid(horizon_days);
    scores.retain(|(known, _)| *known < turn);
    scores.push((turn, account.hot.score));
    scores.drain(..scores.len().saturating_sub(KEPT));
    account.predicted = Some(Box::new(Predicted { model: model.to_owned(), scores }));
    account.changed.note(Row::Predicted);
}

/// What became of an account within a horizon that began on a day; none of one that had left by then, which may be told later.
fn fate(account: &Account, from: Day, horizon_days: i32) -> Option<Fate> {
    let end = from.plus(horizon_days);
    if let Some((OutcomeKind::Churned, at)) = account.hot.outcome {
        let day = account.zone().day(at);
        if day <= from {
            return None;
        }
        if day <= end {
            return Some(Fate::Left);
        }
    }
    Some(if account.hot.today > end { Fate::Stayed } else { Fate::Open })
}

impl Outcomes {
    /// Counts what was said of an account under the scorecard in force.
    pub(crate) fn see(&mut self, core: &Core, account: &Account) {
        let Some(horizon_days) = core.scorer.horizon_days() else { return };
        let horizon_days = horizon_days.cast_signed();
        let known = account.predicted.as_ref().filter(|of| of.model == core.scorer.version());
        for (turn, score) in known.into_iter().flat_map(|known| &known.scores) {
            let fate = fate(account, Day(turn * horizon_days), horizon_days);
            let Some(fate) = fate else { continue };
            let points = score.as_f64().round() as u8;
            self.0.entry(*turn).or_default().entry(points).or_default()[fate as usize] += 1;
        }
    }

    /// Adds those of another partition.
    pub(crate) fn add(&mut self, other: &Outcomes) {
        for (turn, counts) in &other.0 {
            let sums = self.0.entry(*turn).or_default();
            for (points, counts) in counts {
                let sums = sums.entry(*points).or_default();
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
        }
    }

    /// Left and stayed by points, over the latest horizons that are over, and how many there are.
    fn latest(&self) -> (BTreeMap<u8, [u64; 2]>, u64) {
        let is_over =
            |(_, counts): &(&i32, &Counts)| counts.values().any(|of| of[Fate::Stayed as usize] > 0);
        let Some((&last, _)) = self.0.iter().rfind(is_over) else {
            return (BTreeMap::new(), 0);
        };
        let (mut sums, mut turns) = (BTreeMap::<u8, [u64; 2]>::new(), 0);
        for counts in self.0.range(last - TURNS + 1..=last).map(|(_, counts)| counts) {
            turns += 1;
            for (points, [left, stayed, open]) in counts {
                let sum = sums.entry(*points).or_default();
                sum[0] += left;
                // No loss was told of those that fell dormant.
                sum[1] += stayed + open;
            }
        }
        (sums, turns)
    }

    pub(crate) fn ranking<'a>(&self, cohort: &'a str, held_out: Option<Auc>) -> Ranking<'a> {
        let (counts, turns) = self.latest();
        let [left, stayed] = [0, 1].map(|kind| counts.values().map(|of| of[kind]).sum::<u64>());
        let enough = left >= RANKED_MIN[0] && stayed / turns.max(1) >= RANKED_MIN[1];
        let live = enough.then(|| Auc::of(counts.into_values(), turns));
        Ranking { cohort, left, stayed, live, held_out }
    }
}

impl Auc {
    /// Of accounts that left and stayed, by rising score; at least one of each. Each that stayed is counted in so many `turns`, and says no
    /// more than once what its standing says. The error is that of Hanley and McNeil (1982), no less than that of an area of 0.95.
    fn of(counts: impl Iterator<Item = [u64; 2]>, turns: u64) -> Auc {
        let (mut lefts, mut stays, mut wins) = (0.0, 0.0, 0.0);
        for [left, stayed] in counts.map(|of| of.map(|count| count as f64)) {
            wins += stayed * (lefts + left / 2.0);
            lefts += left;
            stays += stayed;
        }
        let value = wins / (lefts * stays);
        let stays = stays / turns.max(1) as f64;
        let area = value.clamp(0.05, 0.95);
        let (square, left_twice, stayed_twice) =
            (area * area, area / (2.0 - area), 2.0 * area * area / (1.0 + area));
        let variance = area * (1.0 - area)
            + (lefts - 1.0) * (left_twice - square)
            + (stays - 1.0) * (stayed_twice - square);
        Auc { value, error: (variance.max(0.0) / (lefts * stays)).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_worked_by_hand() {
        // Two left (10 and 40 points), three stayed (20, 40 and 70): of six pairs, 10 wins three, 40 one and a half.
        let counts = [[1, 0], [0, 1], [1, 1], [0, 1]];
        let found = Auc::of(counts.into_iter(), 1);
        assert!((found.value - 0.75).abs() < 1e-12, "{found:?}");
        // .75 * .25 + (.6 - .5625) + 2 (1.125 / 1.75 - .5625), over six pairs.
        let expected = ((0.1875 + 0.0375 + 2.0 * (1.125 / 1.75 - 0.5625)) / 6.0_f64).sqrt();
        assert!((found.error - expected).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn a_perfect_ranking_of_few_is_not_certain() {
        let few = Auc::of([[5, 0], [0, 20]].into_iter(), 1);
        assert!((few.value - 1.0).abs() < 1e-12 && few.error > 0.05, "{few:?}");
        let many = Auc::of([[500, 0], [0, 2_000]].into_iter(), 1);
        assert!(many.error < 0.01, "{many:?}");
        let again = Auc::of([[5, 0], [0, 60]].into_iter(), 3);
        assert!((again.error - few.error).abs() < 1e-12, "the same accounts say nothing more");
    }

    #[test]
    fn only_horizons_that_are_over_count_and_only_the_latest() {
        let mut outcomes = Outcomes::default();
        let counts = |of: [u64; 3]| Counts::from([(50, of)]);
        outcomes.0 = BTreeMap::from([
            (1, counts([7, 0, 0])),
            (2, counts([1, 30, 0])),
            (3, counts([2, 30, 1])),
            (4, counts([3, 30, 2])),
            (5, counts([4, 0, 30])),
        ]);
        let found = outcomes.ranking("smb", None);
        assert_eq!((found.left, found.stayed), (6, 93));
        assert!(found.live.is_some_and(|live| (live.value - 0.5).abs() < 1e-12), "{found:?}");
        outcomes.0.remove(&1);
        outcomes.0.remove(&4);
        let found = outcomes.ranking("smb", None);
        assert_eq!((found.left, found.stayed, found.live), (3, 61, None), "three say nothing");
    }
}
