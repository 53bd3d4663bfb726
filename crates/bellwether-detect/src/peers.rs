//! Accounts that behave unlike their cohort on the same days.

use augurs::outlier::{DbscanDetector, MADDetector, OutlierDetector, OutlierOutput};

use crate::fallback::{Fallback, caught};
use crate::series::{Domain, SPREAD_MIN, check, is_flat, median, spread};

/// Fewest accounts with enough days among which one can be called an outlier.
pub const PEERS_MIN: usize = 8;

/// Fewest days, the same for all accounts.
pub const DAYS_MIN: usize = 3;

/// Largest input, in accounts times days. 50 accounts of 90 days take about 1 ms.
pub const CELLS_MAX: usize = 1_000_000;

/// A day is outlying by MAD beyond this many robust spreads. Lower than the 3.5 of Iglewicz & Hoaglin (1993) for a single
/// value, because more than half of the days must be: in synthetic cohorts of 40 whose accounts differ by noise alone, all
/// 60 accounts at 30 % of their baseline were found (at 3.5: 28), and none of 2,340 others.
const MAD_THRESHOLD: f64 = 2.5;

/// Two accounts belong together on a day when they lie within this many robust spreads of the cohort. Below about 0.5
/// the middle of a cohort of ten falls apart, from 1 on outliers of large cohorts are chained to it.
const NEIGHBOUR_SPREADS: f64 = 0.75;

/// An account is outlying when more than this share of its measured days is: one odd day is not a different account.
const DAYS_SHARE_MIN: f64 = 0.5;

/// Scores are cut here: beyond it they say nothing more.
pub const SCORE_MAX: f64 = 100.0;

/// What the cohort says about one account.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PeerVerdict {
    /// Both detectors call more than half of the account's measured days outlying; for a flat series MAD alone decides.
    pub outlier: bool,
    /// The median absolute deviation calls more than half of the days outlying.
    pub by_mad: bool,
    /// Density clustering does. Never true for a flat series, which it flags for nothing but being flat.
    pub by_dbscan: bool,
    /// The account's median distance from the cohort's median of the day, in the cohort's robust spreads of that side.
    /// Negative: below. Finite, at most [`SCORE_MAX`] in magnitude; 0 without enough days.
    pub score: f64,
    /// Measured days.
    pub days: u16,
    /// Whether the series does not vary at all: its level can still be outlying by MAD.
    pub flat: bool,
}

/// Judges each account of a cohort against the others, in the order given.
///
/// `series`: one per account, all of the same length (at least [`DAYS_MIN`] days), day for day, each divided by its own
/// account's baseline by the caller (1 = as usual), or any other unit that makes accounts comparable; for counts the square
/// root of that ratio, whose noise is alike at all levels, separates falls better. NaN: unmeasured; an
/// account measured on fewer than half of the days, or fewer than [`DAYS_MIN`], is not judged (`days` says so) and not
/// used. Each day's cohort median is subtracted first: what everyone did (a holiday) makes nobody an outlier.
///
/// Sources: double MAD (Rosenmai 2013, with trimmed Harrell-Davis medians: Akinshin 2022); one-dimensional DBSCAN
/// (Ester et al. 1996) per day.
///
/// # Errors
/// `Short` (fewer than [`PEERS_MIN`] accounts or [`DAYS_MIN`] days), `Sparse` (more than half of the values of a side are
/// the cohort's median itself), `Parameter` (lengths differ), `NotFinite`, `TooLarge`, `Panicked`, `Failed`.
pub fn outliers(series: &[&[f64]]) -> Result<Vec<PeerVerdict>, Fallback> {
    caught(|| {
        let days = series.first().map_or(0, |first| first.len());
        if series.iter().any(|own| own.len() != days) {
            return Err(Fallback::Parameter("peers need series of one length"));
        }
        if days.saturating_mul(series.len()) > CELLS_MAX {
            return Err(Fallback::TooLarge);
        }
        for own in series {
            check(own, Domain::Real)?;
        }
        let judged: Vec<usize> =
            (0..series.len()).filter(|&index| measured(series[index]) >= enough(days)).collect();
        if days < DAYS_MIN || judged.len() < PEERS_MIN {
            return Err(Fallback::Short);
        }
        let apart = without_day_medians(series, &judged, days);
        let rows: Vec<&[f64]> = apart.iter().map(Vec::as_slice).collect();
        let scale = spread(&rows.concat().into_iter().filter(|v| !v.is_nan()).collect::<Vec<_>>());
        if scale <= SPREAD_MIN {
            return Err(Fallback::Sparse);
        }
        let mad = run(&MADDetector::with_threshold(MAD_THRESHOLD), &rows)?;
        let dbscan = run(&DbscanDetector::with_epsilon(NEIGHBOUR_SPREADS * scale), &rows)?;
        let mut verdicts: Vec<PeerVerdict> = series.iter().map(|own| unjudged(own)).collect();
        for (row, &index) in judged.iter().enumerate() {
            verdicts[index] = verdict(&verdicts[index], &apart[row], (&mad, &dbscan), row);
        }
        Ok(verdicts)
    })
}

fn measured(series: &[f64]) -> usize {
    series.iter().filter(|value| !value.is_nan()).count()
}

fn enough(days: usize) -> usize {
    days.div_ceil(2).max(DAYS_MIN)
}

/// The judged series, each day less the cohort's median of that day.
fn without_day_medians(series: &[&[f64]], judged: &[usize], days: usize) -> Vec<Vec<f64>> {
    let medians: Vec<f64> = (0..days)
        .map(|day| {
            let values = judged.iter().map(|&index| series[index][day]);
            let mut values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
            median(&mut values).unwrap_or(0.0)
        })
        .collect();
    judged
        .iter()
        .map(|&index| series[index].iter().zip(&medians).map(|(own, peer)| own - peer).collect())
        .collect()
}

/// Runs one of augurs' detectors. Its errors are boxed strings; the one with a meaning of its own is told by its text.
fn run<D: OutlierDetector>(detector: &D, rows: &[&[f64]]) -> Result<OutlierOutput, Fallback> {
    let output = detector.preprocess(rows).and_then(|ready| detector.detect(&ready));
    let output = output.map_err(|error| {
        let text = error.to_string();
        if text.contains("division by zero") { Fallback::Sparse } else { Fallback::Failed(text) }
    })?;
    if output.series_results.len() == rows.len() {
        Ok(output)
    } else {
        Err(Fallback::Failed("a verdict per series is missing".to_owned()))
    }
}

fn unjudged(own: &[f64]) -> PeerVerdict {
    PeerVerdict {
        outlier: false,
        by_mad: false,
        by_dbscan: false,
        score: 0.0,
        days: u16::try_from(measured(own)).unwrap_or(u16::MAX),
        flat: is_flat(own),
    }
}

/// The verdict on one judged row of the two detectors' outputs.
fn verdict(
    known: &PeerVerdict,
    apart: &[f64],
    (mad, dbscan): (&OutlierOutput, &OutlierOutput),
    row: usize,
) -> PeerVerdict {
    let days = measured(apart) as f64;
    let scores = &mad.series_results[row].scores;
    // A score is NaN on an unmeasured day and where augurs' division overflowed.
    let signed = scores.iter().zip(apart).filter(|(score, _)| !score.is_nan());
    let mut signed: Vec<f64> = signed.map(|(score, own)| score.copysign(*own)).collect();
    let beyond = signed.iter().filter(|score| score.abs() > MAD_THRESHOLD).count();
    let by_mad = beyond as f64 > DAYS_SHARE_MIN * days;
    // Days without a majority cluster have no band: there augurs calls everybody outlying.
    let alone = dbscan.series_results[row].scores.iter().enumerate().filter(|&(day, &score)| {
        let band = dbscan.cluster_band.as_ref().and_then(|band| band.min.get(day));
        score > 0.0 && band.is_some_and(|low| !low.is_nan())
    });
    let by_dbscan = !known.flat && alone.count() as f64 > DAYS_SHARE_MIN * days;
    let score = median(&mut signed).unwrap_or(0.0).clamp(-SCORE_MAX, SCORE_MAX);
    let outlier = by_mad && (by_dbscan || known.flat);
    PeerVerdict { outlier, by_mad, by_dbscan, score, ..*known }
}
