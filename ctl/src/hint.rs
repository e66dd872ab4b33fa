//! What to try when the cluster refused: by what was asked, because the same error means another thing to
//! who sends and to who removes a node.

use proto::ErrorCode;
use proto::token::TokenOp;
use proto::wire::Op;

/// What was asked for, as far as a hint depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A message for a client, a group or everyone.
    Send { to_group: bool },
    /// Messages, from or to a client or a group.
    Read { of_group: bool },
    /// One message by its id.
    Get,
    /// The same, to delete it.
    Delete,
    /// A new client.
    Register,
    /// A change of the settings.
    Settings,
    /// A change of a node, or a look at one.
    Node,
    /// A token, made or revoked.
    Token,
    /// An access token, made or revoked.
    Access,
    /// A change of a group.
    Group,
    /// A change of a key.
    KvChange,
    /// The value of a key.
    KvRead,
    /// A change of an administrator.
    Admin,
    /// A place of a reader.
    Cursor,
    /// The state of the cluster, or of all nodes.
    Cluster,
}

impl Asked {
    /// What an operation asks for.
    pub(crate) fn of(op: &Op) -> Self {
        let is_group = |name: &str| name.starts_with('@');
        match op {
            Op::Send(send) => Self::Send { to_group: is_group(&send.to) },
            Op::Read(read) => Self::Read { of_group: is_group(&read.to) },
            Op::Get(_) => Self::Get,
            Op::Delete(_) => Self::Delete,
            Op::Register(_) => Self::Register,
            Op::Configure(_) => Self::Settings,
            Op::Member(_) | Op::Members(_) | Op::Route(_) | Op::Plan(_) => Self::Node,
            Op::Token(change) => match &change.op {
                Some(TokenOp::CreateAccess(_) | TokenOp::RevokeAccess(_)) => Self::Access,
                Some(TokenOp::Create(_) | TokenOp::Revoke(_) | TokenOp::AdmitClient(_)) | None => {
                    Self::Token
                }
            },
            Op::Tokens(_) => Self::Token,
            Op::Group(_) | Op::Groups(_) => Self::Group,
            Op::Kv(_) => Self::KvChange,
            Op::KvRead(_) => Self::KvRead,
            Op::Admin(_) | Op::Admins(_) => Self::Admin,
            Op::SetCursor(_) => Self::Cursor,
            Op::Clients(_)
            | Op::Nodes(_)
            | Op::Status(_)
            | Op::Clock(_)
            | Op::Ping(_)
            | Op::Compact(_)
            | Op::WatchNodes(_)
            | Op::Slots(_)
            | Op::Distribution(_)
            | Op::Raft(_)
            | Op::Verify(_)
            | Op::LowerCeiling(_)
            | Op::Renew(_)
            | Op::Metrics(_) => Self::Cluster,
        }
    }

    /// What to try, in one line.
    pub(crate) fn hint(self, code: ErrorCode) -> &'static str {
        match code {
            ErrorCode::NotFound => self.missing(),
            ErrorCode::Conflict => self.in_the_way(),
            ErrorCode::Invalid => self.wrong(),
            ErrorCode::Unknown => self.open(),
            ErrorCode::NoQuorum if !matches!(self, Self::Read { .. } | Self::Get) => {
                "logctl status"
            }
            ErrorCode::Internal
            | ErrorCode::Denied
            | ErrorCode::Busy
            | ErrorCode::NoQuorum
            | ErrorCode::ClockUnavailable
            | ErrorCode::ClockAhead
            | ErrorCode::Integrity
            | ErrorCode::NotPrimary
            | ErrorCode::DiskFull
            | ErrorCode::Stopping
            | ErrorCode::Version
            | ErrorCode::Repairing
            | ErrorCode::Deadline
            | ErrorCode::Removed
            | ErrorCode::NoSigner => code.hint(),
        }
    }

    /// Something is not there.
    fn missing(self) -> &'static str {
        match self {
            Self::Send { to_group: true } | Self::Read { of_group: true } => "logctl group list",
            Self::Send { to_group: false } | Self::Read { of_group: false } => {
                "logctl clients; logctl register NAME makes one"
            }
            Self::Get | Self::Delete => {
                "check the id: logctl read -o json shows those of your messages"
            }
            Self::Register | Self::Node => "logctl nodes",
            Self::Settings | Self::Cluster => "logctl status",
            Self::Token => "logctl cluster token list, and logctl nodes for a home",
            Self::Access => "logctl clients, and logctl access list",
            Self::Group => "logctl group list, and logctl clients for its members",
            Self::KvChange | Self::KvRead => "logctl kv list names the keys",
            Self::Admin => "logctl admin list",
            Self::Cursor => "logctl read --cursor NAME begins a new one",
        }
    }

    /// Something else is there, or the state forbids it.
    fn in_the_way(self) -> &'static str {
        match self {
            Self::Send { .. } => "use another --id, or leave it out",
            Self::Read { .. } | Self::Cursor => "use another name for the cursor: --cursor NAME",
            Self::Get | Self::Delete => "name the sender: --from NAME",
            Self::Register => "use another name; logctl clients lists those that are taken",
            Self::Settings => "logctl cluster settings",
            Self::Node => "logctl nodes says in which state each is",
            Self::Token => "logctl cluster token list",
            Self::Access => "logctl access list, and logctl access revoke ID",
            Self::Group => "logctl group list",
            Self::KvChange | Self::KvRead => "logctl kv get KEY -o json shows value and version",
            Self::Admin => "logctl admin list",
            Self::Cluster => "logctl status",
        }
    }

    /// The request breaks a rule, which the error names.
    fn wrong(self) -> &'static str {
        match self {
            Self::Send { .. } => "logctl send --help; logctl help limits",
            Self::Read { .. } | Self::Cursor => "logctl read --help",
            Self::Get => "logctl get --help",
            Self::Delete => "logctl delete --help",
            Self::Register => "logctl register --help",
            Self::Settings => "logctl cluster set --help",
            Self::Node => "logctl node --help",
            Self::Token => "logctl cluster token --help",
            Self::Access => "logctl access --help",
            Self::Group => "logctl group --help",
            Self::KvChange | Self::KvRead => "logctl kv --help",
            Self::Admin => "logctl admin --help",
            Self::Cluster => "logctl help",
        }
    }

    /// Nobody can say whether it was done.
    fn open(self) -> &'static str {
        match self {
            Self::Send { .. } => "run the same command with the same --id: it is done only once",
            Self::Read { .. } | Self::Get | Self::KvRead | Self::Cursor | Self::Cluster => {
                "run the same command again"
            }
            Self::Delete => "run the same command again: a message is deleted only once",
            Self::Register => "run the same command again: the same key is registered only once",
            Self::Settings => "logctl cluster settings shows whether it was done",
            Self::Node => "logctl nodes shows whether it was done",
            Self::Token => "logctl cluster token list shows whether it was done",
            Self::Access => "logctl access list shows whether it was done",
            Self::Group => "logctl group list shows whether it was done",
            Self::KvChange => "logctl kv get KEY shows whether it was done",
            Self::Admin => "logctl admin list shows whether it was done",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Asked; 17] = [
        Asked::Send { to_group: false },
        Asked::Send { to_group: true },
        Asked::Read { of_group: false },
        Asked::Read { of_group: true },
        Asked::Get,
        Asked::Delete,
        Asked::Register,
        Asked::Settings,
        Asked::Node,
        Asked::Token,
        Asked::Access,
        Asked::Group,
        Asked::KvChange,
        Asked::KvRead,
        Asked::Admin,
        Asked::Cursor,
        Asked::Cluster,
    ];

    /// Every error there is, asked for by its number as a node may send it.
    fn codes() -> impl Iterator<Item = ErrorCode> {
        (0..64).filter_map(|number| ErrorCode::try_from(number).ok())
    }

    /// Meant to catch: `logctl cluster tokens` in the place of `token list`.
    #[test]
    fn every_hint_is_one_line_whose_commands_there_are() {
        assert!(codes().count() >= 19, "all codes are looked at");
        for asked in ALL {
            for code in codes() {
                let hint = asked.hint(code);
                assert!(!hint.is_empty() && !hint.contains('\n'), "{asked:?} {code:?}");
                crate::cli::check_commands(hint);
            }
        }
    }

    /// Seen to fail where the page had no line for access tokens.
    #[test]
    fn every_hint_stands_in_the_page_about_trouble() {
        let page = include_str!("../../docs/troubleshooting.md");
        for asked in ALL {
            for code in codes() {
                let hint = asked.hint(code);
                assert!(page.contains(hint), "{asked:?} {code:?}: {hint}");
            }
        }
    }

    /// Meant to catch: one hint for all: an unknown node was looked for among the clients, and a taken
    /// name was to be sent with another id.
    #[test]
    fn a_hint_fits_what_was_asked() {
        for asked in ALL {
            let sends = matches!(asked, Asked::Send { .. });
            for code in [ErrorCode::Conflict, ErrorCode::Unknown] {
                assert_eq!(asked.hint(code).contains("--id"), sends, "{asked:?} {code:?}");
            }
        }
        assert!(Asked::Node.hint(ErrorCode::NotFound).contains("logctl nodes"));
        assert!(!Asked::Node.hint(ErrorCode::NotFound).contains("clients"));
        assert!(Asked::Register.hint(ErrorCode::Conflict).contains("another name"));
        assert!(!Asked::Node.hint(ErrorCode::NoQuorum).contains("--stale"), "a write has none");
    }
}
