//! Alerts reach people: through the embedded log and through Kafka, over sinks that fail and hang, across kills of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bellwether_engine::embedded::Embedded;
use bellwether_engine::log::Topic;
use bellwether_store::log_store::LogStoreError;
use bellwether_tests::mail::{MailServer, Manners};
use bellwether_tests::receiver::{Receiver, Reply, Request};
use bellwether_tests::{
    App, Bellwether, Outgoing, bellwether, consume_all, header, produce, stories, wait_until,
};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

mod told;

use told::{LIMIT, LIMITS, SIGNING_KEY, alert, embedded, now_ms, prepared, publish, route, write};

/// Alerts that are told.
const ALERTS: usize = 1_000;

fn webhook(name: &str, url: &str) -> String {
    format!(
        "[[sink]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"{url}\"\nsecret_env = \"SIGNING_KEY\"\nallow_private = true\nallow_http = true\n"
    )
}

/// Keys, payloads and the header `bellwether.reason` of a topic of a process that has ended.
fn published(data_dir: &Path, topic: &str) -> Vec<(String, Option<Value>, String)> {
    let shared = bellwether_store::Shared::new(16 << 20);
    let log = Embedded::open(&data_dir.join("log"), &shared, 1).expect("no one has it");
    let topic: Topic = topic.into();
    let mut records = Vec::new();
    for partition in 0..log.partitions(&topic).expect("a topic") {
        log.read(&topic, partition, 0, usize::MAX, &mut |record| {
            let key =
                String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            let value = record.payload.and_then(|payload| serde_json::from_slice(&payload).ok());
            let reason = record.headers.iter().find(|(name, _)| name == "bellwether.reason");
            let reason = reason.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
            records.push((key, value, reason.unwrap_or_default()));
            Ok::<(), LogStoreError>(())
        })
        .expect("it can be read");
    }
    records
}

/// Fails 30 % of calls and hangs on 5 %, as a seed decides.
fn moody(seed: u64) -> impl Fn(usize, &Request) -> Reply + Send + Sync {
    let random = Mutex::new(fastrand::Rng::with_seed(seed));
    move |_, _| match random.lock().expect("no panic").u32(0..100) {
        0..30 => Reply::status(503),
        30..35 => Reply::Hang,
        _ => Reply::status(200),
    }
}

fn event_id(request: &Request) -> String {
    request.json()["data"]["alert"]["id"].as_str().expect("an id").to_owned()
}

/// The events that a receiver has taken.
fn taken(receiver: &Receiver) -> BTreeSet<String> {
    let requests = receiver.requests();
    requests.iter().filter(|(_, status)| *status == 200).map(|(of, _)| event_id(of)).collect()
}

/// Each event was taken, and under one key only, over all attempts.
fn assert_each_once(receiver: &Receiver, count: usize) {
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (request, _) in receiver.requests() {
        let id = request.header("webhook-id").to_owned();
        assert_eq!(id, format!("msg_{}", request.header("idempotency-key")));
        keys.entry(event_id(&request)).or_default().insert(id);
    }
    assert_eq!(taken(receiver).len(), count);
    assert_eq!(keys.len(), count);
    let twice: Vec<_> = keys.iter().filter(|(_, keys)| keys.len() != 1).collect();
    assert!(twice.is_empty(), "under several keys: {twice:?}");
    let all: BTreeSet<&String> = keys.values().flatten().collect();
    assert_eq!(all.len(), count, "no key stands for two events");
}

fn wait_until_taken(receiver: &Receiver, running: &mut Bellwether, count: usize) {
    running.wait_until("the alerts at the sink", LIMIT, |_| {
        (taken(receiver).len() >= count).then_some(())
    });
}

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
    let parked = published(dir.path(), "health.alerts.parked.v1");
    let of = |reason: &str| parked.iter().filter(|(.., of)| of == reason).count();
    assert_eq!((of("attempts"), of("rejected"), parked.len()), (40, 40, 80));
    let (key, value, _) = &parked[0];
    let value = value.as_ref().expect("the delivery");
    assert_eq!(value["subject"]["alert"]["alert"]["account_id"], json!(key));
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
    let parked = published(dir.path(), "health.alerts.parked.v1");
    assert_eq!(
        parked.iter().map(|(.., reason)| reason.as_str()).collect::<Vec<_>>(),
        ["undecodable"]
    );
}

#[test]
fn the_story_of_an_account_becomes_a_slack_message_that_says_what_why_and_what_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start(|_, _| Reply::status(200));
    let url = dir.path().join("slack-url");
    std::fs::write(&url, format!("{}/T0/SECRET", receiver.url())).expect("writable");
    let policy = format!(
        "{LIMITS}[[sink]]\nname = \"slack\"\ntype = \"slack\"\nurl_file = \"{}\"\nallow_private = true\nallow_http = true\n\
         [[route]]\nname = \"urgent\"\nseverity = [\"high\", \"critical\"]\nsinks = [\"slack\"]\nmode = \"immediate\"\n",
        url.display()
    );
    let delivery = write(dir.path(), &policy);
    let data = dir.path().join("data");
    let mut running = Bellwether::spawn(embedded(&data, Some(&delivery)));
    let base = running.url();
    let send = |path: &str, bodies: Vec<Vec<u8>>| {
        for chunk in bodies.chunks(500) {
            let body = chunk.join(&b'\n');
            let sent = ureq::post(format!("{base}{path}")).send(&body[..]).expect("it is taken");
            assert_eq!(sent.status(), 202);
        }
    };
    send("/v1/profiles", stories::profiles().iter().map(stories::profile_json).collect());
    send("/v1/events", stories::events().iter().map(stories::event_json).collect());
    let message = running.wait_until("the alert of the story", LIMIT, |_| {
        let requests = receiver.requests();
        let found = requests.iter().find(|(request, _)| {
            let text = request.json().to_string();
            text.contains("Acme Logistics") && text.contains("Churn risk")
        });
        found.map(|(request, _)| request.clone())
    });
    assert_eq!(message.path, "/T0/SECRET");
    let text = message.json().to_string();
    for part in [
        "What changed",
        "logins fell from",
        "Why it matters",
        "Next steps",
        "Call the sponsor today",
        "Draft to the customer",
        "/accounts/",
    ] {
        assert!(text.contains(part), "`{part}` is missing: {text}");
    }
    assert!(!running.stderr().contains("SECRET"), "a URL is a secret");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    let page = dir.path().join("alerts.html");
    let mut preview =
        bellwether(["alerts", "preview", "--embedded", "--limit", "100", "--data-dir"]);
    preview.arg(&data).arg("--delivery").arg(&delivery).arg("--html").arg(&page);
    let shown = preview.output().expect("it runs");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    for part in ["Churn risk: Acme Logistics", "What changed", "Goes to slack: immediate (urgent)"]
    {
        assert!(text.contains(part), "`{part}` is missing: {text}");
    }
    let page = std::fs::read_to_string(&page).expect("it was written");
    assert!(page.contains("<h3>What changed</h3>") && page.contains("Acme Logistics"), "{page}");
}

#[test]
fn a_digest_by_mail_outlives_a_restart_and_goes_out_once() {
    let dir = prepared();
    publish(dir.path(), &(0..30).map(alert).collect::<Vec<_>>());
    let server = MailServer::start(Manners { temporary_failures: 2, ..Manners::default() });
    // The digest goes out at the next full minute but one of the machine's clock.
    let at = (now_ms() / 60_000 + 2) % 1_440;
    let policy = format!(
        "{LIMITS}[digest]\nat = \"{:02}:{:02}\"\nentries_max = 20\n[[sink]]\nname = \"mail\"\ntype = \"email\"\nurl = \"smtp://127.0.0.1:{}\"\n\
         from = \"b@example.com\"\nto = [\"cs@example.com\"]\nallow_private = true\nallow_http = true\n{}",
        at / 60,
        at % 60,
        server.port(),
        route(&["mail"], "daily")
    );
    let policy = policy.replace("timeout_ms = 400", "timeout_ms = 10000");
    let delivery = write(dir.path(), &policy);
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    let queued = |dir: &Path| {
        let rows = published(dir, "bellwether.notify.state");
        rows.iter().filter(|(key, value, _)| key.starts_with("q/") && value.is_some()).count()
    };
    running.wait_until("the entries", LIMIT, |running| {
        (running.metric("bellwether_digest_entries") >= 30.0).then_some(())
    });
    running.kill();
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    running.wait_until("the digest", Duration::from_secs(240), |_| {
        (!server.mails().is_empty()).then_some(())
    });
    running.wait_until("nothing waits", LIMIT, |running| {
        let metrics = running.get("/metrics");
        metrics.contains("bellwether_deliveries_waiting{sink=\"mail\"} 0").then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    // Soft line breaks of quoted-printable.
    let mail = mails[0].replace("=\r\n", "");
    assert!(mail.contains("daily digest: 20 of 30"), "{mail}");
    assert!(mail.contains("and 10 more"), "{mail}");
    assert_eq!(queued(dir.path()), 0);
}

#[test]
fn two_notifiers_on_kafka_that_are_killed_in_turn_tell_each_alert_once() {
    let app = App::prepare("notify", 4, "");
    let records: Vec<Outgoing> = (0..ALERTS)
        .map(|number| {
            let alert = alert(number);
            Outgoing {
                partition: Some(i32::try_from(number % 4).expect("small")),
                key: Some(alert["account_id"].as_str().expect("an id").as_bytes().to_vec()),
                payload: Some(alert.to_string().into_bytes()),
                ..Outgoing::default()
            }
        })
        .collect();
    let receiver = Receiver::start(moody(2));
    let dir = tempfile::tempdir().expect("a directory");
    let policy =
        format!("{LIMITS}{}{}", webhook("hook", &receiver.url()), route(&["hook"], "immediate"));
    let delivery = write(dir.path(), &policy);
    let start = |name: &str| {
        let file = delivery.to_str().expect("UTF-8");
        let mut command =
            app.command_of(&["notify", "--listen", "127.0.0.1:0", "--delivery", file]);
        command.env("SIGNING_KEY", SIGNING_KEY);
        command.env("BELLWETHER_KAFKA__SESSION_TIMEOUT_SECONDS", "6");
        command.arg("--data-dir").arg(app.data_dir(name));
        Bellwether::spawn(command)
    };
    produce(app.bootstrap(), &app.topic("alerts"), &records[..ALERTS / 2]);
    let (mut one, mut two) = (start("one"), start("two"));
    wait_until_taken(&receiver, &mut one, ALERTS / 5);
    one.kill();
    produce(app.bootstrap(), &app.topic("alerts"), &records[ALERTS / 2..]);
    wait_until_taken(&receiver, &mut two, ALERTS / 2);
    let mut one = start("one");
    two.kill();
    wait_until_taken(&receiver, &mut one, ALERTS);
    wait_until("nothing waits", LIMIT, || {
        let metrics = one.get("/metrics");
        metrics.contains("bellwether_deliveries_waiting{sink=\"hook\"} 0").then_some(())
    });
    assert_each_once(&receiver, ALERTS);
    assert_eq!(one.terminate(LIMIT).code(), Some(0));
    let parked = consume_all(app.bootstrap(), &app.topic("parked"));
    let reasons: Vec<String> =
        parked.iter().map(|record| header(record, "bellwether.reason")).collect();
    assert_eq!(reasons, Vec::<String>::new());
}

/// Printed, not asserted: a busy machine is slow. Run it alone to measure.
#[test]
fn from_the_commit_of_an_alert_to_the_message_it_is_measured_how_long_it_takes() {
    let app = App::prepare("notify-delay", 1, "");
    let arrived: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let of_server = Arc::clone(&arrived);
    let receiver = Receiver::start(move |_, _| {
        of_server.lock().expect("no panic").push(Instant::now());
        Reply::status(200)
    });
    let dir = tempfile::tempdir().expect("a directory");
    let policy = format!(
        "{LIMITS}[[sink]]\nname = \"slack\"\ntype = \"slack\"\nurl_env = \"SLACK\"\nallow_private = true\nallow_http = true\n{}",
        route(&["slack"], "immediate")
    );
    let policy = policy.replace("timeout_ms = 400", "timeout_ms = 60000");
    let delivery = write(dir.path(), &policy);
    let file = delivery.to_str().expect("UTF-8");
    let mut command = app.command_of(&["notify", "--delivery", file]);
    command.env("BELLWETHER_NOTIFY__LISTEN", "127.0.0.1:0");
    command.env("SLACK", receiver.url()).arg("--data-dir").arg(app.data_dir("delay"));
    let mut running = Bellwether::spawn(command);
    running.wait_until_ready();
    // One producer for all: its start is no part of what is measured.
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", app.bootstrap())
        .set("acks", "all")
        .set("linger.ms", "0")
        .create()
        .expect("a producer");
    let (mut sends, mut delays) = (Vec::new(), Vec::new());
    for number in 0..150 {
        let alert = alert(number);
        let (topic, payload) = (app.topic("alerts"), alert.to_string());
        let key = alert["account_id"].as_str().expect("an id");
        let record = BaseRecord::to(&topic).partition(0).key(key).payload(&payload);
        let began = Instant::now();
        producer.send(record).expect("there is room");
        while producer.in_flight_count() > 0 {
            producer.poll(Duration::from_millis(1));
        }
        let sent = Instant::now();
        wait_until("the message", LIMIT, || {
            (arrived.lock().expect("no panic").len() > number).then_some(())
        });
        let arrived = arrived.lock().expect("no panic")[number];
        sends.push((sent - began).as_secs_f64() * 1e3);
        delays.push(arrived.saturating_duration_since(sent).as_secs_f64() * 1e3);
    }
    for (what, mut of) in
        [("until the broker has an alert", sends), ("from then until the POST to Slack", delays)]
    {
        of.sort_by(f64::total_cmp);
        println!("{what}: p50 {:.0} ms, p99 {:.0} ms, of {}", of[75], of[148], of.len());
    }
    assert_eq!(receiver.requests().len(), 150, "each is told once");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
}
