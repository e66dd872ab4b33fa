//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use crate::row::Row;

const HEAD: &str = "\
Faults of real processes and disks, under load, with what was acknowledged compared afterwards.

usage: torture ROW [--seed N] [--repetitions N] [--ledger FILE]
       torture short [--seconds N] [--ledger FILE]
       torture long [--since COMMIT] [--ledger FILE]

ROW
";
const TAIL: &str = "
short           some of each row, for a few minutes
long            each row until it has reached its bar in the ledger; goes on where it ended

  --seed N         what the numbers of a run are drawn from (default 1)
  --repetitions N  faults of a run (default: as the row says)
  --ledger FILE    append a line for each run there
  --seconds N      short: begin no new run after this time (default 180)
  --since COMMIT   long: count what the ledger has of this commit and those that follow it (default:
                   the one that is checked out)

Exit code: 0 nothing was violated; 1 something was, or the run could not be carried out; 2 wrong
arguments; 3 this machine cannot run the row.";

/// Faults of a run at most.
pub(crate) const REPETITIONS_MAX: u32 = 10_000;
const SECONDS_USUAL: u64 = 180;
const SECONDS_MAX: u64 = 86_400;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// One run of one row.
    One { row: Row, seed: u64, repetitions: u32 },
    /// Some of each row.
    Short { seconds: Duration },
    /// Each row until it has reached its bar.
    Long,
}

/// What to do, and where to note it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) what: What,
    pub(crate) ledger: Option<PathBuf>,
    /// The commit from which on the ledger counts.
    pub(crate) since: Option<String>,
}

/// What the user wants.
#[derive(Debug)]
pub(crate) enum Wish {
    Help,
    Run(Args),
}

/// What `--help` says.
pub(crate) fn help() -> String {
    let rows = Row::ALL.iter().map(|row| format!("  {:<13} {}\n", row.name(), row.help()));
    format!("{HEAD}{}{TAIL}", rows.collect::<String>())
}

/// Reads the command line.
///
/// # Errors
/// When it is not one of ours.
pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Wish> {
    let (mut name, mut seed, mut repetitions, mut seconds) = (None, None, None, None);
    let (mut ledger, mut since) = (None, None);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--help" | "-h" => return Ok(Wish::Help),
            "--seed" => seed = Some(number(&value()?, 0..=u64::MAX)?),
            "--repetitions" => {
                let number = number(&value()?, 1..=REPETITIONS_MAX.into())?;
                repetitions = Some(u32::try_from(number)?);
            }
            "--seconds" => seconds = Some(number(&value()?, 1..=SECONDS_MAX)?),
            "--ledger" => ledger = Some(PathBuf::from(value()?)),
            "--since" => since = Some(value()?),
            other if name.is_none() && !other.starts_with('-') => name = Some(other.to_owned()),
            other => anyhow::bail!("unknown argument '{other}'"),
        }
    }
    let name = name.context("which row?")?;
    let what = match (name.as_str(), Row::named(&name)) {
        (_, Some(row)) => {
            let repetitions = repetitions.take().unwrap_or_else(|| row.usual_repetitions());
            What::One { row, seed: seed.take().unwrap_or(1), repetitions }
        }
        ("short", None) => {
            let seconds = seconds.take().unwrap_or(SECONDS_USUAL);
            What::Short { seconds: Duration::from_secs(seconds) }
        }
        ("long", None) => What::Long,
        (_, None) => anyhow::bail!("there is no row '{name}'"),
    };
    let idle = [
        ("--seed", seed.is_some()),
        ("--repetitions", repetitions.is_some()),
        ("--seconds", seconds.is_some()),
        ("--since", since.is_some() && what != What::Long),
    ];
    if let Some((option, _)) = idle.iter().find(|(_, given)| *given) {
        anyhow::bail!("{name} takes no {option}");
    }
    Ok(Wish::Run(Args { what, ledger, since }))
}

fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> anyhow::Result<u64> {
    let number: u64 = text.parse().with_context(|| format!("'{text}' is no number"))?;
    let fits = range.contains(&number);
    anyhow::ensure!(fits, "{number}: {} to {}", range.start(), range.end());
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> anyhow::Result<Args> {
        match parse(line.split_whitespace().map(str::to_owned))? {
            Wish::Run(args) => Ok(args),
            Wish::Help => anyhow::bail!("help"),
        }
    }

    #[test]
    fn a_run_is_read_and_what_does_not_belong_is_refused() {
        let args = read("kill --seed 7 --repetitions 3 --ledger a.tsv").unwrap();
        assert_eq!(args.what, What::One { row: Row::Kill, seed: 7, repetitions: 3 });
        assert_eq!(args.ledger, Some(PathBuf::from("a.tsv")));
        let args = read("long --since abc").unwrap();
        assert_eq!((args.what, args.since.as_deref()), (What::Long, Some("abc")));
        for line in ["", "coffee", "kill --seconds 3", "short --seed 1", "kill --seed", "kill -x"] {
            assert!(read(line).is_err(), "{line}");
        }
        assert!(read("kill --repetitions 0").is_err());
        for row in Row::ALL {
            assert!(help().contains(row.name()));
        }
    }
}
