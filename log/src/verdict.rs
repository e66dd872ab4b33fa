//! What a start finds: the log is intact, or damaged and why, or something stands in the way.

use std::io;
use std::sync::Arc;

use crate::format::{FORMAT, Position};

/// What kind of damage a log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DamageKind {
    /// Something that was written is not what is read.
    Corrupt,
    /// Something that was durable is gone.
    Lost,
    /// What is read contradicts itself or what was noted elsewhere.
    Contradicted,
}

/// What was found that an intact log cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// There is no segment.
    #[error("the log has no segment")]
    Nothing,
    /// A segment is missing between others, or behind a sealed one.
    #[error("segment {life} is missing")]
    SegmentMissing {
        /// Its life.
        life: u64,
    },
    /// A segment is shorter or longer than it was made.
    #[error("segment {life} has {found} bytes instead of {expected}")]
    SegmentSize {
        /// Its life.
        life: u64,
        /// Bytes that it was made with.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// The first sector of a segment is not what was written, or of another life.
    #[error("the first sector of segment {life} is not what was written")]
    Label {
        /// Its life.
        life: u64,
    },
    /// The oldest segment does not begin with what the log came to before it.
    #[error("segment {life}, the oldest, does not begin with a mark")]
    NoBeginning {
        /// Its life.
        life: u64,
    },
    /// What was durable cannot be read: something that was written later is there.
    #[error("no record can be read at {at}, and {proof} was written later")]
    Broken {
        /// Where the log cannot be read on.
        at: Position,
        /// Something valid that shows that it was durable.
        proof: Position,
    },
    /// A whole record makes no sense to this release.
    #[error("the record at {at} is whole and of no known kind")]
    Unreadable {
        /// Where it lies.
        at: Position,
    },
    /// A group that another one follows is not there.
    #[error("{at} follows group {wanted}, and what is there before it is group {found}")]
    GroupMissing {
        /// Where the later group begins.
        at: Position,
        /// The group that it follows.
        wanted: u64,
        /// The group that lies before it.
        found: u64,
    },
    /// The log ends before what a mark elsewhere says was durable.
    #[error("the log was durable up to group {marked} and ends with group {found}")]
    MarkBeyondEnd {
        /// The group that was durable.
        marked: u64,
        /// The last whole group.
        found: u64,
    },
    /// What a shard came to is not what a mark says of it.
    #[error("shard {shard} of the log does not come to what was marked durable with group {group}")]
    MarkDiffers {
        /// The group that the mark tells of.
        group: u64,
        /// The shard.
        shard: u16,
    },
    /// Entries are missing.
    #[error("entries {from} to {to} of shard {shard} are missing")]
    Hole {
        /// The shard.
        shard: u16,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A rule that the writer keeps is broken.
    #[error("the record of shard {shard} at {at} breaks a rule: {rule}")]
    Rule {
        /// Where it lies.
        at: Position,
        /// The shard.
        shard: u16,
        /// Which rule.
        rule: Rule,
    },
    /// An entry that was read again is not what was written.
    #[error("entry {index} of shard {shard} at {at} is not what was written")]
    Entry {
        /// The shard.
        shard: u16,
        /// The entry.
        index: u64,
        /// Where it lies.
        at: Position,
    },
}

/// What every log keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// Indexes have no gap.
    #[error("indexes have no gap")]
    Dense,
    /// Terms of entries never go back.
    #[error("terms never go back")]
    Terms,
    /// The chain hash of an entry follows from the entry before.
    #[error("each hash follows from the one before")]
    Chain,
    /// Votes never go back.
    #[error("votes never go back")]
    Votes,
    /// The purge floor never goes back.
    #[error("the purge floor never goes back")]
    Floors,
    /// A truncation leaves an entry that is there, and nothing below the floor is cut.
    #[error("a truncation leaves what is there")]
    Truncations,
}

impl Finding {
    /// Which kind of damage it is.
    #[must_use]
    pub fn kind(&self) -> DamageKind {
        match self {
            Self::SegmentSize { .. }
            | Self::Label { .. }
            | Self::NoBeginning { .. }
            | Self::Broken { .. }
            | Self::Unreadable { .. }
            | Self::Entry { .. } => DamageKind::Corrupt,
            Self::Nothing
            | Self::SegmentMissing { .. }
            | Self::GroupMissing { .. }
            | Self::MarkBeyondEnd { .. }
            | Self::Hole { .. } => DamageKind::Lost,
            Self::MarkDiffers { .. } | Self::Rule { .. } => DamageKind::Contradicted,
        }
    }
}

/// Why the log takes or gives nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The disk refused. After a write or a sync the log has failed for good: the process has to
    /// end, and what was queued is unknown.
    #[error("{doing}: {source}")]
    Disk {
        /// What was attempted.
        doing: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Something that was written is not what is read. The node takes no part any more.
    #[error("damaged: {0}")]
    Damaged(#[from] Finding),
    /// A newer release wrote it; nothing is wrong with it.
    #[error("the log has format {0}; this release reads up to {FORMAT}: run the newer release")]
    Newer(u32),
    /// A segment of another store lies in the folder. Whoever put it there can put it right.
    #[error("segment {life} belongs to another store")]
    Mixed {
        /// Its life.
        life: u64,
    },
    /// The log failed earlier and takes nothing any more.
    #[error("the log stopped: {0}")]
    Stopped(Arc<str>),
    /// The entry does not fit into a segment; nothing was queued.
    #[error("an entry of {bytes} bytes; {most} at most")]
    TooLarge {
        /// Bytes of its payload.
        bytes: usize,
        /// Bytes that it may have.
        most: usize,
    },
    /// A log lies in the folder already; nothing was changed.
    #[error("there is a log already")]
    Exists,
}

impl LogError {
    /// Wraps an error of the system with what was attempted.
    pub(crate) fn disk(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { doing: doing.into(), source: Arc::new(source) }
    }
}
