//! Many runs: some of each row within minutes, or each row until it has reached its bar.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::args::Args;
use crate::ledger;
use crate::report::say;
use crate::row::{Bar, Row};
use crate::run::{Ended, Order, run};

/// Some of each row in turn, until the time is over. A row that cannot run here is told of, and is no
/// failure.
///
/// # Errors
/// When a run cannot be carried out.
pub(crate) fn short(args: &Args, time: Duration) -> anyhow::Result<ExitCode> {
    let since = Instant::now();
    let mut rows = Row::ALL.to_vec();
    let mut seeds = seeds(args.ledger.as_deref())?;
    let mut first = true;
    while !rows.is_empty() && (first || since.elapsed() < time) {
        for row in rows.clone() {
            // Each row has its turn once, however long that takes.
            if !first && since.elapsed() >= time {
                break;
            }
            let order =
                Order { row, seed: next(&mut seeds, row), repetitions: row.short_repetitions() };
            match run(order, args.ledger.as_deref())? {
                Ended::Held => {}
                Ended::Violated => return Ok(ExitCode::FAILURE),
                Ended::Skipped(reason) => {
                    say(&format!("skipped: {}: {reason}", row.name()));
                    rows.retain(|other| *other != row);
                }
            }
        }
        first = false;
    }
    Ok(ExitCode::SUCCESS)
}

/// Each row in turn until it has reached its bar. It can be ended at any time, and goes on where the
/// ledger ends.
///
/// # Errors
/// When a run cannot be carried out, or there is no ledger.
pub(crate) fn long(args: &Args) -> anyhow::Result<ExitCode> {
    let path = args.ledger.as_deref().context("long needs a ledger: --ledger FILE")?;
    let since = match &args.since {
        Some(commit) => commit.clone(),
        None => ledger::commit()?.trim_end_matches('+').to_owned(),
    };
    let changed = ledger::commit()?.ends_with('+');
    anyhow::ensure!(!changed, "there are changes that are not committed: no run would count");
    let mut rows = Row::ALL.to_vec();
    let mut skipped = false;
    while !rows.is_empty() {
        for row in rows.clone() {
            let lines = ledger::read(path)?;
            let (bit, acks) = ledger::reached(&lines, row, &since);
            let Bar { faults, acks: wanted } = row.bar();
            let name = row.name();
            say(&format!(
                "{name} since {since}: {bit} of {faults} faults, {acks} of {wanted} acks"
            ));
            if bit >= faults && acks >= wanted {
                rows.retain(|other| *other != row);
                continue;
            }
            let seed = ledger::next_seed(&lines, row);
            let order = Order { row, seed, repetitions: row.usual_repetitions() };
            match run(order, Some(path))? {
                Ended::Held => {}
                Ended::Violated => return Ok(ExitCode::FAILURE),
                Ended::Skipped(reason) => {
                    say(&format!("skipped: {name}: {reason}"));
                    skipped = true;
                    rows.retain(|other| *other != row);
                }
            }
        }
    }
    Ok(if skipped { ExitCode::from(crate::SKIPPED) } else { ExitCode::SUCCESS })
}

/// The next seed of each row.
fn seeds(ledger: Option<&Path>) -> anyhow::Result<Vec<(Row, u64)>> {
    let lines = ledger.map_or_else(|| Ok(Vec::new()), ledger::read)?;
    Ok(Row::ALL.into_iter().map(|row| (row, ledger::next_seed(&lines, row))).collect())
}

fn next(seeds: &mut [(Row, u64)], row: Row) -> u64 {
    let seed = seeds.iter_mut().find(|(other, _)| *other == row);
    seed.map_or(1, |(_, seed)| {
        *seed += 1;
        *seed - 1
    })
}
