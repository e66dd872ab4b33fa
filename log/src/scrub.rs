//! Reading a whole log again from its disk in small pieces, at the pace of whoever asks for them. What is
//! written and purged meanwhile goes on: no segment is kept longer than one piece takes to be read.

use crate::disk::{Disk, DiskFile};
use crate::format::Mark;
use crate::log::Log;
use crate::replay::Replay;
use crate::segment::{Label, read_label};
use crate::verdict::{Finding, LogError};

/// How far a reading of the whole log is. The default one has read nothing.
#[derive(Debug, Default)]
pub struct Scrub {
    /// What the segments so far come to; `None` before the first.
    replay: Option<Replay>,
    last_life: u64,
    reading: Option<Partly>,
}

/// A segment that is being read.
#[derive(Debug)]
struct Partly {
    life: u64,
    bytes: Vec<u8>,
    read: usize,
    /// Of the one that is written to: how far it was durable when its reading began, and what the log
    /// came to.
    end: Option<(usize, Mark)>,
}

/// What one piece came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes that were read from the disk.
    pub bytes: usize,
    /// Whether that was the end of the log: the next piece begins anew.
    pub ends: bool,
}

impl<D: Disk> Log<D> {
    /// Bytes of all segments that hold the log.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.shared.segments.size_bytes()
    }

    /// Reads the next piece of a reading, at most so many bytes of one segment, past what the system
    /// keeps of it. All that was durable when the last segment was begun must be there when the reading
    /// ends, by the rule of recovery. A reading that a purge has overtaken ends, too: else a log that is
    /// written faster than it is read would keep it busy for ever.
    ///
    /// # Errors
    /// What is damaged, or that the disk refuses.
    pub fn scrub(&self, scrub: &mut Scrub, most: usize) -> Result<Piece, LogError> {
        let segments = &self.shared.segments;
        segments.let_remove();
        let mut partly = match scrub.reading.take() {
            Some(partly) => partly,
            None => self.begin_segment(scrub)?,
        };
        let reading = segments.read_one(partly.life);
        let Some(segment) = reading.segments.first() else {
            *scrub = Scrub::default();
            return Ok(Piece { bytes: 0, ends: true });
        };
        let failed = |source| LogError::disk(format!("reading segment {}", partly.life))(source);
        if partly.read == 0 {
            segment.file.forget().map_err(failed)?;
            let (expected, found) = (segment.size as u64, segment.file.size().map_err(failed)?);
            if found != expected {
                return Err(Finding::SegmentSize { life: partly.life, expected, found }.into());
            }
            partly.bytes = vec![0; segment.size];
        }
        let to = partly.read.saturating_add(most.max(1)).min(segment.size);
        let Some(piece) = partly.bytes.get_mut(partly.read..to) else {
            return Ok(Piece { bytes: 0, ends: false });
        };
        let bytes = piece.len();
        segment.file.read_at(piece, partly.read as u64).map_err(failed)?;
        partly.read = to;
        let whole = to == segment.size;
        drop(reading);
        let ends = whole && partly.end.is_some();
        match whole {
            true => self.judge_segment(scrub, partly)?,
            false => scrub.reading = Some(partly),
        }
        Ok(Piece { bytes, ends })
    }

    fn begin_segment(&self, scrub: &Scrub) -> Result<Partly, LogError> {
        let front = self.stream_is_there();
        let Some(stream) = &front.stream else {
            return Err(LogError::Stopped(front.failed.clone().unwrap_or_default()));
        };
        let active = stream.segment.seed.life;
        let life = match scrub.replay {
            Some(_) => scrub.last_life + 1,
            None => self.shared.segments.first_life().unwrap_or(active),
        };
        assert!(life <= active, "a reading ends with the segment that is written to");
        let end = (life == active).then(|| (stream.next, stream.mark()));
        Ok(Partly { life, bytes: Vec::new(), read: 0, end })
    }

    fn judge_segment(&self, scrub: &mut Scrub, partly: Partly) -> Result<(), LogError> {
        let Partly { life, mut bytes, end, .. } = partly;
        let store = self.shared.segments.store();
        if read_label(store, &bytes) != (Label::Ours { life, size: bytes.len() as u64 }) {
            return Err(Finding::Label { life }.into());
        }
        if let Some((durable, _)) = &end
            && let Some(later) = bytes.get_mut(*durable..)
        {
            // What was written since would be read in part.
            later.fill(0);
        }
        let mut replay = scrub.replay.take().unwrap_or_else(|| Replay::new(*store, None));
        replay.segment(life, &bytes)?;
        match end {
            None => (scrub.replay, scrub.last_life) = (Some(replay), life),
            Some((_, mark)) => {
                replay.comes_to(&mark)?;
                replay.finish()?;
                *scrub = Scrub::default();
            }
        }
        Ok(())
    }
}
