//! Reads: the barrier that makes them fresh, pages, single records, and following.
//!
//! Any node serves any read. A fresh one asks the primary, which confirms with a majority that it
//! still leads, for the place that this node's state must have reached. A stale one skips that and
//! says how far behind it may be.

use std::time::Duration;

use clock::Hlc;
use model::query::{self, Query, Reader as Viewer};
use model::{QueryError, SHARD};
use proto::wire::{Get, Instant as When, Page, Position, Read, TimeMode, TimePoint};
use proto::{ErrorCode, Failure, Record};

use crate::raft::{Barrier, BarrierError};
use crate::store::{Snapshot, Store, StoreError};

/// Turns why a barrier failed into what the caller is told.
pub fn barrier_failure(error: &BarrierError) -> Failure {
    let code = match error {
        BarrierError::NotPrimary => ErrorCode::NotPrimary,
        BarrierError::NoQuorum => ErrorCode::NoQuorum,
        BarrierError::Behind => ErrorCode::Deadline,
        BarrierError::Stopped(_) => ErrorCode::Stopping,
    };
    Failure::new(code, error)
}

/// Waits until this node has reached a barrier.
///
/// # Errors
/// See [`barrier_failure`].
pub async fn reach(
    engine: &crate::raft::Handle,
    barrier: Barrier,
    timeout: Duration,
) -> Result<(), Failure> {
    engine.reach(barrier, timeout).await.map_err(|error| barrier_failure(&error))
}

/// A read with its instants resolved and its cursor looked up: what is left is a position.
#[derive(Debug, Clone)]
pub struct Reading {
    viewer: Viewer,
    query: Query,
    /// What `since` and `until` stood for, for whoever goes on elsewhere.
    since: Vec<u8>,
    until: Vec<u8>,
    /// Records that may still be returned; `None` = no limit of the caller's.
    left: Option<u64>,
    /// The stamp from which on nothing later can belong to it; `None` for a range without end.
    closes_at: Option<Hlc>,
}

impl Reading {
    /// Resolves a request against the state and the node's clock: `now_ns` is its reading, `None` if
    /// it cannot be trusted with one.
    ///
    /// # Errors
    /// When an instant, a position or the cursor is not one, or belongs to somebody else; when an
    /// instant is relative to a clock that knows no time.
    pub fn resolve(
        store: &Store,
        viewer: Viewer,
        read: &Read,
        now_ns: Option<u64>,
    ) -> Result<Self, Failure> {
        let since = read.since.as_ref().map(|at| instant(at, now_ns)).transpose()?;
        let until = read.until.as_ref().map(|at| instant(at, now_ns)).transpose()?;
        let mode = TimeMode::try_from(read.mode).map_err(|_| {
            let number = read.mode;
            let message =
                format!("{number} is no mode of reading time: 0 nominal, 1 possible, 2 definite");
            Failure::new(ErrorCode::Invalid, message)
        })?;
        if let (Some(since), Some(until)) = (since, until)
            && until < since
        {
            let message = format!("the range ends at {until}, before it begins at {since}");
            return Err(Failure::new(ErrorCode::Invalid, message));
        }
        let view = store.snapshot().map_err(store_failure)?;
        let mut after = position(&read.after)?;
        let mut resumes = !read.after.is_empty();
        if !read.cursor.is_empty() {
            let stored = answered(&view, query::cursor(&view, &viewer.name, &read.cursor))?;
            after = after.max(position(&stored)?);
            resumes |= !stored.is_empty();
        }
        // Who asks for what is fresh was never told of a place that this state does not have.
        if !read.after.is_empty() && !read.stale {
            inside(after, answered(&view, query::stats(&view))?.last_seq)?;
        }
        let (from, to, with) = (read.from.clone(), read.to.clone(), read.with.clone());
        let closes_at = until.map(|until| query::closing(&view, until, mode)).transpose();
        let closes_at = answered(&view, closes_at)?;
        let query = Query { since, until, mode, from, to, with, after, resumes, limit: 0 };
        let left = (read.limit > 0).then_some(read.limit);
        let bytes = |at: Option<Hlc>| at.map_or_else(Vec::new, |at| at.to_bytes().to_vec());
        Ok(Self { viewer, query, since: bytes(since), until: bytes(until), left, closes_at })
    }

    /// The next page from the state as it is now.
    ///
    /// # Errors
    /// When the reader may not see what it asks for, or the state cannot be read.
    pub fn page(&mut self, store: &Store) -> Result<Page, Failure> {
        self.query.limit = match self.left {
            Some(left) => usize::try_from(left).unwrap_or(usize::MAX),
            None => 0,
        };
        let view = store.snapshot().map_err(store_failure)?;
        let found = answered(&view, query::page(&view, &self.viewer, &self.query))?;
        // From here on the reader has come somewhere.
        (self.query.after, self.query.resumes) = (found.next, true);
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(found.records.len() as u64);
        }
        Ok(Page {
            records: found.records,
            next: vec![Position { shard: u32::from(SHARD), seq: found.next }],
            end: found.end || self.is_done(),
            safe: found.safe.to_bytes().to_vec(),
            behind_ms: 0,
            since: self.since.clone(),
            until: self.until.clone(),
            gap: found.gap,
        })
    }

    /// Whether the caller's limit is reached.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// The stamp from which on nothing later can belong to it; `None` for a range without end.
    #[must_use]
    pub fn closes_at(&self) -> Option<Hlc> {
        self.closes_at
    }

    /// Whether nothing later can belong to it any more, given the state's last stamp.
    #[must_use]
    pub fn is_past(&self, last: Hlc) -> bool {
        self.closes_at.is_some_and(|at| last >= at)
    }
}

/// One record by its id.
///
/// # Errors
/// When there is none that the caller may see, or several.
pub fn get(store: &Store, viewer: &Viewer, get: &Get) -> Result<Record, Failure> {
    let view = store.snapshot().map_err(store_failure)?;
    answered(&view, query::get(&view, viewer, &get.id, &get.from))?.into_record(&get.id)
}

/// What the model answered from a view of the store, for the caller. A state that it cannot read is
/// damage, which is noted; another node can do better.
///
/// # Errors
/// A refusal as it is; else see [`store_failure`].
pub(crate) fn answered<T>(
    view: &Snapshot<'_>,
    result: Result<T, impl Into<QueryError>>,
) -> Result<T, Failure> {
    match result.map_err(Into::into) {
        Ok(found) => Ok(found),
        Err(QueryError::Refused(failure)) => Err(failure),
        Err(QueryError::State(error)) => view.judged(Err(error)).map_err(store_failure),
    }
}

/// What a caller is told when the store cannot be read: that nothing was done here, and that another
/// node is to be asked. A node whose disk refuses is about to end.
pub fn store_failure(error: StoreError) -> Failure {
    let code = match &error {
        StoreError::Damaged(_) | StoreError::Unreadable(_) | StoreError::Incomplete(_) => {
            ErrorCode::Repairing
        }
        StoreError::Database { .. }
        | StoreError::File { .. }
        | StoreError::Log { .. }
        | StoreError::Environment { .. }
        | StoreError::TwoHistories(_)
        | StoreError::Stopped(_) => ErrorCode::Stopping,
        StoreError::Foreign(_) | StoreError::NotAdmitted(_) | StoreError::Refused(_) => {
            ErrorCode::Internal
        }
    };
    Failure::new(code, error)
}

fn instant(at: &TimePoint, now_ns: Option<u64>) -> Result<Hlc, Failure> {
    let invalid = |what: &str| Failure::new(ErrorCode::Invalid, what);
    match &at.at {
        Some(When::Hlc(bytes)) => {
            Hlc::from_slice(bytes).ok_or_else(|| invalid("a stamp has 12 bytes"))
        }
        Some(When::AgoNs(ago)) => {
            let now_ns = now_ns.ok_or_else(|| {
                let message = "this node's clock cannot say how long ago something was: it is not \
                               synchronised. Ask by exact time";
                Failure::new(ErrorCode::ClockUnavailable, message)
            })?;
            Ok(Hlc::from_ns(now_ns.saturating_sub(*ago)))
        }
        None => Err(invalid("an instant that says nothing")),
    }
}

fn position(positions: &[Position]) -> Result<u64, Failure> {
    match positions {
        [] => Ok(0),
        [Position { shard, seq }] if *shard == u32::from(SHARD) => Ok(*seq),
        _ => Err(Failure::new(ErrorCode::Invalid, "a position in a shard that is not here")),
    }
}

/// Refuses a place behind the end of the log: what comes until then would be left out without a word.
fn inside(after: u64, last: u64) -> Result<(), Failure> {
    if after <= last {
        return Ok(());
    }
    let message = format!("{SHARD}-{after} lies beyond the log's end, which is {SHARD}-{last}");
    Err(Failure::new(ErrorCode::Invalid, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Meant to catch: every place taken.
    #[test]
    fn a_place_beyond_the_log_is_refused() {
        inside(7, 7).unwrap();
        let refused = inside(8, 7).unwrap_err();
        assert_eq!(refused.error_code(), ErrorCode::Invalid);
        assert!(refused.message.contains("1-8") && refused.message.contains("1-7"), "{refused}");
    }

    #[test]
    fn instants_are_exact_or_relative_to_the_nodes_clock() {
        let stamp = Hlc { ns: 5, logical: 6 };
        let exact = TimePoint { at: Some(When::Hlc(stamp.to_bytes().to_vec())) };
        assert_eq!(instant(&exact, Some(100)).unwrap(), stamp);
        assert_eq!(instant(&exact, None).unwrap(), stamp);
        let ago = |ns| TimePoint { at: Some(When::AgoNs(ns)) };
        assert_eq!(instant(&ago(40), Some(100)).unwrap(), Hlc::from_ns(60));
        assert_eq!(instant(&ago(400), Some(100)).unwrap(), Hlc::ZERO);
        let refused = instant(&ago(40), None).unwrap_err();
        assert_eq!(refused.error_code(), ErrorCode::ClockUnavailable);
        assert!(instant(&TimePoint { at: Some(When::Hlc(vec![1])) }, Some(0)).is_err());
        assert!(instant(&TimePoint { at: None }, Some(0)).is_err());
    }
}
