//! Finds planted bugs: one after the other, by seeds, until a promise is broken.
//!
//! The seeds are those that every search has. Those come first that draw mostly faults that the bug
//! needs: which these are follows from the bug, and what happens then from the seed alone. Before them
//! comes the seed that is noted in `noted.tsv`: it found the bug before.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use anyhow::Context as _;
use planted::Bug;
use sim::Random;
use sim::fault::Kind;
use sim::shape::Shape;

use crate::runner::{Plan, Run, run_within, say};

/// Of so many seeds for each that may be run, the most promising ones are. Of many, those come first that draw
/// nothing but what the bug needs; some bugs need other faults beside that, as the best of few have them.
const CHOICES: [u64; 2] = [100, 10];
/// Seeds that have found bugs: a bug's name, a tab and the seed in each line. A change of the nodes or of the
/// simulator may give a seed another meaning; then the search goes on, and `make bugs` shows what to note.
const NOTED: &str = include_str!("../noted.tsv");
/// Most processor time of a run with a bug.
const RUN_MAX: Duration = Duration::from_secs(20);

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
    let wanted: Vec<Bug> = match plan.bug {
        Some(bug) => vec![bug],
        None => {
            Bug::ALL.iter().copied().filter(|bug| !plan.noted || noted(*bug).is_some()).collect()
        }
    };
    let (next, found) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let worker = || -> anyhow::Result<()> {
        while let Some(bug) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            found.fetch_add(usize::from(find(*bug, plan)?), Ordering::Relaxed);
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
    let (found, all) = (found.into_inner(), wanted.len());
    say(&format!("found {found} of {all} bugs in {:.0} s", began.elapsed().as_secs_f64()));
    Ok(found == all)
}

fn find(bug: Bug, plan: &Plan) -> anyhow::Result<bool> {
    let (name, class, wrong) = bug.about();
    let began = Instant::now();
    for (count, seed) in promising(bug, plan).into_iter().enumerate() {
        let done = run_within(&Run { bug: Some(bug), ..Run::of(seed) }, RUN_MAX)?;
        if plan.log {
            say(&format!("  {name}: {}", done.text.trim_end().replace('\n', "\n    ")));
        }
        // What is only late does not say which promise is broken.
        let seen = done.is_broken() || stalls(bug) && done.is_late();
        if seen && run_within(&without(bug, seed), RUN_MAX)?.ok {
            let seconds = began.elapsed().as_secs_f64();
            let seen = done.text.lines().next().unwrap_or_default().trim();
            let seen: String = seen.chars().take(90).collect();
            let seeds = count + 1;
            say(&format!("{name:26} {class:11} {seed:<6} {seeds:<6} {seconds:<8.1} {seen}"));
            return Ok(true);
        }
    }
    let (seeds, seconds) = (plan.seeds, began.elapsed().as_secs_f64());
    say(&format!("{name:26} {class:11} NOT FOUND in {seeds} seeds, {seconds:.0} s: {wrong}"));
    Ok(false)
}

/// The same run without the bug: where that fails too, nothing was found.
fn without(bug: Bug, seed: u64) -> Run {
    // With what lets two histories meet, where the bug is behind that.
    let bug = meets_histories(bug).then_some(Bug::AttestationSkipped);
    Run { bug, ..Run::of(seed) }
}

/// The seeds to look for a bug in, the most promising ones first: in turn of many and of few.
fn promising(bug: Bug, plan: &Plan) -> Vec<u64> {
    let [many, few] = CHOICES.map(|choice| chosen(bug, plan, choice));
    let mut known = BTreeSet::new();
    let seeds = many.into_iter().zip(few).flat_map(|(one, other)| [one, other]);
    let seeds = noted(bug).into_iter().chain(seeds).filter(|seed| known.insert(*seed));
    seeds.take(usize::try_from(plan.seeds).unwrap_or(usize::MAX)).collect()
}

fn chosen(bug: Bug, plan: &Plan, choice: u64) -> Vec<u64> {
    let kinds = needs(bug);
    let worth = |seed: &u64| {
        let shape = Shape::draw(&mut Random::new(*seed));
        let fits = shape.reckless == meets_histories(bug);
        // Short runs are cheap, and a log that is purged early has more of a life.
        let purges = purges(bug) && shape.flush_entries < u64::MAX && shape.log_kept.every < 100;
        // A minority of three is one.
        let fits = fits && (bug != Bug::RepairsAtOnce || shape.nodes == 5);
        let short = shape.faulty <= Duration::from_secs(12);
        Reverse((fits, short, shape.part_of(kinds) + if purges { 40 } else { 0 }))
    };
    let mut seeds: Vec<u64> = (plan.from..plan.from + plan.seeds * choice).collect();
    seeds.sort_by_cached_key(worth);
    seeds.truncate(usize::try_from(plan.seeds).unwrap_or(usize::MAX));
    seeds
}

/// The seed that is noted for a bug.
fn noted(bug: Bug) -> Option<u64> {
    let name = bug.about().0;
    let line = NOTED.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
    line.and_then(|seed| seed.parse().ok())
}

/// Whether a bug shows only where two histories have come about.
fn meets_histories(bug: Bug) -> bool {
    matches!(bug, Bug::CutBelowCommitted | Bug::SnapshotOverHistory)
}

/// Whether all that a bug does is that nobody can be served any more.
fn stalls(bug: Bug) -> bool {
    matches!(bug, Bug::MembershipNotInState)
}

/// Whether a bug shows only where logs are purged.
fn purges(bug: Bug) -> bool {
    matches!(
        bug,
        Bug::PurgeBeforeFlush
            | Bug::FormerLifeTaken
            | Bug::SnapshotWithoutDedup
            | Bug::SnapshotFlipNotFlushed
            | Bug::SnapshotOverHistory
            | Bug::MembershipNotInState
    )
}

/// The faults without which a bug does not show.
fn needs(bug: Bug) -> &'static [Kind] {
    use Kind::{
        ClockJump, ClockStep, Cut, CutOneWay, Delay, DieInCall, DiskError, DiskSlow, Flipped,
        Isolate, Join, Kill, KillAll, LostTail, Pause, PowerCut, PowerCutAll, Remove, Reset,
        SetBack, Stop, TimeLie, Wiped,
    };
    match bug {
        Bug::AckBeforeSync
        | Bug::VoteNotSaved
        | Bug::VoteBeforeSync
        | Bug::WatermarkAhead
        | Bug::CommitTold
        | Bug::CommittedOverstated
        | Bug::RowLost
        | Bug::ApplyByNode
        | Bug::DedupOff
        | Bug::DedupForgetsSender
        | Bug::AckOfAnother
        | Bug::AnswersMixedUp
        | Bug::FloorNotRaised
        | Bug::PageSkipsOne
        | Bug::AckOverstated => &[Kill, Isolate, DieInCall],
        Bug::SyncErrorIgnored | Bug::OpenDoesNotSync => &[DiskError],
        Bug::PurgeBeforeFlush | Bug::StateInTwoBatches => &[Kill, KillAll, PowerCut],
        Bug::SegmentNotSynced | Bug::SegmentNameNotSynced | Bug::WatermarkOneSlot => {
            &[PowerCut, PowerCutAll]
        }
        Bug::SectorSharedByGroups => &[PowerCut, PowerCutAll, DieInCall],
        Bug::CutNotSaved => &[Isolate, Cut, CutOneWay, Kill, KillAll],
        Bug::FormerLifeTaken => &[PowerCut, PowerCutAll, KillAll, Kill],
        Bug::RefusedVoteCounts | Bug::BallotOverstated => &[Isolate, Cut, Kill, CutOneWay],
        Bug::JointSkipped | Bug::TokenUsesUncounted => &[Join],
        Bug::VoterStays => &[Join, Remove],
        Bug::RepairsAtOnce | Bug::RepairKeepsId => &[Wiped, Flipped, LostTail],
        Bug::AttestationSkipped | Bug::MemoryNotSaved => &[SetBack],
        Bug::VotesBeforeMeeting | Bug::DedupForgotten => &[Kill, KillAll, Stop],
        Bug::LostTailUnseen => &[LostTail],
        Bug::BestLogIgnored => &[LostTail, KillAll, Reset],
        Bug::BrokenMiddleUnseen | Bug::ChecksumIgnored => &[Flipped],
        Bug::CutBelowCommitted | Bug::SnapshotOverHistory => &[SetBack, Isolate],
        Bug::SnapshotWithoutDedup | Bug::SnapshotFlipNotFlushed => &[Wiped, Join, Isolate, Kill],
        Bug::MembershipNotInState => &[Kill, KillAll, Wiped, Join],
        Bug::GuardOpen => &[ClockJump],
        Bug::LiarBelieved => &[TimeLie],
        Bug::FloorWithoutLogical => &[ClockStep],
        Bug::CeilingNotSaved | Bug::CeilingTooLow => &[PowerCut, PowerCutAll, DieInCall, ClockStep],
        Bug::ReadAsksNobody => &[Isolate, Cut],
        Bug::LeaseRead => &[Pause],
        Bug::ReadDoesNotWait | Bug::ReadOneBehind => &[Delay, DiskSlow],
        Bug::EarlyAck => &[Kill],
        Bug::UnknownCalledNotDone | Bug::LateCalledNotDone => &[Isolate, Reset, Cut],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_are_bugs_and_seeds() {
        for line in NOTED.lines() {
            let bug = line.split('\t').next().and_then(Bug::named);
            assert!(bug.and_then(noted).is_some(), "{line}");
        }
        assert!(
            NOTED.lines().count() >= 20,
            "of the bugs, at least these are looked for each time"
        );
    }
}
