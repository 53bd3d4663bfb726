//! The runtime: a durable log on one side, the pure core in the middle, state stores on the other.

pub mod clock;
pub mod embedded;
pub mod kafka;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod read_model;
pub mod standby;
pub mod topics;
pub mod worker;
