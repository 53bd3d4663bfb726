//! Story accounts: small made-up customers whose weeks are told as events, each to show one thing. They are made, not
//! measured, and their ids say so (`story-…`). Everything is a function of the day on which the stories end.

use bellwether_core::event::{Event, Profile};
use bellwether_core::id::{AccountId, EventId, MemberId};
use bellwether_core::time::{DAY_MS, Day, MINUTE_MS, Millis};

/// A story account with its events, in order of time.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    /// The account's profile.
    pub(crate) profile: Profile,
    /// What happened.
    pub(crate) events: Vec<Event>,
}

/// Weeks that a full story lasts.
const WEEKS: i32 = 12;

struct Teller {
    account: AccountId,
    name: &'static str,
    segment: &'static str,
    /// The first day of the story.
    first: Day,
    events: Vec<Event>,
}

impl Teller {
    /// A story of `weeks` weeks that ends with the day before `end`.
    fn new(id: &str, name: &'static str, segment: &'static str, end: Day, weeks: i32) -> Teller {
        let account = AccountId::new(id).expect("story ids are valid");
        Teller { account, name, segment, first: end.plus(-7 * weeks), events: Vec::new() }
    }

    fn add(&mut self, day: i32, minute: i64, kind: &str) -> &mut Event {
        let at = Millis(i64::from(self.first.plus(day).0) * DAY_MS + minute * MINUTE_MS);
        let id = format!("{}-{:05}", self.account, self.events.len());
        self.events.push(Event {
            id: EventId::new(&id).expect("story ids are valid"),
            account: self.account.clone(),
            occurred_at: at,
            kind: kind.to_owned(),
            member: None,
            role: None,
            feature: None,
            value: None,
            segment: Some(self.segment.to_owned()),
        });
        self.events.last_mut().expect("an event was just added")
    }

    fn member(
        &mut self,
        day: i32,
        minute: i64,
        kind: &str,
        member: &str,
        role: Option<&str>,
    ) -> &mut Event {
        let event = self.add(day, minute, kind);
        event.member = Some(MemberId::new(member).expect("story ids are valid"));
        event.role = role.map(str::to_owned);
        event
    }

    /// `per_week` events of a kind in each of `weeks`, spread evenly, by up to `members` members.
    fn steady(&mut self, weeks: std::ops::Range<i32>, per_week: i32, kind: &str, members: i32) {
        for week in weeks {
            for n in 0..per_week {
                let minute = i64::from(n) * 7 * 1440 / i64::from(per_week);
                let day = week * 7 + i32::try_from(minute / 1440).unwrap_or(0);
                self.member(day, minute % 1440, kind, &format!("member-{}", n % members), None);
            }
        }
    }

    /// `count` integrations synchronise on every day of `weeks`.
    fn integrations(&mut self, weeks: std::ops::Range<i32>, count: i32) {
        for day in weeks.start * 7..weeks.end * 7 {
            for n in 0..count {
                self.add(day, 600, "integration.synced").feature = Some(format!("integration-{n}"));
            }
        }
    }

    fn admin_daily(&mut self, weeks: std::ops::Range<i32>) {
        for day in weeks.start * 7..weeks.end * 7 {
            self.member(day, 540, "login", "admin", Some("admin"));
        }
    }

    fn tickets(&mut self, days: &[i32]) {
        for &day in days {
            self.add(day, 700, "ticket.opened");
        }
    }

    fn tell(mut self) -> Story {
        self.events.sort_by(|left, right| {
            left.occurred_at.cmp(&right.occurred_at).then_with(|| left.id.cmp(&right.id))
        });
        let profile = Profile {
            account: self.account,
            as_of: Millis(i64::from(self.first.0) * DAY_MS),
            name: Some(self.name.to_owned()),
            segment: Some(self.segment.to_owned()),
            plan: Some("pro".to_owned()),
            time_zone: None,
            region: None,
            started_on: Some(self.first),
            renews_on: None,
            owner: None,
            annual_value_usd: None,
            entitlements: std::collections::BTreeMap::new(),
            fiscal_year_end: None,
        };
        Story { profile, events: self.events }
    }
}

/// All stories; each ends with the day before `end`.
pub(crate) fn all(end: Day) -> Vec<Story> {
    vec![
        slipping(end),
        twin(end),
        small_fallen(end),
        small_steady(end),
        sessions(end),
        two_weeks(end),
        sentiment(end),
        explorer(end),
    ]
}

/// Weeks 1-8: 450 logins and 85 projects a week, 12 integrations, 2 tickets, an admin every day. Weeks 9-12: 280, 52, 8 and 7
/// tickets, and no admin in weeks 11-12.
fn slipping(end: Day) -> Story {
    let mut story =
        Teller::new("story-slipping", "Acme Logistics (story)", "enterprise", end, WEEKS);
    story.steady(0..8, 443, "login", 40);
    story.steady(8..12, 275, "login", 40);
    story.steady(0..8, 85, "project.created", 20);
    story.steady(8..12, 52, "project.created", 20);
    story.integrations(0..8, 12);
    story.integrations(8..12, 8);
    story.admin_daily(0..10);
    story.tickets(&[12, 40, 58, 62, 66, 70, 74, 77, 80]);
    story.tell()
}

/// The same account, but its logins alone fall.
fn twin(end: Day) -> Story {
    let mut story = Teller::new("story-twin", "Bolt Freight (story)", "enterprise", end, WEEKS);
    story.steady(0..8, 443, "login", 40);
    story.steady(8..12, 273, "login", 40);
    story.steady(0..12, 85, "project.created", 20);
    story.integrations(0..12, 12);
    story.admin_daily(0..12);
    story.tickets(&[12, 40]);
    story.tell()
}

/// Used to 15 logins a week, now at 8.
fn small_fallen(end: Day) -> Story {
    let mut story =
        Teller::new("story-small-fallen", "Cedar Clinic (story)", "smb", end, WEEKS + 1);
    story.steady(0..8, 15, "login", 4);
    story.steady(8..13, 8, "login", 4);
    story.tell()
}

/// Always at 8 logins a week.
fn small_steady(end: Day) -> Story {
    let mut story = Teller::new("story-small-steady", "Dune Dental (story)", "smb", end, WEEKS + 1);
    story.steady(0..13, 8, "login", 4);
    story.tell()
}

/// Sessions of 45 minutes become sessions of 12.
fn sessions(end: Day) -> Story {
    let mut story = Teller::new("story-sessions", "Ember Studio (story)", "smb", end, WEEKS);
    story.steady(0..12, 30, "login", 6);
    for day in 0..84 {
        for n in 0..4 {
            let minutes = if day < 63 { 43.0 } else { 10.0 } + f64::from(n);
            let event =
                story.member(day, 600 + i64::from(n) * 90, "session.ended", "member-1", None);
            event.value = Some(minutes);
        }
    }
    story.tell()
}

/// Projects fall by 40 % over the last two weeks.
fn two_weeks(end: Day) -> Story {
    let mut story = Teller::new("story-two-weeks", "Fjord Media (story)", "mid", end, WEEKS);
    story.steady(0..12, 120, "login", 15);
    story.steady(0..10, 100, "project.created", 15);
    story.steady(10..12, 60, "project.created", 15);
    story.tell()
}

/// Three support interactions, each more frustrated than the one before.
fn sentiment(end: Day) -> Story {
    let mut story = Teller::new("story-sentiment", "Grove Foods (story)", "mid", end, WEEKS);
    story.steady(0..12, 80, "login", 10);
    for (day, value) in
        [(10, 0.1), (24, 0.0), (37, 0.05), (52, 0.0), (72, -0.05), (76, -0.4), (80, -0.75)]
    {
        story.member(day, 800, "support.message", "member-2", None).value = Some(value);
    }
    story.tell()
}

/// New, and exploring slowly: onboarding, not risk.
fn explorer(end: Day) -> Story {
    let mut story = Teller::new("story-explorer", "Harbor Yoga (story)", "smb", end, 3);
    for day in [0, 1, 4, 9, 15] {
        story.member(day, 660, "login", "member-0", Some("admin"));
        story.member(day, 664, "feature.used", "member-0", Some("admin")).feature =
            Some("calendar".to_owned());
    }
    story.tell()
}
