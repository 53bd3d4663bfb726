//! Closed days at about the cost of their information (format 4).
//!
//! A day of a signal is expected to be what its weekday has been lately, and, as long as little is known of that, the signal's level times the
//! account's weekdays so far, over all its signals. How likely each count is then says a table ([`counts`](super::counts)), so that a count takes
//! the bits that it is a surprise (Shannon 1948). Gauges that stand still, days without a measurement, fractions and means have forms of their own.
//!
//! Measured on Poisson counts of 16 signals in 18 weeks: about 840 bytes, where 810 is the least possible.
//!
//! # Invariants
//! - Writer and reader go through one function ([`Code`] is what differs), so that they expect the same.
//! - Expectations are made by additions, multiplications and divisions of single floats alone: the same on every machine (IEEE 754).

use bellwether_core::history::RING_DAYS;

use super::code::{Chance, Code, Measure, Read, Write};
use super::counts::Spread;
use super::history::{UNIT, Value};
use super::rans::{Decoder, Encoder};

/// Days of a week.
const WEEK: usize = 7;
/// What the level counts beside what is known of the weekday itself, in weeks.
const LEVEL_WEEKS: f32 = 8.0;
/// What is left of a weekday's weight after a week.
const KEPT: f32 = 0.97;
/// Days that the level goes back, about.
const LEVEL_DAYS: f32 = 64.0;
/// A ring says of the account's weekdays as much as so many events at most, and none of them counts less than so few.
const EVENTS_MAX: f32 = 500.0;
const EVENTS_MIN: f32 = 2.0;
/// Weekdays differ from the mean day by a factor of so much at most.
const WEEKDAY: (f32, f32) = (0.02, 50.0);
/// What the first ring of an account is expected to be about.
const FIRST_LEVEL: f32 = 4.0;
/// Powers of ten that a ring's numbers may be multiples of, in millionths.
const DECIMALS: u64 = 6;

/// A day as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Token {
    #[default]
    Missing,
    /// So many of the ring's units, divided.
    Number {
        negative: bool,
        units: u64,
        divisor: u64,
    },
    Raw(u64),
}

/// What the days of a ring have in common.
#[derive(Debug, Clone, Copy, Default)]
struct Form {
    /// Most days are as the day before.
    still: bool,
    /// Some days are no whole numbers, and then:
    various: bool,
    has_missing: bool,
    has_raw: bool,
    has_negative: bool,
    has_divided: bool,
    /// Zeros behind the decimal point of numbers in millionths; 6 and more: whole numbers.
    decimals: u64,
}

impl Form {
    fn of(values: &[Value]) -> Form {
        let mut form = Form { decimals: DECIMALS, ..Form::default() };
        for value in values {
            match *value {
                Value::Whole(_) => {}
                Value::Missing => form.has_missing = true,
                Value::Raw(_) => form.has_raw = true,
                Value::Mean { negative, micros, divisor } => {
                    form.has_negative |= negative;
                    form.has_divided |= divisor > 1;
                    while micros % 10_u64.pow(form.decimals as u32) != 0 {
                        form.decimals -= 1;
                    }
                }
            }
        }
        // In millionths not every whole number is exact.
        let is_large = |value: &Value| matches!(value, Value::Whole(whole) if *whole >= LARGE);
        form.has_raw |= form.decimals < DECIMALS && values.iter().any(is_large);
        form.various = form.has_missing
            || form.has_raw
            || form.has_negative
            || form.has_divided
            || form.decimals < DECIMALS;
        let same = values.windows(2).filter(|pair| pair[0] == pair[1]).count();
        let is_nothing = |value: &Value| *value == Value::Whole(0);
        let zeros = values.iter().filter(|value| is_nothing(value)).count();
        form.still = same * 5 >= values.len() * 3 && zeros * 2 < values.len();
        form
    }

    fn code<C: Code>(&mut self, code: &mut C) -> Option<()> {
        self.still = code.flag(self.still)?;
        self.various = code.flag(self.various)?;
        if self.various {
            self.has_missing = code.flag(self.has_missing)?;
            self.has_raw = code.flag(self.has_raw)?;
            self.has_negative = code.flag(self.has_negative)?;
            self.has_divided = code.flag(self.has_divided)?;
            self.decimals = code.even(self.decimals, 3)?.min(DECIMALS);
        }
        code.spread()
    }

    /// Millionths in a unit.
    fn unit(self) -> u64 {
        10_u64.pow(self.decimals as u32)
    }

    fn token(self, value: Value) -> Token {
        match value {
            Value::Missing => Token::Missing,
            Value::Raw(bits) => Token::Raw(bits),
            Value::Whole(whole) if self.decimals == DECIMALS => {
                Token::Number { negative: false, units: whole, divisor: 1 }
            }
            Value::Whole(whole) if whole >= LARGE => Token::Raw((whole as f64).to_bits()),
            Value::Whole(whole) => {
                let units = whole * (UNIT / self.unit());
                Token::Number { negative: false, units, divisor: 1 }
            }
            Value::Mean { negative, micros, divisor } => {
                Token::Number { negative, units: micros / self.unit(), divisor }
            }
        }
    }

    fn value(self, token: Token) -> Option<f64> {
        let value = match token {
            Token::Missing => Value::Missing,
            Token::Raw(bits) => Value::Raw(bits),
            Token::Number { negative: false, units, divisor: 1 } if self.decimals == DECIMALS => {
                Value::Whole(units)
            }
            Token::Number { negative, units, divisor } => {
                Value::Mean { negative, micros: units.checked_mul(self.unit())?, divisor }
            }
        };
        Some(value.get())
    }
}

/// Whole numbers from here on are written as they are where others have decimals.
const LARGE: u64 = 9_000_000_000;

/// What the rings of an account so far say of the next one.
#[derive(Debug)]
pub(super) struct Known {
    days: u64,
    level: f32,
    /// Events by weekday, and those that there were if weekdays were alike.
    weekdays: [(f32, f32); WEEK],
}

impl Default for Known {
    fn default() -> Known {
        Known { days: RING_DAYS as u64, level: FIRST_LEVEL, weekdays: [(0.0, 0.0); WEEK] }
    }
}

/// What is expected of the next days of a ring.
struct Expected {
    /// The account's weekdays relative to its mean day, the inverse of that, and what they say of the level: one of little says little.
    usual: [f32; WEEK],
    inverse: [f32; WEEK],
    weights: [f32; WEEK],
    level: f32,
    level_days: f32,
    /// Weighted sums of this weekday's days, their weights; and all of them, and how many.
    sums: [(f32, f32); WEEK],
    totals: [(f32, f32); WEEK],
    /// By weekday, as it was a week ago.
    means: [f32; WEEK],
}

impl Expected {
    fn new(known: &Known) -> Expected {
        let usual = known.weekdays.map(|(events, alike)| {
            ((events + EVENTS_MIN) / (alike + EVENTS_MIN)).clamp(WEEKDAY.0, WEEKDAY.1)
        });
        let nothing = [(0.0, 0.0); WEEK];
        Expected {
            usual,
            inverse: usual.map(|usual| 1.0 / usual),
            weights: usual.map(|usual| usual.min(1.5)),
            level: known.level,
            // The level of another ring says a little, and less than a day of this one.
            level_days: 0.3,
            sums: nothing,
            totals: nothing,
            means: [0.0; WEEK],
        }
    }

    /// The weekday of a day of a ring of so many: rings end on the same day. What is expected is renewed with every day at first, then once
    /// a week, so that a reader need not wait for the day before.
    fn weekday(&mut self, index: usize, count: usize) -> usize {
        let weekday = (count - 1 - index) % WEEK;
        if index <= WEEK || weekday == WEEK - 1 {
            self.renew();
        }
        weekday
    }

    fn renew(&mut self) {
        for ((mean, usual), (sum, weight)) in self.means.iter_mut().zip(self.usual).zip(self.sums) {
            *mean = (sum + LEVEL_WEEKS * self.level * usual) / (weight + LEVEL_WEEKS);
        }
    }

    fn learn(&mut self, weekday: usize, value: f32) {
        let (sum, weight) = &mut self.sums[weekday];
        (*sum, *weight) = (*sum * KEPT + value, *weight * KEPT + 1.0);
        let (total, days) = &mut self.totals[weekday];
        (*total, *days) = (*total + value, *days + 1.0);
        self.level_days = (self.level_days + 1.0).min(LEVEL_DAYS);
        let beyond = value * self.inverse[weekday] - self.level;
        self.level += beyond * self.weights[weekday] / self.level_days;
    }

    /// What the ring says of the next ones.
    fn tell(&self, known: &mut Known) {
        let (total, days) =
            self.totals.iter().fold((0.0, 0.0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
        if days > 0.0 {
            known.level = total / days;
        }
        if total > 0.0 {
            let weight = total.min(EVENTS_MAX) / total;
            for ((events, alike), (sum, measured)) in known.weekdays.iter_mut().zip(self.totals) {
                *events += weight * sum;
                *alike += weight * total * measured / days;
            }
        }
    }
}

/// The days of a ring in the making, or to be read.
struct Days<'a, C: Code> {
    code: &'a mut C,
    form: Form,
    expected: Expected,
    same: Chance,
    /// By whether the day before was one.
    number: [Chance; 2],
    raw: Chance,
    negative: Chance,
    /// Of divisors.
    divided: f32,
    before: Token,
}

impl<C: Code> Days<'_, C> {
    fn day(&mut self, token: Token, weekday: usize, first: bool) -> Option<Token> {
        if self.form.still && !first {
            let same = self.code.chance(self.same, token == self.before)?;
            self.same.learn(same);
            if same {
                return Some(self.before);
            }
        }
        if self.form.has_missing || self.form.has_raw {
            let chance = &mut self.number[usize::from(is_number(self.before))];
            let is = self.code.chance(*chance, is_number(token))?;
            chance.learn(is);
            if !is {
                return self.no_number(token);
            }
        }
        self.number(token, weekday)
    }

    fn no_number(&mut self, token: Token) -> Option<Token> {
        let mut is_raw = matches!(token, Token::Raw(_));
        if self.form.has_missing && self.form.has_raw {
            is_raw = self.code.chance(self.raw, is_raw)?;
            self.raw.learn(is_raw);
        } else {
            is_raw = self.form.has_raw;
        }
        if !is_raw {
            return Some(Token::Missing);
        }
        let bits = if let Token::Raw(bits) = token { bits } else { 0 };
        self.code.even(bits, 64).map(Token::Raw)
    }

    fn number(&mut self, token: Token, weekday: usize) -> Option<Token> {
        let (mut negative, mut units, mut divisor) = (false, 0, 1);
        if let Token::Number { negative: is, units: of, divisor: by } = token {
            (negative, units, divisor) = (is, of, by);
        }
        if self.form.has_negative {
            negative = self.code.chance(self.negative, negative)?;
            self.negative.learn(negative);
        }
        if self.form.has_divided {
            divisor = self.code.count(self.divided, divisor.saturating_sub(1))?.checked_add(1)?;
            self.divided += (divisor as f32 - 1.0 - self.divided) / 8.0;
        }
        let mean = match self.before {
            Token::Number { units, divisor, .. } if self.form.still => {
                units as f32 / divisor as f32
            }
            Token::Number { .. } | Token::Missing | Token::Raw(_) => self.expected.means[weekday],
        };
        units = self.code.count(mean * divisor as f32, units)?;
        self.expected.learn(weekday, units as f32 / divisor as f32);
        Some(Token::Number { negative, units, divisor })
    }
}

fn is_number(token: Token) -> bool {
    matches!(token, Token::Number { .. })
}

/// Goes through the days of a ring, oldest first.
fn code_days<C: Code>(
    code: &mut C,
    known: &Known,
    form: &mut Form,
    tokens: &mut [Token],
) -> Option<Expected> {
    form.code(code)?;
    if !form.still && !form.various {
        return code_counts(code, known, tokens);
    }
    let mut days = Days {
        code,
        form: *form,
        expected: Expected::new(known),
        same: Chance::default(),
        number: [Chance::default(); 2],
        raw: Chance::default(),
        negative: Chance::default(),
        divided: 1.0,
        before: Token::Missing,
    };
    let count = tokens.len();
    for (index, token) in tokens.iter_mut().enumerate() {
        let weekday = days.expected.weekday(index, count);
        *token = days.day(*token, weekday, index == 0)?;
        days.before = *token;
    }
    Some(days.expected)
}

/// The same of days that are whole numbers, as nearly all are.
fn code_counts<C: Code>(code: &mut C, known: &Known, tokens: &mut [Token]) -> Option<Expected> {
    let mut expected = Expected::new(known);
    let count = tokens.len();
    for (index, token) in tokens.iter_mut().enumerate() {
        let weekday = expected.weekday(index, count);
        let units = if let Token::Number { units, .. } = *token { units } else { 0 };
        let units = code.count(expected.means[weekday], units)?;
        expected.learn(weekday, units as f32);
        *token = Token::Number { negative: false, units, divisor: 1 };
    }
    Some(expected)
}

fn code_length<C: Code>(code: &mut C, known: &mut Known, days: u64) -> Option<u64> {
    if !code.flag(days == known.days)? {
        known.days = code.even(days, 8)?;
    }
    Some(known.days)
}

/// Writes the days of a ring, oldest first: [`RING_DAYS`] at most.
pub(super) fn write(values: &[Value], known: &mut Known, out: &mut Encoder) {
    let mut form = Form::of(values);
    let mut tokens: Vec<Token> = values.iter().map(|value| form.token(*value)).collect();
    let mut measure = Measure::default();
    // Nothing that is written cannot be.
    let _measured = code_days(&mut measure, known, &mut form, &mut tokens);
    let mut code = Write { out, spread: measure.spread() };
    if code_length(&mut code, known, values.len() as u64) == Some(0) {
        return;
    }
    if let Some(expected) = code_days(&mut code, known, &mut form, &mut tokens) {
        expected.tell(known);
    }
}

/// Reads the days of a ring.
pub(super) fn read(known: &mut Known, input: &mut Decoder<'_>) -> Option<Vec<f64>> {
    let mut code = Read { input, spread: Spread::numbered(0) };
    let count = usize::try_from(code_length(&mut code, known, 0)?).ok()?;
    if count == 0 || count > RING_DAYS {
        return (count == 0).then(Vec::new);
    }
    let mut form = Form { decimals: DECIMALS, ..Form::default() };
    let mut tokens = [Token::default(); RING_DAYS];
    let tokens = &mut tokens[..count];
    let expected = code_days(&mut code, known, &mut form, tokens)?;
    expected.tell(known);
    tokens.iter().map(|token| form.value(*token)).collect()
}
