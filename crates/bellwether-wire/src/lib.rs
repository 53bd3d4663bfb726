//! Bytes to domain types and back: the Avro contracts, input decoding with typed rejects, output encoding with `CloudEvents`
//! headers, dead-letter headers, and files of events.
//!
//! # Architecture invariants
//! - Bad bytes become a typed [`bellwether_core::reject::Reject`], never a panic and never an unbounded allocation.
//! - A registry that cannot be reached is not the record's fault: it is an error of its own, and never a reject.
//! - One struct per record serves JSON and Avro, so that the two cannot drift apart.
//! - Registry calls block: use this crate from plain threads, never from an async runtime's worker.
//! - Deliberately absent: Kafka, state, decisions.

pub mod cohort_stats;
pub mod dead_letter;
pub mod decode;
pub mod encode;
pub mod files;
mod input;
mod output;
pub mod registry;
mod scalar;
pub mod schema;
mod sentiment;
