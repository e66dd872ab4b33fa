//! Two nodes that know nothing of what the third has acknowledged, with a log that is purged: only a
//! snapshot can bring the third to where they are, and it would take the place of what was committed.
//!
//! Seen to fail with `Store::check_past` left out of the receiving: nobody notices.

use std::path::Path;

use net::switchboard::Switchboard;

use super::test_cluster::{PATIENCE, Setup, TestNode, send_surely, settle, start, three};

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_all(from, to.path());
    to
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_all(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

fn ids(node: &TestNode) -> Vec<String> {
    node.records().into_iter().map(|record| record.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_another_history_replaces_nothing() {
    let board = Switchboard::new();
    let mut nodes = three(&board, |_| Setup::default()).await;
    send_surely(&nodes, None, "common").await;
    settle(&nodes).await;
    nodes.sort_by_key(|node| node.store.identity().raft_id);
    let (third, second, first) = (nodes.pop().unwrap(), nodes.pop().unwrap(), nodes.pop().unwrap());
    let second = second.stop(&board).await;
    let old = first.stop(&board).await;
    let aside = copy(old.path());
    nodes = vec![start(&board, 1, old, Setup::default()).await, third];
    for n in 0..5 {
        send_surely(&nodes, None, &format!("acknowledged-{n}")).await;
    }
    settle(&nodes).await;
    let third = nodes.pop().unwrap().stop(&board).await;
    drop(nodes.pop().unwrap().stop(&board).await);

    // The first is set back, and nobody who is there can know. In later terms than the third's.
    let (mut first, mut second) = (aside, second);
    for round in 0..4 {
        nodes = vec![
            start(&board, 1, first, Setup::default()).await,
            start(&board, 2, second, Setup::default()).await,
        ];
        for n in 0..3 {
            send_surely(&nodes, None, &format!("other-{round}-{n}")).await;
        }
        settle(&nodes).await;
        if round == 3 {
            break;
        }
        second = nodes.pop().unwrap().stop(&board).await;
        first = nodes.pop().unwrap().stop(&board).await;
    }
    for node in &nodes {
        node.engine.purge().await.unwrap();
    }
    let third = start(&board, 3, third, Setup::default()).await;
    let mut found = third.store.two_histories();
    let told = tokio::time::timeout(PATIENCE, found.wait_for(Option::is_some)).await;
    let told = told.expect("it must notice").unwrap().clone().unwrap();
    assert!(told.contains("a snapshot is not of what is committed here"), "{told}");
    let held = ids(&third);
    assert_eq!(held.len(), 6, "{held:?}");
    assert!(held.iter().all(|id| id == "common" || id.starts_with("acknowledged")), "{held:?}");
    assert_eq!(third.store.damage(), None);
}
