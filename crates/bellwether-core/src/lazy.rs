//! A part of an account that is read from its rows only where somebody looks at it.
//!
//! Most events are counted without a look at the days before: reading them costs more than all else of an event, and as they are stored they
//! take a tenth of the memory. Whoever looks does not notice; who changes it, changes it for good.
//!
//! Rows that turn out to be unreadable leave a value that is empty and say so ([`Lazy::is_broken`]): a store takes back no account with one,
//! so nothing that came of it is committed.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

/// The rows of a part as they are stored, and how they are read; none of what they say is lost or added by reading and writing them.
pub struct Stored<T> {
    /// The row, and a second one that belongs to it; an empty one is none.
    pub rows: [Box<[u8]>; 2],
    /// Reads them; none where they are unreadable.
    pub read: fn(&[Box<[u8]>; 2]) -> Option<T>,
}

/// A part that is read when it is looked at.
pub struct Lazy<T> {
    /// As long as they say what the value says.
    stored: Option<Stored<T>>,
    value: OnceLock<T>,
    broken: OnceLock<()>,
}

impl<T: Default> Lazy<T> {
    /// What rows say.
    #[must_use]
    pub fn stored(stored: Stored<T>) -> Lazy<T> {
        Lazy { stored: Some(stored), value: OnceLock::new(), broken: OnceLock::new() }
    }

    /// Whether rows were looked at that are unreadable.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.get().is_some()
    }

    /// The rows, as long as they say what the value says.
    #[must_use]
    pub fn rows(&self) -> Option<&[Box<[u8]>; 2]> {
        self.stored.as_ref().map(|stored| &stored.rows)
    }

    /// Adds the second row to what was not looked at yet; `false` where somebody looked, or there is no first one: then nothing changes.
    pub fn join(&mut self, row: &[u8]) -> bool {
        match (&mut self.stored, self.value.get()) {
            (Some(stored), None) => {
                stored.rows[1] = row.into();
                true
            }
            (Some(_) | None, _) => false,
        }
    }

    /// Takes note of rows that were written of the value as it is.
    pub fn written(&mut self, stored: Stored<T>) {
        self.stored = Some(stored);
    }

    /// Lets go of the value where rows say the same.
    pub fn fold(&mut self) {
        if self.stored.is_some() && !self.is_broken() {
            self.value = OnceLock::new();
        }
    }

    /// The value, if it is in memory.
    #[must_use]
    pub fn unfolded(&self) -> Option<&T> {
        self.value.get()
    }

    fn read(&self) -> T {
        let Some(stored) = &self.stored else { return T::default() };
        (stored.read)(&stored.rows).unwrap_or_else(|| {
            self.broken.get_or_init(|| ());
            T::default()
        })
    }
}

impl<T> From<T> for Lazy<T> {
    fn from(value: T) -> Lazy<T> {
        Lazy { stored: None, value: OnceLock::from(value), broken: OnceLock::new() }
    }
}

impl<T: Default> Default for Lazy<T> {
    fn default() -> Lazy<T> {
        Lazy::from(T::default())
    }
}

impl<T: Default> Deref for Lazy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.get_or_init(|| self.read())
    }
}

impl<T: Default> DerefMut for Lazy<T> {
    fn deref_mut(&mut self) -> &mut T {
        let value = self.value.take().unwrap_or_else(|| self.read());
        self.stored = None;
        self.value = OnceLock::from(value);
        self.value.get_mut().expect("it was just set")
    }
}

impl<T> fmt::Debug for Stored<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stored").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<T> Clone for Stored<T> {
    fn clone(&self) -> Stored<T> {
        Stored { rows: self.rows.clone(), read: self.read }
    }
}

impl<T: Clone> Clone for Lazy<T> {
    fn clone(&self) -> Lazy<T> {
        Lazy { stored: self.stored.clone(), value: self.value.clone(), broken: self.broken.clone() }
    }
}

impl<T: Default + PartialEq> PartialEq for Lazy<T> {
    fn eq(&self, other: &Lazy<T>) -> bool {
        **self == **other
    }
}

impl<T: Default + fmt::Debug> fmt::Debug for Lazy<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rows: &[Box<[u8]>; 2]) -> Option<Vec<u8>> {
        let all: Vec<u8> = rows.iter().flatten().copied().collect();
        (!all.contains(&0)).then_some(all)
    }

    fn stored(row: &[u8]) -> Stored<Vec<u8>> {
        Stored { rows: [row.into(), Box::default()], read }
    }

    #[test]
    fn what_is_not_looked_at_stays_as_it_is_stored() {
        let mut lazy = Lazy::stored(stored(&[1, 2]));
        assert!(lazy.join(&[3]), "it was not looked at");
        assert_eq!(lazy.unfolded(), None);
        assert_eq!(*lazy, [1, 2, 3]);
        assert!(!lazy.join(&[4]), "it was looked at");
        lazy.fold();
        assert_eq!(lazy.unfolded(), None);
        assert_eq!(lazy, Lazy::from(vec![1, 2, 3]));
    }

    #[test]
    fn a_change_is_for_good() {
        let mut lazy = Lazy::stored(stored(&[1]));
        lazy.push(7);
        assert_eq!(lazy.rows(), None, "they say something else");
        lazy.fold();
        assert_eq!(*lazy, [1, 7]);
        lazy.written(stored(&[1, 7]));
        lazy.fold();
        assert_eq!((lazy.unfolded(), &*lazy), (None, &vec![1, 7]));
    }

    #[test]
    fn unreadable_rows_are_told() {
        for look in [
            |lazy: &mut Lazy<Vec<u8>>| lazy.len(),
            |lazy: &mut Lazy<Vec<u8>>| {
                lazy.push(1);
                lazy.len() - 1
            },
        ] {
            let mut lazy = Lazy::stored(stored(&[0]));
            assert!(!lazy.is_broken(), "nobody looked");
            assert_eq!(look(&mut lazy), 0);
            assert!(lazy.is_broken() && lazy.clone().is_broken());
            lazy.fold();
            assert!(lazy.is_broken());
        }
    }
}
