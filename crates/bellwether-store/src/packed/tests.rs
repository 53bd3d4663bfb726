//! Every row reads back in every format, whatever it holds, and no bytes make a reader panic.

use bellwether_core::account::{Backfill, Hot, SignalKey, SignalState, StoredBaseline};
use bellwether_core::feedback::Raised;
use bellwether_core::forecast::{Forecast, Limits};
use bellwether_core::history::{Activity, DayTotals, History, RING_DAYS, Ring};
use bellwether_core::life::{Life, Standing};
use bellwether_core::points::Points;
use bellwether_core::rebaseline::{Change, Stage};
use bellwether_core::rolling::{DaySum, Rolling, RollingSignal, SUM_MICROS_MAX};
use bellwether_core::state::Clock;
use bellwether_core::streams::Streams;
use bellwether_core::time::{Day, Millis};
use proptest::prelude::*;

use crate::format::{Format, Row, decode, encode};
use crate::rows::canonical;
use crate::seen::SeenRecord;

/// Reads back what was written, in every format. Compared by the bytes of format 1, in which a NaN equals itself.
fn round_trip<R: Row>(row: &R) -> Result<(), TestCaseError> {
    for format in Format::ALL {
        let bytes = encode(row, format);
        let read: R = decode("a row", &bytes)
            .map_err(|error| TestCaseError::fail(format!("{format:?}: {error}")))?;
        prop_assert_eq!(canonical(&read), canonical(row), "{:?}", format);
    }
    Ok(())
}

/// Reads bytes as any row; what they mean does not matter.
fn read_all(bytes: &[u8]) {
    drop(decode::<Hot>("a row", bytes));
    drop(decode::<History>("a row", bytes));
    drop(decode::<Activity>("a row", bytes));
    drop(decode::<Clock>("a row", bytes));
    drop(decode::<Rolling>("a row", bytes));
    drop(decode::<Forecast>("a row", bytes));
    drop(decode::<Vec<Raised>>("a row", bytes));
    drop(decode::<Vec<Life>>("a row", bytes));
    drop(decode::<Vec<Change>>("a row", bytes));
    drop(decode::<SeenRecord>("a row", bytes));
}

/// Floats as they occur, and every other.
fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0..50_u32).prop_map(f64::from),
        2 => (-2_000_000_000..2_000_000_000_i64).prop_map(|micros| micros as f64 / 1e6),
        2 => (0..10_000_u32, 1..80_u32).prop_map(|(sum, count)| f64::from(sum) / f64::from(count)),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => prop::sample::select(vec![0.0, -0.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, 9e15, 1e16, -3.0]),
    ]
}

fn millis() -> impl Strategy<Value = Millis> {
    prop_oneof![
        (1_772_000_000_000..1_773_000_000_000_i64).prop_map(Millis),
        (1_772_000_000..1_773_000_000_i64).prop_map(|second| Millis(second * 1_000)),
        any::<i64>().prop_map(Millis),
    ]
}

fn day() -> impl Strategy<Value = Day> {
    prop_oneof![(20_000..20_500).prop_map(Day), any::<i32>().prop_map(Day)]
}

fn totals() -> impl Strategy<Value = DayTotals> {
    let ones = (any::<u32>(), millis()).prop_map(|(count, last_at)| DayTotals {
        count,
        sum_micros: i128::from(count) * 1_000_000,
        last_micros: 1_000_000,
        last_at,
    });
    let others = (any::<u32>(), any::<i128>(), any::<i64>(), millis(), 0..100_u32).prop_map(
        |(count, sum_micros, last_micros, last_at, shift)| DayTotals {
            count,
            sum_micros: sum_micros >> shift,
            last_micros,
            last_at,
        },
    );
    // Of no gauge.
    let counted = (0..300_u32, 0..5_000_u32).prop_map(|(count, sum)| DayTotals {
        count,
        sum_micros: i128::from(sum) * 1_000_000,
        ..DayTotals::default()
    });
    prop_oneof![ones, others, counted]
}

/// What follows from the other numbers of a signal, as a rule.
fn observed(signal: &SignalState, which: u8) -> Option<f64> {
    let (rest, oldest) = (signal.window_rest, signal.window_oldest);
    let sum = |add: &dyn Fn(&DayTotals) -> f64| {
        signal.open.iter().map(|(_, totals)| add(totals)).sum::<f64>()
    };
    match which {
        0 => None,
        1 => Some(rest + sum(&|totals| totals.sum_micros as f64 / 1e6).max(oldest)),
        2 => Some(rest + sum(&|totals| f64::from(totals.count)).max(oldest)),
        3 => Some(rest / oldest),
        _ => Some(rest),
    }
}

fn signal() -> impl Strategy<Value = SignalState> {
    let days = (
        prop::collection::vec((day(), totals()), 0..4),
        prop::option::of(day()),
        prop::collection::vec((millis(), float()), 0..4),
        prop::option::of((float(), float(), any::<u16>())),
    );
    let numbers =
        (any::<u32>(), float(), float(), any::<i32>(), prop::option::of(float()), any::<i32>());
    (days, numbers, any::<bool>(), 0..5_u8).prop_map(
        |((open, first_day, recent, baseline), numbers, same, which)| {
            let (key, window_rest, window_oldest, points, other, published) = numbers;
            let state = SignalState {
                key: SignalKey(key),
                open,
                first_day,
                recent,
                baseline: baseline.map(|(level, spread, weeks)| StoredBaseline {
                    level,
                    spread,
                    weeks,
                }),
                window_rest,
                window_oldest,
                evidence: None,
                points: Points(points),
                observed: None,
                published: Points(if same { points } else { published }),
            };
            SignalState { observed: other.or(observed(&state, which)), ..state }
        },
    )
}

fn hot() -> impl Strategy<Value = Hot> {
    let times = (
        prop::option::of(millis()),
        prop::option::of(millis()),
        prop::option::of(millis()),
        millis(),
        day(),
        prop::option::of(prop::option::of(millis())),
    );
    let numbers = (any::<[i32; 6]>(), any::<i32>(), prop::option::of(any::<i32>()), any::<u64>());
    let rest = (any::<bool>(), activity(), ".{0,8}", prop::option::of("[a-z]{0,8}"), streams());
    (times, numbers, rest, prop::collection::vec(signal(), 0..5)).prop_map(
        |(times, numbers, rest, signals)| {
            let (first_event_at, last_event_at, held_until, today_ends_at, today, backfill) = times;
            let ([a, b, c, d, e, f], score, published_score, sequence) = numbers;
            let (scheduled, activity, policy_version, segment, streams) = rest;
            Hot {
                policy_version,
                segment,
                first_event_at,
                last_event_at,
                today,
                today_ends_at,
                scheduled,
                held_until,
                backfill: backfill.map(|floor| Backfill { floor, since: today_ends_at }),
                signals,
                streams,
                activity,
                context_points: [a, b, c].map(Points),
                context_published: [d, e, f].map(Points),
                score: Points(score),
                published_score: published_score.map(Points),
                published_base: Points(a),
                sequence,
                ..Hot::default()
            }
        },
    )
}

fn streams() -> impl Strategy<Value = Streams> {
    let mask = prop_oneof![(0..64_u32).prop_map(|bit| 1 << bit), any::<u64>()];
    let weight = prop_oneof![0..10_000_u64, any::<u64>()];
    prop::collection::vec((mask, weight), 0..6).prop_map(Streams::from)
}

fn single() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => (0..200_u16).prop_map(f32::from),
        4 => 0.0..200.0_f32,
        1 => any::<u32>().prop_map(f32::from_bits),
        1 => prop::sample::select(vec![0.0, -0.0, f32::NAN, f32::INFINITY, 16_777_216.0, f32::MIN_POSITIVE]),
    ]
}

fn forecast() -> impl Strategy<Value = Forecast> {
    let limits = (single(), single(), single());
    let limits = limits.prop_map(|(low, expected, high)| Limits { low, expected, high });
    let limits = (any::<u32>().prop_map(SignalKey), limits);
    (day(), prop::collection::vec(limits, 0..5)).prop_map(|(day, limits)| Forecast { day, limits })
}

/// Ids as they are made, and what looks like one.
fn id() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9a-f]{32}", "[0-9a-fA-F]{32}", "[+0-9a-f]{32}", ".{0,9}", "[0-9a-f]{30,34}"]
}

fn raised() -> impl Strategy<Value = Vec<Raised>> {
    let one = (id(), "[a-z_]{0,9}", millis(), prop::option::of(millis()), any::<bool>());
    let one = one.prop_map(|(alert, kind, opened_at, urgent_at, withheld)| Raised {
        alert,
        kind,
        opened_at,
        urgent_at,
        withheld,
        acted_at: urgent_at,
        verdict: urgent_at.map(|at| (withheld, at)),
        over: withheld,
    });
    prop::collection::vec(one, 0..4)
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let one = (id(), "[a-z_]{0,9}", millis(), prop::option::of(millis()), any::<u32>());
    let one = one.prop_map(|(alert, kind, opened_at, until, reopened)| Life {
        alert,
        kind,
        opened_at,
        standing: until.map_or(Standing::Open, Standing::Snoozed),
        said: None,
        came_back: until.into_iter().collect(),
        reopened,
    });
    prop::collection::vec(one, 0..4)
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let stage = prop_oneof![
        Just(Stage::Followed),
        day().prop_map(Stage::Over),
        day().prop_map(Stage::Normal)
    ];
    let days = (any::<u32>(), day(), day(), stage);
    let one = (days, float(), float(), any::<[bool; 2]>(), any::<u16>()).prop_map(
        |((key, since, found, stage), before, after, [risk, held], days_back)| Change {
            signal: SignalKey(key),
            since,
            found,
            before,
            after,
            risk,
            held,
            days_back,
            stage,
        },
    );
    prop::collection::vec(one, 0..4)
}

fn activity() -> impl Strategy<Value = Activity> {
    (day(), any::<u128>(), 0..=128_u32, prop::option::of("[a-zé]{0,8}")).prop_map(
        |(newest, bits, shift, role)| Activity {
            newest,
            bits: bits.checked_shr(shift).unwrap_or(0),
            role,
        },
    )
}

fn ring() -> impl Strategy<Value = Ring> {
    let values = prop_oneof![
        prop::collection::vec(float(), 0..=RING_DAYS),
        // Days that repeat.
        prop::collection::vec((float(), 1..40_usize), 0..8).prop_map(|runs| runs
            .into_iter()
            .flat_map(|(value, count)| std::iter::repeat_n(value, count))
            .collect()),
    ];
    values.prop_map(|values: Vec<f64>| {
        let mut ring = Ring::default();
        values.into_iter().for_each(|value| ring.push(value));
        ring
    })
}

fn seen() -> impl Strategy<Value = SeenRecord> {
    let hashes = prop::collection::btree_set(any::<u64>(), 1..60);
    prop::collection::vec((any::<i64>(), hashes), 0..4).prop_map(|hours| SeenRecord {
        hours: hours
            .into_iter()
            .map(|(hour, hashes)| (hour, hashes.into_iter().collect()))
            .collect(),
    })
}

fn rolling() -> impl Strategy<Value = Rolling> {
    let sum = prop_oneof![
        (0..100_i64).prop_map(|whole| whole * 1_000_000),
        -SUM_MICROS_MAX..=SUM_MICROS_MAX
    ];
    let of_day = (day(), sum).prop_map(|(day, micros)| DaySum { day, micros });
    let days = prop::collection::vec(of_day, 0..6);
    let signal =
        (any::<u16>(), day(), any::<i32>(), days).prop_map(|(key, as_of, points, days)| {
            RollingSignal {
                key,
                as_of,
                published: Points(points),
                days,
                ..RollingSignal::default()
            }
        });
    let signals = prop::collection::vec(signal, 0..5);
    let published = prop::option::of((1..u64::MAX, float()));
    (millis(), day(), millis(), published, signals).prop_map(
        |(first_at, day, last_at, published, signals)| Rolling {
            first_at,
            day,
            last_at,
            sequence: published.map_or(0, |(sequence, _)| sequence),
            published: published.map(|(_, score)| score),
            signals,
            ..Rolling::default()
        },
    )
}

proptest! {
    #[test]
    fn hot_rows_read_back(row in hot()) {
        round_trip(&row)?;
    }

    #[test]
    fn histories_read_back(newest in prop::option::of(day()), rings in prop::collection::vec((any::<u32>(), ring()), 0..5)) {
        let rings = rings.into_iter().map(|(key, ring)| (SignalKey(key), ring)).collect();
        round_trip(&History { newest, rings, older: Vec::new() })?;
    }

    #[test]
    fn small_rows_read_back(
        activity in activity(), record in seen(), times in any::<[Option<i64>; 3]>(), ticked: bool
    ) {
        let [newest, fired, horizon] = times.map(|time| time.map(Millis));
        round_trip(&activity)?;
        round_trip(&record)?;
        round_trip(&Clock { newest, fired, ticked, horizon })?;
    }

    #[test]
    fn rolling_rows_read_back(row in rolling()) {
        round_trip(&row)?;
    }

    #[test]
    fn forecasts_read_back(row in forecast()) {
        round_trip(&row)?;
    }

    #[test]
    fn lists_read_back(raised in raised(), lives in lives(), changes in changes()) {
        round_trip(&raised)?;
        round_trip(&lives)?;
        round_trip(&changes)?;
    }

    /// Also bytes that begin well: a row with one byte changed.
    #[test]
    fn no_bytes_make_a_reader_panic(
        version in 0..6_u8, bytes in prop::collection::vec(any::<u8>(), 0..300),
        (row, sums, ahead) in (hot(), rolling(), forecast()),
        (raised, lives, changes) in (raised(), lives(), changes()),
        rings in prop::collection::vec(ring(), 1..4),
        at: prop::sample::Index, byte: u8
    ) {
        read_all(&[&[version], bytes.as_slice()].concat());
        read_all(&bytes);
        let rings = rings.into_iter().map(|ring| (SignalKey(1), ring)).collect();
        let history = History { newest: None, rings, older: Vec::new() };
        for format in Format::ALL {
            let of_account = [encode(&row, format), encode(&history, format), encode(&sums, format), encode(&ahead, format)];
            let lists = [encode(&raised, format), encode(&lives, format), encode(&changes, format)];
            for mut value in of_account.into_iter().chain(lists) {
                let place = at.index(value.len());
                read_all(&value[..place]);
                value[place] = byte;
                read_all(&value);
            }
        }
    }
}

/// What formats 2 and 4 are for: a year's quarter of a small team's logins, at some bits a day.
#[test]
fn small_counts_take_bits_and_not_bytes() {
    let mut ring = Ring::default();
    for day in 0..RING_DAYS {
        ring.push(if day % 7 < 5 { (day * 7 % 5) as f64 } else { 0.0 });
    }
    let quiet = Ring::default();
    let still = Ring::from(vec![25.0; RING_DAYS]);
    let unknown = Ring::from(vec![f64::NAN; RING_DAYS]);
    let rings = [ring, quiet, still, unknown].map(|ring| (SignalKey(7), ring)).to_vec();
    let history = History { newest: Some(Day(20_000)), rings, older: Vec::new() };
    let bytes = Format::ALL.map(|format| encode(&history, format).len());
    assert!(bytes[0] >= 398 && bytes[1] < 80 && bytes[3] < 74, "{bytes:?}");
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % end
    }
}

/// Bits of a history with one ring of such days.
fn ring_bits(day: impl Fn(&mut Random) -> f64) -> usize {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let days: Vec<f64> = (0..RING_DAYS).map(|_| day(&mut random)).collect();
    let rings = vec![(SignalKey(1), Ring::from(days))];
    encode(&History { newest: None, rings, older: Vec::new() }, Format::V4).len() * 8
}

/// Rings as people make them: counts, large ones, amounts of money, means of some events, days without a measurement.
#[test]
fn days_take_about_what_they_tell() {
    // Each of so many equally likely values, at the logarithm of how many there are, and a little.
    let allowed = |values: f64| (RING_DAYS as f64 * (values.log2() + 0.7) + 160.0) as usize;
    let counts = ring_bits(|random| random.below(8) as f64);
    assert!(counts < allowed(8.0), "{counts}");
    let large = ring_bits(|random| 5_000.0 + random.below(1_000) as f64);
    assert!(large < allowed(1_000.0), "{large}");
    let money = ring_bits(|random| (900 + random.below(200)) as f64 / 100.0);
    assert!(money < allowed(200.0), "{money}");
    let means = ring_bits(|random| (10 + random.below(20)) as f64 / 3.0);
    assert!(means < allowed(40.0), "{means}");
    let measured = ring_bits(|random| match random.below(2) {
        0 => f64::NAN,
        _ => random.below(16) as f64,
    });
    assert!(measured < allowed(8.0), "{measured}");
}
