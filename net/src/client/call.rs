//! One call: ask, judge the answer, ask again where that can help.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::Hlc;
use proto::wire::{Op, Read, Reply, Request, Response};
use proto::{Action, ErrorCode, Executed, Failure, Whose};
use tokio::time::{Instant, sleep, timeout_at};

use super::ask::Miss;
use super::attempts::{Attempts, Ended, Step};
use super::dial::{Gateway, Trouble};
use super::directory::Node;
use super::spread::Spread;
use super::{ClientError, Inner};
use crate::frames::encode;
use crate::reason::End;

/// How long a call looks for a node while none can be reached.
const REACH: Duration = Duration::from_secs(3);
/// Longest and shortest time that one gateway is given.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);
const ATTEMPT_MIN: Duration = Duration::from_millis(500);
/// What a gateway is told to be done earlier, for its own "too late" to arrive in time.
const GRACE_MAX: Duration = Duration::from_millis(500);
/// With less time left a gateway is not asked again: an answer that comes too late would leave open
/// what the last one has made clear.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// Pauses between repetitions.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// What a call has met so far.
#[derive(Debug)]
pub(super) struct CallState {
    started: Instant,
    timeout: Duration,
    /// Whether the call changes anything, so that it matters if it was done.
    writes: bool,
    pause: Duration,
    /// When a gateway was last at hand.
    reached: Instant,
    /// Attempts without an answer.
    missed: u32,
    /// An attempt whose outcome nobody knows, and why.
    maybe: Option<String>,
    /// The last clear refusal.
    failure: Option<Failure>,
    trouble: Option<Trouble>,
    /// Over which gateways it goes.
    pub(super) spread: Spread,
    /// Gateways that were asked, in that order.
    avoided: Vec<String>,
    /// Attempts that brought no good answer.
    retried: u32,
}

/// An answer, and the way to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The answer.
    pub response: Response,
    /// The node that gave it.
    pub gateway: String,
    /// Attempts before it that brought none.
    pub retried: u32,
}

/// What to do after an attempt without a usable answer.
pub(super) enum Next {
    /// Ask again, after this pause at least.
    Again(Duration),
    /// The call is over.
    Over(ClientError),
}

/// Pause before a node that has no place for a connection is asked for one again, in milliseconds.
const NO_PLACE_MS: u32 = 200;

impl Inner {
    pub(super) async fn call(
        self: &Arc<Self>,
        op: Op,
        spread: &Spread,
    ) -> Result<Answer, ClientError> {
        let mut state = CallState::new(self.timeout, op.is_write(), spread.clone());
        let mut attempts = Attempts::new(&op, self.timeout);
        let mut question = Question::new(op);
        // A refusal by one gateway, while others have yet to answer.
        let mut over = None;
        loop {
            let next = match attempts.step(self, &mut state).await {
                Step::Reached(gateway) => {
                    let limit = state.attempt_limit();
                    let frame = question.frame(self.seen(), limit, state.started.elapsed())?;
                    state.asks(gateway.name.as_str());
                    attempts.begin(self, gateway, frame, limit);
                    continue;
                }
                Step::Unreached(Next::Over(error)) => return Err(state.verdict_or(error)),
                Step::Unreached(next) => next,
                Step::Ended(Ended { gateway, result: Ok(response) }) => {
                    self.note(&gateway, &response, &state.spread);
                    match response.reply {
                        Some(Reply::Failure(failure)) => {
                            match self.refused(&gateway, failure, &mut state) {
                                Next::Over(error) => return Err(error),
                                again @ Next::Again(_) => again,
                            }
                        }
                        _ => {
                            attempts.settle(self);
                            let (gateway, retried) = (gateway.name.to_string(), state.retried);
                            return Ok(Answer { response, gateway, retried });
                        }
                    }
                }
                Step::Ended(Ended { gateway, result: Err(miss) }) => {
                    self.missed(&gateway, miss, &mut state)
                }
            };
            match next {
                Next::Over(error) if attempts.is_idle() => return Err(state.verdict_or(error)),
                Next::Over(error) => {
                    over = Some(error);
                    attempts.again(None);
                }
                Next::Again(_) if over.is_some() => {
                    if let Some(error) = over.take_if(|_| attempts.is_idle()) {
                        return Err(state.verdict_or(error));
                    }
                }
                Next::Again(pause) if state.is_over(pause) => {
                    if attempts.is_idle() {
                        return Err(state.verdict());
                    }
                    attempts.again(None);
                }
                Next::Again(pause) => attempts.again(Some(pause)),
            }
        }
    }

    /// A gateway to ask, within the call's time.
    pub(super) async fn reach(self: &Arc<Self>, state: &mut CallState) -> Result<Gateway, Next> {
        match timeout_at(state.deadline(), self.gateway_for(state)).await {
            Ok(Ok(gateway)) => {
                state.reached = Instant::now();
                Ok(gateway)
            }
            Ok(Err(trouble)) => {
                let refusal = trouble.is_refusal();
                state.trouble = Some(trouble.clone());
                // To learn what became of a write, it is worth looking on.
                let lost = state.reached.elapsed() >= REACH && !state.in_doubt();
                let pause = state.pause();
                if refusal || lost || state.is_over(pause) {
                    return Err(Next::Over(trouble.into()));
                }
                Err(Next::Again(pause))
            }
            // The time was too short for even one node to be given up.
            Err(_) if state.is_untold() => {
                let silent = |node: Node| format!("{}: no answer yet", node.label());
                let tried = self.directory.candidates().into_iter().map(silent).collect();
                Err(Next::Over(ClientError::Unreachable { tried }))
            }
            Err(_) => Err(Next::Over(state.verdict())),
        }
    }

    /// Judges a refusal.
    pub(super) fn refused(
        &self,
        gateway: &Gateway,
        failure: Failure,
        state: &mut CallState,
    ) -> Next {
        let code = failure.error_code();
        state.failed(gateway.name.as_str());
        let after = Duration::from_millis(failure.retry_after_ms.into());
        tracing::debug!(gateway = %gateway.name, ?code, reason = failure.message, "refused");
        let pause = match code.action() {
            Action::FixInput | Action::CallOperator => return Next::Over(failure.into()),
            Action::Retry => {
                match code.whose() {
                    Whose::Gateway | Whose::Sight => self.leave(gateway),
                    // The primary has too much to do, whoever it is asked by.
                    Whose::Everybody if state.spread == Spread::Home => {
                        state.forgives(gateway.name.as_str());
                    }
                    Whose::Everybody => {}
                }
                state.pause()
            }
            Action::GoElsewhere => {
                let reason = &failure.message;
                tracing::info!(gateway = %gateway.name, reason, "redirected, asking elsewhere");
                self.leave(gateway);
                self.fail_turn(gateway.name.as_str());
                state.pause()
            }
        };
        if code.executed() == Executed::Unknown {
            state.maybe = Some(failure.message.clone());
        }
        // What a node says of itself tells less than what another one says of the cluster.
        if code.whose() != Whose::Gateway || state.failure.is_none() {
            state.failure = Some(failure);
        }
        Next::Again(pause.max(after))
    }

    /// Judges a question without an answer.
    pub(super) fn missed(&self, gateway: &Gateway, miss: Miss, state: &mut CallState) -> Next {
        let Miss { sent, end } = miss;
        tracing::info!(gateway = %gateway.name, sent, reason = end.reason(), "no answer");
        if let End::RefusedUs(reason) | End::RevokedUs(reason) | End::WeRefused(reason) = end {
            let gateway = format!("{} at {}", gateway.name, gateway.address);
            return Next::Over(ClientError::Denied { gateway, reason });
        }
        self.leave(gateway);
        if let End::Busy(reason) = end {
            // Said before anything was listened to: nothing was done.
            let reason = format!("{}: {reason}", gateway.name);
            let failure = Failure::new(ErrorCode::Busy, reason).retry_after_ms(NO_PLACE_MS);
            return self.refused(gateway, failure, state);
        }
        self.fail_turn(gateway.name.as_str());
        state.failed(gateway.name.as_str());
        if sent {
            state.maybe = Some(format!("{}: {}", gateway.name, end.reason()));
        }
        state.trouble = None;
        state.missed += 1;
        // The next gateway is likely another one, which needs no time to recover.
        Next::Again(if state.missed == 1 { Duration::ZERO } else { state.pause() })
    }
}

/// What a call asks, anew for each attempt.
struct Question {
    request: Request,
    /// A read in times relative to now, as it was first asked.
    relative: Option<Read>,
}

impl Question {
    fn new(op: Op) -> Self {
        let relative = op.relative().cloned();
        Self { request: Request { op: Some(op), ..Request::default() }, relative }
    }

    /// The frame of an attempt that is given so much time, so long after the call began.
    fn frame(&mut self, seen: Hlc, limit: Duration, age: Duration) -> Result<Bytes, Failure> {
        let told = told(limit);
        self.request.deadline_ms = u32::try_from(told.as_millis()).unwrap_or(u32::MAX).max(1);
        if seen > Hlc::ZERO {
            self.request.causal_token = seen.to_bytes().to_vec();
        }
        if let Some(read) = &self.relative {
            self.request.op = Some(Op::Read(read.clone().later(age)));
        }
        encode(None, &self.request).map_err(|error| Failure::new(ErrorCode::Invalid, error))
    }
}

/// What a gateway is told of the time that it is given, for its own "too late" to arrive in time.
pub(super) fn told(limit: Duration) -> Duration {
    limit - (limit / 4).min(GRACE_MAX)
}

impl CallState {
    pub(super) fn new(timeout: Duration, writes: bool, spread: Spread) -> Self {
        let now = Instant::now();
        Self {
            started: now,
            timeout,
            writes,
            pause: PAUSE_MIN,
            reached: now,
            missed: 0,
            maybe: None,
            failure: None,
            trouble: None,
            spread,
            avoided: Vec::new(),
            retried: 0,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Notes an attempt. Who was asked is not asked again before every node was.
    pub(super) fn asks(&mut self, gateway: &str) {
        if !self.avoids(gateway) {
            self.avoided.push(gateway.to_owned());
        }
    }

    /// Notes an attempt that was of no use.
    pub(super) fn failed(&mut self, gateway: &str) {
        self.retried = self.retried.saturating_add(1);
        self.asks(gateway);
    }

    /// The gateway may be asked again.
    fn forgives(&mut self, gateway: &str) {
        self.avoided.retain(|name| name != gateway);
    }

    /// Whether this node was asked already.
    pub(super) fn avoids(&self, gateway: &str) -> bool {
        self.avoided.iter().any(|name| name == gateway)
    }

    /// The node that was asked last.
    pub(super) fn last_asked(&self) -> Option<&str> {
        self.avoided.last().map(String::as_str)
    }

    /// Every node may be tried again.
    pub(super) fn start_over(&mut self) {
        self.avoided.clear();
    }

    fn deadline(&self) -> Instant {
        self.started + self.timeout
    }

    /// Whether too little time is left after this pause.
    pub(super) fn is_over(&self, pause: Duration) -> bool {
        Instant::now() + pause + TRY_AGAIN >= self.deadline()
    }

    /// Time for one gateway: half the call's, so that a second one can be asked.
    fn attempt_limit(&self) -> Duration {
        let left = self.deadline().saturating_duration_since(Instant::now());
        (self.timeout / 2).clamp(ATTEMPT_MIN, ATTEMPT_MAX).min(left)
    }

    /// The next pause, each about twice the one before; calls that failed together spread out.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        let [.., random] = uuid::Uuid::new_v4().into_bytes();
        pause / 2 + pause * u32::from(random) / 256
    }

    pub(super) async fn rest(&self, pause: Duration) {
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }

    /// What became of a call whose time is over.
    pub(super) fn verdict(&mut self) -> ClientError {
        let timeout = self.timeout;
        if let (true, Some(why)) = (self.writes, &self.maybe) {
            let text = format!("nobody can say whether it was done ({why}), after {timeout:?}");
            return Failure::new(ErrorCode::Unknown, text).into();
        }
        if let Some(failure) = self.failure.take() {
            return failure.into();
        }
        if let Some(trouble) = self.trouble.take() {
            return trouble.into();
        }
        let why = self.maybe.take().map(|why| format!(" ({why})")).unwrap_or_default();
        Failure::new(ErrorCode::Deadline, format!("no answer in {timeout:?}{why}")).into()
    }

    /// Whether nothing has been heard of any node.
    fn is_untold(&self) -> bool {
        self.missed == 0 && self.failure.is_none() && self.trouble.is_none()
    }

    /// The error, unless an earlier attempt may have been done.
    fn verdict_or(&mut self, error: ClientError) -> ClientError {
        if self.in_doubt() { self.verdict() } else { error }
    }

    /// Whether something may have been changed and nobody knows.
    fn in_doubt(&self) -> bool {
        self.writes && self.maybe.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with `is_over` looking at the deadline alone.
    #[tokio::test(start_paused = true)]
    async fn no_gateway_is_asked_when_its_answer_would_come_too_late() {
        let state = CallState::new(Duration::from_secs(1), true, Spread::Home);
        assert!(!state.is_over(Duration::ZERO));
        tokio::time::advance(Duration::from_millis(850)).await;
        assert!(!state.is_over(Duration::ZERO));
        assert!(state.is_over(Duration::from_millis(60)), "the pause counts");
        tokio::time::advance(Duration::from_millis(60)).await;
        assert!(state.is_over(Duration::ZERO), "90 ms are too little for an answer");
    }
}
