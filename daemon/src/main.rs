//! `logd`: see `daemon::process` for what happens in which order.

use clap::Parser;
use daemon::cli::Cli;
use daemon::exit::{self, Exit};
use daemon::process;

fn main() {
    exit::if_ended();
    let cli = Cli::parse();
    match process::start(&cli, daemon::start::run) {
        Ok(()) => Exit::Stopped.now(),
        Err(failed) => failed.end(),
    }
}
