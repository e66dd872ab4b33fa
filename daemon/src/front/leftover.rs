//! What a handler leaves of a body is read all the same, over HTTP/2, before its answer goes.
//!
//! A stream that is dropped with a part of its body unread is reset, and the reset may overtake the answer:
//! the caller would not know that what it asked for is done. HTTP/1.1 ends the connection behind the answer.

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
use tokio::time::timeout;

use super::asking::{DRAINED_BYTES_MAX, REQUEST_TIME};

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
    if request.version() != Version::HTTP_2 {
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
        drop(timeout(REQUEST_TIME, rest).await);
    }
    response
}
