//! Messages that are sent: raw bodies with parameters, and JSON.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proto::wire::Send;
use proto::{Failure, Header, MessageId, Stream};
use serde::Deserialize;

use super::{Query, invalid};

/// A message, with its id if it has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Drafted {
    /// The message; its id is empty if none was given.
    pub send: Send,
}

impl Drafted {
    /// Whether whoever sends it named it.
    #[must_use]
    pub fn has_id(&self) -> bool {
        !self.send.id.is_empty()
    }
}

/// A message as JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    to: String,
    id: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    body_b64: Option<String>,
    #[serde(default)]
    commit_wait: bool,
}

/// A message whose id stands in the path and whose body is what came, byte for byte. `to`, any number of
/// `header=key=value`, and `commit_wait` stand in the parameters.
///
/// # Errors
/// When something is not understood.
pub fn put(id: &str, query: Query, body: Bytes) -> Result<Drafted, Failure> {
    let id: MessageId = id.parse().map_err(invalid)?;
    raw(Some(id), query, body)
}

/// A message whose id, if it has one, stands in a header or in the JSON. `kind` is the body's media type.
///
/// # Errors
/// When something is not understood.
pub fn posted(
    key: Option<&str>,
    kind: Option<&str>,
    query: Query,
    body: Bytes,
) -> Result<Drafted, Failure> {
    let key = key.map(idempotency_key).transpose()?;
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        return raw(key, query, body);
    }
    query.end()?;
    // A list of the fields in their order would be taken as well.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(invalid("the body is no message as JSON: {\"to\": …, \"body\": …} is wanted"));
    }
    let written: Written = serde_json::from_slice(&body)
        .map_err(|error| invalid(format!("the body is no message as JSON: {error}")))?;
    let id = written.id.as_deref().map(str::parse::<MessageId>).transpose().map_err(invalid)?;
    let id = match (key, id) {
        (Some(key), Some(id)) if key != id => {
            return Err(invalid("Idempotency-Key and the id of the message are two"));
        }
        (key, id) => key.or(id),
    };
    let to: Stream = written.to.parse().map_err(|error| invalid(format!("to: {error}")))?;
    let body = match (written.body, written.body_b64) {
        (Some(text), None) => Bytes::from(text),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(text);
            Bytes::from(bytes.map_err(|error| invalid(format!("body_b64: {error}")))?)
        }
        (None, None) => return Err(invalid("a message has body or body_b64")),
        (Some(_), Some(_)) => return Err(invalid("a message has body or body_b64, not both")),
    };
    let header = |(key, value)| Header { key, value };
    let headers = written.headers.into_iter().map(header).collect();
    Ok(drafted(id, to, headers, body, written.commit_wait))
}

fn raw(id: Option<MessageId>, mut query: Query, body: Bytes) -> Result<Drafted, Failure> {
    let to: Option<Stream> = query.parsed("to")?;
    let to = to.ok_or_else(|| invalid("to whom? ?to=NAME, ?to=@GROUP or ?to=*"))?;
    let headers = query.all("header").iter().map(|text| header(text)).collect::<Result<_, _>>()?;
    let commit_wait = query.flag("commit_wait")?;
    query.end()?;
    Ok(drafted(id, to, headers, body, commit_wait))
}

fn drafted(
    id: Option<MessageId>,
    to: Stream,
    headers: Vec<Header>,
    body: Bytes,
    commit_wait: bool,
) -> Drafted {
    let id = id.map(|id| id.to_string()).unwrap_or_default();
    Drafted { send: Send { to: to.to_string(), id, headers, body, commit_wait } }
}

fn header(text: &str) -> Result<Header, Failure> {
    let split = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = split.ok_or_else(|| {
        let shown: String = text.chars().take(80).collect();
        invalid(format!("'{shown}' is no header of a message: header=key=value"))
    })?;
    Ok(Header { key: key.to_owned(), value: value.to_owned() })
}

/// The id in an `Idempotency-Key`: a string in quotes, as the draft wants it, or without.
fn idempotency_key(text: &str) -> Result<MessageId, Failure> {
    let text = text.trim();
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let id = quoted.unwrap_or(text).parse();
    id.map_err(|error| invalid(format!("Idempotency-Key: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::read(Some(text)).unwrap()
    }

    fn json(text: &str) -> Result<Drafted, Failure> {
        let body = Bytes::from(text.to_owned());
        posted(None, Some("application/json; charset=utf-8"), Query::default(), body)
    }

    #[test]
    fn a_body_is_sent_as_it_came() {
        let body = Bytes::from_static(b"\xff\x00");
        let asked = query("to=@ops&header=a=1&header=b=x=y&commit_wait");
        let put = put("m-1", asked, body.clone()).unwrap();
        assert!(put.has_id());
        let headers: Vec<_> =
            put.send.headers.iter().map(|h| format!("{} {}", h.key, h.value)).collect();
        assert_eq!(headers, ["a 1", "b x=y"]);
        assert_eq!((put.send.to.as_str(), put.send.id.as_str()), ("@ops", "m-1"));
        assert!(put.send.body == body && put.send.commit_wait);
        let form = Some("application/x-www-form-urlencoded");
        let posted = posted(Some("\"k 1\""), form, query("to=bob"), body.clone());
        assert!(posted.is_err(), "a space is in no id");
        let posted = super::posted(Some("\"k1\""), form, query("to=bob"), body.clone()).unwrap();
        assert_eq!((posted.send.id.as_str(), &posted.send.body), ("k1", &body));
        let drawn = super::posted(None, None, query("to=bob"), body).unwrap();
        assert!(!drawn.has_id());
    }

    /// Meant to catch: a list of the fields taken for a message.
    #[test]
    fn json_is_read_strictly() {
        let got = json(r#"{"to":"bob","id":"m","headers":{"a":"1"},"body":"hi"}"#).unwrap();
        assert_eq!((got.send.id.as_str(), &got.send.body[..]), ("m", &b"hi"[..]));
        let got = json(r#"{"to":"*","body_b64":"/wA="}"#).unwrap();
        assert_eq!((&got.send.body[..], got.has_id()), (&b"\xff\x00"[..], false));
        for bad in [
            "",
            "[]",
            r#"["bob","m",{},"hi",null,false]"#,
            r#"["bob","m",{},"hi"]"#,
            r#"{"to":"bob"}"#,
            r#"{"body":"hi"}"#,
            r#"{"to":"bob","body":"hi","body_b64":""}"#,
            r#"{"to":"bob","body_b64":"?"}"#,
            r#"{"to":"bob","body":"hi","from":"carol"}"#,
            r#"{"to":"Bob!","body":"hi"}"#,
            r#"{"to":"bob","body":"hi","id":"a b"}"#,
            r#"{"to":"bob","body":"hi","headers":{"a":1}}"#,
            r#"{"to":"bob","body":"hi"} "#.repeat(2).as_str(),
        ] {
            assert!(json(bad).is_err(), "{bad}");
        }
        let body = || Bytes::from_static(br#"{"to":"bob","id":"m","body":"hi"}"#);
        let kind = Some("application/json");
        assert!(posted(Some("\"other\""), kind, Query::default(), body()).is_err());
        assert!(posted(Some("\"m\""), kind, query("to=bob"), body()).is_err());
        assert!(posted(Some("\"m\""), kind, Query::default(), body()).is_ok());
    }

    #[test]
    fn what_has_no_recipient_goes_nowhere() {
        for (id, text) in [("m", ""), ("m", "to="), ("m", "to=bob&to=carol"), ("", "to=bob")] {
            assert!(put(id, query(text), Bytes::new()).is_err(), "{id} {text}");
        }
        for text in ["to=bob&header=a", "to=bob&header==1", "to=bob&form=1"] {
            assert!(put("m", query(text), Bytes::new()).is_err(), "{text}");
        }
    }
}
