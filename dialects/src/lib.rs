//! Languages of other programs, turned into requests of ours, a module each.
//!
//! Invariant: nothing here does I/O, reads a clock or draws a random number. What comes is from strangers: it
//! is read strictly, and what is not understood is refused, never left out.
//!
//! Not here: what is answered, as JSON (`views`); connections (`daemon/src/front`).

// What is done for one more variant is decided where it is added, not by whoever comes by.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod http;
