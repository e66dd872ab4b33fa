//! Whether the messages that were acknowledged are there: promises P1 to P3 (docs/promises.md), on every
//! node.

use std::collections::BTreeMap;

use proto::Record;
use proto::wire::{Op, Position, Read, Reply};

use crate::cluster::{Cluster, RECEIVER};
use crate::load::{Fate, body, id};

/// Faults that are told one by one; more are only counted.
const TOLD: usize = 10;

/// What one level sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) level: usize,
    /// For each worker, the fates of its sends.
    pub(crate) workers: Vec<Vec<Fate>>,
}

impl Sent {
    /// Acknowledged sends.
    pub(crate) fn acked(&self) -> u64 {
        let acked = |fate: &&Fate| matches!(fate, Fate::Acked(_));
        self.workers.iter().flatten().filter(acked).count() as u64
    }
}

/// Reads everything back through every node; returns what is wrong.
///
/// # Errors
/// When a node does not answer.
pub(crate) async fn check(cluster: &Cluster, sent: &[Sent]) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for node in cluster.names() {
        let mut search = Search::new(sent);
        read(cluster, &node, |record| search.found(record)).await?;
        faults.extend(search.end().into_iter().map(|fault| format!("{node}: {fault}")));
    }
    Ok(faults)
}

async fn read(cluster: &Cluster, node: &str, mut found: impl FnMut(&Record)) -> anyhow::Result<()> {
    let client = cluster.client(RECEIVER, Some(node))?;
    let mut after: Vec<Position> = Vec::new();
    loop {
        let read = Read { after: after.clone(), ..Read::default() };
        let page = match client.call(Op::Read(read)).await?.reply {
            Some(Reply::Page(page)) => page,
            other => anyhow::bail!("no page from {node}: {other:?}"),
        };
        page.records.iter().for_each(&mut found);
        if page.end {
            client.close().await;
            return Ok(());
        }
        anyhow::ensure!(page.next != after, "a page that leads nowhere");
        after = page.next;
    }
}

/// The messages of one node, ticked off.
struct Search {
    /// By level and worker, what is still to be found.
    missing: Vec<Vec<Vec<Option<Fate>>>>,
    last_seq: u64,
    faults: Vec<String>,
    count: usize,
}

impl Search {
    fn new(sent: &[Sent]) -> Self {
        let open = |fates: &Vec<Fate>| fates.iter().copied().map(Some).collect();
        // Levels are numbered from 0 on, so the number is the place.
        let by_level: BTreeMap<usize, _> =
            sent.iter().map(|sent| (sent.level, sent.workers.iter().map(open).collect())).collect();
        let missing = by_level.into_values().collect();
        Self { missing, last_seq: 0, faults: Vec::new(), count: 0 }
    }

    fn found(&mut self, record: &Record) {
        let name = record.id.clone();
        if record.seq <= self.last_seq {
            self.fault(format!("{name}: seq {} after {}", record.seq, self.last_seq));
        }
        self.last_seq = record.seq;
        if record.body != body(&name) {
            self.fault(format!("{name}: another body"));
        }
        let fate = place(&name).and_then(|(level, worker, number)| {
            self.missing.get_mut(level)?.get_mut(worker)?.get_mut(number)?.take()
        });
        match fate {
            Some(Fate::Acked(seq)) if seq == record.seq => {}
            Some(Fate::Acked(seq)) => {
                self.fault(format!("{name}: acknowledged as {seq}, is {}", record.seq));
            }
            Some(Fate::Unknown) => {}
            Some(Fate::Refused) => self.fault(format!("{name}: refused, and there")),
            None => self.fault(format!("{name}: there twice, or never sent")),
        }
    }

    fn end(mut self) -> Vec<String> {
        let missing = std::mem::take(&mut self.missing);
        for (level, workers) in missing.into_iter().enumerate() {
            for (worker, fates) in workers.into_iter().enumerate() {
                for (number, fate) in fates.into_iter().enumerate() {
                    if let Some(Fate::Acked(seq)) = fate {
                        let name = id(level, worker, number);
                        self.fault(format!("{name}: acknowledged as {seq}, is not there"));
                    }
                }
            }
        }
        if self.count > self.faults.len() {
            self.faults.push(format!("and {} more", self.count - self.faults.len()));
        }
        self.faults
    }

    fn fault(&mut self, fault: String) {
        self.count += 1;
        if self.faults.len() < TOLD {
            self.faults.push(fault);
        }
    }
}

/// Where a message stands, by its name.
fn place(id: &str) -> Option<(usize, usize, usize)> {
    let mut parts = id.splitn(3, '-').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, seq: u64) -> Record {
        Record { id: id.to_owned(), seq, body: body(id).into(), ..Record::default() }
    }

    /// What a search says of a level of one worker with these fates, where these lie on a node.
    fn search(fates: &[Fate], there: &[Record]) -> String {
        let mut search = Search::new(&[Sent { level: 0, workers: vec![fates.to_vec()] }]);
        there.iter().for_each(|record| search.found(record));
        search.end().join("; ")
    }

    #[test]
    fn what_was_promised_and_nothing_else_is_well() {
        let fates = [Fate::Acked(1), Fate::Refused, Fate::Unknown, Fate::Acked(3), Fate::Unknown];
        let there = [record("0-0-0", 1), record("0-0-2", 2), record("0-0-3", 3)];
        assert_eq!(search(&fates, &there), "");
    }

    #[test]
    fn every_broken_promise_is_told() {
        let acked = [Fate::Acked(1)];
        let changed = Record { body: body("0-0-1").into(), ..record("0-0-0", 1) };
        for (fates, there, told) in [
            (&acked, vec![], "acknowledged as 1, is not there"),
            (&acked, vec![record("0-0-0", 1), record("0-0-0", 2)], "there twice"),
            (&acked, vec![record("0-0-0", 2)], "acknowledged as 1, is 2"),
            (&acked, vec![changed], "another body"),
            (&acked, vec![record("0-0-0", 1), record("0-0-7", 2)], "never sent"),
            (&[Fate::Refused], vec![record("0-0-0", 1)], "refused, and there"),
            (&[Fate::Unknown], vec![record("0-0-0", 0)], "seq 0 after 0"),
        ] {
            let said = search(fates, &there);
            assert!(said.contains(told), "{told}: {said}");
        }
    }

    #[test]
    fn many_faults_are_counted() {
        let said = search(&[Fate::Acked(1); 25], &[]);
        assert!(said.ends_with("and 15 more"), "{said}");
    }
}
