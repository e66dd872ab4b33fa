//! Pages of messages or events as JSON: one document, a line each, or an event each.

use clock::Hlc;
use clock::overlap::Overlap;
use proto::wire::{Page, Position};
use proto::{ErrorCode, Failure, Record};
use serde::Serialize;
use views::event::{EventView, kind_of};
use views::gap::GapView;
use views::page::PageView;
use views::place;
use views::record::RecordView;

use super::answer::unreadable;

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Messages,
    Events,
}

/// Writes pages, one after the other.
pub(super) struct Writer {
    shown: Shown,
    /// Of events: which kinds; empty = all.
    kinds: Vec<String>,
    overlap: Overlap,
}

/// A message or an event.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Row {
    Message(Box<RecordView>),
    Event(Box<EventView>),
}

impl Writer {
    pub(super) fn new(shown: Shown, kinds: Vec<String>) -> Self {
        Self { shown, kinds, overlap: Overlap::default() }
    }

    fn row(&mut self, record: Record) -> Result<Option<Row>, Failure> {
        if self.shown == Shown::Events && !self.kinds.is_empty() {
            let kind = kind_of(&record);
            if !self.kinds.iter().any(|wanted| wanted == kind) {
                return Ok(None);
            }
        }
        let stamp = record.full_stamp();
        let stamp = stamp.map_err(|error| Failure::new(ErrorCode::Integrity, error))?;
        let overlaps = self.overlap.next(&stamp);
        Ok(Some(match self.shown {
            Shown::Messages => {
                let view =
                    RecordView::listed(record, Some(overlaps), &[], None).map_err(unreadable)?;
                Row::Message(Box::new(view))
            }
            Shown::Events => {
                Row::Event(Box::new(EventView::of(record, overlaps, None).map_err(unreadable)?))
            }
        }))
    }

    /// A page as one document.
    pub(super) fn document(&mut self, page: Page) -> Result<Vec<u8>, Failure> {
        let Page { records, next, end, safe, gap, .. } = page;
        let rows = records.into_iter().filter_map(|record| self.row(record).transpose());
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        line(&PageView::new(rows, next.first(), end, Hlc::from_slice(&safe), gap))
    }

    /// A page as a line each.
    pub(super) fn lines(&mut self, page: Page) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::new();
        if let Some(gap) = page.gap {
            out.extend(line(&GapView::from(gap))?);
        }
        for record in page.records {
            if let Some(row) = self.row(record)? {
                out.extend(line(&row)?);
            }
        }
        Ok(out)
    }

    /// A page as server-sent events. The id of each is the place behind it.
    pub(super) fn events(&mut self, page: Page) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::new();
        if let Some(gap) = page.gap {
            let place = Position { shard: gap.shard, seq: gap.to_seq };
            out.extend(event(Some("gap"), Some(&place), &GapView::from(gap))?);
        }
        let shard = page.next.first().map_or(1, |place| place.shard);
        for record in page.records {
            let place = Position { shard, seq: record.seq };
            if let Some(row) = self.row(record)? {
                out.extend(event(None, Some(&place), &row)?);
            }
        }
        Ok(out)
    }
}

/// Something as JSON in one line.
pub(super) fn line(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let text = serde_json::to_vec(value);
    let mut text = text.map_err(|error| Failure::new(ErrorCode::Internal, error))?;
    text.push(b'\n');
    Ok(text)
}

/// A server-sent event.
pub(super) fn event(
    name: Option<&str>,
    place: Option<&Position>,
    value: &impl Serialize,
) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    if let Some(place) = place {
        out.extend(format!("id: {}\n", place::text(place)).into_bytes());
    }
    if let Some(name) = name {
        out.extend(format!("event: {name}\n").into_bytes());
    }
    out.extend(b"data: ");
    // JSON has no line end inside, so it is one line of data.
    out.extend(line(value)?);
    out.push(b'\n');
    Ok(out)
}
