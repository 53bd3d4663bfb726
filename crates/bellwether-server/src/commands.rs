//! `POST /v1/alerts/{id}/outcomes`: what somebody says of an alert, or wants of it, by its id alone.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bellwether_core::event::OutcomeKind;
use bellwether_core::output::{AlertEvent, AlertState};
use serde_json::{Map, Value, json};

use crate::ingest::Feed;
use crate::problem::Problem;
use crate::{AppState, api, ingest};

/// `POST /v1/alerts/{id}/outcomes`: an outcome without the account, which the alert knows. Accepted, and done as soon as the workers
/// get to it.
pub(crate) async fn say(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let said: Map<String, Value> = serde_json::from_slice(&body).map_err(|error| {
        let example = r#"{"kind": "acknowledged", "by": "kim"}"#;
        Problem::bad_request(format!("the body is not a JSON object such as {example}: {error}"))
    })?;
    let events = api::find_alert(&state, path).await?;
    let Some(event) = events.first() else { return Err(ended_problem("")) };
    submit(&state, event, said).await?;
    let answer =
        json!({ "alert_id": event.alert_id, "account_id": event.account_id, "accepted": true });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

/// Hands what was said of an alert to the log. What cannot come to anything is answered at once, and not by a dead letter.
pub(crate) async fn submit(
    state: &AppState,
    event: &Arc<AlertEvent>,
    mut said: Map<String, Value>,
) -> Result<(), Problem> {
    let word = said.get("kind").cloned().unwrap_or_default();
    let kind: Option<OutcomeKind> = serde_json::from_value(word.clone()).ok();
    let Some(kind) = kind.filter(|kind| kind.is_of_alert()) else {
        return Err(Problem::bad_request(format!(
            "kind is acknowledged, snoozed, resolved, confirmed, false_positive or actioned, not {word}"
        )));
    };
    if event.is_fleet() {
        let detail =
            "a fleet alert is about a cohort as a whole: it ends by itself, and takes no commands";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    if kind.is_command() && event.state == AlertState::Resolved {
        return Err(ended_problem(&event.alert_id));
    }
    said.insert("alert_id".to_owned(), json!(event.alert_id));
    said.insert("account_id".to_owned(), json!(event.account_id));
    let body = Value::Object(said).to_string().into_bytes();
    let receipt = ingest::submit(state, Feed::Outcomes, vec![body]).await?;
    match receipt.rejected.first() {
        Some(rejected) => Err(Problem::bad_request(rejected.reject.detail.clone())),
        None => Ok(()),
    }
}

fn ended_problem(alert: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, format!("alert {alert} has ended"))
}
