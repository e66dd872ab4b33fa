//! The rows: kinds of faults, and how many of them are enough.

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    /// The power goes, for all nodes at one instant.
    PowerCut,
    /// SIGKILL to one node, to the primary, to a minority, to a majority, to all.
    Kill,
    /// One bit of a file of one node's store.
    Flip,
    /// One node's log ends where a group begins.
    Boundary,
    /// One node's folder is gone, or an older copy.
    SetBack,
    /// Whole clusters in virtual time, one a seed, under all faults that the simulator knows.
    Seeds,
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
    pub(crate) const ALL: [Self; 6] =
        [Self::PowerCut, Self::Kill, Self::Flip, Self::Boundary, Self::SetBack, Self::Seeds];

    /// Name on the command line and in the ledger.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PowerCut => "power-cut",
            Self::Kill => "kill",
            Self::Flip => "flip",
            Self::Boundary => "boundary",
            Self::SetBack => "set-back",
            Self::Seeds => "seeds",
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
            Self::Flip => "one bit in any file of one node's store",
            Self::Boundary => "one node's log ends at a group; spread over a log of 300 entries",
            Self::SetBack => "one node's folder is gone, or an older copy is put back",
            Self::Seeds => "simulated clusters, one a seed; a run has seeds of its own",
        }
    }

    /// Faults of a run, if the user does not say.
    pub(crate) const fn usual_repetitions(self) -> u32 {
        match self {
            Self::PowerCut | Self::Kill | Self::SetBack => 10,
            Self::Flip => 35,
            Self::Boundary => 40,
            Self::Seeds => 2_000,
        }
    }

    /// Faults of a run of `short`.
    pub(crate) const fn short_repetitions(self) -> u32 {
        match self {
            Self::PowerCut | Self::Kill => 5,
            Self::Flip => 7,
            Self::Boundary => 6,
            Self::SetBack => 3,
            Self::Seeds => 200,
        }
    }

    /// What `long` goes on to.
    pub(crate) const fn bar(self) -> Bar {
        match self {
            Self::PowerCut | Self::Boundary => Bar { faults: 300, acks: 0 },
            Self::Kill => Bar { faults: 300, acks: 500_000 },
            Self::Flip => Bar { faults: 500, acks: 0 },
            Self::SetBack => Bar { faults: 50, acks: 0 },
            Self::Seeds => Bar { faults: 100_000, acks: 0 },
        }
    }
}
