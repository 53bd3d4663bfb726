//! The worked examples, fed to the core as events.

use std::sync::Arc;

use bellwether_core::event::{Event, Input};
use bellwether_core::id::{AccountId, EventId, MemberId};
use bellwether_core::output::{AlertEvent, Band, Output, Severity};
use bellwether_core::points::Points;
use bellwether_core::policy::Compiled;
use bellwether_core::state::MemoryState;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Day, MINUTE_MS, Millis};

const MONDAY: Day = Day(20_458); // 2026-01-05

/// One account's events, in the making.
struct Story {
    account: AccountId,
    events: Vec<Event>,
}

impl Story {
    fn new(account: &str) -> Story {
        Story { account: AccountId::new(account).expect("a valid id"), events: Vec::new() }
    }

    fn add(&mut self, day: i32, minute: i64, kind: &str) -> &mut Event {
        let at = Millis(i64::from(MONDAY.plus(day).0) * DAY_MS + minute * MINUTE_MS);
        let id = format!("{}-{}", self.account, self.events.len());
        self.events.push(Event {
            id: EventId::new(&id).expect("a valid id"),
            account: self.account.clone(),
            occurred_at: at,
            kind: kind.to_owned(),
            member: None,
            role: None,
            feature: None,
            value: None,
            segment: None,
        });
        self.events.last_mut().expect("just pushed")
    }

    /// `per_week` events of a kind, spread evenly over a week.
    fn week(&mut self, week: i32, per_week: i32, kind: &str) {
        for n in 0..per_week {
            let minute = i64::from(n) * 7 * 1440 / i64::from(per_week);
            let event = self.add(week * 7 + (minute / 1440) as i32, minute % 1440, kind);
            event.member = Some(MemberId::new(&format!("m{}", n % 30)).expect("a valid id"));
        }
    }
}

fn run(stories: Vec<Story>, days: i32) -> (Vec<Output>, MemoryState) {
    let core = Core::new(Arc::new(Compiled::default_policy()));
    let mut state = MemoryState::default();
    let mut out = Vec::new();
    let mut events: Vec<Event> = stories.into_iter().flat_map(|story| story.events).collect();
    events.sort_by_key(|event| event.occurred_at);
    for event in events {
        let at = event.occurred_at;
        let Ok(verdict) = core.apply(&mut state, Input::Event(event), at, &mut out);
        verdict.expect("admitted");
    }
    let end = Millis(i64::from(MONDAY.plus(days).0) * DAY_MS).plus(core.policy().lateness_ms());
    let Ok(verdict) = core.apply(&mut state, Input::Tick, end, &mut out);
    verdict.expect("time passes");
    check_sums(&out);
    (out, state)
}

/// Every explanation adds up, in every record.
fn check_sums(out: &[Output]) {
    for output in out {
        match output {
            Output::ScoreChanged(change) => {
                let sum: Points = change.movements.iter().map(|movement| movement.delta).sum();
                assert_eq!(sum, change.score - change.previous_score.unwrap_or_default());
            }
            Output::Health(record) => {
                let sum: Points = record.contributions.iter().map(|line| line.points).sum();
                assert_eq!(sum, record.score, "{record:?}");
            }
            Output::Alert(_) => {}
        }
    }
}

fn alerts<'o>(out: &'o [Output], account: &str) -> Vec<&'o AlertEvent> {
    out.iter()
        .filter_map(|output| match output {
            Output::Alert(alert) if alert.account_id.as_str() == account => Some(alert.as_ref()),
            _ => None,
        })
        .collect()
}

fn day_of(at: Millis) -> i32 {
    Day((at.0 / DAY_MS) as i32).since(MONDAY)
}

fn worked_example(name: &str, whole: bool) -> Story {
    let mut story = Story::new(name);
    for week in 0..12 {
        let late = week >= 8;
        story.week(week, if late { 280 } else { 450 }, "login");
        story.week(week, if late && whole { 52 } else { 85 }, "project.created");
        for day in 0..7 {
            for n in 0..(if late && whole { 8 } else { 12 }) {
                story.add(week * 7 + day, 600, "integration.synced").feature =
                    Some(format!("i{n}"));
            }
            if !(whole && week >= 10) {
                let event = story.add(week * 7 + day, 540, "login");
                event.role = Some("admin".to_owned());
                event.member = Some(MemberId::new("boss").expect("a valid id"));
            }
        }
    }
    let tickets: &[i32] = if whole { &[12, 40, 58, 62, 66, 70, 74, 77, 80] } else { &[12, 40] };
    for &day in tickets {
        story.add(day, 700, "ticket.opened");
    }
    story
}

#[test]
fn the_worked_example_comes_out_right() {
    let (out, _) = run(vec![worked_example("acme", true), worked_example("twin", false)], 84);
    for name in ["acme", "twin"] {
        for alert in alerts(&out, name) {
            println!(
                "{name} day {} {:?} {:?} {} | {}",
                day_of(alert.at),
                alert.transition,
                alert.severity,
                alert.kind,
                alert.title
            );
            alert
                .evidence
                .iter()
                .for_each(|item| println!("      {} (z {:.1})", item.text, item.z));
        }
    }
    for output in &out {
        if let Output::ScoreChanged(change) = output {
            println!(
                "{} day {} score {} {:?}",
                change.account_id,
                day_of(change.at),
                change.score,
                change.band
            );
        }
    }
    let acme = alerts(&out, "acme");
    let churn: Vec<_> = acme.iter().filter(|alert| alert.kind == "churn_risk").collect();
    let last = churn.last().expect("a churn-risk alert");
    assert!(last.severity >= Severity::High);
    assert!(churn.iter().all(|alert| alert.alert_id == last.alert_id), "one alert");
    assert!(day_of(churn[0].at) < 80, "well before the end of week 12");
    for signal in
        ["logins", "projects_created", "active_integrations", "tickets_opened", "admin_presence"]
    {
        assert!(last.evidence.iter().any(|item| item.signal == signal), "{signal} is named");
    }
    let twin = alerts(&out, "twin");
    assert!(
        !twin.is_empty() && twin.iter().all(|alert| alert.severity <= Severity::Medium),
        "{twin:?}"
    );
    let band = out.iter().rev().find_map(|output| match output {
        Output::Health(record) if record.account_id.as_str() == "acme" => Some(record.band),
        _ => None,
    });
    assert_eq!(band, Some(Band::AtRisk));
}
