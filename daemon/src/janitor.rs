//! Expiry: the primary looks at what is kept and, if anything has to go, proposes so. What goes is
//! decided at apply, by stamps inside the log and the cluster's settings, so it is the same on every
//! replica, whoever is primary.

use std::time::Duration;

use clock::{ClockState, Hlc};
use model::query;
use model::retention::{Kept, Policy, expired};
use model::{Caller, Command, CommandOp, Outcome};
use proto::Name;
use tokio_util::sync::CancellationToken;

use crate::proposer::Proposer;
use crate::raft::Handle;
use crate::store::{Store, StoreError};
use crate::time::NodeClock;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What expiry needs of a node.
pub struct Janitor {
    /// The engine.
    pub engine: Handle,
    /// The proposer.
    pub proposer: Proposer,
    /// The state.
    pub store: Store,
    /// The clock.
    pub node_clock: NodeClock,
    /// The node's name.
    pub node: Name,
}

impl Janitor {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            // By a clock that may be an hour ahead, what is an hour old would go.
            let vouched = match self.node_clock.state() {
                ClockState::Suspect | ClockState::Unsynced => false,
                ClockState::Synced
                | ClockState::Holdover
                | ClockState::Disagree
                | ClockState::Expired
                | ClockState::Local => true,
            };
            let mut more = vouched && self.engine.leadership().is_some();
            while more {
                more = match due(&self.store, self.node_clock.reading().now_ns) {
                    Ok(Some(policy)) => self.expire(policy).await,
                    Ok(None) => false,
                    Err(error) => {
                        tracing::warn!(%error, "cannot look at what is kept");
                        false
                    }
                };
            }
        }
    }

    /// Proposes one expiry; true if there may be more to do.
    async fn expire(&self, policy: Policy) -> bool {
        let op = CommandOp::Expire {
            max_age_ns: policy.max_age_ns,
            max_records: policy.max_records,
            max_bytes: policy.max_bytes,
        };
        let (caller, gateway) = (Caller::node(&self.node), self.node.to_string());
        match self.proposer.propose(Command { caller, gateway, op }, None).await {
            Ok(Outcome::Expired { records, more, .. }) => {
                tracing::info!(records, more, "expired");
                more
            }
            Ok(_) => false,
            Err(failure) => {
                tracing::debug!(%failure, "expiry waits");
                false
            }
        }
    }
}

/// The cluster's policy, if by it the oldest record must go.
fn due(store: &Store, now_ns: u64) -> Result<Option<Policy>, StoreError> {
    let view = store.snapshot()?;
    let settings = view.judged(query::settings(&view))?;
    let policy = settings.and_then(|settings| Policy::of(&settings)).unwrap_or_default();
    if policy == Policy::default() {
        return Ok(None);
    }
    let stats = view.judged(query::stats(&view))?;
    let records = (stats.last_seq + 1).saturating_sub(stats.first_seq);
    let Some(oldest) = view.judged(query::oldest(&view))? else {
        return Ok(None);
    };
    let kept = Kept { records, bytes: stats.bytes, oldest };
    Ok(expired(policy, kept, Hlc::from_ns(now_ns)).then_some(policy))
}
