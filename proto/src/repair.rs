//! How a node that cannot prove its store is taken back under its own name.
//!
//! It asks the primary, which knows it by its key. The old incarnation ends in the replicated table, and a
//! new one begins; only then does the node put its old store aside and make a new one.

/// What a node asks that cannot prove its store. See `peer::PeerOp::Rejoin`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Rejoin {
    /// Incarnation of the store that it will make, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub incarnation: Vec<u8>,
    /// The asking process, as it shows itself: see `attest::Shown::life`.
    #[prost(bytes = "vec", tag = "2")]
    pub life: Vec<u8>,
    /// What is the matter with its store, for a person.
    #[prost(string, tag = "3")]
    pub why: String,
    /// Whether its own file lets it come back.
    #[prost(bool, tag = "4")]
    pub permitted: bool,
}

/// The answer to [`Rejoin`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Rejoined {
    /// All members, the asking node with its new store among them: it is taken back.
    #[prost(message, optional, tag = "1")]
    pub members: Option<crate::member::Members>,
    /// Else what it has to wait for.
    #[prost(enumeration = "RepairWait", tag = "2")]
    pub wait: i32,
    /// The same, for a person.
    #[prost(string, tag = "3")]
    pub text: String,
    /// While it waits: the members as the node that is asked knows them. The one that asks may know those
    /// of long ago only, and the primary may be a newer one.
    #[prost(message, optional, tag = "4")]
    pub known: Option<crate::member::Members>,
}

/// What a repair waits for. The numbers are the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum RepairWait {
    /// A primary, or one that can be asked.
    Primary = 0,
    /// A majority of the other voters.
    Majority = 1,
    /// Another node that is being repaired.
    Turn = 2,
    /// The end of another process of this node, or the notice that there is none.
    Silence = 3,
    /// A later time: it was repaired too often.
    SlowedDown = 4,
    /// A person's permission.
    Permission = 5,
    /// Room on the disk.
    Room = 6,
    /// Somebody who answers where the table says that the node listens.
    Address = 7,
    /// Something else that the primary says.
    Other = 8,
}

impl RepairWait {
    /// The word that programs see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Majority => "majority",
            Self::Turn => "turn",
            Self::Silence => "silence",
            Self::SlowedDown => "slowed down",
            Self::Permission => "permission",
            Self::Room => "room",
            Self::Address => "address",
            Self::Other => "other",
        }
    }
}

impl Rejoined {
    /// What the node has to wait for; a reason of a newer release is `Other`.
    #[must_use]
    pub fn why_waiting(&self) -> RepairWait {
        RepairWait::try_from(self.wait).unwrap_or(RepairWait::Other)
    }
}
