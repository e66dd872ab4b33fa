//! A line that somebody types on a terminal: with editing, a history that outlives the process, and
//! completion.
//!
//! Not here: what a line means (`verb/shell`), what may come next in it (`completion`).

use std::io;
use std::path::PathBuf;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use crate::cli::Globals;
use crate::completion::{Known, Names, candidates, quoted, words_so_far};
use crate::home::{Home, make_private_dir};

/// Lines that are remembered.
const LINES_KEPT: usize = 1000;
/// What a line holds that nobody may read later.
const SECRETS: [&str; 2] = ["logd-join-", "logd-access-"];

/// Reads lines from the terminal.
pub(crate) struct LineEditor {
    editor: Editor<Completing, FileHistory>,
    /// Where the lines are remembered; only their owner may read it.
    history: PathBuf,
}

impl LineEditor {
    /// For a terminal that can be edited on.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn new(globals: Globals, home: &Home) -> io::Result<Self> {
        let config = Config::builder()
            // Each line of what is pasted is a command.
            .bracketed_paste(false)
            // What fits is shown, as other shells do.
            .completion_type(CompletionType::List)
            .history_ignore_space(true)
            .max_history_size(LINES_KEPT)
            .map_err(io::Error::other)?
            .build();
        let mut editor = Editor::with_config(config).map_err(io::Error::other)?;
        editor.set_helper(Some(Completing { globals }));
        let folder = home.state_folder();
        // Without a history everything else works.
        let made = make_private_dir(folder);
        let history = folder.join("shell.history");
        if made.is_err() || editor.load_history(&history).is_err() {
            tracing::debug!("there is no history in {}", history.display());
        }
        Ok(Self { editor, history })
    }

    /// The next line, empty if Ctrl-C ended it; `None` at the end.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(crate) fn read(&mut self, prompt: &str) -> io::Result<Option<String>> {
        let line = match self.editor.readline(prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => return Ok(Some(String::new())),
            Err(ReadlineError::Eof) => return Ok(None),
            Err(ReadlineError::Io(error)) => return Err(error),
            Err(error) => return Err(io::Error::other(error)),
        };
        if is_kept(&line) && self.editor.add_history_entry(&line).unwrap_or(false) {
            // That a line is not remembered is no reason not to run it.
            let _ = self.editor.append_history(&self.history);
        }
        Ok(Some(line))
    }
}

fn is_kept(line: &str) -> bool {
    !line.trim().is_empty() && !SECRETS.iter().any(|secret| line.contains(secret))
}

/// Completes as the scripts for other shells do.
struct Completing {
    globals: Globals,
}

impl Completer for Completing {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let names = |words: &[String]| Known::by(&self.globals, words).names();
        Ok(completed(line.get(..pos).unwrap_or(line), names))
    }
}

/// From where on the line is replaced, and with what.
fn completed(line: &str, names: impl FnOnce(&[String]) -> Names) -> (usize, Vec<Pair>) {
    let nothing = (line.len(), Vec::new());
    // The verb may stand alone here; behind 'logctl' it is as in another shell.
    let named = line.trim_start().starts_with("logctl ");
    let whole = if named { line.to_owned() } else { format!("logctl {line}") };
    let Some(words) = words_so_far(&whole) else { return nothing };
    // A word with quotes in it is left to whoever types it.
    let before = words.last().and_then(|word| line.strip_suffix(word.as_str()));
    let Some(before) = before.filter(|before| !before.ends_with(['"', '\''])) else {
        return nothing;
    };
    let pair = |value: &str| {
        let goes_on = value.ends_with(['/', '=']);
        let replacement = format!("{}{}", quoted(value), if goes_on { "" } else { " " });
        Pair { display: value.to_owned(), replacement }
    };
    let found = candidates(&words, &names(&words));
    (before.len(), found.iter().map(|found| pair(&found.value)).collect())
}

impl Helper for Completing {}
impl Highlighter for Completing {}
impl Hinter for Completing {
    type Hint = String;
}
impl Validator for Completing {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn next(line: &str) -> (usize, Vec<String>) {
        let names: Names = Arc::new(|_| vec!["n1".to_owned(), "n2".to_owned()]);
        let (at, pairs) = completed(line, |_| names);
        (at, pairs.into_iter().map(|pair| pair.replacement).collect())
    }

    fn of(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Meant to catch: the word replaced from the wrong place on, where 'logctl' stands before the verb.
    #[test]
    fn a_line_is_completed_with_and_without_the_name() {
        assert_eq!(next("regi"), (0, of(&["register "])));
        assert_eq!(next("logctl regi"), (7, of(&["register "])));
        assert_eq!(next("node show n"), (10, of(&["n1 ", "n2 "])));
        assert_eq!(next("status --via=n"), (7, of(&["--via=n1 ", "--via=n2 "])));
        assert_eq!(next("send \"a b"), (9, of(&[])), "what is quoted is left alone");
        assert_eq!(next("# x"), (3, of(&[])));
    }

    /// Seen to fail with every line kept.
    #[test]
    fn no_secret_is_remembered() {
        assert!(is_kept("send --to bob hi") && !is_kept("  "));
        assert!(!is_kept("register bob --token logd-join-1.abc"));
        assert!(!is_kept("access revoke logd-access-1.abc"));
    }
}
