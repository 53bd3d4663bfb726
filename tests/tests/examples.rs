//! A scorecard is learned from what workers published of accounts week by week, and from who left since: no history is needed for it.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::event::Event;
use bellwether_core::id::{AccountId, EventId, MemberId};
use bellwether_core::time::{DAY_MS, Millis};
use bellwether_tests::{App, LIMIT, Outgoing, outputs, produce, stories};
use serde_json::{Value, json};

const ACCOUNTS: i64 = 40;
const DAYS: i64 = 210;
const HORIZON_DAYS: i64 = 28;

fn start_ms() -> i64 {
    (i64::from(stories::END.0) - DAYS) * DAY_MS
}

/// The day on which an account leaves, if it does.
fn leaves(account: i64) -> Option<i64> {
    (account % 3 == 0).then_some(90 + account * 11 % 100)
}

/// Logins: most days of those who stay, few in the weeks before somebody leaves, and none later.
fn events() -> Vec<Event> {
    let mut events = Vec::new();
    for (day, account) in (0..DAYS).flat_map(|day| (0..ACCOUNTS).map(move |of| (day, of))) {
        let of_ten = match leaves(account) {
            Some(left) if day >= left => 0,
            Some(left) if day >= left - 35 => 2,
            Some(_) | None => 8,
        };
        if (day * 7 + account * 3 + day * account) % 10 >= of_ten {
            continue;
        }
        events.push(Event {
            id: EventId::new(&format!("{account}-{day}")).expect("an identifier"),
            account: AccountId::new(&format!("a{account}")).expect("an identifier"),
            occurred_at: Millis(start_ms() + day * DAY_MS + DAY_MS / 2 + account),
            kind: "login".to_owned(),
            member: Some(MemberId::new("m").expect("an identifier")),
            role: None,
            feature: None,
            value: None,
            segment: Some(if account % 2 == 0 { "smb" } else { "enterprise" }.to_owned()),
        });
    }
    events
}

/// When an account left, in milliseconds since 1970.
fn left_ms(account: &str) -> Option<i64> {
    let number = account.strip_prefix('a')?.parse().ok()?;
    leaves(number).map(|day| start_ms() + day * DAY_MS)
}

fn say_who_left(app: &App) {
    let left = (0..ACCOUNTS).map(|number| format!("a{number}"));
    let left = left.filter_map(|account| left_ms(&account).map(|at| (account, at)));
    let records: Vec<Outgoing> = left
        .map(|(account, at)| {
            let outcome = json!({"outcome_id": account, "account_id": account, "kind": "churned", "occurred_at": at});
            let id = AccountId::new(&account).expect("an identifier");
            app.record(&id, outcome.to_string().into_bytes())
        })
        .collect();
    produce(app.bootstrap(), &app.topic("outcomes"), &records);
}

fn at_ms(example: &Value) -> i64 {
    let text = example["at"].as_str().expect("a time");
    Millis::parse(text).expect("a time").0
}

/// Examples whose account was there and was observed for a whole horizon, and those of them whose account left within it.
fn known(examples: &[Value]) -> (usize, usize) {
    let end = examples.iter().map(at_ms).max().expect("examples");
    let horizon_ms = HORIZON_DAYS * DAY_MS;
    let mut counts = (0, 0);
    for example in examples {
        let at = at_ms(example);
        let left = left_ms(example["account_id"].as_str().expect("an account"));
        if left.is_some_and(|left| left <= at) || at + horizon_ms > end {
            continue;
        }
        counts.0 += 1;
        counts.1 += usize::from(left.is_some_and(|left| left <= at + horizon_ms));
    }
    counts
}

#[test]
fn a_scorecard_is_learned_from_what_workers_published() {
    let app = App::prepare("examples", 2, "");
    let model = tempfile::tempdir().expect("a directory");
    let model = model.path().join("model.json").display().to_string();
    let fit = ["learn", "fit", "--examples", "--out", &model];
    let nothing = app.command_of(&fit).output().expect("the binary runs");
    let why = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert_eq!(nothing.status.code(), Some(2), "{why}");
    assert!(why.contains("no example") && why.contains("learning.example_days"), "{why}");

    app.produce(&events());
    let mut running = app.start();
    app.wait_until_done(&mut running);
    say_who_left(&app);
    let metrics = running.get("/metrics");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    let examples = outputs(&app, "examples");
    let counted = format!("bellwether_outputs_total{{kind=\"example\"}} {}\n", examples.len());
    assert!(metrics.contains(&counted), "{counted}");
    let ids: BTreeSet<&str> = examples.iter().filter_map(|of| of["id"].as_str()).collect();
    assert_eq!(ids.len(), examples.len(), "each has an id of its own");
    let mut times: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for example in &examples {
        let account = example["account_id"].as_str().expect("an account");
        times.entry(account).or_default().push(at_ms(example));
    }
    for (account, times) in &times {
        for (before, after) in times.iter().zip(times.iter().skip(1)) {
            assert_eq!(after - before, 7 * DAY_MS, "{account}");
        }
        // 1970-01-01 was a Thursday.
        let weekday = times[0].div_euclid(DAY_MS) % 7;
        assert_eq!(
            (weekday, times[0] % DAY_MS < DAY_MS / 4),
            (4, true),
            "Monday, early: {account}"
        );
    }

    let found = app.run(&fit);
    let (count, left) = known(&examples);
    assert!(left > 20, "{left} of {count}");
    assert_eq!(
        (&found["report"]["examples"], &found["report"]["outcomes"]),
        (&json!(count), &json!(left))
    );
    assert_eq!(found["report"]["data"]["examples"], examples.len());
    assert_eq!(found["horizon_days"], HORIZON_DAYS);
    let auc = found["report"]["holdout"]["all"]["auc"][0].as_f64().expect("a hold-out");
    assert!(auc > 0.8, "who fades before leaving is easily told: {auc}");
    let cohorts = found["report"]["data"]["cohorts"].as_object().expect("cohorts");
    assert!(cohorts.contains_key("smb") && cohorts.contains_key("enterprise"), "{cohorts:?}");

    // It can be promoted, and those of another horizon are not mixed in.
    let promoted = app.run(&["learn", "promote", &model]);
    assert_eq!(promoted["model"].as_str().map(|text| text.contains("card")), Some(true));
    let other = [&fit[..], &["--horizon-days", "56"]].concat();
    let other = app.command_of(&other).output().expect("the binary runs");
    let why = String::from_utf8_lossy(&other.stderr).into_owned();
    assert_eq!(other.status.code(), Some(2), "{why}");
    assert!(why.contains(&format!("{} of 28 days", examples.len())), "{why}");
}
