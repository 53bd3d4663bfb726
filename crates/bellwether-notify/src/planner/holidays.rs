//! Until when a route is quiet: its hours, and the public holidays that it heeds.

use bellwether_core::calendar::{Entry, HOLIDAY, Span, WORKING_DAY};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::time::{DAY_MS, Day};

use super::Planner;
use crate::event::{Alert, Profile};
use crate::policy::{Quiet, Route};
use crate::schedule::quiet_until;

/// Days before and after the present that quiet hours may depend on.
const NEAR_DAYS: (i32, i32) = (2, 400);
/// The word that stands for the region of an account, and for its own entries.
const OF_ACCOUNT: &str = "account";

impl Planner {
    /// Takes an entry of the calendar; none where it was removed. Only public holidays are kept, and the days that are none.
    pub fn calendar(&mut self, id: &EventId, entry: Option<Entry>) {
        let is_kept = |entry: &Entry| [HOLIDAY, WORKING_DAY].contains(&entry.span.kind.as_str());
        let holiday = entry.filter(is_kept);
        let has_room = holiday.as_ref().is_none_or(|of| self.calendar.has_room(id, of).is_ok());
        if has_room {
            self.calendar.place(id, holiday);
        }
    }

    /// When an alert may be told at once: now, or at the end of quiet hours.
    pub(super) fn due(&self, route: &Route, alert: &Alert, profile: &Profile, now_ms: i64) -> i64 {
        let quiet = route.quiet.as_ref().filter(|quiet| !quiet.except.contains(&alert.severity));
        let end = quiet.and_then(|quiet| {
            let today = Day(i32::try_from(now_ms.div_euclid(DAY_MS)).unwrap_or(i32::MAX / 2));
            let days = (today.plus(-NEAR_DAYS.0), today.plus(NEAR_DAYS.1));
            let holidays = self.holidays(quiet, alert, profile, days);
            let is_holiday = |day: Day| holidays.iter().any(|span| span.holds(day));
            quiet_until(quiet, &is_holiday, now_ms)
        });
        end.unwrap_or(now_ms)
    }

    fn holidays(
        &self,
        quiet: &Quiet,
        alert: &Alert,
        profile: &Profile,
        days: (Day, Day),
    ) -> Vec<Span> {
        if quiet.holidays.is_empty() {
            return Vec::new();
        }
        let of_account = quiet.holidays.contains(OF_ACCOUNT);
        let named = quiet.holidays.iter().filter(|region| *region != OF_ACCOUNT);
        // As the engine has it: a holiday of a country is one in its parts, too, unless they do not keep it.
        let mut holidays: Vec<Span> = named
            .flat_map(|region| self.calendar.concerning(Some(region.as_str()), None, days))
            .collect();
        if of_account {
            let account = AccountId::new(&alert.account_id).ok();
            let region = profile.region.as_deref();
            holidays.extend(self.calendar.concerning(region, account.as_ref(), days));
        }
        holidays
    }
}
