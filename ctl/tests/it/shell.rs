//! `logctl shell`, fed by a pipe and by a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Output, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::user::{User, text};

fn feed(user: &User, args: &[&str], lines: &str) -> Output {
    let mut command = user.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Seen to fail with the shell left at the first error, and with the code of the last command: what a
/// script wanted done and was not is no success.
#[test]
fn a_pipe_of_commands_goes_on_after_errors() {
    let user = User::with_cluster();
    let lines = "# a comment\n\nlogctl context list\nsend --to\ncontext show 'no such'\n\
                 shell\n\"half\ncontext show admin -o json\n";
    let output = feed(&user, &["shell"], lines);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(out.starts_with("admin\ttrue\t"), "{out}");
    assert!(out.contains("\"name\": \"admin\""), "{out}");
    assert!(!err.contains("logctl("), "no prompt without a terminal: {err}");
    for part in ["logctl send --help", "no such", "this is the shell", "closing \""] {
        assert!(err.contains(part), "{part}: {err}");
    }
    let output = feed(&user, &["-o", "json", "shell"], "context show admin\ncontext show none");
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stdout).starts_with('{'), "the shell's options hold for its commands");
    let output = feed(&user, &["shell"], "context show none\nexit\ncontext list\n");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(5), ""));
    assert_eq!(feed(&user, &["shell"], "").status.code(), Some(0));
}

/// A terminal: what is typed, and what is seen up to `until`.
struct Terminal {
    master: File,
    seen: String,
}

impl Terminal {
    fn wait_for(&mut self, until: &str) {
        while !self.seen.contains(until) {
            let mut bytes = [0; 1024];
            let read = self.master.read(&mut bytes).unwrap_or(0);
            assert!(read > 0, "no '{until}' in {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        self.seen.clear();
    }
}

/// The shell on a terminal of a kind.
fn on_a_terminal(user: &User, term: &str) -> (Terminal, Child) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = || File::options().read(true).write(true).open(&name).unwrap();
    let mut command = user.command(&["shell"]);
    command.stdin(slave()).stdout(slave()).stderr(slave()).env("TERM", term);
    let child = command.spawn().unwrap();
    drop(command);
    (Terminal { master: File::from(master), seen: String::new() }, child)
}

/// Seen to wait for ever on lines that the terminal alone edits: it shows keys as they come.
#[test]
fn lines_are_edited_completed_and_remembered() {
    let user = User::with_cluster();
    let (mut terminal, mut child) = on_a_terminal(&user, "xterm");
    terminal.wait_for("logctl(admin)> ");
    // Home, then what was forgotten; a verb by its beginning and Tab.
    terminal.master.write_all(b"show admin -o json\x01conte\t\r").unwrap();
    terminal.wait_for("\"name\": \"admin\"");
    terminal.wait_for("logctl(admin)> ");
    terminal.master.write_all(b"access revoke logd-access-1.secret\r").unwrap();
    terminal.wait_for("try: ");
    terminal.wait_for("logctl(admin)> ");
    // Ctrl-C leaves a line, and Ctrl-D the shell.
    terminal.master.write_all(b"half\x03").unwrap();
    terminal.wait_for("logctl(admin)> ");
    terminal.master.write_all(b"\x04").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let (mut terminal, mut child) = on_a_terminal(&user, "xterm");
    terminal.wait_for("logctl(admin)> ");
    // Up: the last line of the shell before, which is not the one with the secret.
    terminal.master.write_all(b"\x1b[A\r").unwrap();
    terminal.wait_for("\"name\": \"admin\"");
    terminal.wait_for("logctl(admin)> ");
    terminal.master.write_all(b"exit\r").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let history = user.home.path().join("state/shell.history");
    let mode = std::fs::metadata(&history).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!std::fs::read_to_string(&history).unwrap().contains("secret"));
}

/// Seen to fail with the prompt's name taken once, at the beginning.
#[test]
fn a_terminal_gets_a_prompt_that_says_who() {
    let user = User::with_cluster();
    let second = user.ok(&["cluster", "create", "other", "--base-port", "9001", "-o", "json"]);
    let second = crate::user::json(&second)["context"].as_str().unwrap().to_owned();
    let (mut terminal, mut child) = on_a_terminal(&user, "dumb");
    terminal.wait_for("logctl(admin)> ");
    terminal.master.write_all(format!("context use {second}\n").as_bytes()).unwrap();
    terminal.wait_for(&format!("logctl({second})> "));
    terminal.master.write_all(b"get\nhelp\n").unwrap();
    terminal.wait_for("error:");
    terminal.wait_for("Exit codes:");
    terminal.master.write_all(b"context show none\nexit\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "a person has seen the error");
}
