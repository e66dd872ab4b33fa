//! Spans: from where to where in the log a client is or was a member of a group. They are kept twice,
//! under the group and under the client, so that a group finds its members and an inbox its groups.
//!
//! Invariants of every list of spans: ascending, none meets the next, only the last may be open.

use prost::Message;
use proto::limits::GROUPS_PER_CLIENT_MAX;

use crate::rows::error::StateError;
use crate::rows::keys;
use crate::rows::view::{Direction, Table, View};

/// The spans of one client in one group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MembershipSpans(Vec<Span>);

/// One span: seqs from `from` on, below `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: u64,
    /// `None` while it lasts.
    to: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct SpansRow {
    #[prost(message, repeated, tag = "1")]
    spans: Vec<SpanRow>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct SpanRow {
    #[prost(uint64, tag = "1")]
    from: u64,
    /// 0 while it lasts.
    #[prost(uint64, tag = "2")]
    to: u64,
}

impl Span {
    fn holds(self, seq: u64) -> bool {
        self.from <= seq && self.to.is_none_or(|to| seq < to)
    }

    fn ends_at_or_before(self, seq: u64) -> bool {
        self.to.is_some_and(|to| to <= seq)
    }
}

impl MembershipSpans {
    /// The seq from which on the client sees the group, if it is a member now.
    pub(crate) fn member_from(&self) -> Option<u64> {
        self.0.last().filter(|span| span.to.is_none()).map(|span| span.from)
    }

    /// Whether the client may see a record of the group.
    pub(crate) fn holds(&self, seq: u64) -> bool {
        self.0.iter().any(|span| span.holds(seq))
    }

    /// The lowest seq, not below `from`, that a span can hold, and where that span ends.
    pub(crate) fn next(&self, from: u64) -> Option<(u64, Option<u64>)> {
        let span = self.0.iter().find(|span| !span.ends_at_or_before(from))?;
        Some((span.from.max(from), span.to))
    }

    /// Whether they are in order, and none meets the next.
    fn ascend(&self) -> bool {
        self.0.windows(2).all(|pair| match pair {
            [one, next] => one.from < next.from && one.ends_at_or_before(next.from),
            _ => true,
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Begins a span that sees everything from `from` on. What it covers of older ones goes.
    pub(crate) fn begin(&mut self, from: u64) {
        self.0.retain(|span| span.from < from);
        if let Some(last) = self.0.last_mut().filter(|last| !last.ends_at_or_before(from)) {
            last.to = Some(from);
        }
        self.0.push(Span { from, to: None });
        assert!(self.ascend(), "spans are in order, and none meets the next");
        assert_eq!(self.member_from(), Some(from), "who begins is a member");
    }

    /// Ends the open span below `to`.
    pub(crate) fn end(&mut self, to: u64) {
        if let Some(last) = self.0.last_mut().filter(|last| last.to.is_none()) {
            last.to = Some(to);
        }
    }

    /// Forgets the spans of which no record is kept, given the lowest kept seq.
    pub(crate) fn prune(&mut self, first_seq: u64) {
        self.0.retain(|span| !span.ends_at_or_before(first_seq));
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let row = |span: &Span| SpanRow { from: span.from, to: span.to.unwrap_or(0) };
        SpansRow { spans: self.0.iter().map(row).collect() }.encode_to_vec()
    }

    fn decode(table: Table, bytes: &[u8]) -> Result<Self, StateError> {
        let row = SpansRow::decode(bytes)
            .map_err(|_| StateError::corrupt(table, "spans do not parse"))?;
        let span = |row: &SpanRow| Span { from: row.from, to: (row.to != 0).then_some(row.to) };
        let spans = Self(row.spans.iter().map(span).collect());
        if !spans.ascend() || spans.0.iter().any(|span| span.to == Some(span.from)) {
            return Err(StateError::corrupt(table, "spans are not in order"));
        }
        Ok(spans)
    }
}

/// The spans of a client in a group; none if it never was a member.
pub(crate) fn spans(
    view: &dyn View,
    client: &str,
    group: &str,
) -> Result<MembershipSpans, StateError> {
    match view.get(Table::ClientGroups, &keys::pair(client, group))? {
        Some(row) => MembershipSpans::decode(Table::ClientGroups, &row),
        None => Ok(MembershipSpans::default()),
    }
}

/// The groups that a client is or was in, by name.
pub(crate) fn groups_of(
    view: &dyn View,
    client: &str,
) -> Result<Vec<(String, MembershipSpans)>, StateError> {
    let (from, to) = (keys::pair(client, ""), keys::after(client));
    let most = GROUPS_PER_CLIENT_MAX + 1;
    let rows = view.scan(Table::ClientGroups, &from, &to, Direction::Forward, most)?;
    rows.into_iter().map(|(key, row)| named(Table::ClientGroups, &key, &row)).collect()
}

/// Members of a group, present and past, by name, after the given one; at most `most`.
pub(crate) fn members_of(
    view: &dyn View,
    group: &str,
    after: &str,
    most: usize,
) -> Result<Vec<(String, MembershipSpans)>, StateError> {
    // The key of the very name and a zero byte is the first that can follow it.
    let mut from = keys::pair(group, after);
    if !after.is_empty() {
        from.push(0);
    }
    let rows =
        view.scan(Table::GroupMembers, &from, &keys::after(group), Direction::Forward, most)?;
    rows.into_iter().map(|(key, row)| named(Table::GroupMembers, &key, &row)).collect()
}

fn named(table: Table, key: &[u8], row: &[u8]) -> Result<(String, MembershipSpans), StateError> {
    let name =
        keys::second(key).ok_or_else(|| StateError::corrupt(table, "a key has no second name"))?;
    Ok((name.to_owned(), MembershipSpans::decode(table, row)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(spans: &[(u64, u64)]) -> MembershipSpans {
        let span = |&(from, to): &(u64, u64)| Span { from, to: (to != 0).then_some(to) };
        MembershipSpans(spans.iter().map(span).collect())
    }

    fn seen(spans: &MembershipSpans) -> Vec<u64> {
        (0..20).filter(|&seq| spans.holds(seq)).collect()
    }

    #[test]
    fn stays_begin_and_end() {
        let mut spans = MembershipSpans::default();
        spans.begin(3);
        assert_eq!(spans.member_from(), Some(3));
        spans.end(5);
        spans.end(9);
        assert_eq!((spans.member_from(), seen(&spans)), (None, vec![3, 4]));
        spans.begin(7);
        spans.end(8);
        assert_eq!(seen(&spans), [3, 4, 7]);
        // With the history what was between is seen as well.
        spans.begin(4);
        spans.end(10);
        assert_eq!(spans, of(&[(3, 4), (4, 10)]));
        spans.prune(4);
        assert_eq!(spans, of(&[(4, 10)]));
        assert_eq!(MembershipSpans::decode(Table::ClientGroups, &spans.encode()).unwrap(), spans);
    }

    #[test]
    fn the_next_seq_lies_in_a_stay() {
        let spans = of(&[(3, 5), (7, 0)]);
        assert_eq!(spans.next(0), Some((3, Some(5))));
        assert_eq!(spans.next(4), Some((4, Some(5))));
        assert_eq!(spans.next(5), Some((7, None)));
        assert_eq!(spans.next(9), Some((9, None)));
        assert_eq!(of(&[(3, 5)]).next(5), None);
    }

    #[test]
    fn stays_out_of_order_are_refused() {
        for bad in [&[(3, 5), (4, 6)][..], &[(3, 0), (5, 6)], &[(5, 6), (3, 4)], &[(3, 3)]] {
            assert!(
                MembershipSpans::decode(Table::ClientGroups, &of(bad).encode()).is_err(),
                "{bad:?}"
            );
        }
    }
}
