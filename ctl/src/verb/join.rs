//! `logctl cluster join`: make this machine a node of a cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use net::join::{JoinError, JoinRequest, JoinRole, join};
use proto::join::JoinNode;
use proto::member::MemberWants;
use proto::token::JoinToken;
use proto::{ErrorCode, ExitCode, Name, Role};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::cli::{Globals, Join};
use crate::dev::DirNode;
use crate::error::CtlError;
use crate::join_folder::{Begun, Folder};
use crate::join_token::{TOKEN_VARIABLE, TokenFrom};
use crate::layout::ADMIN;
use crate::local::take_ports;
use crate::out::{Cell, Out, Show};
use crate::system::{self, Starter};

/// The port of a node that was told none.
const PORT: u16 = 7101;
/// How many ports are looked at for a free one.
const PORTS: u16 = 100;
/// Longest wait for a started node to take part.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Longest wait for the cluster to say whether a node that joined before still is one.
const LOOK_WITHIN: Duration = Duration::from_secs(5);
const POLL_EVERY: Duration = Duration::from_millis(100);

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
    let from = TokenFrom { text: args.token.as_deref(), file: args.token_file.as_deref() };
    let token = from.read(&[Role::Node], out)?.ok_or_else(|| {
        let hint = format!(
            "set {TOKEN_VARIABLE}=TOKEN, or give --token-file FILE, or - for standard input"
        );
        CtlError::usage("no join token is given", hint)
    })?;
    check_addresses(&args)?;
    let time_servers = super::cluster::time_servers(&args.time_servers)?;
    let name = choose_name(&args, &token)?;
    // What can be found missing before the cluster is asked costs no use of the token.
    let starter = super::cluster::starter(args.start, &args.place, args.logd.clone()).await?;
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(format!("logd-{name}")));
    let folder = match super::cluster::place_of(&args.place)? {
        Some(system) => Folder::of_system(system, name),
        None => Folder::new(dir, name),
    };
    let before = folder.begun(&token)?;
    let begun = match &before {
        Some(begun) if folder.is_complete() => {
            still_member(&token, &folder, begun, out).await?;
            out.note(&format!("{} has joined before; nothing was changed", begun.node));
            begun.clone()
        }
        _ => ask(&args, globals, &token, &folder, before.as_ref(), &time_servers).await?,
    };
    folder.hand_over()?;
    if time_servers.is_empty() && before.is_none() {
        out.note("clock: local, this machine's own, because no --time-server was given");
    }
    match &starter {
        None => {}
        Some(Starter::Process(logd)) => start(&folder, logd, &args, out).await?,
        Some(Starter::Service) => {
            system::start().await?;
            out.note(&format!("{} runs as a service: journalctl -u logd", begun.node));
        }
    }
    let view = JoinView {
        node: begun.node.clone(),
        address: begun.advertise.clone(),
        config: folder.config().display().to_string(),
        cluster: begun.cluster.clone(),
        started: starter.is_some(),
    };
    out.did(format!("{} is a node of cluster {}, by {}", view.node, view.cluster, view.config));
    out.one(&view)?;
    out.hand_over();
    match (&starter, args.place.system) {
        (Some(_), _) => {}
        (None, false) => out.note(&format!("next: logd --config {} &", view.config)),
        (None, true) => out.note(&format!("next: {}", system::ENABLE)),
    }
    Ok(())
}

/// Refuses what the node's configuration would refuse, before anything is asked.
fn check_addresses(args: &Join) -> Result<(), CtlError> {
    if let Some(address) = &args.advertise {
        let checked = proto::address::advertised(address);
        checked
            .map_err(|why| CtlError::usage(why.to_string(), "write --advertise 192.0.2.4:7101"))?;
    }
    if args.listen.is_some_and(|listen| listen.port() == 0) {
        let what = "--listen: port 0 gives another port at every start; the others could not find \
                    it";
        return Err(CtlError::usage(what, "write --listen 0.0.0.0:7101"));
    }
    Ok(())
}

/// Asks the cluster whether the node of a folder that is complete still is one. Where nobody can be
/// asked, or will say, that is told and no reason to stop: what the folder is good for the node itself
/// finds out.
///
/// # Errors
/// Exit code 6 when it was removed.
async fn still_member(
    token: &JoinToken,
    folder: &Folder,
    begun: &Begun,
    out: &Out,
) -> Result<(), CtlError> {
    // A node that runs hears of its removal by itself.
    if DirNode::read(&folder.config()).is_ok_and(|node| node.pid().is_some()) {
        return Ok(());
    }
    let asked = request(begun, folder.request()?, &Wants::default(), LOOK_WITHIN);
    match join(token, &asked?).await {
        Err(JoinError::Refused(failure)) if failure.error_code() == ErrorCode::Removed => {
            Err(CtlError::conflict(failure.message, folder.put_aside()))
        }
        Err(error) => {
            let node = &begun.node;
            out.note(&format!("whether {node} still is a node could not be asked: {error}"));
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// What a node is to be.
#[derive(Debug, Default)]
struct Wants {
    learner: bool,
    priority: Option<u32>,
}

/// What the cluster is asked.
fn request(
    begun: &Begun,
    csr: Vec<u8>,
    wants: &Wants,
    time: Duration,
) -> Result<JoinRequest, CtlError> {
    let listen: SocketAddr = begun.listen.parse().map_err(|_| {
        CtlError::usage(
            format!("'{}' is not an address to listen on", begun.listen),
            "give --listen IP:PORT",
        )
    })?;
    let incarnation = Uuid::parse_str(&begun.incarnation)
        .map_err(|_| CtlError::conflict("no incarnation is written down", "use another --dir"))?;
    let votes = if wants.learner { MemberWants::Learner } else { MemberWants::Voter };
    let node = JoinNode {
        address: begun.advertise.clone(),
        incarnation: incarnation.into_bytes().to_vec(),
        wants: votes.into(),
        priority: wants.priority,
    };
    Ok(JoinRequest {
        name: begun.node.parse().map_err(|_| CtlError::unexpected("a node's name"))?,
        csr,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: JoinRole::Node { node, listen },
        time,
    })
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
    super::cluster::check_not_own(time_servers, &begun.listen, &begun.advertise)?;
    let wants = Wants { learner: args.learner, priority: args.priority };
    let request = request(&begun, folder.begin(&begun)?, &wants, globals.timeout)?;
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
    let usage = |what: String| CtlError::usage(what, "give --listen an address of this machine");
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
                    ExitCode::Unreachable,
                    format!("no route to a node of the token: {}", token.addresses.join(", ")),
                    "give --advertise the address at which the other nodes reach this machine",
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
    let name = wanted_name(args, token)?;
    if name.as_str() == ADMIN {
        let what = format!("the name '{ADMIN}' is reserved for the operator");
        return Err(CtlError::usage(what, "choose another name: --name n4"));
    }
    Ok(name)
}

fn wanted_name(args: &Join, token: &JoinToken) -> Result<Name, CtlError> {
    match (&args.name, token.name.parse::<Name>()) {
        (Some(name), Ok(bound)) if *name != bound => Err(CtlError::usage(
            format!("the token is for the name '{bound}' alone, not for '{name}'"),
            format!("give --name {bound}, or use another token"),
        )),
        (Some(name), _) => Ok(name.clone()),
        (None, Ok(bound)) => Ok(bound),
        (None, Err(_)) => {
            let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let label = text.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
            label.parse().map_err(|_| {
                CtlError::usage(
                    "this machine has no name that a node could have",
                    "give it one: --name n4",
                )
            })
        }
    }
}

/// The first free port from the usual one on, on every address of this machine.
fn free_port() -> Result<SocketAddr, CtlError> {
    let any = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    let free = (PORT..PORT + PORTS).map(any).find(|address| take_ports(*address).is_ok());
    free.ok_or_else(|| {
        CtlError::refused(
            ExitCode::Unreachable,
            format!("the ports {PORT} to {} are all in use", PORT + PORTS - 1),
            "give --listen a free port; ss -ltun shows what uses them",
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
