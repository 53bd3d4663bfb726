//! Look-ups over a log that reads as Kafka's does.

use super::*;
use bellwether_core::time::Millis;
use bellwether_engine::log::{AsOf, Lag, Poll, Read, Receipt, Transaction};

/// Topics that are only read, of one partition unless more are written to. A reading that was left before its end goes on to that end, whatever came since.
#[derive(Default)]
pub(in super::super) struct Tape {
    topics: BTreeMap<(String, i32), Vec<Record>>,
    under_way: Option<(Topic, i32, i64, i64)>,
    read: BTreeMap<String, usize>,
}

impl Tape {
    pub(in super::super) fn new() -> Tape {
        Tape::default()
    }

    pub(in super::super) fn append(
        &mut self,
        topic: &str,
        alert: &Alert,
        headers: &[(&str, &str)],
    ) {
        self.append_to((topic, 0), alert, headers);
    }

    fn append_to(
        &mut self,
        (topic, partition): (&str, i32),
        alert: &Alert,
        headers: &[(&str, &str)],
    ) {
        let records = self.topics.entry((topic.to_owned(), partition)).or_default();
        let headers = headers.iter();
        records.push(Record {
            topic: topic.into(),
            partition,
            offset: i64::try_from(records.len()).expect("small"),
            key: Some(alert.account_id.as_bytes().to_vec()),
            payload: serde_json::to_vec(alert).ok(),
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
                .collect(),
            timestamp_ms: 0,
        });
    }

    /// How many records of a topic were read so far.
    pub(in super::super) fn read_of(&self, topic: &str) -> usize {
        self.read.get(topic).copied().unwrap_or(0)
    }
}

impl Log for Tape {
    fn partitions(&self) -> i32 {
        1
    }

    fn read(
        &mut self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError> {
        let records = self.topics.entry((topic.to_string(), partition)).or_default();
        let is_it = |of: &(Topic, i32, i64, i64)| (&of.0, of.1, of.2) == (topic, partition, from);
        let (end, as_of) = match self.under_way.take().filter(is_it) {
            Some((.., end)) => (end, AsOf::EarlierCall),
            None => (i64::try_from(records.len()).expect("small"), AsOf::ThisCall),
        };
        let mut next = from.min(end);
        for record in records.iter().filter(|of| (from..end).contains(&of.offset)).take(records_max)
        {
            next = record.offset + 1;
            *self.read.entry(topic.to_string()).or_default() += 1;
            each(record.clone())?;
        }
        if next < end {
            self.under_way = Some((topic.clone(), partition, next, end));
        }
        Ok(Read { next, end, as_of })
    }

    fn poll(&mut self, _: usize, _: Duration) -> Result<Poll, LogError> {
        unimplemented!("a tape is read")
    }

    fn start(&mut self, _: &[i32]) -> Result<(), LogError> {
        unimplemented!("a tape is read")
    }

    fn commit(&mut self, _: &Transaction) -> Result<Receipt, LogError> {
        unimplemented!("a tape is read")
    }

    fn rewind(&mut self, _: &[i32]) -> Result<(), LogError> {
        unimplemented!("a tape is read")
    }

    fn pause(&mut self, _: &[i32]) -> Result<(), LogError> {
        unimplemented!("a tape is read")
    }

    fn resume(&mut self, _: &[i32], _: &[(Topic, i32, i64)]) -> Result<(), LogError> {
        unimplemented!("a tape is read")
    }

    fn lag(&mut self) -> Result<Vec<Lag>, LogError> {
        unimplemented!("a tape is read")
    }
}

fn event(id: &str, transition: &str, at_ms: i64) -> Alert {
    let (sample, _) = crate::event::sample(Millis(at_ms));
    Alert { id: id.to_owned(), transition: transition.to_owned(), at: Millis(at_ms), ..sample }
}

fn lookup_of(events: &[&Alert]) -> Lookup {
    let mut wanted = Wanted::default();
    events.iter().for_each(|event| wanted.add(event, 0..1));
    Lookup::new("alerts".into(), wanted)
}

fn decoder() -> Decoder {
    Decoder::new(None, 1 << 20).expect("a decoder")
}

/// A reading that goes on from an earlier call keeps its end, as on Kafka. What came since belongs to what the notifier may have taken.
#[test]
fn what_came_while_it_was_looked_up_is_known_before_it_answers() {
    let mut log = Tape::new();
    let opened = event("opened", "opened", 1);
    log.append("alerts", &opened, &[]);
    (0..2 * PAGE)
        .for_each(|number| log.append("alerts", &event(&number.to_string(), "updated", 2), &[]));
    let mut lookup = lookup_of(&[&opened]);
    let first = lookup.catch_up(&mut log, &mut decoder(), Duration::ZERO).expect("read");
    assert!(first.is_none(), "a call reads so long");
    log.append("alerts", &event("resolved", "resolved", 3), &[]);
    let mut calls = 0;
    let since = loop {
        if let Some(level) =
            lookup.catch_up(&mut log, &mut decoder(), Duration::ZERO).expect("read")
        {
            break level.since(&opened);
        }
        calls += 1;
        assert!(calls < 10, "it comes to an end");
    };
    assert!(since.has_ended);
}

#[test]
fn it_is_known_what_came_after_an_event_and_not_what_came_before() {
    let mut log = Tape::new();
    let events = [
        event("a", "opened", 10),
        event("b", "resolved", 20),
        event("c", "reopened", 20),
        event("d", "acknowledged", 30),
        event("e", "escalated", 40),
    ];
    events.iter().for_each(|event| log.append("alerts", event, &[]));
    let [a, b, c, _, e] = &events;
    // Closes an incident before it rings anew.
    let closing = event("e/close", "resolved", 40);
    // Is kept no more: what is later counts.
    let gone = event("gone", "opened", 25);
    let mut lookup = lookup_of(&[a, b, c, e, &closing, &gone]);
    let mut decoder = decoder();
    let level =
        lookup.catch_up(&mut log, &mut decoder, Duration::MAX).expect("read").expect("level");
    let since = |of: &Alert| {
        let Since { has_ended, raised } = level.since(of);
        (has_ended, raised.concat())
    };
    assert_eq!(since(a), (false, "ce".to_owned()));
    assert_eq!(since(b), (false, "ce".to_owned()));
    assert_eq!(since(c), (false, "e".to_owned()));
    assert_eq!(since(e), (false, String::new()));
    assert_eq!(since(&closing), (false, String::new()));
    assert_eq!(since(&gone), (false, "e".to_owned()));
    log.append("alerts", &event("f", "expired", 50), &[]);
    let level =
        lookup.catch_up(&mut log, &mut decoder, Duration::MAX).expect("read").expect("level");
    assert!([a, b, c, e, &gone].iter().all(|of| level.since(of).has_ended));
    assert_eq!(log.read_of("alerts"), 6, "what was read is not read again");
}

/// An alert that came back very often takes no more memory than one that came back a few times.
#[test]
fn of_very_many_times_that_it_was_raised_the_latest_are_known() {
    let mut log = Tape::new();
    let opened = event("opened", "opened", 0);
    log.append("alerts", &opened, &[]);
    for number in 1..=50 {
        log.append("alerts", &event(&number.to_string(), "reopened", number), &[]);
    }
    let mut lookup = lookup_of(&[&opened]);
    let mut decoder = decoder();
    let level =
        lookup.catch_up(&mut log, &mut decoder, Duration::MAX).expect("read").expect("level");
    let raised = level.since(&opened).raised;
    assert_eq!(raised, (43..=50).map(|number: i64| number.to_string()).collect::<Vec<_>>());
}

/// What was read of the others is forgotten with what was read of it, and so has to be read again.
#[test]
fn one_partition_that_was_created_anew_takes_nothing_from_the_others() {
    let mut log = Tape::new();
    let opened = event("opened", "opened", 1);
    let ended = event("resolved", "resolved", 2);
    for event in [&opened, &ended] {
        log.append_to(("alerts", 0), event, &[]);
    }
    log.append_to(("alerts", 1), &event("of another", "updated", 1), &[]);
    let mut wanted = Wanted::default();
    wanted.add(&opened, 0..2);
    let mut lookup = Lookup::new("alerts".into(), wanted);
    let mut decoder = decoder();
    let level = lookup.catch_up(&mut log, &mut decoder, Duration::MAX).expect("read");
    assert!(level.expect("level").since(&opened).has_ended);
    log.topics.remove(&("alerts".to_owned(), 1));
    let level = lookup.catch_up(&mut log, &mut decoder, Duration::MAX).expect("read");
    assert!(level.is_none(), "it begins anew");
    let level = lookup.catch_up(&mut log, &mut decoder, Duration::MAX).expect("read");
    assert!(level.expect("level").since(&opened).has_ended);
}
