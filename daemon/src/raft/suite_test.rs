//! openraft's own storage suite on our store.
//!
//! The suite feeds the state machine entries that are in no log, begins logs anywhere, and purges what
//! no state holds, at places that the log never held. The engine does none of that, so two small
//! adapters stand in between: one applies without asking for the log, the other puts blank entries
//! before the first, and before a purge a state that holds as much.
//!
//! Seen to fail once: with `truncate_after` cutting at its argument instead of behind it,
//! `delete_logs_after_11` fails.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{LogState, OptionalSend, RaftLogReader, StorageError};

use crate::store::format::{AppliedState, Identity, LogMark};
use crate::store::{Opened, Store};

use super::log::LogStore;
use super::machine::StateMachine;
use super::types::{CommittedLeader, Entry, LogId, Types, Vote};

struct Builder;

/// Ends a store's threads with the case that used it: one that closes its database while the
/// process ends makes the process abort.
struct Used {
    store: Store,
    _dir: tempfile::TempDir,
}

impl Drop for Used {
    fn drop(&mut self) {
        self.store.close();
    }
}

impl StoreBuilder<Types, SuiteLog, StateMachine, Used> for Builder {
    async fn build(&self) -> Result<(Used, SuiteLog, StateMachine), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity {
            cluster: "c".repeat(32),
            node: "n1".to_owned(),
            raft_id: 1,
            incarnation: vec![1; 16],
            ..Identity::default()
        };
        Store::create(dir.path(), &identity).unwrap();
        let Opened::Intact(store) = Store::open(dir.path(), &identity.cluster, "n1").unwrap()
        else {
            panic!("a new store is intact");
        };
        let observe: super::Observe = Arc::new(|_| {});
        let log = LogStore::new(store.clone(), clock::Hlc::ZERO, observe).unwrap();
        let machine = StateMachine::without_log(store.clone()).unwrap();
        let used = Used { store: store.clone(), _dir: dir };
        Ok((used, SuiteLog { log, store }, machine))
    }
}

struct SuiteLog {
    log: LogStore,
    store: Store,
}

impl RaftLogReader<Types> for SuiteLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.log.try_get_log_entries(range).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.log.read_vote().await
    }
}

impl RaftLogStorage<Types> for SuiteLog {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        self.log.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.log.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.log.save_vote(vote).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut entries: Vec<_> = entries.into_iter().collect();
        let first = entries.first().map_or(0, |entry| entry.log_id.index());
        if self.store.range() == (0, 0) && first > 0 {
            let blank = |index| Entry {
                log_id: LogId::new(CommittedLeader::new(0), index),
                payload: openraft::EntryPayload::Blank,
            };
            entries.splice(0..0, (0..first).map(blank));
        }
        self.log.append(entries, callback).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.log.truncate_after(last_log_id).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let index = log_id.index();
        let (first, end) = self.store.range();
        let held = (first..end).contains(&index);
        let hash = if held { self.store.logged(index)?.hash } else { [0; 32] };
        if index >= first {
            let term = log_id.committed_leader_id().term;
            let last = Some(LogMark { index, term, hash: hash.to_vec() });
            let applied = AppliedState { last: last.clone(), ..AppliedState::default() };
            self.store.apply(Vec::new(), &applied, &[])?;
            self.store.writer()?.barrier().await?;
            self.store.note_installed(last);
        }
        self.log.purge(log_id).await?;
        self.store.writer()?.barrier().await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_storage_suite_passes() {
    Suite::test_all(Builder).await.unwrap();
}
