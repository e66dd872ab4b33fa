//! Golden scripts: texts of commands and the answers that were recorded of them.
//!
//! A script consists of blocks with blank lines between them. A block is prose (lines with `#`),
//! commands, `---`, and what the commands print. [`replay`] runs all scripts of a folder and fails
//! where one prints something else than it records; with `REGENERATE=1` it records what they print, and
//! the difference is reviewed like code.
//!
//! Not here: what a command does (the worlds of each crate's tests). Only tests use this crate.

#![expect(clippy::panic, reason = "a test that reads a wrong script fails by panicking")]

mod line;

use std::fs;
use std::path::{Path, PathBuf};

pub use line::Line;

/// The environment variable that records the answers instead of comparing them.
const RECORD: &str = "REGENERATE";

/// Runs every script in a folder, and in the folders in it, and compares what it prints with what it
/// records. `print` gets the path and the text of a script and answers the whole text as it should be.
///
/// # Panics
/// Where a script prints something else than it records, where there are fewer than `at_least` of them,
/// and where one cannot be read or written.
pub fn replay(folder: &Path, at_least: usize, mut print: impl FnMut(&Path, &str) -> String) {
    let scripts = scripts(folder);
    assert!(
        scripts.len() >= at_least,
        "{}: {} scripts are too few",
        folder.display(),
        scripts.len()
    );
    let mut wrong = Vec::new();
    for path in scripts {
        let failed = |error| panic!("{}: {error}", path.display());
        let recorded = fs::read_to_string(&path).unwrap_or_else(failed);
        let printed = print(&path, &recorded);
        if std::env::var_os(RECORD).is_some() {
            fs::write(&path, &printed)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        } else if let Some(difference) = difference(&recorded, &printed) {
            wrong.push(format!("{}:\n{difference}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\n{RECORD}=1 rewrites them", wrong.join("\n"));
}

/// The text of a script with what its commands print now. `run` gets the commands of one block.
pub fn printed(text: &str, mut run: impl FnMut(&[String]) -> Vec<String>) -> String {
    let block = |block: &str| {
        let lines = block.lines().filter(|line| !line.trim().is_empty());
        let input = lines.take_while(|line| *line != "---").map(str::to_owned);
        let (mut lines, commands): (Vec<_>, Vec<_>) = input.partition(|line| line.starts_with('#'));
        if !commands.is_empty() {
            lines.extend_from_slice(&commands);
            lines.push("---".to_owned());
            lines.extend(run(&commands));
        }
        lines.join("\n")
    };
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty());
    blocks.map(block).collect::<Vec<_>>().join("\n\n") + "\n"
}

/// The scripts of a folder, in the order of their names.
fn scripts(folder: &Path) -> Vec<PathBuf> {
    let failed = |error| panic!("{}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(failed) {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        if path.is_dir() {
            found.extend(scripts(&path));
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The first line that differs, with its number.
fn difference(recorded: &str, printed: &str) -> Option<String> {
    if recorded == printed {
        return None;
    }
    let (mut old, mut new) = (recorded.lines(), printed.lines());
    for number in 1.. {
        let (old, new) = (old.next(), new.next());
        if old != new {
            let (old, new) = (old.unwrap_or("(end)"), new.unwrap_or("(end)"));
            return Some(format!("  line {number}\n  recorded: {old}\n  printed:  {new}"));
        }
        if old.is_none() {
            break;
        }
    }
    Some("  only the ends of lines differ".to_owned())
}

#[cfg(test)]
mod tests {
    //! Seen to fail with: the answers of an earlier run kept, and a line beyond the end not compared.

    use super::*;

    fn echo(commands: &[String]) -> Vec<String> {
        commands.iter().map(|command| format!("{command}!")).collect()
    }

    #[test]
    fn a_script_is_prose_commands_and_what_they_print() {
        let text = "# One.\n\na\nb k=v\n---\nold\n\n\n# Two.\nc\n";
        let all = printed(text, echo);
        assert_eq!(all, "# One.\n\na\nb k=v\n---\na!\nb k=v!\n\n# Two.\nc\n---\nc!\n");
        assert_eq!(printed(&all, echo), all);
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        for (recorded, printed, shown) in [
            ("a\nb\n", "a\nc\n", "  line 2\n  recorded: b\n  printed:  c"),
            ("a\n", "a\nc\n", "  line 2\n  recorded: (end)\n  printed:  c"),
            ("a", "a\n", "  only the ends of lines differ"),
        ] {
            assert_eq!(difference(recorded, printed).as_deref(), Some(shown));
        }
    }
}
