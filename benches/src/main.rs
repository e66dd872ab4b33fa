//! What logd costs, measured: replication beside the disk and the network, a quiet client beside a
//! greedy one, a stamp beside another hybrid logical clock, the clock beside the truth, a search by time
//! beside a linear scan, applying alone, reads and followers, and the gap when the primary goes.
//!
//! Data goes to standard output, as one JSON document; a table for people to standard error.
//!
//! Not here: targets. Nothing fails because it is slow; what is wrong fails.

mod apply;
mod args;
mod clocks;
mod cluster;
mod disk;
mod failover;
mod figures;
mod greedy;
mod hlc;
mod load;
mod machine;
mod processor;
mod reads;
mod replication;
mod report;
mod time_query;
mod verify;

use std::process::ExitCode;

use crate::args::{Asked, What};

fn main() -> ExitCode {
    let asked = match args::parse(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(error) => {
            report::say(&format!("error: {error:#}\ntry: benches --help"));
            return ExitCode::from(2);
        }
    };
    let args = match asked {
        Asked::Help => {
            report::say(args::HELP);
            return ExitCode::SUCCESS;
        }
        Asked::BeGreedy(order) => return ended(greedy::be(&order)),
        Asked::Run(args) => args,
    };
    ended(match args.what {
        What::Replication => replication::run(&args),
        What::Greedy => greedy::run(&args),
        What::Hlc => hlc::run(&args),
        What::Clock => clocks::run(&args),
        What::TimeQuery => time_query::run(&args),
        What::Apply => apply::run(&args),
        What::Reads => reads::run(&args),
        What::Failover => failover::run(&args),
    })
}

fn ended(ended: anyhow::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
