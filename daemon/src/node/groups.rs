//! Reading groups.

use proto::wire::{Groups, ListGroups};
use proto::{ErrorCode, Failure};

use super::{Deadline, Node, Principal};

impl Node {
    #[expect(clippy::unused_async, reason = "it will ask the primary")]
    pub(super) async fn groups(
        &self,
        _principal: &Principal,
        _list: &ListGroups,
        _deadline: Deadline,
    ) -> Result<Groups, Failure> {
        Err(Failure::new(ErrorCode::Invalid, "a request that this release does not know"))
    }
}
