//! The HTTP side: probes, metrics, a JSON API and pages for people.
//!
//! # Architecture invariants
//! - It reads the read model and hands events to an [`Ingest`]; it decides nothing about accounts.
//! - Every answer is bounded in size, every request in time, and the number of connections is fixed.
//! - Pages work without scripts; whatever came from a record is escaped, and the content security policy forbids the rest.
//! - Deliberately absent: authentication and TLS, which belong to the proxy in front; delivery of alerts.

mod api;
mod commands;
mod guard;
mod ingest;
mod json;
mod looked;
mod pages;
mod problem;
mod query;
mod results;
mod serve;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bellwether_core::time::Millis;
use bellwether_engine::metrics::Metrics;
use bellwether_engine::read_model::{ReadModel, Readiness};

pub use crate::ingest::{
    BODY_BYTES_MAX, EVENTS_MAX, Feed, Ingest, IngestError, IngestReceipt, LoggedAlert, Rejected,
    Stood,
};
pub use crate::looked::LookedBack;
use crate::problem::Problem;
pub use crate::serve::serve;

/// What the server reads and where it hands events to. Clones share everything.
#[derive(Clone)]
pub struct AppState {
    /// What the workers published.
    pub read_model: Arc<ReadModel>,
    /// What the workers counted.
    pub metrics: Metrics,
    /// Whether the workers are ready.
    pub readiness: Arc<Readiness>,
    /// Takes events; none where they come from Kafka only.
    pub ingest: Option<Arc<dyn Ingest>>,
    /// Days for which the policy lets an alert be snoozed at most.
    pub snooze_days_max: u16,
    /// The name shown on every page, e.g. `Bellwether` or `Bellwether demo`.
    pub name: String,
    /// The version of the build.
    pub version: String,
    /// When the process began: of alerts it knows no more than what was published since.
    pub began_at: Millis,
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AppState").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All routes, for embedding and tests; [`serve`] runs them.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/", get(pages::overview::page))
        .route("/accounts", get(pages::accounts::page))
        .route("/accounts/{id}", get(pages::account::page))
        .route("/accounts/{id}/events", post(pages::account::send_event))
        .route("/alerts", get(pages::alerts::page))
        .route(pages::STYLE_PATH, get(pages::style))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/accounts", get(api::accounts))
        .route("/v1/accounts/{id}", get(api::account).delete(ingest::forget))
        .route("/v1/alerts", get(api::alerts))
        .route("/v1/alerts/{id}", get(api::alert))
        .route("/v1/alerts/{id}/outcomes", post(commands::say))
        .route("/v1/events", post(ingest::events))
        .route("/v1/profiles", post(ingest::profiles))
        .route("/v1/outcomes", post(ingest::outcomes))
        .route("/v1/calendar", post(ingest::calendar).get(ingest::entries))
        .route("/v1/calendar/{id}", delete(ingest::unmask))
        .route("/v1/kpis", get(results::answer))
        .route("/results", get(pages::results::page))
        .route("/accounts/{id}/alerts/{alert}/feedback", post(pages::account::send_feedback))
        .route("/v1/models", post(ingest::promote).get(ingest::promotions))
        .route("/v1/shadow", get(ingest::shadow))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn(guard::guard))
        .with_state(state)
}

/// The process is alive: it answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// The process is ready: its partitions are restored and its workers go round.
async fn readyz(State(state): State<AppState>) -> Response {
    let report = state.readiness.report(guard::now());
    let status =
        if report.missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json::readiness(&report))).into_response()
}

/// Every metric in the Prometheus text format.
async fn metrics(State(state): State<AppState>) -> Response {
    state.metrics.accounts(state.read_model.band_counts());
    state.metrics.alerts_open(state.read_model.open_alert_counts());
    state.metrics.results(&state.read_model.results());
    state.metrics.surveyed(&state.read_model.survey());
    match state.metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        }
    }
}

async fn not_found(uri: axum::http::Uri) -> Response {
    let detail =
        "there is nothing at this path; the start page is /, the API begins at /v1/accounts";
    if uri.path().starts_with("/v1/") {
        Problem::new(StatusCode::NOT_FOUND, detail).into_response()
    } else {
        pages::problem_page(StatusCode::NOT_FOUND, detail)
    }
}

async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not take this method; read with GET, send events with POST to /v1/events, delete an account with \
         DELETE of /v1/accounts/<id>",
    )
}
