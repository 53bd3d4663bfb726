//! Reading accounts and alerts off the read model: filters and pages, shared by the API and the pages for people.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use axum::http::StatusCode;
use bellwether_core::id::{AccountId, hex_byte};
use bellwether_core::output::{AlertEvent, AlertState, Band, Severity, Transition};
use bellwether_core::points::Points;
use bellwether_core::time::Millis;
use bellwether_engine::read_model::{AccountView, Glance, Position, ReadModel, SCAN_MAX};
use serde::Deserialize;

use crate::looked::LookedBack;
use crate::problem::Problem;

/// Entries on a page when the client does not say.
const LIMIT_DEFAULT: usize = 50;
/// Characters of an alert's id that are enough to name it, where no other begins with them.
pub(crate) const ID_PREFIX_MIN: usize = 8;
/// Entries on a page at most.
pub(crate) const LIMIT_MAX: usize = 500;

/// The query of a list of accounts, as it stands in the URL.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountsQuery {
    pub(crate) band: Option<String>,
    pub(crate) q: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

/// The query of a list of alerts, as it stands in the URL.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlertsQuery {
    pub(crate) severity: Option<String>,
    pub(crate) open: Option<String>,
    pub(crate) state: Option<String>,
    kind: Option<String>,
    account: Option<String>,
    limit: Option<String>,
}

/// A page of accounts by rising score.
#[derive(Debug)]
pub(crate) struct AccountsPage {
    pub(crate) accounts: Vec<AccountView>,
    /// Where the next page begins; none on the last one.
    pub(crate) next_cursor: Option<String>,
}

/// The accounts that a query asks for. Walks over all accounts in the worst case, so it is called off the async threads.
pub(crate) fn accounts(model: &ReadModel, query: &AccountsQuery) -> Result<AccountsPage, Problem> {
    let band = filled(query.band.as_ref()).map(band).transpose()?;
    let words = filled(query.q.as_ref()).map(|text| text.to_lowercase());
    let limit = limit(query.limit.as_ref())?;
    let mut at = filled(query.cursor.as_ref()).map(cursor_position).transpose()?;
    let mut accounts = Vec::new();
    loop {
        let positions = model.scan(at.as_ref(), SCAN_MAX);
        let last_chunk = positions.len() < SCAN_MAX;
        for position in positions {
            // One more than the page holds says whether there is a next page.
            let id = &position.1;
            let wanted = model.glance(id).is_some_and(|glance| {
                band.is_none_or(|band| glance.band == band)
                    && words.as_ref().is_none_or(|words| mentions(id, &glance, words))
            });
            // Gone where its partition was given up meanwhile.
            if wanted && let Some(view) = model.account(id) {
                if accounts.len() == limit {
                    let next_cursor = at.as_ref().map(cursor_text);
                    return Ok(AccountsPage { accounts, next_cursor });
                }
                accounts.push(view);
            }
            at = Some(position);
        }
        if last_chunk {
            return Ok(AccountsPage { accounts, next_cursor: None });
        }
    }
}

/// The alert events that a query asks for: of alerts in a state the latest event each (open ones by falling priority), otherwise recent
/// events, latest first.
pub(crate) fn alerts(
    model: &ReadModel,
    query: &AlertsQuery,
) -> Result<Vec<Arc<AlertEvent>>, Problem> {
    let severity = filled(query.severity.as_ref()).map(severity).transpose()?;
    let state = filled(query.state.as_ref()).map(state).transpose()?;
    let kind = filled(query.kind.as_ref());
    let account = filled(query.account.as_ref());
    let limit = limit(query.limit.as_ref())?;
    let open = match filled(query.open.as_ref()) {
        None => state.map(|state| state != AlertState::Resolved),
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => {
            return Err(Problem::bad_request(format!(
                "open is true or false, not {other:?}; leave it out for every recent alert event"
            )));
        }
    };
    let mut events = if open == Some(true) { model.open_alerts() } else { model.recent_alerts() };
    if open == Some(false) {
        // What came back is open, whatever was said of it when it ended; what ended twice is one alert.
        let mut seen = HashSet::new();
        events.retain(|event| seen.insert(event.alert_id.clone()));
    }
    events.retain(|event| {
        (open != Some(false) || event.transition == Transition::Resolved)
            && severity.is_none_or(|severity| event.severity == severity)
            && state.is_none_or(|state| event.state == state)
            && kind.is_none_or(|kind| event.kind == kind)
            && account.is_none_or(|account| event.account_id.as_str() == account)
    });
    events.truncate(limit);
    Ok(events)
}

/// How far back a process knows what was published of alerts, in the partitions that it has.
pub(crate) fn known_back(model: &ReadModel, began_at: Millis) -> LookedBack {
    LookedBack::Newest(model.alerts_known_since().map_or(began_at, |since| since.max(began_at)))
}

/// What is known here of one alert, named by its id or the beginning of it: its recent events, latest first, and how far back they are known.
pub(crate) fn alert(model: &ReadModel, id: &str, began_at: Millis) -> Result<Known, Problem> {
    // Before the events: what comes meanwhile is more than is said.
    let looked_back = known_back(model, began_at);
    let is_meant = |event: &Arc<AlertEvent>| {
        event.alert_id == id || id.len() >= ID_PREFIX_MIN && event.alert_id.starts_with(id)
    };
    let mut events = model.recent_alerts();
    events.retain(is_meant);
    if events.is_empty() {
        // Open for longer than events are kept here.
        events = model.open_alerts();
        events.retain(is_meant);
    }
    of_one(&events, id)?;
    if events.is_empty() {
        let back = looked_back.to().map(Millis::iso).unwrap_or_default();
        let detail = format!(
            "no alert {id:?} is open here, and nothing was published of one in the partitions of this process since {back}; GET /v1/alerts?open=true lists those that are open, and those that ended before then, or elsewhere, stand in the topic only"
        );
        return Err(unknown_alert(detail, looked_back));
    }
    Ok(Known { events, looked_back })
}

/// What is known of one alert.
#[derive(Debug)]
pub(crate) struct Known {
    /// Its events, latest first; at least one.
    pub(crate) events: Vec<Arc<AlertEvent>>,
    /// How far back was looked for them.
    pub(crate) looked_back: LookedBack,
}

/// The problem that there is no such alert in what was looked through.
pub(crate) fn unknown_alert(detail: impl Into<String>, looked_back: LookedBack) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, detail)
        .typed("unknown-alert", "Unknown alert")
        .with_all(looked_back.members())
}

/// A problem where the events are of several alerts.
pub(crate) fn of_one(events: &[Arc<AlertEvent>], id: &str) -> Result<(), Problem> {
    let alerts: BTreeSet<&str> = events.iter().map(|event| event.alert_id.as_str()).collect();
    if alerts.len() > 1 {
        let count = alerts.len();
        let detail = format!("{count} alerts begin with {id:?}: name more of the id");
        return Err(Problem::bad_request(detail));
    }
    Ok(())
}

/// Recent alert events of one account, latest first.
pub(crate) fn alerts_of(model: &ReadModel, id: &AccountId) -> Vec<Arc<AlertEvent>> {
    let mut events = model.recent_alerts();
    events.retain(|event| event.account_id == *id);
    events.truncate(LIMIT_MAX);
    events
}

/// An empty parameter is what a form sends for a field that was left alone.
fn filled(text: Option<&String>) -> Option<&str> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty())
}

fn mentions(id: &AccountId, glance: &Glance, words: &str) -> bool {
    let name = glance.name.as_deref().unwrap_or_default();
    id.as_str().to_lowercase().contains(words) || name.to_lowercase().contains(words)
}

fn band(text: &str) -> Result<Band, Problem> {
    let bands = [Band::AtRisk, Band::Neutral, Band::Healthy];
    bands.into_iter().find(|band| band.as_str() == text).ok_or_else(|| {
        Problem::bad_request(format!("band is at_risk, neutral or healthy, not {text:?}"))
    })
}

fn state(text: &str) -> Result<AlertState, Problem> {
    AlertState::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let states = AlertState::ALL.map(AlertState::as_str).join(", ");
        Problem::bad_request(format!("state is one of {states}, not {text:?}"))
    })
}

fn severity(text: &str) -> Result<Severity, Problem> {
    Severity::ALL.into_iter().find(|severity| severity.as_str() == text).ok_or_else(|| {
        Problem::bad_request(format!(
            "severity is info, low, medium, high or critical, not {text:?}"
        ))
    })
}

fn limit(text: Option<&String>) -> Result<usize, Problem> {
    let Some(text) = filled(text) else { return Ok(LIMIT_DEFAULT) };
    text.parse::<usize>().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
        Problem::bad_request(format!("limit is a number from 1 to {LIMIT_MAX}, not {text:?}"))
    })
}

/// A position as one word that needs no escaping: the score, a dot, the id's bytes in hexadecimal.
fn cursor_text((score, id): &Position) -> String {
    let id: String = id.as_str().bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{}.{id}", score.0)
}

fn cursor_position(text: &str) -> Result<Position, Problem> {
    let parse = || {
        let (score, id) = text.split_once('.')?;
        let bytes: Option<Vec<u8>> =
            id.as_bytes().chunks(2).map(|pair| hex_byte(pair.try_into().ok()?)).collect();
        let id = String::from_utf8(bytes?).ok()?;
        Some((Points(score.parse().ok()?), AccountId::new(&id).ok()?))
    };
    parse().ok_or_else(|| {
        Problem::bad_request(
            "cursor is not one of ours; pass on next_cursor as it came, or leave it out",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        for id in ["acme", "a.b c/\"<ü>"] {
            let position = (Points(-5), AccountId::new(id).expect("a valid id"));
            assert_eq!(cursor_position(&cursor_text(&position)), Ok(position));
        }
        for broken in ["", ".", "5", "5.6", "5.616", "5.zz", "x.61", "5.ff", "5.+1", "5."] {
            assert!(cursor_position(broken).is_err(), "{broken:?}");
        }
    }
}
