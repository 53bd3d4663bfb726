//! Counts the instructions of the event path anew, as what later builds are held to (`benches/tests/instructions.rs`). To be run when a change
//! is meant to cost more, or has made something faster: `make instructions`. Of the dev profile, as `make test` builds it.

use std::path::PathBuf;

use bellwether_benches::instructions::{RESULTS, Workload, count, toolchain};
use serde_json::{Map, Value};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, name, dir] = arguments.as_slice()
        && command == "--work"
    {
        let workload = Workload::named(name).expect("a workload");
        return workload.work(&PathBuf::from(dir));
    }
    let program = std::env::current_exe().expect("a process knows its executable");
    let mut results = Map::new();
    results.insert("toolchain".to_owned(), toolchain().into());
    for workload in Workload::ALL {
        let counted = count(&program, workload).unwrap_or_else(|failed| {
            eprintln!("instructions: {failed}");
            std::process::exit(1);
        });
        results.insert(workload.name().to_owned(), counted.json(workload));
    }
    let results = Value::Object(results);
    println!("{results:#}");
    std::fs::write(RESULTS, format!("{results:#}\n")).expect("a place for results");
}
