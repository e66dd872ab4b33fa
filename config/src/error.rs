//! What is wrong with a configuration, for the person who wrote it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::reader::Note;

/// Why a configuration was refused. `Display` has one line per problem.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file itself could not be read.
    #[error("cannot read the configuration {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it says is not allowed.
    #[error("{}", lines(file, problems))]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Everything that is wrong, in the order of the file; never empty.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what to write instead.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}

impl ConfigError {
    /// Turns byte offsets into lines and columns, and sorts by them.
    pub(crate) fn invalid(file: &Path, text: &str, notes: Vec<Note>) -> Self {
        debug_assert!(!notes.is_empty(), "an error must say what is wrong");
        let mut problems: Vec<Problem> = notes
            .into_iter()
            .map(|note| {
                let (line, column) = position(text, note.at);
                Problem { line, column, text: note.text }
            })
            .collect();
        problems.sort();
        problems.dedup();
        Self::Invalid { file: file.to_owned(), problems }
    }
}

/// Line and column, both from 1, of a byte offset.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
    let column = before.get(line_start..).map_or(0, |line| line.chars().count()) + 1;
    (line, column)
}

fn lines(file: &Path, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|p| format!("{}:{p}", file.display())).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let text = "a = 1\nä = ö\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 6), (2, 1));
        assert_eq!(position(text, text.find('ö').unwrap()), (2, 5));
        assert_eq!(position(text, 9999), (3, 1));
    }
}
