//! Digests: what did not have to be told at once, ranked.

use serde::{Deserialize, Serialize};

/// Bytes of the entries that are shown, as JSON: a digest is one record of the notifier's topics.
const SHOWN_BYTES_MAX: usize = 512 << 10;

use crate::event::{Alert, Profile};
use crate::policy::Mode;

/// One alert in a digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its latest event.
    pub alert: Alert,
    /// Its account as it stood then.
    pub profile: Profile,
    /// Why it is here: the route's mode, or the limit that kept it from being told at once.
    pub because: String,
}

/// What goes out as one digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Digest {
    /// Daily, weekly or check-in.
    pub mode: Mode,
    /// What is shown, most urgent first.
    pub entries: Vec<Entry>,
    /// How many there were, those that are not shown included.
    pub total: usize,
}

impl Digest {
    /// Ranks entries: by priority, then by severity, by what the account is worth, and by how badly it stands. At most `entries_max` are shown,
    /// and no more than fit into 512 KiB of JSON; the rest is counted. In a check-in list an account stands once, with its most urgent alert.
    #[must_use]
    pub fn of(mode: Mode, mut entries: Vec<Entry>, entries_max: usize) -> Digest {
        let worth = |entry: &Entry| entry.profile.annual_value_usd.unwrap_or(0.0);
        entries.sort_by(|a, b| {
            let order = |of: &Entry| (of.alert.priority, of.alert.rank());
            order(b)
                .cmp(&order(a))
                .then_with(|| worth(b).total_cmp(&worth(a)))
                .then_with(|| a.alert.score.total_cmp(&b.alert.score))
                .then_with(|| a.alert.id.cmp(&b.alert.id))
        });
        if mode == Mode::Checkin {
            let mut seen = std::collections::BTreeSet::new();
            entries.retain(|entry| seen.insert(entry.alert.account_id.clone()));
        }
        let total = entries.len();
        let mut bytes_left = SHOWN_BYTES_MAX;
        let fits = |entry: &Entry| {
            let bytes = serde_json::to_vec(entry).map_or(usize::MAX, |bytes| bytes.len());
            let fits = bytes <= bytes_left;
            bytes_left = bytes_left.saturating_sub(bytes);
            fits
        };
        let shown = entries.iter().take(entries_max).map(fits).take_while(|fits| *fits).count();
        entries.truncate(shown);
        Digest { mode, entries, total }
    }

    pub(crate) fn sample(alert: &Alert, profile: &Profile) -> Digest {
        let entry =
            Entry { alert: alert.clone(), profile: profile.clone(), because: "daily".to_owned() };
        Digest { mode: Mode::Daily, entries: vec![entry], total: 1 }
    }
}
