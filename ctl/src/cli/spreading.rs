//! Spreading requests over gateways, and looking at where they go: what can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use proto::Stream;

use crate::scenario::Scenario;
use crate::target::Target;

/// How requests are spread over the gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// Each request to the next node in turn
    Rr,
    /// All to one node, the home first
    Home,
    /// The primary
    #[value(alias = "leader")]
    Primary,
    /// The home of the key, or of the recipient
    Hash,
    /// Each to a node by chance
    Random,
}

/// Requests that only ask for an answer.
#[derive(Debug, Args)]
pub(crate) struct Ping {
    /// How many pings, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,
    /// Key for --spread hash; random draws one for each
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Show how often each node answered, instead of one line for each ping
    #[arg(long)]
    pub(crate) report: bool,
}

/// Where a key lies, or what would move.
#[derive(Debug, Args)]
pub(crate) struct Route {
    /// A recipient (bob, @ops) or any other text
    #[arg(required_unless_present_any = ["key_option", "plan"])]
    pub(crate) key: Option<String>,
    /// The same as KEY
    #[arg(long = "key", value_name = "KEY", conflicts_with = "key")]
    pub(crate) key_option: Option<String>,
    /// Show what would move if nodes came or went: --plan add n4 n5, --plan remove n2
    #[arg(long, num_args = 2.., value_names = ["add|remove", "NODE"], conflicts_with_all = ["key", "key_option"])]
    pub(crate) plan: Vec<String>,
}

/// A load, and how the cluster copes with it.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Messages a second, sent on time whether or not the earlier ones were answered
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Instead of a rate: so many messages on the way at all times, each next one as soon as one is
    /// answered
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) in_flight: Option<u16>,
    /// How long to send
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// Bytes of each message
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub(crate) size: u32,
    /// Recipient; default: the sender
    #[arg(long, value_name = "NAME")]
    pub(crate) to: Option<Stream>,
    /// Number of clients that share the load, each with its own connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) connections: u16,
    /// What has to be reached, else the exit code is 10; may be repeated: p99=5ms, max=1s, rate=5000
    #[arg(long = "target", value_name = "WHAT=LIMIT")]
    pub(crate) targets: Vec<Target>,
}

/// Charts.
#[derive(Debug, Subcommand)]
pub(crate) enum Chart {
    /// Show messages by the node that took them: as the cluster counts them, and counted in the log
    Distribution(ChartDistribution),
    /// Draw bars of standard input: lines of a name, a comma and a number
    Bars(ChartBars),
}

/// Whose distribution, and in which form.
#[derive(Debug, Args)]
pub(crate) struct ChartDistribution {
    #[command(flatten)]
    pub(crate) form: ChartForm,
    /// Instead, run this failure on a new cluster on this machine, and show the messages by node
    /// before and after it: kill:n2, kill:leader, kill:follower, return:n2
    #[arg(long, value_name = "WHAT:WHOM")]
    pub(crate) scenario: Option<Scenario>,
    /// The daemon, for --scenario; default: next to logctl, else from PATH
    #[arg(long, value_name = "PATH", env = "LOGCTL_LOGD")]
    pub(crate) logd: Option<PathBuf>,
}

/// The form of a chart; default: a table.
#[derive(Debug, Args)]
pub(crate) struct ChartForm {
    /// Bars of text
    #[arg(long, conflicts_with_all = ["svg", "csv"])]
    pub(crate) ascii: bool,
    /// An SVG file; - is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Comma-separated values
    #[arg(long, conflicts_with = "svg")]
    pub(crate) csv: bool,
}

/// Bars of given numbers.
#[derive(Debug, Args)]
pub(crate) struct ChartBars {
    /// What the chart shows
    #[arg(long, default_value = "")]
    pub(crate) title: String,
    #[command(flatten)]
    pub(crate) form: ChartForm,
}
