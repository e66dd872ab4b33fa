//! Processes of others, and ports for them.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use crate::processor::used_ms;

/// A process that ends with this.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts it; what it says goes to a file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let log = File::create(log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let program = command.get_program().display().to_string();
        Ok(Self(command.spawn().with_context(|| format!("{program}: {HINT}"))?))
    }

    /// Processor time used so far, in milliseconds.
    pub(crate) fn used_ms(&self) -> u64 {
        used_ms(self.0.id())
    }
}

/// Where the programs come from.
const HINT: &str = "is it there? `make bench-peers` gets the programs of others";

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Free TCP ports. They may be taken before they are used; then the run fails and is made again.
///
/// # Errors
/// When there are none.
pub(crate) fn ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let held = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)));
    let held = held.collect::<Result<Vec<_>, _>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
