//! The model broker as a standby sees it.

use std::sync::{Arc, Mutex};

use bellwether_engine::log::{LogError, Read, Record, Topic};
use bellwether_engine::standby::Follow;

use crate::broker::Broker;
use crate::log::lock;

/// Reads what is committed.
#[derive(Debug)]
pub(crate) struct ModelFollow(pub(crate) Arc<Mutex<Broker>>);

impl Follow for ModelFollow {
    fn partitions(&mut self, _topic: &str) -> Result<i32, LogError> {
        Ok(lock(&self.0).partitions())
    }

    fn follow(
        &mut self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError> {
        let model = lock(&self.0);
        let place = (topic.clone(), partition);
        let end = model.stable_end(&place);
        let (mut next, mut left) = (from, records_max);
        while next < end && left > 0 {
            if let Some(record) = model.committed_record(&place, next) {
                each(record.clone())?;
                left -= 1;
            }
            next += 1;
        }
        Ok(Read::of_this_call(next.min(end), end))
    }
}
