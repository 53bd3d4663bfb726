//! Figures in sentences for people: no more digits than one wants to read, and no fewer than it takes to see a change.

/// Decimals of a figure at most.
const DECIMALS_MAX: usize = 6;

/// A figure: whole from 100 on, to a tenth from 1 on, below that to two significant digits (at most six decimals).
#[must_use]
pub fn figure(value: f64) -> String {
    written(value, decimals(value))
}

/// Two figures that are compared: with as many more digits as it takes to tell them apart (at most six decimals).
#[must_use]
pub fn figures(before: f64, after: f64) -> (String, String) {
    let (mut of_before, mut of_after) = (decimals(before), decimals(after));
    loop {
        let both = (written(before, of_before), written(after, of_after));
        let is_told = both.0 != both.1 || before.to_bits() == after.to_bits();
        if is_told || of_before.min(of_after) >= DECIMALS_MAX {
            return both;
        }
        of_before = (of_before + 1).min(DECIMALS_MAX);
        of_after = (of_after + 1).min(DECIMALS_MAX);
    }
}

/// A change in percent with its sign: whole, and below one to two significant digits.
#[must_use]
pub fn percent(change: f64) -> String {
    let text = if change.abs() >= 1.0 { format!("{change:.0}") } else { figure(change) };
    let sign = if change > 0.0 { "+" } else { "" };
    format!("{sign}{text} %")
}

/// The unit behind a figure, with a blank before it; nothing where the name of what is measured ends with it (a survey score of 8).
#[must_use]
pub fn unit_beside(name: &str, unit: &str) -> String {
    if unit.is_empty() || name.split(' ').next_back() == Some(unit) {
        return String::new();
    }
    format!(" {unit}")
}

fn decimals(value: f64) -> usize {
    let size = value.abs();
    if size >= 100.0 || size == 0.0 || !size.is_finite() {
        return 0;
    }
    let (mut decimals, mut edge) = (1, 1.0);
    while size < edge && decimals < DECIMALS_MAX {
        decimals += 1;
        edge /= 10.0;
    }
    decimals
}

/// Without zeros at the end, and without the sign of what is written as zero.
fn written(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text.as_str()
    };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn figures_have_the_digits_that_people_read() {
        for (value, text) in [
            (0.0, "0"),
            (450.4, "450"),
            (-1234.5, "-1234"),
            (52.24, "52.2"),
            (8.0, "8"),
            (10.0, "10"),
            (0.5, "0.5"),
            (0.996, "1"),
            (0.28, "0.28"),
            (0.0421, "0.042"),
            (-0.03, "-0.03"),
            (0.000_000_04, "0"),
            (-0.000_000_04, "0"),
        ] {
            assert_eq!(figure(value), text, "{value}");
        }
    }

    #[test]
    fn a_change_is_visible_however_small_the_rates_are() {
        for (before, after, texts) in [
            (0.1, 0.04, ("0.1", "0.04")),
            (0.04, 0.02, ("0.04", "0.02")),
            (0.1, 0.0, ("0.1", "0")),
            (99.96, 100.04, ("99.96", "100")),
            (450.0, 450.4, ("450", "450.4")),
            (5.0, 5.0, ("5", "5")),
            (12.0, 9.0, ("12", "9")),
        ] {
            let (of_before, of_after) = figures(before, after);
            assert_eq!((of_before.as_str(), of_after.as_str()), texts);
        }
        for (change, text) in
            [(-37.8, "-38 %"), (1031.2, "+1031 %"), (-0.42, "-0.42 %"), (0.0, "0 %"), (1.4, "+1 %")]
        {
            assert_eq!(percent(change), text);
        }
    }

    #[test]
    fn a_unit_is_not_said_twice() {
        assert_eq!(unit_beside("support sentiment", "sentiment"), "");
        assert_eq!(unit_beside("seats in use", "seats"), " seats");
        assert_eq!(unit_beside("logins", "logins/week"), " logins/week");
        assert_eq!(unit_beside("logins", ""), "");
    }

    proptest! {
        /// What differs by a hundredth of itself and more than a millionth is written differently.
        #[test]
        fn two_figures_that_differ_look_different(before in -2e6_f64..2e6, share in -3.0_f64..3.0) {
            let after = before * share;
            prop_assume!((before - after).abs() > (before.abs() / 100.0).max(2e-6));
            let (of_before, of_after) = figures(before, after);
            prop_assert_ne!(of_before, of_after);
        }
    }
}
