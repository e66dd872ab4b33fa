//! Names of clients, nodes, groups and cursors, message ids, and what a record is addressed to.

use std::fmt;
use std::str::FromStr;

use crate::limits::{ID_BYTES_MAX, NAME_BYTES_MAX};

/// Why a text is not a name, an id or an address. `Display` says the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not of the form `[a-z0-9][a-z0-9._-]{0,62}`, or it would not stand in a certificate.
    #[error(
        "'{0}' is not a name: 1 to {NAME_BYTES_MAX} of a-z 0-9 . _ -, the first and last a letter \
         or digit, no two dots in a row"
    )]
    Name(String),
    /// Not a message id.
    #[error("'{0}' is not a message id: 1 to {ID_BYTES_MAX} printable ASCII characters, no space")]
    Id(String),
    /// Not a recipient.
    #[error("'{0}' is not a recipient: a client name, @group, '*' or $events")]
    Stream(String),
}

/// The name of a client, a node, a group or a cursor: `[a-z0-9][a-z0-9._-]{0,62}`, ending in a
/// letter or digit and without two dots in a row, because it stands inside a DNS name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let bytes = text.as_bytes();
        let fits = bytes.len() <= NAME_BYTES_MAX
            && edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|&b| inner(b))
            && !text.contains("..");
        if fits { Ok(Self(text.to_owned())) } else { Err(NameError::Name(shorten(text))) }
    }
}

/// The id of a message, drawn once by its sender and kept across every retry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(String);

impl MessageId {
    /// Whether a text is an id, for who needs no copy of it.
    ///
    /// # Errors
    /// When it is none.
    pub fn check(text: &str) -> Result<(), NameError> {
        let fits =
            (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(()) } else { Err(NameError::Id(shorten(text))) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MessageId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::check(text).map(|()| Self(text.to_owned()))
    }
}

/// What a record is addressed to. Text: `bob`, `@ops`, `*`, `$events`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// One client.
    Client(Name),
    /// The members of a group.
    Group(Name),
    /// Every client.
    Everyone,
    /// The system's own events.
    Events,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(name) => write!(f, "{name}"),
            Self::Group(name) => write!(f, "@{name}"),
            Self::Everyone => f.write_str("*"),
            Self::Events => f.write_str("$events"),
        }
    }
}

impl FromStr for Stream {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "*" => Ok(Self::Everyone),
            "$events" => Ok(Self::Events),
            _ => match text.strip_prefix('@') {
                Some(group) => group.parse().map(Self::Group),
                None if text.starts_with('$') => Err(NameError::Stream(shorten(text))),
                None => text.parse().map(Self::Client),
            },
        }
    }
}

/// Enough of a bad input to recognise it, never all of it: it may be a megabyte.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    if text.chars().count() <= SHOWN {
        return text.escape_debug().to_string();
    }
    let head: String = text.chars().take(SHOWN).collect();
    format!("{}…", head.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "bob", "n1", "a.b", "a_b-c", "0", &"x".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        let long = "x".repeat(64);
        for bad in
            ["", "Bob", ".a", "a.", "-a", "a-", "_a", "a..b", "a b", "ä", "a/b", "a\n", &long]
        {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_printable_and_bounded() {
        assert!("order-17/3".parse::<MessageId>().is_ok());
        for bad in ["", "a b", "a\n", "é", &"x".repeat(129)] {
            assert!(bad.parse::<MessageId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn streams_round_trip() {
        for text in ["bob", "@ops", "*", "$events"] {
            assert_eq!(text.parse::<Stream>().unwrap().to_string(), text);
        }
        for bad in ["", "@", "@@ops", "$other", "**", "@*"] {
            assert!(bad.parse::<Stream>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn errors_never_repeat_a_long_input() {
        let error = "X".repeat(1 << 20).parse::<Name>().unwrap_err().to_string();
        assert!(error.len() < 400);
    }
}
