//! A scorecard that says of itself what a test wants.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::drift::Fitted;
use bellwether_core::points::Points;
use bellwether_core::policy::{Policy, Signal};
use bellwether_core::ranking::HeldOut;
use bellwether_core::score::{Context, ExpertScorecard, Reading, Scorer};

/// A risk by readings.
type Risk = fn(&BTreeMap<String, f64>) -> f64;

/// The expert's points, and what a learned scorecard knows beside.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(crate) version: &'static str,
    pub(crate) horizon_days: u32,
    pub(crate) fitted: Option<Fitted>,
    pub(crate) held_out: Option<HeldOut>,
    /// The risk of an account with these readings.
    pub(crate) risk: Option<Risk>,
}

impl Scorer for Learned {
    fn version(&self) -> &str {
        self.version
    }

    fn signal(&self, cohort: &str, signal: &Signal, reading: &Reading, policy: &Policy) -> Points {
        ExpertScorecard.signal(cohort, signal, reading, policy)
    }

    fn absence(&self, cohort: &str, signal: &Signal, z: f64) -> Points {
        ExpertScorecard.absence(cohort, signal, z)
    }

    fn context(&self, context: &Context, policy: &Policy) -> [Points; 3] {
        ExpertScorecard.context(context, policy)
    }

    fn horizon_days(&self) -> Option<u32> {
        Some(self.horizon_days)
    }

    fn fitted(&self) -> Option<Arc<Fitted>> {
        self.fitted.clone().map(Arc::new)
    }

    fn held_out(&self) -> Option<Arc<HeldOut>> {
        self.held_out.clone().map(Arc::new)
    }

    fn risk(&self, _cohort: &str, readings: &BTreeMap<String, f64>) -> Option<f64> {
        self.risk.map(|risk| risk(readings))
    }
}
