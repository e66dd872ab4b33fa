//! What a node reads of itself in the table: whether clients are kept away from it, and whether it
//! was removed. Every node looks, primary or not.
//!
//! A removed node may have been away when that was decided, and its own state then never says so.
//! The others refuse it then and say why; only one whose key is a member's is believed (`start`).

use std::sync::Arc;
use std::time::Duration;

use net::Refused;
use proto::attest::Lack;
use proto::member::{MemberRow, MemberState};
use proto::peer::{Hello, Refusal};
use tokio::sync::watch;

use crate::raft::Handle;
use crate::store::Store;
use crate::tasks::Tasks;
use crate::trust::Trust;

/// Between two looks at most; entries come faster than a row of the table changes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a node stands in the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnMembership {
    /// Whether clients are kept away from it.
    pub drained: bool,
    /// Whether it is a member no more.
    pub removed: bool,
    /// Whether it may sign certificates; `None` while its row is not known.
    pub signs: Option<bool>,
}

/// Follows how this node stands, and what decides about connections that stand.
pub(crate) fn follow(
    engine: &Handle,
    store: Store,
    trust: Arc<Trust>,
    tasks: &Tasks,
) -> watch::Receiver<OwnMembership> {
    let (said, standing) = watch::channel(OwnMembership::default());
    let (mut progress, view) = (engine.progress(), engine.view());
    tasks.keep_until_stop("own membership", async move {
        loop {
            trust.look(view.borrow().members.clone().into_iter().collect());
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
    });
    standing
}

fn standing_of(rows: &[MemberRow], name: &str, raft_id: u64) -> OwnMembership {
    let row = rows.iter().find(|row| row.name == name);
    OwnMembership {
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
            let OwnMembership { drained, removed, .. } = standing_of(rows, name, id);
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

    /// Seen to fail with: any nonce let in.
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
}
