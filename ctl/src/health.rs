//! The cluster's health: the forms it is shown in, and the verdict that becomes the exit code.

use clock::ClockState;
use proto::member::{MemberState, reason};
use proto::wire::{NodeRow, Status};
use proto::{Gravity, Problem, ProblemCode};
use serde::Serialize;

use crate::error::CtlError;
use crate::out::{Cell, Show, Tone};
use crate::renewal::CertLeft;

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
    certificate: Option<CertLeft>,
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
            certificate: CertLeft::of(row),
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
        &["NODE", "ROLE", "STATE", "ADDRESS", "APPLIED", "LAG", "VERSION", "CLOCK", "CERT"]
    }

    fn row(&self) -> Vec<Cell> {
        let state = match self.state {
            NodeState::Up => Cell::toned("up", Tone::Good),
            NodeState::Down => Cell::toned("down", Tone::Bad),
        };
        let tone = match clock_health(&self.clock.state) {
            ClockHealth::Fine => Tone::Neutral,
            ClockHealth::Degraded => Tone::Warning,
            ClockHealth::Untrusted => Tone::Bad,
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
            CertLeft::cell(self.certificate.as_ref()),
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
            CertLeft::plain(self.certificate.as_ref()),
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
    #[serde(serialize_with = "texts")]
    problems: Vec<Problem>,
    #[serde(skip)]
    gravity: Option<Gravity>,
}

/// Problems as the sentences that people and programs read.
fn texts<S: serde::Serializer>(problems: &[Problem], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(problems.iter().map(Problem::to_string))
}

/// What a clock's state means for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClockHealth {
    /// Nothing to do.
    Fine,
    /// It works, on borrowed time.
    Degraded,
    /// Stamps cannot be vouched for.
    Untrusted,
}

/// What the text of a clock state means. A machine clock that nobody measures is what the operator
/// chose, so it is fine, and shown.
pub(crate) fn clock_health(state: &str) -> ClockHealth {
    match state.parse() {
        Ok(ClockState::Synced | ClockState::Local) => ClockHealth::Fine,
        // An unknown word is of a newer release; not ours to call fine.
        Ok(ClockState::Holdover | ClockState::Disagree) | Err(_) => ClockHealth::Degraded,
        Ok(ClockState::Unsynced | ClockState::Expired | ClockState::Suspect) => {
            ClockHealth::Untrusted
        }
    }
}

impl From<Status> for StatusView {
    fn from(status: Status) -> Self {
        let primary = status.primary.as_str();
        let mut verdict = Verdict::default();
        // Where only clocks stand in the way of an election, they are what must be looked at.
        let clocks = nobody_may_lead(&status);
        let leaderless = if clocks { Gravity::ClockUntrusted } else { Gravity::NoWrites };
        for problem in &status.problems {
            let leaderless_too =
                matches!(problem.kind(), ProblemCode::NoPrimary | ProblemCode::NoQuorum);
            if leaderless_too {
                verdict.weigh(leaderless, problem.clone());
            } else {
                verdict.add(problem.clone(), primary);
            }
        }
        // A primary that can mint no stamp has a majority all the same.
        let blocked = status.problems.iter().any(|problem| {
            problem.kind() == ProblemCode::ClockBehind && problem.subject == primary
        });
        for (is, code) in [
            (primary.is_empty(), ProblemCode::NoPrimary),
            (!status.quorum && !blocked, ProblemCode::NoQuorum),
        ] {
            if is {
                verdict.weigh(leaderless, Problem::new(code));
            }
        }
        for row in &status.nodes {
            verdict.judge(row, primary);
        }
        Self {
            nodes: status.nodes.iter().map(NodeView::from).collect(),
            cluster: status.cluster,
            term: status.term,
            primary: Some(status.primary).filter(|primary| !primary.is_empty()),
            quorum: status.quorum,
            healthy: verdict.gravity.is_none(),
            problems: verdict.problems,
            gravity: verdict.gravity,
        }
    }
}

/// All problems in one line.
pub(crate) fn sentences(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

/// Whether there is no primary although a majority answers, and no clock of it is good enough.
fn nobody_may_lead(status: &Status) -> bool {
    let answering: Vec<&NodeRow> = status.nodes.iter().filter(|row| row.up).collect();
    let bad = |row: &&NodeRow| {
        let accused = |problem: &Problem| {
            matches!(
                problem.kind(),
                ProblemCode::ClockDegraded | ProblemCode::BadClock | ProblemCode::ClockBehind
            )
        };
        clock_health(&row.clock_state) == ClockHealth::Untrusted || row.problems.iter().any(accused)
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

/// Problems so far, and how much the gravest of them weighs.
#[derive(Default)]
struct Verdict {
    problems: Vec<Problem>,
    gravity: Option<Gravity>,
}

impl Verdict {
    fn judge(&mut self, row: &NodeRow, primary: &str) {
        let name = row.name.as_str();
        if !row.up {
            let told =
                self.problems.iter().any(|known| known.subject == name && known.is_absence());
            if !may_go(row) && !told {
                self.add(Problem::new(ProblemCode::NodeDown).of(name), primary);
            }
            return;
        }
        for problem in &row.problems {
            self.add(problem.clone().of(name), primary);
        }
        if clock_health(&row.clock_state) != ClockHealth::Fine {
            let state = Problem::new(ProblemCode::ClockState).about(&row.clock_state);
            self.add(state.of(name), primary);
        }
    }

    fn add(&mut self, problem: Problem, primary: &str) {
        self.weigh(problem.gravity(primary), problem);
    }

    /// Takes a problem in unless it is there already.
    fn weigh(&mut self, gravity: Gravity, problem: Problem) {
        self.gravity = self.gravity.max(Some(gravity));
        if !self.problems.iter().any(|known| known.key() == problem.key()) {
            self.problems.push(problem);
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
    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.iter().map(Problem::to_string).collect()
    }

    /// Highest lag of a node, in entries.
    pub(crate) fn lag(&self) -> u64 {
        self.nodes.iter().map(|node| node.lag).max().unwrap_or(0)
    }

    /// Whether a node's clock is found out: its peers contradict it, and it says so itself.
    pub(crate) fn is_bad_clock(&self, node: &str) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.subject == node && problem.kind() == ProblemCode::BadClock)
    }

    /// Whether clocks are what keeps the cluster from vouching for its stamps.
    pub(crate) fn is_clock_degraded(&self) -> bool {
        self.gravity == Some(Gravity::ClockUntrusted)
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
        let Some(gravity) = self.gravity else { return Ok(()) };
        let (what, hint) = match gravity {
            Gravity::NoWrites => (
                "the cluster takes no writes",
                "start the nodes that are down; logctl read --stale still works",
            ),
            Gravity::ClockUntrusted if self.primary.is_none() => {
                ("no node's clock is good enough to lead", "logctl clock --all")
            }
            Gravity::ClockUntrusted => ("the primary's clock is not trusted", "logctl clock --all"),
            Gravity::Degraded => (
                "the cluster is degraded",
                "logctl status --watch; then look at the log of that node",
            ),
        };
        let why = sentences(&self.problems);
        Err(CtlError::refused(gravity.exit_code(), format!("{what}: {why}"), hint))
    }
}

#[cfg(test)]
#[path = "health_test.rs"]
mod tests;
