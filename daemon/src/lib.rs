//! logd, the daemon.
