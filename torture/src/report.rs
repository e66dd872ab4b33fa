//! What a run says. The only place that writes.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set when the user has ended everything: what fails from then on fails because of that.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Says this, and nothing more.
pub(crate) fn be_silent(last: &str) {
    if !SILENT.swap(true, Ordering::SeqCst) {
        // Nobody can be told that the terminal is gone.
        let _ = writeln!(std::io::stderr().lock(), "{last}");
    }
}

/// Whether the user has ended everything.
pub(crate) fn is_silent() -> bool {
    SILENT.load(Ordering::SeqCst)
}

/// A line for people, on standard error.
pub(crate) fn say(line: &str) {
    if !SILENT.load(Ordering::SeqCst) {
        // Nobody can be told that the terminal is gone.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}

/// A line for programs, on standard output.
pub(crate) fn data(line: &str) {
    if !SILENT.load(Ordering::SeqCst) {
        // Nobody can be told that the reader is gone.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}
