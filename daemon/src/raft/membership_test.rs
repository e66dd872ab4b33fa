//! Members come and go in a cluster of engines, with whoever makes the change cut off or stopped in
//! the middle of it.
//!
//! Protects: every change ends in one configuration on all nodes, whoever finishes it; acknowledged
//! records stay; a removed voter never counts.

use std::collections::BTreeMap;
use std::time::Duration;

use net::switchboard::Switchboard;

use super::membership::{Change, ChangeError};
use super::test_cluster::{
    PATIENCE, Setup, TestNode, member, name, primary, send_surely, settle, start, three, until,
};

const WITHIN: Duration = Duration::from_secs(10);

async fn change(node: &TestNode, change: Change) -> Result<(), ChangeError> {
    let seen = node.engine.view().borrow().clone();
    node.engine.change(&seen, change, WITHIN).await
}

/// Makes a change through whoever leads, as often as it takes, as a reconciler would: `done` says
/// whether anything is left to do.
async fn surely(nodes: &[TestNode], wanted: &Change, done: impl Fn(&super::EngineState) -> bool) {
    let changed = async {
        loop {
            let leading = primary(nodes, None).await;
            let seen = leading.engine.view().borrow().clone();
            if done(&seen) && !seen.joint {
                return;
            }
            let next = if seen.joint { Change::Finish } else { wanted.clone() };
            let _ = leading.engine.change(&seen, next, WITHIN).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, changed).await.expect("the change is made");
}

/// A fourth node that has no log yet.
async fn fourth(board: &Switchboard) -> TestNode {
    let setup = Setup { members: 4, founds: false, ..Setup::default() };
    start(board, 4, tempfile::tempdir().unwrap(), setup).await
}

async fn caught_up(nodes: &[TestNode], id: u64) {
    until("it catches up", || {
        nodes.iter().any(|node| {
            node.engine.behind().get(&id).copied().flatten().is_some_and(|behind| behind <= 64)
        })
    })
    .await;
}

/// Waits until all nodes have one and the same configuration, with these voters.
async fn uniform(nodes: &[TestNode], voters: &[u64]) {
    for node in nodes {
        until("one configuration", || {
            let view = node.engine.view();
            let view = view.borrow();
            !view.joint && view.voters == voters
        })
        .await;
    }
    until("one entry that says so", || {
        let at = nodes.iter().map(|node| node.engine.view().borrow().membership_at);
        let at: Vec<_> = at.collect();
        at.windows(2).all(|pair| pair[0] == pair[1])
    })
    .await;
}

fn check_same(nodes: &[TestNode], acked: &BTreeMap<String, u64>) {
    let records = nodes[0].records();
    for node in nodes {
        assert_eq!(node.records(), records, "{} differs", node.name);
    }
    for (id, seq) in acked {
        let found: Vec<_> = records.iter().filter(|record| record.id == *id).collect();
        assert_eq!(found.iter().map(|record| record.seq).collect::<Vec<_>>(), [*seq], "{id}");
    }
}

/// Seen to fail with `Change::Demote` taking the node out as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_comes_is_given_a_vote_loses_it_and_goes() {
    let board = Switchboard::new();
    let mut nodes = three(&board, |_| Setup::default()).await;
    let mut acked = BTreeMap::new();
    acked.insert("first".to_owned(), send_surely(&nodes, None, "first").await);
    nodes.push(fourth(&board).await);
    surely(&nodes, &Change::AddLearner(4, member(4)), |view| view.members.contains_key(&4)).await;
    caught_up(&nodes, 4).await;
    surely(&nodes, &Change::Promote(4), |view| view.voters.contains(&4)).await;
    uniform(&nodes, &[1, 2, 3, 4]).await;
    acked.insert("four".to_owned(), send_surely(&nodes, None, "four").await);
    let leading = primary(&nodes, None).await;
    let elsewhere = Change::Readdress(4, "elsewhere:4".to_owned());
    change(leading, elsewhere).await.unwrap();
    assert_eq!(leading.engine.view().borrow().members[&4].address, "elsewhere:4");
    change(leading, Change::Readdress(4, member(4).address)).await.unwrap();
    if leading.name == name(4) {
        leading.engine.transfer(1).await.unwrap();
        primary(&nodes, Some(&name(4))).await;
    }
    surely(&nodes, &Change::Demote(4), |view| !view.voters.contains(&4)).await;
    let leading = primary(&nodes, Some(&name(4))).await;
    assert!(leading.engine.view().borrow().members.contains_key(&4), "it stays a learner");
    uniform(&nodes, &[1, 2, 3]).await;
    settle(&nodes).await;
    check_same(&nodes, &acked);
    surely(&nodes, &Change::Remove(4), |view| !view.members.contains_key(&4)).await;
    uniform(&nodes[..3], &[1, 2, 3]).await;
}

/// A change that is under way: who makes it has its first entry in the log, some others have it too,
/// or none.
async fn begun<'n>(nodes: &'n [TestNode], wanted: &Change, votes: bool) -> (&'n TestNode, Making) {
    let begun = async {
        loop {
            let maker = primary(nodes, Some(&name(4))).await;
            let (engine, wanted) = (maker.engine.clone(), wanted.clone());
            let seen = engine.view().borrow().clone();
            let mut making =
                tokio::spawn(async move { engine.change(&seen, wanted, WITHIN).await });
            let mut view = maker.engine.view();
            let joint = view.wait_for(|view| view.joint || view.voters.contains(&4) == votes);
            tokio::select! {
                biased;
                _ = joint => return (maker, making),
                // One that led only in its own eyes.
                _ = &mut making => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.expect("it begins")
}

type Making = tokio::task::JoinHandle<Result<(), ChangeError>>;

/// Seen to fail with `Change::Finish` that does nothing: the configuration stayed joint for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_maker_is_cut_off_is_finished_by_the_next_primary() {
    let board = Switchboard::new();
    let mut nodes = three(&board, |_| Setup::default()).await;
    nodes.push(fourth(&board).await);
    surely(&nodes, &Change::AddLearner(4, member(4)), |view| view.members.contains_key(&4)).await;
    caught_up(&nodes, 4).await;
    let mut acked = BTreeMap::new();
    for round in 0..6 {
        let votes = round % 2 == 0;
        let wanted = if votes { Change::Promote(4) } else { Change::Demote(4) };
        let (maker, making) = begun(&nodes, &wanted, votes).await;
        board.isolate(&maker.name);
        let other = primary(&nodes, Some(&maker.name)).await;
        assert_ne!(other.name, maker.name);
        let id = format!("round-{round}");
        acked.insert(id.clone(), send_surely(&nodes, Some(&maker.name), &id).await);
        board.heal_all();
        // Whatever it was told, the change is made in the end.
        let _ = making.await.unwrap();
        surely(&nodes, &wanted, |view| view.voters.contains(&4) == votes).await;
        uniform(&nodes, if votes { &[1, 2, 3, 4] } else { &[1, 2, 3] }).await;
        if primary(&nodes, None).await.name == name(4) {
            primary(&nodes, None).await.engine.transfer(1).await.unwrap();
            primary(&nodes, Some(&name(4))).await;
        }
    }
    settle(&nodes).await;
    check_same(&nodes, &acked);
}

/// Seen to fail with the removal left out, and with one that only the view showed: two of three were
/// enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_voter_never_counts() {
    let board = Switchboard::new();
    let nodes = three(&board, |_| Setup::default()).await;
    let leading = primary(&nodes, None).await;
    let mut others = nodes.iter().filter(|node| node.name != leading.name);
    let (gone, stays) = (others.next().unwrap(), others.next().unwrap());
    let gone_id = gone.store.identity().raft_id;
    send_surely(&nodes, None, "before").await;
    surely(&nodes, &Change::Remove(gone_id), |view| !view.members.contains_key(&gone_id)).await;
    // Whoever leads now is one of two, and the other one of them is out of reach.
    let leading = primary(&nodes, Some(&gone.name)).await;
    let other = if leading.name == stays.name {
        nodes.iter().find(|n| n.name != gone.name && n.name != stays.name).unwrap()
    } else {
        stays
    };
    board.isolate(&other.name);
    assert!(leading.send("alone").await.is_err(), "a removed voter confirmed it");
    assert!(!gone.is_primary(), "a removed voter was elected");
    let term = leading.engine.view().borrow().term;
    until("nobody follows it", || !leading.engine.view().borrow().is_followed()).await;
    assert!(!gone.is_primary() && gone.engine.view().borrow().term <= term + 1);
    board.heal_all();
    let kept: Vec<_> = [leading.name.clone(), other.name.clone()].into();
    let led = primary(&nodes, Some(&gone.name)).await;
    assert!(kept.contains(&led.name));
    send_surely(&nodes, Some(&gone.name), "after").await;
}

/// Seen to fail without the precondition: the second change undid what it had not seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_thought_out_under_an_older_membership_is_not_made() {
    let board = Switchboard::new();
    let nodes = three(&board, |_| Setup::default()).await;
    send_surely(&nodes, None, "before").await;
    let leading = primary(&nodes, None).await;
    let seen = leading.engine.view().borrow().clone();
    let third = seen.voters.iter().copied().find(|id| *id != seen.id).unwrap();
    change(leading, Change::Demote(third)).await.unwrap();
    let late = leading.engine.change(&seen, Change::Promote(third), WITHIN).await;
    assert!(matches!(late, Err(ChangeError::Overtaken(_))), "{late:?}");
    assert!(!leading.engine.view().borrow().voters.contains(&third));
}
