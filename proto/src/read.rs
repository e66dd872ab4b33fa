//! Reading: what is asked for, and pages of it.

use std::time::Duration;

use crate::record::Record;

/// Which records belong to a range of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum TimeMode {
    /// Those whose stamp lies in it.
    Nominal = 0,
    /// Those that may have been stamped in it: their interval meets the range. One without known
    /// bounds always may.
    Possible = 1,
    /// Those that were stamped in it for sure: their whole interval lies inside the range.
    Definite = 2,
}

/// Where a read begins or ends in time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TimePoint {
    /// The instant.
    #[prost(oneof = "Instant", tags = "1, 2")]
    pub at: Option<Instant>,
}

/// An instant: exact, or relative to the serving node's disciplined clock.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Instant {
    /// A 12-byte stamp.
    #[prost(bytes, tag = "1")]
    Hlc(Vec<u8>),
    /// Nanoseconds before now.
    #[prost(uint64, tag = "2")]
    AgoNs(u64),
}

/// A place in one shard's order.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Position {
    /// The shard.
    #[prost(uint32, tag = "1")]
    pub shard: u32,
    /// Highest seq already seen.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
}

/// Read records in log order. A client reads its inbox and what it sent; an admin reads everything.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Read {
    /// Not before this instant.
    #[prost(message, optional, tag = "1")]
    pub since: Option<TimePoint>,
    /// Before this instant.
    #[prost(message, optional, tag = "2")]
    pub until: Option<TimePoint>,
    /// Only from this sender; empty = all.
    #[prost(string, tag = "3")]
    pub from: String,
    /// Only to this recipient; empty = all.
    #[prost(string, tag = "4")]
    pub to: String,
    /// Most records in all; 0 = no limit of the caller's.
    #[prost(uint64, tag = "5")]
    pub limit: u64,
    /// Stay and send what comes.
    #[prost(bool, tag = "6")]
    pub follow: bool,
    /// Begin after the position of this named cursor; empty = none.
    #[prost(string, tag = "7")]
    pub cursor: String,
    /// Begin after these positions.
    #[prost(message, repeated, tag = "8")]
    pub after: Vec<Position>,
    /// Answer from this node's own state without asking the primary.
    #[prost(bool, tag = "9")]
    pub stale: bool,
    /// What `since` and `until` mean.
    #[prost(enumeration = "TimeMode", tag = "10")]
    pub mode: i32,
    /// Only what went between the caller and this client, in both directions; empty = all. Not
    /// together with `from` or `to`.
    #[prost(string, tag = "11")]
    pub with: String,
}

/// Records, in log order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Page {
    /// The records.
    #[prost(message, repeated, tag = "1")]
    pub records: Vec<Record>,
    /// Where to go on.
    #[prost(message, repeated, tag = "2")]
    pub next: Vec<Position>,
    /// Whether the end of what the reader may see was reached.
    #[prost(bool, tag = "3")]
    pub end: bool,
    /// 12-byte stamp up to which this answer is complete.
    #[prost(bytes = "vec", tag = "4")]
    pub safe: Vec<u8>,
    /// For a stale read: how long ago this node last heard from a primary, in milliseconds.
    /// `u64::MAX` if it never did. 0 for a fresh read.
    #[prost(uint64, tag = "5")]
    pub behind_ms: u64,
    /// 12-byte stamp that [`Read::since`] stood for; empty without one. Whoever reads on asks by it:
    /// a time relative to now is another one by then.
    #[prost(bytes = "vec", tag = "6")]
    pub since: Vec<u8>,
    /// The same for [`Read::until`].
    #[prost(bytes = "vec", tag = "7")]
    pub until: Vec<u8>,
    /// What the reader had before it and can have no more.
    #[prost(message, optional, tag = "8")]
    pub gap: Option<Gap>,
}

/// Places of the log that were removed by retention before a reader came by that stood there, or asked
/// from an instant before them. At the last one was a message that belonged to the answer, as far as its
/// stream and its sender say; of those before it some may have, and nobody knows how many.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Gap {
    /// The shard.
    #[prost(uint32, tag = "1")]
    pub shard: u32,
    /// The first that may be missing.
    #[prost(uint64, tag = "2")]
    pub from_seq: u64,
    /// The last one, which is missing.
    #[prost(uint64, tag = "3")]
    pub to_seq: u64,
}

impl Gap {
    /// How many are missing at most.
    #[must_use]
    pub fn count_max(&self) -> u64 {
        (self.to_seq + 1).saturating_sub(self.from_seq)
    }
}

impl Read {
    /// Makes this the question after a page: it goes on where the page ends, in the range of time
    /// that the answer made of it. The limit is the caller's to lower.
    pub fn go_on(&mut self, page: &Page) {
        self.pin(page);
        self.cursor.clear();
        self.after.clone_from(&page.next);
    }

    /// Puts the instants that an answer says in the place of those that are relative to now. They are
    /// resolved once: a second time they would leave out what lies between.
    pub fn pin(&mut self, page: &Page) {
        for (point, resolved) in [(&mut self.since, &page.since), (&mut self.until, &page.until)] {
            if let Some(point) = point.as_mut().filter(|_| !resolved.is_empty()) {
                point.at = Some(Instant::Hlc(resolved.clone()));
            }
        }
    }

    /// Whether it depends on when it is asked.
    #[must_use]
    pub fn is_relative(&self) -> bool {
        let points = [&self.since, &self.until].into_iter().flatten();
        points.into_iter().any(|point| matches!(point.at, Some(Instant::AgoNs(_))))
    }

    /// The same question, asked by so much later.
    #[must_use]
    pub fn later(mut self, by: Duration) -> Self {
        let by_ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        for point in [&mut self.since, &mut self.until].into_iter().flatten() {
            if let Some(Instant::AgoNs(ago)) = &mut point.at {
                *ago = ago.saturating_add(by_ns);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: Instant) -> Option<TimePoint> {
        Some(TimePoint { at: Some(at) })
    }

    #[test]
    fn a_relative_time_stays_the_instant_that_it_was() {
        let asked = Read {
            since: point(Instant::AgoNs(70)),
            cursor: "worker".to_owned(),
            ..Read::default()
        };
        assert_eq!(asked.clone().later(Duration::from_nanos(5)).since, point(Instant::AgoNs(75)));
        let next = vec![Position { shard: 1, seq: 9 }];
        let page = Page { since: vec![4; 12], next: next.clone(), ..Page::default() };
        let mut read = asked;
        read.go_on(&page);
        assert_eq!(read.since, point(Instant::Hlc(vec![4; 12])));
        assert_eq!(
            (read.until.clone(), read.after.clone(), read.cursor.as_str()),
            (None, next, "")
        );
        assert_eq!(read.clone().later(Duration::from_secs(1)), read, "an instant stays one");
        // A node of an earlier release does not say what it made of it.
        read.since = point(Instant::AgoNs(70));
        read.pin(&Page::default());
        assert_eq!(read.since, point(Instant::AgoNs(70)));
    }

    #[test]
    fn a_gap_counts_both_ends() {
        assert_eq!(Gap { shard: 1, from_seq: 3, to_seq: 3 }.count_max(), 1);
        assert_eq!(Gap { shard: 1, from_seq: 3, to_seq: 9 }.count_max(), 7);
    }
}
