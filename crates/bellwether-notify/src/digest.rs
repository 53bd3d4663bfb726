//! Digests: what did not have to be told at once, ranked.

use serde::{Deserialize, Serialize};

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
    /// Ranks entries: by priority, then by severity, by what the account is worth, and by how badly it stands. At most `entries_max` are shown. In a
    /// check-in list an account stands once, with its most urgent alert.
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
        entries.truncate(entries_max);
        Digest { mode, entries, total }
    }

    pub(crate) fn sample(alert: &Alert, profile: &Profile) -> Digest {
        let entry =
            Entry { alert: alert.clone(), profile: profile.clone(), because: "daily".to_owned() };
        Digest { mode: Mode::Daily, entries: vec![entry], total: 1 }
    }
}
