//! Durable state: the store of one partition, and the embedded log. RocksDB stays behind this crate.
//!
//! # Architecture invariants
//! - Rows and the changelog position they correspond to are written in one atomic batch; after a crash they agree.
//! - Key bytes never change meaning. Every value starts with a format version; every old version stays readable.
//! - After a failed write a store is poisoned: nothing goes on from unknown state.
//! - Memory is bounded: block cache and write buffers are one budget that all databases share, decoded accounts another.
//! - Deliberately absent: Kafka, policy, clocks, decisions.

mod batch;
mod cache;
mod database;
pub mod error;
#[cfg(test)]
mod fixtures;
mod format;
pub mod kill_point;
mod lock;
pub mod log_store;
pub mod memory;
mod packed;
mod rows;
mod seen;
pub mod task;
mod timers;

pub use cache::AccountMemory;
pub use database::Shared;
pub use format::Format;
