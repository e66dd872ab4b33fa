//! `logctl shell`: one command a line, in one process. On a terminal lines are edited and remembered.

use std::io::{self, IsTerminal};
use std::sync::mpsc;

use proto::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Duration, timeout};

use crate::cli::{Globals, Verb, parse_line, words};
use crate::context;
use crate::error::CtlError;
use crate::home::Home;
use crate::line_editor::LineEditor;
use crate::out::{self, Out};

/// Time that an interrupted command has to end by itself, with its last words.
const END_WITHIN: Duration = Duration::from_secs(1);

pub(crate) async fn run(globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let interactive = io::stdin().is_terminal();
    let edits = interactive && can_edit();
    let failed = |source| CtlError::File { what: "cannot watch for Ctrl-C".into(), source };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut lines = Lines::start(edits.then(|| globals.clone()));
    if interactive {
        out.note("one logctl command a line, without 'logctl'; help, or exit");
    }
    let (mut last, mut failed_first) = (0, 0);
    loop {
        let prompt =
            if interactive { format!("logctl({})> ", who(globals)) } else { String::new() };
        let line = tokio::select! {
            line = lines.next(prompt) => line?,
            _ = interrupt.recv() => {
                if interactive {
                    // The terminal has thrown the half line away.
                    out::prompt("\n");
                    continue;
                }
                return Err(CtlError::Told(ExitCode::Interrupted.number()));
            }
        };
        let Some(line) = line else { break };
        match command(&line, globals, &mut interrupt).await {
            Next::Nothing => {}
            Next::Ended(code) => {
                last = code;
                failed_first = if failed_first == 0 { code } else { failed_first };
            }
            Next::Unheard(code, _) if interactive => return finish(false, code),
            Next::Unheard(code, out) => return unheard(code, &out, &mut lines).await,
            Next::Leave => return finish(interactive, failed_first),
        }
        if last == ExitCode::Interrupted.number() && !interactive {
            break;
        }
    }
    if interactive && !edits {
        out::prompt("\n");
    }
    finish(interactive, failed_first)
}

/// Whether lines can be edited: what is typed and what is shown are one terminal that can move its cursor.
fn can_edit() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// A person has seen what failed; a script is told of the first that did, whatever came after it.
fn finish(interactive: bool, failed: u8) -> Result<(), CtlError> {
    if interactive || failed == 0 { Ok(()) } else { Err(CtlError::Told(failed)) }
}

/// Name of the context in use, for the prompt.
fn who(globals: &Globals) -> String {
    let chosen = Home::from_env().and_then(|home| context::choose(&home, globals.context.as_ref()));
    chosen.map_or_else(|_| "no context".to_owned(), |(name, _)| name.to_string())
}

/// What comes after a line.
enum Next {
    Nothing,
    /// A command ended with this code.
    Ended(u8),
    /// A command ended with this code, and standard output takes no more.
    Unheard(u8, Box<Out>),
    Leave,
}

/// The end of a shell that nobody reads any more. What it was to do after this is not done, and that is
/// said, if there is anything.
async fn unheard(code: u8, out: &Out, lines: &mut Lines) -> Result<(), CtlError> {
    loop {
        match lines.next(String::new()).await? {
            None => return finish(false, code),
            Some(line) => {
                let first = words(&line).map(|words| words.first().cloned());
                match first.as_ref().map(Option::as_deref) {
                    Ok(None) => continue,
                    Ok(Some("exit" | "quit")) => return finish(false, code),
                    Ok(Some(_)) | Err(_) => {}
                }
                let what = format!("not run: '{}' and what follows it", line.trim_end());
                return Err(out.cut_short(&what, "run the same with its output to a file"));
            }
        }
    }
}

/// Runs one line. Its errors are told; only that nobody listens any more ends the shell.
async fn command(line: &str, shell: &Globals, interrupt: &mut Signal) -> Next {
    let told = |what: String, hint: &str| {
        Out::new(shell).failure(&CtlError::usage(what, hint));
        Next::Ended(ExitCode::Usage.number())
    };
    let mut words = match words(line) {
        Ok(words) => words,
        Err(missing) => {
            return told(format!("this line lacks {missing}"), "quote with '...' or \"...\"");
        }
    };
    if words.first().is_some_and(|first| first == "logctl") {
        words.remove(0);
    }
    match words.first().map(String::as_str) {
        None => return Next::Nothing,
        Some("exit" | "quit") => return Next::Leave,
        Some(_) => {}
    }
    let cli = match parse_line(&words, shell) {
        Ok(cli) => cli,
        Err(answer) => return Next::Ended(crate::tell(&answer)),
    };
    if matches!(cli.verb, Verb::Shell) {
        return told("this is the shell".to_owned(), "exit leaves it");
    }
    let mut out = Out::new(&cli.globals);
    let mut running = Box::pin(super::run(cli, &mut out));
    let done = tokio::select! {
        // Who ends by itself on Ctrl-C is asked first.
        biased;
        done = &mut running => Some(done),
        _ = interrupt.recv() => timeout(END_WITHIN, &mut running).await.ok(),
    };
    drop(running);
    let done = done.unwrap_or(Err(CtlError::Told(ExitCode::Interrupted.number())));
    let code = out.end(done);
    if out.is_broken() { Next::Unheard(code, Box::new(out)) } else { Next::Ended(code) }
}

/// Lines of standard input, read on a thread of their own and only when asked for: in between, a
/// command may want to read from it.
struct Lines {
    ask: mpsc::Sender<String>,
    come: tokio::sync::mpsc::Receiver<io::Result<Option<String>>>,
    /// A line is asked for and has not come: Ctrl-C came first.
    asked: bool,
}

impl Lines {
    /// With what completes the lines, if they are edited.
    fn start(edit: Option<Globals>) -> Self {
        let (ask, asked) = mpsc::channel::<String>();
        let (send, come) = tokio::sync::mpsc::channel(1);
        // It may wait for a line when the process ends; nobody waits for it.
        std::thread::spawn(move || {
            let mut editor =
                edit.and_then(|globals| LineEditor::new(globals, &Home::from_env().ok()?).ok());
            while let Ok(prompt) = asked.recv() {
                let read = match &mut editor {
                    Some(editor) => editor.read(&prompt),
                    None => plain_line(&prompt),
                };
                if send.blocking_send(read).is_err() {
                    return;
                }
            }
        });
        Self { ask, come, asked: false }
    }

    /// The next line; `None` at the end.
    async fn next(&mut self, prompt: String) -> Result<Option<String>, CtlError> {
        if !self.asked {
            // The thread ends only after this is dropped.
            let _ = self.ask.send(prompt);
            self.asked = true;
        } else if !prompt.is_empty() {
            out::prompt(&prompt);
        }
        let line = self.come.recv().await;
        self.asked = false;
        let failed = |source| CtlError::File { what: "cannot read commands".into(), source };
        Ok(line.transpose().map_err(failed)?.flatten())
    }
}

fn plain_line(prompt: &str) -> io::Result<Option<String>> {
    out::prompt(prompt);
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line)?;
    Ok((read > 0).then_some(line))
}
