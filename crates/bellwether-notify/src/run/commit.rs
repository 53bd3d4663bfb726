//! What is remembered: one transaction of rows, parked deliveries and positions.

use bellwether_engine::log::{Append, Log, LogError, Remedy, Topic, Transaction};

use super::{Notifier, rows};
use crate::delivery::Parking;
use crate::planner::Suppressed;

impl Notifier {
    /// Commits what changed. False where a rebalance came in between: everything was read back then.
    pub(super) fn commit(&mut self, log: &mut dyn Log) -> Result<bool, LogError> {
        let parked = self.planner.take_parked();
        let mut appends: Vec<Append> = self
            .planner
            .take_changes()
            .into_iter()
            .map(|(partition, key, payload)| Append {
                topic: self.settings.state.clone(),
                partition,
                key: Some(key.into_bytes()),
                payload,
                headers: Vec::new(),
                timestamp_ms: None,
            })
            .collect();
        appends
            .extend(parked.iter().map(|parked| rows::parked_record(&self.settings.parked, parked)));
        let unreadable = std::mem::take(&mut self.unreadable);
        appends.extend(
            unreadable
                .iter()
                .map(|(record, detail)| rows::unreadable(&self.settings.parked, record, detail)),
        );
        let offsets = std::mem::take(&mut self.offsets).into_iter();
        let offsets: Vec<(Topic, i32, i64)> = offsets
            .map(|(partition, next)| (self.settings.alerts.clone(), partition, next))
            .collect();
        if appends.is_empty() && offsets.is_empty() {
            return Ok(true);
        }
        match log.commit(&Transaction { appends, offsets }) {
            Ok(_) => {}
            Err(error) if error.remedy == Remedy::Rewind => {
                self.read_back(log)?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        for parked in &parked {
            self.process.metrics.alerts_parked(parked.reason.as_str(), 1);
        }
        let count = u64::try_from(unreadable.len()).unwrap_or(u64::MAX);
        self.process.metrics.alerts_parked(Parking::Undecodable.as_str(), count);
        for (reason, count) in self.planner.take_suppressed() {
            self.process.metrics.alerts_suppressed(reason.as_str(), count);
            if reason == Suppressed::ParkingFull {
                self.unparked += count;
            }
        }
        Ok(true)
    }

    /// Nothing was committed, and the log goes on: all that is not in it is forgotten.
    fn read_back(&mut self, log: &mut dyn Log) -> Result<(), LogError> {
        let partitions: Vec<i32> = self.planner.desks().keys().copied().collect();
        self.drop_all();
        for partition in &partitions {
            self.restore(log, *partition)?;
        }
        log.rewind(&partitions)
    }
}
