//! The command line of `logd`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// The daemon of a logd cluster: serves clients and replicates with its peers.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "logd", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// The node's configuration, as `logctl cluster create` writes it.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Check the configuration and the certificates, say what is wrong, and exit.
    #[arg(long)]
    pub check_config: bool,
    /// Read all of the stopped node's store, say what is wrong, and exit; nothing is changed.
    #[arg(long, conflicts_with = "check_config")]
    pub check_store: bool,
    /// Serve on this address and port instead of the configuration's.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Nodes of the cluster to join, tried before those that the token names. Ignored by a node that has
    /// joined already: one with a store, or with the permission to create one.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub join: Vec<String>,
    /// Token to join with. Others on this machine can see it: better use --token-file.
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// File with the token to join with.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

const EXIT_CODES: &str = "\
Exit codes:
   0  stopped as asked, or what was to be checked is right
   1  any other error; a second signal before the end
   2  the command line or the configuration is wrong
   3  the address is in use or not of this machine
   4  the certificates do not fit
  13  the store is not proven intact, not this node's, or not admitted

Signals:
  TERM, INT  hand over, finish what is under way, stop; the second one stops at once
  HUP        read certificates and log filter again

Environment:
  LOGD_LOG   log filter; wins over the configuration";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["logd"]).is_err(), "--config is not optional");
        let cli =
            Cli::try_parse_from(["logd", "--config", "n.toml", "--listen", "[::1]:1"]).unwrap();
        assert_eq!(cli.listen, Some("[::1]:1".parse().unwrap()));
        assert!(!cli.check_config);
    }
}
