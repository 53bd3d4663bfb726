//! What a partition remembers of its deliveries: what waits, what was delivered, what stands in the next digests, what people were told.
//!
//! Everything is a row of a compacted topic, written in the same transaction as the position in the alerts ([`rows`]).
//!
//! # Invariants
//! - No row is larger than `ROW_BYTES_MAX`: alerts are cut before they come here, and digests show what fits.
//! - Each change of memory is a changed row: a desk that is read back from its rows is the same desk.
//! - At most `pending_max` deliveries wait for a sink, and as many entries for digests.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::delivery::Delivery;
use crate::digest::Entry;
use crate::event::Profile;
use crate::policy::Mode;

mod accounts;
mod rows;
mod untold;

use self::accounts::Accounts;
pub use self::accounts::Source;
use self::rows::{Content, day_of, decode, encode};
pub use self::rows::{Format, RowError};
pub(crate) use self::untold::Fate;
use self::untold::{Untold, untold_of};

/// An entry of a digest to come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Queued {
    pub(crate) sink: String,
    pub(crate) mode: Mode,
    /// When its digest goes out.
    pub(crate) flush_ms: i64,
    pub(crate) entry: Entry,
    /// The idempotency keys of the events that it stands for; none in rows of before they were written.
    #[serde(default)]
    pub(crate) keys: BTreeSet<String>,
}

/// What was told of an alert that is open.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Who was told, or will be when quiet hours end.
    pub(crate) sinks: BTreeSet<String>,
    /// The severity that was told last.
    pub(crate) severity: String,
    /// Those of `sinks` that were told before what waits for the end of quiet hours.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) reached: BTreeSet<String>,
    /// Those of `sinks` where it was acknowledged and does not ring when it is told again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) silenced: BTreeSet<String>,
    /// The severities that each of `sinks` was told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) severities: BTreeMap<String, BTreeSet<String>>,
}

impl Told {
    /// Notes that a sink is told a severity. Returns those that it was told before.
    pub(crate) fn note(&mut self, sink: &str, severity: &str) -> BTreeSet<String> {
        // Rows of before there were severities per sink have one for all.
        let known = self.sinks.contains(sink) && !self.severity.is_empty();
        let before = || known.then(|| self.severity.clone()).into_iter().collect();
        let severities = self.severities.entry(sink.to_owned()).or_insert_with(before);
        let earlier = severities.clone();
        severities.insert(severity.to_owned());
        earlier
    }
}

/// How many alerts an owner was told by a route, per hour since 1970.
pub(crate) type Hours = BTreeMap<i64, u32>;

/// One partition's memory.
#[derive(Debug, Default)]
pub struct Desk {
    pending: BTreeMap<u64, Delivery>,
    sequences: HashMap<String, u64>,
    waiting: HashMap<String, usize>,
    done: HashMap<String, i64>,
    queued: BTreeMap<String, Queued>,
    /// The keys of the events that stand in `queued`.
    queued_keys: HashSet<String>,
    told: BTreeMap<String, Told>,
    urgent: BTreeMap<i64, u32>,
    /// How many were parked because they lie too far back, by day since 1970.
    stale: BTreeMap<i64, u64>,
    rates: BTreeMap<String, Hours>,
    /// By alert and sink.
    untold: BTreeMap<(String, String), Untold>,
    /// The position in the parking topic up to which requests to send again were taken.
    redriven: i64,
    accounts: Accounts,
    next: u64,
    /// Rows that are not committed yet; none is a tombstone.
    changes: BTreeMap<String, Option<Vec<u8>>>,
}

/// The row of a day is gone.
fn drop_day<T>(days: &mut BTreeMap<i64, T>, name: &str) {
    if let Ok(day) = name.parse() {
        days.remove(&day);
    }
}

/// Forgets what is counted of days before another; which those are.
fn forget_days<T>(days: &mut BTreeMap<i64, T>, before: i64) -> impl Iterator<Item = i64> + use<T> {
    let kept = days.split_off(&before);
    std::mem::replace(days, kept).into_keys()
}

impl Desk {
    /// Takes a row that was read back.
    ///
    /// # Errors
    /// It is of a newer format, or damaged.
    pub fn restore(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), RowError> {
        let wrong = |detail: &str| RowError::unreadable(key, detail);
        let Some((tag, name)) = key.split_once('/') else {
            return Err(wrong("its key has no kind"));
        };
        let Some(value) = value else {
            self.drop_row(tag, name);
            return Ok(());
        };
        match decode(key, value)? {
            Content::Delivery(delivery) => self.insert(*delivery),
            Content::Done { at_ms } => {
                self.done.insert(name.to_owned(), at_ms);
            }
            Content::Queued(queued) => self.set_queued(name.to_owned(), *queued),
            Content::Told(told) => drop(self.told.insert(name.to_owned(), told)),
            Content::Urgent { told } => {
                self.urgent.insert(day_of(key, name)?, told);
            }
            Content::Stale { parked } => drop(self.stale.insert(day_of(key, name)?, parked)),
            Content::Rate(hours) => drop(self.rates.insert(name.to_owned(), hours)),
            Content::Untold(untold) => {
                let of = untold_of(name).ok_or_else(|| wrong("it names no sink"))?;
                self.untold.insert(of, untold);
            }
            Content::Redriven { next } => self.redriven = next,
            Content::Accounts { count } => self.accounts.set_written(Some(count)),
            Content::Forgotten { before_ms } => {
                self.accounts.restore_forgotten(name.to_owned(), before_ms);
            }
        }
        Ok(())
    }

    fn drop_row(&mut self, tag: &str, name: &str) {
        match tag {
            "d" => drop(self.remove(name)),
            "o" => {
                self.done.remove(name);
            }
            "q" => drop(self.remove_queued(name)),
            "t" => drop(self.told.remove(name)),
            "b" => drop_day(&mut self.urgent, name),
            "s" => drop_day(&mut self.stale, name),
            "u" => {
                if let Some(of) = untold_of(name) {
                    self.untold.remove(&of);
                }
            }
            "f" => self.accounts.drop_forgotten(name),
            "a" => self.accounts.set_written(None),
            // A tombstone of what this version does not have.
            _ => {}
        }
    }

    fn insert(&mut self, delivery: Delivery) {
        self.remove(&delivery.key);
        self.next = self.next.max(delivery.sequence + 1);
        *self.waiting.entry(delivery.sink.clone()).or_default() += 1;
        self.sequences.insert(delivery.key.clone(), delivery.sequence);
        self.pending.insert(delivery.sequence, delivery);
    }

    fn remove(&mut self, key: &str) -> Option<Delivery> {
        let delivery = self.pending.remove(&self.sequences.remove(key)?)?;
        if let Some(waiting) = self.waiting.get_mut(&delivery.sink) {
            *waiting = waiting.saturating_sub(1);
        }
        Some(delivery)
    }

    /// What waits, in order.
    pub fn pending(&self) -> impl Iterator<Item = &Delivery> {
        self.pending.values()
    }

    /// A delivery that waits.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Delivery> {
        self.pending.get(self.sequences.get(key)?)
    }

    /// How many wait for a sink.
    #[must_use]
    pub fn waiting(&self, sink: &str) -> usize {
        self.waiting.get(sink).copied().unwrap_or(0)
    }

    /// Whether it waits, by itself or for a digest, or was delivered not long ago.
    #[must_use]
    pub fn knows(&self, key: &str) -> bool {
        self.sequences.contains_key(key)
            || self.done.contains_key(key)
            || self.queued_keys.contains(key)
    }

    /// How many accounts there are, by a profile, a score or an alert: as many as it knows, or, while their topics are being read after a
    /// start, as many as there were when that was last written, if that is more.
    #[must_use]
    pub fn accounts(&self) -> usize {
        self.accounts.count()
    }

    /// Whether that is known, though not all of their topics were read yet.
    pub(crate) fn knows_accounts(&self) -> bool {
        self.accounts.is_counted()
    }

    /// All of a topic was read; once both were, accounts are counted.
    pub(crate) fn set_read(&mut self, from: Source) {
        if self.accounts.set_read(from) {
            self.write_accounts();
        }
    }

    /// Writes how many accounts there are, where that changed and is known.
    pub(crate) fn write_accounts(&mut self) {
        if let Some(count) = self.accounts.to_write() {
            self.changes.insert("a/accounts".to_owned(), encode(Content::Accounts { count }));
            self.accounts.set_written(Some(count));
        }
    }

    pub(crate) fn profile(&self, account: &str) -> Profile {
        self.accounts.profile(account)
    }

    pub(crate) fn set_profile(&mut self, account: &str, profile: Profile) {
        self.accounts.set_profile(account, profile);
    }

    /// An account is there, as one of the topics says, or is there no more.
    pub(crate) fn note_account(&mut self, account: &str, source: Source, is_there: bool) {
        if is_there {
            self.accounts.see(account, source);
        } else {
            self.accounts.lose(account, source);
        }
    }

    pub(crate) fn forget_account(&mut self, account: &str, before_ms: i64) {
        if let Some(mark) = self.accounts.forget(account, before_ms) {
            self.changes.insert(format!("f/{mark}"), encode(Content::Forgotten { before_ms }));
        }
    }

    pub(crate) fn forgotten_before(&self, account: &str) -> Option<i64> {
        self.accounts.forgotten_before(account)
    }

    /// Deletions of before a time count no more.
    pub(crate) fn forget_deletions(&mut self, before_ms: i64) {
        for mark in self.accounts.forgotten_until(before_ms) {
            self.accounts.drop_forgotten(&mark);
            self.changes.insert(format!("f/{mark}"), None);
        }
    }

    /// Adds a delivery at the end of the order.
    pub(crate) fn add(&mut self, mut delivery: Delivery) {
        delivery.sequence = self.next;
        self.put(delivery);
    }

    /// Writes a delivery back.
    pub(crate) fn put(&mut self, delivery: Delivery) {
        let row = encode(Content::Delivery(Box::new(delivery.clone())));
        self.changes.insert(format!("d/{}", delivery.key), row);
        self.insert(delivery);
    }

    /// Takes a delivery out of the order.
    pub(crate) fn take(&mut self, key: &str) -> Option<Delivery> {
        let delivery = self.remove(key)?;
        self.changes.insert(format!("d/{key}"), None);
        Some(delivery)
    }

    /// Takes a delivery out of the order for good: its event is told otherwise, or need not be told any more.
    pub(crate) fn retire(&mut self, key: &str, at_ms: i64) {
        if self.take(key).is_some() {
            self.mark_done(key, at_ms);
        }
    }

    pub(crate) fn mark_done(&mut self, key: &str, at_ms: i64) {
        self.done.insert(key.to_owned(), at_ms);
        self.changes.insert(format!("o/{key}"), encode(Content::Done { at_ms }));
    }

    /// How many alerts stand in the next digests of a sink.
    #[must_use]
    pub fn entries_for(&self, sink: &str) -> usize {
        self.queued.values().filter(|queued| queued.sink == sink).count()
    }

    pub(crate) fn queued(&self) -> impl Iterator<Item = (&String, &Queued)> {
        self.queued.iter()
    }

    pub(crate) fn queue(&mut self, name: String, queued: Queued) {
        let row = encode(Content::Queued(Box::new(queued.clone())));
        self.changes.insert(format!("q/{name}"), row);
        self.set_queued(name, queued);
    }

    fn set_queued(&mut self, name: String, queued: Queued) {
        self.remove_queued(&name);
        self.queued_keys.extend(queued.keys.iter().cloned());
        self.queued.insert(name, queued);
    }

    fn remove_queued(&mut self, name: &str) -> Option<Queued> {
        let queued = self.queued.remove(name)?;
        for key in &queued.keys {
            self.queued_keys.remove(key);
        }
        Some(queued)
    }

    /// An entry of a digest to come.
    pub(crate) fn queued_as(&self, name: &str) -> Option<&Queued> {
        self.queued.get(name)
    }

    pub(crate) fn queued_len(&self) -> usize {
        self.queued.len()
    }

    /// Takes an entry out: its digest goes out, or it is not to be told in one any more. Its events are not told again.
    pub(crate) fn unqueue(&mut self, name: &str, at_ms: i64) -> Option<Queued> {
        let queued = self.remove_queued(name)?;
        self.changes.insert(format!("q/{name}"), None);
        queued.keys.iter().for_each(|key| self.mark_done(key, at_ms));
        Some(queued)
    }

    pub(crate) fn told(&self, alert_id: &str) -> Option<&Told> {
        self.told.get(alert_id)
    }

    pub(crate) fn set_told(&mut self, alert_id: &str, told: Option<Told>) {
        let row = told.clone().and_then(|told| encode(Content::Told(told)));
        let known = match told {
            Some(told) => self.told.insert(alert_id.to_owned(), told),
            None => self.told.remove(alert_id),
        };
        if row.is_some() || known.is_some() {
            self.changes.insert(format!("t/{alert_id}"), row);
        }
    }

    pub(crate) fn redriven_to(&self) -> i64 {
        self.redriven
    }

    pub(crate) fn set_redriven(&mut self, next: i64) {
        self.redriven = next;
        self.changes.insert("p/redriven".to_owned(), encode(Content::Redriven { next }));
    }

    /// Urgent alerts told since a day.
    pub(crate) fn urgent_since(&self, day: i64) -> u64 {
        self.urgent.range(day..).map(|(_, told)| u64::from(*told)).sum()
    }

    pub(crate) fn count_urgent(&mut self, day: i64) {
        let told = self.urgent.entry(day).or_default();
        *told = told.saturating_add(1);
        self.changes.insert(format!("b/{day}"), encode(Content::Urgent { told: *told }));
    }

    /// How many were parked on a day because they lie too far back.
    pub(crate) fn stale_on(&self, day: i64) -> u64 {
        self.stale.get(&day).copied().unwrap_or(0)
    }

    /// Counts one of them. A format that has no such rows forgets it with the process.
    pub(crate) fn count_stale(&mut self, day: i64, format: Format) {
        let parked = self.stale.entry(day).or_default();
        *parked = parked.saturating_add(1);
        if format.has_stale() {
            self.changes.insert(format!("s/{day}"), encode(Content::Stale { parked: *parked }));
        }
    }

    /// Alerts that an owner was told since an hour, by one route.
    pub(crate) fn rate_since(&self, name: &str, hour: i64) -> u64 {
        let hours = self.rates.get(name).into_iter();
        hours.flat_map(|hours| hours.range(hour..)).map(|(_, told)| u64::from(*told)).sum()
    }

    /// Counts one, and forgets the hours before another.
    pub(crate) fn count_rate(&mut self, name: &str, hour: i64, since: i64) {
        let hours = self.rates.entry(name.to_owned()).or_default();
        let told = hours.entry(hour).or_default();
        *told = told.saturating_add(1);
        hours.retain(|hour, _| *hour >= since);
        self.changes.insert(format!("r/{name}"), encode(Content::Rate(hours.clone())));
    }

    /// Forgets what was delivered before one time, what is counted of days before another, and owners who were told nothing since an hour.
    pub(crate) fn forget(&mut self, done_before_ms: i64, day: i64, hour: i64) {
        let old = self.done.iter().filter(|(_, at)| **at < done_before_ms);
        for key in old.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.done.remove(&key);
            self.changes.insert(format!("o/{key}"), None);
        }
        let urgent = forget_days(&mut self.urgent, day).map(|day| format!("b/{day}"));
        let stale = forget_days(&mut self.stale, day).map(|day| format!("s/{day}"));
        self.changes.extend(urgent.chain(stale).map(|key| (key, None)));
        let idle = self.rates.iter().filter(|(_, hours)| hours.range(hour..).next().is_none());
        for name in idle.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.rates.remove(&name);
            self.changes.insert(format!("r/{name}"), None);
        }
    }

    /// The rows that changed since the last call.
    pub(crate) fn take_changes(&mut self) -> BTreeMap<String, Option<Vec<u8>>> {
        std::mem::take(&mut self.changes)
    }

    /// Whether rows changed.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !self.changes.is_empty()
    }
}
