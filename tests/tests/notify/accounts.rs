//! The accounts behind the alerts: how many there are, and those that are deleted.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const WEEKLY: &str = "[[route]]\nname = \"weekly\"\nsinks = [\"hook\"]\nmode = \"weekly\"\n";

#[test]
fn a_deleted_account_goes_out_of_the_digests_to_come() {
    let dir = prepared();
    publish(dir.path(), &(0..4).map(alert).collect::<Vec<_>>());
    let receiver = Receiver::start(|_, _| Reply::status(200));
    let policy = format!("{LIMITS}{}{WEEKLY}", webhook("hook", &receiver.url()));
    let delivery = write(dir.path(), &policy);
    let entries = |running: &mut Bellwether, count: usize| {
        running.wait_until("the entries", LIMIT, |running| {
            let line = format!("bellwether_digest_entries{{sink=\"hook\"}} {count}\n");
            running.get("/metrics").contains(&line).then_some(())
        });
    };
    let names = |dir: &Path, account: &str| {
        let word = format!("\"{account}\"");
        memory(dir).values().filter(|row| row.contains(&word)).count()
    };
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    entries(&mut running, 4);
    let url = format!("{}/v1/accounts/account-1", running.url());
    assert_eq!(ureq::delete(&url).call().expect("it is taken").status(), 202);
    entries(&mut running, 3);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    assert_eq!([names(dir.path(), "account-1"), names(dir.path(), "account-2")], [0, 1]);

    // Nor does it come back: with the next start, or when its event is published again.
    publish(dir.path(), &[alert(4)]);
    let mut late = alert(1);
    late["id"] = json!("event-late");
    late["at"] = json!(now_ms() - 3_600_000);
    publish(dir.path(), &[late]);
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    entries(&mut running, 4);
    running.wait_until("the late event", LIMIT, |running| {
        let metrics = running.get("/metrics");
        let line = "bellwether_alerts_suppressed_total{reason=\"forgotten\"} 1\n";
        metrics.contains(line).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    assert_eq!(names(dir.path(), "account-1"), 0);
    assert_eq!(receiver.requests().len(), 0);
}

#[test]
fn the_budget_is_of_all_accounts_that_have_a_score() {
    let dir = prepared();
    let scored: Vec<Append> = (0..200)
        .map(|number| {
            let key = format!("scored-{number}").into_bytes();
            Append {
                topic: "health.score-current.v1".into(),
                partition: partition_of(&key, PARTITIONS),
                key: Some(key),
                payload: Some(b"{}".to_vec()),
                headers: Vec::new(),
                timestamp_ms: None,
            }
        })
        .collect();
    let told = records(&(0..10).map(alert).collect::<Vec<_>>());
    append(dir.path(), &[scored, told].concat());
    let receiver = Receiver::start(|_, _| Reply::status(200));
    let policy = format!(
        "{}{}{}",
        LIMITS.replace(
            "urgent_min_week = 100000",
            "urgent_min_week = 0\nurgent_per_100_accounts_week = 2.0"
        ),
        webhook("hook", &receiver.url()),
        route(&["hook"], "immediate")
    );
    let delivery = write(dir.path(), &policy);
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    running.wait_until("the rest is in the digest", LIMIT, |running| {
        let line = "bellwether_digest_entries{sink=\"hook\"} 6\n";
        running.get("/metrics").contains(line).then_some(())
    });
    wait_until_taken(&receiver, &mut running, 4);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    assert_eq!(taken(&receiver).len(), 4, "of 200 to 210 accounts");
}

#[test]
fn a_deleted_account_is_not_told_from_the_parking_topic_after_a_restart() {
    let dir = prepared();
    publish(dir.path(), &(0..4).map(alert).collect::<Vec<_>>());
    let mended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&mended);
    let receiver = Receiver::start(move |_, _| {
        Reply::status(if flag.load(Ordering::Relaxed) { 200 } else { 422 })
    });
    let sinks = ["hook", "later"].map(|name| webhook(name, &receiver.url())).concat();
    let routes = [route(&["hook"], "immediate"), route(&["later"], "weekly")].concat();
    let delivery = write(dir.path(), &format!("{LIMITS}{sinks}{routes}"));
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    running.wait_until("all is parked", LIMIT, |running| {
        (running.metric("bellwether_alerts_parked_total") >= 4.0).then_some(())
    });
    let url = format!("{}/v1/accounts/account-1", running.url());
    assert_eq!(ureq::delete(&url).call().expect("it is taken").status(), 202);
    running.wait_until("the notifier has heard of it", LIMIT, |running| {
        let line = "bellwether_digest_entries{sink=\"later\"} 3\n";
        running.get("/metrics").contains(line).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let marks = |dir: &Path| memory(dir).keys().filter(|(_, key)| key.starts_with("f/")).count();
    assert_eq!(marks(dir.path()), 1);

    let mut replay = bellwether(["notify", "parked", "replay", "--all", "--yes", "--embedded"]);
    let replay = replay.arg("--data-dir").arg(dir.path()).output().expect("it runs");
    assert_eq!(replay.status.code(), Some(0), "{}", String::from_utf8_lossy(&replay.stderr));
    mended.store(true, Ordering::Relaxed);
    // A topic in which no tombstone is left, as brokers compact them away.
    let mut command = embedded(dir.path(), Some(&delivery));
    command.env("BELLWETHER_TOPICS__PROFILES", "compacted.profiles");
    let mut running = Bellwether::spawn(command);
    wait_until_taken(&receiver, &mut running, 3);
    running.wait_until("the fourth is not told", LIMIT, |running| {
        let line = "bellwether_alerts_suppressed_total{reason=\"forgotten\"} 1\n";
        running.get("/metrics").contains(line).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    assert!(!taken(&receiver).contains("event-1"), "{:?}", taken(&receiver));
    assert_eq!(taken(&receiver).len(), 3);
}
