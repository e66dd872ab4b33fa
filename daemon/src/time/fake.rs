//! A time server for tests, on a port of its own, that answers as it is told to.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clock::packet::{NtpShort, NtpTime, Packet};
use config::{Clock, ClockMode, ClockServer};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::counter::{Counter, ManualClock};

/// 2026-11-21T00:00:00Z.
pub(super) const WALL_NS: u64 = 1_795_219_200_000_000_000;

/// What a request looked like.
pub(super) struct Asked {
    pub(super) packet: Packet,
    pub(super) from: SocketAddr,
}

impl Asked {
    /// The answer of a good server whose clock says `utc_ns`.
    pub(super) fn good(&self, utc_ns: u64) -> Packet {
        let now = NtpTime::from_unix_ns(utc_ns);
        Packet {
            leap: 0,
            version: 4,
            mode: 4,
            stratum: 2,
            poll: 6,
            precision: -20,
            root_delay: NtpShort(65),
            root_dispersion: NtpShort(65),
            refid: *b"TEST",
            reference: NtpTime::from_unix_ns(utc_ns - 1_000_000_000),
            origin: self.packet.transmit,
            receive: now,
            transmit: now,
        }
    }

    /// A kiss.
    pub(super) fn kiss(&self, code: [u8; 4]) -> Packet {
        Packet { leap: 3, stratum: 0, refid: code, ..self.good(WALL_NS) }
    }
}

/// A running server; ends when dropped.
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Fake {
    /// Starts a server that sends, for each request, the datagrams that `answer` returns.
    pub(super) async fn start<F>(mut answer: F) -> Self
    where
        F: FnMut(Asked) -> Vec<Vec<u8>> + Send + 'static,
    {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut request = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut request).await {
                let Some(packet) = request[..length].first_chunk() else { continue };
                for datagram in answer(Asked { packet: Packet::from_bytes(packet), from }) {
                    socket.send_to(&datagram, from).await.unwrap();
                }
            }
        });
        Self { address, task }
    }

    /// Starts a good server whose clock is `offset_ns` ahead of a test's clock.
    pub(super) async fn good(clock: &Arc<ManualClock>, offset_ns: i64) -> Self {
        let clock = clock.clone();
        Self::start(move |asked| vec![asked.good(utc_ns(&clock, offset_ns)).to_bytes().to_vec()])
            .await
    }

    /// Starts a server like [`Fake::good`] that answers only while `talks` is set.
    pub(super) async fn moody(clock: &Arc<ManualClock>, talks: &Arc<AtomicBool>) -> Self {
        let (clock, talks) = (clock.clone(), talks.clone());
        Self::start(move |asked| {
            let talks = talks.load(Ordering::SeqCst);
            talks.then(|| asked.good(utc_ns(&clock, 0)).to_bytes().to_vec()).into_iter().collect()
        })
        .await
    }

    /// Starts a server that always sends what `make` makes of the request.
    pub(super) async fn one<F>(make: F) -> Self
    where
        F: Fn(&Asked) -> Packet + Send + 'static,
    {
        Self::start(move |asked| vec![make(&asked).to_bytes().to_vec()]).await
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The time of a test's clock, nanoseconds since 1970, moved by `offset_ns`.
pub(super) fn utc_ns(clock: &Arc<ManualClock>, offset_ns: i64) -> u64 {
    let counter = Counter::Manual(clock.clone());
    let elapsed_ns = counter.raw_ns() - ManualClock::START_NS;
    (WALL_NS + elapsed_ns + counter.suspended_ns()).checked_add_signed(offset_ns).unwrap()
}

/// A configuration that asks the given servers.
pub(super) fn asking(servers: &[&Fake]) -> Clock {
    let server = |fake: &&Fake| ClockServer {
        address: fake.address.to_string(),
        poll_s: 16,
        private: true,
        timeout_ms: 5000,
    };
    let servers = servers.iter().map(server).collect();
    Clock { mode: ClockMode::Sntp, servers, ..Clock::local() }
}
