//! The optimiser under [`crate::fit`]: a projected Newton iteration on the log-posterior of a two-level model.
//!
//! The curvature is an arrow: cohorts touch each other through the global weights only. They are eliminated one by
//! one (Schur complement), so a step costs O(cohorts * columns^3), whatever the number of cohorts.

use crate::solve::{Cholesky, Matrix};

/// One example: the first column is 1, the others are centred evidence.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) x: Vec<f64>,
    pub(crate) left: bool,
    pub(crate) weight: f64,
}

#[derive(Debug, Clone)]
pub(crate) struct Cohort {
    pub(crate) rows: Vec<Row>,
}

/// Expectations per column; the first is the base log-odds, which alone may be negative.
#[derive(Debug, Clone)]
pub(crate) struct Prior {
    pub(crate) mean: Vec<f64>,
    pub(crate) variance: Vec<f64>,
    pub(crate) cohort_sd: f64,
    pub(crate) cohort_sd_weight: f64,
    pub(crate) cohort_sd_max: f64,
}

/// Values of one level and their standard errors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Block {
    pub(crate) values: Vec<f64>,
    pub(crate) errors: Vec<f64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Fitted {
    pub(crate) global: Block,
    pub(crate) cohorts: Vec<Block>,
    pub(crate) spread: [f64; 2],
}

const STEPS_MAX: usize = 200;
const STEP_SMALL: f64 = 1e-9;
/// Rounds of EM for the spreads. They settle to a per cent within ten.
const ROUNDS: usize = 12;

/// Weights of all levels at one step.
#[derive(Debug, Clone)]
struct State {
    global: Vec<f64>,
    cohorts: Vec<Vec<f64>>,
}

/// Fits the model; `None` where the iteration does not settle.
pub(crate) fn fit(prior: &Prior, cohorts: &[Cohort]) -> Option<Fitted> {
    let mut state =
        State { global: prior.mean.clone(), cohorts: vec![prior.mean.clone(); cohorts.len()] };
    let mut spread = [prior.cohort_sd; 2];
    for _ in 0..ROUNDS {
        let problem = Problem { prior, cohorts, precision: precision(spread, prior.mean.len()) };
        state = problem.climb(state)?;
        spread = problem.spread(&state)?;
    }
    let problem = Problem { prior, cohorts, precision: precision(spread, prior.mean.len()) };
    let state = problem.climb(state)?;
    let covariance = problem.covariance(&state)?;
    let block = |values: &[f64], variances: &[f64]| Block {
        values: values.to_vec(),
        errors: variances.iter().map(|variance| variance.sqrt()).collect(),
    };
    Some(Fitted {
        global: block(&state.global, &covariance.global),
        cohorts: state
            .cohorts
            .iter()
            .zip(&covariance.cohorts)
            .map(|(v, c)| block(v, &c.own))
            .collect(),
        spread,
    })
}

/// Of a cohort's columns about the global ones.
fn precision(spread: [f64; 2], columns: usize) -> Vec<f64> {
    (0..columns).map(|column| spread[usize::from(column > 0)].powi(-2)).collect()
}

struct Problem<'a> {
    prior: &'a Prior,
    cohorts: &'a [Cohort],
    precision: Vec<f64>,
}

/// Posterior variances, ignoring the bounds.
struct Covariance {
    global: Vec<f64>,
    cohorts: Vec<CohortVariance>,
}

struct CohortVariance {
    own: Vec<f64>,
    /// Of the difference to the global value.
    difference: Vec<f64>,
}

/// Slope and curvature of one cohort's likelihood and prior.
struct Local {
    slope: Vec<f64>,
    curvature: Matrix,
}

impl Problem<'_> {
    fn columns(&self) -> usize {
        self.prior.mean.len()
    }

    /// The log-posterior, up to a constant.
    fn height(&self, state: &State) -> f64 {
        let about =
            |values: &[f64], mean: &[f64], precision: &mut dyn Iterator<Item = f64>| -> f64 {
                values
                    .iter()
                    .zip(mean)
                    .zip(precision)
                    .map(|((v, m), p)| -0.5 * p * (v - m).powi(2))
                    .sum()
            };
        let mut height = about(
            &state.global,
            &self.prior.mean,
            &mut self.prior.variance.iter().map(|v| v.recip()),
        );
        for (cohort, values) in self.cohorts.iter().zip(&state.cohorts) {
            height += about(values, &state.global, &mut self.precision.iter().copied());
            for row in &cohort.rows {
                let log_odds = dot(&row.x, values);
                // ln(1 + e^z) without overflow.
                let soft = log_odds.max(0.0) + (-log_odds.abs()).exp().ln_1p();
                height += row.weight * (if row.left { log_odds } else { 0.0 } - soft);
            }
        }
        height
    }

    fn local(&self, cohort: &Cohort, values: &[f64], global: &[f64]) -> Local {
        let mut curvature = Matrix::diagonal(&self.precision);
        let mut slope: Vec<f64> =
            (0..self.columns()).map(|j| -self.precision[j] * (values[j] - global[j])).collect();
        for row in &cohort.rows {
            let risk = crate::fit::probability(dot(&row.x, values));
            let miss = row.weight * (f64::from(u8::from(row.left)) - risk);
            for (slope, x) in slope.iter_mut().zip(&row.x) {
                *slope += miss * x;
            }
            curvature.add_outer(&row.x, row.weight * risk * (1.0 - risk));
        }
        Local { slope, curvature }
    }

    fn locals(&self, state: &State) -> Vec<Local> {
        let pairs = self.cohorts.iter().zip(&state.cohorts);
        pairs.map(|(cohort, values)| self.local(cohort, values, &state.global)).collect()
    }

    fn global_slope(&self, state: &State) -> Vec<f64> {
        let slope = |j: usize| {
            let pull: f64 = state.cohorts.iter().map(|values| values[j] - state.global[j]).sum();
            self.precision[j] * pull
                - (state.global[j] - self.prior.mean[j]) / self.prior.variance[j]
        };
        (0..self.columns()).map(slope).collect()
    }

    fn global_curvature(&self) -> Matrix {
        let cohorts = self.cohorts.len() as f64;
        let entry = |j: usize| self.prior.variance[j].recip() + cohorts * self.precision[j];
        Matrix::diagonal(&(0..self.columns()).map(entry).collect::<Vec<f64>>())
    }

    /// Steps to the mode.
    fn climb(&self, mut state: State) -> Option<State> {
        let mut height = self.height(&state);
        for _ in 0..STEPS_MAX {
            let step = self.newton(&state)?;
            let mut length = 1.0;
            let (next, next_height) = loop {
                let next = moved(&state, &step, length);
                let next_height = self.height(&next);
                // A height that only rounding tells apart is no descent.
                if next_height >= height - 1e-12 * height.abs() || length < 1e-6 {
                    break (next, next_height);
                }
                length /= 2.0;
            };
            let far = distance(&state, &next);
            (state, height) = (next, next_height);
            if far < STEP_SMALL {
                return Some(state);
            }
        }
        None
    }

    /// The Newton step of the variables that are not held at the bound.
    fn newton(&self, state: &State) -> Option<State> {
        let mut global_slope = self.global_slope(state);
        let free_global = free(&state.global, &global_slope);
        let mut schur = self.global_curvature();
        schur.tie(&free_global);
        mask(&mut global_slope, &free_global);
        let mut parts: Vec<(Cholesky, Vec<f64>, Vec<f64>)> = Vec::new();
        for (mut local, values) in self.locals(state).into_iter().zip(&state.cohorts) {
            let free_cohort = free(values, &local.slope);
            local.curvature.tie(&free_cohort);
            mask(&mut local.slope, &free_cohort);
            let mut tie = self.precision.clone();
            mask(&mut tie, &free_cohort);
            mask(&mut tie, &free_global);
            let solver = local.curvature.cholesky()?;
            eliminate(&mut schur, &mut global_slope, &solver, &tie, &local.slope);
            parts.push((solver, tie, local.slope));
        }
        let global = schur.cholesky()?.solve(&global_slope);
        let back = |(solver, tie, slope): &(Cholesky, Vec<f64>, Vec<f64>)| {
            let right: Vec<f64> = (0..slope.len()).map(|j| slope[j] + tie[j] * global[j]).collect();
            solver.solve(&right)
        };
        let cohorts = parts.iter().map(back).collect();
        Some(State { global, cohorts })
    }

    fn covariance(&self, state: &State) -> Option<Covariance> {
        let mut schur = self.global_curvature();
        let mut inverses = Vec::new();
        for local in self.locals(state) {
            let solver = local.curvature.cholesky()?;
            eliminate(
                &mut schur,
                &mut vec![0.0; self.columns()],
                &solver,
                &self.precision,
                &vec![0.0; self.columns()],
            );
            inverses.push(solver.inverse());
        }
        let global = schur.cholesky()?.inverse();
        let diagonal = |matrix: &Matrix| -> Vec<f64> {
            (0..self.columns()).map(|j| matrix.at(j, j)).collect()
        };
        let cohorts =
            inverses.iter().map(|inverse| self.cohort_variance(inverse, &global)).collect();
        Some(Covariance { global: diagonal(&global), cohorts })
    }

    /// With `A` the inverse of a cohort's curvature, `T` the precisions and `S` the global covariance: the cohort's is
    /// `A + A T S T A`, its covariance with the global values `A T S`.
    fn cohort_variance(&self, inverse: &Matrix, global: &Matrix) -> CohortVariance {
        let columns = self.columns();
        let (mut own, mut difference) = (Vec::new(), Vec::new());
        for j in 0..columns {
            let pull: Vec<f64> =
                (0..columns).map(|k| inverse.at(j, k) * self.precision[k]).collect();
            let shared: Vec<f64> = (0..columns)
                .map(|l| (0..columns).map(|k| pull[k] * global.at(k, l)).sum())
                .collect();
            let variance = inverse.at(j, j) + dot(&shared, &pull);
            own.push(variance);
            difference.push((variance + global.at(j, j) - 2.0 * shared[j]).max(0.0));
        }
        CohortVariance { own, difference }
    }

    /// One round of EM: the expected squared differences of the cohorts from the global values.
    fn spread(&self, state: &State) -> Option<[f64; 2]> {
        let covariance = self.covariance(state)?;
        let start = self.prior.cohort_sd_weight;
        let mut sums = [(start * self.prior.cohort_sd.powi(2), start); 2];
        let per_weight = ((self.columns() - 1) as f64).recip();
        for (values, variance) in state.cohorts.iter().zip(&covariance.cohorts) {
            for j in 0..self.columns() {
                let share = if j == 0 { 1.0 } else { per_weight };
                let sum = &mut sums[usize::from(j > 0)];
                sum.0 += share * ((values[j] - state.global[j]).powi(2) + variance.difference[j]);
                sum.1 += share;
            }
        }
        Some(sums.map(|(squares, count)| (squares / count).sqrt().min(self.prior.cohort_sd_max)))
    }
}

/// Takes a cohort out of the global system.
fn eliminate(schur: &mut Matrix, slope: &mut [f64], solver: &Cholesky, tie: &[f64], own: &[f64]) {
    let inverse = solver.inverse();
    let through = solver.solve(own);
    for j in 0..tie.len() {
        slope[j] += tie[j] * through[j];
        for k in 0..tie.len() {
            schur.add(j, k, -tie[j] * inverse.at(j, k) * tie[k]);
        }
    }
}

/// Which variables may move: all but weights at zero that would go below.
fn free(values: &[f64], slope: &[f64]) -> Vec<bool> {
    values
        .iter()
        .zip(slope)
        .enumerate()
        .map(|(j, (value, slope))| j == 0 || *value > 0.0 || *slope > 0.0)
        .collect()
}

fn mask(values: &mut [f64], free: &[bool]) {
    for (value, free) in values.iter_mut().zip(free) {
        if !free {
            *value = 0.0;
        }
    }
}

fn moved(state: &State, step: &State, length: f64) -> State {
    let go = |values: &[f64], step: &[f64]| -> Vec<f64> {
        let to = values.iter().zip(step).map(|(value, step)| value + length * step);
        to.enumerate().map(|(j, value)| if j == 0 { value } else { value.max(0.0) }).collect()
    };
    State {
        global: go(&state.global, &step.global),
        cohorts: state
            .cohorts
            .iter()
            .zip(&step.cohorts)
            .map(|(values, step)| go(values, step))
            .collect(),
    }
}

fn distance(a: &State, b: &State) -> f64 {
    let apart =
        |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let cohorts = a.cohorts.iter().zip(&b.cohorts).map(|(a, b)| apart(a, b));
    cohorts.fold(apart(&a.global, &b.global), f64::max)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn cohorts() -> Vec<Cohort> {
        let mut random = Random::new(11);
        let mut row = |base: usize| {
            let x = vec![
                1.0,
                random.below(100) as f64 / 50.0 - 1.0,
                random.below(100) as f64 / 50.0 - 1.0,
            ];
            let left = random.below(100) < base + (10.0 * (1.0 + x[1])) as usize;
            Row { x, left, weight: 0.5 }
        };
        [5, 10, 20].map(|base| Cohort { rows: (0..200).map(|_| row(base)).collect() }).to_vec()
    }

    /// Every variable moved by itself, at the mode that was found, lowers the posterior.
    #[test]
    fn nothing_near_the_mode_is_higher() {
        let prior = Prior {
            mean: vec![-2.0, 1.0, 0.2],
            variance: vec![4.0, 1.0, 1.0],
            cohort_sd: 0.25,
            cohort_sd_weight: 4.0,
            cohort_sd_max: 1.0,
        };
        let cohorts = cohorts();
        let problem =
            Problem { prior: &prior, cohorts: &cohorts, precision: precision([0.4, 0.3], 3) };
        let start = State { global: prior.mean.clone(), cohorts: vec![prior.mean.clone(); 3] };
        let mode = problem.climb(start).expect("settles");
        let top = problem.height(&mode);
        let levels = 1 + mode.cohorts.len();
        for (level, column) in
            (0..levels).flat_map(|level| (0..3).map(move |column| (level, column)))
        {
            for by in [-1e-3, 1e-3] {
                let mut near = mode.clone();
                let values =
                    if level == 0 { &mut near.global } else { &mut near.cohorts[level - 1] };
                values[column] += by;
                if column == 0 || values[column] >= 0.0 {
                    assert!(problem.height(&near) < top, "level {level}, column {column}, by {by}");
                }
            }
        }
    }

    /// Elimination of the cohorts gives the variances of the whole, which a dense inverse gives too.
    #[test]
    fn variances_agree_with_the_dense_inverse() {
        let prior = Prior {
            mean: vec![-2.0, 1.0],
            variance: vec![4.0, 1.0],
            cohort_sd: 0.25,
            cohort_sd_weight: 4.0,
            cohort_sd_max: 1.0,
        };
        let rows = |from: usize| -> Vec<Row> {
            let row = |n: usize| Row {
                x: vec![1.0, n as f64 / 10.0 - 0.5],
                left: n.is_multiple_of(3),
                weight: 1.0,
            };
            (from..from + 10).map(row).collect()
        };
        let cohorts = [Cohort { rows: rows(0) }, Cohort { rows: rows(3) }];
        let problem = Problem { prior: &prior, cohorts: &cohorts, precision: vec![4.0, 9.0] };
        let state =
            State { global: vec![-1.0, 1.0], cohorts: vec![vec![-1.0, 0.8], vec![-1.2, 1.1]] };
        let mut dense = Matrix::zero(6);
        for j in 0..2 {
            dense.add(j, j, problem.global_curvature().at(j, j));
            for (c, local) in problem.locals(&state).iter().enumerate() {
                let at = 2 + 2 * c;
                dense.add(j, at + j, -problem.precision[j]);
                dense.add(at + j, j, -problem.precision[j]);
                for k in 0..2 {
                    dense.add(at + j, at + k, local.curvature.at(j, k));
                }
            }
        }
        let inverse = dense.cholesky().expect("positive definite").inverse();
        let covariance = problem.covariance(&state).expect("positive definite");
        for j in 0..2 {
            assert!((covariance.global[j] - inverse.at(j, j)).abs() < 1e-12);
            for (c, cohort) in covariance.cohorts.iter().enumerate() {
                let at = 2 + 2 * c + j;
                assert!((cohort.own[j] - inverse.at(at, at)).abs() < 1e-12);
                let difference = inverse.at(at, at) + inverse.at(j, j) - 2.0 * inverse.at(at, j);
                assert!((cohort.difference[j] - difference).abs() < 1e-12);
            }
        }
    }
}
