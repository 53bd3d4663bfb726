//! The script that looks for what is missing on a machine.

use std::process::Command;

use crate::{assert_success, root, run};

#[test]
fn setup_says_nothing_on_a_complete_machine_and_names_what_is_missing_on_another() {
    let setup = root().join("deploy/setup.sh");
    let complete = run(Command::new(&setup).args(["--for", "test", "--check"]));
    assert_success(&complete);
    assert!(complete.stdout.is_empty() && complete.stderr.is_empty(), "{complete:?}");

    // A machine that has what the script itself runs, and nothing to build with.
    let bin = tempfile::tempdir().expect("a temporary directory");
    let path = std::env::var_os("PATH").expect("PATH is set");
    for tool in ["bash", "cut", "dirname", "head", "id", "paste", "sed", "sort", "uname"] {
        let found = std::env::split_paths(&path)
            .map(|directory| directory.join(tool))
            .find(|file| file.is_file())
            .unwrap_or_else(|| panic!("{tool} is not installed"));
        std::os::unix::fs::symlink(found, bin.path().join(tool)).expect("a new directory");
    }
    for purpose in ["demo", "test"] {
        let bare = run(Command::new("bash")
            .arg(&setup)
            .args(["--for", purpose, "--check"])
            .env("PATH", bin.path()));
        let report = String::from_utf8_lossy(&bare.stderr);
        assert_eq!(bare.status.code(), Some(1), "{report}");
        // What to do about it; the reasons above it name tools as well.
        let advice: String =
            report.lines().skip(1).skip_while(|line| line.starts_with("setup:   - ")).collect();
        for (package, needed) in
            [("g++", true), ("pkg-config", true), ("rustup", true), ("kcat", purpose == "test")]
        {
            assert_eq!(advice.contains(package), needed, "{purpose}, {package}:\n{report}");
        }
    }
}
