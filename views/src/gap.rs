//! A gap in what a reader is shown: records that retention removed before it came by.

use proto::wire::Gap;
use serde::Serialize;

/// A gap in the place of the records that are missing.
#[derive(Debug, Serialize)]
pub struct GapView {
    gap: Span,
}

#[derive(Debug, Serialize)]
struct Span {
    shard: u32,
    from_seq: u64,
    to_seq: u64,
    /// As many at most: the others on the way were for others.
    count_max: u64,
}

impl From<Gap> for GapView {
    fn from(gap: Gap) -> Self {
        let Gap { shard, from_seq, to_seq } = gap;
        Self { gap: Span { shard, from_seq, to_seq, count_max: gap.count_max() } }
    }
}

impl GapView {
    /// The word `gap`, where a record has its seq; first, last and how many at most.
    #[must_use]
    pub fn plain(&self) -> [String; 4] {
        let Span { from_seq, to_seq, count_max, .. } = &self.gap;
        ["gap".to_owned(), from_seq.to_string(), to_seq.to_string(), count_max.to_string()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_told_in_numbers() {
        let view = GapView::from(Gap { shard: 1, from_seq: 3, to_seq: 9 });
        assert_eq!(view.plain(), ["gap", "3", "9", "7"]);
        let json = serde_json::to_string(&view).unwrap();
        assert_eq!(json, r#"{"gap":{"shard":1,"from_seq":3,"to_seq":9,"count_max":7}}"#);
    }
}
