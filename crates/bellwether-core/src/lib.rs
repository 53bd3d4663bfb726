//! The pure engine of Bellwether: signals, baselines, deviations, corroboration, score, alerts and policy.
//!
//! # Architecture invariants
//! - No I/O, no clock, no randomness, no async. Time arrives as an argument; state behind the [`state::State`] trait.
//! - The same inputs in the same order give the same outputs, to the last bit.
//! - Deliberately absent: Kafka, RocksDB, Avro, HTTP.

pub mod absence;
pub mod account;
pub mod alert;
pub mod calendar;
pub mod chance;
pub mod close;
pub mod cohort;
pub mod condition;
pub mod corroborate;
pub mod detect;
pub mod drift;
pub mod due;
pub mod event;
pub mod example;
pub mod expect;
pub mod feedback;
pub mod figure;
pub mod fleet;
pub mod forecast;
mod forget;
pub mod headline;
pub mod history;
pub mod id;
pub mod intraday;
pub mod lazy;
pub mod life;
mod month;
pub mod output;
pub mod peers;
pub mod points;
pub mod policy;
mod policy_check;
pub mod priority;
pub mod promotion;
pub mod publish;
pub mod quality;
pub mod ranking;
pub mod rebaseline;
pub mod reject;
pub mod rolling;
pub mod scan;
pub mod score;
pub mod sequence;
pub mod shadow;
pub mod standing;
pub mod state;
pub mod stats;
pub mod step;
pub mod streams;
pub mod tiers;
pub mod time;
pub mod weights;
