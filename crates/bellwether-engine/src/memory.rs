//! One memory budget for the process.
//!
//! Every part that can grow has a bound of its own, and the bounds add up to the budget: block cache and write buffers, decoded
//! accounts, the queues of the Kafka clients, the batch in hand, the recent past in the read model. What is left (allocator, threads,
//! a few words per account) is watched: while the process is larger than its budget, batches and the cache of accounts shrink, so
//! that input waits in the log instead of in memory.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bellwether_store::AccountMemory;

/// The strongest throttling: a sixteenth.
const DIVISOR_MAX: usize = 16;

/// The budget, and how far work is throttled to keep it.
#[derive(Debug)]
pub struct Memory {
    budget_bytes: usize,
    accounts: AccountMemory,
    accounts_bytes: usize,
    divisor: AtomicUsize,
    /// When the process is looked at next, in milliseconds of a worker's clock.
    due_ms: AtomicU64,
}

impl Memory {
    /// A budget for the whole process, and the part of it that is for decoded accounts.
    #[must_use]
    pub fn new(budget_bytes: usize, accounts: AccountMemory, accounts_bytes: usize) -> Memory {
        Memory {
            budget_bytes,
            accounts,
            accounts_bytes,
            divisor: AtomicUsize::new(1),
            due_ms: AtomicU64::new(0),
        }
    }

    /// No budget: nothing is watched, nothing is throttled.
    #[must_use]
    pub fn unbounded() -> Memory {
        Memory::new(usize::MAX, AccountMemory::new(0), 0)
    }

    /// Whether the process has to be watched.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.budget_bytes != usize::MAX
    }

    /// Whether it is time to look at the process again; then it is for whoever asked.
    #[must_use]
    pub fn is_due(&self, now: Duration, every: Duration) -> bool {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let due = self.due_ms.load(Ordering::Relaxed);
        let next = ms(now).saturating_add(ms(every));
        ms(now) >= due
            && self.due_ms.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The budget in bytes.
    #[must_use]
    pub fn budget_bytes(&self) -> usize {
        self.budget_bytes
    }

    /// Bytes of decoded accounts.
    #[must_use]
    pub fn accounts_bytes(&self) -> usize {
        self.accounts.usage_bytes()
    }

    /// By how much work is throttled: 1 is not at all.
    #[must_use]
    pub fn divisor(&self) -> usize {
        self.divisor.load(Ordering::Relaxed)
    }

    /// Told the size of the process, throttles or lets go, a step at a time.
    pub fn observe(&self, resident_bytes: usize) {
        let before = self.divisor();
        let after = if resident_bytes > self.budget_bytes {
            (before * 2).min(DIVISOR_MAX)
        } else if resident_bytes < self.budget_bytes / 10 * 9 {
            (before / 2).max(1)
        } else {
            before
        };
        if after != before {
            tracing::info!(
                resident_bytes,
                budget_bytes = self.budget_bytes,
                divisor = after,
                "batches and caches follow the memory in use"
            );
            self.divisor.store(after, Ordering::Relaxed);
            self.accounts.set_max(self.accounts_bytes / after);
        }
    }

    /// The part of a bound that may be used at present; at least one.
    #[must_use]
    pub fn part_of(&self, bound: usize) -> usize {
        (bound / self.divisor()).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_throttled_while_the_process_is_too_large_and_let_go_after_it() {
        let memory = Memory::new(1_000, AccountMemory::new(100), 100);
        assert_eq!(memory.part_of(5_000), 5_000);
        memory.observe(1_001);
        assert_eq!(memory.part_of(5_000), 2_500);
        (0..10).for_each(|_| memory.observe(5_000));
        assert_eq!((memory.divisor(), memory.part_of(5_000), memory.part_of(3)), (16, 312, 1));
        memory.observe(950);
        assert_eq!(memory.divisor(), 16, "just below the budget nothing changes");
        (0..10).for_each(|_| memory.observe(500));
        assert_eq!(memory.part_of(5_000), 5_000);
    }
}
