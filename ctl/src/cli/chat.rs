//! `logctl chat`: what can be typed.

use clap::Args;
use proto::Stream;
use views::range::When;

/// A conversation.
#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// Whom to talk to: a client, @group or '*'
    #[arg(long, value_name = "NAME")]
    pub(crate) to: Stream,
    /// Start with what was said from this time on: RFC 3339, @SECONDS, a date, today or yesterday
    /// (days are those of UTC), 10m (before now), or a stamp; default: now
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<When>,
    /// End after this many lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Keep showing messages after standard input has ended
    #[arg(long)]
    pub(crate) stay: bool,
}
