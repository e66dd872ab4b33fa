//! What a figure was a little earlier, so that figures of two nodes can be compared that tell of
//! themselves at different times.

use std::time::Duration;

use tokio::time::Instant;

/// How long ago at least. Longer than the word of a node that is up can be old.
const AGO: Duration = Duration::from_secs(2);

/// A figure as it was, and the one that will take its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Earlier {
    old: (Instant, u64),
    next: (Instant, u64),
}

impl Earlier {
    /// Knows nothing before this.
    pub(crate) fn new(at: Instant, figure: u64) -> Self {
        Self { old: (at, figure), next: (at, figure) }
    }

    /// Takes a newer figure.
    #[must_use]
    pub(crate) fn then(self, at: Instant, figure: u64) -> Self {
        if at.saturating_duration_since(self.next.0) < AGO {
            return self;
        }
        Self { old: self.next, next: (at, figure) }
    }

    /// What it was two seconds before `now`, or earlier; `None` if that is not known.
    pub(crate) fn before(&self, now: Instant) -> Option<u64> {
        let old = |(at, _): &&(Instant, u64)| now.saturating_duration_since(*at) >= AGO;
        [self.next, self.old].iter().find(old).map(|(_, figure)| *figure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with each new figure taken at once: nothing was ever old enough.
    #[test]
    fn a_figure_that_grows_is_known_as_it_was() {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let mut figure = Earlier::new(began, 0);
        for ms in (100..=10_000).step_by(100) {
            figure = figure.then(at(ms), ms);
            let before = figure.before(at(ms));
            assert_eq!(before.is_some(), ms >= 2000, "{ms}");
            assert!(before.is_none_or(|before| (2000..=4000).contains(&(ms - before))), "{ms}");
        }
        assert_eq!(figure.before(at(60_000)), Some(10_000), "nothing newer came");
    }
}
