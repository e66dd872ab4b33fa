//! Checking this node's state.

use proto::wire::{Verified, Verify};
use proto::{ErrorCode, Failure};

use super::{Node, Principal};

impl Node {
    #[expect(clippy::unused_async, reason = "it will read the disk")]
    pub(super) async fn verify(
        &self,
        _principal: &Principal,
        _verify: Verify,
    ) -> Result<Verified, Failure> {
        Err(Failure::new(ErrorCode::Invalid, "a request that this release does not know"))
    }
}
