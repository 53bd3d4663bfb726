//! What could not be told is listed and sent again.

use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Refuses everything for good, until it is mended; from then on it is as moody as others.
fn mended_later(seed: u64) -> (Receiver, Arc<AtomicBool>) {
    let is_mended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_mended);
    let mood = moody(seed);
    let receiver = Receiver::start(move |count, request| {
        if flag.load(Ordering::Relaxed) { mood(count, request) } else { Reply::status(422) }
    });
    (receiver, is_mended)
}

/// The key of each event, over all attempts.
fn keys(receiver: &Receiver) -> BTreeSet<(String, String)> {
    let requests = receiver.requests().into_iter();
    requests.map(|(of, _)| (event_id(&of), of.header("idempotency-key").to_owned())).collect()
}

fn answer(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("JSON expected: {}", String::from_utf8_lossy(&output.stderr));
    })
}

#[test]
fn what_was_parked_is_sent_again_by_the_next_start_across_a_kill_under_its_keys() {
    const COUNT: usize = 60;
    let dir = prepared();
    publish(dir.path(), &(0..COUNT).map(alert).collect::<Vec<_>>());
    publish(dir.path(), &[json!({"account_id": "account-1", "nonsense": true})]);
    let (receiver, is_mended) = mended_later(3);
    let policy =
        format!("{LIMITS}{}{}", webhook("hook", &receiver.url()), route(&["hook"], "immediate"));
    let delivery = write(dir.path(), &policy);
    let parked = |arguments: &[&str]| {
        let mut command = bellwether(["notify", "parked"]);
        command.args(arguments).args(["--json", "--embedded", "--data-dir"]);
        command.arg(dir.path()).output().expect("it runs")
    };
    assert_eq!(answer(&parked(&["ls"]))["total"], 0);
    let nothing = parked(&["replay", "--all", "--yes"]);
    assert_eq!(nothing.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("nothing is parked"));

    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    running.wait_until("all is parked", LIMIT, |running| {
        (running.metric("bellwether_alerts_parked_total") > COUNT as f64).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let before = keys(&receiver);
    assert_eq!(before.len(), COUNT);
    let listed = answer(&parked(&["ls", "--reason", "rejected", "--limit", "1000"]));
    assert_eq!(listed["total"], COUNT);
    let ids: BTreeSet<String> = listed["parked"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|of| of["id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(ids, before.iter().map(|(_, key)| key.clone()).collect());
    assert_eq!(listed["parked"][0]["what"], "high churn_risk opened");

    // Wrong ways to ask, and a preview, change nothing.
    assert_eq!(parked(&["replay", "--yes"]).status.code(), Some(2));
    assert_eq!(parked(&["replay", "--id", "nonsense", "--yes"]).status.code(), Some(3));
    assert_eq!(parked(&["replay", "--sink", "nowhere", "--yes"]).status.code(), Some(3));
    assert_eq!(answer(&parked(&["replay", "--all"]))["sent"], false);
    assert_eq!(answer(&parked(&["ls"]))["total"], COUNT + 1);

    // One by the beginning of its id, then the others in two calls; one of them twice.
    let first = ids.first().expect("there are some");
    let asked = answer(&parked(&["replay", "--id", &first[..8], "--yes"]));
    assert_eq!((&asked["asked"], &asked["ids"][0]), (&json!(1), &json!(first)));
    let asked = answer(&parked(&["replay", "--sink", "hook", "--limit", "20", "--yes"]));
    assert_eq!((&asked["asked"], &asked["left_for_later"]), (&json!(20), &json!(COUNT - 21)));
    assert_eq!(answer(&parked(&["replay", "--sink", "hook", "--yes"]))["asked"], COUNT - 21);
    let left = answer(&parked(&["ls"]));
    assert_eq!((&left["total"], &left["parked"][0]["reason"]), (&json!(1), &json!("undecodable")));

    is_mended.store(true, Ordering::Relaxed);
    for share in [COUNT / 5, COUNT / 2] {
        let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
        wait_until_taken(&receiver, &mut running, share);
        running.kill();
    }
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    wait_until_taken(&receiver, &mut running, COUNT);
    running.wait_until("the end of the work", LIMIT, |running| {
        let metrics = running.get("/metrics");
        metrics.contains("bellwether_deliveries_waiting{sink=\"hook\"} 0").then_some(())
    });
    let settled = receiver.requests().len();
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    assert_eq!(keys(&receiver), before, "no event under another key");

    // Nobody is told again by one more start. What no version can read is parked again.
    assert_eq!(answer(&parked(&["replay", "--all", "--yes"]))["asked"], 1);
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    running.wait_until("it is parked again", LIMIT, |running| {
        (running.metric("bellwether_alerts_parked_total") > 0.0).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    assert_eq!(receiver.requests().len(), settled);
    let left = answer(&parked(&["ls"]));
    assert_eq!((&left["total"], &left["parked"][0]["reason"]), (&json!(1), &json!("undecodable")));
}

#[test]
fn a_running_notifier_on_kafka_sends_again_what_was_parked() {
    const COUNT: usize = 40;
    let app = App::prepare("notify-parked", 2, "");
    let (receiver, is_mended) = mended_later(4);
    let dir = tempfile::tempdir().expect("a directory");
    let policy =
        format!("{LIMITS}{}{}", webhook("hook", &receiver.url()), route(&["hook"], "immediate"));
    let delivery = write(dir.path(), &policy);
    let file = delivery.to_str().expect("UTF-8");
    let mut command = app.command_of(&["notify", "--listen", "127.0.0.1:0", "--delivery", file]);
    command.env("SIGNING_KEY", SIGNING_KEY).arg("--data-dir").arg(app.data_dir("parked"));
    let mut running = Bellwether::spawn(command);
    let records: Vec<Outgoing> = (0..COUNT)
        .map(|number| Outgoing {
            partition: Some(i32::try_from(number % 2).expect("small")),
            payload: Some(alert(number).to_string().into_bytes()),
            ..Outgoing::default()
        })
        .collect();
    produce(app.bootstrap(), &app.topic("alerts"), &records);
    running.wait_until("all is parked", LIMIT, |running| {
        (running.metric("bellwether_alerts_parked_total") >= COUNT as f64).then_some(())
    });
    let before = keys(&receiver);
    assert_eq!(app.run(&["notify", "parked", "ls"])["total"], COUNT);
    is_mended.store(true, Ordering::Relaxed);
    let asked = app.run(&["notify", "parked", "replay", "--all", "--yes"]);
    assert_eq!((&asked["sent"], &asked["asked"]), (&json!(true), &json!(COUNT)));
    wait_until_taken(&receiver, &mut running, COUNT);
    assert_eq!(keys(&receiver), before, "no event under another key");
    assert_eq!(app.run(&["notify", "parked", "ls"])["total"], 0);
    let nothing = app.command_of(&["notify", "parked", "replay", "--all"]).output();
    assert_eq!(nothing.expect("it runs").status.code(), Some(3));
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
}
