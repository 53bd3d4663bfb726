//! The start page: how the accounts stand, which need attention, what happened lately.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bellwether_core::output::{AlertEvent, Band};
use bellwether_engine::read_model::{AccountView, ReadModel};
use maud::{Markup, html};

use super::parts::{account_path, band, date, name, severity};
use super::{Place, charts, layout, parts};
use crate::{AppState, api};

/// Accounts listed as needing attention.
const ATTENTION_MAX: usize = 10;
/// Alerts shown, and sentences of each.
const ALERTS_SHOWN: usize = 6;
/// See `ALERTS_SHOWN`.
const REASONS_SHOWN: usize = 2;

struct Overview {
    counts: [(Band, usize); 3],
    worst: Vec<AccountView>,
    open: Vec<Arc<AlertEvent>>,
    alerts: Vec<Arc<AlertEvent>>,
}

fn read(model: &ReadModel) -> Overview {
    let worst = model.scan(None, ATTENTION_MAX);
    let mut alerts: Vec<Arc<AlertEvent>> = Vec::new();
    // Of each alert its latest event only: an escalation says what the opening said, and more.
    for event in model.recent_alerts() {
        if alerts.len() < ALERTS_SHOWN
            && alerts.iter().all(|shown| shown.alert_id != event.alert_id)
        {
            alerts.push(event);
        }
    }
    Overview {
        counts: model.band_counts(),
        worst: worst.iter().filter_map(|(_, id)| model.account(id)).collect(),
        open: model.open_alerts(),
        alerts,
    }
}

/// `GET /`.
pub(crate) async fn page(State(state): State<AppState>) -> Response {
    match api::read(&state, |model| Ok(read(model))).await {
        Ok(overview) => layout(&state, Some(Place::Overview), "Overview", &content(&overview)),
        Err(problem) => problem.into_page(),
    }
}

fn content(overview: &Overview) -> Markup {
    let total: usize = overview.counts.iter().map(|(_, count)| count).sum();
    if total == 0 {
        return html! {
            h1 { "No accounts yet" }
            section.card.empty {
                p { "An account appears here with its first event, and is judged against its own \
                     history once there is enough of it." }
                p { "Send events with " code { "POST /v1/events" } ", or produce them to the events topic." }
            }
        };
    }
    let urgent = overview.open.iter().filter(|event| event.severity.as_str() == "critical").count();
    html! {
        h1 { "Overview" }
        section.card.counts {
            div.tiles {
                a.tile href="/accounts" {
                    span.figure { (total) }
                    span.caption { @if total == 1 { "account" } @else { "accounts" } }
                }
                @for (of, count) in overview.counts {
                    a.tile href={ "/accounts?band=" (of.as_str()) } {
                        span.figure { (count) }
                        span.caption { span class={ "dot " (of.as_str()) } {} (of.title()) }
                    }
                }
                a.tile href="/alerts?open=true" {
                    span.figure { (overview.open.len()) }
                    span.caption {
                        "open alerts"
                        @if urgent > 0 { ", " (urgent) " critical" }
                    }
                }
            }
            (charts::bands(overview.counts))
        }
        div.columns {
            section.card {
                header.section {
                    h2 { "Needs attention" }
                    a href="/accounts" { "All accounts" }
                }
                (account_table(&overview.worst))
            }
            section.card {
                header.section {
                    h2 { "Latest alerts" }
                    a href="/alerts" { "All alerts" }
                }
                @if overview.alerts.is_empty() {
                    p.quiet { "No alert so far: nothing departs from what is normal for an account." }
                }
                @for event in &overview.alerts { (parts::alert(event, true, REASONS_SHOWN)) }
            }
        }
    }
}

/// Accounts as lines with their course and their strongest evidence.
pub(super) fn account_table(accounts: &[AccountView]) -> Markup {
    html! {
        table.accounts {
            thead {
                tr {
                    th scope="col" { "Account" }
                    th.num scope="col" { "Score" }
                    th.course scope="col" { "Course" }
                    th.why scope="col" { "Strongest evidence" }
                }
            }
            tbody {
                @for view in accounts { (account_line(view)) }
            }
        }
    }
}

fn account_line(view: &AccountView) -> Markup {
    let record = &view.record;
    let urgent = view.open_alerts.iter().map(|event| event.severity).max();
    html! {
        tr {
            th scope="row" {
                a href=(account_path(&record.account_id)) { (name(record)) }
                small {
                    (band(record.band))
                    @if let Some(segment) = &record.segment { " " (segment) }
                    @if let Some(at) = record.last_event_at { " · last event " (date(at)) }
                }
            }
            td.num.score { (format!("{:.0}", record.score.as_f64())) }
            td.course {
                (charts::sparkline(record, view.changes.iter().map(AsRef::as_ref), 96.0, 30.0))
            }
            td.why {
                @if let Some(urgent) = urgent { (severity(urgent)) " " }
                @match record.evidence.iter().find(|evidence| evidence.risk) {
                    Some(evidence) => { (evidence.text) }
                    None => { span.quiet { "nothing departs from its normal" } }
                }
            }
        }
    }
}
