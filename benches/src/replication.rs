//! What replication costs: three real `logd` processes on a real disk, and beside them, in the same
//! run, the disk and the network alone.
//!
//! Every figure is of a closed loop: so many workers, each with one thing in flight, all over
//! again as soon as it is done. What was begun while the loop ran up is left out, what was begun
//! afterwards is followed to its end, so that no slow one is missed. A figure that is not true is
//! worse than none: errors are counted beside the answers, elections are counted, the machine's load
//! is noted, and at the end every acknowledged message must lie on every node, once and unchanged,
//! under the number that its acknowledgement gave. Otherwise the run has failed.
//!
//! Not here: the parts (`disk`, `load`), and the clock (`hlc`, `clocks`).

use anyhow::Context as _;
use net::Client;

use crate::args::Args;
use crate::cluster::{self, Cluster, NODES};
use crate::figures::Figures;
use crate::load::{Level, Work};
use crate::machine::{Machine, Usage};
use crate::report::{DiskRow, EchoRow, Report, SendRow};
use crate::verify::Sent;
use crate::{disk, load, machine, report, verify};

/// Sends in flight at each level.
const SENDS: [usize; 4] = [1, 16, 64, 256];
const QUICK_SENDS: [usize; 2] = [1, 64];
/// Pings in flight at each level.
const ECHOES: [usize; 2] = [1, 64];

/// Measures, shows what was measured, and only then says whether it can be believed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let report = cluster::measured(args, NODES, async |cluster| measure(args, cluster).await)?;
    report::say(&report.table());
    report.write(args.out.as_deref())?;
    anyhow::ensure!(report.faults.is_empty(), "messages: {}", report.faults.join("; "));
    for row in &report.sends {
        anyhow::ensure!(
            row.figures.done > 0,
            "no send was acknowledged at {} in flight",
            row.level
        );
    }
    Ok(())
}

async fn measure(args: &Args, cluster: &Cluster) -> anyhow::Result<Report> {
    let machine = Machine::look(cluster.folder());
    let mut report = Report::new(args, machine);
    let status = cluster.status().await?;
    let (first_term, primary) = (status.term, status.primary);
    let backup = cluster.names().into_iter().find(|name| *name != primary);
    let backup = backup.context("a cluster without a backup")?;

    for writers in [1, usize::from(NODES)] {
        report.disk.push(disk_row(args, cluster, writers, "before").await?);
    }
    for in_flight in ECHOES {
        let level = Level { number: 0, in_flight, window: args.window, ramp: args.ramp };
        let clients = cluster.clients(&backup, in_flight)?;
        let done = load::run(&clients, level, Work::Ping).await?;
        close(clients).await;
        report.echo.push(EchoRow { node: backup.clone(), in_flight, figures: done.figures });
    }
    let mut sent = Vec::new();
    let levels: &[usize] = if args.quick { &QUICK_SENDS } else { &SENDS };
    for (gateway, role) in [(&primary, "primary"), (&backup, "backup")] {
        for &in_flight in levels {
            let row = send_row(args, cluster, gateway, role, in_flight, &mut sent).await?;
            report::say(&row.line());
            report.sends.push(row);
        }
    }
    report.disk.push(disk_row(args, cluster, 1, "after").await?);
    report.elections = cluster.status().await?.term.saturating_sub(first_term);
    report.load_after = machine::load();
    report.faults = verify::check(cluster, &sent).await?;
    report.verified = sent.iter().map(Sent::acked).sum();
    Ok(report)
}

async fn disk_row(
    args: &Args,
    cluster: &Cluster,
    writers: usize,
    when: &'static str,
) -> anyhow::Result<DiskRow> {
    let folder = cluster.folder().to_owned();
    let window = args.window;
    let figures =
        tokio::task::spawn_blocking(move || disk::measure(&folder, writers, window)).await??;
    Ok(DiskRow { writers, when, figures })
}

/// One level of sends through one gateway, with what it cost every process.
async fn send_row(
    args: &Args,
    cluster: &Cluster,
    gateway: &str,
    role: &'static str,
    in_flight: usize,
    sent: &mut Vec<Sent>,
) -> anyhow::Result<SendRow> {
    let level = Level { number: sent.len(), in_flight, window: args.window, ramp: args.ramp };
    let clients = cluster.clients(gateway, in_flight)?;
    let before = cluster.status().await?;
    let usage = Usage::now(cluster);
    let done = load::run(&clients, level, Work::Send).await?;
    let spent = Usage::now(cluster).since(&usage);
    let after = cluster.status().await?;
    close(clients).await;
    let Figures { done: acked, errors, .. } = &done.figures;
    if *acked == 0 {
        report::say(&format!("via {gateway}, {in_flight} in flight: no answer: {errors:?}"));
    }
    let all_sends = done.all.iter().map(|worker| worker.len() as u64).sum();
    sent.push(Sent { level: level.number, workers: done.all });
    Ok(SendRow {
        gateway: gateway.to_owned(),
        role,
        level: in_flight,
        figures: done.figures,
        elections: after.term.saturating_sub(before.term),
        same_primary: before.primary == after.primary,
        spent,
        all_sends,
    })
}

async fn close(clients: Vec<Client>) {
    for client in clients {
        client.close().await;
    }
}
