//! `logctl group`: what can be typed.

use clap::{Args, Subcommand};
use proto::{MessageId, Name};

/// Groups.
#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Make a group; its maker owns it and is its first member
    Create(GroupName),
    /// Delete a group; its members can still read what they saw
    Delete(GroupName),
    /// Add members: each sees what is said from now on
    Add(GroupMembers),
    /// Remove members, or leave: they see nothing that is said later
    Remove(GroupMembers),
    /// List the groups: a client sees those that it made or is in, an admin all
    List,
    /// Show the members of a group
    Show {
        /// The group
        #[arg(value_parser = parse_group)]
        name: Name,
    },
}

/// A group.
#[derive(Debug, Args)]
pub(crate) struct GroupName {
    /// The group
    #[arg(value_parser = parse_group)]
    pub(crate) name: Name,
    /// Id of the change; the same id again is the same change. Default: a new UUID
    #[arg(long)]
    pub(crate) id: Option<MessageId>,
}

/// Members of a group.
#[derive(Debug, Args)]
pub(crate) struct GroupMembers {
    /// The group
    #[arg(value_parser = parse_group)]
    pub(crate) name: Name,
    /// The clients: all of them, or none if one is not known
    #[arg(value_name = "MEMBER", required = true)]
    pub(crate) members: Vec<Name>,
    /// They see the group from its beginning; for add only
    #[arg(long)]
    pub(crate) history: bool,
    /// Id of the change; the same id again is the same change. Default: a new UUID
    #[arg(long)]
    pub(crate) id: Option<MessageId>,
}

/// The name of a group, with or without the `@`.
pub(crate) fn parse_group(text: &str) -> Result<Name, String> {
    text.strip_prefix('@').unwrap_or(text).parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_may_be_left_out() {
        assert_eq!(parse_group("@ops"), parse_group("ops"));
        for bad in ["", "@", "@@ops", "OPS", "*"] {
            assert!(parse_group(bad).is_err(), "{bad}");
        }
    }
}
