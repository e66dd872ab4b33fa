//! What a seed says of the members, as the engine and the table of keys know them.

use config::seed::{self, Seed};
use proto::peer::StoreKey;

use crate::raft::Member;

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
