//! What is due when event time passes: closes and judgements of accounts' days, and what a partition tells of its cohorts.
//!
//! All of it is one stream, in the order of (due, account). An input takes its place in that stream by its time `T`, at most
//! `close.lag_minutes` late: before it is applied, everything is worked off that is due `lag_minutes` before `T`; of what is due
//! from then to `T`, only so much as `close.per_event` or `close.per_tick` says. So the end of a day, when everything is due at
//! once, is spread over the inputs that follow, and a worker that has none lets time be recorded. Since days are judged
//! `close.settle_minutes` after their end, and the lag is never longer, a judgement finds its cohort's day as complete as ever.
//!
//! # Invariants
//! - What comes out is a function of the inputs and of their order. [`Core::close_before`] may be called any number of times with
//!   any number of timers, and what it did may be committed: where the work was cut changes nothing.
//! - An unfinished cut is in the state: the clock's `newest` has moved, and `fired` lies further behind than the lag.

use crate::event::Input;
use crate::fleet;
use crate::output::Output;
use crate::state::{Clock, State};
use crate::step::Core;
use crate::time::{HOUR_MS, Millis};

/// What a bounded piece of work came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Days of accounts that were closed.
    pub days_closed: u32,
    /// Whether nothing is left of what was asked for.
    pub done: bool,
}

impl Core {
    /// Works off at most `timers_max` of what has to be worked off before an input can be applied. Once that is done, applying it takes no more
    /// than `close.per_event` or `close.per_tick` timers and its own account's days.
    pub fn close_before<S: State>(
        &self,
        state: &mut S,
        input: &Input,
        received_at: Millis,
        timers_max: u32,
        out: &mut Vec<Output>,
    ) -> Result<Swept, S::Error> {
        if self.policy.rolling.enabled {
            return Ok(Swept { done: true, ..Swept::default() });
        }
        let to = match input {
            Input::Event(event) if self.refuse(state, event, received_at)?.is_none() => {
                Some(event.occurred_at)
            }
            Input::Tick => Some(received_at),
            Input::Event(_)
            | Input::Profile(_)
            | Input::Outcome(_)
            | Input::Forget(_)
            | Input::Calendar { .. }
            | Input::Promotion { .. }
            | Input::Challenger { .. }
            | Input::Cohort { .. } => None,
        };
        match to.or(state.clock().newest) {
            Some(to) => self.close_to(state, to, timers_max, out),
            None => Ok(Swept { done: true, ..Swept::default() }),
        }
    }

    /// Moves the partition's clock to `to` and works off at most `timers_max` of what is due `close.lag_minutes` before.
    pub fn close_to<S: State>(
        &self,
        state: &mut S,
        to: Millis,
        timers_max: u32,
        out: &mut Vec<Output>,
    ) -> Result<Swept, S::Error> {
        let before = self.in_force(state.cohorts().promotions_mut());
        let cut = before.finish_cut(state, timers_max, out)?;
        if !cut.done || state.clock().newest.is_some_and(|newest| newest >= to) {
            return Ok(cut);
        }
        let clock = state.clock();
        let horizon = self.watermark(to).plus(-self.policy.grace_ms());
        let horizon = clock.horizon.max(Some(horizon));
        let fired = clock.fired.or(Some(self.watermark(to)));
        state.set_clock(Clock { newest: Some(to), fired, horizon, ..clock });
        state.cohorts().promotions_mut().begin(to);
        state.cohorts().challengers_mut().begin(to);
        let after = self.in_force(state.cohorts().promotions_mut());
        let swept = after.finish_cut(state, timers_max, out)?;
        Ok(Swept { days_closed: cut.days_closed + swept.days_closed, ..swept })
    }

    /// Works off what comes before the next input by the clock as it stands. It must be done before the clock moves on: what is told of
    /// cohorts, and what is too old for that, goes by the clock.
    fn finish_cut<S: State>(
        &self,
        state: &mut S,
        timers_max: u32,
        out: &mut Vec<Output>,
    ) -> Result<Swept, S::Error> {
        match state.clock().newest {
            Some(newest) if self.is_closing(state.clock()) => {
                let limit = self.watermark(newest).plus(-self.policy.close_lag_ms());
                self.sweep(state, limit, timers_max, out)
            }
            Some(_) | None => Ok(Swept { done: true, ..Swept::default() }),
        }
    }

    /// Moves the partition's clock and works off what has to be, and of the rest as much as the input may.
    pub(crate) fn advance<S: State>(
        &self,
        state: &mut S,
        to: Millis,
        timers_max: u32,
        out: &mut Vec<Output>,
    ) -> Result<u32, S::Error> {
        let before = self.close_to(state, to, u32::MAX, out)?.days_closed;
        // History that is filled in moves no clock, and its accounts' days are closed by their own events.
        if state.clock().newest.is_some_and(|newest| newest > to) {
            return Ok(before);
        }
        let core = self.in_force(state.cohorts().promotions_mut());
        Ok(before + core.sweep(state, self.watermark(to), timers_max, out)?.days_closed)
    }

    /// Whether work was cut that comes before the next input.
    #[must_use]
    pub fn is_closing(&self, clock: Clock) -> bool {
        self.close_behind_ms(clock) > self.policy.close_lag_ms()
    }

    /// By how much event time the closes lie behind, in milliseconds; 0 where nothing is due.
    #[must_use]
    pub fn close_behind_ms(&self, clock: Clock) -> i64 {
        let behind =
            clock.newest.zip(clock.fired).map(|(newest, fired)| self.watermark(newest).0 - fired.0);
        behind.unwrap_or(0).max(0)
    }

    /// Timers due at or before this instant are due.
    #[must_use]
    pub fn watermark(&self, newest: Millis) -> Millis {
        newest.plus(-self.policy.lateness_ms())
    }

    /// Works off at most so much of what is due up to `limit`.
    fn sweep<S: State>(
        &self,
        state: &mut S,
        limit: Millis,
        timers_max: u32,
        out: &mut Vec<Output>,
    ) -> Result<Swept, S::Error> {
        let clock = state.clock();
        let watermark = self.watermark(clock.newest.unwrap_or(limit));
        let correctable = watermark.plus(-fleet::CORRECTED_HOURS * HOUR_MS);
        let mut fired = clock.fired.unwrap_or(watermark);
        let mut tell_at = fleet::told_after(fired.max(correctable));
        let mut swept = Swept::default();
        let mut left = timers_max;
        loop {
            let due = state.next_due(limit.min(tell_at))?;
            if due.is_none() && tell_at > limit {
                fired = fired.max(limit);
                swept.done = true;
                break;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            let Some((due, id)) = due else {
                self.tell(state.cohorts(), tell_at, out);
                fired = fired.max(tell_at);
                tell_at = fleet::told_after(tell_at);
                continue;
            };
            let Some(mut account) = state.take(&id)? else {
                // A timer of nobody would be due for ever.
                fired = fired.max(limit);
                swept.done = true;
                break;
            };
            self.realign(&mut account);
            swept.days_closed += self.pass_time(&mut account, state.cohorts(), out);
            state.put(account)?;
            // What is told at the very instant is still to be told.
            fired = fired.max(due.min(tell_at.plus(-1)));
        }
        if clock.fired != Some(fired) {
            state.set_clock(Clock { fired: Some(fired), ..clock });
        }
        Ok(swept)
    }
}
