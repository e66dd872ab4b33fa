//! Signing in to the page with an access token, where a browser shows no certificate: it is kept in a cookie.
//!
//! Invariant: by a cookie one only reads. So no other site can have something changed by somebody who is
//! signed in here, whatever a browser sends along.

use axum::extract::{Request as HttpRequest, State};
use axum::http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use proto::access::AccessToken;
use proto::{ErrorCode, Failure};

use super::answer::{Refused, UNCACHED};
use super::visit::{Caller, Visit, shown_token};

/// Where the page signs in and out.
pub(super) const PATH: &str = "/page/sign-in";

/// A name that browsers take only from this host itself, over HTTPS and for all paths.
const NAME: &str = "__Host-logd";
/// Read by no script, sent with nothing that another site begins, and forgotten when the browser ends.
const KEPT_SO: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";

/// Has the browser keep the token that it shows, if that is good.
pub(super) async fn sign_in(
    State(visit): State<Visit>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let Caller::Nobody(_) = &visit.caller else {
        let failure = Failure::new(ErrorCode::Invalid, "a certificate says already who you are");
        return Err(failure.into());
    };
    visit.known(&headers).await?;
    // Written anew, so that nothing comes into the cookie that is no token.
    let token = shown_token(&headers)?.encode();
    cookie(&format!("{NAME}={token}; {KEPT_SO}"))
}

/// Has the browser forget it.
pub(super) async fn sign_out() -> Result<Response, Refused> {
    cookie(&format!("{NAME}=; Max-Age=0; {KEPT_SO}"))
}

fn cookie(text: &str) -> Result<Response, Refused> {
    let value = HeaderValue::from_str(text)
        .map_err(|error| Failure::new(ErrorCode::Internal, format!("no cookie: {error}")))?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, value), UNCACHED]).into_response())
}

/// Takes the token that is kept in the cookie for one that is shown, where something is read and none is.
pub(super) async fn by_cookie(mut request: HttpRequest, next: Next) -> Response {
    let headers = request.headers();
    if request.method().is_safe()
        && !headers.contains_key(AUTHORIZATION)
        && let Some(token) = kept(headers)
        && let Ok(shown) = HeaderValue::from_str(&format!("Bearer {}", token.encode()))
    {
        request.headers_mut().insert(AUTHORIZATION, shown);
    }
    next.run(request).await
}

fn kept(headers: &HeaderMap) -> Option<AccessToken> {
    let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|one| one.split_once('='));
    let (_, text) = pairs.find(|(name, _)| name.trim() == NAME)?;
    AccessToken::decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Meant to catch: the cookie of another, a cut one, and one that is looked for in the first header alone.
    #[test]
    fn only_a_whole_token_of_our_cookie_is_taken() {
        let text = AccessToken { id: [7; _], secret: [9; _] }.encode();
        let kept_of = |cookies: &[&str]| {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(COOKIE, HeaderValue::from_str(cookie).unwrap());
            }
            kept(&headers).map(|token| token.encode())
        };
        let ours = format!("{NAME}={text}");
        assert_eq!(kept_of(&[&ours]), Some(text.clone()));
        assert_eq!(kept_of(&["a=b", &format!("theme=dark; {ours}")]), Some(text.clone()));
        assert_eq!(kept_of(&[&format!("logd={text}")]), None);
        assert_eq!(kept_of(&[&ours[..ours.len() - 1]]), None);
        assert_eq!(kept_of(&[]), None);
    }
}
