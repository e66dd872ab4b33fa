//! Certificates that are made anew before they are over: this node's own, and everybody's who asks.
//!
//! Who asks shows its certificate and a request by the same key. Any node takes that, from a client,
//! from a peer, or from somebody whose certificate is over and who therefore shows none in the
//! handshake. A node that holds the authority's key signs, for the same name, role and key and for
//! nobody whom its own state does not know with that key (any more); the others pass it on.
//!
//! Invariant: a renewal changes neither name, role nor key, so nothing that is bound to them.
//!
//! Not here: the proof (`certs`), a certificate that is over at the start (`late`).

use std::sync::Arc;
use std::time::Duration;

use certs::{CertError, Date, Peer};
use config::Tls;
use model::query;
use proto::life::{Life, Validity, left_text};
use proto::peer::PeerOp;
use proto::wire::{Registered, Renew, Reply, Response};
use proto::{ErrorCode, Failure, Identity, Name, Problem, ProblemCode, Role};
use tokio::sync::Notify;

use crate::node_identity::NodeIdentity;
use crate::reader::store_failure;
use crate::tasks::Tasks;

use super::{DEADLINE, Deadline, Node, Principal};

/// Longest sleep: the machine may be suspended, and its clock set, meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Shortest one.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

impl Node {
    /// What the machine's wall clock says, in seconds since 1970: certificates go by that.
    pub(crate) fn wall_unix_s(&self) -> i64 {
        i64::try_from(self.node_clock().wall_ns() / 1_000_000_000).unwrap_or(i64::MAX)
    }

    /// From when to when this node's certificate is valid.
    pub(super) fn certificate_life(&self) -> Life {
        self.inner.credentials.load().life()
    }

    /// Proves itself with other files from now on, which fit.
    pub(crate) fn take(&self, node_identity: NodeIdentity) {
        self.inner.ca.store(Arc::clone(node_identity.credentials.ca_pem()));
        self.inner.credentials.store(Arc::new(node_identity.credentials));
        self.inner.signer.store(node_identity.signer.map(Arc::new));
        self.node_clock().reload();
    }

    /// Makes the caller's own certificate anew.
    pub(super) async fn renew_caller(
        &self,
        principal: &Principal,
        renew: &Renew,
        deadline: Deadline,
    ) -> Result<Registered, Failure> {
        let Peer { identity, fingerprint, .. } = self.proven(renew)?;
        if identity != principal.identity || fingerprint != principal.fingerprint {
            let message = format!("{} may not renew for {identity}", principal.identity);
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        let certificate = self.renewed(renew, deadline).await?;
        let ca = self.inner.ca.load().as_str().to_owned();
        Ok(Registered { certificate, ca, home: String::new() })
    }

    /// A new certificate for who is proven, by the own key or by that of a peer.
    pub(super) async fn renewed(
        &self,
        renew: &Renew,
        deadline: Deadline,
    ) -> Result<String, Failure> {
        self.proven(renew)?;
        if self.inner.signer.load().is_some() {
            return self.sign_renewal(renew);
        }
        let mut last = self.no_signer();
        for peer in self.signers() {
            match self.ask_for_certificate(&peer, PeerOp::Renew(renew.clone()), deadline).await {
                Ok(certificate) => return Ok(certificate),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// Makes a certificate anew for a peer: its own, or that of somebody who asked it. It is never
    /// passed on again.
    pub(crate) fn peer_renew(&self, from: &Name, renew: &Renew) -> Response {
        let registered = |certificate| Registered { certificate, ..Registered::default() };
        let signed = self.sign_renewal(renew).map(registered);
        self.response(from, signed.map_or_else(Reply::Failure, Reply::Registered))
    }

    /// Who asks, by certificate and key.
    fn proven(&self, renew: &Renew) -> Result<Peer, Failure> {
        let now = self.wall_unix_s();
        let own = self.inner.credentials.load();
        own.check_renewal(&renew.certificate, &renew.csr, now)
            .map_err(|error| Failure::new(ErrorCode::Denied, error))
    }

    /// Signs for whom this node's own state knows with this key, and nobody else.
    fn sign_renewal(&self, renew: &Renew) -> Result<String, Failure> {
        let signer = self.inner.signer.load_full().ok_or_else(|| self.no_signer())?;
        let Peer { identity, fingerprint, .. } = self.proven(renew)?;
        self.may_renew(&identity, &fingerprint)?;
        let reached = self.reached_at(&identity);
        let signed = signer.sign(&renew.csr, &identity, self.cert_life(), &reached);
        let signed = signed.map_err(|error| Failure::new(ErrorCode::Invalid, error))?;
        tracing::info!(%identity, "renewed a certificate");
        Ok(signed)
    }

    /// Where a node is reached, as far as that was proven: what the table says, and what this one says of
    /// itself. Nothing for others.
    pub(super) fn reached_at(&self, identity: &Identity) -> Vec<String> {
        if identity.role != Role::Node {
            return Vec::new();
        }
        if identity == self.inner.credentials.load().identity() {
            return vec![self.inner.advertise.clone()];
        }
        let name = identity.name.as_str();
        let rows = self.table().members.into_iter();
        rows.filter(|row| row.name == name).map(|row| row.address).collect()
    }

    fn may_renew(&self, identity: &Identity, fingerprint: &[u8; 32]) -> Result<(), Failure> {
        let own = self.inner.credentials.load();
        if identity == own.identity() && *fingerprint == own.fingerprint() {
            // Whoever holds the authority's key need ask nobody about itself.
            return Ok(());
        }
        // Its own state may be old, and there may be no quorum to ask: of whom it does not know the
        // removal yet, a certificate is of no use with those that do.
        let view = self.core()?.store.snapshot().map_err(store_failure)?;
        let name = identity.name.as_str();
        let refusal = query::renewal_refusal(&view, identity.role, name, fingerprint);
        match refusal.map_err(|error| Failure::new(ErrorCode::Integrity, error))? {
            None => Ok(()),
            Some(why) => Err(Failure::new(ErrorCode::Denied, why)),
        }
    }

    /// Makes this node's own certificate anew and writes it; whoever reloads takes it.
    async fn renew_own(&self, tls: &Tls) -> Result<(), String> {
        let said = |error: CertError| error.to_string();
        let own = self.inner.credentials.load_full();
        let csr = certs::request_for_key_file(&tls.key).map_err(said)?;
        let renew = Renew { certificate: own.cert_der(), csr: csr.clone() };
        let pem = match self.renewed(&renew, Deadline::within(DEADLINE)).await {
            Ok(pem) => pem,
            // A certificate that is over opens no connection to a peer, and a node that nobody lets
            // in hears of no signer. On this way none is shown.
            Err(failure) => {
                let addresses = self.peers().into_iter().map(|peer| peer.address).collect();
                let asked = net::join::renew(&own, csr, addresses, DEADLINE);
                asked.await.map_err(|error| format!("{failure}; asked once more: {error}"))?
            }
        };
        let fresh = own.check_renewed(&pem).map_err(said)?;
        if fresh.not_after_unix <= own.not_after_unix() {
            return Err(
                "the new one would end no later: the authority's own certificate ends then"
                    .to_owned(),
            );
        }
        if fresh.not_before_unix > self.wall_unix_s() {
            // The one that is in use may yet be good; this one would not be, and not after a restart.
            let from = Date(fresh.not_before_unix);
            return Err(format!(
                "the new one is not valid before {from}: check this machine's clock"
            ));
        }
        certs::write_public(&tls.cert, &pem).map_err(said)
    }

    /// How far this node's renewals are moved from two thirds of a life, thousandths of it: always the
    /// same for one node, and different for each.
    fn renewal_spread(&self) -> i16 {
        let secret = self.inner.credentials.load().secret("renewal spread");
        spread_of(secret[0])
    }
}

/// A byte as -100 to 100.
fn spread_of(byte: u8) -> i16 {
    // 255 times 200 is more than 16 bits hold.
    i16::try_from(i32::from(byte) * 200 / 255 - 100).unwrap_or(0)
}

/// Starts what keeps this node's certificate, and the authority's key if it is to have
/// that. `taken` is told when there is something to reload.
pub(crate) fn start(node: &Node, tls: &Tls, taken: &Arc<Notify>, tasks: &Tasks) {
    let stop = tasks.stop().clone();
    tasks.keep_until_stop("renewal", keep(node.clone(), tls.clone(), Arc::clone(taken)));
    let (node, tls, taken) = (node.clone(), tls.clone(), Arc::clone(taken));
    tasks.once("signing key", super::signers::keep(node, tls, taken, stop));
}

/// Keeps this node's certificate from running out, for ever. `taken` is told when there is a new
/// one to reload.
async fn keep(node: Node, tls: Tls, taken: Arc<Notify>) {
    let spread = node.renewal_spread();
    loop {
        let life = node.certificate_life();
        let now = node.wall_unix_s();
        let left_s = life.due_unix_s(spread).saturating_sub(now);
        if left_s > 0 {
            let left = Duration::from_secs(left_s.unsigned_abs());
            tokio::time::sleep(left.clamp(LOOK_PAUSE, LOOK_EVERY)).await;
            continue;
        }
        match node.renew_own(&tls).await {
            Ok(()) => {
                taken.notify_one();
                node.inner.renewal.store(None);
                await_other(&node, life).await;
            }
            Err(why) => {
                let before = node.inner.renewal.swap(Some(Arc::new(why.clone())));
                if before.is_none_or(|before| *before != why) {
                    tracing::warn!(why, "this node's certificate is due and could not be renewed");
                }
                tokio::time::sleep(Duration::from_secs(life.retry_s())).await;
            }
        }
    }
}

/// Waits for the reload to take the new certificate; if it does not, it has said why.
async fn await_other(node: &Node, before: Life) {
    for _ in 0..10 {
        tokio::time::sleep(LOOK_PAUSE).await;
        if node.certificate_life() != before {
            return;
        }
    }
    tokio::time::sleep(Duration::from_secs(before.retry_s())).await;
}

impl Node {
    /// What is to be said of this node's certificate, if anything.
    pub(super) fn certificate_problem(&self) -> Option<Problem> {
        let life = self.certificate_life();
        let now = self.wall_unix_s();
        let (code, when) = match life.standing(now) {
            Validity::Fine => return None,
            Validity::Late => {
                let left = left_text(life.until_unix_s.saturating_sub(now));
                (ProblemCode::CertificateLate, format!("{left} left"))
            }
            Validity::Expired => {
                (ProblemCode::CertificateExpired, format!("on {}", Date(life.until_unix_s)))
            }
        };
        let why = self.inner.renewal.load();
        let why = why.as_ref().map(|why| format!("; not renewed: {why}")).unwrap_or_default();
        Some(Problem::new(code).detail(format!("{when}{why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with: sixteen bits in between. A third of all nodes would never ask.
    #[test]
    fn every_node_has_a_spread() {
        let spreads: Vec<i16> = (0..=u8::MAX).map(spread_of).collect();
        assert!(spreads.is_sorted());
        assert_eq!((spreads.first(), spreads.last()), (Some(&-100), Some(&100)));
    }
}
