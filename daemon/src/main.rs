//! `logd`: see `daemon::process` for what happens in which order.

use std::convert::Infallible;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use daemon::cli::Cli;
use daemon::config::Config;
use daemon::exit::{Exit, Failed};
use daemon::process::{self, Process};
use daemon::proof::Proof;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match process::start(&cli, run) {
        Ok(()) => Exit::Stopped.into(),
        Err(failed) => {
            // A closed stderr is no reason to end in another way.
            let _ = writeln!(io::stderr(), "logd: {failed}");
            failed.exit().into()
        }
    }
}

async fn run(_config: Config, _proof: Proof, process: Process) -> Result<(), Failed> {
    let stop = process.stop.clone();
    process.reloads.serve(stop, |_proof| Ok::<(), Infallible>(())).await;
    Ok(())
}
