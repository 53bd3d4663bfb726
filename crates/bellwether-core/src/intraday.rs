//! One gauge within the day: is this sample unlike what the series has shown so far?
//!
//! For a metric that is sampled at any interval (minutes to hours) and has no count behind it: a latency, a queue, a share. The
//! day-level engine judges days; a [`Watch`] judges every sample, from its past only, at a bounded cost.
//!
//! # Method
//! A sample is first reduced to its **residual**: the value less a slow level, less the usual offset of its hour of the day (UTC;
//! a caller that knows the account's zone may shift `at`). Offsets are shrunk toward zero by the number of samples behind them
//! (James and Stein 1961), and both follow winsorised residuals (Huber 1964), so that an outlier does not move its own yardstick.
//! Two views then look for what was not seen before:
//! - **value**: how little weight of the past lies near the residual, in a streaming histogram (Ben-Haim and Tom-Tov 2010) that
//!   forgets. Unlike a z-score it finds a value in a gap between two usual ones, and grows used to a spike that comes every night.
//! - **shape**: how far the last [`SHAPE_SAMPLES`] samples, as block means, are from the most alike stretch of the recent past
//!   (KNN-CAD: Burnaev and Ishimtsev, arXiv 1608.04585; a discord in the sense of Keogh, Lin and Fu 2005).
//!
//! Neither number says how rare it is in *this* series, so each passes through its own tail: an exponential fitted to what exceeds
//! a running quantile of its logarithm (peaks over a threshold: Siffer et al. 2017; a power law, after Hill 1975). What comes out
//! is a **surprise**, minus log10 of a tail probability: 3 is one sample in a thousand. The views' surprises are combined as a
//! Euclidean norm, which lies between their maximum and their sum: they are neither the same evidence nor independent.
//!
//! An **alert** needs a score at the threshold and a new peak: the largest surprise of the quiet period. Refractory rules matter
//! more than models on this kind of data.
//!
//! # Units, ranges, cost
//! Values are in the caller's unit; magnitudes between 1e-30 and 1e30 are told apart, larger ones are read as 1e30. The result
//! does not depend on the unit. Scores are in 0..=1. A value that is not finite changes nothing. Samples are taken in the order of
//! arrival; a timestamp that runs backwards is used for its hour only. A gap in time is no event of its own.
//!
//! An event costs O([`HISTOGRAM_POINTS`]) and at every [`BLOCK_SAMPLES`]th O([`BLOCKS`] x [`SHAPE_BLOCKS`]): half a microsecond on average.
//! State is at most [`STATE_BYTES_MAX`] bytes, and less for a young series. No randomness.
//!
//! # Constants
//! One set for all series, chosen on 41 of the Numenta Anomaly Benchmark, never for one of them; each sits on a plateau: with all
//! others drawn at random about their values, halving or doubling one costs the standard score (66 of 100) 3.3 points at most, for
//! most of them less than 1.5. Scores of the full set move by as much from noise alone. `bellwether evaluate nab` repeats it.
//!
//! # Deliberately absent
//! A model of several signals (see [`crate::scan`]), a weekday factor (no measurable gain here; days are the day engine's), labels.

use serde::{Deserialize, Serialize};

use crate::stats::median;
use crate::time::{DAY_MS, HOUR_MS, Millis};

/// Largest magnitude that is told apart: `f32` holds it with room for sums.
const MAGNITUDE_MAX: f64 = 1e30;
/// Samples from which level and spread start, by their median: seven of them may be outliers.
const FIRST_SAMPLES: usize = 16;
/// Weight of a new sample in level and spread once the series is long: a half-life of 2,000 samples, a week at five minutes. Slow
/// on purpose: a shift is learnt as a usual value by the histogram long before it bends the level.
const LEVEL_GAIN: f64 = 1.0 / 2_885.0;
/// Deviations are cut at this many spreads (mean absolute deviations; four standard deviations of normal noise).
const LIMIT_SPREADS: f64 = 5.0;
/// So many samples in a row beyond the limit are a new level, not outliers: the limit is lifted, and the level moves there with
/// a weight of 1 in 50 for each further one.
const BEYOND_MAX: u32 = 100;
const NEW_LEVEL_GAIN: f64 = 0.02;
/// An hour's offset has half its weight after so many samples: the ratio of noise to seasonal variance.
const HOUR_SHRINK_SAMPLES: f32 = 20.0;
/// An hour's offset follows the last so many samples: two to three weeks at five minutes.
const HOUR_MEMORY_SAMPLES: f32 = 200.0;
/// Centroids of the histogram.
pub const HISTOGRAM_POINTS: usize = 32;
/// What is left of a centroid's weight after each sample: a memory of about 1,000 samples, 3.5 days at five minutes.
const HISTOGRAM_KEEP: f32 = 0.999;
/// Values within this share of the spread are alike.
const ALIKE_SPREADS: f64 = 0.25;
/// Samples in a block; coarse enough to forgive a shift in time by a sample.
pub const BLOCK_SAMPLES: u32 = 3;
/// Blocks in a shape: 18 samples, about what KNN-CAD uses.
pub const SHAPE_BLOCKS: usize = 6;
/// Samples in a shape.
pub const SHAPE_SAMPLES: usize = SHAPE_BLOCKS * BLOCK_SAMPLES as usize;
/// Blocks that are remembered: two days at five minutes, so that every daily pattern has been seen.
pub const BLOCKS: usize = 192;
/// The part of the past that counts as its tail: 1 in 25 leaves 16 exceedances to fit within the tail's memory.
const TAIL_SHARE: f64 = 0.04;
/// Samples that a tail remembers.
const TAIL_MEMORY_SAMPLES: f64 = 400.0;
/// Steps of the running quantile, in scatters per sample of weight.
const TAIL_STEP: f64 = 5.0;
/// An excess, and a deviation from the centre, is cut at so many means.
const TAIL_LIMIT: f64 = 6.0;
/// Least mean excess and scatter: a tail thinner than the tenth power is taken for a lack of data.
const EXCESS_MIN: f64 = 0.1;
const SCATTER_MIN: f64 = 0.02;

/// What the caller decides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Alerts need this score, 0..=1. The default, 0.999, is a surprise of one in a thousand, which made an alert of one in 700
    /// samples on NAB: a miss weighs as much as 18 false alarms there. Whoever is called at night wants more nines.
    pub alert_score: f64,
    /// After a peak, this many samples are quiet unless they surpass it.
    pub quiet_samples: u32,
    /// And so is this share of the time watched, 0..=1: what is news in a week is not in a year.
    pub quiet_share: f64,
    /// The first samples have a score of zero: tails are not yet known.
    pub warm_up_samples: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { alert_score: 0.999, quiet_samples: 100, quiet_share: 0.03, warm_up_samples: 100 }
    }
}

/// What one sample amounts to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// 1 - 10^-surprise, 0..=1.
    pub score: f64,
    /// Minus log10 of the tail probability; 0 or more, finite. The score without its rounding near 1.
    pub surprise: f64,
    /// What was expected of this sample, before it was seen; the value itself while nothing is known.
    pub expected: f64,
    /// Mean absolute deviation about the expectation, before the sample; 0 while nothing is known.
    pub spread: f64,
    /// Whether no sample of the quiet period was as surprising: where peaks are false, an alert would repeat an earlier one.
    pub peak: bool,
    /// A peak whose score is at least the threshold.
    pub alert: bool,
}

/// The state of one series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// The first values, until level and spread start.
    first_values: Vec<f64>,
    /// The latest and the earliest instant seen.
    latest: Millis,
    earliest: Millis,
    samples: u64,
    level: f64,
    spread: f64,
    /// Samples in a row beyond the limit.
    beyond: u32,
    hours: [Hour; 24],
    values: Histogram,
    value_tail: Tail,
    /// The block that is being filled, and means of complete ones, the newest last.
    block_sum: f64,
    block_samples: u32,
    blocks: Vec<f32>,
    shape_tail: Tail,
    peak: Peak,
}

/// Upper bound of the state of a [`Watch`] in memory, heap included.
pub const STATE_BYTES_MAX: usize = size_of::<Watch>()
    + FIRST_SAMPLES * size_of::<f64>()
    + 2 * HISTOGRAM_POINTS * size_of::<Centroid>()
    + BLOCKS * size_of::<f32>();

impl Watch {
    /// Judges a sample against the past, then adds it. Never panics; a value that is not finite has a score of zero.
    pub fn see(&mut self, at: Millis, value: f64, settings: &Settings) -> Verdict {
        if !value.is_finite() {
            let expected = self.level + self.hour_offset(at);
            return Verdict::unremarkable(expected, self.spread);
        }
        let value = value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
        if self.samples == 0 {
            (self.earliest, self.latest) = (at, at);
        }
        self.latest = self.latest.max(at);
        self.samples += 1;
        if self.samples <= FIRST_SAMPLES as u64 {
            self.start(value);
            return Verdict::unremarkable(value, 0.0);
        }
        let (expected, spread) = (self.level + self.hour_offset(at), self.spread);
        let residual = value - expected;
        self.follow(at, value, residual);
        let alike = ALIKE_SPREADS * self.spread
            // What rounding leaves of a difference of two levels, or of a residual as f32, is no difference.
            + 1e-12 * self.level.abs()
            + 1e-6 * residual.abs()
            + f64::MIN_POSITIVE;
        let by_value = self.value_tail.surprise(self.values.oddity(residual, alike), 1.0);
        let by_shape = match self.shape_oddity(residual) {
            Some(oddity) => self.shape_tail.surprise(oddity, f64::from(BLOCK_SAMPLES)),
            None => 0.0,
        };
        if self.samples <= u64::from(settings.warm_up_samples) {
            return Verdict::unremarkable(expected, spread);
        }
        let surprise = by_value.hypot(by_shape);
        let score = 1.0 - 10f64.powf(-surprise);
        let peak = self.is_peak(surprise, settings);
        Verdict {
            score,
            surprise,
            expected,
            spread,
            peak,
            alert: peak && score >= settings.alert_score,
        }
    }

    /// Collects the first values; with the last of them, level and spread are their median and the mean deviation from it, where
    /// deviations are cut at a multiple of the median one.
    fn start(&mut self, value: f64) {
        self.first_values.push(value);
        if self.first_values.len() < FIRST_SAMPLES {
            return;
        }
        let mut values = std::mem::take(&mut self.first_values);
        self.level = median(&mut values).unwrap_or(value);
        let mut deviations: Vec<f64> = values.iter().map(|v| (v - self.level).abs()).collect();
        let limit = LIMIT_SPREADS * median(&mut deviations).unwrap_or(0.0);
        let cut: f64 = deviations.iter().map(|deviation| deviation.min(limit)).sum();
        self.spread = cut / FIRST_SAMPLES as f64;
    }

    fn hour_offset(&self, at: Millis) -> f64 {
        let hour = &self.hours[hour_of_day(at)];
        f64::from(hour.offset * hour.samples / (hour.samples + HOUR_SHRINK_SAMPLES))
    }

    /// Moves level, spread and the hour's offset toward the sample, as far as an outlier may move them.
    fn follow(&mut self, at: Millis, value: f64, residual: f64) {
        let mut limit = LIMIT_SPREADS * self.spread;
        self.beyond = if residual.abs() > limit { self.beyond.saturating_add(1) } else { 0 };
        let new_level = self.beyond > BEYOND_MAX;
        // Without a spread there is no outlier: a series that was constant so far learns from its first change.
        if self.spread == 0.0 || new_level {
            limit = residual.abs();
        }
        let cut = residual.clamp(-limit, limit);
        let gain = LEVEL_GAIN.max(1.0 / self.samples as f64);
        self.level += cut * if new_level { NEW_LEVEL_GAIN } else { gain };
        self.spread += gain * (cut.abs() - self.spread);
        let hour = &mut self.hours[hour_of_day(at)];
        hour.samples = (hour.samples + 1.0).min(HOUR_MEMORY_SAMPLES);
        let off = value - self.level - f64::from(hour.offset);
        hour.offset += narrow(off.clamp(-limit, limit)) / (hour.samples + 1.0);
    }

    /// Adds a residual to its block. A complete block closes a shape: returns its distance to the most alike earlier one that
    /// shares no sample with it, once there is one.
    fn shape_oddity(&mut self, residual: f64) -> Option<f64> {
        self.block_sum += residual;
        self.block_samples += 1;
        if self.block_samples < BLOCK_SAMPLES {
            return None;
        }
        if self.blocks.len() >= BLOCKS {
            self.blocks.remove(0);
        } else if self.blocks.len() == self.blocks.capacity() {
            // In small steps: doubling would pass the bound on the state.
            self.blocks.reserve_exact(16.min(BLOCKS - self.blocks.len()));
        }
        self.blocks.push(narrow(self.block_sum / f64::from(BLOCK_SAMPLES)));
        (self.block_sum, self.block_samples) = (0.0, 0);
        let (past, shape) = self.blocks.split_at(self.blocks.len().saturating_sub(SHAPE_BLOCKS));
        let nearest = past
            .windows(SHAPE_BLOCKS)
            .map(|stretch| {
                stretch.iter().zip(shape).map(|(one, other)| (one - other).abs()).sum::<f32>()
            })
            .min_by(f32::total_cmp)?;
        // Distances that are tiny against the spread are alike, however many orders of magnitude lie between them.
        Some(f64::from(nearest) + 1e-6 * self.spread + 1e-30)
    }

    /// Whether this is the largest surprise of the quiet period; remembers it if so.
    fn is_peak(&mut self, surprise: f64, settings: &Settings) -> bool {
        let watched_ms = self.latest.0.saturating_sub(self.earliest.0) as f64;
        let since_ms = self.latest.0.saturating_sub(self.peak.at.0) as f64;
        let over = self.samples - self.peak.sample > u64::from(settings.quiet_samples)
            && since_ms > settings.quiet_share * watched_ms;
        let peak = surprise > 0.0 && (surprise > self.peak.surprise || over);
        if peak {
            self.peak = Peak { at: self.latest, sample: self.samples, surprise };
        }
        peak
    }
}

impl Verdict {
    fn unremarkable(expected: f64, spread: f64) -> Verdict {
        Verdict { score: 0.0, surprise: 0.0, expected, spread, peak: false, alert: false }
    }
}

fn hour_of_day(at: Millis) -> usize {
    (at.0.rem_euclid(DAY_MS) / HOUR_MS) as usize
}

/// To `f32`, within its range.
fn narrow(value: f64) -> f32 {
    value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX) as f32
}

/// What an hour of the day lies above or below the level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Hour {
    offset: f32,
    samples: f32,
}

/// The largest surprise of late; the default is long over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Peak {
    at: Millis,
    sample: u64,
    surprise: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Centroid {
    value: f32,
    weight: f32,
}

/// Centroids in the order of their values, of which no two are closer than any that were merged: rare and remote values keep their
/// own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Histogram {
    centroids: Vec<Centroid>,
}

impl Histogram {
    /// One over the share of the past that is like `value`, then adds it. At least 1 or nearly so. Where nothing is alike, one
    /// sample is taken to be, the less the farther the nearest is.
    fn oddity(&mut self, value: f64, alike: f64) -> f64 {
        let (mut mass, mut total, mut nearest) = (0.0, 0.0, 1e12f64);
        let per_distance = 1.0 / alike;
        for centroid in &mut self.centroids {
            let distance = (value - f64::from(centroid.value)).abs() * per_distance;
            nearest = nearest.min(distance);
            mass += f64::from(centroid.weight) * (1.0 - distance).max(0.0);
            total += f64::from(centroid.weight);
            centroid.weight *= HISTOGRAM_KEEP;
        }
        self.add(narrow(value));
        if total == 0.0 {
            return 1.0;
        }
        (total + 1.0) / (mass + 1.0 / nearest.max(1.0))
    }

    fn add(&mut self, value: f32) {
        let place = self.centroids.partition_point(|centroid| centroid.value < value);
        self.centroids.insert(place, Centroid { value, weight: 1.0 });
        if self.centroids.len() <= HISTOGRAM_POINTS {
            return;
        }
        let (mut left, mut smallest) = (0, f32::INFINITY);
        for (index, pair) in self.centroids.windows(2).enumerate() {
            let gap = pair[1].value - pair[0].value;
            if gap < smallest {
                (left, smallest) = (index, gap);
            }
        }
        let right = self.centroids.remove(left + 1);
        let merged = &mut self.centroids[left];
        let weight = merged.weight + right.weight;
        merged.value += (right.value - merged.value) * (right.weight / weight);
        merged.weight = weight;
    }
}

/// How rare an oddity is among its own past: logarithms above a running quantile have an exponential tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tail {
    samples: u64,
    /// The quantile, and the mean excess above it.
    quantile: f64,
    excess: f64,
    /// Centre and mean absolute deviation of all logarithms: the scale of the quantile's steps.
    centre: f64,
    scatter: f64,
}

impl Tail {
    /// Minus log10 of the probability of an oddity this large or larger; 0 below the quantile. Then adds it. `stride`: samples of
    /// the series for each call.
    fn surprise(&mut self, oddity: f64, stride: f64) -> f64 {
        let log = oddity.ln();
        self.samples += 1;
        if self.samples == 1 {
            // Starting values that the first few dozen samples replace.
            (self.quantile, self.excess, self.centre, self.scatter) = (log, 0.3, log, 0.5);
            return 0.0;
        }
        let above = log - self.quantile;
        let surprise = if above > 0.0 {
            (above / self.excess - TAIL_SHARE.ln()) * std::f64::consts::LOG10_E
        } else {
            0.0
        };
        let samples = self.samples as f64;
        let memory = TAIL_MEMORY_SAMPLES / stride;
        let gain = (1.0 / samples).max(1.0 / memory);
        let cut_above = above.min(TAIL_LIMIT * self.excess);
        let deviation = self.quantile + cut_above - self.centre;
        self.centre += gain * deviation;
        let cut_deviation = deviation.abs().min(TAIL_LIMIT * self.scatter + 1e-3);
        self.scatter += gain * (cut_deviation - self.scatter);
        // A quantile by stochastic approximation (Robbins and Monro 1951).
        let step = gain * TAIL_STEP * self.scatter.max(SCATTER_MIN);
        if above > 0.0 {
            self.quantile += step * (1.0 - TAIL_SHARE);
            // Five exceedances' worth of trust in the starting value.
            let gain = (1.0 / (samples * TAIL_SHARE + 5.0)).max(1.0 / (memory * TAIL_SHARE));
            self.excess = (self.excess + gain * (cut_above - self.excess)).max(EXCESS_MIN);
        } else {
            self.quantile -= step * TAIL_SHARE;
        }
        surprise
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MINUTE_MS;
    use proptest::prelude::*;

    const START: i64 = 1_700_000_000_000;

    /// Verdicts of values five minutes apart.
    fn watched(values: impl IntoIterator<Item = f64>) -> Vec<Verdict> {
        let (mut watch, settings) = (Watch::default(), Settings::default());
        let instants = (0..).map(|step| Millis(START + step * 5 * MINUTE_MS));
        instants.zip(values).map(|(at, value)| watch.see(at, value, &settings)).collect()
    }

    /// Roughly normal noise with a standard deviation of 1: a fixed sequence, mixed by multiplication.
    fn noise(step: u64) -> f64 {
        let uniform = |salt: u64| {
            let mixed = (step * 12 + salt + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            ((mixed ^ (mixed >> 32)) & 0xFFFF) as f64 / 65_535.0
        };
        (0..12).map(uniform).sum::<f64>() - 6.0
    }

    fn alerts(verdicts: &[Verdict]) -> Vec<usize> {
        verdicts.iter().enumerate().filter(|(_, v)| v.alert).map(|(step, _)| step).collect()
    }

    /// Minutes of the day as a fraction of a turn.
    fn turn(step: u64) -> f64 {
        step as f64 / 288.0 * std::f64::consts::TAU
    }

    #[test]
    fn noise_alone_keeps_the_false_alerts_few() {
        let verdicts = watched((0..20_000).map(|step| 50.0 + noise(step)));
        let false_alerts = alerts(&verdicts).len();
        assert!(false_alerts <= 40, "{false_alerts} false alerts in 20,000 samples");
    }

    #[test]
    fn a_shift_is_found_at_once_and_told_once() {
        let verdicts =
            watched((0..3_000).map(|step| noise(step) + if step < 2_000 { 100.0 } else { 112.0 }));
        let found = alerts(&verdicts);
        assert!(found.contains(&2_000), "{found:?}");
        let after = found.iter().filter(|step| (2_001..2_500).contains(*step)).count();
        assert!(after <= 2, "the new level is known after a while: {found:?}");
    }

    #[test]
    fn a_value_between_the_usual_ones_is_new() {
        // Two states, 20 and 80, half a day each; then 50, which no z-score would mind.
        let verdicts = watched((0..4_000).map(|step| match step {
            3_900.. => 50.0 + noise(step),
            _ => noise(step) + if step % 288 < 144 { 20.0 } else { 80.0 },
        }));
        let found = alerts(&verdicts);
        assert!(found.iter().any(|step| (3_900..3_910).contains(step)), "{found:?}");
    }

    #[test]
    fn a_spike_of_every_night_wears_off() {
        let spikes = |step: u64| if step.is_multiple_of(288) { 40.0 } else { 0.0 };
        let verdicts = watched((0..288 * 20).map(|step| 10.0 + noise(step) + spikes(step)));
        let told = alerts(&verdicts);
        assert!(told.contains(&288), "{told:?}");
        let late = (10..20).filter(|day| told.contains(&(day * 288))).count();
        // One sample in 288 is a surprise of 2.5, short of the threshold of 3, give or take.
        assert!(late <= 5, "{late} of the last ten nights");
    }

    #[test]
    fn a_day_that_stays_away_is_found() {
        let daily = |step: u64| 50.0 + 30.0 * turn(step).sin() + noise(step);
        let verdicts = watched((0..288 * 14).map(|step| match step / 288 {
            12 => 50.0 + noise(step),
            _ => daily(step),
        }));
        let found = alerts(&verdicts);
        assert!(found.iter().any(|step| step / 288 == 12), "{found:?}");
    }

    #[test]
    fn the_expectation_learns_the_hour_of_the_day() {
        let verdicts =
            watched((0..288 * 21).map(|step| 50.0 + 30.0 * turn(step).sin() + noise(step)));
        let last_day = verdicts.iter().enumerate().skip(288 * 20);
        let error: f64 = last_day
            .map(|(step, v)| (v.expected - 50.0 - 30.0 * turn(step as u64).sin()).abs())
            .sum();
        assert!(error / 288.0 < 6.0, "mean error {}", error / 288.0);
    }

    #[test]
    fn what_never_changes_is_never_news() {
        for constant in [0.0, 45.0, -1e300] {
            let verdicts = watched(std::iter::repeat_n(constant, 2_000));
            assert!(verdicts.iter().all(|v| v.surprise == 0.0), "{constant}");
        }
        let mut changed = vec![0.0; 2_000];
        changed.push(1e-6);
        assert_eq!(alerts(&watched(changed)), [2_000]);
    }

    #[test]
    fn a_huge_spike_is_one_alert_and_does_not_blind_the_watch() {
        let mut values: Vec<f64> = (0..3_000).map(|step| 10.0 + noise(step)).collect();
        values[1_000] = 1e300;
        values[2_900] = 30.0;
        let verdicts = watched(values);
        assert!(verdicts[1_000].alert && verdicts[2_900].alert, "{:?}", alerts(&verdicts));
        assert!((verdicts[2_999].expected - 10.0).abs() < 1.0);
    }

    #[test]
    fn a_spike_among_the_first_samples_does_not_blind_it_either() {
        let mut values: Vec<f64> = (0..1_000).map(|step| 10.0 + noise(step)).collect();
        values[3] = 1e300;
        values[900] = 40.0;
        assert!(watched(values)[900].alert);
    }

    #[test]
    fn a_value_that_is_not_finite_changes_nothing() {
        let (mut watch, settings) = (Watch::default(), Settings::default());
        for step in 0..500 {
            watch.see(Millis(step * MINUTE_MS), noise(step as u64), &settings);
        }
        let before = watch.clone();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let verdict = watch.see(Millis(500 * MINUTE_MS), value, &settings);
            assert!(verdict.score == 0.0 && verdict.expected.is_finite());
        }
        assert_eq!(watch, before);
    }

    #[test]
    fn a_peak_silences_what_is_smaller_for_the_quiet_period() {
        let mut values: Vec<f64> = (0..2_000).map(noise).collect();
        values[1_500] = 60.0;
        values[1_520] = 30.0;
        let verdicts = watched(values);
        assert!(verdicts[1_500].alert);
        assert!(verdicts[1_520].score > 0.9 && !verdicts[1_520].peak, "{:?}", verdicts[1_520]);
    }

    #[test]
    fn the_unit_does_not_matter() {
        let values: Vec<f64> = (0..3_000).map(|step| 5.0 + noise(step)).collect();
        let plain = watched(values.clone());
        // A power of two changes exponents only.
        let scaled = watched(values.iter().map(|value| value * 1_048_576.0));
        let apart = plain
            .iter()
            .zip(&scaled)
            .map(|(one, other)| (one.surprise - other.surprise).abs())
            .fold(0.0, f64::max);
        assert!(apart < 1e-6, "{apart}");
    }

    #[test]
    fn state_is_bounded_and_survives_serialisation() {
        let (mut watch, settings) = (Watch::default(), Settings::default());
        for step in 0..5_000 {
            watch.see(Millis(step * MINUTE_MS), noise(step as u64), &settings);
        }
        assert!(watch.values.centroids.len() <= HISTOGRAM_POINTS && watch.blocks.len() <= BLOCKS);
        assert!(watch.blocks.capacity() <= BLOCKS && watch.first_values.capacity() == 0);
        assert!(watch.values.centroids.capacity() <= 2 * HISTOGRAM_POINTS);
        let text = serde_json::to_string(&watch).expect("a watch is plain data");
        let mut read: Watch = serde_json::from_str(&text).expect("what was just written");
        assert_eq!(read, watch);
        let at = Millis(5_000 * MINUTE_MS);
        assert_eq!(read.see(at, 3.0, &settings), watch.see(at, 3.0, &settings));
    }

    /// Values of every kind: usual ones, repeated ones, extreme ones, not finite ones.
    fn any_value() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => -100.0..100.0,
            4 => Just(0.0),
            2 => Just(1.0),
            1 => any::<f64>(),
            1 => Just(1e300),
            1 => Just(-f64::MAX),
            1 => Just(5e-324),
        ]
    }

    /// Steps of time: regular, none, long gaps, backwards.
    fn any_step() -> impl Strategy<Value = i64> {
        prop_oneof![
            8 => Just(5 * MINUTE_MS),
            2 => Just(0),
            1 => 0..90 * DAY_MS,
            1 => -DAY_MS..0,
            1 => any::<i64>(),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Whatever comes, in whatever order: no panic, everything finite and in range, the same twice.
        #[test]
        fn any_series_gives_finite_and_repeatable_verdicts(
            samples in prop::collection::vec((any_step(), any_value()), 1..700),
            warm_up_samples in 0u32..100,
        ) {
            let settings = Settings { warm_up_samples, ..Settings::default() };
            let (mut one, mut other) = (Watch::default(), Watch::default());
            let (mut at, mut latest) = (Millis(START), Millis(i64::MIN));
            for (step, value) in samples {
                at = at.plus(step);
                let verdict = one.see(at, value, &settings);
                prop_assert_eq!(verdict, other.see(at, value, &settings));
                prop_assert!((0.0..=1.0).contains(&verdict.score));
                prop_assert!(verdict.surprise >= 0.0 && verdict.surprise.is_finite());
                prop_assert!(verdict.expected.is_finite());
                prop_assert!(verdict.spread >= 0.0 && verdict.spread.is_finite());
                prop_assert!(verdict.peak || !verdict.alert);
                prop_assert!(one.samples == 0 || one.latest >= latest);
                latest = if one.samples == 0 { latest } else { one.latest };
            }
            prop_assert_eq!(one, other);
        }

        /// The quiet period holds: two alerts are further apart than it, or the later one is the larger.
        #[test]
        fn alerts_are_apart_or_larger(values in prop::collection::vec(-10.0..10.0f64, 300..900)) {
            let mut last: Option<(usize, f64)> = None;
            for (step, verdict) in watched(values).into_iter().enumerate().filter(|(_, v)| v.alert) {
                if let Some((before, surprise)) = last {
                    prop_assert!(step - before > 100 || verdict.surprise > surprise);
                }
                last = Some((step, verdict.surprise));
            }
        }
    }
}
