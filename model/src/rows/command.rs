//! What one log entry carries: a batch of commands under one base stamp.
//!
//! Layout: `format: u8 ‖ base stamp: 20 bytes ‖ number of commands: u32 BE ‖ protobuf`. The fixed
//! part in front lets the log and the stamp guard read the stamps without touching the commands.
//!
//! Invariants of every batch that decodes:
//! - it holds 1 to [`BATCH_COMMANDS_MAX`] commands, as many as its header says;
//! - nothing in its protobuf part was skipped: a field of a newer release, which this one would
//!   ignore and then diverge over, is refused instead.
//!
//! Not here: whether a command is allowed or what it does (`check`, `machine`).

use bytes::Bytes;
use clock::Stamp;
use prost::Message as _;
use proto::event::{ASKED, AUDIT, TYPE, WHY};
use proto::limits::BATCH_COMMANDS_MAX;
use proto::wire::{
    AdminChange, Configure, GroupChange, KvChange, MemberChange, Position, TokenChange,
};
use proto::{Header, Name, Proof};

/// The reserved name of the cluster's administrator: it sends and has an inbox, but is never
/// registered.
pub const ADMIN: &str = "admin";
/// Version of the entry's format.
pub(crate) const FORMAT: u8 = 1;
/// Bytes in front of the protobuf part.
pub(crate) const HEAD_BYTES: usize = 1 + Stamp::BYTES + 4;

/// The commands of one log entry. Command `i` is stamped `base.hlc.advance(i)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Proposed stamp of the first command; its bounds hold for all of them.
    pub base: Stamp,
    /// The node that stamped.
    pub primary: String,
    /// 1 to [`BATCH_COMMANDS_MAX`] commands.
    pub commands: Vec<Command>,
}

/// One change that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Who asks, as its certificate says.
    pub caller: Caller,
    /// The node that took the request from the caller.
    pub gateway: String,
    /// What to do.
    pub op: CommandOp,
}

/// The proven identity behind a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The certificate's name; for commands of the cluster's own, the node's.
    pub name: String,
    /// Whether the certificate's role is admin.
    pub admin: bool,
    /// What proved it, as [`Proof::to_bytes`] has it: SHA-256 of the caller's public key, an access token;
    /// zeros for commands of the cluster's own.
    pub fingerprint: [u8; 32],
}

impl Caller {
    /// The caller of commands that a node proposes by itself: `Event`, `InitSettings`, `Expire`,
    /// `TermStart`, `Tick`.
    #[must_use]
    pub fn node(name: &Name) -> Self {
        Self { name: name.to_string(), admin: false, fingerprint: [0; 32] }
    }

    /// Whom what the caller makes belongs to: itself, or all administrators together, since one of them
    /// may be taken out and its name become a client's.
    #[must_use]
    pub fn owner(&self) -> &str {
        if self.admin { ADMIN } else { &self.name }
    }

    /// What proved it.
    #[must_use]
    pub fn proof(&self) -> Proof {
        Proof::of(&self.fingerprint)
    }

    /// Whether this is a node of the cluster. No key has a hash of zeros, so no client can be.
    #[must_use]
    pub fn is_node(&self) -> bool {
        !self.admin && self.fingerprint == [0; 32]
    }
}

/// What a command does. `Event`, `InitSettings`, `Expire`, `TermStart` and `Tick` come from nodes
/// and never from a client; of the nested ones each case says whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandOp {
    /// Store a message.
    Send {
        /// Recipient: a client, `@group` or `*`.
        to: String,
        /// Message id, drawn by the sender.
        id: String,
        /// Headers.
        headers: Vec<Header>,
        /// Body.
        body: Bytes,
    },
    /// Put a tombstone where a message was.
    Delete {
        /// Its id.
        id: String,
        /// Its sender; empty = the caller, or for an admin the only one who used the id.
        from: String,
        /// Why; may be empty.
        reason: String,
    },
    /// Admit a client.
    Register {
        /// Its name.
        name: String,
        /// SHA-256 of its public key.
        fingerprint: [u8; 32],
        /// Preferred gateway; empty = derived from the slot, or kept as it is.
        home: String,
    },
    /// Set a named cursor of the caller.
    SetCursor {
        /// Its name.
        name: String,
        /// Where it stands now.
        positions: Vec<Position>,
    },
    /// Change settings of the cluster.
    Configure(Configure),
    /// Store an event of the calling node in `$events`.
    Event {
        /// Id, drawn by the node.
        id: String,
        /// Headers.
        headers: Vec<Header>,
        /// Body.
        body: Bytes,
    },
    /// Set the settings that nobody has set yet: what the primary's own file says.
    InitSettings(Configure),
    /// Remove the oldest records beyond the given measures, 0 = no limit.
    Expire {
        /// Largest age in nanoseconds of log time.
        max_age_ns: u64,
        /// Most records.
        max_records: u64,
        /// Most bytes.
        max_bytes: u64,
    },
    /// The first command of a new primary.
    TermStart {
        /// The primary.
        node: String,
        /// Its term.
        term: u64,
    },
    /// Moves log time on and changes nothing else.
    Tick,
    /// Change the nodes of the cluster.
    Member(MemberChange),
    /// Change the join tokens, or admit a client that brought one.
    Token(TokenChange),
    /// Change groups.
    Group(GroupChange),
    /// Change the dictionary.
    Kv(KvChange),
    /// Change the administrators.
    Admin(AdminChange),
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too short for the fixed part.
    #[error("an entry of {0} bytes; the fixed part alone takes {HEAD_BYTES}")]
    Short(usize),
    /// A format that this release does not know.
    #[error("entry format {0}; this release reads {FORMAT}")]
    Format(u8),
    /// No command, or more than a batch may hold.
    #[error("{0} commands in one entry; 1 to {BATCH_COMMANDS_MAX} are allowed")]
    Count(u32),
    /// The header and the content disagree.
    #[error("{found} commands where the header says {said}")]
    Miscounted {
        /// What the header says.
        said: u32,
        /// What there is.
        found: usize,
    },
    /// The protobuf part does not parse.
    #[error("the commands do not parse")]
    Protobuf(#[from] prost::DecodeError),
    /// A required field is missing or has the wrong length.
    #[error("field '{0}' is missing or malformed")]
    Field(&'static str),
    /// It parses, but not all of its bytes have a meaning.
    #[error("the commands hold fields that this release does not know")]
    Surplus,
}

impl Batch {
    /// Whether a node asks in it that all replicas read their whole state as it is behind this entry, and
    /// compare what they hold.
    #[must_use]
    pub fn asks_for_audit(&self) -> Option<AuditPace> {
        let asks = |command: &Command| match &command.op {
            CommandOp::Event { headers, .. } if command.caller.is_node() => {
                let is = |key: &str, value: &str| {
                    headers.iter().any(|header| header.key == key && header.value == value)
                };
                let pace = if is(WHY, ASKED) { AuditPace::AtOnce } else { AuditPace::Slow };
                is(TYPE, AUDIT).then_some(pace)
            }
            CommandOp::Event { .. }
            | CommandOp::Send { .. }
            | CommandOp::Delete { .. }
            | CommandOp::Register { .. }
            | CommandOp::SetCursor { .. }
            | CommandOp::Configure(_)
            | CommandOp::InitSettings(_)
            | CommandOp::Expire { .. }
            | CommandOp::TermStart { .. }
            | CommandOp::Tick
            | CommandOp::Member(_)
            | CommandOp::Token(_)
            | CommandOp::Group(_)
            | CommandOp::Kv(_)
            | CommandOp::Admin(_) => None,
        };
        self.commands.iter().find_map(asks)
    }
}

/// How fast a state is to be read that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditPace {
    /// Beside everything else.
    Slow,
    /// Somebody waits for it.
    AtOnce,
}

impl Command {
    /// About how many bytes the command takes in a log entry; never too few.
    #[must_use]
    pub fn size(&self) -> usize {
        const FIXED: usize = 128;
        const PER_ITEM: usize = 24;
        let headers_size = |headers: &[Header]| -> usize {
            headers.iter().map(|h| PER_ITEM + h.key.len() + h.value.len()).sum()
        };
        let op = match &self.op {
            CommandOp::Send { to, id, headers, body } => {
                to.len() + id.len() + headers_size(headers) + body.len()
            }
            CommandOp::Event { id, headers, body } => id.len() + headers_size(headers) + body.len(),
            CommandOp::Delete { id, from, reason } => id.len() + from.len() + reason.len(),
            CommandOp::Register { name, home, .. } => name.len() + home.len() + 32,
            CommandOp::SetCursor { name, positions } => name.len() + positions.len() * PER_ITEM,
            CommandOp::TermStart { node, .. } => node.len(),
            CommandOp::Configure(_)
            | CommandOp::InitSettings(_)
            | CommandOp::Expire { .. }
            | CommandOp::Tick => 0,
            CommandOp::Member(change) => change.encoded_len(),
            CommandOp::Token(change) => change.encoded_len(),
            CommandOp::Group(change) => change.encoded_len(),
            CommandOp::Kv(change) => change.encoded_len(),
            CommandOp::Admin(change) => change.encoded_len(),
        };
        FIXED + self.caller.name.len() + self.gateway.len() + op
    }
}
