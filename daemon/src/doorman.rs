//! What is told of those who are turned away although a certificate of the cluster's authority is
//! theirs: a removed node that tries again, a key that nobody admitted, a request in a name that the
//! key is not entered for. Each is an event, so that it is seen on every node.
//!
//! Invariant: an insistent caller fills neither the log nor this node's memory: the same is told once
//! in a while, and so many different ones at most; the rest are counted, and the count is told.
//!
//! Not here: who is turned away (`trust::entry`, `node::trust`).

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use proto::event::{NODE, REFUSED, TYPE};
use proto::peer::NodeEvent;
use proto::{Header, Identity, Name};
use tokio::time::Instant;

use crate::events::EventSink;

/// How long the same is no news.
const QUIET: Duration = Duration::from_secs(600);
/// Different ones that are told in that time.
const TOLD_MAX: usize = 32;

/// Where somebody was turned away. The words stand in the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Door {
    /// A connection between nodes.
    Peer,
    /// A request of its own.
    Request,
    /// A request that a gateway forwarded for it.
    Forward,
    /// What a node asked of another, and may not.
    Ask,
}

impl Door {
    /// The word.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Request => "request",
            Self::Forward => "forward",
            Self::Ask => "ask",
        }
    }
}

/// Somebody who was turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turned<'a> {
    /// Whose certificate it is; for a forwarded request, in whose name it came.
    pub(crate) who: &'a Identity,
    /// SHA-256 of the key.
    pub(crate) key: &'a [u8],
    /// Where.
    pub(crate) door: Door,
    /// The node that brought it; empty if it came by itself.
    pub(crate) via: &'a str,
    /// What it wanted, one word; may be empty.
    pub(crate) wanted: &'a str,
    /// Why it was turned away.
    pub(crate) why: &'a str,
}

/// Tells of them.
#[derive(Debug)]
pub(crate) struct Doorman {
    node: Name,
    sink: EventSink,
    said: Mutex<ToldLately>,
}

impl Doorman {
    /// Tells for a node.
    #[must_use]
    pub(crate) fn new(node: Name, sink: EventSink) -> Self {
        Self { node, sink, said: Mutex::default() }
    }

    /// Tells of one, unless it was told lately.
    pub(crate) fn turned_away(&self, turned: &Turned<'_>) {
        let key = short(turned.key);
        let told = format!("{} {key} {:?} {} {}", turned.who, turned.door, turned.via, turned.why);
        let mut said = self.said.lock();
        let (tell, untold) = said.look(told, Instant::now());
        drop(said);
        if let Some(untold) = untold {
            let text = format!("{} turned away {untold} more in ten minutes", self.node);
            self.push(text, &[("untold", &untold.to_string())]);
        }
        if !tell {
            tracing::debug!(who = %turned.who, key, why = turned.why, "turned away again");
            return;
        }
        let Turned { who, door, via, wanted, why, .. } = turned;
        tracing::warn!(%who, key, door = door.as_str(), via, wanted, why, "turned away");
        let by = if via.is_empty() { String::new() } else { format!(", brought by {via}") };
        let text = format!("{} turned away {who} (key {key}){by}: {why}", self.node);
        let headers = [
            ("who", who.to_string()),
            ("key", key),
            ("door", door.as_str().to_owned()),
            ("via", (*via).to_owned()),
            ("wanted", (*wanted).to_owned()),
        ];
        self.push(text, &headers.each_ref().map(|(key, value)| (*key, value.as_str())));
    }

    fn push(&self, text: String, more: &[(&str, &str)]) {
        let header = |key: &str, value: &str| Header { key: key.into(), value: value.into() };
        let mut headers = vec![header(TYPE, REFUSED), header(NODE, self.node.as_str())];
        let more = more.iter().filter(|(_, value)| !value.is_empty());
        headers.extend(more.map(|(key, value)| header(key, value)));
        self.sink.push(NodeEvent { id: String::new(), headers, text });
    }
}

/// The beginning of a key's hash, enough to find it.
fn short(key: &[u8]) -> String {
    key.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What was told lately.
#[derive(Debug, Default)]
struct ToldLately {
    at: BTreeMap<String, Instant>,
    untold: u64,
}

impl ToldLately {
    /// Whether this is told now, and how many others were not, if that is to be told, too.
    fn look(&mut self, what: String, now: Instant) -> (bool, Option<u64>) {
        self.at.retain(|_, at| now.saturating_duration_since(*at) < QUIET);
        if self.at.contains_key(&what) {
            return (false, None);
        }
        if self.at.len() >= TOLD_MAX {
            self.untold += 1;
            return (false, None);
        }
        self.at.insert(what, now);
        let untold = std::mem::take(&mut self.untold);
        (true, (untold > 0).then_some(untold))
    }
}

#[cfg(test)]
mod tests {
    use proto::{ClusterId, Role};

    use super::*;

    /// Seen to fail with nothing forgotten, with everything told, and with the untold not counted.
    #[test]
    fn the_same_is_told_once_in_a_while_and_not_too_many() {
        let (start, mut said) = (Instant::now(), ToldLately::default());
        let after = |s: u64| start + Duration::from_secs(s);
        assert_eq!(said.look("a".to_owned(), after(0)), (true, None));
        assert_eq!(said.look("a".to_owned(), after(599)), (false, None));
        assert_eq!(said.look("a".to_owned(), after(600)), (true, None));
        for n in 1..10 * TOLD_MAX {
            let told = said.look(n.to_string(), after(601));
            assert_eq!(told, (n < TOLD_MAX, None), "{n}");
        }
        assert!(said.at.len() <= TOLD_MAX);
        let untold = 9 * TOLD_MAX as u64;
        assert_eq!(said.look("b".to_owned(), after(1300)), (true, Some(untold)));
        assert_eq!(said.look("c".to_owned(), after(1300)), (true, None));
    }

    #[test]
    fn an_event_says_who_where_and_why() {
        let (sink, queue) = crate::events::channel(crate::chance::Chance::system());
        let doorman = Doorman::new("n2".parse().unwrap(), sink);
        let who = Identity {
            cluster: ClusterId::from_bytes([1; 16]),
            role: Role::Admin,
            name: "admin".parse().unwrap(),
        };
        let turned = Turned {
            who: &who,
            key: &[0xab; 32],
            door: Door::Forward,
            via: "n1",
            wanted: "send",
            why: "it is no administrator",
        };
        doorman.turned_away(&turned);
        doorman.turned_away(&turned);
        doorman.turned_away(&Turned { door: Door::Request, via: "", ..turned });
        let events = queue.take();
        assert_eq!(events.len(), 2, "{events:?}");
        let text = "n2 turned away admin admin (key abababababababab), brought by n1: it is no \
                    administrator";
        assert_eq!(events[0].text, text);
        let headers: Vec<_> =
            events[0].headers.iter().map(|h| format!("{}={}", h.key, h.value)).collect();
        assert_eq!(
            headers,
            [
                "type=refused",
                "node=n2",
                "who=admin admin",
                "key=abababababababab",
                "door=forward",
                "via=n1",
                "wanted=send"
            ]
        );
    }
}
