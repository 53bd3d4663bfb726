//! The explanation of a score as a table whose lines visibly add up to it.

use bellwether_core::output::{Category, Contribution, HealthRecord};
use bellwether_core::points::Points;
use maud::{Markup, html};

use super::parts::{number, signed, words};

/// One line of the table: a contribution and the total after it.
#[derive(Debug)]
struct Step<'a> {
    line: &'a Contribution,
    before: Points,
    after: Points,
}

/// The lines in the order in which they are read: the base, the categories, each with what takes most away first, the clipping.
fn steps(record: &HealthRecord) -> Vec<Step<'_>> {
    let mut lines: Vec<&Contribution> = record.contributions.iter().collect();
    lines.sort_by_key(|line| {
        let place = match (line.name.as_str(), line.category) {
            ("base", None) => 0,
            (_, Some(category)) => 1 + Category::ALL.iter().take_while(|c| **c != category).count(),
            (_, None) => 1 + Category::ALL.len(),
        };
        (place, line.points)
    });
    let mut total = Points::ZERO;
    let mut steps = Vec::with_capacity(lines.len());
    for line in lines {
        let before = total;
        total += line.points;
        steps.push(Step { line, before, after: total });
    }
    steps
}

/// The table. Lines that contribute nothing are counted below it, not shown.
pub(super) fn table(record: &HealthRecord) -> Markup {
    let steps = steps(record);
    let silent = steps.iter().filter(|step| step.line.points == Points::ZERO).count();
    let reached = steps.iter().map(|step| step.after.0);
    let low = reached.clone().min().unwrap_or(0).min(0);
    let high = reached.max().unwrap_or(0).max(Points::SCORE_MAX.0);
    html! {
        div.scroll {
            table.waterfall {
                thead {
                    tr {
                        th scope="col" { "Line" }
                        th.measure scope="col" { "Observed · normal" }
                        th.chart scope="col" { span.unseen { "Drawing" } }
                        th.num scope="col" { "Points" }
                        th.num scope="col" { "Total" }
                    }
                }
                tbody {
                    @for step in steps.iter().filter(|step| step.line.points != Points::ZERO) {
                        tr {
                            th scope="row" {
                                (label(step.line))
                                @if let Some(category) = step.line.category {
                                    small { (words(category.as_str())) }
                                }
                            }
                            td.measure { (measured(step.line)) }
                            td.chart { (drawing(step, low, high)) }
                            td.num { (signed(step.line.points)) }
                            td.num.total { (step.after) }
                        }
                    }
                }
                tfoot {
                    tr {
                        th scope="row" { "Score" }
                        td.measure {}
                        td.chart {}
                        td.num {}
                        td.num.total { (record.score) }
                    }
                }
            }
        }
        @if silent > 0 {
            p.meta { span {
                (silent) @if silent == 1 { " further line stands" } @else { " further lines stand" }
                " at 0.00 points: within the account's own normal, or not measured yet."
            } }
        }
    }
}

fn label(line: &Contribution) -> String {
    match (line.name.as_str(), line.category) {
        ("base", None) => "Base: an account without any evidence".to_owned(),
        ("clip", None) => "Clipped to 0–100".to_owned(),
        (name, _) => words(name),
    }
}

fn measured(line: &Contribution) -> Markup {
    html! {
        @if let Some(observed) = line.observed {
            b { (number(observed)) }
            @if let Some(baseline) = line.baseline { " · " (number(baseline)) }
            @if !line.unit.is_empty() { " " span.unit { (line.unit) } }
        }
    }
}

/// A bar from the total before a line to the total after it.
fn drawing(step: &Step<'_>, low: i32, high: i32) -> Markup {
    let place = |points: i32| {
        (f64::from(points) - f64::from(low)) / (f64::from(high) - f64::from(low)) * 100.0
    };
    let begin = place(step.before.0.min(step.after.0));
    // A thin line stays visible for a small contribution.
    let width = (place(step.before.0.max(step.after.0)) - begin).max(0.6);
    let tone = match (step.line.name.as_str(), step.line.points.0) {
        ("base" | "clip", _) => "base",
        (_, ..0) => "loss",
        _ => "gain",
    };
    html! {
        svg width="100%" height="14" aria-hidden="true" {
            rect.track y="6.5" width="100%" height="1" {}
            rect class=(tone) x=(format!("{:.2}%", begin.min(99.4))) y="1"
                width=(format!("{width:.2}%")) height="12" rx="2" {}
        }
    }
}
