//! The README shows the results that are committed.

use std::fs;
use std::path::Path;

use bellwether_benches::report::{close_table, placed};

#[test]
fn the_table_of_the_readme_is_that_of_the_committed_results() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = fs::read_to_string(root.join("README.md")).expect("the README");
    let results = fs::read(root.join("benches/results/close.json")).expect("results");
    let results = serde_json::from_slice(&results).expect("JSON");
    let expected = placed(&readme, &close_table(&results)).expect("a place in the README");
    assert!(readme == expected, "run: cargo run -p bellwether-benches --bin close -- --render");
}
