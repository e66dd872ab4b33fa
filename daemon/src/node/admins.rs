//! Requests about the administrators of the cluster.

use model::{CommandOp, Outcome, query};
use proto::admin::{AdminChange, AdminOp, AdminRecovery, AdminRow, Admins};
use proto::{ErrorCode, Failure};

use crate::doorman::Door;
use crate::reader::store_failure;

use super::{Core, Deadline, Node, Principal, own};

/// The command that an administrator's request stands for. Apply refuses others as well; here it costs
/// no log entry.
pub(super) fn command_op(
    principal: &Principal,
    change: &AdminChange,
) -> Result<CommandOp, Failure> {
    principal.require_admin("change the administrators")?;
    let ours = match change.op {
        // Looked at with the request already: an administrator it is not yet.
        Some(AdminOp::Add(_) | AdminOp::Remove(_) | AdminOp::Recover(_)) => true,
        Some(AdminOp::First(_)) | None => false,
    };
    if !ours {
        return Err(Failure::new(ErrorCode::Denied, "only the nodes themselves may do that"));
    }
    Ok(CommandOp::Admin(change.clone()))
}

impl Node {
    /// The administrators, from a state that holds everything acknowledged before now.
    pub(super) async fn admins(
        &self,
        principal: &Principal,
        deadline: Deadline,
    ) -> Result<Admins, Failure> {
        principal.require_admin("list the administrators")?;
        let core = self.core()?;
        self.fresh(core, principal, false, deadline).await?;
        known_admins(core)
    }

    /// Enters the first administrator that this primary meets, where the log of an earlier release has
    /// none yet.
    pub(super) async fn note_first_admin(
        &self,
        core: &Core,
        principal: &Principal,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        if !principal.is_admin() || !known_admins(core)?.admins.is_empty() {
            return Ok(());
        }
        let seed = self.inner.trust.seed_admins();
        if !seed.is_empty() {
            return self.enter_first_admins(Admins { admins: seed }, deadline).await;
        }
        let row = AdminRow {
            name: principal.identity.name.to_string(),
            fingerprint: principal.fingerprint.to_vec(),
            ..AdminRow::default()
        };
        tracing::info!(admin = row.name, "the first administrator is entered");
        self.enter_first_admins(Admins { admins: vec![row] }, deadline).await
    }

    /// Refuses to enter a caller whom the authority has not signed for, with a word to everybody; whom it
    /// has signed for is told of here, too, and by an event once it is entered.
    pub(super) fn recovered(
        &self,
        principal: &Principal,
        said: &AdminRecovery,
        door: (Door, &str),
    ) -> Result<(), Failure> {
        let Principal { identity, fingerprint, .. } = principal;
        let ca = self.inner.ca.load();
        let (cluster, name) = (&self.inner.identity.cluster, &identity.name);
        let is_own = principal.is_admin()
            && said.name == name.as_str()
            && said.fingerprint == fingerprint.as_slice();
        let checked = certs::check_recovery(&ca, cluster, name, fingerprint, &said.signature);
        let why = match checked {
            Ok(()) if is_own => {
                tracing::warn!(%identity, "the authority's key makes it an administrator");
                return Ok(());
            }
            Ok(()) => "it asks for another one than itself".to_owned(),
            Err(error) => error.to_string(),
        };
        self.tell_of_request(principal, door, "recovery", &why);
        Err(Failure::new(ErrorCode::Denied, why))
    }

    /// Whether anybody is entered, as far as this node's own state knows.
    pub(super) fn knows_admins(&self) -> bool {
        let known = self.core().and_then(known_admins);
        known.is_ok_and(|known| !known.admins.is_empty())
    }

    /// Enters the first administrators, as the primary. Where there are some nothing changes.
    pub(super) async fn enter_first_admins(
        &self,
        first: Admins,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        let op = CommandOp::Admin(AdminChange { op: Some(AdminOp::First(first)) });
        model::check(&op)?;
        let outcome = self.order_own(self.core()?, self.name(), op, deadline).await?;
        if let Outcome::Admins(_) = outcome { Ok(()) } else { Err(own::instead(outcome)) }
    }
}

/// The administrators as this node's own state has them.
fn known_admins(core: &Core) -> Result<Admins, Failure> {
    let view = core.store.snapshot().map_err(store_failure)?;
    query::admins(&view).map_err(|error| Failure::new(ErrorCode::Integrity, error))
}
