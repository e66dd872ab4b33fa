//! The description of all paths, OpenAPI 3.1, for programs that make clients of it.

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::answer::{Refused, UNCACHED};
use super::asking::Question;

/// The document, as it stands beside the others.
const DOCUMENT: &str = include_str!("../../../docs/openapi.json");

pub(super) async fn document(question: Question) -> Result<Response, Refused> {
    question.alone()?;
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json")), UNCACHED];
    Ok((headers, DOCUMENT).into_response())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use crate::front::browser;

    use super::*;

    const METHODS: [&str; 4] = ["get", "put", "post", "delete"];

    /// The routes as the source of the router has them: axum does not tell.
    fn routes(source: &str) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        let (open, clients) = source.split_once("fn clients()").unwrap();
        for (prefix, part) in [("", open), ("/v1", clients)] {
            let part: String = part.split_whitespace().collect();
            for route in part.split(".route(\"").skip(1) {
                let (path, rest) = route.split_once('"').unwrap();
                let rest = rest.split("fn").next().unwrap();
                for method in METHODS {
                    let called = |before: char| rest.contains(&format!("{before}{method}("));
                    if called(',') || called('.') {
                        let path = format!("{prefix}{}", path.replace("{*", "{"));
                        found.insert((path, method.to_owned()));
                    }
                }
            }
        }
        found
    }

    fn described(document: &Value) -> BTreeSet<(String, String)> {
        let paths = document["paths"].as_object().unwrap().iter();
        let each = paths.flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (path.clone(), method.clone()))
        });
        each.collect()
    }

    /// Meant to catch: one route left out of the document, and one path of it misspelt; a path for programs
    /// among those of the page, which are the one exception.
    #[test]
    fn the_document_describes_the_routes_and_no_other() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let source = include_str!("routes.rs");
        let routes = routes(source);
        assert!(routes.len() > 25, "{routes:?}");
        assert_eq!(routes, described(&document));
        let elsewhere: Vec<_> = source.split(".merge(").skip(1).collect();
        assert!(elsewhere.len() == 2 && elsewhere[0].starts_with("open()"), "{elsewhere:?}");
        assert!(elsewhere[1].starts_with("browser::paths()"), "{elsewhere:?}");
        for path in browser::all_paths() {
            let is_the_pages = path.starts_with("/page/") || ["/", "/favicon.ico"].contains(&path);
            assert!(is_the_pages, "{path} is not described, and is no path of the page");
        }
    }

    #[test]
    fn what_is_referred_to_is_there_and_no_operation_has_anothers_name() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut names = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name} twice: {method} {path}");
                assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            }
        }
        for reference in DOCUMENT.split("\"$ref\": \"#").skip(1) {
            let at = reference.split('"').next().unwrap();
            assert!(document.pointer(at).is_some(), "{at}");
        }
    }
}
