//! The files of `deploy/` and the compose file: valid by the published rules of their formats, consistent with each other and with
//! the metrics that the engine exposes, and proven by running the same components with them.
//!
//! There is no container engine in CI, so nothing here starts an image.

mod compose;
mod dashboard;
mod helm;
mod kafka;
mod prometheus;
mod setup;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The top of the checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A YAML file as JSON, with its merge keys (`<<`) applied.
fn yaml(path: &str) -> Value {
    let mut value: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    value.apply_merge().unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::to_value(value).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().unwrap_or_else(|| panic!("not an object: {value}")).iter()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not an array: {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

/// Runs a tool that `make setup` installs; its absence is a failure that says so.
fn run(command: &mut Command) -> Output {
    let program = command.get_program().to_owned();
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("{}: {error}; run: make setup", program.to_string_lossy());
    })
}

fn assert_success(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
