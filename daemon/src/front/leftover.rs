//! What a handler leaves of a body is read all the same before its answer goes.
//!
//! A stream that is dropped with a part of its body unread is reset, and the reset may overtake the answer:
//! the caller would not know that what it asked for is done. Over HTTP/1.1 it is left where the caller says how
//! much comes: it may wait for a word before it sends that.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::Request as HttpRequest;
use axum::http::Version;
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::asking::REQUEST_TIME;

/// What is taken of a body that nobody wants.
const DRAINED_BYTES_MAX: usize = 64 << 20;

/// A body that goes back to its lender if it is dropped before its end.
struct Lent {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.body);
        if let Some(back) = self.back.take()
            && !body.is_end_stream()
        {
            // Nobody waits for it where the caller is gone.
            drop(back.send(body));
        }
    }
}

/// Answers, and reads first what is left of the body: so much at most, and no longer than a request takes.
pub(super) async fn read(request: HttpRequest, next: Next) -> Response {
    let (told, until) = (request.body().size_hint().lower(), Instant::now() + REQUEST_TIME);
    let waits = request.version() != Version::HTTP_2 && told > 0;
    if waits || told > DRAINED_BYTES_MAX as u64 {
        return next.run(request).await;
    }
    let (back, mut left) = oneshot::channel();
    let lend = |body| Body::new(Lent { body, back: Some(back) });
    let response = next.run(request.map(lend)).await;
    if let Ok(body) = left.try_recv() {
        let rest = async {
            let (mut pieces, mut read) = (body.into_data_stream(), 0);
            while let Some(Ok(piece)) = pieces.next().await {
                read += piece.len();
                if read > DRAINED_BYTES_MAX {
                    break;
                }
            }
        };
        // Whoever sends no more gets the answer, and the reset behind it.
        drop(timeout_at(until, rest).await);
    }
    response
}
