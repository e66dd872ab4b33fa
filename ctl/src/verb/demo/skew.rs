//! The chapter of the wrong clock: the time servers of the primary jump ahead, all together, so that
//! no vote among them can tell. What the node knew before contradicts them, and so do its peers.
//!
//! Seen to fail with a daemon that does not heed its peers.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clock::Stamp;
use proto::Record;
use proto::record::read_stamp;
use proto::wire::{self, Op, Reply};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use views::health::StatusView;

use super::servers::Truth;
use super::tour::Tour;
use crate::error::CtlError;
use crate::session::Session;

/// How far the servers jump.
const SKEW: Duration = Duration::from_secs(5);
/// Time between two messages of alice's.
const SEND_EVERY: Duration = Duration::from_millis(50);
/// Messages that must still get through after the node was found out.
const SENDS_AFTER: usize = 10;

/// What the chapter measured.
#[derive(Debug, Serialize)]
pub(super) struct Skew {
    node: String,
    skew_ms: u128,
    found_out_ms: u128,
    leadership_moved_ms: u128,
    acknowledged: usize,
    send_gap_ms: u128,
    /// Messages whose bounds were known, and held the true time.
    bounds_true: usize,
    /// Messages whose bounds were not known, and said so.
    bounds_unknown: usize,
    recovered_ms: u128,
}

/// One acknowledged message, and between which true times it was stamped.
struct Sent {
    seq: u64,
    stamp: Stamp,
    from_ns: u64,
    to_ns: u64,
}

/// What alice sent meanwhile.
struct Sending {
    acked: BTreeMap<String, Sent>,
    gap: Duration,
}

impl Tour<'_> {
    /// Skews the primary's time servers; nothing without time servers.
    pub(super) async fn skew(&mut self) -> Result<Option<Skew>, CtlError> {
        let Some(servers) = &self.servers else {
            self.title("A wrong clock: left out, for this cluster's nodes have no time servers")?;
            return Ok(None);
        };
        let truth = servers.truth();
        self.title("A clock goes wrong: all time servers of the primary jump 5 s ahead")?;
        let status = self.status().await?;
        let node = status.primary().map(str::to_owned);
        let node = node.ok_or_else(|| CtlError::unexpected("no primary"))?;
        self.logctl(&["--via", &node, "clock", "sources"]).await?;
        let alice = self.session("alice", None)?;
        let enough = AtomicBool::new(false);
        let (sending, moved) = tokio::join!(send_on(&alice, truth, &enough), async {
            let moved = self.watch(&node).await;
            // Also after a failure: nobody would end the sending.
            enough.store(true, Ordering::Relaxed);
            moved
        });
        alice.close().await;
        let (found_out, moved) = moved?;
        let sending = sending?;
        self.say(&format!(
            "  alice sent {} messages meanwhile; the longest wait for an answer was {} ms",
            sending.acked.len(),
            sending.gap.as_millis()
        ))?;
        self.title("How it is now: the node stands aside, and says why")?;
        self.logctl_expecting(&["status"], &[10, 12]).await?;
        self.logctl_expecting(&["--via", &node, "clock", "tracking"], &[12]).await?;
        let (bounds_true, bounds_unknown) = self.check(&sending).await?;
        let recovered = self.put_right(&node).await?;
        Ok(Some(Skew {
            node,
            skew_ms: SKEW.as_millis(),
            found_out_ms: found_out.as_millis(),
            leadership_moved_ms: moved.as_millis(),
            acknowledged: sending.acked.len(),
            send_gap_ms: sending.gap.as_millis(),
            bounds_true,
            bounds_unknown,
            recovered_ms: recovered.as_millis(),
        }))
    }

    /// Skews, and waits until the node is found out and another one leads. How long each took.
    async fn watch(&mut self, node: &str) -> Result<(Duration, Duration), CtlError> {
        if let Some(servers) = &self.servers {
            servers.skew(node, SKEW);
        }
        let skewed = Instant::now();
        let (found_out, moved) = (Cell::new(None), Cell::new(None));
        let first = |seen: &Cell<Option<Duration>>, now: bool| {
            if now && seen.get().is_none() {
                seen.set(Some(skewed.elapsed()));
            }
            now
        };
        let both = |status: &StatusView| {
            let other = first(&moved, status.primary().is_some_and(|now| now != node));
            first(&found_out, status.is_bad_clock(node)) && other
        };
        let status = self.wait_for("the wrong clock to be found out, and to lead no more", both);
        let now = status.await?.primary().unwrap_or("none").to_owned();
        let found_out = found_out.get().unwrap_or_default();
        let moved = moved.get().unwrap_or_default();
        self.say(&format!("  {now} leads instead of {node}, {} ms later", moved.as_millis()))?;
        self.say(&format!(
            "  {} ms after the jump all nodes know that the clock of {node} is wrong",
            found_out.as_millis()
        ))?;
        Ok((found_out, moved))
    }

    /// Every message is there once, the stamps ascend, and the bounds hold what was true.
    async fn check(&mut self, sending: &Sending) -> Result<(usize, usize), CtlError> {
        let records = self.read_all("bob", None).await?;
        let ascend = ascend(&records);
        self.claim(ascend, "the stamps ascend with the log, whoever led")?;
        let missing = missing(sending, &records);
        self.claim(missing == 0, "every message that was acknowledged is there, at its place")?;
        let unknown = |sent: &&Sent| !is_known(sent.stamp);
        let unknown = sending.acked.values().filter(unknown).count();
        let wrong = sending.acked.values().filter(|sent| !holds_truth(sent)).count();
        self.claim(wrong == 0, "every bound that was claimed holds the true time")?;
        let known = sending.acked.len() - unknown;
        self.say(&format!(
            "  all stamps ascend; of {} bounds {known} are known and hold the true time, {unknown} \
             say that they are unknown",
            sending.acked.len()
        ))?;
        Ok((known, unknown))
    }

    /// Ends the lie. The node finds its way back alone: its reading stands still until true time has
    /// come up to it, for it never goes back.
    async fn put_right(&mut self, node: &str) -> Result<Duration, CtlError> {
        self.title("The servers are right again, and the clock finds back by itself")?;
        if let Some(servers) = &self.servers {
            servers.put_right(node);
        }
        let started = Instant::now();
        self.wait_for("the node to be trusted again", StatusView::is_healthy).await?;
        let took = started.elapsed();
        self.say(&format!("  {node} is trusted again, {} ms later", took.as_millis()))?;
        self.logctl(&["clock", "--all"]).await?;
        self.title("What the log itself says of that clock, for an auditor")?;
        let report = ["clock", "report", "--tolerance", "100ms", "--node", node];
        self.logctl_expecting(&report, &[12]).await?;
        Ok(took)
    }
}

/// Sends one message after the other until it is enough, and some more.
async fn send_on(alice: &Session, truth: Truth, enough: &AtomicBool) -> Result<Sending, CtlError> {
    let mut sending = Sending { acked: BTreeMap::new(), gap: Duration::ZERO };
    let mut after = 0;
    for n in 1_u64.. {
        after += usize::from(enough.load(Ordering::Relaxed));
        if after > SENDS_AFTER {
            break;
        }
        let id = uuid::Uuid::now_v7().to_string();
        let body = format!("time {n}").into_bytes().into();
        let send = wire::Send { to: "bob".to_owned(), id, body, ..wire::Send::default() };
        let (asked, from_ns) = (Instant::now(), truth.now_ns());
        let (_, Reply::Ack(ack)) = alice.call(Op::Send(send)).await? else {
            return Err(CtlError::unexpected("no acknowledgement"));
        };
        let to_ns = truth.now_ns();
        sending.gap = sending.gap.max(asked.elapsed());
        let stamp = read_stamp(&ack.stamp).map_err(|e| CtlError::unexpected(&e.to_string()))?;
        sending.acked.insert(ack.id, Sent { seq: ack.seq, stamp, from_ns, to_ns });
        sleep(SEND_EVERY).await;
    }
    Ok(sending)
}

/// Whether each record has a later stamp than the one before it.
fn ascend(records: &[Record]) -> bool {
    let stamps: Option<Vec<_>> = records.iter().map(|record| record.hlc().ok()).collect();
    stamps.is_some_and(|stamps| stamps.is_sorted_by(|one, next| one < next))
}

/// Acknowledged messages that are not at their place, once.
fn missing(sending: &Sending, records: &[Record]) -> usize {
    let mut places: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for record in records {
        places.entry(&record.id).or_default().push(record.seq);
    }
    let there =
        |id: &str, sent: &Sent| places.get(id).is_some_and(|at| at.as_slice() == [sent.seq]);
    sending.acked.iter().filter(|(id, sent)| !there(id, sent)).count()
}

fn is_known(stamp: Stamp) -> bool {
    stamp.earliest_ns().is_some() && stamp.latest_ns().is_some()
}

/// Whether the claimed interval meets the time in which the message was stamped. No claim is not
/// wrong.
fn holds_truth(sent: &Sent) -> bool {
    sent.stamp.earliest_ns().is_none_or(|ns| ns <= sent.to_ns)
        && sent.stamp.latest_ns().is_none_or(|ns| ns >= sent.from_ns)
}

#[cfg(test)]
mod tests {
    use clock::Hlc;

    use super::*;

    fn sent(seq: u64, ns: u64, early_us: u32, late_us: u32) -> Sent {
        let stamp = Stamp { hlc: Hlc::from_ns(ns), early_us, late_us };
        Sent { seq, stamp, from_ns: 1_000_000, to_ns: 2_000_000 }
    }

    #[test]
    fn a_bound_is_wrong_if_it_misses_the_time_of_stamping() {
        assert!(holds_truth(&sent(1, 1_500_000, 0, 0)));
        assert!(holds_truth(&sent(1, 2_500_000, 500, 0)));
        assert!(!holds_truth(&sent(1, 2_500_000, 499, 0)));
        assert!(holds_truth(&sent(1, 500_000, 0, 500)));
        assert!(!holds_truth(&sent(1, 500_000, 0, 499)));
        assert!(holds_truth(&sent(1, 9_000_000, Stamp::UNKNOWN, Stamp::UNKNOWN)));
    }

    #[test]
    fn disorder_and_loss_are_seen() {
        let record = |id: &str, seq: u64, ns: u64| Record {
            id: id.to_owned(),
            seq,
            stamp: sent(seq, ns, 0, 0).stamp.to_bytes().to_vec(),
            ..Record::default()
        };
        let good = [record("a", 1, 10), record("b", 2, 11)];
        assert!(ascend(&good));
        assert!(!ascend(&[record("a", 1, 10), record("b", 2, 10)]));
        assert!(!ascend(&[Record::default()]));
        let acked = [("a".to_owned(), sent(1, 10, 0, 0)), ("c".to_owned(), sent(3, 12, 0, 0))];
        let sending = Sending { acked: acked.into(), gap: Duration::ZERO };
        assert_eq!(missing(&sending, &good), 1);
        assert_eq!(missing(&sending, &[record("a", 1, 1), record("a", 2, 2)]), 2);
    }
}
