//! Numbers in bits: lowest first, with no regard to bytes.

/// Ones of a unary part at most; a larger number is written out instead.
const UNARY_MAX: u32 = 24;

/// Bits in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits that do not fill eight bytes yet.
    rest: u64,
    filled: u32,
}

impl BitWriter {
    /// The lowest `count` (0..=64) bits of a number, which has no others.
    pub(super) fn put(&mut self, number: u64, count: u32) {
        debug_assert!(count >= 64 || number >> count == 0, "{number} does not fit {count} bits");
        self.rest |= number << self.filled;
        self.filled += count;
        if self.filled >= 64 {
            self.bytes.extend_from_slice(&self.rest.to_le_bytes());
            self.filled -= 64;
            // What found no room.
            self.rest = number.checked_shr(count - self.filled).unwrap_or(0);
        }
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.put(u64::from(flag), 1);
    }

    /// Golomb-Rice code (Rice and Plaunt 1971): the quotient by 2^k in unary, the remainder in k bits. Short for numbers about 2^k.
    pub(super) fn rice(&mut self, number: u64, k: u32) {
        let quotient = number >> k;
        match u32::try_from(quotient).ok().filter(|quotient| *quotient < UNARY_MAX) {
            Some(quotient) => {
                self.put((1 << quotient) - 1, quotient + 1);
                self.put(number & ((1 << k) - 1), k);
            }
            None => {
                self.put((1 << UNARY_MAX) - 1, UNARY_MAX);
                self.sized(number);
            }
        }
    }

    /// A number with its own length in front.
    pub(super) fn sized(&mut self, number: u64) {
        let length = (64 - number.leading_zeros()).max(1);
        self.put(u64::from(length - 1), 6);
        self.put(number, length);
    }

    pub(super) fn bits(&self) -> usize {
        self.bytes.len() * 8 + self.filled as usize
    }

    /// Adds what another one holds.
    pub(super) fn append(&mut self, other: &BitWriter) {
        other.bytes.iter().for_each(|byte| self.put(u64::from(*byte), 8));
        self.put(other.rest, other.filled);
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        let rest = self.rest.to_le_bytes();
        self.bytes.extend(rest.into_iter().take(self.filled.div_ceil(8) as usize));
        self.bytes
    }
}

/// Bits to read.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    rest: u128,
    filled: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, rest: 0, filled: 0 }
    }

    /// The next `count` (0..=64) bits.
    pub(super) fn take(&mut self, count: u32) -> Option<u64> {
        while self.filled < count {
            self.fill()?;
        }
        let number = self.rest & ((1_u128 << count) - 1);
        self.rest >>= count;
        self.filled -= count;
        u64::try_from(number).ok()
    }

    /// Takes in eight bytes, or one where there are not so many. Fewer than 64 bits are waiting.
    fn fill(&mut self) -> Option<()> {
        if let Some((chunk, rest)) = self.bytes.split_first_chunk() {
            self.rest |= u128::from(u64::from_le_bytes(*chunk)) << self.filled;
            (self.bytes, self.filled) = (rest, self.filled + 64);
            return Some(());
        }
        let (first, rest) = self.bytes.split_first()?;
        self.rest |= u128::from(*first) << self.filled;
        (self.bytes, self.filled) = (rest, self.filled + 8);
        Some(())
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit == 1)
    }

    /// `k` below 64.
    pub(super) fn rice(&mut self, k: u32) -> Option<u64> {
        let mut quotient = 0;
        while self.flag()? {
            quotient += 1;
            if quotient == UNARY_MAX {
                return self.sized();
            }
        }
        // A quotient that was written fits; one that was not may not.
        let high =
            u64::from(quotient).checked_shl(k).filter(|high| high >> k == u64::from(quotient))?;
        Some(high | self.take(k)?)
    }

    pub(super) fn sized(&mut self) -> Option<u64> {
        let length = u32::try_from(self.take(6)?).ok()? + 1;
        self.take(length)
    }

    /// Whether nothing is left but the zeros that fill the last byte.
    pub(super) fn is_done(&self) -> bool {
        self.bytes.is_empty() && self.rest == 0 && self.filled < 8
    }
}

/// The parameter of the Rice code for numbers with this sum: near the best, which lies at the logarithm of their mean.
pub(super) fn rice_parameter(sum: u128, count: usize) -> u32 {
    let mean = sum / (count.max(1) as u128);
    (128 - mean.leading_zeros()).saturating_sub(1).min(63)
}
