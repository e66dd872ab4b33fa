//! What stands in a store's way and is not its fault: a second process, a mode, a mount, a disk without
//! room, a limit of files, a newer release. `logd` names it, ends with 1, changes nothing, and starts as
//! ever once it is out of the way. Real processes, one node.
//!
//! Found broken on the build before: a file system mounted read-only and a newer watermark made the
//! store `repairing`, and a damaged table was "in use by another process". Mounts and modes take root;
//! who is not is told that this was not tested.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::startup::{Folder, binary};

/// A user without rights.
const NOBODY: u32 = 65534;

/// A node with a store, stopped.
fn stopped() -> Folder {
    let folder = Folder::new();
    stops(&folder);
    folder
}

/// It starts, serves, and stops as asked.
#[track_caller]
fn stops(folder: &Folder) {
    let (running, _manager) = folder.serve();
    running.signal(Signal::TERM);
    let output = running.output();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Names and lengths of all files in a folder.
fn content(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(content(&path)),
            false => found.push((path.display().to_string(), fs::metadata(&path).unwrap().len())),
        }
    }
    found.sort();
    found
}

/// It refuses, named as that, and the store is what it was.
#[track_caller]
fn refuses(folder: &Folder, part: &str) {
    let data = folder.path("data");
    let before = content(&data);
    folder.refused(1, part);
    assert_eq!(content(&data), before, "something was changed");
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not tested: this takes root");
    }
    root
}

#[test]
fn a_store_that_another_process_has_is_named_so() {
    let folder = Folder::new();
    let (running, _manager) = folder.serve();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    folder.configure(port, "");
    folder.refused(1, "is in use by another process");
    running.signal(Signal::TERM);
    assert_eq!(running.output().status.code(), Some(0));
    stops(&folder);
}

/// The service manager starts it again a second after its end. Seen to fail with an end at once.
#[test]
fn a_start_that_fails_does_not_come_again_at_once() {
    let folder = Folder::new();
    let (running, _manager) = folder.serve();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    folder.configure(port, "");
    let (second, manager) = folder.managed();
    let said = manager.hears("STATUS=cannot start");
    assert!(said.contains("is in use by another process"), "{said}");
    // It stays, and a stop does not wait for it.
    second.signal(Signal::TERM);
    Folder::was_refused(&second.output(), 1, "is in use by another process");
    running.signal(Signal::TERM);
    assert_eq!(running.output().status.code(), Some(0));
}

#[test]
fn a_newer_format_is_named_so() {
    let folder = stopped();
    let watermark = folder.path("data/store/watermark");
    let before = fs::read(&watermark).unwrap();
    let mut newer = before.clone();
    for slot in newer.chunks_exact_mut(4096) {
        let format = u32::from_be_bytes(slot[8..12].try_into().unwrap());
        slot[8..12].copy_from_slice(&(format + 1).to_be_bytes());
        let len = u32::from_be_bytes(slot[12..16].try_into().unwrap()) as usize;
        let crc = tests::segments::crc32c(&slot[..16 + len]).to_be_bytes();
        slot[16 + len..20 + len].copy_from_slice(&crc);
    }
    fs::write(&watermark, newer).unwrap();
    refuses(&folder, "run the newer release");
    fs::write(&watermark, before).unwrap();
    stops(&folder);
}

#[test]
fn a_limit_of_files_is_named_so() {
    let folder = stopped();
    let data = folder.path("data");
    let before = content(&data);
    let config = folder.path("node1.toml");
    let mut limited = Command::new("sh");
    let line = format!("ulimit -n 40; exec {} --config {}", binary().display(), config.display());
    limited.args(["-c", &line]);
    Folder::was_refused(&Folder::run_to_end(&mut limited), 1, "limit of open files");
    assert_eq!(content(&data), before, "something was changed");
    stops(&folder);
}

#[test]
fn a_mode_that_forbids_is_named_so() {
    if !is_root() {
        return;
    }
    let folder = stopped();
    // Nobody may not look into root's own folders.
    let logd = folder.path("logd");
    fs::copy(binary(), &logd).unwrap();
    // Everything is nobody's, but for what is forbidden.
    give(&folder.path(""), NOBODY);
    for forbidden in [
        "data/store",
        "data/store/db",
        "data/store/db/CURRENT",
        "data/store/log",
        "data/store/watermark",
    ] {
        let path = folder.path(forbidden);
        chown(&path, Some(0), Some(0)).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut command = Command::new(&logd);
        command.arg("--config").arg(folder.path("node1.toml"));
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        Folder::was_refused(&Folder::run_to_end(&mut command), 1, "Permission denied");
        fs::set_permissions(&path, mode).unwrap();
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    stops(&folder);
}

/// Gives a folder and all in it to somebody.
fn give(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), user);
        }
    }
}

/// A file system on a folder, until it is dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(arguments: &[&str], at: &'a Path) -> Option<Self> {
        let done = Command::new("mount").args(arguments).arg(at).output();
        let done = done.is_ok_and(|output| output.status.success());
        if !done {
            eprintln!("not tested: nothing can be mounted here");
        }
        done.then_some(Self(at))
    }

    fn again(&self, options: &str) {
        let status = Command::new("mount").args(["-o", options]).arg(self.0).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_mount_that_is_read_only_is_named_so() {
    let folder = Folder::new();
    let data = folder.path("data");
    let seed = fs::read(data.join("init.toml")).unwrap();
    let Some(mount) = Mounted::new(&["-t", "tmpfs", "logd-test"], &data) else { return };
    fs::write(data.join("init.toml"), seed).unwrap();
    stops(&folder);
    mount.again("remount,ro");
    refuses(&folder, "Read-only file system");
    mount.again("remount,rw");
    stops(&folder);
}

#[test]
fn a_disk_without_room_is_named_so() {
    let folder = Folder::new();
    let data = folder.path("data");
    let seed = fs::read(data.join("init.toml")).unwrap();
    let Some(_mount) = Mounted::new(&["-t", "tmpfs", "-o", "size=160m", "logd-test"], &data) else {
        return;
    };
    fs::write(data.join("init.toml"), seed).unwrap();
    stops(&folder);
    // Until it refuses; the last bytes too.
    let filler = data.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    refuses(&folder, "No space left on device");
    drop(file);
    fs::remove_file(&filler).unwrap();
    stops(&folder);
}
