//! logd, the daemon.

pub mod cli;
pub mod config;
pub mod exit;
pub mod logging;
pub mod notify;
pub mod process;
pub mod proof;
pub mod seed;
pub mod signals;
