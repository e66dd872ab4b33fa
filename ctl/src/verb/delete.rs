//! `logctl delete`: a tombstone in place of a message.

use proto::Name;
use proto::limits::REASON_BYTES_MAX;
use proto::wire::{self, Op, Reply};
use views::record::RecordView;

use crate::cli::{Delete, Globals};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::Out;
use crate::session::Session;

pub(crate) async fn run(args: Delete, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    if args.reason.len() > REASON_BYTES_MAX {
        return Err(CtlError::usage(
            format!("the reason is longer than {REASON_BYTES_MAX} bytes"),
            "shorten --reason",
        ));
    }
    let session = Session::open(globals, &Home::from_env()?)?;
    let (id, name) = (&args.id, &session.context().name);
    out.confirm(
        &format!("Delete the body of message {id} for good, as {name}?"),
        &format!("logctl delete {id} -y"),
    )?;
    let delete = wire::Delete {
        id: args.id.to_string(),
        reason: args.reason,
        from: args.from.as_ref().map(Name::to_string).unwrap_or_default(),
    };
    let answer = session.call(Op::Delete(delete)).await;
    session.close().await;
    match answer? {
        (_, Reply::Deleted(record)) => {
            out.did(format!("the body of message {} is deleted", args.id));
            out.one(&RecordView::try_from(record)?)
        }
        _ => Err(CtlError::unexpected("no tombstone")),
    }
}
