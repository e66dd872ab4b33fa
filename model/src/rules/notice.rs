//! What a primary notices of a node, and what that makes of its row: one event per change, none
//! where nothing changes, so that several who notice the same write it once.

use proto::event::{JOIN, LEAVE, NODE, SUSPECT};
use proto::member::{LeftReason, MemberRow, MemberState, Notice};

use crate::rules::events::Event;

/// The row after the notice, and the event of it; `None` if the notice is no news.
///
/// A notice of another store, or of an earlier start of this one, is late and changes nothing. The
/// first nonce of a store is kept: whoever comes with another one has created it again.
/// Neither does "it is heard" of a node that announced its stop, until it has started again.
pub(crate) fn noticed(row: &MemberRow, notice: &Notice) -> Option<(MemberRow, Event)> {
    let late = notice.starts != 0 && notice.starts < row.starts;
    let recreated = !row.nonce.is_empty() && !notice.nonce.is_empty() && row.nonce != notice.nonce;
    if notice.raft_id != row.raft_id || late || recreated {
        return None;
    }
    let started = notice.starts > row.starts;
    let to = MemberState::try_from(notice.state).ok()?;
    let (kind, text) = match (row.noticed(), to) {
        (MemberState::Admitted, MemberState::Joined) if row.repair.is_some() => {
            (JOIN, rejoined(row, notice))
        }
        (MemberState::Admitted, MemberState::Joined) => (JOIN, format!("joined {}", row.name)),
        (MemberState::Left, MemberState::Joined)
            if started || LeftReason::read(&row.reason) != Some(LeftReason::Stopped) =>
        {
            (JOIN, rejoined(row, notice))
        }
        (MemberState::Suspect | MemberState::Joined, MemberState::Joined) if started => {
            (JOIN, rejoined(row, notice))
        }
        (MemberState::Suspect, MemberState::Joined) => {
            (SUSPECT, format!("{} is heard again", row.name))
        }
        (MemberState::Joined, MemberState::Suspect) => (SUSPECT, format!("suspect {}", row.name)),
        (MemberState::Joined | MemberState::Suspect, MemberState::Left) => {
            (LEAVE, left(&row.name, &notice.reason, &notice.detail))
        }
        // The log does not tell how things stay, and a removed node never comes back.
        (MemberState::Admitted, MemberState::Suspect | MemberState::Left)
        | (MemberState::Joined, MemberState::Joined)
        | (MemberState::Suspect, MemberState::Suspect)
        | (MemberState::Left, MemberState::Joined | MemberState::Suspect | MemberState::Left)
        | (MemberState::Removed, _)
        | (_, MemberState::Admitted | MemberState::Removed) => return None,
    };
    let why = if to == MemberState::Left { notice.reason.as_str() } else { "" };
    let after = MemberRow {
        state: to.into(),
        reason: why.to_owned(),
        starts: notice.starts.max(row.starts),
        nonce: if row.nonce.is_empty() { notice.nonce.clone() } else { row.nonce.clone() },
        ..row.clone()
    };
    assert!(after.starts >= row.starts, "starts only grow");
    assert!(row.nonce.is_empty() || after.nonce == row.nonce, "the first nonce is kept");
    let event = about(kind, text, &after)
        .with("state", to.as_str())
        .with("reason", why)
        .with("detail", if why.is_empty() { "" } else { notice.detail.as_str() });
    Some((after, event))
}

/// An event about a node, with what identifies it.
pub(crate) fn about(kind: &'static str, text: String, row: &MemberRow) -> Event {
    Event::new(kind, text)
        .with(NODE, &row.name)
        .with("raft_id", row.raft_id)
        .with("incarnation", row.starts)
}

/// The sentence about a node that left.
pub(crate) fn left(name: &str, reason: &str, detail: &str) -> String {
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    format!("left {name} ({reason}){detail}")
}

fn rejoined(row: &MemberRow, notice: &Notice) -> String {
    format!("rejoined {} (incarnation {})", row.name, notice.starts.max(row.starts))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with: the nonce of each notice taken, and the comparison left out.
    #[test]
    fn the_first_nonce_of_a_store_is_kept() {
        let row = MemberRow {
            name: "n1".to_owned(),
            raft_id: 1,
            state: MemberState::Left.into(),
            ..MemberRow::default()
        };
        let heard = |starts, nonce: u8| Notice {
            name: "n1".to_owned(),
            raft_id: 1,
            state: MemberState::Joined.into(),
            starts,
            nonce: vec![nonce; if nonce == 0 { 0 } else { 16 }],
            ..Notice::default()
        };
        let (noted, _) = noticed(&row, &heard(1, 7)).unwrap();
        assert_eq!(noted.nonce, [7; 16]);
        assert_eq!(noticed(&noted, &heard(2, 8)), None, "a store created again");
        let (again, _) = noticed(&noted, &heard(2, 7)).unwrap();
        assert_eq!((again.nonce, again.starts), (vec![7; 16], 2));
        let (older, _) = noticed(&noted, &heard(3, 0)).unwrap();
        assert_eq!(older.nonce, [7; 16], "a release that tells none");
    }
}
