//! The folder of a run, and what must not outlive the run: mounts, loop devices and processes.
//!
//! Whoever ends releases: at the end of a run, after a failure, at Ctrl-C. What a run left that was
//! killed itself is released by the next one: the folder's name holds the process id.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::report;

/// Before the process id.
const STEM: &str = "logd-torture-";
/// Before the name of a folder that stays.
const KEPT: &str = "logd-torture-kept-";
/// Exit code after a signal, as a shell would give it after Ctrl-C.
const INTERRUPTED: i32 = 130;
/// Times that an end is looked for, and the pause in between.
const LOOKS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A folder that goes with all that is in it.
#[derive(Debug)]
pub(crate) struct Work {
    path: PathBuf,
}

impl Work {
    /// Makes one below the system's folder for temporary files.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn make() -> anyhow::Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Mounts are listed under their true names.
        let folder = std::env::temp_dir().canonicalize()?;
        let path = folder.join(format!("{STEM}{}-{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps it, without mounts and processes, under another name, which is returned.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub(crate) fn keep(self) -> anyhow::Result<PathBuf> {
        release(&self.path)?;
        let name = self.path.file_name().and_then(|name| name.to_str());
        let rest =
            name.and_then(|name| name.strip_prefix(STEM)).context("a folder without a name")?;
        let kept = self.path.with_file_name(format!("{KEPT}{rest}"));
        fs::rename(&self.path, &kept)?;
        Ok(kept)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Releases and removes a folder of ours; says what did not work.
fn remove(path: &Path) {
    let removed = release(path).and_then(|()| match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    });
    if let Err(error) = removed {
        report::say(&format!("{}: cannot be removed: {error:#}", path.display()));
    }
}

/// Ends the nodes that run in a folder, and unmounts what is mounted there. A loop device goes with
/// its mount.
fn release(path: &Path) -> anyhow::Result<()> {
    let of_folder = |pid: &u32| is_node_in(*pid, path);
    end(|| processes().into_iter().filter(of_folder).collect())?;
    // The last one first: it may lie in one before.
    for mount in mounts_below(&mounts(), path).into_iter().rev() {
        unmount(&mount)?;
    }
    Ok(())
}

/// Unmounts, if something is mounted there; who looks at files may hold it for a moment.
///
/// # Errors
/// When it does not go.
pub(crate) fn unmount(path: &Path) -> anyhow::Result<()> {
    let mut said = String::new();
    for _ in 0..LOOKS {
        if !mounts_below(&mounts(), path).iter().any(|place| place == path) {
            return Ok(());
        }
        let output = Command::new("umount").arg(path).output().context("cannot run umount")?;
        if output.status.success() {
            return Ok(());
        }
        said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        // Between two attempts: the answer ends the wait, not the time.
        std::thread::sleep(PAUSE);
    }
    anyhow::bail!("{said}")
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mounts").unwrap_or_default()
}

/// Places below a folder where something is mounted, in the order in which that was done.
fn mounts_below(mounts: &str, folder: &Path) -> Vec<PathBuf> {
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    places.filter(|place| place.starts_with(folder)).collect()
}

/// Kills what a question finds, until it finds nothing.
fn end(find: impl Fn() -> Vec<u32>) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for _ in 0..LOOKS {
        found = find();
        if found.is_empty() {
            return Ok(());
        }
        for pid in &found {
            let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw);
            // It may have ended by itself.
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
        // Between two looks: that they are gone ends the wait, not the time.
        std::thread::sleep(PAUSE);
    }
    anyhow::bail!("processes that do not end: {found:?}")
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether a process is a `logd` whose configuration lies in a folder, and has not ended.
fn is_node_in(pid: u32, folder: &Path) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = words.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let is_logd = words.next().is_some_and(|program| Path::new(&*program).ends_with("logd"));
    is_logd && words.any(|word| Path::new(&*word).starts_with(folder))
}

/// Parent and state of a process, from its line in `/proc/PID/stat`.
fn parent(stat: &str) -> Option<(u32, &str)> {
    // The name stands in brackets and may hold anything.
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    let state = rest.next()?;
    Some((rest.next()?.parse().ok()?, state))
}

/// Processes that this one has started and that still run.
fn children() -> Vec<u32> {
    let is_ours = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        parent(&stat).is_some_and(|(parent, state)| parent == std::process::id() && state != "Z")
    };
    processes().into_iter().filter(is_ours).collect()
}

/// Folders of ours whose makers satisfy a condition.
fn folders(of: impl Fn(u32) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let maker = |path: &PathBuf| {
        let rest = path.file_name()?.to_str()?.strip_prefix(STEM)?;
        rest.split_once('-')?.0.parse::<u32>().ok()
    };
    let ours = |path: &PathBuf| maker(path).is_some_and(&of);
    entries.map(|entry| entry.path()).filter(ours).collect()
}

/// Releases and removes what runs left that are no more.
pub(crate) fn clear_left_overs() {
    for path in folders(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
        report::say(&format!("left by a run that died: {}", path.display()));
        remove(&path);
    }
}

/// From now on Ctrl-C, and being told to end, release everything first.
///
/// # Errors
/// When the system does not take it.
pub(crate) fn end_on_signals() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate, mut hangup) = {
        let _runtime = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        )
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        // What fails from here on fails because of this: it is no verdict.
        report::be_silent("ending: mounts and processes are released");
        // It goes on for a moment in the other thread: what it starts is ended, too.
        let _ = end(children);
        folders(|pid| pid == std::process::id()).iter().for_each(|path| remove(path));
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}

/// Runs a program to its end; with its output, if it fails.
///
/// # Errors
/// When it cannot be run, or fails.
pub(crate) fn tool(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    let output = command.args(args).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{program} {}: {}", args.join(" "), said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_a_folder_are_found_and_no_others() {
        let mounts = "a / ext4 rw 0 0\nb /tmp/x/disk ext4 rw 0 0\nc /tmp/xy ext4 rw 0 0\n\
                      d /tmp/x/xfs xfs rw 0 0\n";
        let found = mounts_below(mounts, Path::new("/tmp/x"));
        assert_eq!(found, [PathBuf::from("/tmp/x/disk"), PathBuf::from("/tmp/x/xfs")]);
    }

    #[test]
    fn a_parent_is_read_behind_any_name() {
        assert_eq!(parent("7 (a) b) c) S 42 1 1"), Some((42, "S")));
        assert_eq!(parent("nothing"), None);
    }

    #[test]
    fn a_folder_goes_with_its_work_unless_it_is_kept() {
        let work = Work::make().unwrap();
        let path = work.path().to_owned();
        assert!(path.is_dir());
        drop(work);
        assert!(!path.exists());
        let kept = Work::make().unwrap().keep().unwrap();
        assert!(kept.is_dir() && folders(|pid| pid == std::process::id()).is_empty());
        fs::remove_dir(kept).unwrap();
    }
}
