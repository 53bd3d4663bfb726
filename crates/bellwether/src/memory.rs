//! How `engine.memory_mib` is divided. The parts and a reserve for everything else add up to it.

use bellwether_engine::kafka::KafkaOptions;
use bellwether_engine::memory::Memory;
use bellwether_engine::read_model::Limits;
use bellwether_store::AccountMemory;
use bellwether_store::task::StoreOptions;

use crate::config::{Config, Standby};

/// See [`Division::batch_bytes`].
const BATCH_BYTES_MIN: usize = 256 << 10;

/// Bounds of the parts.
pub(crate) struct Division {
    total: usize,
    accounts: usize,
    read_model: usize,
    stores: usize,
    /// All queues of all Kafka clients.
    kafka: usize,
    /// The batches of all workers.
    batches: usize,
}

impl Division {
    /// Of sixteen parts, three are left to threads, the allocator and what is small.
    pub(crate) fn of(config: &Config, on_kafka: bool) -> Division {
        let total = config.engine.memory_mib << 20;
        let part = total / 16;
        let kafka = if on_kafka { 4 * part } else { 0 };
        Division {
            total,
            accounts: 3 * part,
            read_model: part,
            stores: 8 * part - kafka,
            kafka,
            batches: part,
        }
    }

    /// How stores are opened, and the budget that watches over all.
    pub(crate) fn open(&self, config: &Config) -> (StoreOptions, Memory) {
        let accounts = AccountMemory::new(self.accounts);
        let memory = Memory::new(self.total, accounts.clone(), self.accounts);
        let shared = bellwether_store::Shared::new(self.stores);
        (StoreOptions { shared, accounts, format: config.state.format() }, memory)
    }

    /// What the read model keeps.
    pub(crate) fn limits(&self) -> Limits {
        Limits::within(self.read_model)
    }

    /// What the changes and outputs of a worker's batch may take; never so little that a batch is not worth its transaction.
    pub(crate) fn batch_bytes(&self, config: &Config) -> usize {
        (self.batches / usize::from(config.kafka.workers) / 2).max(BATCH_BYTES_MIN)
    }

    /// Bounds the queues of a worker's clients: of ten parts three to fetch ahead, four to send, one and a half to each reader.
    /// A standby reads as a worker does, and takes a share like one.
    pub(crate) fn bound(&self, config: &Config, options: &mut KafkaOptions) {
        let workers = usize::from(config.kafka.workers);
        let clients = workers + usize::from(config.kafka.standby == Standby::All);
        let kib = |bytes: usize| u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        let share = self.kafka / clients;
        options.consumer_queue_kib_max = kib(share / 10 * 3);
        options.producer_queue_kib_max = kib(share / 10 * 4);
        options.reader_queue_kib_max = kib(share / 20 * 3);
        // A batch is in memory about four times: as records, as inputs (these are bounded here), as changes and outputs, and those on
        // their way to the brokers (`batch_bytes`).
        options.batch_kib_max = kib(self.batches / workers / 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_to_less_than_the_whole() {
        for (on_kafka, workers) in [(true, 1), (true, 64), (false, 1)] {
            let mut config = Config::default();
            config.kafka.workers = workers;
            config.kafka.standby = Standby::All;
            let parts = Division::of(&config, on_kafka);
            let mut options = KafkaOptions::default();
            parts.bound(&config, &mut options);
            let client = options.consumer_queue_kib_max
                + options.producer_queue_kib_max
                + 2 * options.reader_queue_kib_max;
            let clients = (usize::from(workers) + 1) * ((client as usize) << 10);
            let queues = if on_kafka { clients } else { 0 };
            let batch = ((options.batch_kib_max as usize) << 11) + parts.batch_bytes(&config);
            let batches = usize::from(workers) * batch;
            let sum = parts.accounts + parts.read_model + parts.stores + queues + batches;
            let total = config.engine.memory_mib << 20;
            assert!(sum <= total / 16 * 13, "{sum} of {total}");
        }
    }
}
