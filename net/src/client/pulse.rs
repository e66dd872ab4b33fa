//! Whether the gateway of a follower for whom nothing comes still hears the cluster. One that is cut off
//! from the primary has nothing to say, and neither says so nor goes away.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::call::CallState;
use super::dial::Gateway;
use super::{Inner, Spread};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// Time to find another one that hears it.
const WITHIN: Duration = Duration::from_secs(5);

/// The looks at one gateway.
#[derive(Debug)]
pub(super) struct Pulse {
    next: Instant,
    look: Option<JoinHandle<bool>>,
}

impl Pulse {
    /// The first look comes after a while.
    pub(super) fn new() -> Self {
        Self { next: Instant::now() + EVERY, look: None }
    }

    /// Something came.
    pub(super) fn heard(&mut self) {
        *self = Self::new();
    }

    /// Whether the gateway has turned out to be cut off while another one is not. Looks, if it is time
    /// for that; asked now and then.
    pub(super) async fn is_lost(&mut self, inner: &Arc<Inner>, gateway: &Gateway) -> bool {
        if let Some(look) = self.look.take_if(|look| look.is_finished()) {
            self.next = Instant::now() + EVERY;
            return look.await.unwrap_or(false);
        }
        if self.look.is_none() && Instant::now() >= self.next {
            self.look = Some(tokio::spawn(is_cut_off(Arc::clone(inner), gateway.clone())));
        }
        false
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if let Some(look) = &self.look {
            look.abort();
        }
    }
}

async fn is_cut_off(inner: Arc<Inner>, gateway: Gateway) -> bool {
    if inner.serves(&gateway).await {
        return false;
    }
    let mut state = CallState::new(WITHIN, false, Spread::Home);
    state.asks(gateway.name.as_str());
    // Where no other can do better, there is nowhere to go.
    match inner.another(&mut state).await {
        Some(other) => inner.serves(&other).await,
        None => false,
    }
}
