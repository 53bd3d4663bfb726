//! The comparison with a challenger as one HTML file that holds everything, and needs no script.

use maud::{DOCTYPE, PreEscaped, html};
use serde_json::Value;

use super::{ACCOUNT_HEADER, COHORT_HEADER, account_cells, cohort_cells, rows, sentence};
use crate::against::page::{day, histogram, mover, table};

pub(super) fn page(found: &Value) -> String {
    let of = |name: &str| found[name].as_array().map_or(&[][..], Vec::as_slice);
    let movers = found["scores"]["movers"].as_array().map_or(&[][..], Vec::as_slice);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Bellwether: a challenger beside the model in force" }
                style { (PreEscaped(include_str!("../evaluate/report.css"))) }
            }
            body {
                h1 { "A challenger beside the model in force" }
                p.lead {
                    "What both said of each account when a day of it was last judged, from " (day(found["from"].as_str().unwrap_or("")))
                    " to " (day(found["to"].as_str().unwrap_or(""))) ". " (sentence(found))
                }
                h2 { "Side by side" }
                (table(&["", "champion", "challenger"], rows(found).into_iter().map(Vec::from)))
                (table(&COHORT_HEADER, of("cohorts").iter().map(|cohort| Vec::from(cohort_cells(cohort)))))
                h2 { "Scores" }
                figure { (histogram(&found["scores"]["histogram"], ["champion", "challenger"])) }
                h2 { "Furthest apart, and by which lines" }
                @if movers.is_empty() { p { "None." } }
                (table(&["account", "champion", "challenger", "lines that differ"], movers.iter().map(mover)))
                h2 { "Account by account" }
                (table(&ACCOUNT_HEADER, of("list").iter().map(|pair| Vec::from(account_cells(pair)))))
            }
        }
    };
    page.into_string()
}
