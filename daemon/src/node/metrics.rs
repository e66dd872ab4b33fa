//! What this node tells of itself as metrics: the facts, for `views` to name and to write down.
//!
//! Not here: names and text (`views::metrics`), who counts what (`stages`, `tally`, `http_counts`).

use std::sync::atomic::Ordering;

use views::metrics::{HttpCount, NodeFacts, Pairs, Work, text};

use crate::own_process;
use crate::tally::Tallied;

use super::{Body, Core, Node};

impl Node {
    /// The text of a scrape.
    pub(crate) async fn metrics_text(&self) -> String {
        text(self.facts().await)
    }

    /// Counts a request over HTTPS that was answered, by its route as the router has it.
    pub fn count_http(&self, route: &str, code: u16) {
        self.inner.http.count(route, code);
    }

    async fn facts(&self) -> NodeFacts {
        let status = self.steady_status().await;
        let core = match &self.inner.body {
            Body::Whole(core) => Some(core),
            Body::Repairing(_) => None,
        };
        let ready = self.ready().iter().all(|check| check.failed.is_none());
        let authority = certs::authority_life(&self.inner.ca.load());
        let sessions = self.inner.sessions.list().sessions;
        let http = self.inner.http.list().into_iter();
        NodeFacts {
            node: self.inner.name.to_string(),
            ready,
            clock: self.clock(),
            authority_until_unix_s: authority.ok().map(|life| life.until_unix_s),
            work: core.map(|core| self.work(core)),
            process: own_process::look(),
            requests: self.inner.requests.load(Ordering::Relaxed),
            connected_clients: sessions.iter().filter(|session| session.connected).count() as u64,
            http: http.map(|(route, code, count)| HttpCount { route, code, count }).collect(),
            status,
        }
    }

    fn work(&self, core: &Core) -> Work {
        let Tallied { records, duplicates, pairs, unproven, last, last_unproven } =
            core.engine.tally().told();
        let view = core.engine.view().borrow().clone();
        let behind = core.engine.behind().into_iter();
        let behind = behind
            .filter_map(|(id, entries)| Some((view.members.get(&id)?.name.clone(), entries?)));
        let queued_bytes = core.store.writer().map_or(0, |writer| writer.queued_bytes() as u64);
        Work {
            stages: core.engine.stages().told(),
            records,
            duplicates,
            pairs: Pairs { all: pairs, unproven, last, last_unproven },
            stamps_raised: core.engine.ratcheted(),
            queued_commands: core.proposer.queued() as u64,
            queued_bytes,
            longest_wait_us: u64::try_from(core.proposer.waits().as_micros()).unwrap_or(u64::MAX),
            behind: behind.collect(),
            disk: *self.inner.room.lock(),
        }
    }
}
