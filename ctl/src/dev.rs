//! Nodes whose folders lie on this machine: finding them, starting and stopping them.
//!
//! A cluster's folder holds the configurations of its first nodes, `node1.toml` and so on, and below
//! it folders of their own for those that joined, `n4/node.toml`. Beside the configuration of a
//! node `n4` lie `n4.log`, which takes what it prints, and `n4.pid`, which names its process while
//! it runs.
//!
//! Not here: what can be typed (`verb/dev`), what is in a cluster's folder (`layout`).

mod grow;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::member::ring_order;
use proto::wire::{Empty, Op, Reply, Status};
use proto::{ExitCode, Name, Problem, ProblemCode};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cli::Globals;
use crate::context::Context;
use crate::error::CtlError;
use crate::home::Home;
use crate::local::{Stopped, is_running, start_detached, stop_detached};
use crate::session::Session;

pub(crate) use self::grow::{add_node, folder, free_names, home_of, retire};

/// What makes a folder one of `logctl dev`, which may be emptied.
pub(crate) const MARK: &str = "dev.toml";
/// Time that one question may take while a cluster is coming up.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// The configuration of a node that joined from a folder of its own.
const JOINED: &str = "node.toml";
const POLL_EVERY: Duration = Duration::from_millis(50);
/// Longest line of a node's log that is worth repeating.
const LOG_LINE_MAX: usize = 400;

/// A node of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirNode {
    /// Its name.
    pub(crate) name: Name,
    /// `ip:port` that it listens on.
    pub(crate) listen: String,
    /// Its configuration.
    pub(crate) config: PathBuf,
}

/// The keys of a configuration that matter here; the daemon reads the rest.
#[derive(Debug, Deserialize)]
struct Keys {
    node: String,
    listen: String,
}

impl DirNode {
    /// The node of a configuration file.
    ///
    /// # Errors
    /// Exit code 1 if it cannot be read, 2 if it is no configuration of a node.
    pub(crate) fn read(config: &Path) -> Result<Self, CtlError> {
        let text = std::fs::read_to_string(config).map_err(CtlError::file("read", config))?;
        let bad = |why: String| {
            CtlError::usage(
                format!("{}: {}", config.display(), why.trim_end()),
                format!("logd --config {} --check-config", config.display()),
            )
        };
        let keys: Keys = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
        let name =
            keys.node.parse().map_err(|error: proto::name::NameError| bad(error.to_string()))?;
        Ok(Self { name, listen: keys.listen, config: config.to_owned() })
    }

    /// What it prints.
    pub(crate) fn log(&self) -> PathBuf {
        self.config.with_file_name(format!("{}.log", self.name))
    }

    /// What names its process.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.config.with_file_name(format!("{}.pid", self.name))
    }

    /// Its process, if that runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        is_running(&self.pid_file())
    }

    /// Starts it; it goes on when this command ends. Returns its process id.
    ///
    /// # Errors
    /// See [`start_detached`].
    pub(crate) fn start(&self, logd: &Path) -> Result<u32, CtlError> {
        start_detached(logd, &self.config, &self.log(), &self.pid_file())
    }

    /// Stops it, if it runs.
    ///
    /// # Errors
    /// See [`stop_detached`].
    pub(crate) async fn stop(&self) -> Result<Stopped, CtlError> {
        stop_detached(&self.pid_file()).await
    }

    /// Why it is not running any more, as the end of its log says.
    pub(crate) fn ended(&self) -> CtlError {
        let log = self.log();
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let last = text.lines().rfind(|line| !line.is_empty()).unwrap_or("(empty)");
        let last: String = last.chars().take(LOG_LINE_MAX).collect();
        CtlError::refused(
            ExitCode::Other,
            format!("{} ended; the end of its log: {last}", self.name),
            format!("less {}", log.display()),
        )
    }
}

/// The folder of `logctl dev` that a node's configuration lies in, if it is of one: its clock is this
/// machine's own on purpose, and one command starts what is down.
pub(crate) fn made_for(config: &Path) -> Option<&Path> {
    // The file of a node that joined lies in a folder of its own below it.
    config.ancestors().skip(1).take(2).find(|dir| dir.join(MARK).is_file())
}

/// What starts the nodes of such a folder.
pub(crate) fn start_hint(dir: &Path, home: &Home) -> String {
    if dir == home.state_folder().join("dev") {
        "logctl dev up".to_owned()
    } else {
        format!("logctl dev up --dir {}", dir.display())
    }
}

/// The nodes that have a configuration in a folder or in one below it, in the order in which people
/// count; none if there is no such folder.
///
/// # Errors
/// When the folder or a configuration cannot be read.
pub(crate) fn nodes(dir: &Path) -> Result<Vec<DirNode>, CtlError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CtlError::file("list", dir)(error)),
    };
    let mut nodes = Vec::new();
    for entry in entries {
        let path = entry.map_err(CtlError::file("list", dir))?.path();
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if file.starts_with("node") && file.ends_with(".toml") {
            nodes.push(DirNode::read(&path)?);
        } else if path.join(JOINED).is_file() {
            nodes.push(DirNode::read(&path.join(JOINED))?);
        }
    }
    nodes.sort_by(|a, b| ring_order(a.name.as_str(), b.name.as_str()));
    Ok(nodes)
}

/// Stops nodes at the same time; how each of them ended, in their order.
///
/// # Errors
/// The first one's; all are asked to stop all the same.
pub(crate) async fn stop_all(nodes: &[DirNode]) -> Result<Vec<Stopped>, CtlError> {
    let mut stopping = JoinSet::new();
    for (at, node) in nodes.iter().cloned().enumerate() {
        stopping.spawn(async move { (at, node.stop().await) });
    }
    let mut ended = stopping.join_all().await;
    ended.sort_by_key(|(at, _)| *at);
    ended.into_iter().map(|(_, stopped)| stopped).collect()
}

/// Asks the cluster how it is, once, as a given context.
///
/// # Errors
/// When nobody answers within 2 s.
pub(crate) async fn status(
    globals: &Globals,
    home: &Home,
    name: &Name,
    context: &Context,
) -> Result<Status, CtlError> {
    let globals = Globals { timeout: ASK_WITHIN, ..globals.clone() };
    let session = Session::with(&globals, home, name, context.clone(), None)?;
    let answer = session.call(Op::Status(Empty {})).await;
    session.close().await;
    match answer? {
        (_, Reply::Status(status)) => Ok(status),
        _ => Err(CtlError::unexpected("no status")),
    }
}

/// Waits until a primary with a majority leads, has noted these nodes, and `wanted` holds of the cluster's
/// health: then `logctl status` has nothing to say of its start any more. A node
/// of these whose process ends meanwhile is an error at once.
///
/// # Errors
/// Exit code 7 when it takes longer than `within`.
pub(crate) async fn wait_until(
    (globals, home): (&Globals, &Home),
    (name, context): (&Name, &Context),
    nodes: &[DirNode],
    within: Duration,
    wanted: impl Fn(&Status) -> bool,
) -> Result<Status, CtlError> {
    let give_up = Instant::now() + within;
    loop {
        if let Some(ended) = nodes.iter().find(|node| node.pid().is_none()) {
            return Err(ended.ended());
        }
        let last = match status(globals, home, name, context).await {
            Ok(status) if is_led(&status) && are_noted(&status, nodes) && wanted(&status) => {
                return Ok(status);
            }
            Ok(status) if status.problems.is_empty() => "not all nodes are there".to_owned(),
            Ok(status) => views::health::sentences(&status.problems),
            Err(error) => error.line(),
        };
        if Instant::now() > give_up {
            return Err(CtlError::refused(
                ExitCode::Unknown,
                format!("waited {} s for the cluster: {last}", within.as_secs()),
                "logctl status; the nodes' logs lie beside their configurations",
            ));
        }
        sleep(POLL_EVERY).await;
    }
}

fn is_led(status: &Status) -> bool {
    !status.primary.is_empty() && status.quorum
}

/// Whether the cluster's table says of all of these that they are there: it is written a moment after they
/// are seen.
fn are_noted(status: &Status, nodes: &[DirNode]) -> bool {
    let is_one = |problem: &Problem| nodes.iter().any(|node| node.name.as_str() == problem.subject);
    let missing = |problem: &Problem| problem.kind() == ProblemCode::NodeNotNoted;
    !status.problems.iter().any(|problem| missing(problem) && is_one(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with every node that is up taken for noted: `status` right after `dev up` ended with 10.
    #[test]
    fn nodes_are_waited_for_until_the_table_says_so() {
        let node = |name: &str| DirNode {
            name: name.parse().unwrap(),
            listen: String::new(),
            config: PathBuf::new(),
        };
        let of = |kind| Status { problems: vec![Problem::new(kind).of("n2")], ..Status::default() };
        let nodes = [node("n1"), node("n2")];
        assert!(!are_noted(&of(ProblemCode::NodeNotNoted), &nodes));
        assert!(are_noted(&of(ProblemCode::NodeNotNoted), &nodes[..1]), "another node's matter");
        assert!(are_noted(&of(ProblemCode::DiskSlow), &nodes));
    }

    #[test]
    fn nodes_are_found_and_counted_as_people_do() {
        let dir = tempfile::tempdir().unwrap();
        for n in [10, 2, 1] {
            let text = format!("node = \"n{n}\"\nlisten = \"127.0.0.1:{n}\"\n[tls]\nca = \"x\"\n");
            std::fs::write(dir.path().join(format!("node{n}.toml")), text).unwrap();
        }
        assert_eq!(made_for(&dir.path().join("node1.toml")), None);
        std::fs::write(dir.path().join(MARK), "nodes = 3\n").unwrap();
        for config in ["node1.toml", "n4/node.toml"] {
            assert_eq!(made_for(&dir.path().join(config)), Some(dir.path()), "{config}");
        }
        let found = nodes(dir.path()).unwrap();
        let names: Vec<&str> = found.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["n1", "n2", "n10"]);
        assert_eq!(found[1].listen, "127.0.0.1:2");
        assert_eq!(found[1].pid_file(), dir.path().join("n2.pid"));
        assert!(found[1].ended().line().contains("(empty)"));
        assert_eq!(nodes(&dir.path().join("none")).unwrap(), []);
    }

    #[test]
    fn another_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("node1.toml"), "node = \"N 1\"\nlisten = \"\"\n").unwrap();
        let error = nodes(dir.path()).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Usage);
        assert!(error.line().contains("node1.toml"), "{}", error.line());
    }
}
