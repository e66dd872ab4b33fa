//! `logd` beside what people would take instead, in one run on one machine and one disk: three nodes of
//! each, one client process for all, the same bodies, the same number of requests in flight.
//!
//! The systems take turns, round after round, so that a moment that is bad for the disk is bad for all;
//! what is said is the median of the rounds, and logd's figure as a ratio. Each is asked through the
//! node that leads it, which is the best case of each. Beside them stand, from the same minutes, the
//! disk alone and a round trip over loopback: what nobody can be faster than.
//!
//! They do not promise the same, and the table says what each does. Nothing fails because it is slow.

mod args;
#[path = "../../src/disk.rs"]
mod disk;
mod echo;
#[path = "../../src/figures.rs"]
#[expect(dead_code, reason = "the benches say more of a figure")]
mod figures;
mod load;
mod process;
#[path = "../../src/processor.rs"]
mod processor;
mod report;
mod systems;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::args::Args;
use crate::report::{Report, Row};
use crate::systems::{Kind, System};

fn main() -> ExitCode {
    let args = match args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            say(args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            say(&format!("error: {error:#}\ntry: peers --help"));
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let _guard = runtime.enter();
    let folder = tempfile::Builder::new().prefix("peers-").tempdir_in(&args.dir)?;
    let report = runtime.block_on(measure(args, folder.path()))?;
    say(&report.table());
    report.write(args.out.as_deref())?;
    let failed: u64 = report.rows.iter().map(|row| row.figures.errors.values().sum::<u64>()).sum();
    anyhow::ensure!(failed == 0, "{failed} requests failed");
    Ok(())
}

async fn measure(args: &Args, folder: &std::path::Path) -> anyhow::Result<Report> {
    let mut systems = Vec::new();
    for kind in Kind::ALL {
        say(&format!("starting {}", kind.name()));
        let place = folder.join(kind.name().replace([' ', ','], "-"));
        std::fs::create_dir(&place)?;
        let started = System::start(kind, args, &place).await;
        systems.push(started.with_context(|| format!("starting {}", kind.name()))?);
    }
    let mut report = Report::new(args);
    let mut series = 0;
    for round in 0..args.rounds {
        report.floor.push(floor(args, folder).await?);
        for &in_flight in &args.in_flight {
            // Each round begins with another one.
            let turns = systems.iter().cycle().skip(round % systems.len()).take(systems.len());
            for system in turns {
                series += 1;
                let clients = system.clients(in_flight).await?;
                let spent = system.spent_ms();
                let level = load::Level { series, in_flight, window: args.window, ramp: args.ramp };
                let done = load::run(&clients, level, args.body_bytes).await?;
                let spent = system.spent_ms().saturating_sub(spent);
                let figures = done.figures;
                let cpu_us = spent as f64 * 1000.0 / done.all.max(1) as f64;
                let row = Row { round, kind: system.kind(), in_flight, figures, cpu_us };
                say(&row.line());
                report.rows.push(row);
                clients.close().await;
            }
        }
    }
    Ok(report)
}

/// The disk alone and a round trip alone, p50 in nanoseconds.
async fn floor(args: &Args, folder: &std::path::Path) -> anyhow::Result<(u64, u64)> {
    let (folder, window) = (folder.to_owned(), args.window.min(std::time::Duration::from_secs(1)));
    let disk = tokio::task::spawn_blocking(move || disk::measure(&folder, 1, window)).await??;
    Ok((disk.p50, echo::measure(window).await?))
}

/// A line for people.
fn say(text: &str) {
    // Nobody can be told that the terminal is gone.
    let _ = writeln!(std::io::stderr(), "{text}");
}
