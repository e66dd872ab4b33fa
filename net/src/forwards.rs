//! The primary's end of a stream on which a gateway hands over what its clients ask: many requests in a
//! frame, see [`proto::peer::Forwards`], and many answers in one, each with its number.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use proto::frame::ALL_REFUSED;
use proto::limits::FORWARDS_MAX;
use proto::peer::{Forwarded, Forwarder, Forwards};
use proto::wire::Response;
use tokio::time::{Instant, sleep_until};

use crate::answers::{Answers, Late, Most, Way};
use crate::client_conn::refusal;
use crate::numbered::put;
use crate::{FrameRx, FrameTx, LinkError, Numbered, decode_numbered};

/// What a gateway hands over on one stream.
#[derive(Debug)]
pub struct ForwardsRx {
    rx: FrameRx,
    answers: Arc<Answers>,
}

/// What comes from a gateway.
#[derive(Debug)]
pub enum HandedOver {
    /// What it hands over at once.
    Many(Batch),
    /// Requests whose time is over, see [`crate::Ticket::expires`].
    Late(Late),
}

/// What a gateway hands over at once.
#[derive(Debug)]
pub struct Batch {
    /// Who asks, as the gateway says.
    pub clients: Vec<Forwarder>,
    /// What each asks, with its place in `clients`.
    pub requests: Vec<(usize, Numbered)>,
}

/// Refuses a stream before anything is read of what is handed over on it: this answers all of that.
///
/// # Errors
/// When the stream is lost.
pub async fn refuse_forwards(tx: &mut FrameTx, response: &Response) -> Result<(), LinkError> {
    let mut out = BytesMut::new();
    put(&mut out, ALL_REFUSED, response)?;
    tx.send(out.freeze()).await?;
    tx.finish().await
}

impl ForwardsRx {
    /// Takes over a stream. To be called on a runtime.
    #[must_use]
    pub fn new(tx: FrameTx, rx: FrameRx) -> Self {
        let answers = Answers::new(Most::GATEWAY);
        tokio::spawn(Arc::clone(&answers).write(Way::Gateway(tx)));
        Self { rx, answers }
    }

    /// What comes next, once there is room for it; `None` at the end. Safe to cancel.
    ///
    /// # Errors
    /// When the gateway breaks the rules, or the stream is lost.
    pub async fn next(&mut self) -> Result<Option<HandedOver>, LinkError> {
        loop {
            let due = self.answers.due();
            let (rx, answers) = (&mut self.rx, &self.answers);
            let frame = async {
                answers.room().await;
                rx.recv().await
            };
            let frame = tokio::select! {
                frame = frame => frame?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    match self.answers.late(Instant::now()) {
                        Some(late) => return Ok(Some(HandedOver::Late(late))),
                        None => continue,
                    }
                }
            };
            let Some(frame) = frame else { return Ok(None) };
            let batch = self.batch(frame)?;
            if !batch.requests.is_empty() {
                return Ok(Some(HandedOver::Many(batch)));
            }
        }
    }

    fn batch(&self, frame: Bytes) -> Result<Batch, LinkError> {
        let wrong = |what: &dyn std::fmt::Display| LinkError::Lost(what.to_string());
        let Forwards { clients, requests } = Forwards::decode(frame).map_err(|e| wrong(&e))?;
        if requests.len() > FORWARDS_MAX {
            return Err(wrong(&"it hands over too much at once"));
        }
        let mut taken = Vec::with_capacity(requests.len());
        for Forwarded { number, client, deadline_ms, request: frame } in requests {
            let client = client as usize;
            if client >= clients.len() {
                return Err(wrong(&"it hands over what nobody asks"));
            }
            if number == ALL_REFUSED {
                return Err(wrong(&"a number that no request has"));
            }
            match decode_numbered(frame.clone()) {
                Ok(mut request) => {
                    request.deadline_ms = deadline_ms;
                    let ticket = self.answers.open(number, None);
                    let ticket = ticket.ok_or_else(|| wrong(&"two requests with one number"))?;
                    taken.push((client, Numbered { request, frame, ticket }));
                }
                Err(failure) => self.answers.refuse(number, &refusal(failure)),
            }
        }
        Ok(Batch { clients, requests: taken })
    }
}

impl Drop for ForwardsRx {
    fn drop(&mut self) {
        self.answers.end();
    }
}

#[cfg(test)]
#[path = "forwards_test.rs"]
mod tests;
