//! Time that says how exact it is: the hybrid logical clock, stamps with error bounds, and the
//! arithmetic that turns SNTP exchanges into an interval which contains UTC.
//!
//! Pure: no I/O and no clock of its own; readings, packets and randomness come in as arguments.
//!
//! Not here: sockets and the operating system's clocks (`daemon::time`).

pub mod hlc;
pub mod stamp;

pub mod generator;

pub mod interval;
pub mod reading;
pub mod state;

pub use generator::{HlcClock, TickError};
pub use hlc::{Hlc, HlcError};
pub use interval::Interval;
pub use reading::{ClockView, Reading};
pub use stamp::Stamp;
pub use state::ClockState;
