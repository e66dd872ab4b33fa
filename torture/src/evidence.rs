//! Whether a cut took something away: the files of the nodes' logs as a kill alone would have left
//! them, beside those in the copy.
//!
//! While the copy is made the disk takes nothing more, and the nodes are killed as soon as the copy is
//! there. So what a log file has more, or otherwise, than its copy was written by a node and not yet
//! by its disk: the difference between a power cut and a kill.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;

/// First bytes of a segment, which say what it is.
const LABEL: usize = 512;
/// Longest wait for a write: under load there are hundreds a second.
const WRITE_WAIT: Duration = Duration::from_millis(500);

/// Log files and what they hold.
#[derive(Debug)]
pub(crate) struct Evidence(BTreeMap<PathBuf, Vec<u8>>);

impl Evidence {
    /// Reads the log files of all nodes, below the folder of the cluster, that were written since a
    /// time.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(crate) fn read(cluster: &Path, since: SystemTime) -> anyhow::Result<Self> {
        let mut found = BTreeMap::new();
        let mut folders = vec![cluster.join("data")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
                let entry = entry?;
                let (path, about) = (entry.path(), entry.metadata()?);
                if about.is_dir() {
                    folders.push(path);
                } else if about.modified()? >= since && is_log(&path) {
                    let bytes = fs::read(&path)?;
                    found.insert(path.strip_prefix(cluster)?.to_owned(), bytes);
                }
            }
        }
        Ok(Self(found))
    }

    /// By node, how many bytes are missing or others in the copy, which now lies at the same place.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn lost(&self, cluster: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut lost = BTreeMap::new();
        for (path, before) in &self.0 {
            let after = match fs::read(cluster.join(path)) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            };
            let missing = differing(before, &after);
            let node = path.iter().nth(1).unwrap_or_default().to_string_lossy().into_owned();
            if missing > 0 {
                *lost.entry(node).or_default() += missing;
            }
        }
        Ok(lost)
    }
}

/// Waits until something is written to a node's log: a moment later it is durable. Gives up after a
/// while, for a node that gets nothing.
///
/// # Errors
/// When the files cannot be looked at.
pub(crate) fn wait_write(cluster: &Path, node: &str) -> anyhow::Result<()> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(cluster.join("data").join(node).join("store/log"))? {
        let path = entry?.path();
        if is_log(&path) {
            segments.push((fs::metadata(&path)?.modified()?, path));
        }
    }
    let since = Instant::now();
    while since.elapsed() < WRITE_WAIT {
        for (before, path) in &segments {
            if fs::metadata(path)?.modified()? != *before {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// How many bytes behind the label are others. Whole blocks are compared first: most are the same.
/// Zeros that are missing are a segment that was being made.
fn differing(before: &[u8], after: &[u8]) -> u64 {
    let mut count = 0;
    for (at, block) in before.chunks(LABEL).enumerate().skip(1) {
        let other = after.get(at * LABEL..).unwrap_or_default();
        let other = other.get(..block.len()).unwrap_or(other);
        if block != other {
            let others = other.iter().chain(std::iter::repeat(&0));
            count += block.iter().zip(others).filter(|(one, other)| one != other).count() as u64;
        }
    }
    count
}

/// Whether a file holds what is synced before something is acknowledged. What is written at leisure,
/// such as tables, would be lost by any cut.
fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "segment")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_in_the_copy_is_counted_by_node() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: &[u8]| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let segment = |label: u8, rest: &[u8]| [&[label; LABEL], rest].concat();
        write("data/n1/store/log/1.segment", &segment(1, b"abcdef"));
        write("data/n2/store/log/1.segment", &segment(1, b"abc\0\0\0"));
        write("data/n3/store/log/1.segment", &segment(1, b"same"));
        write("data/n3/store/log/2.segment", &segment(2, &[0; 9]));
        write("data/n3/store/db/000009.sst", &segment(1, b"table"));
        let evidence = Evidence::read(folder.path(), SystemTime::UNIX_EPOCH).unwrap();
        assert!(evidence.lost(folder.path()).unwrap().is_empty());
        write("data/n1/store/log/1.segment", &segment(1, b"abc"));
        write("data/n2/store/log/1.segment", &segment(1, b"abcxyz"));
        fs::remove_file(folder.path().join("data/n3/store/log/2.segment")).unwrap();
        fs::remove_file(folder.path().join("data/n3/store/db/000009.sst")).unwrap();
        let lost = evidence.lost(folder.path()).unwrap();
        let wanted = [("n1".to_owned(), 3), ("n2".to_owned(), 3)];
        assert_eq!(lost.into_iter().collect::<Vec<_>>(), wanted);
    }
}
