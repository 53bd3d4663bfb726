//! The comparison as one HTML file that holds everything, and needs no script.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::{cells, rows, sentence};
use crate::evaluate::figure::{BLUE, FONT, INK, VERMILLION, WIDTH, px};

pub(super) fn page(found: &Value) -> String {
    let list = found["alerts"]["list"].as_array().map_or(&[][..], Vec::as_slice);
    let movers = found["scores"]["movers"].as_array().map_or(&[][..], Vec::as_slice);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Bellwether: what the change would have done" }
                style { (PreEscaped(include_str!("../evaluate/report.css"))) }
            }
            body {
                h1 { "What the change would have done" }
                p.lead {
                    "The same history, replayed twice as known at the time"
                    @if let Some(from) = found["from"].as_str() { ", reported from " (day(from)) }
                    ", until " (day(found["to"].as_str().unwrap_or(""))) ". " (sentence(found))
                }
                h2 { "Side by side" }
                (table(&["", "old", "new"], rows(found).into_iter().map(Vec::from)))
                @if found["old"]["worth"].is_null() {
                    p.small { "What the alerts were worth is not known: no outcomes were named." }
                } @else {
                    p.small {
                        "An urgent alert (high or critical) is right where its account left within " (found["horizon_days"]) " days, and neither right nor "
                        "wrong where these are not over."
                    }
                }
                h2 { "Scores at the end" }
                figure { (histogram(&found["scores"]["histogram"], ["old", "new"])) }
                h2 { "Alerts that differ" }
                @if list.is_empty() { p { "None." } }
                (table(&["change", "account", "kind", "old", "new"], list.iter().map(|alert| Vec::from(cells(alert)))))
                p.small { "Two alerts are the same one where account and kind are, and they opened at most " (found["same_within_days"]) " days apart." }
                h2 { "Scores that moved most" }
                @if movers.is_empty() { p { "None." } }
                (table(&["account", "old", "new", "lines that differ"], movers.iter().map(mover)))
            }
        }
    };
    page.into_string()
}

/// The day of a time.
pub(crate) fn day(at: &str) -> &str {
    at.get(..10).unwrap_or(at)
}

pub(crate) fn mover(mover: &Value) -> Vec<String> {
    let number = |value: &Value| format!("{:.2}", value.as_f64().unwrap_or(0.0));
    let lines = mover["lines"].as_array().into_iter().flatten().map(|line| {
        let delta = line["delta"].as_f64().unwrap_or(0.0);
        format!("{} {delta:+.2}", line["name"].as_str().unwrap_or(""))
    });
    vec![
        mover["account_id"].as_str().unwrap_or("").to_owned(),
        number(&mover["old"]),
        number(&mover["new"]),
        lines.collect::<Vec<_>>().join(", "),
    ]
}

pub(crate) fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { @for name in header { th { (name) } } } }
            tbody { @for row in rows { tr { @for cell in row { td { (cell) } } } } }
        } }
    }
}

/// Accounts by score, two sides beside each other.
pub(crate) fn histogram(bins: &Value, [left, right]: [&str; 2]) -> Markup {
    const HEIGHT: f64 = 240.0;
    const BASE: f64 = 200.0;
    const TOP: f64 = 30.0;
    let counts = |side: &str| -> Vec<f64> {
        bins[side].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
    };
    let (old, new) = (counts("old"), counts("new"));
    let most = old.iter().chain(&new).copied().fold(1.0, f64::max);
    let step = WIDTH / old.len().max(1) as f64;
    let bar = |count: f64| (BASE - TOP) * count / most;
    html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label={ "Accounts by score, " (left) " and " (right) }
            viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } font-family=(FONT) font-size="12" fill=(INK) {
            text x="0" y="12" { "accounts by score: " (left) " (left, blue) and " (right) " (right, vermillion)" }
            @for (at, (old, new)) in old.iter().zip(&new).enumerate() {
                @let x = step * at as f64;
                @for (count, offset, colour) in [(*old, 0.1, BLUE), (*new, 0.5, VERMILLION)] {
                    rect x=(px(x + step * offset)) y=(px(BASE - bar(count))) width=(px(step * 0.38)) height=(px(bar(count))) fill=(colour) {}
                    text x=(px(x + step * (offset + 0.19))) y=(px(BASE - bar(count) - 4.0)) text-anchor="middle" { (count) }
                }
                text x=(px(x + step * 0.5)) y=(BASE + 18.0) text-anchor="middle" { (10 * at) "–" (10 * (at + 1)) }
            }
            line x1="0" x2=(WIDTH) y1=(BASE) y2=(BASE) stroke=(INK) {}
        }
    }
}
