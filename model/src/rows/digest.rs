//! The digest of the state's history: replicas that applied the same entries hold the same one, so
//! comparing 32 bytes finds a divergent node.

use crate::rows::hash::Hash;
use crate::rows::values::State;
use crate::rows::view::Table;

/// Input is gathered up to this size before it is hashed: BLAKE3 is fastest on long input.
const GATHER_BYTES: usize = 64 << 10;

/// Hashes what one entry changes, in the order in which it is changed.
#[derive(Debug)]
pub(crate) struct EntryDigest {
    hasher: blake3::Hasher,
    gathered: Vec<u8>,
    /// Whether an entry has begun and not ended.
    open: bool,
    /// Rows that were written or removed so far.
    changes: u64,
}

impl EntryDigest {
    pub(crate) fn new() -> Self {
        let gathered = Vec::with_capacity(1024);
        Self { hasher: blake3::Hasher::new(), gathered, open: false, changes: 0 }
    }

    /// Begins an entry: the digest so far, then what identifies the entry.
    pub(crate) fn begin(&mut self, previous: &Hash, index: u64, term: u64) {
        assert!(!self.open, "the entry before was ended");
        assert!(self.gathered.is_empty(), "what was gathered is hashed");
        self.open = true;
        self.gathered.extend_from_slice(previous);
        self.number(index);
        self.number(term);
    }

    /// A row is written, or removed. For a record `value` is what its leaf hash covers not yet.
    pub(crate) fn change(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        assert!(self.open, "rows change within an entry");
        self.changes += 1;
        self.gathered.push(table.number());
        self.number(key.len() as u64);
        self.gathered.extend_from_slice(key);
        match value {
            Some(value) => {
                self.number(value.len() as u64);
                self.gathered.extend_from_slice(value);
            }
            None => self.number(u64::MAX),
        }
        if self.gathered.len() > GATHER_BYTES {
            self.flush();
        }
    }

    /// Ends the entry with the counters it leaves and returns the new digest.
    pub(crate) fn end(&mut self, state: &State) -> Hash {
        assert!(self.open, "an entry ends once");
        self.open = false;
        self.gathered.extend_from_slice(&state.last.to_bytes());
        for number in
            [state.first_seq, state.last_seq, state.bytes, state.clients, state.dedup_floor_ns]
        {
            self.number(number);
        }
        // A history without members has the digest that it had before there were any.
        let members = [state.members_epoch, state.last_raft_id, state.led_term, state.own_stamps];
        if members != [0; 4] {
            for number in members {
                self.number(number);
            }
        }
        self.flush();
        let digest = self.hasher.finalize().into();
        self.hasher.reset();
        digest
    }

    /// How many rows were written or removed so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    fn number(&mut self, number: u64) {
        self.gathered.extend_from_slice(&number.to_be_bytes());
    }

    fn flush(&mut self) {
        self.hasher.update(&self.gathered);
        self.gathered.clear();
    }
}
