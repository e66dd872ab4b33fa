//! One connection, and who is at its other end.

use certs::Peer;
use net::ClientSeat;
use proto::{ErrorCode, Failure};

use crate::node::Principal;

use super::Front;
use super::answer::Refused;

/// What a request can know of where it came in. Cheap to clone.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) front: Front,
    pub(super) caller: Caller,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// A client or an administrator, with its place at this node.
    Known(Principal, ClientSeat),
    /// A node, which is no client; whether it is a member still is looked at when it asks.
    Node(Box<Peer>),
    /// Somebody who shows no certificate.
    Nobody,
    /// Somebody whose certificate opens nothing here.
    Refused(Failure),
}

impl Visit {
    /// Who asks, and its place.
    ///
    /// # Errors
    /// For whoever has not proven to be a client: 401 without a certificate, else why it was refused.
    pub(super) fn known(&self) -> Result<(&Principal, &ClientSeat), Refused> {
        match &self.caller {
            Caller::Known(principal, seat) => Ok((principal, seat)),
            Caller::Nobody => {
                let message = "this path is for clients: show a certificate, as with curl --cert \
                               CRT --key KEY";
                Err(Refused::with(Failure::new(ErrorCode::Denied, message), 401))
            }
            Caller::Node(peer) => {
                let message = format!(
                    "{} is a node: its certificate opens /metrics, and this path is for clients",
                    peer.identity
                );
                Err(Failure::new(ErrorCode::Denied, message).into())
            }
            Caller::Refused(failure) => Err(failure.clone().into()),
        }
    }
}
