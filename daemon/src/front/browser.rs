//! The page for people: its files, and the rules under which a browser shows them. Everybody may have them, for
//! they tell nothing; what they show they ask of `/v1` and `/metrics` as every client does.
//!
//! Invariant: the page only reads, and a browser runs nothing here that is not one of these files.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;

use super::answer::json;
use super::sign_in;
use super::visit::{Caller, Visit};

/// Only files of this node, nothing inline, nothing evaluated, and in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// A file of the page.
struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

/// One of ours, below `daemon/page`.
macro_rules! file {
    ($path:literal, $kind:expr, $file:literal) => {
        File { path: $path, kind: $kind, bytes: include_bytes!(concat!("../../page/", $file)) }
    };
}

/// All of them, and where they are served.
const FILES: &[File] = &[
    file!("/", HTML, "index.html"),
    file!("/favicon.ico", PICTURE, "icon.svg"),
    file!("/page/page.css", STYLE, "page.css"),
    file!("/page/page.js", SCRIPT, "page.js"),
    file!("/page/node.js", SCRIPT, "node.js"),
    file!("/page/view.js", SCRIPT, "view.js"),
    file!("/page/time.js", SCRIPT, "time.js"),
    file!("/page/draw.js", SCRIPT, "draw.js"),
    file!("/page/clock.js", SCRIPT, "clock.js"),
    file!("/page/order.js", SCRIPT, "order.js"),
    file!("/page/life.js", SCRIPT, "life.js"),
    file!("/page/messages.js", SCRIPT, "messages.js"),
    file!("/page/replication.js", SCRIPT, "replication.js"),
    file!("/page/trust.js", SCRIPT, "trust.js"),
    file!("/page/uPlot.js", SCRIPT, "vendor/uPlot.iife.min.js"),
    file!("/page/uPlot.css", STYLE, "vendor/uPlot.min.css"),
    file!("/page/uPlot.LICENSE", TEXT, "vendor/uPlot.LICENSE"),
];

/// What a browser may make of an answer that is none of the files: nothing, even if it is led there.
const NO_PAGE: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Where the page asks who looks at it.
const WHO: &str = "/page/who";

/// The files, and who looks at them.
pub(super) fn paths() -> Router<Visit> {
    let files = FILES.iter().fold(Router::new(), |router, file| {
        router
            .route(file.path, get(move |headers: HeaderMap| async move { served(file, &headers) }))
    });
    let sign = post(sign_in::sign_in).delete(sign_in::sign_out);
    files.route(WHO, get(who)).route(sign_in::PATH, sign)
}

/// All paths that are the page's own, and described to nobody.
#[cfg(test)]
pub(super) fn all_paths() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|file| file.path).chain([WHO, sign_in::PATH])
}

/// Says of every answer that it is what it says it is, and of those that are none of the files that nothing
/// in them is to be run.
pub(super) async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(NO_PAGE);
    response
}

fn served(file: &'static File, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}-{:08x}\"", env!("CARGO_PKG_VERSION"), crc32c::crc32c(file.bytes));
    // What packs an answer on its way may call its tag a weak one.
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let known = known.flat_map(|tags| tags.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag
    });
    let rules = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (OPENER_POLICY, "same-origin"),
        (RESOURCE_POLICY, "same-origin"),
        // Asked for each time, and sent where it has changed: a node may be of the next release by now.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_TYPE, file.kind),
    ];
    let (status, bytes) =
        if known { (StatusCode::NOT_MODIFIED, &[][..]) } else { (StatusCode::OK, file.bytes) };
    (status, rules, [(ETAG, tag)], Bytes::from_static(bytes)).into_response()
}

/// Who looks at the page, as this node sees it.
#[derive(Debug, Serialize)]
struct Who {
    /// The node that serves the page.
    node: String,
    /// The name; `null` for whoever has not proven one.
    name: Option<String>,
    /// `client` or `admin`.
    role: Option<&'static str>,
    /// Whether an access token said so, from which one can sign out.
    by_token: bool,
    version: &'static str,
}

/// Says it to strangers, too, and never with an error: a page that is not signed in is no fault.
async fn who(State(visit): State<Visit>, headers: HeaderMap) -> Response {
    let known = visit.known(&headers).await.ok().map(|(principal, _)| principal.identity);
    let who = Who {
        node: visit.front.0.server.node.name().to_string(),
        name: known.as_ref().map(|identity| identity.name.to_string()),
        role: known.as_ref().map(|identity| identity.role.label()),
        by_token: known.is_some() && matches!(visit.caller, Caller::Nobody(_)),
        version: env!("CARGO_PKG_VERSION"),
    };
    json(StatusCode::OK, &who)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the page may weigh, all of it: it comes over slow lines to whoever looks after a cluster.
    const BYTES_MAX: usize = 120 << 10;

    /// Seen to fail with a file of the folder that is not served, and with a script inside the page.
    #[test]
    fn the_page_is_small_and_holds_nothing_inline() {
        let bytes: usize = FILES.iter().map(|file| file.bytes.len()).sum();
        assert!(bytes <= BYTES_MAX, "{bytes} bytes");
        let page = std::str::from_utf8(FILES[0].bytes).unwrap();
        for inline in
            [" style=", "<style", " onclick=", " onload=", "javascript:", "http:", "https:"]
        {
            assert!(!page.contains(inline), "{inline} in index.html");
        }
        for script in page.split("<script").skip(1) {
            assert!(script.contains("></script>"), "a script inside the page: {script}");
        }
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let mut names: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        names.extend(std::fs::read_dir(folder.join("vendor")).unwrap().map(|e| e.unwrap().path()));
        names.retain(|path| path.is_file());
        assert_eq!(names.len(), FILES.len(), "not served, or served twice: {names:?}");
    }

    /// Meant to catch: a script that is imported by a name that no file has.
    #[test]
    fn whatever_the_files_refer_to_is_served() {
        let served = |path: &str| FILES.iter().any(|file| file.path == path);
        let ours = FILES.iter().filter(|file| !file.path.contains("uPlot"));
        for (path, bytes) in ours.map(|file| (file.path, file.bytes)) {
            let text = std::str::from_utf8(bytes).unwrap();
            for mark in ["href=\"/", "src=\"/"] {
                for rest in text.split(mark).skip(1) {
                    let to = format!("/{}", rest.split('"').next().unwrap());
                    assert!(served(&to), "{path} refers to {to}");
                }
            }
            for rest in text.split("from \"./").skip(1) {
                let to = format!("/page/{}", rest.split('"').next().unwrap());
                assert!(served(&to), "{path} imports {to}");
            }
        }
    }
}
