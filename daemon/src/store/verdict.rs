//! The verdict at start, before any Raft exists: is what this store holds at least what it once
//! said was durable?

use super::StoreError;
use super::db::Database;
use super::format::{FORMAT, Identity, LogEntry, Vote, decode};
use super::keys::{self, LOG, MetaKind};
use super::watermark::{ShardMark, Watermark};

/// What the evidence says.
pub(crate) enum Verdict {
    /// Everything that was durable is there; what lies above is an unacknowledged tail.
    Intact(Identity),
    /// It cannot be proven: what was expected, and what was found.
    Repairing(String),
}

/// The identity that the database carries.
pub(crate) fn identity(db: &Database) -> Result<Option<Identity>, StoreError> {
    let value = db.get_meta(keys::meta(0, MetaKind::Identity))?;
    value.map(|bytes| decode("store identity", &bytes)).transpose()
}

/// Refuses a store of another release, cluster or node: that is a mistake of an operator, not
/// damage, and nothing may be changed.
pub(crate) fn check_owner(
    identity: &Identity,
    cluster: &str,
    node: &str,
) -> Result<(), StoreError> {
    if identity.format > FORMAT {
        return Err(StoreError::Foreign(format!(
            "the store has format {}; this release reads up to {FORMAT}: run the newer release",
            identity.format
        )));
    }
    if identity.cluster != cluster {
        return Err(StoreError::Foreign(format!(
            "the store belongs to cluster {}, the certificate to {cluster}: check data_dir and \
             [tls] in the configuration",
            identity.cluster
        )));
    }
    if identity.node != node {
        return Err(StoreError::Foreign(format!(
            "the store belongs to node {}, this is {node}: check data_dir in the configuration",
            identity.node
        )));
    }
    Ok(())
}

/// Judges a store that opened (`reliability`: the verdict at start).
///
/// # Errors
/// When the database cannot be read at all.
pub(crate) fn judge(
    db: &Database,
    identity: Option<&Identity>,
    watermark: Option<&Watermark>,
) -> Result<Verdict, StoreError> {
    let repairing = |reason: String| Ok(Verdict::Repairing(reason));
    let Some(identity) = identity else {
        return repairing("the database carries no identity".to_owned());
    };
    let Some(watermark) = watermark else {
        return repairing("no valid slot in the watermark file".to_owned());
    };
    if watermark.damaged {
        return repairing("the watermark carries the mark of damage found earlier".to_owned());
    }
    if watermark.identity.as_ref() != Some(identity) {
        return repairing(format!(
            "the watermark belongs to {:?}, the database to {identity:?}",
            watermark.identity
        ));
    }
    for mark in &watermark.shards {
        if let Some(reason) = judge_shard(db, mark)? {
            return repairing(reason);
        }
    }
    Ok(Verdict::Intact(identity.clone()))
}

fn judge_shard(db: &Database, mark: &ShardMark) -> Result<Option<String>, StoreError> {
    let Ok(shard) = u16::try_from(mark.shard) else {
        return Ok(Some(format!("shard {} in the watermark", mark.shard)));
    };
    let vote = super::read_vote(db, shard)?;
    if mark.vote.is_some_and(|durable| vote.is_none_or(|found| order(found) < order(durable))) {
        return Ok(Some(format!(
            "the vote {:?} was durable, the database holds {vote:?}",
            mark.vote
        )));
    }
    let Some(durable) = &mark.last else { return Ok(None) };
    let floor = super::log::floor(db, shard)?;
    if floor.as_ref().is_some_and(|floor| floor.index > durable.index) {
        return Ok(None);
    }
    if floor.as_ref() == Some(durable) {
        return Ok(None);
    }
    let index = durable.index;
    let Some(value) = db.get(LOG, &keys::log(shard, index))? else {
        return Ok(Some(format!("log entry {index} was durable and is gone")));
    };
    match LogEntry::decode(index, &value) {
        Err(error) => Ok(Some(error.to_string())),
        Ok((_, hash)) if hash.as_slice() != durable.hash => {
            Ok(Some(format!("log entry {index} is not the one that was durable")))
        }
        Ok(_) => Ok(None),
    }
}

/// Votes by term, then whether committed: a database may be ahead of the watermark, never behind.
fn order(vote: Vote) -> (u64, bool) {
    (vote.term, vote.committed)
}
