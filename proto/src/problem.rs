//! What a person should look at, as facts: which problem, of which node, about what. One place knows
//! the sentence, and how much a problem weighs in the verdict on the cluster.

use std::fmt;

use clock::ClockState;

use crate::ExitCode;

/// Which problem. The numbers are the wire format. A new one is a variant here, its sentence and its
/// gravity below; the compiler asks for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ProblemCode {
    /// One of a newer release; its detail says what.
    Other = 0,
    /// No majority of the voters is reachable.
    NoQuorum = 1,
    /// No primary is known.
    NoPrimary = 2,
    /// The node does not answer.
    NodeDown = 3,
    /// The node announced its stop.
    NodeStopped = 4,
    /// No node has heard it for long.
    NodeUnreachable = 5,
    /// Some nodes reach it, and some do not.
    NodeCutOff = 6,
    /// The node was admitted and has not been heard from yet.
    NodeNeverHeard = 7,
    /// The node is up, and the table of nodes does not say so yet.
    NodeNotNoted = 8,
    /// The node is many entries behind.
    Lagging = 9,
    /// The role of the node is none that serves.
    Role = 10,
    /// The node cannot prove its store intact.
    Damaged = 11,
    /// The data disk of the node is nearly full.
    DiskFull = 12,
    /// The clock of the node is not synced; about which state.
    ClockState = 13,
    /// The clocks of two nodes contradict each other, and nobody knows which is wrong.
    ClockContradicted = 14,
    /// A majority of the others contradicts the clock of the node, or refuses its stamps.
    BadClock = 15,
    /// The primary leads, or has to, on a clock that is not good enough.
    ClockDegraded = 16,
    /// The clock of the node is not good enough to lead.
    CannotLead = 17,
    /// Stamps had to be raised at apply.
    StampsRaised = 18,
    /// The file of the node says something else than the cluster; about which setting.
    SettingDiffers = 19,
    /// The clock of the node is behind its own ceiling: it can mint no stamp.
    ClockBehind = 20,
    /// The node is heard, and does not answer.
    DoesNotHear = 21,
    /// The node says that it listens elsewhere than the table says.
    ListensElsewhere = 22,
    /// The node takes nothing of what the primary sends.
    GetsNothing = 23,
    /// The disk of the node takes long to sync.
    DiskSlow = 24,
    /// The stamps of the log are ahead of the clock of the node.
    LogAhead = 25,
    /// This node and another have committed different entries; about which other. Neither is right
    /// by that, and a person has to decide.
    TwoHistories = 30,
    /// The store of another node lacks what it has shown before; about which node.
    StoreLacks = 31,
    /// Two processes run with the key and the store of one node; about which node.
    TwoLives = 32,
    /// The node has applied entries that the primary's log does not have.
    AheadOfPrimary = 33,
    /// What the node had written down of the other nodes' stores is lost: one that was set back meanwhile
    /// may go unnoticed by it.
    MemoryLost = 34,
    /// The node cannot prove its store, and its repair has to wait; about what for.
    RepairWaits = 35,
    /// The node was taken back with a new store, and has no vote again yet.
    Repairing = 36,
    /// The states of the nodes differ behind the same entry, and no majority holds the same: a person has
    /// to decide.
    StatesDiffer = 37,
    /// The store of the node ended, where the cluster went on without it, and it has not come back with a
    /// new one.
    NodeNotBack = 38,
    /// The node serves, and could not open its store again: a file of it is gone.
    StoreIncomplete = 39,
    /// The certificate of the node should have been renewed by now.
    CertificateLate = 40,
    /// The certificate of the node is over: no new connection of it is taken.
    CertificateExpired = 41,
}

/// One above the highest number.
const CODES_END: i32 = 42;

impl ProblemCode {
    /// All of them, by number.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..CODES_END).filter_map(|number| Self::try_from(number).ok())
    }

    /// The word for it, for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::NoQuorum => "no_quorum",
            Self::NoPrimary => "no_primary",
            Self::NodeDown => "node_down",
            Self::NodeStopped => "node_stopped",
            Self::NodeUnreachable => "node_unreachable",
            Self::NodeCutOff => "node_cut_off",
            Self::NodeNeverHeard => "node_never_heard",
            Self::NodeNotNoted => "node_not_noted",
            Self::Lagging => "lagging",
            Self::Role => "role",
            Self::Damaged => "damaged",
            Self::DiskFull => "disk_full",
            Self::ClockState => "clock_state",
            Self::ClockContradicted => "clock_contradicted",
            Self::BadClock => "bad_clock",
            Self::ClockDegraded => "clock_degraded",
            Self::CannotLead => "cannot_lead",
            Self::StampsRaised => "stamps_raised",
            Self::SettingDiffers => "setting_differs",
            Self::ClockBehind => "clock_behind",
            Self::DoesNotHear => "does_not_hear",
            Self::ListensElsewhere => "listens_elsewhere",
            Self::GetsNothing => "gets_nothing",
            Self::DiskSlow => "disk_slow",
            Self::LogAhead => "log_ahead",
            Self::TwoHistories => "two_histories",
            Self::StoreLacks => "store_lacks",
            Self::TwoLives => "two_lives",
            Self::AheadOfPrimary => "ahead_of_primary",
            Self::MemoryLost => "memory_lost",
            Self::RepairWaits => "repair_waits",
            Self::Repairing => "repairing",
            Self::StatesDiffer => "states_differ",
            Self::NodeNotBack => "node_not_back",
            Self::StoreIncomplete => "store_incomplete",
            Self::CertificateLate => "certificate_late",
            Self::CertificateExpired => "certificate_expired",
        }
    }
}

/// How much a problem weighs, from the lightest to the gravest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// It works, and somebody should look.
    Degraded,
    /// The stamps of the primary cannot be vouched for, or no clock lets anybody lead.
    ClockUntrusted,
    /// Writes are not taken.
    NoWrites,
}

impl Gravity {
    /// The exit code of `logctl status` and `logctl health`.
    #[must_use]
    pub const fn exit_code(self) -> ExitCode {
        match self {
            Self::Degraded => ExitCode::Degraded,
            Self::ClockUntrusted => ExitCode::Clock,
            Self::NoWrites => ExitCode::NoQuorum,
        }
    }
}

/// A problem.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct Problem {
    /// Which.
    #[prost(enumeration = "ProblemCode", tag = "1")]
    pub code: i32,
    /// Name of the node that has it; empty for the cluster as a whole.
    #[prost(string, tag = "2")]
    pub subject: String,
    /// What of the subject it is about, where a node may have several of one code: a setting, a
    /// state, another node. Stays the same while the problem lasts.
    #[prost(string, tag = "3")]
    pub about: String,
    /// Figures and reasons, for a person. May change while the problem lasts.
    #[prost(string, tag = "4")]
    pub detail: String,
}

/// What stays the same in a problem while its figures change.
pub type ProblemKey = (i32, String, String);

impl Problem {
    /// A problem of whoever tells of it, without a detail.
    #[must_use]
    pub fn new(code: ProblemCode) -> Self {
        Self { code: code.into(), ..Self::default() }
    }

    /// The same, of a node.
    #[must_use]
    pub fn of(mut self, node: impl Into<String>) -> Self {
        self.subject = node.into();
        self
    }

    /// The same, about something.
    #[must_use]
    pub fn about(mut self, what: impl fmt::Display) -> Self {
        self.about = what.to_string();
        self
    }

    /// The same, with figures and reasons.
    #[must_use]
    pub fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = detail.to_string();
        self
    }

    /// Which problem; a number of a newer release reads as [`ProblemCode::Other`].
    #[must_use]
    pub fn kind(&self) -> ProblemCode {
        ProblemCode::try_from(self.code).unwrap_or(ProblemCode::Other)
    }

    /// What stays the same while it lasts.
    #[must_use]
    pub fn key(&self) -> ProblemKey {
        (self.code, self.subject.clone(), self.about.clone())
    }

    /// Whether it says that a node is away, whatever the reason.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        match self.kind() {
            ProblemCode::NodeDown
            | ProblemCode::NodeStopped
            | ProblemCode::NodeUnreachable
            | ProblemCode::NodeCutOff
            | ProblemCode::NodeNotBack
            | ProblemCode::NodeNeverHeard => true,
            ProblemCode::Other
            | ProblemCode::NoQuorum
            | ProblemCode::NoPrimary
            | ProblemCode::NodeNotNoted
            | ProblemCode::Lagging
            | ProblemCode::Role
            | ProblemCode::Damaged
            | ProblemCode::DiskFull
            | ProblemCode::ClockState
            | ProblemCode::ClockContradicted
            | ProblemCode::BadClock
            | ProblemCode::ClockDegraded
            | ProblemCode::CannotLead
            | ProblemCode::StampsRaised
            | ProblemCode::SettingDiffers
            | ProblemCode::TwoHistories
            | ProblemCode::StoreLacks
            | ProblemCode::TwoLives
            | ProblemCode::MemoryLost
            | ProblemCode::RepairWaits
            | ProblemCode::Repairing
            | ProblemCode::StatesDiffer
            | ProblemCode::StoreIncomplete
            | ProblemCode::AheadOfPrimary
            | ProblemCode::ClockBehind
            | ProblemCode::DoesNotHear
            | ProblemCode::ListensElsewhere
            | ProblemCode::GetsNothing
            | ProblemCode::DiskSlow
            | ProblemCode::LogAhead
            | ProblemCode::CertificateLate
            | ProblemCode::CertificateExpired => false,
        }
    }

    /// Whether the node that has it takes no full part while it lasts: who waits until a cluster is
    /// ready waits until nothing of the kind is left.
    #[must_use]
    pub fn hinders(&self) -> bool {
        match self.kind() {
            ProblemCode::NoQuorum
            | ProblemCode::NoPrimary
            | ProblemCode::NodeDown
            | ProblemCode::NodeStopped
            | ProblemCode::NodeUnreachable
            | ProblemCode::NodeCutOff
            | ProblemCode::NodeNeverHeard
            | ProblemCode::NodeNotBack
            | ProblemCode::NodeNotNoted
            | ProblemCode::Role
            | ProblemCode::Damaged
            | ProblemCode::RepairWaits
            | ProblemCode::Repairing
            | ProblemCode::StatesDiffer
            | ProblemCode::DiskFull
            | ProblemCode::ClockBehind
            | ProblemCode::DoesNotHear
            | ProblemCode::ListensElsewhere
            | ProblemCode::GetsNothing
            | ProblemCode::TwoHistories
            | ProblemCode::StoreLacks
            | ProblemCode::TwoLives
            | ProblemCode::AheadOfPrimary => true,
            ProblemCode::Other
            | ProblemCode::MemoryLost
            | ProblemCode::StoreIncomplete
            | ProblemCode::Lagging
            | ProblemCode::CertificateLate
            | ProblemCode::CertificateExpired
            | ProblemCode::ClockState
            | ProblemCode::ClockContradicted
            | ProblemCode::BadClock
            | ProblemCode::ClockDegraded
            | ProblemCode::CannotLead
            | ProblemCode::StampsRaised
            | ProblemCode::SettingDiffers
            | ProblemCode::DiskSlow
            | ProblemCode::LogAhead => false,
        }
    }

    /// How much it weighs. A bad clock weighs most where it stamps, which is at the primary.
    #[must_use]
    pub fn gravity(&self, primary: &str) -> Gravity {
        let leads = !primary.is_empty() && self.subject == primary;
        match self.kind() {
            ProblemCode::NoQuorum | ProblemCode::NoPrimary => Gravity::NoWrites,
            ProblemCode::ClockDegraded => Gravity::ClockUntrusted,
            ProblemCode::BadClock | ProblemCode::ClockBehind if leads => Gravity::ClockUntrusted,
            ProblemCode::ClockState if leads && !is_usable(&self.about) => Gravity::ClockUntrusted,
            ProblemCode::Other
            | ProblemCode::NodeDown
            | ProblemCode::NodeStopped
            | ProblemCode::NodeUnreachable
            | ProblemCode::NodeCutOff
            | ProblemCode::NodeNeverHeard
            | ProblemCode::NodeNotBack
            | ProblemCode::NodeNotNoted
            | ProblemCode::Lagging
            | ProblemCode::Role
            | ProblemCode::Damaged
            | ProblemCode::DiskFull
            | ProblemCode::ClockState
            | ProblemCode::ClockContradicted
            | ProblemCode::BadClock
            | ProblemCode::CannotLead
            | ProblemCode::StampsRaised
            | ProblemCode::SettingDiffers
            | ProblemCode::TwoHistories
            | ProblemCode::StoreLacks
            | ProblemCode::TwoLives
            | ProblemCode::MemoryLost
            | ProblemCode::RepairWaits
            | ProblemCode::Repairing
            | ProblemCode::StatesDiffer
            | ProblemCode::StoreIncomplete
            | ProblemCode::AheadOfPrimary
            | ProblemCode::ClockBehind
            | ProblemCode::DoesNotHear
            | ProblemCode::ListensElsewhere
            | ProblemCode::GetsNothing
            | ProblemCode::DiskSlow
            | ProblemCode::LogAhead
            | ProblemCode::CertificateLate
            | ProblemCode::CertificateExpired => Gravity::Degraded,
        }
    }

    /// The sentence, without the name of the node.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { about, detail, .. } = self;
        let head = match self.kind() {
            ProblemCode::Other => "a problem that this release does not know",
            ProblemCode::NoQuorum => "no quorum",
            ProblemCode::NoPrimary => "there is no primary",
            ProblemCode::NodeDown => "does not answer",
            ProblemCode::NodeStopped => "stopped",
            ProblemCode::NodeUnreachable => "is unreachable",
            ProblemCode::NodeCutOff => "is cut off: some nodes reach it and some do not",
            ProblemCode::NodeNeverHeard => "was admitted and has not been heard from yet",
            ProblemCode::NodeNotBack => "has not come back with a new store yet",
            ProblemCode::NodeNotNoted => "is up, but the table of nodes does not say so yet",
            ProblemCode::Lagging => "entries behind",
            ProblemCode::Role => return format!("its role is {about}"),
            ProblemCode::Damaged => "cannot prove its store intact",
            ProblemCode::DiskFull => "its data disk is nearly full: as primary it refuses sends",
            ProblemCode::ClockState => return with_detail(&format!("clock {about}"), detail),
            ProblemCode::ClockContradicted => "two clocks contradict each other",
            ProblemCode::BadClock => "BAD_CLOCK",
            ProblemCode::ClockDegraded => "CLOCK_DEGRADED",
            ProblemCode::CannotLead => "it cannot lead",
            ProblemCode::CertificateLate => "its certificate ends soon",
            ProblemCode::CertificateExpired => "its certificate has expired",
            ProblemCode::StampsRaised => "stamps had to be raised at apply",
            ProblemCode::ClockBehind => "its clock is behind its own ceiling",
            ProblemCode::DoesNotHear => "it is heard but does not answer",
            ProblemCode::ListensElsewhere => "it listens elsewhere",
            ProblemCode::GetsNothing => "it gets nothing from the primary",
            ProblemCode::MemoryLost => "its notes about the other nodes' stores are lost",
            ProblemCode::AheadOfPrimary => "it has applied entries that the primary does not have",
            ProblemCode::DiskSlow => "its disk is slow to sync",
            ProblemCode::LogAhead => "the stamps of the log are ahead of its clock",
            ProblemCode::SettingDiffers => {
                return with_detail(&format!("its file disagrees about {about}"), detail);
            }
            ProblemCode::RepairWaits => "its repair has to wait",
            ProblemCode::Repairing => "it is being repaired",
            ProblemCode::StatesDiffer => "its state differs, and no majority of the voters agrees",
            ProblemCode::StoreIncomplete => "it serves, but could not open its store again",
            ProblemCode::TwoHistories => {
                return with_detail(&format!("its history differs from that of {about}"), detail);
            }
            ProblemCode::StoreLacks => {
                return with_detail(
                    &format!("the store of {about} lacks what it had before"),
                    detail,
                );
            }
            ProblemCode::TwoLives => {
                return with_detail(&format!("two processes run as {about}"), detail);
            }
        };
        with_detail(head, detail)
    }
}

fn with_detail(head: &str, detail: &str) -> String {
    if detail.is_empty() { head.to_owned() } else { format!("{head}: {detail}") }
}

/// Whether stamps can be vouched for in that state. An unknown word is of a newer release.
fn is_usable(state: &str) -> bool {
    match state.parse() {
        Ok(
            ClockState::Synced | ClockState::Local | ClockState::Holdover | ClockState::Disagree,
        )
        | Err(_) => true,
        Ok(ClockState::Unsynced | ClockState::Expired | ClockState::Suspect) => false,
    }
}

/// The sentence, with the name of the node where there is one.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, text) = (&self.subject, self.text());
        if subject.is_empty() {
            return f.write_str(&text);
        }
        if self.is_absence() || self.kind() == ProblemCode::NodeNotNoted {
            return write!(f, "{subject} {text}");
        }
        write!(f, "{subject}: {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All codes, found by their numbers, so that a new one is not forgotten.
    fn all() -> Vec<ProblemCode> {
        (0..=1000).filter_map(|number| ProblemCode::try_from(number).ok()).collect()
    }

    #[test]
    fn every_sentence_names_its_node_and_ends_with_its_detail() {
        for code in all() {
            let problem = Problem::new(code).of("n7").about("synced").detail("because 9");
            let text = problem.to_string();
            assert!(text.starts_with("n7"), "{text}");
            assert!(text.ends_with("because 9") || code == ProblemCode::Role, "{text}");
            assert!(!Problem::new(code).text().is_empty());
        }
    }

    #[test]
    fn figures_do_not_make_another_problem() {
        let lag = |n: u64| Problem::new(ProblemCode::Lagging).of("n2").detail(n);
        assert_eq!(lag(7).key(), lag(8).key());
        assert_ne!(lag(7).key(), lag(7).of("n3").key());
    }

    #[test]
    fn a_clock_weighs_where_it_stamps() {
        let bad = Problem::new(ProblemCode::BadClock).of("n1");
        assert_eq!(bad.gravity("n1"), Gravity::ClockUntrusted);
        assert_eq!(bad.gravity("n2"), Gravity::Degraded);
        assert_eq!(bad.gravity(""), Gravity::Degraded);
        let state = |state: &str| Problem::new(ProblemCode::ClockState).of("n1").about(state);
        assert_eq!(state("expired").gravity("n1"), Gravity::ClockUntrusted);
        assert_eq!(state("holdover").gravity("n1"), Gravity::Degraded);
        assert_eq!(state("expired").gravity("n3"), Gravity::Degraded);
    }

    #[test]
    fn no_writes_weigh_most() {
        assert!(Gravity::NoWrites > Gravity::ClockUntrusted);
        assert!(Gravity::ClockUntrusted > Gravity::Degraded);
    }
}
