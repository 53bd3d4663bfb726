//! The calendar: days on which usage is not what it normally is, for a reason that somebody told.
//!
//! A masked day measures nothing, whatever its kind and in either direction: it is no part of what is normal, neither of the account
//! nor of its cohort, and neither a fall nor a rise on it is evidence. (To keep only the rises of a holiday, or only the falls of a
//! year's end, would judge an account by one side of its days.) Where a figure of a whole week is needed, a masked day counts as the
//! same weekday of the week before.
//!
//! One kind of entry takes back: a working day ([`WORKING_DAY`]) is none of the holidays of wider entries. So a part of a country need not
//! keep what the country keeps.
//!
//! Most of it is told by entries. The ends of fiscal years stand in the profiles of accounts, and come back every year.
//!
//! Every partition knows every entry. What of it concerns an account stands with the account ([`Account::masked`]), as of its last day
//! close or judgement: an entry that comes later changes what is judged from then on, not what was published.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::account::{Account, Row};
use crate::history::RING_DAYS;
use crate::id::{AccountId, EventId};
use crate::policy::CalendarPolicy;
use crate::time::{Day, YearDay};

/// Entries that a partition keeps.
pub const ENTRIES_MAX: usize = 100_000;
/// Entries of one account, of one region, and of all.
pub const SCOPE_ENTRIES_MAX: usize = 1_000;
/// The longest entry, in days.
pub const ENTRY_DAYS_MAX: i32 = 366;
/// The kind of public holidays.
pub const HOLIDAY: &str = "holiday";
/// The kind of days that are no holidays for whom they concern, though entries of wider regions, or for all, say so. They mask nothing.
pub const WORKING_DAY: &str = "working_day";
/// The kind of what is masked about the end of a fiscal year.
const FISCAL_YEAR_END: &str = "fiscal_year_end";
/// Days of a week that may be masked before the week says nothing.
pub(crate) const WEEK_MASKED_MAX: u32 = 3;
/// Days before the newest closed one that an account remembers, and days after it: the open ones.
const REACH_DAYS: (i32, i32) = (RING_DAYS as i32 + 7, 2);

/// Whom an entry concerns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One account.
    Account(AccountId),
    /// Accounts whose profile names this region, or a part of it (`DE-BY` is a part of `DE`).
    Region(String),
    /// All accounts.
    All,
}

/// An entry of the calendar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whom it concerns.
    pub scope: Scope,
    /// The days.
    pub span: Span,
}

/// Days that are masked, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// First day, in the account's own time zone.
    pub from: Day,
    /// Last day, inclusive; at most [`ENTRY_DAYS_MAX`] days in all.
    pub to: Day,
    /// `holiday`, `working_day`, `fiscal_year_end`, `planned_initiative`, `incident`, or a word that is new.
    pub kind: String,
    /// A remark for people.
    pub note: Option<String>,
}

impl Span {
    /// Whether a day is one of its days.
    #[must_use]
    pub fn holds(&self, day: Day) -> bool {
        self.from <= day && day <= self.to
    }

    /// What is left of it without the days of another.
    fn without(self, other: &Span) -> impl Iterator<Item = Span> {
        let before = Span { to: self.to.min(other.from.plus(-1)), ..self.clone() };
        let after = Span { from: self.from.max(other.to.plus(1)), ..self };
        // Where nothing is taken out of it, one of the two is all of it, and the other nothing.
        [before, after].into_iter().filter(|span| span.from <= span.to)
    }

    /// Its days, its kind and its remark, for people.
    fn words(&self) -> String {
        let days = if self.from == self.to {
            self.from.to_string()
        } else {
            format!("{} to {}", self.from, self.to)
        };
        let note = self.note.as_ref().map_or(String::new(), |note| format!(", {note}"));
        format!("{days} ({}{note})", self.kind.replace('_', " "))
    }

    /// Its days as bits seen from `day`: bit 0 is `day`, bit d the d-th day before it.
    fn bits(&self, day: Day) -> u128 {
        let back = |of: Day| u32::try_from(day.since(of).max(-1) + 1).unwrap_or(0);
        let (first, after) = (back(self.to).saturating_sub(1), back(self.from));
        crate::history::mask(after) & !crate::history::mask(first.min(128))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.words())
    }
}

/// What is wrong with an entry that one more of is too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the calendar holds {count} entries {of}, at most {most} are allowed: remove old ones (a record without a value)"
)]
pub struct Full {
    of: &'static str,
    count: usize,
    most: usize,
}

/// All entries.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calendar {
    entries: BTreeMap<EventId, Entry>,
    scopes: BTreeMap<Scope, BTreeSet<EventId>>,
    /// The entries that changed since [`Calendar::settle`], as they were before.
    changed: BTreeMap<EventId, Option<Entry>>,
}

impl Calendar {
    /// Whether there is room for an entry; one that replaces another always has it.
    ///
    /// # Errors
    /// [`Full`], which says what to do.
    pub fn has_room(&self, id: &EventId, entry: &Entry) -> Result<(), Full> {
        if self.entries.contains_key(id) {
            return Ok(());
        }
        let alike = self.scopes.get(&entry.scope).map_or(0, BTreeSet::len);
        for (of, count, most) in [
            ("in all", self.entries.len(), ENTRIES_MAX),
            ("for the same account, region or for all", alike, SCOPE_ENTRIES_MAX),
        ] {
            if count >= most {
                return Err(Full { of, count, most });
            }
        }
        Ok(())
    }

    /// Sets an entry; none removes it.
    pub fn set(&mut self, id: &EventId, entry: Option<Entry>) {
        if self.entries.get(id) == entry.as_ref() {
            return;
        }
        if !self.changed.contains_key(id) {
            self.changed.insert(id.clone(), self.entries.get(id).cloned());
        }
        self.place(id, entry);
    }

    /// Puts an entry back as a store has it: none where it has none.
    pub fn place(&mut self, id: &EventId, entry: Option<Entry>) {
        if let Some(before) = self.entries.remove(id)
            && let Some(alike) = self.scopes.get_mut(&before.scope)
        {
            alike.remove(id);
            if alike.is_empty() {
                self.scopes.remove(&before.scope);
            }
        }
        if let Some(entry) = entry {
            self.scopes.entry(entry.scope.clone()).or_default().insert(id.clone());
            self.entries.insert(id.clone(), entry);
        }
    }

    /// Every entry, by id.
    pub fn entries(&self) -> impl Iterator<Item = (&EventId, &Entry)> {
        self.entries.iter()
    }

    /// The days of a scope's own entries, by id.
    pub fn spans(&self, scope: &Scope) -> impl Iterator<Item = &Span> {
        let ids = self.scopes.get(scope).into_iter().flatten();
        ids.filter_map(|id| Some(&self.entries.get(id)?.span))
    }

    /// The entries that changed: none for one that was removed.
    pub fn changed(&self) -> impl Iterator<Item = (&EventId, Option<&Entry>)> {
        self.changed.keys().map(|id| (id, self.entries.get(id)))
    }

    /// What changed is written.
    pub fn settle(&mut self) {
        self.changed.clear();
    }

    /// What changed is as it was before.
    pub fn discard(&mut self) {
        for (id, entry) in std::mem::take(&mut self.changed) {
            self.place(&id, entry);
        }
    }

    /// A scope's own entries within these days.
    fn of<'a>(&'a self, scope: &Scope, days: &'a (Day, Day)) -> impl Iterator<Item = &'a Span> {
        self.spans(scope).filter(|span| span.from <= days.1 && span.to >= days.0)
    }

    /// What is masked for all accounts within these days.
    pub(crate) fn for_all(&self, days: (Day, Day)) -> Vec<Span> {
        self.concerning(None, None, days)
    }

    /// What is masked within these days for accounts of a region, or for an account: by entries for all, by those of the region and of the
    /// ones that it is a part of, and by the account's own. A working day takes its days out of the holidays of wider ones.
    #[must_use]
    pub fn concerning(
        &self,
        region: Option<&str>,
        account: Option<&AccountId>,
        days: (Day, Day),
    ) -> Vec<Span> {
        let regions = region.into_iter().flat_map(with_wider);
        let regions = regions.map(|region| Scope::Region(region.to_owned()));
        let account = account.map(|account| Scope::Account(account.clone()));
        let mut masked: Vec<Span> = Vec::new();
        // The widest first.
        for scope in std::iter::once(Scope::All).chain(regions).chain(account) {
            let is_working = |span: &&Span| span.kind == WORKING_DAY;
            for working in self.of(&scope, &days).filter(is_working) {
                let (holidays, others): (Vec<Span>, Vec<Span>) =
                    masked.into_iter().partition(|span| span.kind == HOLIDAY);
                masked = others;
                masked.extend(holidays.into_iter().flat_map(|span| span.without(working)));
            }
            masked.extend(self.of(&scope, &days).filter(|span| !is_working(span)).cloned());
        }
        masked
    }

    /// Brings what an account knows of the calendar up to date, as of its newest closed day.
    pub(crate) fn tell(&self, account: &mut Account, rules: &CalendarPolicy, day: Day) {
        let year_end = account.profile.as_ref().and_then(|profile| profile.fiscal_year_end);
        if self.entries.is_empty() && account.masked.is_empty() && year_end.is_none() {
            return;
        }
        let days = (day.plus(-REACH_DAYS.0), day.plus(REACH_DAYS.1));
        let region = account.profile.as_ref().and_then(|profile| profile.region.as_deref());
        let mut masked = self.concerning(region, Some(&account.id), days);
        if let Some(year_end) = year_end {
            masked.extend(year_ends(year_end, i32::from(rules.fiscal_year_end_days), days));
        }
        masked.sort();
        masked.dedup();
        if account.masked != masked {
            account.masked = masked;
            account.changed.note(Row::Masked);
        }
    }
}

/// What is masked about the ends of fiscal years, as far as it touches these days.
fn year_ends(end: YearDay, about: i32, (from, to): (Day, Day)) -> impl Iterator<Item = Span> {
    end.between(from.plus(-about), to.plus(about)).map(move |day| Span {
        from: day.plus(-about),
        to: day.plus(about),
        kind: FISCAL_YEAR_END.to_owned(),
        note: None,
    })
}

/// A region and those that it is a part of, by the hyphens of its name: of `DE-BY` also `DE`.
pub fn with_wider(region: &str) -> impl Iterator<Item = &str> {
    let ends = region.match_indices('-').map(|(at, _)| at).chain([region.len()]);
    ends.map(|end| &region[..end]).filter(|name| !name.is_empty())
}

/// The masked days as bits seen from `day`: bit 0 is `day`, bit d the d-th day before it.
#[must_use]
pub fn masked_days(spans: &[Span], day: Day) -> u128 {
    spans.iter().fold(0, |bits, span| bits | span.bits(day))
}

/// A bitmap whose masked days are as the same weekday of the week before.
#[must_use]
pub(crate) fn carried(bits: u128, masked: u128) -> u128 {
    let (mut bits, mut left) = (bits, masked);
    while left != 0 {
        // The oldest first, so that a day whose week before is masked, too, is as the last one that is not.
        let day = 127 - left.leading_zeros();
        let before = bits.checked_shr(day + 7).unwrap_or(0) & 1;
        bits = bits & !(1 << day) | before << day;
        left &= !(1 << day);
    }
    bits
}

/// The daily values, oldest first, whose masked days are as the same weekday of the week before; NaN where there is none.
#[must_use]
pub(crate) fn carried_values(mut daily: Vec<f64>, masked: u128) -> Vec<f64> {
    for index in 0..daily.len() {
        let back = daily.len() - 1 - index;
        if back < 128 && masked >> back & 1 == 1 {
            daily[index] = index.checked_sub(7).map_or(f64::NAN, |before| daily[before]);
        }
    }
    daily
}

/// A bitmap without the masked days on which nothing happened: absence on them is none. With it the days that are left out.
#[must_use]
pub(crate) fn without(bits: u128, masked: u128) -> (u128, u128) {
    let gone = masked & !bits;
    let (mut kept, mut left) = (bits, gone);
    while left != 0 {
        let day = 127 - left.leading_zeros();
        let younger = crate::history::mask(day);
        kept = kept & younger | kept.checked_shr(day + 1).unwrap_or(0) << day;
        left &= !(1 << day);
    }
    (kept, gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Rows;
    use proptest::prelude::*;

    fn span(from: i32, to: i32) -> Span {
        Span { from: Day(from), to: Day(to), kind: "holiday".to_owned(), note: None }
    }

    fn id(text: &str) -> EventId {
        EventId::new(text).expect("an identifier")
    }

    fn entry(scope: Scope, from: i32, to: i32) -> Entry {
        Entry { scope, span: span(from, to) }
    }

    #[test]
    fn spans_are_seen_from_any_day() {
        assert_eq!(masked_days(&[span(10, 12)], Day(12)), 0b111);
        assert_eq!(masked_days(&[span(10, 12)], Day(11)), 0b11);
        assert_eq!(masked_days(&[span(10, 12), span(8, 8)], Day(13)), 0b10_1110);
        assert_eq!(masked_days(&[span(10, 12)], Day(9)), 0);
        assert_eq!(masked_days(&[span(10, 12)], Day(500)), 0);
        assert_eq!(masked_days(&[span(0, 400)], Day(399)), u128::MAX);
    }

    #[test]
    fn an_account_is_told_what_concerns_it() {
        let mut calendar = Calendar::default();
        let acme = AccountId::new("acme").expect("an identifier");
        calendar.set(&id("1"), Some(entry(Scope::All, 100, 101)));
        calendar.set(&id("2"), Some(entry(Scope::Account(acme.clone()), 103, 103)));
        let other = AccountId::new("other").expect("an identifier");
        calendar.set(&id("3"), Some(entry(Scope::Account(other), 104, 104)));
        calendar.set(&id("4"), Some(entry(Scope::Region("DE".to_owned()), 105, 105)));
        calendar.set(&id("5"), Some(entry(Scope::All, 300, 300)));
        let mut account = Account::new(acme);
        let rules = CalendarPolicy::default();
        calendar.tell(&mut account, &rules, Day(110));
        assert_eq!(account.masked, [span(100, 101), span(103, 103)]);
        assert!(account.changed.rows.has(Row::Masked));
        account.changed.rows = Rows::default();
        calendar.tell(&mut account, &rules, Day(111));
        assert!(account.changed.rows.is_empty(), "nothing is new");
        calendar.set(&id("1"), None);
        calendar.tell(&mut account, &rules, Day(111));
        assert_eq!(account.masked, [span(103, 103)]);
    }

    #[test]
    fn a_region_has_the_days_of_those_that_it_is_a_part_of() {
        let told = |region: &str, entries: &[&str]| {
            let mut calendar = Calendar::default();
            for (number, of) in entries.iter().enumerate() {
                let day = 100 + number as i32;
                let entry = entry(Scope::Region((*of).to_owned()), day, day);
                calendar.set(&id(&number.to_string()), Some(entry));
            }
            let mut account = Account::new(AccountId::new("acme").expect("an identifier"));
            let profile = serde_json::json!({"account": "acme", "as_of": 0, "region": region, "entitlements": {}});
            account.profile = Some(serde_json::from_value(profile).expect("a profile"));
            calendar.tell(&mut account, &CalendarPolicy::default(), Day(103));
            let days = account.masked.iter().map(|span| entries[span.from.0 as usize - 100]);
            days.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(told("DE-BY", &["DE", "DE-BY", "DE-BE", "D"]), ["DE", "DE-BY"]);
        assert_eq!(told("DE", &["DE", "DE-BY"]), ["DE"]);
        assert_eq!(told("DEX", &["DE", ""]), Vec::<String>::new());
        assert_eq!(told("-BY", &["", "BY"]), Vec::<String>::new());
    }

    #[test]
    fn a_working_day_is_no_holiday_of_wider_entries_and_masks_nothing() {
        let mut calendar = Calendar::default();
        let region = |name: &str| Scope::Region(name.to_owned());
        let acme = AccountId::new("acme").expect("an identifier");
        let mut tell = |name: &str, scope: Scope, (from, to): (i32, i32), kind: &str| {
            let span = Span { kind: kind.to_owned(), ..span(from, to) };
            calendar.set(&id(name), Some(Entry { scope, span }));
        };
        tell("country", region("US"), (100, 109), HOLIDAY);
        tell("outage", region("US"), (103, 104), "incident");
        tell("part", region("US-CA"), (103, 105), WORKING_DAY);
        tell("own", region("US-CA"), (105, 105), HOLIDAY);
        tell("alone", region("US-CA"), (200, 200), WORKING_DAY);
        tell("account", Scope::Account(acme.clone()), (109, 109), WORKING_DAY);
        let masked = |region: &str, account: Option<&AccountId>| {
            let mut spans = calendar.concerning(Some(region), account, (Day(90), Day(250)));
            spans.sort();
            let days = spans.iter().map(|span| (span.from.0, span.to.0, span.kind.clone()));
            days.collect::<Vec<_>>()
        };
        let of = |from: i32, to: i32, kind: &str| (from, to, kind.to_owned());
        let outage = of(103, 104, "incident");
        assert_eq!(masked("US", None), [of(100, 109, HOLIDAY), outage.clone()]);
        assert_eq!(masked("US-NY", None), [of(100, 109, HOLIDAY), outage.clone()]);
        let part = [of(100, 102, HOLIDAY), outage.clone(), of(105, 105, HOLIDAY)];
        assert_eq!(masked("US-CA", None), [&part[..], &[of(106, 109, HOLIDAY)]].concat());
        assert_eq!(masked("US-CA-LA", None), masked("US-CA", None));
        assert_eq!(masked("US-CA", Some(&acme)), [&part[..], &[of(106, 108, HOLIDAY)]].concat());
        assert_eq!(calendar.for_all((Day(90), Day(250))), []);
    }

    proptest! {
        #[test]
        fn a_span_without_days_is_all_its_others(a in 0..40_i32, b in 0..40_i32, c in 0..40_i32, d in 0..40_i32) {
            let (whole, other) = (span(a.min(b), a.max(b)), span(c.min(d), c.max(d)));
            let left: Vec<Span> = whole.clone().without(&other).collect();
            for day in (0..40).map(Day) {
                let expected = usize::from(whole.holds(day) && !other.holds(day));
                prop_assert_eq!(left.iter().filter(|span| span.holds(day)).count(), expected, "{:?}", day);
            }
        }
    }

    #[test]
    fn the_end_of_a_fiscal_year_comes_back_every_year() {
        let calendar = Calendar::default();
        let mut account = Account::new(AccountId::new("acme").expect("an identifier"));
        let profile = serde_json::json!({"account": "acme", "as_of": 0, "entitlements": {}});
        let profile: crate::event::Profile = serde_json::from_value(profile).expect("a profile");
        account.profile =
            Some(crate::event::Profile { fiscal_year_end: YearDay::parse("12-31"), ..profile });
        let mut spans = |year: &str, fiscal_year_end_days| {
            let at = crate::time::Millis::parse(year).expect("a date");
            let day = crate::time::Zone::UTC.day(at);
            calendar.tell(&mut account, &CalendarPolicy { fiscal_year_end_days }, day);
            account.masked.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(spans("2025-01-02", 3), ["2024-12-28 to 2025-01-03 (fiscal year end)"]);
        assert_eq!(spans("2025-12-20", 3), Vec::<String>::new(), "none is near");
        assert_eq!(spans("2025-12-26", 3), ["2025-12-28 to 2026-01-03 (fiscal year end)"]);
        assert_eq!(spans("2026-01-01", 0), ["2025-12-31 (fiscal year end)"]);
    }

    #[test]
    fn what_changed_can_be_taken_back() {
        let mut calendar = Calendar::default();
        calendar.set(&id("1"), Some(entry(Scope::All, 1, 2)));
        calendar.settle();
        let before = calendar.clone();
        calendar.set(&id("1"), Some(entry(Scope::Region("DE".to_owned()), 1, 2)));
        calendar.set(&id("2"), Some(entry(Scope::All, 5, 6)));
        calendar.set(&id("1"), None);
        assert_eq!(calendar.changed().count(), 2);
        assert!(calendar.for_all((Day(1), Day(2))).is_empty());
        calendar.discard();
        assert_eq!(calendar, before);
        assert_eq!(calendar.for_all((Day(2), Day(9))), [span(1, 2)]);
    }

    #[test]
    fn a_scope_has_room_for_so_many() {
        let mut calendar = Calendar::default();
        for number in 0..SCOPE_ENTRIES_MAX {
            calendar.set(&id(&number.to_string()), Some(entry(Scope::All, 1, 1)));
        }
        let more = entry(Scope::All, 2, 2);
        assert!(calendar.has_room(&id("more"), &more).is_err());
        assert_eq!(calendar.has_room(&id("7"), &more), Ok(()), "it replaces one");
        assert_eq!(calendar.has_room(&id("de"), &entry(Scope::Region("DE".into()), 1, 1)), Ok(()));
    }

    #[test]
    fn masked_days_are_as_the_week_before_or_left_out() {
        let daily: Vec<f64> = (0..21).map(f64::from).collect();
        let carried_over = carried_values(daily, 0b1000_0001);
        assert_eq!(carried_over[13..15], [6.0, 14.0], "the day eight days ago");
        assert_eq!(carried_over[20], 6.0, "today, whose week before is masked, too");
        assert_eq!(carried(1 << 14, 1 | 1 << 7), 1 | 1 << 7 | 1 << 14);
        assert_eq!(carried(0b111, 0b111), 0);
        assert_eq!(without(0b1001_0010, 0b0110_0011), (0b1_1001, 0b0110_0001));
        assert_eq!(without(1 << 127, 1 << 126), (1 << 126, 1 << 126));
    }

    proptest! {
        #[test]
        fn what_is_left_out_is_no_activity(bits: u128, masked: u128) {
            let (kept, gone) = without(bits, masked);
            prop_assert_eq!(kept.count_ones(), bits.count_ones());
            prop_assert_eq!(gone & bits, 0);
            prop_assert_eq!(without(bits, 0), (bits, 0));
            prop_assert_eq!(carried(bits, 0), bits);
        }
    }
}
