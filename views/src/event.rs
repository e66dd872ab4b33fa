//! Events of the cluster, in the forms that are shown.

use proto::Record;
use proto::event::{NODE, TYPE};
use serde::Serialize;

use crate::Unreadable;
use crate::record::{Headers, When};
use crate::show::{Cell, Show, Tone};

/// An event.
#[derive(Debug, Serialize)]
pub struct EventView {
    seq: u64,
    stamp: String,
    earliest: Option<String>,
    latest: Option<String>,
    /// Whether it surely happened after every event before it.
    order_certain: bool,
    #[serde(rename = "type")]
    kind: String,
    node: Option<String>,
    text: String,
    headers: Headers,
    #[serde(skip)]
    short: String,
}

impl EventView {
    /// Reads an event; `overlaps`: whether its order in real time against those before it is unknown.
    /// `now_ns`: see [`When::dated`].
    ///
    /// # Errors
    /// When its stamp is none.
    pub fn of(record: Record, overlaps: bool, now_ns: Option<u64>) -> Result<Self, Unreadable> {
        let when = When::read(&record.stamp)?;
        Ok(Self {
            seq: record.seq,
            stamp: when.stamp(),
            earliest: when.earliest(),
            latest: when.latest(),
            order_certain: !overlaps,
            kind: kind_of(&record).to_owned(),
            node: header(&record, NODE).map(ToOwned::to_owned),
            text: String::from_utf8_lossy(&record.body).into_owned(),
            short: format!("{}{}", if overlaps { "~" } else { "" }, when.dated(now_ns)),
            headers: record.headers.into(),
        })
    }

    fn tone(&self) -> Tone {
        match self.kind.as_str() {
            proto::event::LEAVE => Tone::Bad,
            proto::event::SUSPECT | proto::event::ALARM => Tone::Warning,
            proto::event::JOIN => Tone::Good,
            _ => Tone::Neutral,
        }
    }
}

impl Show for EventView {
    fn headings() -> &'static [&'static str] {
        &["SEQ", "TIME", "TYPE", "EVENT"]
    }

    fn row(&self) -> Vec<Cell> {
        vec![
            self.seq.to_string().into(),
            self.short.as_str().into(),
            Cell::toned(self.kind.as_str(), self.tone()),
            self.text.as_str().into(),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![self.seq.to_string(), self.stamp.clone(), self.kind.clone(), self.text.clone()]
    }
}

fn header<'a>(record: &'a Record, key: &str) -> Option<&'a str> {
    record.headers.iter().find(|header| header.key == key).map(|header| header.value.as_str())
}

/// The type of an event; of a newer release, perhaps.
#[must_use]
pub fn kind_of(record: &Record) -> &str {
    header(record, TYPE).unwrap_or_default()
}
