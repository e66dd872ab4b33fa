//! What can be said of a request without knowing any state. Gateways refuse with it before
//! anything is proposed; apply refuses with it again, because the log is the only authority.

use proto::Failure;

use crate::rows::command::CommandOp;
use crate::rules::input::{
    check_cursor, check_delete, check_event, check_register, check_send, check_settings,
};

/// Checks everything about a request that does not depend on state.
///
/// # Errors
/// `Invalid` where a rule or limit is broken, `Denied` where nobody may do this.
pub fn check(op: &CommandOp) -> Result<(), Failure> {
    match op {
        CommandOp::Send { to, id, headers, body } => check_send(to, id, headers, body).map(|_| ()),
        CommandOp::Delete { id, from, reason } => check_delete(id, from, reason),
        CommandOp::Register { name, home, .. } => check_register(name, home),
        CommandOp::SetCursor { name, positions } => check_cursor(name, positions),
        CommandOp::Configure(change) | CommandOp::InitSettings(change) => check_settings(change),
        CommandOp::Event { id, headers, body } => check_event(id, headers, body),
        CommandOp::Member(change) => crate::rules::member_check::check(change),
        CommandOp::Token(change) => crate::rules::tokens::check(change),
        CommandOp::Group(change) => crate::rules::groups::check(change),
        CommandOp::Kv(change) => crate::rules::kv::check(change),
        CommandOp::Admin(change) => crate::rules::admins::check(change),
        CommandOp::Expire { .. } | CommandOp::TermStart { .. } | CommandOp::Tick => Ok(()),
    }
}
