//! Sending, reading and deleting: what can be typed.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clock::Hlc;
use proto::{MessageId, Name, Stream};
use views::range::When;

use crate::filter::{Pattern, WantedHeader};

/// A message to store.
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// Recipient: a client, @group or '*'
    #[arg(long, value_name = "NAME")]
    pub(crate) to: Stream,
    /// The message; '-' or nothing reads standard input
    #[arg(conflicts_with = "file")]
    pub(crate) body: Option<String>,
    /// Take the message from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Message id; the same id again is the same message. Default: a new UUID
    #[arg(long)]
    pub(crate) id: Option<MessageId>,
    /// Header, as key=value; give it several times
    #[arg(short = 'H', long = "header", value_name = "KEY=VALUE")]
    pub(crate) headers: Vec<String>,
    /// Get a later stamp than this one, from another client's ack or record; text or 24 hex digits
    #[arg(long, value_name = "STAMP")]
    pub(crate) after: Option<Hlc>,
    /// Answer only once every later message, through any node, is sure to get a later stamp; needs
    /// the setting on-loss=refuse
    #[arg(long)]
    pub(crate) commit_wait: bool,
    /// Send it this many times, one after the other and each through another node; with --id the ids
    /// are ID-1, ID-2 and so on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) repeat: Option<u32>,
    /// Show which node took how many, instead of one line for each message
    #[arg(long)]
    pub(crate) report: bool,
    /// Send each line of standard input as a message, empty ones left out; with --id the ids are ID-1, ID-2
    /// and so on, by the number of the line. It ends with the first line that is refused
    #[arg(long, conflicts_with_all = ["body", "file", "repeat"])]
    pub(crate) lines: bool,
    /// With --lines, this many may be on their way at once; 1 keeps the order of the lines whatever happens
    #[arg(long, value_name = "N", default_value_t = 64, requires = "lines",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) in_flight: u16,
}

/// Which messages to read.
#[derive(Debug, Args)]
pub(crate) struct Read {
    /// From this time on: RFC 3339, @SECONDS, a date, today or yesterday (days are those of UTC),
    /// 10m (before now), or a stamp
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<When>,
    /// Up to, without, this time; the same forms
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<When>,
    /// Which messages belong to the range of --since and --until; default: nominal
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) mode: Option<Mode>,
    /// How to show the time in tables and lines, such as utc,eps; a ~ before the first means that the
    /// order in real time with the messages before it is not known
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', env = "LOGCTL_TIMES")]
    pub(crate) times: Vec<Times>,
    /// Show only what this sender sent; or, if it is a number, start at this place in the log: --from 0
    /// shows all that is kept
    #[arg(long, value_name = "NAME|SEQ")]
    pub(crate) from: Option<From>,
    /// Show only what was sent to this recipient: a client, @group, '*' or $events
    #[arg(long, value_name = "NAME")]
    pub(crate) to: Option<Stream>,
    /// Show the last N messages, those with the highest places
    #[arg(short = 'n', long, value_name = "N", conflicts_with_all = ["cursor", "limit"])]
    pub(crate) last: Option<u64>,
    /// Show the newest first; whether the order in real time is known is not said then
    #[arg(long, conflicts_with_all = ["cursor", "follow", "hash"])]
    pub(crate) reverse: bool,
    /// Show only messages whose body contains this: a regular expression, (?i) before it for any case
    #[arg(long, value_name = "PATTERN")]
    pub(crate) grep: Option<Pattern>,
    /// Show only messages with this header, or with any value of KEY; give it several times for all of them
    #[arg(short = 'H', long = "header", value_name = "KEY[=VALUE]")]
    pub(crate) headers: Vec<WantedHeader>,
    /// Show at most this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Stay, and show new messages as they come. It begins with the last 10, unless --since, --from SEQ,
    /// --cursor or -n says where
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Start after the place that is kept under this name, and move it past what was written
    #[arg(long, value_name = "NAME")]
    pub(crate) cursor: Option<Name>,
    /// End with exit code 0 even if retention removed messages before they were read here
    #[arg(long)]
    pub(crate) allow_gap: bool,
    /// Read the node's own state without asking the primary; standard error says how far behind
    #[arg(long)]
    pub(crate) stale: bool,
    /// In the order of the log, as always: one shard holds all messages
    #[arg(long)]
    pub(crate) ordered: bool,
    /// Instead of the messages, show how many there are, the place of the last, and a hash of all of
    /// them in order: the same on every node
    #[arg(long, conflicts_with = "follow")]
    pub(crate) hash: bool,
}

/// Where a read begins: at a sender, or at a place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum From {
    /// Messages of this sender.
    Sender(Name),
    /// Messages from this seq on.
    Seq(u64),
}

impl std::str::FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Seq).map_err(|error| error.to_string());
        }
        text.parse().map(Self::Sender).map_err(|error: proto::name::NameError| error.to_string())
    }
}

/// Which message to read.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Message id
    pub(crate) id: MessageId,
    /// Its sender, if several used the id
    #[arg(long, value_name = "NAME")]
    pub(crate) from: Option<Name>,
    /// Read the node's own state without asking the primary
    #[arg(long)]
    pub(crate) stale: bool,
}

/// Which message to delete.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Message id
    pub(crate) id: MessageId,
    /// Why; it is kept with the tombstone
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    /// Its sender, if several used the id
    #[arg(long, value_name = "NAME")]
    pub(crate) from: Option<Name>,
}

/// Which messages belong to a range of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Stamp in the range
    Nominal,
    /// Interval meets the range, or its bounds are unknown
    Possible,
    /// Whole interval in the range
    Definite,
}

/// A way to show a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Times {
    /// RFC 3339 in UTC
    Utc,
    /// The whole stamp
    Hlc,
    /// How far true time may lie to either side
    Eps,
}

impl std::convert::From<Times> for views::record::Times {
    fn from(form: Times) -> Self {
        match form {
            Times::Utc => Self::Utc,
            Times::Hlc => Self::Hlc,
            Times::Eps => Self::Eps,
        }
    }
}
