//! Standby: a process keeps warm copies of what the others own, and takes over without reading their state back.

use bellwether_tests::{App, Bellwether, LIMIT, assert_same, consume_all, stories};

const SETTINGS: &str = "session_timeout_seconds = 6\ntransaction_timeout_seconds = 6\n";

/// Waits until a process has copied all that there is to copy.
fn wait_for_copies(process: &mut Bellwether) {
    process.wait_until("the copy of the other's partition", LIMIT, |process| {
        let text = process.get("/metrics");
        let behind: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("bellwether_standby_behind_records{"))
            .collect();
        (behind.len() == 1 && behind[0].ends_with(" 0")).then_some(())
    });
}

#[test]
fn a_standby_takes_over_without_reading_the_state_back() {
    let reference = App::prepare_with("standby-whole", 2, SETTINGS, "");
    reference.produce(&stories::events());
    let mut running = reference.start();
    reference.wait_until_done(&mut running);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    let settings = format!("{SETTINGS}standby = \"all\"\n");
    let app = App::prepare_with("standby", 2, &settings, "[engine]\nbatch_records_max = 150\n");
    app.produce(&stories::events());
    let mut first = app.start();
    first.wait_until_ready();
    let mut second = app.start_as("second");
    app.wait_until_done(&mut first);
    wait_for_copies(&mut second);

    let before = second.metric("bellwether_restore_records_total");
    first.kill();
    app.produce_more("after");
    second.wait_until("what comes after", LIMIT, |_| app.has_more("after").then_some(()));
    let restored = second.metric("bellwether_restore_records_total") - before;
    let changelog = consume_all(app.bootstrap(), &app.topic("state_changelog")).len();
    assert!(changelog > 1_000, "there is something to copy: {changelog} records");
    // What the first wrote after the copy was looked at: a tick or two at most.
    assert!(restored < 20.0, "{restored} records were read back of {changelog}");
    assert_eq!(second.terminate(LIMIT).code(), Some(0));
    for kind in ["score_changed", "score_current", "alerts"] {
        assert_same(kind, &app.without_more(kind, "after"), &reference.content(kind));
    }
}
