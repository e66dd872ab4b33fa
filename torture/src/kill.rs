//! SIGKILL to some of the nodes, in the middle of sends and reads; they are started again, and all
//! must be healthy. What was acknowledged must be there in the end, once, in order, on all nodes.
//!
//! Promises: 1 durable, 2 one order, 3 once, 4 fresh. Seen to fail with: a daemon that writes nothing
//! into its segments (after the first kill a node is repairing).

use tests::{Cluster, Load, Readers, Watch, checks};

use crate::cluster::{SENDERS, TO, WORKERS, compare, holds, nobody_panicked, settle, start};
use crate::draw::Draw;
use crate::run::{Order, Stop, Tally};
use crate::work::Work;

/// Acknowledgements between two kills.
const ACKS: (u64, u64) = (200, 3000);
/// Acknowledgements that a majority gives while the others are down.
const MEANWHILE: u64 = 50;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victims {
    One,
    Primary,
    Minority,
    Majority,
    All,
}

impl Victims {
    const ALL: [Self; 5] = [Self::One, Self::Primary, Self::Minority, Self::Majority, Self::All];

    fn draw(draw: &mut Draw) -> Self {
        draw.take(&mut Self::ALL.to_vec()).unwrap_or(Self::All)
    }

    /// Their names.
    fn names(self, cluster: &Cluster, draw: &mut Draw) -> Result<Vec<String>, Stop> {
        let mut names = cluster.names();
        let minority = names.len().saturating_sub(1) / 2;
        let count = match self {
            Self::One => 1,
            Self::Minority => minority,
            Self::Majority => minority + 1,
            Self::All => names.len(),
            Self::Primary => {
                let asked = draw.take(&mut names);
                let asked = asked.ok_or_else(|| anyhow::anyhow!("a cluster without nodes"))?;
                return Ok(vec![cluster.wait_primary(&asked).map_err(Stop::violated)?]);
            }
        };
        Ok((0..count).filter_map(|_| draw.take(&mut names)).collect())
    }
}

/// Runs the row.
pub(crate) fn run(order: Order, work: &Work, tally: &mut Tally) -> Result<(), Stop> {
    let mut draw = Draw::new(order.seed);
    let nodes = if draw.between(1, 4) == 1 { 5 } else { 3 };
    let with_readers = draw.between(1, 2) == 1;
    let mut cluster = start(work.path(), work.path(), nodes)?;
    let watch = Watch::start(&cluster)?;
    let load = Load::start(&cluster, &SENDERS, WORKERS, TO, "kill")?;
    let readers = with_readers.then(|| Readers::start(&cluster, &load)).transpose()?;
    for _ in 0..order.repetitions {
        load.wait_more(draw.between(ACKS.0, ACKS.1)).map_err(Stop::violated)?;
        let victims = Victims::draw(&mut draw);
        let names = victims.names(&cluster, &mut draw)?;
        let in_flight = load.in_flight();
        cluster.kill_together(&names)?;
        let left = cluster.names().len() - names.len();
        if left > cluster.names().len() / 2 {
            load.wait_more(MEANWHILE).map_err(Stop::violated)?;
        }
        settle(&mut cluster)?;
        tally.acks = load.acked();
        let what = format!("{victims:?} of {nodes}: {}; {in_flight} in flight", names.join(", "));
        tally.fault(in_flight > 0, &what);
    }
    load.wait_more(MEANWHILE).map_err(Stop::violated)?;
    let seen = readers.map(|readers| readers.finish(&cluster)).transpose()?;
    let history = load.finish(&cluster)?;
    let led = watch.finish(&cluster)?;
    tally.acks = u64::try_from(history.acked().count()).unwrap_or(u64::MAX);
    holds(checks::one_primary_per_term(&led))?;
    holds(checks::reads_are_fresh(&seen.unwrap_or_default()))?;
    compare(&cluster, &history)?;
    nobody_panicked(&mut cluster)
}
