//! The README shows the results that are committed, and nothing where none are.

use std::fs;
use std::path::Path;

use bellwether_benches::beside::bench_table;
use bellwether_benches::capacity::{capacity_table, model};
use bellwether_benches::report::{close_table, placed, replay_table};
use bellwether_benches::scale::scale_table;
use serde_json::Value;

/// Makes a table of results.
type Table = fn(&Value) -> String;

/// The committed results of this name.
fn results(name: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("results/{name}.json"));
    path.exists().then(|| serde_json::from_slice(&fs::read(path).expect("results")).expect("JSON"))
}

#[test]
fn the_tables_of_the_readme_are_those_of_the_committed_results() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    let capacity: Table = |scale| {
        let processes = results("processes").unwrap_or_default();
        capacity_table(&model(scale, &processes))
    };
    let tables: [(&str, &str, Table); 5] = [
        ("bench", "bench", bench_table),
        ("close", "close", close_table),
        ("replay", "replay", replay_table),
        ("scale", "scale", scale_table),
        ("capacity", "scale", capacity),
    ];
    for (place, name, table) in tables {
        let table = results(name).map_or_else(String::new, |results| table(&results));
        let expected = placed(&readme, place, &table).expect("a place in the README");
        assert!(
            readme == expected,
            "run: cargo run -p bellwether-benches --bin {name} -- --render"
        );
    }
}
