//! Why a detector gave no answer.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The reasons for which a detector gives no answer: the caller falls back to its own statistics and counts it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fallback {
    /// Too few days or too few accounts.
    #[error("too little history: wait for more days or accounts")]
    Short,
    /// Too many days were not measured, or too many in a row.
    #[error("too many unmeasured days: check whether the source reported all along")]
    Gaps,
    /// Every measured value is the same, so there is nothing to model.
    #[error("no variation: compare with the one value directly")]
    Constant,
    /// So many peers have the very same value that there is no spread to measure others by.
    #[error("too many peers are alike: compare within a larger or busier cohort")]
    Sparse,
    /// An infinity in the input, or a NaN or infinity in what the model returned.
    #[error("a value is not finite: check how the signal is computed")]
    NotFinite,
    /// A magnitude above [`crate::VALUE_MAX`], or more cells than a detector takes at once.
    #[error("a value or the whole input is too large: check the signal's unit")]
    TooLarge,
    /// A negative value where the caller said that there are none.
    #[error("a negative value in a signal that has none: check how it is computed")]
    Negative,
    /// A parameter or a shape outside its documented range.
    #[error("a parameter is out of range: {0}")]
    Parameter(&'static str),
    /// The library panicked. Never expected: each known cause is checked before the call.
    #[error("the library panicked: report the input that did it")]
    Panicked,
    /// The library returned an error.
    #[error("the library gave up: {0}")]
    Failed(String),
}

impl Fallback {
    /// The names that [`Fallback::as_str`] can give, in the order of the variants.
    pub const NAMES: [&'static str; 10] = [
        "short",
        "gaps",
        "constant",
        "sparse",
        "not_finite",
        "too_large",
        "negative",
        "parameter",
        "panicked",
        "failed",
    ];

    /// The reason as the value of a metric label: a closed set, lower case.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// Position in [`Fallback::NAMES`].
    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Short => 0,
            Self::Gaps => 1,
            Self::Constant => 2,
            Self::Sparse => 3,
            Self::NotFinite => 4,
            Self::TooLarge => 5,
            Self::Negative => 6,
            Self::Parameter(_) => 7,
            Self::Panicked => 8,
            Self::Failed(_) => 9,
        }
    }

    /// An error of the library, in its own words.
    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs a detector so that a panic below it becomes [`Fallback::Panicked`].
///
/// The panic hook is left alone: it is one per process, and replacing it here would silence panics of other threads. So a
/// caught panic still prints its message once, which is wanted: it is a bug. State cannot be left broken: the closures
/// passed here own what they change, and drop it on the way out.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, Fallback>) -> Result<T, Fallback> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Fallback::Panicked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_reason_and_reasons_have_distinct_names() {
        let panicked = caught(|| -> Result<(), Fallback> { panic!("expected by this test") });
        assert_eq!(panicked, Err(Fallback::Panicked));
        assert_eq!(Fallback::Panicked.as_str(), "panicked");
        assert_eq!(Fallback::failed("no").as_str(), "failed");
        assert_eq!(Fallback::Parameter("x").as_str(), "parameter");
        let names: std::collections::BTreeSet<_> = Fallback::NAMES.into_iter().collect();
        assert_eq!(names.len(), Fallback::NAMES.len());
    }
}
