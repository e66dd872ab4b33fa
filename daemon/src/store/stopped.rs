//! Reading the store of a node that is stopped, every byte of it, and changing nothing.

use std::path::Path;

use model::audit::{Audit, audit};

use super::db::Database;
use super::evidence::Evidence;
use super::format::{FORMAT_LOG_IN_DB, Identity, store_id};
use super::media::Media;
use super::tables::Tables;
use super::watermark::Watermark;
use super::workers::Workers;
use super::{Store, StoreError, verdict, view};

/// Checks a store as an opening and a deep look do, without either: no start is counted, nothing is taken
/// over, noted or removed. What is wrong is a problem of the audit.
///
/// # Errors
/// When there is no store, it belongs to another cluster, node or release, another process has it, or
/// something else stands in the way of reading it.
pub fn check_stopped(data_dir: &Path, cluster: &str, node: &str) -> Result<Audit, StoreError> {
    let media = Media::from(data_dir);
    let path = media.store();
    if !Store::exists(data_dir)? {
        let what = format!("{} holds no store", data_dir.display());
        return Err(StoreError::NotAdmitted(what));
    }
    // Kept until the end: nobody starts the node meanwhile.
    let (evidence, watermark) = Evidence::open(&media.folder(), Workers::Threads)?;
    if evidence.format() == FORMAT_LOG_IN_DB {
        let what = "the store is of an earlier release, which alone can check it".to_owned();
        return Err(StoreError::Refused(what));
    }
    let claimed = watermark.as_ref().and_then(|watermark| watermark.identity.clone());
    if let Some(identity) = &claimed {
        verdict::check_owner(&path, identity, cluster, node)?;
    }
    let mut problems = Vec::new();
    match watermark.as_ref().map(Watermark::found) {
        None => problems.push("the watermark, which proves what was durable, is broken".to_owned()),
        Some(Some(damage)) => problems.push(format!("noted before: {damage}")),
        Some(None) => {}
    }
    let (found, identity) = told(state(&path), &mut problems)?.unwrap_or_default();
    if let Some(identity) = identity.or(claimed) {
        verdict::check_owner(&path, &identity, cluster, node)?;
        let mark = watermark.and_then(|watermark| log::Mark::from_bytes(&watermark.mark));
        let (disk, _) = media.log();
        let checked = log::check_stopped(&disk, store_id(&identity), mark.as_ref());
        told(checked.map_err(StoreError::from), &mut problems)?;
    }
    let mut audit = found.unwrap_or(Audit {
        index: 0,
        content: [0; 32],
        records: 0,
        bytes: 0,
        problems: Vec::new(),
    });
    problems.append(&mut audit.problems);
    Ok(Audit { problems, ..audit })
}

/// What the tables hold, and who they say that they are.
fn state(path: &Path) -> Result<(Option<Audit>, Option<Identity>), StoreError> {
    let db = Database::look_past_caches(&path.join("db"))?;
    let mut found = audit(&view::freeze(&db)?);
    told(db.read_all(), &mut found.problems)?;
    found.problems.extend(Tables::read(path).changed(&db)?);
    Ok((Some(found), verdict::identity(&db)?))
}

/// Damage is a problem that is told; what stands in the way ends the look.
fn told<T>(
    read: Result<T, StoreError>,
    problems: &mut Vec<String>,
) -> Result<Option<T>, StoreError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(StoreError::Damaged(problem)) => {
            problems.push(problem);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
