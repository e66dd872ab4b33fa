//! Requests about the nodes of the cluster, and the engine's state.

use model::CommandOp;
use proto::wire::{MemberChange, Members, RaftView};
use proto::{ErrorCode, Failure};

use super::{Deadline, Node, Principal};

/// The command that an admin's request stands for.
pub(super) fn command_op(
    _principal: &Principal,
    _change: &MemberChange,
) -> Result<CommandOp, Failure> {
    Err(Failure::new(ErrorCode::Invalid, "a request that this release does not know"))
}

impl Node {
    #[expect(clippy::unused_async, reason = "it will ask the primary")]
    pub(super) async fn members_op(
        &self,
        _principal: &Principal,
        _deadline: Deadline,
    ) -> Result<Members, Failure> {
        Err(Failure::new(ErrorCode::Invalid, "a request that this release does not know"))
    }

    #[expect(clippy::unused_async, reason = "it will ask the engine")]
    pub(super) async fn raft_view(&self, _principal: &Principal) -> Result<RaftView, Failure> {
        Err(Failure::new(ErrorCode::Invalid, "a request that this release does not know"))
    }
}
