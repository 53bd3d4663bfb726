//! The challenger of a partition, as the metrics name it.

use bellwether_core::id::EventId;
use bellwether_core::step::Core;

use super::Task;
use crate::metrics::Metrics;

/// A challenger that the metrics name; one without a model cannot be read.
pub(super) struct Named {
    of: EventId,
    model: Option<String>,
}

impl Task {
    /// After a commit: names the challenger that scores now, where it is another one.
    pub(super) fn name_challenger(&mut self, core: &Core, partition: i32, metrics: &Metrics) {
        let challengers = self.store.known_cohorts().challengers();
        let now = challengers.current().filter(|(_, of)| of.model.is_some());
        if now.map(|(id, _)| id) == self.challenger.as_ref().map(|known| &known.of) {
            return;
        }
        self.drop_challenger(partition, metrics);
        self.challenger = core.challenger_version(challengers).map(|(of, model)| {
            match &model {
                Ok(model) => {
                    tracing::info!(partition, model, shadow = %of, "a challenger scores beside the champion");
                    metrics.challenger(partition, model);
                }
                Err(error) => {
                    tracing::warn!(partition, error, shadow = %of, "the challenger cannot be read: nothing scores beside the champion");
                }
            }
            metrics.challenger_unreadable(partition, model.is_err());
            Named { of, model: model.ok() }
        });
    }

    /// The partition is given up, or the challenger is another one.
    pub(super) fn drop_challenger(&self, partition: i32, metrics: &Metrics) {
        if let Some(known) = &self.challenger {
            metrics.drop_challenger(partition, known.model.as_deref());
        }
    }
}
