//! One `logd` process: started with its configuration, signalled, waited for, and never left behind.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::patience::until;

/// What a service manager would set, and a test must not inherit.
const INHERITED: [&str; 5] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM", "LOGD_LOG"];

/// One node's process, running or not. It is killed when this is dropped.
#[derive(Debug)]
pub struct Logd {
    name: String,
    config: PathBuf,
    log: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    prefix: Vec<String>,
    child: Option<Child>,
}

impl Logd {
    /// The node of a configuration; nothing is started yet. What it writes goes to `log`.
    #[must_use]
    pub fn new(name: &str, config: PathBuf, log: PathBuf) -> Self {
        let (environment, prefix) = (Vec::new(), Vec::new());
        Self { name: name.to_owned(), config, log, environment, prefix, child: None }
    }

    /// Name of the node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Gives it an environment from the next start on.
    pub fn set_environment(&mut self, environment: Vec<(&'static str, OsString)>) {
        self.environment = environment;
    }

    /// Starts it through another program from now on, one that becomes it and keeps its process id.
    pub fn set_prefix(&mut self, prefix: Vec<String>) {
        self.prefix = prefix;
    }

    /// Starts it, with further arguments.
    ///
    /// # Errors
    /// When it runs already, or the binary is missing.
    pub fn start(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        anyhow::ensure!(!self.is_running()?, "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = through(&self.prefix, &binary("logd")?);
        command.arg("--config").arg(&self.config).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        for name in INHERITED {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.child = Some(command.spawn().context("cannot start logd")?);
        Ok(())
    }

    /// Whether the process is there. One that ended by itself stays here until [`Logd::ended`].
    ///
    /// # Errors
    /// When the system does not say.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is not there.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    /// Kills it and waits for the kernel to have taken it away: its port is free then.
    ///
    /// # Errors
    /// When the process is not there.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.ended().map(drop)
    }

    /// Waits until it has ended by itself, or of a signal.
    ///
    /// # Errors
    /// When it does not end.
    pub fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let child = self.child.as_mut().with_context(|| format!("{} does not run", self.name))?;
        let status = until(&format!("the end of {}", self.name), || {
            let ended = child.try_wait().map_err(|error| error.to_string())?;
            ended.ok_or_else(|| "it still runs".to_owned())
        })?;
        self.child = None;
        Ok(status)
    }

    /// Its process id.
    ///
    /// # Errors
    /// When the process is not there.
    pub fn pid(&self) -> anyhow::Result<u32> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        Ok(child.id())
    }

    /// Memory that it holds, in KiB.
    ///
    /// # Errors
    /// When the process is not there.
    pub fn memory_kib(&self) -> anyhow::Result<u64> {
        self.memory("VmRSS:")
    }

    /// Most memory that it has held since it was started, in KiB.
    ///
    /// # Errors
    /// When the process is not there.
    pub fn memory_peak_kib(&self) -> anyhow::Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, which: &str) -> anyhow::Result<u64> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(which));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.with_context(|| format!("no {which}"))?.parse()?)
    }

    /// What it has written since it was first started.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until it has written something.
    ///
    /// # Errors
    /// When it does not.
    pub fn says(&self, part: &str) -> anyhow::Result<()> {
        until(&format!("'{part}' in the log of {}", self.name), || {
            crate::patience::when(self.log().contains(part), "it is not there")
        })
    }
}

impl Drop for Logd {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself; then both do nothing.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A command that begins with other words, if there are any.
pub(crate) fn through(prefix: &[String], program: &Path) -> Command {
    let Some((first, rest)) = prefix.split_first() else { return Command::new(program) };
    let mut command = Command::new(first);
    command.args(rest).arg(program);
    command
}

/// A binary of this build: beside the test that runs, or one folder up.
///
/// # Errors
/// When it was not built.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let found = exe.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let mut found = found.filter(|path| path.is_file());
    found.next().with_context(|| format!("{name} is not beside {}: make build", exe.display()))
}
