//! The attempts of one call. Usually there is one. Where a gateway takes about a second, another one is
//! asked as well, with the same request: it carries the message id, so it cannot be done twice. The first
//! good answer is the call's.
//!
//! A slow gateway is not a failed one. One that lost to another is given a while more: if it answers, it
//! keeps its turns.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use proto::wire::{Op, Reply, Response};
use proto::{Action, ErrorCode};
use tokio::time::{Instant, timeout};

use super::Inner;
use super::ask::Miss;
use super::call::{CallState, Next};
use super::dial::Gateway;
use crate::due::wait_until;

/// Wait for an answer before another gateway is asked too; each further one is waited for twice as long.
const HEDGE_AFTER: Duration = Duration::from_secs(1);
/// How much longer than another a gateway may take for its answer before it counts as of no use.
const SETTLE: Duration = Duration::from_secs(1);

/// Those in flight, and when the next one is due.
pub(super) struct Attempts {
    under_way: FuturesUnordered<BoxFuture<'static, Ended>>,
    asked: Vec<Gateway>,
    due: Option<Instant>,
    /// Wait until the next gateway is asked too; `None` if the request must not be out twice.
    hedge: Option<Duration>,
    /// Whether the request goes with others of its kind, if it is small.
    shares: bool,
}

/// One that has ended.
pub(super) struct Ended {
    pub(super) gateway: Gateway,
    pub(super) result: Result<Response, Miss>,
}

/// What happened next.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is taken apart at once"
)]
pub(super) enum Step {
    /// A gateway is at hand for the next attempt.
    Reached(Gateway),
    /// None is.
    Unreached(Next),
    Ended(Ended),
}

impl Attempts {
    pub(super) fn new(op: &Op, timeout: Duration) -> Self {
        // A short call must be able to try another one as well.
        let hedge = may_be_out_twice(op).then(|| HEDGE_AFTER.min(timeout / 3));
        Self {
            under_way: FuturesUnordered::new(),
            asked: Vec::new(),
            due: Some(Instant::now()),
            hedge,
            shares: op.shares_a_stream(),
        }
    }

    /// Whether nobody is asked at the moment.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Asks a gateway.
    pub(super) fn begin(
        &mut self,
        inner: &Arc<Inner>,
        gateway: Gateway,
        frame: Bytes,
        limit: Duration,
    ) {
        let (inner, shares) = (Arc::clone(inner), self.shares);
        self.asked.push(gateway.clone());
        let asking = async move {
            let result = match shares {
                true => inner.ask_sharing(&gateway, frame, limit).await,
                false => inner.ask(&gateway, frame, limit).await,
            };
            Ended { gateway, result }
        };
        self.under_way.push(asking.boxed());
        self.due = self.hedge.map(|wait| Instant::now() + wait);
        self.hedge = self.hedge.map(|wait| wait * 2);
    }

    /// The next attempt is due after this pause, or not at all while others are in flight.
    pub(super) fn again(&mut self, pause: Option<Duration>) {
        self.due = pause.map(|pause| Instant::now() + pause);
    }

    /// Waits for what happens next.
    pub(super) async fn step(&mut self, inner: &Arc<Inner>, state: &mut CallState) -> Step {
        loop {
            let (due, alone) = (self.due, self.under_way.is_empty());
            let reach = async {
                if let Some(due) = due {
                    wait_until(due).await;
                }
                if alone {
                    Some(inner.reach(state).await)
                } else {
                    inner.another(state).await.map(Ok)
                }
            };
            let reached = tokio::select! {
                biased;
                Some(ended) = self.under_way.next(), if !alone => {
                    self.asked.retain(|asked| asked.name != ended.gateway.name);
                    return Step::Ended(ended);
                }
                reached = reach, if alone || due.is_some() => reached,
            };
            match reached {
                Some(Ok(gateway)) => return Step::Reached(gateway),
                Some(Err(next)) => return Step::Unreached(next),
                // Nobody else is left: the answer of those that were asked is all there will be.
                None => self.due = None,
            }
        }
    }

    /// After the call has its answer: judges those that had none by then.
    pub(super) fn settle(self, inner: &Arc<Inner>) {
        let Self { mut under_way, mut asked, .. } = self;
        if asked.is_empty() {
            return;
        }
        let inner = Arc::clone(inner);
        tokio::spawn(async move {
            let answers = async {
                while let Some(Ended { gateway, result }) = under_way.next().await {
                    if result.is_ok_and(|response| is_good(&response)) {
                        asked.retain(|asked| asked.name != gateway.name);
                    }
                }
            };
            // What has not come in this time counts as what never comes.
            drop(timeout(SETTLE, answers).await);
            for gateway in &asked {
                tracing::info!(gateway = %gateway.name, "of no use, while another one was");
                inner.leave(gateway);
                inner.fail_turn(gateway.name.as_str());
            }
        });
    }
}

/// Whether an answer says nothing against its gateway.
fn is_good(response: &Response) -> bool {
    let Some(Reply::Failure(failure)) = &response.reply else { return true };
    match failure.error_code().action() {
        Action::FixInput | Action::CallOperator => true,
        Action::Retry => failure.error_code() == ErrorCode::Busy,
        Action::GoElsewhere => false,
    }
}

/// Whether a request does no more harm twice at a time than once: it asks only, or says itself which one
/// it is. Others are repeated one after the other.
fn may_be_out_twice(op: &Op) -> bool {
    match op {
        Op::Send(_)
        | Op::Read(_)
        | Op::Get(_)
        | Op::Clients(_)
        | Op::Nodes(_)
        | Op::Status(_)
        | Op::Clock(_)
        | Op::Ping(_)
        | Op::SetCursor(_)
        | Op::Tokens(_)
        | Op::Group(_)
        | Op::Groups(_)
        | Op::Kv(_)
        | Op::KvRead(_)
        | Op::Members(_)
        | Op::Admins(_)
        | Op::Route(_)
        | Op::Plan(_)
        | Op::Slots(_)
        | Op::Distribution(_)
        | Op::Raft(_)
        | Op::Metrics(_) => true,
        Op::Delete(_)
        | Op::Register(_)
        | Op::Compact(_)
        | Op::Configure(_)
        | Op::Member(_)
        | Op::Token(_)
        | Op::Admin(_)
        | Op::WatchNodes(_)
        | Op::LowerCeiling(_)
        | Op::Renew(_)
        | Op::Verify(_) => false,
    }
}
