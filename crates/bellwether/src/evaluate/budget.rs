//! Whether the budget is kept, as SVG: the ratio of what came to what was allowed, per budget and group of accounts.

use maud::{Markup, html};
use serde_json::Value;

use super::figure::{BLUE, FONT, GREY, INK, VERMILLION, WIDTH, px};
use super::tables::number;

/// Colours and shapes of the groups; the last is all of them together.
const STYLES: [(&str, &str); 6] = [
    ("#56b4e9", "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0"),
    ("#009e73", "M-3.5,-3.5h7v7h-7z"),
    (BLUE, "M0,-4.5l4.5,4.5l-4.5,4.5l-4.5,-4.5z"),
    ("#b97400", "M0,-4.5l4.5,8h-9z"),
    (VERMILLION, "M0,4.5l4.5,-8h-9z"),
    (INK, "M-4.5,-1.5h3v-3h3v3h3v3h-3v3h-3v-3h-3z"),
];

/// Realised over allowed false alerts, with intervals; the band is the goal.
pub(crate) fn draw(found: &Value) -> Markup {
    const HEIGHT: f64 = 360.0;
    const FROM: (f64, f64) = (60.0, 24.0);
    const TO: (f64, f64) = (700.0, 310.0);
    const RATIOS: (f64, f64) = (0.25, 4.0);
    let y = |ratio: f64| {
        let share = (ratio.clamp(RATIOS.0, RATIOS.1) / RATIOS.0).ln() / (RATIOS.1 / RATIOS.0).ln();
        TO.1 - (TO.1 - FROM.1) * share
    };
    let budgets: Vec<f64> = found["budgets"].as_array().into_iter().flatten().map(number).collect();
    let groups: Vec<&Value> = found["groups"].as_array().into_iter().flatten().collect();
    let width = (TO.0 - FROM.0) / budgets.len().max(1) as f64;
    let styled = || groups.iter().zip(STYLES).enumerate();
    let x = |budget: usize, group: usize| {
        let within = (group as f64 + 1.0) / (groups.len() as f64 + 1.0);
        FROM.0 + width * (budget as f64 + 0.15 + 0.7 * within)
    };
    html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="False high alerts over the budget, per budget and group of accounts"
            viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } font-family=(FONT) font-size="12" fill=(INK) {
            rect x=(FROM.0) y=(px(y(1.3))) width=(TO.0 - FROM.0) height=(px(y(0.7) - y(1.3))) fill="#e8f0e4" {}
            @for ratio in [0.25, 0.5, 0.7, 1.0, 1.3, 2.0, 4.0] {
                line x1=(FROM.0) x2=(TO.0) y1=(px(y(ratio))) y2=(px(y(ratio))) stroke=(if ratio == 1.0 { GREY } else { "#ecebe4" }) {}
                text x=(FROM.0 - 8.0) y=(px(y(ratio) + 4.0)) text-anchor="end" fill="#555" { "×" (ratio) }
            }
            text x="0" y="12" { "false high alerts a year, over the budget (logarithmic); the band is the goal" }
            @for (at, budget) in budgets.iter().enumerate() {
                text x=(px(FROM.0 + width * (at as f64 + 0.5))) y=(TO.1 + 20.0) text-anchor="middle" fill="#555" { (budget) }
                @for (index, (group, (colour, shape))) in styled() {
                    @let rate = &group["at"][at]["rate"];
                    @let ratio = |part: usize| number(&rate[part]) / budget;
                    g stroke=(colour) fill=(colour) {
                        line x1=(px(x(at, index))) x2=(px(x(at, index))) y1=(px(y(ratio(1)))) y2=(px(y(ratio(2)))) stroke-width="1.2" {}
                        path d=(shape) stroke="none" transform={ "translate(" (px(x(at, index))) "," (px(y(ratio(0)))) ")" } {}
                    }
                }
            }
            text x=(px((FROM.0 + TO.0) / 2.0)) y=(TO.1 + 40.0) text-anchor="middle" { "budget of false high alerts per account and year" }
            @for (index, (group, (colour, shape))) in styled() {
                @let row = 60.0 + 22.0 * index as f64;
                path d=(shape) fill=(colour) transform={ "translate(" (TO.0 + 22.0) "," (row - 4.0) ")" } {}
                text x=(TO.0 + 34.0) y=(row) { (group["name"].as_str().unwrap_or_default()) }
            }
        }
    }
}
