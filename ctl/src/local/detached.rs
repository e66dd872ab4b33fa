//! Nodes that outlive the command that started them: found again, and stopped, by a file that
//! names the process.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use proto::ExitCode;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{Instant, sleep};

use crate::error::CtlError;
use crate::home::write_atomic;

/// Time for a node to stop when asked: it hands over, drains and flushes.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// Time for the kernel to take a killed process away.
const GONE_WITHIN: Duration = Duration::from_secs(5);
const POLL_EVERY: Duration = Duration::from_millis(20);

/// How a process ended that was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It did not run.
    WasNot,
    /// It ended by itself when asked.
    Asked,
    /// It did not, and was killed.
    Killed,
}

/// A process as the file names it. A process id alone is used again after a while, so the file
/// also holds when the process began, as the kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Named {
    pid: u32,
    began: u64,
}

/// Starts `logd --config CONFIG` in a process group of its own, without terminal, with its output
/// at the end of `log`. It goes on when this command ends and the terminal is closed. Returns the
/// process id, which `pid_file` also keeps, for [`stop_detached`] and [`is_running`].
///
/// # Errors
/// Exit code 6 if the process that the file names is still running, 1 if a file cannot be written
/// or the daemon not started.
pub(crate) fn start_detached(
    logd: &Path,
    config: &Path,
    log: &Path,
    pid_file: &Path,
) -> Result<u32, CtlError> {
    if let Some(pid) = is_running(pid_file) {
        return Err(CtlError::conflict(
            format!("{} names the running process {pid}", pid_file.display()),
            format!("kill {pid}, or leave it running"),
        ));
    }
    let to = File::options()
        .append(true)
        .create(true)
        .open(log)
        .map_err(CtlError::file("write", log))?;
    let errors = to.try_clone().map_err(CtlError::file("write", log))?;
    // Full paths: the daemon lives longer than this command's folder is of interest.
    let config = std::path::absolute(config).map_err(CtlError::file("find", config))?;
    let mut child = Command::new(logd)
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(to)
        .stderr(errors)
        // Ctrl-C and a terminal that hangs up reach the groups of that terminal only.
        .process_group(0)
        .spawn()
        .map_err(CtlError::file("start", logd))?;
    let pid = child.id();
    let kept = match look(pid) {
        Some(seen) => {
            write_atomic(pid_file, format!("{pid} {}\n", seen.began).as_bytes()).map(|()| pid)
        }
        None => Err(CtlError::refused(
            ExitCode::Other,
            format!("/proc/{pid}/stat cannot be read"),
            "mount /proc",
        )),
    };
    if kept.is_err() {
        // One that nobody could find again must not stay.
        let _ = child.kill();
        let _ = child.wait();
    }
    kept
}

/// Asks the process that the file names to stop, waits, ends it after 15 s, and removes the file.
/// A process that has taken the number since is left alone.
///
/// # Errors
/// Exit code 1 if it cannot be signalled, does not go away, or the file cannot be removed.
pub(crate) async fn stop_detached(pid_file: &Path) -> Result<Stopped, CtlError> {
    let stopped = match find(pid_file) {
        None => Stopped::WasNot,
        Some((named, handle)) => {
            signal(&handle, Signal::TERM, named.pid)?;
            if gone(named, STOP_WITHIN).await {
                Stopped::Asked
            } else {
                signal(&handle, Signal::KILL, named.pid)?;
                if !gone(named, GONE_WITHIN).await {
                    return Err(CtlError::refused(
                        ExitCode::Other,
                        format!("process {} does not end, not even when killed", named.pid),
                        "look at dmesg: a disk that hangs holds processes",
                    ));
                }
                Stopped::Killed
            }
        }
    };
    match std::fs::remove_file(pid_file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(CtlError::file("remove", pid_file)(error))
        }
        _ => Ok(stopped),
    }
}

/// Process id of the process that the file names, if that very process is running.
pub(crate) fn is_running(pid_file: &Path) -> Option<u32> {
    let named = read(pid_file)?;
    (look(named.pid) == Some(named)).then_some(named.pid)
}

/// The process and a handle to it. The handle is taken before the look, so a signal through it
/// cannot reach a later process with the same number.
fn find(pid_file: &Path) -> Option<(Named, OwnedFd)> {
    let named = read(pid_file)?;
    let pid = Pid::from_raw(i32::try_from(named.pid).ok()?)?;
    let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    (look(named.pid) == Some(named)).then_some((named, handle))
}

fn signal(handle: &OwnedFd, signal: Signal, pid: u32) -> Result<(), CtlError> {
    match pidfd_send_signal(handle, signal) {
        // It ended by itself in this moment.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(source) => Err(CtlError::File {
            what: format!("cannot signal process {pid}"),
            source: source.into(),
        }),
    }
}

async fn gone(named: Named, within: Duration) -> bool {
    let give_up = Instant::now() + within;
    while look(named.pid) == Some(named) {
        if Instant::now() > give_up {
            return false;
        }
        sleep(POLL_EVERY).await;
    }
    true
}

fn read(pid_file: &Path) -> Option<Named> {
    let text = std::fs::read_to_string(pid_file).ok()?;
    let (pid, began) = text.trim().split_once(' ')?;
    Some(Named { pid: pid.parse().ok()?, began: began.parse().ok()? })
}

/// A process that runs now; one that has ended and is not yet collected does not.
fn look(pid: u32) -> Option<Named> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let began = start_time(&std::fs::read_to_string(path).ok()?)?;
    Some(Named { pid, began })
}

/// When a process began, in ticks since the machine started: field 22 of its stat line, `None` if
/// it has ended. The name in field 2 may hold anything, also spaces and brackets.
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    let began = fields.nth(18)?.parse().ok()?;
    (!ended).then_some(began)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that takes `--config FILE` and stays.
    fn program(dir: &Path, body: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join("stays");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    /// Seen to fail with `look` that takes the first of the two numbers only.
    #[tokio::test]
    async fn a_number_that_is_used_again_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("x.pid");
        // This test's own process, which is not the one that the file speaks of.
        let me = std::process::id();
        let began = look(me).unwrap().began;
        std::fs::write(&pid_file, format!("{me} {}\n", began + 1)).unwrap();
        assert_eq!(is_running(&pid_file), None);
        assert_eq!(stop_detached(&pid_file).await.unwrap(), Stopped::WasNot);
        assert!(!pid_file.exists());
        std::fs::write(&pid_file, format!("{me} {began}\n")).unwrap();
        assert_eq!(is_running(&pid_file), Some(me));
    }

    /// Seen to fail with a signal 0 in the place of TERM (killed instead of asked).
    #[tokio::test]
    async fn it_is_started_once_found_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let stays = program(dir.path(), "echo \"$@\"; exec sleep 1000");
        let start = || start_detached(&stays, &at("a.toml"), &at("log"), &at("pid"));
        let pid = start().unwrap();
        assert_eq!(is_running(&at("pid")), Some(pid));
        assert_eq!(start().unwrap_err().exit_code(), ExitCode::Conflict);
        assert_eq!(stop_detached(&at("pid")).await.unwrap(), Stopped::Asked);
        assert_eq!(is_running(&at("pid")), None);
        assert_eq!(stop_detached(&at("pid")).await.unwrap(), Stopped::WasNot);
    }

    #[test]
    fn a_process_line_is_read_whatever_its_name_is() {
        let line = |state: &str| format!("7 (a) b (c) {state} {} 4242 1 2 3", ["0"; 18].join(" "));
        assert_eq!(start_time(&line("S")), Some(4242));
        assert_eq!(start_time(&line("Z")), None);
        for bad in ["", "7 (a", "7 (a) S 1 2"] {
            assert_eq!(start_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_file_with_anything_else_names_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        for text in ["", "1", "x y", "1 2 3", "-1 5"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(is_running(&path), None, "{text}");
        }
        assert_eq!(is_running(&dir.path().join("none")), None);
    }
}
