//! Makes the store of a node that goes on alone out of its old one, and puts it in its place.
//!
//! ```text
//! recovering/store   the new one: state and log of the old one, then the entries that begin the lineage
//! store.aside.N      the new one, whole; then both change places
//! store              the new one, and the old one is aside
//! ```
//!
//! Invariant: the old store is never below `recovering`, so what lies there can go.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use clock::hlc::utc_text;
use clock::{ClockState, Hlc, Stamp};
use config::Config;
use model::{Batch, Caller, Command, CommandOp};
use proto::limits::APPEND_BYTES_MAX;
use proto::lineage::Lineage;
use proto::member::{MemberOp, NewLineage};
use proto::wire::MemberChange;
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::events::EventSink;
use crate::exit::{Exit, Failed};
use crate::node_identity::NodeIdentity;
use crate::raft::{Alone, Member, highest_stamp};
use crate::reconciler;
use crate::store::format::Identity;
use crate::store::{Opened, Store, StoreError, Trouble};
use crate::tasks::Tasks;
use crate::time::{Counter, NodeClock};
use crate::witness::Notebook;

use super::survey::Survey;

/// Where the new store is made, in the data directory.
const PLACE: &str = "recovering";
/// How long the time servers are asked what time it is.
const TIME_WITHIN: Duration = Duration::from_secs(15);

/// What has begun.
pub(super) struct Begun {
    pub(super) lineage: Lineage,
    pub(super) raft_id: u64,
    /// Where the old store is.
    pub(super) aside: PathBuf,
    /// All stamps of the new lineage lie above this.
    pub(super) stamps_above: String,
    /// The state of the clock that says so.
    pub(super) clock: ClockState,
}

/// Makes the new store and puts it in the place of the old one.
///
/// # Errors
/// When the disk refuses, or the old store turns out to be damaged. It is where it was then.
pub(super) async fn go_on_alone(
    config: &Config,
    node_identity: &NodeIdentity,
    old: Store,
    survey: &Survey,
) -> Result<Begun, Failed> {
    let failed = |error: StoreError| Failed::from(&error);
    let data_dir = &config.data_dir;
    Store::has_room_for_another(data_dir)
        .map_err(|text| Failed::new(Exit::Other, anyhow::anyhow!(text), Trouble::NoSpace.hint()))?;
    let drawn = (Chance::system().number() >> 32) as u32;
    let lineage = survey.lineage().next(drawn).ok_or_else(|| {
        let what = anyhow::anyhow!("this cluster has begun too many lineages");
        Failed::new(Exit::Other, what, "create a new cluster and copy the records")
    })?;
    let (floor, clock) = floor_of_stamps(config, node_identity, &old).await?;
    let place = data_dir.join(PLACE);
    clear(&place).map_err(|error| failed(StoreError::file(&place)(error)))?;
    let identity = Identity {
        raft_id: lineage.first_raft_id(),
        incarnation: Chance::system().id().into_bytes().to_vec(),
        nonce: Vec::new(),
        ..old.identity().clone()
    };
    let new = filled(&place, &identity, &old).await.map_err(failed)?;
    let begun = begin(config, &new, &old, survey, floor).await;
    new.close();
    drop(new);
    begun.map_err(|error| {
        // It takes room; the next try removes what stays.
        drop(fs::remove_dir_all(&place));
        failed(error)
    })?;
    // Nobody may start on the old one from here on.
    let lock = old.into_lock();
    let aside = Store::exchange(data_dir, &place).map_err(failed)?;
    drop(lock);
    // Empty by now; it hurts nobody where it stays.
    drop(fs::remove_dir(&place));
    let stamps_above = utc_text(floor.ns);
    Ok(Begun { lineage, raft_id: identity.raft_id, aside, stamps_above, clock })
}

/// A stamp that is above all that the lost nodes can have given out: their clocks were right within the
/// largest error with which a node may lead, and so is this one.
async fn floor_of_stamps(
    config: &Config,
    node_identity: &NodeIdentity,
    old: &Store,
) -> Result<(Hlc, ClockState), Failed> {
    let stop = CancellationToken::new();
    let tasks = Tasks::until(stop.clone());
    let name = node_identity.credentials.identity().name.clone();
    let counter = Counter::of(config.clock.mode);
    let (none, events) = (Hlc::ZERO, EventSink::nowhere());
    let node_clock = NodeClock::with_counter(&config.clock, none, events, name, &tasks, counter);
    drop(tokio::time::timeout(TIME_WITHIN, node_clock.decided()).await);
    let (reading, state) = (node_clock.reading(), node_clock.state());
    let beyond = node_clock.max_error_ns().saturating_mul(2);
    stop.cancel();
    node_clock.stopped().await;
    let held = highest_stamp(old).map_err(|error| Failed::from(&error))?;
    let ceiling = old.ceiling().map_err(|error| Failed::from(&error))?;
    let issued = Hlc { ns: reading.now_ns.saturating_add(beyond), logical: 0 };
    Ok((held.max(ceiling).max(issued).succ(), state))
}

fn clear(place: &std::path::Path) -> std::io::Result<()> {
    if let Err(error) = fs::remove_dir_all(place)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    fs::create_dir(place)
}

/// A new store with state and log of the old one.
async fn filled(
    place: &std::path::Path,
    identity: &Identity,
    old: &Store,
) -> Result<Store, StoreError> {
    Store::create_after(place, identity, old.starts())?;
    let opened = Store::open(place, &identity.cluster, &identity.node)?;
    let new = match opened {
        Opened::Intact(store) => store,
        Opened::Repairing { damage, .. } => return Err(StoreError::Refused(damage.to_string())),
    };
    // Those of before say nothing of the stores that there will be.
    Notebook::beside_store(place).begin().map_err(StoreError::file(place))?;
    let mut next = 0;
    if let Some(applied) = old.applied()?.last {
        next = applied.index + 1;
        let mut rows = old.read_out().await?;
        let mut incoming = new.write_in(rows.head.clone())?;
        while let Some(chunk) = rows.next().await {
            incoming.push(&chunk?)?;
        }
        new.flip(incoming).await?;
        // The log goes on behind it.
        new.writer()?.purge(applied.index)?;
    }
    let writer = new.writer()?;
    loop {
        let entries = old.entries(next, u64::MAX, APPEND_BYTES_MAX)?;
        let Some(last) = entries.last() else { break };
        next = last.index + 1;
        writer.append(entries, Box::new(drop));
        writer.barrier().await?;
    }
    let (old_end, new_end) = (old.range().1, new.range().1);
    if old_end > next || new_end != next {
        return Err(StoreError::Damaged(format!(
            "the log reaches to {old_end}, and {new_end} of it could be read"
        )));
    }
    Ok(new)
}

/// Begins the lineage in the new store, and checks that it has.
async fn begin(
    config: &Config,
    new: &Store,
    old: &Store,
    survey: &Survey,
    floor: Hlc,
) -> Result<(), StoreError> {
    new.writer()?.put_ceiling(floor).await?;
    let (identity, own) = (new.identity().clone(), old.identity().raft_id);
    let known = survey.voters.get(&own);
    let address = known.map_or_else(|| config.advertise.clone(), |own| own.address.clone());
    let incarnation = identity.incarnation.as_slice().try_into().unwrap_or_default();
    let alone = Alone {
        member: Member { name: identity.node.clone(), address, incarnation },
        term: survey.holds.term() + 1,
        batch: batch(&identity, survey, floor),
    };
    alone.begin(new).await?;
    let rows = reconciler::rows(new)?;
    let begun = rows.members.iter().any(|row| {
        row.name == identity.node
            && row.raft_id == identity.raft_id
            && row.incarnation == identity.incarnation
    });
    if begun {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "the table of nodes as {} holds it does not let it go on alone: it may have been removed",
        identity.node
    )))
}

/// What begins the lineage, as one entry.
fn batch(identity: &Identity, survey: &Survey, floor: Hlc) -> Batch {
    let begin = NewLineage {
        name: identity.node.clone(),
        raft_id: identity.raft_id,
        incarnation: identity.incarnation.clone(),
        last_index: survey.holds.last().0,
        committed_index: survey.holds.committed(),
    };
    let caller = Caller { name: identity.node.clone(), admin: false, fingerprint: [0; 32] };
    let id = Chance::system().id().to_string();
    let change = MemberChange { op: Some(MemberOp::NewLineage(begin)), id };
    Batch {
        base: Stamp::unbounded(floor),
        primary: identity.node.clone(),
        commands: vec![Command {
            caller,
            gateway: identity.node.clone(),
            op: CommandOp::Member(change),
        }],
    }
}
