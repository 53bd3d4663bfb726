//! A member of a group that ends within a bounded time.
//!
//! Closing a consumer gives back what it owns: the client asks for that, and answers. Where the group was being
//! rebalanced just then, it has been seen not to answer (rd_kafka_incremental_unassign, all of its threads idle), for ever. By then positions are committed
//! and the state is on disk, so nothing is lost by going on without the answer: the group learns of it by the session's end at the latest.

use std::ops::Deref;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, ConsumerContext};

/// How long a close is waited for. It takes two requests to the brokers, and as long as they need for them.
const CLOSE_MAX: Duration = Duration::from_secs(30);

/// A consumer that leaves its group when it is dropped.
pub(super) struct Member<C: ConsumerContext + 'static>(Option<BaseConsumer<C>>);

impl<C: ConsumerContext + 'static> Member<C> {
    pub(super) fn new(consumer: BaseConsumer<C>) -> Member<C> {
        Member(Some(consumer))
    }
}

impl<C: ConsumerContext + 'static> Deref for Member<C> {
    type Target = BaseConsumer<C>;

    fn deref(&self) -> &BaseConsumer<C> {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<C: ConsumerContext + 'static> Drop for Member<C> {
    fn drop(&mut self) {
        let Some(consumer) = self.0.take() else { return };
        if !ends(CLOSE_MAX, move || drop(consumer)) {
            tracing::warn!(
                seconds = CLOSE_MAX.as_secs(),
                "the client does not answer while it leaves the group: going on without it"
            );
        }
    }
}

/// Whether work ends in time, on a thread of its own; otherwise it is left there.
fn ends(within: Duration, work: impl FnOnce() + Send + 'static) -> bool {
    let (done, wait) = mpsc::sync_channel::<()>(1);
    let closing = thread::Builder::new().name("closing".to_owned()).spawn(move || {
        work();
        drop(done);
    });
    // Where no thread can be had, the work was dropped with it, and so done.
    closing.is_err() || wait.recv_timeout(within) == Err(RecvTimeoutError::Disconnected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_end_is_left() {
        assert!(ends(Duration::from_secs(60), || ()));
        let (release, held) = mpsc::sync_channel::<()>(1);
        assert!(!ends(Duration::from_millis(10), move || {
            held.recv().expect_err("nothing is sent");
        }));
        drop(release);
    }
}
