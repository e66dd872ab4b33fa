//! `logctl` as a user runs it: with a home of its own, and nothing of the machine's.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::Context as _;
use certs::Credentials;
use serde_json::Value;

use crate::logd::{binary, through};
use crate::patience::until;

/// A user of `logctl`.
#[derive(Debug, Clone)]
pub struct User {
    home: PathBuf,
    prefix: Vec<String>,
    environment: Vec<(&'static str, OsString)>,
}

/// What a command wrote, and how it ended.
#[derive(Debug, Clone)]
pub struct Run {
    /// The arguments.
    pub args: Vec<String>,
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl User {
    /// A user whose contexts, keys and state lie under `home`.
    #[must_use]
    pub fn new(home: PathBuf) -> Self {
        Self { home, prefix: Vec::new(), environment: Vec::new() }
    }

    /// The same user, whose commands run through another program.
    #[must_use]
    pub fn through(mut self, prefix: Vec<String>) -> Self {
        self.prefix = prefix;
        self
    }

    /// The same user, with a further environment.
    #[must_use]
    pub fn with(mut self, environment: Vec<(&'static str, OsString)>) -> Self {
        self.environment = environment;
        self
    }

    /// The folder given as `LOGCTL_HOME`.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The command, not yet run.
    ///
    /// # Errors
    /// When `logctl` was not built.
    pub fn command(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = through(&self.prefix, &binary("logctl")?);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LOGCTL_") {
                command.env_remove(name);
            }
        }
        for name in ["CLICOLOR_FORCE", "NO_COLOR"] {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(args).env("LOGCTL_HOME", &self.home).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it cannot be run or does not end.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<Run> {
        finish(self.command(args)?, args, b"")
    }

    /// Runs a command with something on its standard input.
    ///
    /// # Errors
    /// When it cannot be run or does not end.
    pub fn run_with(&self, args: &[&str], stdin: &[u8]) -> anyhow::Result<Run> {
        let mut command = self.command(args)?;
        command.stdin(Stdio::piped());
        finish(command, args, stdin)
    }

    /// Runs what must succeed.
    ///
    /// # Errors
    /// When it does not; with what it said.
    pub fn ok(&self, args: &[&str]) -> anyhow::Result<Run> {
        let run = self.run(args)?;
        anyhow::ensure!(run.code == 0, "{run}");
        Ok(run)
    }

    /// Runs what must succeed, with `-o json`, and parses what it wrote.
    ///
    /// # Errors
    /// When it fails, or writes something else.
    pub fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        self.ok(&[args, &["-o", "json"]].concat())?.json()
    }

    /// Runs what must be refused: no data, the exit code, and a last line that says what to try.
    /// Returns what was said.
    ///
    /// # Errors
    /// When it is not refused so.
    pub fn refused(&self, args: &[&str], code: i32) -> anyhow::Result<String> {
        self.run(args)?.refused(code)
    }

    /// The credentials of a context.
    ///
    /// # Errors
    /// When there is no such context, or its files are no good.
    pub fn credentials(&self, context: &str) -> anyhow::Result<Credentials> {
        let [ca, cert, key] = self.identity_files(context)?;
        Ok(Credentials::load_any_age(&ca, &cert, &key)?)
    }

    /// Files of a context: authority, certificate, key.
    ///
    /// # Errors
    /// When there is no such context.
    pub fn identity_files(&self, context: &str) -> anyhow::Result<[PathBuf; 3]> {
        let path = self.home.join("contexts").join(format!("{context}.toml"));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let table: toml::Table = text.parse()?;
        let file = |key: &str| {
            let value = table.get(key).and_then(toml::Value::as_str);
            value.map(|path| self.home.join(path)).with_context(|| format!("no {key} in {text}"))
        };
        Ok([file("ca")?, file("cert")?, file("key")?])
    }
}

impl Run {
    /// What it wrote, as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// What it wrote, as one JSON document.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.stdout).with_context(|| self.to_string())
    }

    /// What it wrote, as one JSON object a line.
    ///
    /// # Errors
    /// When it is something else.
    pub fn lines(&self) -> anyhow::Result<Vec<Value>> {
        let text = self.text();
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().with_context(|| self.to_string())
    }

    /// Checks a refusal, see [`User::refused`].
    ///
    /// # Errors
    /// When it is none.
    pub fn refused(self, code: i32) -> anyhow::Result<String> {
        let last = self.stderr.lines().last().unwrap_or_default();
        let hinted = last.strip_prefix("try: ").is_some_and(|hint| hint.len() > 3);
        let as_wanted = self.code == code && self.stdout.is_empty() && hinted;
        anyhow::ensure!(as_wanted, "wanted a refusal with {code} and a line 'try: …': {self}");
        Ok(self.stderr)
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { args, code, stderr, .. } = self;
        let said: String = self.text().chars().take(2000).collect();
        write!(f, "logctl {args:?} ended with {code}\nstdout: {said}\nstderr: {stderr}")
    }
}

/// Runs a prepared command to its end; one that hangs is killed.
///
/// # Errors
/// When it cannot be run or does not end.
pub fn finish(mut command: Command, args: &[&str], stdin: &[u8]) -> anyhow::Result<Run> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run logctl")?;
    let readers = (child.stdout.take().map(reader), child.stderr.take().map(reader));
    if let Some(mut pipe) = child.stdin.take() {
        // Whoever does not read to the end has refused what is there.
        let _ = pipe.write_all(stdin);
    }
    let ended = until(&format!("the end of logctl {args:?}"), || {
        let ended = child.try_wait().map_err(|error| error.to_string())?;
        ended.ok_or_else(|| "it still runs".to_owned())
    });
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let read = |thread: Option<thread::JoinHandle<Vec<u8>>>| {
        thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    };
    let (stdout, stderr) = (read(readers.0), read(readers.1));
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    let status = ended.with_context(|| stderr.clone())?;
    let code = status.code().with_context(|| format!("logctl {args:?} died: {status}"))?;
    Ok(Run { args: args.iter().map(|&arg| arg.to_owned()).collect(), code, stdout, stderr })
}

fn reader(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still what was written.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}
