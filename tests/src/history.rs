//! What every send was told: the material of the checks.

use std::time::Instant;

use net::ClientError;
use proto::Executed;
use proto::wire::{Reply, Response};

/// One send, from the call to its answer.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Message id.
    pub id: String,
    /// When it was called.
    pub invoked: Instant,
    /// When the answer was there.
    pub completed: Instant,
    /// The answer.
    pub outcome: Outcome,
}

/// What a send was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored, here.
    Acked {
        /// Its number in the log.
        seq: u64,
        /// Its stamp, 20 bytes.
        stamp: Vec<u8>,
        /// Whether it was stored before.
        duplicate: bool,
    },
    /// Nobody knows.
    Unknown(String),
    /// It was not done, and never will be.
    Refused(String),
}

impl Outcome {
    /// Reads an answer.
    #[must_use]
    pub fn of(answer: Result<Response, ClientError>) -> Self {
        match answer {
            Ok(Response { reply: Some(Reply::Ack(ack)), .. }) => {
                Self::Acked { seq: ack.seq, stamp: ack.stamp, duplicate: ack.duplicate }
            }
            Ok(other) => Self::Unknown(format!("not an answer to a send: {other:?}")),
            Err(ClientError::Failure(failure))
                if failure.error_code().executed() == Executed::Unknown =>
            {
                Self::Unknown(failure.message)
            }
            Err(error) => Self::Refused(error.to_string()),
        }
    }
}

/// All sends of a run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// In no order.
    pub attempts: Vec<Attempt>,
}

impl History {
    /// Ids, numbers and stamps of what was acknowledged.
    pub fn acked(&self) -> impl Iterator<Item = (&Attempt, u64, &[u8])> {
        self.attempts.iter().filter_map(|attempt| match &attempt.outcome {
            Outcome::Acked { seq, stamp, .. } => Some((attempt, *seq, stamp.as_slice())),
            _ => None,
        })
    }

    /// What was not acknowledged, and what was said instead.
    pub fn failed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attempts.iter().filter_map(|attempt| match &attempt.outcome {
            Outcome::Acked { .. } => None,
            Outcome::Unknown(reason) | Outcome::Refused(reason) => {
                Some((attempt.id.as_str(), reason.as_str()))
            }
        })
    }
}
