//! Faults of real processes on real file systems, again and again: each row of [`row::Row`] is one
//! kind of fault under load, and after each fault everything that was acknowledged must be there.
//!
//! ```text
//! args      the command line               row        kinds of faults, and how many are enough
//! run       one run of a row               campaign   many runs: `short` and `long`
//! power_cut kill flip boundary set_back seeds    the rows
//! images    file systems in files          evidence   what a cut took away
//! cluster   what all rows do with one      damage     a cluster at rest, and one node's disk
//! work      folders, mounts and processes that must not outlive a run
//! draw      fixed numbers from a seed      ledger     what was run, and what came of it
//! ```
//!
//! A fault that did not bite does not count: a kill counts if sends were in flight, a power cut if a
//! node's log had bytes that no disk had, damage if the node has met it. The seed fixes what is done to whom and after how many
//! acknowledgements, not how the threads of three processes interleave.
//!
//! The rows are for what only a kernel and a file system know; what a simulator can do better it does
//! itself, and has a row here so that one ledger knows all.

mod args;
mod boundary;
mod campaign;
mod cluster;
mod damage;
mod draw;
mod evidence;
mod flip;
mod images;
mod kill;
mod ledger;
mod power_cut;
mod report;
mod row;
mod run;
mod seeds;
mod set_back;
mod work;

use std::process::ExitCode;

use crate::args::{Args, What, Wish};
use crate::run::{Ended, Order};

/// Exit code where this machine cannot run a row.
const SKIPPED: u8 = 3;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args().skip(1)) {
        Ok(Wish::Run(args)) => args,
        Ok(Wish::Help) => {
            report::data(&args::help());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            report::say(&format!("error: {error:#}\ntry: torture --help"));
            return ExitCode::from(2);
        }
    };
    work::clear_left_overs();
    match work::end_on_signals().and_then(|()| carry_out(&args)) {
        Ok(code) => code,
        Err(error) => {
            report::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(args: &Args) -> anyhow::Result<ExitCode> {
    match args.what {
        What::One { row, seed, repetitions } => one(args, Order { row, seed, repetitions }),
        What::Short { seconds } => campaign::short(args, seconds),
        What::Long => campaign::long(args),
    }
}

/// One run, as the command line asks for it.
fn one(args: &Args, order: Order) -> anyhow::Result<ExitCode> {
    match run::run(order, args.ledger.as_deref())? {
        Ended::Skipped(reason) => {
            report::say(&format!("skipped: {}: {reason}", order.row.name()));
            Ok(ExitCode::from(SKIPPED))
        }
        Ended::Held => Ok(ExitCode::SUCCESS),
        Ended::Violated => Ok(ExitCode::FAILURE),
    }
}
