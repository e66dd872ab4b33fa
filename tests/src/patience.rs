//! Waiting until something is so.

use std::time::{Duration, Instant};

/// Longest wait for anything. A machine that does much else may take a while.
pub const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Asks again and again until there is an answer, for at most [`PATIENCE`]. What the question
/// returns as an error is why there is none yet.
///
/// # Errors
/// When patience ends: what was waited for, and the last reason why it was not so.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> anyhow::Result<T> {
    let since = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(reason) if since.elapsed() > PATIENCE => {
                anyhow::bail!("waited {PATIENCE:?} for {what}: {reason}")
            }
            // Between two questions: the answer ends the wait, not the time.
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// An answer that is only yes or no.
///
/// # Errors
/// `otherwise`, if it is no.
pub fn when(so: bool, otherwise: impl Into<String>) -> Result<(), String> {
    if so { Ok(()) } else { Err(otherwise.into()) }
}
