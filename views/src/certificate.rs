//! A node's certificate, as the status and the list of nodes tell of it.

use proto::life::{Date, Life, Validity, left_text};
use proto::wire::NodeRow;
use serde::Serialize;

use crate::show::{Cell, Tone};

/// What is left of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertLeft {
    /// Its last moment.
    not_after: String,
    /// Whole days until then, 0 on the last and after it.
    days_left: i64,
    #[serde(skip)]
    left_s: i64,
    #[serde(skip)]
    standing: Validity,
}

impl CertLeft {
    /// What a node says of it, seen at an instant; `None` if it says nothing.
    #[must_use]
    pub fn of(row: &NodeRow, now_unix_s: i64) -> Option<Self> {
        let life = Life { from_unix_s: row.not_before_unix_s, until_unix_s: row.not_after_unix_s };
        let left_s = life.until_unix_s.saturating_sub(now_unix_s);
        (life.until_unix_s != 0).then(|| Self {
            not_after: Date(life.until_unix_s).to_string(),
            days_left: (left_s / 86_400).max(0),
            left_s,
            standing: life.standing(now_unix_s),
        })
    }

    /// What is left of it, in one unit.
    pub(crate) fn cell(this: Option<&Self>) -> Cell {
        let Some(Self { left_s, standing, .. }) = this else { return "-".into() };
        let text = left_text(*left_s);
        match standing {
            Validity::Fine => text.into(),
            Validity::Late => Cell::toned(text, Tone::Warning),
            Validity::Expired => Cell::toned("expired", Tone::Bad),
        }
    }

    /// The last moment, for programs.
    pub(crate) fn plain(this: Option<&Self>) -> String {
        this.map(|left| left.not_after.clone()).unwrap_or_default()
    }
}
