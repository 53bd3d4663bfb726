//! Forecasts, dated changes, peer outliers and proposed cohorts: the models of [augurs](https://docs.rs/augurs) behind
//! plain types and guards.
//!
//! Values arrive as `&[f64]`, one per day, oldest first, in the signal's own unit; NaN means that nothing was measured
//! that day. Answers are small structs that hold finite numbers only. Where a model cannot answer, it says why with a
//! [`Fallback`], and the caller goes on with its own statistics.
//!
//! # Architecture invariants
//! - No I/O, no clock, no randomness, no async, and no state but the counters of [`Guarded`]. The same input gives the
//!   same answer, to the last bit.
//! - No call panics and none returns a NaN or an infinity: input is checked and bounded before, output after, and a panic
//!   below is caught ([`Fallback::Panicked`]). That needs `panic = "unwind"`, the default of every profile here.
//! - Every loop is bounded by a constant of this crate, whatever the length of the input.
//! - Deliberately absent: policy, accounts, thresholds of alerts. Callers decide what an answer is worth.

pub mod changepoint;
pub mod cohorts;
mod fallback;
pub mod forecast;
mod guard;
pub mod peers;
mod series;
mod trend;
mod weekly;

pub use fallback::Fallback;
pub use guard::{Detector, Guarded};
pub use series::{Domain, GAP_RUN_DAYS_MAX, GAP_SHARE_MAX, VALUE_MAX};
