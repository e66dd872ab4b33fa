//! The ledger: one line a run, in a file of the repository.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::row::Row;

/// First line of the file.
const HEAD: &str = "commit\tdate\trow\tseed\trepetitions\tbit\tacks\tverdict";
/// After the commit, if what ran was not exactly that.
const CHANGED: char = '+';
const HASH_LENGTH: &str = "--short=10";

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Held,
    Violated,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Short hash of what was checked out, and `+` if something was changed.
    pub(crate) commit: String,
    /// When it ended, in UTC.
    pub(crate) date: String,
    pub(crate) row: String,
    pub(crate) seed: u64,
    /// Faults.
    pub(crate) repetitions: u64,
    /// Faults that bit.
    pub(crate) bit: u64,
    /// Acknowledged sends that were looked for.
    pub(crate) acks: u64,
    pub(crate) verdict: Verdict,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Violated => "violated",
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commit, date, row, seed, repetitions, bit, acks, verdict } = self;
        let verdict = verdict.name();
        write!(f, "{commit}\t{date}\t{row}\t{seed}\t{repetitions}\t{bit}\t{acks}\t{verdict}")
    }
}

impl Line {
    fn read(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split('\t').collect();
        let [commit, date, row, seed, repetitions, bit, acks, verdict] = fields.try_into().ok()?;
        Some(Self {
            commit: commit.to_owned(),
            date: date.to_owned(),
            row: row.to_owned(),
            seed: seed.parse().ok()?,
            repetitions: repetitions.parse().ok()?,
            bit: bit.parse().ok()?,
            acks: acks.parse().ok()?,
            verdict: match verdict {
                "held" => Verdict::Held,
                "violated" => Verdict::Violated,
                _ => return None,
            },
        })
    }
}

/// All lines; none if there is no file yet.
///
/// # Errors
/// When one cannot be read.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Line>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let lines = text.lines().zip(1..).filter(|(line, _)| *line != HEAD);
    let read = |(line, number): (&str, u32)| {
        Line::read(line).with_context(|| format!("{}:{number}: {line}", path.display()))
    };
    lines.map(read).collect()
}

/// Appends a line.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn append(path: &Path, line: &Line) -> anyhow::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    let head = if file.metadata()?.len() == 0 { format!("{HEAD}\n") } else { String::new() };
    file.write_all(format!("{head}{line}\n").as_bytes())?;
    Ok(())
}

/// What is checked out. The ledger itself may have changed: that changes nothing of what runs.
///
/// # Errors
/// When git does not say.
pub(crate) fn commit() -> anyhow::Result<String> {
    let commit = git(&["rev-parse", HASH_LENGTH, "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--", ":/", ":(top,exclude)torture/ledger.tsv"])?;
    Ok(if changed.is_empty() { commit } else { format!("{commit}{CHANGED}") })
}

/// Whether a line counts for `since`: it is of that commit or one that follows it, unchanged.
fn counts(line: &Line, since: &str, known: &mut BTreeMap<String, bool>) -> bool {
    if line.commit.ends_with(CHANGED) {
        return false;
    }
    let follows = || git(&["merge-base", "--is-ancestor", since, &line.commit]).is_ok();
    *known.entry(line.commit.clone()).or_insert_with(follows)
}

/// Faults that bit and acknowledged sends of a row, from a commit on.
pub(crate) fn reached(lines: &[Line], row: Row, since: &str) -> (u64, u64) {
    let mut known = BTreeMap::new();
    let of_row = lines.iter().filter(|line| line.row == row.name());
    let counted = of_row.filter(|line| line.verdict == Verdict::Held);
    let counted = counted.filter(|line| counts(line, since, &mut known));
    counted.fold((0, 0), |(bit, acks), line| (bit + line.bit, acks + line.acks))
}

/// The seed that follows all that a row had.
pub(crate) fn next_seed(lines: &[Line], row: Row) -> u64 {
    let of_row = lines.iter().filter(|line| line.row == row.name());
    of_row.map(|line| line.seed).max().unwrap_or(0).saturating_add(1)
}

fn git(args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git").args(args).output().context("cannot run git")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "git {}: {}", args.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(row: Row, seed: u64) -> Line {
        Line {
            commit: "0123456789+".to_owned(),
            date: "2026-01-01T00:00:00Z".to_owned(),
            row: row.name().to_owned(),
            seed,
            repetitions: 10,
            bit: 9,
            acks: 1234,
            verdict: Verdict::Held,
        }
    }

    #[test]
    fn what_is_appended_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.tsv");
        assert!(read(&path).unwrap().is_empty());
        let violated = Line { verdict: Verdict::Violated, ..line(Row::Kill, 3) };
        let lines = [line(Row::PowerCut, 7), violated];
        lines.iter().for_each(|line| append(&path, line).unwrap());
        assert_eq!(read(&path).unwrap(), lines);
        assert_eq!(next_seed(&lines, Row::Kill), 4);
        assert_eq!(next_seed(&[], Row::Kill), 1);
        fs::write(&path, "coffee").unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn what_was_changed_violated_or_of_another_commit_does_not_count() {
        let here = git(&["rev-parse", HASH_LENGTH, "HEAD"]).unwrap();
        let counted = Line { commit: here.clone(), ..line(Row::Kill, 1) };
        let violated = Line { verdict: Verdict::Violated, ..counted.clone() };
        let unknown = Line { commit: "ffffffffff".to_owned(), ..counted.clone() };
        let other = Line { row: Row::PowerCut.name().to_owned(), ..counted.clone() };
        let changed = line(Row::Kill, 1);
        let lines = [counted.clone(), violated, unknown, other, changed, counted];
        assert_eq!(reached(&lines, Row::Kill, &here), (18, 2468));
    }
}
