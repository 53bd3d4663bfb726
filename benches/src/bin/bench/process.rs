//! Processes, watched from outside.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292277026")
}

/// CPU seconds that a process has used, in user and kernel mode.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse().ok()).unwrap_or(0.0);
    // Linux counts in hundredths of a second for user space (USER_HZ).
    (ticks(11) + ticks(12)) / 100.0
}

/// A line of /proc/PID/status in MiB.
pub(crate) fn memory_mib(pid: u32, line: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kib = found.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Bytes of the files below a directory whose path a predicate wants.
pub(crate) fn bytes_below(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().map(|entry| {
        let path = entry.path();
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_below(&path, wanted),
            Ok(meta) if wanted(&path) => meta.len(),
            Ok(_) | Err(_) => 0,
        }
    });
    sizes.sum()
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
