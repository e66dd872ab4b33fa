//! Which clients this node has seen since it started: connected or not, and when last.
//!
//! In memory only, and bounded: it answers "where is bob?", it decides nothing.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use proto::Name;
use proto::peer::{Session, Sessions};

/// Clients remembered at most; the longest silent one without a connection is forgotten first.
const REMEMBERED_MAX: usize = 10_000;

/// The clients of one node.
#[derive(Debug, Default)]
pub struct SessionTable(Mutex<BTreeMap<Name, Entry>>);

#[derive(Debug, Default, Clone, Copy)]
struct Entry {
    connections: usize,
    last_seen_ns: u64,
}

impl SessionTable {
    fn change(&self, name: &Name, now_ns: u64, change: impl FnOnce(&mut Entry)) {
        let mut table = self.0.lock();
        if table.len() >= REMEMBERED_MAX && !table.contains_key(name) {
            let silent = table.iter().filter(|(_, entry)| entry.connections == 0);
            let oldest = silent.min_by_key(|(_, entry)| entry.last_seen_ns);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                table.remove(&oldest);
            }
        }
        let entry = table.entry(name.clone()).or_default();
        entry.last_seen_ns = now_ns;
        change(entry);
    }

    /// A connection began.
    pub fn connected(&self, name: &Name, now_ns: u64) {
        self.change(name, now_ns, |entry| entry.connections += 1);
    }

    /// A connection ended.
    pub fn disconnected(&self, name: &Name, now_ns: u64) {
        self.change(name, now_ns, |entry| {
            entry.connections = entry.connections.saturating_sub(1);
        });
    }

    /// A request came.
    pub fn seen(&self, name: &Name, now_ns: u64) {
        self.change(name, now_ns, |_| {});
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Sessions {
        let table = self.0.lock();
        let sessions = table.iter().map(|(name, entry)| Session {
            name: name.to_string(),
            connected: entry.connections > 0,
            last_seen_ns: entry.last_seen_ns,
        });
        Sessions { sessions: sessions.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_stays_known_after_its_connection() {
        let table = SessionTable::default();
        let bob = "bob".parse().unwrap();
        table.connected(&bob, 1);
        table.connected(&bob, 2);
        table.disconnected(&bob, 3);
        assert!(table.list().sessions[0].connected);
        table.disconnected(&bob, 4);
        let list = table.list().sessions;
        assert_eq!((list[0].connected, list[0].last_seen_ns), (false, 4));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_who_is_connected() {
        let table = SessionTable::default();
        table.connected(&"keep".parse().unwrap(), 0);
        for i in 0..=REMEMBERED_MAX as u64 {
            table.seen(&format!("c{i}").parse().unwrap(), i + 1);
        }
        let list = table.list().sessions;
        assert_eq!(list.len(), REMEMBERED_MAX);
        assert!(list.iter().any(|session| session.name == "keep"));
    }
}
