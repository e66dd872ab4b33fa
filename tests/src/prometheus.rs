//! Debian's Prometheus and its checker, as programs that others wrote.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use crate::user::{Run, finish};
use crate::{helpers, ports};

/// A running Prometheus; killed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    child: Child,
}

/// Runs `promtool`. `None`, with a message, where there is none and nobody requires it.
///
/// # Errors
/// When it is missing and required, or cannot be run.
pub fn promtool(args: &[&str], folder: &Path, stdin: &[u8]) -> anyhow::Result<Option<Run>> {
    let Some(program) = helpers::found("promtool", "prometheus", program("promtool"))? else {
        return Ok(None);
    };
    let mut command = Command::new(program);
    command.args(args).current_dir(folder);
    finish(command, args, stdin).map(Some)
}

impl Prometheus {
    /// Starts one with this configuration, its files in `folder`. `None`, with a message, where there is none
    /// and nobody requires it.
    ///
    /// # Errors
    /// When it is missing and required, or cannot be started.
    pub fn start(config: &str, folder: &Path) -> anyhow::Result<Option<Self>> {
        let Some(program) = helpers::found("prometheus", "prometheus", program("prometheus"))?
        else {
            return Ok(None);
        };
        let file = folder.join("prometheus.yml");
        fs::write(&file, config)?;
        let port = ports::in_a_row(1)?;
        let log = File::create(folder.join("prometheus.log"))?;
        let mut command = Command::new(&program);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.current_dir(folder).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let child =
            command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Some(Self { port, child }))
    }

    /// Asks it for the values of an expression: labels and value of each, as `promtool` prints them.
    ///
    /// # Errors
    /// When it does not answer (yet).
    pub fn values(&self, expression: &str, folder: &Path) -> Result<String, String> {
        let server = format!("http://127.0.0.1:{}", self.port);
        let run = promtool(&["query", "instant", &server, expression], folder, &[]);
        match run {
            Ok(Some(run)) if run.code == 0 => Ok(run.text()),
            Ok(Some(run)) => Err(run.to_string()),
            Ok(None) => Err("no promtool".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // One that has ended by itself is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let runs = |program: &PathBuf| {
        let version = Command::new(program).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    };
    let unpacked = helpers::tools().map(|tools| tools.join("prometheus/usr/bin").join(name));
    [PathBuf::from(name)].into_iter().chain(unpacked).find(runs)
}
