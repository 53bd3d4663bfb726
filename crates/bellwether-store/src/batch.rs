//! Writes that become visible together.

/// One change of one column family.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    /// From the first key up to the second, exclusive.
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// Writes in order, each with its column family.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    writes: Vec<(&'static str, Write)>,
    bytes: usize,
}

impl Batch {
    pub(crate) fn put(
        &mut self,
        family: &'static str,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.writes.push((family, Write::Put(key, value)));
    }

    pub(crate) fn delete(&mut self, family: &'static str, key: impl Into<Vec<u8>>) {
        let key = key.into();
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

    pub(crate) fn writes(&self) -> &[(&'static str, Write)] {
        &self.writes
    }
}
