//! What both rows do with a cluster: start it, wait until it serves again, and compare.

use std::path::Path;

use proto::ProblemCode;
use proto::wire::Status;
use tests::{Cluster, History, checks, until};

use crate::damage::REPAIR;
use crate::run::Stop;

/// Who sends, each over a connection of its own.
pub(crate) const SENDERS: [&str; 3] = ["alice", "bob", "carol"];
/// Sends of each that are open at a time.
pub(crate) const WORKERS: usize = 8;
/// To whom.
pub(crate) const TO: &str = "bob";
/// Exit code of a daemon whose port somebody else has.
const PORT_TAKEN: i32 = 3;
/// Clusters that are tried if others take the ports.
const ATTEMPTS: u32 = 5;

/// A healthy cluster whose nodes store what they have on `disk`; the rest lies below `work`.
pub(crate) fn start(disk: &Path, work: &Path, nodes: u16) -> Result<Cluster, Stop> {
    for attempt in 0..ATTEMPTS {
        let dir = disk.join(format!("cluster-{attempt}"));
        let mut cluster = Cluster::create_at(dir, work, nodes)?;
        if cluster.start_and_settle()? {
            cluster.register(&SENDERS)?;
            return Ok(cluster);
        }
    }
    Err(Stop::Broken(anyhow::anyhow!("the ports were taken {ATTEMPTS} times")))
}

/// Starts who does not run, and waits until all see a healthy cluster. A node that doubts its store
/// is a violation: it lost nothing that it may not lose.
pub(crate) fn settle(cluster: &mut Cluster) -> Result<(), Stop> {
    cluster.start_all()?;
    let found = until("a healthy cluster", || {
        let stopped = cluster.names().into_iter().find_map(|name| {
            let node = cluster.node(&name).ok()?;
            // It runs, or says how it ended.
            if node.is_running().unwrap_or(true) { None } else { Some((name, node.ended())) }
        });
        if let Some((name, ended)) = stopped {
            let ended = ended.map_err(|error| error.to_string())?;
            let text = format!("{name} ended with {ended}");
            let broken = ended.code() == Some(PORT_TAKEN);
            let stop = || Stop::Broken(anyhow::anyhow!("{text}: its port was taken"));
            return Ok(Some(if broken { stop() } else { Stop::violated(&text) }));
        }
        let doubt = cluster.names().into_iter().find_map(|name| {
            // One that does not answer yet is asked again.
            doubt(&cluster.status(&name).ok()?)
        });
        if let Some(doubt) = doubt {
            return Ok(Some(Stop::violated(doubt)));
        }
        cluster.healthy().map(|()| None)
    });
    match found.map_err(Stop::violated)? {
        Some(stop) => Err(stop),
        None => Ok(()),
    }
}

/// What a status says against a store.
fn doubt(status: &Status) -> Option<String> {
    let repairing = status.nodes.iter().find(|row| row.role == "repairing");
    let repairing = repairing.map(|row| format!("{} is repairing: {}", row.name, row.reason));
    let of_store = |kind| {
        use ProblemCode as P;
        matches!(kind, P::Damaged | P::StoreLacks | P::TwoHistories | P::TwoLives | P::MemoryLost)
    };
    let problem = status.problems.iter().find(|problem| of_store(problem.kind()));
    repairing.or_else(|| problem.map(|problem| format!("{problem:?}")))
}

/// Compares what the senders were told with what all nodes hold.
pub(crate) fn compare(cluster: &Cluster, history: &History) -> Result<(), Stop> {
    cluster.wait_level().map_err(Stop::violated)?;
    // One that was repaired and is healthy again doubted a store that nothing had happened to.
    let events = cluster.events("n1").map_err(Stop::violated)?;
    let repairs = events.iter().filter(|event| event.kind == REPAIR);
    holds(repairs.map(|event| event.text.clone()).collect())?;
    let nodes = cluster.all_records().map_err(Stop::violated)?;
    holds(checks::all(history, &nodes))
}

/// Nothing must be wrong.
pub(crate) fn holds(wrong: Vec<String>) -> Result<(), Stop> {
    if wrong.is_empty() { Ok(()) } else { Err(Stop::Violated(wrong)) }
}

/// No node may have panicked.
pub(crate) fn nobody_panicked(cluster: &mut Cluster) -> Result<(), Stop> {
    for name in cluster.names() {
        holds(checks::nobody_panicked(&cluster.node(&name)?.log()))?;
    }
    Ok(())
}
