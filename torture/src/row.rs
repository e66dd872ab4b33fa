//! The rows: kinds of faults, and how many of them are enough.

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    /// The power goes, for all nodes at one instant.
    PowerCut,
    /// SIGKILL to one node, to the primary, to a minority, to a majority, to all.
    Kill,
}

/// What a row must have reached, without a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bar {
    /// Faults that bit.
    pub(crate) faults: u64,
    /// Acknowledged sends.
    pub(crate) acks: u64,
}

impl Row {
    pub(crate) const ALL: [Self; 2] = [Self::PowerCut, Self::Kill];

    /// Name on the command line and in the ledger.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PowerCut => "power-cut",
            Self::Kill => "kill",
        }
    }

    /// The row of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|row| row.name() == name)
    }

    /// One line of help.
    pub(crate) const fn help(self) -> &'static str {
        match self {
            Self::PowerCut => {
                "all nodes lose what no disk has, at one instant (needs root and loop mounts)"
            }
            Self::Kill => "kill -9 of one node, the primary, a minority, a majority or all",
        }
    }

    /// Faults of a run, if the user does not say.
    pub(crate) const fn usual_repetitions(self) -> u32 {
        match self {
            Self::PowerCut | Self::Kill => 10,
        }
    }

    /// Faults of a run of `short`.
    pub(crate) const fn short_repetitions(self) -> u32 {
        match self {
            Self::PowerCut | Self::Kill => 5,
        }
    }

    /// What `long` goes on to.
    pub(crate) const fn bar(self) -> Bar {
        match self {
            Self::PowerCut => Bar { faults: 300, acks: 0 },
            Self::Kill => Bar { faults: 300, acks: 500_000 },
        }
    }
}
