//! What a seed says of the members, as the engine and the table of keys know them.

use config::seed::{self, Seed};
use proto::peer::StoreKey;

use crate::raft::Member;
use crate::store::format::Identity as StoreIdentity;

/// Who a store is that a seed makes; `None` where the seed does not name its own node.
#[must_use]
pub fn store_identity(seed: &Seed) -> Option<StoreIdentity> {
    let myself = seed.myself()?;
    Some(StoreIdentity {
        format: 0,
        cluster: seed.cluster.to_string(),
        node: seed.node.to_string(),
        raft_id: myself.raft_id,
        incarnation: myself.incarnation.as_bytes().to_vec(),
        // Drawn where it is made.
        nonce: Vec::new(),
    })
}

/// The members, by raft id.
pub(crate) fn members(seed: &Seed) -> Vec<(u64, Member)> {
    let member = |member: &seed::Member| {
        let (name, address) = (member.name.to_string(), member.address.clone());
        (member.raft_id, Member { name, address, incarnation: *member.incarnation.as_bytes() })
    };
    seed.members.iter().map(member).collect()
}

/// The stores whose keys it names.
pub(crate) fn stores(seed: &Seed) -> Vec<StoreKey> {
    let store = |member: &seed::Member| {
        Some(StoreKey {
            name: member.name.to_string(),
            raft_id: member.raft_id,
            incarnation: member.incarnation.as_bytes().to_vec(),
            fingerprint: member.key?.0.to_vec(),
        })
    };
    seed.members.iter().filter_map(store).collect()
}
