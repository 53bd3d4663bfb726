//! On a real Kafka.

use super::*;

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
    let mut command = app.command_of(&["notify", "--listen", "127.0.0.1:0", "--delivery", file]);
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

#[test]
fn a_transaction_that_somebody_leaves_open_on_the_profiles_holds_up_no_alert() {
    let app = App::prepare("notify-open", 1, "");
    let profile = |account: &str, owner: &str| {
        json!({"account_id": account, "as_of": now_ms(), "owner": owner}).to_string()
    };
    let to_profiles = |account: &str, owner: &str| {
        let record = Outgoing {
            partition: Some(0),
            key: Some(account.as_bytes().to_vec()),
            payload: Some(profile(account, owner).into_bytes()),
            ..Outgoing::default()
        };
        produce(app.bootstrap(), &app.topic("profiles"), &[record]);
    };
    to_profiles("account-1", "ann");
    let somebody: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", app.bootstrap())
        .set("transactional.id", bellwether_tests::unique("somebody"))
        .set("transaction.timeout.ms", "600000")
        .create()
        .expect("a producer");
    somebody.init_transactions(LIMIT).expect("a coordinator");
    somebody.begin_transaction().expect("none is open");
    let (topic, payload) = (app.topic("profiles"), profile("account-2", "bob"));
    let record = BaseRecord::to(&topic).partition(0).key("account-2").payload(&payload);
    somebody.send(record).expect("room");
    somebody.flush(LIMIT).expect("the broker takes it");
    to_profiles("account-3", "cem");

    let receiver = Receiver::start(|_, _| Reply::status(200));
    let dir = tempfile::tempdir().expect("a directory");
    let policy =
        format!("{LIMITS}{}{}", webhook("hook", &receiver.url()), route(&["hook"], "immediate"));
    let delivery = write(dir.path(), &policy);
    let file = delivery.to_str().expect("UTF-8");
    let mut command = app.command_of(&["notify", "--listen", "127.0.0.1:0", "--delivery", file]);
    command.env("SIGNING_KEY", SIGNING_KEY).arg("--data-dir").arg(app.data_dir("open"));
    let mut running = Bellwether::spawn(command);
    let mut total = 0;
    let mut owners_told = |first: usize, running: &mut Bellwether| {
        let records: Vec<Outgoing> = (first..first + 3)
            .map(|number| {
                let mut alert = alert(number);
                alert["account_id"] = json!(format!("account-{}", number % 10));
                Outgoing {
                    partition: Some(0),
                    payload: Some(alert.to_string().into_bytes()),
                    ..Outgoing::default()
                }
            })
            .collect();
        produce(app.bootstrap(), &app.topic("alerts"), &records);
        total += records.len();
        wait_until_taken(&receiver, running, total);
        let requests = receiver.requests().split_off(total - records.len());
        let owner = |request: &Request| request.json()["data"]["account"]["owner"].clone();
        let owners: BTreeMap<String, Value> =
            requests.iter().map(|(of, _)| (event_id(of), owner(of))).collect();
        owners.into_values().collect::<Vec<Value>>()
    };
    assert_eq!(owners_told(1, &mut running), [json!("ann"), Value::Null, Value::Null]);

    // Once it is over, what was in it and after it is known.
    somebody.commit_transaction(LIMIT).expect("it was open all the time");
    let mut next = 11;
    wait_until("the owners are known", LIMIT, || {
        let owners = owners_told(next, &mut running);
        next += 10;
        (owners == ["ann", "bob", "cem"].map(Value::from)).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
}
