//! The page for people, as a browser gets it.

use tests::Cluster;
use tests::curl::Curl;
use tests::patience::{until, when};

/// The rules under which a browser shows it.
const RULES: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Meant to catch: a file without the rules, one that is sent again though nothing changed, and a method
/// that changes something.
#[test]
fn everybody_gets_the_page_with_its_rules() {
    let cluster = Cluster::start(1).unwrap();
    let Some(stranger) = Curl::stranger(&cluster).unwrap() else { return };
    let base = format!("https://{}", cluster.address("n1").unwrap());
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page/page.js", "text/javascript; charset=utf-8"),
        ("/page/uPlot.LICENSE", "text/plain; charset=utf-8"),
        ("/favicon.ico", "image/svg+xml"),
    ] {
        let url = format!("{base}{path}");
        let whole = stranger.ask(&[&url]).unwrap();
        assert_eq!((whole.status, whole.header("content-type")), (200, kind), "{path}");
        let head = stranger.ask(&["-I", &url]).unwrap();
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-length"), whole.body.len().to_string(), "{path}");
        let tag = whole.header("etag");
        let known = format!("If-None-Match: \"another\", W/{tag}");
        let again = stranger.ask(&["-H", &known, &url]).unwrap();
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
        let other = stranger.ask(&["-H", "If-None-Match: \"another\"", &url]).unwrap();
        assert_eq!((other.status, &other.body), (200, &whole.body), "{path}");
        for answer in [&whole, &head, &again] {
            for (name, value) in RULES {
                assert_eq!(answer.header(name), value, "{path}: {name}");
            }
            assert_eq!((answer.header("etag"), answer.header("cache-control")), (tag, "no-cache"));
        }
        stranger.ask(&["-X", "DELETE", &url]).unwrap().refused(401, "denied").unwrap();
    }
    cluster.register(&["alice"]).unwrap();
    let who = format!("{base}/page/who");
    let told = stranger.ask(&[&who]).unwrap().json().unwrap();
    assert_eq!(told["node"], "n1", "{told}");
    assert!(told["name"].is_null() && told["role"].is_null(), "{told}");
    let alice = stranger.of(cluster.user(), "alice").unwrap();
    let told = alice.ask(&[&who]).unwrap().json().unwrap();
    assert_eq!((&told["name"], &told["role"]), (&"alice".into(), &"client".into()), "{told}");
}

/// An access token of a client, and its id.
pub(crate) fn token(cluster: &Cluster, client: &str) -> [String; 2] {
    let made = cluster.user().json(&["access", "create", client, "--ttl", "1h"]).unwrap();
    ["token", "id"].map(|key| made[key].as_str().unwrap().to_owned())
}

/// Meant to catch: a cookie by which something is changed, one that scripts or other sites get, and one that
/// outlives its token.
#[test]
fn a_token_signs_in_for_reading_alone() {
    let cluster = Cluster::start(1).unwrap();
    let Some(stranger) = Curl::stranger(&cluster).unwrap() else { return };
    cluster.register(&["alice"]).unwrap();
    let [token, id] = token(&cluster, "alice");
    let base = format!("https://{}", cluster.address("n1").unwrap());
    let (sign, who) = (format!("{base}/page/sign-in"), format!("{base}/page/who"));
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let cut =
        stranger.ask(&["-X", "POST", "-H", &bearer(&token[..token.len() - 1]), &sign]).unwrap();
    cut.refused(401, "denied").unwrap();
    assert_eq!(cut.header("set-cookie"), "");
    stranger.ask(&["-X", "POST", &sign]).unwrap().refused(401, "denied").unwrap();
    let signed = stranger.ask(&["-X", "POST", "-H", &bearer(&token), &sign]).unwrap();
    assert_eq!(signed.status, 204, "{signed:?}");
    let kept = format!("__Host-logd={token}");
    let rules = "; Path=/; Secure; HttpOnly; SameSite=Strict";
    assert_eq!(signed.header("set-cookie"), format!("{kept}{rules}"));
    let cookie = format!("Cookie: theme=dark; {kept}");
    let asked = |args: &[&str]| stranger.ask(&[&["-H", &cookie], args].concat()).unwrap();
    let told = asked(&[&who]).json().unwrap();
    assert!(told["name"] == "alice" && told["by_token"] == true, "{told}");
    let status = asked(&[&format!("{base}/v1/status")]);
    assert_eq!((status.status, status.header("x-content-type-options")), (200, "nosniff"));
    let message = format!("{base}/v1/messages/m-1?to=alice");
    for change in [&["-T", "-"][..], &["-X", "DELETE"], &["-d", "x"]] {
        asked(&[change, &[&message]].concat()).refused(401, "denied").unwrap();
    }
    let alice = stranger.of(cluster.user(), "alice").unwrap();
    alice
        .ask(&["-X", "POST", "-H", &bearer(&token), &sign])
        .unwrap()
        .refused(400, "invalid")
        .unwrap();
    let out = asked(&["-X", "DELETE", &sign]);
    assert_eq!(
        (out.status, out.header("set-cookie").contains("Max-Age=0;")),
        (204, true),
        "{out:?}"
    );
    cluster.user().ok(&["access", "revoke", &id]).unwrap();
    until("a token that is revoked here, too", || {
        let told = asked(&[&who]).json().map_err(|error| error.to_string())?;
        when(told["name"].is_null(), told.to_string())
    })
    .unwrap();
}
