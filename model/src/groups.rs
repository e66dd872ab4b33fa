//! Groups.

use proto::Failure;
use proto::wire::GroupChange;

use crate::command::Caller;
use crate::error::{QueryError, invalid};
use crate::machine::{Machine, Outcome, Place};

impl Machine<'_> {
    pub(crate) fn change_groups(
        &mut self,
        _place: &Place<'_>,
        _caller: &Caller,
        change: &GroupChange,
    ) -> Result<Outcome, QueryError> {
        Err(check(change).err().unwrap_or_else(|| invalid("no such change")).into())
    }
}

pub(crate) fn check(_change: &GroupChange) -> Result<(), Failure> {
    Err(invalid("a change that this release does not know"))
}
