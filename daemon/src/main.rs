//! `logd`: see `daemon::process` for what happens in which order.

use clap::{CommandFactory as _, Parser};
use daemon::cli::{CommandLine, Verb};
use daemon::exit::{self, Exit};
use daemon::{man, process, recover};

fn main() {
    exit::if_ended();
    let done = match CommandLine::parse() {
        CommandLine { verb: Some(Verb::Recover(recover)), .. } => recover::run(&recover),
        CommandLine { verb: Some(Verb::Man { dir }), .. } => man::run(&dir),
        CommandLine { serve: Some(cli), .. } => process::start(&cli, daemon::start::run),
        // The parser asks for one of them.
        CommandLine { verb: None, serve: None } => {
            drop(CommandLine::command().print_help());
            Exit::Config.now()
        }
    };
    match done {
        Ok(()) => Exit::Stopped.now(),
        Err(failed) => failed.end(),
    }
}
