//! Once: a (sender, id) is remembered for a window of log time, with the ack it got. Whether a row
//! is still inside the window is decided by stamps alone, so a row that is due but not yet removed
//! already counts as gone.
//!
//! Messages and changes of groups share their senders' ids, since both become records; changes of
//! the dictionary have their own (see [`kv_sender`]).

use clock::Hlc;
use proto::limits::{DEDUP_RETIRE_PER_COMMAND, DEDUP_WINDOW_NS};

use crate::rows::error::{QueryError, StateError, conflict};
use crate::rows::hash::Hash;
use crate::rows::keys;
use crate::rows::values::DedupRow;
use crate::rows::view::{Direction, Table, View};
use crate::rules::machine::Machine;
use planted::Bug;

/// Whether an entry made at `then` is forgotten at `now`.
fn is_over(then: Hlc, now: Hlc) -> bool {
    then.ns.saturating_add(DEDUP_WINDOW_NS) <= now.ns
}

/// What a (sender, id) is called for changes of the dictionary: a `=` in front, which no name can
/// hold, keeps their ids apart from those of messages.
pub(crate) fn kv_sender(name: &str) -> String {
    format!("={name}")
}

/// Whether a (sender, id) comes for the first time.
pub(crate) enum Once {
    /// The same was done before; what it got.
    Before(DedupRow),
    /// It was never done, or is forgotten.
    First(Fresh),
}

/// A (sender, id) that may be used.
pub(crate) struct Fresh {
    key: Vec<u8>,
    /// The place in the queue of an entry that is over.
    over: Option<Hlc>,
}

/// What is remembered of a (sender, id).
enum Remembered {
    /// It was never used, or is forgotten.
    Nothing,
    /// It is due to be forgotten; its place in the queue must go before the key is written anew.
    Over(Hlc),
    /// Its first ack.
    First(DedupRow),
}

impl Machine<'_> {
    /// Whether `sender`, who is called `name`, did this before. An id that was used for something
    /// else is refused.
    pub(crate) fn once(
        &self,
        (sender, name): (&str, &str),
        id: &str,
        to: &str,
        content: &Hash,
    ) -> Result<Once, QueryError> {
        let sender = if planted::is(Bug::DedupForgetsSender) { "" } else { sender };
        let key = keys::pair(sender, id);
        let over = match self.first_ack(&key)? {
            Remembered::First(_) if planted::is(Bug::DedupOff) => None,
            Remembered::First(first) => {
                if first.to == to && first.content_hash[..] == content[..] {
                    return Ok(Once::Before(first));
                }
                return Err(match first.seq {
                    0 => conflict(format!("the id '{id}' was used for another change of '{name}'")),
                    seq => conflict(format!(
                        "the id '{id}' was used for another message of '{name}', seq {seq}"
                    )),
                }
                .into());
            }
            Remembered::Over(hlc) => Some(hlc),
            Remembered::Nothing => None,
        };
        Ok(Once::First(Fresh { key, over }))
    }

    /// The same, if nobody else uses the id: what it was used for before is forgotten.
    pub(crate) fn first_use(&self, sender: &str, id: &str) -> Result<Fresh, StateError> {
        let key = keys::pair(sender, id);
        let over = match self.first_ack(&key)? {
            Remembered::First(first) => Some(first.hlc()?),
            Remembered::Over(hlc) => Some(hlc),
            Remembered::Nothing => None,
        };
        Ok(Fresh { key, over })
    }

    /// Makes room for a new entry; the key to remember it under.
    pub(crate) fn claim(&mut self, fresh: Fresh) -> Vec<u8> {
        if let Some(hlc) = fresh.over {
            self.remove(Table::DedupAge, keys::age(hlc));
        }
        fresh.key
    }

    /// Remembers what was done under a key that was claimed: the row of a [`DedupRow`] of this stamp.
    pub(crate) fn remember(&mut self, key: Vec<u8>, stamp: &[u8], first: Vec<u8>) {
        let now = self.state.last;
        assert!(stamp.starts_with(&now.to_bytes()), "an ack is queued under its stamp");
        assert!(now.ns >= self.state.dedup_floor_ns, "and above all that is forgotten");
        self.put(Table::Dedup, key.clone(), first);
        self.put(Table::DedupAge, keys::age(now), key);
    }

    /// What is remembered of a dedup key.
    fn first_ack(&self, key: &[u8]) -> Result<Remembered, StateError> {
        let Some(row) = self.rows.get(Table::Dedup, key)? else { return Ok(Remembered::Nothing) };
        let row = DedupRow::decode(row)?;
        let hlc = row.hlc()?;
        let over = is_over(hlc, self.state.last);
        Ok(if over { Remembered::Over(hlc) } else { Remembered::First(row) })
    }

    /// Forgets the oldest entries that are over, at most `most`.
    pub(crate) fn retire_dedup(&mut self, most: usize) -> Result<(), StateError> {
        let now = self.state.last;
        if !is_over(Hlc::from_ns(self.state.dedup_floor_ns), now) {
            return Ok(());
        }
        let from = keys::age(Hlc::from_ns(self.state.dedup_floor_ns));
        let queue =
            self.rows.scan(Table::DedupAge, &from, keys::END, Direction::Forward, most + 1)?;
        let mut floor = now;
        for (i, (age, key)) in queue.into_iter().enumerate() {
            let hlc = Hlc::from_slice(&age)
                .ok_or_else(|| StateError::corrupt(Table::DedupAge, "a key has no 12 bytes"))?;
            if i == most || !is_over(hlc, now) {
                floor = hlc;
                break;
            }
            self.remove(Table::DedupAge, age);
            self.remove(Table::Dedup, key);
        }
        assert!(floor.ns >= self.state.dedup_floor_ns, "what was forgotten stays forgotten");
        self.state.dedup_floor_ns = floor.ns;
        Ok(())
    }
}

const _: () = assert!(DEDUP_RETIRE_PER_COMMAND > 1, "the queue is emptied faster than it fills");
