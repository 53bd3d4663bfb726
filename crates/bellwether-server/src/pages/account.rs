//! The page of one account: its score, why it is what it is, and a way to move it.

use std::sync::Arc;

use axum::Form;
use axum::extract::rejection::{FormRejection, PathRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use bellwether_core::id::AccountId;
use bellwether_core::output::{AlertEvent, AlertState, Evidence, SubScore};
use bellwether_core::time::{DAY_MS, Millis};
use bellwether_engine::clock::now_ms;
use bellwether_engine::read_model::AccountView;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::parts::{account_path, alert, band, counted, date, name, time, tone, words};
use super::{Place, charts, layout, waterfall};
use crate::api::AccountStory;
use crate::ingest::Feed;
use crate::problem::Problem;
use crate::{AppState, api, commands, ingest};

/// Days for which the button snoozes, where the policy allows as many.
const SNOOZE_DAYS: u16 = 7;
/// Alert events shown.
const ALERTS_SHOWN: usize = 20;

/// What the page says about an event that was just sent from it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Sent {
    sent: Option<String>,
}

/// `GET /accounts/{id}`.
pub(crate) async fn page(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
    Query(sent): Query<Sent>,
    headers: HeaderMap,
) -> Response {
    match api::find(&state, path).await {
        Ok(story) => {
            let try_it = state.ingest.is_some().then(|| {
                event_form(&story.0.record.account_id, &origin(&headers), sent.sent.is_some())
            });
            let title = name(&story.0.record).to_owned();
            let content = content(&story, try_it.as_ref(), snooze_days(&state));
            layout(&state, Some(Place::Accounts), &title, &content)
        }
        Err(problem) => problem.into_page(),
    }
}

/// Days for which the button snoozes.
fn snooze_days(state: &AppState) -> u16 {
    SNOOZE_DAYS.min(state.snooze_days_max)
}

fn content((view, alerts): &AccountStory, try_it: Option<&Markup>, snooze_days: u16) -> Markup {
    let record = &view.record;
    html! {
        (hero(view))
        div.columns.wide-left {
            div {
                section.card {
                    h2 { "Why the score is " (record.score) }
                    (waterfall::table(record))
                }
                section.card {
                    h2 { "What departs from its normal" }
                    @if record.evidence.is_empty() {
                        p.quiet { "Nothing: every signal is within this account's own normal." }
                    }
                    @for item in &record.evidence { (evidence(item)) }
                    @for new in &record.rebaselined { p.quiet { (new) } }
                    @for span in &record.masked { p.quiet { "Not measured: " (span) } }
                }
            }
            div {
                section.card {
                    h2 { "Sub-scores" }
                    @for sub_score in &record.sub_scores { (sub_score_line(sub_score)) }
                }
                section.card {
                    h2 { "Alerts" }
                    @if alerts.is_empty() { p.quiet { "No alert lately." } }
                    @for event in alerts.iter().take(ALERTS_SHOWN) {
                        (alert(event, false, usize::MAX))
                        @if try_it.is_some() && !event.is_fleet() && is_latest(alerts, event) {
                            (verdict_form(event, snooze_days))
                        }
                    }
                }
                @if let Some(try_it) = try_it { (try_it) }
            }
        }
        p.meta.versions {
            span { "Record " (record.sequence) " of " (time(record.at)) " UTC" }
            span { "Policy " code { (record.policy_version) } }
            span { "Model " code { (record.model_version) } }
            a href={ "/v1" (account_path(&record.account_id)) } { "As JSON" }
        }
    }
}

fn hero(view: &AccountView) -> Markup {
    let record = &view.record;
    html! {
        section.card.hero {
            (charts::ring(record.score, record.band))
            div.who {
                h1 { (name(record)) }
                p.meta {
                    (band(record.band))
                    span { (words(record.maturity.as_str())) }
                    @if let Some(segment) = &record.segment { span { (segment) } }
                    @if record.name.is_some() { code { (record.account_id) } }
                }
                p.meta {
                    @if let Some(at) = record.last_event_at { span { "Last event " (time(at)) " UTC" } }
                    @if !view.open_alerts.is_empty() { span { (counted(view.open_alerts.len(), "open alert")) } }
                }
            }
            @if view.changes.len() > 1 {
                figure {
                    (charts::sparkline(record, view.changes.iter().map(AsRef::as_ref), 300.0, 84.0))
                    figcaption {
                        @if let Some(first) = view.changes.first() { (date(first.at)) }
                        span { (date(record.at)) }
                    }
                }
            }
        }
    }
}

fn sub_score_line(sub_score: &SubScore) -> Markup {
    html! {
        div.sub {
            span { (words(sub_score.category.as_str())) }
            b { (format!("{:.0}", sub_score.score.as_f64())) }
            (charts::bar(sub_score.score))
        }
    }
}

/// What deviates, in its sentence, which has the figures, and what that does not say.
fn evidence(evidence: &Evidence) -> Markup {
    let onset = evidence.onset.to_string();
    html! {
        article.evidence {
            h3 class=[tone(evidence)] { (evidence.text) }
            p.meta {
                span { (words(evidence.category.as_str())) }
                @if !evidence.text.contains(&onset) { span { "since " (onset) } }
                span title="How far from what is normal, in standard deviations" {
                    (format!("{:.1} σ", evidence.z.abs()))
                }
            }
        }
    }
}

/// Whether no later event of the same alert is listed.
fn is_latest(alerts: &[Arc<AlertEvent>], event: &AlertEvent) -> bool {
    let first = alerts.iter().find(|other| other.alert_id == event.alert_id);
    first.is_some_and(|first| first.id == event.id)
}

/// Buttons to say what was made of an alert, and while it is open, what is to become of it.
fn verdict_form(event: &AlertEvent, snooze_days: u16) -> Markup {
    let snooze = match snooze_days {
        7 => "Snooze for a week".to_owned(),
        days => format!("Snooze for {}", counted(days.into(), "day")),
    };
    let verdicts = [
        ("confirmed", "It was right"),
        ("false_positive", "False alarm"),
        ("actioned", "We acted on it"),
    ];
    let commands =
        [("acknowledged", "Acknowledge"), ("snoozed", snooze.as_str()), ("resolved", "Resolve")];
    let commands = commands
        .into_iter()
        .filter(|(kind, _)| event.state != AlertState::Resolved && *kind != event.state.as_str());
    html! {
        form.verdict id={ "alert-" (event.alert_id) } method="post" action={ (account_path(&event.account_id)) "/alerts/" (event.alert_id) "/feedback" } {
            @for (kind, label) in commands.chain(verdicts) {
                button type="submit" name="kind" value=(kind) { (label) }
            }
        }
    }
}

/// A form that sends an event of this account, and the same as a command.
fn event_form(id: &AccountId, origin: &str, sent: bool) -> Markup {
    let example = json!({ "account_id": id, "type": "login", "member_id": "you" }).to_string();
    // In a single-quoted shell word only the quote itself has to be taken out.
    let quoted = example.replace('\'', r"'\''");
    html! {
        section.card {
            h2 { "Send an event" }
            @if sent {
                p.notice role="status" {
                    "Accepted. " a href=(account_path(id)) { "Reload" } " to see what it changed."
                }
            }
            form.event method="post" action={ (account_path(id)) "/events" } {
                label { "What happened" input name="type" value="login" required maxlength="256"; }
                label { "Who (optional)" input name="member_id" maxlength="256"; }
                label { "Value (optional)" input name="value" inputmode="decimal" maxlength="32"; }
                button type="submit" { "Send" }
            }
            p.quiet { "Or from a terminal:" }
            pre { code {
                "curl " (origin) "/v1/events \\\n  -H 'content-type: application/json' \\\n  -d '" (quoted) "'"
            } }
        }
    }
}

/// Where the visitor reaches this server, as the request says; a host that is no plain host is not repeated.
fn origin(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '[' | ']');
    let host = if !host.is_empty() && host.chars().all(plain) { host } else { "localhost" };
    format!("http://{host}")
}

/// The fields of the form.
#[derive(Debug, Deserialize)]
pub(crate) struct EventForm {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    member_id: String,
    #[serde(default)]
    value: String,
}

/// `POST /accounts/{id}/events`: an event from the form on the account's page.
pub(crate) async fn send_event(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
    form: Result<Form<EventForm>, FormRejection>,
) -> Response {
    match send(&state, path, form).await {
        Ok(id) => Redirect::to(&format!("{}?sent=1", account_path(&id))).into_response(),
        Err(problem) => problem.into_page(),
    }
}

/// The fields of the form.
#[derive(Debug, Deserialize)]
pub(crate) struct VerdictForm {
    kind: String,
}

/// `POST /accounts/{id}/alerts/{alert}/feedback`: what somebody says of an alert, from the account's page.
pub(crate) async fn send_feedback(
    State(state): State<AppState>,
    path: Result<Path<(String, String)>, PathRejection>,
    form: Result<Form<VerdictForm>, FormRejection>,
) -> Response {
    let sent = async {
        let Path((account, alert)) =
            path.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
        let Form(form) =
            form.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
        let id =
            AccountId::new(&account).map_err(|error| Problem::bad_request(error.to_string()))?;
        let mut said = Map::from_iter([("kind".to_owned(), json!(form.kind))]);
        if form.kind == "snoozed" {
            let until = Millis(now_ms()).plus(i64::from(snooze_days(&state)) * DAY_MS);
            said.insert("until".to_owned(), json!(until.iso()));
        }
        let known = api::known(&state, alert).await?;
        let of_it =
            known.events.first().filter(|event| event.account_id == id).ok_or_else(|| {
                Problem::new(StatusCode::NOT_FOUND, "this account has no such alert")
            })?;
        commands::submit(&state, of_it, said).await?;
        Ok::<_, Problem>(id)
    };
    match sent.await {
        Ok(id) => Redirect::to(&format!("{}?sent=1", account_path(&id))).into_response(),
        Err(problem) => problem.into_page(),
    }
}

async fn send(
    state: &AppState,
    path: Result<Path<String>, PathRejection>,
    form: Result<Form<EventForm>, FormRejection>,
) -> Result<AccountId, Problem> {
    let Form(form) =
        form.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let (view, _) = api::find(state, path).await?;
    let id = view.record.account_id.clone();
    let mut event = Map::new();
    event.insert("account_id".to_owned(), json!(id));
    event.insert("type".to_owned(), json!(form.kind.trim()));
    if !form.member_id.trim().is_empty() {
        event.insert("member_id".to_owned(), json!(form.member_id.trim()));
    }
    if !form.value.trim().is_empty() {
        let value: f64 = form.value.trim().parse().map_err(|_| {
            Problem::bad_request(format!("value is a number, not {:?}", form.value))
        })?;
        event.insert("value".to_owned(), json!(value));
    }
    let receipt =
        ingest::submit(state, Feed::Events, vec![Value::Object(event).to_string().into_bytes()])
            .await?;
    match receipt.rejected.first() {
        Some(rejected) => Err(Problem::bad_request(rejected.reject.detail.clone())),
        None => Ok(id),
    }
}
