//! Every number that QUIC is set to, and why it is not the library's own.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::{Credentials, hmac_sha256};
use proto::limits::{
    CLIENT_REQUESTS_MAX, CLIENT_STREAMS_MAX, CLIENT_WINDOWS_BYTES, PEER_REQUESTS_KEPT,
};
use proto::wire::{CLIENT_ALPN, CLIENT_NUMBERED_ALPN};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    AckFrequencyConfig, AsyncTimer, AsyncUdpSocket, ConnectionId, ConnectionIdGenerator,
    EndpointConfig, Runtime, TokioRuntime, TransportConfig, VarInt,
};
use rustix::net::sockopt;
use tokio::runtime::Handle;

use crate::NetError;
use crate::socket::Socket;

/// Connection attempts that wait for us. The library's 65,536 would hold 100 MiB.
const INCOMING_MAX: usize = 256;
/// Bytes buffered for one attempt before it is accepted: two flights of a handshake.
const INCOMING_BYTES: u64 = 64 << 10;
/// Window of one stream: the largest frame, so that no frame waits for a window update.
const STREAM_WINDOW: u32 = 4 << 20;
/// Bytes that anybody may have on the way to us before we know who it is.
const STRANGER_WINDOW: u32 = 64 << 10;
/// Bytes that one client may have on the way to us, and we to it, if few are connected.
const CLIENT_WINDOW: u32 = 4 << 20;
/// The same if very many are: still a few packets, so that all of them get on.
const CLIENT_WINDOW_MIN: u32 = 32 << 10;
/// Bytes that one peer may have on the way to us: appends and a snapshot together.
const PEER_WINDOW: u32 = 64 << 20;
/// Bytes on the way to one peer.
const PEER_SEND_WINDOW: u64 = 32 << 20;
/// Streams that one peer may have open: requests of its clients are one each.
const PEER_STREAMS: u32 = REQUESTS + PEER_REQUESTS_KEPT;
#[expect(clippy::cast_possible_truncation, reason = "a few thousand")]
const REQUESTS: u32 = CLIENT_REQUESTS_MAX as u32;
/// First guess of the round trip; the library's 333 ms resends a lost first packet after a second.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// A client that says nothing for so long is gone.
const CLIENT_IDLE: Duration = Duration::from_secs(30);
/// A server that says nothing for so long is gone, as its clients see it.
const SERVER_IDLE: Duration = Duration::from_secs(10);
/// Clients show that they are there, and so notice that their gateway is not.
const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// A peer that says nothing for so long is gone.
const PEER_IDLE: Duration = Duration::from_secs(10);
/// Peers show that they are there.
const PEER_KEEP_ALIVE: Duration = Duration::from_secs(3);
/// Packets that the other side may take before it acknowledges them with one of its own. Nearly all that we
/// send is answered, and the answer carries the acknowledgement; the library's 1 has every second packet
/// acknowledged alone, which wakes a process for nothing.
const ACK_AFTER: u32 = 8;
/// Socket buffers: a window of bulk data arrives faster than a busy machine reads.
const SOCKET_BYTES: usize = 4 << 20;

/// A UDP socket with large buffers.
pub(crate) fn socket(address: SocketAddr) -> Result<UdpSocket, NetError> {
    let bound = UdpSocket::bind(address);
    let socket = bound.map_err(|source| NetError::Bind { address, source })?;
    // Beyond the system's limit only with the privilege; what it gives is good enough.
    if sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BYTES).is_err() {
        let set = sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES);
        set.unwrap_or_else(|error| tracing::debug!(%error, "receive buffer not enlarged"));
    }
    let set = sockopt::set_socket_send_buffer_size(&socket, SOCKET_BYTES);
    set.unwrap_or_else(|error| tracing::debug!(%error, "send buffer not enlarged"));
    Ok(socket)
}

/// The runtime that an endpoint was bound on: its connections stay there, whoever dials.
#[derive(Debug)]
struct Here(Handle);

impl Runtime for Here {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        let _here = self.0.enter();
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(self.0.spawn(future));
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let _here = self.0.enter();
        Ok(Arc::new(Socket::new(socket)?))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// Binds an endpoint; must be called on a tokio runtime.
pub(crate) fn endpoint(
    address: SocketAddr,
    config: EndpointConfig,
    server: Option<quinn::ServerConfig>,
) -> Result<quinn::Endpoint, NetError> {
    let runtime = Arc::new(Here(Handle::current()));
    quinn::Endpoint::new(config, server, socket(address)?, runtime)
        .map_err(|source: io::Error| NetError::Bind { address, source })
}

/// An endpoint that only dials. Both address families, if the machine has both.
pub(crate) fn client_endpoint() -> Result<quinn::Endpoint, NetError> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    endpoint(any, EndpointConfig::default(), None).or_else(|_| {
        endpoint(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), EndpointConfig::default(), None)
    })
}

/// An endpoint whose resets its next process can make as well. Without this, a connection to a
/// node that was killed and started again stays silent until it is idle for too long; with it, the
/// node's first packet says that the connection is no more.
pub(crate) fn node_endpoint(credentials: &Credentials) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(ResetKey(credentials.secret("quic reset"))));
    config.cid_generator(|| Box::new(RandomIds));
    config
}

/// Connection ids without a mark of the process that made them: the library's own generator marks
/// them, and its next process would ignore a packet for the last one instead of answering it.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        // A version 4 UUID is random but for six bits in its second half.
        let [a, b, c, d, e, f, .., g, h] = uuid::Uuid::new_v4().into_bytes();
        ConnectionId::new(&[a, b, c, d, e, f, g, h])
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Signs stateless resets.
struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(&hmac_sha256(&self.0, data));
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let expected = hmac_sha256(&self.0, data);
        let differ = expected.iter().zip(signature).fold(0, |acc, (a, b)| acc | (a ^ b));
        let same = differ == 0 && signature.len() == expected.len();
        if same { Ok(()) } else { Err(CryptoError) }
    }
}

/// The side that is dialled, by clients and by peers. What differs is set once the handshake has
/// told them apart, see [`raise_for_peer`] and [`raise_for_client`].
pub(crate) fn server(
    credentials: &Credentials,
    alpns: &[&[u8]],
) -> Result<quinn::ServerConfig, NetError> {
    let tls = QuicServerConfig::try_from(credentials.server_config(alpns)?)
        .map_err(|error| NetError::Config(error.to_string()))?;
    let mut transport = base(CLIENT_IDLE)?;
    transport
        .max_concurrent_bidi_streams(CLIENT_STREAMS_MAX.into())
        .receive_window(STRANGER_WINDOW.into())
        .send_window(STRANGER_WINDOW.into());
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config
        .transport_config(Arc::new(transport))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES * INCOMING_MAX as u64);
    Ok(config)
}

/// Gives an accepted peer connection its windows.
pub(crate) fn raise_for_peer(connection: &quinn::Connection) {
    connection.set_receive_window(PEER_WINDOW.into());
    connection.set_send_window(PEER_SEND_WINDOW);
    connection.set_max_concurrent_bi_streams(PEER_STREAMS.into());
}

/// Gives an accepted connection of a client its windows, the smaller the more are connected: what
/// somebody sends with gaps, or does not acknowledge, is memory of ours that no request counts.
pub(crate) fn raise_for_client(connection: &quinn::Connection, nth: usize) {
    let window = client_window(nth);
    connection.set_receive_window(window.into());
    connection.set_send_window(window.into());
}

fn client_window(nth: usize) -> u32 {
    let share = u32::try_from(CLIENT_WINDOWS_BYTES / nth.max(1)).unwrap_or(CLIENT_WINDOW);
    share.clamp(CLIENT_WINDOW_MIN, CLIENT_WINDOW)
}

/// The side of a node that dials peers.
pub(crate) fn peer(
    credentials: &Credentials,
    alpn: &[u8],
) -> Result<quinn::ClientConfig, NetError> {
    let mut transport = base(PEER_IDLE)?;
    transport
        .keep_alive_interval(Some(PEER_KEEP_ALIVE))
        .receive_window(PEER_WINDOW.into())
        .send_window(PEER_SEND_WINDOW);
    dialer(credentials, &[alpn], transport)
}

/// A client, of this release's protocol or of the one before.
pub(crate) fn client(credentials: &Credentials) -> Result<quinn::ClientConfig, NetError> {
    let mut transport = base(SERVER_IDLE)?;
    transport.keep_alive_interval(Some(CLIENT_KEEP_ALIVE)).receive_window(PEER_WINDOW.into());
    dialer(credentials, &[CLIENT_NUMBERED_ALPN, CLIENT_ALPN], transport)
}

/// Somebody without a certificate who wants one.
pub(crate) fn joiner(alpn: &[u8]) -> Result<quinn::ClientConfig, NetError> {
    let mut transport = base(SERVER_IDLE)?;
    transport.keep_alive_interval(Some(CLIENT_KEEP_ALIVE));
    let tls = QuicClientConfig::try_from(certs::pin::client_config(alpn)?)
        .map_err(|error| NetError::Config(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

fn dialer(
    credentials: &Credentials,
    alpns: &[&[u8]],
    transport: TransportConfig,
) -> Result<quinn::ClientConfig, NetError> {
    let tls = QuicClientConfig::try_from(credentials.client_config(alpns)?)
        .map_err(|error| NetError::Config(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// What all connections share. Whoever is dialled opens no streams, so by default nobody may.
fn base(idle: Duration) -> Result<TransportConfig, NetError> {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(ACK_AFTER.into());
    let mut transport = TransportConfig::default();
    transport
        .ack_frequency_config(Some(acks))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(STREAM_WINDOW.into())
        .initial_rtt(INITIAL_RTT)
        // Many small streams: the order of writing beats turns between them.
        .send_fairness(false)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(
            idle.try_into().map_err(|_| NetError::Config("idle timeout".to_owned()))?,
        ));
    Ok(transport)
}

#[cfg(test)]
mod tests {
    use proto::limits::CLIENT_CONNECTIONS_MAX;

    use super::*;

    #[test]
    fn windows_of_a_full_house_are_small() {
        assert_eq!(client_window(1), CLIENT_WINDOW);
        let all: u64 = (1..=CLIENT_CONNECTIONS_MAX).map(|nth| u64::from(client_window(nth))).sum();
        assert!(all < 128 << 20, "{all} bytes in each direction");
    }
}
