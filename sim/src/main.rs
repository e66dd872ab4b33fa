//! `sim`: runs seeds of the simulator.

#![recursion_limit = "256"]

use std::process::ExitCode;

use clap::Parser;

mod bugs;
mod runner;
mod shrink;

/// Runs whole clusters under faults, in virtual time, from seeds.
#[derive(Parser)]
#[command(name = "sim")]
struct Cli {
    /// Runs one seed, and shows what happens.
    #[arg(long, conflicts_with_all = ["seeds", "child"])]
    seed: Option<u64>,
    /// With --seed: lets only these of its faults happen, by number.
    #[arg(long, value_delimiter = ',')]
    only: Option<Vec<u64>>,
    /// Runs so many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Runs so many at once; all processors unless given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Of so many seeds in a hundred, runs again and compares what happened.
    #[arg(long, default_value_t = 2)]
    again: u64,
    /// Shows what the nodes log, as RUST_LOG has it; with --bugs: what each run came to.
    #[arg(long)]
    log: bool,
    /// Plants a bug in every run, by name.
    #[arg(long)]
    bug: Option<String>,
    /// Plants one bug after the other, or the one of --bug, and runs seeds until each is found.
    #[arg(long, conflicts_with_all = ["seed", "child"])]
    bugs: bool,
    /// With --bugs: only those that are quickly found by the seed that is noted for them.
    #[arg(long, requires = "bugs")]
    noted: bool,
    /// One seed in this process, for the runner.
    #[arg(long, hide = true)]
    child: Option<u64>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = run(&cli);
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            runner::say(&format!("sim: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<bool> {
    let bug = cli.bug.as_deref().map(bugs::named).transpose()?;
    let &Cli { from, seeds, jobs, again, noted, log, .. } = cli;
    let plan = runner::Plan { from, seeds, jobs, again, bug, noted, log };
    let only = cli.only.as_ref().map(|only| only.iter().copied().collect());
    let run = |seed| runner::Run { seed, bug, only };
    match (cli.child, cli.seed) {
        (Some(seed), _) => runner::child(run(seed), false, cli.log),
        (None, Some(seed)) => runner::one(&run(seed), cli.log),
        (None, None) if cli.bugs => bugs::find_all(&plan),
        (None, None) => runner::many(&plan),
    }
}
