//! A node that joins by itself at its start: no store, no seed, but a token.
//!
//! It leaves on the disk what `logctl cluster join` leaves: key, certificate, authority, and the
//! seed, last. With a store or a seed there is nothing to join, and the token is not looked at; so
//! the same command line serves for every start.
//!
//! Not here: the conversation (`net::join`), what the seed becomes (`node`).

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use certs::{CertError, Credentials};
use config::seed::Seed;
use config::{Config, read_bounded};
use net::join::{Admitted, JoinError, JoinRequest, JoinRole};
use proto::address::host_port;
use proto::join::JoinNode;
use proto::member::MemberWants;
use proto::token::JoinToken;
use proto::{ExitCode, Role};
use uuid::Uuid;

use crate::cli::Cli;
use crate::exit::{Exit, Failed};
use crate::node_identity::NodeIdentity;
use crate::store::Store;

/// Time for the cluster to let the node in.
const JOIN_WITHIN: Duration = Duration::from_secs(60);
/// What to try where the token is not one.
const TOKEN_HINT: &str = "give the whole token, as 'logctl cluster token create' printed it";

/// Joins, if the node has neither store nor seed and was given a token.
///
/// # Errors
/// When it was not let in; nothing is started then. The same command again is safe.
pub fn if_wanted(cli: &Cli) -> Result<(), Failed> {
    let config = Config::read(&cli.config, cli.listen)?;
    if Store::exists(&config.data_dir).map_err(|error| Failed::from(&error))?
        || Seed::read(&config.data_dir)?.is_some()
    {
        return Ok(());
    }
    let Some(mut token) = token(cli, &config)? else { return Ok(()) };
    // It was a member with this key: the cluster says what becomes of it.
    if let Ok(me) = NodeIdentity::load(&config)
        && known_members(&config, &me)?.is_some()
    {
        return Ok(());
    }
    // Known addresses are tried before those that the token names.
    let mut addresses = Vec::new();
    for text in if cli.join.is_empty() { &config.join } else { &cli.join } {
        let address = host_port(text, None).map_err(|why| {
            Failed::new(Exit::Config, anyhow::anyhow!(why), "--join n1.example.org:7101")
        })?;
        addresses.push(address);
    }
    addresses.append(&mut token.addresses);
    token.addresses = addresses;
    join(&config, &token)
}

/// The members as this node last knew them, if its store is gone and its key is still that of then: it
/// has nothing to join, for it was a member. What becomes of it the cluster says.
///
/// # Errors
/// When the data directory cannot be looked into.
pub(crate) fn known_members(config: &Config, me: &NodeIdentity) -> Result<Option<Seed>, Failed> {
    let exists = Store::exists(&config.data_dir).map_err(|error| Failed::from(&error))?;
    if exists || Seed::read(&config.data_dir)?.is_some() {
        return Ok(None);
    }
    Ok(noted_members(config, me))
}

/// The members as this node noted them beside its key, if that is still the key of then.
pub(crate) fn noted_members(config: &Config, me: &NodeIdentity) -> Option<Seed> {
    let known = Seed::read_members(&config.tls).unwrap_or_else(|error| {
        tracing::warn!(%error, "what this node knew of the members cannot be read");
        None
    });
    let identity = me.credentials.identity();
    let own = me.credentials.fingerprint();
    known.filter(|known| {
        let key = known.myself().and_then(|myself| myself.key);
        known.cluster == identity.cluster
            && known.node == identity.name
            && key.is_some_and(|key| key.0 == own)
    })
}

/// The token of the command line, else that of the configuration's file.
fn token(cli: &Cli, config: &Config) -> Result<Option<JoinToken>, Failed> {
    let file = cli.token_file.as_ref().or(config.token_file.as_ref());
    let text = match (&cli.token, file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => read_bounded(file).map_err(|error| {
            let error =
                anyhow::Error::from(error).context(format!("cannot read {}", file.display()));
            Failed::new(Exit::Config, error, TOKEN_HINT)
        })?,
        (None, None) => return Ok(None),
    };
    let token = JoinToken::decode(&text);
    let token = token.map_err(|error| Failed::new(Exit::Config, error, TOKEN_HINT))?;
    let wrong = |what: String, hint: &str| Failed::new(Exit::Config, anyhow::anyhow!(what), hint);
    if token.role != Role::Node {
        let what = format!("this join token is for a {}, not for a node", token.role.label());
        return Err(wrong(what, "logctl cluster token create --role node"));
    }
    if !token.name.is_empty() && token.name != config.node.as_str() {
        let what = format!("this join token is for the name '{}' alone", token.name);
        return Err(wrong(what, "use the same name in the configuration: node = \"…\""));
    }
    Ok(Some(token))
}

fn join(config: &Config, token: &JoinToken) -> Result<(), Failed> {
    let certificates = |error: CertError| {
        let hint = error.hint();
        Failed::new(Exit::Certificates, error, hint)
    };
    let csr = request(&config.tls.key).map_err(certificates)?;
    let incarnation = incarnation(&config.tls.key.with_extension("incarnation"))
        .map_err(Failed::other("write beside tls.key"))?;
    let node = JoinNode {
        address: config.advertise.clone(),
        incarnation: incarnation.into_bytes().to_vec(),
        wants: MemberWants::Voter.into(),
        priority: None,
    };
    let request = JoinRequest {
        name: config.node.clone(),
        csr,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: JoinRole::Node { node, listen: config.listen },
        time: JOIN_WITHIN,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failed::other("start the runtime"))?;
    let admitted = runtime.block_on(net::join::join(token, &request)).map_err(refused)?;
    drop(runtime);
    certs::write_public(&config.tls.ca, &admitted.ca).map_err(certificates)?;
    certs::write_public(&config.tls.cert, &admitted.joined.certificate).map_err(certificates)?;
    Credentials::load(&config.tls.ca, &config.tls.cert, &config.tls.key).map_err(certificates)?;
    let seed = seed(config, token, &admitted)?;
    fs::create_dir_all(&config.data_dir).map_err(Failed::other("make the data directory"))?;
    seed.write(&config.data_dir)?;
    // A closed stderr is no reason to end.
    let _ = writeln!(io::stderr(), "logd: {} admitted {}", admitted.gateway, config.node);
    Ok(())
}

/// Why the cluster did not let the node in, with an exit code of this program.
fn refused(error: JoinError) -> Failed {
    let exit = match error.exit_code() {
        ExitCode::Usage => Exit::Config,
        ExitCode::Unreachable => Exit::Network,
        ExitCode::Denied => Exit::Certificates,
        ExitCode::Conflict => Exit::Conflict,
        ExitCode::Unknown => Exit::Unknown,
        ExitCode::NoQuorum => Exit::NoQuorum,
        ExitCode::Clock => Exit::Clock,
        ExitCode::Other
        | ExitCode::NotFound
        | ExitCode::Degraded
        | ExitCode::Integrity
        | ExitCode::Interrupted
        | ExitCode::ReaderGone => Exit::Other,
    };
    let hint = error.hint();
    Failed::new(exit, error, hint)
}

/// A certificate request for the key that is there, or for a new one.
fn request(key: &Path) -> Result<Vec<u8>, CertError> {
    if key.exists() {
        let pem = fs::read_to_string(key).map_err(|source| {
            let path: PathBuf = key.to_owned();
            CertError::File { verb: "read", path, source }
        })?;
        return certs::request_for_key(&pem);
    }
    if let Some(folder) = key.parent() {
        // What cannot be made is noticed when the key is written.
        let _ = fs::create_dir_all(folder);
    }
    let (pem, csr) = certs::new_request()?;
    certs::write_private(key, &pem)?;
    Ok(csr)
}

/// The incarnation of the store that will be made: the one of an earlier try, or a new one.
fn incarnation(file: &Path) -> io::Result<Uuid> {
    if let Ok(text) = fs::read_to_string(file)
        && let Ok(before) = Uuid::parse_str(text.trim())
    {
        return Ok(before);
    }
    let drawn = Uuid::new_v4();
    let mut open = fs::File::create(file)?;
    open.write_all(format!("{drawn}\n").as_bytes())?;
    open.sync_all()?;
    Ok(drawn)
}

/// What the new store shall believe at its bootstrap.
fn seed(config: &Config, token: &JoinToken, admitted: &Admitted) -> Result<Seed, Failed> {
    let unexpected = || {
        let what = anyhow::anyhow!("the cluster's answer names members that make no sense");
        Failed::new(Exit::Other, what, "run the same release on all nodes")
    };
    let rows = admitted.joined.members.as_ref().ok_or_else(unexpected)?;
    let (cluster, node) = (token.cluster.clone(), config.node.clone());
    Seed::of_admitted(cluster, node, &rows.members).ok_or_else(unexpected)
}
