//! `logd --check-store`: what a start of this node would find in its data directory, and what lies in every
//! byte of its store. Nothing is changed.
//!
//! Not here: the look at the store itself (`store::Look`).

use std::io::{self, Write as _};

use config::Config;
use config::seed::Seed;

use crate::exit::Failed;
use crate::node_identity::NodeIdentity;
use crate::store::{Look, StoreError};
use crate::witness::Notebook;

/// Reads the store of a node that is stopped, and says what was found.
///
/// # Errors
/// With the code of a start that finds the same: damage, or what stands in the way.
pub(crate) fn run(config: &Config) -> Result<(), Failed> {
    let node_identity = NodeIdentity::load(config)?;
    let cluster = node_identity.credentials.identity().cluster.clone();
    // A start reads a seed that waits before it looks at the store.
    Seed::read(&config.data_dir)?;
    crate::exit::before_database();
    let failed = |error: StoreError| Failed::from(&error);
    let look = Look::at(&config.data_dir, cluster.as_str(), config.node.as_str());
    let look = look.map_err(failed)?;
    let (mut out, folder) = (io::stdout().lock(), config.data_dir.display());
    let mut say =
        |text: String| writeln!(out, "{folder}: {text}").map_err(Failed::other("write to stdout"));
    let audit = match &look.holds {
        Ok(stopped) => stopped.audit().map_err(failed)?,
        Err(damage) => {
            say(format!("damaged: {damage}"))?;
            return Err(failed(StoreError::Damaged(damage.to_string())));
        }
    };
    for problem in &audit.problems {
        say(format!("damaged: {problem}"))?;
    }
    if let Some(first) = audit.problems.first() {
        return Err(failed(StoreError::Damaged(first.clone())));
    }
    for note in look.notes.iter().chain(&beside(config, look.starts)) {
        say(format!("note: {note}"))?;
    }
    let digest: String = audit.content.iter().map(|byte| format!("{byte:02x}")).collect();
    say(format!(
        "intact; {} records, {} bytes, after entry {} the digest {digest}",
        audit.records, audit.bytes, audit.index
    ))
}

/// What is wrong with the files beside the store. A start does without each of them.
fn beside(config: &Config, starts: u64) -> Vec<String> {
    let mut notes = Vec::new();
    if starts == 0 {
        // They come with the first start.
        return notes;
    }
    if let Some(why) = Notebook::beside_store(&config.data_dir).why_lost() {
        notes.push(format!(
            "{why}: a start says so too, and one of the other nodes that was set back meanwhile may go \
             unnoticed by this one"
        ));
    }
    let lost = |read: Result<Option<Seed>, config::seed::SeedError>| match read {
        Ok(Some(_)) => None,
        Ok(None) => Some("is gone".to_owned()),
        Err(error) => Some(format!("cannot be read: {error}")),
    };
    if let Some(why) = lost(Seed::read_used(&config.data_dir)) {
        notes.push(format!(
            "init.done.toml, which the store was made from, {why}: only a store that does not say whose it \
             is would need it"
        ));
    }
    if let Some(why) = lost(Seed::read_members(&config.tls)) {
        notes.push(format!(
            "{} {why}: a start writes it again; if the store is lost before that, the node has to join again",
            config.tls.members_file().display()
        ));
    }
    notes
}
