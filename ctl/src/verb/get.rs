//! `logctl get`: one message by its id.

use proto::Name;
use proto::wire::{self, Op, Reply};
use views::record::RecordView;

use crate::cli::{Get, Globals};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Out, Shape};
use crate::session::Session;

pub(crate) async fn run(args: Get, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let get = wire::Get {
        id: args.id.to_string(),
        stale: args.stale,
        from: args.from.as_ref().map(Name::to_string).unwrap_or_default(),
    };
    let answer = session.call(Op::Get(get)).await;
    session.close().await;
    let (gateway, Reply::Record(record)) = answer? else {
        return Err(CtlError::unexpected("no record"));
    };
    if args.stale {
        out.note(&format!("stale: {gateway} answers from its own state"));
    }
    show(&RecordView::try_from(record)?, out)
}

/// Shows a record; raw output is its body to the byte.
fn show(record: &RecordView, out: &mut Out) -> Result<(), CtlError> {
    if out.shape() != Shape::Raw {
        return out.one(record);
    }
    match (record.body(), record.deletion()) {
        (Some(body), None) => out.bytes(body),
        (_, deletion) => Err(CtlError::not_found(
            format!("there is no body: {}", deletion.unwrap_or_default()),
            "run logctl get without -o raw to see what is left",
        )),
    }
}
