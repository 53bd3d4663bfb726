//! What was parked instead of told, by alert and sink: so that it is parked once, and that what is overtaken is not told later.

use serde::{Deserialize, Serialize};

use super::Desk;
use super::rows::{Content, encode};
use crate::delivery::Parking;

/// Deliveries of an alert and a sink of which it is remembered that they are parked; of more the oldest are forgotten.
const PARKED_MAX: usize = 32;

/// What was parked of an alert and a sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Untold {
    /// The idempotency key of what was parked last and overtakes what was parked before it.
    pub(crate) key: String,
    /// When something was parked last.
    pub(crate) at_ms: i64,
    /// Whether the alert ended since, or the sink is told something newer of it.
    #[serde(default)]
    pub(crate) is_over: bool,
    /// Whether it ended.
    #[serde(default)]
    pub(crate) has_ended: bool,
    /// What is parked, oldest first; none in rows of before this was written.
    #[serde(default)]
    pub(crate) parked: Vec<ParkedKey>,
}

/// A delivery that is parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ParkedKey {
    /// Its idempotency key.
    pub(crate) key: String,
    /// Why ([`Parking::as_str`]).
    pub(crate) reason: String,
    /// When.
    pub(crate) at_ms: i64,
    /// Whether something newer of the alert was parked or told, or it ended.
    #[serde(default)]
    pub(crate) is_overtaken: bool,
    /// Whether it was asked for since.
    #[serde(default)]
    pub(crate) is_asked: bool,
}

/// Whether what is parked is still to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// There is nothing newer.
    Current,
    /// The sink is, or is to be, told something newer of the alert.
    Overtaken,
    /// The alert ended.
    Ended,
    /// It is not remembered: an older version parked it.
    Unknown,
}

/// Alert and sink of a row's name. No sink has a slash in its name.
pub(super) fn untold_of(name: &str) -> Option<(String, String)> {
    name.rsplit_once('/').map(|(alert, sink)| (alert.to_owned(), sink.to_owned()))
}

impl Desk {
    /// Notes that something of an alert is parked instead of told. What asks for attention, or ends the alert, `overtakes` what was parked
    /// before; how an alert goes on (acknowledged, snoozed) does not.
    pub(crate) fn set_untold(
        &mut self,
        (alert_id, sink): (&str, &str),
        (key, reason): (&str, Parking),
        overtakes: bool,
        at_ms: i64,
    ) {
        let of = (alert_id.to_owned(), sink.to_owned());
        let mut untold = self.untold.get(&of).cloned().unwrap_or_default();
        if overtakes || untold.is_over || untold.key.is_empty() {
            key.clone_into(&mut untold.key);
        }
        if overtakes {
            untold.parked.iter_mut().for_each(|parked| parked.is_overtaken = true);
        }
        (untold.is_over, untold.has_ended) = (false, false);
        untold.at_ms = at_ms;
        untold.parked.retain(|parked| parked.key != key);
        untold.parked.push(ParkedKey {
            key: key.to_owned(),
            reason: reason.as_str().to_owned(),
            at_ms,
            is_overtaken: false,
            is_asked: false,
        });
        let over = untold.parked.len().saturating_sub(PARKED_MAX);
        untold.parked.drain(..over);
        self.put_untold(of, untold);
    }

    fn put_untold(&mut self, of: (String, String), untold: Untold) {
        let row = encode(Content::Untold(untold.clone()));
        self.changes.insert(format!("u/{}/{}", of.0, of.1), row);
        self.untold.insert(of, untold);
    }

    /// Whether a delivery is parked for a reason since a time, and was not asked for since.
    pub(crate) fn is_parked(
        &self,
        (alert_id, sink): (&str, &str),
        (key, reason): (&str, Parking),
        since_ms: i64,
    ) -> bool {
        let untold = self.untold.get(&(alert_id.to_owned(), sink.to_owned()));
        let mut parked = untold.into_iter().flat_map(|untold| &untold.parked);
        parked.any(|parked| {
            parked.key == key
                && parked.reason == reason.as_str()
                && parked.at_ms >= since_ms
                && !parked.is_asked
        })
    }

    /// Notes that what is parked was asked for: parked again, it is another record.
    pub(crate) fn ask_for(&mut self, alert_id: &str, sink: &str, key: &str) {
        let of = (alert_id.to_owned(), sink.to_owned());
        let Some(mut untold) = self.untold.get(&of).cloned() else { return };
        let Some(parked) = untold.parked.iter_mut().find(|parked| parked.key == key) else {
            return;
        };
        parked.is_asked = true;
        self.put_untold(of, untold);
    }

    /// What was parked of an alert is overtaken: for one sink, or (none) because the alert is over.
    pub(crate) fn outdate(&mut self, alert_id: &str, sink: Option<&str>) {
        let overtaken = self
            .untold_of_alert(alert_id)
            .filter(|((_, of), untold)| !untold.is_over && sink.is_none_or(|sink| sink == of));
        for (of, untold) in overtaken.map(|(of, u)| (of.clone(), u.clone())).collect::<Vec<_>>() {
            let mut untold = Untold { is_over: true, has_ended: sink.is_none(), ..untold };
            untold.parked.iter_mut().for_each(|parked| parked.is_overtaken = true);
            self.put_untold(of, untold);
        }
    }

    /// Whether what is parked under a key is still the latest that there is to tell a sink of an alert.
    pub(crate) fn fate(&self, alert_id: &str, sink: &str, key: &str) -> Fate {
        let Some(untold) = self.untold.get(&(alert_id.to_owned(), sink.to_owned())) else {
            return Fate::Unknown;
        };
        let parked = untold.parked.iter().find(|parked| parked.key == key);
        match parked.map_or(untold.key != key, |parked| parked.is_overtaken) {
            _ if untold.has_ended => Fate::Ended,
            _ if untold.is_over => Fate::Overtaken,
            true if parked.is_none() => Fate::Unknown,
            true => Fate::Overtaken,
            false => Fate::Current,
        }
    }

    /// Whether something newer of an alert is parked for a sink under this key.
    pub(crate) fn is_untold_as(&self, alert_id: &str, sink: &str, key: &str) -> bool {
        let untold = self.untold.get(&(alert_id.to_owned(), sink.to_owned()));
        untold.is_some_and(|untold| {
            untold.key == key || untold.parked.iter().any(|parked| parked.key == key)
        })
    }

    /// What is parked of an alert, by sink.
    fn untold_of_alert<'a>(
        &'a self,
        alert_id: &'a str,
    ) -> impl Iterator<Item = (&'a (String, String), &'a Untold)> {
        let from = (alert_id.to_owned(), String::new());
        self.untold.range(from..).take_while(move |((alert, _), _)| alert == alert_id)
    }

    /// The sinks for which something of an alert is parked.
    pub(crate) fn untold_sinks<'a>(&'a self, alert_id: &'a str) -> impl Iterator<Item = &'a str> {
        self.untold_of_alert(alert_id).map(|((_, sink), _)| sink.as_str())
    }

    /// Forgets what was parked before a time.
    pub(crate) fn forget_untold(&mut self, before_ms: i64) {
        let old = self.untold.iter().filter(|(_, untold)| untold.at_ms < before_ms);
        for of in old.map(|(of, _)| of.clone()).collect::<Vec<_>>() {
            self.changes.insert(format!("u/{}/{}", of.0, of.1), None);
            self.untold.remove(&of);
        }
    }
}
