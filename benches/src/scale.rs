//! The tables of how cost grows, from the results of `scale`.

use serde_json::Value;

/// The points of a dimension and a detector, in the order in which they were measured.
pub(crate) fn points<'a>(
    results: &'a Value,
    dimension: &'a str,
    detector: &'a str,
) -> impl Iterator<Item = &'a Value> {
    let all = results["points"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    all.iter().filter(move |point| {
        point["dimension"].as_str() == Some(dimension)
            && point["detector"].as_str() == Some(detector)
    })
}

/// A number of a point; not a number where there is none.
pub(crate) fn number(point: &Value, path: &str) -> f64 {
    point.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// A number with its thousands set apart.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn shown(point: Option<&Value>, path: &str, digits: usize) -> String {
    let value = point.map_or(f64::NAN, |point| number(point, path));
    if value.is_finite() { format!("{value:.digits$}") } else { "–".to_owned() }
}

/// The dimensions: as they are called, and where a point says its value.
const DIMENSIONS: [(&str, &str); 4] = [
    ("accounts", "/accounts"),
    ("signals", "/signals"),
    ("weeks of history", "/weeks"),
    ("partitions", "/partitions"),
];

/// The tables of committed results.
#[must_use]
pub fn scale_table(results: &Value) -> String {
    let text = |name: &str| results[name].as_str().unwrap_or("?").to_owned();
    let mut lines = vec![
        format!("Machine: {}, {} build.", text("machine"), text("profile")),
        String::new(),
        "| | | rolling detector: µs of CPU an event | changelog, bytes an event | everything, no day closed: µs of CPU an event | changelog, bytes an event |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    for (dimension, path) in DIMENSIONS {
        let mut values: Vec<f64> = ["rolling", "full"]
            .iter()
            .flat_map(|detector| points(results, dimension, detector))
            .map(|point| number(point, path))
            .collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        for value in values {
            let [rolling, full] = ["rolling", "full"].map(|detector| {
                points(results, dimension, detector).find(|point| number(point, path) == value)
            });
            let (cpu, changelog) = ("/cpu_s_per_million", "/changelog_bytes_per_event");
            lines.push(format!(
                "| {dimension} | {} | {} | {} | {} | {} |",
                grouped(value),
                shown(rolling, cpu, 2),
                shown(rolling, changelog, 0),
                shown(full, cpu, 1),
                shown(full, changelog, 0),
            ));
        }
    }
    lines.extend(closes(results));
    lines.extend(sizes(results));
    lines.push(String::new());
    lines.join("\n")
}

/// What closes cost, by how many events there are beside them.
fn closes(results: &Value) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        "| everything, whole days | signals | events an account and day | µs of CPU an event, closes included | µs a close, per account-signal |".to_owned(),
        "| --- | --- | --- | --- | --- |".to_owned(),
    ];
    for point in points(results, "closes", "full") {
        lines.push(format!(
            "| {} accounts, {} days closed | {} | {} | {:.1} | {:.0} |",
            grouped(number(point, "/accounts")),
            grouped(number(point, "/days_closed")),
            number(point, "/signals"),
            number(point, "/events_per_account_day"),
            number(point, "/cpu_s_per_million"),
            close_us(results, point),
        ));
    }
    lines
}

/// Microseconds that the close of a day takes, per signal of an account: by how much dearer an event is the fewer of them share a close, over
/// the points of as many signals. Not a number of one point alone.
pub(crate) fn close_us(results: &Value, point: &Value) -> f64 {
    let signals = number(point, "/signals");
    let alike = points(results, "closes", "full").filter(|of| number(of, "/signals") == signals);
    let shared = alike
        .map(|of| (1.0 / number(of, "/events_per_account_day"), number(of, "/cpu_s_per_million")));
    least_squares(&shared.collect::<Vec<_>>()).1 / signals
}

/// Microseconds an event by the number of signals: a straight line through the points of that dimension (least squares).
pub(crate) fn event_us(results: &Value, detector: &str, signals: f64) -> f64 {
    let (fixed, per_signal) = line(results, detector);
    fixed + per_signal * signals
}

/// Its two coefficients: of an event, and of a signal.
pub(crate) fn line(results: &Value, detector: &str) -> (f64, f64) {
    let points = points(results, "signals", detector)
        .map(|point| (number(point, "/signals"), number(point, "/cpu_s_per_million")));
    least_squares(&points.collect::<Vec<_>>())
}

/// Where a straight line through points begins, and by how much it rises.
fn least_squares(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = covariance / variance;
    (y - slope * x, slope)
}

/// What state takes, by the number of accounts.
fn sizes(results: &Value) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        "| state | signals, weeks | memory budget | rows, bytes an account | at rest, bytes an account | on disk at rest | resident | at its highest | read back, seconds of CPU |".to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    let all = [("accounts", "rolling"), ("accounts", "full")];
    for point in all.iter().flat_map(|(dimension, detector)| points(results, dimension, detector)) {
        lines.push(format!(
            "| {} accounts, {} | {}, {} | {} MiB | {:.0} | {:.0} | {:.2} GiB | {} MiB | {} MiB | {:.1} |",
            grouped(number(point, "/accounts")),
            if point["detector"] == "full" { "everything" } else { "rolling detector" },
            number(point, "/signals"),
            number(point, "/weeks"),
            grouped(number(point, "/memory_mib")),
            number(point, "/row_bytes_per_account"),
            number(point, "/state/bytes_per_account"),
            number(point, "/state/bytes_at_rest") / f64::from(1 << 30),
            grouped(number(point, "/rss_mib")),
            grouped(number(point, "/peak_rss_mib")),
            number(point, "/restore/cpu_seconds"),
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An event of 10 µs, and a close of 1,600 µs that so many of them share.
    fn point(signals: u32, per_day: f64) -> Value {
        json!({
            "dimension": "closes", "detector": "full", "signals": signals, "events_per_account_day": per_day,
            "cpu_s_per_million": 10.0 + 1_600.0 / per_day,
        })
    }

    #[test]
    fn what_a_close_takes_is_told_by_events_that_share_it() {
        let all = [point(16, 16.0), point(16, 64.0), point(16, 256.0), point(4, 64.0)];
        let results = json!({ "points": all });
        for of in &all[..3] {
            assert!((close_us(&results, of) - 100.0).abs() < 1e-9);
        }
        assert!(close_us(&results, &all[3]).is_nan(), "one alone tells nothing");
    }
}
