//! Whole nodes of which one holds something else than the others, though all have the same log.

use model::{Change, Table};
use proto::wire::{Op, Reply, Verified, Verify};
use proto::{Problem, ProblemCode};

use super::super::*;
use super::{Cluster, PATIENCE};

/// A row of this node is changed, without the log and with whole checksums.
fn change(cluster: &Cluster, id: u64, value: u8) {
    let key = b"planted".as_slice().into();
    let change = Change { table: Table::Clients, key, value: Some(vec![value]) };
    store(cluster, id).change_behind_its_back(change).unwrap();
}

fn store(cluster: &Cluster, id: u64) -> &Store {
    let Body::Whole(core) = cluster.running[&id].node().body() else { panic!("n{id}: no engine") };
    &core.store
}

/// Has all nodes read what they hold behind one entry, as one of them tells it.
async fn audit(cluster: &Cluster, through: u64) -> Verified {
    let op = Op::Verify(Verify { deep: true, places: Vec::new() });
    let audit = async {
        loop {
            match cluster.ask(through, op.clone()).await.reply {
                Some(Reply::Verified(verified)) if !verified.contents.is_empty() => {
                    return verified;
                }
                Some(Reply::Verified(_) | Reply::Failure(_)) => tokio::task::yield_now().await,
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, audit).await.expect("a state that was read")
}

fn differs(cluster: &Cluster, id: u64) -> Option<Problem> {
    let problems = cluster.running[&id].node().own_problems();
    problems.into_iter().find(|problem| problem.kind() == ProblemCode::StatesDiffer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_that_differs_from_a_majority_steps_back_and_nobody_else() {
    let mut cluster = Cluster::start().await;
    let primary = cluster.primary().await;
    let wrong = primary % 3 + 1;
    cluster.send(primary, "one").await;
    assert_eq!(cluster.read(wrong).await, ["one"]);
    let before = audit(&cluster, primary).await;
    change(&cluster, wrong, 1);
    let node = cluster.running.remove(&wrong).unwrap();
    let after = audit(&cluster, primary).await;
    assert!(after.contents.last() != before.contents.last(), "{after:?}");
    let why = tokio::time::timeout(PATIENCE, node.ended()).await.expect("it steps back");
    assert!(why.restarts(), "{why:#}");
    let Body::Whole(core) = node.node().body() else { panic!("it took part") };
    let damage = core.store.damage().map(ToString::to_string).unwrap_or_default();
    assert!(damage.starts_with("what is held after entry "), "{damage}");
    for id in cluster.running.keys() {
        assert!(damage.contains(name_of(*id).as_str()), "{damage}");
        assert!(store(&cluster, *id).damage().is_none() && differs(&cluster, *id).is_none());
    }
    cluster.send(primary, "two").await;
    cluster.stop_all().await;
}

fn name_of(id: u64) -> String {
    format!("n{id}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_majority_agrees_a_person_decides_and_nobody_steps_back() {
    let cluster = Cluster::start().await;
    let primary = cluster.primary().await;
    cluster.send(primary, "one").await;
    for id in 1..=3 {
        assert_eq!(cluster.read(id).await, ["one"]);
        change(&cluster, id, u8::try_from(id).unwrap());
    }
    audit(&cluster, primary).await;
    let told = async {
        while (1..=3).any(|id| differs(&cluster, id).is_none()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("a problem of each node");
    assert!((1..=3).all(|id| store(&cluster, id).damage().is_none()));
    cluster.send(primary, "two").await;
    cluster.stop_all().await;
}
