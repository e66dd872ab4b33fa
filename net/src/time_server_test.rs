//! What the server says in each manner, and that it is heard.

use super::*;

/// 2026-11-21T00:00:00Z.
const NOW_NS: u64 = 1_795_219_200_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

fn request() -> Packet {
    Packet {
        version: 4,
        mode: CLIENT,
        poll: 6,
        transmit: NtpTime(0x0123_4567_89ab_cdef),
        ..Packet::default()
    }
}

/// The answer to a request that was held for a microsecond.
fn answered(manner: &Manner) -> Packet {
    answer(&request(), NOW_NS, NOW_NS + 1000, manner).unwrap()
}

fn said(change: impl FnOnce(&mut Manner)) -> Packet {
    let mut manner = Manner::default();
    change(&mut manner);
    answered(&manner)
}

/// Nanoseconds from the request's arrival to a time in the answer, to a few units of its format.
fn since_now_ns(time: NtpTime) -> i64 {
    time.since_ns(NtpTime::from_unix_ns(NOW_NS))
}

#[test]
fn an_honest_answer_tells_the_given_clock() {
    let packet = answered(&Manner::default());
    assert_eq!((packet.leap, packet.version, packet.mode, packet.stratum), (0, 4, SERVER, 1));
    assert_eq!(packet.origin, request().transmit);
    assert_eq!(packet.receive, NtpTime::from_unix_ns(NOW_NS));
    assert_eq!(packet.transmit, NtpTime::from_unix_ns(NOW_NS + 1000));
    assert_eq!(packet.reference, NtpTime::from_unix_ns(NOW_NS + 1000 - SECOND_NS));
    assert_eq!(packet.root_dispersion, NtpShort(0));
}

#[test]
fn every_manner_is_in_the_answer() {
    let hour_ns = 3_600_000_000_000_i64;
    for offset_ns in [hour_ns, -hour_ns, 1] {
        let packet = said(|m| m.offset_ns = offset_ns);
        assert!(since_now_ns(packet.receive).abs_diff(offset_ns) <= 1);
        assert!(since_now_ns(packet.transmit).abs_diff(offset_ns + 1000) <= 1);
    }
    assert_eq!(said(|m| m.leap = 3).leap, 3);
    assert_eq!(said(|m| m.stratum = 16).stratum, 16);
    assert_eq!(said(|m| m.precision = -128).precision, -128);
    assert_eq!(said(|m| m.refid = *b"GPS\0").refid, *b"GPS\0");
    // Rounded up: a claimed error is never made smaller.
    assert_eq!(said(|m| m.root_delay_ns = 1).root_delay, NtpShort(1));
    assert_eq!(said(|m| m.root_dispersion_ns = SECOND_NS).root_dispersion, NtpShort(1 << 16));
    assert_eq!(said(|m| m.root_dispersion_ns = u64::MAX).root_dispersion, NtpShort(u32::MAX));
    assert_ne!(said(|m| m.forged = true).origin, request().transmit);
    // 5 ms are claimed beyond the microsecond that it took; and 5 ms less.
    let packet = said(|m| m.held_ns = 5_000_000);
    assert!(packet.transmit.since_ns(packet.receive).abs_diff(5_001_000) <= 1);
    let packet = said(|m| m.held_ns = -5_000_000);
    assert!(packet.transmit.since_ns(packet.receive).abs_diff(-4_999_000) <= 1);
}

#[test]
fn a_kiss_carries_its_code_and_the_origin() {
    let packet = said(|m| m.kiss = Some(*b"RATE"));
    assert_eq!((packet.stratum, packet.leap, packet.refid), (0, 3, *b"RATE"));
    assert_eq!(packet.origin, request().transmit);
}

#[test]
fn the_next_era_wraps() {
    // 2040: beyond 2036-02-07, where the seconds of an NTP time begin again at 0.
    let packet = said(|m| m.offset_ns = 14 * 365 * 86_400 * 1_000_000_000);
    assert!(packet.transmit.0 < NtpTime::from_unix_ns(NOW_NS).0);
    let pivot_ns = NOW_NS + 13 * 365 * 86_400 * SECOND_NS;
    let read_ns = packet.transmit.to_unix_ns(pivot_ns).unwrap();
    assert!(read_ns.abs_diff(NOW_NS + 14 * 365 * 86_400 * SECOND_NS + 1000) <= 1);
}

#[test]
fn only_clients_are_answered_and_the_silent_answer_nobody() {
    for mode in [0, 1, 2, 4, 5, 6, 7] {
        let request = Packet { mode, ..request() };
        assert_eq!(answer(&request, NOW_NS, NOW_NS, &Manner::default()), None, "{mode}");
    }
    let silent = Manner { silent: true, ..Manner::default() };
    assert_eq!(answer(&request(), NOW_NS, NOW_NS, &silent), None);
}

async fn client(server: &TimeServer) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.connect(server.address()).await.unwrap();
    socket
}

async fn heard(socket: &UdpSocket) -> Packet {
    let mut bytes = [0; Packet::BYTES];
    assert_eq!(socket.recv(&mut bytes).await.unwrap(), Packet::BYTES);
    Packet::from_bytes(&bytes)
}

#[tokio::test]
async fn it_is_heard_and_changes_while_it_runs() {
    let server = TimeServer::start(0, || NOW_NS).await.unwrap();
    let socket = client(&server).await;
    socket.send(&request().to_bytes()).await.unwrap();
    assert_eq!(heard(&socket).await.receive, NtpTime::from_unix_ns(NOW_NS));
    // Twice, and later than the request after it would be answered: both orders are the server's.
    server.change(|m| (m.copies, m.late) = (2, Duration::from_millis(20)));
    socket.send(&request().to_bytes()).await.unwrap();
    let first = heard(&socket).await;
    assert_eq!(first, heard(&socket).await);
    // What is no request is not counted; what is silenced is.
    server.change(|m| m.silent = true);
    socket.send(b"short").await.unwrap();
    socket.send(&request().to_bytes()).await.unwrap();
    while server.asked() < 3 {
        tokio::task::yield_now().await;
    }
    server.behave();
    assert_eq!(server.manner(), Manner::default());
    socket.send(&request().to_bytes()).await.unwrap();
    heard(&socket).await;
    assert_eq!(server.asked(), 4);
}

#[tokio::test]
async fn it_frees_its_port_when_it_is_dropped() {
    let server = TimeServer::start(0, || NOW_NS).await.unwrap();
    let port = server.address().port();
    assert!(TimeServer::start(port, || NOW_NS).await.is_err());
    drop(server);
    while TimeServer::start(port, || NOW_NS).await.is_err() {
        tokio::task::yield_now().await;
    }
}
