//! Join tokens, and admitting who brings one.

use model::CommandOp;
use proto::peer::Sign;
use proto::token::AdmitClient;
use proto::wire::{Reply, Response, TokenChange, Tokens};
use proto::{ErrorCode, Failure, Name};

use super::{Deadline, Node, Principal};

/// The command that an admin's request stands for.
pub(super) fn command_op(
    _principal: &Principal,
    _change: &TokenChange,
) -> Result<CommandOp, Failure> {
    Err(Failure::new(ErrorCode::Invalid, "a request that this release does not know"))
}

impl Node {
    #[expect(clippy::unused_async, reason = "it will ask the primary")]
    pub(super) async fn tokens(
        &self,
        _principal: &Principal,
        _deadline: Deadline,
    ) -> Result<Tokens, Failure> {
        Err(Failure::new(ErrorCode::Invalid, "a request that this release does not know"))
    }

    /// Serves a peer to which a client brought a token.
    #[expect(clippy::unused_async, reason = "it will be ordered")]
    pub(crate) async fn peer_admit_client(&self, from: &Name, _admit: AdmitClient) -> Response {
        self.response(from, Reply::Failure(unknown()))
    }

    /// Signs a certificate request for a peer.
    #[expect(clippy::unused_async, reason = "it will wait for the admission")]
    pub(crate) async fn peer_sign(&self, from: &Name, _sign: Sign) -> Response {
        self.response(from, Reply::Failure(unknown()))
    }
}

fn unknown() -> Failure {
    Failure::new(ErrorCode::Invalid, "a request that this release does not know")
}
