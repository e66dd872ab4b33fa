//! `logctl register`: admit a client. Its key is made here and stays here.

use std::io;
use std::path::PathBuf;

use certs::Credentials;
use net::join::{JoinRequest, JoinRole, join};
use proto::join::JoinClient;
use proto::token::JoinToken;
use proto::wire::{self, Op, Registered, Reply};
use proto::{ClusterId, ExitCode, Name, Role};
use serde::Serialize;

use crate::cli::{Globals, Register};
use crate::context::{self, Context, Node};
use crate::error::CtlError;
use crate::home::{Home, make_private_dir};
use crate::join_token::TokenFrom;
use crate::layout::ADMIN;
use crate::out::{Cell, Out, Show};
use crate::session::Session;

#[derive(Debug, Serialize)]
struct RegisterView {
    name: String,
    home: String,
    context: String,
}

pub(crate) async fn run(args: Register, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    if args.name.as_str() == ADMIN {
        return Err(CtlError::usage(
            format!("the name '{ADMIN}' is reserved for the operator"),
            "choose another name",
        ));
    }
    let home = Home::from_env()?;
    let from = TokenFrom { text: args.token.as_deref(), file: args.token_file.as_deref() };
    let context = match from.read(&[Role::Client, Role::Admin], out)? {
        Some(token) => with_token(&args, &token, globals, &home).await?,
        None => as_admin(&args, globals, &home).await?,
    };
    out.did(format!("{} is registered, as the context of that name", args.name));
    out.one(&RegisterView {
        name: args.name.to_string(),
        home: context.home.as_ref().map(Name::to_string).unwrap_or_default(),
        context: args.name.to_string(),
    })?;
    out.hand_over();
    let next = if context.role == Role::Admin { "status" } else { "read --follow" };
    out.note(&format!("next: logctl --as {} {next}", args.name));
    Ok(())
}

/// Has an admin's context register the client.
async fn as_admin(args: &Register, globals: &Globals, home: &Home) -> Result<Context, CtlError> {
    let (admin_name, admin) = choose_admin(globals, home)?;
    let files = Files::of(&args.name, (&admin.cluster, Role::Client), home)?;
    // The authority is the one that the admin trusts, whatever the node sends.
    let admins_ca = home.folder().join(&admin.ca);
    let ca = std::fs::read_to_string(&admins_ca).map_err(CtlError::file("read", &admins_ca))?;
    let via = globals.via.as_ref();
    let session = Session::with(globals, home, &admin_name, admin.clone(), via)?;
    let (csr, fresh) = files.request()?;
    let register = wire::Register {
        name: args.name.to_string(),
        home: args.home.as_ref().map(Name::to_string).unwrap_or_default(),
        csr,
    };
    let answer = session.call(Op::Register(register)).await;
    session.close().await;
    let registered = match answer {
        Ok((_, Reply::Registered(registered))) => registered,
        Ok(_) => return Err(CtlError::unexpected("no certificate")),
        Err(error) => {
            // After a clear refusal nothing stays behind. While it may have happened the key is
            // kept: the same command asks for the same key again.
            if fresh && is_clear(error.exit_code()) {
                files.drop_key()?;
            }
            return Err(error);
        }
    };
    let Registered { certificate, home: preferred, .. } = registered;
    let admitted = Client { ca, certificate, preferred, nodes: admin.nodes };
    files.store(&args.name, (&admin.cluster, Role::Client), admitted, home)
}

/// Whether a refusal says for certain that nothing was done.
fn is_clear(code: ExitCode) -> bool {
    match code {
        ExitCode::Usage | ExitCode::Denied | ExitCode::NotFound | ExitCode::Conflict => true,
        ExitCode::Other
        | ExitCode::Unreachable
        | ExitCode::Unknown
        | ExitCode::Degraded
        | ExitCode::NoQuorum
        | ExitCode::Clock
        | ExitCode::Integrity
        | ExitCode::Interrupted
        | ExitCode::ReaderGone => false,
    }
}

/// Registers with a token: nothing of the cluster need be known here.
async fn with_token(
    args: &Register,
    token: &JoinToken,
    globals: &Globals,
    home: &Home,
) -> Result<Context, CtlError> {
    if !token.name.is_empty() && token.name != args.name.as_str() {
        return Err(CtlError::refused(
            ExitCode::Denied,
            format!("this join token is for the name '{}' alone", token.name),
            format!("logctl register {} with this token", token.name),
        ));
    }
    let files = Files::of(&args.name, (&token.cluster, token.role), home)?;
    let (csr, fresh) = files.request()?;
    let request = JoinRequest {
        name: args.name.clone(),
        csr,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: JoinRole::Client(JoinClient {
            home: args.home.as_ref().map(Name::to_string).unwrap_or_default(),
            admin: token.role == Role::Admin,
        }),
        time: globals.timeout,
    };
    let admitted = match join(token, &request).await {
        Ok(admitted) => admitted,
        Err(error) => {
            if fresh && error.nothing_done() {
                files.drop_key()?;
            }
            if error.exit_code() == ExitCode::Conflict {
                let what = CtlError::from(error).line();
                return Err(CtlError::conflict(what, "choose another name for it"));
            }
            return Err(error.into());
        }
    };
    let rows = admitted.joined.nodes.unwrap_or_default().nodes;
    let node =
        |row: wire::NodeRow| Some(Node { name: row.name.parse().ok()?, address: row.address });
    let nodes: Vec<Node> = rows.into_iter().filter_map(node).collect();
    let client = Client {
        ca: admitted.ca,
        certificate: admitted.joined.certificate,
        preferred: admitted.joined.home,
        nodes,
    };
    let context = files.store(&args.name, (&token.cluster, token.role), client, home)?;
    if home.current()?.is_none() {
        home.set_current(&args.name)?;
    }
    Ok(context)
}

/// The admin to register with: the chosen context, or if none was named and the current one is a
/// client's, an admin's of the same cluster.
fn choose_admin(globals: &Globals, home: &Home) -> Result<(Name, Context), CtlError> {
    let chosen = context::choose(home, globals.context.as_ref())?;
    if chosen.1.role == Role::Admin || globals.context.is_some() {
        return Ok(chosen);
    }
    for name in home.contexts()? {
        match home.load(&name)? {
            Some(other) if other.role == Role::Admin && other.cluster == chosen.1.cluster => {
                return Ok((name, other));
            }
            _ => {}
        }
    }
    Ok(chosen)
}

/// Refuses a name whose context here belongs to something else.
///
/// # Errors
/// Exit code 6.
pub(super) fn refuse_other(
    name: &Name,
    (cluster, role): (&ClusterId, Role),
    home: &Home,
) -> Result<(), CtlError> {
    match home.load(name)? {
        Some(there) if &there.cluster != cluster || &there.name != name || there.role != role => {
            Err(CtlError::conflict(
                format!(
                    "there is a context '{name}' already, of {} {} in cluster {}",
                    there.role.label(),
                    there.name,
                    there.cluster
                ),
                format!("choose another name, or logctl context remove {name}"),
            ))
        }
        Some(_) | None => Ok(()),
    }
}

/// Files of a client that registers here.
struct Files {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

/// What a registration came to.
struct Client {
    /// The authority that is trusted (PEM).
    ca: String,
    /// The certificate (PEM).
    certificate: String,
    /// The home.
    preferred: String,
    /// Nodes to ask.
    nodes: Vec<Node>,
}

impl Files {
    /// Finds their places.
    ///
    /// # Errors
    /// Exit code 6 when a context of that name belongs to something else.
    fn of(name: &Name, (cluster, role): (&ClusterId, Role), home: &Home) -> Result<Self, CtlError> {
        refuse_other(name, (cluster, role), home)?;
        // A name may hold dots, so file names are put together and never cut apart.
        Ok(Self {
            ca: home.key_file(name, "ca.crt"),
            cert: home.key_file(name, "crt"),
            key: home.key_file(name, "key"),
        })
    }

    /// A request for the key that is there, or for a new one. The second value says which.
    fn request(&self) -> Result<(Vec<u8>, bool), CtlError> {
        match std::fs::read_to_string(&self.key) {
            Ok(pem) => Ok((certs::request_for_key(&pem)?, false)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (pem, csr) = certs::new_request()?;
                if let Some(folder) = self.key.parent() {
                    make_private_dir(folder)?;
                }
                certs::write_private(&self.key, &pem)?;
                Ok((csr, true))
            }
            Err(error) => Err(CtlError::file("read", &self.key)(error)),
        }
    }

    fn drop_key(&self) -> Result<(), CtlError> {
        std::fs::remove_file(&self.key).map_err(CtlError::file("remove", &self.key))
    }

    /// Writes certificates and context, and checks that they fit the key.
    fn store(
        &self,
        name: &Name,
        (cluster, role): (&ClusterId, Role),
        client: Client,
        home: &Home,
    ) -> Result<Context, CtlError> {
        certs::write_public(&self.ca, &client.ca)?;
        certs::write_public(&self.cert, &client.certificate)?;
        let credentials = Credentials::load(&self.ca, &self.cert, &self.key)?;
        let identity = credentials.identity();
        if &identity.name != name || &identity.cluster != cluster || identity.role != role {
            return Err(CtlError::unexpected(&format!("a certificate of {identity}")));
        }
        let relative = |path: &PathBuf| path.strip_prefix(home.folder()).unwrap_or(path).to_owned();
        let context = Context {
            cluster: cluster.clone(),
            name: name.clone(),
            role,
            ca: relative(&self.ca),
            cert: relative(&self.cert),
            key: relative(&self.key),
            home: client.preferred.parse().ok(),
            nodes: client.nodes,
        };
        home.store(name, &context)?;
        Ok(context)
    }
}

impl Show for RegisterView {
    fn headings() -> &'static [&'static str] {
        &["NAME", "HOME", "CONTEXT"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        vec![self.name.clone(), self.home.clone(), self.context.clone()]
    }
}
