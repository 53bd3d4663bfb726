//! Faults of the machine, for one process alone: a limit on the size of files, and a disk that does not sync, write or read. Each is
//! noticed and said; when it is gone, the worker goes on where it was, and ends as an undisturbed one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bellwether_tests::runs::{BRITTLE, Reference, SMALL, wait_for_share};
use bellwether_tests::{App, Bellwether, LIMIT, Outgoing, consume_all, produce, stories};
use serde_json::{Value, json};

/// Profiles enough to fill the write buffers, so that the store writes files while it works: 9 MB, which no compression halves twice.
const BULKY: usize = 600;

/// So often. Each time of accounts of their own: what is known already is not written again.
const BULKS: usize = 2;

/// An application with all stories as input, and little memory for its stores.
fn fed(name: &str) -> App {
    let app = App::prepare_with(name, 2, BRITTLE, &format!("{SMALL}memory_mib = 64\n"));
    app.produce(&stories::events());
    app
}

/// The undisturbed run.
fn reference() -> &'static Reference {
    static SHARED: OnceLock<Reference> = OnceLock::new();
    SHARED.get_or_init(|| {
        let app = fed("faultless");
        (0..BULKS).for_each(|bulk| produce_bulk(&app, bulk));
        finish(&app);
        Reference::of(&app)
    })
}

/// Runs to the end, bulk and all, and stops cleanly.
fn finish(app: &App) {
    let mut running = app.start();
    app.wait_until_done(&mut running);
    let topic = app.topic("state_changelog");
    running.wait_until("all profiles", LIMIT, |_| {
        let bulk: BTreeSet<Vec<u8>> = consume_all(app.bootstrap(), &topic)
            .into_iter()
            .filter_map(|record| record.key.filter(|key| key.starts_with(b"Abulk-")))
            .collect();
        (bulk.len() == BULKS * BULKY).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0), "{}", running.stderr());
}

/// After the fault is gone: the outputs, and what is known, are those of an undisturbed run.
fn assert_resumes(app: &App) {
    finish(app);
    reference().assert_outputs(app);
    reference().assert_state(app, &["data"]);
}

/// It stopped by itself, and said why and what to do; no signal took it down.
fn assert_stopped(running: &mut Bellwether, reason: &str) {
    let ended = running.wait(LIMIT);
    let said = running.stderr();
    assert_eq!(ended.code(), Some(1), "{ended}: {said}");
    for words in ["state of partition", "storage failed", reason, "check the disk"] {
        assert!(said.contains(words), "no `{words}`: {said}");
    }
}

/// Profiles that fill a disk, each of an account of its own.
fn produce_bulk(app: &App, bulk: usize) {
    let mut random = u64::try_from(bulk).expect("a few") + 1;
    let mut text = move || {
        let words = (0..15).map(|_| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            format!("{random:016x}")
        });
        words.collect::<String>()
    };
    let records: Vec<Outgoing> = (0..BULKY)
        .map(|number| {
            let entitlements: Value = (0..60).map(|_| (text(), json!(1.0))).collect::<serde_json::Map<_, _>>().into();
            let id = format!("bulk-{bulk}-{number}");
            let profile = json!({"account_id": id, "as_of": 1_770_000_000_000_i64, "entitlements": entitlements});
            Outgoing {
                partition: Some(i32::try_from(number % 2).expect("0 or 1")),
                key: Some(id.into_bytes()),
                payload: Some(profile.to_string().into_bytes()),
                ..Outgoing::default()
            }
        })
        .collect();
    produce(app.bootstrap(), &app.topic("profiles"), &records);
}

/// A limit on the size of files (RLIMIT_FSIZE): by default the kernel kills who exceeds it, without a word.
#[test]
fn a_limit_on_the_size_of_files_stops_cleanly_and_resumes() {
    let app = fed("limit");
    (0..BULKS).for_each(|bulk| produce_bulk(&app, bulk));
    let plain = app.command();
    let mut limited = Command::new("sh");
    // In blocks of 512 bytes, or of 1024: half a megabyte or one, and the store writes files of some.
    limited.args(["-c", "ulimit -f 1024; exec \"$0\" \"$@\""]);
    limited.arg(plain.get_program()).args(plain.get_args());
    assert_stopped(&mut Bellwether::spawn(limited), "File too large");
    assert_resumes(&app);
}

/// The disk does not sync, then does not write, then does not read; each time the worker stops. What is not sure to be on disk is read
/// back from the changelog.
#[test]
fn a_disk_that_fails_stops_cleanly_and_resumes() {
    let total = reference().score_changes();
    let app = fed("disk");
    let disk = BadDisk::new(&app);

    let mut running = disk.start(&app);
    wait_for_share(&app, &mut running, total, 2);
    disk.fail("sync");
    // The last flush fails, which loses nothing, and is said; unless one at work met the disk first.
    let code = running.terminate(LIMIT).code();
    let said = match code {
        Some(0) => "closing the partition's state failed",
        _ => "Input/output error",
    };
    let stderr = running.stderr();
    assert!(matches!(code, Some(0 | 1)) && stderr.contains(said), "{code:?}: {stderr}");
    disk.mend();

    for (bulk, (tenths, fault)) in [(4, "sync"), (6, "write")].into_iter().enumerate() {
        let mut running = disk.start(&app);
        wait_for_share(&app, &mut running, total, tenths);
        disk.fail(fault);
        produce_bulk(&app, bulk);
        assert_stopped(&mut running, "Input/output error");
        disk.mend();
    }

    let mut running = disk.start(&app);
    wait_for_share(&app, &mut running, total, 8);
    assert_eq!(running.terminate(LIMIT).code(), Some(0), "{}", running.stderr());
    disk.fail("read");
    assert_stopped(&mut disk.start(&app), "Input/output error");
    disk.mend();
    assert_resumes(&app);
}

/// A disk that fails when it is told to, under the state of one process: a library that is preloaded.
struct BadDisk {
    dir: tempfile::TempDir,
    library: PathBuf,
}

impl BadDisk {
    fn new(app: &App) -> BadDisk {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let library = dir.path().join("fault.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness").join("fault.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&library, &source])
            .output()
            .expect("a C compiler is there: RocksDB needs one, too");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        std::fs::create_dir_all(app.data_dir("data")).expect("the directory can be made");
        BadDisk { dir, library }
    }

    fn control(&self) -> PathBuf {
        self.dir.path().join("control")
    }

    /// A process on this disk.
    fn start(&self, app: &App) -> Bellwether {
        let mut command = app.command();
        command
            .env("LD_PRELOAD", &self.library)
            .env("BELLWETHER_FAULT_DIR", app.data_dir("data").join("state"))
            .env("BELLWETHER_FAULT_CONTROL", self.control());
        Bellwether::spawn(command)
    }

    fn fail(&self, fault: &str) {
        std::fs::write(self.control(), fault).expect("a new file can be written");
    }

    fn mend(&self) {
        std::fs::remove_file(self.control()).expect("it was there");
    }
}
