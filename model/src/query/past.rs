//! Whether one state can have come of another: what a node asks before a snapshot takes the place of
//! what it has. Its log is not there any more to be compared, and what it holds was committed.
//!
//! Records are dense and keep their stamp and hash even when they are deleted, so the last one speaks
//! for all before it.

use crate::query::stats;
use crate::rows::error::StateError;
use crate::rows::find::record;
use crate::rows::view::View;

/// What two states say of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Past {
    /// The later one holds the last record of the earlier one.
    Holds,
    /// Nothing tells: no record is kept that both should have.
    Unknown,
    /// They come of two histories.
    Other(String),
}

/// Judges whether the state of `later` came of the state of `earlier`.
///
/// # Errors
/// When one of them cannot be read.
pub fn past(earlier: &dyn View, later: &dyn View) -> Result<Past, StateError> {
    let (before, after) = (stats(earlier)?, stats(later)?);
    let other = |what| Ok(Past::Other(what));
    if after.index < before.index {
        return Ok(Past::Unknown);
    }
    if after.index == before.index {
        if after.digest == before.digest {
            return Ok(Past::Holds);
        }
        return other(format!("the states after entry {} differ", before.index));
    }
    if after.last_seq < before.last_seq {
        let (end, held) = (after.last_seq, before.last_seq);
        return other(format!("the later one ends with message {end}, and {held} is held"));
    }
    // Every entry is stamped above all before it.
    if after.last_stamp <= before.last_stamp {
        return other(format!("entry {} is not stamped above entry {}", after.index, before.index));
    }
    let seq = before.last_seq;
    if before.first_seq > seq || after.first_seq > seq {
        return Ok(Past::Unknown);
    }
    let (mine, theirs) = (record(earlier, seq)?, record(later, seq)?);
    if (&mine.stamp, &mine.leaf_hash) == (&theirs.stamp, &theirs.leaf_hash) {
        return Ok(Past::Holds);
    }
    other(format!("message {seq} is '{}' in one and '{}' in the other", mine.id, theirs.id))
}
