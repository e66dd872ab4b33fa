//! One connection, and who asks on it: by a client's certificate, else by an access token with each request.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use certs::Peer;
use net::{ClientSeat, Place};
use parking_lot::Mutex;
use proto::access::AccessToken;
use proto::token::TokenProof;
use proto::{ErrorCode, Failure};
use tokio::task::AbortHandle;

use crate::node::{Deadline, Principal};

use super::Front;
use super::answer::Refused;
use super::asking::header;

/// Longest wait for what is known elsewhere of a token that is not known here.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// What a request can know of where it came in. Cheap to clone.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) front: Front,
    pub(super) caller: Caller,
}

/// Who asks.
#[derive(Clone)]
pub(super) enum Caller {
    /// A client or an administrator, with its place at this node.
    Known(Principal, ClientSeat),
    /// A node, which is no client; whether it is a member still is looked at when it asks.
    Node(Box<Peer>),
    /// Somebody who shows no certificate.
    Nobody(Arc<Stranger>),
    /// Somebody whose certificate opens nothing here.
    Refused(Failure),
}

/// Who shows no certificate, and may show an access token.
pub(super) struct Stranger {
    /// Its place among the strangers, until it has shown a token.
    place: Mutex<Option<Arc<Place<AbortHandle>>>>,
    /// Its place at this node by the token that it showed last.
    seat: Mutex<Option<([u8; 32], ClientSeat)>>,
}

/// The access token that a request shows.
///
/// # Errors
/// 401 where there is none, or no whole one.
pub(super) fn shown_token(headers: &HeaderMap) -> Result<AccessToken, Refused> {
    let denied = |why: &str| Refused::with(Failure::new(ErrorCode::Denied, why), 401);
    let Some(text) = header(headers, &AUTHORIZATION)? else {
        return Err(denied(
            "this path is for clients: show a certificate, as with curl --cert CRT --key KEY, or an \
             access token, as with curl --oauth2-bearer TOKEN",
        ));
    };
    let scheme = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    scheme.and_then(|(_, token)| AccessToken::decode(token).ok()).ok_or_else(|| {
        denied(
            "this is no whole access token: Authorization: Bearer logd-access-1.…, as logctl access \
             create printed it, to the last character",
        )
    })
}

impl Stranger {
    pub(super) fn new(place: Arc<Place<AbortHandle>>) -> Self {
        Self { place: Mutex::new(Some(place)), seat: Mutex::default() }
    }
}

impl Visit {
    /// Who asks, and its place.
    ///
    /// # Errors
    /// For whoever has not proven to be a client: 401 without a certificate or a token that is good, else why
    /// it was refused.
    pub(super) async fn known(
        &self,
        headers: &HeaderMap,
    ) -> Result<(Principal, ClientSeat), Refused> {
        match &self.caller {
            Caller::Known(principal, seat) => Ok((principal.clone(), seat.clone())),
            Caller::Nobody(stranger) => self.by_token(stranger, headers).await,
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

    async fn by_token(
        &self,
        stranger: &Stranger,
        headers: &HeaderMap,
    ) -> Result<(Principal, ClientSeat), Refused> {
        let token = shown_token(headers)?;
        let hash = certs::sha256(&token.secret).to_vec();
        let proof = TokenProof { id: token.id.to_vec(), hash };
        let principal = self.principal(&proof).await.map_err(|failure| {
            match failure.error_code() == ErrorCode::Denied {
                true => Refused::with(failure, 401),
                false => failure.into(),
            }
        })?;
        let mut seated = stranger.seat.lock();
        let seat = match seated.as_ref().filter(|(of, _)| *of == principal.fingerprint) {
            Some((_, seat)) => seat.clone(),
            None => {
                let seat = self.front.0.endpoint.seat(&principal.identity)?;
                *seated = Some((principal.fingerprint, seat.clone()));
                seat
            }
        };
        // It is no stranger any more, and no crowd of those pushes it out.
        drop(stranger.place.lock().take());
        Ok((principal, seat))
    }

    /// The client of a token. One that is not known here, or not good, may have been made a moment ago.
    async fn principal(&self, proof: &TokenProof) -> Result<Principal, Failure> {
        let (front, node) = (&self.front.0, &self.front.0.server.node);
        let failure = match node.client_of(proof) {
            Ok(principal) => return Ok(principal),
            Err(failure) => failure,
        };
        // One at a time: whoever makes tokens up costs no more than that.
        let Ok(_one) = front.looks.try_lock() else {
            return Err(Failure::new(ErrorCode::Busy, "other tokens are looked up: try again"));
        };
        if node.reach_barrier(Deadline::within(KNOWN_WITHIN)).await.is_err() {
            return Err(failure);
        }
        node.client_of(proof)
    }
}
