//! Free ports in a row, for UDP and for TCP: a node has both of one number.
//!
//! They lie below the range that the system gives to sockets which name none: a client of another
//! test could else take the port of a node while it is down.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

const LOWEST: u32 = 10_000;
/// Where the system's own range begins if it does not say.
const EPHEMERAL: u32 = 32_768;

/// Where the next search of this process begins, so that two tests do not find the same ports.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Finds `count` free ports in a row on the loopback address and returns the first. They may be
/// taken before they are used: whoever uses them must be ready to search again.
///
/// # Errors
/// When there are none.
pub fn in_a_row(count: u16) -> anyhow::Result<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let end = range.split_whitespace().next().and_then(|first| first.parse().ok());
    let end: u32 = end.unwrap_or(EPHEMERAL).max(LOWEST + 1000);
    let width = end - LOWEST - u32::from(count);
    // Two test processes at a time begin at different places.
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..1000 {
        let step = NEXT.fetch_add(u32::from(count), Ordering::Relaxed);
        let first = LOWEST + start.wrapping_add(step) % width;
        let free = |port| u16::try_from(port).is_ok_and(is_free);
        if (first..first + u32::from(count)).all(free) {
            return Ok(u16::try_from(first)?);
        }
    }
    anyhow::bail!("no {count} free ports in a row between {LOWEST} and {end}")
}

fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
}
