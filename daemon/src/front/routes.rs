//! The paths. Each stands here, or, where it is for the page alone, in `browser`; and nowhere else.

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::routing::{get, put};
use proto::{ErrorCode, Failure};

use super::answer::Refused;
use super::visit::Visit;
use super::{browser, cluster, health, leftover, messages, metrics, openapi, report, sign_in};

/// What is served to one connection.
pub(super) fn router(visit: Visit) -> Router {
    let paths = Router::new()
        .merge(open())
        .merge(browser::paths())
        .route("/metrics", get(metrics::metrics))
        .nest("/v1", clients())
        .fallback(no_path)
        .method_not_allowed_fallback(no_method);
    paths
        .layer(from_fn(leftover::read))
        .layer(from_fn(sign_in::by_cookie))
        .layer(map_response(browser::guarded))
        .layer(from_fn_with_state(visit.clone(), metrics::count))
        .with_state(visit)
}

/// What everybody may ask, without a certificate: how this node is, for probes.
fn open() -> Router<Visit> {
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/startupz", get(health::started))
        .route("/healthz", get(health::healthy))
}

/// What is for clients alone: each handler takes `asking::Question`, which refuses everybody else.
fn clients() -> Router<Visit> {
    Router::new()
        .route("/messages", get(messages::list).post(messages::post))
        .route("/messages/{id}", get(messages::get).put(messages::put).delete(messages::delete))
        .route("/openapi.json", get(openapi::document))
        .route("/events", get(messages::events))
        .route("/status", get(cluster::status))
        .route("/nodes", get(cluster::nodes))
        .route("/clock", get(cluster::clock))
        .route("/clock/report", get(report::get))
        .route("/members", get(cluster::members))
        .route("/verify", get(cluster::verify))
        .route("/settings", get(cluster::settings))
        .route("/settings/{name}", put(cluster::set_setting))
        .route("/cursors/{name}", put(cluster::set_cursor))
        .route("/groups", get(cluster::groups))
        .route(
            "/groups/{name}",
            get(cluster::group).put(cluster::create_group).delete(cluster::delete_group),
        )
        .route(
            "/groups/{name}/members/{member}",
            put(cluster::add_member).delete(cluster::remove_member),
        )
        .route("/kv", get(cluster::keys))
        .route("/kv/{*key}", get(cluster::key).put(cluster::put_key).delete(cluster::delete_key))
}

/// Nobody is told which paths there are before it says who it is.
async fn no_path(State(visit): State<Visit>, headers: HeaderMap) -> Refused {
    match visit.known(&headers).await {
        Ok(_) => {
            Failure::new(ErrorCode::NotFound, "there is no such path: see docs/http.md").into()
        }
        Err(refused) => refused,
    }
}

async fn no_method(State(visit): State<Visit>, headers: HeaderMap) -> Refused {
    let failure = Failure::new(ErrorCode::Invalid, "this path is not asked by that method");
    visit.known(&headers).await.map_or_else(|refused| refused, |_| Refused::with(failure, 405))
}
