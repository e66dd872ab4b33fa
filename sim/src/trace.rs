//! What happened, in order, with the virtual time of each.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tests::truth::Anchor;
use tokio::time::Instant;

use crate::world::WALL_NS;

/// The trace of a run. Clones are the same.
#[derive(Debug, Clone)]
pub struct Trace {
    began: Instant,
    lines: Arc<Mutex<Vec<String>>>,
    shown: bool,
}

impl Trace {
    /// An empty trace that begins now; `shown` prints each line at once.
    #[must_use]
    pub fn new(shown: bool) -> Self {
        Self { began: Instant::now(), lines: Arc::default(), shown }
    }

    /// Virtual time since the run began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Where its beginning lies on the wall clock.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        Anchor { instant: self.began.into_std(), wall_ns: WALL_NS }
    }

    /// The same in nanoseconds.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.now().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes that something happened.
    #[expect(clippy::print_stderr, reason = "asked for on the command line")]
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:10.6} {what}", self.now().as_secs_f64());
        if self.shown {
            eprintln!("{line}");
        }
        self.lines.lock().push(line);
    }

    /// A hash over all lines: equal for equal runs.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for line in self.lines.lock().iter() {
            hasher.update(line.as_bytes());
            hasher.update(b"\n");
        }
        hasher.finalize().to_hex().chars().take(16).collect()
    }
}

/// Notes in a trace, as `format!` does.
#[macro_export]
macro_rules! note {
    ($trace:expr, $($what:tt)*) => { $trace.note(format_args!($($what)*)) };
}
