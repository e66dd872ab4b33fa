//! `logctl cluster token`: make, list and revoke join tokens.

use clock::Hlc;
use clock::hlc::utc_text;
use proto::Role;
use proto::token::{self, JoinToken, TokenId, TokenOp, TokenView};
use proto::wire::{Empty, Op, Reply, TokenChange};
use serde::Serialize;

use crate::cli::{Globals, Token, TokenCreate, TokenRole};
use crate::error::CtlError;
use crate::home::Home;
use crate::join_token::{TOKEN_VARIABLE, TokenSpec, make_token};
use crate::out::{Cell, Out, Show};
use crate::session::Session;

use super::made_token::{Made, cells, id_of};

/// Whom a token lets in.
#[derive(Debug, Serialize)]
struct For {
    role: &'static str,
    uses: u32,
    name: Option<String>,
}

/// A token as the cluster remembers it.
#[derive(Debug, Serialize)]
struct Line {
    id: String,
    role: String,
    state: String,
    uses: u32,
    used_by: Vec<String>,
    expires: String,
    name: Option<String>,
    by: String,
    since: Option<String>,
}

/// Runs the verb.
pub(crate) async fn run(args: Token, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    match args {
        Token::Create(args) => create(args, globals, out).await,
        Token::List => list(globals, out).await,
        Token::Revoke { id } => revoke(&id, globals, out).await,
    }
}

async fn create(args: TokenCreate, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let home = Home::from_env()?;
    let session = Session::open(globals, &home)?;
    let role = match args.role {
        TokenRole::Node => Role::Node,
        TokenRole::Client => Role::Client,
    };
    let spec = TokenSpec { role, uses: args.uses, ttl: args.ttl, name: args.name };
    let made = make_token(&session, &home, &spec).await;
    session.close().await;
    let token = made?;
    let id = token::id_text(&token.id);
    out.did(format!("the token {id} is made; logctl cluster token revoke {id} ends it"));
    out.one(&shown(&token, spec.uses))?;
    out.hand_over();
    let times = if spec.uses == 1 { "once".to_owned() } else { format!("{} times", spec.uses) };
    out.note(&format!("usable {times} until {}; it is a secret", expiry(&token)));
    out.note(&format!("next: {}", command(&token)));
    Ok(())
}

/// The command that a token is to be pasted into.
pub(crate) fn command(token: &JoinToken) -> String {
    let text = token.encode();
    let name = if token.name.is_empty() { "NAME" } else { &token.name };
    match token.role {
        Role::Node => format!("{TOKEN_VARIABLE}={text} logctl cluster join --start"),
        Role::Client | Role::Admin => format!("{TOKEN_VARIABLE}={text} logctl register {name}"),
    }
}

fn expiry(token: &JoinToken) -> String {
    utc_text(token.expires_unix_s.saturating_mul(1_000_000_000))
}

async fn list(globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let answer = session.call(Op::Tokens(Empty {})).await;
    session.close().await;
    let (_, Reply::Tokens(tokens)) = answer? else {
        return Err(CtlError::unexpected("no tokens"));
    };
    let lines: Vec<Line> = tokens.tokens.into_iter().map(Line::from).collect();
    out.list(&lines)
}

async fn revoke(text: &str, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let decode = |text: &str| JoinToken::decode(text).ok().map(|token| token.id);
    let id = id_of(text, decode, ("a token", "logctl cluster token list"))?;
    let session = Session::open(globals, &Home::from_env()?)?;
    let change = TokenChange { op: Some(TokenOp::Revoke(TokenId { id: id.to_vec() })) };
    let answer = session.call(Op::Token(change)).await;
    session.close().await;
    let (_, Reply::Tokens(_)) = answer? else {
        return Err(CtlError::unexpected("no token"));
    };
    out.note(&format!("the token {} is revoked; who came in with it stays", token::id_text(&id)));
    Ok(())
}

fn shown(token: &JoinToken, uses: u32) -> Made<For> {
    let name = (!token.name.is_empty()).then(|| token.name.clone());
    Made {
        token: token.encode(),
        id: token::id_text(&token.id),
        expires: expiry(token),
        lets: For { role: token.role.label(), uses, name },
    }
}

impl From<TokenView> for Line {
    fn from(view: TokenView) -> Self {
        let since = Hlc::from_slice(&view.since).map(|hlc| utc_text(hlc.ns));
        Self {
            id: token::id_text(&view.id),
            role: view.role,
            state: view.state,
            uses: view.uses,
            used_by: view.used_by,
            expires: utc_text(view.expires_ns),
            name: (!view.name.is_empty()).then_some(view.name),
            by: view.by,
            since,
        }
    }
}

impl Show for Line {
    fn headings() -> &'static [&'static str] {
        &["ID", "ROLE", "STATE", "USED", "EXPIRES", "NAME", "USED BY"]
    }

    fn row(&self) -> Vec<Cell> {
        cells(self.plain())
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.role.clone(),
            self.state.clone(),
            format!("{}/{}", self.used_by.len(), self.uses),
            self.expires.clone(),
            self.name.clone().unwrap_or_else(|| "any".to_owned()),
            self.used_by.join(","),
        ]
    }
}
