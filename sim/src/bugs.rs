//! Finds planted bugs: one after the other, by seeds, until a promise is broken.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::time::Instant;

use anyhow::Context as _;
use planted::Bug;

use crate::runner::{Plan, Run, run, say};

/// The bug of this name.
///
/// # Errors
/// When there is none, or bugs are not compiled in.
pub(crate) fn named(name: &str) -> anyhow::Result<Bug> {
    anyhow::ensure!(
        planted::compiled(),
        "this build has no bugs: build it with --features sim/planted"
    );
    let known: Vec<_> = Bug::ALL.iter().map(|bug| bug.about().0).collect();
    Bug::named(name).with_context(|| format!("no bug '{name}'; there are: {}", known.join(", ")))
}

/// Plants one bug after the other and prints a table: which bug, which seed found it, what it cost.
///
/// # Errors
/// When bugs are not compiled in, or no process can be started.
pub(crate) fn find_all(plan: &Plan) -> anyhow::Result<bool> {
    let first = Bug::ALL.first().context("no bugs")?;
    named(first.about().0)?;
    say("bug                        class       seed   seeds  seconds  what was seen");
    let began = Instant::now();
    let (next, all) = (AtomicUsize::new(0), AtomicBool::new(true));
    let worker = || -> anyhow::Result<()> {
        while let Some(bug) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = find(*bug, plan)?;
            all.fetch_and(found, Ordering::Relaxed);
        }
        Ok(())
    };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let workers: Vec<_> = (0..plan.at_once()).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        Ok(())
    })?;
    say(&format!("{} bugs in {:.0} s", Bug::ALL.len(), began.elapsed().as_secs_f64()));
    Ok(all.into_inner())
}

fn find(bug: Bug, plan: &Plan) -> anyhow::Result<bool> {
    let (name, class, wrong) = bug.about();
    let began = Instant::now();
    for seed in plan.from..plan.from + plan.seeds {
        let done = run(&Run { bug: Some(bug), ..Run::of(seed) })?;
        if !done.ok {
            let seeds = seed - plan.from + 1;
            let seconds = began.elapsed().as_secs_f64();
            let seen = done.text.lines().next().unwrap_or_default().trim();
            let seen: String = seen.chars().take(90).collect();
            say(&format!("{name:26} {class:11} {seed:<6} {seeds:<6} {seconds:<8.1} {seen}"));
            return Ok(true);
        }
    }
    say(&format!("{name:26} {class:11} NOT FOUND in {} seeds: {wrong}", plan.seeds));
    Ok(false)
}
