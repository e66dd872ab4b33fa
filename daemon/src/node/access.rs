//! Access tokens at a gateway: whom one stands for, and until when.
//!
//! Not here: what is remembered of them and when one is over (`model`); where they are shown (`front`).

use std::time::Duration;

use model::query;
use proto::token::{ID_BYTES, TokenProof};
use proto::{ErrorCode, Failure, Identity, Proof, Role};

use crate::reader::{answered, store_failure};

use super::{Core, Node, Principal};

/// How often what is open by a token is looked at: it ends as soon as the token does.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Node {
    /// The client that a token stands for, as far as this node knows now.
    ///
    /// # Errors
    /// `Denied` where the token opens nothing.
    pub(crate) fn client_of(&self, proof: &TokenProof) -> Result<Principal, Failure> {
        let core = self.core()?;
        let view = core.store.snapshot().map_err(store_failure)?;
        let name = answered(&view, query::access(&view, proof, self.log_time()))?;
        let name = name.parse().map_err(|error| Failure::new(ErrorCode::Integrity, error))?;
        let cluster = self.inner.identity.cluster.clone();
        let identity = Identity { cluster, role: Role::Client, name };
        let id = proof.id.as_slice().try_into();
        let id =
            id.map_err(|_| Failure::new(ErrorCode::Invalid, "the id of a token has 8 bytes"))?;
        let fingerprint = Proof::Token(id).to_bytes();
        Ok(Principal { identity, fingerprint, gateway: self.inner.name.clone() })
    }

    /// Completes when a token opens nothing any more, with what its client is told.
    pub(super) async fn access_over(
        &self,
        core: &Core,
        principal: &Principal,
        id: [u8; ID_BYTES],
    ) -> Failure {
        let client = principal.identity.name.as_str();
        let look = || {
            let view = core.store.snapshot().map_err(store_failure)?;
            answered(&view, query::require_access(&view, client, &id, self.log_time()))
        };
        loop {
            match look() {
                Err(failure) if failure.error_code() == ErrorCode::Denied => return failure,
                // What cannot be read ends the node, and this with it.
                Ok(()) | Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}
