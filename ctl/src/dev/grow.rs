//! Nodes that come to a cluster of this machine, and nodes that go from it.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use net::join::{JoinRequest, JoinRole, join};
use proto::join::JoinNode;
use proto::limits::VOTERS_MAX;
use proto::member::MemberWants;
use proto::token::JoinToken;
use proto::wire::Status;
use proto::{Name, Role};
use tokio::time::Instant;
use uuid::Uuid;

use super::{DirNode, nodes, wait_until};
use crate::cli::Globals;
use crate::context::Context;
use crate::error::CtlError;
use crate::home::{Home, make_private_dir};
use crate::join_folder::{Begun, Folder};
use crate::join_token::{TokenSpec, make_token};
use crate::local::free_ports;
use crate::session::Session;

/// Life of the token that a node joins with at once.
const TOKEN_TTL: Duration = Duration::from_secs(600);
/// Longest time from a node's start to its vote.
const VOTER_WITHIN: Duration = Duration::from_secs(60);
/// Where the files of removed nodes go.
const REMOVED: &str = "removed";

/// A node that has come.
#[derive(Debug)]
pub(crate) struct Added {
    /// The node.
    pub(crate) node: DirNode,
    /// Its process.
    pub(crate) pid: u32,
    /// From its start until it had its vote, or took part where there are votes enough.
    pub(crate) took: Duration,
}

/// The folder of a context's cluster, if it was made on this machine.
pub(crate) fn home_of(home: &Home, context: &Context) -> Option<PathBuf> {
    let ca = home.folder().join(&context.ca);
    let pki = ca.parent().filter(|pki| pki.file_name() == Some(OsStr::new("pki")))?;
    pki.parent().map(Path::to_owned)
}

/// The same, if its nodes run on this machine: made by `logctl dev up` or `logctl cluster create
/// --start`, and one of them at least is running.
pub(crate) fn folder(home: &Home, context: &Context) -> Option<PathBuf> {
    let dir = home_of(home, context)?;
    let nodes = nodes(&dir).ok()?;
    nodes.iter().any(|node| node.pid().is_some()).then_some(dir)
}

/// Adds a node to a running cluster of this machine: makes a token for it, joins with it from a
/// folder of its own below `dir`, starts it, and waits until it votes.
///
/// # Errors
/// When the cluster refuses it, or it does not get its vote within a minute.
pub(crate) async fn add_node(
    (globals, home): (&Globals, &Home),
    (context_name, context): (&Name, &Context),
    (dir, logd): (&Path, &Path),
    name: &Name,
) -> Result<Added, CtlError> {
    let session =
        Session::with(globals, home, context_name, context.clone(), globals.via.as_ref())?;
    let spec = TokenSpec { role: Role::Node, uses: 1, ttl: TOKEN_TTL, name: Some(name.clone()) };
    let token = make_token(&session, home, &spec).await;
    session.close().await;
    let node = join_from(&dir.join(name.as_str()), name, &token?, globals.timeout).await?;
    let started = Instant::now();
    let pid = node.start(logd)?;
    let own = [node];
    let takes_part = |status: &Status| {
        let voters = status.nodes.iter().filter(|row| row.voter).count();
        let fits = |row: &&proto::wire::NodeRow| row.up && (row.voter || voters >= VOTERS_MAX);
        status.nodes.iter().filter(|row| row.name == name.as_str()).any(|row| fits(&row))
    };
    let who = (context_name, context);
    wait_until((globals, home), who, &own, VOTER_WITHIN, takes_part).await?;
    let [node] = own;
    Ok(Added { node, pid, took: started.elapsed() })
}

/// Lets a node in and writes its folder; it listens on a free port of loopback.
async fn join_from(
    dir: &Path,
    name: &Name,
    token: &JoinToken,
    time: Duration,
) -> Result<DirNode, CtlError> {
    let folder = Folder::new(dir.to_owned(), name.clone());
    let before = folder.begun(token)?;
    if folder.is_complete() {
        return DirNode::read(&folder.config());
    }
    let begun = match &before {
        Some(begun) => begun.clone(),
        None => {
            let listen = format!("127.0.0.1:{}", free_ports(1)?);
            Begun {
                cluster: token.cluster.to_string(),
                node: name.to_string(),
                incarnation: Uuid::new_v4().to_string(),
                listen: listen.clone(),
                advertise: listen,
            }
        }
    };
    let unexpected = |what: &str| CtlError::unexpected(what);
    let listen: SocketAddr = begun.listen.parse().map_err(|_| unexpected("an address"))?;
    let incarnation =
        Uuid::parse_str(&begun.incarnation).map_err(|_| unexpected("an incarnation"))?;
    let node = JoinNode {
        address: begun.advertise.clone(),
        incarnation: incarnation.into_bytes().to_vec(),
        wants: MemberWants::Voter.into(),
        priority: None,
    };
    let request = JoinRequest {
        name: name.clone(),
        csr: folder.begin(&begun)?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: JoinRole::Node { node, listen },
        time,
    };
    match join(token, &request).await {
        Ok(admitted) => folder.complete(&begun, &admitted, &[])?,
        Err(error) => {
            if before.is_none() && error.nothing_done() {
                folder.forget();
            }
            return Err(error.into());
        }
    }
    DirNode::read(&folder.config())
}

/// Stops removed nodes and puts their files aside, so that nothing starts them again. The names may
/// come back later, with new files.
///
/// # Errors
/// When a process does not end, or a file cannot be moved.
pub(crate) async fn retire(dir: &Path, names: &[String]) -> Result<Vec<DirNode>, CtlError> {
    let mut gone = nodes(dir)?;
    gone.retain(|node| names.iter().any(|name| name == node.name.as_str()));
    for node in &gone {
        node.stop().await?;
        let mut aside = Uuid::new_v4().simple().to_string();
        aside.truncate(8);
        let aside = dir.join(REMOVED).join(format!("{}-{aside}", node.name));
        let own = node.config.parent().filter(|own| *own != dir);
        if let Some(own) = own {
            make_private_dir(&dir.join(REMOVED))?;
            std::fs::rename(own, &aside).map_err(CtlError::file("put aside", own))?;
            continue;
        }
        make_private_dir(&aside)?;
        let (pki, name) = (dir.join("pki"), &node.name);
        let files = [
            node.config.clone(),
            node.log(),
            dir.join("data").join(name.as_str()),
            pki.join(format!("{name}.crt")),
            pki.join(format!("{name}.key")),
        ];
        for file in files.iter().filter(|file| file.exists()) {
            let to = aside.join(file.file_name().unwrap_or_default());
            std::fs::rename(file, to).map_err(CtlError::file("put aside", file))?;
        }
    }
    Ok(gone)
}

/// The next `count` names `n1`, `n2` and so on that no node in the folder has or had.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn free_names(dir: &Path, count: usize) -> Result<Vec<Name>, CtlError> {
    let there = nodes(dir)?;
    let removed: Vec<String> = std::fs::read_dir(dir.join(REMOVED))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let is_free = |name: &Name| {
        there.iter().all(|node| node.name != *name)
            && removed.iter().all(|gone| !gone.starts_with(&format!("{name}-")))
    };
    let names = (1_u32..).filter_map(|n| format!("n{n}").parse().ok());
    Ok(names.filter(is_free).take(count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: &Path, name: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = format!("node = \"{name}\"\nlisten = \"127.0.0.1:1\"\n");
        std::fs::write(path, text).unwrap();
    }

    /// Seen to fail with the names of removed nodes given again.
    #[tokio::test]
    async fn removed_nodes_are_put_aside_and_their_names_not_given_again() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        config(&dir.join("node1.toml"), "n1");
        config(&dir.join("node2.toml"), "n2");
        config(&dir.join("n3").join("node.toml"), "n3");
        std::fs::create_dir_all(dir.join("data/n2")).unwrap();
        std::fs::create_dir_all(dir.join("pki")).unwrap();
        std::fs::write(dir.join("pki/n2.key"), "secret").unwrap();
        let names = |nodes: &[DirNode]| -> Vec<String> {
            nodes.iter().map(|node| node.name.to_string()).collect()
        };
        assert_eq!(names(&nodes(dir).unwrap()), ["n1", "n2", "n3"]);
        let gone = retire(dir, &["n2".to_owned(), "n3".to_owned()]).await.unwrap();
        assert_eq!(names(&gone), ["n2", "n3"]);
        assert_eq!(names(&nodes(dir).unwrap()), ["n1"]);
        assert!(!dir.join("data/n2").exists() && !dir.join("pki/n2.key").exists());
        assert_eq!(std::fs::read_dir(dir.join(REMOVED)).unwrap().count(), 2);
        let free = free_names(dir, 2).unwrap();
        assert_eq!(free.iter().map(Name::as_str).collect::<Vec<_>>(), ["n4", "n5"]);
    }
}
