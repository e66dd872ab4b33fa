//! `logctl node` and `logctl raft`: what can be typed.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{Args, Subcommand};
use proto::Name;

/// Manage the nodes. Changes need an admin.
#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Show everything about one node
    Show {
        /// The node
        name: Name,
    },
    /// Show how long the stages of a message's way have taken since a node started
    Stats {
        /// The node; default: all of them
        name: Option<Name>,
    },
    /// Prepare nodes to join: a token for each, and the command to run on its machine
    ///
    /// If the cluster is one that 'logctl dev up' made on this machine, they are started here.
    Add(NodeAdd),
    /// Remove nodes for good: clients and slots move away, votes are taken, certificates refused
    Remove(NodeRemove),
    /// Keep clients away from a node; it goes on replicating and voting, and is primary no more
    Drain {
        /// The node
        name: Name,
        /// Let clients come back
        #[arg(long)]
        off: bool,
    },
    /// Give the primary role to another node
    StepDown {
        /// The node that gives it away; default: the primary
        name: Option<Name>,
        /// How long its priority does not bring the role back to it
        #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = parse_hold)]
        hold: Duration,
    },
    /// Give a node a vote, as soon as it has caught up
    Promote {
        /// The node
        name: Name,
    },
    /// Take a node's vote away; it goes on replicating and serving clients
    Demote {
        /// The node
        name: Name,
    },
    /// Let a node come back with a new store, once: its own is gone, or was repaired too often
    ///
    /// A node comes back by itself where its file says rejoin = true. This is for the others, and for
    /// one that is slowed down. It keeps its name and its key, and gets everything from the others.
    Recover {
        /// The node
        name: Name,
    },
    /// Change the settings of a node
    Set {
        /// The node
        name: Name,
        /// Among nodes fit to be primary, the one with the highest is; of equal ones whoever is it already
        #[arg(long, value_name = "P", required_unless_present = "signer")]
        priority: Option<u32>,
        /// Whether it may sign certificates: then a node that holds the authority's key hands it
        /// over. Whoever steals that key can make any certificate of the cluster
        #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
        signer: Option<bool>,
    },
}

/// Nodes to come.
#[derive(Debug, Args)]
pub(crate) struct NodeAdd {
    /// Their names
    #[arg(required_unless_present = "count")]
    pub(crate) names: Vec<Name>,
    /// How many; those without a name are called n1, n2 and so on, as these are free
    #[arg(long, value_name = "K")]
    pub(crate) count: Option<NonZeroUsize>,
    /// How long their tokens live
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_hold)]
    pub(crate) ttl: Duration,
    /// Only say which nodes they would be, and what would move to them
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Nodes to go.
#[derive(Debug, Args)]
pub(crate) struct NodeRemove {
    /// Their names; all of them go, or none
    #[arg(required = true)]
    pub(crate) names: Vec<Name>,
    /// Also remove those that cannot be reached. The rest must still be a majority
    #[arg(long)]
    pub(crate) force: bool,
    /// Only say which slots would move
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The engine.
#[derive(Debug, Subcommand)]
pub(crate) enum Raft {
    /// Show term, vote, log and members of each node's engine; with --via of that one
    Show,
}

/// A time of up to a day.
fn parse_hold(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_nanos(proto::limits::STEP_DOWN_MAX_NS);
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() && time <= longest => Ok(time),
        Ok(_) => Err(format!("more than 0 and at most {}", humantime::format_duration(longest))),
        Err(_) => Err("expected a time such as 30s, 5m or 1h".to_owned()),
    }
}
