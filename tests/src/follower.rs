//! A `logctl` command that goes on until it is stopped: `--follow`, a chat, a bench.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::patience::until;
use crate::user::User;

/// The command; it is killed when this is dropped.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    out: PathBuf,
    args: Vec<String>,
}

impl Follower {
    /// Starts it. What it writes goes to files in `folder` that begin with `name`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(user: &User, args: &[&str], folder: &Path, name: &str) -> anyhow::Result<Self> {
        let out = folder.join(format!("{name}.out"));
        let mut command = user.command(args)?;
        command.stdin(Stdio::piped()).stdout(File::create(&out)?);
        command.stderr(File::create(out.with_extension("err"))?);
        let child = command.spawn().context("cannot run logctl")?;
        Ok(Self { child, out, args: args.iter().map(|&arg| arg.to_owned()).collect() })
    }

    /// Types something.
    ///
    /// # Errors
    /// When it reads no longer.
    pub fn types(&mut self, text: &str) -> anyhow::Result<()> {
        let stdin = self.child.stdin.as_mut().context("its input is closed")?;
        stdin.write_all(text.as_bytes())?;
        Ok(stdin.flush()?)
    }

    /// Ends its input.
    pub fn closes(&mut self) {
        drop(self.child.stdin.take());
    }

    /// What it has written, whole lines alone.
    #[must_use]
    pub fn text(&self) -> Vec<String> {
        let text = std::fs::read(&self.out).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(str::to_owned).collect()
    }

    /// What it has said on standard error.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.out.with_extension("err")).unwrap_or_default()
    }

    /// What it has written, as one JSON object a line.
    ///
    /// # Errors
    /// When a line is none.
    pub fn lines(&self) -> anyhow::Result<Vec<Value>> {
        let line = |line: &String| serde_json::from_str(line).with_context(|| line.clone());
        self.text().iter().map(line).collect()
    }

    /// Waits until what it has written is as wanted.
    ///
    /// # Errors
    /// When it does not become so; with what it said.
    pub fn wait<T>(
        &self,
        what: &str,
        mut ask: impl FnMut(&[String]) -> Option<T>,
    ) -> anyhow::Result<T> {
        until(what, || {
            let text = self.text();
            ask(&text).ok_or_else(|| format!("{:?}: {text:?} {}", self.args, self.said()))
        })
    }

    /// Waits for its end and returns its exit code.
    ///
    /// # Errors
    /// When it does not end.
    pub fn ended(&mut self) -> anyhow::Result<i32> {
        let status = until(&format!("the end of logctl {:?}", self.args), || {
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            ended.ok_or_else(|| "it still runs".to_owned())
        })?;
        status.code().with_context(|| format!("logctl {:?} died: {status}", self.args))
    }

    /// Presses Ctrl-C, and returns its exit code.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> anyhow::Result<i32> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        self.ended()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended by itself; then both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
