//! The chapter of the killed primary.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::Record;
use proto::wire::{self, Op, Reply};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::tour::Tour;
use crate::error::CtlError;
use crate::session::Session;

/// Messages sent before the primary is killed, and after the first one that got through again.
const SENDS_BEFORE: usize = 25;
const SENDS_AFTER: usize = 25;

/// What happened while the primary was killed.
pub(super) struct Failover {
    pub(super) acked: BTreeMap<String, u64>,
    pub(super) gap: Duration,
}

impl Tour<'_> {
    /// Kills the primary while alice sends one message after the other.
    pub(super) async fn failover(&mut self) -> Result<(String, Failover), CtlError> {
        self.title("The primary is killed while alice keeps sending")?;
        let status = self.status().await?;
        let primary = status.primary().map(str::to_owned);
        let primary = primary.ok_or_else(|| CtlError::unexpected("no primary"))?;
        let pid = self.cluster.pid(&primary).unwrap_or_default();
        self.say(&format!("$ kill -9 {pid}    # {primary}"))?;
        let alice = self.session("alice", None)?;
        let killed = Notify::new();
        let (sent, gone) = tokio::join!(send_on(&alice, &killed), async {
            killed.notified().await;
            self.cluster.kill(&primary)
        });
        alice.close().await;
        gone?;
        let failover = sent?;
        let status = self
            .wait_for("a new primary", |status| status.primary().is_some_and(|now| now != primary));
        let now = status.await?.primary().unwrap_or("none").to_owned();
        self.say(&format!("  primary was {primary}, is {now}"))?;
        self.say(&format!(
            "  alice sent {} messages; the longest wait for an answer was {} ms",
            failover.acked.len(),
            failover.gap.as_millis()
        ))?;
        Ok((primary, failover))
    }

    /// Compares what was acknowledged with what bob reads.
    pub(super) async fn account(
        &mut self,
        failover: &Failover,
    ) -> Result<(usize, usize), CtlError> {
        let records = self.read_all("bob", None).await?;
        let (lost, doubled) = compare(failover, &records);
        let total = failover.acked.len();
        self.say(&format!(
            "  of {total} acknowledged messages {lost} are lost, {doubled} doubled"
        ))?;
        self.claim(lost == 0 && doubled == 0, "every acknowledged message is there once")?;
        // A new primary may be there before the silence of the old one is long enough to be noticed.
        self.wait_for("the others to miss the node", |status| !status.is_healthy()).await?;
        self.title("How it is now: it works, and says what is wrong")?;
        self.logctl_expecting(&["status"], &[10]).await?;
        Ok((lost, doubled))
    }

    pub(super) async fn restart(
        &mut self,
        node: &str,
        failover: &Failover,
    ) -> Result<Duration, CtlError> {
        self.title("The killed node comes back and catches up")?;
        let line = self.cluster.command_line(node);
        self.say(&format!("$ {line}"))?;
        let started = Instant::now();
        self.cluster.start(node)?;
        self.wait_for("the node to catch up", |status| status.is_healthy() && status.lag() == 0)
            .await?;
        let took = started.elapsed();
        let (lost, doubled) = compare(failover, &self.read_all("bob", Some(node)).await?);
        self.claim(lost == 0 && doubled == 0, "the node that was killed has every message too")?;
        self.say(&format!("  {node} has every message, {} ms after its start", took.as_millis()))?;
        self.logctl(&["status"]).await?;
        Ok(took)
    }
}

/// Sends one message after the other, asks for the kill on the way, and goes on until enough have
/// got through after it.
async fn send_on(alice: &Session, kill: &Notify) -> Result<Failover, CtlError> {
    let mut failover = Failover { acked: BTreeMap::new(), gap: Duration::ZERO };
    for n in 1..=SENDS_BEFORE + SENDS_AFTER {
        if n == SENDS_BEFORE {
            kill.notify_one();
        }
        let id = uuid::Uuid::now_v7().to_string();
        let body = format!("message {n}").into_bytes().into();
        let send = wire::Send { to: "bob".to_owned(), id, body, ..wire::Send::default() };
        let asked = Instant::now();
        match alice.call(Op::Send(send)).await {
            Ok((_, Reply::Ack(ack))) => failover.acked.insert(ack.id, ack.seq),
            Ok(_) => return Err(CtlError::unexpected("no acknowledgement")),
            Err(error) => {
                // Nobody would be left to kill for.
                kill.notify_one();
                return Err(error);
            }
        };
        failover.gap = failover.gap.max(asked.elapsed());
    }
    Ok(failover)
}

/// Acknowledged messages that are not among the records at their place, and records that stand
/// there twice.
fn compare(failover: &Failover, records: &[Record]) -> (usize, usize) {
    let mut seen: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for record in records {
        seen.entry(&record.id).or_default().push(record.seq);
    }
    let missing = |(id, seq): &(&String, &u64)| {
        !seen.get(id.as_str()).is_some_and(|places| places.contains(seq))
    };
    let lost = failover.acked.iter().filter(missing).count();
    (lost, seen.values().filter(|places| places.len() > 1).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, seq: u64) -> Record {
        Record { id: id.to_owned(), seq, ..Record::default() }
    }

    #[test]
    fn lost_and_doubled_messages_are_counted() {
        let acked = [("a".to_owned(), 1), ("b".to_owned(), 2), ("c".to_owned(), 3)].into();
        let failover = Failover { acked, gap: Duration::ZERO };
        let good = [record("a", 1), record("b", 2), record("c", 3), record("other", 4)];
        assert_eq!(compare(&failover, &good), (0, 0));
        let bad = [record("a", 1), record("a", 2), record("c", 9)];
        assert_eq!(compare(&failover, &bad), (2, 1));
    }
}
