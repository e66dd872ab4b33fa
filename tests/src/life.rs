//! The life of a cluster: nodes that join it as processes, events, and who served how much.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::logd::Logd;
use crate::ports;
use crate::user::{Run, User};

/// How long `logctl wait` may wait; longer than anything takes.
const WAIT_TIME: &str = "60s";

/// An event, as `logctl events` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number in the log.
    pub seq: u64,
    /// Its type: `join`, `leave` and so on.
    pub kind: String,
    /// The node that it is about; empty if none.
    pub node: String,
    /// The sentence.
    pub text: String,
}

impl Event {
    /// Reads one, as it stands in JSON.
    ///
    /// # Errors
    /// When something is missing.
    pub fn read(value: &Value) -> anyhow::Result<Self> {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let missing = || format!("no event: {value}");
        Ok(Self {
            seq: value["seq"].as_u64().with_context(missing)?,
            kind: text("type").with_context(missing)?,
            node: text("node").unwrap_or_default(),
            text: text("text").with_context(missing)?,
        })
    }
}

/// How a node joins.
#[derive(Debug, Default, Clone)]
pub struct Joining<'a> {
    /// Node to join through; any if `None`.
    pub via: Option<&'a str>,
    /// Further arguments of `cluster join`.
    pub args: &'a [&'a str],
}

/// A token that a command made.
///
/// # Errors
/// When it printed none.
pub fn token_of(run: &Run) -> anyhow::Result<String> {
    let text = run.text();
    let mut words = text.split_whitespace().map(|word| word.trim_matches(['"', ',']));
    let token = words.find(|word| word.starts_with(proto::token::PREFIX));
    Ok(token.with_context(|| run.to_string())?.to_owned())
}

/// The configuration in the folder that `cluster join` made.
///
/// # Errors
/// When there is not exactly one.
pub fn joined_config(dir: &std::path::Path) -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut configs = paths.filter(|path| path.extension().is_some_and(|end| end == "toml"));
    let config = configs.next().with_context(|| format!("no configuration in {dir:?}"))?;
    anyhow::ensure!(configs.next().is_none(), "two configurations in {dir:?}");
    Ok(config)
}

impl Cluster {
    /// A token for one node.
    ///
    /// # Errors
    /// When none is given.
    pub fn node_token(&self, args: &[&str]) -> anyhow::Result<String> {
        let create = ["cluster", "token", "create", "--role", "node"];
        token_of(&self.user().ok(&[&create[..], args].concat())?)
    }

    /// The home of a machine that has nothing yet.
    #[must_use]
    pub fn stranger(&self, name: &str) -> User {
        User::new(self.folder().join(format!("home-{name}")))
    }

    /// Runs `cluster join` on a bare machine; nothing is started. Returns what came of it and the
    /// address that it gave.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn try_join(&self, name: &str, how: &Joining<'_>) -> anyhow::Result<(Run, String)> {
        let via: &[&str] = &how.via.map_or(Vec::new(), |node| vec!["--via", node]);
        let token = self.node_token(via)?;
        let address = format!("127.0.0.1:{}", ports::in_a_row(1)?);
        let run = self.join_with_token(name, &token, &address, how.args)?;
        Ok((run, address))
    }

    /// Runs `cluster join` with a token, an address and further arguments.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn join_with_token(
        &self,
        name: &str,
        token: &str,
        address: &str,
        args: &[&str],
    ) -> anyhow::Result<Run> {
        let dir = self.joined_dir(name);
        let dir = dir.to_str().context("a folder whose name is no text")?;
        let join = ["cluster", "join", token, "--name", name, "--dir", dir];
        let at = ["--listen", address, "--advertise", address];
        self.stranger(name).run(&[&join[..], &at, args].concat())
    }

    /// Where a node that joined has everything.
    #[must_use]
    pub fn joined_dir(&self, name: &str) -> PathBuf {
        self.folder().join(format!("logd-{name}"))
    }

    /// Lets a new node join and starts it; does not wait for it to be of use.
    ///
    /// # Errors
    /// When it is refused, or cannot be started.
    pub fn join(&mut self, name: &str, how: &Joining<'_>) -> anyhow::Result<()> {
        let (run, address) = self.try_join(name, how)?;
        anyhow::ensure!(run.code == 0, "{run}");
        self.enter_joined(name, address)?;
        self.start_node(name)
    }

    /// Enters a node that `cluster join` has made, without starting it.
    ///
    /// # Errors
    /// When it has made none.
    pub fn enter_joined(&mut self, name: &str, address: String) -> anyhow::Result<()> {
        let config = joined_config(&self.joined_dir(name))?;
        let log = self.folder().join(format!("{name}.log"));
        self.enter(Logd::new(name, config, log), address);
        Ok(())
    }

    /// Lets a new node join, and waits until it votes.
    ///
    /// # Errors
    /// When it does not.
    pub fn join_as_voter(&mut self, name: &str) -> anyhow::Result<()> {
        self.join(name, &Joining::default())?;
        self.wait_for(&["node", name, "--state", "voter"]).map(drop)
    }

    /// `logctl wait`, with a time that is longer than anything takes.
    ///
    /// # Errors
    /// When what is waited for does not come.
    pub fn wait_for(&self, what: &[&str]) -> anyhow::Result<Run> {
        self.user().ok(&[&["wait"], what, &["--timeout", WAIT_TIME]].concat())
    }

    /// Waits until a node is in a state.
    ///
    /// # Errors
    /// When it does not come to it.
    pub fn wait_node(&self, node: &str, state: &str) -> anyhow::Result<()> {
        self.wait_for(&["node", node, "--state", state]).map(drop)
    }

    /// All events, as a node tells them.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn events(&self, node: &str) -> anyhow::Result<Vec<Event>> {
        self.events_with(node, &[])
    }

    /// Events that further arguments select.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn events_with(&self, node: &str, args: &[&str]) -> anyhow::Result<Vec<Event>> {
        let value = self.user().json(&[&["events", "--via", node], args].concat())?;
        let rows = value.as_array().with_context(|| value.to_string())?;
        rows.iter().map(Event::read).collect()
    }

    /// Waits until a node tells of an event with this text, and returns all of them.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_event(&self, node: &str, text: &str) -> anyhow::Result<Vec<Event>> {
        crate::until(&format!("'{text}' in the events of {node}"), || {
            let events = self.events(node).map_err(|error| error.to_string())?;
            let found = events.iter().any(|event| event.text == text);
            if found { Ok(events) } else { Err(format!("{:?}", texts(&events))) }
        })
    }

    /// Rows of `logctl nodes`, by name, as a node tells them.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn node_rows(&self, via: &str) -> anyhow::Result<BTreeMap<String, Value>> {
        let value = self.user().json(&["nodes", "--via", via])?;
        let rows =
            value.get("nodes").and_then(Value::as_array).with_context(|| value.to_string())?;
        let row = |row: &Value| {
            let name = row.get("name").and_then(Value::as_str);
            Ok((name.with_context(|| row.to_string())?.to_owned(), row.clone()))
        };
        rows.iter().map(row).collect()
    }

    /// `logctl ping` with a report.
    ///
    /// # Errors
    /// When it fails.
    pub fn pings(&self, args: &[&str]) -> anyhow::Result<Report> {
        Report::read(&self.user().json(&[&["ping", "--report"], args].concat())?)
    }
}

/// The sentences of events.
#[must_use]
pub fn texts(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.text.as_str()).collect()
}

/// Who answered how many requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// By node; without those that answered none.
    pub counts: BTreeMap<String, u64>,
    /// Requests that nobody answered.
    pub failed: u64,
    /// Attempts that were made again elsewhere.
    pub retried: u64,
}

impl Report {
    /// Reads one, as it stands in JSON.
    ///
    /// # Errors
    /// When something is missing.
    pub fn read(value: &Value) -> anyhow::Result<Self> {
        let missing = || format!("no report: {value}");
        let number = |value: &Value| value.as_u64().with_context(missing);
        let rows = value["counts"].as_object().with_context(missing)?;
        let counts = rows.iter().map(|(node, count)| Ok((node.clone(), number(count)?)));
        let counts: BTreeMap<_, _> = counts.collect::<anyhow::Result<_>>()?;
        let counts = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        Ok(Self { counts, failed: number(&value["failed"])?, retried: number(&value["retried"])? })
    }

    /// The counts as `n1 4, n2 4`.
    #[must_use]
    pub fn table(&self) -> String {
        let rows: Vec<_> =
            self.counts.iter().map(|(node, count)| format!("{node} {count}")).collect();
        rows.join(", ")
    }
}
