//! Asking nodes about themselves: one of them, or each one through a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use proto::Name;
use proto::wire::{Op, Reply};
use tokio::task::JoinSet;

use crate::cli::Globals;
use crate::context::{self, Context};
use crate::error::CtlError;
use crate::home::Home;
use crate::session::Session;

/// Time that one question may take where much is asked: somebody waits for all of it, and what is not
/// answered is told.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// Options of a command that asks much, and waits for none of it for long.
pub(crate) fn brief(globals: &Globals) -> Globals {
    Globals { timeout: ASK_WITHIN.min(globals.timeout), ..globals.clone() }
}

/// Who asks, and which cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct EachNode(Arc<NodeAsker>);

#[derive(Debug)]
struct NodeAsker {
    globals: Globals,
    home: Home,
    name: Name,
    context: Context,
}

impl EachNode {
    /// As the context that the command chose; nothing is sent yet.
    pub(crate) fn open(globals: &Globals) -> Result<Self, CtlError> {
        let home = Home::from_env()?;
        let (name, context) = context::choose(&home, globals.context.as_ref())?;
        Ok(Self(Arc::new(NodeAsker { globals: globals.clone(), home, name, context })))
    }

    /// The nodes that the context's file names; the cluster may have others by now.
    pub(crate) fn remembered(&self) -> Vec<Name> {
        self.0.context.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// The nodes of the live list, as the node tells them that the command names.
    pub(crate) async fn names(&self) -> Result<Vec<Name>, CtlError> {
        let session = self.0.session(self.0.globals.via.as_ref())?;
        let list = session.nodes().await;
        session.close().await;
        let strange = |_| CtlError::unexpected("a node without a name");
        list?.iter().map(|node| node.name.parse().map_err(strange)).collect()
    }

    /// The same, or where no node tells them, those that the context names.
    pub(crate) async fn known(&self) -> Vec<Name> {
        self.names().await.unwrap_or_else(|_| self.remembered())
    }

    /// Asks one node, or any without a name. Returns who answered.
    pub(crate) async fn ask(
        &self,
        node: Option<&Name>,
        op: Op,
    ) -> Result<(String, Reply), CtlError> {
        let session = self.0.session(node)?;
        let answer = session.call(op).await;
        session.close().await;
        answer
    }

    /// Asks all of them at a time; the answers are in the order of the names.
    pub(crate) async fn ask_all(
        &self,
        nodes: &[Name],
        op: &Op,
    ) -> Vec<(Name, Result<Reply, CtlError>)> {
        let mut asked = JoinSet::new();
        for (at, node) in nodes.iter().cloned().enumerate() {
            let (own, op) = (self.clone(), op.clone());
            asked.spawn(async move {
                let answer = own.ask(Some(&node), op).await;
                (at, node, answer.map(|(_, reply)| reply))
            });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(at, ..)| *at);
        answers.into_iter().map(|(_, node, answer)| (node, answer)).collect()
    }
}

impl NodeAsker {
    fn session(&self, via: Option<&Name>) -> Result<Session, CtlError> {
        Session::with(&self.globals, &self.home, &self.name, self.context.clone(), via)
    }
}
