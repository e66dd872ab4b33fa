//! Followed reads: page after page, until the client goes, the range is over, or the node serves no more.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use clock::Hlc;
use proto::wire::{Op, Page, Position, Read};
use proto::{ErrorCode, Failure};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use views::page::{Ended, Moved, Safe};
use views::refusal::RefusalView;

use crate::node::Deadline;
use crate::pause;

use super::answer::{Refused, UNCACHED};
use super::asking::Asking;
use super::page::{Writer, event, line};

/// How often a reader is told up to where it has everything.
const SAFE_EVERY: Duration = Duration::from_secs(5);
/// What comes first to a reader of events: it comes again after so long if it loses this node.
const RETRY: &[u8] = b"retry: 500\n\n";

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Server-sent events.
    Events,
    /// A line each.
    Lines,
}

/// Begins a followed read, and answers once it has begun.
///
/// # Errors
/// When it cannot.
pub(super) async fn begin(
    asking: Asking,
    read: Read,
    form: Form,
    writer: Writer,
) -> Result<Response, Refused> {
    let (begun, has_begun) = oneshot::channel();
    let (to, mut from) = mpsc::channel::<Bytes>(1);
    let requests = asking.front.0.server.requests.clone();
    let began_at = read.after.first().copied();
    let following = Following { asking, form, writer, to, last: None, began_at };
    // Tracked: a node that stops says where to go on before it goes.
    drop(requests.spawn_on(pause::inherit(following.run(read, begun)), &Handle::current()));
    match has_begun.await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => return Err(failure.into()),
        Err(_) => {
            return Err(Failure::new(ErrorCode::Stopping, "the node is stopping").into());
        }
    }
    let pieces = futures::stream::poll_fn(move |cx| {
        from.poll_recv(cx).map(|piece| piece.map(Ok::<_, Infallible>))
    });
    let kind = match form {
        Form::Events => "text/event-stream",
        Form::Lines => "application/x-ndjson",
    };
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(kind)), UNCACHED];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

struct Following {
    asking: Asking,
    form: Form,
    writer: Writer,
    to: mpsc::Sender<Bytes>,
    /// Up to where the reader has everything, and the place behind it.
    last: Option<(Hlc, Position)>,
    /// Where it was before this answer, if it said so.
    began_at: Option<Position>,
}

/// Nobody reads any more.
struct Gone;

impl Following {
    async fn run(mut self, read: Read, begun: oneshot::Sender<Result<(), Failure>>) {
        let front = self.asking.front.clone();
        let principal = self.asking.principal.clone();
        let request = self.asking.request(Op::Read(read.clone()));
        let server = &front.0.server;
        let followed = server.followed(&principal, &read, Deadline::of(&request)).await;
        let mut followed = match followed {
            Ok(followed) => followed,
            Err(failure) => {
                drop(begun.send(Err(failure)));
                return;
            }
        };
        if begun.send(Ok(())).is_err() {
            return;
        }
        if self.form == Form::Events && self.send(RETRY.to_vec()).await.is_err() {
            return;
        }
        if server.node.is_drained() && self.moved().leads_on() {
            // Whoever reads by the list of nodes would not have come.
            let drained = Failure::new(ErrorCode::Stopping, "the node is drained");
            drop(self.end(&drained).await);
            return;
        }
        let mut safe = tokio::time::interval(SAFE_EVERY);
        safe.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        safe.reset();
        loop {
            let gone = self.to.clone();
            let next = tokio::select! {
                () = gone.closed() => return,
                next = followed.next() => next,
                _ = safe.tick() => {
                    if self.tell_safe().await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let went = match next {
                Ok(Some(page)) => self.page(page).await,
                Ok(None) => return,
                Err(failure) => {
                    // Nobody who is gone can be told.
                    drop(self.end(&failure).await);
                    return;
                }
            };
            match went {
                Ok(()) => {}
                Err(Some(failure)) => {
                    drop(self.end(&failure).await);
                    return;
                }
                Err(None) => return,
            }
        }
    }

    async fn send(&mut self, text: Vec<u8>) -> Result<(), Gone> {
        if text.is_empty() {
            return Ok(());
        }
        self.to.send(Bytes::from(text)).await.map_err(|_| Gone)
    }

    /// Writes a page. `Err(None)`: nobody reads any more.
    async fn page(&mut self, page: Page) -> Result<(), Option<Failure>> {
        let last = Hlc::from_slice(&page.safe).zip(page.next.first().copied());
        let first = self.last.is_none();
        let whole = page.end;
        let text = match self.form {
            Form::Events => self.writer.events(page),
            Form::Lines => self.writer.lines(page),
        };
        let text = text.map_err(Some)?;
        // Two pages at most are on their way.
        self.asking.held.grow_to(text.len()).map_err(Some)?;
        self.send(text).await.map_err(|Gone| None)?;
        self.last = last;
        if first && whole {
            self.tell_safe().await.map_err(|Gone| None)?;
        }
        Ok(())
    }

    /// Says up to where the reader has everything; to a reader of lines, that somebody is here.
    async fn tell_safe(&mut self) -> Result<(), Gone> {
        let text = match (self.form, &self.last) {
            (Form::Events, Some((safe, place))) => {
                event(Some("safe"), Some(place), &Safe::new(*safe, place))
            }
            (Form::Events, None) => Ok(b": still here\n\n".to_vec()),
            (Form::Lines, _) => Ok(b"\n".to_vec()),
        };
        // Plain numbers can always be written.
        self.send(text.unwrap_or_default()).await
    }

    /// Where the reader is.
    fn place(&self) -> Option<Position> {
        self.last.as_ref().map(|(_, place)| *place).or(self.began_at)
    }

    fn moved(&self) -> Moved {
        let node = &self.asking.front.0.server.node;
        Moved::new(self.place().as_ref(), &node.nodes(), node.name().as_str())
    }

    /// Says why it ends here, and where it goes on.
    async fn end(&mut self, failure: &Failure) -> Result<(), Gone> {
        let place = self.place();
        let leaves = matches!(failure.error_code(), ErrorCode::Stopping | ErrorCode::Repairing);
        let text = if leaves {
            let moved = self.moved();
            match self.form {
                Form::Events => event(Some("moved"), place.as_ref(), &moved),
                Form::Lines => line(&Ended::Moved(moved)),
            }
        } else {
            let problem = RefusalView::new(failure, None);
            match self.form {
                Form::Events => event(Some("problem"), place.as_ref(), &problem),
                Form::Lines => line(&Ended::Error(problem)),
            }
        };
        self.send(text.unwrap_or_default()).await
    }
}
