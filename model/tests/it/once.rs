//! Promise 3, once: inside the window the same (sender, id) gets the first ack, or a conflict if
//! the message is another one; beyond the window it is a new message.
//!
//! Seen to fail with the content left out of the comparison, with the window cut to 23 h, and with
//! the age row of a key that is written anew left in the queue.

use std::collections::BTreeMap;

use model::{CommandOp, MemoryView, Outcome};
use proptest::prelude::*;
use proto::limits::DEDUP_WINDOW_NS;
use proto::record::read_stamp;
use proto::wire::Ack;
use proto::{ErrorCode, Header, Proof};

use crate::arbitrary::{apply_all, history, stamped};

/// The first ack of every (node or client, sender, id), and the message that got it.
type Acks = BTreeMap<(bool, String, String), (Ack, String, Vec<Header>, bytes::Bytes)>;

/// Whether an access token opened nothing; which of them do is looked at elsewhere.
fn is_turned_away(proof: Proof, outcome: &Outcome) -> bool {
    let Outcome::Refused(failure) = outcome else { return false };
    matches!(proof, Proof::Token(_)) && failure.error_code() == ErrorCode::Denied
}

proptest! {
    #[test]
    fn a_message_is_stored_once(history in history()) {
        let mut view = MemoryView::default();
        let outcomes = apply_all(&mut view, &history);
        let mut first = Acks::new();
        for (now, command, outcome) in stamped(&history, outcomes) {
            let (to, id, headers, body) = match &command.op {
                CommandOp::Send { to, id, headers, body } => (&**to, id, headers, body),
                CommandOp::Event { id, headers, body } if command.caller.is_node() => {
                    ("$events", id, headers, body)
                }
                _ => continue,
            };
            let caller = &command.caller;
            if is_turned_away(caller.proof(), &outcome) {
                continue;
            }
            // A node's ids are apart from those of a client with its name.
            let key = (caller.is_node(), caller.name.clone(), id.clone());
            let known = first.get(&key).filter(|(ack, ..)| {
                read_stamp(&ack.stamp).unwrap().hlc.ns + DEDUP_WINDOW_NS > now.ns
            });
            match (known, outcome) {
                (Some((ack, to2, headers2, body2)), outcome) => {
                    if (to, headers, body) == (&**to2, headers2, body2) {
                        let again = Ack { duplicate: true, ..ack.clone() };
                        prop_assert_eq!(outcome, Outcome::Sent(again));
                    } else {
                        let Outcome::Refused(failure) = outcome else { panic!("{outcome:?}") };
                        prop_assert_eq!(failure.error_code(), ErrorCode::Conflict);
                    }
                }
                (None, Outcome::Sent(ack)) => {
                    prop_assert!(!ack.duplicate);
                    first.insert(key, (ack, to.to_owned(), headers.clone(), body.clone()));
                }
                (None, Outcome::Refused(failure)) => {
                    prop_assert_eq!(failure.error_code(), ErrorCode::NotFound);
                }
                (None, other) => panic!("{other:?}"),
            }
        }
    }
}
