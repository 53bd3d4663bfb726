//! A fast producer against a small memory budget: input waits in Kafka, not in the process.

use bellwether_core::id::AccountId;
use bellwether_tests::{App, Bellwether, LIMIT, MemoryLimit, Outgoing, consume_all, produce};
use serde_json::json;

/// The smallest budget.
const BUDGET_MIB: u64 = 128;
/// What the kernel grants: beyond it the process is killed.
const GRANTED_MIB: u64 = 192;
const ACCOUNTS: usize = 4_000;
const EVENTS: usize = 40_000;
/// Of every so many records one is a megabyte of garbage.
const GARBAGE_EVERY: usize = 401;

/// Events of many accounts with a kilobyte each that nobody needs, and garbage between them: some 150 MB.
fn feed(app: &App) {
    let padding = "x".repeat(1_024);
    let garbage = vec![b'{'; 1_000_000];
    for chunk in (0..EVENTS).collect::<Vec<_>>().chunks(2_000) {
        let records: Vec<Outgoing> = chunk
            .iter()
            .map(|number| {
                let account = format!("account-{}", number % ACCOUNTS);
                let event = json!({
                    "event_id": number.to_string(),
                    "account_id": account,
                    "type": "login",
                    "occurred_at": 1_790_000_000_000_i64 + (*number as i64) * 20,
                    "member_id": format!("m{}", number % 7),
                    "padding": padding,
                });
                let payload = if number % GARBAGE_EVERY == 0 {
                    garbage.clone()
                } else {
                    event.to_string().into_bytes()
                };
                let account = AccountId::new(&account).expect("an id");
                app.record(&account, payload)
            })
            .collect();
        produce(app.bootstrap(), &app.topic("events"), &records);
    }
}

/// The largest that a process has been, in MiB.
fn peak_mib(process: &Bellwether) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()));
    let status = status.expect("it is alive");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a figure");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("kB") / 1024
}

#[test]
fn a_fast_producer_is_held_back_and_nothing_is_lost() {
    let engine = format!("[engine]\nmemory_mib = {BUDGET_MIB}\n");
    let app = App::prepare_with("memory", 4, "", &engine);
    feed(&app);
    let limit = MemoryLimit::new(GRANTED_MIB << 20);
    let mut running = Bellwether::spawn(limit.command(&app.command()));
    running.wait_until("all events", LIMIT, |process| {
        let done = process.metric("bellwether_events_in_total");
        (done >= EVENTS as f64).then_some(())
    });
    let peak = peak_mib(&running);
    println!("at most {peak} MiB resident with a budget of {BUDGET_MIB} MiB");
    assert!(peak < GRANTED_MIB, "{peak} MiB");
    let budget = running.metric("bellwether_memory_budget_bytes");
    assert!((budget - (BUDGET_MIB << 20) as f64).abs() < 1.0, "it is shown: {budget}");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let letters = consume_all(app.bootstrap(), &app.topic("dead_letters"));
    assert_eq!(letters.len(), (0..EVENTS).step_by(GARBAGE_EVERY).count());
    let current = app.content("score_current");
    let mut accounts: Vec<_> = current.iter().map(|(_, key, _)| key.clone()).collect();
    accounts.sort_unstable();
    accounts.dedup();
    assert_eq!(accounts.len(), ACCOUNTS);
}
