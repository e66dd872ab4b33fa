//! What becomes of the spread of messages when a node fails or comes back: played out on a cluster
//! of its own on this machine, which is gone afterwards.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use net::Spread;
use proto::wire::{self, Op, Reply, Status};
use proto::{ExitCode, Name, Role};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::chart::{Bars, phases};
use crate::cli::Globals;
use crate::context::{Context, Node};
use crate::dev;
use crate::error::CtlError;
use crate::home::Home;
use crate::layout::{self, Plan, PlannedNode};
use crate::local::{LocalCluster, free_ports};
use crate::out::{Cell, Out, Show};
use crate::session::Session;
use crate::spread::Counts;

const NODES: u8 = 3;
/// Messages of each part: three nodes and two can share them evenly.
const MESSAGES: u64 = 60;
/// Longest wait for the cluster to be as the scenario needs it.
const WITHIN: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(50);

/// What happens to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scenario {
    returns: bool,
    whom: Whom,
}

/// Whom it happens to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whom {
    Primary,
    Backup,
    Named(Name),
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected kill:WHOM or return:WHOM, where WHOM is leader, follower, n1, n2 or n3"
                .to_owned()
        };
        let (what, whom) = text.split_once(':').ok_or_else(expected)?;
        let returns = match what {
            "kill" => false,
            "return" => true,
            _ => return Err(expected()),
        };
        let whom = match whom {
            "leader" | "primary" => Whom::Primary,
            "follower" | "backup" => Whom::Backup,
            "n1" | "n2" | "n3" => Whom::Named(whom.parse().map_err(|_| expected())?),
            _ => return Err(expected()),
        };
        Ok(Self { returns, whom })
    }
}

/// What was seen.
#[derive(Debug, Serialize)]
pub(crate) struct Played {
    /// The node that was killed.
    pub(crate) killed: String,
    /// Messages of which nobody can say that they are stored.
    pub(crate) failed: u64,
    /// One part after the other: before, without the node, and with it again.
    pub(crate) parts: Vec<Part>,
}

/// Messages by gateway in one part.
#[derive(Debug, Serialize)]
pub(crate) struct Part {
    part: &'static str,
    counts: Counts,
    retried: u64,
    failed: u64,
}

/// One bar.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    part: &'static str,
    node: String,
    messages: u64,
}

impl Show for Line {
    fn headings() -> &'static [&'static str] {
        &["PART", "NODE", "MESSAGES"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        vec![self.part.to_owned(), self.node.clone(), self.messages.to_string()]
    }
}

impl Played {
    /// A row for each part and node.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let lines = self.parts.iter().flat_map(|part| {
            part.counts.iter().map(|(node, messages)| Line {
                part: part.part,
                node: node.to_owned(),
                messages,
            })
        });
        lines.collect()
    }

    /// The same as a chart.
    pub(crate) fn bars(&self) -> Bars {
        let exact = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        let phase = |part: &Part| {
            let rows = part.counts.iter();
            let rows = rows.map(|(node, messages)| (node.to_owned(), exact(messages)));
            (part.part.to_owned(), rows.collect())
        };
        let parts: Vec<(String, Vec<(String, f64)>)> = self.parts.iter().map(phase).collect();
        let nodes = parts.first().map_or(0, |(_, rows)| rows.len());
        phases(&format!("Messages by gateway, {nodes} nodes; {} is killed", self.killed), &parts)
    }

    /// # Errors
    /// Exit code 7 if a message failed.
    pub(crate) fn verdict(&self) -> Result<(), CtlError> {
        match self.failed {
            0 => Ok(()),
            n => Err(CtlError::refused(
                ExitCode::Unknown,
                format!("{n} messages failed"),
                "run the same again with -v",
            )),
        }
    }
}

/// Plays a scenario. Whatever happens, no process and no file is left.
///
/// # Errors
/// When the cluster does not come up, or does not become what the scenario needs.
pub(crate) async fn play(
    scenario: &Scenario,
    logd: PathBuf,
    globals: &Globals,
    out: &Out,
) -> Result<Played, CtlError> {
    let mut stage = Stage::build(logd, globals)?;
    let all = |status: &Status| status.nodes.iter().all(|row| row.up && row.serves);
    let primary = stage.wait("all nodes", all).await?;
    let others = stage.cluster.names();
    let killed = match &scenario.whom {
        Whom::Primary => primary,
        Whom::Named(name) => name.to_string(),
        Whom::Backup => {
            let backup = others.into_iter().find(|name| *name != primary);
            backup.ok_or_else(|| CtlError::unexpected("a cluster without backup"))?
        }
    };
    let mut parts = vec![stage.send("before").await?];
    out.note(&format!("{killed} is killed"));
    stage.cluster.kill(&killed)?;
    parts.push(stage.send("without").await?);
    if scenario.returns {
        out.note(&format!("{killed} is started again"));
        stage.cluster.start(&killed)?;
        let is_back = |status: &Status| {
            let row = status.nodes.iter().find(|row| row.name == killed);
            row.is_some_and(|row| row.up && row.serves && row.lag == 0)
        };
        stage.wait("the node to come back", is_back).await?;
        parts.push(stage.send("again").await?);
    }
    stage.cluster.stop().await;
    let failed = parts.iter().map(|part| part.failed).sum();
    Ok(Played { killed, failed, parts })
}

/// The cluster of a scenario, and its admin.
struct Stage {
    cluster: LocalCluster,
    home: Home,
    name: Name,
    context: Context,
    globals: Globals,
}

impl Stage {
    fn build(logd: PathBuf, globals: &Globals) -> Result<Self, CtlError> {
        let cluster = LocalCluster::new(logd, NODES)?;
        let base = free_ports(NODES)?;
        let ports = (base..).take(usize::from(NODES));
        let nodes = cluster.names().into_iter().zip(ports).zip(1_u8..).map(|((name, port), n)| {
            Ok(PlannedNode {
                name: name.parse().map_err(|_| CtlError::unexpected("a node's name"))?,
                address: format!("127.0.0.1:{port}"),
                config: format!("node{n}.toml"),
            })
        });
        let nodes: Vec<PlannedNode> = nodes.collect::<Result<_, CtlError>>()?;
        let plan = Plan {
            dir: cluster.dir().to_owned(),
            nodes,
            time_servers: Vec::new(),
            cert_life: None,
            system: None,
        };
        let made = layout::create(&plan, false)?;
        let (cert, key) = plan.pair(&plan.admin());
        let node =
            |node: &PlannedNode| Node { name: node.name.clone(), address: node.address.clone() };
        let context = Context {
            cluster: made.cluster.ok_or_else(|| CtlError::unexpected("no cluster"))?,
            name: plan.admin(),
            role: Role::Admin,
            ca: plan.ca_cert(),
            cert,
            key,
            home: None,
            nodes: plan.nodes.iter().map(node).collect(),
        };
        let home = Home::at(&plan.dir.join("home"));
        let globals = Globals { context: None, via: None, spread: None, ..globals.clone() };
        let mut stage = Self { cluster, home, name: plan.admin(), context, globals };
        for name in stage.cluster.names() {
            stage.cluster.start(&name)?;
        }
        Ok(stage)
    }

    /// Waits for a primary and whatever else; returns who leads.
    async fn wait(
        &mut self,
        what: &str,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<String, CtlError> {
        let give_up = Instant::now() + WITHIN;
        loop {
            self.cluster.check_alive()?;
            let last = match dev::status(&self.globals, &self.home, &self.name, &self.context).await
            {
                Ok(status) if !status.primary.is_empty() && status.quorum && wanted(&status) => {
                    return Ok(status.primary);
                }
                Ok(status) => views::health::sentences(&status.problems),
                Err(error) => error.line(),
            };
            if Instant::now() > give_up {
                let what = format!("waited {} s for {what}: {last}", WITHIN.as_secs());
                return Err(CtlError::refused(
                    ExitCode::Unknown,
                    what,
                    "run the same again with -v",
                ));
            }
            sleep(POLL_EVERY).await;
        }
    }

    /// One part: messages over the nodes in turn, one after the other.
    async fn send(&self, part: &'static str) -> Result<Part, CtlError> {
        let session =
            Session::with(&self.globals, &self.home, &self.name, self.context.clone(), None)?;
        let mut seen =
            Part { part, counts: Counts::of(self.cluster.names()), retried: 0, failed: 0 };
        for n in 1..=MESSAGES {
            let send = wire::Send {
                to: self.name.to_string(),
                id: uuid::Uuid::now_v7().to_string(),
                body: format!("{part} {n}").into_bytes().into(),
                ..wire::Send::default()
            };
            match session.call_over(Op::Send(send), &Spread::RoundRobin).await {
                Ok((gateway, Reply::Ack(_), retried)) => {
                    seen.counts.add(&gateway, 1);
                    seen.retried += u64::from(retried);
                }
                Ok(_) => return Err(CtlError::unexpected("no acknowledgement")),
                Err(error) => {
                    tracing::warn!("{}", error.line());
                    seen.failed += 1;
                }
            }
        }
        session.close().await;
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_read_strictly() {
        let read = |text: &str| text.parse::<Scenario>();
        assert_eq!(read("kill:leader").unwrap(), Scenario { returns: false, whom: Whom::Primary });
        let n2 = Whom::Named("n2".parse().unwrap());
        assert_eq!(read("return:n2").unwrap(), Scenario { returns: true, whom: n2 });
        for bad in ["", "kill", "kill:", "kill:n9", "stop:n1", "return:bob", "kill:n1:n2"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_failed_message_is_a_failure() {
        let played = |failed| Played { killed: "n2".to_owned(), failed, parts: Vec::new() };
        assert!(played(0).verdict().is_ok());
        assert_eq!(played(2).verdict().unwrap_err().exit_code(), ExitCode::Unknown);
    }
}
