//! What the system tells of this process.

use std::fs;

use rustix::process::{Resource, getrlimit};
use views::metrics::Process;

/// A look at it; what the system does not tell is missing.
pub(crate) fn look() -> Process {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    Process {
        open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64),
        max_fds: getrlimit(Resource::Nofile).current,
        resident_bytes: field(&status, "VmRSS:").map(|kib| kib << 10),
        cpu_s: cpu_s(&stat, rustix::param::clock_ticks_per_second()),
        threads: field(&status, "Threads:"),
    }
}

/// The number behind a name.
fn field(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Processor time of a process and of the system for it.
fn cpu_s(stat: &str, ticks_per_s: u64) -> Option<f64> {
    // The name before the last bracket may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let all = ticks()?.checked_add(ticks()?)?;
    (ticks_per_s > 0).then(|| all as f64 / ticks_per_s as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Meant to catch: the name taken for one word, and a field further left.
    #[test]
    fn the_systems_words_are_read() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 9 9 20 0 12 0 5\n";
        assert_eq!(cpu_s(stat, 100), Some(2.0));
        assert_eq!(cpu_s("7 (a) S 1", 100), None);
        let status = "Name:\tlogd\nVmRSS:\t   2048 kB\nThreads:\t12\n";
        assert_eq!((field(status, "VmRSS:"), field(status, "Threads:")), (Some(2048), Some(12)));
        assert_eq!(field(status, "VmSwap:"), None);
        let process = look();
        assert!(
            process.open_fds > Some(2) && process.resident_bytes > Some(1 << 20),
            "{process:?}"
        );
        assert!(process.max_fds >= process.open_fds && process.threads > Some(0), "{process:?}");
    }
}
