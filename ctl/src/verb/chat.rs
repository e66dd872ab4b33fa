//! `logctl chat`: a line in is a message, messages come out as lines, in log order.
//!
//! What was typed is shown when it comes back in its place among what others said, so every
//! participant has the same lines in the same order. Lines are sent one after the other, each under an
//! id that is drawn once and kept across every retry.

use clock::Hlc;
use proto::wire::{self, Ack, Instant, Op, Page, Position, Reply, TimePoint};
use proto::{ExitCode, Record, Stream, group};
use views::range::When;
use views::record::RecordView;

use crate::cli::{Chat, Globals};
use crate::error::CtlError;
use crate::gap::Gaps;
use crate::home::Home;
use crate::input;
use crate::out::{Out, Shape, escape_controls, reader_gone};
use crate::session::Session;

pub(crate) async fn run(args: Chat, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    if args.to == Stream::Events {
        return Err(CtlError::usage(
            "nobody talks to $events: they are the system's own",
            "logctl events --follow",
        ));
    }
    out.endless();
    let session = Session::open(globals, &Home::from_env()?)?;
    let done = chat(&args, &session, out).await;
    session.close().await;
    done
}

async fn chat(args: &Chat, session: &Session, out: &mut Out) -> Result<(), CtlError> {
    let gaps = Gaps::new(false);
    let mut talk = Talk { out, left: args.limit, seen: 0, sent: 0, unshown: Vec::new(), gaps };
    talk_on(args, session, &mut talk).await?;
    talk.gaps.verdict()
}

async fn talk_on(args: &Chat, session: &Session, talk: &mut Talk<'_>) -> Result<(), CtlError> {
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    let begun = tokio::select! {
        begun = begin(args, session, talk) => begun,
        _ = &mut stop => return Ok(()),
    };
    let mut follow = match begun {
        Ok(Some(follow)) => follow,
        Ok(None) => return Ok(()),
        Err(error) => return talk.end(Err(error), false),
    };
    talk.out.note(&format!("chatting as {} in {}", session.name(), args.to));
    let mut lines = input::lines();
    let (mut sending, mut ended) = (None, false);
    let mut unread = std::pin::pin!(reader_gone());
    let done = loop {
        let over = ended && sending.is_none() && talk.seen >= talk.sent && !args.stay;
        if over || talk.left == Some(0) {
            break Ok(());
        }
        let done = tokio::select! {
            page = follow.next() => match page {
                Ok(Some(page)) => talk.show(page),
                Ok(None) => break Ok(()),
                Err(error) => Err(error.into()),
            },
            ack = wait(&mut sending), if sending.is_some() => {
                sending = None;
                ack.map(|ack| talk.stored(&ack))
            }
            line = lines.recv(), if sending.is_none() && !ended => match line.transpose() {
                Ok(Some(line)) => {
                    sending = Some(Box::pin(send(session, &args.to, line.bytes)));
                    Ok(())
                }
                Ok(None) => {
                    ended = true;
                    Ok(())
                }
                Err(error) => Err(error),
            },
            _ = &mut stop => break Ok(()),
            // There is nothing left but to show what comes.
            () = &mut unread, if ended && sending.is_none() => Err(talk.out.lose_reader()),
        };
        if done.is_err() {
            break done;
        }
    };
    // What is on its way has an end that is known, however the chat ends.
    if sending.is_some() {
        let ack = wait(&mut sending).await;
        let stored = ack.map(|ack| talk.stored(&ack));
        return talk.end(done.and(stored), ended);
    }
    talk.end(done, ended)
}

/// Shows what was said since the wanted time, and follows from there; `None` if that was enough.
async fn begin(
    args: &Chat,
    session: &Session,
    talk: &mut Talk<'_>,
) -> Result<Option<net::Follow>, CtlError> {
    let now_ns = match args.since {
        Some(since) if since.needs_now() => session.node_now().await?,
        _ => 0,
    };
    // From a time that never comes: no record, only the place where the log ends now.
    let never = TimePoint { at: Some(Instant::Hlc(Hlc::from_ns(u64::MAX).to_bytes().to_vec())) };
    let mut read = wire::Read {
        since: Some(args.since.map_or(never, |since: When| since.resolve(now_ns))),
        ..of(&args.to)
    };
    loop {
        let (_, reply) = session.call(Op::Read(read.clone())).await?;
        let Reply::Page(page) = reply else { return Err(CtlError::unexpected("no page")) };
        let (end, nowhere) = (page.end, page.records.is_empty() && page.next == read.after);
        read.go_on(&page);
        talk.show(page)?;
        if talk.left == Some(0) {
            return Ok(None);
        }
        if nowhere && !end {
            return Err(CtlError::unexpected("a page that leads nowhere"));
        }
        if end {
            break;
        }
    }
    let mut follow = session.follow(wire::Read { since: None, follow: true, ..read }).await?;
    // The first page comes even if there is nothing in it: from here on nothing is missed.
    match follow.next().await? {
        Some(page) => talk.show(page)?,
        None => return Ok(None),
    }
    Ok(Some(follow))
}

/// What belongs to the conversation.
fn of(to: &Stream) -> wire::Read {
    match to {
        Stream::Client(name) => wire::Read { with: name.to_string(), ..wire::Read::default() },
        Stream::Group(_) | Stream::Everyone | Stream::Events => {
            wire::Read { to: to.to_string(), ..wire::Read::default() }
        }
    }
}

/// Where the lines go.
struct Talk<'a> {
    out: &'a mut Out,
    /// Lines that may still be shown.
    left: Option<u64>,
    /// Everything up to this seq was shown.
    seen: u64,
    /// Highest seq of an own message.
    sent: u64,
    /// Own messages that were not shown yet: seq and id.
    unshown: Vec<(u64, String)>,
    gaps: Gaps,
}

/// Own messages that are remembered until they are shown.
const UNSHOWN_MAX: usize = 1000;

impl Talk<'_> {
    fn stored(&mut self, ack: &Ack) {
        self.sent = self.sent.max(ack.seq);
        if self.unshown.len() < UNSHOWN_MAX {
            self.unshown.push((ack.seq, ack.id.clone()));
        }
    }

    /// The end: where standard output has failed, what was sent all the same is said, and that not
    /// every line of the input was, unless it had ended.
    fn end(&mut self, done: Result<(), CtlError>, ended: bool) -> Result<(), CtlError> {
        if !self.out.is_broken() {
            return done;
        }
        for (seq, id) in self.unshown.drain(..) {
            self.out.did(format!("message {id} is stored, seq {seq}"));
        }
        match done {
            Err(CtlError::Output(_)) if !ended => {
                Err(self.out.cut_short("what follows in the input was not sent", "logctl chat"))
            }
            other => other,
        }
    }

    fn show(&mut self, page: Page) -> Result<(), CtlError> {
        if let Some(gap) = page.gap {
            let gap = self.gaps.meet(gap, self.out);
            self.out.gap_line(&gap)?;
        }
        for record in page.records {
            if self.left == Some(0) {
                break;
            }
            self.seen = self.seen.max(record.seq);
            match self.out.shape() {
                Shape::Json | Shape::Ndjson => {
                    self.out.json_line(&RecordView::try_from(record)?)?
                }
                Shape::Table | Shape::Plain | Shape::Raw => self.out.line(&line(&record))?,
            }
            self.left = self.left.map(|left| left - 1);
        }
        for Position { seq, .. } in page.next {
            self.seen = self.seen.max(seq);
        }
        self.out.flush()?;
        let seen = self.seen;
        self.unshown.retain(|(seq, _)| *seq > seen);
        Ok(())
    }
}

/// `alice: hello`, or `* alice added bob`. Nothing that somebody wrote may drive the terminal.
fn line(record: &Record) -> String {
    if let Some(gone) = &record.deleted {
        return format!("{}: (deleted by {})", record.from, gone.by);
    }
    let text = escape_controls(&String::from_utf8_lossy(&record.body));
    let own =
        |header: &proto::Header| header.key == group::TYPE && header.value == group::TYPE_GROUP;
    if record.to.starts_with('@') && record.headers.iter().any(own) {
        return format!("* {text}");
    }
    format!("{}: {text}", record.from)
}

async fn wait<F: Future<Output = Result<Ack, CtlError>> + Unpin>(
    sending: &mut Option<F>,
) -> Result<Ack, CtlError> {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

async fn send(session: &Session, to: &Stream, body: Vec<u8>) -> Result<Ack, CtlError> {
    let id = uuid::Uuid::now_v7().to_string();
    let send = wire::Send {
        to: to.to_string(),
        id: id.clone(),
        body: body.into(),
        ..wire::Send::default()
    };
    match session.call(Op::Send(send)).await {
        Ok((_, Reply::Ack(ack))) => Ok(ack),
        Ok(_) => Err(CtlError::unexpected("no acknowledgement")),
        Err(error) if error.exit_code() == ExitCode::Unknown => Err(CtlError::refused(
            ExitCode::Unknown,
            error.line(),
            format!(
                "run logctl send --to {to} --id {id} with the same line: it is stored only once"
            ),
        )),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use proto::Tombstone;

    use super::*;

    fn record(to: &str, body: &str) -> Record {
        let (from, to, body) = ("alice".into(), to.into(), body.to_owned().into());
        Record { from, to, body, ..Record::default() }
    }

    #[test]
    fn a_line_says_who_and_what() {
        assert_eq!(line(&record("@ops", "hi")), "alice: hi");
        assert_eq!(line(&record("bob", "a\nb\u{1b}[2J")), "alice: a\\nb\\u{1b}[2J");
        let (key, value) = (group::TYPE.to_owned(), group::TYPE_GROUP.to_owned());
        let headers = vec![proto::Header { key, value }];
        let added = Record { headers: headers.clone(), ..record("@ops", "alice added bob") };
        assert_eq!(line(&added), "* alice added bob");
        // Only in a group's stream the cluster vouches for that header.
        assert_eq!(line(&Record { headers, ..record("bob", "x") }), "alice: x");
        let deleted = Some(Tombstone { by: "bob".into(), ..Tombstone::default() });
        assert_eq!(line(&Record { deleted, ..record("bob", "") }), "alice: (deleted by bob)");
    }
}
