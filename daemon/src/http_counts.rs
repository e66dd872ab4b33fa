//! Requests over HTTPS, by route and status code.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// So many routes with codes are told apart; a router has fewer. What comes beyond is one more route.
const KINDS_MAX: usize = 512;
/// The name of it.
const OTHER: &str = "other";

/// What a node has answered since it started.
#[derive(Debug, Default)]
pub(crate) struct HttpCounts(Mutex<BTreeMap<(String, u16), u64>>);

impl HttpCounts {
    /// One more. `route` is the router's pattern: a path would give each message a series of its own.
    pub(crate) fn count(&self, route: &str, code: u16) {
        let mut counts = self.0.lock();
        let key = (route.to_owned(), code);
        let known = counts.contains_key(&key) || counts.len() < KINDS_MAX;
        let key = if known { key } else { (OTHER.to_owned(), code) };
        *counts.entry(key).or_default() += 1;
    }

    /// All of them.
    pub(crate) fn list(&self) -> Vec<(String, u16, u64)> {
        let counts = self.0.lock();
        counts.iter().map(|((route, code), count)| (route.clone(), *code, *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Meant to catch: no end to the kinds.
    #[test]
    fn paths_that_somebody_makes_up_do_not_fill_the_memory() {
        let counts = HttpCounts::default();
        for n in 0..2 * KINDS_MAX {
            counts.count(&format!("/{n}"), 404);
        }
        counts.count("/0", 404);
        let list = counts.list();
        assert_eq!(list.len(), KINDS_MAX + 1);
        assert!(list.contains(&("/0".to_owned(), 404, 2)));
        assert!(list.contains(&("other".to_owned(), 404, KINDS_MAX as u64)));
    }
}
