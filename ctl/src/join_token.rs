//! Join tokens: made here, remembered by the cluster, pasted by a person.
//!
//! The secret is drawn on this side and leaves it only inside the token; the cluster gets its hash.

use std::time::Duration;

use proto::member::ring_order;
use proto::token::{CreateToken, ID_BYTES, JoinToken, SECRET_BYTES, TokenProof};
use proto::wire::{Op, Reply, TokenChange};
use proto::{Name, Role, token::TokenOp};

use crate::error::CtlError;
use crate::home::Home;
use crate::session::Session;

/// Nodes that a token names: whoever brings it tries them in turn.
const ADDRESSES_MAX: usize = 5;

/// What a token shall be good for.
#[derive(Debug, Clone)]
pub(crate) struct TokenSpec {
    /// Node or client.
    pub(crate) role: Role,
    /// How often it may be used, from 1.
    pub(crate) uses: u32,
    /// How long it lives.
    pub(crate) ttl: Duration,
    /// The only name that it may be used for.
    pub(crate) name: Option<Name>,
}

/// Makes a token: draws its secret, has the cluster remember its hash, and names the nodes that
/// serve now. `session` is an admin's.
///
/// # Errors
/// When the cluster refuses, or cannot be asked.
pub(crate) async fn make_token(
    session: &Session,
    home: &Home,
    spec: &TokenSpec,
) -> Result<JoinToken, CtlError> {
    let context = session.context();
    let ca = home.folder().join(&context.ca);
    let ca = std::fs::read_to_string(&ca).map_err(CtlError::file("read", &ca))?;
    let ca_sha256 = certs::pin::spki_sha256(&ca)?;
    let addresses = addresses(session).await?;
    let id = certs::random::<ID_BYTES>()?;
    let secret = certs::random::<SECRET_BYTES>()?;
    let name = spec.name.as_ref().map(Name::to_string).unwrap_or_default();
    let create = CreateToken {
        token: Some(TokenProof { id: id.to_vec(), hash: certs::sha256(&secret).to_vec() }),
        role: spec.role.label().to_owned(),
        uses: spec.uses,
        ttl_ns: u64::try_from(spec.ttl.as_nanos()).unwrap_or(u64::MAX),
        name: name.clone(),
    };
    let change = TokenChange { op: Some(TokenOp::Create(create)) };
    let tokens = match session.call(Op::Token(change)).await? {
        (_, Reply::Tokens(tokens)) => tokens.tokens,
        _ => return Err(CtlError::strange("no token")),
    };
    let made = tokens.iter().find(|token| token.id == id);
    let made = made.ok_or_else(|| CtlError::strange("another token"))?;
    Ok(JoinToken {
        cluster: context.cluster.clone(),
        ca_sha256,
        addresses,
        role: spec.role,
        id,
        secret,
        expires_unix_s: made.expires_ns / 1_000_000_000,
        name,
    })
}

/// Where a newcomer may knock: the nodes that serve, the one that answers now first.
async fn addresses(session: &Session) -> Result<Vec<String>, CtlError> {
    let gateway = session.gateway();
    let mut nodes = session.nodes().await?;
    nodes.retain(|node| node.serves || node.up);
    nodes.sort_by(|a, b| {
        (a.name != gateway).cmp(&(b.name != gateway)).then_with(|| ring_order(&a.name, &b.name))
    });
    let addresses: Vec<String> =
        nodes.into_iter().map(|node| node.address).take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return Err(CtlError::strange("no node that serves"));
    }
    Ok(addresses)
}
