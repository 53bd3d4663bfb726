//! Requests to send again what was parked (`bellwether notify parked replay`). They are records of the parking topic themselves: a copy of what
//! was parked, with a header that says so. So they outlive whoever asked, and whoever has the partition takes them.
//!
//! # Invariants
//! - The position behind a request is a row of the notifier's memory, committed with what comes of it: each request is taken once.
//! - A look takes no more than so many requests and not much longer than so long; what is too much for a sink is parked again.
//! - A topic that was created anew, or lost records, is followed from its end: nothing is taken twice, and nothing stops.
//! - What memory does not know of an alert is looked up in the alerts ([`super::since`]) before a request of it is taken: what is over is told
//!   nobody. All requests that wait are read ahead for that, so that one pass over the alerts answers them all (of very many, as many as a
//!   look-up takes), and it is kept until they are taken. Sending goes on meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bellwether_engine::log::{Log, LogError, Read, Record, Topic};
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::OutputKind;

use super::rows::{self, REQUEST};
use super::since::{Level, Lookup, Wanted};
use crate::delivery::{Delivery, Parking, ROW_BYTES_MAX};
use crate::event::Alert;
use crate::planner::{Planner, Since, is_whole_digest};

/// Records read at once.
const PAGE: usize = 200;
/// Bytes of requests held at once, about; the rest is read again.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// Requests after which a look ends, so that what they ask for can go out before more is asked for.
const TAKEN_MAX: usize = 1_000;
/// For how long a look goes on.
const LOOK: Duration = Duration::from_secs(1);

/// Follows the parking topic.
#[derive(Debug)]
pub(super) struct Requests {
    topic: Topic,
    alerts: Topic,
    next: BTreeMap<i32, i64>,
    looked: Instant,
    /// What has to be known before the next requests can be taken.
    inquiry: Option<Inquiry>,
}

/// How far it is with what has to be known of alerts.
#[derive(Debug)]
enum Inquiry {
    /// Requests are read ahead: up to where, by partition, and what they ask for.
    Gathering(BTreeMap<i32, i64>, Wanted),
    /// The alerts are read.
    LookingUp(Lookup),
    /// It is known, and the requests are taken as if nothing had been to be looked up.
    Known(Lookup),
}

/// What a request needs.
pub(super) struct Desk<'a> {
    pub(super) planner: &'a mut Planner,
    pub(super) decoder: &'a mut Decoder,
    pub(super) unreadable: &'a mut Vec<(Record, String)>,
    pub(super) now_ms: i64,
}

/// What a page came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    /// There is more.
    More,
    /// There is no more for now.
    Done,
    /// What comes next has to be looked up first.
    Doubtful,
}

/// What is asked for.
enum Asked {
    /// An event that could not be read when it came, and now can.
    Event(Box<Alert>),
    /// A delivery, and why it was parked.
    Delivery(Option<Parking>, Box<Delivery>),
    /// What nobody can send.
    Unreadable(String),
    /// The registry is away.
    NotNow,
}

impl Requests {
    /// `alerts`: where alerts are looked up.
    pub(super) fn new(topic: Topic, alerts: Topic) -> Requests {
        Requests { topic, alerts, next: BTreeMap::new(), looked: Instant::now(), inquiry: None }
    }

    pub(super) fn drop_all(&mut self) {
        self.next.clear();
        self.inquiry = None;
    }

    pub(super) fn assign(&mut self, partition: i32, next: i64) {
        self.next.insert(partition, next);
    }

    /// What was read ahead of the partition's requests stays: it is of no harm, and of use where it comes back.
    pub(super) fn revoke(&mut self, partition: i32) {
        self.next.remove(&partition);
    }

    /// Takes what is new, where it is time, or goes on with what is looked up.
    pub(super) fn follow(
        &mut self,
        log: &mut dyn Log,
        desk: &mut Desk<'_>,
        every: Duration,
    ) -> Result<(), LogError> {
        let goes_on = match &self.inquiry {
            None | Some(Inquiry::Known(_)) => false,
            Some(Inquiry::Gathering(..)) => true,
            Some(Inquiry::LookingUp(lookup)) => !lookup.is_stalled(),
        };
        if !goes_on && self.looked.elapsed() < every {
            return Ok(());
        }
        self.looked = Instant::now();
        match self.inquiry.take() {
            None => {
                if self.take(log, desk, None)? == Page::Doubtful {
                    let from = self.next.clone();
                    self.inquiry = Some(Inquiry::Gathering(from, Wanted::default()));
                }
            }
            Some(Inquiry::Gathering(mut ahead, mut wanted)) => {
                let is_all = self.gather(log, desk, &mut ahead, &mut wanted)?;
                self.inquiry = Some(if is_all || wanted.is_full() {
                    tracing::info!(
                        events = wanted.len(),
                        "what became of alerts that are to be told again is looked up"
                    );
                    Inquiry::LookingUp(Lookup::new(self.alerts.clone(), wanted))
                } else {
                    Inquiry::Gathering(ahead, wanted)
                });
            }
            Some(Inquiry::LookingUp(mut lookup) | Inquiry::Known(mut lookup)) => {
                self.inquiry = match lookup.catch_up(log, desk.decoder, LOOK)? {
                    None => Some(Inquiry::LookingUp(lookup)),
                    // What is known now is used before anything else happens.
                    Some(level) => match self.take(log, desk, Some(level))? {
                        Page::More => Some(Inquiry::Known(lookup)),
                        // What is still doubtful is looked up anew.
                        Page::Done | Page::Doubtful => None,
                    },
                };
            }
        }
        Ok(())
    }

    /// Takes requests of all partitions, as far as it is known what became of their alerts. Whether there is more; if not, whether some are
    /// left that are doubtful.
    fn take(
        &mut self,
        log: &mut dyn Log,
        desk: &mut Desk<'_>,
        level: Option<Level<'_>>,
    ) -> Result<Page, LogError> {
        let (mut taken, mut came_to) = (0, Page::Done);
        for (partition, next) in &mut self.next {
            loop {
                match page(log, &self.topic, (*partition, next), desk, (level, &mut taken))? {
                    Page::More => {}
                    Page::Done => break,
                    Page::Doubtful => {
                        came_to = Page::Doubtful;
                        break;
                    }
                }
                if taken >= TAKEN_MAX || self.looked.elapsed() >= LOOK {
                    return Ok(Page::More);
                }
            }
        }
        Ok(came_to)
    }

    /// Reads requests ahead, and gathers what has to be looked up for them. Whether these are all.
    fn gather(
        &self,
        log: &mut dyn Log,
        desk: &mut Desk<'_>,
        ahead: &mut BTreeMap<i32, i64>,
        wanted: &mut Wanted,
    ) -> Result<bool, LogError> {
        let all = log.partitions();
        // Partitions that were lost meanwhile are not read on.
        for (partition, next) in ahead.iter_mut().filter(|(of, _)| self.next.contains_key(of)) {
            loop {
                let (requests, read, to) = requests(log, &self.topic, *partition, *next)?;
                for record in requests {
                    let asked = asked(&record, desk.decoder);
                    for (alert, is_anywhere) in doubts(&asked, *partition, desk.planner, None) {
                        let partitions =
                            if is_anywhere { 0..all } else { *partition..*partition + 1 };
                        wanted.add(alert, partitions);
                    }
                }
                *next = to;
                if wanted.is_full() {
                    return Ok(false);
                }
                if to >= read.end {
                    break;
                }
                if self.looked.elapsed() >= LOOK {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// A page of requests, how far the reading came, and up to where these are all.
fn requests(
    log: &mut dyn Log,
    topic: &Topic,
    partition: i32,
    from: i64,
) -> Result<(Vec<Record>, Read, i64), LogError> {
    let (mut requests, mut bytes, mut rest) = (Vec::new(), 0, None);
    let read = log.follow(topic, partition, from, PAGE, &mut |record| {
        if is_request(&record) && rest.is_none() {
            bytes += record.bytes();
            if bytes > PAGE_BYTES_MAX && !requests.is_empty() {
                rest = Some(record.offset);
            } else {
                requests.push(record);
            }
        }
        Ok(())
    })?;
    Ok((requests, read, rest.unwrap_or(read.next)))
}

/// Takes a page of a partition, as far as it is known what became of its alerts.
fn page(
    log: &mut dyn Log,
    topic: &Topic,
    (partition, next): (i32, &mut i64),
    desk: &mut Desk<'_>,
    (level, taken): (Option<Level<'_>>, &mut usize),
) -> Result<Page, LogError> {
    let (requests, read, to) = requests(log, topic, partition, *next)?;
    if read.next < *next {
        tracing::warn!(
            %topic, partition, position = *next, end = read.end,
            "the topic lost records or was created anew; requests to send again are taken from its end on"
        );
        desk.planner.set_redriven(partition, read.next);
    }
    for record in requests {
        let (offset, asked) = (record.offset, asked(&record, desk.decoder));
        let is_doubtful = !doubts(&asked, partition, desk.planner, level).is_empty();
        if is_doubtful || matches!(asked, Asked::NotNow) {
            *next = offset;
            // Where the registry is away it goes on from there the next time.
            return Ok(if is_doubtful { Page::Doubtful } else { Page::Done });
        }
        take(record, asked, desk, level);
        *taken += 1;
        desk.planner.set_redriven(partition, offset + 1);
    }
    *next = to;
    Ok(if to < read.end { Page::More } else { Page::Done })
}

fn is_request(record: &Record) -> bool {
    record.headers.iter().any(|(name, _)| name == REQUEST)
}

/// Reads a request.
fn asked(record: &Record, decoder: &mut Decoder) -> Asked {
    let reason = rows::text(&record.headers, "reason").and_then(|word| Parking::named(&word));
    let payload = record.payload.as_deref().unwrap_or_default();
    if reason == Some(Parking::Undecodable) {
        // A newer version may read it.
        return match decoder.output_as::<Alert>(OutputKind::Alert, Some(payload)) {
            Ok(alert) => {
                let oversized = alert.oversized_id();
                oversized.map_or_else(|| Asked::Event(Box::new(alert)), Asked::Unreadable)
            }
            Err(DecodeError::RegistryUnavailable(_)) => Asked::NotNow,
            Err(DecodeError::Reject(reject)) => Asked::Unreadable(reject.to_string()),
        };
    }
    match serde_json::from_slice::<Delivery>(payload) {
        Ok(delivery) if payload.len() <= ROW_BYTES_MAX => {
            Asked::Delivery(reason, Box::new(delivery))
        }
        Ok(_) => Asked::Unreadable(format!("it has over {ROW_BYTES_MAX} bytes")),
        Err(error) => Asked::Unreadable(format!("it is no delivery: {error}")),
    }
}

/// The events of which it is not known what became of their alerts, and whether those may be of any partition.
fn doubts<'a>(
    asked: &'a Asked,
    partition: i32,
    planner: &Planner,
    level: Option<Level<'_>>,
) -> Vec<(&'a Alert, bool)> {
    let (alerts, is_anywhere) = match asked {
        Asked::Event(alert) => (vec![alert.as_ref()], false),
        Asked::Delivery(reason, delivery) => {
            let doubtful = planner.doubtful(partition, *reason, delivery);
            (doubtful, is_whole_digest(*reason, delivery))
        }
        Asked::Unreadable(_) | Asked::NotNow => (Vec::new(), false),
    };
    let unknown = |alert: &&Alert| level.is_none_or(|level| !level.holds(alert));
    alerts.into_iter().filter(unknown).map(|alert| (alert, is_anywhere)).collect()
}

/// Takes a request of which is known what became of its alerts. What nobody can send is parked again.
fn take(record: Record, asked: Asked, desk: &mut Desk<'_>, level: Option<Level<'_>>) {
    let since = |alert: &Alert| level.map_or_else(Since::default, |level| level.since(alert));
    match asked {
        Asked::Event(alert) => {
            desk.planner.redrive_event(record.partition, &alert, &since, desk.now_ms);
        }
        Asked::Delivery(reason, delivery) => {
            desk.planner.redrive(record.partition, reason, *delivery, &since, desk.now_ms);
        }
        Asked::Unreadable(detail) => {
            tracing::warn!(
                partition = record.partition,
                offset = record.offset,
                detail,
                "what was to be sent again cannot be read and is parked again"
            );
            desk.unreadable.push((record, detail));
        }
        Asked::NotNow => {}
    }
}

#[cfg(test)]
mod tests;
