//! Telling a dead process from a slow one: a host where nobody listens on a port says so, one whose
//! process is stopped, or that cannot be reached, says nothing.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Longest wait for the host's word; a silent one is no news.
const WAIT: Duration = Duration::from_millis(100);

/// Whether the host says that the port is closed. QUIC itself never learns: its socket talks to many
/// addresses, and only a connected one is told. The byte that is sent is no packet to a server that is
/// there.
pub(super) async fn is_closed(address: SocketAddr) -> bool {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let refused = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 16]).await
    };
    match timeout(WAIT, refused).await {
        Ok(Err(error)) => error.kind() == ErrorKind::ConnectionRefused,
        Ok(Ok(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_port_says_so_and_a_silent_one_does_not() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let silent = UdpSocket::bind(local).await.unwrap();
            let address = silent.local_addr().unwrap();
            assert!(!is_closed(address).await, "{address}");
            drop(silent);
            assert!(is_closed(address).await, "{address}");
        }
    }
}
