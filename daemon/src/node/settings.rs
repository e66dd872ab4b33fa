//! Settings of the whole cluster: the command that a change stands for.
//!
//! Not here: what apply makes of it (`model`), which nodes' files say something else (`status`).

use model::CommandOp;
use proto::Failure;
use proto::wire::Configure;

use super::Principal;

/// The command of a change. Apply refuses a client as well; here it costs no log entry.
pub(super) fn command_op(principal: &Principal, change: Configure) -> Result<CommandOp, Failure> {
    principal.require_admin("change the cluster's settings")?;
    Ok(CommandOp::Configure(change))
}
