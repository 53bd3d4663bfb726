//! The fleet view on a real Kafka: partitions tell each other what their cohorts did, and what happens to all is one alert.

use bellwether_core::id::AccountId;
use bellwether_tests::{App, LIMIT, consume_all, produce, stories};
use serde_json::{Value, json};

const ACCOUNTS: usize = 60;
const DAYS: i64 = 31;
const HOUR_MS: i64 = 3_600_000;
/// On the last day, for an hour, three in four of all accounts do nothing.
const OUTAGE_HOUR: i64 = 14;

/// A login per account and working hour.
fn feed(app: &App) {
    let end = i64::from(stories::END.0) * 24 * HOUR_MS;
    let mut records = Vec::new();
    for hour in (0..DAYS * 24).filter(|hour| (8..20).contains(&(hour % 24))) {
        let is_out = hour == (DAYS - 1) * 24 + OUTAGE_HOUR;
        for account in (0..ACCOUNTS).filter(|account| !is_out || account % 4 == 0) {
            let at = end - DAYS * 24 * HOUR_MS + hour * HOUR_MS + account as i64 * 30_000;
            let id = format!("eu-{account}");
            let event = json!({"event_id": format!("{hour}"), "account_id": id, "type": "login", "segment": "eu", "occurred_at": at});
            let id = AccountId::new(&id).expect("valid");
            records.push(app.record(&id, event.to_string().into_bytes()));
        }
    }
    produce(app.bootstrap(), &app.topic("events"), &records);
}

fn alerts(app: &App) -> Vec<Value> {
    let records = app.content("alerts").into_iter().filter_map(|(_, _, payload)| payload);
    records.map(|payload| serde_json::from_str(&payload).expect("JSON")).collect()
}

#[test]
fn what_happens_to_all_accounts_is_one_alert() {
    let app = App::prepare("fleet", 2, "");
    feed(&app);
    app.finish_input();
    let mut running = app.start();
    app.wait_until_done(&mut running);
    // What partitions tell each other is input, too, and may come after everything else.
    running.wait_until("the alert", LIMIT, |_| (!alerts(&app).is_empty()).then_some(()));
    let listed = running.get("/v1/alerts?open=true");
    assert!(listed.contains("\"*eu\""), "{listed}");
    let page = running.get("/alerts");
    assert!(page.contains("logins of all eu accounts fell by"), "{page}");
    assert!(!page.contains("/accounts/%2Aeu"), "a cohort has no page");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    let alerts = alerts(&app);
    let opened: Vec<&Value> = alerts.iter().filter(|it| it["transition"] == "opened").collect();
    let [alert] = opened[..] else { panic!("one alert: {alerts:?}") };
    assert_eq!(
        (&alert["kind"], &alert["account_id"], &alert["severity"]),
        (&json!("fleet"), &json!("*eu"), &json!("high")),
    );
    let title = alert["title"].as_str().expect("a title");
    let when = format!("{OUTAGE_HOUR}:00 UTC on {}", stories::END.plus(-1));
    assert!(title.contains(&when), "{title}");
    let logins = alert["evidence"].as_array().expect("a list");
    let logins = logins.iter().find(|item| item["signal"] == "logins").expect("they fell");
    let change = logins["change_pct"].as_f64().expect("a number");
    assert!((change + 75.0).abs() < 12.0, "{logins}");

    // Both partitions told, and each was told.
    let told = consume_all(app.bootstrap(), &app.topic("cohort_stats"));
    let by = |source: u32, kind: &str| -> Vec<i32> {
        let prefix = format!("{{\"source\":{source},\"message\":{{\"{kind}\"");
        let of = |payload: &[u8]| payload.starts_with(prefix.as_bytes());
        let told = told.iter().filter(|it| it.payload.as_deref().is_some_and(of));
        told.map(|it| it.partition).collect()
    };
    assert!(!by(0, "part").is_empty() && !by(1, "part").is_empty());
    let mut totals = [by(0, "total"), by(1, "total")].concat();
    totals.sort_unstable();
    totals.dedup();
    assert_eq!(totals, [0, 1]);

    // It stays open in a process that reads it back.
    let mut running = app.start();
    running.wait_until_ready();
    let listed = running.get("/v1/alerts?open=true");
    assert!(listed.contains("\"*eu\""), "{listed}");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
}
