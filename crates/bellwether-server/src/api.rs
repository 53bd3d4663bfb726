//! The JSON API of accounts and alerts.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use bellwether_core::id::AccountId;
use bellwether_core::output::AlertEvent;
use bellwether_core::time::Millis;
use bellwether_engine::read_model::{AccountView, ReadModel};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ingest::{Ingest, Stood, blocking};
use crate::looked::LookedBack;
use crate::problem::Problem;
use crate::query::{self, AccountsPage, AccountsQuery, AlertsQuery, Known};
use crate::{AppState, json};

/// An answer, or a problem.
pub(crate) type Answer = Result<Json<Value>, Problem>;
/// An account with its recent alert events.
pub(crate) type AccountStory = (AccountView, Vec<Arc<AlertEvent>>);

/// `GET /v1/accounts`.
pub(crate) async fn accounts(
    State(state): State<AppState>,
    query: Result<Query<AccountsQuery>, QueryRejection>,
) -> Answer {
    let query = parameters(query)?;
    let page = read(&state, move |model| query::accounts(model, &query)).await?;
    let AccountsPage { accounts, next_cursor } = page;
    let accounts: Vec<Value> = accounts.iter().map(json::account_line).collect();
    Ok(Json(json!({ "accounts": accounts, "next_cursor": next_cursor })))
}

/// The parameters of `GET /v1/accounts/{id}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountQuery {
    /// As it stood at this time.
    at: Option<String>,
}

/// `GET /v1/accounts/{id}`.
pub(crate) async fn account(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<AccountQuery>, QueryRejection>,
) -> Answer {
    if let Some(at) = parameters(query)?.at {
        return account_at(&state, &account_id(path)?, &at).await;
    }
    let (view, alerts) = find(&state, path).await?;
    Ok(Json(json::account(&view, &alerts)))
}

/// An account as it stood at a time.
async fn account_at(state: &AppState, id: &AccountId, at: &str) -> Answer {
    let Some(at) = Millis::parse(at) else {
        return Err(Problem::bad_request(format!(
            "at is a date (2026-03-01) or an ISO-8601 time, not {at:?}"
        )));
    };
    let Some(ingest) = state.ingest.as_ref().map(Arc::clone) else {
        let detail = "this server does not read the log; ask `bellwether explain ACCOUNT --at TIME`, which reads the topics";
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    let account = id.clone();
    let (id, time) = (id.as_str(), at.iso());
    match blocking(move || ingest.account_at(&account, at)).await? {
        Stood::Known { record, alerts, looked_back } => {
            Ok(Json(json::account_at(*record, alerts, looked_back)))
        }
        Stood::Nothing => {
            let detail = format!("nothing had been published of account {id:?} by {time}");
            Err(Problem::new(StatusCode::NOT_FOUND, detail))
        }
        Stood::Partly { looked_back } => {
            let detail = match looked_back {
                LookedBack::Newest(since) => format!(
                    "records that led up to the score of account {id:?} at {time} lie further back than is looked through here, which is to {back}; \
                     `bellwether explain {id} --at {time}` reads all that are kept",
                    back = since.iso()
                ),
                LookedBack::Kept(_) | LookedBack::Whole => format!(
                    "records that led up to the score of account {id:?} at {time} are no longer kept"
                ),
            };
            Err(Problem::new(StatusCode::GONE, detail).with_all(looked_back.members()))
        }
    }
}

/// `GET /v1/alerts`.
pub(crate) async fn alerts(
    State(state): State<AppState>,
    query: Result<Query<AlertsQuery>, QueryRejection>,
) -> Answer {
    let query = parameters(query)?;
    let events = read(&state, move |model| query::alerts(model, &query)).await?;
    Ok(Json(json!({ "alerts": json::alerts(&events) })))
}

/// The parameters of `GET /v1/alerts/{id}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlertQuery {
    /// Whether the log is asked for what happened before this process began.
    #[serde(default)]
    history: bool,
}

/// `GET /v1/alerts/{id}`.
pub(crate) async fn alert(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<AlertQuery>, QueryRejection>,
) -> Answer {
    let history = parameters(query)?.history;
    let Path(id) = path.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let known = known(&state, id.clone()).await;
    let Known { events, looked_back } = match state.ingest.as_ref().filter(|_| history) {
        Some(ingest) => from_the_log(Arc::clone(ingest), id, known).await?,
        None => known?,
    };
    Ok(Json(json::alert(events, looked_back)))
}

/// The events of an alert that the log has, and those that only this process knows; latest first, at least one.
async fn from_the_log(
    ingest: Arc<dyn Ingest>,
    id: String,
    known: Result<Known, Problem>,
) -> Result<Known, Problem> {
    let known = match known {
        Err(problem) if problem.status != StatusCode::NOT_FOUND => return Err(problem),
        known => known,
    };
    let account =
        known.as_ref().ok().and_then(|known| Some(known.events.first()?.account_id.clone()));
    // A beginning that is too short for the process is too short for the log.
    if account.is_none() && id.len() < query::ID_PREFIX_MIN {
        return known;
    }
    let wanted = id.clone();
    let logged = blocking(move || ingest.alert_events(account.as_ref(), &wanted)).await?;
    let mut events: Vec<Arc<AlertEvent>> = logged.events.into_iter().rev().map(Arc::new).collect();
    if events.is_empty() {
        // Of what the process knows, the log was asked, too.
        return known
            .map(|known| Known { looked_back: logged.looked_back, ..known })
            .map_err(|_| not_in_the_log(&id, logged.looked_back));
    }
    query::of_one(&events, &id)?;
    let missing = known.into_iter().flat_map(|known| known.events);
    let missing: Vec<_> =
        missing.filter(|event| events.iter().all(|logged| logged.id != event.id)).collect();
    // What the log keeps no more is older, what it has not yet is newer; times of an alert's events rise.
    events.extend(missing);
    events.sort_by_key(|event| std::cmp::Reverse(event.at));
    Ok(Known { events, looked_back: logged.looked_back })
}

fn not_in_the_log(id: &str, looked_back: LookedBack) -> Problem {
    let detail = match looked_back {
        LookedBack::Newest(since) => format!(
            "no alert {id:?} is open, or in what was looked through of the log, which goes back to {back}; `bellwether alerts show --embedded`, while no process has the log, \
             looks through all that it keeps",
            back = since.iso()
        ),
        LookedBack::Kept(since) => format!(
            "no alert {id:?} is open, or in all that the log keeps of alerts, which goes back to {back}",
            back = since.iso()
        ),
        LookedBack::Whole => format!(
            "there never was an alert {id:?}: all was looked through that the log ever had of alerts"
        ),
    };
    query::unknown_alert(detail, looked_back)
}

/// The events of the alert that a path names, latest first; at least one.
pub(crate) async fn find_alert(
    state: &AppState,
    path: Result<Path<String>, PathRejection>,
) -> Result<Vec<Arc<AlertEvent>>, Problem> {
    let Path(id) = path.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    Ok(known(state, id).await?.events)
}

/// What this process knows of an alert.
pub(crate) async fn known(state: &AppState, id: String) -> Result<Known, Problem> {
    let began_at = state.began_at;
    read(state, move |model| query::alert(model, &id, began_at)).await
}

/// The parameters of a query, or a problem that names the one that is wrong.
pub(crate) fn parameters<Q>(query: Result<Query<Q>, QueryRejection>) -> Result<Q, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    Ok(query)
}

fn account_id(path: Result<Path<String>, PathRejection>) -> Result<AccountId, Problem> {
    let Path(text) = path.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    AccountId::new(&text).map_err(|error| Problem::bad_request(error.to_string()))
}

/// The account that a path names, with its recent alerts.
pub(crate) async fn find(
    state: &AppState,
    path: Result<Path<String>, PathRejection>,
) -> Result<AccountStory, Problem> {
    let id = account_id(path)?;
    read(state, move |model| {
        let view = model.account(&id).ok_or_else(|| {
            let detail = format!(
                "no account {:?} here; it appears with its first event, GET /v1/accounts lists all",
                id.as_str()
            );
            Problem::new(StatusCode::NOT_FOUND, detail)
        })?;
        let alerts = query::alerts_of(model, &id);
        Ok((view, alerts))
    })
    .await
}

/// Reads the model off the async threads: a walk over many accounts takes milliseconds.
pub(crate) async fn read<T: Send + 'static>(
    state: &AppState,
    question: impl FnOnce(&ReadModel) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let model = Arc::clone(&state.read_model);
    let answer = tokio::task::spawn_blocking(move || question(&model)).await;
    answer.unwrap_or_else(|error| {
        tracing::error!(%error, "a query failed");
        let detail = "the query failed; the server's log says why";
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
    })
}
