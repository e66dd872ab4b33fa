//! Waiting for a moment that may be here already.

use tokio::time::{Instant, sleep_until};

/// Waits for a moment, if it is still to come. A timer is not asked for one that is here: it would fire with
/// its next tick, up to a millisecond later.
pub async fn wait_until(due: Instant) {
    if due > Instant::now() {
        sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    /// Each call of a client begins so. Meant to catch: a timer that is asked all the same.
    #[tokio::test]
    async fn what_is_due_waits_for_no_timer() {
        assert!(wait_until(Instant::now()).now_or_never().is_some());
        let later = Instant::now() + Duration::from_secs(3600);
        assert!(wait_until(later).now_or_never().is_none());
    }
}
