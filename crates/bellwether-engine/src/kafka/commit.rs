//! One transaction: records and input offsets beside each other, then the commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bellwether_store::kill_point;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};
use rdkafka::{Offset, TopicPartitionList};

use super::classify;
use super::context::{DeliveryContext, GroupContext};
use crate::log::{Append, LogError, Receipt, Remedy, Topic};

/// One step of waiting for the brokers' reports. Ours, because those of the client's own waits are whole milliseconds: in
/// `commit_transaction` a hundred of them, which is what every commit would take then, and in `poll` what is left of the last one is a
/// busy loop, half of all CPU time where commits are small. It is the last step: to wake up costs more than a look, so half of what is left
/// of the usual wait is slept through at once.
const STEP: Duration = Duration::from_micros(500);
/// The longest step, whatever is usual: a failure is to be noticed.
const STEP_MAX: Duration = Duration::from_millis(20);
/// Of how many transactions the usual wait is the mean, about.
const USUAL_OF: u32 = 8;
/// An abort is a courtesy to readers (the next `init_transactions` would do it), so it does not wait for long: brokers that are out
/// of reach do not answer it either, and meanwhile the worker hears of nothing, not even that it is to stop.
const ABORT_TIMEOUT: Duration = Duration::from_secs(3);

/// What a call may take beyond the time-out that it was given.
const GRACE: Duration = Duration::from_secs(1);

/// A worker's transactional producer, with a thread of its own for the one call that may never return: where the group's coordinator
/// crashes meanwhile, librdkafka 2.12 waits without a limit while positions are added (issue 5456). Then the thread and the producer are
/// left behind; the next producer fences them.
pub(super) struct Committer {
    producer: Arc<BaseProducer<DeliveryContext>>,
    /// None once it is to end.
    positions: Option<SyncSender<Positions>>,
    answers: Receiver<KafkaResult<()>>,
    thread: Option<JoinHandle<()>>,
    /// Whether a call was given up that has not returned.
    hangs: bool,
    /// How long the brokers' reports took lately.
    usual: Duration,
}

/// Input positions, for whom, and how long that may take.
type Positions = (TopicPartitionList, ConsumerGroupMetadata, Duration);

impl Committer {
    pub(super) fn new(producer: BaseProducer<DeliveryContext>) -> Committer {
        let producer = Arc::new(producer);
        let (positions, asked) = sync_channel::<Positions>(1);
        let (answer, answers) = sync_channel(1);
        let its_producer = Arc::clone(&producer);
        let thread = std::thread::spawn(move || {
            // Until the committer is gone.
            for (list, group, timeout) in asked {
                let sent = its_producer.send_offsets_to_transaction(&list, &group, timeout);
                if answer.send(sent).is_err() {
                    break;
                }
            }
        });
        let (positions, thread) = (Some(positions), Some(thread));
        Committer { producer, positions, answers, thread, hangs: false, usual: Duration::ZERO }
    }

    /// Appends and offsets, all or nothing. On an error the transaction was aborted where that is possible and certain.
    pub(super) fn commit(
        &mut self,
        consumer: &BaseConsumer<GroupContext>,
        appends: &[Append],
        offsets: &[(Topic, i32, i64)],
        timeout: Duration,
    ) -> Result<Receipt, LogError> {
        // A call that was given up has failed its transaction for good, and its answer with it.
        debug_assert!(self.answers.try_recv().is_err(), "no answer is left from before");
        let producer = Arc::clone(&self.producer);
        kill_point::pass("before-begin");
        producer
            .begin_transaction()
            .map_err(|error| classify::uncommitted("cannot begin a transaction", &error))?;
        let receipt = match self.stage(consumer, appends, offsets, timeout) {
            Ok(receipt) => receipt,
            Err(mut error) => {
                if !abort(&producer) && error.remedy == Remedy::Rewind {
                    error.remedy = Remedy::Reopen;
                }
                return Err(error);
            }
        };
        kill_point::pass("before-end");
        if let Err(error) = producer.commit_transaction(timeout) {
            let error = classify::commit(&error);
            if error.remedy == Remedy::Reopen {
                abort(&producer);
            }
            return Err(error);
        }
        kill_point::pass("after-end");
        Ok(receipt)
    }

    /// All of a transaction but its end. The group's coordinator is asked while the records are on their way.
    fn stage(
        &mut self,
        consumer: &BaseConsumer<GroupContext>,
        appends: &[Append],
        offsets: &[(Topic, i32, i64)],
        timeout: Duration,
    ) -> Result<Receipt, LogError> {
        let producer = Arc::clone(&self.producer);
        let deadline = Instant::now() + timeout;
        let handed_over = hand_over(&producer, appends, deadline);
        let asked = match handed_over {
            Ok(()) => self.ask_for_offsets(consumer, offsets, timeout),
            Err(_) => Ok(false),
        };
        let delivered = handed_over.and_then(|()| {
            let began = Instant::now();
            await_reports(&producer, deadline, self.usual)?;
            self.usual = with_one_more(self.usual, began.elapsed());
            let receipt = ends(&producer, appends)?;
            kill_point::pass("appended");
            Ok(receipt)
        });
        let limit = if delivered.is_ok() { timeout } else { ABORT_TIMEOUT };
        let added = asked.and_then(|asked| self.answer(asked, limit));
        match (delivered, added) {
            (Ok(receipt), Ok(())) => Ok(receipt),
            (Ok(_), Err(error)) => Err(error),
            (Err(_), Err(error)) if self.hangs => Err(error),
            // Records that go down with their transaction only say "purged"; the client tells the reason at the next call. Whether that
            // adds something to the transaction does not matter: it is aborted.
            (Err(error), Ok(()) | Err(_)) if is_purged(&producer) => {
                let asked = self.ask_for_offsets(consumer, offsets, ABORT_TIMEOUT);
                let reason = asked.and_then(|asked| self.answer(asked, ABORT_TIMEOUT));
                Err(reason.err().unwrap_or(error))
            }
            (Err(error), Ok(()) | Err(_)) => Err(error),
        }
    }

    /// Asks for input positions to be added; whether there is an answer to wait for.
    fn ask_for_offsets(
        &self,
        consumer: &BaseConsumer<GroupContext>,
        offsets: &[(Topic, i32, i64)],
        timeout: Duration,
    ) -> Result<bool, LogError> {
        // Fresh each time: the generation in it is what fences a worker that lost its partitions.
        let Some(group) = consumer.group_metadata() else {
            return Err(LogError::new(Remedy::Reopen, "the consumer has no group to commit for"));
        };
        // A member that was put out of the group may have lost its generation, and to the broker a commit without one is that of an old
        // client, which it does not check. Looked at after the metadata: the client's thread changes both together.
        if consumer.assignment_lost() {
            return Err(LogError::new(
                Remedy::Fenced,
                "this worker was put out of the group: poll more often",
            ));
        }
        if offsets.is_empty() {
            return Ok(false);
        }
        let mut list = TopicPartitionList::new();
        for (topic, partition, offset) in offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                .map_err(|error| classify::uncommitted(ADDING, &error))?;
        }
        kill_point::pass("before-offsets");
        let asked = self.positions.as_ref().map(|to| to.try_send((list, group, timeout)));
        if matches!(asked, Some(Ok(()))) { Ok(true) } else { Err(unanswered()) }
    }

    /// Waits for the answer, where there is one to wait for.
    fn answer(&mut self, asked: bool, timeout: Duration) -> Result<(), LogError> {
        if !asked {
            return Ok(());
        }
        match self.answers.recv_timeout(timeout + GRACE) {
            Ok(sent) => sent.map_err(|error| classify::offsets(ADDING, &error)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                self.hangs = true;
                Err(unanswered())
            }
        }
    }
}

impl Drop for Committer {
    /// Waits for the thread, so that the producer is closed here and not while the process ends, unless a call hangs.
    fn drop(&mut self) {
        drop(self.positions.take());
        let Some(thread) = self.thread.take().filter(|_| !self.hangs) else { return };
        let deadline = Instant::now() + GRACE;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(STEP);
        }
        if thread.is_finished() {
            // It only forwards answers, and does not panic.
            drop(thread.join());
        }
    }
}

const ADDING: &str = "cannot add input positions to a transaction";

fn unanswered() -> LogError {
    let message = format!("{ADDING}: the group's coordinator did not answer in time");
    LogError::new(Remedy::Reopen, message)
}

/// Whether records went down with their transaction, for a reason that they do not say.
fn is_purged(producer: &BaseProducer<DeliveryContext>) -> bool {
    let code = producer.context().failed().and_then(|error| error.rdkafka_error_code());
    let purged = [RDKafkaErrorCode::PurgeQueue, RDKafkaErrorCode::PurgeInflight];
    code.is_some_and(|code| purged.contains(&code))
}

/// Sends all records and waits for every delivery report.
pub(super) fn send_all(
    producer: &BaseProducer<DeliveryContext>,
    appends: &[Append],
    deadline: Instant,
) -> Result<(), LogError> {
    hand_over(producer, appends, deadline)?;
    await_reports(producer, deadline, Duration::ZERO)
}

/// Hands all records to the client.
fn hand_over(
    producer: &BaseProducer<DeliveryContext>,
    appends: &[Append],
    deadline: Instant,
) -> Result<(), LogError> {
    producer.context().begin(appends.len());
    for (index, append) in appends.iter().enumerate() {
        kill_point::pass("amid-appends");
        send(producer, index, append, deadline).map_err(|error| {
            classify::uncommitted(&format!("cannot append to {}", append.topic), &error)
        })?;
    }
    Ok(())
}

/// Waits for every delivery report, which usually takes so long.
fn await_reports(
    producer: &BaseProducer<DeliveryContext>,
    deadline: Instant,
    usual: Duration,
) -> Result<(), LogError> {
    let began = Instant::now();
    while producer.in_flight_count() > 0 && producer.context().failed().is_none() {
        if Instant::now() >= deadline {
            return Err(LogError::new(
                Remedy::Reopen,
                "the brokers did not take the records in time",
            ));
        }
        take_reports(producer, usual.saturating_sub(began.elapsed()));
    }
    if let Some(error) = producer.context().failed() {
        // Records that go down with a fenced producer say "purged"; the client knows why.
        let error = match producer.client().fatal_error() {
            Some((code, _)) => KafkaError::MessageProduction(code),
            None => error,
        };
        return Err(classify::uncommitted("an append was not delivered", &error));
    }
    Ok(())
}

/// Takes the reports that are there; where there are none, waits for a moment: longer where the rest usually takes longer.
fn take_reports(producer: &BaseProducer<DeliveryContext>, rest: Duration) {
    let before = producer.in_flight_count();
    producer.poll(Duration::ZERO);
    if producer.in_flight_count() == before {
        std::thread::sleep(pause(rest));
    }
}

/// How long to look away where reports usually take so much longer: half of that, so that they are not missed for long.
fn pause(rest: Duration) -> Duration {
    (rest / 2).clamp(STEP, STEP_MAX)
}

/// How long reports usually take, with one more time that they did: a commit that was very slow for once must not make the next ones slow.
fn with_one_more(usual: Duration, took: Duration) -> Duration {
    (usual * (USUAL_OF - 1) + took.min(2 * STEP_MAX)) / USUAL_OF
}

/// Where each partition ends once all records are delivered.
fn ends(producer: &BaseProducer<DeliveryContext>, appends: &[Append]) -> Result<Receipt, LogError> {
    let mut ends: BTreeMap<(&Topic, i32), i64> = BTreeMap::new();
    for (append, offset) in appends.iter().zip(producer.context().take_offsets()) {
        let Some(offset) = offset else {
            return Err(LogError::new(
                Remedy::Reopen,
                format!("no delivery report for a record of {}", append.topic),
            ));
        };
        let end = ends.entry((&append.topic, append.partition)).or_insert(0);
        *end = (*end).max(offset + 1);
    }
    let positions =
        ends.into_iter().map(|((topic, partition), end)| (topic.clone(), partition, end)).collect();
    Ok(Receipt { positions })
}

/// Hands one record to the client. A full queue is backpressure, not an error: it is served and the same record tried again.
fn send(
    producer: &BaseProducer<DeliveryContext>,
    index: usize,
    append: &Append,
    deadline: Instant,
) -> Result<(), KafkaError> {
    let mut record: BaseRecord<'_, [u8], [u8], usize> =
        BaseRecord::with_opaque_to(&append.topic, index).partition(append.partition);
    record.key = append.key.as_deref();
    record.payload = append.payload.as_deref();
    record.timestamp = append.timestamp_ms;
    if !append.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(append.headers.len());
        record.headers = Some(append.headers.iter().fold(headers, |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        }));
    }
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                if Instant::now() < deadline =>
            {
                record = back;
                take_reports(producer, Duration::ZERO);
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Best effort; whether it was aborted for certain. Outstanding records are reported first, because the abort waits for their reports.
/// Those on their way are waited for: one that arrives after its transaction has ended would open another. Where they do not arrive in
/// time they are given up, and so is the producer.
fn abort(producer: &BaseProducer<DeliveryContext>) -> bool {
    let wait = || {
        let deadline = Instant::now() + ABORT_TIMEOUT;
        while producer.in_flight_count() > 0 && Instant::now() < deadline {
            take_reports(producer, Duration::ZERO);
        }
        producer.in_flight_count() == 0
    };
    producer.purge(PurgeConfig::default().queue());
    let arrived = wait();
    if !arrived {
        producer.purge(PurgeConfig::default().inflight());
        wait();
    }
    let aborted = producer.abort_transaction(ABORT_TIMEOUT);
    if let Err(error) = &aborted {
        tracing::warn!(%error, "a transaction was not aborted; opening the log again aborts it");
    }
    aborted.is_ok() && arrived
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_usually_is_left_is_slept_through() {
        assert_eq!(pause(Duration::from_millis(10)), Duration::from_millis(5));
        assert_eq!(pause(Duration::ZERO), STEP, "more than a busy loop");
        assert_eq!(pause(Duration::from_secs(60)), STEP_MAX, "a failure is to be noticed");
    }

    #[test]
    fn what_is_usual_follows_what_is_and_no_outlier() {
        let usual = |from: Duration, took: Duration, times: u32| {
            (0..times).fold(from, |usual, _| with_one_more(usual, took))
        };
        let ms = Duration::from_millis;
        assert_eq!(usual(ms(8), ms(8), 100), ms(8));
        let risen = usual(ms(1), ms(8), 40);
        assert!((ms(7)..=ms(8)).contains(&risen), "{risen:?}");
        let once = with_one_more(ms(8), Duration::from_secs(29));
        assert!(once <= ms(12), "one that took half a minute: {once:?}");
    }
}
