//! Writes that become visible together.

use std::borrow::Cow;

/// One change of one column family.
#[derive(Debug, Clone)]
pub(crate) enum Write<'a> {
    Put(Cow<'a, [u8]>, Cow<'a, [u8]>),
    Delete(Cow<'a, [u8]>),
    /// From the first key up to the second, exclusive.
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// Writes in order, each with its column family. Rows that lie elsewhere already are borrowed from there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch<'a> {
    writes: Vec<(&'static str, Write<'a>)>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    pub(crate) fn put(
        &mut self,
        family: &'static str,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) {
        self.push_put(family, Cow::Owned(key.into()), Cow::Owned(value.into()));
    }

    /// The same, without a copy.
    pub(crate) fn put_borrowed(&mut self, family: &'static str, key: &'a [u8], value: &'a [u8]) {
        self.push_put(family, Cow::Borrowed(key), Cow::Borrowed(value));
    }

    fn push_put(&mut self, family: &'static str, key: Cow<'a, [u8]>, value: Cow<'a, [u8]>) {
        self.bytes += key.len() + value.len();
        self.writes.push((family, Write::Put(key, value)));
    }

    pub(crate) fn delete(&mut self, family: &'static str, key: impl Into<Vec<u8>>) {
        self.push_delete(family, Cow::Owned(key.into()));
    }

    /// The same, without a copy.
    pub(crate) fn delete_borrowed(&mut self, family: &'static str, key: &'a [u8]) {
        self.push_delete(family, Cow::Borrowed(key));
    }

    fn push_delete(&mut self, family: &'static str, key: Cow<'a, [u8]>) {
        self.bytes += key.len();
        self.writes.push((family, Write::Delete(key)));
    }

    /// Deletes from `from` up to `end`, exclusive.
    pub(crate) fn delete_range(
        &mut self,
        family: &'static str,
        from: impl Into<Vec<u8>>,
        end: impl Into<Vec<u8>>,
    ) {
        self.writes.push((family, Write::DeleteRange(from.into(), end.into())));
    }

    /// Bytes of keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same writes, with whatever was borrowed copied.
    pub(crate) fn into_owned(self) -> Batch<'static> {
        let owned = |bytes: Cow<'a, [u8]>| Cow::Owned(bytes.into_owned());
        let writes = self.writes.into_iter().map(|(family, write)| {
            let write = match write {
                Write::Put(key, value) => Write::Put(owned(key), owned(value)),
                Write::Delete(key) => Write::Delete(owned(key)),
                Write::DeleteRange(from, end) => Write::DeleteRange(from, end),
            };
            (family, write)
        });
        Batch { writes: writes.collect(), bytes: self.bytes }
    }

    pub(crate) fn writes(&self) -> &[(&'static str, Write<'a>)] {
        &self.writes
    }
}
