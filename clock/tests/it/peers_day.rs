//! Gate G8, on a LAN with bounds below a millisecond: a clock that is 5 ms off is found within three
//! exchanges by everybody, and in a day of ten exchanges a second nobody is fenced who is honest.
//!
//! Seen to fail: with bounds that the wander leaves by 100 us; with four exchanges in a row.

use clock::ClockState;
use clock::peer::{Claim, Exchange, Fence, PeerClock, PeerVerdict, fence};

use super::cluster::clocks::{Fault, Wall};
use super::cluster::{EXCHANGE_NS, MS, START_NS, US};
use crate::sim::Random;

const NODES: usize = 3;

struct Lan {
    rng: Random,
    walls: Vec<Wall>,
    /// What node `a` knows of node `b`.
    peers: Vec<Vec<PeerClock>>,
    fences: [Fence; NODES],
    exchanges: u64,
}

impl Lan {
    fn new(seed: u64) -> Self {
        let mut rng = Random::new(seed, 0);
        let wall = |rng: &mut Random| {
            let swing_ns = rng.between(300 * US, 900 * US);
            Wall::new(swing_ns, rng)
        };
        let walls = (0..NODES).map(|_| wall(&mut rng)).collect();
        let peers = vec![vec![PeerClock::default(); NODES]; NODES];
        Self { rng, walls, peers, fences: [Fence::Clear; NODES], exchanges: 0 }
    }

    /// One way: mostly fast, sometimes not, never equal.
    fn way_ns(&mut self) -> u64 {
        match self.rng.next() % 1000 {
            0 => self.rng.between(US, 200 * MS),
            1..20 => self.rng.between(30 * US, 5 * MS),
            _ => self.rng.between(30 * US, 300 * US),
        }
    }

    /// Everybody asks everybody.
    fn round(&mut self, at_ns: u64, way_ns: impl Fn(&mut Self) -> u64) {
        for me in 0..NODES {
            for peer in (0..NODES).filter(|peer| *peer != me) {
                let (there_ns, held_ns, back_ns) =
                    (way_ns(self), self.rng.between(0, 200 * US), way_ns(self));
                let (mine_sent, _) = self.walls[me].at(at_ns);
                let t2_ns = at_ns + there_ns;
                let received_ns = self.walls[peer].at(t2_ns).0.now_ns;
                let (said, state) = self.walls[peer].at(t2_ns + held_ns);
                let (mine_received, my_state) = self.walls[me].at(t2_ns + held_ns + back_ns);
                let claim = Claim {
                    now_ns: said.now_ns,
                    earliest_ns: said.earliest_ns,
                    latest_ns: said.latest_ns,
                    state,
                };
                assert_eq!((my_state, state), (ClockState::Synced, ClockState::Synced));
                self.peers[me][peer].note(&Exchange {
                    mine_sent,
                    received_ns,
                    peer: claim,
                    mine_received,
                    my_state,
                });
                self.exchanges += 1;
            }
        }
        for me in 0..NODES {
            let others = (0..NODES).filter(|peer| *peer != me);
            let verdicts = others.map(|peer| self.peers[me][peer].verdict());
            self.fences[me] = fence(self.fences[me], verdicts);
        }
    }
}

#[test]
fn a_day_without_a_false_fence() {
    let mut lan = Lan::new(1);
    for round in 0..864_000 {
        lan.round(START_NS + round * EXCHANGE_NS, Lan::way_ns);
        assert_eq!(lan.fences, [Fence::Clear; NODES], "round {round}");
    }
    println!("{} exchanges", lan.exchanges);
    assert_eq!(lan.exchanges, 2 * 3 * 864_000);
}

#[test]
fn five_milliseconds_are_found_in_three_exchanges() {
    for seed in 0..2000 {
        let mut lan = Lan::new(seed);
        let fast = |lan: &mut Lan| lan.rng.between(30 * US, 300 * US);
        for round in 0..10 {
            lan.round(START_NS + round * EXCHANGE_NS, fast);
        }
        let bad = usize::try_from(seed % 3).unwrap();
        let by_ns = if seed % 2 == 0 { 5_000_000 } else { -5_000_000 };
        lan.walls[bad].fail(START_NS, Fault::Jump(by_ns));
        for round in 10..13 {
            assert_eq!(lan.fences, [Fence::Clear; NODES]);
            lan.round(START_NS + round * EXCHANGE_NS, fast);
        }
        for me in 0..NODES {
            let expected = if me == bad { Fence::Suspect } else { Fence::Alarm };
            assert_eq!(lan.fences[me], expected, "seed {seed}");
            if me != bad {
                assert_eq!(lan.peers[me][bad].verdict(), PeerVerdict::Disjoint);
                let found_ns = lan.peers[me][bad].gap_ns();
                assert_eq!(found_ns > 0, by_ns > 0);
            }
        }
    }
}
