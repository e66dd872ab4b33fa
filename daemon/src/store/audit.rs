//! Reading a whole store again from its disk, past every cache: what a running node answers from
//! memory says nothing of what lies below.

use model::audit::{Audit, audit};

use super::db::Database;
use super::watermark::DamageKind;
use super::{SHARD, Store, StoreError, log, view};

impl Store {
    /// Reads every row of every table, the log with its chain, and every block beside, and tells
    /// what is not what was written. Any of that is damage, and is noted. Slow; runs beside all
    /// else.
    ///
    /// # Errors
    /// When the disk cannot be looked at.
    pub fn audit_disk(&self) -> Result<Audit, StoreError> {
        // What is only in memory and in the write-ahead log would be left out.
        self.inner.db.flush()?;
        let kept = self.inner.db.keep_files()?;
        let look = Database::look_past_caches(&self.inner.path.join("db"));
        let found = look.and_then(|look| {
            let mut found = audit(&view::freeze(&look)?);
            for read in [look.read_all(), log::bounds(&look, SHARD).map(drop)] {
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
            Err(StoreError::Damaged(problem)) => {
                Audit { index: 0, content: [0; 32], records: 0, bytes: 0, problems: vec![problem] }
            }
            found => found?,
        };
        if let Some(first) = found.problems.first() {
            self.note_damage(DamageKind::Corrupt, first);
        }
        Ok(found)
    }
}
