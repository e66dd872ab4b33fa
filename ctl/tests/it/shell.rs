//! `logctl shell`, fed by a pipe and by a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Output, Stdio};

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

/// Seen to fail with the prompt's name taken once, at the beginning.
#[test]
fn a_terminal_gets_a_prompt_that_says_who() {
    let user = User::with_cluster();
    let second = user.ok(&["cluster", "create", "other", "--base-port", "9001", "-o", "json"]);
    let second = crate::user::json(&second)["context"].as_str().unwrap().to_owned();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = || File::options().read(true).write(true).open(&name).unwrap();
    let mut command = user.command(&["shell"]);
    command.stdin(slave()).stdout(slave()).stderr(slave());
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut terminal = Terminal { master: File::from(master), seen: String::new() };
    terminal.wait_for("logctl(admin)> ");
    terminal.master.write_all(format!("context use {second}\n").as_bytes()).unwrap();
    terminal.wait_for(&format!("logctl({second})> "));
    terminal.master.write_all(b"get\nhelp\n").unwrap();
    terminal.wait_for("error:");
    terminal.wait_for("Exit codes:");
    terminal.master.write_all(b"context show none\nexit\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "a person has seen the error");
}
