//! The machine's clocks, behind a trait: the engine asks for time here and nowhere else, so a simulation decides it.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time as the engine uses it. No decision about an account depends on it: those follow recorded time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Time since some instant in the past; never goes back.
    fn elapsed(&self) -> Duration;

    /// Milliseconds since 1970 by the calendar.
    fn now_ms(&self) -> i64;

    /// Waits.
    fn sleep(&self, duration: Duration);
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn elapsed(&self) -> Duration {
        started().0.elapsed()
    }

    fn now_ms(&self) -> i64 {
        now_ms()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// When the process first asked for the time, by both clocks.
fn started() -> (Instant, i64) {
    static STARTED: OnceLock<(Instant, i64)> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (Instant::now(), i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    })
}

/// Milliseconds since 1970, counted on from the calendar time at which the process started: when somebody sets the machine's
/// clock, nothing changes until a restart.
#[must_use]
pub fn now_ms() -> i64 {
    let (instant, calendar_ms) = started();
    calendar_ms.saturating_add(i64::try_from(instant.elapsed().as_millis()).unwrap_or(i64::MAX))
}
