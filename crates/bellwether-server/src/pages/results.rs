//! What became of alerts: were they right, did anyone act, did the accounts stay.

use axum::extract::State;
use axum::response::Response;
use bellwether_core::feedback::{Group, Results};
use maud::{Markup, html};

use super::parts::words;
use super::{Place, layout};
use crate::AppState;
use crate::results::{ALERTED, Share, false_positives, stayed, warned};

/// `GET /results`.
pub(crate) async fn page(State(state): State<AppState>) -> Response {
    let cohorts = state.read_model.results();
    let mut all = Results::default();
    cohorts.values().for_each(|of| all.merge(&of.results));
    let content = html! {
        h1 { "Results" }
        (overall(&all))
        @for (name, of) in &cohorts {
            section.card {
                h2 { (if name.is_empty() { "Accounts without a segment" } else { name }) }
                (lost(&of.results))
                @if of.results.kinds.is_empty() { p.quiet { "No alert of its accounts is known." } } @else {
                    (kinds(&of.results, &|kind| of.sensitivity.get(kind).copied()))
                }
            }
        }
        p.quiet {
            "Stayed: no loss was told, and active in the last four weeks of the time followed. Intervals hold 19 times in 20. Acted and not acted are compared among the accounts that were still there when the time to act was "
            "over; who acts chooses where, so only the control group compares like with like. "
            a href="/v1/kpis" { "As JSON" }
        }
    };
    layout(&state, Some(Place::Results), "Results", &content)
}

fn overall(all: &Results) -> Markup {
    html! {
        section.card {
            h2 { "All accounts" }
            @if all.facts == 0 {
                p.quiet {
                    "Nothing is known yet. Say of alerts whether they were right and acted on, and of accounts what became of them: on an "
                    "account's page, with " code { "bellwether outcome" } ", or with " code { "POST /v1/outcomes" } "."
                }
            } @else {
                (lost(all))
                (kinds(all, &|_| None))
            }
        }
    }
}

fn lost(results: &Results) -> Markup {
    let of = &results.lost;
    html! {
        p {
            @match warned(of) {
                None => "No account was lost.",
                Some(share) => {
                    strong { (percent(share.value)) }
                    " of the " (share.of) " accounts that were lost had an urgent alert before (" (interval(share)) ")"
                    @if let Some(hours) = of.lead.median_hours() {
                        ", half of them " (format!("{:.0}", hours / 24.0)) " days or more before"
                    }
                    "."
                }
            }
            @if of.withheld > 0 { " " (of.withheld) " of the control group were lost after an alert that was withheld." }
        }
    }
}

fn kinds(results: &Results, sensitivity: &dyn Fn(&str) -> Option<f64>) -> Markup {
    let cell = |share: Option<Share>| {
        html! {
            @match share {
                Some(share) => { (percent(share.value)) " " small { "of " (share.of) ", " (interval(share)) } },
                None => "–",
            }
        }
    };
    let control = results.kinds.values().any(|of| of.withheld > 0);
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th { "Kind" } th { "Urgent" } th { "Wrong" } th { "Acted on" } th { "Stayed, acted" }
                        th { "Stayed, not acted" }
                        @if control { th { "Stayed, alerted" } th { "Stayed, control" } }
                        th { "Sensitivity" }
                    }
                }
                tbody {
                    @for (kind, of) in &results.kinds {
                        tr {
                            td { (words(kind)) }
                            td { (of.urgent) @if of.withheld > 0 { " " small { "and " (of.withheld) " withheld" } } }
                            td { (cell(false_positives(of))) }
                            td {
                                (of.intervention.count())
                                @if let Some(hours) = of.intervention.median_hours() {
                                    " " small { "after " (format!("{hours:.0}")) " h" }
                                }
                            }
                            td { (cell(stayed(of, &[Group::Acted]))) }
                            td { (cell(stayed(of, &[Group::NotActed]))) }
                            @if control {
                                td { (cell(stayed(of, &ALERTED))) }
                                td { (cell(stayed(of, &[Group::Withheld]))) }
                            }
                            td { (sensitivity(kind).map_or_else(|| "–".to_owned(), |factor| format!("× {factor:.2}"))) }
                        }
                    }
                }
            }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn interval(share: Share) -> String {
    format!("{:.0}–{:.0} %", share.low * 100.0, share.high * 100.0)
}
