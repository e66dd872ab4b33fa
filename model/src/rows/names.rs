//! Whose a name is: a client's, a node's, an administrator's, or nobody's.

use prost::Message;
use proto::admin::AdminRow;

use crate::rows::error::{QueryError, StateError, conflict};
use crate::rows::member_rows::node;
use crate::rows::values::ClientRow;
use crate::rows::view::{Table, View};

/// Refuses a name that is a client's or an administrator's.
pub(crate) fn require_nobodys(view: &dyn View, name: &str) -> Result<(), QueryError> {
    if client_row(view, name)?.is_some() {
        return Err(conflict(format!("the name '{name}' is a client's: use another one")).into());
    }
    require_no_admins(view, name)
}

fn require_no_admins(view: &dyn View, name: &str) -> Result<(), QueryError> {
    if admin_row(view, name)?.is_some() {
        let message = format!("the name '{name}' is an administrator's: use another one");
        return Err(conflict(message).into());
    }
    Ok(())
}

/// Refuses who would be called like a node or an administrator: who reads `n1` must know who that is.
pub(crate) fn require_free(view: &dyn View, name: &str) -> Result<(), QueryError> {
    require_no_admins(view, name)?;
    match node(view, name)? {
        Some(node) if !node.is_removed() => {
            Err(conflict(format!("the name '{name}' is a node's: use another one")).into())
        }
        Some(_) | None => Ok(()),
    }
}

/// Reads one row of the registry.
pub(crate) fn client_row(view: &dyn View, name: &str) -> Result<Option<ClientRow>, StateError> {
    view.get(Table::Clients, name.as_bytes())?.map(ClientRow::decode).transpose()
}

/// An administrator.
pub(crate) fn admin_row(view: &dyn View, name: &str) -> Result<Option<AdminRow>, StateError> {
    view.get(Table::Admins, name.as_bytes())?.map(|bytes| decode_admin(&bytes)).transpose()
}

/// Reads the row of an administrator.
pub(crate) fn decode_admin(bytes: &[u8]) -> Result<AdminRow, StateError> {
    AdminRow::decode(bytes)
        .map_err(|_| StateError::corrupt(Table::Admins, "an administrator does not parse"))
}
