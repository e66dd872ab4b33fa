//! What retention removed of a reader's messages before it came by: said where it is met, in every form,
//! and an exit code. A reader that minds nothing says so beforehand.
//!
//! At the last place of a gap there was a message for this reader; what else it had on the way there,
//! nobody can say any more, so how many are missing is told as the most that it can be.

use proto::wire::Gap;
use views::gap::GapView;

use crate::error::CtlError;
use crate::out::{Out, Shape};

/// The gaps of one read.
#[derive(Debug)]
pub(crate) struct Gaps {
    allowed: bool,
    count_max: u64,
    /// First and last place that is missing.
    span: Option<(u64, u64)>,
}

impl Gaps {
    /// None so far; `allowed`: whether the reader said that it minds none.
    pub(crate) fn new(allowed: bool) -> Self {
        Self { allowed, count_max: 0, span: None }
    }

    /// Notes a gap and says it on standard error. Returns what a machine is to be shown.
    pub(crate) fn meet(&mut self, gap: Gap, out: &Out) -> GapView {
        self.count_max = self.count_max.saturating_add(gap.count_max());
        let from_seq = self.span.map_or(gap.from_seq, |(from_seq, _)| from_seq);
        self.span = Some((from_seq, gap.to_seq));
        out.warn(&said(gap.count_max(), gap.from_seq, gap.to_seq));
        gap.into()
    }

    /// How many are missing at most.
    pub(crate) fn count_max(&self) -> u64 {
        self.count_max
    }

    /// The end of a read: an error if it had gaps that nobody asked for.
    ///
    /// # Errors
    /// Exit code 5.
    pub(crate) fn verdict(&self) -> Result<(), CtlError> {
        match self.span {
            Some((from_seq, to_seq)) if !self.allowed => Err(CtlError::not_found(
                said(self.count_max, from_seq, to_seq),
                "logctl cluster settings says how long messages stay; --allow-gap reads what is \
                 there",
            )),
            Some(_) | None => Ok(()),
        }
    }
}

impl Out {
    /// Shows a gap where one thing a line is shown: one JSON document has another place for it, and
    /// tables and bodies have none.
    pub(crate) fn gap_line(&mut self, gap: &GapView) -> Result<(), CtlError> {
        match self.shape() {
            Shape::Ndjson => self.json_line(gap),
            Shape::Plain => self.plain_line(&gap.plain()),
            Shape::Json | Shape::Table | Shape::Raw => Ok(()),
        }
    }
}

/// The sentence.
fn said(count_max: u64, from_seq: u64, to_seq: u64) -> String {
    let (messages, were) = if count_max == 1 { ("message", "was") } else { ("messages", "were") };
    format!(
        "up to {count_max} {messages} for this reader, seq {from_seq} to {to_seq} of the log, \
         {were} removed by retention before being read here"
    )
}

#[cfg(test)]
mod tests {
    use proto::ExitCode;

    use super::*;

    #[test]
    fn a_gap_is_an_error_unless_it_was_asked_for() {
        assert!(Gaps::new(false).verdict().is_ok());
        let two = |allowed| Gaps { allowed, count_max: 5, span: Some((3, 9)) };
        assert!(two(true).verdict().is_ok());
        let error = two(false).verdict().unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::NotFound);
        assert!(
            error
                .line()
                .starts_with("up to 5 messages for this reader, seq 3 to 9 of the log, were")
        );
        assert!(
            said(1, 4, 4)
                .starts_with("up to 1 message for this reader, seq 4 to 4 of the log, was")
        );
    }
}
