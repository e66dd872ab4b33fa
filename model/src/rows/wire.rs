//! The protobuf shape of a log entry's commands. It is a disk format of its own; where it embeds a
//! message of the client protocol, that message's tags are disk format too and only ever grow.

use bytes::{BufMut, Bytes, BytesMut};
use clock::Stamp;
use prost::{Message, Oneof};
use proto::Header;
use proto::limits::BATCH_COMMANDS_MAX;
use proto::wire::{
    AdminChange, Configure, GroupChange, KvChange, MemberChange, Position, TokenChange,
};

use crate::rows::command::{Batch, Caller, Command, CommandOp, DecodeError, FORMAT, HEAD_BYTES};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BatchContent {
    #[prost(string, tag = "1")]
    primary: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) commands: Vec<CommandContent>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandContent {
    #[prost(string, tag = "1")]
    caller: String,
    #[prost(bool, tag = "2")]
    admin: bool,
    #[prost(bytes = "bytes", tag = "3")]
    fingerprint: Bytes,
    #[prost(string, tag = "4")]
    gateway: String,
    #[prost(
        oneof = "OpContent",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24"
    )]
    op: Option<OpContent>,
}

#[derive(Clone, PartialEq, Oneof)]
enum OpContent {
    #[prost(message, tag = "10")]
    Send(SendContent),
    #[prost(message, tag = "11")]
    Delete(DeleteContent),
    #[prost(message, tag = "12")]
    Register(RegisterContent),
    #[prost(message, tag = "13")]
    SetCursor(SetCursorContent),
    #[prost(message, tag = "14")]
    Expire(ExpireContent),
    #[prost(message, tag = "15")]
    TermStart(TermStartContent),
    #[prost(message, tag = "16")]
    Tick(TickContent),
    #[prost(message, tag = "17")]
    Event(EventContent),
    #[prost(message, tag = "18")]
    Configure(SettingsContent),
    #[prost(message, tag = "19")]
    InitSettings(SettingsContent),
    // These are the client protocol's own messages: what they say is said once.
    #[prost(message, tag = "20")]
    Member(MemberChange),
    #[prost(message, tag = "21")]
    Token(TokenChange),
    #[prost(message, tag = "22")]
    Group(GroupChange),
    #[prost(message, tag = "23")]
    Kv(KvChange),
    #[prost(message, tag = "24")]
    Admin(AdminChange),
}

#[derive(Clone, PartialEq, Message)]
struct SendContent {
    #[prost(string, tag = "1")]
    to: String,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(message, repeated, tag = "3")]
    headers: Vec<Header>,
    #[prost(bytes = "bytes", tag = "4")]
    body: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct DeleteContent {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    from: String,
    #[prost(string, tag = "3")]
    reason: String,
}

#[derive(Clone, PartialEq, Message)]
struct RegisterContent {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    fingerprint: Bytes,
    #[prost(string, tag = "3")]
    home: String,
}

#[derive(Clone, PartialEq, Message)]
struct SetCursorContent {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    positions: Vec<Position>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ExpireContent {
    #[prost(uint64, tag = "1")]
    max_age_ns: u64,
    #[prost(uint64, tag = "2")]
    max_records: u64,
    #[prost(uint64, tag = "3")]
    max_bytes: u64,
}

#[derive(Clone, PartialEq, Message)]
struct TermStartContent {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(uint64, tag = "2")]
    term: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct TickContent {}

#[derive(Clone, PartialEq, Message)]
struct EventContent {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<Header>,
    #[prost(bytes = "bytes", tag = "3")]
    body: Bytes,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct SettingsContent {
    #[prost(uint64, optional, tag = "1")]
    max_clock_error_us: Option<u64>,
    #[prost(int32, optional, tag = "2")]
    on_loss: Option<i32>,
    #[prost(uint64, optional, tag = "3")]
    retain_age_ms: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    retain_count: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    retain_bytes: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    cert_life_s: Option<u64>,
}

impl From<&Configure> for SettingsContent {
    fn from(change: &Configure) -> Self {
        let &Configure { max_clock_error_us, on_loss, .. } = change;
        let &Configure { retain_age_ms, retain_count, retain_bytes, cert_life_s, .. } = change;
        Self { max_clock_error_us, on_loss, retain_age_ms, retain_count, retain_bytes, cert_life_s }
    }
}

impl From<SettingsContent> for Configure {
    fn from(content: SettingsContent) -> Self {
        let SettingsContent { max_clock_error_us, on_loss, .. } = content;
        let SettingsContent { retain_age_ms, retain_count, retain_bytes, cert_life_s, .. } =
            content;
        Self { max_clock_error_us, on_loss, retain_age_ms, retain_count, retain_bytes, cert_life_s }
    }
}

impl From<Batch> for BatchContent {
    fn from(batch: Batch) -> Self {
        let Batch { primary, commands, .. } = batch;
        Self { primary, commands: commands.into_iter().map(CommandContent::from).collect() }
    }
}

impl From<Command> for CommandContent {
    fn from(command: Command) -> Self {
        let Command { caller: Caller { name, admin, fingerprint }, gateway, op } = command;
        let fingerprint = Bytes::copy_from_slice(&fingerprint);
        Self { caller: name, admin, fingerprint, gateway, op: Some(op.into()) }
    }
}

impl From<CommandOp> for OpContent {
    fn from(op: CommandOp) -> Self {
        match op {
            CommandOp::Send { to, id, headers, body } => {
                Self::Send(SendContent { to, id, headers, body })
            }
            CommandOp::Delete { id, from, reason } => {
                Self::Delete(DeleteContent { id, from, reason })
            }
            CommandOp::Register { name, fingerprint, home } => {
                let fingerprint = Bytes::copy_from_slice(&fingerprint);
                Self::Register(RegisterContent { name, fingerprint, home })
            }
            CommandOp::SetCursor { name, positions } => {
                Self::SetCursor(SetCursorContent { name, positions })
            }
            CommandOp::Expire { max_age_ns, max_records, max_bytes } => {
                Self::Expire(ExpireContent { max_age_ns, max_records, max_bytes })
            }
            CommandOp::TermStart { node, term } => Self::TermStart(TermStartContent { node, term }),
            CommandOp::Tick => Self::Tick(TickContent {}),
            CommandOp::Event { id, headers, body } => {
                Self::Event(EventContent { id, headers, body })
            }
            CommandOp::Configure(change) => Self::Configure((&change).into()),
            CommandOp::InitSettings(change) => Self::InitSettings((&change).into()),
            CommandOp::Member(change) => Self::Member(change),
            CommandOp::Token(change) => Self::Token(change),
            CommandOp::Group(change) => Self::Group(change),
            CommandOp::Kv(change) => Self::Kv(change),
            CommandOp::Admin(change) => Self::Admin(change),
        }
    }
}

impl Batch {
    /// The bytes of the log entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.clone().into_encoded(&[])
    }

    /// The same bytes behind others, for what lies in front of them in the log; what the commands hold
    /// is copied once.
    #[must_use]
    pub fn into_encoded(self, behind: &[u8]) -> Bytes {
        let base = self.base.to_bytes();
        let content = BatchContent::from(self);
        let mut out = BytesMut::with_capacity(behind.len() + HEAD_BYTES + content.encoded_len());
        out.put_slice(behind);
        out.put_u8(FORMAT);
        out.put_slice(&base);
        out.put_u32(u32::try_from(content.commands.len()).unwrap_or(u32::MAX));
        assert_eq!(out.len(), behind.len() + HEAD_BYTES, "the head has one length");
        content.encode_raw(&mut out);
        out.freeze()
    }

    /// Reads a log entry, copying it once.
    ///
    /// # Errors
    /// See [`DecodeError`]. Never panics, whatever the bytes are.
    pub fn decode(encoded: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_shared(Bytes::copy_from_slice(encoded))
    }

    /// Reads a log entry without copying: bodies share the memory of `encoded`.
    ///
    /// # Errors
    /// See [`DecodeError`]. Never panics, whatever the bytes are.
    pub fn decode_shared(mut encoded: Bytes) -> Result<Self, DecodeError> {
        let (base, said) = stamps_of(&encoded)?;
        let content_bytes = encoded.split_off(HEAD_BYTES);
        let len = content_bytes.len();
        let content = BatchContent::decode(content_bytes)?;
        let found = content.commands.len();
        if usize::try_from(said) != Ok(found) {
            return Err(DecodeError::Miscounted { said, found });
        }
        if content.encoded_len() != len {
            return Err(DecodeError::Surplus);
        }
        content.into_batch(base)
    }
}

impl BatchContent {
    pub(crate) fn into_batch(self, base: Stamp) -> Result<Batch, DecodeError> {
        let commands =
            self.commands.into_iter().map(Command::try_from).collect::<Result<_, _>>()?;
        Ok(Batch { base, primary: self.primary, commands })
    }
}

impl TryFrom<CommandContent> for Command {
    type Error = DecodeError;

    fn try_from(content: CommandContent) -> Result<Self, DecodeError> {
        let caller = Caller {
            name: content.caller,
            admin: content.admin,
            fingerprint: fingerprint(&content.fingerprint)?,
        };
        let op = content.op.ok_or(DecodeError::Field("op"))?.try_into()?;
        Ok(Self { caller, gateway: content.gateway, op })
    }
}

impl TryFrom<OpContent> for CommandOp {
    type Error = DecodeError;

    fn try_from(content: OpContent) -> Result<Self, DecodeError> {
        Ok(match content {
            OpContent::Send(SendContent { to, id, headers, body }) => {
                Self::Send { to, id, headers, body }
            }
            OpContent::Delete(DeleteContent { id, from, reason }) => {
                Self::Delete { id, from, reason }
            }
            OpContent::Register(RegisterContent { name, fingerprint: print, home }) => {
                Self::Register { name, fingerprint: fingerprint(&print)?, home }
            }
            OpContent::SetCursor(SetCursorContent { name, positions }) => {
                Self::SetCursor { name, positions }
            }
            OpContent::Expire(ExpireContent { max_age_ns, max_records, max_bytes }) => {
                Self::Expire { max_age_ns, max_records, max_bytes }
            }
            OpContent::TermStart(TermStartContent { node, term }) => Self::TermStart { node, term },
            OpContent::Tick(TickContent {}) => Self::Tick,
            OpContent::Event(EventContent { id, headers, body }) => {
                Self::Event { id, headers, body }
            }
            OpContent::Configure(change) => Self::Configure(change.into()),
            OpContent::InitSettings(change) => Self::InitSettings(change.into()),
            OpContent::Member(change) => Self::Member(change),
            OpContent::Token(change) => Self::Token(change),
            OpContent::Group(change) => Self::Group(change),
            OpContent::Kv(change) => Self::Kv(change),
            OpContent::Admin(change) => Self::Admin(change),
        })
    }
}

fn fingerprint(bytes: &[u8]) -> Result<[u8; 32], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::Field("fingerprint"))
}

/// The base stamp and the number of commands of an encoded batch, from its fixed part alone.
/// Command `i` is stamped `base.hlc.advance(i)`.
///
/// # Errors
/// When the bytes are too short, of another format, or claim an impossible number of commands.
pub fn stamps_of(encoded: &[u8]) -> Result<(Stamp, u32), DecodeError> {
    let short = DecodeError::Short(encoded.len());
    let Some((&[format], rest)) = encoded.split_first_chunk::<1>() else { return Err(short) };
    if format != FORMAT {
        return Err(DecodeError::Format(format));
    }
    let Some((stamp, rest)) = rest.split_first_chunk::<{ Stamp::BYTES }>() else {
        return Err(short);
    };
    let Some((count, _)) = rest.split_first_chunk::<4>() else { return Err(short) };
    let count = u32::from_be_bytes(*count);
    if count == 0 || usize::try_from(count).map_or(true, |n| n > BATCH_COMMANDS_MAX) {
        return Err(DecodeError::Count(count));
    }
    Ok((Stamp::from_bytes(*stamp), count))
}
