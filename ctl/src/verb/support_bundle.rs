//! `logctl support-bundle`: one file for whoever helps, with what the cluster says of itself. No message is
//! in it, nor a key, a token, or the configuration of this user; it can be read before it is sent.

use std::io;
use std::path::{Path, PathBuf};

use clock::overlap::Overlap;
use proto::Stream;
use proto::wire::{self, Empty, Op, Reply};
use serde::Serialize;
use serde_json::{Value, json};
use views::clocks::ClockView;
use views::engine::EngineView;
use views::event::EventView;
use views::health::StatusView;
use views::settings::SettingsView;
use views::stages::StageView;

use crate::cli::{Globals, SupportBundle};
use crate::each_node::{EachNode, brief};
use crate::error::CtlError;
use crate::filter::Filter;
use crate::home::{Existing, Home, write_private};
use crate::out::Out;
use crate::renewal::now_s;
use crate::session::Session;
use crate::tail::Backwards;

use super::doctor;

/// So many of the last events are in it.
const EVENTS: u64 = 500;

pub(crate) async fn run(
    args: SupportBundle,
    globals: &Globals,
    out: &mut Out,
) -> Result<(), CtlError> {
    let made_unix_s = now_s();
    let path =
        args.file.unwrap_or_else(|| PathBuf::from(format!("logd-support-{made_unix_s}.json")));
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    // Said before the nodes are asked, which takes a while; what comes meanwhile stays, too.
    if existing == Existing::Keep && path.symlink_metadata().is_ok() {
        return Err(taken(&path));
    }
    // A file that takes the place of a device would be the machine's damage, not only this command's.
    if path != Path::new("-") && path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
        let what = format!("{} is there and is no file", path.display());
        return Err(CtlError::conflict(what, "give another name, or - for standard output"));
    }
    let bundle = Box::pin(gather(&args.configs, made_unix_s, globals, out)).await?;
    let text = serde_json::to_string_pretty(&bundle).map_err(|e| CtlError::Output(e.into()))?;
    if path == Path::new("-") {
        return out.line(&text);
    }
    write_private(&path, (text + "\n").as_bytes(), existing).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            taken(&path)
        } else {
            CtlError::file("write", &path)(error)
        }
    })?;
    out.did(format!("{} is written", path.display()));
    out.line(&path.display().to_string())?;
    out.hand_over();
    out.note(
        "no message, key or token is in it; names and addresses are. Read it before you send it",
    );
    Ok(())
}

fn taken(path: &Path) -> CtlError {
    let what = format!("{} is there already", path.display());
    CtlError::conflict(what, "give another file, or --force, which replaces it")
}

/// What the file holds. Whatever cannot be had is in it as an error: that is what it is for.
async fn gather(
    configs: &[PathBuf],
    made_unix_s: i64,
    globals: &Globals,
    out: &Out,
) -> Result<Value, CtlError> {
    let (findings, parts) = tokio::join!(doctor::look(configs, globals, out), cluster(globals));
    let findings = findings?;
    let mut bundle = json!({
        "logctl": env!("CARGO_PKG_VERSION"),
        "made_unix_s": made_unix_s,
        "doctor": findings,
    });
    let parts = match parts {
        Ok(parts) => parts,
        Err(error) => vec![("error", json!(error.line()))],
    };
    if let Value::Object(all) = &mut bundle {
        all.extend(parts.into_iter().map(|(name, part)| (name.to_owned(), part)));
    }
    Ok(bundle)
}

/// What the cluster and each node say, asked at a time.
async fn cluster(globals: &Globals) -> Result<Vec<(&'static str, Value)>, CtlError> {
    let globals = &brief(globals);
    let session = Session::open(globals, &Home::from_env()?)?;
    let each = EachNode::open(globals)?;
    let names = each.known().await;
    let ops = (Op::Status(Empty {}), Op::Raft(Empty {}), Op::Clock(Empty {}));
    let (events, status, engines, clocks) = tokio::join!(
        events(&session),
        session.call(ops.0),
        each.ask_all(&names, &ops.1),
        each.ask_all(&names, &ops.2),
    );
    session.close().await;
    let events = part(events);
    let nodes: Vec<Value> = engines
        .into_iter()
        .map(|(node, answer)| {
            let engine = answer.map(|reply| {
                let Reply::Raft(view) = reply else { return Value::Null };
                let stages = StageView::all(&view);
                json!({ "engine": EngineView::from(view), "stages": stages })
            });
            json!({ "node": node.as_str(), "raft": part(engine) })
        })
        .collect();
    let clocks: Vec<Value> = clocks
        .into_iter()
        .map(|(node, answer)| {
            let clock = answer.map(|reply| {
                let Reply::Clock(report) = reply else { return None };
                Some(ClockView::from(report))
            });
            json!({ "node": node.as_str(), "clock": part(clock) })
        })
        .collect();
    let (settings, status) = match status {
        Ok((_, Reply::Status(status))) => (
            json!(status.settings.map(SettingsView::from)),
            json!(StatusView::new(status, now_s())),
        ),
        Ok(_) => (Value::Null, Value::Null),
        Err(error) => (Value::Null, json!({ "error": error.line() })),
    };
    Ok(vec![
        ("status", status),
        ("settings", settings),
        ("nodes", json!(nodes)),
        ("clocks", json!(clocks)),
        ("events", events),
    ])
}

/// The last events: the cluster's own words, never a message.
async fn events(session: &Session) -> Result<Vec<EventView>, CtlError> {
    let read = wire::Read { to: Stream::Events.to_string(), ..wire::Read::default() };
    let filter = Filter::default();
    let mut back = Backwards::begin(session, read, &filter, EVENTS).await?;
    let mut overlap = Overlap::default();
    let mut events = Vec::new();
    for record in back.last(EVENTS).await? {
        let stamp = record.full_stamp();
        let stamp = stamp.map_err(|error| CtlError::unexpected(&error.to_string()))?;
        events.push(EventView::of(record, overlap.next(&stamp), None)?);
    }
    Ok(events)
}

/// What was answered, or why nothing was.
fn part(answer: Result<impl Serialize, CtlError>) -> Value {
    match answer {
        Ok(part) => json!(part),
        Err(error) => json!({ "error": error.line() }),
    }
}
