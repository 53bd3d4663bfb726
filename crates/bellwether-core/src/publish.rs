//! Assembles score, explanation and records, and decides what is published.

use std::collections::BTreeMap;

use crate::account::{Account, Row, SignalState};
use crate::output::{
    Category, Contribution, HealthRecord, Movement, Output, ScoreChanged, SubScore,
};
use crate::points::Points;
use crate::policy::Compiled;
use crate::score::{CONTEXT_LINES, band, clip, sub_scores};
use crate::sequence::Sequence;
use crate::time::Millis;

/// A deterministic id: 32 hexadecimal digits of a hash (XXH3-128) of the parts.
#[must_use]
pub fn content_id(parts: &[&str]) -> String {
    // Identifiers hold no control characters, so the separator cannot occur in a part.
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(parts.join("\u{1f}").as_bytes()))
}

/// The base line of the scorecard.
pub(crate) fn base(policy: &Compiled) -> Points {
    Points::from_f64(policy.score.base_points)
}

/// Every line but `clip`, summed.
fn raw(account: &Account, policy: &Compiled) -> Points {
    base(policy)
        + account.hot.signals.iter().map(|state| state.points).sum()
        + account.hot.context_points.iter().copied().sum()
        + account.standing.iter().map(|line| line.points).sum()
}

/// Sets the score from the lines.
pub(crate) fn rescore(account: &mut Account, policy: &Compiled) {
    account.hot.score = clip(raw(account, policy));
}

/// Publishes the score where it moved enough or changed its band, and the health record with it. `alerts_changed`
/// publishes the health record in any case.
pub(crate) fn publish(
    account: &mut Account,
    policy: &Compiled,
    model_version: &str,
    at: Millis,
    alerts_changed: bool,
    out: &mut Vec<Output>,
) {
    let score = account.hot.score;
    let band_now = band(score, policy);
    let moved = match account.hot.published_score {
        None => true,
        Some(before) => {
            (score - before).abs() >= Points::from_f64(policy.score.publish_min_points)
                || account.hot.published_band != Some(band_now)
        }
    };
    if !moved && !alerts_changed {
        return;
    }
    if moved {
        account.hot.sequence += 1;
        let change = score_changed(account, policy, model_version, at);
        remember_published(account, policy);
        account.hot.published_band = Some(band_now);
        out.push(Output::ScoreChanged(Box::new(change)));
    }
    account.changed.note(Row::Hot);
    out.push(Output::Health(Box::new(health_record(account, policy, model_version, at))));
}

fn remember_published(account: &mut Account, policy: &Compiled) {
    let hot = &mut account.hot;
    hot.published_score = Some(hot.score);
    hot.published_base = base(policy);
    hot.context_published = hot.context_points;
    for state in &mut hot.signals {
        state.published = state.points;
    }
    crate::standing::remember_published(account);
}

fn score_changed(
    account: &Account,
    policy: &Compiled,
    model_version: &str,
    at: Millis,
) -> ScoreChanged {
    let hot = &account.hot;
    let movements = movements(account, policy);
    debug_assert!(
        movements.iter().map(|movement| movement.delta).sum::<Points>()
            == hot.score - hot.published_score.unwrap_or_default(),
        "explanation-sums: the movements of a record sum to its change"
    );
    ScoreChanged {
        id: content_id(&[
            account.id.as_str(),
            "score",
            &hot.sequence.to_string(),
            &at.0.to_string(),
        ]),
        account_id: account.id.clone(),
        sequence: hot.sequence,
        at,
        score: hot.score,
        previous_score: hot.published_score,
        band: band(hot.score, policy),
        previous_band: hot.published_band,
        movements,
        sub_scores: sub_scores_of(account, policy),
        maturity: crate::close::maturity(account),
        policy_version: policy.version().to_owned(),
        model_version: model_version.to_owned(),
    }
}

/// What moved since the last published record, line by line. Before the first record every line was zero.
fn movements(account: &Account, policy: &Compiled) -> Vec<Movement> {
    let hot = &account.hot;
    let mut lines = vec![("base".to_owned(), None, base(policy), hot.published_base)];
    for (signal, state) in policy.signals.iter().zip(&hot.signals) {
        lines.push((signal.name.clone(), Some(signal.category), state.points, state.published));
    }
    for (sequence, state) in sequences(account, policy) {
        let name = sequence.name.clone();
        lines.push((name, Some(sequence.category), state.points, state.published));
    }
    for (index, (name, category, _)) in CONTEXT_LINES.iter().enumerate() {
        let (now, before) = (hot.context_points[index], hot.context_published[index]);
        lines.push(((*name).to_owned(), Some(*category), now, before));
    }
    for line in &account.standing {
        let name = line.of.as_str().to_owned();
        lines.push((name, Some(line.of.category()), line.points, line.published));
    }
    let raw_before: Points = lines.iter().map(|line| line.3).sum();
    let clip_before = hot.published_score.map_or(Points::ZERO, |score| score - raw_before);
    lines.push(("clip".to_owned(), None, hot.score - raw(account, policy), clip_before));
    lines
        .into_iter()
        .filter(|(_, _, now, before)| now != before)
        .map(|(name, category, now, before)| Movement {
            name,
            category,
            delta: now - before,
            points: now,
        })
        .collect()
}

fn sub_scores_of(account: &Account, policy: &Compiled) -> Vec<SubScore> {
    let mut sums: BTreeMap<Category, Points> = BTreeMap::new();
    for (signal, state) in policy.signals.iter().zip(&account.hot.signals) {
        *sums.entry(signal.category).or_default() += state.points;
    }
    for (sequence, state) in sequences(account, policy) {
        *sums.entry(sequence.category).or_default() += state.points;
    }
    for ((_, category, _), points) in CONTEXT_LINES.iter().zip(account.hot.context_points) {
        *sums.entry(*category).or_default() += points;
    }
    for line in &account.standing {
        *sums.entry(line.of.category()).or_default() += line.points;
    }
    sub_scores(&sums, policy)
}

/// The sequences of the policy and what is kept of each.
fn sequences<'a>(
    account: &'a Account,
    policy: &'a Compiled,
) -> impl Iterator<Item = (&'a Sequence, &'a SignalState)> {
    policy.sequences.iter().zip(account.hot.signals.iter().skip(policy.signals.len()))
}

/// The explanation of the score as it stands: lines that sum exactly to it. Signals never seen are left out, and sequences that cost
/// nothing.
#[must_use]
pub fn contributions(account: &Account, policy: &Compiled) -> Vec<Contribution> {
    let hot = &account.hot;
    let plain = |name: &str, category, points, unit: &str| Contribution {
        name: name.to_owned(),
        category,
        points,
        observed: None,
        baseline: None,
        unit: unit.to_owned(),
    };
    let mut lines = vec![plain("base", None, base(policy), "points")];
    for (signal, state) in policy.signals.iter().zip(&hot.signals) {
        if state.first_day.is_none() && state.points == Points::ZERO {
            continue;
        }
        lines.push(Contribution {
            observed: state.observed,
            baseline: state.baseline.map(|baseline| baseline.level),
            ..plain(&signal.name, Some(signal.category), state.points, &signal.unit)
        });
    }
    for (sequence, state) in sequences(account, policy) {
        if state.points == Points::ZERO && state.observed.is_none() {
            continue;
        }
        let unit = sequence.unit(policy);
        let line = plain(&sequence.name, Some(sequence.category), state.points, &unit);
        lines.push(Contribution { observed: state.observed, ..line });
    }
    for (index, (name, category, unit)) in CONTEXT_LINES.iter().enumerate() {
        lines.push(Contribution {
            observed: crate::close::context_value(account, index),
            ..plain(name, Some(*category), hot.context_points[index], unit)
        });
    }
    for line in &account.standing {
        lines.push(Contribution {
            observed: line.observed,
            ..plain(line.of.as_str(), Some(line.of.category()), line.points, line.of.unit())
        });
    }
    let clipped = hot.score - raw(account, policy);
    if clipped != Points::ZERO {
        lines.push(plain("clip", None, clipped, "points"));
    }
    lines
}

/// The ids of the alerts that are open, but for those that are withheld.
fn open_alerts(account: &Account) -> Vec<String> {
    let ids = account.hot.alerts.iter().map(|alert| &alert.id);
    ids.filter(|id| !crate::feedback::is_withheld(account, id)).cloned().collect()
}

/// The full health record of an account as it stands.
#[must_use]
pub fn health_record(
    account: &Account,
    policy: &Compiled,
    model_version: &str,
    at: Millis,
) -> HealthRecord {
    let hot = &account.hot;
    let mut evidence: Vec<_> =
        hot.signals.iter().filter_map(|state| state.evidence.clone()).collect();
    crate::alert::strongest_first(&mut evidence);
    HealthRecord {
        account_id: account.id.clone(),
        name: account.name().map(str::to_owned),
        segment: account.segment().map(str::to_owned),
        sequence: hot.sequence,
        at,
        score: hot.score,
        band: band(hot.score, policy),
        maturity: crate::close::maturity(account),
        contributions: contributions(account, policy),
        sub_scores: sub_scores_of(account, policy),
        evidence,
        masked: account.masked.clone(),
        rebaselined: crate::rebaseline::rebaselined(account, policy),
        open_alerts: open_alerts(account),
        last_event_at: hot.last_event_at,
        policy_version: policy.version().to_owned(),
        model_version: model_version.to_owned(),
    }
}
