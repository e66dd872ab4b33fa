//! `logctl dev`: a cluster on this machine that outlives the command.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use certs::Credentials;
use proto::member::NodeRole;
use proto::wire::{NodeRow, Status};
use proto::{ExitCode, Name, Role};
use serde::{Deserialize, Serialize};

use crate::cli::{Dev, DevDir, DevDown, DevUp, Globals};
use crate::context::{Context, Node};
use crate::dev::{self, DirNode, MARK};
use crate::error::CtlError;
use crate::home::{Home, make_private_dir, write_atomic};
use crate::layout::{self, Plan, PlannedNode};
use crate::local::{Stopped, find_logd, free_ports};
use crate::out::{Cell, Out, Show, Tone};

/// Name of the context.
const CONTEXT: &str = "dev";
/// Held by the command that is at work in the folder.
const LOCK: &str = ".lock";
/// Nodes until there is a word of another number.
const NODES: u8 = 3;
/// Most nodes of a new cluster; the further ones join.
const FIRST_NODES_MAX: u8 = 9;
/// Longest time for all nodes to be up.
const UP_WITHIN: Duration = Duration::from_secs(60);

pub(crate) async fn run(verb: Dev, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let home = Home::from_env()?;
    match verb {
        Dev::Up(args) => up(args, globals, &home, out).await,
        Dev::Down(args) => down(&args, &home, out).await,
        Dev::Status(args) => status(&args, globals, &home, out).await,
    }
}

/// One node, and what was done with it.
#[derive(Debug, Serialize)]
struct NodeLine {
    node: String,
    state: &'static str,
    pid: Option<u32>,
    address: String,
    role: Option<String>,
    config: String,
}

impl NodeLine {
    fn new(node: &DirNode, state: &'static str) -> Self {
        Self {
            node: node.name.to_string(),
            state,
            pid: node.pid(),
            address: node.listen.clone(),
            role: None,
            config: node.config.display().to_string(),
        }
    }

    fn role_from(&mut self, status: Option<&Status>) {
        let row = status.and_then(|status| status.nodes.iter().find(|row| row.name == self.node));
        self.role = row.map(|row| row.role.clone());
    }
}

impl Show for NodeLine {
    fn headings() -> &'static [&'static str] {
        &["NODE", "STATE", "PID", "ADDRESS", "ROLE"]
    }

    fn row(&self) -> Vec<Cell> {
        let tone = if self.pid.is_some() { Tone::Good } else { Tone::Bad };
        let [node, state, pid, address, role] = self.texts();
        vec![node.into(), Cell::toned(state, tone), pid.into(), address.into(), role.into()]
    }

    fn plain(&self) -> Vec<String> {
        self.texts().into()
    }
}

impl NodeLine {
    fn texts(&self) -> [String; 5] {
        let pid = self.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let role = self.role.clone().unwrap_or_else(|| "-".to_owned());
        [self.node.clone(), self.state.to_owned(), pid, self.address.clone(), role]
    }
}

/// The file that marks a folder: what its cluster was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    nodes: u8,
    base_port: u16,
    /// Whether everything was written; until then it is completed, afterwards left alone.
    made: bool,
}

/// A folder that this command alone works in.
struct Place {
    dir: PathBuf,
    _lock: File,
}

impl Place {
    /// # Errors
    /// Exit code 6 if the folder holds anything else, or another command is at work in it.
    fn enter(dir: PathBuf) -> Result<Self, CtlError> {
        let holds_others = std::fs::read_dir(&dir).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != LOCK))
        });
        if holds_others && !dir.join(MARK).exists() {
            return Err(CtlError::conflict(
                format!("{} holds something that 'logctl dev' did not make", dir.display()),
                "use another --dir; nothing was changed in this one",
            ));
        }
        make_private_dir(&dir)?;
        let path = dir.join(LOCK);
        let lock = File::options().create(true).append(true).open(&path);
        let lock = lock.map_err(CtlError::file("open", &path))?;
        if lock.try_lock().is_err() {
            return Err(CtlError::conflict(
                format!("another 'logctl dev' is at work in {}", dir.display()),
                "run the same command again when that one is done",
            ));
        }
        Ok(Self { dir, _lock: lock })
    }

    fn mark(&self) -> Result<Option<Mark>, CtlError> {
        let path = self.dir.join(MARK);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CtlError::file("read", &path)(error)),
        };
        let bad = |error: toml::de::Error| {
            CtlError::usage(format!("{}: {error}", path.display()), "logctl dev up --fresh")
        };
        toml::from_str(&text).map(Some).map_err(bad)
    }

    fn set_mark(&self, mark: Mark) -> Result<(), CtlError> {
        // Two numbers and a truth value always serialize.
        let body = toml::to_string(&mark).unwrap_or_default();
        let text = format!("# The cluster of 'logctl dev' in this folder.\n{body}");
        write_atomic(&self.dir.join(MARK), text.as_bytes())
    }

    /// Removes everything but the lock.
    fn empty(&self) -> Result<(), CtlError> {
        let list = CtlError::file("list", &self.dir);
        // The mark goes last: what is left by an interruption is still ours.
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(list)? {
            paths.push(entry.map_err(CtlError::file("list", &self.dir))?.path());
        }
        paths.retain(|path| path.file_name().is_some_and(|name| name != LOCK));
        paths.sort_by_key(|path| path.file_name().is_some_and(|name| name == MARK));
        for path in paths {
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.map_err(CtlError::file("remove", &path))?;
        }
        Ok(())
    }
}

fn folder(place: &DevDir, home: &Home) -> Result<PathBuf, CtlError> {
    let dir = place.dir.clone().unwrap_or_else(|| home.state_folder().join("dev"));
    std::path::absolute(&dir).map_err(CtlError::file("find", &dir))
}

async fn up(args: DevUp, globals: &Globals, home: &Home, out: &mut Out) -> Result<(), CtlError> {
    let place = Place::enter(folder(&args.place, home)?)?;
    if args.fresh {
        dev::stop_all(&dev::nodes(&place.dir)?).await?;
        forget(&place, home)?;
        place.empty()?;
    }
    let made = make(&place, &args)?;
    let nodes = dev::nodes(&place.dir)?;
    let (name, context) = store_context(&place.dir, &nodes, home)?;
    let who = (&name, &context);
    let missing: Vec<&DirNode> = nodes.iter().filter(|node| node.pid().is_none()).collect();
    let mut lines: Vec<NodeLine> = Vec::new();
    if missing.is_empty() {
        lines.extend(nodes.iter().map(|node| NodeLine::new(node, "running")));
    } else {
        start(&missing, args.logd.clone())?;
        let is_new = |node: &DirNode| missing.iter().any(|one| one.name == node.name);
        let state = |node: &DirNode| if is_new(node) { "started" } else { "running" };
        lines.extend(nodes.iter().map(|node| NodeLine::new(node, state(node))));
    }
    let all_up = |status: &Status| {
        let is_up = |node: &DirNode| {
            status.nodes.iter().any(|row| row.up && row.name == node.name.as_str())
        };
        // The word of who leads may be older than the list in which it stands.
        let leads =
            |row: &NodeRow| row.name == status.primary && row.node_role() == NodeRole::Primary;
        nodes.iter().all(is_up) && status.nodes.iter().any(leads)
    };
    let waited = dev::wait_until((globals, home), who, &nodes, UP_WITHIN, all_up);
    let status = match waited.await {
        Ok(status) => status,
        Err(error) => {
            // What this command started it takes away again.
            let started: Vec<DirNode> = missing.into_iter().cloned().collect();
            dev::stop_all(&started).await?;
            return Err(error);
        }
    };
    lines.extend(grow(&place.dir, who, &args, (globals, home), out).await?);
    lines.iter_mut().for_each(|line| line.role_from(Some(&status)));
    out.did(format!("the cluster runs, from {}", place.dir.display()));
    out.list(&lines)?;
    out.hand_over();
    advise(&place.dir, (made, lines.len()), &name, &lines, (home, out))
}

/// Adds nodes to the running cluster until there are as many as wanted.
async fn grow(
    dir: &Path,
    who: (&Name, &Context),
    args: &DevUp,
    (globals, home): (&Globals, &Home),
    out: &Out,
) -> Result<Vec<NodeLine>, CtlError> {
    let there = dev::nodes(dir)?.len();
    let wanted = args.nodes.map_or(there, usize::from);
    if wanted < there {
        out.note(&format!("there are {there} nodes; logctl node remove NAME takes one away"));
    }
    let more = dev::free_names(dir, wanted.saturating_sub(there))?;
    if more.is_empty() {
        return Ok(Vec::new());
    }
    let logd = find_logd(args.logd.clone())?;
    let mut lines = Vec::new();
    for name in &more {
        let added = dev::add_node((globals, home), who, (dir, &logd), name).await?;
        out.note(&format!("{name} takes part {} ms after its start", added.took.as_millis()));
        lines.push(NodeLine::new(&added.node, "added"));
    }
    store_context(dir, &dev::nodes(dir)?, home)?;
    Ok(lines)
}

/// Makes the folder's cluster, or what is missing of it. Whether it was new.
fn make(place: &Place, args: &DevUp) -> Result<bool, CtlError> {
    let mark = match place.mark()? {
        Some(mark) => mark,
        None => {
            let nodes = args.nodes.unwrap_or(NODES).min(FIRST_NODES_MAX);
            let base_port = args.base_port.map_or_else(|| free_ports(nodes), Ok)?;
            Mark { nodes, base_port, made: false }
        }
    };
    if let Some(port) = args.base_port.filter(|port| *port != mark.base_port) {
        return Err(CtlError::conflict(
            format!(
                "the cluster in {} has its ports from {} on",
                place.dir.display(),
                mark.base_port
            ),
            format!("logctl dev up --fresh --base-port {port}, which removes its data"),
        ));
    }
    if mark.made {
        return Ok(false);
    }
    let plan = plan(&place.dir, mark)?;
    place.set_mark(mark)?;
    layout::create(&plan, false)?;
    place.set_mark(Mark { made: true, ..mark })?;
    Ok(true)
}

fn plan(dir: &Path, mark: Mark) -> Result<Plan, CtlError> {
    let node = |n: u8| {
        let port = mark.base_port.checked_add(u16::from(n - 1)).ok_or_else(|| {
            CtlError::usage(
                format!("there are no {} ports from {} on", mark.nodes, mark.base_port),
                "give a lower --base-port",
            )
        })?;
        Ok(PlannedNode {
            name: format!("n{n}").parse().map_err(|_| CtlError::unexpected("a node's name"))?,
            address: format!("127.0.0.1:{port}"),
            config: format!("node{n}.toml"),
        })
    };
    let nodes = (1..=mark.nodes).map(node).collect::<Result<_, CtlError>>()?;
    Ok(Plan { dir: dir.to_owned(), nodes, time_servers: Vec::new(), cert_life: None, system: None })
}

fn start(nodes: &[&DirNode], logd: Option<PathBuf>) -> Result<(), CtlError> {
    let logd = find_logd(logd)?;
    nodes.iter().try_for_each(|node| node.start(&logd).map(drop))
}

/// Writes the admin's context. It becomes the current one if there is none.
fn store_context(dir: &Path, nodes: &[DirNode], home: &Home) -> Result<(Name, Context), CtlError> {
    let pki = dir.join("pki");
    let (ca, cert, key) = (pki.join("ca.crt"), pki.join("admin.crt"), pki.join("admin.key"));
    let identity = Credentials::load_any_age(&ca, &cert, &key)?.identity().clone();
    let cluster = identity.cluster.clone();
    let node = |node: &DirNode| Node { name: node.name.clone(), address: node.listen.clone() };
    let context = Context {
        cluster: cluster.clone(),
        name: identity.name,
        role: Role::Admin,
        ca,
        cert,
        key,
        home: None,
        nodes: nodes.iter().map(node).collect(),
    };
    let name: Name =
        CONTEXT.parse().map_err(|_| CtlError::unexpected("the name of the context"))?;
    // A cluster in another folder keeps its context; one that was here, or is gone, does not.
    let taken = home.load(&name)?.is_some_and(|there| {
        there.cluster != cluster && !there.ca.starts_with(dir) && there.ca.exists()
    });
    let short: String = cluster.as_str().chars().take(8).collect();
    let name = match format!("{CONTEXT}-{short}").parse() {
        Ok(second) if taken => second,
        _ => name,
    };
    if home.load(&name)?.as_ref() != Some(&context) {
        home.store(&name, &context)?;
    }
    if home.current()?.is_none() {
        home.set_current(&name)?;
    }
    Ok((name, context))
}

fn advise(
    dir: &Path,
    (made, count): (bool, usize),
    name: &Name,
    lines: &[NodeLine],
    (home, out): (&Home, &Out),
) -> Result<(), CtlError> {
    let changed = lines.iter().filter(|line| line.state != "running").count();
    let dir = dir.display();
    match (made, changed) {
        (true, _) => out.note(&format!("a new cluster is up in {dir}, nodes: {count}")),
        (false, 0) => {
            out.note(&format!("all nodes are running in {dir}; nothing was changed"));
        }
        (false, n) => out.note(&format!("started in {dir}, nodes: {n} of {count}")),
    }
    if home.current()?.as_ref() == Some(name) {
        out.note(&format!("its context is '{name}', the current one"));
    } else {
        out.note(&format!("its context is '{name}': logctl --as {name} status"));
    }
    out.note("clock: local, this machine's own; stamps carry no bounds");
    out.note("logctl dev down stops it");
    Ok(())
}

async fn down(args: &DevDown, home: &Home, out: &mut Out) -> Result<(), CtlError> {
    let dir = folder(&args.place, home)?;
    if !dir.join(MARK).exists() {
        out.note(&format!("there is no cluster of 'logctl dev' in {}", dir.display()));
        return out.list::<NodeLine>(&[]);
    }
    let place = Place::enter(dir)?;
    let nodes = dev::nodes(&place.dir)?;
    let line = |(node, stopped): (&DirNode, Stopped)| {
        let state = match stopped {
            Stopped::WasNot => "was not running",
            Stopped::Asked => "stopped",
            Stopped::Killed => "killed",
        };
        NodeLine::new(node, state)
    };
    let lines: Vec<NodeLine> = nodes.iter().zip(dev::stop_all(&nodes).await?).map(line).collect();
    if args.purge {
        forget(&place, home)?;
        place.empty()?;
        std::fs::remove_dir_all(&place.dir).map_err(CtlError::file("remove", &place.dir))?;
    }
    out.did(format!("the cluster in {} is stopped", place.dir.display()));
    out.list(&lines)?;
    out.hand_over();
    let dir = place.dir.display();
    out.note(&if args.purge {
        format!("{dir} is removed")
    } else {
        format!("the data stays in {dir}; logctl dev up goes on with it")
    });
    Ok(())
}

/// Forgets the contexts of a cluster that is about to be gone: the administrator's, and those of the
/// clients that were registered there, whose files may lie anywhere.
fn forget(place: &Place, home: &Home) -> Result<(), CtlError> {
    let pki = place.dir.join("pki");
    let (ca, cert, key) = (pki.join("ca.crt"), pki.join("admin.crt"), pki.join("admin.key"));
    // A folder that is only half made has none.
    let own = Credentials::load_any_age(&ca, &cert, &key).ok();
    let own = own.map(|credentials| credentials.identity().cluster.clone());
    let here = |context: &Context| {
        context.ca.starts_with(&place.dir) || own.as_ref() == Some(&context.cluster)
    };
    for name in home.contexts()? {
        // A context that cannot be read is not one that this command made.
        if home.load(&name).ok().flatten().as_ref().is_some_and(here) {
            home.remove(&name)?;
        }
    }
    Ok(())
}

async fn status(
    args: &DevDir,
    globals: &Globals,
    home: &Home,
    out: &mut Out,
) -> Result<(), CtlError> {
    let dir = folder(args, home)?;
    let nodes = dev::nodes(&dir)?;
    if nodes.is_empty() || !dir.join(MARK).exists() {
        return Err(CtlError::not_found(
            format!("there is no cluster of 'logctl dev' in {}", dir.display()),
            "logctl dev up",
        ));
    }
    let state = |node: &DirNode| if node.pid().is_some() { "running" } else { "down" };
    let mut lines: Vec<NodeLine> =
        nodes.iter().map(|node| NodeLine::new(node, state(node))).collect();
    let running = lines.iter().filter(|line| line.pid.is_some()).count();
    if running > 0 {
        let (name, context) = store_context(&dir, &nodes, home)?;
        let status = dev::status(globals, home, &name, &context).await.ok();
        lines.iter_mut().for_each(|line| line.role_from(status.as_ref()));
    }
    out.list(&lines)?;
    out.hand_over();
    let (all, hint) = (lines.len(), "logctl dev up");
    match running {
        0 => Err(CtlError::refused(ExitCode::Unreachable, "no node is running", hint)),
        n if n < all => Err(CtlError::refused(
            ExitCode::Degraded,
            format!("{n} of {all} nodes are running"),
            hint,
        )),
        _ => Ok(()),
    }
}
