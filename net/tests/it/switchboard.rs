//! The switchboard behaves as links do, and breaks where it is told to.

use std::time::Duration;

use bytes::Bytes;
use net::switchboard::{Arrivals, SwitchLink, Switchboard};
use net::{FrameRx, FrameTx, Lane, Link, LinkError, PeerAddr, PeerStream};
use proto::Name;
use proto::peer::Hello;
use tokio::time::{Instant, timeout};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn address(text: &str, raft_id: u64) -> PeerAddr {
    let incarnation = [raft_id.to_be_bytes()[7]; 16];
    PeerAddr { name: name(text), raft_id, address: String::new(), incarnation }
}

fn attach(board: &Switchboard, text: &str, raft_id: u64) -> (SwitchLink, Arrivals) {
    let address = address(text, raft_id);
    let incarnation = address.incarnation.to_vec();
    let hello = Hello { name: text.to_owned(), raft_id, incarnation, ..Hello::default() };
    board.attach(&address.name, hello)
}

struct Two {
    board: Switchboard,
    a: Name,
    b: Name,
    link: SwitchLink,
    _back: SwitchLink,
    arrivals: Arrivals,
    _at_a: Arrivals,
}

impl Two {
    fn new() -> Self {
        let board = Switchboard::new();
        let (link, at_a) = attach(&board, "a", 1);
        let (back, arrivals) = attach(&board, "b", 2);
        Self { board, a: name("a"), b: name("b"), link, _back: back, arrivals, _at_a: at_a }
    }

    async fn open(&mut self, lane: Lane) -> (FrameTx, FrameRx, PeerStream) {
        let (tx, rx) = self.link.open(&address("b", 2), lane).await.unwrap();
        (tx, rx, self.arrivals.recv().await.unwrap())
    }
}

fn x() -> Bytes {
    Bytes::from_static(b"x")
}

#[tokio::test(start_paused = true)]
async fn frames_pass_both_ways_and_end() {
    let mut two = Two::new();
    let (mut tx, mut rx, mut stream) = two.open(Lane::Append).await;
    assert_eq!((stream.lane, stream.from.name.as_str()), (Lane::Append, "a"));
    tx.send(x()).await.unwrap();
    tx.finish().await.unwrap();
    assert_eq!(stream.rx.recv().await.unwrap(), Some(x()));
    assert_eq!(stream.rx.recv().await.unwrap(), None);
    stream.tx.send(x()).await.unwrap();
    drop(stream);
    assert_eq!(rx.recv().await.unwrap(), Some(x()));
    assert_eq!(rx.recv().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn an_abort_and_a_reader_that_leaves_are_errors() {
    let mut two = Two::new();
    let (mut tx, _rx, mut stream) = two.open(Lane::Snapshot).await;
    tx.send(x()).await.unwrap();
    tx.abort();
    assert!(stream.rx.recv().await.is_err());
    let (mut tx, _rx, stream) = two.open(Lane::Snapshot).await;
    drop(stream);
    tx.stopped().await;
    assert!(tx.send(x()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_pipe_is_bounded() {
    let mut two = Two::new();
    let (mut tx, _rx, stream) = two.open(Lane::Append).await;
    let flood = async { while tx.send(x()).await.is_ok() {} };
    assert!(timeout(Duration::from_secs(1), flood).await.is_err(), "the sender must wait");
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn a_mended_cut_delivers_what_was_held() {
    let mut two = Two::new();
    let (mut tx, _rx, mut stream) = two.open(Lane::Append).await;
    two.board.cut(&two.a, &two.b);
    tx.send(x()).await.unwrap();
    assert!(timeout(Duration::from_secs(5), stream.rx.recv()).await.is_err());
    two.board.heal(&two.a, &two.b);
    assert_eq!(stream.rx.recv().await.unwrap(), Some(x()));
}

#[tokio::test(start_paused = true)]
async fn a_lasting_cut_breaks_the_stream_and_keeps_new_ones_out() {
    let mut two = Two::new();
    let (_tx, mut rx, mut stream) = two.open(Lane::Append).await;
    two.board.isolate(&two.b);
    assert!(matches!(stream.rx.recv().await, Err(LinkError::Lost(_))));
    assert!(matches!(rx.recv().await, Err(LinkError::Lost(_))));
    let error = two.link.open(&address("b", 2), Lane::Append).await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable { .. }));
    two.board.heal_all();
    two.open(Lane::Append).await;
}

#[tokio::test(start_paused = true)]
async fn a_one_way_cut_stops_one_way() {
    let mut two = Two::new();
    let (mut tx, mut rx, mut stream) = two.open(Lane::Append).await;
    two.board.cut_one_way(&two.a, &two.b);
    tx.send(x()).await.unwrap();
    stream.tx.send(x()).await.unwrap();
    assert_eq!(rx.recv().await.unwrap(), Some(x()));
    assert!(timeout(Duration::from_secs(5), stream.rx.recv()).await.is_err());
    assert!(two.link.open(&address("b", 2), Lane::Append).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn delays_are_by_direction_and_lane() {
    let mut two = Two::new();
    let (mut slow, mut back, mut bulk) = two.open(Lane::Append).await;
    let (mut fast, _rx, mut urgent) = two.open(Lane::Urgent).await;
    two.board.delay(&two.a, &two.b, Duration::from_millis(500));
    two.board.delay_lane(&two.a, &two.b, Lane::Urgent, Duration::from_millis(20));
    let start = Instant::now();
    slow.send(x()).await.unwrap();
    fast.send(x()).await.unwrap();
    bulk.tx.send(x()).await.unwrap();
    back.recv().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    urgent.rx.recv().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20) && start.elapsed().as_millis() < 100);
    bulk.rx.recv().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn a_reset_breaks_streams_and_leaves_the_way_open() {
    let mut two = Two::new();
    let (mut tx, mut rx, mut stream) = two.open(Lane::Append).await;
    tx.send(x()).await.unwrap();
    two.board.reset(&two.a, &two.b);
    assert!(stream.rx.recv().await.is_err());
    assert!(rx.recv().await.is_err());
    assert!(tx.send(x()).await.is_err());
    two.open(Lane::Append).await;
}

#[tokio::test(start_paused = true)]
async fn a_detached_node_is_gone_and_may_come_back() {
    let mut two = Two::new();
    let (mut tx, mut rx, _stream) = two.open(Lane::Append).await;
    two.board.detach(&two.b);
    assert!(rx.recv().await.is_err() && tx.send(x()).await.is_err());
    assert!(two.link.open(&address("b", 2), Lane::Append).await.is_err());
    let (_link, arrivals) = attach(&two.board, "b", 2);
    two.arrivals = arrivals;
    two.open(Lane::Append).await;
}

#[tokio::test(start_paused = true)]
async fn another_store_under_the_same_name_is_refused() {
    let two = Two::new();
    let id = address("b", 3);
    assert!(matches!(two.link.open(&id, Lane::Append).await, Err(LinkError::Refused { .. })));
    let other = PeerAddr { incarnation: [9; 16], ..address("b", 2) };
    assert!(matches!(two.link.open(&other, Lane::Append).await, Err(LinkError::Refused { .. })));
}
