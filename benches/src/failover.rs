//! How long nobody can send when the primary goes: killed, frozen or stopped as an operator stops it.
//!
//! Clients that may use any node send all over again, each as soon as it has its answer; in the middle the
//! primary goes. The gap is the longest time between two acknowledgements from then on, whoever got them.
//! Afterwards the node comes back, and the next turn begins when the cluster is well. At the end every
//! acknowledged message must lie on every node, once and unchanged.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::args::Args;
use crate::cluster::{self, Cluster, NODES, SENDER};
use crate::figures::{Figures, Tally};
use crate::load::{self, Level, Work};
use crate::machine::Machine;
use crate::report;
use crate::verify::{self, Sent};

/// Clients, each with one message in flight.
const CLIENTS: usize = 4;

/// How the primary goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    Freeze,
    Stop,
}

impl Fault {
    const ALL: [Self; 3] = [Self::Kill, Self::Freeze, Self::Stop];

    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Freeze => "SIGSTOP",
            Self::Stop => "SIGTERM",
        }
    }

    const fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::KILL,
            Self::Freeze => Signal::STOP,
            Self::Stop => Signal::TERM,
        }
    }
}

/// What came of all turns of one kind.
struct Row {
    fault: Fault,
    gaps: Figures,
}

/// Measures, shows what was measured, and only then says whether it can be believed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let measured = cluster::measured(args, NODES, async |cluster| measure(args, cluster).await)?;
    let (machine, rows, sent, faults) = measured;
    let acked: u64 = sent.iter().map(Sent::acked).sum();
    let document = json!({
        "format": report::FORMAT,
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine.json(),
        "nodes": NODES,
        "clients": CLIENTS,
        "rounds": args.rounds,
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
        "verified": acked,
        "faults": faults,
    });
    report::write(&document, args.out.as_deref())?;
    anyhow::ensure!(faults.is_empty(), "messages: {}", faults.join("; "));
    report::say(&format!(
        "all {acked} acknowledged messages lie on every node, once and unchanged"
    ));
    Ok(())
}

async fn measure(
    args: &Args,
    cluster: &mut Cluster,
) -> anyhow::Result<(Machine, Vec<Row>, Vec<Sent>, Vec<String>)> {
    let machine = Machine::look(cluster.folder());
    report::say(&format!("\n{machine}\n"));
    let (mut rows, mut sent) = (Vec::new(), Vec::new());
    for fault in Fault::ALL {
        let mut gaps = Tally::new()?;
        for round in 1..=args.rounds {
            let gap = turn(args, cluster, fault, &mut sent).await?;
            report::say(&format!("{}, {round} of {}: {gap:.0?}", fault.name(), args.rounds));
            gaps.note(gap, true);
        }
        let row = Row { fault, gaps: gaps.figures(args.window) };
        report::say(&row.line());
        rows.push(row);
    }
    let faults = verify::check(cluster, &sent).await?;
    Ok((machine, rows, sent, faults))
}

/// One turn: the longest time without an acknowledgement since the primary went.
async fn turn(
    args: &Args,
    cluster: &mut Cluster,
    fault: Fault,
    sent: &mut Vec<Sent>,
) -> anyhow::Result<Duration> {
    let primary = cluster.status().await?.primary;
    let level =
        Level { number: sent.len(), in_flight: CLIENTS, window: args.window, ramp: args.ramp };
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| cluster.client(SENDER, None)).collect::<anyhow::Result<_>>()?;
    let load = {
        let clients = clients.clone();
        tokio::spawn(async move { load::run(&clients, level, Work::Send).await })
    };
    // A fifth of what counts comes before, so that the load has found its pace.
    tokio::time::sleep(args.ramp + args.window / 5).await;
    let since = Instant::now();
    cluster.node(&primary)?.signal(fault.signal())?;
    let done = load.await??;
    for client in clients {
        client.close().await;
    }
    back(cluster, &primary, fault)?;
    sent.push(Sent { level: level.number, workers: done.all });
    let (errors, ends) = (done.figures.errors, done.ends);
    longest_gap(ends, since).with_context(|| format!("nobody could send any more: {errors:?}"))
}

/// The node comes back, and the cluster is well.
fn back(cluster: &mut Cluster, node: &str, fault: Fault) -> anyhow::Result<()> {
    match fault {
        Fault::Freeze => cluster.node(node)?.signal(Signal::CONT)?,
        Fault::Kill | Fault::Stop => {
            cluster.node(node)?.ended()?;
            cluster.node(node)?.start(&[])?;
        }
    }
    anyhow::ensure!(cluster.is_settled()?, "the port of {node} was taken meanwhile");
    Ok(())
}

/// The longest time between two ends of which the second lies behind `since`; none if there is no such.
fn longest_gap(mut ends: Vec<Instant>, since: Instant) -> Option<Duration> {
    ends.sort_unstable();
    let pairs = ends.iter().zip(ends.iter().skip(1));
    pairs.filter(|(_, next)| **next > since).map(|(last, next)| *next - *last).max()
}

impl Row {
    fn line(&self) -> String {
        let ms = |ns: u64| ns as f64 / 1e6;
        let Figures { done, p50, max, .. } = self.gaps;
        let name = self.fault.name();
        format!(
            "{name:<8} without an answer: p50 {:.0} ms, max {:.0} ms, of {done}",
            ms(p50),
            ms(max)
        )
    }

    fn json(&self) -> Value {
        let us = |ns: u64| ns as f64 / 1000.0;
        let Figures { done, mean, p50, p99, max, .. } = self.gaps;
        json!({
            "fault": self.fault.name(),
            "rounds": done,
            "gap_mean_us": (mean / 1000.0).round(),
            "gap_p50_us": us(p50),
            "gap_p99_us": us(p99),
            "gap_max_us": us(max),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with: gaps before the fault counted as well.
    #[test]
    fn the_gap_is_the_longest_that_ends_after_the_fault() {
        let start = Instant::now();
        let at =
            |ms: &[u64]| ms.iter().map(|ms| start + Duration::from_millis(*ms)).collect::<Vec<_>>();
        let since = start + Duration::from_millis(100);
        let gap = |ms: &[u64]| longest_gap(at(ms), since).map(|gap| gap.as_millis());
        assert_eq!(gap(&[0, 90, 95, 400, 410]), Some(305));
        assert_eq!(gap(&[410, 0, 95, 400, 90]), Some(305), "in any order");
        assert_eq!(gap(&[0, 90, 95, 105, 110]), Some(10));
        assert_eq!(gap(&[0, 90]), None);
    }
}
