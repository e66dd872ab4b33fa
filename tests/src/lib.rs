//! The end-to-end harness and its suites.
