//! An access token opens what its client's certificate opens, from its creation until log time ends it or an
//! admin does, for that client alone: judged beside a plain table of tokens.
//!
//! Meant to catch: the expiry not looked at, and the client not compared.

use std::collections::BTreeMap;

use clock::Hlc;
use model::{CommandOp, MemoryView, Outcome, query};
use proptest::prelude::*;
use proto::token::{TokenOp, TokenProof};
use proto::{ErrorCode, Proof};

use crate::arbitrary::{apply_all, history, stamped};

/// For whom, until when, and whether it was revoked.
type Tokens = BTreeMap<Vec<u8>, (String, u64, bool)>;

fn is_live(tokens: &Tokens, id: &[u8], client: &str, now: Hlc) -> bool {
    let token = tokens.get(id);
    token.is_some_and(|(of, until_ns, revoked)| of == client && now.ns < *until_ns && !revoked)
}

fn is_denied(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(failure) if failure.error_code() == ErrorCode::Denied)
}

proptest! {
    #[test]
    fn a_token_opens_what_is_its_clients_while_it_lives(history in history()) {
        let mut view = MemoryView::default();
        let outcomes = apply_all(&mut view, &history);
        let (mut tokens, mut last) = (Tokens::new(), Hlc::ZERO);
        for (now, command, outcome) in stamped(&history, outcomes) {
            last = now;
            if let (Proof::Token(id), CommandOp::Send { to, .. }) =
                (command.caller.proof(), &command.op)
            {
                let live = is_live(&tokens, &id, &command.caller.name, now);
                prop_assert_eq!(is_denied(&outcome), !live, "to {}: {:?}", to, outcome);
            }
            let (CommandOp::Token(change), Outcome::Tokens(_)) = (&command.op, &outcome) else {
                continue;
            };
            prop_assert!(command.caller.admin, "only an admin makes them");
            match change.op.as_ref().unwrap() {
                TokenOp::CreateAccess(create) => {
                    let until_ns = now.ns.saturating_add(create.ttl_ns);
                    let id = create.token.as_ref().unwrap().id.clone();
                    tokens.entry(id).or_insert_with(|| (create.client.clone(), until_ns, false));
                }
                TokenOp::RevokeAccess(id) => tokens.get_mut(&id.id).unwrap().2 = true,
                other => panic!("{other:?}"),
            }
        }
        // A gateway judges alike, and knows the secret's hash.
        let listed = query::tokens(&view, last).unwrap().access;
        prop_assert_eq!(listed.len(), tokens.len());
        for (id, (client, ..)) in &tokens {
            let proof = TokenProof { id: id.clone(), hash: vec![id[0]; 32] };
            let opened = query::access(&view, &proof, last);
            prop_assert_eq!(opened.is_ok(), is_live(&tokens, id, client, last));
            let wrong = TokenProof { hash: vec![0xee; 32], ..proof };
            prop_assert!(query::access(&view, &wrong, last).is_err());
            let state = &listed.iter().find(|token| token.id == *id).unwrap().state;
            prop_assert_eq!(state == "live", is_live(&tokens, id, client, last));
        }
    }
}
