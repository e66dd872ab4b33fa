//! Nodes on hosts of their own, between which packets are dropped: one way, or while the members
//! change.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::life::{joined_config, token_of};
use tests::patience::when;
use tests::{Event, Hosts, Logd, User, until};

/// Port of every node; hosts have addresses of their own.
const PORT: u16 = 7101;

/// A cluster whose node `n1` runs on host 1, and so on.
pub(crate) struct Spread {
    // In this order: nodes end before their hosts go, and their folder goes last.
    nodes: Vec<Logd>,
    admin: User,
    pub(crate) hosts: Hosts,
    folder: tempfile::TempDir,
}

impl Spread {
    /// Starts so many nodes, the first by `cluster create` and the others by joining it. `None`
    /// where network namespaces cannot be tested and nobody requires it.
    pub(crate) fn start(count: u8, hosts: u8) -> Option<Self> {
        let hosts = Hosts::new(hosts).unwrap()?;
        let folder = tempfile::tempdir().unwrap();
        // The admin sits at a host that is never cut off: the last.
        let admin = User::new(folder.path().join("home"));
        let dir = folder.path().join("n1");
        let (path, at) = (dir.to_str().unwrap().to_owned(), Hosts::address(1));
        let mut spread = Self { nodes: Vec::new(), admin, hosts, folder };
        let create = ["cluster", "create", &path, "--nodes", "1", "--host", &at];
        spread.at(1).ok(&create).unwrap();
        spread.run(1, dir.join("node1.toml"));
        for host in 2..=count {
            spread.join(host).unwrap();
            // Whoever is cut off, or leads, before everybody votes is another matter.
            spread.wait(1, &["node", &format!("n{host}"), "--state", "voter"]);
        }
        let last = format!("n{count}");
        spread.wait(1, &["node", &last, "--state", "primary"]);
        Some(spread)
    }

    /// The admin, sitting at a host.
    pub(crate) fn at(&self, host: u8) -> User {
        self.hosts.user(host, &self.admin)
    }

    fn run(&mut self, host: u8, config: PathBuf) {
        let name = format!("n{host}");
        let mut node = Logd::new(&name, config, self.folder.path().join(format!("{name}.log")));
        self.hosts.place(host, &mut node);
        node.start(&[]).unwrap();
        self.nodes.push(node);
    }

    fn dir(&self, host: u8) -> PathBuf {
        self.folder.path().join(format!("n{host}"))
    }

    /// Runs `cluster join` at a host, starts the node, and waits for nothing.
    fn join(&mut self, host: u8) -> anyhow::Result<()> {
        let create = ["cluster", "token", "create", "--role", "node", "--timeout", "60s"];
        let token = token_of(&self.at(1).ok(&create)?)?;
        let (name, dir) = (format!("n{host}"), self.dir(host));
        let at = format!("{}:{PORT}", Hosts::address(host));
        let join = ["cluster", "join", &token, "--name", &name, "--dir", dir.to_str().unwrap()];
        let home = User::new(self.folder.path().join(format!("home-{name}")));
        let user = self.hosts.user(host, &home);
        user.ok(&[&join[..], &["--listen", &at, "--advertise", &at]].concat())?;
        self.run(host, joined_config(Path::new(&dir))?);
        Ok(())
    }

    #[track_caller]
    fn wait(&self, host: u8, what: &[&str]) {
        let via = format!("n{host}");
        let wait = [&["wait", "--via", &via], what, &["--timeout", "60s"]].concat();
        self.at(host).ok(&wait).unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
    }

    fn events(&self, host: u8) -> anyhow::Result<Vec<Event>> {
        let via = format!("n{host}");
        let value = self.at(host).json(&["events", "--via", &via])?;
        value.as_array().into_iter().flatten().map(Event::read).collect()
    }

    #[track_caller]
    fn wait_event(&self, host: u8, beginning: &str) -> Event {
        until(&format!("'{beginning}' at n{host}"), || {
            let events = self.events(host).map_err(|error| error.to_string())?;
            let found = events.iter().rev().find(|event| event.text.starts_with(beginning));
            found.cloned().ok_or_else(|| format!("{events:?}"))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.logs()))
    }

    /// The last that each node said: what was wrong shows there.
    fn logs(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let log = node.log();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(30)..];
            text.push_str(&format!("--- {}\n{}\n", node.name(), last.join("\n")));
        }
        text
    }

    fn status(&self, host: u8) -> anyhow::Result<Value> {
        let via = format!("n{host}");
        self.at(host).run(&["status", "--via", &via, "-o", "json"])?.json()
    }
}

#[test]
fn a_node_that_is_cut_off_one_way_is_told_from_a_dead_one() {
    let Some(spread) = Spread::start(3, 3) else { return };
    let user = spread.at(2);
    user.ok(&["send", "--to", "*", "--id", "before", "before"]).unwrap();
    // What n1 says no longer comes to the primary, n3; n2 hears it.
    spread.hosts.cut(1, 3).unwrap();
    let left = spread.wait_event(2, "left n1");
    assert!(left.text.starts_with("left n1 (cut off)"), "{left:?}");
    assert!(left.text.contains("n2"), "who hears it: {left:?}");
    user.ok(&["send", "--to", "*", "--id", "during", "during"]).unwrap();
    assert!(spread.hosts.mend(3).unwrap() > 0, "nothing was dropped");
    spread.wait(2, &["node", "n1", "--state", "joined"]);
    // A dead one is told as dead.
    spread.wait(2, &["in-sync"]);
    let mut spread = spread;
    spread.nodes[0].kill().unwrap();
    until("n1 to be told as unreachable", || {
        let events = spread.events(2).map_err(|error| error.to_string())?;
        let last = events.iter().rev().find(|event| event.kind == "leave");
        let dead = last.is_some_and(|event| event.text.starts_with("left n1 (unreachable)"));
        when(dead, format!("{last:?}"))
    })
    .unwrap();
}

#[test]
fn a_partition_during_a_change_of_members_ends_in_one_membership() {
    let Some(mut spread) = Spread::start(3, 4) else { return };
    spread.at(2).ok(&["send", "--to", "*", "--id", "first", "first"]).unwrap();
    // A fourth joins; while it is taken in, the primary loses everybody.
    spread.join(4).unwrap();
    for host in [1, 2, 4] {
        spread.hosts.cut(host, 3).unwrap();
        spread.hosts.cut(3, host).unwrap();
    }
    let successor = until("another primary", || {
        let status = spread.status(1).map_err(|error| error.to_string())?;
        let primary = status["primary"].as_str().unwrap_or_default().to_owned();
        let other = !primary.is_empty() && primary != "n3" && status["quorum"] == true;
        when(other, status.to_string()).map(|()| primary)
    })
    .unwrap();
    assert_ne!(successor, "n3");
    spread.at(1).ok(&["send", "--to", "*", "--id", "cut", "--timeout", "60s", "cut"]).unwrap();
    // The lonely one takes nothing.
    let lonely = ["send", "--via", "n3", "--to", "*", "--timeout", "2s", "lonely"];
    let run = spread.at(3).run(&lonely).unwrap();
    assert!(run.code == 11 || run.code == 7, "{run}");
    spread.wait(1, &["node", "n4", "--state", "voter"]);
    let dropped: u64 = (1..=4).map(|host| spread.hosts.mend(host).unwrap()).sum();
    assert!(dropped > 0, "nothing was dropped");
    spread.wait(1, &["node", "n3", "--state", "joined"]);
    spread.wait(1, &["in-sync"]);
    let voters = |host: u8| -> anyhow::Result<String> {
        let via = format!("n{host}");
        let view = spread.at(host).json(&["raft", "show", "--via", &via])?;
        let rows = view.as_array().cloned().unwrap_or_else(|| vec![view.clone()]);
        let row = rows.iter().find(|row| row["node"] == via).cloned().unwrap_or_default();
        anyhow::ensure!(row["joint"] == false, "{row}");
        Ok(row["voters"].to_string())
    };
    until("the same four voters everywhere", || {
        let all = (1..=4).map(voters).collect::<anyhow::Result<Vec<_>>>();
        let mut all = all.map_err(|error| error.to_string())?;
        all.dedup();
        let four = all.len() == 1 && all[0].matches('n').count() == 4;
        when(four, format!("{all:?}"))
    })
    .unwrap();
    for host in 1..=4 {
        let via = format!("n{host}");
        for id in ["first", "cut"] {
            spread.at(host).ok(&["get", id, "--via", &via]).unwrap();
        }
    }
}

/// Problems of a status, if it names a node.
fn named(status: &Value, node: &str) -> bool {
    let problems = status["problems"].as_array().into_iter().flatten();
    problems.filter_map(Value::as_str).any(|problem| problem.starts_with(node))
}

/// Rows of a status whose role is primary.
fn primaries(status: &Value) -> Vec<&str> {
    let rows = status["nodes"].as_array().into_iter().flatten();
    let leads = rows.filter(|row| row["role"] == "primary");
    leads.filter_map(|row| row["id"].as_str()).collect()
}

/// Waits until a host's own node knows that it hears nobody, and the others do; how many of so many
/// answers of theirs call everything healthy from then on.
fn healthy_answers(spread: &Spread, lonely: u8, others: [u8; 2], answers: usize) -> usize {
    for host in [lonely, others[0], others[1]] {
        until(&format!("n{host} knows that n{lonely} hears nobody"), || {
            let status = spread.status(host).map_err(|error| error.to_string())?;
            when(status["healthy"] == false, status.to_string())
        })
        .unwrap();
    }
    let status = |n: usize| spread.status(others[n % 2]);
    (0..answers).filter(|n| status(*n).is_ok_and(|status| status["healthy"] == true)).count()
}

/// On the code before, who spoke was up until its last connection was given up.
#[test]
fn a_node_that_hears_nobody_is_a_problem_though_all_hear_it() {
    let Some(spread) = Spread::start(3, 3) else { return };
    for host in [2, 3] {
        spread.hosts.cut(host, 1).unwrap();
    }
    let healthy = healthy_answers(&spread, 1, [2, 3], 40);
    assert_eq!(healthy, 0, "of 40 answers call it healthy");
    for host in [2, 3] {
        until(&format!("a problem that names n1, at n{host}"), || {
            let status = spread.status(host).map_err(|error| error.to_string())?;
            let told = named(&status, "n1") && status["healthy"] == false;
            when(told && status["quorum"] == true, status.to_string())
        })
        .unwrap();
        let via = format!("n{host}");
        let run = spread.at(host).run(&["health", "--via", &via]).unwrap();
        assert_eq!(run.code, 10, "{run}");
        let run = spread.at(host).run(&["health", "--via", &via, "--nagios"]).unwrap();
        assert_eq!(run.code, 1, "{run}");
        let ready = ["wait", "--via", &via, "ready", "--timeout", "1s"];
        spread.at(host).refused(&ready, 7).unwrap();
    }
    assert!(spread.hosts.mend(1).unwrap() > 0, "nothing was dropped");
    for host in 1..=3 {
        spread.wait(host, &["ready"]);
    }
}

/// On the code before, 39 of 40 answers were healthy.
#[test]
fn a_primary_that_hears_nobody_is_never_called_healthy_and_never_shown_beside_another() {
    let Some(spread) = Spread::start(3, 3) else { return };
    for host in [1, 2] {
        spread.hosts.cut(host, 3).unwrap();
    }
    let healthy = healthy_answers(&spread, 3, [1, 2], 40);
    assert_eq!(healthy, 0, "of 40 answers call it healthy");
    let another = until("another primary", || {
        let mut leads = Vec::new();
        for host in 1..=3 {
            let Ok(status) = spread.status(host) else { continue };
            assert!(primaries(&status).len() <= 1, "at n{host}: {status}");
            if host == 3 {
                assert_ne!(status["healthy"], true, "{status}");
            } else if let Some(leads_here) = primaries(&status).first() {
                leads.push((*leads_here).to_owned());
            }
        }
        let other = leads.len() == 2 && leads.iter().all(|lead| lead != "n3");
        when(other, format!("{leads:?}"))
    });
    another.unwrap_or_else(|error| panic!("{error}\n{}", spread.logs()));
    spread
        .at(1)
        .ok(&["send", "--to", "*", "--id", "during", "--timeout", "60s", "during"])
        .unwrap();
    for host in 1..=3 {
        let status = spread.status(host).unwrap();
        assert!(status["healthy"] == false && primaries(&status).len() <= 1, "{status}");
    }
    assert!(spread.hosts.mend(3).unwrap() > 0, "nothing was dropped");
    for host in 1..=3 {
        spread.wait(host, &["ready"]);
    }
}
