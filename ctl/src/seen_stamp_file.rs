//! The highest stamp that a context has seen, kept from one command to the next: what the context
//! sends gets a later one, whichever process sends it and through whichever node.
//!
//! The file belongs to one context of one cluster, and says so inside: a cluster that is made anew
//! has another id, so it never meets the stamps of the old one. The stamp only rises, also when
//! commands run side by side. It is a convenience and not a record: if it is lost, only the promise
//! is lost that the next command is ordered after this one.
//!
//! A stamp in here comes from the cluster's own log, so the cluster has passed it. It can lie ahead
//! of the cluster's clock only where that clock was wrong and the log is gone; then writes are
//! refused until the clock has passed it, and the refusal names this file as what to remove.

use std::fs::File;
use std::path::{Path, PathBuf};

use clock::Hlc;
use proto::ClusterId;

use crate::error::CtlError;
use crate::home::{make_private_dir, write_atomic};

/// The file of one context of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct SeenStampFile {
    path: PathBuf,
    cluster: ClusterId,
}

/// Why what the file holds is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// Neither a stamp nor a stamp and a cluster.
    #[error("it holds no stamp")]
    Damaged,
    /// A stamp of another cluster.
    #[error("it is of another cluster")]
    Foreign,
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

impl SeenStampFile {
    /// The file at `path`; it need not exist.
    pub(crate) fn new(path: PathBuf, cluster: ClusterId) -> Self {
        Self { path, cluster }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The stamp; [`Hlc::ZERO`] if none was kept yet.
    ///
    /// # Errors
    /// When there is a file, and it is of no use.
    pub(crate) fn read(&self) -> Result<Hlc, Unusable> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Hlc::ZERO),
            Err(error) => return Err(Unusable::Unreadable(error.to_string())),
        };
        let text = String::from_utf8(bytes).map_err(|_| Unusable::Damaged)?;
        let mut words = text.split_whitespace();
        let stamp = words.next().unwrap_or_default().parse().map_err(|_| Unusable::Damaged)?;
        match (words.next(), words.next()) {
            // Earlier releases wrote the stamp alone.
            (None, None) => Ok(stamp),
            (Some(cluster), None) if cluster == self.cluster.as_str() => Ok(stamp),
            (Some(_), None) => Err(Unusable::Foreign),
            _ => Err(Unusable::Damaged),
        }
    }

    /// Keeps a stamp unless a later one is kept already. What is of no use is replaced.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn raise(&self, seen: Hlc) -> Result<(), CtlError> {
        let _lock = self.lock();
        if self.read().is_ok_and(|kept| kept >= seen) {
            return Ok(());
        }
        write_atomic(&self.path, format!("{seen} {}\n", self.cluster).as_bytes())
    }

    /// Keeps other commands out until it is dropped. Where files cannot be locked, two commands
    /// that end in the same moment may leave the earlier of two stamps; neither is torn.
    fn lock(&self) -> Option<File> {
        make_private_dir(self.path.parent()?).ok()?;
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        let file = File::options().write(true).create(true).truncate(false).open(path).ok()?;
        file.lock().ok()?;
        Some(file)
    }
}

#[cfg(test)]
mod tests {
    //! Seen to fail without the lock in `raise` (a later stamp overwritten by an earlier one) and
    //! with the cluster's name not compared.

    use super::*;

    fn cluster(byte: u8) -> ClusterId {
        ClusterId::from_bytes([byte; 16])
    }

    fn file(dir: &tempfile::TempDir) -> SeenStampFile {
        SeenStampFile::new(dir.path().join("state/alice.stamp"), cluster(7))
    }

    #[test]
    fn it_only_rises() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        assert_eq!(file.read(), Ok(Hlc::ZERO));
        for (seen, kept) in [(5, 5), (9, 9), (7, 9)] {
            file.raise(Hlc::from_ns(seen)).unwrap();
            assert_eq!(file.read(), Ok(Hlc::from_ns(kept)));
        }
    }

    #[test]
    fn what_is_of_no_use_is_told_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        let stamp = Hlc::from_ns(3);
        for (text, why) in [
            (String::new(), Unusable::Damaged),
            ("soon\n".to_owned(), Unusable::Damaged),
            (format!("{stamp} {} more\n", cluster(7)), Unusable::Damaged),
            (format!("{} {}\n", Hlc::MAX.to_hex(), cluster(8)), Unusable::Foreign),
        ] {
            make_private_dir(file.path().parent().unwrap()).unwrap();
            std::fs::write(file.path(), &text).unwrap();
            assert_eq!(file.read(), Err(why), "{text}");
            file.raise(stamp).unwrap();
            assert_eq!(file.read(), Ok(stamp), "{text}");
        }
        std::fs::write(file.path(), b"\xff\xfe").unwrap();
        assert_eq!(file.read(), Err(Unusable::Damaged));
        std::fs::write(file.path(), format!("{stamp}\n")).unwrap();
        assert_eq!(file.read(), Ok(stamp), "of an earlier release");
    }

    #[test]
    fn commands_side_by_side_leave_the_latest() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        std::thread::scope(|scope| {
            for first in 0..8_u64 {
                let file = &file;
                scope.spawn(move || {
                    for n in 0..50 {
                        let seen = Hlc::from_ns(n * 8 + first + 1);
                        file.raise(seen).unwrap();
                        assert!(file.read().unwrap() >= seen);
                    }
                });
            }
        });
        assert_eq!(file.read(), Ok(Hlc::from_ns(400)));
    }
}
