//! Who writes the watermark file, and the memory of damage.
//!
//! Damage is met in many places: in an opening, an apply, a read, a merge of tables, a look at
//! everything. Each of them calls [`Evidence::damaged`]; the first word stays. It counts in this
//! process at once, and is written by a thread of its own, since whoever meets it may be a task of
//! the runtime. Once it is durable, every later start finds it.
//!
//! An error that is no damage, a disk that refuses or is full, is [`Evidence::failed`]: the process
//! has to end before the database can go on by itself.
//!
//! Invariant: a slot that is written after the mark carries the mark.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::format::LogMark;
use super::media::Folder;
use super::watermark::{Damage, DamageKind, Watermark, WatermarkFile};
use super::workers::Workers;
use super::{StoreError, environment, later};

/// Told of the first error that is no damage, at once and on the thread that met it.
pub type OnFailure = Box<dyn Fn(&StoreError) + Send + Sync>;

/// The evidence of one open store.
pub(crate) struct Evidence {
    file: Mutex<Held>,
    damage: OnceLock<Damage>,
    told: watch::Sender<Told>,
    failed: watch::Sender<Option<String>>,
    /// Whether anything has failed.
    refused: AtomicBool,
    on_failure: OnceLock<OnFailure>,
    workers: Workers,
}

struct Held {
    file: WatermarkFile,
    content: Watermark,
}

/// What has become of a damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Told {
    /// None was met.
    #[default]
    None,
    /// A read was refused, and it is looked whether the disk has lost what was written.
    Looking,
    /// It was met and is being written.
    Met,
    /// Every later start will find the mark.
    Durable,
    /// The mark could not be written; a later start has to meet the damage again.
    Unwritten,
}

impl Told {
    /// Whether damage was met.
    #[must_use]
    pub fn is_met(self) -> bool {
        match self {
            Self::None | Self::Looking => false,
            Self::Met | Self::Durable | Self::Unwritten => true,
        }
    }
}

impl std::fmt::Debug for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evidence").field("damage", &self.damage).finish_non_exhaustive()
    }
}

impl Evidence {
    /// Opens and locks the watermark file of a store, and gives what it says; `None` if no slot of
    /// it is valid.
    ///
    /// # Errors
    /// See [`WatermarkFile::open`].
    pub(super) fn open(
        store: &Folder,
        workers: Workers,
    ) -> Result<(Arc<Self>, Option<Watermark>), StoreError> {
        let (file, found) = WatermarkFile::open(store)?;
        Ok((Self::new(file, found.clone().unwrap_or_default(), workers), found))
    }

    /// The evidence in a file that holds this.
    pub(super) fn new(file: WatermarkFile, content: Watermark, workers: Workers) -> Arc<Self> {
        let (told, failed) = (watch::Sender::default(), watch::Sender::default());
        let file = Mutex::new(Held { file, content });
        let (damage, on_failure) = (OnceLock::new(), OnceLock::new());
        let refused = AtomicBool::new(false);
        Arc::new(Self { file, damage, told, refused, failed, on_failure, workers })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // A panic while writing leaves the older slot valid; the next write goes to the other one.
        self.file.lock()
    }

    /// Changes what the file says, durably.
    ///
    /// # Errors
    /// When the disk refuses; the store has failed then.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Watermark)) -> Result<(), StoreError> {
        let mut held = self.held();
        let mut content = held.content.clone();
        change(&mut content);
        if let Some(damage) = self.damage.get() {
            content.damaged = true;
            content.damage = Some(damage.clone());
        }
        held.file.write(content.clone())?;
        held.content = content;
        Ok(())
    }

    /// The same in both slots, for what is nowhere else.
    ///
    /// # Errors
    /// See [`Evidence::update`].
    pub(crate) fn settle(&self, change: impl FnOnce(&mut Watermark)) -> Result<(), StoreError> {
        self.update(change)?;
        self.update(|_| {})
    }

    /// Notes what is durable now, and where the state stands.
    ///
    /// # Errors
    /// See [`Evidence::update`].
    pub(crate) fn advance(
        &self,
        mark: &log::Mark,
        committed: Option<LogMark>,
        sequence: u64,
    ) -> Result<(), StoreError> {
        self.update(|content| {
            content.mark = mark.to_bytes();
            // The state on the disk may be older after a start than what was known before it. What is
            // committed stays so.
            content.committed = later(content.committed.take(), committed);
            content.db_sequence = content.db_sequence.max(sequence);
        })
    }

    /// What the file says.
    pub(crate) fn content(&self) -> Watermark {
        self.held().content.clone()
    }

    /// Whether both slots of the file could be read.
    pub(crate) fn is_whole(&self) -> bool {
        self.held().file.is_whole()
    }

    /// Format of the store.
    pub(crate) fn format(&self) -> u32 {
        self.held().file.format()
    }

    /// Remembers damage, in this process at once and soon on the disk. The first finding stays.
    pub(crate) fn damaged(self: &Arc<Self>, damage: Damage) {
        if !self.meet(damage) {
            return;
        }
        let this = Arc::clone(self);
        if self.workers.aside("store-damage", move || this.write_mark()).is_err() {
            self.write_mark();
        }
    }

    /// Looks, on a thread of its own, whether the disk gives everything of log and database back. What it
    /// does not is damage; if it gives all, `otherwise` says what was the matter. One look at a time.
    pub(crate) fn look(
        self: &Arc<Self>,
        store: PathBuf,
        otherwise: impl FnOnce() + Send + 'static,
    ) {
        let begins = self.told.send_if_modified(|told| {
            let begins = *told == Told::None;
            if begins {
                *told = Told::Looking;
            }
            begins
        });
        if !begins {
            return;
        }
        let this = Arc::clone(self);
        let look = move || {
            if let Some(found) = environment::unreadable(&store) {
                this.damaged(Damage::new(DamageKind::Unreadable, found));
                return;
            }
            this.told.send_if_modified(|told| {
                let looking = *told == Told::Looking;
                if looking {
                    *told = Told::None;
                }
                looking
            });
            otherwise();
        };
        if let Err(error) = self.workers.aside("store-look", look) {
            // Nobody can look: then the disk is in doubt.
            self.failed(&error);
        }
    }

    /// Remembers damage and returns once the mark is on the disk, or cannot be written.
    pub(crate) fn mark(&self, damage: Damage) {
        if self.meet(damage) {
            self.write_mark();
        }
    }

    fn meet(&self, damage: Damage) -> bool {
        let mut first = false;
        let damage = self.damage.get_or_init(|| {
            first = true;
            damage
        });
        if first {
            tracing::error!(%damage, "damaged: this store no longer proves anything");
            self.told.send_replace(Told::Met);
        }
        first
    }

    fn write_mark(&self) {
        // Both slots: one that rots later must not leave the other without the mark.
        let written = self.update(|_| {}).and_then(|()| self.update(|_| {}));
        self.told.send_replace(match written {
            Ok(()) => Told::Durable,
            Err(error) => {
                tracing::error!(%error, "the mark of damage cannot be written");
                Told::Unwritten
            }
        });
    }

    /// The damage that was met, if any was.
    pub(crate) fn damage(&self) -> Option<&Damage> {
        self.damage.get()
    }

    /// What has become of a damage, as it changes.
    pub(crate) fn told(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// Installs what is to happen at the first error that is no damage. Only once.
    pub(crate) fn on_failure(&self, act: OnFailure) {
        // A store is started once.
        let _ = self.on_failure.set(act);
    }

    /// Notes that the disk or the database refused; only the first one counts. Whoever waits for that is
    /// told last: it ends the node too, and knows less of the reason.
    pub(crate) fn failed(&self, error: &StoreError) {
        if self.refused.swap(true, Ordering::AcqRel) {
            return;
        }
        // What ends in a known damage has its own way to end.
        if self.damage().is_none() {
            tracing::error!(%error, "the store failed; the process must end");
            if let Some(act) = self.on_failure.get() {
                act(error);
            }
        }
        self.failed.send_replace(Some(error.to_string()));
    }

    /// Why the store failed, as soon as it does.
    pub(crate) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn opened(dir: &Path) -> (Arc<Evidence>, Watermark) {
        let (evidence, found) = Evidence::open(&Folder::files(dir), Workers::Threads).unwrap();
        (evidence, found.unwrap())
    }

    /// A flipped byte in one slot must not make the store sound again.
    #[test]
    fn a_mark_stays_in_both_slots_and_in_all_later_ones() {
        let dir = tempfile::tempdir().unwrap();
        drop(WatermarkFile::create(&Folder::files(dir.path()), &Watermark::default()).unwrap());
        let (evidence, before) = opened(dir.path());
        assert_eq!(before.found(), None);
        evidence.mark(Damage::new(DamageKind::Lost, "entry 7 is gone"));
        evidence.mark(Damage::new(DamageKind::Corrupt, "and more"));
        assert_eq!(*evidence.told().borrow(), Told::Durable);
        drop(evidence);
        let path = dir.path().join(super::super::watermark::FILE);
        let whole = std::fs::read(&path).unwrap();
        for slot in [20, 4096 + 20] {
            let mut bytes = whole.clone();
            bytes[slot] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let found = opened(dir.path()).1.found();
            assert_eq!(found, Some(Damage::new(DamageKind::Lost, "entry 7 is gone")));
        }
    }

    #[test]
    fn only_the_first_failure_acts_and_none_beside_damage() {
        let dir = tempfile::tempdir().unwrap();
        let file =
            WatermarkFile::create(&Folder::files(dir.path()), &Watermark::default()).unwrap();
        let evidence = Evidence::new(file, Watermark::default(), Workers::Threads);
        let (acted, acts) = std::sync::mpsc::channel();
        let failed = evidence.failure();
        evidence.on_failure(Box::new(move |error| {
            let told = failed.has_changed().unwrap();
            acted.send((error.to_string(), told)).unwrap();
        }));
        evidence.failed(&StoreError::Stopped("one".to_owned()));
        evidence.failed(&StoreError::Stopped("two".to_owned()));
        // Seen to fail with: those who wait told first. Then they may end the process before the reason
        // is logged.
        let acts: Vec<_> = acts.try_iter().collect();
        assert_eq!(acts, [("the store stopped: one".to_owned(), false)]);
        assert!(evidence.failure().borrow().is_some());
        let known = LogMark { index: 7, term: 1, hash: vec![1; 32] };
        evidence.advance(&log::Mark::default(), Some(known.clone()), 9).unwrap();
        evidence.mark(Damage::new(DamageKind::Corrupt, "a block"));
        assert_eq!(*evidence.told().borrow(), Told::Durable);
        // Seen to fail with what is noted last: a start on an older state forgot what was committed.
        for older in [None, Some(LogMark { index: 6, ..known.clone() })] {
            evidence.advance(&log::Mark::default(), older, 10).unwrap();
        }
        drop(evidence);
        let found = opened(dir.path()).1;
        assert_eq!(found.committed, Some(known));
        assert_eq!((found.db_sequence, found.found().is_some()), (10, true));
    }
}
