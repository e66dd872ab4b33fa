//! A loopback SNTP server that says what it is told to say: for the demonstration and for tests.
//!
//! **Not a time source for production.** It serves whatever clock it is given, knows nothing of
//! that clock's errors, and lies on request: a wrong offset, a kiss, a forged origin, an answer
//! that comes late or twice. It listens on 127.0.0.1 only.
//!
//! Its [`Manner`] may be changed while it runs; the next request is answered in the new manner.
//! [`answer`] makes the packet and is pure; the task around it only reads the clock and sends.
//!
//! Not here: what a client makes of the answers (`clock::sample`).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clock::packet::{NtpShort, NtpTime, Packet};
use parking_lot::{Mutex, MutexGuard};
use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, JoinSet};

/// Mode of a client's packet.
const CLIENT: u8 = 3;
/// Mode of a server's packet.
const SERVER: u8 = 4;
/// Highest version of the protocol that is answered in kind.
const VERSION: u8 = 4;
/// Leap indicator of a server that is not synchronised.
const UNSYNCED: u8 = 3;
/// Room for a request; what extends a packet is cut off unread.
const DATAGRAM_BYTES: usize = 512;
/// Late answers in flight at a time; a request beyond them is not answered.
const LATE_MAX: usize = 64;

/// How a server answers. The default is an honest stratum 1 server that follows the given clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manner {
    /// Its clock minus the clock it was given, nanoseconds. Far ones reach the next NTP era.
    pub offset_ns: i64,
    /// Leap indicator, 0..=3.
    pub leap: u8,
    /// Stratum, sent as it is.
    pub stratum: u8,
    /// Precision, a power of two in seconds.
    pub precision: i8,
    /// What it claims to follow.
    pub refid: [u8; 4],
    /// Claimed round trip to the primary reference, nanoseconds.
    pub root_delay_ns: u64,
    /// Claimed error against the primary reference, nanoseconds.
    pub root_dispersion_ns: u64,
    /// How long ago its clock was last corrected, nanoseconds.
    pub reference_age_ns: u64,
    /// Answer with this kiss code, and no time.
    pub kiss: Option<[u8; 4]>,
    /// Answer nothing.
    pub silent: bool,
    /// Answer with an origin that is not the request's, as one does who has not seen the request.
    pub forged: bool,
    /// Nanoseconds that it claims to have held the request in addition to the truth. More than the
    /// round trip makes the delay negative; below zero it claims to have sent before it received.
    pub held_ns: i64,
    /// How often each answer is sent.
    pub copies: u8,
    /// How long an answer waits after its transmit time was taken: a slow way back.
    pub late: Duration,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            offset_ns: 0,
            leap: 0,
            stratum: 1,
            precision: -20,
            refid: *b"LOCL",
            root_delay_ns: 0,
            root_dispersion_ns: 0,
            reference_age_ns: 1_000_000_000,
            kiss: None,
            silent: false,
            forged: false,
            held_ns: 0,
            copies: 1,
            late: Duration::ZERO,
        }
    }
}

/// The answer to a request that came at `received_ns` and is answered at `sent_ns`, nanoseconds
/// since 1970 on the clock that the server was given. `None` if the request is none of a client, or
/// the manner is to be silent.
#[must_use]
pub fn answer(request: &Packet, received_ns: u64, sent_ns: u64, manner: &Manner) -> Option<Packet> {
    if manner.silent || request.mode != CLIENT {
        return None;
    }
    let ours = |ns: u64| ns.saturating_add_signed(manner.offset_ns);
    let origin = if manner.forged { !request.transmit.0 } else { request.transmit.0 };
    let received = ours(received_ns).saturating_add_signed(manner.held_ns.saturating_neg());
    let answer = Packet {
        leap: manner.leap,
        version: request.version.min(VERSION),
        mode: SERVER,
        stratum: manner.stratum,
        poll: request.poll,
        precision: manner.precision,
        root_delay: short(manner.root_delay_ns),
        root_dispersion: short(manner.root_dispersion_ns),
        refid: manner.refid,
        reference: NtpTime::from_unix_ns(ours(sent_ns).saturating_sub(manner.reference_age_ns)),
        origin: NtpTime(origin),
        receive: NtpTime::from_unix_ns(received),
        transmit: NtpTime::from_unix_ns(ours(sent_ns)),
    };
    Some(match manner.kiss {
        Some(code) => Packet { leap: UNSYNCED, stratum: 0, refid: code, ..answer },
        None => answer,
    })
}

/// Nanoseconds as an NTP short duration, rounded up; the longest there is, if they are more.
fn short(ns: u64) -> NtpShort {
    let units = (u128::from(ns) << 16).div_ceil(1_000_000_000);
    NtpShort(u32::try_from(units).unwrap_or(u32::MAX))
}

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct TimeServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    manner: Mutex<Manner>,
    asked: AtomicU64,
}

impl Shared {
    fn manner(&self) -> MutexGuard<'_, Manner> {
        self.manner.lock()
    }
}

impl TimeServer {
    /// Starts a server on a port of 127.0.0.1, 0 for any, that serves the given clock: nanoseconds
    /// since 1970.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start<C>(port: u16, clock: C) -> std::io::Result<Self>
    where
        C: Fn() -> u64 + Send + 'static,
    {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await?);
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(serve(socket, clock, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that came so far, answered or not.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// How it answers now.
    #[must_use]
    pub fn manner(&self) -> Manner {
        self.shared.manner().clone()
    }

    /// Changes how it answers from the next request on.
    pub fn change(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.shared.manner());
    }

    /// Makes it an honest server again.
    pub fn behave(&self) {
        *self.shared.manner() = Manner::default();
    }
}

impl Drop for TimeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<C: Fn() -> u64>(socket: Arc<UdpSocket>, clock: C, shared: Arc<Shared>) {
    // Answers that wait belong to this task and end with it.
    let mut late = JoinSet::new();
    let mut request = [0; DATAGRAM_BYTES];
    loop {
        let (length, from) = match socket.recv_from(&mut request).await {
            Ok(received) => received,
            // An unconnected socket is not told of answers that nobody took, so it is broken.
            Err(error) => return tracing::error!(%error, "the loopback time server ends"),
        };
        let received_ns = clock();
        while late.try_join_next().is_some() {}
        let Some(packet) = request.get(..length).and_then(|bytes| bytes.first_chunk()) else {
            continue;
        };
        shared.asked.fetch_add(1, Ordering::SeqCst);
        let manner = shared.manner().clone();
        let Some(answer) = answer(&Packet::from_bytes(packet), received_ns, clock(), &manner)
        else {
            continue;
        };
        let bytes = answer.to_bytes();
        if manner.late.is_zero() {
            send(&socket, &bytes, from, manner.copies).await;
        } else if late.len() < LATE_MAX {
            let socket = Arc::clone(&socket);
            late.spawn(async move {
                tokio::time::sleep(manner.late).await;
                send(&socket, &bytes, from, manner.copies).await;
            });
        }
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr, copies: u8) {
    for _ in 0..copies {
        // A client that is gone wants no answer; datagrams may be lost anyway.
        let _ = socket.send_to(bytes, to).await;
    }
}

#[cfg(test)]
#[path = "time_server_test.rs"]
mod tests;
