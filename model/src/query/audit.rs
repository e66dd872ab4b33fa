//! Reading a whole state again: is every record what it was when it was stored, and do the counts
//! fit the rows?

use bytes::Bytes;
use clock::Hlc;

use crate::query::{self, Stats};
use crate::rows::error::StateError;
use crate::rows::hash::{self, Hash};
use crate::rows::keys;
use crate::rows::values::{decode_record, record_hlc};
use crate::rows::view::{Direction, Table, View};

/// Rows that are looked at in one go. A record has up to a megabyte.
const CHUNK: usize = 16;
/// Problems that are told; a store that lost a file would have one per record.
const PROBLEMS_MAX: usize = 16;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Index of the last entry that the state holds; 0 before any.
    pub index: u64,
    /// Hash of every row of every table: equal on every replica at the same index.
    pub content: Hash,
    /// Records that were read.
    pub records: u64,
    /// Bytes of their rows.
    pub bytes: u64,
    /// What is wrong, at most 16 of it and then how much more; empty if nothing is.
    pub problems: Vec<String>,
}

/// Reads every row. Never fails: what cannot be read is a problem that it tells.
#[must_use]
pub fn audit(view: &dyn View) -> Audit {
    let mut reading = Reading {
        hasher: blake3::Hasher::new(),
        records: 0,
        bytes: 0,
        last: None,
        problems: Vec::new(),
        untold: 0,
    };
    for table in Table::ALL {
        reading.table(view, table);
    }
    let index = match query::stats(view) {
        Ok(stats) => {
            reading.counts(&stats);
            stats.index
        }
        Err(error) => {
            reading.problem(error.to_string());
            0
        }
    };
    let Reading { hasher, records, bytes, mut problems, untold, .. } = reading;
    if untold > 0 {
        problems.push(format!("and {untold} more"));
    }
    Audit { index, content: hasher.finalize().into(), records, bytes, problems }
}

struct Reading {
    hasher: blake3::Hasher,
    records: u64,
    bytes: u64,
    /// Seq and stamp of the record before.
    last: Option<(u64, Hlc)>,
    problems: Vec<String>,
    untold: u64,
}

impl Reading {
    fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        } else {
            self.untold += 1;
        }
        assert!(self.problems.len() <= PROBLEMS_MAX, "what is told is bounded");
    }

    fn table(&mut self, view: &dyn View, table: Table) {
        self.hasher.update(&[table.number()]);
        let mut from = Vec::new();
        loop {
            let rows = match view.scan(table, &from, keys::END, Direction::Forward, CHUNK) {
                Ok(rows) => rows,
                Err(error) => {
                    let error = StateError::from(error);
                    return self.problem(format!("table {table:?}: {}", causes(&error)));
                }
            };
            let last_chunk = rows.len() < CHUNK;
            if let Some((key, _)) = rows.last() {
                from = [&key[..], &[0]].concat();
            }
            for (key, value) in rows {
                for part in [&key, &value] {
                    self.hasher.update(&(part.len() as u64).to_be_bytes());
                    self.hasher.update(part);
                }
                if table == Table::Records {
                    self.record(&key, value);
                }
            }
            if last_chunk {
                return;
            }
        }
    }

    fn record(&mut self, key: &[u8], row: Vec<u8>) {
        self.records += 1;
        self.bytes += row.len() as u64;
        let place = keys::seq_of(key);
        let stamp = record_hlc(&row);
        let record = decode_record(Bytes::from(row));
        let (Some(seq), Ok(stamp), Ok(record)) = (place, stamp, record) else {
            return self.problem(format!("the record at {key:02x?} does not parse"));
        };
        if record.seq != seq || !hash::verify(&record) {
            self.problem(format!("record {seq} is not what was stored: its hashes do not fit"));
        }
        if let Some((before, stamped)) = self.last {
            if seq != before + 1 {
                self.problem(format!("after record {before} comes {seq}"));
            }
            if stamp <= stamped {
                self.problem(format!("record {seq} is stamped before the one in front of it"));
            }
        }
        self.last = Some((seq, stamp));
    }

    fn counts(&mut self, stats: &Stats) {
        let records = (stats.last_seq + 1).saturating_sub(stats.first_seq);
        if (records, stats.bytes) != (self.records, self.bytes) {
            let (found, bytes) = (self.records, self.bytes);
            self.problem(format!(
                "{found} records of {bytes} bytes are there, and {records} of {} were counted",
                stats.bytes
            ));
        }
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
