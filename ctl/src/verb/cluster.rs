//! `logctl cluster create`: everything that a new cluster needs, with `--start` its processes too.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::address::TimeServersError;
use proto::life::Validity;
use proto::token::{self, JoinToken};
use proto::wire::Status;
use proto::{ClusterId, ExitCode, Name, Role};
use serde::Serialize;

use crate::cli::{Create, Globals, Place};
use crate::context::{Context, Node};
use crate::dev::{self, DirNode};
use crate::error::CtlError;
use crate::home::Home;
use crate::join_token::{TokenSpec, make_token};
use crate::layout::{self, Outcome, Plan, PlannedNode};
use crate::local::{find_logd, take_ports};
use crate::out::{Cell, Out, Shape, Show};
use crate::session::Session;
use crate::system::{self, Starter, System};

use super::token::command;

/// Longest time for the nodes of `--start` to be up.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Uses of the token that `--start` prints.
const TOKEN_USES: u32 = 8;
/// Its life.
const TOKEN_TTL: Duration = Duration::from_secs(30 * 60);

/// What `cluster create` answers.
#[derive(Debug, Serialize)]
struct CreateView {
    cluster: Option<String>,
    dir: String,
    clock: &'static str,
    context: Option<String>,
    current: bool,
    dry_run: bool,
    nodes: Vec<NodeLine>,
    written: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

#[derive(Debug, Serialize)]
struct NodeLine {
    name: String,
    address: String,
    config: String,
}

pub(crate) async fn create(args: Create, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let plan = plan(&args)?;
    let starter = starter(args.start, &args.place, args.logd.clone()).await?;
    let home = Home::from_env()?;
    let fresh = !plan.ca_cert().exists();
    let outcome = layout::create(&plan, args.dry_run)?;
    let context = match &outcome.cluster {
        Some(cluster) if !args.dry_run => Some(store_context(&plan, cluster, &home)?),
        _ => None,
    };
    let token = match (&starter, &context) {
        (Some(by), Some(context)) => Some(start(&plan, by, globals, &home, context).await?),
        _ => None,
    };
    let current = context.is_some() && home.current()? == context;
    let shown = |path: &Path| path.display().to_string();
    let view = CreateView {
        cluster: outcome.cluster.as_ref().map(ClusterId::to_string),
        dir: shown(&plan.dir),
        clock: if plan.time_servers.is_empty() { "local" } else { "sntp" },
        context: context.as_ref().map(Name::to_string),
        current,
        dry_run: args.dry_run,
        nodes: plan.nodes.iter().map(|node| line(&plan, node)).collect(),
        written: outcome.written.iter().map(|path| shown(path)).collect(),
        token: token.as_ref().map(JoinToken::encode),
    };
    if let (Some(cluster), false) = (&view.cluster, args.dry_run) {
        out.did(format!("cluster {cluster} is in {}", view.dir));
    }
    if let Some(token) = &token {
        let id = token::id_text(&token.id);
        out.did(format!("the token {id} is made; logctl cluster token revoke {id} ends it"));
    }
    match (out.shape(), &view.token) {
        (Shape::Json, _) => out.json(&view)?,
        (Shape::Ndjson, _) => out.json_line(&view)?,
        // What a script puts into a variable.
        (Shape::Raw, Some(token)) => out.line(token)?,
        (Shape::Plain | Shape::Raw, _) if args.dry_run => {
            view.written.iter().try_for_each(|path| out.line(path))?;
        }
        (Shape::Table, _) if args.dry_run => {
            view.written.iter().try_for_each(|path| out.line(&format!("would write {path}")))?;
        }
        _ => out.list(&view.nodes)?,
    }
    out.hand_over();
    advise(&plan, &outcome, &view, out);
    if let Some(token) = &token {
        out.note(&format!(
            "the nodes run; other machines join with, {TOKEN_USES} times in 30 minutes:"
        ));
        out.note(&format!("  {}", command(token)));
    }
    if fresh && !args.dry_run && !args.start {
        warn_of_used_ports(&plan, out);
    }
    overdue(&plan, &outcome, out)
}

/// Says which certificates that were there are over, or soon, and what to do about it.
fn overdue(plan: &Plan, outcome: &Outcome, out: &Out) -> Result<(), CtlError> {
    let renew = format!("logctl certs renew --ca-key {}", plan.ca_key().display());
    let mut over = Vec::new();
    for (cert, standing, at) in &outcome.overdue {
        let cert = cert.display();
        match standing {
            Validity::Fine => {}
            Validity::Late => {
                out.warn(&format!("{cert} is valid until {at} and no longer: {renew}"))
            }
            Validity::Expired => over.push(format!("{cert} expired on {at}")),
        }
    }
    if over.is_empty() {
        return Ok(());
    }
    let what =
        format!("certificates were there and are kept, but have expired: {}", over.join("; "));
    Err(CtlError::refused(ExitCode::Denied, what, renew))
}

/// Turns the options into a plan.
///
/// # Errors
/// Exit code 2.
fn plan(args: &Create) -> Result<Plan, CtlError> {
    let usage = |what: String, hint: &str| CtlError::usage(what, hint);
    if args.host.is_unspecified() {
        return Err(usage(
            format!("{} means every address of this machine; nobody can dial it", args.host),
            "give --host one address of this machine",
        ));
    }
    let system = place_of(&args.place)?;
    if system.is_some() && args.nodes != 1 {
        return Err(usage(
            format!("--system makes this machine's own node, not {} of them", args.nodes),
            "leave out --nodes; other machines join",
        ));
    }
    let mut nodes = Vec::new();
    for n in 0..u16::from(args.nodes) {
        let port = args.base_port.checked_add(n).ok_or_else(|| {
            usage(
                format!("there are no {} ports from {} on", args.nodes, args.base_port),
                "give a lower --base-port",
            )
        })?;
        let number = n + 1;
        let name = format!("n{number}").parse::<Name>();
        nodes.push(PlannedNode {
            name: name.map_err(|error| usage(error.to_string(), "logctl cluster create --help"))?,
            address: address(args.host, port),
            config: match system {
                Some(_) => system::CONFIG.to_owned(),
                None => format!("node{number}.toml"),
            },
        });
    }
    let time_servers = time_servers(&args.time_servers)?;
    for node in &nodes {
        check_not_own(&time_servers, &node.address, &node.address)?;
    }
    let dir = system.as_ref().map_or_else(|| args.dir.clone(), System::conf);
    Ok(Plan { dir, nodes, time_servers, cert_life: args.cert_life, system })
}

/// The machine as the place of its node, if that is asked for.
///
/// # Errors
/// See [`System::find`].
pub(crate) fn place_of(place: &Place) -> Result<Option<System>, CtlError> {
    // The argument's own rule is dropped where another argument excludes --system.
    if place.root.is_some() && !place.system {
        return Err(CtlError::usage(
            "--root stands for / with --system alone",
            "give --system, too",
        ));
    }
    place.system.then(|| System::find(place.root.as_deref())).transpose()
}

/// What starts the node, if that is asked for.
///
/// # Errors
/// Exit code 5 where it is not there.
pub(crate) async fn starter(
    start: bool,
    place: &Place,
    logd: Option<PathBuf>,
) -> Result<Option<Starter>, CtlError> {
    match (start, place.system) {
        (false, _) => Ok(None),
        (true, false) => find_logd(logd).map(Starter::Process).map(Some),
        (true, true) => system::check_unit().await.map(|()| Some(Starter::Service)),
    }
}

/// The time servers of an option that may be given several times, by the rule of the configuration.
///
/// # Errors
/// Exit code 2.
pub(crate) fn time_servers(given: &[String]) -> Result<Vec<String>, CtlError> {
    proto::address::time_servers(given).map_err(|why| {
        CtlError::usage(why.to_string(), "write --time-server ntp.example.org, or host:port")
    })
}

/// Refuses a time server that is the node itself, by the rule of the configuration.
///
/// # Errors
/// Exit code 2.
pub(crate) fn check_not_own(
    servers: &[String],
    listen: &str,
    advertise: &str,
) -> Result<(), CtlError> {
    let is_own =
        |server: &&String| proto::address::is_own(server, listen.parse().ok(), Some(advertise));
    match servers.iter().find(is_own) {
        None => Ok(()),
        Some(own) => {
            let why = TimeServersError::Own(own.clone()).to_string();
            Err(CtlError::usage(why, "give --time-server another machine's address"))
        }
    }
}

/// Starts the nodes that do not run, waits until all are up and one of them leads, and makes a token
/// for others to join with.
async fn start(
    plan: &Plan,
    by: &Starter,
    globals: &Globals,
    home: &Home,
    context: &Name,
) -> Result<JoinToken, CtlError> {
    let nodes: Vec<DirNode> = match by {
        // What it does not bring up systemd says itself.
        Starter::Service => system::start().await.map(|()| Vec::new())?,
        Starter::Process(logd) => {
            let nodes = plan.nodes.iter().map(|node| DirNode::read(&plan.dir.join(&node.config)));
            let nodes: Vec<DirNode> = nodes.collect::<Result<_, _>>()?;
            for node in nodes.iter().filter(|node| node.pid().is_none()) {
                node.start(logd)?;
            }
            nodes
        }
    };
    let stored = home.load(context)?.ok_or_else(|| CtlError::unexpected("no context"))?;
    let all_up = |status: &Status| {
        let is_up = |node: &PlannedNode| {
            status.nodes.iter().any(|row| row.up && row.name == node.name.as_str())
        };
        plan.nodes.iter().all(is_up)
    };
    dev::wait_until((globals, home), (context, &stored), &nodes, START_WITHIN, all_up).await?;
    let session = Session::with(globals, home, context, stored, None)?;
    let spec = TokenSpec { role: Role::Node, uses: TOKEN_USES, ttl: TOKEN_TTL, name: None };
    let token = make_token(&session, home, &spec).await;
    session.close().await;
    token
}

fn address(host: IpAddr, port: u16) -> String {
    SocketAddr::new(host, port).to_string()
}

fn line(plan: &Plan, node: &PlannedNode) -> NodeLine {
    NodeLine {
        name: node.name.to_string(),
        address: node.address.clone(),
        config: plan.dir.join(&node.config).display().to_string(),
    }
}

/// Writes the admin's context, under its own name unless that is another cluster's. It becomes the
/// current one if there is none.
fn store_context(plan: &Plan, cluster: &ClusterId, home: &Home) -> Result<Name, CtlError> {
    let admin = plan.admin();
    let (cert, key) = plan.pair(&admin);
    let full = |path: &Path| std::path::absolute(path).map_err(CtlError::file("find", path));
    let context = Context {
        cluster: cluster.clone(),
        name: admin.clone(),
        role: Role::Admin,
        ca: full(&plan.admin_ca())?,
        cert: full(&cert)?,
        key: full(&key)?,
        home: None,
        nodes: plan
            .nodes
            .iter()
            .map(|node| Node { name: node.name.clone(), address: node.address.clone() })
            .collect(),
    };
    let taken = home.load(&admin)?.is_some_and(|there| &there.cluster != cluster);
    let short: String = cluster.as_str().chars().take(8).collect();
    let name = match format!("{admin}-{short}").parse() {
        Ok(second) if taken => second,
        _ => admin,
    };
    home.store(&name, &context)?;
    if home.current()?.is_none() {
        home.set_current(&name)?;
    }
    Ok(name)
}

/// Says what was done and what to type next.
fn advise(plan: &Plan, outcome: &Outcome, view: &CreateView, out: &Out) {
    let dir = plan.dir.display();
    let cluster = view.cluster.as_deref().unwrap_or("(not made)");
    if view.dry_run {
        out.note(&format!("nothing was written; {} files would be", outcome.written.len()));
        return;
    }
    match outcome.written.len() {
        0 => out.note(&format!("cluster {cluster} is complete in {dir}; nothing was changed")),
        n => out.note(&format!("cluster {cluster}: {n} files written in {dir}")),
    }
    for path in &outcome.edited {
        out.note(&format!("{} was edited; it is left as it is", path.display()));
    }
    for node in &outcome.lost {
        out.warn(&format!(
            "{node} has neither store nor seed, and the cluster was started before: its data is \
             lost. It is not created again, for it would have forgotten its votes"
        ));
    }
    if view.clock == "local" {
        out.note(
            "clock: local, this machine's own, because no --time-server was given; stamps carry \
             no bounds, and every status says so",
        );
    }
    if let servers @ 1..=2 = plan.time_servers.len() {
        out.note(&format!(
            "clock: {servers} of at least 3 time servers; with fewer than 3 none of them may be \
             wrong"
        ));
    }
    let Some(context) = &view.context else { return };
    let current = if view.current { "the current one" } else { "not the current one" };
    out.note(&format!("context '{context}' is written, {current}"));
    out.note("next:");
    for node in view.nodes.iter().filter(|_| view.token.is_none()) {
        match plan.system {
            None => out.note(&format!("  logd --config {} &", node.config)),
            Some(_) => out.note(&format!("  {}", system::ENABLE)),
        }
    }
    if !view.current {
        out.note(&format!("  logctl context use {context}"));
    }
    out.note("  logctl status");
    out.note("  logctl register alice");
}

/// A port that something else holds is better known now than when the node starts.
fn warn_of_used_ports(plan: &Plan, out: &Out) {
    for node in &plan.nodes {
        let bound = node.address.parse().ok().map(take_ports);
        if let Some(Err(error)) = bound {
            out.warn(&format!("{} cannot listen now on {error}", node.name));
        }
    }
}

impl Show for NodeLine {
    fn headings() -> &'static [&'static str] {
        &["NODE", "ADDRESS", "CONFIG"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        vec![self.name.clone(), self.address.clone(), self.config.clone()]
    }
}
