//! More than one node that signs: the authority's key is handed to those that an admin has named.
//!
//! The table of members says who may sign. A node that reads so of itself and has no key asks those
//! that have it, over the connection that both sides have proven themselves on, and keeps it beside
//! its own key. A node that may sign no more forgets it; that it kept no copy, nobody can prove.
//!
//! Not here: who is named (`model::members`), signing (`join`, `renew`).

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use certs::{Authority, Peer};
use config::Tls;
use net::PeerAddr;
use prost::Message as _;
use proto::member::{MemberOp, MemberRow, MemberState};
use proto::peer::{PeerOp, SignerKey};
use proto::wire::{Empty, MemberChange};
use proto::{ErrorCode, Failure};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::reader::store_failure;
use crate::reconciler;

use super::{Body, DEADLINE, Deadline, Node};

/// Before somebody who does not hand the key over is asked again.
const AGAIN: Duration = Duration::from_secs(2);

impl Node {
    /// Gives the authority's key to a peer, if the table says that it may sign.
    pub(crate) fn peer_signer_key(&self, peer: &Peer) -> SignerKey {
        let from = &peer.identity.name;
        match self.signer_key_for(peer) {
            Ok(key) => {
                tracing::warn!(%from, "handed the authority's key over: that node signs from now \
                                       on");
                SignerKey { key, failure: None }
            }
            Err(failure) => {
                if failure.error_code() == ErrorCode::Denied {
                    self.tell_of_ask(peer, "signer key", &failure.message);
                }
                SignerKey { key: String::new(), failure: Some(failure) }
            }
        }
    }

    fn signer_key_for(&self, peer: &Peer) -> Result<String, Failure> {
        let signer = self.inner.signer.load_full().ok_or_else(|| self.no_signer())?;
        let rows = reconciler::rows(&self.core()?.store).map_err(store_failure)?;
        may_have_key(&rows.members, peer)?;
        Ok(signer.key_pem())
    }

    /// Refuses a change after which nobody would be left that can sign, as far as this node knows; a
    /// removal is done all the same if it is forced.
    pub(super) fn keeps_a_signer(&self, change: &MemberChange) -> Result<(), Failure> {
        let going: &[String] = match &change.op {
            Some(MemberOp::Remove(remove)) if !remove.force => &remove.names,
            Some(MemberOp::Set(set)) if set.signs == Some(false) => std::slice::from_ref(&set.name),
            _ => return Ok(()),
        };
        let mut sign: Vec<String> =
            self.signers().into_iter().map(|peer| peer.name.to_string()).collect();
        if self.inner.signer.load().is_some() {
            sign.push(self.inner.name.to_string());
        }
        // Where nobody signs nothing is lost.
        if sign.is_empty() || sign.iter().any(|name| !going.contains(name)) {
            return Ok(());
        }
        let message = format!(
            "without {} no node that is up would hold the authority's key: nobody could register, \
             join or renew a certificate. First run logctl node set NAME --signer; or remove it \
             with --force",
            sign.join(", ")
        );
        Err(Failure::new(ErrorCode::Conflict, message))
    }

    /// Asks those that have the key, until one gives it.
    async fn fetch_signer_key(&self, tls: &Tls) -> Result<(), Failure> {
        let mut last = self.no_signer();
        for peer in self.signers() {
            match self.ask_for_key(&peer).await {
                Ok(key) => return self.keep_signer_key(tls, &key),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn ask_for_key(&self, peer: &PeerAddr) -> Result<String, Failure> {
        let deadline = Deadline::within(DEADLINE);
        let answer = self.ask_peer(peer, PeerOp::SignerKey(Empty {}), deadline).await?;
        let answer = SignerKey::decode(answer);
        let answer = answer.map_err(|error| Failure::new(ErrorCode::Unknown, error))?;
        answer.failure.map_or(Ok(answer.key), Err)
    }

    /// Writes the key, once it is known to be the authority's that this node trusts.
    fn keep_signer_key(&self, tls: &Tls, key: &str) -> Result<(), Failure> {
        let internal = |error: &dyn std::fmt::Display| Failure::new(ErrorCode::Internal, error);
        let authority = Authority::load(&self.inner.ca.load(), key).map_err(|e| internal(&e))?;
        if *authority.cluster() != self.inner.identity.cluster {
            return Err(internal(&"a key of another cluster's authority"));
        }
        certs::write_private(&tls.handed_key(), key).map_err(|error| internal(&error))
    }
}

/// Refuses the authority's key to everybody but a member that signs, on a connection of the very key
/// that the table has for it: what a key may that is not noted yet does not go so far.
fn may_have_key(members: &[MemberRow], peer: &Peer) -> Result<(), Failure> {
    let name = &peer.identity.name;
    let row = members.iter().find(|row| row.name == name.as_str());
    let row = row.filter(|row| row.signs && row.noticed() != MemberState::Removed);
    let (code, message) = match row {
        Some(row) if row.fingerprint == peer.fingerprint => return Ok(()),
        Some(row) if row.fingerprint.is_empty() => {
            (ErrorCode::Busy, format!("the key of {name} is not noted yet"))
        }
        Some(_) => (ErrorCode::Denied, format!("{name} is to sign with another key than this one")),
        None => {
            let hint = format!("logctl node set {name} --signer allows it");
            (ErrorCode::Denied, format!("{name} may not sign: {hint}"))
        }
    };
    Err(Failure::new(code, message))
}

/// Brings what this node holds in line with what the table says, until `stop`. `taken` is told when
/// there is something to reload.
pub(super) async fn keep(node: Node, tls: Tls, taken: Arc<Notify>, stop: CancellationToken) {
    let Body::Whole(core) = &node.inner.body else { return };
    if tls.ca_key.is_some() {
        // The file says that it signs, and where its key is.
        return;
    }
    let mut standing = core.standing.clone();
    let keeping = async {
        loop {
            let signs = standing.borrow_and_update().signs;
            let has_key = tls.handed_key().exists();
            match signs {
                Some(true) if !has_key => match node.fetch_signer_key(&tls).await {
                    Ok(()) => {
                        tracing::warn!("this node has the authority's key and signs from now on");
                        taken.notify_one();
                    }
                    Err(failure) => {
                        tracing::info!(%failure, "this node may sign and has no key yet");
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                },
                Some(false) if has_key => match fs::remove_file(tls.handed_key()) {
                    Ok(()) => {
                        tracing::warn!("this node no longer signs: the authority's key is removed");
                        taken.notify_one();
                    }
                    Err(error) => tracing::error!(%error, "the authority's key is not removed"),
                },
                Some(_) | None => {}
            }
            if standing.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = keeping => {}
    }
}

#[cfg(test)]
mod tests {
    use proto::{ClusterId, Identity, Role};

    use super::*;

    /// Seen to fail with: the fingerprint not compared, and an empty one taken for every key.
    #[test]
    fn the_key_goes_to_the_one_connection_of_a_member_that_signs() {
        let row = |signs, state: MemberState, fingerprint: &[u8]| MemberRow {
            name: "n2".to_owned(),
            signs,
            state: state.into(),
            fingerprint: fingerprint.to_vec(),
            ..MemberRow::default()
        };
        let name = "n2".parse().unwrap();
        let identity = Identity { cluster: ClusterId::from_bytes([7; 16]), role: Role::Node, name };
        let (not_before_unix, not_after_unix, serial) = (0, 1, String::new());
        let fingerprint = [2; 32];
        let peer = Peer { identity, fingerprint, not_before_unix, not_after_unix, serial };
        let code = |members: &[MemberRow]| {
            may_have_key(members, &peer).err().map(|failure| failure.error_code())
        };
        let joined = MemberState::Joined;
        assert_eq!(code(&[row(true, joined, &[2; 32])]), None);
        assert_eq!(code(&[row(true, joined, &[3; 32])]), Some(ErrorCode::Denied));
        assert_eq!(code(&[row(true, joined, &[])]), Some(ErrorCode::Busy));
        assert_eq!(code(&[row(false, joined, &[2; 32])]), Some(ErrorCode::Denied));
        assert_eq!(code(&[row(true, MemberState::Removed, &[2; 32])]), Some(ErrorCode::Denied));
        assert_eq!(code(&[]), Some(ErrorCode::Denied));
    }
}
