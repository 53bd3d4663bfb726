//! `DELETE /v1/accounts/{id}`, `DELETE /v1/calendar/{id}`, and `POST /v1/events`, `/v1/profiles`, `/v1/outcomes`, `/v1/calendar`, `/v1/models`: one JSON object, a JSON array of them, or one per line. The body is cut into
//! items here; what an item has to look like is the business of the [`Ingest`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::{AlertEvent, HealthRecord};
use bellwether_core::reject::Reject;
use bellwether_core::time::Millis;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::AppState;
use crate::looked::LookedBack;
use crate::problem::Problem;

/// The largest body, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Events in one request at most.
pub const EVENTS_MAX: usize = 10_000;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// Usage events (`schemas/usage-event.avsc`).
    Events,
    /// Account profiles (`schemas/account-profile.avsc`).
    Profiles,
    /// Outcomes and alert feedback (`schemas/outcome.avsc`).
    Outcomes,
    /// Entries of the calendar (`schemas/calendar-entry.avsc`).
    Calendar,
    /// Promotions of models (`schemas/model-promotion.avsc`).
    Models,
}

/// Takes input into the log.
pub trait Ingest: Send + Sync {
    /// Checks the bodies (each one JSON object) and appends the good ones durably, in order. May block.
    fn ingest(&self, feed: Feed, bodies: Vec<Vec<u8>>) -> Result<IngestReceipt, IngestError>;

    /// Appends durably that an account is to be deleted. May block.
    fn forget(&self, account: &AccountId) -> Result<(), IngestError>;

    /// Appends durably that an entry of the calendar is to be removed. May block.
    fn unmask(&self, entry: &EventId) -> Result<(), IngestError>;

    /// The entries of the calendar that are in force, each one JSON object (`schemas/calendar-entry.avsc`). May block.
    fn entries(&self) -> Result<Vec<Value>, IngestError>;

    /// What the log has of alerts whose id begins like this; with an account, of its alerts only. How much of the log is looked through is
    /// bounded: its newest records. May block.
    ///
    /// # Errors
    /// The log cannot be read, or a record of such an alert cannot be decoded.
    fn alert_events(
        &self,
        account: Option<&AccountId>,
        id: &str,
    ) -> Result<LoggedAlert, IngestError>;

    /// How an account stood at a time, by what had been published of it. How much of the log is looked through is bounded: the newest
    /// records of its partition. May block.
    ///
    /// # Errors
    /// The log cannot be read, or a record of the account cannot be decoded.
    fn account_at(&self, account: &AccountId, at: Millis) -> Result<Stood, IngestError>;

    /// The promotions that were ever appended, each one JSON object, in the order in which they came. May block.
    fn promotions(&self) -> Result<Vec<Value>, IngestError>;

    /// The latest pair of scores that each challenger published of each account (`schemas/shadow-score.avsc`). May block.
    fn shadow(&self) -> Result<Vec<Value>, IngestError>;
}

/// What the log has of an alert.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoggedAlert {
    /// Its events, in the order in which they were published.
    pub events: Vec<AlertEvent>,
    /// How far back was looked.
    pub looked_back: LookedBack,
}

/// How an account stood at a time.
#[derive(Debug, Clone, PartialEq)]
pub enum Stood {
    /// All that led up to it is known.
    Known {
        /// The record then: every line, which sum to the score.
        record: Box<HealthRecord>,
        /// The alerts that were open, each as it was last told.
        alerts: Vec<AlertEvent>,
        /// How far back alerts were looked through.
        looked_back: LookedBack,
    },
    /// Nothing had been published of it.
    Nothing,
    /// Something had, but records that led up to it are no longer kept, or lie before those that are looked through.
    Partly {
        /// How far back was looked.
        looked_back: LookedBack,
    },
}

/// What became of the items of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngestReceipt {
    /// How many were appended.
    pub accepted: usize,
    /// Those that were not.
    pub rejected: Vec<Rejected>,
    /// Types of accepted events that feed no signal of the policy.
    pub unmatched: BTreeSet<String>,
}

/// An item that was not appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its place in the request, from 0.
    pub index: usize,
    /// Why.
    pub reject: Reject,
}

/// Why nothing of a request was appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// More comes in than is processed: the client should slow down.
    #[error("too many events are waiting; send them again later")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The log does not take records now.
    #[error("events cannot be stored now: {detail}")]
    Unavailable {
        /// What is wrong, and what to do.
        detail: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// What the log has cannot be read now.
    #[error("the log cannot be read now: {detail}")]
    Unreadable {
        /// What is wrong, and what to do.
        detail: String,
        /// When to try again.
        retry_after: Duration,
    },
}

/// `POST /v1/events`.
pub(crate) async fn events(
    State(state): State<AppState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    take(&state, Feed::Events, body).await
}

/// `POST /v1/profiles`.
pub(crate) async fn profiles(
    State(state): State<AppState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    take(&state, Feed::Profiles, body).await
}

/// `POST /v1/outcomes`.
pub(crate) async fn outcomes(
    State(state): State<AppState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    take(&state, Feed::Outcomes, body).await
}

/// `POST /v1/calendar`.
pub(crate) async fn calendar(
    State(state): State<AppState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    take(&state, Feed::Calendar, body).await
}

/// `GET /v1/calendar`.
pub(crate) async fn entries(State(state): State<AppState>) -> Result<Response, Problem> {
    let ingest = taker(&state)?;
    let found = blocking(move || ingest.entries()).await?;
    Ok(Json(json!({ "entries": found })).into_response())
}

/// `POST /v1/models`.
pub(crate) async fn promote(
    State(state): State<AppState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    take(&state, Feed::Models, body).await
}

/// `GET /v1/models`.
pub(crate) async fn promotions(State(state): State<AppState>) -> Result<Response, Problem> {
    let ingest = taker(&state)?;
    let found = blocking(move || ingest.promotions()).await?;
    Ok(Json(json!({ "promotions": found })).into_response())
}

/// `GET /v1/shadow`.
pub(crate) async fn shadow(State(state): State<AppState>) -> Result<Response, Problem> {
    let ingest = taker(&state)?;
    let found = blocking(move || ingest.shadow()).await?;
    Ok(Json(json!({ "scores": found })).into_response())
}

/// `DELETE /v1/calendar/{id}`: accepted, and done as soon as the workers get to it.
pub(crate) async fn unmask(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(text) = path.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let id = EventId::new(&text).map_err(|error| Problem::bad_request(error.to_string()))?;
    let ingest = taker(&state)?;
    let entry = id.clone();
    blocking(move || ingest.unmask(&entry)).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"entry_id": id.as_str(), "accepted": true})))
        .into_response())
}

/// `DELETE /v1/accounts/{id}`: accepted, and done as soon as the workers get to it.
pub(crate) async fn forget(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(text) = path.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let id = AccountId::new(&text).map_err(|error| Problem::bad_request(error.to_string()))?;
    let ingest = taker(&state)?;
    let account = id.clone();
    blocking(move || ingest.forget(&account)).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"account_id": id.as_str(), "accepted": true})))
        .into_response())
}

async fn take(
    state: &AppState,
    feed: Feed,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a request holds at most {BODY_BYTES_MAX} bytes; send several"),
        ),
        status => Problem::new(status, rejection.body_text()),
    })?;
    let items = split(&body)?;
    let receipt = submit(state, feed, items).await?;
    let rejected: Vec<Value> = receipt.rejected.iter().map(rejected_json).collect();
    if receipt.accepted == 0 {
        let detail = "nothing was accepted; rejected says why for each";
        return Err(Problem::bad_request(detail).with("rejected", Value::Array(rejected)));
    }
    let mut answer = json!({ "accepted": receipt.accepted, "rejected": rejected });
    if !receipt.unmatched.is_empty() {
        answer["unmatched_types"] = json!(receipt.unmatched);
    }
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

/// Hands items to the log, off the async threads: an append waits for the disk.
pub(crate) async fn submit(
    state: &AppState,
    feed: Feed,
    items: Vec<Vec<u8>>,
) -> Result<IngestReceipt, Problem> {
    let ingest = taker(state)?;
    blocking(move || ingest.ingest(feed, items)).await
}

/// Who takes input, or the problem that nobody does.
fn taker(state: &AppState) -> Result<Arc<dyn Ingest>, Problem> {
    state.ingest.as_ref().map(Arc::clone).ok_or_else(|| {
        let detail = "this server does not take input over HTTP; produce it to the input topics";
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}

/// Works off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IngestError> + Send + 'static,
) -> Result<T, Problem> {
    let result = tokio::task::spawn_blocking(work).await;
    let result = result.map_err(|error| {
        tracing::error!(%error, "ingest failed");
        let detail = "the events could not be taken in; the server's log says why";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    })?;
    result.map_err(|error| {
        let detail = error.to_string();
        match error {
            IngestError::Busy { retry_after } => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(retry_after)
            }
            IngestError::Unavailable { retry_after, .. }
            | IngestError::Unreadable { retry_after, .. } => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(retry_after)
            }
        }
    })
}

fn rejected_json(rejected: &Rejected) -> Value {
    json!({
        "index": rejected.index,
        "reason": rejected.reject.reason.as_str(),
        "detail": rejected.reject.detail,
    })
}

/// Cuts a body into items, keeping their bytes as they came. A body that is neither an array nor lines of JSON is one item, so
/// that the decoder names what is wrong with it.
fn split(body: &[u8]) -> Result<Vec<Vec<u8>>, Problem> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    if body.is_empty() {
        return Err(Problem::bad_request(
            "the body is empty; send a JSON event, an array of them, or one per line",
        ));
    }
    let items: Vec<Vec<u8>> = if body.starts_with(b"[") {
        let items: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| {
            Problem::bad_request(format!("the body is not a JSON array of events: {error}"))
        })?;
        items.into_iter().map(|item| item.get().as_bytes().to_vec()).collect()
    } else if has_lines(body) {
        let lines = body.split(|byte| *byte == b'\n').map(|line| line.trim_ascii());
        lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
    } else {
        vec![body.to_vec()]
    };
    match items.len() {
        0 => Err(Problem::bad_request("the array holds no event")),
        1..=EVENTS_MAX => Ok(items),
        count => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a request holds at most {EVENTS_MAX} events, this one has {count}"),
        )),
    }
}

/// Whether the body is one event per line: its first line is JSON by itself, and something follows.
fn has_lines(body: &[u8]) -> bool {
    let mut lines = body.splitn(2, |byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    lines.next().is_some() && serde_json::from_slice::<&RawValue>(first).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str) -> Vec<String> {
        let items = split(body.as_bytes()).expect("it splits");
        items.into_iter().map(|item| String::from_utf8(item).expect("text")).collect()
    }

    #[test]
    fn a_body_is_one_event_an_array_or_lines() {
        assert_eq!(texts(" {\"a\":\n 1.50} "), ["{\"a\":\n 1.50}"]);
        assert_eq!(texts("[{\"a\": 1.50}, 7]"), ["{\"a\": 1.50}", "7"]);
        assert_eq!(texts("{\"a\":1}\r\n\n{\"b\":\n"), ["{\"a\":1}", "{\"b\":"]);
        assert_eq!(texts("\u{feff}{\"a\":1}"), ["{\"a\":1}"]);
        assert_eq!(texts("{broken\nbroken"), ["{broken\nbroken"]);
    }

    #[test]
    fn a_body_without_events_or_with_too_many_is_refused() {
        for body in ["", " \n ", "[]", "[{\"a\":1}", "[1 2]"] {
            let problem = split(body.as_bytes()).expect_err("it is refused");
            assert_eq!(problem.status, StatusCode::BAD_REQUEST, "{body:?}");
        }
        let many = "1\n".repeat(EVENTS_MAX + 1);
        let problem = split(many.as_bytes()).expect_err("it is refused");
        assert_eq!(problem.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
