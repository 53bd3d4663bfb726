//! Closes and judgements that come before a record are worked off in bounded steps, each committed: the partition's records wait, those
//! of others have their turn in between, and a worker that takes over goes on from what was committed.

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::due::Swept;
use bellwether_core::state::State as _;
use bellwether_store::error::StoreError;
use bellwether_store::kill_point;

use super::{Batch, For, Settings, Task, Ticks, Worker, WorkerError, of};
use crate::clock::Clock;
use crate::log::Log;

/// Timers that are counted for the metric, at most: counting is read from RocksDB, partition by partition while events wait, and how far closes
/// lie behind is told by the lag beside it.
const COUNTED_MAX: usize = 1_000;
/// A partition without records for so long has time recorded where closes lie behind: a commit or two, so that events which follow each other
/// closely do not find the worker at it each time.
pub(super) const DRAIN_QUIET: Duration = Duration::from_millis(25);
/// How long a poll waits meanwhile.
pub(super) const DRAIN_POLL: Duration = Duration::from_millis(5);

/// How much may be worked off in one go.
pub(super) struct Bounds<'a> {
    clock: &'a dyn Clock,
    timers_max: u32,
    until: Duration,
}

impl Bounds<'_> {
    pub(super) fn of<'a>(
        settings: &Settings,
        clock: &'a dyn Clock,
        started: Duration,
    ) -> Bounds<'a> {
        let until = started.saturating_add(settings.close_time_max);
        Bounds { clock, timers_max: settings.close_timers_max, until }
    }

    /// Takes steps of so many timers until nothing is left, or the time is up.
    pub(super) fn sweep(
        &self,
        mut step: impl FnMut(u32) -> Result<Swept, StoreError>,
    ) -> Result<Swept, StoreError> {
        let mut days_closed = 0;
        loop {
            let swept = step(self.timers_max)?;
            days_closed += swept.days_closed;
            if swept.done || self.clock.elapsed() >= self.until {
                return Ok(Swept { days_closed, ..swept });
            }
        }
    }
}

impl Worker {
    /// A step for the partitions whose records wait for closes, in one transaction. Those that are through take their records again.
    pub(super) fn close_some(&mut self, log: &mut dyn Log) -> Result<(), WorkerError> {
        if !self.is_closing() {
            return Ok(());
        }
        let mut batch = Batch { started: self.clock.elapsed(), ..Batch::default() };
        kill_point::pass("close-step");
        let closed = self.close_step(&mut batch);
        let closed = closed.and_then(|through| self.commit(log, batch).map(|()| through));
        let Some(through) = self.or_rewound(log, closed)? else { return Ok(()) };
        for partition in through {
            self.resume(log, partition)?;
        }
        Ok(())
    }

    /// Whether records of any partition wait for closes.
    pub(super) fn is_closing(&self) -> bool {
        self.tasks.values().any(|task| task.waits_for(For::Closes))
    }

    /// Whether time is about to be recorded because closes lie behind.
    pub(super) fn is_draining(&self) -> bool {
        let now_ms = self.clock.now_ms();
        let drains = |task: &Task| task.is_live(now_ms) && task.is_behind(&self.core);
        self.settings.ticks != Ticks::Off && self.tasks.values().any(drains)
    }

    /// Gives every waiting partition its turn; those that are through.
    fn close_step(&mut self, batch: &mut Batch) -> Result<Vec<i32>, WorkerError> {
        let mut through = Vec::new();
        let bounds = Bounds::of(&self.settings, &*self.clock, batch.started);
        let waiting = self.tasks.iter_mut().filter(|(_, task)| task.waits_for(For::Closes));
        for (&partition, task) in waiting {
            let Some(waiting) = &task.waiting else { continue };
            // Positions that do not move: with them the log refuses a worker that has lost the partition.
            let positions = waiting.offsets.iter();
            let places = positions.map(|(topic, at)| ((Arc::clone(topic), partition), *at));
            batch.offsets.extend(places);
            let outputs = batch.outputs.entry(partition).or_default();
            let newest = task.store.clock().newest.unwrap_or_default();
            let store = &mut task.store;
            let swept = bounds
                .sweep(|timers_max| self.core.close_to(store, newest, timers_max, outputs))
                .map_err(of(partition))?;
            batch.days_closed += u64::from(swept.days_closed);
            through.extend(swept.done.then_some(partition));
        }
        self.shared.metrics.close_took(self.clock.elapsed().saturating_sub(batch.started));
        Ok(through)
    }

    /// Shows how far closes lie behind.
    pub(super) fn report_closes(&self) -> Result<(), WorkerError> {
        for (&partition, task) in &self.tasks {
            let clock = task.store.clock();
            let behind_ms = self.core.close_behind_ms(clock);
            let pending = match clock.newest.filter(|_| behind_ms > 0) {
                Some(newest) => task.store.due(self.core.watermark(newest), COUNTED_MAX),
                None => Ok(0),
            };
            let pending = pending.map_err(of(partition))?;
            self.shared.metrics.close_behind(partition, pending, behind_ms);
        }
        Ok(())
    }
}
