//! One request of a client, from its first byte to the last of its answer, within the client's shares.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequestParts, Path};
use axum::http::header::{ACCEPT, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use bytes::{Bytes, BytesMut};
use clock::Hlc;
use dialects::http::Query;
use futures::StreamExt as _;
use net::ClientRequest;
use proto::limits::PAGE_BYTES_MAX;
use proto::wire::{Op, Reply, Request};
use proto::{ErrorCode, Failure};
use serde::de::DeserializeOwned;

use crate::node::Principal;
use crate::pause;

use super::Front;
use super::answer::Refused;
use super::visit::Visit;

/// Time for a request to come in whole.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Pieces in which a long answer is handed over: what is not taken yet stays counted.
const PIECE_BYTES: usize = 64 << 10;

/// The highest stamp that the caller has seen: what it sends gets a later one.
const AFTER: HeaderName = HeaderName::from_static("logd-after");
/// How long the cluster may work on the request, in milliseconds.
const TIMEOUT: HeaderName = HeaderName::from_static("logd-timeout-ms");

/// A request of a client.
pub(super) struct Asking {
    pub(super) front: Front,
    pub(super) principal: Principal,
    /// Its place among the client's requests.
    pub(super) held: ClientRequest,
    pub(super) deadline_ms: u32,
    pub(super) causal_token: Vec<u8>,
}

/// What a handler of a client's path begins with: who is no client does not come so far.
pub(super) struct Question {
    pub(super) asking: Asking,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
}

impl FromRequestParts<Visit> for Question {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, visit: &Visit) -> Result<Self, Refused> {
        let asking = visit.asking(parts).await?;
        let query = Query::read(parts.uri.query())?;
        Ok(Self { asking, query, headers: parts.headers.clone() })
    }
}

impl Question {
    /// The request, where the path has no parameters.
    ///
    /// # Errors
    /// When some are given.
    pub(super) fn alone(self) -> Result<Asking, Failure> {
        self.query.end()?;
        Ok(self.asking)
    }

    /// Whether a media type is asked for by name.
    ///
    /// # Errors
    /// When what is asked for is no text.
    pub(super) fn accepts(&self, kind: &str) -> Result<bool, Failure> {
        let mut kinds = Vec::new();
        for value in self.headers.get_all(ACCEPT) {
            let text = value.to_str();
            kinds.extend(text.map_err(|error| Failure::new(ErrorCode::Invalid, error))?.split(','));
        }
        let name =
            |text: &str| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Ok(kinds.into_iter().any(|text| name(text) == kind))
    }
}

/// What stands in the path. To be taken after [`Question`]: strangers are refused first.
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Visit> for InPath<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, visit: &Visit) -> Result<Self, Refused> {
        let path = Path::from_request_parts(parts, visit).await;
        let read = path.map(|Path(inside)| Self(inside));
        Ok(read.map_err(|error| Failure::new(ErrorCode::Invalid, error))?)
    }
}

/// Something that is written so: a name, an id.
///
/// # Errors
/// When it is none.
pub(super) fn parsed<T>(text: &str) -> Result<T, Failure>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse().map_err(|error| Failure::new(ErrorCode::Invalid, error))
}

impl Visit {
    /// Begins a request of a client.
    ///
    /// # Errors
    /// For strangers; for a client that has too much open; when a header of ours is not understood.
    async fn asking(&self, parts: &Parts) -> Result<Asking, Refused> {
        let headers = &parts.headers;
        let (principal, seat) = self.known(headers).await?;
        let held = seat.request()?;
        let server = &self.front.0.server;
        let now_ns = server.node.node_clock().reading().now_ns;
        server.node.sessions().seen(&principal.identity.name, now_ns);
        let deadline_ms = match header(headers, &TIMEOUT)? {
            None => 0,
            Some(text) => text.parse().ok().filter(|&ms: &u32| ms > 0).ok_or_else(|| {
                let message = format!("{TIMEOUT}: '{text}' is no number of milliseconds");
                Failure::new(ErrorCode::Invalid, message)
            })?,
        };
        let causal_token = match header(headers, &AFTER)? {
            None => Vec::new(),
            Some(text) => {
                let stamp = text.parse::<Hlc>().map_err(|error| {
                    Failure::new(ErrorCode::Invalid, format!("{AFTER}: {error}"))
                })?;
                stamp.to_bytes().to_vec()
            }
        };
        let front = self.front.clone();
        Ok(Asking { front, principal, held, deadline_ms, causal_token })
    }
}

/// The text of a header; `None` if it is not there.
///
/// # Errors
/// When it is no text, or there twice.
pub(super) fn header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Failure> {
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next(), values.next()) else {
        return Err(Failure::new(ErrorCode::Invalid, format!("{name} is given twice")));
    };
    let text = value.map(HeaderValue::to_str).transpose();
    text.map_err(|_| Failure::new(ErrorCode::Invalid, format!("{name} is no plain text")))
}

impl Asking {
    /// What comes in the body, as far as the client's share allows.
    ///
    /// # Errors
    /// When it is longer than that, longer than `most`, or does not come.
    pub(super) async fn body(&mut self, body: Body, most: usize) -> Result<Bytes, Refused> {
        // What is left of it, `leftover` reads.
        if body.size_hint().lower() > most as u64 {
            return Err(too_long(most));
        }
        let read = async {
            let (mut pieces, mut whole) = (body.into_data_stream(), BytesMut::new());
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(|error| {
                    Failure::new(ErrorCode::Invalid, format!("the body did not come: {error}"))
                })?;
                if whole.len() + piece.len() > most {
                    return Err(too_long(most));
                }
                whole.extend_from_slice(&piece);
                self.held.grow_to(whole.len())?;
            }
            Ok(whole.freeze())
        };
        tokio::time::timeout(REQUEST_TIME, read).await.unwrap_or_else(|_| {
            let message = format!("the body did not come in {} s", REQUEST_TIME.as_secs());
            Err(Refused::with(Failure::new(ErrorCode::Deadline, message), 408))
        })
    }

    /// The request for what is asked.
    pub(super) fn request(&self, op: Op) -> Request {
        let (deadline_ms, causal_token) = (self.deadline_ms, self.causal_token.clone());
        Request { deadline_ms, causal_token, op: Some(op) }
    }

    /// Asks the node, as every client does. It is done to its end, whether or not the client stays.
    ///
    /// # Errors
    /// What the node answers instead.
    pub(super) async fn ask(&self, op: Op) -> Result<Reply, Failure> {
        if op.is_long() {
            self.held.has_room(PAGE_BYTES_MAX)?;
        }
        let (front, principal, request) =
            (self.front.clone(), self.principal.clone(), self.request(op));
        let answer = pause::spawn(async move { front.0.server.answer(&principal, request).await });
        match answer.await.map(|response| response.reply) {
            Ok(Some(Reply::Failure(failure))) => Err(failure),
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(unexpected()),
            Err(error) => {
                Err(Failure::new(ErrorCode::Internal, format!("it was not answered: {error}")))
            }
        }
    }

    /// A long answer, whose bytes stay counted until the client has taken them.
    ///
    /// # Errors
    /// `Busy` when that is more than the client's share.
    pub(super) fn long(mut self, text: Vec<u8>) -> Result<Body, Failure> {
        self.held.grow_to(text.len())?;
        let left = (Bytes::from(text), self.held);
        let pieces = futures::stream::unfold(left, |(mut rest, held)| async move {
            if rest.is_empty() {
                return None;
            }
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            Some((Ok::<_, Infallible>(piece), (rest, held)))
        });
        Ok(Body::from_stream(pieces))
    }
}

/// What is said of a body that is longer than it may be.
pub(super) fn too_long(most: usize) -> Refused {
    Refused::with(
        Failure::new(ErrorCode::Invalid, format!("a body of more than {most} bytes")),
        413,
    )
}

/// What is said of an answer that nobody asked for.
pub(super) fn unexpected() -> Failure {
    Failure::new(ErrorCode::Internal, "the node gave another answer than was asked for")
}
