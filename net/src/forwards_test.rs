//! A stream over a switchboard, both ends of it.

use std::time::Duration;

use proto::peer::Hello;
use proto::wire::{Empty, Op, Reply, Request, Response, Send};
use proto::{ErrorCode, Name};
use tokio::time::Instant;

use super::*;
use crate::switchboard::{Arrivals, SwitchLink, Switchboard};
use crate::{Answered, AnswersRx, Flushes, Lane, Link as _, PeerAddr};

type Kept = (SwitchLink, Arrivals);

/// A stream from a gateway to a primary, and what keeps it.
async fn stream() -> (FrameTx, AnswersRx, ForwardsRx, Kept) {
    let (tx, answers, (there_tx, there_rx), kept) = halves().await;
    (tx, answers, ForwardsRx::new(there_tx, there_rx), kept)
}

/// The two ends of such a stream.
async fn halves() -> (FrameTx, AnswersRx, (FrameTx, FrameRx), Kept) {
    let board = Switchboard::new();
    let name = |n: u64| -> Name { format!("n{n}").parse().unwrap() };
    let incarnation = [1; 16];
    let hello = |n: u64| Hello {
        name: name(n).to_string(),
        raft_id: n,
        incarnation: incarnation.to_vec(),
        ..Hello::default()
    };
    let (link, _) = board.attach(&name(1), hello(1));
    let (_, mut arrivals) = board.attach(&name(2), hello(2));
    let to = PeerAddr { name: name(2), raft_id: 2, address: String::new(), incarnation };
    let (mut tx, rx) = link.open(&to, Lane::Request).await.unwrap();
    // The other end learns of a stream with its first frame.
    tx.send(Bytes::from_static(b"first")).await.unwrap();
    let mut there = arrivals.recv().await.unwrap();
    there.rx.recv().await.unwrap();
    (tx, AnswersRx::new(rx), (there.tx, there.rx), (link, arrivals))
}

/// The answers that are here, and none at the end.
async fn answers_of(rx: &mut AnswersRx) -> Result<Vec<(u64, Bytes)>, LinkError> {
    match rx.recv().await? {
        Answered::Each(frames) => Ok(frames),
        Answered::End => Ok(Vec::new()),
        Answered::Refused(frame) => panic!("refused: {frame:?}"),
    }
}

fn asked(number: u64, client: u32, op: Op) -> Forwarded {
    let request = Request { op: Some(op), ..Request::default() };
    let request = request.encode_to_vec().into();
    Forwarded { number, client, deadline_ms: 500, request }
}

fn send(number: u64, client: u32) -> Forwarded {
    asked(number, client, Op::Send(Send { id: number.to_string(), ..Send::default() }))
}

fn batch(requests: Vec<Forwarded>) -> Forwards {
    let client = |who: &str| Forwarder { identity: who.to_owned(), fingerprint: vec![1; 32] };
    Forwards { clients: vec![client("alice"), client("bob")], requests }
}

fn said(frames: &[(u64, Bytes)]) -> Vec<(u64, String)> {
    let gateway = |frame: &Bytes| Response::decode(frame.clone()).unwrap().gateway;
    frames.iter().map(|(number, frame)| (*number, gateway(frame))).collect()
}

#[tokio::test(start_paused = true)]
async fn what_comes_at_once_is_answered_at_once() {
    let (mut tx, mut answers, mut forwards, _kept) = stream().await;
    let ping = asked(9, 0, Op::Ping(Empty {}));
    tx.send_message(&batch(vec![send(3, 1), ping, send(1, 0), send(2, 1)])).await.unwrap();
    let Some(HandedOver::Many(Batch { clients, requests })) = forwards.next().await.unwrap() else {
        panic!("no batch")
    };
    let who: Vec<_> = clients.iter().map(|client| client.identity.as_str()).collect();
    assert_eq!(who, ["alice", "bob"]);
    assert!(requests.iter().all(|(_, numbered)| numbered.request.deadline_ms == 500));
    let refused = answers_of(&mut answers).await.unwrap().pop().unwrap();
    let Some(Reply::Failure(why)) = Response::decode(refused.1).unwrap().reply else {
        panic!("a ping was taken")
    };
    assert_eq!((refused.0, why.error_code()), (9, ErrorCode::Invalid));
    let mut flushes = Flushes::default();
    for (client, numbered) in &requests {
        let gateway = clients[*client].identity.clone();
        flushes.add(numbered.ticket.answer(&Response { gateway, ..Response::default() }));
    }
    flushes.now();
    let answered = answers_of(&mut answers).await.unwrap();
    let bob = |n| (n, "bob".to_owned());
    assert_eq!(said(&answered), [bob(3), (1, "alice".to_owned()), bob(2)]);
}

#[tokio::test(start_paused = true)]
async fn who_is_late_is_told_and_who_breaks_the_rules_is_not_heard() {
    let (mut tx, mut answers, mut forwards, _kept) = stream().await;
    tx.send_message(&batch(vec![send(1, 0)])).await.unwrap();
    let Some(HandedOver::Many(Batch { requests, .. })) = forwards.next().await.unwrap() else {
        panic!("no batch")
    };
    requests[0].1.ticket.expires(Some(Instant::now() + Duration::from_secs(1)));
    let Some(HandedOver::Late(late)) = forwards.next().await.unwrap() else { panic!("late") };
    late.answer(&Response { gateway: "late".to_owned(), ..Response::default() });
    assert_eq!(said(&answers_of(&mut answers).await.unwrap()), [(1, "late".to_owned())]);

    let many = (0..=FORWARDS_MAX as u64).map(|number| send(number, 0)).collect();
    for wrong in [vec![send(1, 2)], vec![send(1, 0), send(1, 1)], many] {
        let (mut tx, mut answers, mut forwards, _kept) = stream().await;
        tx.send_message(&batch(wrong)).await.unwrap();
        forwards.next().await.unwrap_err();
        drop(forwards);
        let ended = answers_of(&mut answers).await;
        assert!(ended.is_err() || ended.is_ok_and(|frames| frames.is_empty()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_refused_before_anything_is_read_or_not_at_all() {
    let (mut tx, mut answers, (mut there_tx, there_rx), _kept) = halves().await;
    tx.send_message(&batch(vec![send(1, 0), send(2, 1)])).await.unwrap();
    let no = Response { gateway: "no".to_owned(), ..Response::default() };
    refuse_forwards(&mut there_tx, &no).await.unwrap();
    drop((there_tx, there_rx));
    assert_eq!(answers.recv().await.unwrap(), Answered::Refused(no.encode_to_vec().into()));
    assert_eq!(answers.recv().await.unwrap(), Answered::End);

    // What has answered one cannot say that it did none.
    let (mut tx, mut answers, (mut there_tx, _there_rx), _kept) = halves().await;
    tx.send_message(&batch(vec![send(1, 0), send(2, 1)])).await.unwrap();
    let mut out = BytesMut::new();
    put(&mut out, 1, &no).unwrap();
    there_tx.send(out.freeze()).await.unwrap();
    assert_eq!(said(&answers_of(&mut answers).await.unwrap()), [(1, "no".to_owned())]);
    refuse_forwards(&mut there_tx, &no).await.unwrap();
    answers.recv().await.unwrap_err();
}
