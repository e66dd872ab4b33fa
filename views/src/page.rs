//! A page of a list, and what a followed read is told besides its records.

use clock::Hlc;
use proto::wire::{Gap, Nodes, Position};
use serde::Serialize;

use crate::gap::GapView;
use crate::place;
use crate::refusal::RefusalView;

/// A page.
#[derive(Debug, Serialize)]
pub struct PageView<R> {
    records: Vec<R>,
    /// Where to go on: `after` of the next question.
    next: Option<String>,
    /// Whether the end of what the reader may see was reached.
    end: bool,
    /// The stamp up to which this answer is complete.
    safe: Option<String>,
    /// What the reader had before it and can have no more.
    #[serde(flatten)]
    gap: Option<GapView>,
}

impl<R> PageView<R> {
    /// A page of these rows.
    #[must_use]
    pub fn new(
        records: Vec<R>,
        next: Option<&Position>,
        end: bool,
        safe: Option<Hlc>,
        gap: Option<Gap>,
    ) -> Self {
        Self {
            records,
            next: next.map(place::text),
            end,
            safe: safe.map(|safe| safe.to_string()),
            gap: gap.map(GapView::from),
        }
    }
}

/// Up to where a reader has everything.
#[derive(Debug, Serialize)]
pub struct Safe {
    safe: String,
    next: String,
}

impl Safe {
    /// A stamp, and the place behind it.
    #[must_use]
    pub fn new(safe: Hlc, next: &Position) -> Self {
        Self { safe: safe.to_string(), next: place::text(next) }
    }
}

/// Where a read goes on that its node serves no more.
#[derive(Debug, Serialize)]
pub struct Moved {
    /// `after` of the next question; `null`: as it began.
    next: Option<String>,
    /// Nodes that serve clients, as far as this one knows.
    nodes: Vec<String>,
}

impl Moved {
    /// Away from the node of a name.
    #[must_use]
    pub fn new(next: Option<&Position>, nodes: &Nodes, from: &str) -> Self {
        let others = nodes.nodes.iter().filter(|row| row.name != from && row.up && !row.drained);
        let nodes = others.map(|row| format!("https://{}", row.address)).collect();
        Self { next: next.map(place::text), nodes }
    }

    /// Whether there is another node to go on at.
    #[must_use]
    pub fn leads_on(&self) -> bool {
        !self.nodes.is_empty()
    }
}

/// How a read in lines ends that was not over.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// It goes on elsewhere.
    Moved(Moved),
    /// It does not.
    Error(RefusalView),
}

#[cfg(test)]
mod tests {
    use proto::wire::NodeRow;

    use super::*;

    #[test]
    fn a_page_says_where_it_goes_on() {
        let next = Position { shard: 1, seq: 9 };
        let gap = Gap { shard: 1, from_seq: 3, to_seq: 4 };
        let page = PageView::new(vec![7], Some(&next), true, Some(Hlc::from_ns(0)), Some(gap));
        let text = serde_json::to_string(&page).unwrap();
        let want = r#"{"records":[7],"next":"1-9","end":true,"safe":"1970-01-01T00:00:00.000000000Z~00000000","gap":{"shard":1,"from_seq":3,"to_seq":4,"count_max":2}}"#;
        assert_eq!(text, want);
        let page = PageView::new(vec![7], None, false, None, None);
        let text = serde_json::to_string(&page).unwrap();
        assert_eq!(text, r#"{"records":[7],"next":null,"end":false,"safe":null}"#);
    }

    #[test]
    fn a_reader_is_sent_to_who_serves() {
        let row = |name: &str, up, drained| NodeRow {
            name: name.to_owned(),
            address: format!("{name}:7101"),
            up,
            drained,
            ..NodeRow::default()
        };
        let rows =
            [("n1", true, false), ("n2", false, false), ("n3", true, true), ("n4", true, false)];
        let nodes = rows.iter().map(|(name, up, drained)| row(name, *up, *drained)).collect();
        let nodes = Nodes { nodes, ..Nodes::default() };
        assert!(!Moved::new(None, &Nodes::default(), "n1").leads_on());
        let moved = Moved::new(None, &nodes, "n1");
        assert!(moved.leads_on());
        let moved = Ended::Moved(moved);
        let text = serde_json::to_string(&moved).unwrap();
        assert_eq!(text, r#"{"moved":{"next":null,"nodes":["https://n4:7101"]}}"#);
    }
}
