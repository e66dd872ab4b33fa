//! Programs of others that tests use where they are installed: `tools/setup test` does that.

use std::io::Write as _;
use std::path::PathBuf;

/// What was looked for; without it, `None` and a message. Where `CI` is set it must be there: a
/// suite that is skipped unseen proves nothing.
///
/// # Errors
/// When it is missing and required.
pub(crate) fn found<T>(what: &str, package: &str, it: Option<T>) -> anyhow::Result<Option<T>> {
    if it.is_none() {
        let text = format!("no {what} here: install {package}, or run tools/setup test");
        anyhow::ensure!(!required(), "{text}");
        say(&text);
    }
    Ok(it)
}

/// Says why something is skipped.
pub(crate) fn say(why: &str) {
    // Nobody can be told that the terminal is gone.
    let _ = writeln!(std::io::stderr().lock(), "skipped: {why}");
}

/// Where `tools/setup test` unpacks programs that cannot be installed beside what the machine has.
pub(crate) fn tools() -> Option<PathBuf> {
    let told = std::env::var_os("LOGD_TOOLS").map(PathBuf::from);
    told.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/logd/tools")))
}

/// Whether tests may not be skipped.
fn required() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}
