//! A client's place at a node for whoever serves it by another way than QUIC: the same shares, whichever
//! way it comes.

use std::sync::Arc;

use proto::Failure;

use crate::client_conn::{TOO_MANY, TOO_MANY_BYTES, UNREAD, busy};
use crate::shares::{Held, Seat};

/// The place of one connection of a client. Cheap to clone; given back with the last clone.
#[derive(Debug, Clone)]
pub struct ClientSeat(Arc<Seat>);

/// The place of one request, and of what it and its answer hold.
#[derive(Debug)]
pub struct ClientRequest(Held);

impl ClientSeat {
    pub(crate) fn new(seat: Arc<Seat>) -> Self {
        Self(seat)
    }

    /// A place for one request more.
    ///
    /// # Errors
    /// `Busy` when that is more than the client's share.
    pub fn request(&self) -> Result<ClientRequest, Failure> {
        self.0.request().map(ClientRequest).ok_or_else(|| busy(TOO_MANY))
    }
}

impl ClientRequest {
    /// Counts what the request holds of memory, up to so many bytes in all.
    ///
    /// # Errors
    /// `Busy` when that is more than the client's share.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Failure> {
        self.0.grow_to(bytes).then_some(()).ok_or_else(|| busy(TOO_MANY_BYTES))
    }

    /// Counts what its answer may hold.
    ///
    /// # Errors
    /// `Busy` when the client has not taken so much of earlier answers that there is no room.
    pub fn has_room(&self, bytes: usize) -> Result<(), Failure> {
        self.0.has_room(bytes).then_some(()).ok_or_else(|| busy(UNREAD))
    }
}
