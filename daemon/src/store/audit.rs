//! Reading a whole store again from its disk, past every cache: what a running node answers from
//! memory says nothing of what lies below.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use model::audit::{Audit, audit};
use model::view::Row;
use model::{Direction, Table, View, ViewError};

use super::db::Database;
use super::media::Media;
use super::watermark::DamageKind;
use super::{Snapshot, Store, StoreError, view};

/// A view that is read slowly.
struct Paced<'a> {
    view: &'a Snapshot<'a>,
    store: &'a Store,
    bytes_per_s: Arc<AtomicU64>,
}

impl Paced<'_> {
    /// Rests for as long as so many bytes take.
    fn rest(&self, bytes: usize) -> Result<(), ViewError> {
        let mut rested = Duration::ZERO;
        loop {
            let pace = self.bytes_per_s.load(Ordering::Relaxed);
            let us = (bytes as u64).saturating_mul(1_000_000).checked_div(pace);
            let left = Duration::from_micros(us.unwrap_or(0)).saturating_sub(rested);
            if left.is_zero() || self.store.is_closed() {
                break;
            }
            let nap = left.min(PAUSE);
            std::thread::sleep(nap);
            rested += nap;
        }
        match self.store.is_closed() {
            true => Err(ViewError::new(StoreError::Stopped("it is closed".to_owned()))),
            false => Ok(()),
        }
    }
}

impl View for Paced<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        self.view.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        let rows = self.view.scan(table, from, to, direction, limit)?;
        self.rest(rows.iter().map(|(key, value)| key.len() + value.len()).sum())?;
        Ok(rows)
    }
}

/// How often a look is begun before it counts that it cannot be.
const TRIES: usize = 5;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

impl Store {
    /// Reads every row of every table, the log with its chain, and every block beside, and tells
    /// what is not what was written. Any of that is damage, and is noted. Slow; runs beside all
    /// else.
    ///
    /// # Errors
    /// When the disk cannot be looked at.
    pub fn audit_disk(&self) -> Result<Audit, StoreError> {
        if let Media::Memory(_) = self.inner.media {
            let mut found = audit(&view::freeze(&self.inner.db)?);
            match self.inner.log.check().map_err(StoreError::from) {
                Err(StoreError::Damaged(problem)) => found.problems.push(problem),
                read => read?,
            }
            return Ok(self.judged(found));
        }
        // What is only in memory would be left out.
        self.inner.db.flush()?;
        let kept = self.inner.db.keep_files()?;
        let found = self.look_past_caches().and_then(|look| {
            let mut found = audit(&view::freeze(&look)?);
            for read in [look.read_all(), self.inner.log.check().map_err(StoreError::from)] {
                match read {
                    Err(StoreError::Damaged(problem)) => found.problems.push(problem),
                    read => read?,
                }
            }
            found.problems.extend(self.inner.tables.changed(&look)?);
            Ok(found)
        });
        drop(kept);
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let damage = super::open::met(&self.inner.path, &error).ok_or(error)?;
                let problems = vec![damage.to_string()];
                self.inner.evidence.damaged(damage);
                Audit { index: 0, content: [0; 32], records: 0, bytes: 0, problems }
            }
        };
        Ok(self.judged(found))
    }

    /// Freezes the state as it is, and reads all of it aside, at so many bytes a second, or at once while
    /// that is 0. `done` gets what was found; what is wrong is damage, and is noted before. A store that
    /// is closed meanwhile tells nothing.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn audit_aside(
        &self,
        bytes_per_s: Arc<AtomicU64>,
        done: impl FnOnce(&Audit) + Send + 'static,
    ) -> Result<(), StoreError> {
        let (freezing, frozen) = mpsc::channel();
        let (store, db) = (self.clone(), Arc::clone(&self.inner.db));
        if let Media::Memory(_) = self.inner.media {
            bytes_per_s.store(0, Ordering::Relaxed);
        }
        let read = move || {
            let view = view::freeze(&db);
            // Nobody waits for it any more only where the process ends.
            drop(freezing);
            let Ok(view) = view else { return };
            let found = audit(&Paced { view: &view, store: &store, bytes_per_s });
            if !store.is_closed() {
                done(&store.judged(found));
            }
        };
        self.inner.shared.workers().aside("store-audit", read)?;
        // What is applied next must not be seen.
        let _: Result<(), mpsc::RecvError> = frozen.recv();
        Ok(())
    }

    fn is_closed(&self) -> bool {
        self.inner.writer.lock().is_none()
    }

    fn judged(&self, found: Audit) -> Audit {
        if let Some(first) = found.problems.first() {
            self.note_damage(DamageKind::Corrupt, first);
        }
        found
    }

    /// The database goes on while it is looked at: what is wrong once may be its own haste, and what
    /// is damaged is so every time.
    pub(super) fn look_past_caches(&self) -> Result<Database, StoreError> {
        let path = self.inner.path.join("db");
        let mut looked = Database::look_past_caches(&path);
        for _ in 1..TRIES {
            if looked.is_ok() {
                break;
            }
            std::thread::sleep(PAUSE);
            looked = Database::look_past_caches(&path);
        }
        looked
    }
}
