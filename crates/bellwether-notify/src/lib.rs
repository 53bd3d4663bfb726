//! Delivery of alerts to people: routes, digests, messages, sinks, retries.
//!
//! Deliberately absent: scoring, and the state of accounts. What is told is decided from `health.alerts.v1` and `account.profiles.v1`
//! alone, so a notifier can be stopped, replaced or run anew without touching what the engine knows.

pub mod address;
pub mod breaker;
pub mod channel;
pub mod delivery;
pub mod desk;
pub mod digest;
pub mod event;
pub mod http;
pub mod mail;
pub mod payload;
pub mod planner;
pub mod policy;
pub mod rehearsal;
pub mod render;
pub mod run;
pub mod schedule;
pub mod signature;
