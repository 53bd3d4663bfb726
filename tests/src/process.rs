//! The `bellwether` binary, as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::{metric_sum, wait_until};

/// Where cargo put the binary: beside the tests' own directory.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn bellwether_path() -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its executable");
    // target/<profile>/deps/<test>
    let profile =
        test.ancestors().nth(2).expect("a test lies two levels below its profile's directory");
    let path = profile.join(format!("bellwether{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is missing: run `cargo build -p bellwether` first, with the same profile and target directory",
        path.display()
    );
    path
}

/// A command that runs the binary with `arguments`, for short runs: use `.output()`.
#[must_use]
pub fn bellwether<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(bellwether_path());
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The binary as a long-running process; killed on drop.
#[derive(Debug)]
pub struct Bellwether {
    child: Child,
    log: tempfile::TempDir,
}

impl Bellwether {
    /// Starts a command made by [`bellwether`]; its output goes to a file that failures show.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn(mut command: Command) -> Bellwether {
        let log = tempfile::tempdir().expect("a temporary directory can be made");
        let file = |name: &str| {
            std::fs::File::create(log.path().join(name)).expect("a new directory can be written to")
        };
        let child = command
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("the binary exists and can be run");
        Bellwether { child, log }
    }

    /// What it wrote to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.log.path().join("stdout"))
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.log.path().join("stderr"))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a value while the process lives.
    ///
    /// # Panics
    /// If the process ends or the limit passes first; with the end of its log.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&mut Bellwether) -> Option<T>,
    ) -> T {
        let started = std::time::Instant::now();
        wait_until(what, limit + Duration::from_secs(1), || {
            let value = condition(self);
            if value.is_none() {
                let status = self.child.try_wait().expect("a child can be asked");
                let late = started.elapsed() >= limit;
                assert!(
                    status.is_none() && !late,
                    "no {what} ({}); its output ends:\n{}\n{}",
                    status.map_or_else(
                        || "in time".to_owned(),
                        |status| format!("bellwether ended: {status}")
                    ),
                    tail(&self.stdout()),
                    tail(&self.stderr())
                );
            }
            value
        })
    }

    /// `http://host:port` where it serves, once it says so.
    ///
    /// # Panics
    /// If it does not within a quarter of an hour.
    // The demo fills in years of history before it serves: a minute or five, as fast as the machine is.
    pub fn url(&mut self) -> String {
        self.wait_until("the server's address", Duration::from_secs(900), |process| {
            let said = process.stderr() + &process.stdout();
            let start = said.find("http://127.0.0.1:")?;
            // Up to the slash after the port: without it the line is not written to its end.
            let length = said.get(start..)?.match_indices('/').nth(2)?.0;
            Some(said.get(start..start + length)?.to_owned())
        })
    }

    /// The answer to a GET request for a path.
    ///
    /// # Panics
    /// If it is not a success.
    pub fn get(&mut self, path: &str) -> String {
        let url = self.url() + path;
        let mut response =
            ureq::get(&url).call().unwrap_or_else(|error| panic!("GET {url}: {error}"));
        response.body_mut().read_to_string().expect("answers are text")
    }

    /// The sum of all series of one of its metrics.
    ///
    /// # Panics
    /// If they cannot be had.
    pub fn metric(&mut self, name: &str) -> f64 {
        metric_sum(&self.get("/metrics"), name)
    }

    /// Waits until all its partitions are restored.
    ///
    /// # Panics
    /// If they are not within two minutes.
    pub fn wait_until_ready(&mut self) {
        let url = self.url() + "/readyz";
        self.wait_until("readiness", Duration::from_secs(120), |_| ureq::get(&url).call().ok());
    }

    /// Waits until it says that it is not ready, because of the log.
    ///
    /// # Panics
    /// If it does not within two minutes.
    pub fn wait_until_not_ready(&mut self) {
        let url = self.url() + "/readyz";
        self.wait_until("red readiness", Duration::from_secs(120), |_| {
            let answer = ureq::get(&url).config().http_status_as_error(false).build().call();
            let mut answer = answer.expect("the server answers, however the log is");
            let said = answer.body_mut().read_to_string().expect("answers are text");
            (answer.status() == 503 && said.contains("the log")).then_some(())
        });
    }

    /// Stops it in its tracks (SIGSTOP), as a long pause of the machine would.
    ///
    /// # Panics
    /// If it cannot be stopped.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Panics
    /// If it cannot go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill can be run");
        assert!(sent.success(), "{signal} was not delivered to {pid}");
    }

    /// Kills it at once, as a power cut would.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it does not end within `limit`; with the end of its log.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let started = std::time::Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return status;
            }
            assert!(
                started.elapsed() < limit,
                "it did not stop; its log ends:\n{}",
                tail(&self.stderr())
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to stop (SIGTERM) and returns how it ended.
    ///
    /// # Panics
    /// If it does not end within `limit`; with the end of its log.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.ask_to_stop();
        self.wait(limit)
    }

    /// Asks it to stop (SIGTERM).
    ///
    /// # Panics
    /// If the signal is not delivered.
    pub fn ask_to_stop(&self) {
        self.signal("-TERM");
    }
}

impl Drop for Bellwether {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("a bellwether process was not killed: {error}");
        }
    }
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).expect("the file was made at the start");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
