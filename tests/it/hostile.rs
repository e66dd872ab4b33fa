//! Bytes from strangers: garbage on the UDP port, frames that are none, streams that say nothing;
//! and a client beside them that notices nothing.
//!
//! Promise 8, refuses clearly. Negative control, seen to fail: a frame of just the allowed length in
//! place of one byte more.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::frame::VERSION;
use proto::limits::FRAME_BYTES_MAX;
use proto::wire::CLIENT_ALPN;
use tests::load::{message, send};
use tests::raw::Raw;
use tests::{Cluster, Load, Outcome};

use crate::failover::account_for;
use crate::smoke::alice_and_bob;

/// Most memory that a node may hold while it is shouted at, in KiB.
const MEMORY_KIB: u64 = 512 << 10;

/// Numbers that look random, the same ones in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// Datagrams of all sizes; some look like the begin of a QUIC connection.
fn shout(address: &str, stop: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) && sent < 20_000 {
        let len = usize::try_from(noise.next() % 1400).unwrap();
        let mut datagram = noise.bytes(len);
        match sent % 4 {
            // A long header of version 1, and one of a version that nobody speaks.
            0 => datagram.splice(..datagram.len().min(5), [0xc3, 0, 0, 0, 1]).for_each(drop),
            1 => {
                datagram.splice(..datagram.len().min(5), [0xff, 0xa, 0xb, 0xc, 0xd]).for_each(drop)
            }
            _ => {}
        }
        // A full buffer refuses one; the next will do.
        let _ = socket.send_to(&datagram, address);
        sent += 1;
    }
    sent
}

#[test]
fn garbage_on_every_port_disturbs_nobody() {
    let mut cluster = alice_and_bob();
    let load = Load::start(&cluster, &["alice", "bob"], 2, "bob", "calm").unwrap();
    let addresses: Vec<_> =
        cluster.names().iter().map(|name| cluster.address(name).unwrap()).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let shouting: Vec<_> =
            addresses.iter().map(|address| scope.spawn(|| shout(address, &stop))).collect();
        load.wait_more(300).unwrap();
        stop.store(true, Ordering::Relaxed);
        let sent: u64 = shouting.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(sent > 1000, "only {sent} datagrams: nobody was shouted at");
    });
    for name in cluster.names() {
        let kib = cluster.node(&name).unwrap().memory_kib().unwrap();
        assert!(kib < MEMORY_KIB, "{name} holds {kib} KiB");
    }
    let history = load.finish(&cluster).unwrap();
    let failed: Vec<_> = history.failed().collect();
    assert!(failed.is_empty(), "{failed:?}");
    account_for(&cluster, &history);
}

/// A frame with a header of its own.
fn frame(len: u32, version: u8, payload: &[u8]) -> Vec<u8> {
    [&len.to_be_bytes()[..], &[version], payload].concat()
}

#[test]
fn frames_that_are_none_are_answered_with_the_reason() {
    let mut cluster = alice_and_bob();
    let address = cluster.address("n1").unwrap();
    let credentials = cluster.user().credentials("alice").unwrap();
    let alice = cluster.client("alice", Some("n1"), Duration::from_secs(20)).unwrap();
    let mut noise = Noise(1);
    let beyond = u32::try_from(FRAME_BYTES_MAX + 1).unwrap();
    let bad = [
        ("too long", frame(beyond, VERSION, b"x"), "are allowed"),
        ("far too long", frame(u32::MAX, VERSION, &[0; 4096]), "are allowed"),
        ("another version", frame(4, VERSION + 1, b"abcd"), "protocol version"),
        ("no request", frame(64, VERSION, &noise.bytes(64)), "cannot be decoded"),
        ("cut off", frame(1000, VERSION, b"short"), ""),
        ("half a header", vec![0, 0], ""),
    ];
    cluster.wait(async {
        let raw = Raw::connect(&credentials, &address, "n1", CLIENT_ALPN).await.unwrap();
        for (what, bytes, part) in &bad {
            let answer = raw.exchange(bytes).await.unwrap();
            let said = String::from_utf8_lossy(&answer);
            assert!(said.contains(part), "{what}: '{part}' is not in '{said}'");
        }
        // Nothing at all is a client that changed its mind.
        raw.exchange(b"").await.unwrap();
        assert!(raw.stands(), "one bad stream took the connection down");
        for n in 0..200 {
            let len = usize::try_from(noise.next() % 300).unwrap();
            raw.exchange(&noise.bytes(len)).await.unwrap();
            let attempt = send(&alice, message("bob", &format!("beside-{n}"))).await;
            assert!(matches!(attempt.outcome, Outcome::Acked { .. }), "{attempt:?}");
        }
    });
    let node = cluster.node("n1").unwrap();
    node.says("refused a request").unwrap();
    assert!(node.memory_kib().unwrap() < MEMORY_KIB);
    assert_eq!(cluster.records("n1", false).unwrap().len(), 200);
    none_stored_but(&cluster, "beside-");
}

fn none_stored_but(cluster: &Cluster, prefix: &str) {
    for record in cluster.records("n2", false).unwrap() {
        assert!(record.id.starts_with(prefix), "{record:?}");
    }
}
