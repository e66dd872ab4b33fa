//! `logctl send --lines`: each line of standard input is a message. Many are on their way at once; each keeps
//! the id that it was given once. The first that fails ends it: what was sent is waited for, and what became
//! of every line can be said.

use std::sync::Arc;
use std::time::Duration;

use proto::wire::{self, Ack, Op, Reply};
use proto::{ExitCode, MessageId};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use views::record::AckView;

use crate::cli::{Policy, Send};
use crate::error::CtlError;
use crate::input::{self, Line};
use crate::out::{Out, Shape};
use crate::session::Session;
use crate::spread::Report;

const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Messages in doubt whose ids are said.
const IDS_SAID: usize = 5;

/// Sends every line as a copy of `message` with a body and an id of its own.
pub(super) async fn run(
    args: &Send,
    message: wire::Send,
    session: Session,
    out: &mut Out,
) -> Result<(), CtlError> {
    out.endless();
    let session = Arc::new(session);
    let spread = session.policy_or(Policy::Home).over(&message.to);
    let mut sending = Sending {
        args,
        message,
        session: &session,
        spread: &spread,
        report: Report::new(&spread),
        tasks: JoinSet::new(),
        tally: Tally::default(),
        out,
    };
    let done = sending.all().await;
    drop(sending);
    if let Some(session) = Arc::into_inner(session) {
        session.close().await;
    }
    done
}

/// A run in progress.
struct Sending<'a> {
    args: &'a Send,
    message: wire::Send,
    session: &'a Arc<Session>,
    spread: &'a net::Spread,
    report: Report,
    tasks: JoinSet<Sent>,
    tally: Tally,
    out: &'a mut Out,
}

/// What became of one line.
struct Sent {
    line: u64,
    id: String,
    answer: Result<(Ack, u32), CtlError>,
}

/// What became of all of them.
#[derive(Debug, Default)]
struct Tally {
    stored: u64,
    /// Those among them that were stored before.
    before: u64,
    /// Lowest and highest place.
    seqs: Option<(u64, u64)>,
    /// The first line that was refused, and why.
    refused: Option<(u64, CtlError)>,
    refused_count: u64,
    /// Lines of which nobody can say whether they are stored, with their ids.
    open: Vec<(u64, String)>,
    /// The first line that was not sent, if not all were.
    left: Option<u64>,
    interrupted: bool,
}

impl Sending<'_> {
    async fn all(&mut self) -> Result<(), CtlError> {
        let began = Instant::now();
        let mut lines = input::lines();
        let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
        let mut progress = interval(PROGRESS_EVERY);
        let most = usize::from(self.args.in_flight);
        let (mut ended, mut last) = (false, 0);
        while !(ended && self.tasks.is_empty()) {
            tokio::select! {
                biased;
                _ = &mut stop, if !ended => {
                    self.tally.interrupted = true;
                    ended = true;
                }
                Some(sent) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Ok(sent) = sent {
                        ended |= !self.note(sent)?;
                    }
                }
                line = lines.recv(), if !ended && self.tasks.len() < most => match line {
                    Some(Ok(line)) => {
                        last = line.number;
                        self.send(line)?;
                        continue;
                    }
                    Some(Err(error)) => {
                        self.tally.refuse(last + 1, error);
                        ended = true;
                    }
                    None => {
                        ended = true;
                        last = u64::MAX;
                    }
                },
                _ = progress.tick() => {
                    let on = self.tasks.len();
                    self.out.progress(&format!("{} stored, {on} on their way", self.tally.stored));
                }
            }
        }
        self.out.progress("");
        self.tally.left = (last != u64::MAX).then(|| last + 1);
        self.end(began.elapsed())
    }

    fn send(&mut self, line: Line) -> Result<(), CtlError> {
        let id = match &self.args.id {
            Some(id) => format!("{id}-{}", line.number).parse::<MessageId>().map_err(|error| {
                let what = format!("the id of line {}: {error}", line.number);
                CtlError::usage(what, "shorten --id")
            })?,
            None => uuid::Uuid::now_v7()
                .to_string()
                .parse()
                .map_err(|_| CtlError::unexpected("an id that is none"))?,
        };
        let id = id.to_string();
        let send = wire::Send { id: id.clone(), body: line.bytes.into(), ..self.message.clone() };
        let (session, spread, line) = (Arc::clone(self.session), self.spread.clone(), line.number);
        self.tasks.spawn(async move {
            let answer = match session.call_over(Op::Send(send), &spread).await {
                Ok((_, Reply::Ack(ack), retried)) => Ok((ack, retried)),
                Ok(_) => Err(CtlError::unexpected("no acknowledgement")),
                Err(error) => Err(error),
            };
            Sent { line, id, answer }
        });
        Ok(())
    }

    /// Takes note of an answer and shows it. Returns whether more lines are to be sent.
    fn note(&mut self, sent: Sent) -> Result<bool, CtlError> {
        let Sent { line, id, answer } = sent;
        let (ack, retried) = match answer {
            Ok(stored) => stored,
            Err(error) if error.exit_code() == ExitCode::Unknown => {
                self.tally.open.push((line, id));
                return Ok(false);
            }
            Err(error) => {
                self.tally.refuse(line, error);
                return Ok(false);
            }
        };
        self.tally.stored += 1;
        self.tally.before += u64::from(ack.duplicate);
        let (low, high) = self.tally.seqs.unwrap_or((ack.seq, ack.seq));
        self.tally.seqs = Some((low.min(ack.seq), high.max(ack.seq)));
        self.report.answered(&ack.gateway, retried);
        if !self.summed_up() {
            self.out.list(&[AckView::try_from(ack)?])?;
            return Ok(self.out.flush().is_ok());
        }
        Ok(true)
    }

    /// Whether only sums are shown: a person does not want a line for each of a million.
    fn summed_up(&self) -> bool {
        self.args.report || self.out.shape() == Shape::Table
    }

    fn end(&mut self, took: Duration) -> Result<(), CtlError> {
        if self.summed_up() {
            self.report.know(self.session.node_names());
            self.report.show(self.out)?;
        }
        self.out.did(format!("{} messages are stored", self.tally.stored));
        self.out.hand_over();
        if let Some(verdict) = self.tally.verdict(self.args.id.is_some()) {
            return Err(verdict);
        }
        if self.out.is_broken() && self.tally.left.is_some() {
            let what = self.tally.sentence();
            return Err(self.out.cut_short(&what, "run the same with its output to a file"));
        }
        self.out.note(&format!("{} in {:.1} s", self.tally.sentence(), took.as_secs_f64()));
        Ok(())
    }
}

impl Tally {
    fn refuse(&mut self, line: u64, error: CtlError) {
        self.refused_count += 1;
        // Answers come in any order, and a person looks at the first line.
        if self.refused.as_ref().is_none_or(|(before, _)| line < *before) {
            self.refused = Some((line, error));
        }
    }

    fn sentence(&self) -> String {
        let messages = if self.stored == 1 { "message" } else { "messages" };
        let mut parts = vec![match self.seqs {
            Some((low, high)) => {
                let before = match self.before {
                    0 => String::new(),
                    n => format!(", {n} of them before"),
                };
                format!("{} {messages} stored, seq {low} to {high}{before}", self.stored)
            }
            None => "no message stored".to_owned(),
        }];
        if let Some((line, error)) = &self.refused {
            parts.push(format!("line {line} was refused: {}", error.line()));
            if self.refused_count > 1 {
                parts.push(format!("{} more were refused", self.refused_count - 1));
            }
        }
        if !self.open.is_empty() {
            let ids = self.open.iter().take(IDS_SAID);
            let ids: Vec<String> = ids.map(|(line, id)| format!("line {line} (id {id})")).collect();
            let more = self.open.len().saturating_sub(IDS_SAID);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            parts.push(format!("whether these are is not known: {}{more}", ids.join(", ")));
        }
        if let Some(left) = self.left {
            parts.push(format!("line {left} and what follows it was not sent"));
        }
        parts.join("; ")
    }

    /// An error if anything else than the end of the input ended it.
    fn verdict(&mut self, named: bool) -> Option<CtlError> {
        let code = match (&self.refused, self.open.is_empty(), self.interrupted) {
            (_, false, _) => ExitCode::Unknown,
            (Some((_, error)), true, _) => error.exit_code(),
            (None, true, true) => ExitCode::Interrupted,
            (None, true, false) => return None,
        };
        let again = "run the same again with the same --id: no line is stored twice";
        let hint = match (&self.refused, self.left) {
            // The same again would be refused again.
            (Some((_, error)), _) if self.open.is_empty() && named => {
                format!("{}; then {again}", error.hint())
            }
            (Some((_, error)), _) if self.open.is_empty() => error.hint(),
            _ if named => again.to_owned(),
            (_, Some(left)) => format!(
                "send those again one by one with --id, and the rest: tail -n +{left} FILE | \
                 logctl send --lines"
            ),
            (_, None) => "send those again one by one with --id".to_owned(),
        };
        Some(CtlError::refused(code, self.sentence(), hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: ExitCode) -> CtlError {
        CtlError::refused(code, "no client 'bob'", "logctl clients")
    }

    /// Meant to catch: the refusal before the doubt: who got 5 did not look for what may be stored. Seen to
    /// fail with: whoever gave ids told to run it again, whatever was refused.
    #[test]
    fn doubt_comes_before_a_refusal() {
        let mut tally = Tally { stored: 3, seqs: Some((5, 9)), left: Some(8), ..Tally::default() };
        assert!(tally.verdict(false).is_none(), "the end of the input is no error");
        tally.refuse(7, refused(ExitCode::NotFound));
        tally.refuse(6, refused(ExitCode::NotFound));
        let error = tally.verdict(false).unwrap();
        assert_eq!(
            (error.exit_code(), error.hint().as_str()),
            (ExitCode::NotFound, "logctl clients")
        );
        let named = tally.verdict(true).unwrap().hint();
        assert!(named.starts_with("logctl clients; then run the same"), "{named}");
        assert_eq!(
            error.line(),
            "3 messages stored, seq 5 to 9; line 6 was refused: no client 'bob'; 1 more were refused; \
             line 8 and what follows it was not sent"
        );
        tally.open.push((4, "m-4".to_owned()));
        let error = tally.verdict(false).unwrap();
        assert_eq!(error.exit_code(), ExitCode::Unknown);
        assert!(error.line().contains("not known: line 4 (id m-4)"), "{}", error.line());
        assert!(error.hint().contains("tail -n +8"), "{}", error.hint());
        assert!(tally.verdict(true).unwrap().hint().contains("same --id"));
    }
}
