//! Reading a whole log again from its disk while it is written to: what is answered from memory says
//! nothing of what lies below.

use crate::disk::{Disk, DiskFile};
use crate::log::Log;
use crate::replay::Replay;
use crate::segment::{Label, SECTOR, Segment, read_label};
use crate::verdict::{Finding, LogError};

impl<D: Disk> Log<D> {
    /// Reads every segment past what the system keeps of it, by the rule of recovery: all that is
    /// durable when this is called must be there. Slow; what is written goes on.
    ///
    /// # Errors
    /// What is damaged, or that the disk refuses.
    pub fn check(&self) -> Result<(), LogError> {
        self.shared.segments.let_remove();
        let (mark, end, reading) = {
            let front = self.stream_is_there();
            let Some(stream) = &front.stream else {
                return Err(LogError::Stopped(front.failed.clone().unwrap_or_default()));
            };
            let end = (stream.segment.seed.life, stream.next);
            (stream.mark(), end, self.shared.segments.read_all(end.0))
        };
        let store = self.shared.segments.store();
        let mut replay = Replay::new(*store, Some(&mark));
        for segment in &reading.segments {
            let life = segment.seed.life;
            let mut bytes = self.read_again(segment)?;
            if read_label(store, &bytes) != (Label::Ours { life, size: segment.size as u64 }) {
                return Err(Finding::Label { life }.into());
            }
            // What was written since would be read in part.
            if let Some(later) = bytes.get_mut(end.1..).filter(|_| life == end.0) {
                later.fill(0);
            }
            assert_eq!(end.1 % SECTOR, 0, "a group begins with a sector");
            replay.segment(life, &bytes)?;
        }
        replay.finish()?;
        Ok(())
    }

    fn read_again(&self, segment: &Segment<D::File>) -> Result<Vec<u8>, LogError> {
        let life = segment.seed.life;
        let failed = |source| LogError::disk(format!("reading segment {life}"))(source);
        segment.file.forget().map_err(failed)?;
        let found = segment.file.size().map_err(failed)?;
        let expected = segment.size as u64;
        if found != expected {
            return Err(Finding::SegmentSize { life, expected, found }.into());
        }
        let mut bytes = vec![0; segment.size];
        segment.file.read_at(&mut bytes, 0).map_err(failed)?;
        Ok(bytes)
    }
}
