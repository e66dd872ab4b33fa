//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

/// What `--help` says.
pub(crate) const HELP: &str = "\
What logd costs, measured on this machine.

usage: benches [WHAT] [--seconds N] [--rounds N] [--records N] [--dir DIR] [--out FILE] [--quick]

WHAT
  replication   latency of three logd processes, beside the disk and the network alone (default);
                fails unless every acknowledged message lies on every node, once and unchanged
  greedy        a quiet client of three logd processes alone, beside a greedy client of another
                cluster on the same machine, and beside a greedy client of the same cluster, in turn
  hlc           minting a stamp, beside the crate uhlc in the same run, with one and two threads;
                fails if a stamp is not later than the one before
  clock         a clock that asks a real chronyd and two more servers on loopback, beside the
                machine's own: error, bounds, first sync; fails if true time was outside the bounds
  time-query    where a range of time begins among many records, warm, in each mode; fails if an
                answer is not that of a linear scan
  apply         what it costs to apply what is committed, without network and log, by how many
                messages an entry has; and the rows that a message leaves behind
  reads         one message, and a page, of the primary, of a backup and of a backup's own state;
                how long after its acknowledgement a message is with a follower on another node
  failover      the longest time without an acknowledgement when the primary is killed, frozen or
                stopped, so many times each; fails as replication does

  --seconds N   replication: time of each level, ramp-up not counted (default 5)
                greedy, failover: time of each turn (default 5); reads: of each row (default 5)
                hlc, time-query: time of each row (default 2); clock: time of the readings (60)
  --rounds N    greedy: turns of each kind (default 4); failover: the same (default 30)
  --records N   time-query: how many records there are (default 10000000, a few gigabytes)
                apply: how many there will be (default 150000)
  --dir DIR     where a folder is made and removed; for processes of logd, the disk they write to
                (default: the folder of the build)
  --out FILE    write the JSON document there and not to standard output
  --quick       few levels, a fraction of a second each: shows that all works, not how fast";

/// A fifth of a level is ramp-up, but no less and no more than this.
const RAMP: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(2));
const QUICK: Duration = Duration::from_millis(500);
const SECONDS_MAX: f64 = 3600.0;
/// Records that a search may be measured among.
const RECORDS: std::ops::RangeInclusive<u64> = 1000..=1_000_000_000;
const RECORDS_QUICK: u64 = 20_000;
const ROUNDS: std::ops::RangeInclusive<u32> = 1..=1000;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Replication,
    Greedy,
    Hlc,
    Clock,
    TimeQuery,
    Apply,
    Reads,
    Failover,
}

impl What {
    fn named(name: &str) -> Option<Self> {
        match name {
            "replication" => Some(Self::Replication),
            "greedy" => Some(Self::Greedy),
            "hlc" => Some(Self::Hlc),
            "clock" => Some(Self::Clock),
            "time-query" => Some(Self::TimeQuery),
            "apply" => Some(Self::Apply),
            "reads" => Some(Self::Reads),
            "failover" => Some(Self::Failover),
            _ => None,
        }
    }

    /// Time of one row, if none is given.
    const fn usual(self) -> Duration {
        match self {
            Self::Replication | Self::Greedy | Self::Reads | Self::Failover => {
                Duration::from_secs(5)
            }
            Self::Hlc | Self::TimeQuery | Self::Apply => Duration::from_secs(2),
            Self::Clock => Duration::from_secs(60),
        }
    }

    /// Records, if no number is given.
    const fn records(self) -> u64 {
        match self {
            Self::Apply => 150_000,
            Self::Replication
            | Self::Greedy
            | Self::Hlc
            | Self::Clock
            | Self::TimeQuery
            | Self::Reads
            | Self::Failover => 10_000_000,
        }
    }

    /// Turns of each kind, if no number is given.
    const fn rounds(self) -> u32 {
        match self {
            Self::Failover => 30,
            Self::Replication
            | Self::Greedy
            | Self::Hlc
            | Self::Clock
            | Self::TimeQuery
            | Self::Apply
            | Self::Reads => 4,
        }
    }
}

/// What to measure, and how.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) what: What,
    /// Time of one level.
    pub(crate) window: Duration,
    /// Time before it that does not count.
    pub(crate) ramp: Duration,
    /// Turns of each kind.
    pub(crate) rounds: u32,
    /// Records to search among, or to apply.
    pub(crate) records: u64,
    /// Where the cluster's folder is made.
    pub(crate) dir: PathBuf,
    /// Where the document goes; standard output if nowhere.
    pub(crate) out: Option<PathBuf>,
    /// Few levels, short ones.
    pub(crate) quick: bool,
}

/// What the user wants.
#[derive(Debug)]
pub(crate) enum Asked {
    Help,
    /// To be the greedy client, of whom is said which: what another process of ours starts.
    BeGreedy(Vec<String>),
    Run(Args),
}

/// Reads the command line.
///
/// # Errors
/// When it is not one of ours.
pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Asked> {
    let (mut seconds, mut dir, mut out, mut quick) = (None, None, None, false);
    let (mut what, mut records, mut rounds) = (None, None, None);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--help" | "-h" => return Ok(Asked::Help),
            "be-greedy" if what.is_none() => return Ok(Asked::BeGreedy(words.collect())),
            "--quick" => quick = true,
            "--dir" => dir = Some(PathBuf::from(value()?)),
            "--out" => out = Some(PathBuf::from(value()?)),
            "--seconds" => {
                let text = value()?;
                let number: f64 = text.parse().with_context(|| format!("'{text}' seconds"))?;
                let fits = number > 0.0 && number <= SECONDS_MAX;
                anyhow::ensure!(fits, "{number} seconds: more than 0, at most {SECONDS_MAX}");
                seconds = Some(Duration::from_secs_f64(number));
            }
            "--rounds" => {
                let text = value()?;
                let number: u32 = text.parse().with_context(|| format!("'{text}' rounds"))?;
                anyhow::ensure!(ROUNDS.contains(&number), "{number} rounds: 1 to 1000");
                rounds = Some(number);
            }
            "--records" => {
                let text = value()?;
                let number: u64 = text.parse().with_context(|| format!("'{text}' records"))?;
                anyhow::ensure!(RECORDS.contains(&number), "{number} records: 1000 to 1000000000");
                records = Some(number);
            }
            other => match What::named(other).filter(|_| what.is_none()) {
                Some(named) => what = Some(named),
                None => anyhow::bail!("unknown argument '{other}'"),
            },
        }
    }
    let what = what.unwrap_or(What::Replication);
    let usual = if quick { QUICK } else { what.usual() };
    let window = seconds.unwrap_or(usual);
    let ramp = (window / 5).clamp(RAMP.0, RAMP.1);
    let dir = match dir {
        Some(dir) => dir,
        None => build_folder()?,
    };
    let usual_records = if quick { RECORDS_QUICK } else { what.records() };
    let records = records.unwrap_or(usual_records);
    let rounds = rounds.unwrap_or_else(|| if quick { 1 } else { what.rounds() });
    Ok(Asked::Run(Args { what, window, ramp, rounds, records, dir, out, quick }))
}

/// The folder of the build: on a disk, unlike the usual folder for temporary files.
fn build_folder() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let folder = exe.parent().and_then(|profile| profile.parent());
    Ok(folder.with_context(|| format!("{} lies in no build", exe.display()))?.to_owned())
}
