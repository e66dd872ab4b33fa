//! The command line as clap sees it: verbs, options, help texts, completions and man pages.
//!
//! Not here: what the verbs do (`verb/`).

mod access;
mod admin;
mod certs;
mod chat;
mod clock;
mod cluster;
mod group;
mod help;
mod kv;
mod line;
mod local;
mod message;
mod node;
mod spreading;
mod watching;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use proto::Name;

pub(crate) use self::access::Access;
pub(crate) use self::admin::{Admin, AdminRecover};
pub(crate) use self::certs::{Certs, CertsRenew};
pub(crate) use self::chat::Chat;
pub(crate) use self::clock::{Clock, ClockReport, ClockVerb, ClockWait, Whose};
pub(crate) use self::cluster::{Cluster, Create, Join, Place, Token, TokenCreate, TokenRole};
pub(crate) use self::group::{Group, GroupMembers};
pub(crate) use self::kv::{Kv, KvCas, KvDelete, KvGet, KvPut};
pub(crate) use self::line::{parse_line, words};
pub(crate) use self::local::{Dev, DevDir, DevDown, DevUp, Doctor, SupportBundle, Verify};
pub(crate) use self::message::{Delete, From, Get, Mode, Read, Send};
pub(crate) use self::node::{Node, NodeAdd, NodeRemove, Raft};
pub(crate) use self::spreading::{
    Bench, Chart, ChartBars, ChartDistribution, ChartForm, Ping, Policy, Route,
};
pub(crate) use self::watching::{Events, NodeIs, Wait, WaitFor};
use crate::completion::Shell;

/// Talk to a logd cluster: send, read, register, administer.
#[derive(Debug, Parser)]
#[command(name = "logctl", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options that every verb takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Form of the output; auto is a table on a terminal and tab-separated in a pipe
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORM",
        env = "LOGCTL_OUTPUT",
        default_value = "auto"
    )]
    pub(crate) output: Form,
    /// The same as -o json
    #[arg(long, global = true, env = "LOGCTL_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    /// Context (identity and cluster) to use instead of the current one
    #[arg(
        long = "as",
        visible_alias = "context",
        global = true,
        value_name = "NAME",
        env = "LOGCTL_CONTEXT"
    )]
    pub(crate) context: Option<Name>,
    /// Node to talk to; default: any healthy one, the home first
    #[arg(long, global = true, value_name = "NODE", env = "LOGCTL_VIA")]
    pub(crate) via: Option<Name>,
    /// How requests are spread over the nodes; default: a batch goes to each in turn, others to the
    /// home. leader is the same as primary
    #[arg(long, global = true, value_enum, value_name = "POLICY", env = "LOGCTL_SPREAD")]
    pub(crate) spread: Option<Policy>,
    /// Time for the whole request, retries included: 10s, 1m, 500ms
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        env = "LOGCTL_TIMEOUT",
        default_value = "10s",
        value_parser = parse_timeout
    )]
    pub(crate) timeout: Duration,
    /// No colour; NO_COLOR and CLICOLOR_FORCE are honoured too
    #[arg(long, global = true, env = "LOGCTL_NO_COLOR", value_parser = FalseyValueParser::new())]
    pub(crate) no_color: bool,
    /// No notes on standard error, only errors
    #[arg(short, long, global = true, env = "LOGCTL_QUIET", value_parser = FalseyValueParser::new())]
    pub(crate) quiet: bool,
    /// Say what is going on, on standard error; twice for more
    #[arg(short, long, global = true, env = "LOGCTL_VERBOSE", action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Do not ask before something is destroyed
    #[arg(short, long, global = true, env = "LOGCTL_YES", value_parser = FalseyValueParser::new())]
    pub(crate) yes: bool,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Table on a terminal, plain elsewhere
    Auto,
    /// Aligned columns with a heading
    Table,
    /// One row a line, tab-separated, no heading
    Plain,
    /// One JSON document
    Json,
    /// One JSON object a line
    Ndjson,
    /// Bodies as they are: read adds a newline after each, get adds nothing
    Raw,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Tour of a real three-node cluster on this machine: security, replication, failover, and a
    /// wrong clock that is found out
    Demo(Demo),
    /// Run a cluster on this machine for development: up, down, status
    #[command(subcommand)]
    Dev(Dev),
    /// Look at what usually goes wrong, here and in the cluster, and say what to do about it
    ///
    /// Configuration, certificate, port, room and disk of the nodes of this machine; the context; every
    /// node, its release and its clock; this machine's clock. Nothing is changed. Exit code 0 if all is
    /// well, 10 if somebody should look, else that of what does not work.
    Doctor(Doctor),
    /// Create clusters, show and change their settings
    #[command(subcommand)]
    Cluster(Cluster),
    /// Register a client: make its key here, have its certificate signed, write its context
    Register(Register),
    /// Store a message for a client, a @group or everyone ('*')
    Send(Send),
    /// Read messages in log order: a client its inbox and what it sent, an admin everything
    Read(Read),
    /// Ping the nodes, each time another one, and say which answered
    Ping(Ping),
    /// Show where a key lies, or what would move if nodes came or went
    Route(Route),
    /// Send at a steady rate, and show how long it takes and whether anything fails
    Bench(Bench),
    /// Draw charts: which node took how many messages
    #[command(subcommand)]
    Chart(Chart),
    /// Read one message by its id
    Get(Get),
    /// Delete one message by its id; a tombstone stays
    Delete(Delete),
    /// Chat: each line of input is a message, each message a line of output, in one order for all
    Chat(Chat),
    /// Groups: one stream with many readers; each sees it from when it joined
    #[command(subcommand)]
    Group(Group),
    /// The replicated dictionary: keys with one current value each
    #[command(subcommand)]
    Kv(Kv),
    /// Access tokens: what stands for a client's certificate over HTTPS
    #[command(subcommand)]
    Access(Access),
    /// List the registered clients
    Clients(Clients),
    /// List the nodes
    Nodes,
    /// Manage the nodes: add, remove, drain, promote, give the primary role away
    #[command(subcommand)]
    Node(Node),
    /// Show the replication engine of the nodes
    #[command(subcommand)]
    Raft(Raft),
    /// Show the health of the cluster, node by node; the exit code says it, too
    Status(Status),
    /// Show the health of the cluster or of one node in one line, for scripts
    #[command(visible_alias = "check")]
    Health(Health),
    /// Show the clocks of the nodes: state, bounds, time servers, history; the exit code says the state
    Clock(Clock),
    /// Show what happened to the cluster: who joined, left, leads; clocks, slots, alarms
    Events(Events),
    /// Wait until the cluster, or a node, is as wanted: exit code 0, or 7 after --timeout
    Wait(Wait),
    /// Make the nodes drop deleted and expired bodies from their disks now
    Compact,
    /// Check that all nodes hold the same data; exit code 13 if not, 10 if a node does not answer
    Verify(Verify),
    /// Write a file for whoever helps you: what the cluster says of itself, without messages and secrets
    SupportBundle(SupportBundle),
    /// Type commands line by line, without 'logctl' before each
    Shell,
    /// Administrators: add one by a token, list them, remove one, recover one by the authority's key
    #[command(subcommand)]
    Admin(Admin),
    /// Certificates: show until when they are valid, and renew them
    #[command(subcommand)]
    Certs(Certs),
    /// Contexts: which cluster you talk to, and as whom
    #[command(subcommand)]
    Context(Context),
    /// Print what other programs need to watch a cluster
    #[command(subcommand)]
    Generate(Generate),
    /// Print what a shell needs to complete verbs, options and the names of nodes, clients, groups and
    /// contexts
    #[command(alias = "completion")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Say what may come next on a line; the scripts of `completions` ask
    #[command(hide = true)]
    CompleteLine {
        /// The shell that asks
        shell: Shell,
        /// The line up to the cursor
        line: String,
        /// What the shell takes for the word at the cursor
        #[arg(allow_hyphen_values = true)]
        part: Option<String>,
    },
    /// Print the manual page logctl(1), or write all pages into a folder
    Man {
        /// Folder for the pages; it is made if missing
        dir: Option<PathBuf>,
    },
}

/// What to print.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Generate {
    /// A scrape for prometheus.yml, with the nodes and files of the context
    Prometheus,
    /// Alert rules for Prometheus
    Alerts,
    /// A dashboard for Grafana, as JSON
    Grafana,
}

/// The tour.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave the cluster running, with a context named demo. The chapter of the wrong clock is left
    /// out, because its time servers end with the tour
    #[arg(long)]
    pub(crate) keep: bool,
    /// Number of nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=7))]
    pub(crate) nodes: u8,
    /// The daemon; default: next to logctl, else from PATH
    #[arg(long, value_name = "PATH", env = "LOGCTL_LOGD")]
    pub(crate) logd: Option<PathBuf>,
}

/// A new client.
#[derive(Debug, Args)]
pub(crate) struct Register {
    /// Name of the client, and of its context
    pub(crate) name: Name,
    /// Node that the client prefers
    #[arg(long, value_name = "NODE")]
    pub(crate) home: Option<Name>,
    /// A join token that an admin has made for clients; with it no admin's context is needed. - reads it
    /// from standard input. Others on this machine can see an argument in the list of processes:
    /// better use -, --token-file, or the variable LOGCTL_TOKEN
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// File with the token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
}

/// Which clients to list.
#[derive(Debug, Args)]
pub(crate) struct Clients {
    /// Only those that prefer this node
    #[arg(long, value_name = "NODE")]
    pub(crate) home: Option<Name>,
}

/// How to show the health.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Show it again each second until Ctrl-C
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// Whose health.
#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Ask this node, about itself
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<Name>,
    /// Print one line for Nagios and the like; exit code 0 ok, 1 warning, 2 critical, 3 unknown
    #[arg(long, conflicts_with = "prometheus")]
    pub(crate) nagios: bool,
    /// Print the metrics of every node in Prometheus's text format instead
    #[arg(long)]
    pub(crate) prometheus: bool,
}

/// Contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum Context {
    /// List the contexts
    List,
    /// Make a context the current one
    Use {
        /// Its name
        name: Name,
    },
    /// Show a context
    Show {
        /// Its name; default: the one in use
        name: Option<Name>,
    },
    /// Make a context from files
    Add(ContextAdd),
    /// Forget a context; its key and certificate stay where they are
    Remove {
        /// Its name
        name: Name,
    },
    /// Go back to the context that was current before
    Previous,
}

/// A context made from files.
#[derive(Debug, Args)]
pub(crate) struct ContextAdd {
    /// Name of the context
    pub(crate) name: Name,
    /// Certificate of the cluster's authority (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: PathBuf,
    /// Certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: PathBuf,
    /// Private key (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Node, as n1=host:port; give it several times
    #[arg(long = "node", value_name = "NAME=ADDR", required = true)]
    pub(crate) nodes: Vec<String>,
    /// Preferred node
    #[arg(long, value_name = "NODE")]
    pub(crate) home: Option<Name>,
}

/// What clap had to say instead of a command line: help, version, or an error with exit code 2.
#[derive(Debug)]
pub(crate) struct NotParsed {
    said: Said,
    /// The words of the verb that was meant, for the closing line.
    verb: Option<String>,
}

#[derive(Debug)]
enum Said {
    Clap(clap::Error),
    /// A text of our own that was asked for.
    Topic(String),
}

impl NotParsed {
    fn topic(text: String) -> Self {
        Self { said: Said::Topic(text), verb: None }
    }

    fn of(error: clap::Error, args: &[OsString]) -> Self {
        let command = Cli::command();
        let mut at = &command;
        let mut words = Vec::new();
        for word in args.iter().skip(1).filter_map(|arg| arg.to_str()) {
            if let Some(verb) = at.find_subcommand(word) {
                words.push(verb.get_name().to_owned());
                at = verb;
            }
        }
        let verb = (!words.is_empty()).then(|| words.join(" "));
        Self { said: Said::Clap(error), verb }
    }

    /// Whether this is an error, and not help or version.
    pub(crate) fn is_error(&self) -> bool {
        match &self.said {
            Said::Clap(error) => error.use_stderr(),
            Said::Topic(_) => false,
        }
    }

    /// The text, without colour. What to try is said once, by [`Self::hint`].
    pub(crate) fn text(&self) -> String {
        let text = match &self.said {
            Said::Clap(error) => error.render().to_string(),
            Said::Topic(text) => return text.clone(),
        };
        let lines = text.lines().filter(|line| !line.starts_with("For more information, try"));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    }

    /// What to try, in one line.
    pub(crate) fn hint(&self) -> String {
        match &self.verb {
            Some(verb) => format!("logctl {verb} --help"),
            None => "logctl --help".to_owned(),
        }
    }
}

/// Reads the command line.
///
/// # Errors
/// When it is not one, or asks for help or the version.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, NotParsed> {
    let args: Vec<OsString> = args.into_iter().collect();
    matched(&args).map(|(cli, _)| cli)
}

/// The same, with what was typed and what was not.
fn matched(args: &[OsString]) -> Result<(Cli, clap::ArgMatches), NotParsed> {
    if let Some(text) = help::topic(args) {
        return Err(NotParsed::topic(text));
    }
    let matches = help::command().try_get_matches_from(args);
    let parsed = matches.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    parsed.map_err(|error| NotParsed::of(error, args))
}

/// The command line with its help, as completion looks at it.
pub(crate) fn definition() -> clap::Command {
    help::command()
}

/// The page logctl(1).
pub(crate) fn man_page() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(help::manual()).render(&mut page)?;
    Ok(page)
}

/// All pages, one a verb, into a folder.
pub(crate) fn man_pages(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(help::manual(), dir)
}

/// Longest time that a node works on one request.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let longest = Duration::from_millis(proto::limits::DEADLINE_MAX_MS.into());
    match seconds.or_else(|| humantime::parse_duration(text).ok()) {
        Some(time) if !time.is_zero() && time <= longest => Ok(time),
        Some(_) => Err(format!("more than 0 and at most {}", humantime::format_duration(longest))),
        None => Err("expected a time such as 10s, 1m or 500ms".to_owned()),
    }
}

/// Whether the commands that a text names exist: each word behind `logctl`, as long as the one before has
/// verbs of its own.
#[cfg(test)]
pub(crate) fn check_commands(text: &str) {
    for (at, _) in text.match_indices("logctl ") {
        let command = Cli::command();
        let mut verb = &command;
        let words = text[at..].split_whitespace().skip(1);
        for word in words {
            let word = word.trim_end_matches([';', ',', ':', '.', ')']);
            // "logctl and logd" is prose.
            if !verb.has_subcommands() || word.starts_with('-') || ["help", "and"].contains(&word) {
                break;
            }
            verb = verb.find_subcommand(word).unwrap_or_else(|| panic!("no '{word}': {text}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn timeouts_have_units_and_limits() {
        assert_eq!(parse_timeout("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_timeout("5"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_timeout("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["0", "0s", "", "-1s", "soon", "11m"] {
            assert!(parse_timeout(bad).is_err(), "{bad}");
        }
    }
}
