//! Join tokens, and admitting who brings one.
//!
//! Whoever joins is talked to by one node, its gateway. That checks what can be checked without the
//! others (protocol, clock, the token against its own state, the address by calling back) so that
//! what cannot come in costs neither a log entry nor a use of the token. The log then decides, once
//! for the whole cluster. The certificate comes from a node that holds the authority's key, and that
//! signs nothing but what its own state has admitted.
//!
//! Not here: the exchange (`net::join`), the rule of admission (`model`).

use std::time::Duration;

use certs::request_fingerprint;
use clock::{ClockState, Hlc};
use model::{CommandOp, Outcome, query};
use net::PeerAddr;
use net::join::{JoinConn, wrong_protocol};
use prost::Message as _;
use proto::address::advertised;
use proto::join::{JoinAs, JoinAsk, JoinHello, JoinNode, JoinOffer, JoinRenew, Joined, PROTOCOL};
use proto::limits::JOIN_CLOCK_MAX_NS;
use proto::member::{AdmitNode, MemberChange, MemberOp};
use proto::peer::{PeerOp, Sign};
use proto::token::{AdmitClient, TokenOp, TokenProof, id_text};
use proto::wire::{Members, Registered, Renew, Reply, Response, TokenChange, Tokens};
use proto::{ErrorCode, Failure, Identity, Name, Role};

use crate::reader::{answered, store_failure};
use crate::reconciler;

use super::primary::{GaveUp, Patience, primary_may_change_that};
use super::{Core, DEADLINE, Deadline, Node, Principal, own};

/// Time for one joiner, call-back and admission included.
const JOIN_WITHIN: Duration = Duration::from_secs(30);
/// While the primary changes an order is tried again: that is safe.
const PATIENCE: Patience = Patience {
    news: Duration::from_millis(50),
    spare: Duration::from_millis(100),
    no_primary: None,
    no_majority: None,
    again: primary_may_change_that,
};
/// Longest wait of a signer for the admission to be applied.
const SIGN_WITHIN: Duration = Duration::from_secs(3);

/// The command that an admin's request stands for. Apply refuses others as well; here it costs no
/// log entry.
pub(super) fn command_op(
    principal: &Principal,
    change: &TokenChange,
) -> Result<CommandOp, Failure> {
    principal.require_admin("change the tokens")?;
    match &change.op {
        Some(
            TokenOp::Create(_)
            | TokenOp::Revoke(_)
            | TokenOp::CreateAccess(_)
            | TokenOp::RevokeAccess(_),
        ) => {}
        Some(TokenOp::AdmitClient(_)) | None => {
            return Err(Failure::new(ErrorCode::Denied, "only the nodes themselves may do that"));
        }
    }
    Ok(CommandOp::Token(change.clone()))
}

/// A joiner whose request makes sense.
struct Asked {
    identity: Identity,
    fingerprint: [u8; 32],
    csr: Vec<u8>,
    admit: Admit,
}

/// What this node's own state says of a joiner that it does not refuse.
enum Admission {
    /// The log may admit it.
    May,
    /// It is in already.
    In {
        /// The home of a client.
        home: String,
    },
}

/// What the log is asked.
enum Admit {
    Node(AdmitNode),
    Client(AdmitClient),
}

impl Node {
    pub(super) async fn tokens(
        &self,
        principal: &Principal,
        deadline: Deadline,
    ) -> Result<Tokens, Failure> {
        principal.require_admin("list the tokens")?;
        let core = self.core()?;
        self.barrier(core, deadline).await?;
        let view = core.store.snapshot().map_err(store_failure)?;
        answered(&view, query::tokens(&view, self.log_time()))
    }

    /// What the log's time is about now. Only a stamp decides; this is for messages.
    pub(super) fn log_time(&self) -> Hlc {
        self.last_stamp().max(Hlc::from_ns(self.inner.node_clock.reading().now_ns))
    }

    /// Talks to somebody who has no certificate and wants one.
    pub(crate) async fn join(&self, mut joiner: JoinConn) {
        let remote = joiner.remote();
        let talk = async {
            let hello = joiner.hello().await?;
            let failure = self.join_refusal(&hello);
            joiner.offer(&self.offer(failure.clone())).await?;
            if let Some(failure) = failure {
                tracing::warn!(%remote, version = hello.version, %failure, "refused a joiner");
                joiner.close().await;
                return Ok(());
            }
            let ask = joiner.ask().await?;
            let name = ask.name.clone();
            let renews = matches!(ask.role, Some(JoinAs::Renew(_)));
            let token = if renews { "none, a renewal".to_owned() } else { id_text(&ask.token) };
            match self.admit(ask, Some(&mut joiner)).await {
                Ok(joined) => {
                    let what = if renews { "renewed a certificate" } else { "admitted a joiner" };
                    tracing::info!(%remote, name, token, "{what}");
                    joiner.joined(joined).await;
                }
                Err(failure) => {
                    tracing::warn!(%remote, name, token, %failure, "refused a joiner");
                    joiner.refuse(failure).await;
                }
            }
            Ok::<(), net::LinkError>(())
        };
        match tokio::time::timeout(JOIN_WITHIN, talk).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(%remote, %error, "a joiner went away"),
            Err(_) => tracing::info!(%remote, "a joiner took too long"),
        }
    }

    fn offer(&self, failure: Option<Failure>) -> JoinOffer {
        JoinOffer {
            protocol: PROTOCOL,
            version: super::VERSION.to_owned(),
            gateway: self.inner.name.to_string(),
            ca: self.inner.ca.load().as_str().to_owned(),
            failure,
        }
    }

    /// Why there is nothing to talk about.
    fn join_refusal(&self, hello: &JoinHello) -> Option<Failure> {
        if hello.protocol != PROTOCOL {
            return Some(wrong_protocol(hello.protocol, PROTOCOL));
        }
        let own = &self.inner.identity.cluster;
        if hello.cluster != own.as_str() {
            let message = format!("this is cluster {own}, not {}", hello.cluster);
            return Some(Failure::new(ErrorCode::Denied, message));
        }
        if self.is_leaving() {
            return Some(Failure::new(ErrorCode::Stopping, "the node is stopping"));
        }
        self.core().err()
    }

    /// Admits a joiner, after calling it back over its connection; one without is known to listen where
    /// it says.
    pub(crate) async fn admit(
        &self,
        ask: JoinAsk,
        joiner: Option<&mut JoinConn>,
    ) -> Result<Joined, Failure> {
        if let Some(JoinAs::Renew(JoinRenew { certificate })) = ask.role {
            let renew = Renew { certificate, csr: ask.csr };
            let certificate = self.renewed(&renew, Deadline::within(DEADLINE)).await?;
            return Ok(Joined { certificate, ..Joined::default() });
        }
        let core = self.core()?;
        let deadline = Deadline::within(DEADLINE);
        self.check_clock(ask.now_ns)?;
        let asked = self.asked(ask)?;
        // The token may have been made through another node a moment ago.
        self.barrier(core, deadline).await?;
        let standing = self.check_admission(core, &asked)?;
        if let (Admit::Node(node), Some(joiner)) = (&asked.admit, joiner) {
            let heard = joiner.call_back(&node.address).await;
            let heard = heard.map_err(|error| Failure::new(ErrorCode::Unknown, error))?;
            heard.map_err(|why| self.unheard(&node.address, &why))?;
        }
        let deadline = Deadline::within(DEADLINE);
        let home = match standing {
            // It asks again, for what it was not told before: that is no news for the log.
            Admission::In { home } => home,
            Admission::May => {
                if self.inner.signer.load().is_none() && self.signers().is_empty() {
                    return Err(self.no_signer());
                }
                self.order_admission(core, &asked.admit, deadline).await?
            }
        };
        // From here on it is in; whatever goes wrong is put right by asking again.
        let rest = self.welcome(core, &asked, home, deadline).await;
        rest.map_err(|failure| {
            let message = format!(
                "{} is admitted, but its certificate could not be made: {failure}",
                asked.identity
            );
            Failure::new(ErrorCode::Unknown, message)
        })
    }

    fn unheard(&self, address: &str, why: &str) -> Failure {
        let own = &self.inner.name;
        let message =
            format!("{own} cannot reach the joiner at the address it advertises, {address}: {why}");
        Failure::new(ErrorCode::Invalid, message)
    }

    /// Reads what a joiner wants.
    fn asked(&self, ask: JoinAsk) -> Result<Asked, Failure> {
        let invalid = |what: &dyn std::fmt::Display| Failure::new(ErrorCode::Invalid, what);
        let name: Name = ask.name.parse().map_err(|error| invalid(&error))?;
        let fingerprint = request_fingerprint(&ask.csr).map_err(|error| invalid(&error))?;
        let token = TokenProof { id: ask.token, hash: certs::sha256(&ask.secret).to_vec() };
        let (role, admit) =
            match ask.role.ok_or_else(|| invalid(&"it does not say what it joins as"))? {
                JoinAs::Node(JoinNode { address, incarnation, wants, priority }) => {
                    let address = advertised(&address).map_err(|error| invalid(&error))?;
                    let admit = AdmitNode {
                        token: Some(token),
                        name: name.to_string(),
                        fingerprint: fingerprint.to_vec(),
                        incarnation,
                        address,
                        wants,
                        priority,
                    };
                    (Role::Node, Admit::Node(admit))
                }
                JoinAs::Client(client) => {
                    let admit = AdmitClient {
                        token: Some(token),
                        name: name.to_string(),
                        fingerprint: fingerprint.to_vec(),
                        home: client.home,
                        admin: client.admin,
                    };
                    let role = if client.admin { Role::Admin } else { Role::Client };
                    (role, Admit::Client(admit))
                }
                JoinAs::Renew(_) => return Err(invalid(&"a renewal admits nobody")),
            };
        let identity = Identity { cluster: self.inner.identity.cluster.clone(), role, name };
        Ok(Asked { identity, fingerprint, csr: ask.csr, admit })
    }

    /// Refuses a clock that is far off. A clock that is itself in doubt judges nobody.
    fn check_clock(&self, now_ns: u64) -> Result<(), Failure> {
        let node_clock = &self.inner.node_clock;
        if matches!(node_clock.state(), ClockState::Unsynced | ClockState::Suspect) {
            return Ok(());
        }
        let own_ns = node_clock.reading().now_ns;
        let off_ns = now_ns.abs_diff(own_ns);
        if off_ns <= JOIN_CLOCK_MAX_NS {
            return Ok(());
        }
        let side = if now_ns > own_ns { "ahead of" } else { "behind" };
        let message = format!(
            "the joiner's clock is {} s {side} the cluster's, more than the {} s that are allowed",
            off_ns / 1_000_000_000,
            JOIN_CLOCK_MAX_NS / 1_000_000_000
        );
        Err(Failure::new(ErrorCode::ClockUnavailable, message))
    }

    /// The rule that apply goes by, asked of this node's own state.
    fn check_admission(&self, core: &Core, asked: &Asked) -> Result<Admission, Failure> {
        let view = core.store.snapshot().map_err(store_failure)?;
        let now = self.log_time();
        let checked = match &asked.admit {
            Admit::Node(node) => {
                query::check_admission(&view, node, now).map(|is_in| is_in.then(String::new))
            }
            Admit::Client(client) => query::check_client_admission(&view, client, now),
        };
        let home = answered(&view, checked)?;
        Ok(home.map_or(Admission::May, |home| Admission::In { home }))
    }

    /// Has the log admit the joiner; trying again is safe. Returns the home of a client.
    async fn order_admission(
        &self,
        core: &Core,
        admit: &Admit,
        deadline: Deadline,
    ) -> Result<String, Failure> {
        let id = self.inner.chance.id().to_string();
        let mut tries = self.tries(core, PATIENCE, deadline);
        loop {
            let tried = match admit {
                Admit::Node(node) => {
                    let op = Some(MemberOp::Admit(node.clone()));
                    let change = MemberChange { op, id: id.clone() };
                    self.bring_member(change, deadline).await.map(|_| String::new())
                }
                Admit::Client(client) => self.bring_client(client.clone(), deadline).await,
            };
            match tried {
                Ok(home) => return Ok(home),
                Err(failure) => tries.again_after(failure).await.map_err(GaveUp::or_unknown)?,
            }
        }
    }

    /// Brings the admission of a client to the primary, once.
    async fn bring_client(
        &self,
        admit: AdmitClient,
        deadline: Deadline,
    ) -> Result<String, Failure> {
        let here = self.own_client(self.name(), admit.clone(), deadline);
        let registered = |reply| if let Reply::Registered(it) = reply { Some(it) } else { None };
        let registered = self.bring(PeerOp::AdmitClient(admit), here, registered, deadline).await?;
        Ok(registered.home)
    }

    /// Orders the admission of a client on this primary, for the gateway `node`.
    async fn own_client(
        &self,
        node: &Name,
        admit: AdmitClient,
        deadline: Deadline,
    ) -> Result<Registered, Failure> {
        let op = CommandOp::Token(TokenChange { op: Some(TokenOp::AdmitClient(admit)) });
        model::check(&op)?;
        let outcome = self.order_own(self.core()?, node, op, deadline).await?;
        if let Outcome::Registered { home } = outcome {
            Ok(Registered { home, ..Registered::default() })
        } else {
            Err(own::instead(outcome))
        }
    }

    /// Serves a peer to which a client brought a token.
    pub(crate) async fn peer_admit_client(&self, from: &Name, admit: AdmitClient) -> Response {
        let done = self.own_client(from, admit, Deadline::within(DEADLINE)).await;
        self.response(from, done.map_or_else(Reply::Failure, Reply::Registered))
    }

    /// Everything that a new member needs, now that it is one.
    async fn welcome(
        &self,
        core: &Core,
        asked: &Asked,
        home: String,
        deadline: Deadline,
    ) -> Result<Joined, Failure> {
        // Now this node's own state holds the admission too.
        self.barrier(core, deadline).await?;
        let certificate = self.certified(core, &asked.identity, &asked.csr, deadline).await?;
        let mut joined =
            Joined { certificate, home, nodes: Some(self.nodes()), ..Joined::default() };
        match &asked.admit {
            Admit::Node(_) => joined.members = Some(self.all_members(core, asked)?),
            Admit::Client(client) if joined.home.is_empty() && !client.admin => {
                joined.home = self.derived_home(&client.name);
            }
            Admit::Client(_) => {}
        }
        Ok(joined)
    }

    /// Every node that is a member, as this node's own state has it.
    pub(super) fn everybody(core: &Core) -> Result<Members, Failure> {
        let view = core.store.snapshot().map_err(store_failure)?;
        let mut members = answered(&view, query::members(&view))?;
        let missing = reconciler::missing(&core.engine.view().borrow(), &members.members);
        members.members.extend(missing.into_iter().flat_map(|rows| rows.members));
        members.members.retain(|row| row.noticed() != proto::member::MemberState::Removed);
        Ok(members)
    }

    /// Every node of the cluster, the new one among them, and those that the first primary has not
    /// entered yet: whoever is left out is refused by the new one.
    fn all_members(&self, core: &Core, asked: &Asked) -> Result<Members, Failure> {
        let members = Self::everybody(core)?;
        let name = asked.identity.name.as_str();
        let is_new = |row: &proto::member::MemberRow| {
            row.name == name && row.fingerprint == asked.fingerprint
        };
        if members.members.iter().any(is_new) {
            return Ok(members);
        }
        Err(Failure::new(ErrorCode::Conflict, format!("{name} was removed again")))
    }

    /// A certificate for somebody whom this node's state has admitted: by the own key, or by that of
    /// a peer.
    pub(super) async fn certified(
        &self,
        core: &Core,
        identity: &Identity,
        csr: &[u8],
        deadline: Deadline,
    ) -> Result<String, Failure> {
        if self.inner.signer.load().is_some() {
            return self.sign_admitted(core, identity, csr);
        }
        let mut last = self.no_signer();
        let sign = Sign {
            identity: identity.dns_name(),
            csr: csr.to_vec(),
            index: core.engine.progress().borrow().index.unwrap_or(0),
        };
        for peer in self.signers() {
            match self.ask_for_certificate(&peer, PeerOp::Sign(sign.clone()), deadline).await {
                Ok(certificate) => return Ok(certificate),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// Peers that are up and hold the authority's key.
    pub(super) fn signers(&self) -> Vec<PeerAddr> {
        let signs = |peer: &PeerAddr| {
            let heard = self.inner.members.heard(peer.name.as_str());
            heard.is_some_and(|heard| heard.is_up() && heard.info.signs)
        };
        self.peers().into_iter().filter(signs).collect()
    }

    /// What is said when nobody can sign.
    pub(super) fn no_signer(&self) -> Failure {
        let message = "no node that is up holds the authority's key: nobody can sign a certificate";
        Failure::new(ErrorCode::NoSigner, message)
    }

    /// Asks a signer for a certificate: a first one, or one made anew.
    pub(super) async fn ask_for_certificate(
        &self,
        peer: &PeerAddr,
        ask: PeerOp,
        deadline: Deadline,
    ) -> Result<String, Failure> {
        let unknown = |what: &dyn std::fmt::Display| Failure::new(ErrorCode::Unknown, what);
        let answer = self.ask_peer(peer, ask, deadline).await?;
        match Response::decode(answer).map_err(|error| unknown(&error))?.reply {
            Some(Reply::Registered(registered)) => Ok(registered.certificate),
            Some(Reply::Failure(failure)) => Err(failure),
            _ => Err(unknown(&format!("{}'s answer is no certificate", peer.name))),
        }
    }

    /// Signs a certificate request for a peer.
    pub(crate) async fn peer_sign(&self, from: &Name, sign: Sign) -> Response {
        let signed = self.sign_for(from, sign).await;
        self.response(from, signed.map_or_else(Reply::Failure, Reply::Registered))
    }

    async fn sign_for(&self, from: &Name, sign: Sign) -> Result<Registered, Failure> {
        let core = self.core()?;
        let identity = Identity::from_dns_name(&sign.identity);
        let identity = identity.map_err(|error| Failure::new(ErrorCode::Invalid, error))?;
        let mut progress = core.engine.progress();
        let reached = progress.wait_for(|now| now.index.is_some_and(|at| at >= sign.index));
        if !matches!(tokio::time::timeout(SIGN_WITHIN, reached).await, Ok(Ok(_))) {
            let message = format!("{} is behind and cannot see the admission yet", self.inner.name);
            return Err(Failure::new(ErrorCode::Busy, message));
        }
        let certificate = self.sign_admitted(core, &identity, &sign.csr)?;
        tracing::info!(%from, %identity, "signed a certificate for a peer");
        Ok(Registered { certificate, ..Registered::default() })
    }

    /// Signs what this node's own state has admitted, that name with that key, and nothing else.
    fn sign_admitted(
        &self,
        core: &Core,
        identity: &Identity,
        csr: &[u8],
    ) -> Result<String, Failure> {
        let signer = self.inner.signer.load_full().ok_or_else(|| self.no_signer())?;
        let invalid = |error: certs::CertError| Failure::new(ErrorCode::Invalid, error);
        let fingerprint = request_fingerprint(csr).map_err(invalid)?;
        let view = core.store.snapshot().map_err(store_failure)?;
        let admitted = query::admitted_key(&view, identity.role, identity.name.as_str());
        let admitted = answered(&view, admitted)?;
        if identity.cluster != self.inner.identity.cluster || admitted != Some(fingerprint) {
            let message = format!("{identity} is not admitted with this key");
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        let reached = self.reached_at(identity);
        signer.sign(csr, identity, self.cert_life(), &reached).map_err(invalid)
    }
}
