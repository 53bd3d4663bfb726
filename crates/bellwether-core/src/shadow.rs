//! The shadow: a challenger scores every account beside the champion, and changes nothing.
//!
//! A challenger is a model, or the weights of another policy ([`crate::weights`]), under the policy in force. It needs nothing of its own but its weights: baselines, deviations and how an account
//! stands are the account's. So when a day is judged, the same readings are scored a second time, and both scores go out side by side. Alerts rest on
//! evidence and not on scores, so there are no others. Challengers begin and end as promotions do ([`crate::promotion`]), on a list of their own.
//!
//! # Invariants
//! - `shadow-beside`: a challenger's score is, to the hundredth, the one that the account would have at that judgement were it the champion.
//! - Its lines sum exactly to its score, and the champion's to the champion's.
//! - Nothing that the champion publishes, and no state that it rests on, depends on whether there is a challenger.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::account::{Account, Row};
use crate::close;
use crate::cohort::Cohorts;
use crate::fleet::Message;
use crate::id::EventId;
use crate::output::{Band, Beside, Output, Scored, ShadowLine, ShadowScore};
use crate::points::Points;
use crate::promotion::{Promotion, Promotions};
use crate::publish::{base, content_id};
use crate::reject::{Reason, Reject};
use crate::score::{CONTEXT_LINES, band, clip};
use crate::sequence;
use crate::standing::{self, Trait};
use crate::step::Core;
use crate::time::{Day, Millis};

/// What was last published of an account beside its score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shadow {
    /// Of which challenger: the id of its record.
    pub of: EventId,
    /// Records of the account under this challenger so far.
    pub sequence: u64,
    /// The champion then.
    pub champion: (Points, Band),
    /// The challenger then.
    pub challenger: (Points, Band),
}

/// A challenger's lines, in the order in which explanations have them.
struct Lines {
    base: Points,
    signals: Vec<Points>,
    sequences: Vec<Points>,
    context: [Points; CONTEXT_LINES.len()],
    standing: Vec<(Trait, Points)>,
}

impl Lines {
    /// The lines of an account whose `day` was just judged.
    fn of(core: &Core, account: &Account, day: Day) -> Lines {
        let cohort = account.segment().unwrap_or_default();
        let signals = 0..core.policy.signals.len();
        Lines {
            base: base(&core.policy),
            signals: signals.map(|index| close::points_at(core, account, index, day)).collect(),
            sequences: sequence::points(core, account, day),
            context: close::context_points(core, account, day.max(account.hot.activity.newest)),
            standing: standing::points(core, account, cohort, day),
        }
    }

    fn raw(&self) -> Points {
        let standing: Points = self.standing.iter().map(|(_, points)| *points).sum();
        let signals: Points = self.signals.iter().chain(&self.sequences).copied().sum();
        self.base + signals + self.context.iter().copied().sum() + standing
    }

    /// Every line of either side that is not zero on both.
    fn beside(&self, core: &Core, account: &Account, champion: &Core) -> Vec<ShadowLine> {
        let hot = &account.hot;
        let line = |name: &str, category, champion: Points, challenger: Points| ShadowLine {
            name: name.to_owned(),
            category,
            champion,
            challenger,
        };
        let mut lines = vec![line("base", None, base(&champion.policy), self.base)];
        let signals = core.policy.signals.iter().zip(&hot.signals).zip(&self.signals);
        lines.extend(signals.map(|((signal, state), points)| {
            line(&signal.name, Some(signal.category), state.points, *points)
        }));
        let states = hot.signals.iter().skip(core.policy.signals.len());
        let sequences = core.policy.sequences.iter().zip(states).zip(&self.sequences);
        lines.extend(sequences.map(|((sequence, state), points)| {
            line(&sequence.name, Some(sequence.category), state.points, *points)
        }));
        let context = CONTEXT_LINES.iter().zip(hot.context_points).zip(self.context);
        lines.extend(context.map(|(((name, category, _), before), points)| {
            line(name, Some(*category), before, points)
        }));
        lines.extend(Trait::ALL.into_iter().map(|of| {
            let before = account.standing.iter().find(|line| line.of == of);
            let now = self.standing.iter().find(|(known, _)| *known == of);
            let before = before.map_or(Points::ZERO, |line| line.points);
            line(of.as_str(), Some(of.category()), before, now.map_or(Points::ZERO, |of| of.1))
        }));
        let raw: Points = lines.iter().map(|line| line.champion).sum();
        let clipped = clip(self.raw()) - self.raw();
        lines.push(line("clip", None, hot.score - raw, clipped));
        lines.retain(|line| line.champion != Points::ZERO || line.challenger != Points::ZERO);
        lines
    }
}

/// Scores an account, whose `day` was just judged and scored by the champion, by the challenger too, and publishes both where either moved
/// enough or changed its band since both were last published. Without a challenger, what was known of one is dropped.
pub(crate) fn follow(
    core: &Core,
    account: &mut Account,
    cohorts: &mut Cohorts,
    (day, at): (Day, Millis),
    out: &mut Vec<Output>,
) {
    let current = core.challenger(cohorts.challengers_mut());
    let of = current.as_ref().map(|(of, _)| of);
    if account.shadow.as_ref().is_some_and(|known| Some(&known.of) != of) {
        account.shadow = None;
        account.changed.note(Row::Shadow);
    }
    // Under the policy that it was taken under it can be read again: then its records go on where they were.
    let Some((of, Some(challenger))) = current else { return };
    let lines = Lines::of(&challenger, account, day);
    let score = clip(lines.raw());
    let beside = (score, band(score, &challenger.policy));
    let champion = (account.hot.score, band(account.hot.score, &core.policy));
    let known = account.shadow.as_ref();
    let least = Points::from_f64(core.policy.score.publish_min_points);
    let moved = |before: (Points, Band), now: (Points, Band)| {
        (now.0 - before.0).abs() >= least || now.1 != before.1
    };
    if known
        .is_some_and(|known| !moved(known.champion, champion) && !moved(known.challenger, beside))
    {
        return;
    }
    let sequence = known.map_or(0, |known| known.sequence) + 1;
    let id = account.id.as_str();
    let content = [id, "shadow", of.as_str(), &sequence.to_string(), &at.0.to_string()];
    out.push(Output::Shadow(Box::new(ShadowScore {
        id: content_id(&content),
        account_id: account.id.clone(),
        segment: account.segment().map(str::to_owned),
        shadow_id: of.to_string(),
        sequence,
        at,
        sides: Beside {
            champion: Scored { score: champion.0, band: champion.1 },
            challenger: Scored { score: beside.0, band: beside.1 },
        },
        lines: lines.beside(&challenger, account, core),
        maturity: close::maturity(account),
        policy_version: core.policy.version().to_owned(),
        model_version: core.model_version().to_owned(),
        challenger_version: challenger.model_version().to_owned(),
    })));
    account.shadow = Some(Shadow { of, sequence, champion, challenger: beside });
    account.changed.note(Row::Shadow);
}

impl Core {
    /// The id of the challenger's record in a partition, and the challenger, unless it cannot be read; none where there is none.
    fn challenger(&self, challengers: &mut Promotions) -> Option<(EventId, Option<Arc<Core>>)> {
        let (id, known) = challengers.current()?;
        let (id, model) = (id.clone(), known.model.as_deref()?);
        let core = match challengers.engine_of(Some(&id), self) {
            Some(core) => core,
            None => {
                let core = Arc::new(self.clone().promote(&id, Some(model)));
                challengers.remember_engine(&core);
                core
            }
        };
        // What was taken could be read. Under a later policy it may not be: then nothing scores beside the champion.
        let core = core.unread_reason().is_none().then_some(core);
        Some((id, core))
    }

    /// The id of the challenger's record, and the version of its scorecard or why it cannot be read; none where there is no challenger.
    #[must_use]
    pub fn challenger_version(
        &self,
        challengers: &Promotions,
    ) -> Option<(EventId, Result<String, String>)> {
        let (id, known) = challengers.current()?;
        let scorer = self.read_model(known.model.as_deref()?);
        Some((id.clone(), scorer.map(|scorer| scorer.version().to_owned())))
    }

    /// Takes a challenger, or without a model the end of all before it: this partition knows it, and tells the others.
    pub(crate) fn challenge(
        &self,
        cohorts: &mut Cohorts,
        id: EventId,
        challenger: Promotion,
    ) -> Result<(), Reject> {
        if cohorts.promotions().knows(&id) {
            let detail = format!("{id} is the id of a promotion: choose another one");
            return Err(Reject::new(Reason::OutOfRange, detail));
        }
        cohorts.challengers_mut().check(&id, Some(&challenger))?;
        self.check_model(challenger.model.as_deref())?;
        if self.is_among_others() {
            cohorts.send(Message::Challenger(id, challenger));
        } else {
            learn(cohorts, &id, challenger);
        }
        Ok(())
    }
}

/// A challenger that was taken, here or by another partition.
pub(crate) fn learn(cohorts: &mut Cohorts, id: &EventId, challenger: Promotion) {
    cohorts.challengers_mut().tell(id, Some(Promotion { began: None, ..challenger }));
}
