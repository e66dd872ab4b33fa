//! What a node reads of itself in the table: whether clients are kept away from it, and whether it
//! was removed. Every node looks, primary or not.
//!
//! A removed node may have been away when that was decided, and its own state then never says so.
//! The others refuse it with a sentence that does.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use net::{FrameRx, FrameTx, Lane, Link, LinkError, PeerAddr, Refused};
use proto::Name;
use proto::attest::Lack;
use proto::limits::RAFT_ID_JOINED_MIN;
use proto::member::{MemberRow, MemberState};
use proto::peer::{Hello, Refusal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::raft::{Handle, Member};
use crate::store::Store;

/// Between two looks at most; entries come faster than a row of the table changes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a node stands in the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether clients are kept away from it.
    pub drained: bool,
    /// Whether it is a member no more.
    pub removed: bool,
    /// Whether it may sign certificates; `None` while its row is not known.
    pub signs: Option<bool>,
}

/// Follows how this node stands, until `stop`.
pub(crate) fn follow(
    engine: &Handle,
    store: Store,
    stop: CancellationToken,
) -> watch::Receiver<Standing> {
    let (said, standing) = watch::channel(Standing::default());
    let mut progress = engine.progress();
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        loop {
            match super::rows(&store) {
                Ok(rows) => {
                    let identity = store.identity();
                    let now = standing_of(&rows.members, &identity.node, identity.raft_id);
                    said.send_if_modified(|last| std::mem::replace(last, now) != now);
                }
                Err(error) => tracing::debug!(%error, "this node's own row cannot be read"),
            }
            if progress.changed().await.is_err() {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }));
    standing
}

fn standing_of(rows: &[MemberRow], name: &str, raft_id: u64) -> Standing {
    let row = rows.iter().find(|row| row.name == name);
    Standing {
        drained: row.is_some_and(|row| row.raft_id == raft_id && row.drained),
        removed: is_removed(rows, name, raft_id),
        signs: row.filter(|row| row.raft_id == raft_id).map(|row| row.signs),
    }
}

/// Whether a store was a member and is one no more. Raft ids only grow: where a later one has the
/// name, the earlier one was removed.
fn is_removed(rows: &[MemberRow], name: &str, raft_id: u64) -> bool {
    let row = rows.iter().find(|row| row.name == name);
    row.is_some_and(|row| {
        row.raft_id > raft_id || row.raft_id == raft_id && row.noticed() == MemberState::Removed
    })
}

/// Whether a peer with this hello is let in, as far as this node knows: by the engine's members and by
/// the table. That its certificate is a node's of this cluster is proven by then.
///
/// A node that was away may meet one that was admitted meanwhile, and that one may be the primary,
/// the only one to learn of it from. So a store that is younger than all that this node knows is let
/// in: no certificate is signed before the log has admitted its store.
///
/// # Errors
/// Why not.
pub(crate) fn admits(
    members: &[(u64, Member)],
    rows: &[MemberRow],
    hello: &Hello,
) -> Result<(), Refused> {
    let Hello { name, raft_id, incarnation, .. } = hello;
    let same = |(id, member): &&(u64, Member)| {
        id == raft_id && member.name == *name && member.incarnation.as_slice() == incarnation
    };
    if members.iter().any(|member| same(&member)) {
        return Ok(());
    }
    if is_removed(rows, name, *raft_id) {
        let reason = format!("{name} was removed from the cluster: its certificate is revoked");
        return Err(Refused::new(Refusal::Removed, reason));
    }
    let known = members.iter().map(|(id, _)| *id).chain(rows.iter().map(|row| row.raft_id));
    if *raft_id >= RAFT_ID_JOINED_MIN && known.max().is_none_or(|known| *raft_id > known) {
        return Ok(());
    }
    Err(if members.iter().any(|(_, member)| member.name == *name) {
        let reason = format!("{name} comes with another store than the one that was admitted");
        Refused::new(Refusal::Store, reason)
    } else {
        Refused::new(Refusal::Unknown, format!("{name} is not a member of this cluster"))
    })
}

/// Whether a peer's store is the first that the log knows of its incarnation.
///
/// # Errors
/// When it was made anew under the old identity, from a seed that was put back: what the first one
/// has acknowledged and voted is not in it.
pub(crate) fn is_first_store(rows: &[MemberRow], hello: &Hello) -> Result<(), Refused> {
    let nonce = hello.shown.as_ref().map_or(&[][..], |shown| shown.nonce.as_slice());
    let other = |row: &MemberRow| {
        row.raft_id == hello.raft_id && !row.nonce.is_empty() && row.nonce != nonce
    };
    if nonce.is_empty() || !rows.iter().any(other) {
        return Ok(());
    }
    Err(Refused::new(Refusal::Lacks, Lack::Store.to_string()))
}

/// A link that listens to how it is refused.
pub(crate) struct Listening {
    link: Arc<dyn Link>,
    removed: watch::Sender<bool>,
}

impl Listening {
    /// The link, and whether another node has said that this one was removed.
    pub(crate) fn new(link: Arc<dyn Link>) -> (Self, watch::Receiver<bool>) {
        let (removed, told) = watch::channel(false);
        (Self { link, removed }, told)
    }
}

impl Link for Listening {
    fn open<'a>(
        &'a self,
        to: &'a PeerAddr,
        lane: Lane,
    ) -> BoxFuture<'a, Result<(FrameTx, FrameRx), LinkError>> {
        let opened = self.link.open(to, lane);
        async move {
            let opened = opened.await;
            if let Err(LinkError::Refused { why: Refusal::Removed, .. }) = &opened {
                self.removed.send_if_modified(|removed| !std::mem::replace(removed, true));
            }
            opened
        }
        .boxed()
    }

    fn forget(&self, peer: &Name) {
        self.link.forget(peer);
    }
}

#[cfg(test)]
mod tests {
    use proto::attest::Shown;

    use super::*;

    fn row(name: &str, raft_id: u64, state: MemberState) -> MemberRow {
        let (name, state) = (name.to_owned(), i32::from(state));
        MemberRow { name, raft_id, state, drained: true, ..MemberRow::default() }
    }

    /// Seen to fail with the name alone compared: a node that was admitted again under its old name
    /// ended itself.
    #[test]
    fn a_store_is_removed_and_not_a_name() {
        let rows = [row("n1", 1, MemberState::Joined), row("n4", 16, MemberState::Removed)];
        let of = |rows: &[MemberRow], name: &str, id| {
            let Standing { drained, removed, .. } = standing_of(rows, name, id);
            (drained, removed)
        };
        assert_eq!(of(&rows, "n1", 1), (true, false));
        assert_eq!(of(&rows, "n4", 16), (true, true));
        assert_eq!(of(&rows, "n4", 17), (false, false), "not yet in the table");
        assert_eq!(of(&rows, "n5", 18), (false, false));
        let again = [row("n4", 17, MemberState::Joined)];
        assert_eq!(of(&again, "n4", 16), (false, true));
        assert_eq!(of(&again, "n4", 17), (true, false));
    }

    /// Meant to catch any nonce let in.
    #[test]
    fn a_store_made_anew_is_refused_by_the_log() {
        let noted = MemberRow { nonce: vec![1; 16], ..row("n1", 1, MemberState::Joined) };
        let hello = |raft_id, nonce: &[u8]| Hello {
            raft_id,
            shown: Some(Shown { nonce: nonce.to_vec(), ..Shown::default() }),
            ..Hello::default()
        };
        let first = |raft_id, nonce: &[u8]| {
            let rows = [noted.clone(), row("n2", 2, MemberState::Joined)];
            is_first_store(&rows, &hello(raft_id, nonce)).map_err(|refused| refused.why)
        };
        assert_eq!(first(1, &[1; 16]), Ok(()));
        assert_eq!(first(1, &[2; 16]), Err(Refusal::Lacks));
        assert_eq!(first(1, &[]), Ok(()), "a store of a release that drew none");
        assert_eq!(first(2, &[2; 16]), Ok(()), "nothing is noted yet");
        assert_eq!(first(3, &[1; 16]), Ok(()));
    }

    /// Seen to fail with a younger store refused: a node that was away refused a primary that had
    /// joined meanwhile.
    #[test]
    fn members_and_younger_stores_are_let_in_and_removed_ones_are_not() {
        let member = |name: &str, incarnation| Member {
            name: name.to_owned(),
            incarnation: [incarnation; 16],
            ..Member::default()
        };
        let members = [(1, member("n1", 1)), (17, member("n5", 5))];
        let rows = [
            row("n1", 1, MemberState::Joined),
            row("n4", 16, MemberState::Removed),
            row("n5", 17, MemberState::Joined),
        ];
        let said = |name: &str, raft_id, incarnation: u8| {
            let incarnation = vec![incarnation; 16];
            let hello = Hello { name: name.to_owned(), raft_id, incarnation, ..Hello::default() };
            admits(&members, &rows, &hello).err().map(|r| r.reason).unwrap_or_default()
        };
        assert_eq!(said("n1", 1, 1), "");
        assert_eq!(said("n5", 17, 5), "");
        assert_eq!(said("n6", 18, 6), "", "joined while this node was away");
        assert_eq!(said("n5", 19, 9), "", "came back under its name meanwhile");
        assert!(said("n1", 1, 2).contains("another store"));
        assert!(said("n1", 3, 1).contains("another store"));
        assert!(said("n5", 17, 6).contains("another store"));
        assert!(said("n4", 16, 4).contains("was removed"), "{}", said("n4", 16, 4));
        assert!(said("n9", 9, 9).contains("not a member"));
        assert!(said("n7", 16, 9).contains("not a member"));
    }
}
