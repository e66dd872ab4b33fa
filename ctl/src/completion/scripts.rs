//! The scripts that a shell reads at its start. They hold no verb and no option: they hand the line to
//! `logctl complete-line` and show what comes, so one that was written by an earlier release goes on to fit.

use std::fmt::Write as _;

use clap::ValueEnum;

use super::{Candidate, Known, candidates, words_so_far};
use crate::cli::Globals;

/// A shell that completes lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// Friendly interactive shell
    Fish,
}

/// What this shell reads at its start.
pub(crate) fn script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => include_str!("logctl.bash"),
        Shell::Zsh => include_str!("logctl.zsh"),
        Shell::Fish => include_str!("logctl.fish"),
    }
}

/// What may come next behind a line, as this shell's script reads it: a candidate a line. `part` is what the
/// shell itself takes for the word at the cursor, if that is less than all of it.
pub(crate) fn answer(shell: Shell, line: &str, part: Option<&str>, globals: &Globals) -> String {
    let Some(words) = words_so_far(line) else { return String::new() };
    let names = Known::by(globals, &words).names();
    let word = words.last().map_or("", String::as_str);
    told(shell, &candidates(&words, &names), word, part.unwrap_or(word))
}

fn told(shell: Shell, found: &[Candidate], word: &str, part: &str) -> String {
    // Bash breaks words at = and @, too, and wants the rest only.
    let before = word.strip_suffix(part).unwrap_or_default();
    let mut text = String::new();
    for Candidate { value, help } in found {
        // A line is a candidate, whatever files are called.
        if value.contains(char::is_control) {
            continue;
        }
        let value = value.strip_prefix(before).unwrap_or(value);
        // Writing to a text cannot fail.
        let _ = match shell {
            Shell::Bash => writeln!(text, "{}", quoted(value)),
            Shell::Zsh => {
                let value = value.replace('\\', "\\\\").replace(':', "\\:");
                // A colon with nothing behind it is shown as a dash.
                let colon = if help.is_empty() { "" } else { ":" };
                writeln!(text, "{value}{colon}{help}")
            }
            Shell::Fish => writeln!(text, "{value}\t{help}"),
        };
    }
    text
}

/// A word with a backslash before whatever means something to a shell.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./=:@%+,".contains(c);
    let mut text = String::new();
    for c in word.chars() {
        if !plain(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(value: &str) -> [Candidate; 1] {
        [Candidate { value: value.to_owned(), help: "what it is".to_owned() }]
    }

    #[test]
    fn each_shell_gets_its_form() {
        assert_eq!(told(Shell::Bash, &found("a b"), "a", "a"), "a\\ b\n");
        assert_eq!(told(Shell::Zsh, &found("a:b"), "a", "a"), "a\\:b:what it is\n");
        let bare = [Candidate { value: "n1".to_owned(), help: String::new() }];
        assert_eq!(told(Shell::Zsh, &bare, "n", "n"), "n1\n");
        assert_eq!(told(Shell::Fish, &found("alice"), "a", "a"), "alice\twhat it is\n");
        assert_eq!(told(Shell::Fish, &found("a\nb"), "a", "a"), "");
    }

    /// Meant to catch: `--to=--to=alice`, for bash takes `al` alone for the word.
    #[test]
    fn what_the_shell_has_already_is_not_told_again() {
        assert_eq!(told(Shell::Bash, &found("--to=alice"), "--to=al", "al"), "alice\n");
        assert_eq!(told(Shell::Bash, &found("--to=alice"), "--to=", ""), "alice\n");
        assert_eq!(told(Shell::Bash, &found("@ops"), "@o", "o"), "ops\n");
        assert_eq!(told(Shell::Bash, &found("alice"), "", ""), "alice\n");
    }
}
