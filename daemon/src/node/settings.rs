//! Settings of the whole cluster: the command that a change stands for.
//!
//! Not here: what apply makes of it (`model`), which nodes' files say something else (`status`).

use model::CommandOp;
use proto::wire::Configure;
use proto::{ErrorCode, Failure};

use super::Principal;

/// The command of a change. Apply refuses a client as well; here it costs no log entry.
pub(super) fn command_op(principal: &Principal, change: Configure) -> Result<CommandOp, Failure> {
    if !principal.is_admin() {
        let message = format!("{} may not change the cluster's settings", principal.identity);
        return Err(Failure::new(ErrorCode::Denied, message));
    }
    Ok(CommandOp::Configure(change))
}
