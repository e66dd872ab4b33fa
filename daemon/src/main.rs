//! `logd`: see `daemon::process` for what happens in which order.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use daemon::cli::Cli;
use daemon::exit::Exit;
use daemon::process;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match process::start(&cli, daemon::node::run) {
        Ok(()) => Exit::Stopped.into(),
        Err(failed) => {
            // A closed stderr is no reason to end in another way.
            let _ = writeln!(io::stderr(), "logd: {failed}");
            failed.exit().into()
        }
    }
}
