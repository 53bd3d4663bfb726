//! A fitted scorecard at work in the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::drift::Fitted;
use bellwether_core::points::Points;
use bellwether_core::policy::{Policy, Signal};
use bellwether_core::ranking::HeldOut;
use bellwether_core::score::{Context, Reading, Scale, Scorer, absence_strength, strength};
use bellwether_core::sequence::Sequence;
use bellwether_core::standing::{Standing, Trait};
use bellwether_core::time::Millis;

use crate::feature::{Role, SEQUENCE_PREFIX, SIGNAL_PREFIX};
use crate::scorecard::{BASE, Scorecard};

/// Odds of leaving, relative to the base odds of the cohort, from which an account is at risk; and those up to which it is healthy.
const ODDS: (f64, f64) = (2.0, 0.5);

/// A scorecard that the engine scores by.
#[derive(Debug, Clone)]
pub struct LearnedScorer {
    version: String,
    horizon_days: u32,
    learned_until: Option<Millis>,
    card: Scorecard,
    fitted: Option<Arc<Fitted>>,
    held_out: Option<Arc<HeldOut>>,
    signals: BTreeMap<String, Place>,
    sequences: BTreeMap<String, Place>,
    traits: Vec<(Trait, Place)>,
}

/// Where a feature stands in the model: its index, and that of its first segment.
type Place = (usize, usize);

impl LearnedScorer {
    /// `version` names the model in every record; `horizon_days` (at least 1) is that of the outcome it predicts.
    #[must_use]
    pub fn new(version: &str, horizon_days: u32, card: Scorecard) -> LearnedScorer {
        let (mut signals, mut traits, mut segment) = (BTreeMap::new(), Vec::new(), 0);
        let mut sequences = BTreeMap::new();
        for (index, feature) in card.model.features.iter().enumerate() {
            let place = (index, segment);
            segment += feature.transform.segments();
            if feature.role == Role::Base {
                continue;
            }
            if let Some(name) = feature.name.strip_prefix(SIGNAL_PREFIX) {
                signals.insert(name.to_owned(), place);
            }
            if let Some(name) = feature.name.strip_prefix(SEQUENCE_PREFIX) {
                sequences.insert(name.to_owned(), place);
            }
            traits.extend(
                Trait::ALL.into_iter().find(|of| of.as_str() == feature.name).map(|of| (of, place)),
            );
        }
        LearnedScorer {
            version: version.to_owned(),
            horizon_days,
            learned_until: None,
            card,
            fitted: None,
            held_out: None,
            signals,
            sequences,
            traits,
        }
    }

    /// The same, learned from data up to then.
    #[must_use]
    pub fn until(self, at: Millis) -> LearnedScorer {
        LearnedScorer { learned_until: Some(at), ..self }
    }

    /// The same, with how its readings were distributed when it was learned.
    #[must_use]
    pub fn fitted_on(self, fitted: Fitted) -> LearnedScorer {
        LearnedScorer { fitted: Some(Arc::new(fitted)), ..self }
    }

    /// The same, with what it was worth on a hold-out.
    #[must_use]
    pub fn worth(self, held_out: HeldOut) -> LearnedScorer {
        LearnedScorer { held_out: Some(Arc::new(held_out)), ..self }
    }

    /// The line of one feature.
    fn line(&self, cohort: &str, (index, first): Place, reading: f64) -> Points {
        let part = self.card.model.cohort(cohort);
        let Some(evidence) = self.card.model.features[index].transform.apply(reading) else {
            return Points::ZERO;
        };
        let moved: f64 = evidence
            .iter()
            .enumerate()
            .map(|(segment, u)| {
                let segment = first + segment;
                part.weights.segments[segment].value * (u - part.centre[segment])
            })
            .sum();
        self.card.points(moved)
    }

    fn of_signal(&self, cohort: &str, signal: &Signal, strength: f64) -> Points {
        let place = self.signals.get(&signal.name);
        place.map_or(Points::ZERO, |&place| self.line(cohort, place, strength))
    }
}

impl Scorer for LearnedScorer {
    fn version(&self) -> &str {
        &self.version
    }

    fn scale(&self) -> Option<Scale> {
        let at = |odds: f64| BASE.as_f64() - self.card.doubling * odds.log2();
        let (at_risk_below, healthy_min) = (at(ODDS.0), at(ODDS.1));
        Some(Scale { base: BASE.as_f64(), healthy_min, at_risk_below })
    }

    fn signal(&self, cohort: &str, signal: &Signal, reading: &Reading, policy: &Policy) -> Points {
        self.of_signal(cohort, signal, strength(signal, reading, policy))
    }

    fn absence(&self, cohort: &str, signal: &Signal, z: f64) -> Points {
        self.of_signal(cohort, signal, absence_strength(z))
    }

    fn sequence(&self, cohort: &str, sequence: &Sequence, strength: f64) -> Points {
        let place = self.sequences.get(&sequence.name);
        place.map_or(Points::ZERO, |&place| self.line(cohort, place, strength))
    }

    /// What recency, frequency and tenure say is in how the account stands.
    fn context(&self, _context: &Context, _policy: &Policy) -> [Points; 3] {
        [Points::ZERO; 3]
    }

    fn learned_until(&self) -> Option<Millis> {
        self.learned_until
    }

    fn fitted(&self) -> Option<Arc<Fitted>> {
        self.fitted.clone()
    }

    fn held_out(&self) -> Option<Arc<HeldOut>> {
        self.held_out.clone()
    }

    fn risk(&self, cohort: &str, readings: &BTreeMap<String, f64>) -> Option<f64> {
        let features = self.card.model.features.iter();
        let known = features.map(|of| readings.get(&of.name).copied().unwrap_or(f64::NAN));
        let row: Vec<f64> = known.collect();
        Some(self.card.score(cohort, &row).risk)
    }

    fn horizon_days(&self) -> Option<u32> {
        Some(self.horizon_days)
    }

    fn standing(&self, cohort: &str, standing: &Standing) -> Vec<(Trait, Points)> {
        let line = |&(of, place): &(Trait, Place)| (of, self.line(cohort, place, standing.get(of)));
        self.traits.iter().map(line).collect()
    }
}
