//! Completion: what may come next on a line that somebody types into a shell.
//!
//! Verbs, options and fixed words come from the command line's own definition, names from the contexts
//! and from the cluster. A cluster that does not answer at once is not waited for.
//!
//! Not here: how a shell shows it (`scripts`), and which names there are (`names`).

mod names;
mod scripts;

use std::ffi::OsString;
use std::path::Path;

use clap::{Arg, Command};
use clap_complete::engine::{self, ArgValueCandidates, CompletionCandidate};

pub(crate) use self::names::{Known, Names};
pub(crate) use self::scripts::{Shell, answer, quoted, script};

use crate::cli;

/// Stands where the cursor is. Nobody types it.
const CURSOR: char = '\u{1}';

/// What an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A node of the cluster.
    Node,
    /// A client of it.
    Client,
    /// A group, without its sign.
    Group,
    /// A client, or a group with its sign.
    Recipient,
    /// An administrator.
    Admin,
    /// A context of this user.
    Context,
}

/// Arguments that name something that is there: the words of the verb, the argument, what it names. An
/// empty verb is every verb.
const NAMED: [(&str, &str, Kind); 33] = [
    ("", "context", Kind::Context),
    ("", "via", Kind::Node),
    ("register", "home", Kind::Node),
    ("send", "to", Kind::Recipient),
    ("read", "from", Kind::Client),
    ("read", "to", Kind::Recipient),
    ("access create", "client", Kind::Client),
    ("get", "from", Kind::Client),
    ("delete", "from", Kind::Client),
    ("chat", "to", Kind::Recipient),
    ("bench", "to", Kind::Recipient),
    ("route", "key", Kind::Recipient),
    ("group delete", "name", Kind::Group),
    ("group show", "name", Kind::Group),
    ("group add", "name", Kind::Group),
    ("group add", "members", Kind::Client),
    ("group remove", "name", Kind::Group),
    ("group remove", "members", Kind::Client),
    ("kv put", "group", Kind::Group),
    ("clients", "home", Kind::Node),
    ("node show", "name", Kind::Node),
    ("node stats", "name", Kind::Node),
    ("node remove", "names", Kind::Node),
    ("node drain", "name", Kind::Node),
    ("node step-down", "name", Kind::Node),
    ("node promote", "name", Kind::Node),
    ("node demote", "name", Kind::Node),
    ("node recover", "name", Kind::Node),
    ("node set", "name", Kind::Node),
    ("health", "node", Kind::Node),
    ("clock report", "node", Kind::Node),
    ("wait node", "name", Kind::Node),
    ("admin remove", "name", Kind::Admin),
];

/// The same for contexts and for an administrator who comes back.
const NAMED_HERE: [(&str, &str, Kind); 4] = [
    ("admin recover", "name", Kind::Admin),
    ("context use", "name", Kind::Context),
    ("context show", "name", Kind::Context),
    ("context remove", "name", Kind::Context),
];

/// What may come next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The whole word.
    pub(crate) value: String,
    /// What it is, if there is something to say.
    pub(crate) help: String,
}

/// The words of a line up to the cursor, of which the last is not finished: it is empty behind a space.
/// Quotes that are open are closed. `None` inside a comment.
pub(crate) fn words_so_far(line: &str) -> Option<Vec<String>> {
    let mut words = ["", "'", "\""]
        .into_iter()
        .find_map(|close| cli::words(&format!("{line}{CURSOR}{close}")).ok())?;
    let last = words.pop()?;
    words.push(last.strip_suffix(CURSOR)?.to_owned());
    Some(words)
}

/// What may stand in the place of the last of these words; the first is the command's own name.
pub(crate) fn candidates(words: &[String], names: &Names) -> Vec<Candidate> {
    let Some(at) = words.len().checked_sub(1).filter(|at| *at > 0) else { return Vec::new() };
    // All options of every verb would hide what this verb is about; - shows them.
    let hide = words.last().is_some_and(String::is_empty);
    let mut command = named(cli::definition(), "", names, hide);
    let args = words.iter().map(OsString::from).collect();
    let found = engine::complete(&mut command, args, at, Some(Path::new("."))).unwrap_or_default();
    found.iter().map(shown).collect()
}

fn shown(candidate: &CompletionCandidate) -> Candidate {
    let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
    Candidate {
        value: candidate.get_value().to_string_lossy().into_owned(),
        help: help.lines().next().unwrap_or_default().to_owned(),
    }
}

/// What an argument of a verb names.
fn kind(verb: &str, arg: &Arg) -> Option<Kind> {
    let verb = if arg.is_global_set() { "" } else { verb };
    let mut all = NAMED.iter().chain(&NAMED_HERE);
    all.find(|(of, id, _)| *of == verb && arg.get_id() == *id).map(|(.., kind)| *kind)
}

/// The command with names wherever an argument names something that is there.
fn named(command: Command, path: &str, names: &Names, hide: bool) -> Command {
    let verbs: Vec<String> =
        command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let mut command = command.mut_args(|arg| {
        let arg = if arg.is_global_set() && hide { arg.hide(true) } else { arg };
        let Some(kind) = kind(path, &arg) else { return arg };
        let names = names.clone();
        let of_kind = move || names(kind).into_iter().map(CompletionCandidate::new).collect();
        arg.add(ArgValueCandidates::new(of_kind))
    });
    for verb in verbs {
        let path = if path.is_empty() { verb.clone() } else { format!("{path} {verb}") };
        command = command.mut_subcommand(&verb, |verb| named(verb, &path, names, hide));
    }
    command
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;
    use std::sync::Arc;

    use proto::{Name, Stream};

    use super::*;

    /// Arguments that name something new, or what only the reader knows.
    const FREE: [(&str, &str); 9] = [
        ("register", "name"),
        ("read", "cursor"),
        ("group create", "name"),
        ("node add", "names"),
        ("admin add", "name"),
        ("cluster join", "name"),
        ("cluster token create", "name"),
        ("context add", "name"),
        ("context add", "home"),
    ];

    fn some() -> Names {
        Arc::new(|kind| {
            let names: &[&str] = match kind {
                Kind::Node => &["n1", "n2"],
                Kind::Client => &["alice", "bob"],
                Kind::Group => &["ops"],
                Kind::Recipient => &["alice", "bob", "@ops"],
                Kind::Admin => &["root"],
                Kind::Context => &["demo", "work"],
            };
            names.iter().map(|name| (*name).to_owned()).collect()
        })
    }

    fn next(line: &str) -> Vec<String> {
        let words = words_so_far(line).unwrap();
        candidates(&words, &some()).into_iter().map(|candidate| candidate.value).collect()
    }

    /// Meant to catch: a verb with a name of a node that is not in the table.
    #[test]
    fn every_name_is_either_completed_or_new() {
        fn walk(command: &Command, path: &str, seen: &mut Vec<(String, String)>) {
            for arg in command.get_arguments() {
                let of = arg.get_value_parser().type_id();
                let is_name =
                    [TypeId::of::<Name>(), TypeId::of::<Stream>(), TypeId::of::<cli::From>()]
                        .iter()
                        .any(|name| of == *name);
                let known = kind(path, arg).is_some();
                let free = FREE.contains(&(path, arg.get_id().as_str()));
                assert!(!is_name || known != free, "{path}: {}", arg.get_id());
                if known || free {
                    let path = if arg.is_global_set() { "" } else { path };
                    seen.push((path.to_owned(), arg.get_id().to_string()));
                }
            }
            for verb in command.get_subcommands() {
                let path = if path.is_empty() {
                    verb.get_name().into()
                } else {
                    format!("{path} {}", verb.get_name())
                };
                walk(verb, &path, seen);
            }
        }
        let mut seen = Vec::new();
        walk(&cli::definition(), "", &mut seen);
        let listed = NAMED.iter().chain(&NAMED_HERE).map(|(verb, id, _)| (*verb, *id));
        for (verb, id) in listed.chain(FREE) {
            assert!(seen.iter().any(|(v, i)| v == verb && i == id), "no {id} at '{verb}'");
        }
    }

    #[test]
    fn verbs_options_and_names_are_completed() {
        assert_eq!(next("logctl reg"), ["register"]);
        assert_eq!(next("logctl node sh"), ["show"]);
        assert_eq!(next("logctl node show "), ["n1", "n2", "--help"]);
        assert_eq!(next("logctl send --to a"), ["alice"]);
        assert_eq!(next("logctl send --to @"), ["@ops"]);
        assert_eq!(next("logctl send --to=b"), ["--to=bob"]);
        assert_eq!(next("logctl --as w"), ["work"]);
        assert_eq!(next("logctl read --as w"), ["work"]);
        assert_eq!(next("logctl group add ops al"), ["alice"]);
        assert_eq!(next("logctl group add ops alice b"), ["bob"]);
        assert_eq!(next("logctl wait node n1 --state v"), ["voter"]);
        assert_eq!(next("logctl read --rev"), ["--reverse"]);
        assert_eq!(next("logctl read --time"), ["--times", "--timeout"]);
        assert!(next("logctl ").contains(&"status".to_owned()));
        assert!(!next("logctl ").iter().any(|word| word == "--timeout"), "{:?}", next("logctl "));
        assert_eq!(next("log"), [""; 0]);
    }

    #[test]
    fn a_line_is_cut_where_the_cursor_is() {
        let words = |line: &str| words_so_far(line).unwrap();
        assert_eq!(words("logctl "), ["logctl", ""]);
        assert_eq!(words("logctl se"), ["logctl", "se"]);
        assert_eq!(words("logctl send 'a b"), ["logctl", "send", "a b"]);
        assert_eq!(words("logctl send \"a "), ["logctl", "send", "a "]);
        assert_eq!(words("logctl send a\\"), ["logctl", "send", "a"]);
        assert_eq!(words_so_far("logctl # not"), None);
    }
}
