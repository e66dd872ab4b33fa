//! `logctl admin`: what can be typed.

use std::time::Duration;

use clap::Subcommand;
use proto::Name;

use super::cluster::parse_ttl;

/// Administrators: who may do everything. Each has a key of its own, and the cluster's table says which.
#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    /// Make a token with which somebody becomes an administrator, once; its key is made where the
    /// token is used
    Add {
        /// Name of the new administrator
        name: Name,
        /// How long the token may be used: 30m, 12h, 7d
        #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_ttl)]
        ttl: Duration,
    },
    /// List the administrators
    List,
    /// Take an administrator out: its key is refused from then on. Never the last one
    Remove {
        /// Its name
        name: Name,
    },
}
