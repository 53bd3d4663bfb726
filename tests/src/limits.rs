//! A bound on the memory of a process: a control group of its own, or, where none can be made, a bound on its address space.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// Address space that a process maps beyond what it uses: thread stacks, allocator arenas, mapped files.
const MAPPED_BYTES: u64 = 4 << 30;

/// A bound on memory; lifted on drop.
#[derive(Debug)]
pub struct MemoryLimit {
    bytes: u64,
    /// The control group; none where only the address space is bounded.
    group: Option<PathBuf>,
}

impl MemoryLimit {
    /// A bound of so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> MemoryLimit {
        let name = crate::unique("bellwether-memory");
        let candidates = [
            (PathBuf::from("/sys/fs/cgroup/memory").join(&name), "memory.limit_in_bytes"),
            (PathBuf::from("/sys/fs/cgroup").join(&name), "memory.max"),
        ];
        let group = candidates.into_iter().find_map(|(group, limit)| {
            std::fs::create_dir(&group).ok()?;
            if std::fs::write(group.join(limit), bytes.to_string()).is_ok() {
                return Some(group);
            }
            drop(std::fs::remove_dir(&group));
            None
        });
        if group.is_none() {
            println!("no control group can be made here: the address space is bounded instead");
        }
        MemoryLimit { bytes, group }
    }

    /// The command, under the bound.
    #[must_use]
    pub fn command(&self, inner: &Command) -> Command {
        let mut command = match &self.group {
            Some(group) => {
                let mut shell = Command::new("sh");
                let procs = group.join("cgroup.procs");
                shell.args([OsStr::new("-c"), OsStr::new("echo $$ > \"$0\" && exec \"$@\"")]);
                shell.arg(procs);
                shell
            }
            None => {
                let mut limited = Command::new("prlimit");
                limited.arg(format!("--as={}", self.bytes + MAPPED_BYTES));
                limited
            }
        };
        command.arg(inner.get_program()).args(inner.get_args());
        for (key, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            // Its process has ended; if the kernel still counts it, the empty group does no harm.
            drop(std::fs::remove_dir(group));
        }
    }
}
