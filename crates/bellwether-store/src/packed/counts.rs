//! How likely each count is where another one is expected: tables for the coder of closed days.
//!
//! A table is a distribution of Panjer's class (1981), `p(k) = p(k - 1) * (a + b / k)`: binomial, Poisson or negative binomial, by the ratio of
//! its variance to its mean. There is one for each eighth of a doubling of the mean.
//!
//! # Invariants
//! - Tables are part of format 4: they never change (a test holds their hash). They are made of additions, multiplications and divisions
//!   alone, which are the same on every machine (IEEE 754).

use std::sync::LazyLock;

use super::rans::{BITS, TOTAL};

/// Ratios of variance to mean.
const RATIOS: [f64; 8] = [0.25, 0.5, 0.8, 1.0, 1.5, 3.0, 6.0, 14.0];
/// Where the next ratio is nearer.
const BETWEEN: [f32; 7] = [0.35, 0.63, 0.89, 1.22, 2.1, 4.2, 9.2];
/// Tables per doubling of the mean.
const STEPS: usize = 8;
/// The least mean: 1/64, and its exponent.
const MEAN_MIN: f32 = 0.015_625;
const EXPONENT_MIN: i32 = -6;
/// Means are below 2 to the power of this; larger ones are scaled down.
const EXPONENT_END: i32 = 5;
const TABLES: usize = (EXPONENT_END - EXPONENT_MIN) as usize * STEPS;
/// Means beyond are not told apart.
const MEAN_MAX: f32 = 1e15;
/// Counts that tables go to at most.
const COUNTS_MAX: usize = 240;
/// A count that is rarer is no symbol of its own; and how likely it is that one comes, at least.
const RARE: f64 = 3e-5;
const BEYOND: f64 = 6e-5;
/// Bits by which a symbol is looked up.
const LOOKUP_BITS: u32 = 7;

/// Of which spread counts are about what is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spread(usize);

impl Spread {
    /// How many bits name one.
    pub(super) const BITS: u32 = 3;

    /// The one nearest to a ratio of variance to mean.
    pub(super) fn of(ratio: f32) -> Spread {
        Spread(BETWEEN.iter().take_while(|end| ratio > **end).count())
    }

    /// The one of a number below 8.
    pub(super) fn numbered(number: u64) -> Spread {
        Spread((number & 7) as usize)
    }

    pub(super) fn number(self) -> u64 {
        self.0 as u64
    }
}

/// How a count is written where another one is expected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Which table of a spread.
    table: usize,
    /// How many of the lowest bits of a count are all as likely.
    pub(super) shift: u32,
}

impl Scale {
    /// For a mean of 0 or more.
    pub(super) fn of(mean: f32) -> Scale {
        let mean = mean.clamp(MEAN_MIN, MEAN_MAX);
        // Sign, eight bits of exponent, and the bits of the fraction.
        let bits = mean.to_bits();
        let exponent = (bits >> 23).cast_signed() - 127;
        let shift = (exponent + 1 - EXPONENT_END).max(0);
        let doublings = (exponent - shift - EXPONENT_MIN).cast_unsigned() as usize;
        let step = (bits >> 20) as usize % STEPS;
        Scale { table: doublings * STEPS + step, shift: shift.cast_unsigned() }
    }

    /// Half of what lies between two counts that are told apart: they are rounded.
    pub(super) fn half(self) -> u64 {
        (1 << self.shift) >> 1
    }

    pub(super) fn table(self, spread: Spread) -> &'static Table {
        &ALL[spread.0 * TABLES + self.table]
    }
}

/// The parts of a scale that counts have. The last symbol stands for all larger ones.
#[derive(Debug)]
pub(super) struct Table {
    /// Where the part of each symbol begins, and where the last one ends.
    starts: Box<[u16]>,
    /// The symbol at every so many places of the scale.
    lookup: [u8; 1 << LOOKUP_BITS],
}

static ALL: LazyLock<Vec<Table>> = LazyLock::new(|| {
    let means = (0..TABLES).map(|table| {
        let least = (0..table / STEPS).fold(f64::from(MEAN_MIN), |mean, _| mean * 2.0);
        least * (1.0 + ((table % STEPS) as f64 + 0.5) / STEPS as f64)
    });
    RATIOS
        .iter()
        .flat_map(|ratio| means.clone().map(move |mean| Table::new(mean, *ratio)))
        .collect()
});

impl Table {
    fn new(mean: f64, ratio: f64) -> Table {
        // Whole numbers about a small mean vary by as much as this at least.
        let ratio = ratio.max(1.0 - mean);
        let a = 1.0 - 1.0 / ratio;
        let b = mean / ratio - a;
        let mode = mean as usize;
        let mut shares = vec![0.0; COUNTS_MAX];
        shares[mode] = 1.0;
        for count in mode + 1..COUNTS_MAX {
            shares[count] = shares[count - 1] * (a + b / count as f64).max(0.0);
        }
        for count in (1..=mode).rev() {
            let factor = a + b / count as f64;
            shares[count - 1] = if factor > 0.0 { shares[count] / factor } else { 0.0 };
        }
        let total: f64 = shares.iter().sum();
        let symbols =
            shares.iter().rposition(|share| *share > total * RARE).unwrap_or_default() + 1;
        let beyond = shares[symbols..].iter().sum::<f64>() + total * BEYOND;
        shares.truncate(symbols);
        shares.push(beyond);
        Table::of_shares(&shares)
    }

    fn of_shares(shares: &[f64]) -> Table {
        let total: f64 = shares.iter().sum();
        let room = f64::from(TOTAL) - shares.len() as f64;
        let mut sizes: Vec<u32> =
            shares.iter().map(|share| 1 + (share / total * room) as u32).collect();
        // What rounding leaves goes to the likeliest.
        let left = TOTAL - sizes.iter().sum::<u32>();
        if let Some(most) = sizes.iter_mut().max() {
            *most += left;
        }
        let mut starts = vec![0];
        let mut end = 0;
        for size in sizes {
            end += size;
            starts.push(end as u16);
        }
        let symbol_at = |place: u32| starts.partition_point(|start| u32::from(*start) <= place) - 1;
        let lookup = std::array::from_fn(|at| symbol_at((at as u32) << (BITS - LOOKUP_BITS)) as u8);
        Table { starts: starts.into_boxed_slice(), lookup }
    }

    /// The symbol for all counts from this one on, which is its number.
    pub(super) fn beyond(&self) -> usize {
        self.starts.len() - 2
    }

    /// Where a symbol's part begins, and its size.
    pub(super) fn part(&self, symbol: usize) -> (u32, u32) {
        let (start, end) = (self.starts[symbol], self.starts[symbol + 1]);
        (start.into(), u32::from(end) - u32::from(start))
    }

    /// The symbol at a place of the scale.
    pub(super) fn symbol(&self, place: u32) -> usize {
        let mut symbol = usize::from(self.lookup[(place >> (BITS - LOOKUP_BITS)) as usize]);
        while u32::from(self.starts[symbol + 1]) <= place {
            symbol += 1;
        }
        symbol
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::Xxh3;

    use super::*;

    /// What is written with them is read for ever.
    #[test]
    fn tables_never_change() {
        let mut digest = Xxh3::new();
        for table in ALL.iter() {
            table.starts.iter().for_each(|start| digest.update(&start.to_le_bytes()));
        }
        assert_eq!((ALL.len(), digest.digest()), (704, 2_208_516_229_034_621_332));
    }

    #[test]
    fn every_place_of_a_scale_belongs_to_one_symbol() {
        for table in ALL.iter() {
            let mut end = 0;
            for symbol in 0..=table.beyond() {
                let (start, size) = table.part(symbol);
                assert!(start == end && size > 0);
                end = start + size;
                assert!(table.symbol(start) == symbol && table.symbol(end - 1) == symbol);
            }
            assert_eq!(end, TOTAL);
        }
    }

    #[test]
    fn any_mean_has_a_scale() {
        for mean in [0.0, 1e-30, 0.02, 1.0, 31.9, 32.0, 1e6, 1e15, 1e30, f32::MAX, f32::INFINITY] {
            let scale = Scale::of(mean);
            assert!(scale.shift < 64, "{mean}");
            let table = scale.table(Spread::numbered(7));
            assert!(table.beyond() > 0, "{mean}");
        }
        assert_eq!(
            [Scale::of(31.9).shift, Scale::of(32.0).shift, Scale::of(100.0).shift],
            [0, 1, 2]
        );
    }
}
