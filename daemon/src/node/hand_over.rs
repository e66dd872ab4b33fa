//! Giving the primary role away, when this node stops or its disk hangs, and the end of a node that
//! was removed.
//!
//! Not here: to whom the role belongs (`reconciler`), a bad clock (`lead`).

use std::time::Duration;

use proto::member::MemberState;
use proto::wire::NodeRow;

use crate::exit::{Exit, Failed};
use crate::lead;
use crate::raft::Handle;
use crate::reconciler::OwnMembership;

use super::{Body, Node};

/// Longest wait for a successor to take the primary role over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);
/// Longest that a removed node stays until the others have removed it: by then they need it no more.
const STAYS_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for the primary to note that this node stops.
const NOTED_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks, while that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Node {
    /// Gives the primary role to the voter with a good clock that is furthest, if this node has it.
    pub(crate) async fn hand_over(&self, engine: &Handle) {
        let mut view = engine.view();
        let id = {
            let now = view.borrow();
            if !now.is_primary() {
                return;
            }
            now.id
        };
        let mut candidates = lead::candidates(engine, &self.inner.members);
        while let Some(to) = candidates.pop() {
            tracing::info!(to = to.name, "handing the primary role over");
            if let Err(error) = engine.transfer(to.id).await {
                tracing::warn!(%error, "the role could not be handed over");
                return;
            }
            let taken = view.wait_for(|now| now.primary.is_some_and(|primary| primary != id));
            if tokio::time::timeout(HAND_OVER_WITHIN, taken).await.is_ok() {
                return;
            }
        }
    }

    /// Waits until the primary has noted that this node stops. Without one, or where it takes too
    /// long, the others will notice by the silence.
    pub(crate) async fn stop_noted(&self, engine: &Handle) {
        let there = |row: &NodeRow| {
            let noticed = [MemberState::Joined, MemberState::Suspect].map(MemberState::as_str);
            row.name == self.inner.name.as_str() && noticed.contains(&row.state.as_str())
        };
        let noting = async {
            while self.rows().iter().any(there) && self.hears_primary(engine) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(NOTED_WITHIN, noting).await.is_err() {
            tracing::info!("the primary did not note in time that this node stops");
        }
    }

    /// Whether another node leads, answers, and is not about to stop itself.
    fn hears_primary(&self, engine: &Handle) -> bool {
        let view = engine.view().borrow().clone();
        let primary = view.primary_member().filter(|(id, _)| *id != view.id);
        let heard = primary.and_then(|(_, primary)| self.inner.members.heard(&primary.name));
        heard.is_some_and(|heard| heard.is_up())
    }

    /// Whether clients are kept away from this node.
    pub(crate) fn is_drained(&self) -> bool {
        match &self.inner.body {
            Body::Whole(core) => core.standing.borrow().drained,
            Body::Repairing(_) => false,
        }
    }

    /// Completes when clients are to be kept away from this node from now on.
    pub(crate) async fn drained(&self) {
        let Body::Whole(core) = &self.inner.body else { return std::future::pending().await };
        let mut standing = core.standing.clone();
        // Whoever comes to a node that is drained already has nowhere else to go.
        let back = standing.wait_for(|now: &OwnMembership| !now.drained).await.is_ok();
        if !back || standing.wait_for(|now| now.drained).await.is_err() {
            std::future::pending().await
        }
    }

    /// Completes when this node is a member no more, and the others do without it.
    pub(crate) async fn removed(&self) -> Failed {
        let Body::Whole(core) = &self.inner.body else { return std::future::pending().await };
        let (mut standing, mut refused) = (core.standing.clone(), core.refused.clone());
        let known = tokio::select! {
            known = standing.wait_for(|now| now.removed) => known.is_ok(),
            known = refused.wait_for(|refused| *refused) => known.is_ok(),
        };
        if !known {
            // The node stops for another reason.
            return std::future::pending().await;
        }
        let mut view = core.engine.view();
        let free = view.wait_for(|now| !now.is_primary() && !now.members.contains_key(&now.id));
        tokio::select! {
            // The others do without it already.
            _ = refused.wait_for(|refused| *refused) => {}
            _ = tokio::time::timeout(STAYS_WITHIN, free) => {}
        }
        let text = format!("{} was removed from the cluster, for good", self.inner.name);
        let hint = format!(
            "to have it back, run logctl node add {}, and join with an empty folder",
            self.inner.name
        );
        Failed::new(Exit::Store, anyhow::Error::msg(text), hint)
    }
}
