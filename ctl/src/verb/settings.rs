//! `logctl cluster settings` and `logctl cluster set`: what holds for every node.

use proto::wire::{Empty, Op, Reply};
use views::setting::{Setting, change};
use views::settings::SettingsView;

use crate::cli::Globals;
use crate::error::CtlError;
use crate::home::Home;
use crate::out::Out;
use crate::session::Session;

/// Shows the settings.
pub(crate) async fn show(globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let answer = session.call(Op::Status(Empty {})).await;
    session.close().await;
    let (gateway, Reply::Status(status)) = answer? else {
        return Err(CtlError::unexpected("no status"));
    };
    match status.settings {
        Some(settings) => out.one(&SettingsView::from(settings)),
        None => Err(CtlError::not_found(
            format!("{gateway} knows no settings yet: the first primary sets them"),
            "logctl status",
        )),
    }
}

/// Changes settings, and shows them all as they are then.
pub(crate) async fn set(
    settings: &[Setting],
    globals: &Globals,
    out: &mut Out,
) -> Result<(), CtlError> {
    let change = change(settings).ok_or_else(|| {
        CtlError::usage("a setting is given twice", "logctl cluster set max-clock-error=50ms")
    })?;
    let session = Session::open(globals, &Home::from_env()?)?;
    let answer = session.call(Op::Configure(change)).await;
    session.close().await;
    let (_, Reply::Configured(now)) = answer? else {
        return Err(CtlError::unexpected("no settings"));
    };
    let view = SettingsView::from(now);
    out.did(format!("the settings of the cluster are {view}"));
    out.one(&view)?;
    out.hand_over();
    out.note(&format!("every node has these settings now: {view}"));
    Ok(())
}
