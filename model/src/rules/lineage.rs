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
        self.state.last_raft_id = begin.raft_id;
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
                self.state.last_raft_id += 1;
                let id = self.state.last_raft_id;
                node.row.raft_id = id;
                // Of a store that nobody ever makes: the node brings one when it comes back.
                let id = id.to_be_bytes();
                let unlike = begin.incarnation.iter().zip(id.iter().cycle());
                node.row.incarnation = unlike.map(|(byte, id)| byte ^ id ^ 0x55).collect();
                node.row.state = MemberState::Admitted.into();
                // As of one that came with a token and was never heard: nobody waits for its vote.
                node.token = Bytes::copy_from_slice(&begin.incarnation);
            }
            changed.rows.push(node);
        }
        assert!(self.state.last_raft_id >= begin.raft_id, "raft ids only grow");
        Ok(changed)
    }
}
