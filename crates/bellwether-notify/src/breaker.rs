//! Whether a sink may be called: a circuit breaker, a pause that it asked for, and a bound on what is under way. One per sink, so that one
//! sink that hangs holds up no other.

use crate::policy::Breaker as Limits;

/// What the breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Closed,
    /// Nothing.
    Open,
    /// One delivery, as a trial.
    HalfOpen,
}

impl State {
    /// Every state.
    pub const ALL: [State; 3] = [State::Closed, State::Open, State::HalfOpen];

    /// The state as it stands in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        }
    }
}

/// The gate to one sink.
#[derive(Debug, Clone)]
pub struct Gate {
    limits: Limits,
    in_flight_max: usize,
    in_flight: usize,
    /// Failures in a row.
    failures: u32,
    /// Set while open: when a trial may be made.
    open_until_ms: Option<i64>,
    /// Until when the sink asked to be left alone.
    paused_until_ms: i64,
}

impl Gate {
    /// A closed breaker: everything may pass.
    #[must_use]
    pub fn new(limits: &Limits, in_flight_max: usize) -> Gate {
        Gate {
            limits: limits.clone(),
            in_flight_max,
            in_flight: 0,
            failures: 0,
            open_until_ms: None,
            paused_until_ms: i64::MIN,
        }
    }

    /// Its state.
    #[must_use]
    pub fn state(&self, now_ms: i64) -> State {
        match self.open_until_ms {
            None => State::Closed,
            Some(until) if now_ms < until => State::Open,
            Some(_) => State::HalfOpen,
        }
    }

    /// Attempts under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether an attempt may begin.
    #[must_use]
    pub fn admits(&self, now_ms: i64) -> bool {
        self.admits_after(0, now_ms)
    }

    /// Whether one more may begin, when so many are about to.
    #[must_use]
    pub fn admits_after(&self, chosen: usize, now_ms: i64) -> bool {
        let room = match self.state(now_ms) {
            State::Closed => self.in_flight_max,
            State::Open => 0,
            State::HalfOpen => 1,
        };
        self.in_flight + chosen < room && now_ms >= self.paused_until_ms
    }

    /// An attempt begins.
    pub fn began(&mut self) {
        self.in_flight += 1;
    }

    /// An attempt ended: whether the sink answered as one that works does.
    pub fn ended(&mut self, works: bool, now_ms: i64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if works {
            self.failures = 0;
            self.open_until_ms = None;
            return;
        }
        self.failures = self.failures.saturating_add(1);
        // What was under way when it opened does not put the trial off.
        let trial = self.state(now_ms) == State::HalfOpen;
        if trial || (self.open_until_ms.is_none() && self.failures >= self.limits.failures) {
            let open_ms = i64::try_from(self.limits.open_ms).unwrap_or(i64::MAX);
            self.open_until_ms = Some(now_ms.saturating_add(open_ms));
        }
    }

    /// The sink asked to be left alone for a while.
    pub fn pause(&mut self, until_ms: i64) {
        self.paused_until_ms = self.paused_until_ms.max(until_ms);
    }

    /// When [`Gate::admits`] may change by the passing of time alone.
    #[must_use]
    pub fn next_ms(&self, now_ms: i64) -> Option<i64> {
        [self.open_until_ms, Some(self.paused_until_ms)]
            .into_iter()
            .flatten()
            .filter(|at| *at > now_ms)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gate() -> Gate {
        Gate::new(&Limits { failures: 3, open_ms: 1_000 }, 4)
    }

    fn attempt(gate: &mut Gate, works: bool, now_ms: i64) {
        gate.began();
        gate.ended(works, now_ms);
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_a_trial_that_works() {
        let mut gate = gate();
        attempt(&mut gate, false, 0);
        attempt(&mut gate, false, 0);
        attempt(&mut gate, true, 0);
        attempt(&mut gate, false, 0);
        attempt(&mut gate, false, 0);
        assert_eq!(gate.state(0), State::Closed, "not in a row");
        attempt(&mut gate, false, 0);
        assert_eq!((gate.state(999), gate.admits(999)), (State::Open, false));
        assert_eq!((gate.state(1_000), gate.admits(1_000)), (State::HalfOpen, true));
        gate.began();
        assert!(!gate.admits(1_000), "one trial at a time");
        gate.ended(false, 1_500);
        assert_eq!((gate.state(2_400), gate.next_ms(2_400)), (State::Open, Some(2_500)));
        attempt(&mut gate, true, 2_500);
        assert_eq!(gate.state(2_500), State::Closed);
    }

    #[test]
    fn a_sink_that_asks_for_a_pause_gets_it() {
        let mut gate = gate();
        gate.pause(700);
        assert!(!gate.admits(699) && gate.admits(700));
        gate.pause(500);
        assert!(!gate.admits(699), "a shorter one does not end it");
    }

    proptest! {
        /// Whatever happens, no more is under way than may be, and an open breaker lets something through again after its time.
        #[test]
        fn attempts_are_bounded_and_never_locked_out(steps in proptest::collection::vec((any::<bool>(), 0_i64..2_000), 1..200)) {
            let (mut gate, mut now) = (gate(), 0);
            for (works, passes) in steps {
                now += passes;
                while gate.admits(now) {
                    gate.began();
                    prop_assert!(gate.in_flight() <= 4);
                }
                if gate.in_flight() > 0 {
                    gate.ended(works, now);
                }
            }
            while gate.in_flight() > 0 {
                gate.ended(false, now);
            }
            prop_assert!(gate.admits(now + 1_000));
        }
    }
}
