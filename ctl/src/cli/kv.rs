//! `logctl kv`: what can be typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use proto::{MessageId, Name};

use super::group::parse_group;

/// The dictionary.
#[derive(Debug, Subcommand)]
pub(crate) enum Kv {
    /// Show the value of a key; -o raw gives its bytes and nothing else
    Get(KvGet),
    /// Set a key; its maker owns it, and others can read it
    Put(KvPut),
    /// Set a key to NEW if its value is OLD
    Cas(KvCas),
    /// Remove a key, and show what it was; the next one who sets it owns it
    Delete(KvDelete),
    /// List the keys that begin with a prefix, or all
    List {
        /// What they begin with
        #[arg(default_value = "")]
        prefix: String,
        /// Read the node's own state without asking the primary
        #[arg(long)]
        stale: bool,
    },
}

/// Which key.
#[derive(Debug, Args)]
pub(crate) struct KvGet {
    /// The key
    pub(crate) key: String,
    /// Read the node's own state without asking the primary
    #[arg(long)]
    pub(crate) stale: bool,
}

/// A new value.
#[derive(Debug, Args)]
pub(crate) struct KvPut {
    /// The key
    pub(crate) key: String,
    /// The value; '-' or nothing reads standard input
    #[arg(conflicts_with = "file", allow_hyphen_values = true)]
    pub(crate) value: Option<String>,
    /// Take the value from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Only if the key is at this version; 0: only if there is none
    #[arg(long, value_name = "N")]
    pub(crate) if_version: Option<u64>,
    /// Everybody may change the key from now on; for its owner and admins
    #[arg(long, conflicts_with_all = ["group", "own"])]
    pub(crate) shared: bool,
    /// The members of this group may change the key from now on; for its owner and admins
    #[arg(long, value_name = "GROUP", value_parser = parse_group, conflicts_with = "own")]
    pub(crate) group: Option<Name>,
    /// Nobody but its owner and admins may change the key from now on. Default: as it is, and so
    /// for a new key
    #[arg(long)]
    pub(crate) own: bool,
    /// Id of the change; the same id again is the same change. Default: a new UUID
    #[arg(long)]
    pub(crate) id: Option<MessageId>,
}

/// One value for another.
#[derive(Debug, Args)]
pub(crate) struct KvCas {
    /// The key
    pub(crate) key: String,
    /// The value that it must have
    #[arg(allow_hyphen_values = true)]
    pub(crate) old: String,
    /// The value that it gets
    #[arg(allow_hyphen_values = true)]
    pub(crate) new: String,
}

/// A key to remove.
#[derive(Debug, Args)]
pub(crate) struct KvDelete {
    /// The key
    pub(crate) key: String,
    /// Only if it is at this version
    #[arg(long, value_name = "N")]
    pub(crate) if_version: Option<u64>,
    /// Id of the change; the same id again is the same change. Default: a new UUID
    #[arg(long)]
    pub(crate) id: Option<MessageId>,
}
