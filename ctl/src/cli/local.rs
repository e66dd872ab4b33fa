//! Clusters on this machine, and the look at what nodes hold: what can be typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// A cluster on this machine, to work with.
#[derive(Debug, Subcommand)]
pub(crate) enum Dev {
    /// Make the cluster if there is none, and start what is not running
    Up(DevUp),
    /// Stop the cluster; its data stays unless --purge is given
    Down(DevDown),
    /// Show its nodes; exit code 10 if some are down, 3 if all are, 5 if there is no cluster
    Status(DevDir),
}

/// Whose files to look at.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Configuration of a node of this machine; give it several times. Default: those of the context's
    /// cluster, if its nodes run here
    #[arg(long = "config", value_name = "FILE")]
    pub(crate) configs: Vec<PathBuf>,
}

/// What to write, and about whom.
#[derive(Debug, Args)]
pub(crate) struct SupportBundle {
    /// Where to; - is standard output. Default: logd-support-TIME.json
    pub(crate) file: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Configuration of a node of this machine to look at, as doctor does; give it several times
    #[arg(long = "config", value_name = "FILE")]
    pub(crate) configs: Vec<PathBuf>,
}

/// Which folder.
#[derive(Debug, Args)]
pub(crate) struct DevDir {
    /// Folder of the cluster; default: dev in logctl's folder for state
    #[arg(long, value_name = "DIR", env = "LOGCTL_DEV_DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// What to start.
#[derive(Debug, Args)]
pub(crate) struct DevUp {
    /// Number of nodes; those that are missing are added to the running cluster. Default: 3, or as
    /// many as there are
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) nodes: Option<u8>,
    /// Stop the cluster that is there, remove all of its data, and begin with an empty one
    #[arg(long)]
    pub(crate) fresh: bool,
    #[command(flatten)]
    pub(crate) place: DevDir,
    /// UDP port of the first node; the others follow. Default: ports that are free
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) base_port: Option<u16>,
    /// The daemon; default: next to logctl, else from PATH
    #[arg(long, value_name = "PATH", env = "LOGCTL_LOGD")]
    pub(crate) logd: Option<PathBuf>,
}

/// What to stop.
#[derive(Debug, Args)]
pub(crate) struct DevDown {
    #[command(flatten)]
    pub(crate) place: DevDir,
    /// Remove the folder and its contexts too
    #[arg(long)]
    pub(crate) purge: bool,
}

/// What to compare.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Compare what the nodes hold, at an entry that all of them have applied
    #[arg(long, required = true)]
    pub(crate) state: bool,
    /// Let each node read every row of its disk, too, and check every record against its hashes
    #[arg(long)]
    pub(crate) deep: bool,
}
