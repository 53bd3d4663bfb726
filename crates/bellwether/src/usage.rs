//! Errors of whoever called: wrong arguments, configuration or policy. They end with an exit code of their own.

use std::fmt;
use std::path::Path;

/// Wrong usage: what is wrong and what is allowed.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The text of a file that somebody named.
pub(crate) fn text_of(path: &Path) -> Result<String, Usage> {
    std::fs::read_to_string(path)
        .map_err(|error| Usage(format!("{} cannot be read: {error}", path.display())))
}

/// Ends a function with a [`Usage`] error.
macro_rules! wrong {
    ($($message:tt)*) => {
        return Err($crate::usage::Usage(format!($($message)*)).into())
    };
}
pub(crate) use wrong;
