//! Until when a route is quiet: its hours, and the public holidays that it heeds.

use bellwether_core::calendar::{Entry, Scope, Span, with_wider};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::time::Day;

use super::Planner;
use crate::event::{Alert, Profile};
use crate::policy::{Quiet, Route};
use crate::schedule::quiet_until;

/// The kind of entries that are public holidays.
const HOLIDAY: &str = "holiday";
/// The word that stands for the region of an account, and for its own entries.
const OF_ACCOUNT: &str = "account";

impl Planner {
    /// Takes an entry of the calendar; none where it was removed. Only public holidays are kept.
    pub fn calendar(&mut self, id: &EventId, entry: Option<Entry>) {
        let holiday = entry.filter(|entry| entry.span.kind == HOLIDAY);
        let has_room = holiday.as_ref().is_none_or(|of| self.calendar.has_room(id, of).is_ok());
        if has_room {
            self.calendar.place(id, holiday);
        }
    }

    /// When an alert may be told at once: now, or at the end of quiet hours.
    pub(super) fn due(&self, route: &Route, alert: &Alert, profile: &Profile, now_ms: i64) -> i64 {
        let quiet = route.quiet.as_ref().filter(|quiet| !quiet.except.contains(&alert.severity));
        let end = quiet.and_then(|quiet| {
            let holidays = self.holidays(quiet, alert, profile);
            let is_holiday = |day: Day| holidays.iter().any(|span| span.holds(day));
            quiet_until(quiet, &is_holiday, now_ms)
        });
        end.unwrap_or(now_ms)
    }

    fn holidays(&self, quiet: &Quiet, alert: &Alert, profile: &Profile) -> Vec<&Span> {
        if quiet.holidays.is_empty() {
            return Vec::new();
        }
        let of_account = quiet.holidays.contains(OF_ACCOUNT);
        let named = quiet.holidays.iter().filter(|region| *region != OF_ACCOUNT);
        let own_region = profile.region.as_ref().filter(|_| of_account);
        // As the engine has it: a holiday of a country is one in its parts, too.
        let regions = named.chain(own_region).flat_map(|region| with_wider(region));
        let mut scopes: Vec<Scope> =
            regions.map(|region| Scope::Region(region.to_owned())).collect();
        scopes.push(Scope::All);
        if of_account && let Ok(account) = AccountId::new(&alert.account_id) {
            scopes.push(Scope::Account(account));
        }
        scopes.iter().flat_map(|scope| self.calendar.spans(scope)).collect()
    }
}
