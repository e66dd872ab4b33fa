//! The power goes for all nodes at one instant, in the middle of sends and reads.
//!
//! What was acknowledged before that instant must be there afterwards, once, in order, on all nodes,
//! and none of them may doubt its store. What was in flight is unknown. The cluster goes on from what
//! the cut has left, to the next one.
//!
//! Promises: 1 durable, 2 one order, 3 once, 4 fresh. Seen to fail with: a daemon whose syncs do
//! nothing (all 236 acknowledged messages of the first cut are gone), and one that syncs its watermark
//! alone (a node is repairing).

use std::time::{Instant, SystemTime};

use tests::{Cluster, History, Load, Readers, checks};

use crate::cluster::{SENDERS, TO, WORKERS, compare, holds, nobody_panicked, settle, start};
use crate::draw::Draw;
use crate::evidence::{Evidence, wait_write};
use crate::images::Images;
use crate::run::{Order, Stop, Tally};
use crate::work::Work;

const NODES: u16 = 3;
/// Acknowledgements between two cuts.
const ACKS: (u64, u64) = (30, 400);

/// Runs the row.
pub(crate) fn run(order: Order, work: &Work, tally: &mut Tally) -> Result<(), Stop> {
    let mut images = Images::make(work.path())?;
    let mut cluster = start(images.disk(), work.path(), NODES)?;
    let (mut draw, mut history) = (Draw::new(order.seed), History::default());
    for number in 1..=order.repetitions {
        let acks = draw.between(ACKS.0, ACKS.1);
        let node = draw.take(&mut cluster.names()).unwrap_or_default();
        let moment = Moment { number, acks, node };
        cut(&mut cluster, &mut images, &moment, &mut history, tally)?;
    }
    nobody_panicked(&mut cluster)
}

/// When a cut comes: after so many acknowledgements, when this node has just written to its log.
#[derive(Debug)]
struct Moment {
    number: u32,
    acks: u64,
    node: String,
}

/// One cut, and what became of everything so far.
fn cut(
    cluster: &mut Cluster,
    images: &mut Images,
    moment: &Moment,
    history: &mut History,
    tally: &mut Tally,
) -> Result<(), Stop> {
    let since = SystemTime::now();
    let load = Load::start(cluster, &SENDERS, WORKERS, TO, &format!("cut{}", moment.number))?;
    let readers = Readers::start(cluster, &load)?;
    load.wait_more(moment.acks).map_err(Stop::violated)?;
    let ready = images.ready()?;
    let in_flight = load.in_flight();
    wait_write(&cluster.dir(), &moment.node)?;
    // Whatever has its answer by now must be in the copy.
    let at = Instant::now();
    ready.now()?;
    cluster.kill_together(&cluster.names())?;
    let known = load.cut(cluster, at);
    tally.acks += u64::try_from(known.acked().count()).unwrap_or(u64::MAX);
    history.attempts.extend(known.attempts);
    holds(checks::reads_are_fresh(&readers.cut(cluster, at)))?;
    let evidence = Evidence::read(&cluster.dir(), since)?;
    images.go_on_from_cut()?;
    let lost = evidence.lost(&cluster.dir())?;
    let bit = in_flight > 0 && !lost.is_empty();
    settle(cluster)?;
    compare(cluster, history)?;
    let nodes: Vec<_> = lost.iter().map(|(node, bytes)| format!("{node} {bytes}")).collect();
    let what = format!("{in_flight} in flight; bytes lost: {}", nodes.join(", "));
    tally.fault(bit, &what);
    Ok(())
}
