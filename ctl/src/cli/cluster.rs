//! `logctl cluster`: what can be typed.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::settings::Setting;

/// Make clusters, and look after what holds for all their nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Make authority, certificates, keys, configurations and the admin's context of a new cluster
    ///
    /// Running it again adds what is missing and changes nothing else.
    Create(Create),
    /// Show the settings that hold for every node
    Settings,
    /// Change settings of the whole cluster at once; admins only
    ///
    /// max-clock-error=100ms: largest error bound of a clock with which a node may be primary,
    /// 1ms to 10s. on-loss=degrade|refuse: what a primary does when no clock is good enough: go on
    /// with unknown bounds, or refuse writes.
    Set {
        /// What to change; what is not named stays
        #[arg(value_name = "KEY=VALUE", required = true)]
        settings: Vec<Setting>,
    },
}

/// A new cluster.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Folder of the cluster
    pub(crate) dir: PathBuf,
    /// Number of nodes: 3 survive the loss of one, 5 of two
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) nodes: u8,
    /// UDP port of the first node; the others follow
    #[arg(long, value_name = "PORT", default_value_t = 7101, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) base_port: u16,
    /// Address that the nodes listen on
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// Time server, host or host:port; give it several times. Without one the machine's own clock
    /// is trusted (mode local) and every status says so
    #[arg(long = "time-server", value_name = "ADDR")]
    pub(crate) time_servers: Vec<String>,
    /// Only say what would be written
    #[arg(long)]
    pub(crate) dry_run: bool,
}
