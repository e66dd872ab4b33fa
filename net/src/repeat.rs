//! Keeps one refused caller who comes back again and again from filling the log.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long the same news is no news.
const QUIET: Duration = Duration::from_secs(30);
/// Different news that are remembered; beyond it everything is news again.
const REMEMBERED: usize = 256;

/// What was said lately.
#[derive(Debug, Default)]
pub(crate) struct Repeats(Mutex<HashMap<String, Instant>>);

impl Repeats {
    /// Whether this was not said lately; from now on it was.
    pub(crate) fn is_news(&self, text: &str) -> bool {
        let now = Instant::now();
        let mut said = self.0.lock();
        if said.get(text).is_some_and(|at| now < *at + QUIET) {
            return false;
        }
        if said.len() >= REMEMBERED {
            said.clear();
        }
        said.insert(text.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_once_in_a_while() {
        let repeats = Repeats::default();
        assert!(repeats.is_news("a") && !repeats.is_news("a") && repeats.is_news("b"));
        tokio::time::advance(QUIET).await;
        assert!(repeats.is_news("a"));
        for i in 0..10 * REMEMBERED {
            repeats.is_news(&i.to_string());
        }
        assert!(repeats.0.lock().len() <= REMEMBERED);
    }
}
