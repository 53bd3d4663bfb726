//! Promotions: which model scores from when on.
//!
//! A promotion is an input record, and every partition keeps those that it was told of. It comes into force where the partition's clock
//! moves to [`Promotion::from`] or beyond, and with that move: what is still to be closed then, and the input that moved it, are scored by
//! it already. That it began is written with the clock, so a restart goes on with the model that was in force, wherever it was
//! interrupted, and a replay that knows the promotions switches where the live run did. Promoted again, an earlier model is in force
//! again: that is a rollback. Challengers ([`crate::shadow`]) are kept in the same way, on a list of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cohort::Cohorts;
use crate::fleet::Message;
use crate::id::EventId;
use crate::policy::Compiled;
use crate::reject::{Reason, Reject};
use crate::score::Scorer;
use crate::step::Core;
use crate::time::Millis;

/// Promotions that a partition keeps; of more, those that were over first are dropped.
pub const PROMOTIONS_MAX: usize = 32;
/// The largest model, in bytes of JSON.
pub const MODEL_BYTES_MAX: usize = 256 << 10;

/// A promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// In force from this event time on.
    pub from: Millis,
    /// The model (or the policy whose weights it is), as its reader has it; none: the configured scorecard, which is the policy's expert weights unless one is named.
    pub model: Option<String>,
    /// Who promoted it.
    pub by: Option<String>,
    /// When it came into force in this partition; none: not yet.
    pub began: Option<Began>,
}

/// When a promotion came into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Began {
    /// How many did before it in this partition.
    pub number: u32,
    /// Event time of the partition.
    pub at: Millis,
}

/// Reads a model: a scorecard for a policy, or what is wrong with it.
pub type ModelReader = dyn Fn(&str, &Compiled) -> Result<Arc<dyn Scorer>, String> + Send + Sync;

/// The promotions of a partition.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Promotions {
    known: BTreeMap<EventId, Promotion>,
    /// Those that changed since [`Promotions::settle`], as they were before.
    changed: BTreeMap<EventId, Option<Promotion>>,
    /// The engine of the one that was in force when it was last asked for.
    engine: Engine,
}

/// Follows from what is known, so it makes no difference.
#[derive(Debug, Clone, Default)]
struct Engine(Option<Arc<Core>>);

impl PartialEq for Engine {
    fn eq(&self, _other: &Engine) -> bool {
        true
    }
}

impl Promotions {
    /// All, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&EventId, &Promotion)> {
        self.known.iter()
    }

    /// Those that changed: none for one that was dropped.
    pub fn changed(&self) -> impl Iterator<Item = (&EventId, Option<&Promotion>)> {
        self.changed.keys().map(|id| (id, self.known.get(id)))
    }

    /// Whether there is one of this id.
    #[must_use]
    pub(crate) fn knows(&self, id: &EventId) -> bool {
        self.known.contains_key(id)
    }

    /// The engine that was remembered, where it is that of a record over another engine.
    pub(crate) fn engine_of(&self, id: Option<&EventId>, over: &Core) -> Option<Arc<Core>> {
        let known = self.engine.0.as_ref();
        known.filter(|core| core.promoted() == id && core.is_of(over)).map(Arc::clone)
    }

    /// Remembers the engine of the one in force.
    pub(crate) fn remember_engine(&mut self, core: &Arc<Core>) {
        self.engine = Engine(Some(Arc::clone(core)));
    }

    /// The one in force.
    #[must_use]
    pub fn current(&self) -> Option<(&EventId, &Promotion)> {
        let begun = self.known.iter().filter(|(_, promotion)| promotion.began.is_some());
        begun.max_by_key(|(_, promotion)| promotion.began)
    }

    /// The one that is to be in force at a time: the latest.
    fn due(&self, at: Millis) -> Option<&EventId> {
        let due = self.known.iter().filter(|(_, promotion)| promotion.from <= at);
        due.max_by_key(|(id, promotion)| (promotion.from, *id)).map(|(id, _)| id)
    }

    /// Notes that the one that is due is in force, now that the partition's time has come so far.
    pub(crate) fn begin(&mut self, at: Millis) {
        let current = self.current().map(|(id, promotion)| (id, promotion.began));
        let Some(due) = self.due(at).filter(|due| current.map(|(id, _)| id) != Some(*due)) else {
            return;
        };
        let (due, number) = (due.clone(), current.and_then(|(_, began)| began));
        let began = Began { number: number.map_or(0, |before| before.number + 1), at };
        if let Some(promotion) = self.known.get(&due).cloned() {
            self.set(&due, Some(Promotion { began: Some(began), ..promotion }));
        }
    }

    /// What can be said against a promotion, or against withdrawing one.
    pub(crate) fn check(&self, id: &EventId, promotion: Option<&Promotion>) -> Result<(), Reject> {
        let out_of_range = |detail: String| Err(Reject::new(Reason::OutOfRange, detail));
        if self.known.get(id).is_some_and(|known| known.began.is_some()) {
            return out_of_range(format!(
                "promotion {id} has come into force and cannot be changed: promote anew"
            ));
        }
        let current = self.current().filter(|(_, current)| {
            promotion.is_some_and(|promotion| promotion.from < current.from)
        });
        if let Some((current, of)) = current {
            return out_of_range(format!(
                "from lies before {}, when promotion {current}, which is in force, began: promote from later on",
                of.from
            ));
        }
        Ok(())
    }

    /// Sets a promotion; none withdraws it. One that is in force stays as it is.
    pub fn tell(&mut self, id: &EventId, promotion: Option<Promotion>) {
        if self.known.get(id).is_some_and(|known| known.began.is_some()) {
            return;
        }
        self.set(id, promotion);
        while self.known.len() > PROMOTIONS_MAX {
            let current = self.current().map(|(id, _)| id.clone());
            let dispensable = self.known.iter().filter(|(id, _)| current.as_ref() != Some(*id));
            let first = dispensable.min_by_key(|(id, promotion)| (promotion.from, *id));
            let Some(first) = first.map(|(id, _)| id.clone()) else { return };
            self.set(&first, None);
        }
    }

    fn set(&mut self, id: &EventId, promotion: Option<Promotion>) {
        if self.known.get(id) == promotion.as_ref() {
            return;
        }
        if !self.changed.contains_key(id) {
            self.changed.insert(id.clone(), self.known.get(id).cloned());
        }
        self.place(id, promotion);
    }

    /// Puts a promotion back as a store has it: none where it has none.
    pub fn place(&mut self, id: &EventId, promotion: Option<Promotion>) {
        match promotion {
            Some(promotion) => self.known.insert(id.clone(), promotion),
            None => self.known.remove(id),
        };
    }

    /// What changed is written.
    pub fn settle(&mut self) {
        self.changed.clear();
    }

    /// What changed is as it was before.
    pub fn discard(&mut self) {
        for (id, promotion) in std::mem::take(&mut self.changed) {
            self.place(&id, promotion);
        }
    }
}

/// The engine that is at work.
pub(crate) enum Acting<'a> {
    Configured(&'a Core),
    Promoted(Arc<Core>),
}

impl std::ops::Deref for Acting<'_> {
    type Target = Core;

    fn deref(&self) -> &Core {
        match self {
            Acting::Configured(core) => core,
            Acting::Promoted(core) => core,
        }
    }
}

impl Core {
    /// The engine of the promotion that is in force in a partition: this one, where nothing was promoted.
    pub(crate) fn in_force<'a>(&'a self, promotions: &mut Promotions) -> Acting<'a> {
        self.promoted_over(promotions).map_or(Acting::Configured(self), Acting::Promoted)
    }

    fn promoted_over(&self, promotions: &mut Promotions) -> Option<Arc<Core>> {
        let id = promotions.current().map(|(id, _)| id);
        if self.promoted() == id {
            return None;
        }
        let core = match promotions.engine_of(id, self) {
            Some(core) => core,
            None => Arc::new(self.current(promotions)?),
        };
        promotions.remember_engine(&core);
        Some(core)
    }

    /// The engine of the model in force, where it is not this one.
    #[must_use]
    pub fn current(&self, promotions: &Promotions) -> Option<Core> {
        let current = promotions.current();
        if self.promoted() == current.map(|(id, _)| id) {
            return None;
        }
        Some(match current {
            Some((id, promotion)) => self.clone().promote(id, promotion.model.as_deref()),
            None => self.clone().demote(),
        })
    }

    /// Takes a promotion: this partition knows it, and tells the others.
    pub(crate) fn promotion(
        &self,
        cohorts: &mut Cohorts,
        id: EventId,
        promotion: Option<Promotion>,
    ) -> Result<(), Reject> {
        cohorts.promotions_mut().check(&id, promotion.as_ref())?;
        match &promotion {
            Some(_) if cohorts.challengers().knows(&id) => {
                let detail = format!("{id} is the id of a challenger: choose another one");
                return Err(Reject::new(Reason::OutOfRange, detail));
            }
            // A tombstone does not say what it withdraws.
            None if cohorts.challengers().knows(&id) => {
                cohorts.challengers().check(&id, None)?;
            }
            Some(_) | None => {}
        }
        self.check_model(promotion.as_ref().and_then(|promotion| promotion.model.as_deref()))?;
        if self.is_among_others() {
            cohorts.send(Message::Promotion(id, promotion));
        } else {
            self.learn_promotion(cohorts, &id, promotion);
        }
        Ok(())
    }

    /// What can be said against a model.
    pub(crate) fn check_model(&self, model: Option<&str>) -> Result<(), Reject> {
        let Some(model) = model else { return Ok(()) };
        if model.len() > MODEL_BYTES_MAX {
            let detail = format!(
                "the model has {} bytes, at most {MODEL_BYTES_MAX} are allowed",
                model.len()
            );
            return Err(Reject::new(Reason::TooLarge, detail));
        }
        self.read_model(model).map(drop).map_err(|error| Reject::new(Reason::InvalidField, error))
    }

    /// A promotion that was taken, here or by another partition.
    pub(crate) fn learn_promotion(
        &self,
        cohorts: &mut Cohorts,
        id: &EventId,
        promotion: Option<Promotion>,
    ) {
        if promotion.is_none() {
            cohorts.challengers_mut().tell(id, None);
        }
        let fresh = promotion.map(|promotion| Promotion { began: None, ..promotion });
        cohorts.promotions_mut().tell(id, fresh);
    }
}
