//! The records of alerts: an open alert as an event, with its evidence as it stands.

use super::OpenAlert;
use crate::account::Account;
use crate::close::absence_of;
use crate::condition;
use crate::feedback;
use crate::figure::{figures, percent, unit_beside};
use crate::life::{self, Standing};
use crate::output::{AlertEvent, Evidence, Resolution, Transition};
use crate::policy::Compiled;
use crate::policy_check::{CORROBORATED_KIND, SPIKE_KIND};
use crate::priority;
use crate::publish::content_id;
use crate::score::band;

/// The open alerts of an account as events, with the evidence as it stands now: for a read model that starts afresh. Ids
/// are those of the last published events.
pub(crate) fn standing(
    account: &Account,
    policy: &Compiled,
    model_version: &str,
) -> Vec<AlertEvent> {
    let shown =
        account.hot.alerts.iter().filter(|alert| !feedback::is_withheld(account, &alert.id));
    shown.map(|alert| stand(account, alert, policy, model_version)).collect()
}

fn stand(
    account: &Account,
    alert: &OpenAlert,
    policy: &Compiled,
    model_version: &str,
) -> AlertEvent {
    let evidence = evidence_of(account, &alert.kind, policy);
    let said = life::of(account, &alert.id).and_then(|life| life.said.as_ref());
    let is_said = matches!(alert.last.0, Transition::Acknowledged | Transition::Snoozed);
    let by = said.filter(|_| is_said).and_then(|(_, _, by)| by.clone());
    AlertEvent { by, ..described(account, alert, evidence, policy, model_version) }
}

/// The evidence of an alert of a kind as it stands, strongest first.
pub(super) fn evidence_of(account: &Account, kind: &str, policy: &Compiled) -> Vec<Evidence> {
    if let Some(condition) = policy.conditions.iter().find(|condition| condition.kind == kind) {
        let met = condition::met(account, policy, None, condition);
        return met.into_iter().map(|met| condition::since(account, kind, met)).collect();
    }
    let kind_of = |name: &str| {
        policy.signals.iter().find(|signal| signal.name == name).map(|signal| &signal.kind)
    };
    let standing = account.hot.signals.iter().filter_map(|state| state.evidence.clone());
    let mut evidence: Vec<Evidence> = standing
        .filter(|item| match kind {
            SPIKE_KIND => !item.risk,
            CORROBORATED_KIND => item.risk && policy.corroborates(&item.signal),
            kind => item.risk && kind_of(&item.signal).is_some_and(|known| known == kind),
        })
        .collect();
    strongest_first(&mut evidence);
    evidence
}

/// The last event of an alert, but for what only that moment knew.
pub(super) fn described(
    account: &Account,
    alert: &OpenAlert,
    evidence: Vec<Evidence>,
    policy: &Compiled,
    model_version: &str,
) -> AlertEvent {
    let (transition, at) = alert.last;
    let life = life::of(account, &alert.id);
    let standing = life.map_or(Standing::Open, |life| life.standing);
    let priority_parts = priority::parts(account, alert.severity, at, &policy.priority);
    AlertEvent {
        id: content_id(&[&alert.id, &alert.sequence.to_string(), transition.as_str()]),
        alert_id: alert.id.clone(),
        account_id: account.id.clone(),
        account_name: account.name().map(str::to_owned),
        kind: alert.kind.clone(),
        transition,
        severity: alert.severity,
        at,
        opened_at: alert.opened_at,
        state: standing.state(),
        until: standing.until(),
        reopened: life.map_or(0, |life| life.reopened),
        by: None,
        note: None,
        resolution: None,
        title: title(alert, transition, &evidence, None),
        evidence,
        groups: Vec::new(),
        family: None,
        priority: priority::sum(&priority_parts),
        priority_parts,
        score: account.hot.score,
        band: band(account.hot.score, policy),
        policy_version: policy.version().to_owned(),
        model_version: model_version.to_owned(),
    }
}

/// Orders evidence for people: the strongest first, ties by name.
pub(crate) fn strongest_first(evidence: &mut [Evidence]) {
    evidence.sort_by(|left, right| {
        right.z.abs().total_cmp(&left.z.abs()).then_with(|| left.signal.cmp(&right.signal))
    });
}

pub(super) fn title(
    alert: &OpenAlert,
    transition: Transition,
    evidence: &[Evidence],
    resolution: Option<Resolution>,
) -> String {
    let kind = alert.kind.replace('_', " ");
    if let (Transition::Resolved, Some(resolution)) = (transition, resolution) {
        let said = if resolution == Resolution::Rebaselined {
            "rebaselined, what was found is what is normal now"
        } else {
            resolution.as_str()
        };
        return format!("{kind}: {said}");
    }
    let mut summary: Vec<String> = evidence.iter().take(5).map(short).collect();
    if summary.is_empty() {
        // Nothing speaks for it any more: what did.
        let named = alert.signals.iter().take(5);
        summary = named.map(|(signal, _)| signal.replace('_', " ")).collect();
    }
    format!("{kind}: {}", summary.join(", "))
}

/// A signal and its change, e.g. `logins -38 %`.
fn short(item: &Evidence) -> String {
    // Measured against a limit, and not against what is normal.
    if item.change_pct.is_none() && item.z.abs() < f64::EPSILON {
        return item.text.clone();
    }
    if let Some(absent) = absence_of(item) {
        return absent.to_owned();
    }
    let name = item.signal.replace('_', " ");
    if let Some(change) = item.change_pct {
        return format!("{name} {}", percent(change));
    }
    let (direction, agrees) = if item.z < 0.0 {
        ("down", item.observed < item.baseline)
    } else {
        ("up", item.observed > item.baseline)
    };
    // Of a run of three the figures are the first and the last: what it is says its own sentence.
    if !agrees {
        return item.text.clone();
    }
    let (before, now) = figures(item.baseline, item.observed);
    format!("{name} {direction} from {before} to {now}{}", unit_beside(&name, &item.unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Category;
    use crate::time::Day;

    fn evidence(signal: &str, (baseline, observed): (f64, f64), unit: &str) -> Evidence {
        Evidence {
            signal: signal.to_owned(),
            category: Category::Support,
            group: "support".to_owned(),
            observed,
            baseline,
            unit: unit.to_owned(),
            change_pct: None,
            z: if observed < baseline { -4.2 } else { 4.2 },
            risk: true,
            onset: Day(20_000),
            window_days: 7,
            text: "a sentence".to_owned(),
        }
    }

    #[test]
    fn a_title_says_what_changed_in_words_that_need_no_statistics() {
        let rare = evidence("tickets_opened", (0.02, 3.0), "tickets/week");
        assert_eq!(short(&rare), "tickets opened up from 0.02 to 3 tickets/week");
        let mood = evidence("support_sentiment", (0.4, -0.25), "sentiment");
        assert_eq!(short(&mood), "support sentiment down from 0.4 to -0.25");
        let logins = Evidence { change_pct: Some(-37.8), ..rare.clone() };
        assert_eq!(short(&logins), "tickets opened -38 %");
        let absent = Evidence {
            change_pct: Some(-100.0),
            text:
                "no administrator activity for 5 days, since 2026-11-09 (normally 6.8 days a week)"
                    .to_owned(),
            ..rare.clone()
        };
        assert_eq!(short(&absent), "no administrator activity for 5 days");
        let limit = Evidence { z: 0.0, text: "seats in use: 9 of 10".to_owned(), ..rare };
        assert_eq!(short(&limit), "seats in use: 9 of 10");
    }
}
