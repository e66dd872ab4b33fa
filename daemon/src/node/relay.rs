//! A gateway that is not the primary: it hands over what its clients send, as much as is there at once, on
//! one stream that stays while the primary does. And the primary's end of it.
//!
//! Invariant: what was handed over and has no answer when the stream ends is *unknown*, unless the primary
//! refused the stream; what was not is not done. Both go on as requests by themselves, see `direct`.
//!
//! Invariant: who asks is what the gateway has proven in the handshake; the primary looks it up in its own
//! tables, once in a batch, before anything goes to the log.
//!
//! Not here: nodes of a release that takes one request at a time, see `write`.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use net::{
    Answered, AnswersRx, Batch, Flush, Flushes, ForwardsRx, FrameRx, FrameTx, HandedOver, Lane,
    LinkError, Numbered, PeerAddr,
};
use parking_lot::{Mutex, MutexGuard};
use prost::Message as _;
use proto::limits::{CLIENT_REQUESTS_MAX, FORWARDS_BYTES_MAX, FORWARDS_MAX};
use proto::peer::{Forward, Forwarded, Forwarder, Forwards, Hello, PeerOp, PeerRequest};
use proto::wire::{Empty, Reply, Response};
use proto::{ErrorCode, Failure, Identity, Name, Role};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::pause;

use super::direct::{Direct, UnderWay, not_in_time};
use super::primary::Primary;
use super::write::told;
use super::{Core, Node, Principal};

/// When a client may come back for whom there is no place, in milliseconds.
const BUSY_MS: u32 = 20;
/// Longest wait for a stream to the primary.
const OPEN_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// Which nodes take many requests at once, by what they said when they were dialled last. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Takers(Arc<Mutex<BTreeSet<String>>>);

impl Takers {
    /// A node was dialled, and has proven who it is.
    pub(crate) fn heard(&self, hello: &Hello) {
        let mut takers = self.0.lock();
        if hello.takes_forwards {
            takers.insert(hello.name.clone());
        } else {
            takers.remove(&hello.name);
        }
    }

    fn has(&self, node: &Name) -> bool {
        self.0.lock().contains(node.as_str())
    }
}

/// The way to the primary.
#[derive(Default)]
pub(super) struct Relay {
    takers: Takers,
    line: Mutex<Option<Arc<Line>>>,
}

impl Relay {
    pub(super) fn new(takers: Takers) -> Self {
        Self { takers, line: Mutex::default() }
    }

    /// The stream to the primary, if that is another node which takes many requests at once, and the stream
    /// stands: while it does not, each request finds out by itself whether there is a primary, and nothing
    /// waits that nobody has. To be called on a runtime.
    pub(super) fn line(&self, node: &Node, core: &Core) -> Option<Arc<Line>> {
        let Ok(Primary::There(to)) = node.primary(core) else { return None };
        if !self.takers.has(&to.name) {
            return None;
        }
        let mut line = self.line.lock();
        if let Some(line) = line.as_ref().filter(|line| line.to == to && !line.has_ended()) {
            return (line.calls().stream == Stream::Stands).then(|| Arc::clone(line));
        }
        let new = Arc::new(Line { to, calls: Mutex::default(), news: Notify::new() });
        pause::spawn(keep(Arc::clone(&new), node.clone()));
        *line = Some(new);
        None
    }
}

/// One stream to a primary.
pub(super) struct Line {
    to: PeerAddr,
    calls: Mutex<Calls>,
    news: Notify,
}

#[derive(Default)]
struct Calls {
    next: u64,
    /// What has no answer yet, by number.
    waiting: BTreeMap<u64, UnderWay>,
    /// The first that is not handed over.
    unsent: u64,
    stream: Stream,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stream {
    #[default]
    Opens,
    Stands,
    /// It takes no more; what was handed over may still be answered.
    Ended,
}

/// Why a stream gives no more answers.
enum End {
    Lost(String),
    /// The primary takes nothing of this node, and has done nothing of what was handed over.
    Refused(Failure),
}

impl Line {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock()
    }

    fn has_ended(&self) -> bool {
        self.calls().stream == Stream::Ended
    }

    /// Hands over these, in this order, each of which is answered.
    pub(super) fn hand_over(&self, several: Vec<UnderWay>) {
        let mut refused = Vec::new();
        {
            let mut calls = self.calls();
            for under_way in several {
                let ended = calls.stream == Stream::Ended;
                if ended || calls.waiting.len() >= CLIENT_REQUESTS_MAX {
                    refused.push((under_way, ended));
                    continue;
                }
                let number = calls.next;
                calls.next += 1;
                calls.waiting.insert(number, under_way);
            }
        }
        self.news.notify_one();
        settle(refused.into_iter().map(|(under_way, ended)| {
            let failure = match ended {
                true => self.not_sent("the stream has ended"),
                false => Failure::new(ErrorCode::Busy, "the primary has too much to answer")
                    .retry_after_ms(BUSY_MS),
            };
            (under_way, Err(failure))
        }));
    }

    fn not_sent(&self, why: &str) -> Failure {
        Failure::new(ErrorCode::NotPrimary, format!("{}: {why}", self.to.name))
    }

    /// What is to be handed over next.
    fn take(&self) -> Option<Forwards> {
        let mut calls = self.calls();
        let Calls { next, waiting, unsent, .. } = &mut *calls;
        let (mut batch, mut bytes) = (Forwards::default(), 0);
        let mut clients: Vec<Arc<Direct>> = Vec::new();
        for (number, under_way) in waiting.range(*unsent..) {
            if batch.requests.len() >= FORWARDS_MAX || bytes >= FORWARDS_BYTES_MAX {
                break;
            }
            *unsent = number + 1;
            let of = under_way.of();
            let client = clients.iter().position(|known| Arc::ptr_eq(known, of));
            let client = client.unwrap_or_else(|| {
                clients.push(Arc::clone(of));
                batch.clients.push(forwarder(of.principal()));
                clients.len() - 1
            });
            let left_ms = told(under_way.deadline().left()).as_millis();
            bytes += under_way.frame().len();
            batch.requests.push(Forwarded {
                number: *number,
                client: u32::try_from(client).unwrap_or(u32::MAX),
                deadline_ms: u32::try_from(left_ms).unwrap_or(u32::MAX).max(1),
                request: under_way.frame().clone(),
            });
        }
        if batch.requests.is_empty() {
            *unsent = *next;
        }
        (!batch.requests.is_empty()).then_some(batch)
    }

    fn answered(&self, frames: Vec<(u64, Bytes)>) {
        let answered: Vec<_> = {
            let mut calls = self.calls();
            let known = frames.into_iter();
            known.filter_map(|(n, frame)| Some((calls.waiting.remove(&n)?, frame))).collect()
        };
        settle(answered.into_iter().map(|(under_way, frame)| (under_way, read(frame))));
    }

    /// Hands nothing more over: ends what was not, and whatever is asked later.
    fn close(&self, why: &str) {
        let unsent = {
            let mut calls = self.calls();
            calls.stream = Stream::Ended;
            let from = calls.unsent;
            calls.waiting.split_off(&from)
        };
        settle(unsent.into_values().map(|under_way| (under_way, Err(self.not_sent(why)))));
    }

    /// Ends all that has no answer, and whatever is asked later.
    fn end(&self, end: End) {
        let why = match &end {
            End::Lost(why) => why,
            End::Refused(failure) => &failure.message,
        };
        self.close(why);
        let handed_over = std::mem::take(&mut self.calls().waiting);
        let failure = match end {
            End::Lost(why) => Failure::new(ErrorCode::Unknown, format!("{}: {why}", self.to.name)),
            End::Refused(failure) => failure,
        };
        settle(handed_over.into_values().map(|under_way| (under_way, Err(failure.clone()))));
    }
}

fn forwarder(principal: &Principal) -> Forwarder {
    let identity = principal.identity.dns_name();
    Forwarder { identity, fingerprint: principal.fingerprint.to_vec() }
}

/// Gives answers to those who wait for them; what goes to one client goes out together.
fn settle(given: impl Iterator<Item = (UnderWay, Result<Reply, Failure>)>) {
    let mut flushes = Flushes::default();
    for (under_way, reply) in given {
        under_way.came_to(reply).into_iter().for_each(|flush: Flush| flushes.add(flush));
    }
    flushes.now();
}

fn read(frame: Bytes) -> Result<Reply, Failure> {
    let response = Response::decode(frame).map_err(|e| Failure::new(ErrorCode::Unknown, e))?;
    match response.reply {
        Some(Reply::Failure(failure)) => Err(failure),
        Some(reply) => Ok(reply),
        None => Err(Failure::new(ErrorCode::Unknown, "the primary sent an empty answer")),
    }
}

/// Keeps a stream until it is lost, or its end is no longer the primary: what is asked of that may never
/// be answered.
async fn keep(line: Arc<Line>, node: Node) {
    let lost = |why: &str| End::Lost(why.to_owned());
    let Ok(core) = node.core() else { return line.end(lost("this node takes no part")) };
    let mut view = core.engine.view();
    let raft_id = line.to.raft_id;
    let deposed = view.wait_for(|view| view.primary != Some(raft_id));
    tokio::select! {
        end = carry(&line, &node) => {
            match &end {
                End::Lost(why) => {
                    tracing::debug!(primary = %line.to.name, why, "the stream to the primary ended");
                }
                End::Refused(why) => {
                    tracing::debug!(primary = %line.to.name, %why, "the primary takes nothing of us");
                }
            }
            line.end(end);
        }
        // Also when the engine ended: nothing will be answered either.
        _ = deposed => line.end(lost("it is no longer the primary")),
    }
}

/// Carries requests and answers. Returns why it ended.
async fn carry(line: &Line, node: &Node) -> End {
    let opened = tokio::time::timeout(OPEN_WITHIN, open(line, node)).await;
    let (tx, rx) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return End::Lost(error.to_string()),
        Err(_) => return End::Lost("no connection in time".to_owned()),
    };
    line.calls().stream = Stream::Stands;
    // A primary that takes no more may have answered what it took, or say that it takes nothing.
    let write = async {
        let error = write(line, tx).await;
        line.close(&error.to_string());
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        never = write => match never {},
        end = take_answers(line, AnswersRx::new(rx)) => end,
    }
}

async fn open(line: &Line, node: &Node) -> Result<(FrameTx, FrameRx), LinkError> {
    let (mut tx, rx) = node.link().open(&line.to, Lane::Request).await?;
    tx.send_message(&PeerRequest { op: Some(PeerOp::Forwards(Empty {})) }).await?;
    Ok((tx, rx))
}

async fn write(line: &Line, mut tx: FrameTx) -> LinkError {
    loop {
        while let Some(batch) = line.take() {
            if let Err(error) = tx.send_message(&batch).await {
                return error;
            }
        }
        line.news.notified().await;
    }
}

async fn take_answers(line: &Line, mut rx: AnswersRx) -> End {
    loop {
        match rx.recv().await {
            Ok(Answered::Each(frames)) => line.answered(frames),
            Ok(Answered::Refused(frame)) => {
                return match read(frame) {
                    Err(failure) => End::Refused(failure),
                    Ok(_) => End::Lost("it refused the stream without a reason".to_owned()),
                };
            }
            Ok(Answered::End) => return End::Lost("it ended the stream".to_owned()),
            Err(error) => return End::Lost(error.to_string()),
        }
    }
}

impl Node {
    /// Serves what a gateway hands over, until it ends the stream.
    pub(crate) async fn serve_forwards(
        &self,
        from: &Name,
        (tx, rx): (FrameTx, FrameRx),
        requests: &TaskTracker,
    ) {
        let mut forwards = ForwardsRx::new(tx, rx);
        loop {
            match forwards.next().await {
                Ok(Some(HandedOver::Many(batch))) => self.take_over(from, batch, requests),
                Ok(Some(HandedOver::Late(late))) => {
                    late.answer(&self.response(from, Reply::Failure(not_in_time())));
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(gateway = %from, %error, "a stream of requests ended");
                    return;
                }
            }
        }
    }

    /// Orders what can be at once; the rest one by one.
    fn take_over(&self, from: &Name, batch: Batch, requests: &TaskTracker) {
        let Batch { clients, requests: asked } = batch;
        let mut of_each: Vec<Vec<Numbered>> = clients.iter().map(|_| Vec::new()).collect();
        for (client, numbered) in asked {
            if let Some(of_one) = of_each.get_mut(client) {
                of_one.push(numbered);
            }
        }
        let core = self.core().ok().filter(|core| self.may_order(core));
        let mut proposals = Vec::new();
        for (client, of_one) in clients.into_iter().zip(of_each) {
            let proven = core.and_then(|core| self.proven_client(core, &client, from));
            let rest = match proven {
                Some(principal) => {
                    let direct = Direct::forwarded(self.clone(), principal, requests.clone());
                    let (direct, rest) = direct.proposals(of_one);
                    proposals.extend(direct);
                    rest
                }
                None => of_one,
            };
            for numbered in rest {
                self.take_over_one(from, &client, numbered, requests);
            }
        }
        if let Some(core) = core {
            core.proposer.propose_all(proposals);
        }
    }

    /// A client, no administrator, that this node's own table has with this key.
    fn proven_client(&self, core: &Core, said: &Forwarder, from: &Name) -> Option<Principal> {
        let identity = Identity::from_dns_name(&said.identity).ok()?;
        let fingerprint: [u8; 32] = said.fingerprint.as_slice().try_into().ok()?;
        let ours = identity.role == Role::Client
            && identity.cluster == self.inner.identity.cluster
            && fingerprint != [0; 32];
        let principal = Principal { identity, fingerprint, gateway: from.clone() };
        (ours && self.is_known_client(core, &principal)).then_some(principal)
    }

    /// One that may have to wait, or is to be refused.
    fn take_over_one(
        &self,
        from: &Name,
        client: &Forwarder,
        numbered: Numbered,
        requests: &TaskTracker,
    ) {
        let Numbered { request, ticket, .. } = numbered;
        let Forwarder { identity, fingerprint } = client.clone();
        let gateway = from.to_string();
        let forward = Forward { identity, fingerprint, gateway, request: Some(request) };
        let (node, from) = (self.clone(), from.clone());
        requests.spawn(pause::inherit(async move {
            let response = node.forwarded(forward, &from).await;
            ticket.answer(&response).now();
        }));
    }
}
