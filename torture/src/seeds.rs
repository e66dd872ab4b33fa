//! Whole clusters in virtual time: the simulator beside this program runs many seeds.
//!
//! A seed counts if a fault bit in it. The numbers of a run begin where no other run of this row has any.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::args::REPETITIONS_MAX;
use crate::report;
use crate::run::{Order, Stop, Tally};

/// What begins the line that sums a run up; see `sim`.
const SUM: &str = "sum ";

/// Runs the row.
pub(crate) fn run(order: Order, tally: &mut Tally) -> Result<(), Stop> {
    let before = order.seed.saturating_sub(1).saturating_mul(REPETITIONS_MAX.into());
    let exe = ::tests::binary("sim")?;
    let mut sim = Command::new(&exe)
        .args(["--seeds", &order.repetitions.to_string()])
        .args(["--from", &before.saturating_add(1).to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", exe.display()))?;
    let mut sum = None;
    for line in sim.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
        let line = line?;
        match line.strip_prefix(SUM) {
            Some(line) => sum = Some(Sum::read(line)?),
            None => report::say(&line),
        }
    }
    let held = sim.wait()?.success();
    let sum = sum.context("the simulator did not come to its end")?;
    tally.faults(sum.seeds, sum.bit);
    tally.acks += sum.acks;
    if held {
        return Ok(());
    }
    Err(Stop::violated(format!("{} of {} seeds, see above", sum.failed, sum.seeds)))
}

/// What came of many seeds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    seeds: u32,
    failed: u32,
    /// Those in which a fault bit.
    bit: u32,
    acks: u64,
}

impl Sum {
    fn read(line: &str) -> anyhow::Result<Self> {
        let mut sum = Self::default();
        for (key, value) in line.split(' ').filter_map(|word| word.split_once('=')) {
            match key {
                "seeds" => sum.seeds = value.parse()?,
                "failed" => sum.failed = value.parse()?,
                "bit" => sum.bit = value.parse()?,
                "acks" => sum.acks = value.parse()?,
                // Of a newer simulator.
                _ => {}
            }
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_run_is_read() {
        let sum = Sum::read("seeds=20 failed=1 bit=19 acks=3000").unwrap();
        assert_eq!(sum, Sum { seeds: 20, failed: 1, bit: 19, acks: 3000 });
        assert!(Sum::read("seeds=many").is_err());
    }
}
