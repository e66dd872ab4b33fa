//! One run of a row: a cluster, its faults, and a line in the ledger.

use std::path::Path;
use std::time::{Instant, SystemTime};

use anyhow::Context as _;

use crate::ledger::{self, Line, Verdict};
use crate::row::Row;
use crate::work::Work;
use crate::{boundary, flip, kill, power_cut, report, seeds, set_back};

/// Violations that are shown of one run.
const SHOWN: usize = 20;

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) row: Row,
    pub(crate) seed: u64,
    /// Faults, whether they bite or not.
    pub(crate) repetitions: u32,
}

impl Order {
    /// The command that repeats it.
    pub(crate) fn command(&self) -> String {
        let (row, seed, repetitions) = (self.row.name(), self.seed, self.repetitions);
        format!("torture {row} --seed {seed} --repetitions {repetitions}")
    }
}

/// Why a run goes no further.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A promise was broken, in these ways.
    Violated(Vec<String>),
    /// This machine cannot do what the row needs.
    Unavailable(String),
    /// The run itself failed; that says nothing about the cluster.
    Broken(anyhow::Error),
}

impl Stop {
    /// One way in which a promise was broken.
    pub(crate) fn violated(how: impl std::fmt::Display) -> Self {
        Self::Violated(vec![format!("{how:#}")])
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.into())
    }
}

/// What was reached so far.
#[derive(Debug)]
pub(crate) struct Tally {
    order: Order,
    since: Instant,
    /// Faults so far.
    done: u32,
    /// Those that bit.
    pub(crate) bit: u32,
    /// Acknowledged sends that the checks demand.
    pub(crate) acks: u64,
}

impl Tally {
    fn new(order: Order) -> Self {
        Self { order, since: Instant::now(), done: 0, bit: 0, acks: 0 }
    }

    /// Notes many faults that were told of already.
    pub(crate) fn faults(&mut self, done: u32, bit: u32) {
        self.done += done;
        self.bit += bit;
    }

    /// Notes a fault, and says what it was.
    pub(crate) fn fault(&mut self, bit: bool, what: &str) {
        self.done += 1;
        self.bit += u32::from(bit);
        let (row, Order { seed, repetitions, .. }) = (self.order.row.name(), self.order);
        let missed = if bit { "" } else { "; did not bite" };
        report::say(&format!(
            "{row} seed {seed}: {} of {repetitions}, {} bit, {} acks, {} s: {what}{missed}",
            self.done,
            self.bit,
            self.acks,
            self.since.elapsed().as_secs()
        ));
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Held,
    Violated,
    /// This machine cannot run it.
    Skipped(String),
}

/// Runs, says what came of it, and notes it in the ledger. What belongs to a violation is kept.
///
/// # Errors
/// When the run cannot be carried out; nothing is noted then.
pub(crate) fn run(order: Order, ledger: Option<&Path>) -> anyhow::Result<Ended> {
    report::say(&order.command());
    let commit = ledger.map(|_| ledger::commit()).transpose()?;
    let work = Work::make()?;
    let mut tally = Tally::new(order);
    let stop = match carry_out(order, &work, &mut tally) {
        Ok(()) => None,
        Err(Stop::Violated(how)) => Some(how),
        Err(Stop::Unavailable(reason)) => return Ok(Ended::Skipped(reason)),
        Err(Stop::Broken(error)) => return Err(error.context(order.command())),
    };
    if report::is_silent() {
        // Its nodes were ended with it: whoever releases them ends the process, too.
        loop {
            std::thread::park();
        }
    }
    let verdict = if stop.is_some() { Verdict::Violated } else { Verdict::Held };
    let line = Line {
        commit: commit.unwrap_or_default(),
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        row: order.row.name().to_owned(),
        seed: order.seed,
        repetitions: order.repetitions.into(),
        bit: tally.bit.into(),
        acks: tally.acks,
        verdict,
    };
    report::data(&line.to_string());
    if let Some(path) = ledger {
        ledger::append(path, &line).with_context(|| path.display().to_string())?;
    }
    let Some(how) = stop else { return Ok(Ended::Held) };
    let kept = work.keep()?;
    report::say(&format!("VIOLATED, {} times:", how.len()));
    how.iter().take(SHOWN).for_each(|how| report::say(&format!("  {how}")));
    report::say(&format!("repeat with: {}\nkept in: {}", order.command(), kept.display()));
    Ok(Ended::Violated)
}

/// A panic, such as that of a check when a cluster is dropped, is a violation, too.
fn carry_out(order: Order, work: &Work, tally: &mut Tally) -> Result<(), Stop> {
    let row = || match order.row {
        Row::PowerCut => power_cut::run(order, work, tally),
        Row::Kill => kill::run(order, work, tally),
        Row::Flip => flip::run(order, work, tally),
        Row::Boundary => boundary::run(order, work, tally),
        Row::SetBack => set_back::run(order, work, tally),
        Row::Seeds => seeds::run(order, tally),
    };
    std::thread::scope(|scope| scope.spawn(row).join())
        .unwrap_or_else(|_| Err(Stop::violated("the run panicked, see above")))
}
