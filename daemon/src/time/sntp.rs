//! One SNTP query on a socket of its own.
//!
//! `sntpc` builds the request, checks the answer and knows the kiss codes. Its figures are not
//! used: they are microseconds, and a negative delay comes out as the best of all. So the socket
//! that it is given keeps what passed through it:
//! * the request leaves with 64 random bits as its transmit time, so an answer cannot be guessed
//!   (sntpc's own has about 20); sntpc gets its own time back, so its check still works;
//! * both moments are taken from the raw counter, next to the system calls;
//! * datagrams that do not carry the nonce are counted and skipped. To sntpc the first datagram is
//!   the answer, so one late or stray datagram would fail this query, or every later one.
//!
//! Not here: what the answer means (`clock::sample`), and when to ask again (`poller`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clock::packet::Packet;
use clock::{Answer, Failure, RawExchange, Scale};
use parking_lot::Mutex;
use sntpc::{NtpContext, NtpTimestampGenerator, NtpUdpSocket, get_time};
use tokio::net::UdpSocket;
use uuid::Uuid;

use super::counter::{Counter, TimeServers};

/// Where the transmit time stands in a request.
const TRANSMIT: std::ops::Range<usize> = 40..48;
/// Where the client's transmit time stands in an answer.
const ORIGIN: std::ops::Range<usize> = 24..32;
/// Room for an answer; what extends a packet is cut off unread.
const DATAGRAM_BYTES: usize = 512;

/// What came of a query.
#[derive(Debug)]
pub(super) struct Queried {
    pub(super) answer: Answer,
    /// Datagrams that did not answer this query.
    pub(super) strays: u64,
    /// The address that this machine asked from.
    pub(super) from: Option<IpAddr>,
    /// The offset as sntpc sees it, microseconds; a cross-check and nothing else.
    #[cfg(test)]
    pub(super) sntpc_offset_us: Option<i64>,
}

impl Queried {
    /// A query that came to nothing.
    pub(super) fn failed(why: Failure) -> Self {
        Self {
            answer: Answer::Failed(why),
            strays: 0,
            from: None,
            #[cfg(test)]
            sntpc_offset_us: None,
        }
    }

    /// The reference id of a server that follows the machine which asked: its address, for the old
    /// kind of address. On the loopback an address names no machine in particular.
    pub(super) fn own_refid(&self) -> Option<[u8; 4]> {
        match self.from?.to_canonical() {
            IpAddr::V4(from) if !from.is_loopback() => Some(from.octets()),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }
}

/// Asks a server once, from a fresh socket with a random port.
pub(super) async fn query(
    server: SocketAddr,
    counter: &Counter,
    scale: &Scale,
    timeout: Duration,
) -> Queried {
    let Ok(socket) = connect(server).await else { return Queried::failed(Failure::Network) };
    let from = socket.local_addr().ok().map(|address| address.ip());
    let tap = Tap { socket, server, counter, kept: Mutex::new(Kept::new(random_u64())) };
    let context = NtpContext::new(Generator { counter, scale, now_ns: 0 });
    let result = tokio::time::timeout(timeout, get_time(server, &tap, context)).await;
    let kept = tap.kept.into_inner();
    let answer = match &result {
        Err(_elapsed) => Answer::Failed(Failure::Timeout),
        Ok(Ok(_figures)) => {
            kept.exchange.map_or(Answer::Failed(Failure::Protocol("no_datagram")), Answer::Exchange)
        }
        Ok(Err(error)) => refusal(error, kept.exchange.as_ref()),
    };
    Queried {
        answer,
        strays: kept.strays,
        from,
        #[cfg(test)]
        sntpc_offset_us: result.ok().and_then(Result::ok).map(|figures| figures.offset()),
    }
}

/// Asks a server of a machine that is not there: without sockets, and so without what this module guards
/// against.
pub(super) async fn query_virtual(
    servers: &dyn TimeServers,
    server: &str,
    counter: &Counter,
    timeout: Duration,
) -> Queried {
    let t1_raw_ns = counter.raw_ns();
    let answered = tokio::time::timeout(timeout, servers.ask(server)).await;
    let exchange = |packet: Packet| {
        let packet = packet.to_bytes();
        Answer::Exchange(RawExchange { t1_raw_ns, t4_raw_ns: counter.raw_ns(), packet })
    };
    let answer = answered.ok().flatten().map_or(Answer::Failed(Failure::Timeout), exchange);
    Queried { answer, ..Queried::failed(Failure::Timeout) }
}

/// 64 random bits from the operating system.
pub(super) fn random_u64() -> u64 {
    // A version 4 UUID has six fixed bits; no bit position is fixed in both halves.
    let (high, low) = Uuid::new_v4().as_u64_pair();
    high ^ low
}

/// A socket that takes datagrams from the server's address only.
async fn connect(server: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    Ok(socket)
}

/// What sntpc's refusal means to us. The kiss code is read from the datagram, which is exact also
/// for codes that sntpc does not know.
fn refusal(error: &sntpc::Error, exchange: Option<&RawExchange>) -> Answer {
    use sntpc::Error as E;
    let protocol = |what| Answer::Failed(Failure::Protocol(what));
    match error {
        E::KissOfDeath(_) => exchange.map_or_else(
            || protocol("kiss"),
            |exchange| Answer::Kiss(Packet::from_bytes(&exchange.packet).refid),
        ),
        E::Network | E::ResponseAddressMismatch => Answer::Failed(Failure::Network),
        E::AddressResolve => Answer::Failed(Failure::Unresolved),
        E::IncorrectOriginTimestamp => protocol("origin"),
        E::IncorrectMode => protocol("mode"),
        E::UnsynchronizedClock => protocol("server_unsynced"),
        E::InvalidTimestamp => protocol("no_transmit_time"),
        E::ExcessiveRootDistance => protocol("distance"),
        E::BackwardReferenceTimestamp => protocol("reference_after_transmit"),
        E::IncorrectResponseVersion => protocol("version"),
        E::IncorrectStratumHeaders => protocol("stratum"),
        E::IncorrectPayload => protocol("length"),
        // The list is open; whatever a newer sntpc finds wrong is wrong.
        _ => protocol("other"),
    }
}

/// The socket that sntpc is given.
struct Tap<'a> {
    socket: UdpSocket,
    server: SocketAddr,
    counter: &'a Counter,
    kept: Mutex<Kept>,
}

/// What passed through the socket.
struct Kept {
    nonce: [u8; 8],
    /// The transmit time that sntpc believes it sent.
    pretended: [u8; 8],
    t1_raw_ns: u64,
    exchange: Option<RawExchange>,
    strays: u64,
}

impl Kept {
    fn new(nonce: u64) -> Self {
        let nonce = nonce.to_be_bytes();
        Self { nonce, pretended: [0; 8], t1_raw_ns: 0, exchange: None, strays: 0 }
    }

    /// Takes a datagram; returns the packet for sntpc if it answers the query.
    fn take(&mut self, datagram: &[u8], t4_raw_ns: u64) -> Option<[u8; Packet::BYTES]> {
        let mut packet: [u8; Packet::BYTES] = *datagram.first_chunk()?;
        let origin = packet.get_mut(ORIGIN)?;
        if *origin != self.nonce {
            return None;
        }
        origin.copy_from_slice(&self.pretended);
        let for_sntpc = packet;
        packet.get_mut(ORIGIN)?.copy_from_slice(&self.nonce);
        self.exchange = Some(RawExchange { t1_raw_ns: self.t1_raw_ns, t4_raw_ns, packet });
        Some(for_sntpc)
    }
}

impl Tap<'_> {
    fn kept(&self) -> parking_lot::MutexGuard<'_, Kept> {
        self.kept.lock()
    }
}

impl NtpUdpSocket for Tap<'_> {
    async fn send_to(&self, request: &[u8], _server: SocketAddr) -> sntpc::Result<usize> {
        let mut request: [u8; Packet::BYTES] =
            request.try_into().map_err(|_| sntpc::Error::IncorrectPayload)?;
        if let Some(transmit) = request.get_mut(TRANSMIT) {
            let mut kept = self.kept();
            kept.pretended.copy_from_slice(transmit);
            transmit.copy_from_slice(&kept.nonce);
            kept.t1_raw_ns = self.counter.raw_ns();
        }
        self.socket.send(&request).await.map_err(|_| sntpc::Error::Network)
    }

    async fn recv_from(&self, buf: &mut [u8]) -> sntpc::Result<(usize, SocketAddr)> {
        let mut datagram = [0; DATAGRAM_BYTES];
        loop {
            let length =
                self.socket.recv(&mut datagram).await.map_err(|_| sntpc::Error::Network)?;
            let t4_raw_ns = self.counter.raw_ns();
            let mut kept = self.kept();
            let datagram = datagram.get(..length).unwrap_or_default();
            let Some(packet) = kept.take(datagram, t4_raw_ns) else {
                kept.strays += 1;
                continue;
            };
            let room = buf.get_mut(..packet.len()).ok_or(sntpc::Error::IncorrectPayload)?;
            room.copy_from_slice(&packet);
            return Ok((packet.len(), self.server));
        }
    }
}

/// sntpc's idea of now: our own scale, so that steps of the wall clock cannot enter.
#[derive(Clone, Copy)]
struct Generator<'a> {
    counter: &'a Counter,
    scale: &'a Scale,
    now_ns: u64,
}

impl NtpTimestampGenerator for Generator<'_> {
    fn init(&mut self) {
        self.now_ns = self.scale.local_ns(self.counter.raw_ns());
    }

    fn timestamp_sec(&self) -> u64 {
        self.now_ns / 1_000_000_000
    }

    fn timestamp_subsec_micros(&self) -> u32 {
        u32::try_from(self.now_ns % 1_000_000_000 / 1000).unwrap_or(0)
    }
}
