//! The cluster's health: the forms it is shown in, and the verdict that becomes the exit code.

use clock::ClockState;
use proto::member::{LeftReason, MemberState};
use proto::wire::{NodeRow, Status};
use proto::{ExitCode, Gravity, Problem, ProblemCode};
use serde::Serialize;

use crate::Unwell;
use crate::certificate::CertLeft;
use crate::show::{Cell, Show, Tone, escape_controls};

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeView {
    id: String,
    role: String,
    address: String,
    state: NodeState,
    applied: u64,
    lag: u64,
    version: String,
    clock: ClockView,
    certificate: Option<CertLeft>,
    /// Stores that lie aside on its disk, if any do.
    #[serde(skip_serializing_if = "Option::is_none")]
    aside: Option<AsideView>,
}

/// Stores that could not be proven, or were gone on from, and are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct AsideView {
    stores: u64,
    bytes: u64,
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

impl NodeView {
    fn new(row: &NodeRow, now_unix_s: i64) -> Self {
        Self {
            id: row.name.clone(),
            role: row.role.clone(),
            address: row.address.clone(),
            state: if row.up { NodeState::Up } else { NodeState::Down },
            applied: row.applied,
            lag: row.lag,
            version: row.version.clone(),
            clock: ClockView { state: row.clock_state.clone(), error_bound_us: row.error_bound_us },
            certificate: CertLeft::of(row, now_unix_s),
            aside: (row.stores_aside > 0)
                .then_some(AsideView { stores: row.stores_aside, bytes: row.aside_bytes }),
        }
    }

    /// What there is to say of it that is no problem.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let AsideView { stores, bytes } = self.aside?;
        let (those, s) = if stores == 1 { ("it", "") } else { ("them", "s") };
        Some(format!(
            "{} keeps {stores} old store{s}, {} MiB: once nobody needs {those}, remove store.aside.* from its \
             data_dir",
            self.id,
            bytes.div_ceil(1 << 20)
        ))
    }

    /// Whether it answers.
    pub fn is_up(&self) -> bool {
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
pub struct StatusView {
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
pub enum ClockHealth {
    /// Nothing to do.
    Fine,
    /// It works, on borrowed time.
    Degraded,
    /// Stamps cannot be vouched for.
    Untrusted,
}

/// What the text of a clock state means. A machine clock that nobody measures is what the operator
/// chose, so it is fine, and shown.
pub fn clock_health(state: &str) -> ClockHealth {
    match state.parse() {
        Ok(ClockState::Synced | ClockState::Local) => ClockHealth::Fine,
        // An unknown word is of a newer release; not ours to call fine.
        Ok(ClockState::Holdover | ClockState::Disagree) | Err(_) => ClockHealth::Degraded,
        Ok(ClockState::Unsynced | ClockState::Expired | ClockState::Suspect) => {
            ClockHealth::Untrusted
        }
    }
}

impl StatusView {
    /// A status, and the verdict on it, seen at an instant.
    #[must_use]
    pub fn new(status: Status, now_unix_s: i64) -> Self {
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
            nodes: status.nodes.iter().map(|row| NodeView::new(row, now_unix_s)).collect(),
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
pub fn sentences(problems: &[Problem]) -> String {
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
    let never_came = row.noticed() == Some(MemberState::Admitted) && row.incarnation == 0;
    let calm = row.left() == Some(LeftReason::Stopped) || never_came;
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
    pub fn nodes(&self) -> &[NodeView] {
        &self.nodes
    }

    /// The primary's name.
    pub fn primary(&self) -> Option<&str> {
        self.primary.as_deref()
    }

    /// Whether nothing needs a look.
    pub fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// What needs a look.
    pub fn problems(&self) -> Vec<String> {
        self.problems.iter().map(Problem::to_string).collect()
    }

    /// Highest lag of a node, in entries.
    pub fn lag(&self) -> u64 {
        self.nodes.iter().map(|node| node.lag).max().unwrap_or(0)
    }

    /// Whether a node's clock is found out: its peers contradict it, and it says so itself.
    pub fn is_bad_clock(&self, node: &str) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.subject == node && problem.kind() == ProblemCode::BadClock)
    }

    /// Whether clocks are what keeps the cluster from vouching for its stamps.
    pub fn is_clock_degraded(&self) -> bool {
        self.gravity == Some(Gravity::ClockUntrusted)
    }

    /// Facts above the table of nodes.
    pub fn headline(&self) -> String {
        format!(
            "cluster {}  term {}  primary {}  quorum {}",
            self.cluster,
            self.term,
            self.primary().unwrap_or("none"),
            if self.quorum { "yes" } else { "no" }
        )
    }

    /// Whether a majority answers, and what is missing is a primary alone.
    fn is_electing(&self) -> bool {
        let up = self.nodes.iter().filter(|node| node.is_up()).count();
        self.primary.is_none() && up * 2 > self.nodes.len()
    }

    /// What is wrong and the exit code that it asks for: never success on an unhealthy answer.
    ///
    /// # Errors
    /// When something needs a look.
    pub fn verdict(&self) -> Result<(), Unwell> {
        let Some(gravity) = self.gravity else { return Ok(()) };
        let starts = |problem: &Problem| problem.kind() == ProblemCode::NodeNotNoted;
        let begins = gravity == Gravity::Degraded && self.problems.iter().all(starts);
        let (what, hint) = match gravity {
            Gravity::NoWrites if self.is_electing() => (
                "the cluster takes no writes, and waits until a primary is elected",
                "logctl wait ready: it takes a few seconds",
            ),
            Gravity::NoWrites => (
                "the cluster takes no writes",
                "start the nodes that are down; logctl read --stale still works. If a majority never \
                 comes back: logd recover --dry-run on each that is left",
            ),
            Gravity::ClockUntrusted if self.primary.is_none() => {
                ("no node's clock is good enough to lead", "logctl clock --all")
            }
            Gravity::ClockUntrusted => ("the primary's clock is not trusted", "logctl clock --all"),
            Gravity::Degraded if begins => (
                "the cluster is starting, and waits until it has noted every node",
                "logctl wait ready: it takes a few seconds",
            ),
            Gravity::Degraded => (
                "the cluster is degraded",
                "look at the log of the node that it names: journalctl -u logd",
            ),
        };
        let why = sentences(&self.problems);
        let what = format!("{what}: {why}");
        Err(Unwell { code: gravity.exit_code(), what, hint: hint.to_owned() })
    }
}

/// What `logctl status` thinks of the cluster, for machines.
#[derive(Debug, Serialize)]
pub struct VerdictView {
    healthy: bool,
    /// What `logctl status` would end with; 0 if nothing needs a look.
    pub exit_code: u8,
    /// What is wrong, for those who may know.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Vec<String>>,
    #[serde(rename = "try", skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl VerdictView {
    /// The verdict on a status, in full or without names and addresses.
    #[must_use]
    pub fn new(status: &StatusView, full: bool) -> Self {
        let unwell = status.verdict().err();
        Self {
            healthy: status.is_healthy(),
            exit_code: unwell.as_ref().map_or(0, |unwell| unwell.code.number()),
            problems: full.then(|| status.problems()),
            hint: unwell.filter(|_| full).map(|unwell| unwell.hint),
        }
    }
}

/// The health of the cluster or of one node, in one line.
#[derive(Debug, Serialize)]
pub struct HealthView {
    /// `None`: the cluster.
    pub node: Option<String>,
    /// Whether nothing needs a look.
    pub healthy: bool,
    /// What does.
    pub problems: Vec<String>,
}

impl Show for HealthView {
    fn headings() -> &'static [&'static str] {
        &["NODE", "HEALTH", "PROBLEMS"]
    }

    fn row(&self) -> Vec<Cell> {
        let tone = if self.healthy { Tone::Good } else { Tone::Bad };
        let [node, health, problems] = self.texts();
        vec![node.into(), Cell::toned(health, tone), problems.into()]
    }

    fn plain(&self) -> Vec<String> {
        self.texts().into()
    }
}

impl HealthView {
    fn texts(&self) -> [String; 3] {
        let health = if self.healthy { "healthy" } else { "not healthy" };
        let node = self.node.clone().unwrap_or_else(|| "all".to_owned());
        [node, health.to_owned(), self.problems.join("; ")]
    }
}

/// The one line and the exit code that Nagios and its kin expect of a check: 0 ok, 1 warning,
/// 2 critical, 3 unknown.
#[must_use]
pub fn nagios(judged: Result<&HealthView, (ExitCode, String)>) -> (String, u8) {
    let (code, what) = match judged {
        Ok(view) => {
            let whose = view.node.as_deref().unwrap_or("the cluster");
            return (format!("LOGD OK - {whose} is healthy"), 0);
        }
        Err(wrong) => wrong,
    };
    let (word, code) = match code {
        ExitCode::Degraded => ("WARNING", 1),
        // Nobody answers, no writes, clocks not trusted, data damaged.
        ExitCode::Unreachable
        | ExitCode::Unknown
        | ExitCode::NoQuorum
        | ExitCode::Clock
        | ExitCode::Integrity => ("CRITICAL", 2),
        ExitCode::Other
        | ExitCode::Usage
        | ExitCode::Denied
        | ExitCode::NotFound
        | ExitCode::Conflict
        | ExitCode::Interrupted
        | ExitCode::ReaderGone => ("UNKNOWN", 3),
    };
    // What stands behind a | would be read as measurements.
    let what = escape_controls(&what).replace('|', "/");
    (format!("LOGD {word} - {what}"), code)
}

#[cfg(test)]
#[path = "health_test.rs"]
mod tests;
