//! How the process ends: the exit codes of `logd`, the error that carries one, and the end itself.
//!
//! Invariant: once a database was open, the process ends by being replaced, as by `exec`. That stops
//! every thread at once: none goes on with a disk that has refused, and none of the database's own
//! meets what `exit` tears down around it, which ended one process in ten with an abort.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use config::ConfigError;
use config::seed::SeedError;

use crate::logging::LoggingError;
use crate::node_identity::ProofError;
use crate::store::{StoreError, Trouble};

/// The exit codes of `logd`; part of docs/troubleshooting.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was asked to stop and did.
    Stopped = 0,
    /// Anything else: a disk that refuses, a second signal before the end, a bug.
    Other = 1,
    /// The command line or the configuration is wrong. Starting again will not help.
    Config = 2,
    /// The address is in use, or does not belong to this machine; or none of the nodes answers
    /// that it was told to join.
    Network = 3,
    /// The certificates do not fit: to each other, to the node's name, or in time. Or the token
    /// with which it would join is not good, or of another cluster.
    Certificates = 4,
    /// It may not join: its name is taken, or its release and the cluster's do not fit. Or it is to go on
    /// alone, while a majority answers.
    Conflict = 6,
    /// Whether it joined is not known; the same command again is safe.
    Unknown = 7,
    /// The nodes that it would join have no quorum.
    NoQuorum = 11,
    /// Its clock is too far from the clocks of those that it would join.
    Clock = 12,
    /// The store belongs to another node or cluster, or there is none and no permission to create
    /// one. Or it was found damaged, and that could not be noted in it.
    Store = 13,
}

/// Carries the exit code to the image that takes the place of an ended one.
const EXIT_WITH: &str = "LOGD_EXIT_WITH";
/// Whether threads may run that are not ours.
static THREADS: AtomicBool = AtomicBool::new(false);

/// To be called before a database is opened.
pub(crate) fn before_database() {
    THREADS.store(true, Ordering::Relaxed);
}

/// Ends this process if it was made only for that, with the code that it was given.
pub fn if_ended() {
    let code = std::env::var(EXIT_WITH).ok();
    if let Some(code) = code.and_then(|code| code.parse().ok()) {
        std::process::exit(code);
    }
}

impl Exit {
    /// Whether a later start may do better by itself. Where not, the unit says that there is none.
    #[must_use]
    pub fn may_heal(self) -> bool {
        match self {
            Self::Stopped | Self::Config | Self::Store => false,
            Self::Other
            | Self::Network
            | Self::Certificates
            | Self::Conflict
            | Self::Unknown
            | Self::NoQuorum
            | Self::Clock => true,
        }
    }

    /// Ends the process now, in whatever state its threads are.
    pub fn now(self) -> ! {
        let code = i32::from(self as u8);
        // What was printed may wait for the end of its line.
        let _ = io::stdout().flush();
        if THREADS.load(Ordering::Relaxed) {
            // It returns only if that cannot be; then the other way is the right one.
            let _ = Command::new(OWN_IMAGE).env(EXIT_WITH, code.to_string()).exec();
        }
        std::process::exit(code)
    }
}

/// The program that this process runs, whatever has its name by now.
const OWN_IMAGE: &str = "/proc/self/exe";

/// Why the daemon ended, with its exit code and what to try.
#[derive(Debug)]
pub struct Failed {
    exit: Exit,
    source: anyhow::Error,
    hint: String,
    restarts: bool,
}

impl Failed {
    /// An ending with its reason and one line that says what to try.
    pub fn new(exit: Exit, source: impl Into<anyhow::Error>, hint: impl Into<String>) -> Self {
        Self { exit, source: source.into(), hint: hint.into(), restarts: false }
    }

    /// The same, but the process goes on with a new start: what it met is remembered, and the start
    /// does what is right then.
    #[must_use]
    pub fn and_restarts(self) -> Self {
        Self { restarts: true, ..self }
    }

    /// For failures of the system itself; `attempted` completes "cannot …".
    pub fn other<E: Into<anyhow::Error>>(attempted: &'static str) -> impl Fn(E) -> Self {
        move |error| {
            let error = error.into().context(format!("cannot {attempted}"));
            Self::new(Exit::Other, error, "look at the limits and the memory of this machine")
        }
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether it ends with a new start.
    #[must_use]
    pub fn restarts(&self) -> bool {
        self.restarts
    }

    /// Says why, and ends the process, or restarts it if that is how it ends.
    pub fn end(&self) -> ! {
        // A closed stderr is no reason to end in another way.
        let _ = writeln!(io::stderr(), "logd: {self}");
        if self.restarts {
            let error = restart();
            let _ = writeln!(io::stderr(), "logd: cannot restart: {error}");
        }
        self.exit.now()
    }
}

/// Replaces this process by a fresh start with the same command line, under the same process id. No
/// thread, file, lock or cache of the old one is left. Returns only why that cannot be.
fn restart() -> io::Error {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("logd"));
    Command::new(OWN_IMAGE).arg0(name).args(arguments).exec()
}

/// The reason with its causes, then the line that says what to try; as `{:#}` the reason alone.
impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.source.to_string();
        for cause in self.source.chain().skip(1).map(ToString::to_string) {
            // Some errors say their cause themselves; nobody wants to read it twice.
            if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        if f.alternate() {
            return f.write_str(&text);
        }
        write!(f, "{text}\ntry: {}", self.hint)
    }
}

impl From<ConfigError> for Failed {
    fn from(error: ConfigError) -> Self {
        Self::new(
            Exit::Config,
            error,
            "correct the file, then run logd --config FILE --check-config",
        )
    }
}

impl From<LoggingError> for Failed {
    fn from(error: LoggingError) -> Self {
        Self::new(Exit::Config, error, "set LOGD_LOG=info, or log.filter = \"info\" in the file")
    }
}

impl From<ProofError> for Failed {
    fn from(error: ProofError) -> Self {
        let hint = error.hint();
        Self::new(Exit::Certificates, error, hint)
    }
}

impl From<&StoreError> for Failed {
    fn from(error: &StoreError) -> Self {
        let (exit, hint) = match error {
            StoreError::Foreign(_) | StoreError::NotAdmitted(_) => {
                (Exit::Store, "check data_dir; run logctl status on another node")
            }
            StoreError::TwoHistories(_) => (
                Exit::Store,
                "run logctl verify --state to see from where the nodes differ; nothing was cut \
                 off, and a person has to decide which of them to go on with",
            ),
            StoreError::Damaged(_) | StoreError::Unreadable(_) | StoreError::Incomplete(_) => (
                Exit::Store,
                "start it again: it asks the others to take it back with a new store; if this \
                 comes again, the disk of data_dir is bad",
            ),
            StoreError::Environment { trouble, .. } => (Exit::Other, trouble.hint()),
            StoreError::File { source, .. } | StoreError::Log { source, .. } => {
                (Exit::Other, Trouble::of(source).hint())
            }
            StoreError::Database { .. } | StoreError::Refused(_) | StoreError::Stopped(_) => {
                (Exit::Other, Trouble::Device.hint())
            }
        };
        Self::new(exit, anyhow::Error::msg(error.to_string()), hint)
    }
}

impl From<SeedError> for Failed {
    fn from(error: SeedError) -> Self {
        if let SeedError::Io { source, .. } = &error {
            let hint = Trouble::of(source).hint();
            return Self::new(Exit::Other, error, hint);
        }
        Self::new(Exit::Store, error, "create the node's folder again: logctl cluster create")
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn causes_are_told_once_and_then_what_to_try() {
        let source = io::Error::new(io::ErrorKind::NotFound, "gone");
        let error = ConfigError::Read { file: PathBuf::from("n.toml"), source };
        let failed = Failed::from(error);
        assert_eq!(failed.exit(), Exit::Config);
        let want = "cannot read the configuration n.toml: gone\ntry: ";
        assert!(failed.to_string().starts_with(want), "{failed}");
        let failed = Failed::other("do it: gone")(io::Error::other("gone"));
        assert!(failed.to_string().starts_with("cannot do it: gone\ntry: "), "{failed}");
    }
}
