//! Requests as a notifier without a partition of alerts takes them.

use super::super::since::tests::Tape;
use super::*;
use crate::planner::Suppressed;
use crate::policy::Loaded;
use bellwether_engine::embedded::{Embedded, Role};
use bellwether_engine::log::Append;
use bellwether_store::Shared;
use bellwether_store::log_store::Retention;
use std::sync::Arc;

/// What a notifier without a partition of alerts has.
struct Scene {
    log: Embedded,
    planner: Planner,
    requests: Requests,
    unreadable: Vec<(Record, String)>,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().expect("a directory");
        let log = Embedded::open(dir.path(), &Shared::new(8 << 20), 1_000_000).expect("a log");
        for topic in ["alerts", "parked"] {
            log.create_topic(topic, 1, Retention::Forever).expect("a new topic");
        }
        let policy = Loaded::builtin();
        let mut planner = Planner::new(Arc::clone(policy.texts()), policy.version());
        planner.assign(0);
        let requests = Requests::new("parked".into(), "alerts".into());
        Scene { log, planner, requests, unreadable: Vec::new(), _dir: dir }
    }

    /// Appends records, requests or not. What they hold is no delivery, so that each request that is taken is unreadable.
    fn append(&self, count: usize, are_requests: bool) {
        let name = if are_requests { REQUEST } else { "bellwether.reason" };
        let record = Append {
            topic: "parked".into(),
            partition: 0,
            key: None,
            payload: Some(b"?".to_vec()),
            headers: vec![(name.to_owned(), b"0/0".to_vec())],
            timestamp_ms: None,
        };
        self.log.append(&vec![record; count], Duration::from_secs(60)).expect("room");
    }

    /// One look. Returns how many were taken so far.
    fn look(&mut self) -> usize {
        let mut log = self.log.consume_as(Role::Notifier, &["alerts".into()]).expect("a log");
        self.look_at(&mut log)
    }

    fn look_at(&mut self, log: &mut dyn Log) -> usize {
        let mut decoder = Decoder::new(None, 1 << 20).expect("a decoder");
        let mut desk = Desk {
            planner: &mut self.planner,
            decoder: &mut decoder,
            unreadable: &mut self.unreadable,
            now_ms: 0,
        };
        self.requests.follow(log, &mut desk, Duration::ZERO).expect("a look");
        self.unreadable.len()
    }
}

#[test]
fn a_topic_that_was_created_anew_is_followed_from_its_end_and_the_row_says_so() {
    let mut scene = Scene::new();
    scene.planner.set_redriven(0, 50);
    scene.requests.assign(0, scene.planner.redriven_to(0));
    scene.append(1, true);
    assert_eq!(scene.look(), 0);
    assert_eq!(scene.planner.redriven_to(0), 1, "a start from here misses nothing");
    scene.append(1, true);
    assert_eq!(scene.look(), 1);
    assert_eq!(scene.planner.redriven_to(0), 2);
}

#[test]
fn a_request_behind_pages_of_what_was_parked_is_found_at_once_and_few_enough_are_taken() {
    let mut scene = Scene::new();
    scene.requests.assign(0, 0);
    scene.append(2 * PAGE + 50, false);
    scene.append(1, true);
    assert_eq!(scene.look(), 1);
    scene.append(TAKEN_MAX + PAGE, true);
    let taken = scene.look();
    assert!(taken > PAGE && taken < TAKEN_MAX + PAGE, "{taken}");
}
/// An event of an alert, into a topic.
fn event(scene: &Scene, topic: &str, alert: &Alert, headers: &[(&str, &str)]) {
    let headers = headers.iter();
    let headers = headers.map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    let record = Append {
        topic: topic.into(),
        partition: 0,
        key: Some(alert.account_id.as_bytes().to_vec()),
        payload: serde_json::to_vec(alert).ok(),
        headers: headers.collect(),
        timestamp_ms: None,
    };
    scene.log.append(&[record], Duration::from_secs(60)).expect("room");
}

#[test]
fn an_event_that_can_be_read_by_now_is_told_nobody_where_its_alert_is_over() {
    let mut scene = Scene::new();
    scene.requests.assign(0, 0);
    let (sample, _) = crate::event::sample(bellwether_core::time::Millis(0));
    let of = |alert: &str, transition: &str| Alert {
        id: format!("{alert}-{transition}"),
        alert_id: alert.to_owned(),
        transition: transition.to_owned(),
        ..sample.clone()
    };
    for alert in [of("over", "opened"), of("open", "opened"), of("over", "resolved")] {
        event(&scene, "alerts", &alert, &[]);
    }
    let asked = [("bellwether.reason", "undecodable"), (REQUEST, "0/0")];
    for alert in ["over", "open"] {
        event(&scene, "parked", &of(alert, "opened"), &asked);
    }
    for _ in ["what is asked for", "what is to be looked up"] {
        scene.look();
        assert_eq!(scene.planner.redriven_to(0), 0, "the alerts are looked up first");
    }
    assert_eq!(scene.look(), 0);
    assert_eq!(scene.planner.redriven_to(0), 2);
    // The built-in policy has no routes: one came as far as that.
    let suppressed = [(Suppressed::NoRoute, 1), (Suppressed::Ended, 1)];
    assert_eq!(scene.planner.take_suppressed(), suppressed.into());
    // Nothing is looked up where nothing is in doubt.
    scene.append(1, true);
    assert_eq!(scene.look(), 1);
}

#[test]
fn one_pass_over_the_alerts_answers_any_number_of_requests() {
    const REQUESTS: usize = TAKEN_MAX + 3 * PAGE;
    let (sample, _) = crate::event::sample(bellwether_core::time::Millis(0));
    let of = |number: usize, transition: &str| Alert {
        id: format!("{number}-{transition}"),
        alert_id: format!("alert-{number}"),
        account_id: format!("account-{number}"),
        transition: transition.to_owned(),
        ..sample.clone()
    };
    let mut scene = Scene::new();
    scene.requests.assign(0, 0);
    let mut log = Tape::new();
    for transition in ["opened", "resolved"] {
        (0..REQUESTS).for_each(|number| log.append("alerts", &of(number, transition), &[]));
    }
    let asked = [("bellwether.reason", "undecodable"), (REQUEST, "0/0")];
    (0..REQUESTS).for_each(|number| log.append("parked", &of(number, "opened"), &asked));
    let mut looks = 0;
    while scene.planner.redriven_to(0) < i64::try_from(REQUESTS).expect("small") {
        scene.look_at(&mut log);
        looks += 1;
        assert!(looks < 1_000, "it comes to an end");
    }
    assert_eq!(scene.planner.take_suppressed(), [(Suppressed::Ended, REQUESTS as u64)].into());
    assert_eq!(log.read_of("alerts"), 2 * REQUESTS, "each record was read once");
}

#[test]
fn what_does_not_fit_into_one_look_up_is_looked_up_in_the_next() {
    let (sample, _) = crate::event::sample(bellwether_core::time::Millis(0));
    let mut wanted = Wanted::default();
    for number in 0.. {
        if wanted.is_full() {
            break;
        }
        let event =
            Alert { id: number.to_string(), alert_id: (number / 4).to_string(), ..sample.clone() };
        wanted.add(&event, 0..1);
        wanted.add(&event, 0..1);
        assert_eq!(wanted.len(), number + 1, "an event counts once");
    }
    // What is asked for beyond that waits for its turn, and no event is decided by what another look-up knows.
    let mut lookup = Lookup::new("alerts".into(), wanted);
    let mut decoder = Decoder::new(None, 1 << 20).expect("a decoder");
    let level =
        lookup.catch_up(&mut Tape::new(), &mut decoder, LOOK).expect("read").expect("level");
    let of = |id: &str, alert: &str| Alert {
        id: id.to_owned(),
        alert_id: alert.to_owned(),
        ..sample.clone()
    };
    assert!(level.holds(&of("5", "1")) && level.holds(&of("5/close", "1")));
    assert!(!level.holds(&of("5", "2")) && !level.holds(&of("x", "1")));
}
