//! Answers: JSON, and errors as problem documents.

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use proto::{ErrorCode, Failure};
use serde::Serialize;
use views::Unreadable;
use views::refusal::{RefusalView, retry_after_s};

use super::asking::Asking;

/// The media type of an error (RFC 9457).
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
/// That of everything else.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What a node says of itself and its log is true for a moment.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// How somebody can say who it is.
const CERTIFICATE: HeaderValue = HeaderValue::from_static("Certificate, Bearer");

/// For an answer that is put together by hand.
pub(super) const UNCACHED: (HeaderName, HeaderValue) = (CACHE_CONTROL, NO_STORE);

/// What is said of an answer that cannot be shown.
pub(super) fn unreadable(error: Unreadable) -> Failure {
    Failure::new(ErrorCode::Internal, error)
}

/// A refusal, with the status where the code alone does not say it.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    failure: Failure,
    status: Option<u16>,
}

impl Refused {
    /// With a status of its own.
    pub(super) fn with(failure: Failure, status: u16) -> Self {
        Self { failure, status: Some(status) }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure, status: None }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let view = RefusalView::new(&self.failure, self.status);
        let status = StatusCode::from_u16(view.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json_as(status, &view, PROBLEM);
        if let Some(after_s) = retry_after_s(&self.failure) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after_s));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, CERTIFICATE);
        }
        response
    }
}

/// Tells whoever asks that the same may be answered otherwise in a moment.
pub(super) const IN_A_MOMENT: (HeaderName, HeaderValue) =
    (RETRY_AFTER, HeaderValue::from_static("1"));

/// An answer that may be long.
///
/// # Errors
/// `Busy` when it is more than the client's share.
pub(super) fn long(
    asking: Asking,
    status: StatusCode,
    text: Vec<u8>,
    kind: &'static str,
) -> Result<Response, Failure> {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CONTENT_LENGTH, HeaderValue::from(text.len())),
        UNCACHED,
    ];
    Ok((status, headers, asking.long(text)?).into_response())
}

/// Something as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    json_as(status, value, JSON)
}

fn json_as(status: StatusCode, value: &impl Serialize, kind: HeaderValue) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, NO_STORE)];
            (status, headers, Body::from(text)).into_response()
        }
        // What is shown is plain data; there is no such case, and no text to tell of it in.
        Err(error) => {
            tracing::error!(%error, code = ErrorCode::Internal.word(), "cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
