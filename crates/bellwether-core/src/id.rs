//! Identifiers: validated once, where they enter, and cheap to clone afterwards.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest identifier accepted, in bytes of UTF-8.
pub const ID_BYTES_MAX: usize = 256;

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("an identifier must not be empty")]
    Empty,
    /// The text is longer than [`ID_BYTES_MAX`].
    #[error("an identifier has at most {ID_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// The text holds a control character (persisted keys and logs rely on there being none).
    #[error("an identifier must not hold control characters")]
    Control,
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong(text.len()));
    }
    if has_control(text) {
        return Err(IdError::Control);
    }
    Ok(())
}

/// Whether a text is an identifier: 1 to [`ID_BYTES_MAX`] bytes, no control characters.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    check(text).is_ok()
}

/// Whether there is a control character in a text. Most texts are of printable ASCII, of which that is seen at a glance.
#[must_use]
pub fn has_control(text: &str) -> bool {
    let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    !plain && text.chars().any(char::is_control)
}

/// The byte that two hexadecimal digits say; a sign is none.
#[must_use]
pub fn hex_byte(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? * 16 + low?).ok()
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps a text: 1 to [`ID_BYTES_MAX`] bytes, no control characters.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, formatter)
            }
        }
    };
}

identifier! {
    /// A customer account: the key of every topic.
    AccountId
}
identifier! {
    /// A person inside an account.
    MemberId
}
identifier! {
    /// The producer's own identifier of an event; unique within its account.
    EventId
}

impl AccountId {
    /// What stands for all accounts.
    pub(crate) fn everyone() -> AccountId {
        AccountId(Arc::from("*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_checked_where_they_enter() {
        assert_eq!(AccountId::new(""), Err(IdError::Empty));
        for control in ["a\nb", "a\u{7f}", "\u{85}a", "Zoë\t"] {
            assert_eq!(AccountId::new(control), Err(IdError::Control), "{control:?}");
        }
        assert!(AccountId::new("Zoë ~ 東京").is_ok());
        assert!(is_identifier("Zoë ~ 東京") && !is_identifier("") && !is_identifier("a\nb"));
        assert_eq!(AccountId::new(&"x".repeat(257)), Err(IdError::TooLong(257)));
        assert_eq!(AccountId::new("acme").map(String::from), Ok("acme".to_owned()));
        assert!(serde_json::from_str::<AccountId>("\"\"").is_err());
    }
}
