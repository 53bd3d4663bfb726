//! The life of an alert: opened, escalated, updated, resolved.

use serde::{Deserialize, Serialize};

use crate::output::Severity;
use crate::time::Millis;

/// An alert that is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenAlert {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// The highest severity so far.
    pub severity: Severity,
    /// When it opened.
    pub opened_at: Millis,
    /// Events published of it so far.
    pub sequence: u32,
    /// Signals named in the last published event.
    pub signals: Vec<String>,
    /// Day closes in a row on which nothing supported it.
    pub quiet_days: u16,
    /// Whether somebody who reads `score` now would still see the level at which it opened.
    pub baselines: Vec<(String, f64)>,
}
