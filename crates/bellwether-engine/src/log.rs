//! The log that the engine runs on: Kafka, or the embedded one. Everything above this trait is the same code.
//!
//! # Invariants (held up by one contract test suite that runs against both adapters)
//! - A [`Transaction`] is all or nothing: its records become visible to readers together with its input offsets, or never.
//! - Records of one partition are delivered in offset order, from the offset that was last committed.
//! - Input partition numbers are co-assigned: whoever owns partition `p` of one input topic owns `p` of all of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A topic's name; cheap to clone.
pub type Topic = Arc<str>;

/// One record read from a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub topic: Topic,
    /// See `topic`.
    pub partition: i32,
    /// See `topic`.
    pub offset: i64,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value; none is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// The record's headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Milliseconds since the epoch, as the producer or the broker stamped it.
    pub timestamp_ms: i64,
}

impl Record {
    /// Bytes of key, value and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        of(&self.key) + of(&self.payload) + headers.sum::<usize>()
    }

    /// Whether another record stands in the same partition of the same topic.
    #[must_use]
    pub fn is_beside(&self, other: &Record) -> bool {
        // Records of one poll share their topic's name.
        self.partition == other.partition
            && (Arc::ptr_eq(&self.topic, &other.topic) || self.topic == other.topic)
    }
}

/// One record to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Where it goes.
    pub topic: Topic,
    /// See `topic`.
    pub partition: i32,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value; none is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// The record's headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Milliseconds since the epoch; none: now.
    pub timestamp_ms: Option<i64>,
}

/// Appends and input positions that become visible together.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    /// Records to append, in order.
    pub appends: Vec<Append>,
    /// Input positions: (topic, partition, next offset to read).
    pub offsets: Vec<(Topic, i32, i64)>,
}

/// What a committed transaction left behind: per partition appended to, the offset after its last record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// (topic, partition, offset after the last record appended there).
    pub positions: Vec<(Topic, i32, i64)>,
}

/// What a poll brought. Ownership changes come alone, never mixed with records, and concern only the partitions that they name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Poll {
    /// Nothing within the time-out.
    Idle,
    /// Records of owned partitions, in offset order per partition.
    Records(Vec<Record>),
    /// These partition numbers are owned from now on. Their records follow only after [`Log::start`].
    Assigned(Vec<i32>),
    /// These partition numbers are no longer owned.
    Revoked(Vec<i32>),
}

/// What the caller can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing was committed and nothing will be: discard staged state, reopen the log and read again from the committed offsets.
    Reopen,
    /// Whether the transaction committed is not known: as for `Reopen`, and read local state back from the changelog.
    Unknown,
    /// Another worker owns these partitions now: as for `Reopen`.
    Fenced,
    /// Nothing was committed, because the group is being rebalanced: discard staged state and [`Log::rewind`]. The log goes on.
    Rewind,
    /// A person has to act; the message says how.
    Stop,
}

/// A failure of the log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct LogError {
    /// What to do.
    pub remedy: Remedy,
    /// What went wrong, and what to do next.
    pub message: String,
}

impl LogError {
    /// An error with its remedy.
    #[must_use]
    pub fn new(remedy: Remedy, message: impl fmt::Display) -> LogError {
        LogError { remedy, message: message.to_string() }
    }
}

/// How far behind an input partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// Records not yet delivered.
    pub records: i64,
}

/// How far a read came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The offset to read on from; below `from` where the log ends before it.
    pub next: i64,
    /// The end; there is more to read while `next` is below it.
    pub end: i64,
    /// When that was the end.
    pub as_of: AsOf,
}

/// When the end of a log was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// By the call that says so.
    ThisCall,
    /// By an earlier call, whose reading this one went on with: more may have come since.
    EarlierCall,
}

impl Read {
    /// A read that looked the end up itself.
    #[must_use]
    pub fn of_this_call(next: i64, end: i64) -> Read {
        Read { next, end, as_of: AsOf::ThisCall }
    }

    /// Whether nothing is left that was there when the call was made. A reading that an earlier call began may have come to its own end
    /// without that: reading on from there says.
    #[must_use]
    pub fn is_level(&self) -> bool {
        self.next >= self.end && self.as_of == AsOf::ThisCall
    }
}

/// A durable, partitioned, transactional log, as one worker sees it.
pub trait Log: Send {
    /// How many partitions each input has.
    fn partitions(&self) -> i32;

    /// Waits for up to `timeout` and returns at most `records_max` records, or one change of ownership.
    fn poll(&mut self, records_max: usize, timeout: Duration) -> Result<Poll, LogError>;

    /// Begins delivery of the records of partitions that were assigned and are now restored.
    fn start(&mut self, partitions: &[i32]) -> Result<(), LogError>;

    /// Commits a transaction: all of it, or nothing.
    fn commit(&mut self, transaction: &Transaction) -> Result<Receipt, LogError>;

    /// Delivers these partitions again from their committed positions, also where they were paused.
    fn rewind(&mut self, partitions: &[i32]) -> Result<(), LogError>;

    /// Reads committed records of a partition, of any topic: from offset `from` (or the oldest one kept), at most about
    /// `records_max` of them, and no further than the end as it was when the reading began: a call that goes on where the last one stopped may
    /// keep that one's end, and says so ([`Read::as_of`]). Waits for transactions that are still open below that end.
    fn read(
        &mut self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError>;

    /// The same, but no further than what can be read now: it waits for no transaction, and what stands at or after one that is still open
    /// is read later. A log in which no transaction stays open reads alike. Where the log ends before `from`, because it lost records or was
    /// created anew, that is no failure: [`Read::next`] is its end then.
    fn follow(
        &mut self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError> {
        self.read(topic, partition, from, records_max, each)
    }

    /// Stops delivery of these partitions until [`Log::resume`]; records that were polled but not returned stay in order.
    fn pause(&mut self, partitions: &[i32]) -> Result<(), LogError>;

    /// Undoes [`Log::pause`], and delivers again from `offsets` (topic, partition, next offset) where given.
    fn resume(&mut self, partitions: &[i32], offsets: &[(Topic, i32, i64)])
    -> Result<(), LogError>;

    /// How far behind the owned input partitions are.
    fn lag(&mut self) -> Result<Vec<Lag>, LogError>;

    /// For how long nothing has been heard from the log, where that is too long for its owner to count as healthy. A log that
    /// cannot be out of reach says none.
    fn silent(&self) -> Option<Duration> {
        None
    }
}
