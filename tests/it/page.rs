//! The page for people, as a browser gets and shows it.

use tests::Cluster;
use tests::curl::Curl;

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
