//! Processes and files, as Linux counts them.

use std::path::Path;

/// CPU seconds that a process has used, in user and kernel mode.
#[must_use]
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse().ok()).unwrap_or(0.0);
    // Linux counts in hundredths of a second for user space (USER_HZ).
    (ticks(11) + ticks(12)) / 100.0
}

/// A line of /proc/PID/status in MiB.
#[must_use]
pub fn memory_mib(pid: u32, line: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kib = found.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Bytes of the files below a directory whose path a predicate wants.
#[must_use]
pub fn bytes_below(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> u64 {
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

/// CPU seconds of this process, over all of its threads that are alive.
#[must_use]
pub fn own_cpu_seconds() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let nanos = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    nanos.sum::<f64>() / 1e9
}
