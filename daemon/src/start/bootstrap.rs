//! How a node's store comes to be: from the seed of a first member, or from that of one that joined.
//!
//! Not here: how a joining node gets its seed (`join`, at the top of the crate).

use config::Config;
use config::seed::{self, Seed};
use proto::admin::AdminRow;
use proto::peer::StoreKey;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::exit::Failed;
use crate::node::Node;
use crate::node_identity::NodeIdentity;
use crate::raft::{self, Member};
use crate::seeded::{self, members, store_identity};
use crate::store::{Damage, DamageKind, Opened, Store, StoreError};

/// Opens the store, after creating it if a seed allows that.
pub(super) fn open_store(
    config: &Config,
    node_identity: &NodeIdentity,
) -> Result<(Opened, Option<Seed>), Failed> {
    let identity = node_identity.credentials.identity();
    let seed = Seed::read(&config.data_dir)?;
    if let Some(seed) = &seed {
        let fits = seed.cluster == identity.cluster && seed.node == identity.name;
        let Some(born) = store_identity(seed).filter(|_| fits) else {
            let found = format!(
                "the seed in {} is for node {} of cluster {}, this is {} of {}",
                config.data_dir.display(),
                seed.node,
                seed.cluster,
                identity.name,
                identity.cluster
            );
            return Err(Failed::from(&StoreError::Foreign(found)));
        };
        if !Store::exists(&config.data_dir).map_err(|error| Failed::from(&error))? {
            Store::create_after(&config.data_dir, &born, seed.starts)
                .map_err(|error| Failed::from(&error))?;
        }
    }
    if let Some(known) = crate::join::known_members(config, node_identity)? {
        let found = format!(
            "{} holds no store: it was wiped, or something else is mounted there",
            config.data_dir.display()
        );
        let (identity, damage) = (store_identity(&known), Damage::new(DamageKind::Lost, found));
        return Ok((Opened::Repairing { identity, damage, lock: None }, Some(known)));
    }
    let opened = Store::open(&config.data_dir, identity.cluster.as_str(), identity.name.as_str());
    Ok((opened.map_err(|error| Failed::from(&error))?, seed))
}

/// What a store knows of the cluster from its seed.
pub(super) struct Born {
    /// The members that the seed of a node that joined names.
    pub(super) members: Vec<(u64, Member)>,
    /// Stores whose keys the seed names.
    pub(super) stores: Vec<StoreKey>,
    /// Administrators that the seed names.
    pub(super) admins: Vec<AdminRow>,
}

impl Born {
    /// What the seed says, if there is one.
    pub(super) fn of(seed: Option<&Seed>) -> Self {
        let Some(seed) = seed else {
            return Self { members: Vec::new(), stores: Vec::new(), admins: Vec::new() };
        };
        let admin = |admin: &seed::Admin| AdminRow {
            name: admin.name.to_string(),
            fingerprint: admin.key.0.to_vec(),
            ..AdminRow::default()
        };
        Self {
            members: if seed.joined { members(seed) } else { Vec::new() },
            stores: seeded::stores(seed),
            admins: seed.admins.iter().map(admin).collect(),
        }
    }
}

/// Puts a seed to use. The log of a first member begins with all first members. That of a node that
/// joined begins empty: the primary, which knows of it by the log, fills it. Nothing is done where the
/// log holds something already.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn bootstrap(store: &Store, seed: &Seed) -> Result<(), StoreError> {
    if seed.joined {
        return Ok(());
    }
    raft::bootstrap(store, members(seed).into_iter().collect()).await
}

/// Logs once how long it took from the start until this node votes.
pub(super) async fn tell_of_vote(node: Node, began: Instant, stop: CancellationToken) {
    let Some(engine) = node.engine() else { return };
    let mut view = engine.view();
    let votes = view.wait_for(|now| now.voters.contains(&now.id));
    tokio::select! {
        () = stop.cancelled() => {}
        Ok(_) = votes => {
            let took = began.elapsed().as_secs_f64();
            tracing::info!("{} votes: {took:.1} s after its start", node.name());
        }
    }
}
