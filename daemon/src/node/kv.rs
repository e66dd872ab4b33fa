//! Reading the dictionary.

use proto::wire::{KvRead, KvRows};
use proto::{ErrorCode, Failure};

use super::{Deadline, Node, Principal};

impl Node {
    #[expect(clippy::unused_async, reason = "it will ask the primary")]
    pub(super) async fn kv_read(
        &self,
        _principal: &Principal,
        _read: &KvRead,
        _deadline: Deadline,
    ) -> Result<KvRows, Failure> {
        Err(Failure::new(ErrorCode::Invalid, "a request that this release does not know"))
    }
}
