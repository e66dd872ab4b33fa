//! Reading a whole store again from its disk, past every cache: what a running node answers from
//! memory says nothing of what lies below.

use std::time::Duration;

use model::audit::{Audit, audit};

use super::db::Database;
use super::media::Media;
use super::watermark::DamageKind;
use super::{Store, StoreError, view};

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
