//! Events: records of the `$events` stream, written by the cluster itself. What an event says stands
//! in its headers, so that programs need no second format; the body is one sentence for a person.

use crate::record::{Header, Record};

/// Header that names the type of an event.
pub const TYPE: &str = "type";
/// The type of clock events.
pub const CLOCK: &str = "clock";
/// A node joined or came back.
pub const JOIN: &str = "join";
/// A node was not heard for a moment, or is heard again.
pub const SUSPECT: &str = "suspect";
/// A node left: it stopped, is unreachable, cut off or removed.
pub const LEAVE: &str = "leave";
/// There is a new primary.
pub const LEADER: &str = "leader";
/// What a node is meant to be changed: voter, learner, priority, drained.
pub const MEMBER: &str = "member";
/// Slots changed hands.
pub const SHARD: &str = "shard";
/// A node complains of something, or does no longer.
pub const ALARM: &str = "alarm";
/// The administrators changed.
pub const ADMIN: &str = "admin";
/// An access token was made or revoked.
pub const ACCESS: &str = "access";
/// A node turned somebody away whose key proves nothing: a removed node, an unknown key, a request in a
/// name that the key is not entered for.
pub const REFUSED: &str = "refused";
/// A setting of the cluster was changed.
pub const SETTINGS: &str = "settings";
/// An administrator put the ceiling of a node's stamps down.
pub const CEILING: &str = "ceiling";
/// A node is taken back with a new store, or is again what it was.
pub const REPAIR: &str = "repair";
/// All nodes read their whole state as it is behind this event, and compare what they hold.
pub const AUDIT: &str = "audit";
/// The cluster goes on with what one node holds, after the majority was lost.
pub const LINEAGE: &str = "lineage";
/// Every type of event.
pub const TYPES: [&str; 16] = [
    JOIN, SUSPECT, LEAVE, LEADER, MEMBER, REPAIR, CLOCK, SHARD, ALARM, ADMIN, ACCESS, REFUSED,
    SETTINGS, CEILING, AUDIT, LINEAGE,
];

/// Whether events of a type are written by applying the change that they tell of, and by nobody else.
#[must_use]
pub fn is_of_the_log(kind: &str) -> bool {
    [JOIN, SUSPECT, LEAVE, LEADER, MEMBER, REPAIR, SHARD, ADMIN, ACCESS, SETTINGS, LINEAGE]
        .contains(&kind)
}

/// Header that names the node that an event is about.
pub const NODE: &str = "node";
/// Header that says why states are compared.
pub const WHY: &str = "why";
/// Somebody asks for it; else it is time for it.
pub const ASKED: &str = "asked";

/// Why a clock event was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClockCause {
    /// The node has started.
    Start,
    /// The state changed.
    State,
    /// The time for the next entry of the history has come.
    History,
    /// Somebody set the operating system's clock.
    OsStep,
    /// The machine was suspended.
    Suspend,
    /// The servers contradicted the clock for so long that it was set anew.
    Disruption,
    /// What is made of the servers changed: one became a falseticker, or stopped being one.
    Servers,
    /// What is made of the peers changed.
    Peers,
    /// The cluster leads on a clock that is not good enough, or stopped doing so.
    Policy,
}

impl ClockCause {
    /// Every cause.
    pub const ALL: [Self; 9] = [
        Self::Start,
        Self::State,
        Self::History,
        Self::OsStep,
        Self::Suspend,
        Self::Disruption,
        Self::Servers,
        Self::Peers,
        Self::Policy,
    ];

    /// The cause as it stands in the header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::State => "state",
            Self::History => "history",
            Self::OsStep => "os-step",
            Self::Suspend => "suspend",
            Self::Disruption => "disruption",
            Self::Servers => "servers",
            Self::Peers => "peers",
            Self::Policy => "policy",
        }
    }
}

/// One entry of a node's clock history: what held from `since_ns` until the record's stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockEvent {
    /// The node.
    pub node: String,
    /// Why it was written.
    pub cause: ClockCause,
    /// State from now on, see `clock::ClockState`.
    pub state: String,
    /// State until now.
    pub was: String,
    /// Beginning of the time that `worst_error_us` speaks of, nanoseconds since 1970: the node's
    /// reading at its last entry.
    pub since_ns: u64,
    /// End of that time: the node's reading now.
    pub until_ns: u64,
    /// Largest error bound in that time, microseconds; `None` if it was unknown at some moment.
    pub worst_error_us: Option<u64>,
    /// Error bound now, microseconds; `None` if unknown.
    pub error_us: Option<u64>,
    /// One sentence for a person.
    pub text: String,
}

/// A record that is no clock event of this release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header '{0}' of a clock event is missing or malformed")]
pub struct EventError(pub &'static str);

impl ClockEvent {
    /// The headers that say it all.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        let us = |us: Option<u64>| us.map_or_else(|| "unknown".to_owned(), |us| us.to_string());
        let header = |key: &str, value: String| Header { key: key.to_owned(), value };
        vec![
            header(TYPE, CLOCK.to_owned()),
            header("node", self.node.clone()),
            header("cause", self.cause.as_str().to_owned()),
            header("state", self.state.clone()),
            header("was", self.was.clone()),
            header("since_ns", self.since_ns.to_string()),
            header("until_ns", self.until_ns.to_string()),
            header("worst_error_us", us(self.worst_error_us)),
            header("error_us", us(self.error_us)),
        ]
    }

    /// Reads a record; `None` if it is no clock event.
    ///
    /// # Errors
    /// When it is one, and a header is missing or malformed.
    pub fn of(record: &Record) -> Result<Option<Self>, EventError> {
        let find = |key: &'static str| {
            record.headers.iter().find(|h| h.key == key).map(|h| h.value.as_str())
        };
        if find(TYPE) != Some(CLOCK) {
            return Ok(None);
        }
        let need = |key: &'static str| find(key).ok_or(EventError(key));
        let number = |key| need(key)?.parse::<u64>().map_err(|_| EventError(key));
        let micros = |key| match need(key)? {
            "unknown" => Ok(None),
            text => text.parse::<u64>().map(Some).map_err(|_| EventError(key)),
        };
        let cause = need("cause")?;
        let cause = ClockCause::ALL.into_iter().find(|known| known.as_str() == cause);
        Ok(Some(Self {
            node: need("node")?.to_owned(),
            cause: cause.ok_or(EventError("cause"))?,
            state: need("state")?.to_owned(),
            was: need("was")?.to_owned(),
            since_ns: number("since_ns")?,
            until_ns: number("until_ns")?,
            worst_error_us: micros("worst_error_us")?,
            error_us: micros("error_us")?,
            text: String::from_utf8_lossy(&record.body).into_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for cause in ClockCause::ALL {
            let event = ClockEvent {
                node: "n1".to_owned(),
                cause,
                state: "holdover".to_owned(),
                was: "synced".to_owned(),
                since_ns: 7,
                until_ns: 9,
                worst_error_us: None,
                error_us: Some(3),
                text: "one of three servers answers".to_owned(),
            };
            let (headers, body) = (event.headers(), event.text.clone().into());
            let record = Record { headers, body, ..Record::default() };
            assert_eq!(ClockEvent::of(&record), Ok(Some(event)));
        }
    }

    #[test]
    fn other_records_are_none_and_broken_ones_say_what_is_missing() {
        assert_eq!(ClockEvent::of(&Record::default()), Ok(None));
        let header = Header { key: TYPE.to_owned(), value: CLOCK.to_owned() };
        let record = Record { headers: vec![header], ..Record::default() };
        assert_eq!(ClockEvent::of(&record), Err(EventError("cause")));
    }
}
