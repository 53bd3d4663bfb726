//! Output records as they stand on the wire. The structs mirror `score-changed.avsc`, `score-current.avsc`, `alert.avsc`, `shadow-score.avsc` and
//! `learning-example.avsc` field by field; JSON and Avro are both written from them. The serde names are the schemas' record names: the Avro library checks them.

use std::borrow::Cow;

use bellwether_core::calendar::Span;
use bellwether_core::output::{
    AlertEvent, AlertState, Beside, Contribution, Evidence, HealthRecord, LearningExample,
    Movement, Rebaselined, ScoreChanged, Scored, ShadowLine, ShadowScore, SubScore, Transition,
};
use bellwether_core::points::Points;
use bellwether_core::priority::PriorityPart;
use bellwether_core::reject::Reject;
use serde::{Deserialize, Serialize};

use crate::input::{account_id, invalid, word};
use crate::scalar::{InstantMs, IsoDay};

type Text<'a> = Cow<'a, str>;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "ScoreChanged")]
pub(crate) struct ScoreChangedRecord<'a> {
    id: Text<'a>,
    account_id: Text<'a>,
    sequence: i64,
    at: InstantMs,
    score: f64,
    score_centipoints: i32,
    previous_score: Option<f64>,
    previous_score_centipoints: Option<i32>,
    band: Text<'a>,
    previous_band: Option<Text<'a>>,
    movements: Vec<MovementRecord<'a>>,
    sub_scores: Vec<SubScoreRecord<'a>>,
    maturity: Text<'a>,
    policy_version: Text<'a>,
    model_version: Text<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Movement")]
struct MovementRecord<'a> {
    name: Text<'a>,
    category: Option<Text<'a>>,
    delta_centipoints: i32,
    centipoints: i32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "SubScore")]
struct SubScoreRecord<'a> {
    category: Text<'a>,
    score: f64,
    score_centipoints: i32,
    contribution_centipoints: i32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "ScoreCurrent")]
pub(crate) struct ScoreCurrentRecord<'a> {
    account_id: Text<'a>,
    name: Option<Text<'a>>,
    segment: Option<Text<'a>>,
    sequence: i64,
    at: InstantMs,
    score: f64,
    score_centipoints: i32,
    band: Text<'a>,
    maturity: Text<'a>,
    contributions: Vec<ContributionRecord<'a>>,
    sub_scores: Vec<SubScoreRecord<'a>>,
    evidence: Vec<EvidenceRecord<'a>>,
    #[serde(default)]
    masked: Vec<MaskedRecord<'a>>,
    #[serde(default)]
    rebaselined: Vec<RebaselinedRecord<'a>>,
    open_alerts: Vec<Text<'a>>,
    last_event_at: Option<InstantMs>,
    policy_version: Text<'a>,
    model_version: Text<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Contribution")]
struct ContributionRecord<'a> {
    name: Text<'a>,
    category: Option<Text<'a>>,
    centipoints: i32,
    observed: Option<f64>,
    baseline: Option<f64>,
    unit: Text<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Evidence")]
struct EvidenceRecord<'a> {
    signal: Text<'a>,
    category: Text<'a>,
    group: Text<'a>,
    observed: f64,
    baseline: f64,
    unit: Text<'a>,
    change_pct: Option<f64>,
    z: f64,
    risk: bool,
    onset: IsoDay,
    window_days: i32,
    text: Text<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Masked")]
struct MaskedRecord<'a> {
    from: IsoDay,
    to: IsoDay,
    kind: Text<'a>,
    note: Option<Text<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Rebaselined")]
struct RebaselinedRecord<'a> {
    signal: Text<'a>,
    since: IsoDay,
    before: f64,
    now: f64,
    unit: Text<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Alert")]
pub(crate) struct AlertRecord<'a> {
    id: Text<'a>,
    alert_id: Text<'a>,
    account_id: Text<'a>,
    account_name: Option<Text<'a>>,
    kind: Text<'a>,
    transition: Text<'a>,
    severity: Text<'a>,
    at: InstantMs,
    opened_at: InstantMs,
    #[serde(default)]
    state: Text<'a>,
    #[serde(default)]
    snoozed_until: Option<InstantMs>,
    #[serde(default)]
    reopened: i32,
    #[serde(default)]
    by: Option<Text<'a>>,
    #[serde(default)]
    note: Option<Text<'a>>,
    resolution: Option<Text<'a>>,
    title: Text<'a>,
    evidence: Vec<EvidenceRecord<'a>>,
    groups: Vec<Text<'a>>,
    #[serde(default)]
    family: Option<Text<'a>>,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    priority_parts: Vec<PriorityPartRecord<'a>>,
    score: f64,
    score_centipoints: i32,
    band: Text<'a>,
    policy_version: Text<'a>,
    model_version: Text<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "PriorityPart")]
struct PriorityPartRecord<'a> {
    name: Text<'a>,
    points: i32,
    text: Text<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "ShadowScore")]
pub(crate) struct ShadowScoreRecord<'a> {
    id: Text<'a>,
    account_id: Text<'a>,
    segment: Option<Text<'a>>,
    shadow_id: Text<'a>,
    sequence: i64,
    at: InstantMs,
    champion_score: f64,
    champion_score_centipoints: i32,
    champion_band: Text<'a>,
    challenger_score: f64,
    challenger_score_centipoints: i32,
    challenger_band: Text<'a>,
    lines: Vec<ShadowLineRecord<'a>>,
    maturity: Text<'a>,
    policy_version: Text<'a>,
    model_version: Text<'a>,
    challenger_version: Text<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "ShadowLine")]
struct ShadowLineRecord<'a> {
    name: Text<'a>,
    category: Option<Text<'a>>,
    champion_centipoints: i32,
    challenger_centipoints: i32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "LearningExample")]
pub(crate) struct LearningExampleRecord<'a> {
    id: Text<'a>,
    account_id: Text<'a>,
    segment: Option<Text<'a>>,
    at: InstantMs,
    horizon_days: i32,
    step_days: i32,
    readings: Vec<ReadingRecord<'a>>,
    readings_version: Text<'a>,
    policy_version: Text<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Reading")]
struct ReadingRecord<'a> {
    name: Text<'a>,
    value: Option<f64>,
}

// ---------------------------------------------------------------------------------------------------------------
// Domain to wire. Sequences stay below 2^63: at one record a nanosecond that takes 292 years.

impl<'a> From<&'a ScoreChanged> for ScoreChangedRecord<'a> {
    fn from(change: &'a ScoreChanged) -> Self {
        ScoreChangedRecord {
            id: text(&change.id),
            account_id: text(change.account_id.as_str()),
            sequence: change.sequence.cast_signed(),
            at: InstantMs(change.at),
            score: change.score.as_f64(),
            score_centipoints: change.score.0,
            previous_score: change.previous_score.map(Points::as_f64),
            previous_score_centipoints: change.previous_score.map(|points| points.0),
            band: text(change.band.as_str()),
            previous_band: change.previous_band.map(|band| text(band.as_str())),
            movements: change.movements.iter().map(MovementRecord::from).collect(),
            sub_scores: change.sub_scores.iter().map(SubScoreRecord::from).collect(),
            maturity: text(change.maturity.as_str()),
            policy_version: text(&change.policy_version),
            model_version: text(&change.model_version),
        }
    }
}

impl<'a> From<&'a Movement> for MovementRecord<'a> {
    fn from(movement: &'a Movement) -> Self {
        MovementRecord {
            name: text(&movement.name),
            category: movement.category.map(|category| text(category.as_str())),
            delta_centipoints: movement.delta.0,
            centipoints: movement.points.0,
        }
    }
}

impl From<&SubScore> for SubScoreRecord<'_> {
    fn from(sub: &SubScore) -> Self {
        SubScoreRecord {
            category: text(sub.category.as_str()),
            score: sub.score.as_f64(),
            score_centipoints: sub.score.0,
            contribution_centipoints: sub.points.0,
        }
    }
}

impl<'a> From<&'a Span> for MaskedRecord<'a> {
    fn from(span: &'a Span) -> Self {
        MaskedRecord {
            from: IsoDay(span.from),
            to: IsoDay(span.to),
            kind: text(&span.kind),
            note: span.note.as_deref().map(text),
        }
    }
}

impl<'a> From<&'a Rebaselined> for RebaselinedRecord<'a> {
    fn from(new: &'a Rebaselined) -> Self {
        RebaselinedRecord {
            signal: text(&new.signal),
            since: IsoDay(new.since),
            before: new.before,
            now: new.now,
            unit: text(&new.unit),
        }
    }
}

impl<'a> From<&'a HealthRecord> for ScoreCurrentRecord<'a> {
    fn from(record: &'a HealthRecord) -> Self {
        ScoreCurrentRecord {
            account_id: text(record.account_id.as_str()),
            name: record.name.as_deref().map(text),
            segment: record.segment.as_deref().map(text),
            sequence: record.sequence.cast_signed(),
            at: InstantMs(record.at),
            score: record.score.as_f64(),
            score_centipoints: record.score.0,
            band: text(record.band.as_str()),
            maturity: text(record.maturity.as_str()),
            contributions: record.contributions.iter().map(ContributionRecord::from).collect(),
            sub_scores: record.sub_scores.iter().map(SubScoreRecord::from).collect(),
            evidence: record.evidence.iter().map(EvidenceRecord::from).collect(),
            masked: record.masked.iter().map(MaskedRecord::from).collect(),
            rebaselined: record.rebaselined.iter().map(RebaselinedRecord::from).collect(),
            open_alerts: record.open_alerts.iter().map(|id| text(id)).collect(),
            last_event_at: record.last_event_at.map(InstantMs),
            policy_version: text(&record.policy_version),
            model_version: text(&record.model_version),
        }
    }
}

impl<'a> From<&'a Contribution> for ContributionRecord<'a> {
    fn from(line: &'a Contribution) -> Self {
        ContributionRecord {
            name: text(&line.name),
            category: line.category.map(|category| text(category.as_str())),
            centipoints: line.points.0,
            observed: line.observed,
            baseline: line.baseline,
            unit: text(&line.unit),
        }
    }
}

impl<'a> From<&'a Evidence> for EvidenceRecord<'a> {
    fn from(evidence: &'a Evidence) -> Self {
        EvidenceRecord {
            signal: text(&evidence.signal),
            category: text(evidence.category.as_str()),
            group: text(&evidence.group),
            observed: evidence.observed,
            baseline: evidence.baseline,
            unit: text(&evidence.unit),
            change_pct: evidence.change_pct,
            z: evidence.z,
            risk: evidence.risk,
            onset: IsoDay(evidence.onset),
            window_days: i32::from(evidence.window_days),
            text: text(&evidence.text),
        }
    }
}

impl<'a> From<&'a AlertEvent> for AlertRecord<'a> {
    fn from(event: &'a AlertEvent) -> Self {
        AlertRecord {
            id: text(&event.id),
            alert_id: text(&event.alert_id),
            account_id: text(event.account_id.as_str()),
            account_name: event.account_name.as_deref().map(text),
            kind: text(&event.kind),
            transition: text(event.transition.as_str()),
            severity: text(event.severity.as_str()),
            at: InstantMs(event.at),
            opened_at: InstantMs(event.opened_at),
            state: text(event.state.as_str()),
            snoozed_until: event.until.map(InstantMs),
            reopened: i32::try_from(event.reopened).unwrap_or(i32::MAX),
            by: event.by.as_deref().map(text),
            note: event.note.as_deref().map(text),
            resolution: event.resolution.map(|resolution| text(resolution.as_str())),
            title: text(&event.title),
            evidence: event.evidence.iter().map(EvidenceRecord::from).collect(),
            groups: event.groups.iter().map(|group| text(group)).collect(),
            family: event.family.map(|family| text(family.as_str())),
            priority: event.priority,
            priority_parts: event.priority_parts.iter().map(PriorityPartRecord::from).collect(),
            score: event.score.as_f64(),
            score_centipoints: event.score.0,
            band: text(event.band.as_str()),
            policy_version: text(&event.policy_version),
            model_version: text(&event.model_version),
        }
    }
}

impl<'a> From<&'a PriorityPart> for PriorityPartRecord<'a> {
    fn from(part: &'a PriorityPart) -> Self {
        PriorityPartRecord { name: text(&part.name), points: part.points, text: text(&part.text) }
    }
}

impl<'a> From<&'a ShadowScore> for ShadowScoreRecord<'a> {
    fn from(beside: &'a ShadowScore) -> Self {
        let Beside { champion, challenger } = &beside.sides;
        ShadowScoreRecord {
            id: text(&beside.id),
            account_id: text(beside.account_id.as_str()),
            segment: beside.segment.as_deref().map(text),
            shadow_id: text(&beside.shadow_id),
            sequence: beside.sequence.cast_signed(),
            at: InstantMs(beside.at),
            champion_score: champion.score.as_f64(),
            champion_score_centipoints: champion.score.0,
            champion_band: text(champion.band.as_str()),
            challenger_score: challenger.score.as_f64(),
            challenger_score_centipoints: challenger.score.0,
            challenger_band: text(challenger.band.as_str()),
            lines: beside.lines.iter().map(ShadowLineRecord::from).collect(),
            maturity: text(beside.maturity.as_str()),
            policy_version: text(&beside.policy_version),
            model_version: text(&beside.model_version),
            challenger_version: text(&beside.challenger_version),
        }
    }
}

impl<'a> From<&'a ShadowLine> for ShadowLineRecord<'a> {
    fn from(line: &'a ShadowLine) -> Self {
        ShadowLineRecord {
            name: text(&line.name),
            category: line.category.map(|category| text(category.as_str())),
            champion_centipoints: line.champion.0,
            challenger_centipoints: line.challenger.0,
        }
    }
}

impl<'a> From<&'a LearningExample> for LearningExampleRecord<'a> {
    fn from(example: &'a LearningExample) -> Self {
        let reading = |(name, value): &'a (String, Option<f64>)| ReadingRecord {
            name: text(name),
            value: *value,
        };
        LearningExampleRecord {
            id: text(&example.id),
            account_id: text(example.account_id.as_str()),
            segment: example.segment.as_deref().map(text),
            at: InstantMs(example.at),
            // A policy's are at most 366.
            horizon_days: example.horizon_days.cast_signed(),
            step_days: example.step_days.cast_signed(),
            readings: example.readings.iter().map(reading).collect(),
            readings_version: text(&example.readings_version),
            policy_version: text(&example.policy_version),
        }
    }
}

fn text(text: &str) -> Text<'_> {
    Cow::Borrowed(text)
}

// ---------------------------------------------------------------------------------------------------------------
// Wire to domain.

impl ScoreChangedRecord<'_> {
    pub(crate) fn check(self) -> Result<ScoreChanged, Reject> {
        Ok(ScoreChanged {
            id: self.id.into_owned(),
            account_id: account_id(&self.account_id)?,
            sequence: sequence(self.sequence)?,
            at: self.at.0,
            score: Points(self.score_centipoints),
            previous_score: self.previous_score_centipoints.map(Points),
            band: word("band", &self.band)?,
            previous_band: optional_word("previous_band", self.previous_band.as_deref())?,
            movements: self
                .movements
                .into_iter()
                .map(MovementRecord::check)
                .collect::<Result<_, _>>()?,
            sub_scores: self
                .sub_scores
                .into_iter()
                .map(SubScoreRecord::check)
                .collect::<Result<_, _>>()?,
            maturity: word("maturity", &self.maturity)?,
            policy_version: self.policy_version.into_owned(),
            model_version: self.model_version.into_owned(),
        })
    }
}

impl MovementRecord<'_> {
    fn check(self) -> Result<Movement, Reject> {
        Ok(Movement {
            name: self.name.into_owned(),
            category: optional_word("category", self.category.as_deref())?,
            delta: Points(self.delta_centipoints),
            points: Points(self.centipoints),
        })
    }
}

impl SubScoreRecord<'_> {
    fn check(self) -> Result<SubScore, Reject> {
        Ok(SubScore {
            category: word("category", &self.category)?,
            score: Points(self.score_centipoints),
            points: Points(self.contribution_centipoints),
        })
    }
}

impl MaskedRecord<'_> {
    fn check(self) -> Span {
        Span {
            from: self.from.0,
            to: self.to.0,
            kind: self.kind.into_owned(),
            note: self.note.map(Cow::into_owned),
        }
    }
}

impl RebaselinedRecord<'_> {
    fn check(self) -> Rebaselined {
        Rebaselined {
            signal: self.signal.into_owned(),
            since: self.since.0,
            before: self.before,
            now: self.now,
            unit: self.unit.into_owned(),
        }
    }
}

impl ScoreCurrentRecord<'_> {
    pub(crate) fn check(self) -> Result<HealthRecord, Reject> {
        Ok(HealthRecord {
            account_id: account_id(&self.account_id)?,
            name: self.name.map(Cow::into_owned),
            segment: self.segment.map(Cow::into_owned),
            sequence: sequence(self.sequence)?,
            at: self.at.0,
            score: Points(self.score_centipoints),
            band: word("band", &self.band)?,
            maturity: word("maturity", &self.maturity)?,
            contributions: self
                .contributions
                .into_iter()
                .map(ContributionRecord::check)
                .collect::<Result<_, _>>()?,
            sub_scores: self
                .sub_scores
                .into_iter()
                .map(SubScoreRecord::check)
                .collect::<Result<_, _>>()?,
            evidence: self
                .evidence
                .into_iter()
                .map(EvidenceRecord::check)
                .collect::<Result<_, _>>()?,
            masked: self.masked.into_iter().map(MaskedRecord::check).collect(),
            rebaselined: self.rebaselined.into_iter().map(RebaselinedRecord::check).collect(),
            open_alerts: self.open_alerts.into_iter().map(Cow::into_owned).collect(),
            last_event_at: self.last_event_at.map(|at| at.0),
            policy_version: self.policy_version.into_owned(),
            model_version: self.model_version.into_owned(),
        })
    }
}

impl ContributionRecord<'_> {
    fn check(self) -> Result<Contribution, Reject> {
        Ok(Contribution {
            name: self.name.into_owned(),
            category: optional_word("category", self.category.as_deref())?,
            points: Points(self.centipoints),
            observed: self.observed,
            baseline: self.baseline,
            unit: self.unit.into_owned(),
        })
    }
}

impl EvidenceRecord<'_> {
    fn check(self) -> Result<Evidence, Reject> {
        Ok(Evidence {
            signal: self.signal.into_owned(),
            category: word("category", &self.category)?,
            group: self.group.into_owned(),
            observed: self.observed,
            baseline: self.baseline,
            unit: self.unit.into_owned(),
            change_pct: self.change_pct,
            z: self.z,
            risk: self.risk,
            onset: self.onset.0,
            window_days: u16::try_from(self.window_days).map_err(|_| {
                invalid(format!("window_days is {}; allowed are 0 to 65535", self.window_days))
            })?,
            text: self.text.into_owned(),
        })
    }
}

impl AlertRecord<'_> {
    pub(crate) fn check(self) -> Result<AlertEvent, Reject> {
        let transition: Transition = word("transition", &self.transition)?;
        // Records of earlier versions have no state.
        let state = if transition == Transition::Resolved {
            AlertState::Resolved
        } else if self.state.is_empty() {
            AlertState::Open
        } else {
            word("state", &self.state)?
        };
        Ok(AlertEvent {
            id: self.id.into_owned(),
            alert_id: self.alert_id.into_owned(),
            account_id: account_id(&self.account_id)?,
            account_name: self.account_name.map(Cow::into_owned),
            kind: self.kind.into_owned(),
            transition,
            severity: word("severity", &self.severity)?,
            at: self.at.0,
            opened_at: self.opened_at.0,
            state,
            until: self.snoozed_until.map(|until| until.0),
            reopened: u32::try_from(self.reopened).unwrap_or(0),
            by: self.by.map(Cow::into_owned),
            note: self.note.map(Cow::into_owned),
            resolution: optional_word("resolution", self.resolution.as_deref())?,
            title: self.title.into_owned(),
            evidence: self
                .evidence
                .into_iter()
                .map(EvidenceRecord::check)
                .collect::<Result<_, _>>()?,
            groups: self.groups.into_iter().map(Cow::into_owned).collect(),
            family: optional_word("family", self.family.as_deref())?,
            priority: self.priority,
            priority_parts: self
                .priority_parts
                .into_iter()
                .map(|PriorityPartRecord { name, points, text }| PriorityPart {
                    name: name.into_owned(),
                    points,
                    text: text.into_owned(),
                })
                .collect(),
            score: Points(self.score_centipoints),
            band: word("band", &self.band)?,
            policy_version: self.policy_version.into_owned(),
            model_version: self.model_version.into_owned(),
        })
    }
}

impl ShadowScoreRecord<'_> {
    pub(crate) fn check(self) -> Result<ShadowScore, Reject> {
        Ok(ShadowScore {
            id: self.id.into_owned(),
            account_id: account_id(&self.account_id)?,
            segment: self.segment.map(Cow::into_owned),
            shadow_id: self.shadow_id.into_owned(),
            sequence: sequence(self.sequence)?,
            at: self.at.0,
            sides: Beside {
                champion: Scored {
                    score: Points(self.champion_score_centipoints),
                    band: word("champion_band", &self.champion_band)?,
                },
                challenger: Scored {
                    score: Points(self.challenger_score_centipoints),
                    band: word("challenger_band", &self.challenger_band)?,
                },
            },
            lines: self.lines.into_iter().map(ShadowLineRecord::check).collect::<Result<_, _>>()?,
            maturity: word("maturity", &self.maturity)?,
            policy_version: self.policy_version.into_owned(),
            model_version: self.model_version.into_owned(),
            challenger_version: self.challenger_version.into_owned(),
        })
    }
}

impl ShadowLineRecord<'_> {
    fn check(self) -> Result<ShadowLine, Reject> {
        Ok(ShadowLine {
            name: self.name.into_owned(),
            category: optional_word("category", self.category.as_deref())?,
            champion: Points(self.champion_centipoints),
            challenger: Points(self.challenger_centipoints),
        })
    }
}

impl LearningExampleRecord<'_> {
    pub(crate) fn check(self) -> Result<LearningExample, Reject> {
        let days = |name: &str, days: i32| {
            let known = u32::try_from(days).ok().filter(|days| (1..=366).contains(days));
            known.ok_or_else(|| invalid(format!("{name} is {days}, allowed are 1 to 366")))
        };
        Ok(LearningExample {
            id: self.id.into_owned(),
            account_id: account_id(&self.account_id)?,
            segment: self.segment.map(Cow::into_owned),
            at: self.at.0,
            horizon_days: days("horizon_days", self.horizon_days)?,
            step_days: days("step_days", self.step_days)?,
            readings: self
                .readings
                .into_iter()
                .map(|reading| (reading.name.into_owned(), reading.value))
                .collect(),
            readings_version: self.readings_version.into_owned(),
            policy_version: self.policy_version.into_owned(),
        })
    }
}

fn optional_word<T: serde::de::DeserializeOwned>(
    field: &str,
    text: Option<&str>,
) -> Result<Option<T>, Reject> {
    text.map(|text| word(field, text)).transpose()
}

fn sequence(number: i64) -> Result<u64, Reject> {
    u64::try_from(number).map_err(|_| invalid(format!("sequence is {number}; it counts from 1")))
}
