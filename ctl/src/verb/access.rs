//! `logctl access`: make, list and revoke access tokens.
//!
//! The secret is drawn here and leaves this side only inside the token; the cluster gets its hash.

use clock::Hlc;
use clock::hlc::utc_text;
use proto::access::{AccessToken, AccessView, CreateAccess};
use proto::token::{self, ID_BYTES, SECRET_BYTES, TokenId, TokenOp, TokenProof};
use proto::wire::{Empty, Op, Reply, TokenChange};
use serde::Serialize;

use crate::cli::{Access, Globals};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Cell, Out, Show};
use crate::session::Session;

use super::made_token::{Made, cells, id_of};

/// Whom a token stands for.
#[derive(Debug, Serialize)]
struct For {
    client: String,
}

/// A token as the cluster remembers it.
#[derive(Debug, Serialize)]
struct Line {
    id: String,
    client: String,
    state: String,
    expires: String,
    by: String,
    since: Option<String>,
}

/// Runs the verb.
pub(crate) async fn run(args: Access, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let done = match args {
        Access::Create { client, ttl } => {
            let ttl_ns = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
            create(&session, client.to_string(), ttl_ns, out).await
        }
        Access::List => list(&session, out).await,
        Access::Revoke { id } => revoke(&session, &id, out).await,
    };
    session.close().await;
    done
}

async fn change(session: &Session, op: TokenOp) -> Result<AccessView, CtlError> {
    let (_, Reply::Tokens(tokens)) = session.call(Op::Token(TokenChange { op: Some(op) })).await?
    else {
        return Err(CtlError::unexpected("no token"));
    };
    tokens.access.into_iter().next().ok_or_else(|| CtlError::unexpected("no access token"))
}

async fn create(
    session: &Session,
    client: String,
    ttl_ns: u64,
    out: &mut Out,
) -> Result<(), CtlError> {
    let token =
        AccessToken { id: certs::random::<ID_BYTES>()?, secret: certs::random::<SECRET_BYTES>()? };
    let proof = TokenProof { id: token.id.to_vec(), hash: certs::sha256(&token.secret).to_vec() };
    let create = CreateAccess { token: Some(proof), client: client.clone(), ttl_ns };
    let made = change(session, TokenOp::CreateAccess(create)).await?;
    let id = token::id_text(&token.id);
    out.did(format!("the access token {id} is made; logctl access revoke {id} ends it"));
    let expires = utc_text(made.expires_ns);
    let lets = For { client };
    out.one(&Made { token: token.encode(), id, expires: expires.clone(), lets })?;
    out.hand_over();
    out.note(&format!("usable until {expires}; it is a secret, and shown only now"));
    out.note("next: curl --cacert CA --oauth2-bearer TOKEN https://HOST:7101/v1/messages");
    Ok(())
}

async fn list(session: &Session, out: &mut Out) -> Result<(), CtlError> {
    let (_, Reply::Tokens(tokens)) = session.call(Op::Tokens(Empty {})).await? else {
        return Err(CtlError::unexpected("no tokens"));
    };
    let lines: Vec<Line> = tokens.access.into_iter().map(Line::from).collect();
    out.list(&lines)
}

async fn revoke(session: &Session, text: &str, out: &mut Out) -> Result<(), CtlError> {
    let decode = |text: &str| AccessToken::decode(text).ok().map(|token| token.id);
    let id = id_of(text, decode, ("an access token", "logctl access list"))?;
    let view = change(session, TokenOp::RevokeAccess(TokenId { id: id.to_vec() })).await?;
    let (id, client) = (token::id_text(&id), view.client);
    out.note(&format!("the access token {id} of {client} is revoked"));
    Ok(())
}

impl From<AccessView> for Line {
    fn from(view: AccessView) -> Self {
        Self {
            id: token::id_text(&view.id),
            client: view.client,
            state: view.state,
            expires: utc_text(view.expires_ns),
            by: view.by,
            since: Hlc::from_slice(&view.since).map(|hlc| utc_text(hlc.ns)),
        }
    }
}

impl Show for Line {
    fn headings() -> &'static [&'static str] {
        &["ID", "CLIENT", "STATE", "EXPIRES", "BY"]
    }

    fn row(&self) -> Vec<Cell> {
        cells(self.plain())
    }

    fn plain(&self) -> Vec<String> {
        let Self { id, client, state, expires, by, .. } = self;
        [id, client, state, expires, by].map(Clone::clone).to_vec()
    }
}
