//! Series that break models: each detector answers with finite numbers or a typed reason, and never panics.

use bellwether_detect::changepoint::{Onset, date_onset};
use bellwether_detect::cohorts::{Grouping, propose, weekly_profile};
use bellwether_detect::forecast::{Forecast, ForecastDay, Forecaster};
use bellwether_detect::peers::{self, PeerVerdict, outliers};
use bellwether_detect::{Domain, Fallback};
use proptest::prelude::*;

const GAP: f64 = f64::NAN;

type Forecasting = fn(&Forecaster, &[f64], usize, f64) -> Result<Forecast, Fallback>;

const FORECASTS: [(&str, Forecasting); 3] = [
    ("mstl_naive", Forecaster::mstl_naive),
    ("mstl_level", Forecaster::mstl_level),
    ("auto_ets", Forecaster::auto_ets),
];

/// Small counts without order, the same on every run.
fn noise(day: usize) -> f64 {
    ((day * 7919 + day * day * 104_729) % 23) as f64
}

fn with(day: usize, value: f64) -> Vec<f64> {
    let mut daily: Vec<f64> = (0..90).map(noise).collect();
    daily[day] = value;
    daily
}

/// Name, series, and the reason that every detector of one series gives for it as a count; "" for an answer.
fn series() -> Vec<(&'static str, Vec<f64>, &'static str)> {
    let many = |value: f64| vec![value; 90];
    let each = |value: fn(usize) -> f64| (0..90).map(value).collect::<Vec<f64>>();
    vec![
        ("nothing", vec![], "short"),
        ("NaN everywhere", many(GAP), "short"),
        ("a NaN in the middle", with(45, GAP), ""),
        ("a NaN at the end", with(89, GAP), ""),
        ("a NaN at the start", with(0, GAP), ""),
        ("every third day NaN", each(|day| if day % 3 == 1 { GAP } else { noise(day) }), "gaps"),
        (
            "a fortnight NaN",
            each(|day| if (40..54).contains(&day) { GAP } else { noise(day) }),
            "gaps",
        ),
        ("a value in a NaN desert", [vec![5.0], vec![GAP; 40]].concat(), "gaps"),
        ("constant", many(7.0), "constant"),
        ("constant fraction", many(0.1), "constant"),
        ("all zeros", many(0.0), "constant"),
        ("huge constant", many(1e300), "too_large"),
        ("one huge value", with(45, 1e300), "too_large"),
        ("the largest value", with(45, f64::MAX), "too_large"),
        ("largest and smallest", each(|day| [f64::MAX, f64::MIN][day % 2]), "too_large"),
        ("an infinity", with(45, f64::INFINITY), "not_finite"),
        ("a negative infinity", with(45, f64::NEG_INFINITY), "not_finite"),
        ("infinite everywhere", many(f64::INFINITY), "not_finite"),
        ("a negative value", with(45, -1.0), "negative"),
        ("subnormal values", each(|day| noise(day) * 5e-324), "constant"),
        ("the largest allowed spike", with(45, 1e15), ""),
        ("the largest allowed spike today", with(89, 1e15), ""),
        ("allowed extremes", each(|day| [0.0, 1e15][day % 2]), ""),
        ("tiny values", each(|day| noise(day) * 1e-100), ""),
        ("alternating", each(|day| [0.0, 100.0][day % 2]), ""),
        ("one jump from nothing", each(|day| if day < 60 { 0.0 } else { 1e6 }), ""),
        ("5,000 days", (0..5_000).map(noise).collect(), ""),
        (
            "old trouble out of sight",
            [vec![f64::INFINITY; 9], (0..126).map(noise).collect()].concat(),
            "",
        ),
    ]
}

fn assert_forecast(name: &str, answer: &[ForecastDay], horizon_days: usize, domain: Domain) {
    assert_eq!(answer.len(), horizon_days, "{name}");
    for day in answer {
        let values = [day.lower, day.point, day.upper];
        assert!(values.iter().all(|value| value.is_finite()), "{name}: {day:?}");
        assert!(day.lower <= day.point && day.point <= day.upper, "{name}: {day:?}");
        assert!(domain == Domain::Real || day.lower >= 0.0, "{name}: {day:?}");
    }
}

fn assert_onset(name: &str, onset: &Onset, days: usize) {
    let values = [onset.before, onset.after, onset.effect_spreads, onset.support];
    assert!(values.iter().all(|value| value.is_finite()), "{name}: {onset:?}");
    assert!(usize::from(onset.days_ago) < days, "{name}: {onset:?}");
}

fn assert_verdicts(name: &str, verdicts: &[PeerVerdict], accounts: usize) {
    assert_eq!(verdicts.len(), accounts, "{name}");
    for verdict in verdicts {
        assert!(verdict.score.is_finite(), "{name}: {verdict:?}");
        assert!(verdict.score.abs() <= peers::SCORE_MAX, "{name}: {verdict:?}");
    }
}

#[test]
fn forecasts_answer_or_say_why() {
    for (name, daily, reason) in series() {
        for (detector, forecast) in FORECASTS {
            let forecaster = Forecaster { domain: Domain::NonNegative };
            let given = forecast(&forecaster, &daily, 14, 0.95);
            let said = given.as_ref().map_or_else(Fallback::as_str, |_| "");
            assert_eq!(said, reason, "{detector} of {name}");
            if let Ok(answer) = given {
                assert_forecast(name, &answer, 14, Domain::NonNegative);
            }
            if let Ok(answer) = forecast(&Forecaster { domain: Domain::Real }, &daily, 28, 0.5) {
                assert_forecast(name, &answer, 28, Domain::Real);
            }
        }
    }
}

#[test]
fn onsets_answer_or_say_why() {
    for (name, daily, reason) in series() {
        let given = date_onset(&daily, Domain::NonNegative);
        assert_eq!(given.as_ref().map_or_else(Fallback::as_str, |_| ""), reason, "{name}");
        if let Ok(Some(onset)) = given {
            assert_onset(name, &onset, daily.len());
        }
        if let Ok(Some(onset)) = date_onset(&daily, Domain::Real) {
            assert_onset(name, &onset, daily.len());
        }
    }
}

#[test]
fn every_length_up_to_a_month_is_short_or_answered() {
    for days in 0..=31 {
        let daily: Vec<f64> = (0..days).map(noise).collect();
        let short = (days < 28).then_some(Fallback::Short);
        for (detector, forecast) in FORECASTS {
            let given = forecast(&Forecaster { domain: Domain::NonNegative }, &daily, 7, 0.9);
            assert_eq!(given.err(), short, "{detector}, {days} days");
        }
        assert_eq!(date_onset(&daily, Domain::NonNegative).err(), short, "{days} days");
        assert_eq!(weekly_profile(&daily).is_none(), days < 7, "{days} days");
    }
}

#[test]
fn peers_answer_or_say_why() {
    let cohort = |odd: Vec<f64>| -> Vec<Vec<f64>> {
        let usual = (0..12).map(|account| (0..90).map(|day| noise(day + account * 31)).collect());
        usual.chain([odd]).collect()
    };
    for (name, daily, _) in series().into_iter().filter(|(_, daily, _)| daily.len() == 90) {
        let alike = vec![daily.as_slice(); 12];
        // Twelve times the same differs from its median nowhere.
        let said = outliers(&alike).map_or_else(|fallback| fallback.as_str(), |_| "");
        assert!(["sparse", "short", "too_large", "not_finite"].contains(&said), "{name}: {said}");
        let mixed = cohort(daily.clone());
        let rows: Vec<&[f64]> = mixed.iter().map(Vec::as_slice).collect();
        match outliers(&rows) {
            Ok(verdicts) => assert_verdicts(name, &verdicts, 13),
            Err(fallback) => {
                let allowed = [Fallback::TooLarge, Fallback::NotFinite];
                assert!(allowed.contains(&fallback), "{name}: {fallback}");
            }
        }
    }
    let rows = cohort((0..89).map(noise).collect());
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    assert!(matches!(outliers(&rows), Err(Fallback::Parameter(_))), "lengths differ");
    assert_eq!(outliers(&[]), Err(Fallback::Short));
    assert_eq!(outliers(&rows[..7]), Err(Fallback::Short));
    let long: Vec<f64> = (0..5_000).map(noise).collect();
    assert!(matches!(outliers(&[long.as_slice(); 8]), Err(Fallback::Sparse)));
    assert_eq!(outliers(&vec![long.as_slice(); 201]), Err(Fallback::TooLarge));
}

#[test]
fn flat_series_are_outliers_for_their_level_only() {
    // One account in three measures the same every day, as usual; one has fallen silent.
    let ratio = |account: usize, day: usize| 1.0 + (noise(day + account * 31) - 11.0) / 50.0;
    let mut cohort: Vec<Vec<f64>> =
        (0..20).map(|account| (0..14).map(|day| ratio(account, day)).collect()).collect();
    for account in [3, 6, 9, 12] {
        cohort[account] = vec![1.02; 14];
    }
    cohort[15] = vec![0.0; 14];
    let rows: Vec<&[f64]> = cohort.iter().map(Vec::as_slice).collect();
    let verdicts = outliers(&rows).expect("a cohort");
    let found: Vec<usize> = (0..20).filter(|&account| verdicts[account].outlier).collect();
    assert_eq!(found, [15]);
    assert!(verdicts[15].flat && verdicts[15].score < -2.5, "{:?}", verdicts[15]);
    assert!(verdicts[3].flat && !verdicts[3].by_dbscan);
    // A whole cohort of flat series has no spread to measure by.
    let flat = vec![[1.0; 14].as_slice(); 20];
    assert_eq!(outliers(&flat), Err(Fallback::Sparse));
}

#[test]
fn cohorts_answer_or_say_why() {
    let grouping = Grouping::default();
    let week = [5.0, 5.0, 5.0, 5.0, 5.0, 1.0, 1.0];
    let with_first = |first: f64| {
        let mut odd = week;
        odd[0] = first;
        odd
    };
    let reason = |odd: [f64; 7]| {
        let mut profiles = vec![week.as_slice(); 6];
        profiles.push(&odd);
        propose(&profiles, &grouping).map_or_else(|fallback| fallback.as_str(), |_| "")
    };
    for (first, said) in [
        (GAP, ""),
        (f64::INFINITY, "not_finite"),
        (-1.0, "negative"),
        (f64::MAX, "too_large"),
        (1e300, "too_large"),
        (1e15, ""),
        (5e-324, ""),
    ] {
        assert_eq!(reason(with_first(first)), said, "{first}");
    }
    assert_eq!(reason([0.0; 7]), "");
    assert_eq!(propose(&[], &grouping), Err(Fallback::Short));
    assert_eq!(propose(&[[0.0; 7].as_slice(); 9], &grouping), Err(Fallback::Short));
    assert_eq!(propose(&vec![week.as_slice(); 2_001], &grouping), Err(Fallback::TooLarge));
    for wrong in [
        Grouping { radius: 0.0, ..grouping },
        Grouping { radius: f64::NAN, ..grouping },
        Grouping { members_min: 1, ..grouping },
        Grouping { warp_points: 0, ..grouping },
        Grouping { warp_points: 8, ..grouping },
    ] {
        let said = propose(&[week.as_slice(); 9], &wrong);
        assert!(matches!(said, Err(Fallback::Parameter(_))), "{wrong:?}");
    }
    let [short, long] = [&week[..1], &week[..]];
    assert!(matches!(propose(&[short; 9], &grouping), Err(Fallback::Parameter(_))));
    assert!(matches!(propose(&[short, long], &grouping), Err(Fallback::Parameter(_))));
}

/// Any bits at all, usual counts, gaps and zeros.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        1 => any::<f64>(),
        2 => -1e15..1e15f64,
        8 => (0u16..50).prop_map(f64::from),
        2 => Just(0.0),
        1 => Just(GAP),
    ]
}

/// Mostly series that get past the checks: counts, few gaps, at any scale.
fn counts() -> impl Strategy<Value = Vec<f64>> {
    let day = prop_oneof![30 => (0u16..50).prop_map(f64::from), 1 => Just(GAP), 1 => 0.0..1e6f64];
    (prop::collection::vec(day, 28..140), -12i32..9)
        .prop_map(|(days, power)| days.into_iter().map(|day| day * 10f64.powi(power)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_series_gives_finite_answers(
        daily in prop_oneof![prop::collection::vec(value(), 0..200), counts()],
        horizon_days in 0usize..40,
        level in 0.4..1.1f64,
    ) {
        for domain in [Domain::NonNegative, Domain::Real] {
            for (detector, forecast) in FORECASTS {
                match forecast(&Forecaster { domain }, &daily, horizon_days, level) {
                    Ok(answer) => assert_forecast(detector, &answer, horizon_days, domain),
                    Err(fallback) => prop_assert_ne!(fallback, Fallback::Panicked),
                }
            }
            match date_onset(&daily, domain) {
                Ok(onset) => onset.iter().for_each(|onset| assert_onset("any", onset, daily.len())),
                Err(fallback) => prop_assert_ne!(fallback, Fallback::Panicked),
            }
        }
    }

    #[test]
    fn any_peers_give_finite_verdicts(
        cells in prop_oneof![
            prop::collection::vec(value(), 400),
            prop::collection::vec((0u8..4).prop_map(f64::from), 400),
            prop::collection::vec(0.0..2.0f64, 400),
        ],
        days in 1usize..40,
    ) {
        let rows: Vec<&[f64]> = cells.chunks_exact(days).collect();
        match outliers(&rows) {
            Ok(verdicts) => assert_verdicts("any", &verdicts, rows.len()),
            Err(fallback) => prop_assert_ne!(fallback, Fallback::Panicked),
        }
    }

    #[test]
    fn any_profiles_give_disjoint_cohorts_with_their_medoid_inside(
        cells in prop_oneof![
            prop::collection::vec(value(), 280),
            prop::collection::vec((0u8..4).prop_map(f64::from), 280),
        ],
        points in 2usize..15,
        radius in 0.01..2.0f64,
        members_min in 2usize..6,
    ) {
        let rows: Vec<&[f64]> = cells.chunks_exact(points).collect();
        let grouping = Grouping { radius, members_min, warp_points: 1 };
        match propose(&rows, &grouping) {
            Ok(proposals) => {
                let mut members: Vec<usize> =
                    proposals.iter().flat_map(|proposal| proposal.members.clone()).collect();
                let all = members.len();
                members.sort_unstable();
                members.dedup();
                prop_assert_eq!(members.len(), all);
                for proposal in &proposals {
                    prop_assert!(proposal.members.contains(&proposal.medoid));
                    prop_assert!(proposal.reach.is_finite());
                }
                prop_assert_eq!(propose(&rows, &grouping), Ok(proposals));
            }
            Err(fallback) => prop_assert_ne!(fallback, Fallback::Panicked),
        }
    }
}
