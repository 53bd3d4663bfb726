//! Processes, watched from outside.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292277026")
}

/// A process that ends with us.
#[derive(Debug)]
pub(crate) struct Guarded(pub(crate) Child);

impl Guarded {
    pub(crate) fn spawn(mut command: Command, log: &Path) -> Guarded {
        let file = std::fs::File::create(log).expect("a scratch directory");
        let errors = file.try_clone().expect("a file");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
        Guarded(child.expect("a program that is there"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(&mut self) {
        let pid = self.id().to_string();
        Command::new("kill").arg(&pid).status().expect("kill is there");
        let status = self.0.wait().expect("a child");
        assert!(status.success(), "the process ended with {status}");
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("a child");
        self.0.wait().expect("a child");
    }

    fn ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if !self.ended() {
            self.kill();
        }
    }
}

/// Waits for a value while a process lives.
pub(crate) fn wait<T>(
    process: &mut Guarded,
    what: &str,
    every: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(!process.ended(), "the process ended before {what}: look at its log");
        assert!(started.elapsed() < Duration::from_secs(900), "no {what} within 15 minutes");
        std::thread::sleep(every);
    }
}

/// Waits until the machine has next to nothing to do for a second: what a broker still does for whoever came before is not to be borne by
/// who comes next. On a machine that others keep busy that is never, so not longer than two minutes.
pub(crate) fn at_rest() {
    const WITHIN: Duration = Duration::from_secs(120);
    const IDLE_MIN: f64 = 0.9;
    let began = Instant::now();
    while began.elapsed() < WITHIN {
        let before = machine_ticks();
        std::thread::sleep(Duration::from_secs(1));
        let (all, idle) = machine_ticks();
        if (idle - before.1) >= IDLE_MIN * (all - before.0) {
            return;
        }
    }
    eprintln!("bench: the machine did not come to rest within {WITHIN:?}");
}

/// Ticks of all processors since the start, and those in which they had nothing to do (idle, or waiting for a disk).
fn machine_ticks() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/stat").expect("Linux counts");
    let first = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> =
        first.split_whitespace().skip(1).filter_map(|ticks| ticks.parse().ok()).collect();
    (ticks.iter().sum(), ticks.iter().skip(3).take(2).sum())
}
