//! One sentence for why a connection ended, and whose doing it was.

use proto::identity::DOMAIN;
use quinn::ConnectionError;

use crate::CloseCode;

/// TLS alert: a certificate is required and none was shown.
const CERTIFICATE_REQUIRED: u64 = 116;
/// TLS alert: no protocol in common.
const NO_APPLICATION_PROTOCOL: u64 = 120;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The other side refused us.
    RefusedUs(String),
    /// The other side refused us for good: our key belongs to nobody any more.
    RevokedUs(String),
    /// We refused the other side.
    WeRefused(String),
    /// The other side is stopping.
    Moving(String),
    /// The other side has no place for us, and has done nothing.
    Busy(String),
    /// Anything else: time ran out, the process went away, the network.
    Lost(String),
}

impl End {
    /// The sentence.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::RefusedUs(text)
            | Self::RevokedUs(text)
            | Self::WeRefused(text)
            | Self::Moving(text)
            | Self::Busy(text)
            | Self::Lost(text) => text,
        }
    }
}

/// Reads the end of a connection.
pub(crate) fn end_of(error: &ConnectionError) -> End {
    match error {
        ConnectionError::TransportError(own) => match alert(u64::from(own.code)) {
            Some(alert) => End::WeRefused(tls_sentence(alert, &own.reason)),
            None => End::Lost(own.to_string()),
        },
        ConnectionError::ConnectionClosed(theirs) => {
            let text = String::from_utf8_lossy(&theirs.reason);
            match alert(u64::from(theirs.error_code)) {
                Some(alert) => End::RefusedUs(tls_sentence(alert, &text)),
                None => End::Lost(theirs.to_string()),
            }
        }
        ConnectionError::ApplicationClosed(theirs) => {
            let text = printable(&String::from_utf8_lossy(&theirs.reason));
            match CloseCode::from_code(theirs.error_code) {
                Some(CloseCode::Moving) => End::Moving(text),
                Some(CloseCode::Revoked) => End::RevokedUs(text),
                Some(CloseCode::Busy) => End::Busy(text),
                Some(code) if code.is_refusal() => End::RefusedUs(text),
                _ => End::Lost(format!("closed by the other side: {text}")),
            }
        }
        ConnectionError::TimedOut => End::Lost("no answer".to_owned()),
        ConnectionError::Reset => End::Lost("the other side was restarted".to_owned()),
        ConnectionError::VersionMismatch
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => End::Lost(error.to_string()),
    }
}

/// The TLS alert in a QUIC error code.
fn alert(code: u64) -> Option<u64> {
    (0x100..0x200).contains(&code).then(|| code - 0x100)
}

fn tls_sentence(alert: u64, text: &str) -> String {
    match (certs::refusal(text), alert) {
        (Some(sentence), _) => printable(sentence),
        (None, CERTIFICATE_REQUIRED) => {
            format!("no certificate was shown; one under {DOMAIN} is required")
        }
        (None, NO_APPLICATION_PROTOCOL) => "the two sides speak different protocols".to_owned(),
        (None, _) if text.is_empty() => format!("the TLS handshake failed with alert {alert}"),
        (None, _) => format!("the TLS handshake failed: {}", printable(text)),
    }
}

/// What another machine wrote, fit for a log line and a terminal.
fn printable(text: &str) -> String {
    const SHOWN: usize = 300;
    text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_draw_on_the_terminal() {
        assert_eq!(printable("a\x1b[31mb\nc"), "a [31mb c");
        assert_eq!(printable(&"x".repeat(1000)).len(), 300);
    }

    #[test]
    fn close_codes_say_whose_doing_it_was() {
        let closed = |code: CloseCode| {
            end_of(&ConnectionError::ApplicationClosed(quinn::ApplicationClose {
                error_code: code.code(),
                reason: "why".into(),
            }))
        };
        assert_eq!(closed(CloseCode::Moving), End::Moving("why".to_owned()));
        assert_eq!(closed(CloseCode::WrongRole), End::RefusedUs("why".to_owned()));
        assert_eq!(closed(CloseCode::Revoked), End::RevokedUs("why".to_owned()));
        assert_eq!(closed(CloseCode::Busy), End::Busy("why".to_owned()));
        assert!(matches!(end_of(&ConnectionError::TimedOut), End::Lost(_)));
    }
}
