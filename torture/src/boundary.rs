//! The log of one node ends earlier, where a group begins: it looks flawless. What is missing was
//! acknowledged, so the node must take no part until it has come back with a new store.
//!
//! The cuts are spread over the whole log; with as many repetitions as it has groups, every one is cut. What
//! the node wrote within the last second before all were killed, nobody else may know of: it may be called
//! intact without that.

use std::fs;

use tests::segments;

use crate::damage::{AtRest, NODE, Verdict};
use crate::draw::Draw;
use crate::images::reflinking;
use crate::run::{Order, Stop, Tally};
use crate::work::Work;

/// Entries of the log.
const ENTRIES: u64 = 300;
/// The last groups: a mark that an idle log writes, and what it marks, if no entry is in it.
const IDLE: usize = 2;

/// Runs the row.
pub(crate) fn run(order: Order, work: &Work, tally: &mut Tally) -> Result<(), Stop> {
    let disk = reflinking(work.path())?;
    let mut at_rest = AtRest::make(&disk, work.path(), ENTRIES, true)?;
    tally.acks = at_rest.acks();
    let path = segments::newest(&at_rest.cluster.data(NODE))?;
    let groups = segments::group_starts(&fs::read(&path)?).len();
    let mut draw = Draw::new(order.seed);
    let repetitions = usize::try_from(order.repetitions).unwrap_or(1);
    let first = usize::try_from(draw.between(0, groups as u64)).unwrap_or(0);
    for number in 0..repetitions {
        let group = (first + number * groups / repetitions) % groups;
        at_rest.stop()?;
        at_rest.put_back()?;
        let mut bytes = fs::read(&path)?;
        let starts = segments::group_starts(&bytes);
        let at = starts.get(group).copied().unwrap_or(bytes.len());
        bytes.iter_mut().skip(at).for_each(|byte| *byte = 0);
        fs::write(&path, bytes)?;
        let what = format!("a log cut at group {group} of {groups}");
        let verdict = at_rest.judge(&what)?;
        let intact = matches!(verdict, Verdict::Healthy | Verdict::Told);
        if intact && group + IDLE < at_rest.known_groups {
            return Err(Stop::violated(format!("{what}: {NODE} is called intact")));
        }
        tally.fault(!intact, &format!("{what}: {verdict:?}"));
    }
    Ok(())
}
