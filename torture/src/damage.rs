//! A cluster at rest of which one node's disk is then not what it was: the node must be right, or come back
//! with a new store within a minute, and all hold everything.

use std::fs;
use std::path::{Path, PathBuf};

use proto::{Problem, ProblemCode};
use tests::patience::when;
use tests::{Cluster, Load, checks, segments, until};

use crate::cluster::{SENDERS, TO, holds, start};
use crate::run::Stop;
use crate::work::tool;

/// The node whose disk it is.
pub(crate) const NODE: &str = "n3";
/// Kind of the events that tell of a repair.
pub(crate) const REPAIR: &str = "repair";
/// Exit code after a panic.
const PANICKED: i32 = 101;

/// What became of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All call it healthy.
    Healthy,
    /// It goes on without something that it knew of the others, and says so.
    Told,
    /// It took no part, has come back with a new store, and all call it healthy.
    Repaired,
    /// It has refused to start, with this exit code.
    Refused(i32),
}

/// A cluster, and what its nodes held when it was at rest.
pub(crate) struct AtRest {
    pub(crate) cluster: Cluster,
    base: PathBuf,
    history: tests::History,
    /// Sends until then.
    at_rest: usize,
    /// Groups of the node's log that the others have noted, on their disks, that it has; see
    /// [`AtRest::remembered`].
    pub(crate) known_groups: usize,
}

/// Whether a store has noted the sums of all its tables, which it does within seconds. A bit that turns
/// over before is seen by whoever reads its block, and the last blocks of a table may never be read.
fn tables_are_noted(store: &Path) -> Result<(), String> {
    // There is no list where there is no table.
    let noted = fs::read(store.join("tables")).unwrap_or_default();
    let noted = String::from_utf8_lossy(&noted);
    for entry in fs::read_dir(store.join("db")).map_err(|error| error.to_string())? {
        let name = entry.map_err(|error| error.to_string())?.file_name();
        let name = name.to_string_lossy();
        when(!name.ends_with(".sst") || noted.contains(&*name), format!("{name} is not"))?;
    }
    Ok(())
}

impl AtRest {
    /// Starts a cluster of three, lets it take so many sends, and stops it. With `in_turn` they come one
    /// after the other, all are in the log, and the others remember that. Otherwise a node puts them into
    /// tables, and half as many follow.
    pub(crate) fn make(disk: &Path, work: &Path, acks: u64, in_turn: bool) -> Result<Self, Stop> {
        let cluster = start(disk, work, 3)?;
        let (base, history) = (disk.join("base"), tests::History::default());
        let mut at_rest = Self { cluster, base, history, at_rest: 0, known_groups: 0 };
        at_rest.send(acks, in_turn, "first")?;
        if !in_turn {
            at_rest.cluster.user().ok(&["compact", "-y", "--via", NODE])?;
            at_rest.send(acks / 2, in_turn, "second")?;
        }
        let store = at_rest.cluster.data(NODE).join("store");
        until("all tables are noted", || tables_are_noted(&store)).map_err(Stop::violated)?;
        if in_turn {
            let newest = segments::newest(&at_rest.cluster.data(NODE))?;
            at_rest.known_groups = segments::group_starts(&fs::read(newest)?).len();
            at_rest.remembered()?;
        }
        at_rest.stop()?;
        copy(&at_rest.cluster.dir(), &at_rest.base)?;
        at_rest.at_rest = at_rest.history.attempts.len();
        Ok(at_rest)
    }

    /// Lets it take sends.
    pub(crate) fn send(&mut self, acks: u64, in_turn: bool, prefix: &str) -> Result<(), Stop> {
        let (senders, workers) = if in_turn { (&SENDERS[..1], 1) } else { (&SENDERS[..], 2) };
        let load = Load::start(&self.cluster, senders, workers, TO, prefix)?;
        load.wait_more(acks).map_err(Stop::violated)?;
        self.history.attempts.extend(load.finish(&self.cluster)?.attempts);
        self.cluster.wait_level().map_err(Stop::violated)
    }

    /// Waits until the others have noted, on their disks, all that the node holds now. What it has written
    /// within the last second before all are killed nobody may know of (docs/promises.md, P6).
    fn remembered(&mut self) -> Result<(), Stop> {
        let others: Vec<_> = self.cluster.names().into_iter().filter(|name| name != NODE).collect();
        let saved = |cluster: &Cluster| -> anyhow::Result<Vec<_>> {
            let file = |name: &String| cluster.data(name).join("store/remembered");
            others.iter().map(|name| Ok(fs::metadata(file(name))?.modified()?)).collect()
        };
        // The first may have begun before the others heard of the end; the second comes a second later.
        for number in 0..2 {
            let before = saved(&self.cluster)?;
            self.send(1, true, &format!("remembered{number}"))?;
            until("what the others remember is saved", || {
                let now = saved(&self.cluster).map_err(|error| format!("{error:#}"))?;
                let saved = now.iter().zip(&before).all(|(now, before)| now > before);
                when(saved, format!("{before:?}, {now:?}"))
            })
            .map_err(Stop::violated)?;
        }
        Ok(())
    }

    /// Kills all.
    pub(crate) fn stop(&mut self) -> Result<(), Stop> {
        let names = self.cluster.names();
        let runs =
            |name: &String| self.cluster.node(name).is_ok_and(|n| n.is_running().is_ok_and(|r| r));
        let running: Vec<_> = names.into_iter().filter(runs).collect();
        Ok(self.cluster.kill_together(&running)?)
    }

    /// Gives all nodes, which do not run, what they had at rest.
    pub(crate) fn put_back(&self) -> Result<(), Stop> {
        fs::remove_dir_all(self.cluster.dir())?;
        Ok(copy(&self.base, &self.cluster.dir())?)
    }

    /// Gives one node the store that it had at rest, and nothing else.
    pub(crate) fn put_back_store(&self, node: &str) -> Result<(), Stop> {
        let data = self.cluster.data(node);
        fs::remove_dir_all(&data)?;
        Ok(copy(&self.base.join("data").join(node), &data)?)
    }

    /// Forgets what was sent since it was at rest: nobody holds that any more.
    pub(crate) fn forget_since_base(&mut self) {
        self.history.attempts.truncate(self.at_rest);
    }

    /// Acknowledged sends so far.
    pub(crate) fn acks(&self) -> u64 {
        self.history.acked().count() as u64
    }

    /// Starts all, waits until it shows what became of the node, and checks that everything is where it
    /// must be.
    pub(crate) fn judge(&mut self, what: &str) -> Result<Verdict, Stop> {
        self.cluster.start_all()?;
        let verdict = until(&format!("what becomes of {NODE} after {what}"), || {
            self.verdict().map_err(|error| format!("{error:#}"))
        });
        let verdict = verdict.map_err(Stop::violated)?;
        let nodes = match verdict {
            Verdict::Refused(code) if code == PANICKED || code < 0 => {
                return Err(Stop::violated(format!("{what}: {NODE} ended with {code}")));
            }
            Verdict::Refused(_) => vec!["n1", "n2"],
            Verdict::Healthy | Verdict::Told | Verdict::Repaired => vec!["n1", "n2", NODE],
        };
        if nodes.contains(&NODE) && verdict != Verdict::Told {
            self.cluster.wait_level().map_err(Stop::violated)?;
        }
        for node in nodes {
            // What it holds itself, without asking anybody.
            let records = self.cluster.records(node, true).map_err(Stop::violated)?;
            let lost = checks::acked_is_there(&self.history, &records);
            let twice = checks::stored_once(&records);
            let wrong = [lost, twice].concat().into_iter();
            holds(wrong.map(|wrong| format!("{what}: {node}: {wrong}")).collect())?;
        }
        Ok(verdict)
    }

    fn verdict(&mut self) -> anyhow::Result<Verdict> {
        let node = self.cluster.node(NODE)?;
        if !node.is_running()? {
            return Ok(Verdict::Refused(node.ended()?.code().unwrap_or(-1)));
        }
        let status = self.cluster.status("n1")?;
        let up = status.quorum && status.nodes.iter().any(|row| row.name == NODE && row.up);
        let forgot = |problem: &Problem| problem.kind() == ProblemCode::MemoryLost;
        let told = up && status.problems.iter().all(forgot);
        when(told, format!("{:?}", status.problems)).map_err(anyhow::Error::msg)?;
        if !status.problems.is_empty() {
            return Ok(Verdict::Told);
        }
        self.cluster.healthy().map_err(anyhow::Error::msg)?;
        // A repair that has begun has ended: all is healthy.
        let repairs = self.cluster.events("n1")?.iter().filter(|e| e.kind == REPAIR).count();
        Ok(if repairs > 0 { Verdict::Repaired } else { Verdict::Healthy })
    }
}

/// Copies a folder to a place where nothing is; without copying blocks, where that works.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let [from, to] = [from, to].map(|path| path.to_string_lossy().into_owned());
    tool("cp", &["-a", "--reflink=auto", &from, &to])
}
