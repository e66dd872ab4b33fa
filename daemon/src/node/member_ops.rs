//! Requests about the nodes of the cluster, and the engine's state.
//!
//! Admins change the table of members and nothing else; the primary's reconciler makes the engine follow.

use model::CommandOp;
use proto::member::MemberOp;
use proto::wire::{MemberChange, Members, RaftView};
use proto::{ErrorCode, Failure};

use crate::reader::store_failure;
use crate::reconciler;

use super::{Deadline, Node, Principal};

/// The command that an admin's request stands for.
///
/// # Errors
/// `Denied` for everybody else, and for what nodes alone may say; `Invalid` without a change.
pub(super) fn command_op(
    principal: &Principal,
    change: &MemberChange,
) -> Result<CommandOp, Failure> {
    let denied = |message: String| Err(Failure::new(ErrorCode::Denied, message));
    match &change.op {
        None => Err(Failure::new(
            ErrorCode::Invalid,
            "a change of members that this release does not know",
        )),
        Some(
            MemberOp::Init(_)
            | MemberOp::Admit(_)
            | MemberOp::Notice(_)
            | MemberOp::Lead(_)
            | MemberOp::Bind(_)
            | MemberOp::Move(_)
            | MemberOp::Readmit(_)
            | MemberOp::Repaired(_)
            | MemberOp::NewLineage(_),
        ) => denied(format!("only nodes say this, and {} is none", principal.identity)),
        Some(
            MemberOp::Remove(_) | MemberOp::Set(_) | MemberOp::StepDown(_) | MemberOp::Recover(_),
        ) => {
            principal.require_admin("change the nodes")?;
            Ok(CommandOp::Member(change.clone()))
        }
    }
}

impl Node {
    /// Every node that ever was, from a state that holds everything acknowledged before now.
    pub(super) async fn members_op(
        &self,
        principal: &Principal,
        deadline: Deadline,
    ) -> Result<Members, Failure> {
        let core = self.core()?;
        self.fresh(core, principal, false, deadline).await?;
        reconciler::rows(&core.store).map_err(store_failure)
    }

    /// This node's engine, as it is now.
    #[expect(clippy::unused_async, reason = "it stands beside requests that ask others")]
    pub(super) async fn raft_view(&self, _principal: &Principal) -> Result<RaftView, Failure> {
        let core = self.core()?;
        let view = core.engine.view().borrow().clone();
        let state = core.engine.state();
        let name = |id: &u64| match view.members.get(id) {
            Some(member) => member.name.clone(),
            // Removed since, or not known yet.
            None => format!("#{id}"),
        };
        let learners = view.members.keys().filter(|id| !view.voters.contains(id));
        let mut learners: Vec<String> = learners.map(name).collect();
        let mut voters: Vec<String> = view.voters.iter().map(name).collect();
        learners.sort_by(|a, b| proto::member::ring_order(a, b));
        voters.sort_by(|a, b| proto::member::ring_order(a, b));
        Ok(RaftView {
            node: self.name().to_string(),
            raft_id: view.id,
            role: view.role.as_str().to_owned(),
            term: state.vote_term,
            voted_for: state.voted_for.as_ref().map(name).unwrap_or_default(),
            vote_committed: state.vote_committed,
            last_index: view.last_index.unwrap_or(0),
            committed: state.committed.unwrap_or(0),
            applied: core.engine.progress().borrow().index.unwrap_or(0),
            purged: state.purged.unwrap_or(0),
            voters,
            learners,
            joint: view.joint,
            membership_index: view.membership_at.map_or(0, |(_, index)| index),
            stages: core.engine.stages().told(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proto::member::{
        Lead, MoveNode, Notice, ReadmitNode, RecoverNode, RemoveNodes, RepairedNode, SetNode,
        StepDown,
    };
    use proto::wire::Members;
    use proto::{ClusterId, Identity, Role};

    use super::*;

    fn principal(role: Role) -> Principal {
        let (cluster, name) = (ClusterId::from_bytes([7; 16]), "ada".parse().unwrap());
        let identity = Identity { cluster, role, name };
        Principal { identity, fingerprint: [1; 32], gateway: "n1".parse().unwrap() }
    }

    /// Seen to fail with: the role not looked at, and what nodes say let through for admins.
    #[test]
    fn admins_change_what_is_wanted_and_nobody_says_what_nodes_say() {
        let wanted = [
            MemberOp::Remove(RemoveNodes::default()),
            MemberOp::Set(SetNode::default()),
            MemberOp::StepDown(StepDown::default()),
            MemberOp::Recover(RecoverNode::default()),
        ];
        let noticed = [
            MemberOp::Init(Members::default()),
            MemberOp::Admit(proto::member::AdmitNode::default()),
            MemberOp::Notice(Notice::default()),
            MemberOp::Lead(Lead { term: 1 }),
            MemberOp::Bind(proto::member::BindKey::default()),
            MemberOp::Move(MoveNode::default()),
            MemberOp::Readmit(ReadmitNode::default()),
            MemberOp::Repaired(RepairedNode::default()),
        ];
        let code = |role, op: &MemberOp| {
            let change = MemberChange { op: Some(op.clone()), id: "c-1".to_owned() };
            command_op(&principal(role), &change).err().map(|failure| failure.error_code())
        };
        for op in &wanted {
            assert_eq!(code(Role::Admin, op), None, "{op:?}");
            assert_eq!(code(Role::Client, op), Some(ErrorCode::Denied), "{op:?}");
            assert_eq!(code(Role::Node, op), Some(ErrorCode::Denied), "{op:?}");
        }
        for op in &noticed {
            for role in [Role::Admin, Role::Client, Role::Node] {
                assert_eq!(code(role, op), Some(ErrorCode::Denied), "{role:?} {op:?}");
            }
        }
        let none = command_op(&principal(Role::Admin), &MemberChange::default());
        assert_eq!(none.unwrap_err().error_code(), ErrorCode::Invalid);
    }
}
