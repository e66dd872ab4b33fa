//! The names that there are: contexts from their folder, nodes from what earlier commands have learned,
//! clients, groups and administrators from the cluster.

use std::sync::Arc;
use std::time::Duration;

use proto::Name;
use proto::wire::{Empty, ListGroups, Op, Reply};

use super::Kind;
use crate::cli::Globals;
use crate::error::CtlError;
use crate::home::Home;
use crate::session::Session;

/// Longest time that somebody who types waits for a cluster.
const WAIT: Duration = Duration::from_secs(1);

/// Names of a kind.
pub(crate) type Names = Arc<dyn Fn(Kind) -> Vec<String> + Send + Sync>;

/// The names that a user's contexts and cluster know.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    globals: Globals,
}

impl Known {
    /// As seen by the context that the words of a line name, else by the one in use.
    pub(crate) fn by(globals: &Globals, words: &[String]) -> Self {
        let mut globals = Globals { timeout: WAIT, quiet: true, ..globals.clone() };
        if let Some(context) = named_context(words) {
            globals.context = Some(context);
        }
        Self { globals }
    }

    /// Asks on a thread of its own, for those who are in the middle of something.
    pub(crate) fn names(self) -> Names {
        Arc::new(move |kind| {
            let known = self.clone();
            let asked = std::thread::spawn(move || known.ask(kind)).join();
            asked.ok().and_then(Result::ok).unwrap_or_default()
        })
    }

    fn ask(&self, kind: Kind) -> Result<Vec<String>, CtlError> {
        let home = Home::from_env()?;
        if kind == Kind::Context {
            return Ok(home.contexts()?.iter().map(Name::to_string).collect());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|source| CtlError::File { what: "cannot start".into(), source })?;
        runtime.block_on(async {
            let session = Session::open(&self.globals, &home)?;
            let found = tokio::time::timeout(WAIT, of_kind(&session, kind)).await;
            // A certificate that is due can wait until somebody runs a command.
            found.unwrap_or_else(|_| Ok(Vec::new()))
        })
    }
}

async fn of_kind(session: &Session, kind: Kind) -> Result<Vec<String>, CtlError> {
    match kind {
        Kind::Node => Ok(session.node_names()),
        Kind::Client => clients(session).await,
        Kind::Group => groups(session).await,
        Kind::Recipient => {
            let mut names = clients(session).await?;
            names.extend(groups(session).await?.iter().map(|name| format!("@{name}")));
            Ok(names)
        }
        Kind::Admin => match session.call(Op::Admins(Empty {})).await? {
            (_, Reply::Admins(list)) => Ok(list.admins.into_iter().map(|row| row.name).collect()),
            _ => Err(CtlError::unexpected("no administrators")),
        },
        Kind::Context => Ok(Vec::new()),
    }
}

async fn clients(session: &Session) -> Result<Vec<String>, CtlError> {
    match session.call(Op::Clients(Empty {})).await? {
        (_, Reply::Clients(list)) => Ok(list.clients.into_iter().map(|row| row.name).collect()),
        _ => Err(CtlError::unexpected("no clients")),
    }
}

async fn groups(session: &Session) -> Result<Vec<String>, CtlError> {
    match session.call(Op::Groups(ListGroups { name: String::new() })).await? {
        (_, Reply::Groups(list)) => Ok(list.groups.into_iter().map(|row| row.name).collect()),
        _ => Err(CtlError::unexpected("no groups")),
    }
}

/// The context that a line names by itself.
fn named_context(words: &[String]) -> Option<Name> {
    let typed = words.iter().enumerate().rev().find_map(|(at, word)| {
        let next = || words.get(at + 1).map(String::as_str);
        ["--as", "--context"].iter().find_map(|option| match word.strip_prefix(option)? {
            "" => next(),
            value => value.strip_prefix('='),
        })
    });
    typed?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_name_its_context() {
        let context = |line: &[&str]| {
            let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
            named_context(&words).map(|name| name.to_string())
        };
        assert_eq!(context(&["logctl", "--as", "bob", "read"]).as_deref(), Some("bob"));
        assert_eq!(context(&["logctl", "read", "--context=bob", ""]).as_deref(), Some("bob"));
        assert_eq!(context(&["logctl", "read", "--as"]), None);
        assert_eq!(context(&["logctl", "read", "--assume", "x"]), None);
    }
}
