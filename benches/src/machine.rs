//! What the figures were taken on, and what they cost it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::processor::{TICK_MS, used_ms};

/// How the bench itself is called among the processes.
const CLIENT: &str = "client";

/// Facts about the machine.
#[derive(Debug)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    /// Kind of file system, and the device it lies on.
    fs: String,
    device: String,
    /// Processes that wanted a processor during the last minute, before the run.
    load_before: String,
}

impl Machine {
    pub(crate) fn look(folder: &Path) -> Self {
        let (fs, device) = mount(folder).unwrap_or_else(|| ("unknown".into(), "unknown".into()));
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: processor().unwrap_or_default(),
            kernel: read("/proc/sys/kernel/osrelease"),
            fs,
            device,
            load_before: load(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let Self { cores, processor, kernel, fs, device, load_before } = self;
        json!({
            "cores": cores, "processor": processor, "kernel": kernel,
            "fs": fs, "device": device, "load_before": load_before,
        })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cores, processor, kernel, fs, device, .. } = self;
        write!(f, "{cores} cores ({processor}), Linux {kernel}, {fs} on {device}")?;
        if matches!(fs.as_str(), "tmpfs" | "ramfs") {
            write!(f, "; THIS IS MEMORY, NOT A DISK")?;
        }
        Ok(())
    }
}

/// Load averages of 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn processor() -> Option<String> {
    let text = read("/proc/cpuinfo");
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Kind and device of the file system that a folder lies on: the mount with the longest path to it,
/// the last one where several lie on top of each other.
fn mount(folder: &Path) -> Option<(String, String)> {
    let folder = folder.canonicalize().ok()?;
    let text = read("/proc/self/mountinfo");
    let mounts = text.lines().filter_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let point = head.split(' ').nth(4)?;
        let mut tail = tail.split(' ');
        Some((point, tail.next()?, tail.next()?))
    });
    let over = mounts.filter(|(point, ..)| folder.starts_with(point));
    let (_, fs, device) = over.max_by_key(|(point, ..)| point.len())?;
    Some((fs.to_owned(), device.to_owned()))
}

/// Processor time used so far, in milliseconds.
#[derive(Debug)]
pub(crate) struct Usage {
    /// By process of this run.
    own: BTreeMap<String, u64>,
    /// By everything on the machine.
    all: u64,
}

/// Processor time used between two looks.
#[derive(Debug)]
pub(crate) struct Spent {
    /// By process of this run, in milliseconds.
    pub(crate) own_ms: BTreeMap<String, u64>,
    /// By everything else on the machine, in milliseconds: what disturbs the figures.
    pub(crate) others_ms: u64,
}

impl Usage {
    pub(crate) fn now(cluster: &Cluster) -> Self {
        let nodes = cluster.processes().map(|(name, id)| (name.to_owned(), used_ms(id)));
        let own = nodes.chain([(CLIENT.to_owned(), used_ms(std::process::id()))]).collect();
        Self { own, all: machine_ms() }
    }

    /// What was used since an earlier look.
    pub(crate) fn since(&self, earlier: &Self) -> Spent {
        let since = |(name, now): (&String, &u64)| {
            let before = earlier.own.get(name).copied().unwrap_or_default();
            (name.clone(), now.saturating_sub(before))
        };
        let own_ms: BTreeMap<_, _> = self.own.iter().map(since).collect();
        let all = self.all.saturating_sub(earlier.all);
        Spent { others_ms: all.saturating_sub(own_ms.values().sum()), own_ms }
    }
}

/// Processor time of the whole machine, without idling and waiting for the disk.
fn machine_ms() -> u64 {
    let text = read("/proc/stat");
    let words = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks = words.take(8).map(|word| word.parse::<u64>().unwrap_or_default());
    // user nice system idle iowait irq softirq steal
    let busy = ticks.enumerate().filter(|(at, _)| !matches!(at, 3 | 4));
    busy.map(|(_, ticks)| ticks).sum::<u64>() * TICK_MS
}

/// The child of ours that was started with a configuration.
pub(crate) fn child(config: &Path) -> Option<u32> {
    let threads = fs::read_dir("/proc/self/task").ok()?;
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let children: Vec<u32> = lists
        .flat_map(|list| list.split(' ').filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect();
    children.into_iter().find(|id| {
        let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == config.as_os_str().as_encoded_bytes())
    })
}
