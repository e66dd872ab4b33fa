//! What `--help` adds to the list of options: verbs in groups, examples, and the topics of `logctl help`.
//! The options of every verb stand in one of these alone, for they would be most of every page.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::builder::StyledStr;
use clap::{Command, CommandFactory};
use proto::limits::{BODY_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX, ID_BYTES_MAX, NAME_BYTES_MAX};

use super::{Cli, Globals};

/// A heading and its verbs, each with what it does.
type Group = (&'static str, &'static [(&'static str, &'static str)]);

/// All verbs, in the order in which somebody new needs them.
const GROUPS: [Group; 6] = [
    (
        "Begin",
        &[
            ("demo", "a tour of a real cluster on this machine"),
            ("dev", "a cluster on this machine to develop with: up, down, status"),
            ("cluster", "create a cluster, join one, tokens, settings"),
            ("doctor", "what is wrong here, and what to do about it"),
            ("register", "a client: its key, certificate and context"),
        ],
    ),
    (
        "Messages",
        &[
            ("send", "store a message for a client, a @group or everyone ('*')"),
            ("read", "what came, or comes: --follow"),
            ("get", "one message by its id"),
            ("delete", "one message by its id; a tombstone stays"),
            ("chat", "lines in, lines out, in one order for all"),
            ("group", "one stream with many readers"),
            ("kv", "keys with one current value each"),
            ("clients", "who is registered"),
        ],
    ),
    (
        "Nodes",
        &[
            ("nodes", "list them"),
            ("node", "add, remove, drain, promote, recover, set, step down"),
            ("raft", "what the replication engine is at"),
            ("route", "where a key lies, and what would move"),
            ("ping", "the nodes in turn, and who answered"),
        ],
    ),
    (
        "Health",
        &[
            ("status", "everything, node by node"),
            ("health", "one line, for scripts and monitoring"),
            ("wait", "until the cluster or a node is as wanted"),
            ("clock", "the clocks of the nodes and their bounds"),
            ("events", "what happened to the cluster"),
            ("verify", "that all nodes hold the same"),
            ("compact", "drop deleted bodies from the disks now"),
            ("support-bundle", "a file for whoever helps; no messages, no secrets"),
        ],
    ),
    (
        "Trust",
        &[
            ("admin", "administrators: add, list, remove, recover"),
            ("access", "tokens to act as a client over HTTPS: create, list, revoke"),
            ("certs", "certificates: until when, and new ones"),
            ("context", "which cluster you talk to, and as whom"),
        ],
    ),
    (
        "More",
        &[
            ("bench", "send at a steady rate, and judge it"),
            ("chart", "draw which node took how many messages"),
            ("generate", "a scrape, alert rules and a dashboard for monitoring"),
            ("shell", "many commands in one process"),
            ("completions", "for bash, zsh and fish, with names"),
            ("man", "manual pages"),
        ],
    ),
];

/// Examples, by the words of the verb.
const EXAMPLES: [(&str, &[&str]); 42] = [
    ("doctor", &["logctl doctor", "logctl doctor --config /etc/logd/node1.toml"]),
    ("support-bundle", &["logctl support-bundle", "logctl support-bundle - --config node1.toml"]),
    ("dev up", &["logctl dev up", "logctl dev up --fresh --nodes 5"]),
    ("dev down", &["logctl dev down --purge"]),
    (
        "cluster create",
        &[
            "logctl cluster create mycluster --nodes 3",
            "logctl cluster create --host 10.0.0.1 --nodes 1 --start",
            "logctl cluster create --system --host 10.0.0.1 --start",
        ],
    ),
    (
        "cluster join",
        &[
            "logctl cluster join --token-file token --start",
            "logctl cluster join --token-file token --system --start",
        ],
    ),
    ("cluster token create", &["logctl cluster token create --role node --ttl 30m --uses 2"]),
    ("cluster set", &["logctl cluster set retain-age=30d retain-bytes=10GiB"]),
    ("register", &["logctl register alice", "logctl register bob --home n2"]),
    (
        "send",
        &[
            "logctl send --as alice --to bob hello",
            "logctl send --to '*' --id order-17 --header kind=order --file order.json",
            "logctl send --to @ops --lines --id import-1 --report < lines.txt",
        ],
    ),
    (
        "read",
        &[
            "logctl read -n 20",
            "logctl read --follow",
            "logctl read --since 10m --from alice --grep 'order-[0-9]+' -o ndjson",
            "logctl read --cursor worker --limit 100",
        ],
    ),
    ("get", &["logctl get order-17", "logctl get photo -o raw"]),
    ("delete", &["logctl delete order-17 --reason 'sent twice' --yes"]),
    ("chat", &["logctl chat --to @ops --since 1h"]),
    ("group create", &["logctl group create ops"]),
    ("group add", &["logctl group add ops alice bob"]),
    ("kv get", &["logctl kv get colour"]),
    ("kv put", &["logctl kv put colour blue", "logctl kv put config --file config.json --shared"]),
    ("kv cas", &["logctl kv cas colour blue green"]),
    ("clients", &["logctl clients --home n2"]),
    ("node add", &["logctl node add n4", "logctl node add n5 --dry-run"]),
    ("node remove", &["logctl node remove n2", "logctl node remove n2 --force --yes"]),
    ("node drain", &["logctl node drain n2", "logctl node drain n2 --off"]),
    ("node step-down", &["logctl node step-down --for 5m"]),
    ("node set", &["logctl node set n1 --priority 9"]),
    ("route", &["logctl route --key order-17", "logctl route --plan add n4 n5"]),
    ("ping", &["logctl ping --count 12 --report"]),
    ("status", &["logctl status", "logctl status --watch"]),
    ("health", &["logctl health --node n2", "logctl health --nagios"]),
    ("wait ready", &["logctl wait ready --nodes 3"]),
    ("wait node", &["logctl wait node n4 --state voter"]),
    ("clock", &["logctl clock --via n2"]),
    ("events", &["logctl events -n 20", "logctl events --follow --types join,leave,leader"]),
    ("verify", &["logctl verify --state --deep"]),
    ("admin add", &["logctl admin add alice"]),
    ("access create", &["logctl access create alice --ttl 30d"]),
    ("certs show", &["logctl certs show"]),
    ("certs renew", &["logctl certs renew"]),
    ("context use", &["logctl context use alice"]),
    ("bench", &["logctl bench --rate 500 --duration 30s --target p99=5ms"]),
    ("chart distribution", &["logctl chart distribution --svg chart.svg"]),
    (
        "completions",
        &[
            "logctl completions bash > ~/.local/share/bash-completion/completions/logctl",
            "logctl completions zsh > ~/.zfunc/_logctl",
            "logctl completions fish > ~/.config/fish/completions/logctl.fish",
        ],
    ),
];

const MORE: &str = "Options of every verb: logctl help options";

/// What the exit codes mean.
const CODES: &str = "\
Exit codes:
    0  ok
    1  any other error
    2  the command line is wrong
    3  no node can be reached
    4  authentication, certificate, token or permission
    5  not found
    6  conflict: a name or an id is taken, another version, a precondition
    7  timed out, or nobody knows whether it was done; the same with the same --id is safe
   10  degraded: it works, and somebody should look
   11  no primary, or no majority
   12  a clock is not trusted
   13  integrity: damaged data, or copies that differ
  130  ended by Ctrl-C
  141  the reader of the output went before all was done
";

/// What stands at no option.
const ENVIRONMENT: &str = "\
Environment, besides the variables that stand at the options:
  LOGCTL_HOME   folder of contexts and keys; default: ~/.config/logctl, state in ~/.local/state/logctl
  LOGCTL_TOKEN  join token, for cluster join and register, read last
  NO_COLOR      no colours
";

const TIMES: &str = "\
Times after --since and --until. Days are those of UTC, and what is relative is so to the clock of the
node that answers, for this machine's may be wrong:
  2026-11-21T01:30:45Z   RFC 3339, with any offset; what 'date -Ins' prints is read, too
  2026-11-21             midnight
  @1795224645            seconds since 1970
  10m, 2h 30m, 1d        so long ago
  now, today, yesterday
  2026-11-21T01:30:45.123456789Z~0000002a   a stamp, as acknowledgements and records have it

Tables show times as 01:30:45.123456 -1.9/+0.8 ms: the time in UTC, with the date in front of it unless it
is today's, and how far true time may lie to either side. A ~ before it means that nobody can say whether
it was before or after those above it. --times utc,hlc,eps shows others.
";

/// The command line with all that this module adds.
pub(crate) fn command() -> Command {
    let hidden = |arg: clap::Arg| {
        if arg.is_global_set() { arg.hide_short_help(true).hide_long_help(true) } else { arg }
    };
    let mut command = dress(Cli::command().mut_args(hidden), "");
    let template = format!(
        "{{about-with-newline}}\nUsage: logctl [OPTIONS] VERB ...\n\n{}{{after-help}}",
        groups().trim_end()
    );
    command = command.help_template(template);
    command.after_help(
        "Help with one: logctl VERB --help, with examples\n\
         Options of every verb: logctl help options\n\
         Exit codes: logctl help codes\n\
         Times, limits: logctl help times, logctl help limits",
    )
}

/// The same for manual pages, which have room.
pub(crate) fn manual() -> Command {
    command().after_help(format!("{CODES}\n{ENVIRONMENT}"))
}

/// The verbs, a line each.
fn groups() -> String {
    let mut text = String::new();
    for (heading, verbs) in GROUPS {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{heading}:");
        for (name, what) in verbs {
            let _ = writeln!(text, "  {name:<15} {what}");
        }
        text.push('\n');
    }
    text
}

/// Adds examples to a command and all below it.
fn dress(command: Command, path: &str) -> Command {
    let names: Vec<String> =
        command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let mut command = command;
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command = command.mut_subcommand(&name, |verb| dress(verb, &path));
    }
    let examples = EXAMPLES.iter().find(|(verb, _)| *verb == path).map(|(_, lines)| *lines);
    let mut after = String::new();
    for (at, line) in examples.unwrap_or_default().iter().enumerate() {
        after += if at == 0 { "Examples:\n  " } else { "\n  " };
        after += line;
    }
    if !after.is_empty() {
        after += "\n\n";
    }
    command.after_help(StyledStr::from(after + MORE))
}

/// The text of a topic, if that is what was asked for.
pub(crate) fn topic(args: &[OsString]) -> Option<String> {
    let mut words =
        args.iter().skip(1).filter_map(|arg| arg.to_str()).filter(|arg| *arg != "--help");
    match (words.next()?, words.next()?, words.next()) {
        ("help", "options", None) => Some(options()),
        ("help", "codes", None) => Some(CODES.to_owned()),
        ("help", "times", None) => Some(TIMES.to_owned()),
        ("help", "limits", None) => Some(limits()),
        _ => None,
    }
}

fn options() -> String {
    let shown = |arg: clap::Arg| arg.hide_short_help(false).hide_long_help(false);
    let command = <Globals as clap::Args>::augment_args(Command::new("logctl"));
    let command = command.disable_help_flag(true).disable_version_flag(true).mut_args(shown);
    let mut command = command.help_template("{all-args}").max_term_width(100);
    format!(
        "{}\n\nEach of them has the environment variable that is named with it; what is typed wins.\n",
        command.render_help().to_string().trim_end()
    )
}

fn limits() -> String {
    format!(
        "A body has at most {BODY_BYTES_MAX} bytes; a message has {HEADERS_MAX} headers, which have\n\
         {HEADER_BYTES_MAX} bytes together; a message id has {ID_BYTES_MAX} bytes, a name \
         {NAME_BYTES_MAX}: a-z, 0-9, and\n'.', '_', '-' within. All limits, with their reasons, are in \
         proto/src/limits.rs.\n"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cli::words;

    /// Meant to catch: a verb that stands in no group.
    #[test]
    fn every_verb_is_in_one_group() {
        let listed: Vec<&str> =
            GROUPS.iter().flat_map(|(_, verbs)| verbs.iter().map(|(name, _)| *name)).collect();
        let set: BTreeSet<&str> = listed.iter().copied().collect();
        assert_eq!(listed.len(), set.len(), "one is listed twice");
        let command = Cli::command();
        let verbs: BTreeSet<&str> = command
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set())
            .map(Command::get_name)
            .collect();
        assert_eq!(set, verbs);
        for line in groups().lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    /// Meant to catch: `--home` misspelt in an example, and with one for a verb that is not there.
    #[test]
    fn examples_are_commands() {
        for (verb, lines) in EXAMPLES {
            for line in lines {
                // What a shell does with its input and output is not ours.
                let line = line.split(['<', '>']).next().unwrap_or(line);
                let words = words(line).unwrap();
                let args: Vec<OsString> = words.iter().map(OsString::from).collect();
                assert!(crate::cli::parse(args).is_ok(), "{line}");
                assert!(line.starts_with(&format!("logctl {verb}")), "{line} stands at {verb}");
            }
        }
    }

    #[test]
    fn a_verbs_help_has_its_own_options_and_examples() {
        let help = |args: &[&str]| {
            let args = args.iter().map(OsString::from);
            crate::cli::parse(args).unwrap_err().text()
        };
        let read = help(&["logctl", "read", "--help"]);
        assert!(
            read.contains("--cursor") && read.contains("Examples:\n  logctl read -n 20"),
            "{read}"
        );
        assert!(!read.contains("--no-color"), "{read}");
        let options = help(&["logctl", "help", "options"]);
        for global in
            ["--output", "--json", "--as", "--via", "--spread", "--timeout", "--quiet", "--yes"]
        {
            assert!(options.contains(global), "{global}: {options}");
        }
        assert!(options.contains("LOGCTL_TIMEOUT"), "{options}");
        assert!(help(&["logctl", "help", "codes"]).contains(" 13  integrity"));
        assert!(help(&["logctl", "help", "limits"]).contains("1048576 bytes"));
    }
}
