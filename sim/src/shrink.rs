//! Of the faults of a run that failed, those that are enough.

use std::collections::BTreeSet;

use crate::runner::{Done, FAULTS, Run, run, say};

/// Runs that are spent on one seed.
const RUNS_MAX: usize = 80;

/// Leaves faults out, many at once and then one by one, as long as the run fails without them; says which
/// are left, and the command that repeats that.
///
/// # Errors
/// When no process can be started.
pub(crate) fn shrink(whole: &Run) -> anyhow::Result<()> {
    let mut last = run(whole)?;
    let drawn = drawn(&last);
    let mut left: Vec<u64> = (1..=drawn).collect();
    let (mut at_once, mut runs) = (left.len().div_ceil(2), 1);
    while at_once > 0 && !last.ok {
        let mut from = 0;
        while from < left.len() && runs < RUNS_MAX {
            let mut fewer = left.clone();
            fewer.drain(from..left.len().min(from + at_once));
            let tried = run(&with(whole, &fewer))?;
            runs += 1;
            if tried.ok || tried.hangs {
                from += at_once;
            } else {
                (left, last) = (fewer, tried);
            }
        }
        at_once = if at_once == 1 { 0 } else { at_once.div_ceil(2) };
    }
    let faults = last.text.lines().find_map(|line| line.strip_prefix(FAULTS)).unwrap_or_default();
    match left.as_slice() {
        [] => say(&format!("  none of its {drawn} faults is needed")),
        _ => say(&format!("  of {drawn} faults these are enough: {faults}")),
    }
    say(&format!("  repeat that with: {}", with(whole, &left).command()));
    Ok(())
}

fn with(whole: &Run, faults: &[u64]) -> Run {
    // There is no fault 0, so that none at all can be asked for.
    let none = faults.is_empty().then_some(0);
    let only: BTreeSet<u64> = faults.iter().copied().chain(none).collect();
    Run { only: Some(only), ..whole.clone() }
}

/// How many faults a run has drawn.
fn drawn(done: &Done) -> u64 {
    let words = done.text.split_whitespace();
    words.filter_map(|word| word.strip_prefix("drawn=")).find_map(|n| n.parse().ok()).unwrap_or(0)
}
