//! What a request is, told from what it asks for: exhaustive, so that a new request has to say it too.

use crate::wire::{Op, Read};

/// How a request is answered.
#[derive(Debug, Clone, Copy)]
pub enum Answering<'a> {
    /// By one answer.
    Once,
    /// By page after page, until the range is over or the client goes.
    Pages(&'a Read),
    /// By the live list, each time that it changes.
    Lists,
}

impl Op {
    /// Whether it changes the log, so that a gateway hands it to the primary, and it matters to the
    /// caller whether it was done. Nothing else is ever forwarded.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        match self {
            Self::Send(_)
            | Self::Delete(_)
            | Self::Register(_)
            | Self::SetCursor(_)
            | Self::Configure(_)
            | Self::Member(_)
            | Self::Token(_)
            | Self::Group(_)
            | Self::Kv(_)
            | Self::Admin(_) => true,
            Self::Read(_)
            | Self::Get(_)
            | Self::Clients(_)
            | Self::Nodes(_)
            | Self::Status(_)
            | Self::Clock(_)
            | Self::Ping(_)
            | Self::Compact(_)
            | Self::Tokens(_)
            | Self::Groups(_)
            | Self::KvRead(_)
            | Self::WatchNodes(_)
            | Self::Members(_)
            | Self::Route(_)
            | Self::Plan(_)
            | Self::Slots(_)
            | Self::Distribution(_)
            | Self::Raft(_)
            | Self::Verify(_)
            | Self::Admins(_)
            | Self::Renew(_)
            | Self::LowerCeiling(_)
            | Self::Metrics(_) => false,
        }
    }

    /// Whether it brings what stays on the disks: a full one takes no more of that, and goes on
    /// taking what frees room.
    #[must_use]
    pub const fn takes_room(&self) -> bool {
        match self {
            Self::Send(_) => true,
            Self::Kv(change) => change.value.is_some(),
            Self::Delete(_)
            | Self::Register(_)
            | Self::SetCursor(_)
            | Self::Configure(_)
            | Self::Member(_)
            | Self::Token(_)
            | Self::Group(_)
            | Self::Admin(_)
            | Self::Read(_)
            | Self::Get(_)
            | Self::Clients(_)
            | Self::Nodes(_)
            | Self::Status(_)
            | Self::Clock(_)
            | Self::Ping(_)
            | Self::Compact(_)
            | Self::Tokens(_)
            | Self::Groups(_)
            | Self::KvRead(_)
            | Self::WatchNodes(_)
            | Self::Members(_)
            | Self::Route(_)
            | Self::Plan(_)
            | Self::Slots(_)
            | Self::Distribution(_)
            | Self::Raft(_)
            | Self::Verify(_)
            | Self::Admins(_)
            | Self::Renew(_)
            | Self::LowerCeiling(_)
            | Self::Metrics(_) => false,
        }
    }

    /// Whether its answer may be long, so that one who has not read its last ones is not given it.
    #[must_use]
    pub const fn is_long(&self) -> bool {
        match self {
            Self::Read(_) | Self::KvRead(_) | Self::Clients(_) | Self::Groups(_) => true,
            Self::Send(_)
            | Self::Delete(_)
            | Self::Register(_)
            | Self::SetCursor(_)
            | Self::Configure(_)
            | Self::Member(_)
            | Self::Token(_)
            | Self::Group(_)
            | Self::Kv(_)
            | Self::Admin(_)
            | Self::Get(_)
            | Self::Nodes(_)
            | Self::Status(_)
            | Self::Clock(_)
            | Self::Ping(_)
            | Self::Compact(_)
            | Self::Tokens(_)
            | Self::WatchNodes(_)
            | Self::Members(_)
            | Self::Route(_)
            | Self::Plan(_)
            | Self::Slots(_)
            | Self::Distribution(_)
            | Self::Raft(_)
            | Self::Verify(_)
            | Self::Admins(_)
            | Self::Renew(_)
            | Self::LowerCeiling(_)
            | Self::Metrics(_) => false,
        }
    }

    /// Whether it comes often, and has one small answer: while small itself, it shares a long stream with
    /// others of its kind.
    #[must_use]
    pub const fn shares_a_stream(&self) -> bool {
        match self {
            Self::Send(_) => true,
            Self::Delete(_)
            | Self::Register(_)
            | Self::SetCursor(_)
            | Self::Configure(_)
            | Self::Member(_)
            | Self::Token(_)
            | Self::Group(_)
            | Self::Kv(_)
            | Self::Admin(_)
            | Self::Read(_)
            | Self::Get(_)
            | Self::Clients(_)
            | Self::Nodes(_)
            | Self::Status(_)
            | Self::Clock(_)
            | Self::Ping(_)
            | Self::Compact(_)
            | Self::Tokens(_)
            | Self::Groups(_)
            | Self::KvRead(_)
            | Self::WatchNodes(_)
            | Self::Members(_)
            | Self::Route(_)
            | Self::Plan(_)
            | Self::Slots(_)
            | Self::Distribution(_)
            | Self::Raft(_)
            | Self::Verify(_)
            | Self::Admins(_)
            | Self::Renew(_)
            | Self::LowerCeiling(_)
            | Self::Metrics(_) => false,
        }
    }

    /// How it is answered.
    #[must_use]
    pub fn answering(&self) -> Answering<'_> {
        match self {
            Self::Read(read) if read.follow => Answering::Pages(read),
            Self::WatchNodes(_) => Answering::Lists,
            Self::Read(_)
            | Self::Send(_)
            | Self::Delete(_)
            | Self::Register(_)
            | Self::SetCursor(_)
            | Self::Configure(_)
            | Self::Member(_)
            | Self::Token(_)
            | Self::Group(_)
            | Self::Kv(_)
            | Self::Admin(_)
            | Self::Get(_)
            | Self::Clients(_)
            | Self::Nodes(_)
            | Self::Status(_)
            | Self::Clock(_)
            | Self::Ping(_)
            | Self::Compact(_)
            | Self::Tokens(_)
            | Self::Groups(_)
            | Self::KvRead(_)
            | Self::Members(_)
            | Self::Route(_)
            | Self::Plan(_)
            | Self::Slots(_)
            | Self::Distribution(_)
            | Self::Raft(_)
            | Self::Verify(_)
            | Self::Admins(_)
            | Self::Renew(_)
            | Self::LowerCeiling(_)
            | Self::Metrics(_) => Answering::Once,
        }
    }

    /// What it asks for in times relative to now, if it does: asked again later it is another question,
    /// unless that is made good for.
    #[must_use]
    pub fn relative(&self) -> Option<&Read> {
        match self {
            Self::Read(read) => Some(read).filter(|read| read.is_relative()),
            Self::WatchNodes(_)
            | Self::Send(_)
            | Self::Delete(_)
            | Self::Register(_)
            | Self::SetCursor(_)
            | Self::Configure(_)
            | Self::Member(_)
            | Self::Token(_)
            | Self::Group(_)
            | Self::Kv(_)
            | Self::Admin(_)
            | Self::Get(_)
            | Self::Clients(_)
            | Self::Nodes(_)
            | Self::Status(_)
            | Self::Clock(_)
            | Self::Ping(_)
            | Self::Compact(_)
            | Self::Tokens(_)
            | Self::Groups(_)
            | Self::KvRead(_)
            | Self::Members(_)
            | Self::Route(_)
            | Self::Plan(_)
            | Self::Slots(_)
            | Self::Distribution(_)
            | Self::Raft(_)
            | Self::Verify(_)
            | Self::Admins(_)
            | Self::Renew(_)
            | Self::LowerCeiling(_)
            | Self::Metrics(_) => None,
        }
    }

    /// One word for it, for events and log lines.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Send(_) => "send",
            Self::Delete(_) => "delete",
            Self::Register(_) => "register",
            Self::SetCursor(_) => "cursor",
            Self::Configure(_) => "settings",
            Self::Member(_) => "members",
            Self::Token(_) => "token",
            Self::Group(_) => "group",
            Self::Kv(_) => "kv",
            Self::Admin(_) => "admin",
            Self::Read(_) => "read",
            Self::Get(_) => "get",
            Self::Clients(_) => "clients",
            Self::Nodes(_) => "nodes",
            Self::Status(_) => "status",
            Self::Clock(_) => "clock",
            Self::Ping(_) => "ping",
            Self::Compact(_) => "compact",
            Self::Tokens(_) => "tokens",
            Self::Groups(_) => "groups",
            Self::KvRead(_) => "kv read",
            Self::WatchNodes(_) => "watch",
            Self::Members(_) => "nodes ever",
            Self::Route(_) => "route",
            Self::Plan(_) => "plan",
            Self::Slots(_) => "slots",
            Self::Distribution(_) => "distribution",
            Self::Raft(_) => "raft",
            Self::Verify(_) => "verify",
            Self::Admins(_) => "admins",
            Self::LowerCeiling(_) => "lower ceiling",
            Self::Renew(_) => "renewal",
            Self::Metrics(_) => "metrics",
        }
    }
}
