//! `logctl cluster`: what can be typed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use proto::Name;
use views::setting::Setting;

use super::certs::parse_life;

/// Create clusters, and manage what holds for all their nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Make authority, certificates, keys, configurations and the admin's context of a new cluster
    ///
    /// Running it again adds what is missing and changes nothing else.
    Create(Create),
    /// Make this machine a node of a cluster, with a token that an admin of it has made
    ///
    /// Makes a folder with key, certificate, configuration and the permission to create a store.
    /// Running it again goes on where it stopped.
    Join(Join),
    /// Make, list and revoke join tokens; admins only
    #[command(subcommand)]
    Token(Token),
    /// Show the settings that hold for every node
    Settings,
    /// Change settings of the whole cluster at once; admins only
    ///
    /// max-clock-error=100ms: largest error bound of a clock with which a node may be primary,
    /// 1ms to 10s. on-loss=degrade|refuse: what a primary does when no clock is good enough: go on
    /// with unknown bounds, or refuse writes. retain-age=30d, retain-count=100000,
    /// retain-bytes=10GiB: messages and the cluster's events beyond any of these go, the oldest first;
    /// none keeps them.
    /// cert-life=30d: how long new certificates live, whoever signs them, 20s to 730d.
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
    #[arg(default_value = "logd-cluster")]
    pub(crate) dir: PathBuf,
    /// Number of nodes: 3 survive the loss of one, 5 of two; 1 with --system
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    #[arg(default_value_if("system", clap::builder::ArgPredicate::IsPresent, "1"))]
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
    /// How long certificates live: those that are made here, and those that the nodes sign. Nodes
    /// renew theirs at two thirds of it. Default: 90d
    #[arg(long, value_name = "TIME", value_parser = parse_life)]
    pub(crate) cert_life: Option<Duration>,
    /// Start the nodes in the background, wait until they are ready, and print a token with which
    /// other machines join: to standard error, as the command to paste; with --output raw to standard
    /// output and nothing else, with json and ndjson as "token"
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) start: bool,
    /// The daemon, for --start; default: next to logctl, else from PATH
    #[arg(long, value_name = "PATH", env = "LOGCTL_LOGD")]
    pub(crate) logd: Option<PathBuf>,
    /// Only say what would be written
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Where the files go
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Whether a node is this machine's own.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The node is this machine's own, and a service: its files go to /etc/logd and /var/lib/logd and
    /// belong to the user logd, and --start has systemd start it. As root, with the package installed
    #[arg(long, conflicts_with = "dir")]
    pub(crate) system: bool,
    /// What stands for / with --system: the root of a machine that does not run
    #[arg(long, value_name = "DIR", requires = "system", conflicts_with = "start")]
    pub(crate) root: Option<PathBuf>,
}

/// A node that joins.
#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The join token, as `logctl cluster token create` printed it; - reads it from standard input. Others on
    /// this machine can see an argument in the list of processes: better use -, --token-file, or the
    /// variable LOGCTL_TOKEN, which is read last
    pub(crate) token: Option<String>,
    /// File with the token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
    /// Name of the node; default: the one that the token is bound to, else this machine's
    #[arg(long, value_name = "NODE")]
    pub(crate) name: Option<Name>,
    /// Folder of the node; default: logd-NAME
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Address and UDP port to listen on; default: port 7101 of every address, or the next free one
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where the others dial this node; default: the address from which this machine reaches them
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<String>,
    /// Replicate and serve, but never vote
    #[arg(long)]
    pub(crate) learner: bool,
    /// Of the nodes fit to be primary the one with the highest priority is; default: the number at
    /// the end of the name, 0 without one
    #[arg(long, value_name = "N")]
    pub(crate) priority: Option<u32>,
    /// Time server, host or host:port; give it several times. Without one the machine's own clock
    /// is trusted (mode local) and every status says so
    #[arg(long = "time-server", value_name = "ADDR")]
    pub(crate) time_servers: Vec<String>,
    /// Start the node in the background, and wait until it is ready
    #[arg(long)]
    pub(crate) start: bool,
    /// The daemon, for --start; default: next to logctl, else from PATH
    #[arg(long, value_name = "PATH", env = "LOGCTL_LOGD")]
    pub(crate) logd: Option<PathBuf>,
    /// Where the files go
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Join tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token and print it; the command to paste goes to standard error
    Create(TokenCreate),
    /// List the tokens: what they admit, who used them
    List,
    /// Revoke a token; who joined with it stays
    Revoke {
        /// Its id, as `logctl cluster token list` shows it, or the token itself
        id: String,
    },
}

/// A new token.
#[derive(Debug, Args)]
pub(crate) struct TokenCreate {
    /// What it admits
    #[arg(long, value_enum)]
    pub(crate) role: TokenRole,
    /// How long it may be used: 30m, 12h, 7d
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_ttl)]
    pub(crate) ttl: Duration,
    /// How often it may be used
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) uses: u32,
    /// The only name that it may be used for
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<Name>,
}

/// What a token admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenRole {
    /// A node: logctl cluster join
    Node,
    /// A client: logctl register --token
    Client,
}

/// Life of a token.
pub(super) fn parse_ttl(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_nanos(proto::limits::TOKEN_TTL_MAX_NS);
    match humantime::parse_duration(text) {
        Ok(ttl) if ttl >= Duration::from_secs(1) && ttl <= longest => Ok(ttl),
        Ok(_) => Err(format!("from 1s to {}", humantime::format_duration(longest))),
        Err(_) => Err("expected a time such as 30m, 12h or 7d".to_owned()),
    }
}
