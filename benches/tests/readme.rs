//! The README shows the results that are committed.

use std::fs;
use std::path::Path;

use bellwether_benches::report::{BENCH, CLOSE, bench_table, close_table, placed};
use serde_json::Value;

fn check(name: &str, file: &str, table: fn(&Value) -> String, command: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = fs::read_to_string(root.join("README.md")).expect("the README");
    let results = fs::read(root.join("benches/results").join(file)).expect("results");
    let results = serde_json::from_slice(&results).expect("JSON");
    let expected = placed(&readme, name, &table(&results)).expect("a place in the README");
    assert!(readme == expected, "run: {command}");
}

#[test]
fn the_table_of_the_close_is_that_of_the_committed_results() {
    let command = "cargo run -p bellwether-benches --bin close -- --render";
    check(CLOSE, "close.json", close_table, command);
}

#[test]
fn the_table_of_the_benchmark_is_that_of_the_committed_results() {
    let command = "cargo run -p bellwether-benches --bin bench -- --render yes";
    check(BENCH, "bench.json", bench_table, command);
}
