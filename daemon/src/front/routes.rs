//! The paths. Each stands here, and nowhere else.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use proto::{ErrorCode, Failure};

use super::answer::Refused;
use super::health;
use super::visit::Visit;

/// What is served to one connection.
pub(super) fn router() -> Router<Visit> {
    Router::new().merge(open()).fallback(no_path).method_not_allowed_fallback(no_method)
}

/// What everybody may ask, without a certificate: how this node is, for probes.
fn open() -> Router<Visit> {
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/startupz", get(health::started))
        .route("/healthz", get(health::healthy))
}

/// Nobody is told which paths there are before it says who it is.
async fn no_path(State(visit): State<Visit>) -> Refused {
    match visit.known() {
        Ok(_) => {
            Failure::new(ErrorCode::NotFound, "there is no such path: see docs/http.md").into()
        }
        Err(refused) => refused,
    }
}

async fn no_method(State(visit): State<Visit>) -> Refused {
    let failure = Failure::new(ErrorCode::Invalid, "this path is not asked by that method");
    visit.known().map_or_else(|refused| refused, |_| Refused::with(failure, 405))
}
