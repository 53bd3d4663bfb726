//! The shapes of the JSON answers. Records stand in them as they stand on the output topics, written by the same encoder, so
//! that a program needs one set of types for both.

use std::sync::Arc;

use bellwether_core::output::{AlertEvent, HealthRecord, Output};
use bellwether_engine::read_model::{AccountView, Report};
use bellwether_wire::encode::Encoder;
use serde_json::{Map, Value, json};

use crate::looked::LookedBack;
use crate::query;

/// Fields of a health record that a list of accounts shows; the rest is one request away.
const LINE_FIELDS: [&str; 10] = [
    "account_id",
    "name",
    "segment",
    "score",
    "score_centipoints",
    "band",
    "maturity",
    "at",
    "last_event_at",
    "open_alerts",
];

fn record(output: &Output) -> Value {
    let encoded = Encoder::json().encode(output);
    serde_json::from_slice(encoded.payload.as_deref().unwrap_or_default())
        .expect("the encoder writes JSON")
}

fn health(view: &AccountView) -> Value {
    record(&Output::Health(Box::new((*view.record).clone())))
}

/// An account in a list.
pub(crate) fn account_line(view: &AccountView) -> Value {
    let Value::Object(mut fields) = health(view) else { return Value::Null };
    let line = LINE_FIELDS.iter().filter_map(|name| fields.remove_entry(*name));
    Value::Object(line.collect::<Map<String, Value>>())
}

/// An account in full, with its recent score changes and alert events, latest first.
pub(crate) fn account(view: &AccountView, alerts: &[Arc<AlertEvent>]) -> Value {
    let changes = view.changes.iter().rev();
    let changes = changes.map(|change| record(&Output::ScoreChanged(Box::new((**change).clone()))));
    json!({
        "account": health(view),
        "score_changes": changes.collect::<Vec<_>>(),
        "alerts": self::alerts(alerts),
    })
}

/// An account as it stood, with the alerts that were open; `whole` says whether these are all, and if not, `looked_back_to` how far back
/// alerts were looked through, and `older_records` why not further.
pub(crate) fn account_at(
    account: HealthRecord,
    alerts: Vec<AlertEvent>,
    looked_back: LookedBack,
) -> Value {
    let alerts: Vec<Value> =
        alerts.into_iter().map(|event| record(&Output::Alert(Box::new(event)))).collect();
    let mut answer = json!({
        "account": record(&Output::Health(Box::new(account))),
        "alerts": alerts,
        "whole": looked_back == LookedBack::Whole,
    });
    extend(&mut answer, looked_back.members());
    answer
}

/// An alert: its latest event, all that are known of it, the latest first, and how far back was looked for them. There is at least one; in a
/// list that would be too long, those before the beginning are left out and counted.
pub(crate) fn alert(mut events: Vec<Arc<AlertEvent>>, looked_back: LookedBack) -> Value {
    let omitted = events.len().saturating_sub(query::LIMIT_MAX);
    if omitted > 0 {
        events.drain(query::LIMIT_MAX - 1..query::LIMIT_MAX - 1 + omitted);
    }
    let mut answer = json!({
        "alert": alerts(events.get(..1).unwrap_or_default()).pop(),
        "events": alerts(&events),
        "omitted": omitted,
        "whole": AlertEvent::are_whole(events.iter().map(AsRef::as_ref)),
    });
    extend(&mut answer, looked_back.members());
    answer
}

fn extend(answer: &mut Value, members: Map<String, Value>) {
    if let Value::Object(answer) = answer {
        answer.extend(members);
    }
}

/// Alert events.
pub(crate) fn alerts(events: &[Arc<AlertEvent>]) -> Vec<Value> {
    events.iter().map(|event| record(&Output::Alert(Box::new((**event).clone())))).collect()
}

/// Which partitions are ready, and what is missing.
pub(crate) fn readiness(report: &Report) -> Value {
    let restoring = report.restoring.iter().map(
        |(partition, remaining)| json!({ "partition": partition, "records_remaining": remaining }),
    );
    json!({
        "ready": report.missing.is_empty(),
        "missing": report.missing,
        "partitions_ready": report.ready,
        "partitions_restoring": restoring.collect::<Vec<_>>(),
    })
}
