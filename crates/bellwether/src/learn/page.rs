//! `learn report --html`: what a model knows and was worth, as one HTML file that holds everything, and needs no script.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::{data, weights};
use crate::against::figure;
use crate::against::page::{day, table};
use crate::evaluate::figure::{BLUE, FONT, GREY, INK, Line, VERMILLION, WIDTH, px};
use crate::model::ModelFile;

/// A picture, and the plane in it.
const HEIGHT: f64 = 340.0;
const SIDE: f64 = 260.0;
const TOP: f64 = 30.0;
/// Where the two planes of a picture begin.
const LEFTS: [f64; 2] = [60.0, 560.0];

pub(super) fn page(model: &ModelFile) -> String {
    let holdout = &model.report["holdout"];
    let all = &holdout["all"];
    let curves = &holdout["curves"];
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Bellwether: model " (model.version) }
                style { (PreEscaped(include_str!("../evaluate/report.css"))) }
            }
            body {
                h1 { "Model " (model.version) }
                p.lead { (summary(model)) }
                @if holdout.is_null() {
                    p { "There was no hold-out: there are too few prediction times. What it is worth is not known." }
                } @else {
                    h2 { "What its like was worth on what came later" }
                    @if all["has_skill"] != true {
                        p.lead { strong { "No skill: " } "it ranks no better than chance. Do not put it to work." }
                    }
                    (worth(holdout))
                    @if curves.is_null() {
                        p.small { "This model was fitted before curves were kept: fit it anew for figures." }
                    } @else {
                        figure {
                            figcaption { "Who left ranks above who stayed (left), and what share of the highest ranks left (right)" }
                            (rankings(curves, all))
                        }
                        figure {
                            figcaption {
                                "Risks against what came (left; grey: where 95 in 100 would lie, were the risk right), and how early lost "
                                "accounts were alerted at half recall (right)"
                            }
                            (outcomes(curves))
                        }
                    }
                    h2 { "Cohort by cohort" }
                    (cohorts(holdout))
                    p.small {
                        "In brackets 95 % intervals of 200 resamplings of the accounts. The hold-out calibrated the model after it was judged on it: "
                        "calibration errors are from before that. At half recall: alerts where the rank passes the threshold that finds half of those "
                        "lost, then 28 quiet days."
                    }
                }
                h2 { "What it knows" }
                p.lead { "Points between the best and the worst reading, with their standard errors." }
                @let (header, rows) = weights(model);
                (table(&header.iter().map(String::as_str).collect::<Vec<_>>(), rows.into_iter()))
                @let rows = data::rows(&model.report["data"]);
                @if !rows.is_empty() {
                    h2 { "What it was learned from" }
                    p.lead { (data::said(&model.report["data"])) }
                    (table(&data::HEADER, rows.into_iter()))
                    p.small {
                        "Silent: nothing came of the signal from any account of the cohort up to the end, for longer than ever within 128 days; of signals "
                        "that ten accounts have, and that come on 28 of 128 days."
                    }
                }
            }
        }
    };
    page.into_string()
}

fn summary(model: &ModelFile) -> String {
    let report = &model.report;
    format!(
        "Who leaves within {} days, under the policy {}: learned from {} examples with {} outcomes, until {}.",
        model.horizon_days,
        model.policy,
        report["examples"],
        report["outcomes"],
        day(&model.data_until)
    )
}

fn interval(value: &Value, digits: usize) -> String {
    if value.is_null() {
        return "–".to_owned();
    }
    let of = |part: usize| figure(&value[part], digits);
    format!("{} [{}, {}]", of(0), of(1), of(2))
}

/// The figures of all, and of the trees that are not additive.
fn worth(holdout: &Value) -> Markup {
    let (all, trees) = (&holdout["all"], &holdout["challenger"]);
    let rows = [
        ("area under the ROC curve", interval(&all["auc"], 3), figure(&trees["auc"], 3)),
        (
            "average precision",
            interval(&all["average_precision"], 3),
            figure(&trees["average_precision"], 3),
        ),
        ("share that left", figure(&all["base_rate"], 3), "–".to_owned()),
        ("mean risk", figure(&all["mean_risk"], 3), "–".to_owned()),
        ("calibration error", figure(&all["calibration_error"], 3), "–".to_owned()),
    ];
    let rows = rows.into_iter().map(|(name, model, trees)| vec![name.to_owned(), model, trees]);
    html! {
        p {
            "Judged from " (day(holdout["from"].as_str().unwrap_or(""))) " on: " (all["predictions"]) " predictions of " (all["accounts"])
            " accounts, " (all["outcomes"]) " before a loss; learned for that from " (holdout["learned_from"]["examples"]) " examples with "
            (holdout["learned_from"]["outcomes"]) " outcomes."
        }
        (table(&["", "scorecard", "boosted trees"], rows))
    }
}

fn cohorts(holdout: &Value) -> Markup {
    let header = [
        "cohort",
        "predictions / losses",
        "AUC",
        "average precision",
        "share that left",
        "mean risk",
        "calibration error",
        "precision at half recall",
        "false a year there",
        "median lead, days",
    ];
    let row = |name: &str, of: &Value| {
        let alerts = &of["at_half_recall"];
        vec![
            name.to_owned(),
            format!("{} / {}", of["predictions"], of["outcomes"]),
            interval(&of["auc"], 2),
            interval(&of["average_precision"], 2),
            figure(&of["base_rate"], 3),
            figure(&of["mean_risk"], 3),
            figure(&of["calibration_error"], 3),
            figure(&alerts["precision"], 3),
            figure(&alerts["false_per_account_year"], 2),
            figure(&alerts["median_lead_days"], 0),
        ]
    };
    let each = holdout["cohorts"].as_object().into_iter().flatten();
    let rows = each.map(|(name, of)| row(if name.is_empty() { "(no cohort)" } else { name }, of));
    table(&header, rows.chain([row("all", &holdout["all"])]))
}

/// A square whose axes reach so far.
#[derive(Clone, Copy)]
struct Plane {
    left: f64,
    across: f64,
    up: f64,
}

impl Plane {
    fn unit(left: f64) -> Plane {
        Plane { left, across: 1.0, up: 1.0 }
    }

    fn x(self, value: f64) -> f64 {
        self.left + SIDE * (value / self.across).clamp(0.0, 1.0)
    }

    fn y(self, value: f64) -> f64 {
        TOP + SIDE * (1.0 - (value / self.up).clamp(0.0, 1.0))
    }

    /// Lines, numbers and names of both axes.
    fn frame(self, across: &str, up: &str) -> Markup {
        let ticks = (0..=4).map(|quarter| f64::from(quarter) / 4.0);
        let short = |value: f64| {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        html! {
            @for share in ticks {
                @let (x, y) = (self.x(share * self.across), self.y(share * self.up));
                line x1=(self.left) x2=(self.left + SIDE) y1=(px(y)) y2=(px(y)) stroke=(if share == 0.0 { "#999" } else { "#ecebe4" }) {}
                text x=(self.left - 8.0) y=(px(y + 4.0)) text-anchor="end" fill="#555" { (short(share * self.up)) }
                text x=(px(x)) y=(TOP + SIDE + 18.0) text-anchor="middle" fill="#555" { (short(share * self.across)) }
            }
            text x=(self.left + SIDE) y=(TOP + SIDE + 38.0) text-anchor="end" { (across) }
            text x=(self.left - 50.0) y=(TOP - 14.0) { (up) }
        }
    }

    fn path(self, points: &[[f64; 2]]) -> String {
        let mut line = Line::default();
        for [x, y] in points {
            line.to(self.x(*x), Some(self.y(*y)));
        }
        line.0
    }
}

fn points<const N: usize>(curve: &Value) -> Vec<[f64; N]> {
    let of =
        |point: &Value| -> [f64; N] { std::array::from_fn(|at| point[at].as_f64().unwrap_or(0.0)) };
    curve.as_array().into_iter().flatten().map(of).collect()
}

fn picture(name: &str, body: &Markup) -> Markup {
    html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label=(name) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) }
            font-family=(FONT) font-size="12" fill=(INK) { (body) }
    }
}

/// The ROC curve, and precision by recall.
fn rankings(curves: &Value, all: &Value) -> Markup {
    let roc = Plane::unit(LEFTS[0]);
    let found: Vec<[f64; 2]> = points(&curves["precision_recall"]);
    // The first few ranks are chance: they do not decide how far the axis reaches.
    let settled = found.iter().filter(|[recall, _]| *recall >= 0.05);
    let most = settled.map(|[_, precision]| *precision).fold(0.01, f64::max);
    let up = if most > 0.5 { 1.0 } else { (most * 25.0).ceil() / 20.0 };
    let precision = Plane { left: LEFTS[1], across: 1.0, up };
    let base = all["base_rate"].as_f64().unwrap_or(0.0);
    picture(
        "ROC curve, and precision by recall",
        &html! {
            (roc.frame("share of those that stayed", "share of those that left"))
            path d=(roc.path(&[[0.0, 0.0], [1.0, 1.0]])) fill="none" stroke=(GREY) stroke-dasharray="2 3" {}
            path d=(roc.path(&points(&curves["roc"]))) fill="none" stroke=(BLUE) stroke-width="2" {}
            text x=(px(roc.x(0.98))) y=(px(roc.y(0.06))) text-anchor="end" fill=(BLUE) { "AUC " (interval(&all["auc"], 3)) }
            text x=(px(roc.x(0.56))) y=(px(roc.y(0.46))) fill=(GREY) { "by chance" }
            (precision.frame("recall: share of those that left", "precision: share of the alerted that left"))
            path d=(precision.path(&[[0.0, base], [1.0, base]])) fill="none" stroke=(GREY) stroke-dasharray="2 3" {}
            path d=(precision.path(&found)) fill="none" stroke=(BLUE) stroke-width="2" {}
            text x=(px(precision.x(0.98))) y=(px(precision.y(base) - 6.0)) text-anchor="end" fill=(GREY) { "by chance" }
        },
    )
}

/// Risks against shares that left, and lead times.
fn outcomes(curves: &Value) -> Markup {
    let bins: Vec<[f64; 3]> = points(&curves["calibration"]);
    let most = bins.iter().map(|[risk, left, _]| risk.max(*left)).fold(0.004, f64::max);
    // So that quarters of it are short numbers.
    let unit = if most > 0.1 {
        0.1
    } else if most > 0.02 {
        0.02
    } else {
        0.004
    };
    let reach = (most * 1.05 / unit).ceil() * unit;
    let plane = Plane { left: LEFTS[0], across: reach, up: reach };
    let weeks: Vec<f64> =
        curves["lead_weeks"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    let tallest = weeks.iter().copied().fold(1.0, f64::max);
    let step = SIDE / weeks.len().max(4) as f64;
    let height = |count: f64| (SIDE - 16.0) * count / tallest;
    picture(
        "Predicted against seen, and lead times",
        &html! {
            (plane.frame("mean risk", "share that left"))
            path d=(plane.path(&[[0.0, 0.0], [reach, reach]])) fill="none" stroke=(GREY) stroke-dasharray="2 3" {}
            @for [risk, left, count] in &bins {
                // 95 % of such shares, were the risk right: the normal approximation.
                @let spread = 1.96 * (risk * (1.0 - risk) / count.max(1.0)).sqrt();
                line x1=(px(plane.x(*risk))) x2=(px(plane.x(*risk))) y1=(px(plane.y(risk - spread))) y2=(px(plane.y(risk + spread)))
                    stroke="#c4c2b8" stroke-width="4" {}
                circle cx=(px(plane.x(*risk))) cy=(px(plane.y(*left))) r="4" fill=(BLUE) {}
            }
            text x=(LEFTS[1] - 50.0) y=(TOP - 14.0) { "lost accounts that were alerted" }
            line x1=(LEFTS[1]) x2=(LEFTS[1] + SIDE) y1=(TOP + SIDE) y2=(TOP + SIDE) stroke="#999" {}
            @if weeks.is_empty() { text x=(LEFTS[1]) y=(TOP + SIDE / 2.0) fill=(GREY) { "none" } }
            @for (week, count) in weeks.iter().enumerate() {
                @let x = LEFTS[1] + step * week as f64;
                rect x=(px(x + step * 0.1)) y=(px(TOP + SIDE - height(*count))) width=(px(step * 0.8)) height=(px(height(*count))) fill=(VERMILLION) {}
                text x=(px(x + step * 0.5)) y=(px(TOP + SIDE - height(*count) - 4.0)) text-anchor="middle" { (count) }
                text x=(px(x + step * 0.5)) y=(TOP + SIDE + 18.0) text-anchor="middle" fill="#555" { (week) "–" (week + 1) }
            }
            text x=(LEFTS[1] + SIDE) y=(TOP + SIDE + 38.0) text-anchor="end" { "weeks from the first alert to the loss" }
        },
    )
}
