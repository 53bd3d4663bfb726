//! The list of alerts: what is open, and what happened lately.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use bellwether_core::output::{AlertEvent, Severity};
use maud::{Markup, html};

use super::parts::{alert, words};
use super::{Place, layout};
use crate::problem::Problem;
use crate::query::{self, AlertsQuery};
use crate::{AppState, api};

/// `GET /alerts`.
pub(crate) async fn page(
    State(state): State<AppState>,
    query: Result<Query<AlertsQuery>, QueryRejection>,
) -> Response {
    match answer(&state, query).await {
        Ok(content) => layout(&state, Some(Place::Alerts), "Alerts", &content),
        Err(problem) => problem.into_page(),
    }
}

async fn answer(
    state: &AppState,
    query: Result<Query<AlertsQuery>, QueryRejection>,
) -> Result<Markup, Problem> {
    let query = api::parameters(query)?;
    let asked = query.clone();
    let events = api::read(state, move |model| query::alerts(model, &asked)).await?;
    Ok(content(&query, &events))
}

fn content(query: &AlertsQuery, events: &[Arc<AlertEvent>]) -> Markup {
    let severity = query.severity.as_deref().unwrap_or_default();
    let open = query.open.as_deref().unwrap_or_default();
    html! {
        h1 { "Alerts" }
        section.card {
            form.filter method="get" action="/alerts" {
                label {
                    "Show"
                    select name="open" {
                        @for (value, label) in
                            [("", "Everything lately"), ("true", "Open now"), ("false", "Resolved lately")]
                        {
                            option value=(value) selected[value == open] { (label) }
                        }
                    }
                }
                label {
                    "Severity"
                    select name="severity" {
                        option value="" { "All" }
                        @for of in Severity::ALL.iter().rev() {
                            option value=(of.as_str()) selected[of.as_str() == severity] {
                                (words(of.as_str()))
                            }
                        }
                    }
                }
                button type="submit" { "Show" }
            }
            @if events.is_empty() { p.quiet { "No alert matches." } }
            @for event in events { (alert(event, true, usize::MAX)) }
        }
    }
}
