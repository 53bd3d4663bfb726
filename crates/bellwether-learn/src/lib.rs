//! Learning: training examples, the scorecard's fit, its exact points, and the figures that say what it is worth.
//!
//! # Architecture invariants
//! - No I/O, no clock, no async. Randomness comes from an explicit seed.
//! - The same examples in the same order give the same model, to the last bit.
//! - A fit never looks past its prediction time: what may be learned from, and when, is decided in [`example`] alone.
//! - Deliberately absent: topics, files, policies and alerts.

pub mod calibrate;
pub mod challenger;
pub mod compare;
pub mod curve;
pub mod example;
pub mod feature;
pub mod fit;
pub mod measure;
mod newton;
pub mod random;
pub mod resample;
pub mod scorecard;
pub mod scorer;
mod solve;
pub mod train;
pub mod transform;
