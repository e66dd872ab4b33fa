//! How a node ends that cannot go on: its disk refuses, its store is damaged, or what is committed in it
//! is contradicted.

use std::path::Path;
use std::time::Duration;

use crate::exit::{Exit, Failed};
use crate::node::{Body, Node};
use crate::store::{DamageKind, Store, StoreError, Told, Trouble};
use crate::tasks::Tasks;

/// Longest wait for a look at a disk that has refused a read.
const LOOK_WITHIN: Duration = Duration::from_secs(60);

/// How long the engine's end may take to be seen after those who follow it have seen it.
const ENGINE_SEEN_WITHIN: Duration = Duration::from_secs(1);

/// How the process ends over an error of a store that is open: the database does not tell in a type
/// what it lacks.
pub(super) fn failed_on(disk: &Path, error: &StoreError) -> Failed {
    if matches!(error, StoreError::Database { .. }) {
        let said = anyhow::Error::msg(error.to_string());
        return Failed::new(Exit::Other, said, Trouble::of_disk(disk).hint());
    }
    Failed::from(error)
}

/// How a node ends over an error of its store that is open. Damage is remembered first; with that on
/// the disk, a new start takes no part and tells every other node why.
pub(super) async fn ended_by(store: &Store, error: StoreError) -> Failed {
    if let StoreError::Damaged(found) = &error {
        store.note_damage(DamageKind::Corrupt, found);
    }
    let Some(damage) = store.damage() else { return Failed::from(&error) };
    let failed = Failed::from(&StoreError::Damaged(damage.to_string()));
    let mut told = store.told();
    let told = told.wait_for(|told| matches!(told, Told::Durable | Told::Unwritten)).await;
    match told.map(|told| *told) {
        Ok(Told::Durable) => failed.and_restarts(),
        // The next start would call the store intact.
        Ok(Told::None | Told::Looking | Told::Met | Told::Unwritten) | Err(_) => failed,
    }
}

/// Completes when the store or the engine has failed for good.
pub(super) async fn cannot_go_on(node: &Node) -> Failed {
    let Body::Whole(core) = node.body() else { return std::future::pending().await };
    let (mut view, mut contradicted) = (core.engine.view(), core.store.two_histories());
    let mut failed = match core.store.writer() {
        Ok(writer) => writer.failed(),
        Err(error) => return Failed::from(&error),
    };
    let reason = tokio::select! {
        reason = failed.wait_for(Option::is_some) => {
            reason.ok().and_then(|reason| reason.clone())
        }
        view = view.wait_for(|view| view.stopped.is_some()) => {
            view.ok().and_then(|view| view.stopped.clone())
        }
        lack = node.witness().lacking() => {
            core.store.note_damage(DamageKind::Lost, lack);
            None
        }
        _ = contradicted.wait_for(Option::is_some) => None,
    };
    // A read that was refused may have stopped the engine: what it was is looked at first.
    let mut told = core.store.told();
    let looked = told.wait_for(|told| *told != Told::Looking);
    drop(tokio::time::timeout(LOOK_WITHIN, looked).await);
    if core.store.damage().is_some() {
        // That has its own way to end.
        return std::future::pending().await;
    }
    let found = contradicted.borrow().clone();
    if let Some(found) = found {
        if let Some((raft_id, primary)) = core.engine.view().borrow().primary_member() {
            node.witness().note_two_histories(raft_id, &primary.name, &found);
        }
        node.witness().save().await;
        return Failed::from(&StoreError::TwoHistories(found));
    }
    let reason = reason.unwrap_or_else(|| "the engine ended".to_owned());
    Failed::from(&StoreError::Stopped(reason))
}

/// Completes when a task has ended that the node cannot do without, and nothing else is the reason.
pub(super) async fn fallen(node: &Node, tasks: &Tasks) -> Failed {
    let fallen = tasks.fallen().await;
    if let Body::Whole(core) = node.body() {
        // Whoever follows the engine ends with it, and that has an end of its own.
        let mut view = core.engine.view();
        let ended = view.wait_for(|view| view.stopped.is_some());
        let ended = tokio::time::timeout(ENGINE_SEEN_WITHIN, ended).await.is_ok();
        if ended || core.store.told().borrow().is_met() {
            return std::future::pending().await;
        }
    }
    Failed::new(Exit::Other, fallen, "start the node again, and report this with its log")
}
