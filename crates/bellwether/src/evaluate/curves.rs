//! What alerts find against how often they are false, as SVG: one curve a rule.

use maud::{Markup, html};
use serde_json::Value;

use super::figure::{BLUE, FONT, GREY, INK, Line, PAPER, VERMILLION, WIDTH, px};
use super::tables::{number, points};

/// Shares of the lost accounts that were alerted before, against false alerts: one curve a rule.
pub(crate) fn draw(judged: &Value) -> Markup {
    const HEIGHT: f64 = 380.0;
    const FROM: (f64, f64) = (60.0, 20.0);
    const TO: (f64, f64) = (800.0, 330.0);
    const RATES: (f64, f64) = (0.02, 20.0);
    let rules = judged["curves"].as_object();
    let all = || rules.into_iter().flatten().flat_map(|(rule, _)| points(judged, rule));
    let highest = all().map(|point| number(&point["recall"][2])).fold(0.1, f64::max);
    let top = if highest > 0.6 { 1.0 } else { (highest * 10.0).ceil() / 10.0 };
    let x = |rate: f64| {
        let share = (rate.clamp(RATES.0, RATES.1) / RATES.0).ln() / (RATES.1 / RATES.0).ln();
        FROM.0 + (TO.0 - FROM.0) * share
    };
    let y = |recall: f64| TO.1 - (TO.1 - FROM.1) * recall.clamp(0.0, top) / top;
    let style = |rule: &str| match rule {
        "Bellwether" => (BLUE, "none", 2.2),
        "Bellwether, risk only" => (BLUE, "1.5 2.5", 1.8),
        "single z" => (VERMILLION, "6 3", 1.4),
        _ => (GREY, "2 3", 1.4),
    };
    let drawn: Vec<Markup> = rules
        .into_iter()
        .flatten()
        .map(|(rule, _)| curve(judged, rule, style(rule), &x, &y))
        .collect();
    let mut random = Line::default();
    for step in 0..=100 {
        let rate = RATES.0 * (RATES.1 / RATES.0).powf(f64::from(step) / 100.0);
        let share = 1.0 - (-rate * number(&judged["horizon_days"]) / 365.25).exp();
        random.to(x(rate), Some(y(share)).filter(|_| share <= top));
    }
    let ends = ends(judged, &x, &y);
    let grid = (0..=10).map(|tenth| f64::from(tenth) / 10.0).filter(|share| *share <= top + 1e-9);
    html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Lost accounts that were alerted before, against false alerts"
            viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } font-family=(FONT) font-size="12" fill=(INK) {
            @for share in grid {
                line x1=(FROM.0) x2=(TO.0) y1=(px(y(share))) y2=(px(y(share))) stroke="#ecebe4" {}
                text x=(FROM.0 - 8.0) y=(px(y(share) + 4.0)) text-anchor="end" fill="#555" { (format!("{:.0} %", share * 100.0)) }
            }
            @for rate in [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0] {
                line x1=(px(x(rate))) x2=(px(x(rate))) y1=(TO.1) y2=(TO.1 + 5.0) stroke="#999" {}
                text x=(px(x(rate))) y=(TO.1 + 19.0) text-anchor="middle" fill="#555" { (rate) }
            }
            line x1=(FROM.0) x2=(TO.0) y1=(TO.1) y2=(TO.1) stroke="#999" {}
            text x=(TO.0) y=(TO.1 + 38.0) text-anchor="end" { "false high alerts per account and year (logarithmic)" }
            text x="0" y="10" { "lost accounts that were alerted before" }
            path d=(random.0) fill="none" stroke="#c4c2b8" stroke-width="5" {}
            text x=(FROM.0 + 4.0) y=(TO.1 - 12.0) fill=(GREY) { "grey band: as many alerts at random" }
            @for curve in &drawn { (curve) }
            @for (rule, x, y) in &ends {
                @let (colour, _, width) = style(rule);
                text x=(px(x + 10.0)) y=(px(y + 4.0)) fill=(colour) font-weight=(if width > 2.0 { "600" } else { "400" })
                    stroke=(PAPER) stroke-width="3" paint-order="stroke" { (rule) }
            }
        }
    }
}

fn curve(
    judged: &Value,
    rule: &str,
    (colour, dash, width): (&str, &str, f64),
    x: &dyn Fn(f64) -> f64,
    y: &dyn Fn(f64) -> f64,
) -> Markup {
    let mut of: Vec<&Value> = points(judged, rule).collect();
    of.sort_by(|left, right| number(&left["false"][0]).total_cmp(&number(&right["false"][0])));
    let ours = rule == "Bellwether";
    let place = |point: &Value| (x(number(&point["false"][0])), y(number(&point["recall"][0])));
    let mut line = Line::default();
    for point in &of {
        let (x, y) = place(point);
        line.to(x, Some(y));
    }
    html! {
        @for point in &of {
            @let (at_x, at_y) = place(point);
            g stroke=(colour) stroke-width=(if ours { "1" } else { "0.6" }) opacity=(if ours { "0.6" } else { "0.35" }) {
                path d={ "M" (px(at_x)) "," (px(y(number(&point["recall"][1])))) "V" (px(y(number(&point["recall"][2])))) } {}
                path d={ "M" (px(x(number(&point["false"][1])))) "," (px(at_y)) "H" (px(x(number(&point["false"][2])))) } {}
            }
        }
        path d=(line.0) fill="none" stroke=(colour) stroke-width=(width) stroke-dasharray=(dash) {}
        @for point in of.iter().filter(|_| ours) {
            @let (at_x, at_y) = place(point);
            circle cx=(px(at_x)) cy=(px(at_y)) r="3.4" fill=(colour) {}
            text x=(px(at_x - 7.0)) y=(px(at_y - 7.0)) text-anchor="end" fill=(colour) font-size="11"
                stroke=(PAPER) stroke-width="3" paint-order="stroke" {
                "budget " (number(&point["at"]))
            }
        }
    }
}

/// Where the curves end, moved apart so that their names can be read.
fn ends<'v>(
    judged: &'v Value,
    x: &dyn Fn(f64) -> f64,
    y: &dyn Fn(f64) -> f64,
) -> Vec<(&'v String, f64, f64)> {
    let mut ends: Vec<(&String, f64, f64)> = judged["curves"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(rule, _)| {
            let last = points(judged, rule).max_by(|left, right| {
                number(&left["false"][0]).total_cmp(&number(&right["false"][0]))
            })?;
            Some((rule, x(number(&last["false"][0])), y(number(&last["recall"][0]))))
        })
        .collect();
    ends.sort_by(|left, right| left.2.total_cmp(&right.2));
    let mut free = f64::NEG_INFINITY;
    for end in &mut ends {
        end.2 = end.2.max(free);
        free = end.2 + 15.0;
    }
    ends
}
