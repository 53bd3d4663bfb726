//! Proposals of cohorts from the shapes of accounts' weeks. Offline: a person or a policy decides what becomes of them.

use augurs::DistanceMatrix;
use augurs::clustering::DbscanClusterer;
use augurs::dtw::Dtw;

use crate::fallback::{Fallback, caught};
use crate::series::{Domain, WEEK, check, median};

/// Most profiles at once: the distances of 2,000 are 2 million pairs and 32 MB.
pub const PROFILES_MAX: usize = 2_000;

/// Bounds of the points of a profile: a week of days to a week of hours.
pub const POINTS_MIN: usize = 2;
/// See [`POINTS_MIN`].
pub const POINTS_MAX: usize = 24 * WEEK;

/// How profiles are compared and grouped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grouping {
    /// Two accounts are neighbours when their profiles, each scaled to a mean of 1, differ by at most this root mean
    /// square. 0.25: a quarter of a usual day. Above 0, finite.
    pub radius: f64,
    /// Accounts within `radius` of one, itself included, that make it the core of a cohort. At least 2.
    pub members_min: usize,
    /// Points by which profiles may be shifted against each other, e.g. 1 day for weekends that fall elsewhere. At least
    /// 1: augurs reads outside its buffers for a window of 0.
    pub warp_points: usize,
}

impl Default for Grouping {
    fn default() -> Self {
        Self { radius: 0.25, members_min: 5, warp_points: 1 }
    }
}

/// A proposed cohort.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// Indices of the accounts, ascending.
    pub members: Vec<usize>,
    /// The member nearest to all others (the lowest index among equals): the cohort's example.
    pub medoid: usize,
    /// Distance of the farthest member from the medoid, in the unit of [`Grouping::radius`].
    pub reach: f64,
}

/// Proposes cohorts; largest first, equals by their lowest member. An account is in at most one; accounts unlike any
/// group, without measured points or with no activity are in none.
///
/// `profiles`: one per account, all of the same length ([`POINTS_MIN`] to [`POINTS_MAX`] points), not negative, e.g. of
/// [`weekly_profile`]; each is scaled to a mean of 1, so that only shapes compare. Deterministic; the order of accounts
/// matters only for an account on the border of two groups (the group of the lower index takes it).
///
/// Sources: dynamic time warping within a band (Sakoe & Chiba 1978); DBSCAN (Ester et al. 1996).
///
/// # Errors
/// `Short` (fewer usable profiles than `members_min`), `Parameter`, `Negative`, `NotFinite`, `TooLarge`, `Panicked`,
/// `Failed`.
pub fn propose(profiles: &[&[f64]], grouping: &Grouping) -> Result<Vec<Proposal>, Fallback> {
    caught(|| {
        let points = check_shape(profiles, grouping)?;
        for profile in profiles {
            check(profile, Domain::NonNegative)?;
        }
        let (accounts, shapes): (Vec<usize>, Vec<Vec<f64>>) = profiles
            .iter()
            .enumerate()
            .filter_map(|(account, profile)| shape(profile).map(|shape| (account, shape)))
            .unzip();
        if accounts.len() < grouping.members_min {
            return Err(Fallback::Short);
        }
        let distances = distances(&shapes, points, grouping.warp_points)?;
        let matrix = DistanceMatrix::try_from_square(distances).map_err(Fallback::failed)?;
        let labels = DbscanClusterer::new(grouping.radius, grouping.members_min).fit(&matrix);
        let groups = labels.iter().map(|label| label.as_i32()).max().unwrap_or(-1);
        let mut proposals: Vec<Proposal> = (1..=groups)
            .map(|group| {
                (0..labels.len()).filter(|&row| labels[row].as_i32() == group).collect::<Vec<_>>()
            })
            .filter(|rows| !rows.is_empty())
            .map(|rows| describe(&rows, &accounts, &matrix))
            .collect();
        proposals.sort_by_key(|proposal| std::cmp::Reverse(proposal.members.len()));
        Ok(proposals)
    })
}

/// The usual week of an account: the median of each weekday over the measured days, `[0]` for the weekday of the first
/// day given. None where a weekday was never measured.
#[must_use]
pub fn weekly_profile(daily: &[f64]) -> Option<[f64; WEEK]> {
    let mut profile = [0.0; WEEK];
    for (weekday, entry) in profile.iter_mut().enumerate() {
        let days = daily.iter().skip(weekday).step_by(WEEK).copied();
        *entry = median(&mut days.filter(|value| value.is_finite()).collect::<Vec<_>>())?;
    }
    Some(profile)
}

/// Checks everything but the values; the points of a profile.
fn check_shape(profiles: &[&[f64]], grouping: &Grouping) -> Result<usize, Fallback> {
    let points = profiles.first().map_or(0, |first| first.len());
    if profiles.is_empty() {
        return Err(Fallback::Short);
    }
    if profiles.len() > PROFILES_MAX {
        return Err(Fallback::TooLarge);
    }
    if profiles.iter().any(|profile| profile.len() != points) {
        return Err(Fallback::Parameter("profiles need one length"));
    }
    if !(POINTS_MIN..=POINTS_MAX).contains(&points) {
        return Err(Fallback::Parameter("a profile has 2 to 168 points"));
    }
    if !(grouping.radius > 0.0 && grouping.radius.is_finite()) {
        return Err(Fallback::Parameter("radius is above 0"));
    }
    if grouping.members_min < 2 {
        return Err(Fallback::Parameter("members_min is at least 2"));
    }
    if !(1..=points).contains(&grouping.warp_points) {
        return Err(Fallback::Parameter("warp_points is 1 to the points of a profile"));
    }
    Ok(points)
}

/// A profile scaled to a mean of 1; none where it cannot be.
fn shape(profile: &[f64]) -> Option<Vec<f64>> {
    let mean = profile.iter().sum::<f64>() / profile.len() as f64;
    // NaN compares false: an unmeasured point leaves the account out.
    (mean > 0.0).then(|| profile.iter().map(|value| value / mean).collect())
}

/// All pairwise distances, as a square.
fn distances(shapes: &[Vec<f64>], points: usize, warp: usize) -> Result<Vec<Vec<f64>>, Fallback> {
    let dtw = Dtw::euclidean().with_window(warp);
    let root = (points as f64).sqrt();
    let mut square = vec![vec![0.0; shapes.len()]; shapes.len()];
    for (row, left) in shapes.iter().enumerate() {
        for (column, right) in shapes.iter().enumerate().skip(row + 1) {
            let distance = dtw.distance(left, right) / root;
            if !distance.is_finite() {
                return Err(Fallback::NotFinite);
            }
            square[row][column] = distance;
            square[column][row] = distance;
        }
    }
    Ok(square)
}

fn describe(rows: &[usize], accounts: &[usize], matrix: &DistanceMatrix) -> Proposal {
    let total = |&row: &usize| rows.iter().map(|&other| matrix[row][other]).sum::<f64>();
    let medoid = rows
        .iter()
        .copied()
        .min_by(|left, right| total(left).total_cmp(&total(right)))
        .expect("a group has a member: empty ones were dropped");
    Proposal {
        members: rows.iter().map(|&row| accounts[row]).collect(),
        medoid: accounts[medoid],
        reach: rows.iter().map(|&row| matrix[medoid][row]).fold(0.0, f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dynamic time warping by its definition, in a full table.
    fn by_definition(left: &[f64], right: &[f64], window: usize) -> f64 {
        let (rows, columns) = (left.len(), right.len());
        let mut cost = vec![vec![f64::INFINITY; columns + 1]; rows + 1];
        cost[0][0] = 0.0;
        for row in 1..=rows {
            for column in row.saturating_sub(window).max(1)..=(row + window).min(columns) {
                let best =
                    cost[row - 1][column].min(cost[row][column - 1]).min(cost[row - 1][column - 1]);
                cost[row][column] = best + (left[row - 1] - right[column - 1]).powi(2);
            }
        }
        (cost[rows][columns] / rows as f64).sqrt()
    }

    #[test]
    fn distances_are_those_of_the_definition() {
        let mut random = fastrand::Rng::with_seed(7);
        for points in [2, 3, 7, 14, 24, 168] {
            let shapes: Vec<Vec<f64>> =
                (0..6).map(|_| (0..points).map(|_| random.f64()).collect()).collect();
            for warp in [1, 2, points] {
                let found = distances(&shapes, points, warp).expect("finite");
                for (row, left) in shapes.iter().enumerate() {
                    for (column, right) in shapes.iter().enumerate() {
                        let expected = by_definition(left, right, warp);
                        assert!((found[row][column] - expected).abs() < 1e-9, "{points} {warp}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_profile_is_the_usual_week() {
        let daily: Vec<f64> = (0..21).map(|day| f64::from(day % 7)).collect();
        assert_eq!(weekly_profile(&daily), Some([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        assert_eq!(weekly_profile(&daily[..6]), None);
    }
}
