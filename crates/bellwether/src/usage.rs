//! Errors of whoever called: wrong arguments, configuration or policy. They end with an exit code of their own.

use std::fmt;

/// Wrong usage: what is wrong and what is allowed.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Ends a function with a [`Usage`] error.
macro_rules! wrong {
    ($($message:tt)*) => {
        return Err($crate::usage::Usage(format!($($message)*)).into())
    };
}
pub(crate) use wrong;
