//! The whole pipeline on a real Kafka: events in as any producer would write them, outputs out as any consumer would read them.

mod common;

use std::process::{Command, Stdio};

use bellwether_core::time::{Day, Millis, Zone};
use bellwether_tests::{
    App, LIMIT, Outgoing, Registry, assert_same, consume_all, header, outputs, produce, stories,
};
use serde_json::{Value, json};

/// The records of one account, in order.
fn of<'r>(records: &'r [Value], account: &str) -> Vec<&'r Value> {
    records.iter().filter(|record| record["account_id"] == account).collect()
}

#[test]
fn stories_come_out_right_and_explanations_add_up() {
    let app = App::prepare("stories", 2, "");
    app.produce_profiles(&stories::profiles());
    app.produce(&stories::events());
    let mut running = app.start();
    app.wait_until_done(&mut running);

    let alerts = outputs(&app, "alerts");
    let slipping = of(&alerts, "story-slipping");
    let churn: Vec<_> = slipping.iter().filter(|alert| alert["kind"] == "churn_risk").collect();
    let last = churn.last().expect("a churn-risk alert");
    assert!(
        ["high", "critical"].contains(&last["severity"].as_str().expect("a severity")),
        "{last}"
    );
    assert!(
        churn.iter().all(|alert| alert["alert_id"] == last["alert_id"]),
        "one alert, not several"
    );
    let evidence = last["evidence"].as_array().expect("evidence");
    let change = |signal: &str| {
        let item = evidence.iter().find(|item| item["signal"] == signal);
        let item = item.unwrap_or_else(|| panic!("{signal} is not named: {last}"));
        let onset: Day = item["onset"].as_str().and_then(day).expect("an onset");
        let weeks = if signal == "admin_presence" { 2 } else { 4 };
        if signal != "tickets_opened" {
            let began = stories::END.plus(-7 * weeks);
            assert!(onset.since(began).abs() <= 1, "{signal} began {began}, not {onset}");
        }
        item["change_pct"].as_f64().expect("a change")
    };
    assert!((change("logins") + 38.0).abs() <= 2.0);
    assert!((change("projects_created") + 39.0).abs() <= 2.0);
    assert!((change("active_integrations") + 33.0).abs() <= 2.0);
    assert!(change("tickets_opened") > 100.0);
    assert!((change("admin_presence") + 100.0).abs() < 0.01);
    for (account, kind) in [
        ("story-twin", "usage_decline"),
        ("story-small-fallen", "usage_decline"),
        ("story-sessions", "session_decline"),
        ("story-two-weeks", "creation_decline"),
        ("story-sentiment", "sentiment_slide"),
    ] {
        let alerts = of(&alerts, account);
        assert!(alerts.iter().any(|alert| alert["kind"] == kind), "{account}: {alerts:?}");
        let mild = |alert: &Value| alert["severity"] == "low" || alert["severity"] == "medium";
        assert!(alerts.iter().all(|alert| mild(alert)), "one signal alone: {account}: {alerts:?}");
    }
    for account in ["story-small-steady", "story-explorer"] {
        assert!(of(&alerts, account).is_empty(), "{account}: {alerts:?}");
    }

    let current = outputs(&app, "score_current");
    let latest = of(&current, "story-slipping").last().copied().expect("a health record").clone();
    assert_eq!(latest["band"], "at_risk");
    let explorer = of(&current, "story-explorer").last().copied().expect("a health record");
    assert_eq!(explorer["maturity"], "learning", "a new account is onboarding");
    for record in &current {
        let sum: i64 = record["contributions"].as_array().expect("lines").iter().map(points).sum();
        assert_eq!(Some(sum), record["score_centipoints"].as_i64(), "{record}");
    }
    for change in outputs(&app, "score_changed") {
        let sum: i64 = change["movements"]
            .as_array()
            .expect("lines")
            .iter()
            .map(|line| line["delta_centipoints"].as_i64().expect("a delta"))
            .sum();
        let before = change["previous_score_centipoints"].as_i64().unwrap_or(0);
        assert_eq!(
            before + sum,
            change["score_centipoints"].as_i64().expect("a score"),
            "{change}"
        );
    }
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
}

/// A date as records write it.
fn day(text: &str) -> Option<Day> {
    Some(Zone::UTC.day(Millis::parse(text)?))
}

fn points(line: &Value) -> i64 {
    line["centipoints"].as_i64().expect("points")
}

/// What a killed run published is what an uninterrupted one published, record by record.
#[test]
fn kill_9_changes_nothing_that_is_published() {
    // Every batch is a transaction, so the stream takes a while.
    let small_batches = "[engine]\nbatch_records_max = 30\n";
    let whole = App::prepare("whole", 2, small_batches);
    let killed = App::prepare("killed", 2, small_batches);
    let events = stories::events();
    whole.produce(&events);
    killed.produce(&events);
    let mut running = whole.start();
    whole.wait_until_done(&mut running);
    drop(running);
    let total = consume_all(whole.bootstrap(), &whole.topic("score_changed")).len();

    let mut kills = 0;
    for share in [1, 2, 3, 4] {
        let mut running = killed.start();
        let topic = killed.topic("score_changed");
        running.wait_until("some progress", LIMIT, |_| {
            (consume_all(killed.bootstrap(), &topic).len() >= total * share / 5).then_some(())
        });
        running.kill();
        if consume_all(killed.bootstrap(), &topic).len() < total {
            kills += 1;
        }
    }
    assert!(kills >= 1, "no kill was in mid-stream");
    let mut running = killed.start();
    killed.wait_until_done(&mut running);
    for kind in ["score_changed", "score_current", "alerts"] {
        assert_same(kind, &killed.content(kind), &whole.content(kind));
    }
}

#[test]
fn garbage_becomes_typed_dead_letters_and_the_flow_goes_on() {
    let app = App::prepare("garbage", 1, "");
    let event = |id: &str, more: &str| {
        format!(
            r#"{{"event_id":"{id}","account_id":"neighbour","type":"login","occurred_at":"2026-03-01T10:00:00Z"{more}}}"#
        )
    };
    let huge = format!(
        r#"{{"event_id":"huge","account_id":"neighbour","type":"login","occurred_at":1,"text":"{}"}}"#,
        "x".repeat(10 << 20)
    );
    let garbage: Vec<(&str, Vec<u8>)> = vec![
        ("malformed", b"\x07\x13garbage\xff".to_vec()),
        ("malformed", event("cut", "").into_bytes()[..40].to_vec()),
        ("malformed", event("nan", r#","value":NaN"#).into_bytes()),
        ("unknown_schema", [&[0, 0, 0, 0x12, 0x34][..], b"whatever"].concat()),
        ("invalid_field", event("text", r#","value":"many""#).into_bytes()),
        (
            "invalid_id",
            br#"{"event_id":"e","account_id":"","type":"login","occurred_at":1}"#.to_vec(),
        ),
        ("out_of_range", event("vast", r#","value":1e300"#).into_bytes()),
        ("too_large", huge.into_bytes()),
        ("future", event("future", "").replace("2026-03", "2999-03").into_bytes()),
        ("too_late", event("past", "").replace("2026-03", "1971-03").into_bytes()),
        ("malformed", [b"[".repeat(100_000), b"]".repeat(100_000)].concat()),
    ];
    let mut records = vec![Outgoing {
        partition: Some(0),
        payload: Some(event("first", "").into_bytes()),
        ..Outgoing::default()
    }];
    for (_, payload) in &garbage {
        let headers = vec![("trace".to_owned(), b"abc".to_vec())];
        records.push(Outgoing {
            partition: Some(0),
            payload: Some(payload.clone()),
            headers,
            ..Outgoing::default()
        });
    }
    records.push(Outgoing {
        partition: Some(0),
        payload: None,
        key: Some(b"neighbour".to_vec()),
        ..Outgoing::default()
    });
    records.push(Outgoing {
        partition: Some(0),
        payload: Some(event("first", "").into_bytes()),
        ..Outgoing::default()
    });
    produce(app.bootstrap(), &app.topic("events"), &records);
    app.finish_input();
    let mut running = app.start();
    app.wait_until_done(&mut running);

    let letters = consume_all(app.bootstrap(), &app.topic("dead_letters"));
    let reasons: Vec<String> =
        letters.iter().map(|letter| header(letter, "bellwether.reason")).collect();
    let mut expected: Vec<&str> = garbage.iter().map(|(reason, _)| *reason).collect();
    expected.push("empty");
    assert_eq!(reasons, expected, "one dead letter each, in order; a duplicate makes none");
    for (letter, (_, payload)) in letters.iter().zip(&garbage) {
        assert_eq!(letter.payload.as_ref(), Some(payload), "raw bytes are kept");
        assert_eq!(header(letter, "trace"), "abc", "headers are kept");
        assert_eq!(header(letter, "__streams.errors.topic"), app.topic("events"));
        assert!(!header(letter, "__streams.errors.message").is_empty());
    }
    // The same for a person: listed, shown, and sent again once the cause is mended.
    let listed = app.run(&["dlq", "ls", "--reason", "malformed"]);
    assert_eq!(listed["total"], 4, "{listed}");
    let first = &listed["dead_letters"][0];
    let (partition, offset) = (first["partition"].to_string(), first["offset"].to_string());
    let shown = app.run(&["dlq", "show", &partition, &offset]);
    assert!(shown["headers"].to_string().contains("trace"), "{shown}");
    let preview = app.run(&["dlq", "replay", "--reason", "too_late"]);
    assert_eq!((&preview["sent"], &preview["letters"]), (&json!(false), &json!(1)), "{preview}");
    let sent = app.run(&["dlq", "replay", "--reason", "too_late", "--yes"]);
    assert_eq!((&sent["sent"], &sent["letters"]), (&json!(true), &json!(1)), "{sent}");
    let topic = app.topic("dead_letters");
    let again = running.wait_until("the same verdict", LIMIT, |_| {
        let letters = consume_all(app.bootstrap(), &topic);
        (letters.len() > expected.len()).then(|| letters.last().cloned()).flatten()
    });
    assert_eq!(header(&again, "bellwether.reason"), "too_late");
    assert_eq!(again.headers.iter().filter(|(name, _)| name == "trace").count(), 1);
    assert_eq!(again.headers.len(), letters[0].headers.len(), "headers do not pile up");
    let metrics = running.get("/metrics");
    assert!(
        metrics.contains(r#"reason="duplicate"} 1"#)
            && metrics.contains(r#"reason="malformed"} 4"#),
        "{metrics}"
    );
}

/// A record that is small on the wire and large when it is unpacked is larger than any dead letter may be.
#[test]
fn a_record_too_large_for_a_dead_letter_is_kept_in_part() {
    let app = App::prepare("bomb", 1, "");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("bomb.json");
    let bytes = 20 << 20;
    std::fs::write(&file, format!("{{\"text\":\"{}\"}}", "x".repeat(bytes))).expect("writable");
    let sent = Command::new("kcat")
        .args(["-P", "-b", app.bootstrap(), "-t", &app.topic("events"), "-z", "gzip"])
        .args(["-X", "message.max.bytes=40000000"])
        .arg(&file)
        .status()
        .expect("kcat is missing: install the package kcat");
    assert!(sent.success());
    app.finish_input();
    let mut running = app.start();
    app.wait_until_done(&mut running);
    let letters = consume_all(app.bootstrap(), &app.topic("dead_letters"));
    assert_eq!(letters.len(), 1);
    assert_eq!(header(&letters[0], "bellwether.reason"), "too_large");
    assert_eq!(header(&letters[0], "bellwether.payload_bytes"), (bytes + 11).to_string());
    assert_eq!(letters[0].payload.as_ref().map(Vec::len), Some(64 << 10));
}

/// Avro that breaks off, or holds what no number is, under a schema that the registry knows.
#[test]
fn broken_avro_becomes_dead_letters_too() {
    let registry = Registry::start();
    let app = App::prepare("broken", 1, &format!("[registry]\nurl = \"{}\"\n", registry.url()));
    let id = common::register_usage_event(&registry, &app.topic("events"));
    let good = stories::events().swap_remove(0);
    let whole = common::framed(id, &good);
    let mut strange = good.clone();
    strange.value = Some(f64::NAN);
    let unknown = [&[0][..], &(id + 1000).to_be_bytes(), &whole[5..]].concat();
    let payloads = vec![
        whole[..whole.len() / 2].to_vec(),
        common::framed(id, &strange),
        unknown,
        vec![0, 0],
        whole,
    ];
    let records: Vec<_> =
        payloads.into_iter().map(|payload| app.record(&good.account, payload)).collect();
    produce(app.bootstrap(), &app.topic("events"), &records);
    app.finish_input();
    let mut running = app.start();
    app.wait_until_done(&mut running);
    let letters = consume_all(app.bootstrap(), &app.topic("dead_letters"));
    let reasons: Vec<String> =
        letters.iter().map(|letter| header(letter, "bellwether.reason")).collect();
    assert_eq!(reasons, ["malformed", "non_finite", "unknown_schema", "malformed"]);
    let scored = consume_all(app.bootstrap(), &app.topic("score_current"));
    let key = Some(good.account.as_str().as_bytes().to_vec());
    assert!(scored.iter().any(|record| record.key == key), "the good one is used");
}

/// A producer and a consumer that are not ours, over the console.
#[test]
fn a_foreign_client_can_write_and_read() {
    let app = App::prepare("foreign", 1, "");
    let event = json!({"event_id": "k1", "account_id": "from kcat", "type": "login", "member_id": "m", "occurred_at": "2026-03-01T10:00:00Z"});
    let mut kcat = Command::new("kcat")
        .args(["-P", "-b", app.bootstrap(), "-t", &app.topic("events"), "-K", "\t"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("kcat is missing: install the package kcat");
    let line = format!("from kcat\t{event}\n");
    std::io::Write::write_all(&mut kcat.stdin.take().expect("a pipe"), line.as_bytes())
        .expect("kcat reads");
    assert!(kcat.wait().expect("kcat ends").success());
    let mut running = app.start();
    let topic = app.topic("score_current");
    running.wait_until("a health record", LIMIT, |_| {
        (!consume_all(app.bootstrap(), &topic).is_empty()).then_some(())
    });
    let read = Command::new("kcat")
        .args([
            "-C",
            "-b",
            app.bootstrap(),
            "-t",
            &topic,
            "-o",
            "beginning",
            "-e",
            "-q",
            "-X",
            "isolation.level=read_committed",
            "-f",
            "%k %h %s\n",
        ])
        .output()
        .expect("kcat runs");
    let text = String::from_utf8(read.stdout).expect("text");
    assert!(
        text.starts_with("from kcat ") && text.contains("ce_type=io.bellwether.score-current.v1"),
        "{text}"
    );
    assert!(text.contains(r#""account_id":"from kcat""#), "{text}");
}

/// Avro in and out by a real registry says the same as JSON in and out.
#[test]
fn avro_and_json_come_to_the_same() {
    let registry = Registry::start();
    let events = stories::events();
    let avro = App::prepare("avro", 2, &format!("[registry]\nurl = \"{}\"\n", registry.url()));
    let id = common::register_usage_event(&registry, &avro.topic("events"));
    let framed: Vec<_> =
        events.iter().map(|event| avro.record(&event.account, common::framed(id, event))).collect();
    produce(avro.bootstrap(), &avro.topic("events"), &framed);
    avro.finish_input();
    let json = App::prepare("json", 2, "");
    json.produce(&events);
    for app in [&avro, &json] {
        app.wait_until_done(&mut app.start());
    }
    let say = |record: &Value| {
        ["account_id", "sequence", "score_centipoints", "alert_id"].map(|name| record[name].clone())
    };
    for kind in ["score_changed", "score_current", "alerts"] {
        let expected: Vec<_> = outputs(&json, kind).iter().map(say).collect();
        let found: Vec<_> = consume_all(avro.bootstrap(), &avro.topic(kind))
            .iter()
            .map(|record| {
                say(&common::unframed(&registry, record.payload.as_deref().expect("a value")))
            })
            .collect();
        assert!(expected.len() > 10, "{kind}: {}", expected.len());
        assert_same(kind, &found, &expected);
    }
}

/// While the registry is away nothing that needs it is dead-lettered; it is taken when the registry is back.
#[test]
fn a_registry_that_is_away_delays_and_loses_nothing() {
    let registry = common::StubRegistry::start();
    let app = App::prepare(
        "away",
        1,
        &format!("[registry]\nurl = \"{}\"\n[engine]\noutput_format = \"json\"\n", registry.url()),
    );
    let event = stories::events().swap_remove(0);
    let record = app.record(&event.account, common::framed(7, &event));
    produce(app.bootstrap(), &app.topic("events"), &[record]);
    app.finish_input();
    let mut running = app.start();
    running.wait_until("the registry being asked twice", LIMIT, |_| {
        (registry.asked() >= 2).then_some(())
    });
    assert!(
        consume_all(app.bootstrap(), &app.topic("score_current")).is_empty(),
        "nothing after it is processed"
    );
    registry.come_back();
    app.wait_until_done(&mut running);
    assert!(consume_all(app.bootstrap(), &app.topic("dead_letters")).is_empty());
    let accounts: Vec<Value> = outputs(&app, "score_current");
    assert!(!of(&accounts, event.account.as_str()).is_empty(), "{accounts:?}");
}

#[test]
fn topics_are_checked_at_start_with_a_clear_error() {
    let app = App::unprepared("unprepared", 1, "");
    let output = app.command().output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("bellwether topics apply"), "{error}");
}

/// Two workers share the partitions; when one is killed the other takes over and nothing is lost or doubled.
#[test]
fn a_second_worker_takes_over() {
    let app = App::prepare("takeover", 2, "[engine]\nbatch_records_max = 150\n");
    let whole = App::prepare("takeover-whole", 2, "");
    let events = stories::events();
    app.produce(&events);
    whole.produce(&events);
    let mut first = app.start();
    let topic = app.topic("score_changed");
    first.wait_until("some progress", LIMIT, |_| {
        (consume_all(app.bootstrap(), &topic).len() > 20).then_some(())
    });
    let mut second = app.start_as("second");
    first.kill();
    app.wait_until_done(&mut second);
    let mut running = whole.start();
    whole.wait_until_done(&mut running);
    for kind in ["score_changed", "alerts"] {
        assert_same(kind, &app.content(kind), &whole.content(kind));
    }
}
