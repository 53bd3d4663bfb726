//! Which events feed which signals of an account: two signals that rest on the same events are one witness, whatever the
//! policy calls their groups. An account whose only user is its admin has one stream of logins, and not three signals.

use serde::{Deserialize, Serialize};

/// What one event weighs, so that it can fade in whole numbers.
const EVENT: u64 = 256;
/// The share that fades at each day close: after a month a third is left.
const FADE: u64 = 32;
/// Streams kept; the faintest makes room.
const STREAMS_MAX: usize = 64;

/// Recent events by the set of signals that they fed, as a bit mask in policy order, with their faded number.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Streams(Vec<(u64, u64)>);

/// As they were kept ([`Streams::parts`]).
impl From<Vec<(u64, u64)>> for Streams {
    fn from(parts: Vec<(u64, u64)>) -> Streams {
        Streams(parts)
    }
}

impl Streams {
    /// Sets of signals, rising, with their faded numbers.
    #[must_use]
    pub fn parts(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Counts an event that fed these signals (indices in the policy, below 64).
    pub(crate) fn count(&mut self, signals: &[usize]) {
        let mask = signals.iter().fold(0, |mask, signal| mask | 1 << (signal % 64));
        match self.0.binary_search_by_key(&mask, |(mask, _)| *mask) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(EVENT),
            Err(at) => {
                self.0.insert(at, (mask, EVENT));
                if self.0.len() > STREAMS_MAX {
                    let faintest = self.0.iter().enumerate().min_by_key(|(_, (_, weight))| *weight);
                    if let Some((faintest, _)) = faintest {
                        self.0.remove(faintest);
                    }
                }
            }
        }
    }

    /// A day has passed.
    pub(crate) fn fade(&mut self) {
        for (_, weight) in &mut self.0 {
            *weight = weight.saturating_sub(*weight / FADE + 1);
        }
        self.0.retain(|(_, weight)| *weight > 0);
    }

    /// The policy has put its signals into another order: `moved` says where each is now.
    pub(crate) fn realign(&mut self, moved: impl Fn(usize) -> Option<usize>) {
        let old = std::mem::take(&mut self.0);
        for (mask, weight) in old {
            let signals = (0..64).filter(|signal| mask >> signal & 1 == 1);
            let new = signals.filter_map(&moved).fold(0, |mask, signal| mask | 1 << (signal % 64));
            match self.0.binary_search_by_key(&new, |(mask, _)| *mask) {
                _ if new == 0 => {}
                Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(weight),
                Err(at) => self.0.insert(at, (new, weight)),
            }
        }
    }

    /// The share of events that two signals have in common, 0..=1: the intersection of their distributions over the streams
    /// (Swain and Ballard 1991). 0 where nothing is known of one.
    #[must_use]
    pub fn shared(&self, left: usize, right: usize) -> f64 {
        let feeds = |mask: u64, signal: usize| mask >> (signal % 64) & 1 == 1;
        let total = |signal| -> u64 {
            self.0.iter().filter(|(mask, _)| feeds(*mask, signal)).map(|(_, weight)| weight).sum()
        };
        let most = total(left).max(total(right));
        if total(left) == 0 || total(right) == 0 {
            return 0.0;
        }
        let both: u64 = self
            .0
            .iter()
            .filter(|(mask, _)| feeds(*mask, left) && feeds(*mask, right))
            .map(|(_, weight)| weight)
            .sum();
        // Every common event has the smaller share in the distribution with more events.
        both as f64 / most as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_of_the_same_events_are_one_witness() {
        let mut streams = Streams::default();
        (0..98).for_each(|_| streams.count(&[0, 1]));
        (0..2).for_each(|_| streams.count(&[0, 1, 2]));
        (0..50).for_each(|_| streams.count(&[3, 1]));
        assert!((streams.shared(0, 2) - 0.02).abs() < 1e-9, "an admin among many");
        assert!((streams.shared(0, 1) - 100.0 / 150.0).abs() < 1e-9);
        assert!(streams.shared(0, 3).abs() < 1e-9);
        assert!(streams.shared(0, 9).abs() < 1e-9, "nothing is known of it");
        let mut alone = Streams::default();
        alone.count(&[0, 1, 2]);
        assert!((alone.shared(0, 2) - 1.0).abs() < 1e-9, "the admin is the only user");
    }

    #[test]
    fn what_stopped_fades() {
        let mut streams = Streams::default();
        (0..1000).for_each(|_| streams.count(&[0]));
        (0..400).for_each(|_| streams.fade());
        assert_eq!(streams, Streams::default());
    }

    #[test]
    fn a_new_order_keeps_what_is_known() {
        let mut streams = Streams::default();
        streams.count(&[0, 1]);
        streams.count(&[1, 2]);
        streams.realign(|signal| [Some(5), None, Some(0)][signal]);
        assert_eq!(streams.0, [(1, EVENT), (1 << 5, EVENT)]);
    }
}
