//! A node that runs, until it ends.

use std::sync::Arc;
use std::time::Duration;

use config::Config;
use net::{CloseCode, Port};
use proto::Failure;
use proto::join::{JoinAsk, Joined};
use proto::wire::{Request, Response};

use crate::blocking::Blocking;
use crate::exit::Failed;
use crate::node::{Body, Node, Principal, taken_back};
use crate::server::Server;
use crate::store::StoreError;
use crate::tasks::Tasks;

use super::ending::{cannot_go_on, ended_by, fallen};

/// Longest wait for requests under way when stopping.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for connections to say goodbye.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A node that runs. One that is dropped runs on until its tasks are told to stop.
pub struct Running {
    pub(super) node: Node,
    pub(super) server: Server,
    pub(super) port: Arc<dyn Port>,
    pub(super) tasks: Tasks,
    pub(super) blocking: Blocking,
}

impl Running {
    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Serves one request of a client as if it had come over a connection that proves `principal`: in
    /// its turn, counted, and waited for when the node stops. Requests that are answered more than
    /// once, a followed read or a watch, get their first answer.
    pub async fn request(&self, principal: &Principal, request: Request) -> Response {
        self.server.answer(principal, request).await
    }

    /// Serves requests of a client that came at once on one stream, see [`Running::request`]; only such as
    /// may share one.
    pub async fn requests(&self, principal: &Principal, requests: Vec<Request>) -> Vec<Response> {
        self.server.answer_many(principal, requests).await
    }

    /// Admits somebody as if it had come over a connection of its own, and been called back.
    ///
    /// # Errors
    /// As it would be told.
    pub async fn admit(&self, ask: JoinAsk) -> Result<Joined, Failure> {
        self.node.admit(ask, None).await
    }

    /// Completes when the cluster has taken a node back that could not prove its store: it is to start
    /// again at once, with the new store that the seed in its data directory lets it make. Never for a
    /// node that takes part.
    pub async fn taken_back(&self, config: &Config) -> Failed {
        taken_back(&self.node, config).await
    }

    /// Completes when the node cannot go on: it was removed, its store is damaged or refuses, or a task
    /// has fallen. It then serves nobody any more; why, the next start may have to know.
    pub async fn ended(&self) -> Failed {
        let why = tokio::select! {
            why = self.node.removed() => {
                // Its disk and its engine are sound: it goes as one that stops.
                tracing::error!("{why}");
                self.stop().await;
                return why;
            }
            why = self.damaged() => return why,
            why = cannot_go_on(&self.node) => why,
            why = fallen(&self.node, &self.tasks) => why,
        };
        // The disk or the engine is in doubt: nothing is handed over or tried again.
        self.port.close(CloseCode::Moving, "moving");
        why
    }

    /// Completes when this node's store is damaged, that is remembered, and what was under way is
    /// answered: the others are to be asked.
    async fn damaged(&self) -> Failed {
        let Body::Whole(core) = self.node.body() else { return std::future::pending().await };
        let mut told = core.store.told();
        if told.wait_for(|told| told.is_met()).await.is_err() {
            return std::future::pending().await;
        }
        // No vote, no entry and no answer from here on.
        drop(tokio::time::timeout(CLOSE_WITHIN, core.engine.stop()).await);
        self.server.drain.cancel();
        self.server.requests.close();
        drop(tokio::time::timeout(CLOSE_WITHIN, self.server.requests.wait()).await);
        self.port.close(CloseCode::Moving, "moving");
        drop(tokio::time::timeout(CLOSE_WITHIN, self.port.wait_idle()).await);
        ended_by(&core.store, StoreError::Stopped("damaged".to_owned())).await
    }

    /// Stops the node in order: it hands the primary role over, answers what is under way, says
    /// goodbye, and closes the store.
    pub async fn stop(&self) {
        self.stop_once(std::future::ready(())).await;
    }

    /// The same, but it answers until something has come to pass: somebody has to hear that it stops.
    pub(super) async fn stop_once(&self, heard: impl Future<Output = ()>) {
        tracing::info!("stopping");
        self.node.leave();
        self.server.drain.cancel();
        if let Some(engine) = self.node.engine() {
            self.node.hand_over(engine).await;
            self.node.stop_noted(engine).await;
        }
        heard.await;
        self.server.requests.close();
        if tokio::time::timeout(DRAIN_WITHIN, self.server.requests.wait()).await.is_err() {
            tracing::warn!("requests were still under way; their clients ask other nodes");
        }
        // Before the port: an engine without a network tries again without end.
        if let Some(engine) = self.node.engine() {
            engine.stop().await;
        }
        self.port.close(CloseCode::Moving, "moving");
        self.tasks.stop().cancel();
        drop(tokio::time::timeout(CLOSE_WITHIN, self.port.wait_idle()).await);
        self.node.node_clock().stopped().await;
        self.node.witness().save().await;
        if let Body::Whole(core) = self.node.body() {
            core.ceiling.finish().await;
            let store = core.store.clone();
            // Joins threads: not on a thread of the runtime.
            drop(self.blocking.run(move || store.close()).await);
        }
        tracing::info!("stopped");
    }
}
