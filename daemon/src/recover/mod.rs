//! `logd recover`: the majority of the voters was lost for ever, and a person decides with what one node
//! holds the cluster goes on.
//!
//! On each survivor a dry run says what it can prove. On the one that is chosen the command makes a new
//! store of all that the old one holds, with this node as the only voter, in a new lineage
//! (`proto::lineage`), and puts it in the place of the old one, which is kept aside. The others come back
//! as nodes whose stores have ended (`node::repair`), whatever they hold.
//!
//! Invariants:
//! * nothing is given up that a majority could still have: while one answers, or could with this node
//!   started, it is refused;
//! * a dry run, and one that is refused, change nothing at all;
//! * the old store is not changed by it, and kept. Until the new one is whole and has applied
//!   everything, it lies beside; then both change places in one step. So it can be killed at any moment
//!   and done again, and undone by putting the old store back;
//! * no stamp of the new lineage lies below one that the lost nodes can have given out.
//!
//! Not here: what becomes of the table of members (`model::rules::lineage`).

mod build;
mod show;
mod survey;

use std::path::Path;

use config::Config;
use config::seed::Seed;

use crate::cli::{Output, Recover};
use crate::exit::{Exit, Failed};
use crate::node_identity::NodeIdentity;
use crate::store::{Look, Opened, Store, StoreError};

use self::survey::Survey;

/// Does what the command line says.
///
/// # Errors
/// When the node's files do not make sense, a `logd` runs on them, or a majority of the voters is not
/// lost. Nothing is changed then.
pub fn run(args: &Recover) -> Result<(), Failed> {
    let config = Config::load(&args.config, None)?;
    let node_identity = NodeIdentity::load(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(Failed::other("start the runtime"))?;
    crate::exit::before_database();
    let done = runtime.block_on(recover(args, &config, &node_identity));
    // The database's own threads may go on for a moment.
    runtime.shutdown_background();
    done
}

async fn recover(
    args: &Recover,
    config: &Config,
    node_identity: &NodeIdentity,
) -> Result<(), Failed> {
    require_store(&config.data_dir)?;
    let identity = node_identity.credentials.identity();
    let (cluster, name) = (identity.cluster.as_str(), identity.name.as_str());
    let failed = |error: StoreError| Failed::from(&error);
    let look = Look::at(&config.data_dir, cluster, name).map_err(failed)?;
    let survey = Survey::make(config, node_identity, &look).await?;
    if args.dry_run {
        return show::survey(args.output, &survey, None);
    }
    if let Err(refused) = survey.require() {
        show::survey(args.output, &survey, None)?;
        return Err(refused);
    }
    if args.output == Output::Text {
        show::survey(args.output, &survey, None)?;
    }
    // Until here nothing was changed; now it is started, as by a node.
    drop(look);
    let store = match Store::open(&config.data_dir, cluster, name).map_err(failed)? {
        Opened::Intact(store) => store,
        Opened::Repairing { damage, .. } => {
            return Err(failed(StoreError::Damaged(damage.to_string())));
        }
    };
    if store.durable().map_err(failed)?.last != survey.holds.durable.last {
        let what = "the store has changed since it was looked at: a node ran on it meanwhile";
        return Err(Failed::new(Exit::Other, anyhow::anyhow!(what), "stop logd and try again"));
    }
    let begun = build::go_on_alone(config, node_identity, store, &survey).await?;
    match args.output {
        Output::Text => show::begun(&survey, &begun),
        Output::Json => show::survey(args.output, &survey, Some(&begun)),
    }
}

/// Refuses where there is nothing to go on with.
fn require_store(data_dir: &Path) -> Result<(), Failed> {
    if Store::exists(data_dir).map_err(|error| Failed::from(&error))? {
        return Ok(());
    }
    if Seed::read(data_dir)?.is_some() {
        let what = anyhow::anyhow!("the store of {} was never made", data_dir.display());
        return Err(Failed::new(Exit::Store, what, "this node holds nothing: choose another one"));
    }
    let what = anyhow::anyhow!("{} holds no store", data_dir.display());
    let hint = match Store::last_aside(data_dir) {
        Some(last) => format!(
            "choose another node; or, if nothing else is left, look into {}, which was put aside",
            last.display()
        ),
        None => "this node holds nothing: choose another one".to_owned(),
    };
    Err(Failed::new(Exit::Store, what, hint))
}
