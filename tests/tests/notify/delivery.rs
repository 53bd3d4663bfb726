//! Over sinks that fail and hang, across kills of the process, on the embedded log.

use super::*;

#[test]
fn a_thousand_alerts_reach_a_sink_that_fails_and_hangs_across_kills_each_under_one_key() {
    let dir = prepared();
    let alerts: Vec<Value> = (0..ALERTS).map(alert).collect();
    publish(dir.path(), &alerts);
    let receiver = Receiver::start(moody(1));
    let policy =
        format!("{LIMITS}{}{}", webhook("hook", &receiver.url()), route(&["hook"], "immediate"));
    let delivery = write(dir.path(), &policy);
    for share in [ALERTS / 5, ALERTS / 2] {
        let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
        wait_until_taken(&receiver, &mut running, share);
        running.kill();
    }
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    wait_until_taken(&receiver, &mut running, ALERTS);
    running.wait_until("the end of the work", LIMIT, |running| {
        let metrics = running.get("/metrics");
        metrics.contains("bellwether_deliveries_waiting{sink=\"hook\"} 0").then_some(())
    });
    let settled = receiver.requests().len();
    assert_each_once(&receiver, ALERTS);
    assert_eq!(running.metric("bellwether_alerts_parked_total"), 0.0);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    // After a restart, and when the engine publishes the same events again, nobody is told again.
    publish(dir.path(), &alerts[..50]);
    publish(dir.path(), &[alert(ALERTS)]);
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    wait_until_taken(&receiver, &mut running, ALERTS + 1);
    let again = receiver.requests().split_off(settled);
    assert!(again.iter().all(|(request, _)| event_id(request) == format!("event-{ALERTS}")));
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
}

/// A thousand accounts ask for attention in one moment. People are told of as many as the built-in budget allows (50 of 1,000), and of all that
/// are critical; nothing is lost of the rest, and a kill in the midst of it is no second budget.
#[test]
fn a_storm_of_urgent_alerts_is_told_within_the_budget_and_the_rest_waits_for_the_digest() {
    const CRITICAL: usize = 20;
    let dir = prepared();
    let storm: Vec<Value> = (0..ALERTS)
        .map(|number| {
            let mut alert = alert(number);
            if number % (ALERTS / CRITICAL) == 7 {
                alert["severity"] = json!("critical");
            }
            alert
        })
        .collect();
    let mut told = records(&storm);
    let scored = told.iter().map(|alert| Append {
        topic: "health.score-current.v1".into(),
        payload: Some(b"{}".to_vec()),
        ..alert.clone()
    });
    told = scored.chain(told.clone()).collect();
    append(dir.path(), &told);
    let receiver = Receiver::start(moody(3));
    let (limits, _) = LIMITS.split_once("[budget]").expect("a budget of its own");
    let policy =
        format!("{limits}{}{}", webhook("hook", &receiver.url()), route(&["hook"], "immediate"));
    let delivery = write(dir.path(), &policy);
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    wait_until_taken(&receiver, &mut running, 15);
    running.kill();
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    running.wait_until("all of it is told or in the digest", LIMIT, |running| {
        let metrics = running.get("/metrics");
        let idle = metrics.contains("bellwether_deliveries_waiting{sink=\"hook\"} 0\n");
        let in_digest = metrics.lines().find_map(|line| {
            line.strip_prefix("bellwether_digest_entries{sink=\"hook\"} ")?.parse::<usize>().ok()
        });
        let at_once = taken(&receiver).len();
        (idle && in_digest.is_some_and(|count| count + at_once == ALERTS)).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let at_once = taken(&receiver);
    assert_each_once(&receiver, at_once.len());
    let (critical, high): (Vec<&Value>, Vec<&Value>) = storm
        .iter()
        .filter(|alert| at_once.contains(alert["id"].as_str().expect("an id")))
        .partition(|alert| alert["severity"] == "critical");
    assert_eq!(critical.len(), CRITICAL, "critical ones know no budget");
    // Critical ones count in it where they come first.
    assert!((50 - CRITICAL..=50).contains(&high.len()), "{} that are high", high.len());
}

#[test]
fn a_sink_that_hangs_holds_up_no_other_and_what_it_never_takes_is_parked() {
    let dir = prepared();
    publish(dir.path(), &(0..40).map(alert).collect::<Vec<_>>());
    let hanging = Receiver::start(|_, _| Reply::Hang);
    let broken = Receiver::start(|_, _| Reply::status(422));
    let good = Receiver::start(|_, _| Reply::status(200));
    // Trials of a sink that was left alone do not count: here each attempt does.
    let limits = LIMITS
        .replace("attempts_max = 100", "attempts_max = 2")
        .replace("failures = 20", "failures = 1000");
    let policy = [
        limits,
        webhook("hanging", &hanging.url()),
        webhook("broken", &broken.url()),
        webhook("good", &good.url()),
        route(&["hanging", "broken", "good"], "immediate"),
    ]
    .concat();
    let delivery = write(dir.path(), &policy);
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    wait_until_taken(&good, &mut running, 40);
    running.wait_until("all is parked that is not taken", LIMIT, |running| {
        (running.metric("bellwether_alerts_parked_total") >= 80.0).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let parked = embedded_records(dir.path(), "health.alerts.parked.v1");
    let of = |reason: &str| {
        parked.iter().filter(|record| header(record, "bellwether.reason") == reason).count()
    };
    assert_eq!((of("attempts"), of("rejected"), parked.len()), (40, 40, 80));
    let value = parked[0].payload.as_deref().expect("the delivery");
    let value: Value = serde_json::from_slice(value).expect("JSON");
    assert_eq!(Some(value["subject"]["alert"]["alert"]["account_id"].to_string()), {
        parked[0].key.as_deref().map(|key| format!("{:?}", String::from_utf8_lossy(key)))
    });
}

#[test]
fn what_is_no_alert_is_parked_and_holds_nothing_up() {
    let dir = prepared();
    publish(dir.path(), &[json!({"account_id": "account-1", "nonsense": true}), alert(1)]);
    let receiver = Receiver::start(|_, _| Reply::status(200));
    let policy =
        format!("{LIMITS}{}{}", webhook("hook", &receiver.url()), route(&["hook"], "immediate"));
    let delivery = write(dir.path(), &policy);
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    wait_until_taken(&receiver, &mut running, 1);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let parked = embedded_records(dir.path(), "health.alerts.parked.v1");
    let reasons: Vec<String> =
        parked.iter().map(|record| header(record, "bellwether.reason")).collect();
    assert_eq!(reasons, ["undecodable"]);
}
