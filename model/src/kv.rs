//! The dictionary.

use proto::Failure;
use proto::wire::KvChange;

use crate::command::Caller;
use crate::error::{QueryError, invalid};
use crate::machine::{Machine, Outcome, Place};

impl Machine<'_> {
    pub(crate) fn change_kv(
        &mut self,
        _place: &Place<'_>,
        _caller: &Caller,
        change: &KvChange,
    ) -> Result<Outcome, QueryError> {
        Err(check(change).err().unwrap_or_else(|| invalid("no such change")).into())
    }
}

pub(crate) fn check(_change: &KvChange) -> Result<(), Failure> {
    Err(invalid("a change that this release does not know"))
}
