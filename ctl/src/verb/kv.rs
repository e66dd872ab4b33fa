//! `logctl kv`: the replicated dictionary.

use proto::kv::{KvChange, KvRead, KvRow, SHARED};
use proto::limits::KV_VALUE_BYTES_MAX;
use proto::wire::{Op, Reply};
use proto::{ExitCode, MessageId, Role};
use views::key::KeyView;

use crate::cli::{Globals, Kv, KvCas, KvDelete, KvGet, KvPut};
use crate::error::CtlError;
use crate::home::Home;
use crate::input::Input;
use crate::out::{Out, Shape};
use crate::session::Session;

pub(crate) async fn run(args: Kv, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    match args {
        Kv::Get(args) => get(args, globals, out).await,
        Kv::Put(args) => put(args, globals, out).await,
        Kv::Cas(args) => cas(args, globals, out).await,
        Kv::Delete(args) => delete(args, globals, out).await,
        Kv::List { prefix, stale } => list(prefix, stale, globals, out).await,
    }
}

async fn get(args: KvGet, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let found = value(&session, &args.key, args.stale).await;
    let gateway = session.gateway();
    session.close().await;
    let row = found?;
    if args.stale {
        out.note(&format!("stale: {gateway} answers from its own state"));
    }
    let row = row.ok_or_else(|| {
        CtlError::not_found(format!("no key '{}'", args.key), "logctl kv list names the keys")
    })?;
    if out.shape() == Shape::Raw {
        return out.bytes(&row.value);
    }
    out.one(&KeyView::try_from(row)?)
}

async fn put(args: KvPut, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let value = read_value(&args)?;
    let shared_with = match &args.group {
        Some(group) => Some(format!("@{group}")),
        None if args.shared => Some(SHARED.to_owned()),
        None => args.own.then(String::new),
    };
    let change = KvChange {
        key: args.key,
        value: Some(value),
        expect: args.if_version,
        id: drawn(args.id.as_ref()),
        shared_with,
    };
    done(change, session, out).await
}

async fn delete(args: KvDelete, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let id = drawn(args.id.as_ref());
    let (key, expect) = (args.key, args.if_version);
    let change = KvChange { key, value: None, expect, id, shared_with: None };
    done(change, session, out).await
}

/// The value is compared here and its version by the cluster: whatever comes in between is found out.
async fn cas(args: KvCas, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let hint = format!("logctl kv get {}", args.key);
    let row = match value(&session, &args.key, false).await {
        Ok(Some(row)) => row,
        Ok(None) => {
            session.close().await;
            return Err(CtlError::not_found(
                format!("no key '{}'", args.key),
                format!("logctl kv put {} VALUE --if-version 0", args.key),
            ));
        }
        Err(error) => {
            session.close().await;
            return Err(error);
        }
    };
    if row.value != args.old.as_bytes() {
        session.close().await;
        let what = format!(
            "the value of '{}' is another one, at version {}, set by '{}'",
            row.key, row.version, row.by
        );
        return Err(CtlError::conflict(what, hint));
    }
    let (value, expect) = (Some(args.new.into_bytes()), Some(row.version));
    let change = KvChange { key: args.key, value, expect, id: drawn(None), shared_with: None };
    match done(change, session, out).await {
        // Another try reads again, and could not tell its own first one from somebody else's.
        Err(error) if error.exit_code() == ExitCode::Unknown => {
            Err(CtlError::refused(ExitCode::Unknown, error.line(), hint))
        }
        other => other,
    }
}

async fn list(
    prefix: String,
    stale: bool,
    globals: &Globals,
    out: &mut Out,
) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let rows = pages(&session, prefix, stale).await;
    let gateway = session.gateway();
    session.close().await;
    let rows = rows?;
    if stale {
        out.note(&format!("stale: {gateway} answers from its own state"));
    }
    out.list(&rows.into_iter().map(KeyView::try_from).collect::<Result<Vec<_>, _>>()?)
}

async fn pages(session: &Session, prefix: String, stale: bool) -> Result<Vec<KvRow>, CtlError> {
    let mut read = KvRead { key: prefix, prefix: true, after: String::new(), stale };
    let mut rows: Vec<KvRow> = Vec::new();
    loop {
        let (_, Reply::Kv(page)) = session.call(Op::KvRead(read.clone())).await? else {
            return Err(CtlError::unexpected("no keys"));
        };
        let more = page.more && !page.rows.is_empty();
        rows.extend(page.rows);
        match rows.last().filter(|_| more) {
            Some(last) => read.after.clone_from(&last.key),
            None => return Ok(rows),
        }
    }
}

async fn value(session: &Session, key: &str, stale: bool) -> Result<Option<KvRow>, CtlError> {
    let read = KvRead { key: key.to_owned(), prefix: false, after: String::new(), stale };
    match session.call(Op::KvRead(read)).await? {
        (_, Reply::Kv(rows)) => Ok(rows.rows.into_iter().next()),
        _ => Err(CtlError::unexpected("no key")),
    }
}

/// Sends a change and shows the row: as it is now, or as it was if it is gone.
async fn done(change: KvChange, session: Session, out: &mut Out) -> Result<(), CtlError> {
    let (key, id, gone) = (change.key.clone(), change.id.clone(), change.value.is_none());
    let shared = change.shared_with.as_ref().is_some_and(|group| !group.is_empty());
    let answer = session.call(Op::Kv(change)).await;
    let is_admin = session.context().role == Role::Admin;
    session.close().await;
    let row = match answer {
        Ok((_, Reply::Kv(rows))) => rows.rows.into_iter().next(),
        Ok(_) => None,
        Err(error) => {
            let hint = match error.exit_code() {
                // Nobody's sharing helps whom the cluster does not take for an administrator.
                ExitCode::Denied if !is_admin => {
                    format!("its owner may share it: logctl kv put {key} VALUE --shared")
                }
                ExitCode::Unknown => {
                    format!("run the same command with --id {id}: it is done only once")
                }
                ExitCode::NotFound if shared => "logctl group list".to_owned(),
                ExitCode::NotFound => "logctl kv list names the keys".to_owned(),
                ExitCode::Conflict => {
                    format!("logctl kv get {key}, then run it again with --if-version")
                }
                ExitCode::Denied
                | ExitCode::Other
                | ExitCode::Usage
                | ExitCode::Unreachable
                | ExitCode::Degraded
                | ExitCode::NoQuorum
                | ExitCode::Clock
                | ExitCode::Integrity
                | ExitCode::Interrupted
                | ExitCode::ReaderGone => return Err(error),
            };
            return Err(CtlError::refused(error.exit_code(), error.line(), hint));
        }
    };
    let row = row.ok_or_else(|| CtlError::unexpected("no key"))?;
    let how = if gone { "is gone, its last version was" } else { "is set, its version is" };
    out.did(format!("the key '{key}' {how} {}", row.version));
    out.one(&KeyView::try_from(row)?)
}

/// Drawn once: however often the client retries, it stays one change.
fn drawn(id: Option<&MessageId>) -> String {
    id.map_or_else(|| uuid::Uuid::now_v7().to_string(), MessageId::to_string)
}

fn read_value(args: &KvPut) -> Result<Vec<u8>, CtlError> {
    let hint = format!("logctl kv put {} VALUE", args.key);
    let input = Input {
        file: args.file.as_deref(),
        words: args.value.as_deref(),
        bytes_max: KV_VALUE_BYTES_MAX,
        missing: ("no value: neither VALUE nor --file, and nothing is piped in", &hint),
        too_large: ("the value", "set", "use logctl send, which takes larger things"),
    };
    input.read()
}
