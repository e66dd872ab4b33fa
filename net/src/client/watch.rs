//! Following the live list: a client that stays is told of nodes that come and go, and need not find
//! out by asking them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use proto::Action;
use proto::wire::{Empty, Op, Reply, Request, Response};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::Inner;
use super::ask::{Watch, begin};
use super::dial::Gateway;
use crate::frames::encode;

/// A client that lives shorter than this does not ask.
const AFTER: Duration = Duration::from_millis(500);
/// Pause before another gateway is asked, and before one that refused or ended is asked again.
const AGAIN: Duration = Duration::from_millis(200);
const LATER: Duration = Duration::from_secs(5);
/// A gateway that sends nothing for so long is looked at: in that time the keep-alive of a second was
/// sent and not acknowledged.
const SILENCE: Duration = Duration::from_millis(1500);

/// The task that follows the list; it ends with the client.
#[derive(Debug, Default)]
pub(super) struct Watching(Mutex<Option<AbortHandle>>);

impl Watching {
    /// Ends it, for good.
    pub(super) fn end(&self) {
        if let Some(task) = &*self.0.lock() {
            task.abort();
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.end();
    }
}

impl Inner {
    /// Begins to follow the live list, once.
    pub(super) fn begin_watching(self: &Arc<Self>) {
        let mut task = self.watching.0.lock();
        if task.is_none() {
            // It must not keep alive what it belongs to.
            let own = Arc::downgrade(self);
            *task = Some(tokio::spawn(follow(own)).abort_handle());
        }
    }

    /// Whether calls go elsewhere by now.
    fn has_left(&self, gateway: &Gateway) -> bool {
        let own = gateway.connection.stable_id();
        self.at_hand().is_some_and(|other| other.connection.stable_id() != own)
    }

    /// A connection that stands.
    fn at_hand(&self) -> Option<Gateway> {
        let route = self.route();
        let open = |gateway: &&Gateway| gateway.connection.close_reason().is_none();
        route.current.as_ref().filter(open).cloned().or_else(|| route.pool.any())
    }
}

async fn follow(own: Weak<Inner>) {
    let mut pause = AFTER;
    loop {
        sleep(pause).await;
        let Some(client) = own.upgrade() else { return };
        let gateway = client.at_hand();
        drop(client);
        pause = match gateway {
            Some(gateway) if listen(&gateway, &own).await => LATER,
            _ => AGAIN,
        };
    }
}

/// Takes what one gateway says. Returns whether it ended it of its own will: then it refuses, or is of
/// an earlier release, and there is no hurry to ask again.
async fn listen(gateway: &Gateway, own: &Weak<Inner>) -> bool {
    let request = Request { op: Some(Op::WatchNodes(Empty {})), ..Request::default() };
    let Ok(frame) = encode(None, &request) else { return true };
    let Ok(mut rx) = begin(gateway, frame).await else { return false };
    let mut watch = Watch::new(gateway);
    loop {
        let frame = match timeout(SILENCE, rx.recv()).await {
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) => return true,
            Ok(Err(_)) => return false,
            Err(_) if watch.is_silent() => {
                watch.hang_up();
                return false;
            }
            // What it does not hear of, it cannot tell.
            Err(_) if own.upgrade().is_none_or(|client| client.has_left(gateway)) => return false,
            Err(_) => continue,
        };
        let Some(client) = own.upgrade() else { return true };
        match Response::decode(frame).ok().and_then(|response| response.reply) {
            Some(Reply::Nodes(nodes)) => client.learnt(nodes),
            Some(Reply::Failure(failure)) => {
                return match failure.error_code().action() {
                    // One that stops: what happens until another is asked is news as well.
                    Action::Retry | Action::GoElsewhere => false,
                    Action::FixInput | Action::CallOperator => true,
                };
            }
            // Nothing this release knows.
            _ => return true,
        }
    }
}
