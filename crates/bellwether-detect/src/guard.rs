//! The detectors with their fallbacks counted.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::changepoint::{Onset, date_onset};
use crate::cohorts::{Grouping, Proposal, propose};
use crate::fallback::Fallback;
use crate::forecast::{Forecast, Forecaster};
use crate::peers::{PeerVerdict, outliers};
use crate::series::Domain;

/// The detectors, as the values of a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detector {
    /// [`Forecaster::mstl_naive`].
    MstlNaive,
    /// [`Forecaster::mstl_level`].
    MstlLevel,
    /// [`Forecaster::auto_ets`].
    AutoEts,
    /// [`date_onset`].
    Onset,
    /// [`outliers`].
    Peers,
    /// [`propose`].
    Cohorts,
}

impl Detector {
    /// All detectors, in the order of their declaration.
    pub const ALL: [Self; 6] =
        [Self::MstlNaive, Self::MstlLevel, Self::AutoEts, Self::Onset, Self::Peers, Self::Cohorts];

    /// The detector as the value of a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MstlNaive => "mstl_naive",
            Self::MstlLevel => "mstl_level",
            Self::AutoEts => "auto_ets",
            Self::Onset => "onset",
            Self::Peers => "peers",
            Self::Cohorts => "cohorts",
        }
    }
}

const REASONS: usize = Fallback::NAMES.len();

/// The detectors behind counters: what the engine exports as `bellwether_detector_calls_total{detector}` and
/// `bellwether_detector_fallback_total{detector,reason}`.
///
/// The counters never influence an answer. They are shared by reference between threads; each is exact, a reading of
/// several is not a snapshot.
#[derive(Debug, Default)]
pub struct Guarded {
    calls: [AtomicU64; Detector::ALL.len()],
    fallbacks: [[AtomicU64; REASONS]; Detector::ALL.len()],
}

impl Guarded {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// [`Forecaster::mstl_naive`], counted.
    ///
    /// # Errors
    /// As there.
    pub fn mstl_naive(
        &self,
        domain: Domain,
        daily: &[f64],
        horizon_days: usize,
        level: f64,
    ) -> Result<Forecast, Fallback> {
        let answer = Forecaster { domain }.mstl_naive(daily, horizon_days, level);
        self.counted(Detector::MstlNaive, answer)
    }

    /// [`Forecaster::mstl_level`], counted.
    ///
    /// # Errors
    /// As there.
    pub fn mstl_level(
        &self,
        domain: Domain,
        daily: &[f64],
        horizon_days: usize,
        level: f64,
    ) -> Result<Forecast, Fallback> {
        let answer = Forecaster { domain }.mstl_level(daily, horizon_days, level);
        self.counted(Detector::MstlLevel, answer)
    }

    /// [`Forecaster::auto_ets`], counted.
    ///
    /// # Errors
    /// As there.
    pub fn auto_ets(
        &self,
        domain: Domain,
        daily: &[f64],
        horizon_days: usize,
        level: f64,
    ) -> Result<Forecast, Fallback> {
        let answer = Forecaster { domain }.auto_ets(daily, horizon_days, level);
        self.counted(Detector::AutoEts, answer)
    }

    /// [`date_onset`], counted.
    ///
    /// # Errors
    /// As there.
    pub fn date_onset(&self, domain: Domain, daily: &[f64]) -> Result<Option<Onset>, Fallback> {
        self.counted(Detector::Onset, date_onset(daily, domain))
    }

    /// [`outliers`], counted.
    ///
    /// # Errors
    /// As there.
    pub fn outliers(&self, series: &[&[f64]]) -> Result<Vec<PeerVerdict>, Fallback> {
        self.counted(Detector::Peers, outliers(series))
    }

    /// [`propose`], counted.
    ///
    /// # Errors
    /// As there.
    pub fn propose(
        &self,
        profiles: &[&[f64]],
        grouping: &Grouping,
    ) -> Result<Vec<Proposal>, Fallback> {
        self.counted(Detector::Cohorts, propose(profiles, grouping))
    }

    /// Calls since the start, those that fell back included, as (detector, count): all detectors.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = Detector::ALL.iter().zip(&self.calls);
        counts.map(|(detector, count)| (detector.as_str(), count.load(Ordering::Relaxed)))
    }

    /// Fallbacks since the start, as (detector, reason, count): all combinations, those at zero included.
    pub fn fallbacks(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        Detector::ALL.iter().zip(&self.fallbacks).flat_map(|(detector, counts)| {
            Fallback::NAMES
                .iter()
                .zip(counts)
                .map(|(reason, count)| (detector.as_str(), *reason, count.load(Ordering::Relaxed)))
        })
    }

    fn counted<T>(&self, detector: Detector, answer: Result<T, Fallback>) -> Result<T, Fallback> {
        self.calls[detector as usize].fetch_add(1, Ordering::Relaxed);
        if let Err(fallback) = &answer {
            self.fallbacks[detector as usize][fallback.index()].fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fallback_is_counted_once_under_its_detector_and_reason() {
        let guarded = Guarded::new();
        let short = [1.0, 2.0];
        let zeros = [0.0; 60];
        assert_eq!(guarded.mstl_naive(Domain::NonNegative, &short, 7, 0.9), Err(Fallback::Short));
        assert_eq!(guarded.auto_ets(Domain::NonNegative, &zeros, 7, 0.9), Err(Fallback::Constant));
        assert_eq!(guarded.date_onset(Domain::Real, &short), Err(Fallback::Short));
        assert_eq!(guarded.date_onset(Domain::Real, &short), Err(Fallback::Short));
        assert_eq!(guarded.outliers(&[&short]), Err(Fallback::Short));
        assert_eq!(guarded.propose(&[], &Grouping::default()), Err(Fallback::Short));
        let counted: Vec<_> = guarded.fallbacks().filter(|&(_, _, count)| count > 0).collect();
        assert_eq!(
            counted,
            [
                ("mstl_naive", "short", 1),
                ("auto_ets", "constant", 1),
                ("onset", "short", 2),
                ("peers", "short", 1),
                ("cohorts", "short", 1),
            ]
        );
        assert_eq!(guarded.fallbacks().count(), 60);
        let varied: Vec<f64> = (0..60).map(|day| f64::from(day % 7 + day % 5)).collect();
        guarded.mstl_level(Domain::NonNegative, &varied, 1, 0.9).expect("a forecast");
        let called: Vec<_> = guarded.calls().collect();
        assert_eq!(
            called,
            [
                ("mstl_naive", 1),
                ("mstl_level", 1),
                ("auto_ets", 1),
                ("onset", 2),
                ("peers", 1),
                ("cohorts", 1),
            ]
        );
    }
}
