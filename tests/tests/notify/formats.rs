//! Notifiers that write their memory in several formats work on the same partitions in turn, as in a rolling upgrade.

use super::*;

/// A process that writes a format of rows, and reads all of them.
fn writing(format: u8, data_dir: &Path, delivery: &Path) -> Bellwether {
    let mut command = embedded(data_dir, Some(delivery));
    command.env("BELLWETHER_NOTIFY__FORMAT", format.to_string());
    Bellwether::spawn(command)
}

/// The formats of the rows that are there.
fn formats(dir: &Path) -> BTreeSet<u64> {
    let number = |row: &String| {
        let row: Value = serde_json::from_str(row).expect("JSON");
        row["v"].as_u64().expect("a format")
    };
    memory(dir).values().map(number).collect()
}

/// An alert that is too old to be told.
fn stale(number: usize) -> Value {
    let mut alert = alert(number);
    alert["at"] = json!(now_ms() - 48 * 3_600_000);
    alert
}

/// What is parked, by idempotency key and reason.
fn parked(dir: &Path) -> Vec<(String, String)> {
    let records = embedded_records(dir, "health.alerts.parked.v1");
    let of = |name: &str| {
        let name = format!("bellwether.{name}");
        records.iter().map(move |record| header(record, &name))
    };
    of("idempotency_key").zip(of("reason")).collect()
}

#[test]
fn notifiers_of_both_formats_take_turns_on_the_same_partitions_and_each_alert_is_told_once() {
    const COUNT: usize = 400;
    const OLD: usize = 24;
    let dir = prepared();
    let receiver = Receiver::start(moody(6));
    let of_digests = Receiver::start(|_, _| Reply::status(200));
    let policy = [
        &LIMITS.replace("max_age_hours = 87600", "max_age_hours = 24"),
        &webhook("hook", &receiver.url()),
        &webhook("later", &of_digests.url()),
        &route(&["hook"], "immediate"),
        &route(&["later"], "weekly"),
    ]
    .map(String::as_str)
    .concat();
    let delivery = write(dir.path(), &policy);
    publish(dir.path(), &(0..COUNT).map(alert).collect::<Vec<_>>());
    let old: Vec<Value> = (COUNT..COUNT + OLD).map(stale).collect();
    // Two sinks each. All but the last turn end with a kill, in the middle of what is under way.
    let turns = [1, 2, 1, 2];
    for (turn, format) in turns.into_iter().enumerate() {
        publish(dir.path(), &old[turn * OLD / 4..(turn + 1) * OLD / 4]);
        let mut running = writing(format, dir.path(), &delivery);
        wait_until_taken(&receiver, &mut running, (turn + 1) * COUNT / 5);
        running.wait_until("what is too old is parked", LIMIT, |running| {
            let parked = running.metric("bellwether_alerts_parked_total");
            (parked >= (OLD / 2) as f64).then_some(())
        });
        running.kill();
        let expected: &[u64] = if turn == 0 { &[1] } else { &[1, 2] };
        assert_eq!(formats(dir.path()), expected.iter().copied().collect(), "turn {turn}");
    }
    let mut running = writing(1, dir.path(), &delivery);
    wait_until_taken(&receiver, &mut running, COUNT);
    running.wait_until("the end of the work", LIMIT, |running| {
        let metrics = running.get("/metrics");
        let line = format!("bellwether_digest_entries{{sink=\"later\"}} {COUNT}\n");
        (metrics.contains("bellwether_deliveries_waiting{sink=\"hook\"} 0\n")
            && metrics.contains(&line))
        .then_some(())
    });
    let settled = receiver.requests().len();
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    assert_each_once(&receiver, COUNT);
    let parked = parked(dir.path());
    assert!(parked.iter().all(|(_, reason)| reason == "stale"), "{parked:?}");
    let keys: BTreeSet<&String> = parked.iter().map(|(key, _)| key).collect();
    assert_eq!((parked.len(), keys.len()), (2 * OLD, 2 * OLD), "each is parked once for each sink");

    // Whoever comes next, of whatever format, knows what was told, what was parked and what stands in a digest.
    publish(dir.path(), &(0..COUNT).map(alert).chain(old).collect::<Vec<_>>());
    publish(dir.path(), &[alert(COUNT + OLD)]);
    let mut running = writing(2, dir.path(), &delivery);
    wait_until_taken(&receiver, &mut running, COUNT + 1);
    running.wait_until("the repetitions are known", LIMIT, |running| {
        let known = running.metric("bellwether_alerts_suppressed_total");
        (known >= (COUNT + 2 * OLD) as f64).then_some(())
    });
    let line = format!("bellwether_digest_entries{{sink=\"later\"}} {}\n", COUNT + 1);
    running.wait_until("the entry of the new one", LIMIT, |running| {
        running.get("/metrics").contains(&line).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let told_since = receiver.requests().split_off(settled);
    let new = format!("event-{}", COUNT + OLD);
    assert!(told_since.iter().all(|(request, _)| event_id(request) == new));
    assert_eq!(self::parked(dir.path()).len(), 2 * OLD);
}

/// Publishes so many alerts that are too old, and has a notifier look at them. How many are parked then.
fn turn(format: u8, count: usize, next: &mut usize, (dir, delivery): (&Path, &Path)) -> usize {
    publish(dir, &(*next..*next + count).map(stale).collect::<Vec<_>>());
    *next += count;
    let mut running = writing(format, dir, delivery);
    running.wait_until("all are looked at", LIMIT, |running| {
        let looked_at = running.metric("bellwether_alerts_parked_total")
            + running.metric("bellwether_alerts_suppressed_total");
        (looked_at >= count as f64).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    parked(dir).len()
}

/// What the configuration says of `notify.format`: below 2 it is forgotten with a restart how much was parked that day because it was too old.
/// Nothing else is, and what a newer format wrote is heeded.
#[test]
fn what_format_1_forgets_is_how_much_was_parked_that_day_of_what_is_too_old() {
    let receiver = Receiver::start(|_, _| Reply::status(200));
    let policy = [
        &LIMITS.replace("max_age_hours = 87600", "max_age_hours = 24\nparked_max_day = 5"),
        &webhook("hook", &receiver.url()),
        &route(&["hook"], "immediate"),
    ]
    .map(String::as_str)
    .concat();
    let turns = |formats: &[u8]| loop {
        let today = || now_ms().div_euclid(24 * 3_600_000);
        let (day, dir, mut next) = (today(), prepared(), 0);
        let delivery = write(dir.path(), &policy);
        let place = (dir.path(), delivery.as_path());
        let parks = |format: &u8| turn(*format, 4, &mut next, place);
        let parked: Vec<usize> = formats.iter().map(parks).collect();
        // A limit of a day says nothing over two of them.
        if today() == day {
            break (parked, self::formats(dir.path()));
        }
    };
    assert_eq!(turns(&[2, 2, 2]), (vec![4, 5, 5], [1, 2].into()), "format 2 remembers");
    assert_eq!(turns(&[1, 1, 1]), (vec![4, 8, 12], [1].into()), "format 1 begins anew");
    // What format 2 counted is known to all; what format 1 counts is gone with it.
    assert_eq!(turns(&[2, 1, 1, 2]), (vec![4, 5, 6, 7], [1, 2].into()));
    assert_eq!(receiver.requests().len(), 0);
}
