//! `logctl cluster join`: make this machine a node of a cluster.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use net::join::{JoinRequest, JoinRole, join};
use proto::join::JoinNode;
use proto::member::MemberWants;
use proto::token::JoinToken;
use proto::{Name, Role};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::cli::{Globals, Join};
use crate::context::check_address;
use crate::dev::DirNode;
use crate::error::CtlError;
use crate::local::find_logd;
use crate::newcomer::{Begun, Folder};
use crate::out::{Cell, Out, Show};

/// The port of a node that was told none.
const PORT: u16 = 7101;
/// How many ports are looked at for a free one.
const PORTS: u16 = 100;
/// Longest wait for a started node to take part.
const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(100);
/// No token is longer; a file named by mistake may be.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// A node that is in.
#[derive(Debug, Serialize)]
struct JoinView {
    node: String,
    address: String,
    config: String,
    cluster: String,
    started: bool,
}

impl Show for JoinView {
    fn headings() -> &'static [&'static str] {
        &["NODE", "ADDRESS", "CONFIG"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        vec![self.node.clone(), self.address.clone(), self.config.clone()]
    }
}

/// Runs the verb.
pub(crate) async fn run(args: Join, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let token = read_token(&args.token, Role::Node)?;
    if let Some(address) = &args.advertise {
        check_address(address).map_err(|why| CtlError::usage(why, "--advertise 192.0.2.4:7101"))?;
    }
    let time_servers = super::cluster::time_servers(&args.time_servers)?;
    let name = choose_name(&args, &token)?;
    // What can be found missing before the cluster is asked costs no use of the token.
    let logd = if args.start { Some(find_logd(args.logd.clone())?) } else { None };
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(format!("logd-{name}")));
    let folder = Folder::new(dir, name);
    let before = folder.begun(&token)?;
    let begun = match &before {
        Some(begun) if folder.is_complete() => {
            out.note(&format!("{} has joined before; nothing was changed", begun.node));
            begun.clone()
        }
        _ => ask(&args, globals, &token, &folder, before.as_ref(), &time_servers).await?,
    };
    if time_servers.is_empty() && before.is_none() {
        out.note("clock: local, this machine's own, because no --time-server was given");
    }
    if let Some(logd) = &logd {
        start(&folder, logd, &args, out).await?;
    }
    let view = JoinView {
        node: begun.node.clone(),
        address: begun.advertise.clone(),
        config: folder.config().display().to_string(),
        cluster: begun.cluster.clone(),
        started: logd.is_some(),
    };
    out.one(&view)?;
    out.flush()?;
    if logd.is_none() {
        out.note(&format!("next: logd --config {} &", view.config));
    }
    Ok(())
}

/// Asks the cluster to let the node in, and writes what it answers.
async fn ask(
    args: &Join,
    globals: &Globals,
    token: &JoinToken,
    folder: &Folder,
    before: Option<&Begun>,
    time_servers: &[String],
) -> Result<Begun, CtlError> {
    let begun = begin(args, token, before).await?;
    let listen: SocketAddr = begun.listen.parse().map_err(|_| {
        let file = folder.dir().display();
        CtlError::usage(
            format!("{file}: '{}' is no address to listen on", begun.listen),
            "--listen",
        )
    })?;
    let incarnation = Uuid::parse_str(&begun.incarnation).map_err(|_| {
        let what = format!("{}: no incarnation is written down", folder.dir().display());
        CtlError::conflict(what, "another --dir")
    })?;
    let wants = if args.learner { MemberWants::Learner } else { MemberWants::Voter };
    let node = JoinNode {
        address: begun.advertise.clone(),
        incarnation: incarnation.into_bytes().to_vec(),
        wants: wants.into(),
        priority: args.priority,
    };
    let request = JoinRequest {
        name: begun.node.parse().map_err(|_| CtlError::strange("a node's name"))?,
        csr: folder.begin(&begun)?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: JoinRole::Node { node, listen },
        time: globals.timeout,
    };
    match join(token, &request).await {
        Ok(admitted) => {
            folder.complete(&begun, &admitted, time_servers)?;
            Ok(begun)
        }
        Err(error) => {
            // After a clear refusal nothing stays behind that was not there before.
            if before.is_none() && error.nothing_done() {
                folder.forget();
            }
            Err(error.into())
        }
    }
}

/// Decides on addresses and store, as far as an earlier run has not.
async fn begin(args: &Join, token: &JoinToken, before: Option<&Begun>) -> Result<Begun, CtlError> {
    let usage = |what: String| CtlError::usage(what, "--listen with an address of this machine");
    let listen = match (args.listen, before) {
        (Some(listen), _) => listen,
        (None, Some(before)) => before.listen.parse().map_err(|_| usage(before.listen.clone()))?,
        (None, None) => free_port()?,
    };
    let advertise = match (&args.advertise, before) {
        (Some(advertise), _) => advertise.clone(),
        (None, Some(before)) if args.listen.is_none() => before.advertise.clone(),
        (None, _) if !listen.ip().is_unspecified() => listen.to_string(),
        (None, _) => {
            let ip = net::join::address_towards(&token.addresses).await.ok_or_else(|| {
                CtlError::refused(
                    3,
                    format!("no route to a node of the token: {}", token.addresses.join(", ")),
                    "--advertise with the address that the other nodes reach this machine at",
                )
            })?;
            SocketAddr::new(ip, listen.port()).to_string()
        }
    };
    let (cluster, node) = (token.cluster.to_string(), choose_name(args, token)?.to_string());
    let incarnation = before.map(|before| before.incarnation.clone());
    let incarnation = incarnation.unwrap_or_else(|| Uuid::new_v4().to_string());
    Ok(Begun { cluster, node, incarnation, listen: listen.to_string(), advertise })
}

/// The name: as told, as the token says, or as the machine is called.
fn choose_name(args: &Join, token: &JoinToken) -> Result<Name, CtlError> {
    match (&args.name, token.name.parse::<Name>()) {
        (Some(name), Ok(bound)) if *name != bound => Err(CtlError::usage(
            format!("the token is for the name '{bound}' alone, not for '{name}'"),
            format!("--name {bound}, or another token"),
        )),
        (Some(name), _) => Ok(name.clone()),
        (None, Ok(bound)) => Ok(bound),
        (None, Err(_)) => {
            let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let label = text.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
            label.parse().map_err(|_| {
                CtlError::usage("this machine has no name that a node could have", "--name n4")
            })
        }
    }
}

/// The first free port from the usual one on, on every address of this machine.
fn free_port() -> Result<SocketAddr, CtlError> {
    let any = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    let free = (PORT..PORT + PORTS).map(any).find(|address| UdpSocket::bind(address).is_ok());
    free.ok_or_else(|| {
        CtlError::refused(
            3,
            format!("the UDP ports {PORT} to {} are all in use", PORT + PORTS - 1),
            "--listen with a free one; ss -lun shows who uses them",
        )
    })
}

/// Starts the node, unless it runs, and waits until it takes part.
async fn start(folder: &Folder, logd: &Path, args: &Join, out: &Out) -> Result<(), CtlError> {
    let node = DirNode::read(&folder.config())?;
    // Of a log that is there only what comes now is of interest.
    let before = std::fs::metadata(node.log()).map_or(0, |meta| meta.len());
    let pid = match node.pid() {
        Some(pid) => {
            out.note(&format!("{} is running, process {pid}", node.name));
            return Ok(());
        }
        None => node.start(logd)?,
    };
    let wanted = if args.learner { "logd is running" } else { " votes: " };
    let give_up = Instant::now() + READY_WITHIN;
    loop {
        if node.pid().is_none() {
            return Err(node.ended());
        }
        if let Some(line) = said(&node.log(), before, wanted) {
            // Where nobody watches, the log is JSON: what follows the sentence is no part of it.
            let took = line.split_once(&format!("{} votes: ", node.name));
            let took = took.and_then(|(_, took)| took.split('"').next());
            let told = took.map_or_else(String::new, |took| format!("; it votes since {took}"));
            out.note(&format!("{} runs as process {pid}{told}", node.name));
            return Ok(());
        }
        if Instant::now() > give_up {
            out.warn(&format!(
                "{} runs as process {pid} and does not vote yet, after {} s: see {}, and logctl \
                 status on a machine of an admin",
                node.name,
                READY_WITHIN.as_secs(),
                node.log().display()
            ));
            return Ok(());
        }
        sleep(POLL_EVERY).await;
    }
}

/// The first line with a text that a log has got since it had so many bytes.
fn said(log: &Path, before: u64, text: &str) -> Option<String> {
    let bytes = std::fs::read(log).ok()?;
    let new = bytes.get(usize::try_from(before).ok()?..)?;
    let new = String::from_utf8_lossy(new);
    new.lines().find(|line| line.contains(text)).map(str::to_owned)
}

/// Reads a token, from standard input if the text is `-`, for somebody of this role.
///
/// # Errors
/// Exit code 2 when it is none, is cut, or is for another role.
pub(crate) fn read_token(text: &str, role: Role) -> Result<JoinToken, CtlError> {
    let mut pasted = text.to_owned();
    if text == "-" {
        pasted.clear();
        std::io::stdin()
            .take(TOKEN_BYTES_MAX)
            .read_to_string(&mut pasted)
            .map_err(CtlError::file("read the token from", Path::new("standard input")))?;
    }
    let hint = "the whole token, as 'logctl cluster token create' printed it";
    let token =
        JoinToken::decode(&pasted).map_err(|error| CtlError::usage(error.to_string(), hint))?;
    if token.role == role {
        return Ok(token);
    }
    let (own, other) = (token.role.label(), role.label());
    let try_this = match token.role {
        Role::Node => "logctl cluster join TOKEN",
        Role::Client | Role::Admin => "logctl register NAME --token TOKEN",
    };
    Err(CtlError::refused(
        4,
        format!("this join token is for a {own}, not for a {other}"),
        try_this,
    ))
}
