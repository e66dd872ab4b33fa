//! The cluster's health: the forms it is shown in, and the verdict that becomes the exit code.

use clock::ClockState;
use proto::member::{MemberState, reason};
use proto::wire::{NodeRow, Status};
use serde::Serialize;

use crate::error::CtlError;
use crate::out::{Cell, Show, Tone};

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NodeView {
    id: String,
    role: String,
    address: String,
    state: NodeState,
    applied: u64,
    lag: u64,
    version: String,
    clock: ClockView,
}

/// Whether a node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum NodeState {
    Up,
    Down,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ClockView {
    state: String,
    error_bound_us: Option<u64>,
}

impl From<&NodeRow> for NodeView {
    fn from(row: &NodeRow) -> Self {
        Self {
            id: row.name.clone(),
            role: row.role.clone(),
            address: row.address.clone(),
            state: if row.up { NodeState::Up } else { NodeState::Down },
            applied: row.applied,
            lag: row.lag,
            version: row.version.clone(),
            clock: ClockView { state: row.clock_state.clone(), error_bound_us: row.error_bound_us },
        }
    }
}

impl NodeView {
    /// Whether it answers.
    pub(crate) fn is_up(&self) -> bool {
        self.state == NodeState::Up
    }

    fn clock_text(&self) -> String {
        match self.clock.error_bound_us {
            Some(us) => format!("{} ±{}.{:03} ms", self.clock.state, us / 1000, us % 1000),
            None => self.clock.state.clone(),
        }
    }
}

impl Show for NodeView {
    fn headings() -> &'static [&'static str] {
        &["NODE", "ROLE", "STATE", "ADDRESS", "APPLIED", "LAG", "VERSION", "CLOCK"]
    }

    fn row(&self) -> Vec<Cell> {
        let state = match self.state {
            NodeState::Up => Cell::toned("up", Tone::Good),
            NodeState::Down => Cell::toned("down", Tone::Bad),
        };
        let tone = match clock_standing(&self.clock.state) {
            Standing::Fine => Tone::Neutral,
            Standing::Degraded => Tone::Warning,
            Standing::Untrusted => Tone::Bad,
        };
        vec![
            self.id.as_str().into(),
            self.role.as_str().into(),
            state,
            self.address.as_str().into(),
            self.applied.to_string().into(),
            self.lag.to_string().into(),
            self.version.as_str().into(),
            Cell::toned(self.clock_text(), tone),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.role.clone(),
            if self.is_up() { "up" } else { "down" }.to_owned(),
            self.address.clone(),
            self.applied.to_string(),
            self.lag.to_string(),
            self.version.clone(),
            self.clock.state.clone(),
            self.clock.error_bound_us.map(|us| us.to_string()).unwrap_or_default(),
        ]
    }
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StatusView {
    cluster: String,
    term: u64,
    primary: Option<String>,
    quorum: bool,
    nodes: Vec<NodeView>,
    healthy: bool,
    problems: Vec<String>,
    #[serde(skip)]
    code: u8,
}

/// What a clock's state means for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing to do.
    Fine,
    /// It works, on borrowed time.
    Degraded,
    /// Stamps cannot be vouched for.
    Untrusted,
}

/// What the text of a clock state means. A machine clock that nobody measures is what the operator
/// chose, so it is fine, and shown.
pub(crate) fn clock_standing(state: &str) -> Standing {
    match state.parse() {
        Ok(ClockState::Synced | ClockState::Local) => Standing::Fine,
        // An unknown word is of a newer release; not ours to call fine.
        Ok(ClockState::Holdover | ClockState::Disagree) | Err(_) => Standing::Degraded,
        Ok(ClockState::Unsynced | ClockState::Expired | ClockState::Suspect) => Standing::Untrusted,
    }
}

/// What a node says when it leads, or has to, on a clock that is not good enough.
const CLOCK_DEGRADED: &str = "CLOCK_DEGRADED";
/// What a node says whose clock the others contradict.
const BAD_CLOCK: &str = "BAD_CLOCK";

impl From<Status> for StatusView {
    fn from(status: Status) -> Self {
        let mut verdict = Verdict { problems: Vec::new(), code: 0 };
        for problem in &status.problems {
            let code = weigh(problem, &status.primary);
            verdict.add(code, problem, problem.clone());
        }
        // Where only clocks stand in the way of an election, they are what must be looked at.
        let leaderless = if nobody_may_lead(&status) { 12 } else { 11 };
        if status.primary.is_empty() {
            verdict.add(leaderless, "no primary", "there is no primary".to_owned());
        }
        if !status.quorum {
            let text = "no quorum: a majority is not reachable".to_owned();
            verdict.add(leaderless, "quorum", text);
        }
        for row in &status.nodes {
            verdict.judge(row, &status.primary);
        }
        Self {
            cluster: status.cluster,
            term: status.term,
            primary: Some(status.primary).filter(|primary| !primary.is_empty()),
            quorum: status.quorum,
            nodes: status.nodes.iter().map(NodeView::from).collect(),
            healthy: verdict.code == 0,
            problems: verdict.problems,
            code: verdict.code,
        }
    }
}

/// The exit code that a problem of the cluster asks for. A bad clock weighs as one of the primary
/// if its node is named first, as in `n1: BAD_CLOCK …`.
fn weigh(problem: &str, primary: &str) -> u8 {
    let named = |name: &str| {
        let mut words = problem.split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
        !name.is_empty() && words.find(|word| !word.is_empty()) == Some(name)
    };
    if problem.contains(CLOCK_DEGRADED) || (problem.contains(BAD_CLOCK) && named(primary)) {
        12
    } else {
        10
    }
}

/// Whether there is no primary although a majority answers, and no clock of it is good enough.
fn nobody_may_lead(status: &Status) -> bool {
    let answering: Vec<&NodeRow> = status.nodes.iter().filter(|row| row.up).collect();
    let bad = |row: &&NodeRow| {
        let says = |word: &str| row.problems.iter().any(|problem| problem.contains(word));
        clock_standing(&row.clock_state) == Standing::Untrusted
            || says(CLOCK_DEGRADED)
            || says(BAD_CLOCK)
    };
    status.primary.is_empty()
        && answering.len() * 2 > status.nodes.len()
        && answering.iter().all(bad)
}

/// Whether a node that does not answer is none to worry about: it is drained, or it has no vote and
/// stopped on purpose, or never came.
fn may_go(row: &NodeRow) -> bool {
    let left = row.state == MemberState::Left.as_str();
    let calm = left && row.reason == reason::STOPPED || row.state == MemberState::Admitted.as_str();
    row.drained || !row.voter && calm
}

/// Problems so far and the gravest exit code of them.
struct Verdict {
    problems: Vec<String>,
    code: u8,
}

impl Verdict {
    fn judge(&mut self, row: &NodeRow, primary: &str) {
        let name = &row.name;
        if !row.up {
            if !may_go(row) {
                self.add(10, name, format!("{name} is down"));
            }
            return;
        }
        // A clock matters most where it stamps.
        let leads = name == primary;
        for problem in &row.problems {
            let about_clock = problem.contains(CLOCK_DEGRADED) || problem.contains(BAD_CLOCK);
            let code = if about_clock && leads { 12 } else { 10 };
            self.add(code, problem, format!("{name}: {problem}"));
        }
        let clock = format!("the clock of {name} is {}", row.clock_state);
        match clock_standing(&row.clock_state) {
            Standing::Fine => {}
            Standing::Untrusted if leads => self.add(12, &clock, clock.clone()),
            Standing::Untrusted | Standing::Degraded => self.add(10, &clock, clock.clone()),
        }
    }

    /// Adds a problem unless the node already reported one that says so. No quorum weighs more
    /// than a bad clock, and that more than the rest.
    fn add(&mut self, code: u8, known_by: &str, text: String) {
        if !self.problems.iter().any(|problem| problem.contains(known_by)) {
            self.problems.push(text);
        }
        let weight = |code: u8| match code {
            11 => 3,
            12 => 2,
            10 => 1,
            _ => 0,
        };
        if weight(code) > weight(self.code) {
            self.code = code;
        }
    }
}

impl StatusView {
    /// The nodes.
    pub(crate) fn nodes(&self) -> &[NodeView] {
        &self.nodes
    }

    /// The primary's name.
    pub(crate) fn primary(&self) -> Option<&str> {
        self.primary.as_deref()
    }

    /// Whether nothing needs a look.
    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// What needs a look.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Highest lag of a node, in entries.
    pub(crate) fn lag(&self) -> u64 {
        self.nodes.iter().map(|node| node.lag).max().unwrap_or(0)
    }

    /// Whether a node's clock is found out: its peers contradict it, and it says so itself.
    pub(crate) fn is_bad_clock(&self, node: &str) -> bool {
        let said = format!("{node}: {BAD_CLOCK}");
        self.problems.iter().any(|problem| problem.starts_with(&said))
    }

    /// Whether clocks are what keeps the cluster from vouching for its stamps.
    pub(crate) fn is_clock_degraded(&self) -> bool {
        self.code == 12
    }

    /// Facts above the table of nodes.
    pub(crate) fn headline(&self) -> String {
        format!(
            "cluster {}  term {}  primary {}  quorum {}",
            self.cluster,
            self.term,
            self.primary().unwrap_or("none"),
            if self.quorum { "yes" } else { "no" }
        )
    }

    /// The exit code as an error: never 0 on an unhealthy answer.
    pub(crate) fn verdict(&self) -> Result<(), CtlError> {
        let (what, hint) = match self.code {
            0 => return Ok(()),
            11 => ("the cluster takes no writes", "start the nodes that are down; read --stale"),
            12 if self.primary.is_none() => {
                ("no node's clock is good enough to lead", "logctl clock --all")
            }
            12 => ("the primary's clock is not trusted", "logctl clock --all"),
            _ => ("the cluster is degraded", "logctl status --watch, and the log of that node"),
        };
        Err(CtlError::refused(self.code, format!("{what}: {}", self.problems.join("; ")), hint))
    }
}

#[cfg(test)]
#[path = "health_test.rs"]
mod tests;
