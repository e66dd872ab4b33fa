//! `logctl send`: store one message, or the same one several times.

use std::collections::BTreeSet;

use net::Spread;
use proto::limits::{BODY_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX};
use proto::wire::{self, Ack, Op, Reply};
use proto::{ExitCode, Header, MessageId, Stream};
use views::record::AckView;

use crate::cli::{Globals, Policy, Send};
use crate::error::CtlError;
use crate::home::Home;
use crate::input::Input;
use crate::out::{Out, Shape};
use crate::session::Session;
use crate::spread::Report;

pub(crate) async fn run(args: Send, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    if args.to == Stream::Events {
        return Err(CtlError::usage(
            "nobody sends to $events: they are the system's own",
            "give a client, @group or '*' after --to",
        ));
    }
    let headers = parse_headers(&args.headers)?;
    let ids = ids(&args)?;
    let session = Session::open_after(globals, &Home::from_env()?, args.after)?;
    let message = wire::Send {
        to: args.to.to_string(),
        id: String::new(),
        headers,
        body: Vec::new().into(),
        commit_wait: args.commit_wait,
    };
    if args.lines {
        return Box::pin(super::send_lines::run(&args, message, session, out)).await;
    }
    let message = wire::Send { body: read_body(&args)?.into(), ..message };
    let done = if args.repeat.is_none() && !args.report {
        once(&args, message, ids, &session, out).await
    } else {
        Box::pin(again(&args, message, ids, &session, out)).await
    };
    session.close().await;
    done
}

/// The ids of all messages, drawn once: however often the client retries, each stays one message.
fn ids(args: &Send) -> Result<Vec<String>, CtlError> {
    let count = args.repeat.unwrap_or(1);
    match (&args.id, args.repeat) {
        (Some(id), None) => Ok(vec![id.to_string()]),
        (Some(id), Some(_)) => (1..=count)
            .map(|n| match format!("{id}-{n}").parse::<MessageId>() {
                Ok(id) => Ok(id.to_string()),
                Err(error) => Err(CtlError::usage(
                    format!("the id of the message number {n}: {error}"),
                    "shorten --id; nothing was sent",
                )),
            })
            .collect(),
        (None, _) => Ok((0..count).map(|_| uuid::Uuid::now_v7().to_string()).collect()),
    }
}

async fn once(
    args: &Send,
    mut message: wire::Send,
    ids: Vec<String>,
    session: &Session,
    out: &mut Out,
) -> Result<(), CtlError> {
    message.id = ids.into_iter().next().unwrap_or_default();
    let spread = session.policy_or(Policy::Home).over(&message.to);
    let (ack, _) = store(args, message, session, &spread).await?;
    out.did(stored(&ack));
    out.one(&AckView::try_from(ack)?)
}

/// What is said of a stored message where its acknowledgement cannot be shown.
fn stored(ack: &Ack) -> String {
    format!("message {} is stored, seq {}", ack.id, ack.seq)
}

/// One after the other; one that fails does not keep the others from being sent. That standard output
/// fails does: whoever has ended the reader wants no more.
async fn again(
    args: &Send,
    message: wire::Send,
    ids: Vec<String>,
    session: &Session,
    out: &mut Out,
) -> Result<(), CtlError> {
    let default = if args.repeat.is_some() { Policy::Rr } else { Policy::Home };
    let spread = session.policy_or(default).over(&message.to);
    let mut report = Report::new(&spread);
    let (mut acks, mut columns) = (Vec::new(), out.columns());
    let (count, mut tried, mut acked) = (ids.len(), 0, 0);
    for id in ids {
        tried += 1;
        let message = wire::Send { id, ..message.clone() };
        let (ack, retried) = match store(args, message, session, &spread).await {
            Ok(stored) => stored,
            Err(error) => {
                out.warn(&error.line());
                report.failed(error);
                continue;
            }
        };
        report.answered(&ack.gateway, retried);
        acked += 1;
        if args.report {
            continue;
        }
        out.did(stored(&ack));
        let view = AckView::try_from(ack)?;
        match out.shape() {
            Shape::Json => {
                acks.push(view);
                continue;
            }
            Shape::Table => out.table(&[view], &mut columns)?,
            Shape::Plain | Shape::Ndjson | Shape::Raw => out.list(&[view])?,
        }
        if out.flush().is_err() && tried < count {
            let left = count - tried;
            let what = format!("{acked} of {count} messages are stored, {left} were not sent");
            return Err(
                out.cut_short(&what, "run the same with its output to a file or a terminal")
            );
        }
    }
    if args.report {
        out.did(format!("{acked} of {count} messages are stored"));
        report.know(session.node_names());
        report.show(out)?;
    } else if out.shape() == Shape::Json {
        out.json(&acks)?;
    }
    report.verdict()
}

/// Stores one message. Returns its ack, and how many attempts brought none.
async fn store(
    args: &Send,
    message: wire::Send,
    session: &Session,
    spread: &Spread,
) -> Result<(Ack, u32), CtlError> {
    let id = message.id.clone();
    match session.call_over(Op::Send(message), spread).await {
        Ok((_, Reply::Ack(ack), retried)) => Ok((ack, retried)),
        Ok(_) => Err(CtlError::unexpected("no acknowledgement")),
        Err(error) if error.exit_code() == ExitCode::Unknown => Err(CtlError::refused(
            ExitCode::Unknown,
            error.line(),
            match args.repeat {
                None => format!("run the same command with --id {id}: it is stored only once"),
                Some(_) => format!("run that one alone, with --id {id}: it is stored only once"),
            },
        )),
        Err(error) if error.exit_code() == ExitCode::Usage && args.commit_wait => {
            Err(CtlError::usage(
                error.line(),
                "logctl cluster settings, or run the same without --commit-wait",
            ))
        }
        Err(error) => Err(error),
    }
}

fn read_body(args: &Send) -> Result<Vec<u8>, CtlError> {
    let input = Input {
        file: args.file.as_deref(),
        words: args.body.as_deref(),
        bytes_max: BODY_BYTES_MAX,
        missing: (
            "no message: neither BODY nor --file, and nothing is piped in",
            "logctl send --to NAME \"the message\"",
        ),
        too_large: (
            "the message",
            "sent",
            "send several smaller messages, or put it in a file store and send the link",
        ),
    };
    input.read()
}

fn parse_headers(texts: &[String]) -> Result<Vec<Header>, CtlError> {
    let usage = |what: String| CtlError::usage(what, "write --header key=value");
    if texts.len() > HEADERS_MAX {
        return Err(usage(format!("{} headers; at most {HEADERS_MAX} fit", texts.len())));
    }
    let mut seen = BTreeSet::new();
    let mut headers = Vec::with_capacity(texts.len());
    for text in texts {
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or_else(|| {
                let shown: String = text.chars().take(80).collect();
                usage(format!("'{shown}' is not a header: key=value, the key without spaces"))
            })?;
        if !seen.insert(key) {
            return Err(usage(format!("the header '{key}' is given twice")));
        }
        headers.push(Header { key: key.to_owned(), value: value.to_owned() });
    }
    let bytes: usize = headers.iter().map(|header| header.key.len() + header.value.len()).sum();
    if bytes > HEADER_BYTES_MAX {
        return Err(usage(format!("{bytes} bytes of headers; at most {HEADER_BYTES_MAX} fit")));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Vec<Header>, CtlError> {
        parse_headers(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn headers_split_at_the_first_equals_sign() {
        let headers = parse(&["a=1", "b=x=y", "empty="]).unwrap();
        let pairs: Vec<_> = headers.iter().map(|h| (h.key.as_str(), h.value.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", "x=y"), ("empty", "")]);
    }

    #[test]
    fn headers_beyond_the_rules_are_usage_errors() {
        let many: Vec<String> = (0..=HEADERS_MAX).map(|n| format!("k{n}=v")).collect();
        let long = format!("k={}", "v".repeat(HEADER_BYTES_MAX));
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for bad in [&["a"][..], &["=v"], &["a b=v"], &["a=1", "a=2"], &[&long], &many] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), ExitCode::Usage);
        }
    }
}
