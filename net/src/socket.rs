//! The UDP socket of an endpoint: when the system wakes its thread.
//!
//! It is woken for what arrives alone. The library's own socket asks to be told of room in the send buffer, too,
//! and each datagram that has gone out makes some: a thread that sends looks once more for every datagram, or is
//! woken for it, and nobody waits for that. Here room is asked for once there is none.
//!
//! What was read without filling all buffers was all there is: it is not asked a second time.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Errors that a socket tells of one after the other before it is taken for broken.
const ERRORS_MAX: usize = 100;

/// A socket on the runtime where it was made.
#[derive(Debug)]
pub(crate) struct Socket {
    io: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    /// Whether the send buffer was full when something was sent last.
    full: AtomicBool,
}

impl Socket {
    /// Takes a socket over; must be called on a tokio runtime.
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let io = watch(socket, Interest::READABLE)?;
        Ok(Self { io, state, full: AtomicBool::new(false) })
    }
}

/// Has the runtime look at a socket.
#[expect(
    deprecated,
    reason = "what replaces it is unsafe; a socket keeps its descriptor while it lives"
)]
fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room { socket: self, waits: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.io.get_ref().into(), transmit);
        if matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.full.store(true, Ordering::Relaxed);
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut errors = 0;
        loop {
            let mut arrived = ready!(self.io.poll_read_ready(cx))?;
            match self.state.recv(self.io.get_ref().into(), bufs, meta) {
                Ok(many) => {
                    if many < bufs.len() {
                        arrived.clear_ready();
                    }
                    return Poll::Ready(Ok(many));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => arrived.clear_ready(),
                // What became of a datagram that was sent is told once, and that one is lost.
                Err(error) if errors < ERRORS_MAX => {
                    tracing::debug!(%error, "a socket tells of an error");
                    errors += 1;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

/// Waits for room in the send buffer, once there is none.
#[derive(Debug)]
struct Room {
    socket: Arc<Socket>,
    /// The same socket, asked for that alone, while it is waited for.
    waits: Option<AsyncFd<UdpSocket>>,
}

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waits.is_none() && !self.socket.full.swap(false, Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let waits = match self.waits.take() {
            Some(waits) => waits,
            None => {
                let same = self.socket.io.get_ref().try_clone()?;
                watch(same, Interest::WRITABLE)?
            }
        };
        match waits.poll_write_ready(cx) {
            Poll::Ready(room) => Poll::Ready(room.map(drop)),
            Poll::Pending => {
                self.waits = Some(waits);
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::Ipv4Addr;
    use std::os::fd::AsRawFd;

    use super::*;

    fn pair() -> (Arc<Socket>, UdpSocket) {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        (Arc::new(Socket::new(bind()).unwrap()), bind())
    }

    fn datagram<'a>(to: &UdpSocket, contents: &'a [u8]) -> Transmit<'a> {
        let destination = to.local_addr().unwrap();
        Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None }
    }

    /// What the system is asked for, by each poll of this process that has the socket.
    fn asked(socket: &Socket) -> Vec<u32> {
        let (fd, mut asked) = (socket.io.as_raw_fd().to_string(), Vec::new());
        for info in std::fs::read_dir("/proc/self/fdinfo").unwrap().map(Result::unwrap) {
            let text = std::fs::read_to_string(info.path()).unwrap_or_default();
            for line in text.lines().filter(|line| line.starts_with("tfd:")) {
                let words: Vec<_> = line.split_whitespace().collect();
                if words[1] == fd {
                    asked.push(u32::from_str_radix(words[3], 16).unwrap());
                }
            }
        }
        asked
    }

    /// The library's own socket is told of room as well.
    #[tokio::test]
    async fn the_system_is_asked_for_what_arrives_alone() {
        const EPOLLOUT: u32 = 4;
        let (socket, other) = pair();
        socket.try_send(&datagram(&other, b"hello")).unwrap();
        let asked = asked(&socket);
        assert!(asked.iter().all(|events| events & EPOLLOUT == 0), "{asked:?}");
        assert!(!asked.is_empty(), "it is looked at");
    }

    /// Also what did not fit into one read.
    #[tokio::test]
    async fn all_that_arrives_is_read() {
        let (socket, other) = pair();
        other.connect(socket.local_addr().unwrap()).unwrap();
        for many in [1usize, 7, 3, 100, 1] {
            for n in 0..many {
                other.send(&[u8::try_from(n).unwrap(); 9]).unwrap();
            }
            let mut read = 0;
            while read < many {
                let mut room = [[0u8; 100]; 4];
                let mut metas = [RecvMeta::default(); 4];
                let got = poll_fn(|cx| {
                    let [a, b, c, d] = &mut room;
                    let mut bufs = [a, b, c, d].map(|buf| IoSliceMut::new(buf));
                    socket.poll_recv(cx, &mut bufs, &mut metas)
                });
                let got = tokio::time::timeout(std::time::Duration::from_secs(60), got).await;
                let got = got.expect("the rest of what arrived").unwrap();
                read +=
                    metas[..got].iter().map(|meta| meta.len / meta.stride.max(1)).sum::<usize>();
            }
            assert_eq!(read, many);
        }
    }

    /// Loopback has always room, so here it is only said that there was none.
    #[tokio::test]
    async fn whoever_found_no_room_goes_on_once_there_is_some() {
        let (socket, other) = pair();
        let mut room = Arc::clone(&socket).create_io_poller();
        for full in [false, true, true, false] {
            socket.full.store(full, Ordering::Relaxed);
            let some = poll_fn(|cx| room.as_mut().poll_writable(cx));
            let some = tokio::time::timeout(std::time::Duration::from_secs(60), some).await;
            some.expect("room").unwrap();
            assert!(!socket.full.load(Ordering::Relaxed));
            socket.try_send(&datagram(&other, b"hello")).unwrap();
            assert_eq!(other.recv(&mut [0; 9]).unwrap(), 5);
        }
    }
}
