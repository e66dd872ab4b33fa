//! Errors as HTTP tells of them: status and problem document (RFC 9457).
//!
//! Invariant: *unknown* is 504, and 504 is used for nothing else. `executed` says of every answer whether
//! it may have been done; besides 504 that is only so of 500, a bug.

use proto::{ErrorCode, Failure};
use serde::Serialize;

/// A problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusalView {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    /// The status of the answer that carries it.
    pub status: u16,
    detail: String,
    code: &'static str,
    executed: &'static str,
    #[serde(rename = "try")]
    hint: &'static str,
}

impl RefusalView {
    /// What is told of a failure; `status` where the path says more than the code.
    #[must_use]
    pub fn new(failure: &Failure, status: Option<u16>) -> Self {
        let code = failure.error_code();
        Self {
            kind: format!("urn:logd:error:{}", code.word()),
            title: title(code),
            status: status.unwrap_or_else(|| http_status(code)),
            detail: failure.message.clone(),
            code: code.word(),
            executed: code.executed().as_str(),
            hint: http_hint(code),
        }
    }
}

/// The status that a code is answered with.
#[must_use]
pub const fn http_status(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::Invalid => 400,
        ErrorCode::Denied | ErrorCode::Removed => 403,
        ErrorCode::NotFound => 404,
        ErrorCode::Conflict | ErrorCode::ClockAhead => 409,
        ErrorCode::Busy => 429,
        ErrorCode::Internal | ErrorCode::Integrity => 500,
        ErrorCode::Version => 501,
        ErrorCode::NoQuorum
        | ErrorCode::ClockUnavailable
        | ErrorCode::NotPrimary
        | ErrorCode::Stopping
        | ErrorCode::Repairing
        | ErrorCode::Deadline
        | ErrorCode::NoSigner => 503,
        ErrorCode::Unknown => 504,
        ErrorCode::DiskFull => 507,
    }
}

/// After how many seconds the same request may be sent again; `None` where that would not help.
#[must_use]
pub fn retry_after_s(failure: &Failure) -> Option<u32> {
    match http_status(failure.error_code()) {
        429 | 503 | 504 | 507 => Some(failure.retry_after_ms.div_ceil(1000).max(1)),
        _ => None,
    }
}

const fn title(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Internal => "An error that nobody foresaw",
        ErrorCode::Invalid => "The request breaks a rule",
        ErrorCode::Denied => "This is not allowed",
        ErrorCode::NotFound => "There is no such thing",
        ErrorCode::Conflict => "Something else is in the way",
        ErrorCode::Unknown => "Nobody can say whether it was done",
        ErrorCode::Busy => "Too much to do",
        ErrorCode::NoQuorum => "No primary reaches a majority",
        ErrorCode::ClockUnavailable => "No clock can vouch for a stamp",
        ErrorCode::ClockAhead => "The given stamp lies in the future",
        ErrorCode::Integrity => "Stored data is damaged",
        ErrorCode::NotPrimary => "This node is not the primary",
        ErrorCode::DiskFull => "The disk is full",
        ErrorCode::Stopping => "The node is stopping",
        ErrorCode::Version => "The releases do not fit",
        ErrorCode::Repairing => "The node cannot prove its store",
        ErrorCode::Deadline => "The time was over before the work began",
        ErrorCode::Removed => "The node was removed",
        ErrorCode::NoSigner => "Nobody can sign a certificate",
    }
}

/// What to try, for whoever speaks HTTP.
const fn http_hint(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Internal => "look at the log of the node",
        ErrorCode::Invalid => {
            "change the request as the detail says; the rules are in docs/http.md"
        }
        ErrorCode::Denied => {
            "show the certificate, or a live access token, of a client that may do this"
        }
        ErrorCode::NotFound => "check the path, the name or the id",
        ErrorCode::Conflict => "take another name or id, or read what is there first",
        ErrorCode::Unknown => "send the same request again, with the same id: it is done only once",
        ErrorCode::Busy => "send the same request again after a moment",
        ErrorCode::NoQuorum => {
            "send the same request again, or look at /v1/status; reads work with stale=true"
        }
        ErrorCode::ClockUnavailable => "look at /v1/clock",
        ErrorCode::ClockAhead => "wait until the cluster's clock has passed the given stamp",
        ErrorCode::Integrity => "ask another node; /v1/status names what is damaged",
        ErrorCode::NotPrimary => "send the same request again",
        ErrorCode::DiskFull => "free space on the disk of the node, or lower the retention",
        ErrorCode::Stopping | ErrorCode::Repairing => "send the same request to another node",
        ErrorCode::Version => "use the same release on all nodes",
        ErrorCode::Deadline => "send the same request again, with more time",
        ErrorCode::Removed => "ask another node",
        ErrorCode::NoSigner => "start a node that signs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: std::ops::RangeInclusive<i32> = 0..=40;

    /// Meant to catch: a deadline as 504.
    #[test]
    fn unknown_is_504_and_nothing_else_is() {
        let codes: Vec<_> = CODES.filter_map(|code| ErrorCode::try_from(code).ok()).collect();
        assert!(codes.len() >= 19, "{codes:?}");
        for code in codes {
            let view = RefusalView::new(&Failure::new(code, "so"), None);
            assert_eq!(view.status == 504, code == ErrorCode::Unknown, "{code:?}");
            let unknown = code.executed() == proto::Executed::Unknown;
            let text = serde_json::to_value(&view).unwrap();
            assert_eq!(text["executed"], if unknown { "unknown" } else { "no" });
            assert_eq!(unknown, matches!(view.status, 504 | 500) && code != ErrorCode::Integrity);
            assert!((400..600).contains(&view.status) && !view.hint.is_empty());
        }
    }

    #[test]
    fn whoever_may_come_again_is_told_when() {
        let busy = Failure::new(ErrorCode::Busy, "so").retry_after_ms(1200);
        assert_eq!(retry_after_s(&busy), Some(2));
        assert_eq!(retry_after_s(&Failure::new(ErrorCode::NoQuorum, "so")), Some(1));
        assert_eq!(retry_after_s(&Failure::new(ErrorCode::Invalid, "so")), None);
    }
}
