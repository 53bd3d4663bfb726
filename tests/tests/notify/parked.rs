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

    // What this version cannot read is refused, and stays. Nobody is told again by one more start.
    let refused = parked(&["replay", "--all", "--yes"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("1 records are no alerts that this version can read"), "{said}");
    let refused = answer(&refused);
    assert_eq!((&refused["asked"], &refused["unreadable"]), (&json!(0), &json!(1)));
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    running.wait_until_ready();
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    assert_eq!(receiver.requests().len(), settled);
    let left = answer(&parked(&["ls"]));
    assert_eq!((&left["total"], &left["parked"][0]["replayable"]), (&json!(1), &json!(false)));
}

/// As an older version parked them: it kept no account of what became of their alerts.
fn of_an_older_version(alerts: &[&Value], reason: &str, number: usize) -> Append {
    let entries: Vec<Value> = alerts
        .iter()
        .map(|alert| json!({"alert": alert, "profile": {}, "because": "daily"}))
        .collect();
    let subject = match (alerts, reason) {
        ([alert], "stale") => json!({"alert": {"alert": alert, "profile": {}, "earlier": []}}),
        _ => json!({"digest": {"mode": "daily", "entries": entries, "total": entries.len()}}),
    };
    let key = format!("{number:032x}");
    let delivery = json!({
        "key": key, "sink": "hook", "lane": alerts[0]["alert_id"], "subject": subject,
        "created_ms": 1, "due_ms": 1, "attempts": 3, "sequence": 7, "policy_version": "older",
    });
    let header =
        |name: &str, value: &str| (format!("bellwether.{name}"), value.as_bytes().to_vec());
    Append {
        topic: "health.alerts.parked.v1".into(),
        // A digest is parked where its first alert was, whoever else stands in it.
        partition: 0,
        key: Some(b"account".to_vec()),
        payload: Some(delivery.to_string().into_bytes()),
        headers: vec![
            header("reason", reason),
            header("sink", "hook"),
            header("idempotency_key", &key),
        ],
        timestamp_ms: None,
    }
}

#[test]
fn alerts_that_are_over_are_not_sent_again_whoever_parked_them_and_digests_go_without_them() {
    let dir = prepared();
    let ended = |number: usize| {
        let mut event = alert(number);
        event["id"] = json!(format!("end-{number}"));
        event["transition"] = json!("resolved");
        event
    };
    let alerts: Vec<Value> = (0..8).map(alert).collect();
    let all: Vec<Value> = alerts.iter().cloned().chain((0..4).map(ended)).collect();
    publish(dir.path(), &all);
    let receiver = Receiver::start(|_, _| Reply::status(200));
    // Nobody is told of these alerts but by what is parked.
    let policy = format!(
        "{LIMITS}{}[[route]]\nname = \"none\"\nseverity = [\"info\"]\nsinks = [\"hook\"]\nmode = \"immediate\"\n",
        webhook("hook", &receiver.url())
    );
    let delivery = write(dir.path(), &policy);
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    running.wait_until("all is read", LIMIT, |running| {
        let line = "bellwether_alerts_suppressed_total{reason=\"no_route\"} 8\n";
        running.get("/metrics").contains(line).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let of = |wanted: &[usize]| wanted.iter().map(|at| &alerts[*at]).collect::<Vec<_>>();
    let mut parked = vec![
        of_an_older_version(&of(&[0, 1, 4, 5]), "rejected", 1),
        of_an_older_version(&of(&[2, 3]), "rejected", 2),
    ];
    // One by itself, of each kind, where its events are.
    for (number, at) in [(3, 3), (4, 6)] {
        let key = format!("account-{at}");
        let partition = partition_of(key.as_bytes(), PARTITIONS);
        parked.push(Append { partition, ..of_an_older_version(&of(&[at]), "stale", number) });
    }
    append(dir.path(), &parked);
    let mut replay = bellwether(["notify", "parked", "replay", "--all", "--yes", "--json"]);
    let replay = replay.args(["--embedded", "--data-dir"]).arg(dir.path()).output();
    assert_eq!(answer(&replay.expect("it runs"))["asked"], 4);
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    running.wait_until("five are over", LIMIT, |running| {
        let line = "bellwether_alerts_suppressed_total{reason=\"ended\"} 5\n";
        running.get("/metrics").contains(line).then_some(())
    });
    running
        .wait_until("the rest is told", LIMIT, |_| (receiver.requests().len() == 2).then_some(()));
    running.wait_until("nothing waits", LIMIT, |running| {
        let line = "bellwether_deliveries_waiting{sink=\"hook\"} 0\n";
        running.get("/metrics").contains(line).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    let told: String = requests.iter().map(|(request, _)| request.json().to_string()).collect();
    for (number, alert) in alerts.iter().enumerate() {
        let is_told = told.contains(alert["account_name"].as_str().expect("a name"));
        assert_eq!(is_told, [4, 5, 6].contains(&number), "{number}: {told}");
    }
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
    // The brokers may be named before the command or behind it, and no flag is passed over.
    let servers = app.bootstrap();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["notify", "--bootstrap-servers", servers, "parked", "ls"], 0, ""),
        (&["notify", "parked", "ls", "--bootstrap-servers", servers], 0, ""),
        (
            &["notify", "--bootstrap-servers", servers, "parked", "ls", "--embedded"],
            2,
            "exclude each other",
        ),
        (
            &["notify", "--bootstrap-servers", "x:1", "parked", "ls", "--bootstrap-servers", "y:1"],
            2,
            "given twice: x:1 and y:1",
        ),
        (&["notify", "--listen", "127.0.0.1:0", "parked", "ls"], 2, "serves nothing"),
        (&["notify", "--listen", "127.0.0.1:0", "check", "--delivery", file], 2, "need neither"),
    ];
    for (words, code, part) in cases {
        let mut command = app.command_of(words);
        let output = command.env("BELLWETHER_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1").output();
        let output = output.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.contains(part), "{words:?}: {said}");
        if code == 0 {
            assert_eq!(answer(&output)["total"], COUNT);
        }
    }
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
