//! Messages: sending, reading, one by its id, deleting; and the events of the cluster, which are read alike.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use dialects::http::{self, Drafted, Query, Reading};
use proto::limits::BODY_BYTES_MAX;
use proto::wire::{Delete, Get, Op, Page, Reply};
use proto::{ErrorCode, Executed, Failure, MessageId, Name};
use views::place;
use views::record::{AckView, RecordView, When};

use super::answer::{Refused, json, long, unreadable};
use super::asking::{Asking, InPath, Question, header, parsed, too_long, unexpected};
use super::follow::{self, Form};
use super::page;

/// A message as JSON may take so much more than its body: base64, and its headers.
const JSON_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

const ID: HeaderName = HeaderName::from_static("logd-id");
const ID_DRAWN: HeaderName = HeaderName::from_static("logd-id-drawn");
const STAMP: HeaderName = HeaderName::from_static("logd-stamp");
const EARLIEST: HeaderName = HeaderName::from_static("logd-earliest");
const LATEST: HeaderName = HeaderName::from_static("logd-latest");
const DUPLICATE: HeaderName = HeaderName::from_static("logd-duplicate");
const NEXT: HeaderName = HeaderName::from_static("logd-next");
const END: HeaderName = HeaderName::from_static("logd-end");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Sends a message whose id is in the path.
pub(super) async fn put(
    Question { mut asking, query, .. }: Question,
    InPath(id): InPath<String>,
    body: Body,
) -> Result<Response, Refused> {
    let body = asking.body(body, BODY_BYTES_MAX).await?;
    send(&asking, http::put(&id, query, body)?).await
}

/// Sends a message whose id is in a header or in the body, or is drawn here.
pub(super) async fn post(
    Question { mut asking, query, headers }: Question,
    body: Body,
) -> Result<Response, Refused> {
    let key = header(&headers, &IDEMPOTENCY_KEY)?;
    let kind = header(&headers, &CONTENT_TYPE)?;
    let body = asking.body(body, JSON_BYTES_MAX).await?;
    if body.len() > BODY_BYTES_MAX && !kind.is_some_and(|kind| kind.starts_with("application/json"))
    {
        return Err(too_long(BODY_BYTES_MAX));
    }
    send(&asking, http::posted(key, kind, query, body)?).await
}

async fn send(asking: &Asking, drafted: Drafted) -> Result<Response, Refused> {
    let drawn = !drafted.has_id();
    let mut send = drafted.send;
    if drawn {
        send.id = asking.front.0.server.node.draw_id();
    }
    let id = send.id.clone();
    let ack = match asking.ask(Op::Send(send)).await {
        Ok(Reply::Ack(ack)) => ack,
        Ok(_) => return Err(unexpected().into()),
        Err(failure) => return Err(not_sent(failure, &id, drawn)),
    };
    let when = When::read(&ack.stamp).map_err(unreadable)?;
    let duplicate = ack.duplicate;
    let view = AckView::try_from(ack).map_err(unreadable)?;
    let status = if duplicate { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = json(status, &view);
    let headers = response.headers_mut();
    let mut say = |name: HeaderName, value: Option<String>| {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    };
    say(LOCATION, Some(format!("/v1/messages/{}", http::segment(&id))));
    say(ID, Some(id));
    say(STAMP, Some(when.stamp()));
    say(EARLIEST, when.earliest());
    say(LATEST, when.latest());
    say(DUPLICATE, duplicate.then(|| "true".to_owned()));
    say(ID_DRAWN, drawn.then(|| "true".to_owned()));
    Ok(response)
}

/// A message that was not sent, or nobody knows. An id that was used for another one is the request's fault;
/// one that was drawn here is said, or nobody could ask again.
fn not_sent(failure: Failure, id: &str, drawn: bool) -> Refused {
    let code = failure.error_code();
    if code == ErrorCode::Conflict {
        return Refused::with(failure, 422);
    }
    if drawn && code.executed() == Executed::Unknown {
        let message = format!(
            "{}. The node drew the id {id}: with it, as PUT /v1/messages/{}, it is stored only once",
            failure.message,
            http::segment(id)
        );
        return Failure { message, ..failure }.into();
    }
    failure.into()
}

/// One message by its id; as JSON, or its body alone to whoever wants bytes.
pub(super) async fn get(
    question: Question,
    InPath(id): InPath<String>,
) -> Result<Response, Refused> {
    let bytes = question.accepts("application/octet-stream")?;
    let Question { asking, mut query, .. } = question;
    let id: MessageId = parsed(&id)?;
    let (stale, from) = (query.flag("stale")?, sender(&mut query)?);
    query.end()?;
    let Reply::Record(record) =
        asking.ask(Op::Get(Get { id: id.to_string(), stale, from })).await?
    else {
        return Err(unexpected().into());
    };
    if !bytes {
        let view = RecordView::try_from(record).map_err(unreadable)?;
        return Ok(long(asking, StatusCode::OK, page::line(&view)?, "application/json")?);
    }
    if record.deleted.is_some() {
        let failure = Failure::new(ErrorCode::NotFound, format!("{id} was deleted"));
        return Err(Refused::with(failure, 410));
    }
    Ok(long(asking, StatusCode::OK, record.body.to_vec(), "application/octet-stream")?)
}

/// Deletes one.
pub(super) async fn delete(
    Question { asking, mut query, .. }: Question,
    InPath(id): InPath<String>,
) -> Result<Response, Refused> {
    let id: MessageId = parsed(&id)?;
    let (reason, from) = (query.one("reason")?.unwrap_or_default(), sender(&mut query)?);
    query.end()?;
    let delete = Delete { id: id.to_string(), reason, from };
    let Reply::Deleted(record) = asking.ask(Op::Delete(delete)).await? else {
        return Err(unexpected().into());
    };
    let view = RecordView::try_from(record).map_err(unreadable)?;
    Ok(json(StatusCode::OK, &view))
}

fn sender(query: &mut Query) -> Result<String, Failure> {
    query.parsed::<Name>("from").map(|name| name.map(|name| name.to_string()).unwrap_or_default())
}

/// Reads a page of messages, or follows them.
pub(super) async fn list(question: Question) -> Result<Response, Refused> {
    read(question, http::messages, page::Shown::Messages).await
}

/// The same for the events of the cluster.
pub(super) async fn events(question: Question) -> Result<Response, Refused> {
    read(question, http::events, page::Shown::Events).await
}

async fn read(
    question: Question,
    understand: impl FnOnce(Query, Option<&str>) -> Result<Reading, Failure>,
    shown: page::Shown,
) -> Result<Response, Refused> {
    let stream = question.accepts("text/event-stream")?;
    let lines = question.accepts("application/x-ndjson")?;
    let Question { asking, query, headers } = question;
    let reading = understand(query, header(&headers, &LAST_EVENT_ID)?)?;
    let follows = reading.follows() || stream;
    let kinds = reading.kinds.clone();
    let now_ns = asking.front.0.server.node.node_clock().reading().now_ns;
    let mut asked = reading.at(now_ns);
    asked.follow = follows;
    let writer = page::Writer::new(shown, kinds);
    if follows {
        let form = if stream { Form::Events } else { Form::Lines };
        return follow::begin(asking, asked, form, writer).await;
    }
    let limit = asked.limit;
    let Reply::Page(mut page) = asking.ask(Op::Read(asked)).await? else {
        return Err(unexpected().into());
    };
    // To the node the question ends with its limit; whoever reads on by `next` wants the end of the answer.
    page.end &= limit == 0 || (page.records.len() as u64) < limit;
    one_page(asking, page, lines, writer)
}

fn one_page(
    asking: Asking,
    page: Page,
    lines: bool,
    mut writer: page::Writer,
) -> Result<Response, Refused> {
    let next = page.next.first().map(place::text).unwrap_or_default();
    let end = page.end;
    let (text, kind) = if lines {
        (writer.lines(page)?, "application/x-ndjson")
    } else {
        (writer.document(page)?, "application/json")
    };
    let mut response = long(asking, StatusCode::OK, text, kind)?;
    if let Ok(next) = HeaderValue::try_from(next) {
        response.headers_mut().insert(NEXT, next);
    }
    let end = HeaderValue::from_static(if end { "true" } else { "false" });
    response.headers_mut().insert(END, end);
    Ok(response)
}
