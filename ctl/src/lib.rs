//! logctl, the command line.
//!
//! `cli` says what can be typed, `verb/` does it (one file a verb), `session` is the conversation
//! with the cluster, `out` is the only place that prints. A command ends with an exit code of
//! docs/troubleshooting.md, and a failing one with a line that says what to try.
//!
//! Not here: what answers look like (`views`), QUIC, retries and failover (`net`), certificates (`certs`), the daemon.

// What is done for one more variant is decided where it is added, not by whoever comes by.
#![deny(clippy::wildcard_enum_match_arm)]

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

mod chart;
mod cli;
mod completion;
mod context;
mod dev;
mod each_node;
mod error;
mod filter;
mod gap;
mod hint;
mod home;
mod input;
mod join_folder;
mod join_token;
mod layout;
mod line_editor;
mod local;
mod out;
mod renewal;
mod scenario;
mod seen_stamp_file;
mod session;
mod spread;
mod system;
mod tail;
mod target;
mod turn_file;
mod verb;

use cli::{Cli, Globals};
use error::CtlError;
use out::Out;

/// The shard that holds the records; this release has no other.
const SHARD: u32 = 1;

/// Runs one command line and returns its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::parse(args) {
        Ok(cli) => cli,
        Err(answer) => return ExitCode::from(tell(&answer)),
    };
    let mut out = Out::new(&cli.globals);
    trace(&cli.globals);
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CtlError::File { what: "cannot start".to_owned(), source })
        .and_then(|runtime| runtime.block_on(Box::pin(command(cli, &mut out))));
    ExitCode::from(out.end(done))
}

async fn command(cli: Cli, out: &mut Out) -> Result<(), CtlError> {
    verb::run(cli, out).await
}

/// Tells help, the version, or what is wrong with a command line. Returns the exit code.
pub(crate) fn tell(answer: &cli::NotParsed) -> u8 {
    if answer.is_error() {
        out::complain(answer.text().trim_end());
        out::complain(&format!("try: {}", answer.hint()));
        return proto::ExitCode::Usage.number();
    }
    match out::announce(&answer.text()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            out::complain(&format!("error: {}", CtlError::Output(error).line()));
            1
        }
        _ => 0,
    }
}

/// Log lines of the client go to standard error, as far as `-v` asks for them.
fn trace(globals: &Globals) {
    let filter = match globals.verbose {
        0 => return,
        1 => "info",
        _ => "debug",
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(false)
        .finish();
    // Only a second subscriber could be refused, and there is one per process.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
