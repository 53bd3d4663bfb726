//! The runtime: a durable log on one side, the pure core in the middle, state stores on the other.
pub mod log;
