//! Symbols at the cost of their probabilities: range asymmetric numeral systems (Duda 2013, arXiv 1311.2540), bytes at a time.
//!
//! A symbol is a part of a scale of [`TOTAL`]; it takes the logarithm of its share in bits. What is written last is read first, so parts are
//! gathered, and coded from the last one to the first.

/// Bits of the scale.
pub(super) const BITS: u32 = 14;
/// The scale.
pub(super) const TOTAL: u32 = 1 << BITS;
/// The state lies between this and 256 times as much.
const LOW: u32 = 1 << 23;
/// Bits that are written at once where all numbers are as likely.
const EVEN_BITS: u32 = 12;

/// Symbols in the making.
#[derive(Debug, Default)]
pub(super) struct Encoder(Vec<(u16, u16)>);

impl Encoder {
    /// The part of the scale that begins at `start` and has this size, 1 or more.
    pub(super) fn put(&mut self, start: u32, size: u32) {
        debug_assert!(size > 0 && start + size <= TOTAL, "{start} and {size} are no part");
        self.0.push((start as u16, size as u16));
    }

    /// The lowest `count` bits of a number.
    pub(super) fn even(&mut self, mut number: u64, mut count: u32) {
        while count > 0 {
            let some = count.min(EVEN_BITS);
            let low = (number & ((1 << some) - 1)) as u32;
            self.put(low << (BITS - some), 1 << (BITS - some));
            number >>= some;
            count -= some;
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() / 2 + 8);
        if self.0.is_empty() {
            return bytes;
        }
        let mut state = LOW;
        for (start, size) in self.0.into_iter().rev() {
            let (start, size) = (u32::from(start), u32::from(size));
            while state >= ((LOW >> BITS) << 8) * size {
                bytes.push((state & 0xff) as u8);
                state >>= 8;
            }
            state = ((state / size) << BITS) + state % size + start;
        }
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.reverse();
        bytes
    }
}

/// Symbols to read.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    state: u32,
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Option<Decoder<'a>> {
        if bytes.is_empty() {
            return Some(Decoder { state: LOW, rest: bytes });
        }
        let (state, rest) = bytes.split_first_chunk()?;
        let state = u32::from_be_bytes(*state);
        (LOW..LOW << 8).contains(&state).then_some(Decoder { state, rest })
    }

    /// Where on the scale the next symbol lies.
    pub(super) fn place(&self) -> u32 {
        self.state & (TOTAL - 1)
    }

    /// Passes over the symbol whose part of the scale this is; [`Decoder::place`] lies in it.
    pub(super) fn pass(&mut self, start: u32, size: u32) -> Option<()> {
        self.state = size * (self.state >> BITS) + self.place() - start;
        while self.state < LOW {
            let (first, rest) = self.rest.split_first()?;
            self.rest = rest;
            self.state = self.state << 8 | u32::from(*first);
        }
        Some(())
    }

    /// So many bits, at most 64.
    pub(super) fn even(&mut self, count: u32) -> Option<u64> {
        let (mut number, mut at) = (0, 0);
        while at < count {
            let some = (count - at).min(EVEN_BITS);
            let low = self.place() >> (BITS - some);
            self.pass(low << (BITS - some), 1 << (BITS - some))?;
            number |= u64::from(low) << at;
            at += some;
        }
        Some(number)
    }

    /// Whether all was read, and is as it was written.
    pub(super) fn is_done(&self) -> bool {
        self.state == LOW && self.rest.is_empty()
    }
}
