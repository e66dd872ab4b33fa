//! Those who have not shown yet who they are: handshakes in progress, and joiners.
//!
//! Nobody waits outside because others sit there and say nothing: when the room is full, the one who
//! has been silent longest goes, of the address that has most in it. Whoever comes from an address of
//! its own is never sent away for the sake of a crowd from another.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
/// A room for so many. Cheap to clone.
#[derive(Debug)]
pub struct Crowd<T>(Arc<Mutex<Room<T>>>);

#[derive(Debug)]
struct Room<T> {
    most: usize,
    next: u64,
    inside: HashMap<u64, Stranger<T>>,
}

#[derive(Debug)]
struct Stranger<T> {
    network: IpAddr,
    /// Since when it is silent, counted in arrivals and words; `None` while it is not its turn.
    silent_since: Option<u64>,
    handle: Option<T>,
}

/// A place in the room; leaves it when dropped.
#[derive(Debug)]
pub struct Place<T> {
    crowd: Crowd<T>,
    id: u64,
}

impl<T> Clone for Crowd<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Crowd<T> {
    /// An empty one.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Room { most, next: 0, inside: HashMap::new() })))
    }

    fn room(&self) -> MutexGuard<'_, Room<T>> {
        self.0.lock()
    }

    /// Lets somebody in, and says who goes for it. `None` if everybody inside is being served.
    pub fn enter(&self, from: IpAddr) -> Option<(Place<T>, Option<T>)> {
        let mut room = self.room();
        let network = network(from);
        let mut out = None;
        if room.inside.len() >= room.most {
            let goes = room.who_goes(network)?;
            out = room.inside.remove(&goes).and_then(|stranger| stranger.handle);
        }
        let id = room.tick();
        room.inside.insert(id, Stranger { network, silent_since: Some(id), handle: None });
        assert!(room.inside.len() <= room.most, "the room holds no more than it holds");
        Some((Place { crowd: self.clone(), id }, out))
    }

    /// How many are inside.
    pub(crate) fn len(&self) -> usize {
        self.room().inside.len()
    }
}

impl<T> Room<T> {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn who_goes(&self, newcomer: IpAddr) -> Option<u64> {
        let mut crowds = HashMap::from([(newcomer, 1usize)]);
        for stranger in self.inside.values() {
            *crowds.entry(stranger.network).or_default() += 1;
        }
        let silent = self.inside.iter().filter_map(|(id, stranger)| {
            let crowd = crowds.get(&stranger.network).copied().unwrap_or(0);
            stranger.silent_since.map(|since| (crowd, std::cmp::Reverse(since), *id))
        });
        silent.max().map(|(.., id)| id)
    }
}

impl<T> Place<T> {
    /// Gives what is needed to send it away. `false` if that has happened already.
    pub fn holds(&self, handle: T) -> bool {
        let mut room = self.crowd.room();
        let Some(stranger) = room.inside.get_mut(&self.id) else { return false };
        stranger.handle = Some(handle);
        true
    }

    /// Notes whose turn it is: whoever is being served is not sent away.
    pub(crate) fn served(&self, served: bool) {
        let mut room = self.crowd.room();
        let now = room.tick();
        if let Some(stranger) = room.inside.get_mut(&self.id) {
            stranger.silent_since = (!served).then_some(now);
        }
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        self.crowd.room().inside.remove(&self.id);
    }
}

/// What one machine can have any address of.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn enter(crowd: &Crowd<u8>, from: &str, handle: u8) -> (Place<u8>, Option<u8>) {
        let (place, out) = crowd.enter(ip(from)).unwrap();
        assert!(place.holds(handle));
        (place, out)
    }

    #[test]
    fn a_crowd_makes_room_out_of_itself() {
        let crowd = Crowd::new(4);
        let (mine, _) = enter(&crowd, "10.0.0.1", 1);
        let others: Vec<_> = (2..=4).map(|n| enter(&crowd, "10.0.0.2", n).0).collect();
        assert_eq!(enter(&crowd, "10.0.0.3", 5).1, Some(2), "the oldest of the largest crowd");
        assert_eq!(crowd.len(), 3, "who came and left is inside no more");
        let late: Vec<_> = (6..=9).map(|n| enter(&crowd, "10.0.0.2", n)).collect();
        let out: Vec<_> = late.iter().filter_map(|(_, out)| *out).collect();
        assert_eq!(out, [3, 4, 6]);
        assert!(mine.holds(1), "one alone was sent away for a crowd");
        assert!(!others[0].holds(2), "who was sent away knows it");
    }

    #[test]
    fn whoever_is_served_stays() {
        let crowd = Crowd::new(2);
        let (first, _) = enter(&crowd, "10.0.0.1", 1);
        let (second, _) = enter(&crowd, "10.0.0.1", 2);
        first.served(true);
        let (third, out) = enter(&crowd, "10.0.0.1", 3);
        assert_eq!(out, Some(2));
        third.served(true);
        assert!(crowd.enter(ip("10.0.0.9")).is_none(), "all are being served");
        first.served(false);
        assert_eq!(enter(&crowd, "10.0.0.9", 4).1, Some(1));
        drop(second);
        assert_eq!(crowd.len(), 1);
    }

    #[test]
    fn one_machine_is_one_address() {
        assert_eq!(network(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
        assert_eq!(network(ip("2001:db8:1:2:3::4")), network(ip("2001:db8:1:2::9")));
        assert_ne!(network(ip("2001:db8:1:2::")), network(ip("2001:db8:1:3::")));
    }
}
