//! Reading page after page, through another gateway where the first one fails.
//!
//! Another gateway goes on by place in the log, and in the range of time that the first answer made of
//! it: "now" is another instant there.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;
use proto::wire::{Op, Page, Position, Read, Reply, Request, Response};
use proto::{ErrorCode, Failure};
use tokio::time::{Instant, timeout};

use super::ask::{Miss, Watch, begin, lost};
use super::call::{CallState, Next, told};
use super::dial::Gateway;
use super::pulse::Pulse;
use super::{Client, ClientError};
use crate::FrameRx;
use crate::frames::encode;
use crate::reason::End;

/// A gateway that sends nothing for so long is taken for dead: in that time the keep-alive of a
/// second was sent and not acknowledged.
const SILENCE: Duration = Duration::from_millis(1500);

/// Wait for the first page of a gateway before another one is asked; each further wait is twice as long.
const FIRST_PAGE: Duration = Duration::from_secs(2);

/// A read that goes on. Ends when the limit is reached, when a range of time is over or, without
/// `follow`, at the end of the log.
#[derive(Debug)]
pub struct Follow {
    client: Client,
    read: Read,
    /// When it was begun: times relative to now are relative to this.
    began: Instant,
    /// Highest seq returned, by shard. A new gateway goes on after it.
    positions: BTreeMap<u32, u64>,
    stream: Option<(Gateway, FrameRx)>,
    pulse: Pulse,
    /// What has gone wrong since the last page.
    state: Option<CallState>,
    /// How long the next gateway is given for its first page.
    patience: Duration,
    /// Until when this one has time for it; `None` once it is there.
    first_by: Option<Instant>,
    /// Whether the stream was let go for one at home.
    homing: bool,
    done: bool,
}

impl Follow {
    pub(super) fn new(client: Client, read: Read) -> Self {
        let positions = read.after.iter().map(|after| (after.shard, after.seq)).collect();
        let (began, patience) = (Instant::now(), client.0.timeout.min(FIRST_PAGE));
        Self {
            client,
            read,
            began,
            positions,
            stream: None,
            pulse: Pulse::new(),
            state: None,
            patience,
            first_by: None,
            homing: false,
            done: false,
        }
    }

    /// The next page; `None` at the end. Safe to cancel.
    ///
    /// # Errors
    /// When the cluster refuses, or no gateway could go on in the time of one call.
    pub async fn next(&mut self) -> Result<Option<Page>, ClientError> {
        while !self.done {
            if self.stream.as_ref().is_some_and(|(gateway, _)| self.client.0.is_home_again(gateway))
            {
                self.stream = None;
            }
            if self.stream.is_none() {
                self.open().await?;
            }
            let next = match self.receive().await {
                Ok(Some(response)) => match self.take(response) {
                    Ok(page) => return Ok(Some(page)),
                    Err(failure) => self.refused(failure),
                },
                Ok(None) if self.done => break,
                Ok(None) if std::mem::take(&mut self.homing) => Next::Again(Duration::ZERO),
                // A gateway that stops says so or breaks off: one that ends after a page has nothing
                // more to say of a range that ends.
                Ok(None) if self.read.until.is_some() && self.state.is_none() => {
                    self.done = true;
                    break;
                }
                Ok(None) => Next::Again(self.state().pause()),
                Err(miss) => self.missed(miss),
            };
            self.stream = None;
            match next {
                Next::Over(error) => return Err(self.fail(error)),
                Next::Again(pause) if self.state().is_over(pause) => {
                    let error = self.state().verdict();
                    return Err(self.fail(error));
                }
                Next::Again(pause) => self.state().rest(pause).await,
            }
        }
        Ok(None)
    }

    /// Asks a gateway to go on from here.
    pub(super) async fn open(&mut self) -> Result<(), ClientError> {
        loop {
            let frame = encode(None, &self.request())
                .map_err(|error| Failure::new(ErrorCode::Invalid, error))?;
            let inner = self.client.0.clone();
            let next = match inner.reach(self.state()).await {
                Ok(gateway) => match begin(&gateway, frame).await {
                    Ok(rx) => {
                        self.state().asks(gateway.name.as_str());
                        self.pulse = Pulse::new();
                        self.first_by = Some(Instant::now() + self.patience);
                        // A cluster that takes its time is waited for all the same.
                        self.patience = (self.patience * 2).min(self.client.0.timeout);
                        self.stream = Some((gateway, rx));
                        return Ok(());
                    }
                    Err(end) => inner.missed(&gateway, Miss { sent: false, end }, self.state()),
                },
                Err(next) => next,
            };
            match next {
                Next::Over(error) => return Err(self.fail(error)),
                Next::Again(pause) if self.state().is_over(pause) => {
                    let error = self.state().verdict();
                    return Err(self.fail(error));
                }
                Next::Again(pause) => self.state().rest(pause).await,
            }
        }
    }

    fn request(&self) -> Request {
        let mut read = self.read.clone().later(self.began.elapsed());
        let position = |(&shard, &seq)| Position { shard, seq };
        read.after = self.positions.iter().map(position).collect();
        // One that cannot reach the primary says so, in time for another one to be asked.
        let told_ms = u32::try_from(told(self.patience).as_millis()).unwrap_or(u32::MAX);
        Request { deadline_ms: told_ms.max(1), op: Some(Op::Read(read)), ..Request::default() }
    }

    /// What comes next on the stream; `None` at its end.
    async fn receive(&mut self) -> Result<Option<Response>, Miss> {
        let miss = |end| Miss { sent: false, end };
        let Some((gateway, rx)) = &mut self.stream else { return Ok(None) };
        let mut watch = Watch::new(gateway);
        let frame = loop {
            let left = |by: Instant| by.saturating_duration_since(Instant::now());
            let wait = self.first_by.map_or(SILENCE, |by| left(by).min(SILENCE));
            match timeout(wait, rx.recv()).await {
                Err(_) if self.first_by.is_some_and(|by| left(by).is_zero()) => {
                    return Err(miss(End::Lost("no page in time".to_owned())));
                }
                Ok(frame) => break frame.map_err(|error| miss(lost(gateway, error)))?,
                Err(_) if watch.is_silent() => {
                    watch.hang_up();
                    return Err(miss(End::Lost("it stopped answering".to_owned())));
                }
                Err(_) if self.client.0.is_home_again(gateway) => {
                    self.homing = true;
                    return Ok(None);
                }
                Err(_) => {
                    if !self.read.stale && self.pulse.is_lost(&self.client.0, gateway).await {
                        return Err(miss(End::Lost("it does not hear the cluster".to_owned())));
                    }
                    // Without answers nothing else would ever look whether home is back.
                    self.client.0.look_homewards(gateway);
                }
            }
        };
        let Some(frame) = frame else { return Ok(None) };
        let garbled = |_| miss(End::Lost("the answer cannot be decoded".to_owned()));
        let response = Response::decode(frame).map_err(garbled)?;
        self.client.0.note(gateway, &response, &self.client.0.spread);
        Ok(Some(response))
    }

    /// Takes a page and moves on behind it.
    fn take(&mut self, response: Response) -> Result<Page, Failure> {
        let mut page = match response.reply {
            Some(Reply::Page(page)) => page,
            Some(Reply::Failure(failure)) => return Err(failure),
            _ => return Err(Failure::new(ErrorCode::Version, "the answer to a read is no page")),
        };
        self.pulse.heard();
        (self.state, self.first_by) = (None, None);
        self.patience = self.client.0.timeout.min(FIRST_PAGE);
        self.read.pin(&page);
        // The positions are further on than the cursor was.
        self.read.cursor.clear();
        page.records.retain(|record| {
            let seen = self.positions.entry(record.shard).or_default();
            let new = record.seq > *seen;
            *seen = record.seq.max(*seen);
            new
        });
        for next in &page.next {
            let seen = self.positions.entry(next.shard).or_default();
            *seen = next.seq.max(*seen);
        }
        if self.read.limit > 0 {
            let room = usize::try_from(self.read.limit).unwrap_or(usize::MAX);
            page.records.truncate(room);
            self.read.limit -= page.records.len() as u64;
            self.done = self.read.limit == 0;
        }
        if !self.read.follow {
            self.done |= page.end;
            // One page an answer: the next one is another question.
            self.stream = None;
        }
        Ok(page)
    }

    fn refused(&mut self, failure: Failure) -> Next {
        let inner = self.client.0.clone();
        match self.stream.take() {
            Some((gateway, _)) => inner.refused(&gateway, failure, self.state()),
            None => Next::Over(failure.into()),
        }
    }

    fn missed(&mut self, miss: Miss) -> Next {
        let inner = self.client.0.clone();
        match self.stream.take() {
            Some((gateway, _)) => inner.missed(&gateway, miss, self.state()),
            None => Next::Again(Duration::ZERO),
        }
    }

    fn state(&mut self) -> &mut CallState {
        let (timeout, spread) = (self.client.0.timeout, &self.client.0.spread);
        self.state.get_or_insert_with(|| CallState::new(timeout, false, spread.clone()))
    }

    /// The next call of `next` starts over.
    fn fail(&mut self, error: ClientError) -> ClientError {
        self.state = None;
        error
    }
}
