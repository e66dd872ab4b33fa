//! What must hold at the end of a run: the promises that the tests of real processes check as well, and
//! what only a whole view of the cluster can tell.

use daemon::node::Node;
use proto::{Record, event};
use tests::checks;
use tests::freshness::Seen;
use tests::history::History;
use tests::truth::Anchor;

/// What the nodes hold at the end.
pub struct Held {
    /// Name of the node.
    pub node: String,
    /// Its records, in order, and the number up to which they are all there.
    pub records: Vec<Record>,
    /// See `records`.
    pub end: u64,
    /// Digests of its state, by the index of the entry that they stand behind.
    pub digests: Vec<(u64, [u8; 32])>,
    /// Stamps that apply had to raise.
    pub ratcheted: u64,
}

/// Everything that does not hold. By `anchor`, if it is given, the bounds of stamps are judged.
#[must_use]
pub fn judge(
    history: &History,
    seen: &[Seen],
    held: &[Held],
    anchor: Option<&Anchor>,
) -> Vec<String> {
    // Events may come at any moment: nodes that were read later hold more.
    let end = held.iter().map(|held| held.end).min().unwrap_or(0);
    let nodes: Vec<(String, Vec<Record>)> = held
        .iter()
        .map(|held| {
            let all = held.records.iter().filter(|record| record.seq <= end);
            (held.node.clone(), all.cloned().collect())
        })
        .collect();
    let mut wrong = checks::all(history, &nodes);
    wrong.extend(checks::reads_are_fresh(seen));
    wrong.extend(anchor.into_iter().flat_map(|anchor| checks::bounds_hold(history, anchor)));
    wrong.extend(digests_agree(held));
    wrong.extend(held.iter().find_map(|held| repairs_overlap(&held.records)));
    for held in held.iter().filter(|held| held.ratcheted > 0) {
        wrong.push(format!("{} had to raise {} stamps at apply", held.node, held.ratcheted));
    }
    wrong
}

/// Two nodes that were repaired at the same time, by the events of a log.
fn repairs_overlap(records: &[Record]) -> Option<String> {
    let mut open: Option<&str> = None;
    for record in records {
        let header = |name| {
            let header = record.headers.iter().find(|header| header.key == name);
            header.map(|header| header.value.as_str())
        };
        let Some(node) = header(event::NODE) else { continue };
        match (header(event::TYPE), header("state")) {
            (Some(event::REPAIR), Some("repairing")) => match open {
                Some(other) if other != node => {
                    let seq = record.seq;
                    return Some(format!("{node} is repaired at {seq} while {other} is"));
                }
                _ => open = Some(node),
            },
            (Some(event::REPAIR), Some("repaired")) | (Some(event::LEAVE), Some("removed")) => {
                open = open.filter(|open| *open != node);
            }
            _ => {}
        }
    }
    None
}

/// Entries behind which two nodes hold different states.
fn digests_agree(held: &[Held]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, one) in held.iter().enumerate() {
        for other in held.iter().skip(at + 1) {
            let differs = one.digests.iter().find(|(index, digest)| {
                other.digests.iter().any(|(there, held)| there == index && held != digest)
            });
            if let Some((index, _)) = differs {
                let (one, other) = (&one.node, &other.node);
                wrong.push(format!("{one} and {other} hold different states behind entry {index}"));
            }
        }
    }
    wrong
}

/// Whether a node takes part: its store is proven intact.
#[must_use]
pub fn is_whole(node: &Node) -> bool {
    node.engine().is_some()
}
