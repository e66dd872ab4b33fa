//! The first exchange on a connection between nodes: both sides say who they are and judge it, before
//! anything else passes.

use certs::Peer;
use prost::Message as _;
use proto::Identity;
use proto::peer::{Hello, Refusal};

use crate::{CheckPeer, FrameRx, FrameTx, LinkError, PeerAddr, Refused};

/// Says who this node is to whom it dialled, and checks who answers. `who` is the identity that was
/// wanted, `certified` what the other side has proven.
pub(crate) async fn say(
    (mut tx, mut rx): (FrameTx, FrameRx),
    to: &PeerAddr,
    (own, who): (&Identity, &Identity),
    mut hello: Hello,
    certified: impl Fn() -> Result<Peer, String> + Send,
    check: &CheckPeer,
) -> Result<(), LinkError> {
    let name = to.name.as_str();
    let unexpected = |why, reason: String| Refused::new(why, reason).by(name);
    hello.wanted = to.name.to_string();
    tx.send_message(&hello).await?;
    tx.finish().await?;
    let said = rx.recv().await?;
    let theirs = said.and_then(|frame| Hello::decode(frame).ok());
    let theirs = theirs
        .ok_or_else(|| unexpected(Refusal::Other, "it did not answer with a hello".to_owned()))?;
    if !theirs.refusal.is_empty() {
        if let (Ok(()), Ok(peer)) = (check_hello(&theirs, who, own), certified()) {
            // What it says of this node counts, also where it says no.
            drop(check(&peer, &theirs));
        }
        return Err(refuses(theirs.why_refused(), &theirs.refusal).by(name));
    }
    check_hello(&theirs, who, own).map_err(|refused| refused.by(name))?;
    // Who cannot prove its store may come with one that has ended; it takes no part anyway. And who wants
    // to be taken back asks whatever became of those that it knew.
    let any_store = theirs.repairing || hello.repairing;
    if theirs.raft_id != to.raft_id && !any_store {
        let (got, want) = (theirs.raft_id, to.raft_id);
        let reason = format!("its raft id is {got}, the membership says {want}");
        return Err(unexpected(Refusal::Store, reason));
    }
    if theirs.incarnation != to.incarnation && !any_store {
        let reason = "its store is another incarnation than the member's".to_owned();
        return Err(unexpected(Refusal::Store, reason));
    }
    let peer = certified().map_err(|reason| unexpected(Refusal::Name, reason))?;
    check(&peer, &theirs).map_err(|refused| refused.by(name))?;
    rx.close();
    Ok(())
}

/// Takes the hello of who has dialled, `certified` by its certificate, and answers with `mine`.
pub(crate) async fn answer<E: Into<Refused>>(
    (mut tx, mut rx): (FrameTx, FrameRx),
    (own, certified): (&Identity, &Identity),
    mut mine: Hello,
    check: impl Fn(&Hello) -> Result<(), E> + Send,
) -> Result<Hello, LinkError> {
    let name = certified.name.as_str();
    let said = rx.recv().await?;
    let theirs = said.and_then(|frame| Hello::decode(frame).ok());
    let theirs =
        theirs.ok_or_else(|| LinkError::Lost("it did not begin with a hello".to_owned()))?;
    let verdict = check_hello(&theirs, certified, own).and_then(|()| {
        let own = own.name.as_str();
        if theirs.wanted != own {
            let reason = format!("{name} wanted to reach {}, but this is {own}", theirs.wanted);
            return Err(Refused::new(Refusal::Name, reason));
        }
        check(&theirs).map_err(Into::into)
    });
    mine.wanted = name.to_owned();
    if let Err(Refused { why, reason }) = &verdict {
        mine.refusal.clone_from(reason);
        mine.refused = (*why).into();
    }
    tx.send_message(&mine).await?;
    tx.finish().await?;
    if let Err(refused) = verdict {
        // The answer carries the reason; closing at once could overtake it.
        tx.stopped().await;
        return Err(refused.by(name));
    }
    if !theirs.refusal.is_empty() {
        // It asked who is here, all the same: closing at once could overtake the answer.
        tx.stopped().await;
        return Err(Refused::new(theirs.why_refused(), theirs.refusal).by(name));
    }
    Ok(theirs)
}

/// The other side does not want this node.
pub(crate) fn refuses(why: Refusal, reason: &str) -> Refused {
    Refused::new(why, format!("it refuses this node: {reason}"))
}

/// Checks what both sides check: cluster, and the name against the certificate.
fn check_hello(theirs: &Hello, certified: &Identity, own: &Identity) -> Result<(), Refused> {
    if theirs.cluster != own.cluster.as_str() {
        let reason = format!("it is of cluster {}, this is {}", theirs.cluster, own.cluster);
        return Err(Refused::new(Refusal::Cluster, reason));
    }
    if theirs.name != certified.name.as_str() {
        let reason = format!(
            "it says that it is {}, but its certificate says {}",
            theirs.name, certified.name
        );
        return Err(Refused::new(Refusal::Name, reason));
    }
    Ok(())
}
