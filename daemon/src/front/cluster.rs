//! The cluster itself: status, nodes, members, clock, settings; and what clients keep in it besides messages: cursors,
//! groups, keys.

use axum::body::Body;
use axum::http::header::{ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use dialects::http::{
    GroupPart, Query, kv_change, precondition, setting, verify as what_to_verify,
};
use proto::group::Groups;
use proto::kv::{KvRead, KvRow, KvRows};
use proto::limits::KV_VALUE_BYTES_MAX;
use proto::wire::{Empty, ListGroups, Op, Position, Reply, SetCursor};
use proto::{ErrorCode, Failure, Name};
use views::clocks::ClockView;
use views::group::{GroupLine, WholeGroup};
use views::health::StatusView;
use views::key::KeyView;
use views::member::MemberView;
use views::node::{NodeLine, NodesView};
use views::place;
use views::settings::SettingsView;
use views::verified::VerifiedView;

use super::answer::{Refused, json, long, unreadable};
use super::asking::{Asking, InPath, Question, header, parsed, unexpected};
use super::page;

/// Longer than any value of a setting.
const SETTING_BYTES_MAX: usize = 256;

/// Whether there are more keys than the answer has.
const MORE: HeaderName = HeaderName::from_static("logd-more");

pub(super) async fn status(question: Question) -> Result<Response, Refused> {
    let asking = question.alone()?;
    let Reply::Status(status) = asking.ask(Op::Status(Empty {})).await? else {
        return Err(unexpected().into());
    };
    let now_s = asking.front.0.server.node.wall_unix_s();
    Ok(json(StatusCode::OK, &StatusView::new(status, now_s)))
}

pub(super) async fn settings(question: Question) -> Result<Response, Refused> {
    let asking = question.alone()?;
    let Reply::Status(status) = asking.ask(Op::Status(Empty {})).await? else {
        return Err(unexpected().into());
    };
    let settings = status.settings.ok_or_else(|| {
        let message = "there are no settings yet: the first primary sets them";
        Failure::new(ErrorCode::NotFound, message)
    })?;
    Ok(json(StatusCode::OK, &SettingsView::from(settings)))
}

/// Changes one setting; its value comes as text.
pub(super) async fn set_setting(
    Question { mut asking, query, .. }: Question,
    InPath(name): InPath<String>,
    body: Body,
) -> Result<Response, Refused> {
    let value = asking.body(body, SETTING_BYTES_MAX).await?;
    let change = setting(&name, &value, query)?;
    let Reply::Configured(settings) = asking.ask(Op::Configure(change)).await? else {
        return Err(unexpected().into());
    };
    Ok(json(StatusCode::OK, &SettingsView::from(settings)))
}

/// The members as the log has them, those that were removed, too.
pub(super) async fn members(question: Question) -> Result<Response, Refused> {
    let asking = question.alone()?;
    let Reply::Members(members) = asking.ask(Op::Members(Empty {})).await? else {
        return Err(unexpected().into());
    };
    let rows: Vec<_> = members.members.iter().map(MemberView::from).collect();
    Ok(json(StatusCode::OK, &rows))
}

/// What this node finds in itself.
pub(super) async fn verify(Question { asking, query, .. }: Question) -> Result<Response, Refused> {
    let op = Op::Verify(what_to_verify(query)?);
    let Reply::Verified(verified) = asking.ask(op).await? else {
        return Err(unexpected().into());
    };
    Ok(json(StatusCode::OK, &VerifiedView::from(verified)))
}

pub(super) async fn nodes(question: Question) -> Result<Response, Refused> {
    let asking = question.alone()?;
    let Reply::Nodes(nodes) = asking.ask(Op::Nodes(Empty {})).await? else {
        return Err(unexpected().into());
    };
    let now_s = asking.front.0.server.node.wall_unix_s();
    let lines = nodes.nodes.iter().map(|row| NodeLine::new(row, now_s)).collect();
    Ok(json(StatusCode::OK, &NodesView::new(lines)))
}

pub(super) async fn clock(question: Question) -> Result<Response, Refused> {
    let asking = question.alone()?;
    let Reply::Clock(report) = asking.ask(Op::Clock(Empty {})).await? else {
        return Err(unexpected().into());
    };
    Ok(json(StatusCode::OK, &ClockView::from(report)))
}

/// Moves a cursor of the caller: `?after=1-42`.
pub(super) async fn set_cursor(
    Question { asking, mut query, .. }: Question,
    InPath(name): InPath<String>,
) -> Result<StatusCode, Refused> {
    let name: Name = parsed(&name)?;
    let after: Option<Position> = query
        .one("after")?
        .map(|text| {
            let message = format!("after={text} is no place in the log, as 1-42: shard and seq");
            place::read(&text).ok_or_else(|| Failure::new(ErrorCode::Invalid, message))
        })
        .transpose()?;
    query.end()?;
    let after = after.ok_or_else(|| {
        Failure::new(ErrorCode::Invalid, "where to? ?after=1-42, as Logd-Next says it")
    })?;
    let set = SetCursor { name: name.to_string(), positions: vec![after] };
    let Reply::CursorSet(_) = asking.ask(Op::SetCursor(set)).await? else {
        return Err(unexpected().into());
    };
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn groups(question: Question) -> Result<Response, Refused> {
    let asking = question.alone()?;
    let groups = asked_groups(&asking, String::new()).await?;
    let lines: Vec<_> = groups.groups.into_iter().map(GroupLine::from).collect();
    Ok(long(asking, StatusCode::OK, page::line(&lines)?, "application/json")?)
}

pub(super) async fn group(
    question: Question,
    InPath(name): InPath<String>,
) -> Result<Response, Refused> {
    let asking = question.alone()?;
    let name: Name = parsed(&name)?;
    let groups = asked_groups(&asking, name.to_string()).await?;
    let group = groups.groups.into_iter().next().ok_or_else(unexpected)?;
    let whole = page::line(&WholeGroup::from(group))?;
    Ok(long(asking, StatusCode::OK, whole, "application/json")?)
}

async fn asked_groups(asking: &Asking, name: String) -> Result<Groups, Failure> {
    let Reply::Groups(groups) = asking.ask(Op::Groups(ListGroups { name })).await? else {
        return Err(unexpected());
    };
    Ok(groups)
}

pub(super) async fn create_group(
    question: Question,
    InPath(name): InPath<String>,
) -> Result<Response, Refused> {
    change_group(question, GroupPart::Create, (name, String::new())).await
}

pub(super) async fn delete_group(
    question: Question,
    InPath(name): InPath<String>,
) -> Result<Response, Refused> {
    change_group(question, GroupPart::Delete, (name, String::new())).await
}

pub(super) async fn add_member(
    question: Question,
    InPath(names): InPath<(String, String)>,
) -> Result<Response, Refused> {
    change_group(question, GroupPart::Add, names).await
}

pub(super) async fn remove_member(
    question: Question,
    InPath(names): InPath<(String, String)>,
) -> Result<Response, Refused> {
    change_group(question, GroupPart::Remove, names).await
}

async fn change_group(
    Question { asking, query, .. }: Question,
    part: GroupPart,
    (group, member): (String, String),
) -> Result<Response, Refused> {
    let drawn = asking.front.0.server.node.draw_id();
    let change = part.change((&group, &member), query, drawn)?;
    let Reply::Groups(groups) = asking.ask(Op::Group(change)).await? else {
        return Err(unexpected().into());
    };
    let group = groups.groups.into_iter().next().ok_or_else(unexpected)?;
    let made = if part == GroupPart::Create { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(made, &GroupLine::from(group)))
}

/// Keys that begin with `?prefix=`, in pages: `?after=` the last one.
pub(super) async fn keys(
    Question { asking, mut query, .. }: Question,
) -> Result<Response, Refused> {
    let read = KvRead {
        key: query.one("prefix")?.unwrap_or_default(),
        prefix: true,
        after: query.one("after")?.unwrap_or_default(),
        stale: query.flag("stale")?,
    };
    query.end()?;
    let KvRows { rows, more } = asked_keys(&asking, Op::KvRead(read)).await?;
    let views = rows.into_iter().map(KeyView::try_from).collect::<Result<Vec<_>, _>>();
    let text = page::line(&views.map_err(unreadable)?)?;
    let mut response = long(asking, StatusCode::OK, text, "application/json")?;
    let more = HeaderValue::from_static(if more { "true" } else { "false" });
    response.headers_mut().insert(MORE, more);
    Ok(response)
}

async fn asked_keys(asking: &Asking, op: Op) -> Result<KvRows, Failure> {
    let Reply::Kv(rows) = asking.ask(op).await? else { return Err(unexpected()) };
    Ok(rows)
}

/// One key; as JSON, or its value alone to whoever wants bytes.
pub(super) async fn key(
    question: Question,
    InPath(key): InPath<String>,
) -> Result<Response, Refused> {
    let bytes = question.accepts("application/octet-stream")?;
    let Question { asking, mut query, .. } = question;
    let stale = query.flag("stale")?;
    query.end()?;
    let read = KvRead { key: key.clone(), stale, ..KvRead::default() };
    let rows = asked_keys(&asking, Op::KvRead(read)).await?.rows;
    let row = rows
        .into_iter()
        .next()
        .ok_or_else(|| Failure::new(ErrorCode::NotFound, format!("there is no key '{key}'")))?;
    shown(asking, row, bytes)
}

/// Sets a key to the bytes that came, at the version of `If-Match` if there is one.
pub(super) async fn put_key(
    Question { mut asking, query, headers }: Question,
    InPath(key): InPath<String>,
    body: Body,
) -> Result<Response, Refused> {
    let value = asking.body(body, KV_VALUE_BYTES_MAX).await?;
    change_key(asking, key, Some(value.to_vec()), query, &headers).await
}

pub(super) async fn delete_key(
    Question { asking, query, headers }: Question,
    InPath(key): InPath<String>,
) -> Result<Response, Refused> {
    change_key(asking, key, None, query, &headers).await
}

async fn change_key(
    asking: Asking,
    key: String,
    value: Option<Vec<u8>>,
    query: Query,
    headers: &HeaderMap,
) -> Result<Response, Refused> {
    let drawn = asking.front.0.server.node.draw_id();
    let (is, none) = (header(headers, &IF_MATCH)?, header(headers, &IF_NONE_MATCH)?);
    let change = kv_change(key, value, precondition(is, none)?, query, drawn)?;
    let rows = asked_keys(&asking, Op::Kv(change)).await?.rows;
    shown(asking, rows.into_iter().next().ok_or_else(unexpected)?, false)
}

fn shown(asking: Asking, row: KvRow, bytes: bool) -> Result<Response, Refused> {
    let version = HeaderValue::try_from(format!("\"{}\"", row.version));
    let mut response = if bytes {
        long(asking, StatusCode::OK, row.value, "application/octet-stream")?
    } else {
        let text = page::line(&KeyView::try_from(row).map_err(unreadable)?)?;
        long(asking, StatusCode::OK, text, "application/json")?
    };
    if let Ok(version) = version {
        response.headers_mut().insert(ETAG, version);
    }
    Ok(response)
}
