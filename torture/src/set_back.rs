//! One node's folder is gone, or an older copy of it is put back. Nothing in the copy shows it; the others
//! remember. It must take no part.

use std::fs;

use crate::damage::{AtRest, NODE, Verdict};
use crate::draw::Draw;
use crate::images::reflinking;
use crate::run::{Order, Stop, Tally};
use crate::work::Work;

/// Acknowledgements before the copy, and after it.
const BEFORE: u64 = 60;
const AFTER: (u64, u64) = (5, 100);

/// Runs the row.
pub(crate) fn run(order: Order, work: &Work, tally: &mut Tally) -> Result<(), Stop> {
    let disk = reflinking(work.path())?;
    let mut at_rest = AtRest::make(&disk, work.path(), BEFORE, false)?;
    let mut draw = Draw::new(order.seed);
    for number in 1..=order.repetitions {
        at_rest.stop()?;
        at_rest.put_back()?;
        at_rest.forget_since_base();
        crate::cluster::settle(&mut at_rest.cluster)?;
        let acks = draw.between(AFTER.0, AFTER.1);
        at_rest.send(acks, false, &format!("after{number}"))?;
        tally.acks += acks;
        at_rest.stop()?;
        let wiped = draw.between(1, 3) == 1;
        let what = if wiped {
            fs::remove_dir_all(at_rest.cluster.data(NODE))?;
            "a folder that is gone".to_owned()
        } else {
            at_rest.put_back_store(NODE)?;
            format!("a folder {acks} messages older")
        };
        let verdict = at_rest.judge(&what)?;
        match verdict {
            Verdict::Healthy | Verdict::Told => {
                return Err(Stop::violated(format!("{what}: {NODE} is called intact")));
            }
            Verdict::Repaired | Verdict::Refused(_) => {}
        }
        tally.fault(true, &format!("{what}: {verdict:?}"));
    }
    Ok(())
}
