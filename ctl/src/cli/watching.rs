//! `logctl events` and `logctl wait`: what can be typed.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, Subcommand, ValueEnum};
use proto::{Name, event};
use views::range::When;

/// Other words for types of events, as the events themselves say them.
const ALIASES: [(&str, &str); 4] = [
    ("joined", event::JOIN),
    ("rejoined", event::JOIN),
    ("left", event::LEAVE),
    ("primary", event::LEADER),
];

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Stay, and show new events as they come. It begins with the last 10, unless --since or -n says where
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Show the last N events
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) last: Option<u64>,
    /// From this time on: RFC 3339, @SECONDS, a date, today or yesterday (days are those of UTC),
    /// 10m (before now), or a stamp;
    /// default: all that are kept
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<When>,
    /// End with exit code 0 even if retention removed events before they were read here
    #[arg(long)]
    pub(crate) allow_gap: bool,
    /// Show only these types: join, suspect, leave, leader, member, repair, clock, shard, alarm, admin,
    /// access, refused, settings, ceiling, audit, lineage
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_type)]
    pub(crate) types: Vec<&'static str>,
}

/// What to wait for.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    #[command(subcommand)]
    pub(crate) what: WaitFor,
    /// Longest time to wait, up to 10m; then exit code 7 and what is still missing
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        env = "LOGCTL_TIMEOUT",
        default_value = "60s",
        value_parser = super::parse_timeout
    )]
    pub(crate) timeout: Duration,
}

/// What to wait for.
#[derive(Debug, Subcommand)]
pub(crate) enum WaitFor {
    /// A primary that a majority follows, and every node joined and up; drained ones do not count
    Ready {
        /// Exactly this many nodes, drained ones not counted
        #[arg(long, value_name = "N")]
        nodes: Option<NonZeroUsize>,
    },
    /// Every node, drained ones not counted, has applied what the cluster had when this began
    InSync,
    /// Every node's clock, drained ones not counted, is good: synced, or local by choice
    Clock,
    /// One node in a state
    Node {
        /// The node; it need not be known yet
        name: Name,
        /// The state to wait for
        #[arg(long, value_enum, value_name = "STATE", default_value_t = NodeIs::Joined)]
        state: NodeIs,
    },
}

/// What can be waited for of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeIs {
    Voter,
    Learner,
    Joined,
    Left,
    Up,
    Down,
    Primary,
    Removed,
}

impl NodeIs {
    /// The word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Up => "up",
            Self::Down => "down",
            Self::Primary => "primary",
            Self::Removed => "removed",
        }
    }
}

impl ValueEnum for NodeIs {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [NodeIs; 8] = [
            NodeIs::Voter,
            NodeIs::Learner,
            NodeIs::Joined,
            NodeIs::Left,
            NodeIs::Up,
            NodeIs::Down,
            NodeIs::Primary,
            NodeIs::Removed,
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

/// A type of events, or another word for one.
fn parse_type(text: &str) -> Result<&'static str, String> {
    let alias = ALIASES.into_iter().find(|(word, _)| *word == text).map(|(_, known)| known);
    let known = event::TYPES.into_iter().find(|known| *known == text);
    known.or(alias).ok_or_else(|| {
        format!("there are no such events; the types are {}", event::TYPES.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with an alias left out, and with a type that is missing in the help.
    #[test]
    fn every_type_and_the_words_of_the_events_are_known() {
        let help =
            Events::augment_args(clap::Command::new("events")).render_long_help().to_string();
        for known in event::TYPES {
            assert_eq!(parse_type(known), Ok(known));
            assert!(help.contains(known), "{known}: {help}");
        }
        for (word, known) in
            [("joined", "join"), ("rejoined", "join"), ("left", "leave"), ("primary", "leader")]
        {
            assert_eq!(parse_type(word), Ok(known));
        }
        for bad in ["", "Join", "joins", "join ", "*"] {
            assert!(parse_type(bad).unwrap_err().contains("join, suspect, leave"), "{bad}");
        }
    }

    #[test]
    fn states_are_the_words_that_are_typed() {
        for state in NodeIs::value_variants() {
            assert_eq!(NodeIs::from_str(state.as_str(), false).as_ref(), Ok(state));
        }
    }
}
