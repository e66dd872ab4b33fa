//! Real processes on this machine. The demo's cluster leaves nothing behind when it is dropped: no
//! process, no port, no file. Nodes of other local clusters outlive the command (`detached`).

mod detached;

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proto::ExitCode;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::error::CtlError;
use crate::home::make_private_dir;

pub(crate) use self::detached::{Stopped, is_running, start_detached, stop_detached};

/// Time for all nodes to stop when asked; they hand over and flush.
const STOP_WITHIN: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(20);
/// Draws of a row of ports before we give up; one is nearly always enough.
const PORT_DRAWS: usize = 100;

/// Processes and their folder.
pub(crate) struct LocalCluster {
    dir: PathBuf,
    logd: PathBuf,
    nodes: Vec<LocalNode>,
    keep: Keep,
}

/// What stays when the cluster is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    Files,
    Everything,
}

struct LocalNode {
    name: String,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl LocalCluster {
    /// A folder of its own for nodes `n1` to `n<count>`; nothing runs yet.
    pub(crate) fn new(logd: PathBuf, count: u8) -> Result<Self, CtlError> {
        let dir = std::env::temp_dir().join(format!("logd-demo-{}", uuid::Uuid::now_v7().simple()));
        make_private_dir(&dir)?;
        let node = |n: u8| LocalNode {
            name: format!("n{n}"),
            config: dir.join(format!("node{n}.toml")),
            log: dir.join(format!("n{n}.log")),
            child: None,
        };
        let nodes = (1..=count).map(node).collect();
        Ok(Self { dir, logd, nodes, keep: Keep::Nothing })
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names of the nodes.
    pub(crate) fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// The command line of a node, as a person would type it.
    pub(crate) fn command_line(&self, name: &str) -> String {
        let node = self.nodes.iter().find(|node| node.name == name);
        let config = node.map(|node| node.config.display().to_string()).unwrap_or_default();
        format!("logd --config {config} &")
    }

    /// Starts a node; its output goes into a file beside its configuration.
    pub(crate) fn start(&mut self, name: &str) -> Result<(), CtlError> {
        let logd = self.logd.clone();
        let node = self.node(name)?;
        let log = File::options()
            .append(true)
            .create(true)
            .open(&node.log)
            .map_err(CtlError::file("write", &node.log))?;
        let errors = log.try_clone().map_err(CtlError::file("write", &node.log))?;
        let child = Command::new(&logd)
            .arg("--config")
            .arg(&node.config)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Its own group: Ctrl-C reaches us, and we stop the nodes in order.
            .process_group(0)
            .spawn()
            .map_err(CtlError::file("start", &logd))?;
        node.child = Some(child);
        Ok(())
    }

    /// Configuration of a node.
    pub(crate) fn config(&self, name: &str) -> Option<&Path> {
        self.nodes.iter().find(|node| node.name == name).map(|node| node.config.as_path())
    }

    /// Process id of a running node.
    pub(crate) fn pid(&self, name: &str) -> Option<u32> {
        self.nodes.iter().find(|node| node.name == name)?.child.as_ref().map(Child::id)
    }

    /// Takes a node in that was made by somebody else.
    pub(crate) fn adopt(&mut self, name: &str, config: PathBuf) {
        let log = self.dir.join(format!("{name}.log"));
        self.nodes.push(LocalNode { name: name.to_owned(), config, log, child: None });
    }

    /// Asks one node to stop, waits for it, and ends it if it does not.
    pub(crate) async fn stop_node(&mut self, name: &str) -> Result<(), CtlError> {
        let node = self.node(name)?;
        stop(std::slice::from_mut(node)).await;
        Ok(())
    }

    /// Ends a node as a power cut would: no signal handler, no flush.
    pub(crate) fn kill(&mut self, name: &str) -> Result<(), CtlError> {
        let node = self.node(name)?;
        node.kill();
        Ok(())
    }

    /// Fails if a node that should run has ended, with the end of its log.
    pub(crate) fn check_alive(&mut self) -> Result<(), CtlError> {
        for node in &mut self.nodes {
            let Some(child) = &mut node.child else { continue };
            let Ok(Some(status)) = child.try_wait() else { continue };
            node.child = None;
            let log = std::fs::read_to_string(&node.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last: String = lines.last().unwrap_or(&"(empty)").chars().take(400).collect();
            return Err(CtlError::refused(
                ExitCode::Other,
                format!("{} ended with {status}; the end of its log: {last}", node.name),
                "logctl demo --keep keeps the logs even when it fails",
            ));
        }
        Ok(())
    }

    /// Asks all nodes to stop, waits for them, and ends those that do not. Returns how many had to
    /// be ended.
    pub(crate) async fn stop(&mut self) -> usize {
        stop(&mut self.nodes).await
    }

    /// Leaves the files behind when dropped.
    pub(crate) fn keep_files(&mut self) {
        self.keep = Keep::Files;
    }

    /// Leaves processes and files behind when dropped. Returns the process ids.
    pub(crate) fn keep_running(&mut self) -> Vec<u32> {
        self.keep = Keep::Everything;
        self.nodes.iter().filter_map(|node| node.child.as_ref().map(Child::id)).collect()
    }

    fn node(&mut self, name: &str) -> Result<&mut LocalNode, CtlError> {
        self.nodes
            .iter_mut()
            .find(|node| node.name == name)
            .ok_or_else(|| CtlError::unexpected(&format!("a node called '{name}'")))
    }
}

async fn stop(nodes: &mut [LocalNode]) -> usize {
    for node in &*nodes {
        let id = node.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            // One that has just ended by itself is stopped too.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    let give_up = Instant::now() + STOP_WITHIN;
    while nodes.iter_mut().any(|node| node.is_running()) && Instant::now() < give_up {
        sleep(POLL_EVERY).await;
    }
    let stubborn = nodes.iter_mut().filter_map(|node| node.is_running().then_some(node));
    stubborn.map(|node| node.kill()).count()
}

impl LocalNode {
    fn is_running(&mut self) -> bool {
        let running = self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        if !running {
            self.child = None;
        }
        running
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only for a process that is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if self.keep == Keep::Everything {
            return;
        }
        self.nodes.iter_mut().for_each(LocalNode::kill);
        if self.keep == Keep::Nothing {
            // A folder that cannot be removed is in the temporary folder, where it does no harm.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Finds the daemon: the path given, next to this binary, or in PATH.
///
/// # Errors
/// Exit code 5.
pub(crate) fn find_logd(given: Option<PathBuf>) -> Result<PathBuf, CtlError> {
    if let Some(path) = given {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(CtlError::not_found(
                format!("there is no {}", path.display()),
                "give --logd the path of the daemon",
            ))
        };
    }
    let beside = std::env::current_exe().ok().map(|me| me.with_file_name("logd"));
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&paths).map(|folder| folder.join("logd"));
    beside.into_iter().chain(in_path).find(|path| path.is_file()).ok_or_else(|| {
        CtlError::not_found(
            "logd is neither next to logctl nor in PATH",
            "build it (cargo build --release), or give --logd PATH",
        )
    })
}

/// Takes the ports of a node for a moment: UDP, and TCP of the same number for HTTPS.
///
/// # Errors
/// Why one of them cannot be had.
pub(crate) fn take_ports(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let said = |protocol: &str, error: io::Error| {
        io::Error::new(error.kind(), format!("{protocol} {address}: {error}"))
    };
    let udp = UdpSocket::bind(address).map_err(|error| said("UDP", error))?;
    // With the number that was given, if any will do.
    let address = udp.local_addr()?;
    Ok((udp, TcpListener::bind(address).map_err(|error| said("TCP", error))?))
}

/// The first of `count` ports in a row that nobody uses on loopback.
pub(crate) fn free_ports(count: u8) -> Result<u16, CtlError> {
    let bind = |port: u16| take_ports(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    for _ in 0..PORT_DRAWS {
        let Ok(first) = bind(0) else { continue };
        let Ok(base) = first.0.local_addr().map(|address| address.port()) else { continue };
        // All are held until the row is complete.
        let rest = (1..u16::from(count)).map(|n| bind(base.checked_add(n)?).ok());
        if rest.collect::<Option<Vec<_>>>().is_some() {
            return Ok(base);
        }
    }
    Err(CtlError::refused(
        ExitCode::Other,
        "no free ports on 127.0.0.1",
        "ss -ltun shows what uses them",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_can_be_bound() {
        let base = free_ports(3).unwrap();
        assert!(base > 0);
    }

    #[test]
    fn a_missing_daemon_is_named() {
        let error = find_logd(Some("/nonexistent/logd".into())).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::NotFound);
        assert!(error.line().contains("/nonexistent/logd"));
    }

    #[test]
    fn nothing_is_left_behind() {
        let mut cluster = LocalCluster::new("/bin/cat".into(), 1).unwrap();
        let dir = cluster.dir().to_owned();
        // A process that ends at once, for its --config is no option of cat.
        cluster.start("n1").unwrap();
        while cluster.check_alive().is_ok() {
            std::thread::yield_now();
        }
        drop(cluster);
        assert!(!dir.exists());
    }
}
