//! What the clients of a node hold of it: connections, requests, bytes in both directions. Shared by
//! name, however many connections it comes with, see [`proto::share`].
//!
//! Invariant: everything that is held is given back when what holds it is dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use proto::limits::{
    CLIENT_BYTES_FREE, CLIENT_BYTES_KEPT, CLIENT_BYTES_MAX, CLIENT_CONNECTIONS_KEPT,
    CLIENT_REQUESTS_KEPT, CLIENT_REQUESTS_MAX, REFUSALS_MAX,
};
use proto::share::{Ledger, Rank};
use proto::{Identity, Role};
use tokio::time::Instant;

/// The time in which refusals are counted.
const REFUSALS_TIME: Duration = Duration::from_millis(100);

/// What all clients hold. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Shares(Arc<Mutex<Books>>);

#[derive(Debug)]
struct Books {
    connections: Ledger<Identity>,
    requests: Ledger<Identity>,
    bytes: Ledger<Identity>,
    /// Refusals of each since when. Of those who are connected alone.
    refusals: HashMap<Identity, (Instant, u32)>,
}

impl Shares {
    /// For so many connections at a time.
    pub(crate) fn new(connections: usize) -> Self {
        let kept = CLIENT_CONNECTIONS_KEPT.min(connections / 4);
        Self(Arc::new(Mutex::new(Books {
            connections: Ledger::new(connections, kept),
            requests: Ledger::new(CLIENT_REQUESTS_MAX, CLIENT_REQUESTS_KEPT),
            bytes: Ledger::new(CLIENT_BYTES_MAX, CLIENT_BYTES_KEPT),
            refusals: HashMap::new(),
        })))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock()
    }

    /// A place for one connection more of a client; `None` if that is more than its share.
    pub(crate) fn connect(&self, who: &Identity) -> Option<Arc<Seat>> {
        let rank = match who.role {
            Role::Admin | Role::Node => Rank::First,
            Role::Client => Rank::Ordinary,
        };
        let mut books = self.books();
        let taken = books.connections.take(who, rank, 1);
        let nth = (books.connections.held(who), books.connections.used());
        let (shares, who) = (self.clone(), who.clone());
        taken.then(|| Arc::new(Seat { shares, who, rank, nth }))
    }
}

/// The place of one connection.
#[derive(Debug)]
pub(crate) struct Seat {
    shares: Shares,
    who: Identity,
    rank: Rank,
    nth: (usize, usize),
}

impl Seat {
    /// Which connection of all it was when it came.
    pub(crate) fn nth(&self) -> usize {
        self.nth.1
    }

    /// A place for one request more; `None` if that is more than the client's share.
    pub(crate) fn request(self: &Arc<Self>) -> Option<Held> {
        let taken = self.shares.books().requests.take(&self.who, self.rank, 1);
        taken.then(|| Held { seat: Arc::clone(self), bytes: 0, is_given: false })
    }

    /// Places for so many requests, or for as many of them as the client's share allows.
    pub(crate) fn requests(self: &Arc<Self>, wanted: usize) -> Vec<Held> {
        let mut books = self.shares.books();
        let places = std::iter::from_fn(|| {
            let taken = books.requests.take(&self.who, self.rank, 1);
            taken.then(|| Held { seat: Arc::clone(self), bytes: 0, is_given: false })
        });
        places.take(wanted).collect()
    }

    /// Counts a refusal. Beyond what is decent it says until when not to listen to this client.
    pub(crate) fn refused(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut books = self.shares.books();
        let (since, count) = books.refusals.entry(self.who.clone()).or_insert((now, 0));
        if now >= *since + REFUSALS_TIME {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        (*count > REFUSALS_MAX).then(|| *since + REFUSALS_TIME)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut books = self.shares.books();
        books.connections.give(&self.who, 1);
        if books.connections.held(&self.who) == 0 {
            books.refusals.remove(&self.who);
        }
    }
}

/// One request, and the bytes that it and its answer hold.
#[derive(Debug)]
pub(crate) struct Held {
    seat: Arc<Seat>,
    bytes: usize,
    is_given: bool,
}

impl Held {
    /// Counts so many bytes more; `false` if that is more than the client's share, and nothing is
    /// counted.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let taken = self.seat.shares.books().bytes.take(&self.seat.who, self.seat.rank, bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }

    /// Whether so many bytes more could be counted now.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.seat.shares.books().bytes.may_take(&self.seat.who, self.seat.rank, bytes)
    }

    /// As [`Held::take`], up to `whole` bytes altogether, of which the first few are free.
    pub(crate) fn grow_to(&mut self, whole: usize) -> bool {
        match whole.saturating_sub(CLIENT_BYTES_FREE).checked_sub(self.bytes) {
            None | Some(0) => true,
            Some(more) => self.take(more),
        }
    }

    /// Gives back what several requests of one node hold, at once.
    pub(crate) fn give_all(several: Vec<Self>) {
        let Some(shares) = several.first().map(|held| held.seat.shares.clone()) else { return };
        let mut several = several;
        {
            let mut books = shares.books();
            several.iter_mut().for_each(|held| held.give_to(&mut books));
        }
        // Seats may end with them, and those take the books themselves.
        drop(several);
    }

    fn give_to(&mut self, books: &mut Books) {
        assert!(!std::mem::replace(&mut self.is_given, true), "a place is given back once");
        books.bytes.give(&self.seat.who, self.bytes);
        books.requests.give(&self.seat.who, 1);
    }

    /// Gives back so many of the bytes.
    pub(crate) fn give(&mut self, bytes: usize) {
        self.seat.shares.books().bytes.give(&self.seat.who, bytes);
        self.bytes -= bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_given {
            let shares = self.seat.shares.clone();
            self.give_to(&mut shares.books());
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::ClusterId;

    use super::*;

    fn of(role: Role, name: &str) -> Identity {
        Identity { cluster: ClusterId::from_bytes([1; 16]), role, name: name.parse().unwrap() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_is_given_back() {
        let shares = Shares::new(100);
        let (alice, bob) = (of(Role::Client, "alice"), of(Role::Client, "bob"));
        let seats: Vec<_> = std::iter::from_fn(|| shares.connect(&alice)).collect();
        assert_eq!(seats.len(), 37, "half of what is not kept");
        let bobs = shares.connect(&bob).unwrap();
        let mut many: Vec<_> = std::iter::from_fn(|| seats[0].request()).collect();
        assert!(seats[1].request().is_none(), "another connection is no other client");
        Held::give_all(many.split_off(many.len() - 3));
        many.extend(seats[1].requests(2));
        many.extend(seats[0].requests(9));
        assert!(seats[1].request().is_none() && seats[1].requests(1).is_empty());
        let mut own = bobs.request().unwrap();
        assert!(own.grow_to(CLIENT_BYTES_FREE) && own.bytes == 0);
        assert!(own.grow_to(CLIENT_BYTES_FREE + 9) && own.grow_to(9) && own.bytes == 9);
        assert!(own.take(1 << 20) && !own.take(CLIENT_BYTES_MAX / 2));
        own.give(1 << 20);
        assert_eq!(own.bytes, 9);
        for _ in 0..REFUSALS_MAX {
            assert_eq!(seats[0].refused(), None);
        }
        assert!(seats[1].refused().is_some() && bobs.refused().is_none());
        tokio::time::advance(REFUSALS_TIME).await;
        assert_eq!(seats[0].refused(), None);
        drop((seats, many, own, bobs));
        let books = shares.books();
        assert_eq!(
            (books.connections.used(), books.requests.used(), books.bytes.used()),
            (0, 0, 0)
        );
        assert!(books.refusals.is_empty());
    }

    #[test]
    fn an_admin_gets_in_when_nobody_else_does() {
        let shares = Shares::new(1024);
        let mut seats = Vec::new();
        for n in 0..2000 {
            seats.extend(shares.connect(&of(Role::Client, &format!("c{n}"))));
        }
        assert!(shares.connect(&of(Role::Client, "late")).is_none());
        let admin = shares.connect(&of(Role::Admin, "admin")).unwrap();
        assert!(admin.request().is_some());
    }
}
