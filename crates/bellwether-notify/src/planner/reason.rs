//! Why something was not told.

use crate::delivery::{Delivery, Parking};

/// Why an event of an alert was not told, or not at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suppressed {
    /// No route matches it.
    NoRoute,
    /// It was told before, or is parked for the same reason already.
    Duplicate,
    /// It ended, and nobody was told that it began.
    NotTold,
    /// It ended before anybody was told.
    Ended,
    /// It waited for the end of quiet hours, and something newer of the same alert is told instead.
    Superseded,
    /// Over the budget: it is in the daily digest.
    Budget,
    /// Over an owner's limit: it is in the daily digest.
    Rate,
    /// Its account was deleted since.
    Forgotten,
    /// It is stale, and so much was parked for that today that it is not even parked.
    ParkingFull,
}

impl Suppressed {
    /// Every reason.
    pub const ALL: [Suppressed; 9] = [
        Suppressed::NoRoute,
        Suppressed::Duplicate,
        Suppressed::NotTold,
        Suppressed::Ended,
        Suppressed::Superseded,
        Suppressed::Budget,
        Suppressed::Rate,
        Suppressed::Forgotten,
        Suppressed::ParkingFull,
    ];

    /// The reason as it stands in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Suppressed::NoRoute => "no_route",
            Suppressed::Duplicate => "duplicate",
            Suppressed::NotTold => "not_told",
            Suppressed::Ended => "ended",
            Suppressed::Superseded => "superseded",
            Suppressed::Budget => "budget",
            Suppressed::Rate => "rate",
            Suppressed::Forgotten => "forgotten",
            Suppressed::ParkingFull => "parking_full",
        }
    }
}

/// What only a person can look at now.
#[derive(Debug, Clone, PartialEq)]
pub struct Parked {
    /// The partition that it is of.
    pub partition: i32,
    /// Why.
    pub reason: Parking,
    /// What happened.
    pub detail: String,
    /// What was to be told.
    pub delivery: Delivery,
}
