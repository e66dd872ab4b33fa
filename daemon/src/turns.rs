//! Turns: which of the clients' requests a node works on, and which wait.
//!
//! Nobody is worked for in more places than are left for the others (see [`proto::share`]); what is
//! more waits, and is served in turn, client by client. So a thousand requests of one client wait
//! behind each other, and the one of another goes past them.

use std::sync::Arc;

use parking_lot::Mutex;
use proto::share::{Ledger, Rank, Ring};
use proto::{Identity, Role};
use tokio::sync::oneshot;

/// So many turns at a time. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Mutex<Hall>>);

#[derive(Debug)]
struct Hall {
    places: Ledger<Identity>,
    waiting: Ring<Identity, oneshot::Sender<Turn>>,
}

/// A turn; over when dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    /// `None` once it is over.
    who: Option<Identity>,
}

/// Who may use what is kept for the first.
#[must_use]
pub fn rank(role: Role) -> Rank {
    match role {
        Role::Admin | Role::Node => Rank::First,
        Role::Client => Rank::Ordinary,
    }
}

impl Turns {
    /// So many at a time, of which some are kept for admins.
    #[must_use]
    pub fn new(places: usize, kept: usize) -> Self {
        let places = Ledger::new(places, kept);
        Self(Arc::new(Mutex::new(Hall { places, waiting: Ring::default() })))
    }

    /// Waits for a turn. Given up by dropping the future.
    pub async fn next(&self, who: &Identity) -> Turn {
        let waits = {
            let mut hall = self.0.lock();
            if !hall.waiting.waits(who) && hall.places.take(who, rank(who.role), 1) {
                return Turn { turns: self.clone(), who: Some(who.clone()) };
            }
            let (turn, waits) = oneshot::channel();
            hall.waiting.push(who.clone(), turn);
            waits
        };
        match waits.await {
            Ok(turn) => turn,
            // Not while there are turns: this one keeps them.
            Err(_) => Turn { turns: self.clone(), who: None },
        }
    }

    /// Takes a turn back and gives it to whoever is next.
    fn over(&self, who: &Identity) {
        let mut given = Vec::new();
        {
            let mut hall = self.0.lock();
            hall.places.give(who, 1);
            let Hall { places, waiting } = &mut *hall;
            while let Some((who, turn)) = waiting
                .pop_if(|who, turn| turn.is_closed() || places.may_take(who, rank(who.role), 1))
            {
                if !turn.is_closed() && places.take(&who, rank(who.role), 1) {
                    given.push((turn, Turn { turns: self.clone(), who: Some(who) }));
                }
            }
        }
        // One that is not taken any more goes to the next, by being dropped.
        for (waits, turn) in given {
            drop(waits.send(turn));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(who) = self.who.take() {
            self.turns.over(&who);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proto::ClusterId;

    use super::*;

    fn of(role: Role, name: &str) -> Identity {
        Identity { cluster: ClusterId::from_bytes([1; 16]), role, name: name.parse().unwrap() }
    }

    #[tokio::test]
    async fn a_quiet_one_goes_past_a_crowd() {
        let turns = Turns::new(10, 0);
        let (greedy, quiet) = (of(Role::Client, "greedy"), of(Role::Client, "quiet"));
        let mut held: Vec<_> = std::iter::from_fn(|| turns.next(&greedy).now_or_never()).collect();
        assert_eq!(held.len(), 5);
        let mut crowd: Vec<_> = (0..100).map(|_| Box::pin(turns.next(&greedy))).collect();
        for waits in &mut crowd {
            assert!(waits.now_or_never().is_none());
        }
        let mut own = vec![turns.next(&quiet).now_or_never().unwrap()];
        own.extend(std::iter::from_fn(|| turns.next(&quiet).now_or_never()));
        assert_eq!(own.len(), 2, "of ten, with five gone");
        let mut late = Box::pin(turns.next(&quiet));
        assert!((&mut late).now_or_never().is_none());
        drop(held.pop());
        assert!((&mut late).now_or_never().is_some(), "first of the crowd, then in turn");
        drop((own, held));
        assert!((&mut crowd[0]).now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_gave_up_takes_no_turn() {
        let turns = Turns::new(3, 0);
        let (alice, bob, carol) =
            (of(Role::Client, "alice"), of(Role::Client, "bob"), of(Role::Client, "carol"));
        let first = turns.next(&alice).now_or_never().unwrap();
        let second = turns.next(&bob).now_or_never().unwrap();
        let (mut gone, mut stays) = (Box::pin(turns.next(&alice)), Box::pin(turns.next(&carol)));
        assert!((&mut gone).now_or_never().is_none() && (&mut stays).now_or_never().is_none());
        let admin = turns.next(&of(Role::Admin, "admin")).now_or_never();
        assert!(admin.is_some(), "one is left for an admin");
        drop((gone, first, admin));
        assert!((&mut stays).now_or_never().is_some());
        drop(second);
        assert_eq!(turns.0.lock().places.used(), 0);
    }
}
