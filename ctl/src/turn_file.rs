//! Whose turn it is in a round robin, kept from one command to the next and shared by commands that
//! run side by side: twelve commands over three nodes go to each of them four times, whichever shell
//! starts them.
//!
//! A turn is taken under the file's lock, so no two commands take the same. The file is a convenience:
//! one that is damaged, foreign or cannot be written is treated as missing.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use net::{LiveNode, Ring, Turns};
use parking_lot::Mutex;
use proto::ClusterId;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::home::make_private_dir;

/// No ring is larger; another file may be.
const BYTES_MAX: u64 = 64 << 10;

/// The cursor of one context of one cluster.
#[derive(Debug)]
pub(crate) struct TurnFile {
    path: PathBuf,
    cluster: ClusterId,
    /// What is used where the file cannot be.
    own: Mutex<Turns>,
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    cluster: String,
    turns: Turns,
}

impl TurnFile {
    /// The file at `path`; it need not exist.
    pub(crate) fn new(path: PathBuf, cluster: ClusterId) -> Self {
        Self { path, cluster, own: Mutex::default() }
    }

    /// Changes what is kept while nobody else does.
    fn with<T>(&self, act: impl FnOnce(&mut Turns, u64) -> T) -> T {
        let mut own = self.own.lock();
        let mut file = open(&self.path)
            .inspect_err(|error| {
                tracing::debug!(path = %self.path.display(), %error, "the cursor is not shared");
            })
            .ok();
        if let Some(turns) = file.as_mut().and_then(|file| self.read(file)) {
            *own = turns;
        }
        let before = own.clone();
        let done = act(&mut own, now_ms());
        if let Some(file) = file.as_mut().filter(|_| *own != before) {
            let kept = Kept { cluster: self.cluster.to_string(), turns: own.clone() };
            if let Err(error) = write(file, &kept) {
                tracing::debug!(path = %self.path.display(), %error, "the cursor was not kept");
            }
        }
        done
    }

    fn read(&self, file: &mut File) -> Option<Turns> {
        let mut text = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut text).ok()?;
        let kept: Kept = serde_json::from_slice(&text).ok()?;
        (kept.cluster == self.cluster.as_str()).then_some(kept.turns)
    }
}

/// Opens the file, which is made if missing, and keeps other commands out until it is dropped.
fn open(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        make_private_dir(folder).map_err(std::io::Error::other)?;
    }
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    file.lock()?;
    Ok(file)
}

/// In place: a file put in the place of this one would not be the one that others have locked.
fn write(file: &mut File, kept: &Kept) -> std::io::Result<()> {
    let text = serde_json::to_vec(kept)?;
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(&text)
}

/// Time since the machine was started, the same for all of its processes. It only says how old a
/// failure is.
fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let ms = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
    u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1000).saturating_add(ms)
}

impl Ring for TurnFile {
    fn next(&self, live: &[LiveNode]) -> Option<String> {
        self.with(|turns, now_ms| turns.next(live, now_ms))
    }

    fn failed(&self, node: &LiveNode) {
        self.with(|turns, now_ms| turns.failed(node, now_ms));
    }

    fn used(&self, node: &str) {
        self.with(|turns, _| turns.used(node));
    }
}

#[cfg(test)]
mod tests {
    //! Seen to fail without the lock (turns taken twice), with the cluster's name not compared, and
    //! with the file replaced instead of rewritten (turns taken twice).

    use super::*;

    fn cursor(dir: &tempfile::TempDir, cluster: u8) -> TurnFile {
        let path = dir.path().join("state/alice.cursor");
        TurnFile::new(path, ClusterId::from_bytes([cluster; 16]))
    }

    fn live(names: &[&str]) -> Vec<LiveNode> {
        let node =
            |name: &&str| LiveNode { name: (*name).to_owned(), incarnation: 1, suspect: false };
        names.iter().map(node).collect()
    }

    #[test]
    fn the_next_command_goes_on_where_the_last_one_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let live = live(&["n1", "n2", "n3"]);
        let turn = || cursor(&dir, 7).next(&live).unwrap();
        assert_eq!([turn(), turn(), turn(), turn()], ["n1", "n2", "n3", "n1"]);
        cursor(&dir, 7).failed(&live[1]);
        assert_eq!([turn(), turn(), turn()], ["n3", "n1", "n3"]);
        cursor(&dir, 7).used("n2");
        assert_eq!([turn(), turn(), turn()], ["n3", "n1", "n2"]);
        // Another cluster's cursor is none.
        assert_eq!(cursor(&dir, 8).next(&live).as_deref(), Some("n1"));
    }

    #[test]
    fn damage_is_as_good_as_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let live = live(&["n1", "n2"]);
        let turn = || cursor(&dir, 7).next(&live).unwrap();
        turn();
        let path = dir.path().join("state/alice.cursor");
        for bytes in [&b""[..], b"{", b"[]", b"\xff\xfe", &[b'x'; 100_000]] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!([turn(), turn()], ["n1", "n2"]);
        }
        // A folder where the file should be: the command goes on, with a cursor of its own.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let cursor = cursor(&dir, 7);
        assert_eq!(
            [cursor.next(&live), cursor.next(&live)],
            [Some("n1".into()), Some("n2".into())]
        );
    }

    #[test]
    fn side_by_side_every_turn_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let live = live(&["n1", "n2", "n3"]);
        let counts = Mutex::new([0_u32; 3]);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        // A new one each, as a new process has.
                        let name = cursor(&dir, 7).next(&live).unwrap();
                        let at = live.iter().position(|node| node.name == name).unwrap();
                        counts.lock()[at] += 1;
                    }
                });
            }
        });
        assert_eq!(counts.into_inner(), [100, 100, 100]);
    }
}
