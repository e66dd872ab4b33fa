//! logctl, the command line.
