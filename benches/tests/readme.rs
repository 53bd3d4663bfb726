//! The README shows the results that are committed.

use std::fs;
use std::path::Path;

use bellwether_benches::beside::bench_table;
use bellwether_benches::report::{close_table, placed, replay_table};
use serde_json::Value;

/// Makes a table of results.
type Table = fn(&Value) -> String;

#[test]
fn the_tables_of_the_readme_are_those_of_the_committed_results() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = fs::read_to_string(root.join("README.md")).expect("the README");
    let tables: [(&str, Table); 3] =
        [("bench", bench_table), ("close", close_table), ("replay", replay_table)];
    for (name, table) in tables {
        let results = fs::read(root.join(format!("benches/results/{name}.json"))).expect("results");
        let results = serde_json::from_slice(&results).expect("JSON");
        let expected = placed(&readme, name, &table(&results)).expect("a place in the README");
        assert!(
            readme == expected,
            "run: cargo run -p bellwether-benches --bin {name} -- --render"
        );
    }
}
