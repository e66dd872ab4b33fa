//! Time on this machine: the operating system's counters, the time servers, and the node's clock.
//!
//! All arithmetic is in the crate `clock`; here are the sockets, the timers and the one place that
//! reads the operating system's clocks. The wall clock is read at start and only says which century
//! it is; afterwards a raw counter is the only scale, so nobody's step of the wall clock can enter.
//!
//! Not here: persisting the ceiling (`node` gives it to the store), judging the peers' clocks, and
//! what a node with a bad clock may not do.

mod counter;
mod steps;

mod node_clock;

mod change;
mod history;
mod report;

mod poller;
mod servers;
mod sntp;

#[cfg(test)]
mod clock_events_test;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod history_test;
#[cfg(test)]
mod node_clock_test;
#[cfg(test)]
mod servers_test;
#[cfg(test)]
mod sntp_test;

pub use counter::{Counter, ManualClock, TimeServers, VirtualClock};
pub use node_clock::NodeClock;

use clock::TickError;
use proto::{ErrorCode, Failure};

/// What whoever waits for a stamp is told where there is none.
pub(crate) fn clock_failure(error: TickError) -> Failure {
    let code = match error {
        TickError::Ahead { .. } => ErrorCode::ClockAhead,
        TickError::Sealed => ErrorCode::Stopping,
        TickError::Unsynced | TickError::Ceiling { .. } | TickError::Behind { .. } => {
            ErrorCode::ClockUnavailable
        }
    };
    Failure::new(code, error)
}
