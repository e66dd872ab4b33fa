//! The command line of `logd`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The daemon of a logd cluster: serves clients and replicates with its peers.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "logd", version, about, after_help = HELP)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct CommandLine {
    /// What to do instead of running the node.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// How to run the node.
    #[command(flatten)]
    pub serve: Option<Cli>,
}

/// What `logd` does besides running a node.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Verb {
    /// Go on with what this node holds, after the majority of the voters was lost for ever.
    Recover(Recover),
    /// Write the manual pages of this program into a folder.
    #[command(hide = true)]
    Man {
        /// The folder.
        dir: PathBuf,
    },
}

/// Says what this node can prove; and makes the cluster go on with this node alone, if that is asked for.
/// Records that only the lost nodes have acknowledged are lost then. The old store is kept.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Recover {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Yes: a majority of the voters will never come back, and what they alone hold is given up.
    #[arg(long, required_unless_present = "dry_run")]
    pub i_have_lost_the_majority: bool,
    /// Only say what this node can prove, and which other nodes answer. Changes nothing but the count of
    /// starts.
    #[arg(long)]
    pub dry_run: bool,
    /// How to say it.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Whom the output is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// People.
    Text,
    /// Programs.
    Json,
}

/// How to run the node.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
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

/// What stands behind the options, block by block.
pub(crate) const HELP: &str = "\
Exit codes:
   0  stopped as asked, or what was to be checked is right
   1  any other error; a second signal before the end
   2  the command line or the configuration is wrong
   3  the address is in use or not of this machine; joining: nobody answers
   4  the certificates do not fit; joining: the token is refused
   6  joining: the name is taken, or another protocol; recover: a majority of the voters answers, or could
   7  joining: it is not known whether it did; the same again is safe
  11  joining: the cluster has no quorum
  12  joining: this clock is too far off
  13  the store is not proven intact, not this node's, or not admitted

The file for --join is the same as any node's. The shortest, to which the token brings the rest:
  node = \"n4\"
  listen = \"10.0.0.4:7101\"
  data_dir = \"data/n4\"
  [tls]
  ca = \"pki/ca.crt\"
  cert = \"pki/n4.crt\"
  key = \"pki/n4.key\"
  [[clock.server]]
  address = \"ntp.example:123\"
'logctl cluster join TOKEN' writes it with every key explained, and joins.

Signals:
  TERM, INT  hand over, finish what is under way, stop; the second one stops at once
  HUP        read certificates and log filter again

Environment:
  LOGD_LOG   log filter; wins over the configuration
  NO_COLOR   no colours on a terminal";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
        let parse = |args: &[&str]| CommandLine::try_parse_from(args);
        assert!(parse(&["logd"]).is_err(), "--config is not optional");
        let cli = parse(&["logd", "--config", "n.toml", "--listen", "[::1]:1"]).unwrap();
        let cli = cli.serve.unwrap();
        assert_eq!(cli.listen, Some("[::1]:1".parse().unwrap()));
        assert!(!cli.check_config);
    }

    #[test]
    fn nothing_is_given_up_by_mistake() {
        let parse =
            |args: &[&str]| CommandLine::try_parse_from([&["logd", "recover"], args].concat());
        assert!(parse(&["--config", "n.toml"]).is_err());
        assert!(parse(&["--dry-run"]).is_err());
        let line = parse(&["--config", "n.toml", "--dry-run", "-o", "json"]).unwrap();
        let Some(Verb::Recover(recover)) = line.verb else { panic!("another verb") };
        assert!(recover.dry_run && !recover.i_have_lost_the_majority);
        assert_eq!((recover.output, line.serve), (Output::Json, None));
        assert!(parse(&["--config", "n.toml", "--i-have-lost-the-majority"]).is_ok());
    }
}
