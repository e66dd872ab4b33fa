//! `/metrics`: what the node tells Prometheus, and what of HTTPS it counts for that.

use axum::extract::{MatchedPath, Request as HttpRequest, State};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use proto::wire::{Empty, Op, Reply, Request};
use proto::{ErrorCode, Failure};

use super::answer::Refused;
use super::visit::{Caller, Visit};

/// The route of a path that is none.
const NOWHERE: &str = "none";

/// What a scrape returns.
pub(super) async fn metrics(
    State(visit): State<Visit>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let front = &visit.front.0;
    let open = match &visit.caller {
        Caller::Nobody(_) => front.open_metrics,
        Caller::Node(peer) => front.server.node.is_member_key(peer),
        Caller::Known(..) | Caller::Refused(_) => false,
    };
    let text = match visit.known(&headers).await {
        Ok((principal, _)) => {
            let request = Request { op: Some(Op::Metrics(Empty {})), ..Request::default() };
            match front.server.answer(&principal, request).await.reply {
                Some(Reply::Metrics(metrics)) => metrics.text,
                Some(Reply::Failure(failure)) => return Err(failure.into()),
                _ => return Err(Failure::new(ErrorCode::Internal, "no metrics").into()),
            }
        }
        Err(_) if open => front.metrics.asked(|| Box::pin(front.server.node.metrics_text())).await,
        Err(refused) => return Err(refused),
    };
    let headers = [(CONTENT_TYPE, views::metrics::CONTENT_TYPE), (CACHE_CONTROL, "no-store")];
    Ok((headers, text).into_response())
}

/// Counts an answered request by its route as the router has it, never by its path.
pub(super) async fn count(
    State(visit): State<Visit>,
    request: HttpRequest,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or(NOWHERE, MatchedPath::as_str);
    visit.front.0.server.node.count_http(route, response.status().as_u16());
    response
}
