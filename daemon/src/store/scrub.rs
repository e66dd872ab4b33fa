//! Reading everything on the disk again in small pieces, at the pace of whoever asks for them: every
//! record of the log, every table as a whole, every row by the database's own checks, and at last whether
//! the database could be opened again. What it finds is damage, and is noted.
//!
//! A piece holds no file longer than it takes: what is purged, merged or removed meanwhile goes.
//!
//! Not here: the pace (`node::scrubber`), the same all at once (`audit`).

use std::fs;
use std::path::PathBuf;

use super::db::Database;
use super::keys::FAMILIES;
use super::media::Media;
use super::tables::{Look, Tables};
use super::watermark::DamageKind;
use super::{Store, StoreError};

/// How far a reading of everything is. The default one has read nothing.
#[derive(Debug, Default)]
pub struct Scrub {
    part: Part,
}

/// What is being read.
#[derive(Debug, Default)]
enum Part {
    #[default]
    Nothing,
    Log(log::Scrub),
    /// Tables that are left, and the one that is being read.
    Tables(Vec<String>, Option<Look>),
    /// Families that are left, and from which key on the first of them.
    Rows(&'static [&'static str], Vec<u8>),
    /// The words of the database on its tables.
    Opening,
}

/// What one piece came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes that were read.
    pub bytes: u64,
    /// Whether that was the last piece: the next one begins anew.
    pub ends: bool,
}

impl Store {
    /// About how many bytes a reading of everything is.
    ///
    /// # Errors
    /// When the database does not say what it has.
    pub fn scrub_bytes(&self) -> Result<u64, StoreError> {
        let folder = self.inner.path.join("db");
        let size = |name: &String| fs::metadata(folder.join(name)).map_or(0, |file| file.len());
        let tables: u64 = self.inner.db.tables()?.iter().map(size).sum();
        // Once as they lie on the disk, and once row by row.
        Ok(self.inner.log.size_bytes() + 2 * tables)
    }

    /// Reads the next piece, about so many bytes. Damage is noted.
    ///
    /// # Errors
    /// When something is damaged, or the disk cannot be looked at; a reading then begins anew.
    pub async fn scrub(&self, scrub: Scrub, most: usize) -> Result<(Scrub, Scrubbed), StoreError> {
        let store = self.clone();
        let piece = move || {
            let mut scrub = scrub;
            let read = store.scrub_piece(&mut scrub, most).map_err(|error| store.met(error))?;
            Ok((scrub, read))
        };
        self.inner.shared.workers().wait_for(piece).await
    }

    /// A file that a start would miss, and this process does not: it has all open that it reads and writes.
    /// Whoever puts it back has the store that it was, so that is no damage yet.
    #[must_use]
    pub fn missing_file(&self) -> Option<PathBuf> {
        if let Media::Memory(_) = self.inner.media {
            return None;
        }
        let (store, db) = (&self.inner.path, self.inner.path.join("db"));
        let current = db.join("CURRENT");
        // It names the manifest, and is replaced as a whole.
        let manifest = fs::read_to_string(&current).map(|name| db.join(name.trim_end()));
        let needed = [store.join(super::watermark::FILE), store.join("log"), current];
        let needed = needed.into_iter().chain(manifest.ok());
        // One that cannot be looked at is there.
        needed.into_iter().find(|path| path.try_exists().is_ok_and(|exists| !exists))
    }

    fn met(&self, error: StoreError) -> StoreError {
        if let Some(damage) = super::open::met(&self.inner.path, &error) {
            self.inner.evidence.damaged(damage);
        }
        error
    }

    fn scrub_piece(&self, scrub: &mut Scrub, most: usize) -> Result<Scrubbed, StoreError> {
        let part = std::mem::take(&mut scrub.part);
        let (part, bytes) = match part {
            Part::Nothing => (Part::Log(log::Scrub::default()), 0),
            Part::Log(mut reading) => {
                let piece = self.inner.log.scrub(&mut reading, most)?;
                let next = match piece.ends {
                    true => Part::Tables(self.inner.db.tables()?.into_iter().collect(), None),
                    false => Part::Log(reading),
                };
                (next, piece.bytes as u64)
            }
            Part::Tables(left, look) => self.scrub_tables(left, look, most)?,
            Part::Rows([], _) => (Part::Opening, 0),
            Part::Rows(families @ [family, rest @ ..], from) => {
                let (bytes, next) = self.inner.db.read_piece(family, &from, most)?;
                let part = match next {
                    Some(next) => Part::Rows(families, next),
                    None => Part::Rows(rest, Vec::new()),
                };
                (part, bytes)
            }
            Part::Opening => {
                match self.could_be_opened() {
                    // That is told by itself, and may be put right: no reason to read no more.
                    Err(error @ StoreError::Database { .. }) if self.missing_file().is_some() => {
                        tracing::debug!(%error, "the database could not be opened again");
                    }
                    opened => opened?,
                }
                return Ok(Scrubbed { bytes: 0, ends: true });
            }
        };
        scrub.part = part;
        Ok(Scrubbed { bytes, ends: false })
    }

    /// Reads on in a table, or begins with the next one.
    fn scrub_tables(
        &self,
        mut left: Vec<String>,
        look: Option<Look>,
        most: usize,
    ) -> Result<(Part, u64), StoreError> {
        let tables: &Tables = &self.inner.tables;
        let mut look = match look {
            Some(look) => look,
            None => {
                let Some(name) = left.pop() else {
                    return Ok((Part::Rows(&FAMILIES, Vec::new()), 0));
                };
                match tables.look_at(&self.inner.db, name)? {
                    Some(look) => look,
                    // Merged into another meanwhile.
                    None => return Ok((Part::Tables(left, None), 0)),
                }
            }
        };
        let read = tables.read_on(&mut look, most);
        let (bytes, ends) = read.inspect_err(|error| {
            // The disk was asked for nothing else: what it does not give back is gone.
            self.note_damage(DamageKind::Unreadable, error);
        })?;
        let look =
            if ends { tables.judge(&self.inner.db, look).map(|()| None)? } else { Some(look) };
        Ok((Part::Tables(left, look), bytes))
    }

    /// Whether the database could be opened again: what it says of its tables is read only then.
    fn could_be_opened(&self) -> Result<(), StoreError> {
        if let Media::Memory(_) = self.inner.media {
            return Ok(());
        }
        let kept = self.inner.db.keep_files()?;
        let looked: Result<Database, StoreError> = self.look_past_caches();
        drop(kept);
        looked.map(drop)
    }
}
