//! Digests.

use super::*;

#[test]
fn what_is_told_at_once_stands_in_no_digest_of_the_same_sink() {
    let routes = "[[route]]\nname = \"now\"\nseverity = [\"high\"]\nsinks = [\"slack\"]\nmode = \"immediate\"\n\
        [[route]]\nname = \"later\"\nsinks = [\"slack\"]\nmode = \"daily\"\n";
    let mut planner = planner(routes);
    planner.alert(0, &alert(1, "opened", "medium"), NOW);
    planner.alert(0, &alert(2, "opened", "medium"), NOW);
    planner.alert(0, &alert(1, "escalated", "high"), NOW);
    assert_eq!(pairs(&tell(&mut planner, NOW)), [("slack", "escalated")]);
    let morning = NOW + DAY_MS;
    planner.tick(morning, &|_| false);
    assert_eq!(pairs(&tell(&mut planner, morning)), [("slack", "1 of 1")]);
}

#[test]
fn what_a_full_digest_has_no_room_for_is_parked_as_an_entry_of_it() {
    let route = "[[route]]\nname = \"daily\"\nsinks = [\"slack\"]\nmode = \"daily\"\n[delivery]\npending_max = 2\n";
    let mut planner = planner(route);
    for number in 0..3 {
        planner.alert(0, &alert(number, "opened", "high"), NOW);
    }
    // What stands in it already goes on in it.
    planner.alert(0, &alert(0, "escalated", "critical"), NOW);
    let parked = planner.take_parked();
    let [Parked { reason: Parking::DigestFull, delivery, .. }] = parked.as_slice() else {
        panic!("one of three: {parked:?}");
    };
    assert_eq!(delivery.key, key("event-2-opened-high", "slack"));
    let Subject::Digest(digest) = &delivery.subject else { panic!("an entry") };
    assert_eq!((digest.mode, digest.total), (Mode::Daily, 1));
    assert_eq!(digest.entries[0].alert.alert_id, "alert-2");
    planner.tick(NOW + DAY_MS, &|_| false);
    assert_eq!(pairs(&tell(&mut planner, NOW + DAY_MS)), [("slack", "2 of 2")]);
}

#[test]
fn what_went_out_in_a_digest_is_told_no_more_and_forgotten_in_time() {
    let route = "[[route]]\nname = \"daily\"\nsinks = [\"slack\"]\nmode = \"daily\"\n\
        [digest]\nentries_max = 2\n[delivery]\nremember_days = 2\n";
    let policy = policy(route);
    let mut planner = planner_of(&policy);
    let published: Vec<Alert> = (0..5).map(|number| alert(number, "opened", "high")).collect();
    let publish = |planner: &mut Planner, now: i64| {
        for event in &published {
            planner.alert(0, &Alert { at: Millis(now), ..event.clone() }, now);
        }
    };
    publish(&mut planner, NOW);
    // The evidence of one changes before the digest goes out: the event of before is still known.
    planner.alert(0, &alert(0, "updated", "high"), NOW);
    let mut rows = committed(&mut planner, BTreeMap::new());
    let digest = NOW + 20 * HOUR_MS;
    planner.tick(digest, &|_| false);
    rows = committed(&mut planner, rows);
    // Killed before it was sent, and the events are published again: those that the digest does not show, too.
    let mut again = read_back(&policy, &rows);
    publish(&mut again, digest);
    assert_eq!(again.take_suppressed(), [(Suppressed::Duplicate, 5)].into());
    assert_eq!(pairs(&tell(&mut again, digest)), [("slack", "2 of 5")]);
    rows = committed(&mut again, rows);
    again.tick(digest + 3 * DAY_MS, &|_| false);
    rows = committed(&mut again, rows);
    let left: Vec<&(i32, String)> = rows.keys().collect();
    assert!(left.is_empty(), "the state grows: {left:?}");
}

#[test]
fn the_state_of_a_digest_of_five_thousand_stays_within_a_record() {
    let route = "[[route]]\nname = \"daily\"\nsinks = [\"slack\"]\nmode = \"daily\"\n[digest]\nentries_max = 1000\n";
    let policy = policy(route);
    let mut planner = planner_of(&policy);
    for number in 0..5_000 {
        let mut event = alert(number, "opened", "high");
        let line = event.evidence[0].clone();
        event.evidence = vec![crate::event::Evidence { text: "x\u{1}".repeat(100), ..line }; 8];
        // An alert as no engine of ours writes it.
        if number == 0 {
            event.evidence[0].text = "y".repeat(3 << 20);
            event.priority = 100;
        }
        planner.alert(i32::try_from(number % 2).expect("small"), &event, NOW);
    }
    planner.tick(NOW + DAY_MS, &|_| false);
    let largest = planner.take_changes().into_iter().filter_map(|(.., row)| Some(row?.len())).max();
    assert!(largest.is_some_and(|bytes| bytes <= ROW_BYTES_MAX), "{largest:?}");
    let told = ready(&planner, NOW + DAY_MS);
    let [(_, Delivery { subject: Subject::Digest(digest), .. })] = told.as_slice() else {
        panic!("one digest");
    };
    assert_eq!(digest.total, 5_000, "what is not shown is counted");
    assert!((50..1_000).contains(&digest.entries.len()), "{}", digest.entries.len());
    assert_eq!(digest.entries[0].alert.alert_id, "alert-0", "most urgent first");
    // What is given up is a record, too.
    for (partition, delivery) in told {
        let refused = Outcome::Refused { reason: Parking::Rejected, detail: "z".repeat(9 << 20) };
        planner.settle(partition, &delivery.key, refused, NOW + DAY_MS, &mut |n| n);
    }
    let parked = planner.take_parked();
    let record = crate::run::parked_record(&"parked".into(), &parked[0]);
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bytes = headers + record.payload.expect("the delivery").len();
    assert!(bytes <= ROW_BYTES_MAX, "{bytes}");
}
