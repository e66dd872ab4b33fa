//! What the clocks' bounds were, from the log: the rows of `logctl clock report`.

use axum::http::StatusCode;
use axum::response::Response;
use dialects::http::{Report, report};
use proto::wire::{Empty, Op, Reply};
use proto::{ErrorCode, Failure};
use views::history::{self, Entry, Range, RowView};

use super::answer::{Refused, long};
use super::asking::{Asking, Question, unexpected};
use super::page;

/// Entries that one report is made of at most: three nodes write so many in five days.
const ENTRIES_MAX: usize = 20_000;

/// `?since=1d&until=now&tolerance=50ms&node=n1`
pub(super) async fn get(Question { asking, query, .. }: Question) -> Result<Response, Refused> {
    let Report { since, until, tolerance_us, node: only } = report(query)?;
    let now_ns = asking.front.0.server.node.node_clock().reading().now_ns;
    let at = |when: Option<views::range::When>| when.map(|when| when.hlc(now_ns).ns);
    let range = Range { since_ns: at(since), until_ns: at(until), now_ns };
    if range.since_ns.is_some_and(|since_ns| since_ns >= now_ns) {
        return Err(Failure::new(ErrorCode::Invalid, "'since' is not before now").into());
    }
    let Reply::Nodes(listed) = asking.ask(Op::Nodes(Empty {})).await? else {
        return Err(unexpected().into());
    };
    let entries = read(&asking, range).await?;
    let mut nodes: Vec<String> = listed.nodes.into_iter().map(|row| row.name).collect();
    // A node that has left the cluster is part of its history.
    nodes.extend(entries.iter().map(|entry| entry.event.node.clone()));
    nodes.sort();
    nodes.dedup();
    if let Some(only) = only {
        nodes.retain(|node| *node == only);
        if nodes.is_empty() {
            let message = format!("there is no node '{only}', and no history of one");
            return Err(Failure::new(ErrorCode::NotFound, message).into());
        }
    }
    let by_node = history::by_node(entries);
    let rows = nodes.iter().flat_map(|node| {
        let entries = by_node.get(node).map_or(&[][..], Vec::as_slice);
        let rows = history::rows(entries, range, tolerance_us).into_iter();
        rows.map(|row| RowView::new(node, row, tolerance_us))
    });
    let text = page::line(&rows.collect::<Vec<_>>())?;
    Ok(long(asking, StatusCode::OK, text, "application/json")?)
}

/// Every clock event that may speak of the range, in the order of the log.
async fn read(asking: &Asking, range: Range) -> Result<Vec<Entry>, Failure> {
    let (mut read, mut entries) = (range.asks(), Vec::new());
    loop {
        let Reply::Page(page) = asking.ask(Op::Read(read.clone())).await? else {
            return Err(unexpected());
        };
        // What speaks of a clock that its writer does not have is left out, as in the table.
        entries.extend(page.records.iter().filter_map(|record| history::entry(record).ok()?));
        if entries.len() > ENTRIES_MAX {
            let message = format!("more than {ENTRIES_MAX} entries: ask for a shorter time");
            return Err(Failure::new(ErrorCode::Invalid, message));
        }
        if page.end || page.records.is_empty() && page.next == read.after {
            return Ok(entries);
        }
        read.go_on(&page);
    }
}
