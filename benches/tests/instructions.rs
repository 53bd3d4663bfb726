//! The event path takes no more instructions than it did. They are counted, not timed, so the machine may be as busy as it likes; on
//! another architecture or with another compiler they are others.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::path::Path;

use bellwether_benches::instructions::{MARGIN_PCT, RESULTS, Workload, count, toolchain};
use serde_json::Value;

fn guard(workload: Workload) {
    let counted = count(Path::new(env!("CARGO_BIN_EXE_instructions")), workload);
    let counted = counted.unwrap_or_else(|failed| panic!("{failed}"));
    let results = std::fs::read(RESULTS).expect("committed counts");
    let results: Value = serde_json::from_slice(&results).expect("JSON");
    let committed = &results[workload.name()];
    let before = committed["instructions"].as_u64().expect("a number");
    let now = counted.instructions;
    println!("{}: {now} instructions, committed {before}", workload.name());
    assert!(
        now <= before / 100 * (100 + MARGIN_PCT),
        "the workload `{}` takes {now} instructions, {:+.1} % of the {before} that are committed (at most {MARGIN_PCT} % more are \
         allowed).\nnow:       {:#}\ncommitted: {committed:#}\nThese were counted with {}, this is {}.\nIf the change is worth it, or \
         only the compiler is another: make instructions, and commit benches/results/instructions.json",
        workload.name(),
        (now as f64 / before as f64 - 1.0) * 100.0,
        counted.json(workload),
        results["toolchain"],
        toolchain(),
    );
}

#[test]
fn the_job_of_the_peer_takes_no_more_instructions_than_it_did() {
    guard(Workload::Peer);
}

#[test]
fn the_default_policy_takes_no_more_instructions_than_it_did() {
    guard(Workload::Default);
}
