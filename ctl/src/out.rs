//! The one place that writes to standard output and standard error.
//!
//! Standard output carries data and nothing else; notes, warnings, questions and errors go to
//! standard error. A closed pipe ends a command that only reads with success: the reader has what it
//! wanted. Once standard output fails nothing more is written to it, and the command goes on to its
//! verdict, which a lost output does not change; what was done and could not be said there is said on
//! standard error. Who only waits for something to show looks for [`reader_gone`], too.

use std::future::pending;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use proto::ExitCode;
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;
use views::show;
use views::table::Columns;

pub(crate) use views::show::{Cell, Shape, Show, Tone, escape_controls};

use crate::cli::{Form, Globals};
use crate::error::CtlError;

/// Where a command writes to.
pub(crate) struct Out {
    shape: Shape,
    /// Columns of the terminal that is written to.
    room: Option<usize>,
    colour: bool,
    colour_err: bool,
    quiet: bool,
    yes: bool,
    to: Box<dyn Write>,
    /// Why standard output takes nothing any more.
    broken: Option<io::Error>,
    /// What was done, as long as standard output has not taken the answer that says so.
    done: Vec<String>,
}

impl Out {
    /// Decides form and colour from options, environment and terminal.
    pub(crate) fn new(globals: &Globals) -> Self {
        let stdout = io::stdout();
        let shape = match (globals.json, globals.output) {
            (true, Form::Auto) | (_, Form::Json) => Shape::Json,
            (_, Form::Ndjson) => Shape::Ndjson,
            (_, Form::Raw) => Shape::Raw,
            (_, Form::Table) => Shape::Table,
            (_, Form::Auto) if stdout.is_terminal() => Shape::Table,
            (_, Form::Auto | Form::Plain) => Shape::Plain,
        };
        let room = rustix::termios::tcgetwinsize(&stdout).ok();
        let room = room.map(|size| usize::from(size.ws_col));
        let wants = |choice: ColorChoice| !globals.no_color && choice != ColorChoice::Never;
        Self {
            shape,
            room,
            colour: wants(anstream::AutoStream::choice(&stdout)),
            colour_err: wants(anstream::AutoStream::choice(&io::stderr())),
            quiet: globals.quiet,
            yes: globals.yes,
            to: Box::new(BufWriter::new(stdout)),
            broken: None,
            done: Vec::new(),
        }
    }

    /// The form.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// For output that does not end: one JSON document becomes one object a line.
    pub(crate) fn endless(&mut self) {
        if self.shape == Shape::Json {
            self.shape = Shape::Ndjson;
        }
    }

    /// One thing: a document, a line, or a table of one row.
    pub(crate) fn one<T: Show>(&mut self, item: &T) -> Result<(), CtlError> {
        match self.shape {
            Shape::Json => self.json(item),
            Shape::Ndjson | Shape::Table | Shape::Plain | Shape::Raw => {
                self.list(std::slice::from_ref(item))
            }
        }
    }

    /// Many things: one array, a line each, or a table.
    pub(crate) fn list<T: Show>(&mut self, items: &[T]) -> Result<(), CtlError> {
        if self.shape == Shape::Table {
            return self.table(items, &mut self.columns());
        }
        let paint = |text: &str, tone| tint(text, tone, self.colour);
        let text = show::list(items, self.shape, &paint);
        let text = text.map_err(|error| CtlError::Output(error.into()))?;
        self.bytes(text.as_bytes())
    }

    /// A JSON document over several lines.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), CtlError> {
        let text = serde_json::to_string_pretty(value).map_err(|e| CtlError::Output(e.into()))?;
        self.line(&text)
    }

    /// A JSON document in one line.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<(), CtlError> {
        let text = serde_json::to_string(value).map_err(|e| CtlError::Output(e.into()))?;
        self.line(&text)
    }

    /// A JSON value without line end, as part of a longer document.
    pub(crate) fn json_part(&mut self, value: &impl Serialize) -> Result<(), CtlError> {
        let text = serde_json::to_vec(value).map_err(|error| CtlError::Output(error.into()))?;
        self.bytes(&text)
    }

    /// A tab-separated line. Tabs, line ends and backslashes in a field are escaped.
    pub(crate) fn plain_line(&mut self, fields: &[String]) -> Result<(), CtlError> {
        self.line(&show::plain_line(fields))
    }

    /// The columns of a table that comes in parts, as wide as the terminal allows.
    pub(crate) fn columns(&self) -> Columns {
        Columns::within(self.room)
    }

    /// The next part of a table; only the first has the headings.
    pub(crate) fn table<T: Show>(
        &mut self,
        items: &[T],
        columns: &mut Columns,
    ) -> Result<(), CtlError> {
        let text = columns.rows(items, &|text, tone| tint(text, tone, self.colour));
        self.bytes(text.as_bytes())
    }

    /// A line of text as it is.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), CtlError> {
        self.put(|to| writeln!(to, "{text}"))
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CtlError> {
        self.put(|to| to.write_all(bytes))
    }

    /// Writes, unless standard output has failed: then the caller goes on, and [`Out::end`] tells.
    #[expect(clippy::unnecessary_wraps, reason = "who writes need not know that it cannot fail")]
    fn put(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CtlError> {
        if self.broken.is_none() {
            self.broken = write(&mut self.to).err();
        }
        Ok(())
    }

    /// Clears the screen, on a terminal that shows a table.
    pub(crate) fn clear(&mut self) -> Result<(), CtlError> {
        if self.shape == Shape::Table && io::stdout().is_terminal() {
            return self.bytes(b"\x1b[H\x1b[2J");
        }
        Ok(())
    }

    /// Hands everything written so far to the reader, whatever comes of it: data before advice, also
    /// when both go to one terminal.
    pub(crate) fn hand_over(&mut self) {
        if self.broken.is_none() {
            self.broken = self.to.flush().err();
        }
        if self.broken.is_none() {
            self.done.clear();
        }
    }

    /// The same, for those who need not go on when nobody reads any more.
    ///
    /// # Errors
    /// When standard output has failed, now or before.
    pub(crate) fn flush(&mut self) -> Result<(), CtlError> {
        self.hand_over();
        self.broken.as_ref().map_or(Ok(()), |error| Err(CtlError::Output(copy(error))))
    }

    /// Takes standard output for failed, whose reader has gone.
    pub(crate) fn lose_reader(&mut self) -> CtlError {
        let error = io::Error::from(io::ErrorKind::BrokenPipe);
        CtlError::Output(copy(self.broken.get_or_insert(error)))
    }

    /// Whether standard output has failed.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Says that something was done that stays done: who and what, with its id. It is shown only if
    /// standard output does not take the answer that is written next.
    pub(crate) fn did(&mut self, what: impl Into<String>) {
        self.done.push(what.into());
    }

    /// An error for a command that ends before all of it is done because standard output has failed.
    pub(crate) fn cut_short(&self, what: &str, hint: impl Into<String>) -> CtlError {
        let (code, why) = match &self.broken {
            Some(error) if is_closed(error) => {
                (ExitCode::ReaderGone, "nobody reads standard output any more".to_owned())
            }
            Some(error) => (ExitCode::Other, format!("cannot write to standard output: {error}")),
            None => (ExitCode::Other, "standard output has ended".to_owned()),
        };
        CtlError::refused(code, format!("{why}; {what}"), hint)
    }

    /// Ends a command: hands over what was written, and tells what went wrong. Returns the exit code:
    /// that of the command, or if it succeeded, that of a lost output.
    pub(crate) fn end(&mut self, done: Result<(), CtlError>) -> u8 {
        self.hand_over();
        // That it ended early because of its output is what is known here anyway.
        let done = match done {
            Err(CtlError::Output(_)) if self.broken.is_some() => Ok(()),
            other => other,
        };
        let lost = match &self.broken {
            Some(error) if !is_closed(error) => Some(CtlError::Output(copy(error))),
            Some(_) | None => None,
        };
        if self.broken.is_some() {
            for what in &self.done {
                complain(&escape_controls(&format!("done all the same: {what}")));
            }
        }
        let error = match (done, lost) {
            (Ok(()), None) => return 0,
            (Ok(()), Some(lost)) => lost,
            (Err(error), lost) => {
                if let Some(lost) = lost {
                    self.warn(&lost.line());
                }
                error
            }
        };
        let code = error.number();
        if code != 0 && !error.is_told() {
            self.failure(&error);
        }
        code
    }

    /// A note for people, on standard error; not with `--quiet`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            complain(text);
        }
    }

    /// A warning, on standard error; not with `--quiet`.
    pub(crate) fn warn(&self, text: &str) {
        let label = tint("warning:", Tone::Warning, self.colour_err);
        self.note(&format!("{label} {text}"));
    }

    /// How far something is that takes long, in one line of a terminal that the next one replaces; an
    /// empty one takes it away. Nothing where standard error is none, or with `--quiet`.
    pub(crate) fn progress(&self, text: &str) {
        if !self.quiet && io::stderr().is_terminal() {
            prompt(&format!("\r\x1b[K{text}"));
        }
    }

    /// Asks before something is destroyed. Without a terminal only `-y` is a yes.
    pub(crate) fn confirm(&self, question: &str, hint: &str) -> Result<(), CtlError> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(CtlError::usage(format!("{question} There is no terminal to ask"), hint));
        }
        let mut answer = String::new();
        let mut err = io::stderr();
        let failed = |source| CtlError::File { what: "cannot ask".to_owned(), source };
        write!(err, "{question} [y/N] ").and_then(|()| err.flush()).map_err(failed)?;
        io::stdin().read_line(&mut answer).map_err(failed)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(CtlError::refused(ExitCode::Other, "left as it was", hint)),
        }
    }

    /// An error and what to try, the last two lines of a failing command.
    pub(crate) fn failure(&self, error: &CtlError) {
        let label = tint("error:", Tone::Bad, self.colour_err);
        complain(&format!("{label} {}", escape_controls(&error.line())));
        complain(&format!("try: {}", error.hint()));
    }

    /// Text in the colour of its meaning.
    pub(crate) fn paint(&self, text: &str, tone: Tone) -> String {
        tint(text, tone, self.colour)
    }
}

/// Whether the reader has gone.
fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// The same error once more.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// Completes when nobody reads standard output any more, without anything written to it. Never where the
/// system cannot tell: a file has no reader that could go.
pub(crate) async fn reader_gone() {
    let watched = io::stdout().as_fd().try_clone_to_owned();
    // Only looked at, never written to: so it may block, and need not be a pipe.
    match watched.and_then(Sender::from_owned_fd_unchecked) {
        Ok(stdout) if stdout.ready(Interest::ERROR).await.is_ok() => {}
        Ok(_) | Err(_) => pending().await,
    }
}

/// A line on standard error. That nobody can read it is no reason to fail.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Text to standard error without a line end, where somebody is to type.
pub(crate) fn prompt(text: &str) {
    let mut err = io::stderr();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Text to standard output before the options are known: help and version.
pub(crate) fn announce(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn tint(text: &str, tone: Tone, colour: bool) -> String {
    let style = match tone {
        Tone::Neutral => Style::new(),
        Tone::Good => AnsiColor::Green.on_default(),
        Tone::Warning => AnsiColor::Yellow.on_default(),
        Tone::Bad => AnsiColor::Red.on_default().bold(),
    };
    if colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// An `Out` whose data can be looked at.
    pub(crate) fn captured(shape: Shape, colour: bool) -> (Out, Rc<RefCell<Vec<u8>>>) {
        struct Sink(Rc<RefCell<Vec<u8>>>);
        impl Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.borrow_mut().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let seen = Rc::new(RefCell::new(Vec::new()));
        let to = Box::new(Sink(Rc::clone(&seen)));
        let (broken, done) = (None, Vec::new());
        let out = Out {
            shape,
            room: None,
            colour,
            colour_err: false,
            quiet: true,
            yes: false,
            to,
            broken,
            done,
        };
        (out, seen)
    }

    /// The text of a list in one form.
    pub(crate) fn shown<T: Show>(shape: Shape, items: &[T]) -> String {
        let (mut out, seen) = captured(shape, false);
        out.list(items).unwrap();
        String::from_utf8(seen.take()).unwrap()
    }
}
