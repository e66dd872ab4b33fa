//! A cluster that lost the majority of its voters goes on with what one node holds: a new lineage begins.
//!
//! Invariants:
//! * the stores of all nodes end, that of the node that goes on too: nothing that they ever voted or
//!   acknowledged counts any more, and none of them is let in again;
//! * the raft ids of the new lineage lie above all that were ever given;
//! * the other nodes stay members, under their names and keys, as ones that nobody has heard yet. They
//!   come back as nodes that cannot prove their stores do (`repair`), and nobody waits for their votes.
//!
//! Not here: who decides that, and how it comes into the log (`daemon::recover`).

use bytes::Bytes;
use clock::Hlc;
use proto::event::LINEAGE;
use proto::lineage::Lineage;
use proto::member::{MemberState, NewLineage};

use crate::rows::error::{QueryError, conflict};
use crate::rows::member_rows::{nodes, present};
use crate::rules::machine::Machine;
use crate::rules::members::Changed;
use crate::rules::notice::about;
use crate::rules::repair::put_away;

impl Machine<'_> {
    /// Ends the stores of all nodes and goes on with one. The same again changes nothing.
    pub(crate) fn begin_lineage(
        &mut self,
        begin: &NewLineage,
        now: Hlc,
    ) -> Result<Changed, QueryError> {
        let all = nodes(&self.rows)?;
        let goes_on = present(&all, &begin.name)?;
        let answer = vec![begin.name.clone()];
        let is_begun =
            goes_on.row.raft_id == begin.raft_id && goes_on.row.incarnation == begin.incarnation;
        if is_begun {
            return Ok(Changed { answer, ..Changed::default() });
        }
        let (lineage, before) = (Lineage::of(begin.raft_id), Lineage::of(self.state.last_raft_id));
        if lineage.number() <= before.number() || lineage.first_raft_id() != begin.raft_id {
            let id = begin.raft_id;
            return Err(conflict(format!("{id} does not begin a lineage after {before}")).into());
        }
        let mut changed = Changed { answer, ..Changed::default() };
        let mut last_id = begin.raft_id;
        for node in all.values().filter(|node| !node.is_removed()) {
            let mut node = node.clone();
            put_away(&mut node)?;
            node.row.nonce = Vec::new();
            node.row.reason = String::new();
            node.row.repair = None;
            node.row.may_return = false;
            node.row.since = now.to_bytes().to_vec();
            if node.row.name == begin.name {
                node.row.raft_id = begin.raft_id;
                node.row.incarnation.clone_from(&begin.incarnation);
                node.row.state = MemberState::Joined.into();
                let text = format!(
                    "lineage {lineage}: the majority was lost, and the cluster goes on with what {} \
                     held, up to entry {}",
                    begin.name, begin.last_index
                );
                let event = about(LINEAGE, text, &node.row).with("lineage", lineage);
                let event = event.with("last_index", begin.last_index);
                changed.events.push(event.with("committed_index", begin.committed_index));
            } else {
                last_id += 1;
                node.row.raft_id = last_id;
                // Of a store that nobody ever makes: the node brings one when it comes back.
                let id = last_id.to_be_bytes();
                let unlike = begin.incarnation.iter().zip(id.iter().cycle());
                node.row.incarnation = unlike.map(|(byte, id)| byte ^ id ^ 0x55).collect();
                node.row.state = MemberState::Admitted.into();
                // As of one that came with a token and was never heard: nobody waits for its vote.
                node.token = Bytes::copy_from_slice(&begin.incarnation);
            }
            changed.rows.push(node);
        }
        assert!(last_id > self.state.last_raft_id, "raft ids only grow");
        assert_eq!(Lineage::of(last_id), lineage, "the stores of a lineage are of one");
        let given = last_id - begin.raft_id + 1;
        assert_eq!(given, changed.rows.len() as u64, "each store has an id of its own");
        self.state.last_raft_id = last_id;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use clock::Stamp;
    use proto::limits::NODE_STORES_MAX;
    use proto::member::{MemberOp, MemberRow};
    use proto::wire::MemberChange;

    use super::*;
    use crate::rows::member_rows::{GoneStore, Node};
    use crate::{Batch, Caller, Change, Command, CommandOp, MemoryView, Outcome, Table};

    /// Seen to fail with the ids taken before it was known that every store can be put away.
    #[test]
    fn a_lineage_that_is_refused_takes_no_ids() {
        let state = MemberState::Joined.into();
        let row = MemberRow { name: "n1".into(), raft_id: 1, state, ..MemberRow::default() };
        let mut node = Node::new(row);
        node.gone = vec![GoneStore::default(); NODE_STORES_MAX - 1];
        let mut view = MemoryView::default();
        let (table, key, value) = (Table::Members, b"n1".to_vec(), Some(node.encode()));
        view.write([Change { table, key, value }]);
        let raft_id = Lineage::FIRST.next(7).unwrap().first_raft_id();
        let (name, incarnation) = ("n1".to_owned(), vec![7; 16]);
        let begin = NewLineage { name, raft_id, incarnation, ..NewLineage::default() };
        let op = Some(MemberOp::NewLineage(begin));
        let op = CommandOp::Member(MemberChange { op, ..MemberChange::default() });
        let caller = Caller::node(&"n1".parse().unwrap());
        let commands = vec![Command { caller, gateway: "n1".into(), op }];
        let base = Stamp::unbounded(Hlc::from_ns(1));
        let batch = Batch { base, primary: "n1".into(), commands };
        let mut machine = Machine::new(&view).unwrap();
        let outcomes = machine.apply(1, 1, Some(&batch)).unwrap();
        assert!(matches!(outcomes[..], [Outcome::Refused(_)]), "{outcomes:?}");
        assert_eq!(machine.state.last_raft_id, 0);
    }
}
