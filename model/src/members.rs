//! The nodes of the cluster.

use proto::Failure;
use proto::wire::MemberChange;

use crate::command::Caller;
use crate::error::{QueryError, invalid};
use crate::machine::{Machine, Outcome, Place};

impl Machine<'_> {
    pub(crate) fn change_members(
        &mut self,
        _place: &Place<'_>,
        _caller: &Caller,
        change: &MemberChange,
    ) -> Result<Outcome, QueryError> {
        Err(check(change).err().unwrap_or_else(|| invalid("no such change")).into())
    }
}

pub(crate) fn check(_change: &MemberChange) -> Result<(), Failure> {
    Err(invalid("a change that this release does not know"))
}
