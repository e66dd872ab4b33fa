//! Join tokens: made here, remembered by the cluster, pasted by a person.
//!
//! The secret is drawn on this side and leaves it only inside the token; the cluster gets its hash.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use certs::Credentials;
use proto::member::ring_order;
use proto::token::{CreateToken, ID_BYTES, JoinToken, SECRET_BYTES, TokenProof};
use proto::wire::{Op, Reply, TokenChange};
use proto::{ExitCode, Name, Role, token::TokenOp};

use crate::error::CtlError;
use crate::home::Home;
use crate::out::Out;
use crate::session::Session;

/// Nodes that a token names: whoever brings it tries them in turn.
const ADDRESSES_MAX: usize = 5;
/// The environment variable that a token may come in: other users of the machine see it neither in the
/// list of processes nor in a file.
pub(crate) const TOKEN_VARIABLE: &str = "LOGCTL_TOKEN";
/// No token is longer; a file named by mistake may be.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

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
    let file = |path: &Path| home.folder().join(path);
    let credentials =
        Credentials::load(&file(&context.ca), &file(&context.cert), &file(&context.key))?;
    let ca_sha256 = credentials.authority_sha256()?;
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
        _ => return Err(CtlError::unexpected("no token")),
    };
    let made = tokens.iter().find(|token| token.id == id);
    let made = made.ok_or_else(|| CtlError::unexpected("another token"))?;
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
        return Err(CtlError::unexpected("no node that serves"));
    }
    Ok(addresses)
}

/// Where a command line says that a token is to be found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenFrom<'a> {
    /// The token itself, or `-` for standard input.
    pub(crate) text: Option<&'a str>,
    /// A file that holds it.
    pub(crate) file: Option<&'a Path>,
}

impl TokenFrom<'_> {
    /// Reads a token for somebody of one of these roles: where the command line says, else from the
    /// environment; `None` if it is nowhere. One in the environment that is for another role is not
    /// meant.
    ///
    /// # Errors
    /// Exit code 2 when it is no token or is cut, 4 when it is for another role.
    pub(crate) fn read(self, roles: &[Role], out: &Out) -> Result<Option<JoinToken>, CtlError> {
        match (self.text, self.file) {
            (Some("-"), _) => {
                let name = Path::new("standard input");
                read_bounded(std::io::stdin(), name).and_then(|text| decode(&text, roles)).map(Some)
            }
            (Some(text), _) => {
                let token = decode(text, roles)?;
                out.warn(&format!(
                    "while this runs, others on this machine can see the token in the list of \
                     processes: give it as -, with --token-file, or in {TOKEN_VARIABLE}"
                ));
                Ok(Some(token))
            }
            (None, Some(path)) => {
                let file = std::fs::File::open(path).map_err(CtlError::file("read", path))?;
                read_bounded(file, path).and_then(|text| decode(&text, roles)).map(Some)
            }
            (None, None) => match std::env::var(TOKEN_VARIABLE) {
                Ok(text) if !text.trim().is_empty() => match decode(&text, roles) {
                    Err(error) if error.exit_code() == ExitCode::Denied => Ok(None),
                    decoded => decoded.map(Some),
                },
                _ => Ok(None),
            },
        }
    }
}

fn read_bounded(from: impl std::io::Read, name: &Path) -> Result<String, CtlError> {
    let mut text = String::new();
    let read = from.take(TOKEN_BYTES_MAX).read_to_string(&mut text);
    read.map_err(CtlError::file("read the token from", name))?;
    Ok(text)
}

fn decode(text: &str, roles: &[Role]) -> Result<JoinToken, CtlError> {
    let hint = "give the whole token, as 'logctl cluster token create' printed it";
    let token =
        JoinToken::decode(text).map_err(|error| CtlError::usage(error.to_string(), hint))?;
    if roles.contains(&token.role) {
        return Ok(token);
    }
    let own = token.role.label();
    let other = roles.first().map(|role| role.label()).unwrap_or_default();
    let try_this = match token.role {
        Role::Node => "logctl cluster join TOKEN",
        Role::Client | Role::Admin => "logctl register NAME --token TOKEN",
    };
    Err(CtlError::refused(
        ExitCode::Denied,
        format!("this join token is for a {own}, not for a {other}"),
        try_this,
    ))
}
