//! Watched signals: every value of a gauge is judged against what its series has shown so far, through the whole engine.

use std::sync::{Arc, Mutex};

use bellwether_core::account::Account;
use bellwether_core::event::{Event, Input};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::{AlertEvent, Output, Sample, Severity, Transition};
use bellwether_core::policy::Compiled;
use bellwether_core::state::{MemoryState, State};
use bellwether_core::step::{Core, Observer};
use bellwether_core::time::{HOUR_MS, MINUTE_MS, Millis};

const POLICY: &str = r#"
name = "gauges"
[[signal]]
name = "latency"
label = "latency"
category = "engagement"
group = "latency"
direction = "up"
aggregate = "mean"
match = { types = ["latency"] }
unit = "ms"
weight = 5.0
kind = "slow"
watched = true
[[signal]]
name = "seats"
category = "adoption"
group = "seats"
direction = "down"
aggregate = "last"
match = { types = ["seats"] }
unit = "seats"
weight = 5.0
kind = "seats_lost"
"#;
const START: i64 = 1_704_067_200_000;

struct Run {
    core: Core,
    state: MemoryState,
    samples: Arc<Mutex<Vec<Sample>>>,
    alerts: Vec<AlertEvent>,
}

impl Run {
    fn new() -> Run {
        let policy = Compiled::parse("gauges.toml", POLICY).expect("a good policy");
        let samples = Arc::<Mutex<Vec<Sample>>>::default();
        let seen = Arc::clone(&samples);
        let observer = Observer::new(|_| {}).and_samples(move |sample| {
            seen.lock().expect("no panic").push(sample.clone());
        });
        let core = Core::new(Arc::new(policy)).observed(observer);
        Run { core, state: MemoryState::default(), samples, alerts: Vec::new() }
    }

    fn send(&mut self, kind: &str, id: &str, at: Millis, value: f64) {
        let event = Event {
            id: EventId::new(id).expect("valid"),
            account: AccountId::new("a").expect("valid"),
            occurred_at: at,
            kind: kind.to_owned(),
            member: None,
            role: None,
            feature: None,
            value: Some(value),
            segment: None,
        };
        let mut out = Vec::new();
        let Ok(verdict) = self.core.apply(&mut self.state, Input::Event(event), at, &mut out);
        verdict.expect("admitted");
        let alerts = out.iter().filter_map(Output::alert).cloned();
        self.alerts.extend(alerts);
    }

    fn account(&self) -> &Account {
        self.state.accounts().into_values().next().expect("one account")
    }
}

/// A calm value: a wave over the day and a deterministic ripple.
fn calm(minute: i64) -> f64 {
    let hour = (minute / 60 % 24) as f64;
    let ripple = (minute * 7_919 % 101) as f64 / 101.0;
    40.0 + 5.0 * (hour / 24.0 * std::f64::consts::TAU).sin() + 4.0 * ripple
}

#[test]
fn a_value_unlike_all_before_it_is_news_at_once_and_one_alert() {
    let mut run = Run::new();
    // Two months of a value every ten minutes, on the last day one that is five times as high, and then as ever.
    let (step, last) = (10, 60 * 24 * 60);
    let odd = last - 5 * 60;
    for minute in (0..last).step_by(step) {
        let value = if minute == odd { 200.0 } else { calm(minute) };
        run.send("latency", &minute.to_string(), Millis(START + minute * MINUTE_MS), value);
    }
    let at = Millis(START + odd * MINUTE_MS);
    let slow: Vec<&AlertEvent> = run.alerts.iter().filter(|it| it.kind == "slow").collect();
    let opened: Vec<_> = slow.iter().filter(|it| it.transition == Transition::Opened).collect();
    let [alert] = opened[..] else { panic!("one alert: {slow:?}") };
    assert_eq!(alert.at, at, "at once");
    assert!(alert.severity <= Severity::Medium, "one signal alone is nothing urgent");
    let item = &alert.evidence[0];
    assert!(item.risk && item.is_run() && item.z > 3.0, "{item:?}");
    assert_eq!(item.observed, 200.0);
    assert!((item.baseline - 42.0).abs() < 8.0, "{item:?}");
    assert!(item.text.starts_with("latency rose to 200 ms, where about "), "{}", item.text);
    let samples = run.samples.lock().expect("no panic");
    assert_eq!(samples.len(), (last / step as i64) as usize);
    let sample = samples.iter().find(|sample| sample.at == at).expect("it was seen");
    assert!(sample.verdict.alert && sample.verdict.peak && sample.verdict.score > 0.9999);
}

#[test]
fn only_watched_signals_have_a_watch_and_old_values_are_not_looked_at() {
    let mut run = Run::new();
    for hour in 0..48 {
        run.send("latency", &format!("l{hour}"), Millis(START + hour * HOUR_MS), 40.0);
        run.send("seats", &format!("s{hour}"), Millis(START + hour * HOUR_MS), 10.0);
    }
    assert_eq!(run.account().watched.len(), 1);
    let before = run.account().watched.clone();
    run.send("latency", "late", Millis(START + 40 * HOUR_MS + 1), 1e9);
    assert_eq!(run.account().watched, before, "it is counted, and says nothing of now");
    let Ok(known) = run.state.take(&AccountId::new("a").expect("valid"));
    assert_eq!(known.expect("it is there").watched, before);
}

#[test]
fn only_values_can_be_watched() {
    for (wrong, said) in [
        (POLICY.replacen("\"mean\"", "\"count\"", 1), "signal[0] (latency).watched"),
        (format!("{POLICY}\n[watch]\nalert_score = 1.0\n"), "watch.alert_score"),
        (format!("{POLICY}\n[watch]\nquiet_share = 0.9\n"), "watch.quiet_share"),
    ] {
        let error = Compiled::parse("wrong.toml", &wrong).expect_err("refused").to_string();
        assert!(error.contains(said), "{error}");
    }
}
