//! The chapters of the spread requests: over all nodes, around one that is stopped, over one more
//! that joins meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use views::health::StatusView;

use super::tour::Tour;
use crate::error::CtlError;
use crate::local::free_ports;

/// What was seen of it.
#[derive(Debug, Serialize)]
pub(super) struct Spreading {
    all: Counts,
    one_stopped: Counts,
    one_more: Counts,
    joined_ms: u128,
}

/// Answers by node, as `logctl ping --report` tells them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    counts: BTreeMap<String, u64>,
    failed: u64,
}

impl Counts {
    /// Whether these nodes, and no others, have answered equally often, and nothing failed.
    fn is_even(&self, nodes: &[String], each: u64) -> bool {
        let expected = |name: &String| if nodes.contains(name) { each } else { 0 };
        self.failed == 0
            && nodes.iter().all(|name| self.counts.contains_key(name))
            && self.counts.iter().all(|(name, count)| *count == expected(name))
    }
}

/// The least number that `nodes`, one fewer and one more of them can share evenly.
fn pings(nodes: u64) -> u64 {
    let all = |n: &u64| [nodes - 1, nodes, nodes + 1].iter().all(|by| n.is_multiple_of(*by));
    (1..).find(all).unwrap_or(nodes)
}

impl Tour<'_> {
    /// All three tables. `nodes` is how many there are to begin with, at least 3.
    pub(super) async fn spread(&mut self, nodes: u8) -> Result<Spreading, CtlError> {
        let count = pings(u64::from(nodes));
        let mut names = self.cluster.names();
        self.title("Requests of one client are spread over all nodes")?;
        let all = self.ping(count, &names).await?;
        let status = self.status().await?;
        let backup = names.iter().find(|name| status.primary() != Some(name.as_str())).cloned();
        let backup = backup.ok_or_else(|| CtlError::unexpected("no backup"))?;
        self.title("One node is stopped: its share goes evenly to the others, and nothing fails")?;
        self.say(&format!(
            "$ kill {}    # {backup}",
            self.cluster.pid(&backup).unwrap_or_default()
        ))?;
        self.cluster.stop_node(&backup).await?;
        self.wait_for("the others to miss the node", |status| !status.is_healthy()).await?;
        let others: Vec<String> = names.iter().filter(|name| **name != backup).cloned().collect();
        let one_stopped = self.ping(count, &others).await?;
        let line = self.cluster.command_line(&backup);
        self.say(&format!("$ {line}"))?;
        self.cluster.start(&backup)?;
        let back = |status: &StatusView| status.is_healthy() && status.lag() == 0;
        self.wait_for("the node to come back", back).await?;
        let new = format!("n{}", nodes + 1);
        let joined = self.join(&new).await?;
        names.push(new);
        let one_more = self.ping(count, &names).await?;
        self.title("What the nodes themselves have written into the log meanwhile")?;
        self.logctl(&["events", "--types", "join,suspect,leave,leader,shard"]).await?;
        Ok(Spreading { all, one_stopped, one_more, joined_ms: joined.as_millis() })
    }

    /// A node that nobody knew gets its certificate for a token, catches up, and votes.
    async fn join(&mut self, name: &str) -> Result<Duration, CtlError> {
        self.title("A new node joins the running cluster, with a token that is good once")?;
        let create = ["cluster", "token", "create", "--role", "node", "--name", name];
        let token = self.quietly(&create, "plain").await?;
        let token = token.trim();
        self.say(&format!("$ logctl {}", create.join(" ")))?;
        let shown: String = token.chars().take(24).collect();
        self.say(&format!("  {shown}…"))?;
        let dir = self.cluster.dir().join(name);
        let (dir_text, listen) = (dir.display().to_string(), free_ports(1)?);
        let listen = format!("127.0.0.1:{listen}");
        let rest = ["--name", name, "--dir", &dir_text, "--listen", &listen];
        self.say(&format!("$ logctl cluster join {shown}… {}", rest.join(" ")))?;
        self.quietly(&[&["cluster", "join", token][..], &rest].concat(), "plain").await?;
        self.cluster.adopt(name, dir.join("node.toml"));
        self.give_time_servers_to(name)?;
        let line = self.cluster.command_line(name);
        self.say(&format!("$ {line}"))?;
        let started = Instant::now();
        self.cluster.start(name)?;
        self.logctl(&["wait", "node", name, "--state", "voter", "--timeout", "60s"]).await?;
        let took = started.elapsed();
        let back = |status: &StatusView| status.is_healthy() && status.lag() == 0;
        self.wait_for("the new node to have caught up", back).await?;
        self.say(&format!("  {name} votes {} ms after its start", took.as_millis()))?;
        self.logctl(&["--as", "alice", "nodes"]).await?;
        Ok(took)
    }

    /// So many pings of one command, and the claim that these nodes answer equally often.
    async fn ping(&mut self, count: u64, nodes: &[String]) -> Result<Counts, CtlError> {
        let number = count.to_string();
        let args = ["--as", "alice", "--spread", "rr", "ping", "--count", &number, "--report"];
        self.say(&format!("$ logctl {}", args.join(" ")))?;
        let text = self.quietly(&args, "json").await?;
        let strange = |error: serde_json::Error| CtlError::unexpected(&error.to_string());
        let counts: Counts = serde_json::from_str(&text).map_err(strange)?;
        for (node, answers) in &counts.counts {
            self.say(&format!("  {node}  {answers}"))?;
        }
        self.say(&format!("  failed: {}", counts.failed))?;
        let each = count / u64::try_from(nodes.len().max(1)).unwrap_or(1);
        let what = format!("{} answer {each} of {count} pings each", nodes.join(", "));
        self.claim(counts.is_even(nodes, each), &what)?;
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_pings_can_be_shared_three_ways() {
        assert_eq!([3, 4, 5, 6, 7].map(pings), [12, 60, 60, 210, 168]);
    }

    /// Seen to fail with the stopped node's answers not looked at.
    #[test]
    fn an_uneven_table_is_not_even() {
        let counts = |rows: &[(&str, u64)], failed| Counts {
            counts: rows.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
            failed,
        };
        let nodes = ["n1".to_owned(), "n3".to_owned()];
        assert!(counts(&[("n1", 6), ("n2", 0), ("n3", 6)], 0).is_even(&nodes, 6));
        assert!(counts(&[("n1", 6), ("n3", 6)], 0).is_even(&nodes, 6));
        for (rows, failed) in [
            (&[("n1", 4), ("n2", 0), ("n3", 8)][..], 0),
            (&[("n1", 6), ("n2", 6), ("n3", 6)], 0),
            (&[("n1", 6), ("n3", 6)], 1),
            (&[("n1", 6)], 0),
        ] {
            assert!(!counts(rows, failed).is_even(&nodes, 6), "{rows:?}");
        }
    }
}
