//! `logctl admin`: what can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use proto::Name;

use super::cluster::parse_ttl;
use crate::context::{Node, parse_node};

/// Administrators: who may do everything. Each has a key of its own, and the cluster's table says which.
#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    /// Make a join token with which one person becomes an administrator; the key is made where the token
    /// is used
    Add {
        /// Name of the new administrator
        name: Name,
        /// How long the token may be used: 30m, 12h, 7d
        #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_ttl)]
        ttl: Duration,
    },
    /// List the administrators
    List,
    /// Remove an administrator: its key is refused from then on. The last one cannot be removed
    Remove {
        /// Its name
        name: Name,
    },
    /// Make an administrator with the authority's key, when all administrators' keys are lost
    ///
    /// A new key is made here, the authority's key signs for it, and the cluster adds it: under a new
    /// name, or in place of an administrator of that name, whose key is refused from then on. This is an
    /// event that everybody can read.
    Recover(AdminRecover),
}

/// Whom to make an administrator, and by which key.
#[derive(Debug, Args)]
pub(crate) struct AdminRecover {
    /// Name of the administrator
    pub(crate) name: Name,
    /// Private key of the authority (PEM); its certificate lies beside it as ca.crt
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_key: PathBuf,
    /// Certificate of the authority (PEM), if it lies elsewhere
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// A node to ask, if no context here knows one; give it several times
    #[arg(long = "node", value_name = "NAME=HOST:PORT", value_parser = parse_node)]
    pub(crate) nodes: Vec<Node>,
}
