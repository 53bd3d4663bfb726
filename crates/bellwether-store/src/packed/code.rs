//! What a ring of days is written with and read with, and measured before: yes or no, and numbers near what is expected.

use super::counts::{Scale, Spread};
use super::rans::{Decoder, Encoder, TOTAL};

/// Numbers of a ring before there is something to expect.
const FIRST: usize = 7;

/// A yes or no that is as likely as it was before (Krichevsky and Trofimov 1981).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chance {
    yes: u32,
    all: u32,
}

impl Chance {
    /// What of the scale a no takes.
    fn no(self) -> u32 {
        let yes = TOTAL * (2 * self.yes + 1) / (2 * self.all + 2);
        TOTAL - yes.clamp(16, TOTAL - 16)
    }

    pub(super) fn learn(&mut self, yes: bool) {
        self.yes += u32::from(yes);
        self.all += 1;
    }
}

/// Writes what it is told and returns it, or reads it and does not care for what it is told.
pub(super) trait Code {
    fn even(&mut self, number: u64, bits: u32) -> Option<u64>;
    fn chance(&mut self, chance: Chance, yes: bool) -> Option<bool>;
    /// A number where another one is expected.
    fn count(&mut self, mean: f32, count: u64) -> Option<u64>;
    /// How numbers spread about what is expected, from here on.
    fn spread(&mut self) -> Option<()>;

    fn flag(&mut self, flag: bool) -> Option<bool> {
        self.even(u64::from(flag), 1).map(|flag| flag == 1)
    }
}

/// Finds out how the numbers of a ring spread, once there is something to expect.
#[derive(Default)]
pub(super) struct Measure {
    seen: usize,
    squares: f32,
    expected: f32,
}

impl Measure {
    pub(super) fn spread(&self) -> Spread {
        Spread::of(if self.expected > 0.0 { self.squares / self.expected } else { 1.0 })
    }
}

impl Code for Measure {
    fn even(&mut self, number: u64, _bits: u32) -> Option<u64> {
        Some(number)
    }

    fn chance(&mut self, _chance: Chance, yes: bool) -> Option<bool> {
        Some(yes)
    }

    fn count(&mut self, mean: f32, count: u64) -> Option<u64> {
        self.seen += 1;
        if self.seen <= FIRST {
            return Some(count);
        }
        let unit = (1_u64 << Scale::of(mean).shift) as f32;
        let (mean, value) = (mean / unit, count as f32 / unit);
        self.squares += (value - mean) * (value - mean);
        self.expected += mean;
        Some(count)
    }

    fn spread(&mut self) -> Option<()> {
        Some(())
    }
}

/// Writes.
pub(super) struct Write<'a> {
    pub(super) out: &'a mut Encoder,
    pub(super) spread: Spread,
}

impl Code for Write<'_> {
    fn even(&mut self, number: u64, bits: u32) -> Option<u64> {
        self.out.even(number, bits);
        Some(number)
    }

    fn chance(&mut self, chance: Chance, yes: bool) -> Option<bool> {
        let no = chance.no();
        if yes {
            self.out.put(no, TOTAL - no)
        } else {
            self.out.put(0, no)
        }
        Some(yes)
    }

    fn count(&mut self, mean: f32, count: u64) -> Option<u64> {
        let scale = Scale::of(mean);
        let table = scale.table(self.spread);
        let rounded = count + scale.half();
        let (high, beyond) = (rounded >> scale.shift, table.beyond());
        let symbol = usize::try_from(high).unwrap_or(usize::MAX).min(beyond);
        let (start, size) = table.part(symbol);
        self.out.put(start, size);
        if symbol == beyond {
            // Elias' gamma code (1975).
            let more = high - beyond as u64 + 1;
            self.out.even(more.ilog2().into(), 6);
            self.out.even(more - (1 << more.ilog2()), more.ilog2());
        }
        self.out.even(rounded & ((1 << scale.shift) - 1), scale.shift);
        Some(count)
    }

    fn spread(&mut self) -> Option<()> {
        self.out.even(self.spread.number(), Spread::BITS);
        Some(())
    }
}

/// Reads.
pub(super) struct Read<'a, 'b> {
    pub(super) input: &'a mut Decoder<'b>,
    pub(super) spread: Spread,
}

impl Code for Read<'_, '_> {
    fn even(&mut self, _number: u64, bits: u32) -> Option<u64> {
        self.input.even(bits)
    }

    fn chance(&mut self, chance: Chance, _yes: bool) -> Option<bool> {
        let no = chance.no();
        let yes = self.input.place() >= no;
        if yes {
            self.input.pass(no, TOTAL - no)?
        } else {
            self.input.pass(0, no)?
        }
        Some(yes)
    }

    fn count(&mut self, mean: f32, _count: u64) -> Option<u64> {
        let scale = Scale::of(mean);
        let table = scale.table(self.spread);
        let symbol = table.symbol(self.input.place());
        let (start, size) = table.part(symbol);
        self.input.pass(start, size)?;
        let mut high = symbol as u64;
        if symbol == table.beyond() {
            let bits = u32::try_from(self.input.even(6)?).ok()?;
            let more = 1 << bits | self.input.even(bits)?;
            high = high.checked_add(more - 1)?;
        }
        if scale.shift == 0 {
            return Some(high);
        }
        let rounded = high.checked_mul(1 << scale.shift)? | self.input.even(scale.shift)?;
        rounded.checked_sub(scale.half())
    }

    fn spread(&mut self) -> Option<()> {
        self.spread = Spread::numbered(self.input.even(Spread::BITS)?);
        Some(())
    }
}
